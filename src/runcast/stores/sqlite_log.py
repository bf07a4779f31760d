"""A thread's log in the file: a sealed part in `segments`, then a part in the `journal`, together 1..head without a hole.

The journal is append-only and has no index: where a thread's rows are is kept in memory (`Log`). When nothing runs in a
thread its rows are sealed: in one transaction segments take their place, which one indexed range finds. Both parts hold the
same bytes, a line of JSON per event, so that a read gives back exactly what was appended (I3, I13).
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from runcast.errors import StoreCorrupt, Trimmed
from runcast.events import Record, decode
from runcast.stores.sql import SQL

SEGMENT_BYTES = 64 * 1024
SEAL_BYTES = 512 * 1024
"""At most about so much is sealed in one transaction, so that an append never waits long."""
SEAL_ROWS = 2000


class Rows:
    """Where the unsealed rows of one thread are in the journal, oldest first.

    The writer appends; readers in other threads take a bounded look. Sealing makes a new one.
    """

    __slots__ = ("last_seqs", "numbers")

    def __init__(self) -> None:
        self.numbers = array("q")
        self.last_seqs = array("q")

    def add(self, number: int, last_seq: int) -> None:
        self.numbers.append(number)
        self.last_seqs.append(last_seq)  # last: a reader goes by the length of this one

    def __len__(self) -> int:
        return len(self.last_seqs)

    def after(self, seq: int, limit: int) -> tuple[list[int], bool]:
        """Numbers of at most `limit` rows that hold what follows `seq`, and whether nothing sealed is before them."""
        size = len(self.last_seqs)
        start = bisect_right(self.last_seqs, seq, 0, size)
        return list(self.numbers[start : min(size, start + limit)]), 0 < start < size

    def without(self, count: int) -> Rows:
        rest = Rows()
        rest.numbers, rest.last_seqs = self.numbers[count:], self.last_seqs[count:]
        return rest


class Log:
    """What the writer keeps in memory of one thread, so that an append reads nothing."""

    __slots__ = ("active", "head", "id", "journal_from", "key", "newest", "owner", "rows", "visible")

    def __init__(self, key: int, id: str, owner: int, head: int, newest: int, journal_from: int | None) -> None:
        self.key, self.id, self.owner = key, id, owner
        self.head = head
        """The last seq, counting writes that are not committed yet."""
        self.visible = head
        """The last seq that is committed."""
        self.newest = newest
        """The first seq of the newest run."""
        self.active: frozenset[str] = frozenset()
        """The running and queued runs."""
        self.journal_from = journal_from
        """As the thread's row has it: no row of the journal before this one is the thread's. None: there is none."""
        self.rows = Rows()

    def state(self) -> tuple[int, int, frozenset[str], int | None]:
        return self.head, self.newest, self.active, self.journal_from

    def restore(self, state: tuple[int, int, frozenset[str], int | None]) -> None:
        self.head, self.newest, self.active, self.journal_from = state


class Place(NamedTuple):
    """Where to read a thread's log: `rows` from the writer's memory, or a scan from the row `journal_from` on."""

    key: int
    rows: Rows | None
    journal_from: int | None


def read(
    connection: sqlite3.Connection, place: Place, after: int, *, max_bytes: int, max_events: int
) -> list[Record] | None:
    """The records after `after`, within the limits but at least one. Inside one read transaction.

    None: rows were sealed between the look at `place.rows` and the read; take a new look.

    Raises:
        Trimmed: the log begins later. StoreCorrupt: what is there cannot be read.
    """
    numbers, unsealed = place.rows.after(after, max_events) if place.rows is not None else ([], False)
    lines = _lines(connection, place, numbers, unsealed, after)
    found: list[Record] = []
    size = 0
    for data in lines:
        size += len(data)
        if found and (size > max_bytes or len(found) >= max_events):
            break
        found.append(_record(data, after + len(found) + 1))
    if not found:
        row = connection.execute(SQL["first_seq"], (place.key,)).fetchone()
        if row is not None and after + 1 < row[0]:
            raise Trimmed(f"The log is kept from seq {row[0]} on; what followed {after} is gone.")
    if not found and numbers:
        return None
    return found


def _lines(
    connection: sqlite3.Connection, place: Place, numbers: list[int], unsealed: bool, after: int
) -> Iterator[bytes]:
    """The events' JSON from `after + 1` on, up to the first hole."""
    expected = after + 1
    for first_seq, blob, sealed in _pieces(connection, place, numbers, unsealed, after):
        if first_seq > expected:
            return
        lines = (zlib.decompress(blob) if sealed else blob).split(b"\n")
        for data in lines[expected - first_seq :]:
            yield data
            expected += 1


def _pieces(
    connection: sqlite3.Connection, place: Place, numbers: list[int], unsealed: bool, after: int
) -> Iterator[tuple[int, bytes, bool]]:
    if not unsealed:
        for first_seq, blob in connection.execute(SQL["segments"], {"thread": place.key, "seq": after + 1}):
            yield first_seq, blob, True
    if numbers:
        rows = connection.execute(SQL["journal_rows"], (json.dumps(numbers), place.key))
    elif place.journal_from is not None:
        rows = connection.execute(SQL["journal_scan"], (place.journal_from, place.key, after))
    else:
        return
    for first_seq, blob in rows:
        yield first_seq, blob, False


def _record(data: bytes, seq: int) -> Record:
    try:
        event = decode(data)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise StoreCorrupt(f"The event with seq {seq} cannot be read; restore the database from a backup.") from error
    if event.seq != seq:
        raise StoreCorrupt(f"The log is damaged: seq {event.seq} stands where {seq} belongs.")
    return Record(event, data)


def seal(connection: sqlite3.Connection, log: Log) -> int:
    """Copy the oldest rows of the thread from the journal into segments, which count from now on; how many rows.

    Inside one transaction. The rows themselves go later, many threads' at once: rows of threads that ran side by side
    are mixed, and to take out one thread's would rewrite every page.

    The caller commits, then drops as many from `log.rows`. Nothing of the log may be uncommitted.
    """
    segment: list[bytes] = []
    first = last = 0
    size = total = count = 0
    numbers = list(log.rows.numbers[:SEAL_ROWS])
    sealed: list[tuple[int, int, int, bytes]] = []
    rows: Any = connection.execute(SQL["journal_rows_to_seal"], (json.dumps(numbers), log.key))
    for (first_seq, blob, checksum), last_seq in zip(rows, log.rows.last_seqs, strict=False):
        if checksum is not None and checksum != zlib.crc32(blob):
            # A segment made of it would be whole in the eyes of whoever checks it.
            raise StoreCorrupt("A row of the journal is not what was written; restore the database from a backup.")
        if last and first_seq != last + 1:
            raise StoreCorrupt("Rows of the journal are missing; restore the database from a backup.")
        if segment and (size + len(blob) > SEGMENT_BYTES or total + len(blob) > SEAL_BYTES):
            sealed.append((log.key, first, last, zlib.compress(b"\n".join(segment), 1)))
            segment, size = [], 0
            if total + len(blob) > SEAL_BYTES:
                break
        first = first if segment else first_seq
        last = last_seq
        segment.append(blob)
        size += len(blob)
        total += len(blob)
        count += 1
    if segment:
        sealed.append((log.key, first, last, zlib.compress(b"\n".join(segment), 1)))
    if count == 0:
        raise StoreCorrupt("Rows of the journal are missing; restore the database from a backup.")
    connection.executemany(SQL["insert_segment"], sealed)
    rest = log.rows.numbers[count] if count < len(log.rows) else None
    connection.execute(SQL["place_in_journal"], (log.head, rest, log.key))
    return count
