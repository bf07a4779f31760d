"""The SQLite store: one file, no server, one process that writes and any number that read.

Durability `process`: what was acknowledged survives the death of the process, also by SIGKILL (WAL, `synchronous=NORMAL`).
`power`: also the machine's (`FULL`); a commit then costs a flush of the disk.

Writes go through one thread that groups them (`sqlite_writer`), reads through a few read-only connections in worker
threads. `:memory:` is a store for tests: one connection, nothing survives.
"""

from __future__ import annotations

import base64
import binascii
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from os import PathLike, fspath
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

import anyio
import anyio.to_thread
import msgspec

from runcast.errors import ConfigError, InvalidRequest, NotFound, RuncastError, StoreError
from runcast.events import Event, Record
from runcast.ids import Clock, SystemClock, Uuid7Source
from runcast.runs import AgentState, Principal, Run, RunStatus, Thread, ThreadKind
from runcast.stores.base import (
    MAX_BYTES,
    MAX_EVENTS,
    Orphan,
    Page,
    Pruning,
    Receipt,
    Snapshot,
    Store,
    Write,
    Written,
)
from runcast.stores.contents import Contents
from runcast.stores.sql import SQL
from runcast.stores.sqlite_file import (
    MEMORY,
    Checkpointer,
    Durability,
    FileLock,
    check_current,
    connect,
    lock,
    map_error,
    migrate,
)
from runcast.stores.sqlite_files import SqliteFiles
from runcast.stores.sqlite_ledger import Appending, Ledger
from runcast.stores.sqlite_log import Place, read
from runcast.stores.sqlite_rows import run_of, thread_of
from runcast.stores.sqlite_search import matching, words
from runcast.stores.sqlite_writer import Writer

T = TypeVar("T")

READERS = 3
PAGE_LIMIT = 100


class _Cursor(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """Where a page of threads ended: the sort key of its last thread."""

    pinned: bool
    updated_at: Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)]
    id: str


class SqliteStore(Store):
    """Make one with `SqliteStore.open`."""

    def __init__(
        self,
        ledger: Ledger | None,
        writer: Writer | None,
        readers: list[sqlite3.Connection],
        held: FileLock | None,
        contents: Contents,
    ) -> None:
        """Not for callers."""
        self._ledger = ledger
        self._writer = writer
        self._readers = deque(readers)
        self._reading = anyio.CapacityLimiter(max(1, len(readers)))
        self._in_memory = not readers
        self._held = held
        self._contents = contents
        self._files = SqliteFiles(contents, ledger, writer, self._read)
        self._closed = False

    @classmethod
    async def open(
        cls,
        path: str | PathLike[str],
        *,
        durability: Durability = "process",
        read_only: bool = False,
        clock: Clock | None = None,
    ) -> Self:
        """Open the file at `path`, making it (mode 0600) and its directory if need be.

        With `read_only` nothing is locked, made or changed, and a server may be writing at the same time.

        Raises:
            StoreLocked: another process writes to the file.
            ConfigError: it cannot be made or opened, is of a newer version, or is no database of Runcast.
            StoreCorrupt: it is damaged.
        """
        name = fspath(path)
        if durability not in ("process", "power"):
            raise ConfigError(f"durability must be 'process' or 'power', not {durability!r}.")
        if read_only:
            readers = await _in_thread(partial(_open_readers, name, durability))
            return cls(None, None, readers, None, _contents(name, durability))
        new_id = Uuid7Source(clock or SystemClock())
        connection, ledger, checkpointer, readers, held = await _in_thread(partial(_open, name, durability, new_id))
        contents = _contents(name, durability)
        await _in_thread(contents.clear_staging)
        writer = Writer(connection, ledger, checkpointer, inline=durability == "process")
        return cls(ledger, writer, readers, held, contents)

    @property
    def files(self) -> SqliteFiles:
        return self._files

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        with anyio.CancelScope(shield=True):
            borrowers = [object() for _ in range(int(self._reading.total_tokens))]
            for borrower in borrowers:
                await self._reading.acquire_on_behalf_of(borrower)  # wait for the reads under way
            for connection in self._readers:
                connection.close()
            for borrower in borrowers:
                self._reading.release_on_behalf_of(borrower)  # a read that waited all the while learns that it is late
            if self._writer is not None:
                await self._writer.close()
            self._contents.close()
            if self._held is not None:
                self._held.release()

    # --- threads --------------------------------------------------------------------------------------------------

    async def create_thread(
        self,
        owner: Principal,
        thread: str,
        *,
        kind: ThreadKind = "chat",
        title: str = "",
        agent: str = "",
        now: int,
        receipt: Receipt | None = None,
    ) -> Thread:
        return await self._write(lambda to: to.create_thread(owner, thread, kind, title, agent, now, receipt))

    async def get_thread(self, thread: str) -> Thread | None:
        if self._ledger is None or self._closed:
            return await self._read(partial(self._get, thread))
        known = self._ledger.known
        # While a group is under way its rows may be in the file, and be read there, before it is known here that they are.
        row = known.get(thread) if self._writer is not None and self._writer.is_idle else None
        if row is None:
            changes = known.changes
            row = await self._read(partial(self._get, thread))
            if row is not None:
                known.keep(row, changes)
            return row
        log = self._ledger.logs.get(thread)
        return row if log is None or log.visible <= row.head else msgspec.structs.replace(row, head=log.visible)

    async def heads(self, threads: Sequence[str]) -> dict[str, int]:
        logs = {} if self._ledger is None else self._ledger.logs
        heads = {thread: log.visible for thread in threads if (log := logs.get(thread)) is not None}
        others = [thread for thread in threads if thread not in heads]
        if not others:
            return heads
        return heads | await self._read(partial(self._heads, others))

    async def inbox(self, owner: Principal, *, now: int) -> Thread:
        if self._writer is None:
            return await self._read(partial(self._find_inbox, owner))
        return await self._write(lambda to: to.inbox(owner, now))

    async def list_threads(
        self, owner: Principal, *, query: str = "", cursor: str | None = None, limit: int = 50
    ) -> Page:
        after = None if cursor is None else _decode_cursor(cursor)
        return await self._read(partial(self._list, owner, words(query), after, max(1, min(limit, PAGE_LIMIT))))

    async def delete_thread(self, thread: str, *, fence: int, now: int, notices: Sequence[Event] = ()) -> Written:
        written = await self._write(lambda to: to.delete_thread(thread, fence, now, notices))
        await self._files.drop()
        return written

    async def delete_owner(self, owner: Principal) -> bool:
        is_gone = await self._write(lambda to: to.delete_owner(owner))
        await self._files.drop()
        return is_gone

    async def resolve_alias(
        self, owner: Principal, external_id: str, *, new_thread: str, agent: str = "", now: int
    ) -> Thread:
        return await self._write(lambda to: to.resolve_alias(owner, external_id, new_thread, agent, now))

    async def find_alias(self, owner: Principal, external_id: str) -> Thread | None:
        return await self._read(partial(self._find_alias, owner, external_id))

    # --- the log --------------------------------------------------------------------------------------------------

    async def append(self, write: Write, *, now: int) -> Written:
        for run in write.runs:
            if run.thread != write.thread:
                raise InvalidRequest(f"The run {run.id!r} is of thread {run.thread!r}, the write of {write.thread!r}.")
        ledger, writer = self._writing()
        appending = Appending(write, now)
        return await writer.do(partial(ledger.append, appending), "plain" if appending.is_plain else "write")

    def append_now(self, writes: Sequence[Write], *, now: int) -> list[Written | None]:
        if self._writer is None or self._ledger is None or not self._writer.may_write_now:
            return [None] * len(writes)
        return self._writer.append_now([Appending(write, now) for write in writes])

    async def read(
        self, thread: str, after: int, *, max_bytes: int = MAX_BYTES, max_events: int = MAX_EVENTS
    ) -> list[Record]:
        return await self._read(partial(self._read_log, thread, max(0, after), max_bytes, max(1, max_events)))

    async def snapshot(self, thread: str) -> Snapshot | None:
        def work(connection: sqlite3.Connection) -> Snapshot | None:
            row = connection.execute(SQL["snapshot"], (thread,)).fetchone()
            return None if row is None else Snapshot(*row)

        return await self._read(work)

    async def put_snapshot(self, thread: str, snapshot: Snapshot) -> None:
        await self._write(lambda to: to.put_snapshot(thread, snapshot))

    # --- what is beside it ----------------------------------------------------------------------------------------

    async def receipt(self, owner: Principal, key: str) -> Receipt | None:
        def work(connection: sqlite3.Connection) -> Receipt | None:
            row = connection.execute(SQL["receipt"], (owner.tenant, owner.user, key)).fetchone()
            return None if row is None else Receipt(*row)

        return await self._read(work)

    async def runs(
        self, *, thread: str | None = None, status: Sequence[RunStatus] = (), ids: Sequence[str] = ()
    ) -> list[Run]:
        name = "runs_by_id" if ids else "runs_of_thread" if thread is not None else "runs"
        values = {"thread": thread, "status": _json(status), "ids": _json(ids)}

        def work(connection: sqlite3.Connection) -> list[Run]:
            return [run_of(row) for row in connection.execute(SQL[name], values)]

        return await self._read(work)

    async def active_runs(self, owner: Principal) -> list[Run]:
        def work(connection: sqlite3.Connection) -> list[Run]:
            rows = connection.execute(SQL["active_runs_of_owner"], (owner.tenant, owner.user))
            return [run_of(row) for row in rows]

        return await self._read(work)

    async def expired(self, *, now: int) -> list[Run]:
        def work(connection: sqlite3.Connection) -> list[Run]:
            return [run_of(row) for row in connection.execute(SQL["expired_runs"], (now,))]

        return await self._read(work)

    async def agent_states(self, runs: Sequence[str]) -> list[AgentState]:
        def work(connection: sqlite3.Connection) -> list[AgentState]:
            rows = connection.execute(SQL["agent_states"], (_json(runs),))
            return [AgentState(run=row[0], adapter=row[1], version=row[2], data=row[3]) for row in rows]

        return await self._read(work) if runs else []

    # --- leases ---------------------------------------------------------------------------------------------------

    async def acquire(self, thread: str, owner: str, *, now: int, ttl_ms: int, new: bool = False) -> int:
        ledger, writer = self._writing()
        work = partial(ledger.acquire, thread, owner, now, ttl_ms, new)
        if (new or thread in ledger.logs) and writer.take_turn():  # nothing is read from the file
            try:
                return work()
            finally:
                writer.give_turn()
        return await writer.do(work, "read")

    async def renew(self, owner: str, *, now: int, ttl_ms: int) -> set[str]:
        ledger, writer = self._writing()
        return await writer.do(lambda: ledger.leases.renew(owner, now=now, ttl_ms=ttl_ms), "read")

    async def release(self, thread: str, *, fence: int) -> None:
        ledger, writer = self._writing()
        await writer.do(lambda: ledger.leases.release(thread, fence), "read")

    async def orphans(self, *, now: int) -> list[Orphan]:
        ledger, writer = self._writing()
        return await writer.do(lambda: ledger.orphans(now), "read")

    # --- upkeep ---------------------------------------------------------------------------------------------------

    @property
    def healthy(self) -> bool:
        return self._writer is None or self._writer.healthy

    async def probe(self) -> None:
        await self._write(lambda to: to.connection.execute(SQL["probe"]))

    async def size(self) -> int:
        def work(connection: sqlite3.Connection) -> int:
            return connection.execute(SQL["bytes_in_use"]).fetchone()[0]

        return await self._read(work)

    async def idle_threads(self, *, before: int, but: Sequence[str] = (), limit: int = 50) -> list[Thread]:
        values = {"before": before, "but": msgspec.json.encode(list(but)).decode(), "limit": limit}

        def work(connection: sqlite3.Connection) -> list[Thread]:
            return self._with_head(connection, connection.execute(SQL["idle_threads"], values).fetchall())

        return await self._read(work)

    async def hidden_threads(self, *, before: int, owner: Principal | None = None, limit: int = 50) -> list[Thread]:
        whose = None if owner is None else msgspec.structs.asdict(owner)
        values = {"before": before, "limit": limit, "user": None, "tenant": None, **(whose or {})}

        def work(connection: sqlite3.Connection) -> list[Thread]:
            return self._with_head(connection, connection.execute(SQL["hidden_threads"], values).fetchall())

        return await self._read(work)

    async def prune(self, pruning: Pruning) -> bool:
        return await self._write(lambda to: to.prune(pruning))

    # --- ways -----------------------------------------------------------------------------------------------------

    def _writing(self) -> tuple[Ledger, Writer]:
        if self._closed:
            raise StoreError("The store is closed.")
        if self._writer is None or self._ledger is None:
            raise StoreError("The database was opened for reading only.")
        return self._ledger, self._writer

    async def _write(self, work: Callable[[Ledger], T]) -> T:
        ledger, writer = self._writing()
        return await writer.do(lambda: work(ledger))

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do `work` on one state of the file, in a worker thread."""
        if self._closed:
            raise StoreError("The store is closed.")
        if self._in_memory:
            ledger, writer = self._writing()
            return await writer.do(lambda: work(ledger.connection), "read")
        return await anyio.to_thread.run_sync(self._read_in_thread, work, limiter=self._reading)

    def _read_in_thread(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._closed:
            raise StoreError("The store is closed.")
        connection = self._readers.pop()  # the limiter has as many tokens as there are connections
        try:
            connection.execute("BEGIN")
            try:
                return work(connection)
            finally:
                connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise map_error(error) from error
        finally:
            self._readers.append(connection)

    # --- in a worker thread ---------------------------------------------------------------------------------------

    def _get(self, thread: str, connection: sqlite3.Connection) -> Thread | None:
        row = connection.execute(SQL["thread"], (thread,)).fetchone()
        return None if row is None else self._with_head(connection, [row])[0]

    def _find_alias(self, owner: Principal, external_id: str, connection: sqlite3.Connection) -> Thread | None:
        key = connection.execute(SQL["owner_key"], (owner.tenant, owner.user)).fetchone()
        row = None if key is None else connection.execute(SQL["alias"], (*key, external_id)).fetchone()
        return None if row is None else self._get(row[0], connection)

    def _heads(self, threads: list[str], connection: sqlite3.Connection) -> dict[str, int]:
        found: list[tuple[str, int, int]] = connection.execute(SQL["heads"], (_json(threads),)).fetchall()
        newest: dict[int, int] = {}
        if self._ledger is None:  # the rows of threads that another process writes to are behind its journal
            newest = dict(connection.execute(SQL["journal_heads"]).fetchall())
        return {id: newest.get(key, head) for id, key, head in found}

    def _find_inbox(self, owner: Principal, connection: sqlite3.Connection) -> Thread:
        key = connection.execute(SQL["owner_key"], (owner.tenant, owner.user)).fetchone()
        row = None if key is None else connection.execute(SQL["inbox"], key).fetchone()
        if row is None:
            raise NotFound("There is no inbox of this user, and the database was opened for reading only.")
        return self._with_head(connection, [row])[0]

    def _list(
        self, owner: Principal, words: list[str], after: _Cursor | None, limit: int, connection: sqlite3.Connection
    ) -> Page:
        found = connection.execute(SQL["owner_key"], (owner.tenant, owner.user)).fetchone()
        if found is None:
            return Page([], None)
        values: list[Any] = [owner.tenant, owner.user, found[0]]
        sql = _LIST
        for word in words:
            sql += _LIST_WORD
            values.append(matching(found[0], word))
        if after is not None:
            sql += _LIST_AFTER
            values += [after.pinned, after.updated_at, after.id]
        rows = connection.execute(sql + _LIST_ORDER, [*values, limit + 1]).fetchall()
        threads = self._with_head(connection, rows[:limit])
        return Page(threads, _encode_cursor(threads[-1]) if len(rows) > limit else None)

    def _with_head(self, connection: sqlite3.Connection, rows: list[Any]) -> list[Thread]:
        """The threads of these rows, with their heads as they are now: those in the journal are ahead of the row."""
        heads: dict[str, int] = {}
        if self._ledger is not None:
            heads = {row[0]: log.visible for row in rows if (log := self._ledger.logs.get(row[0])) is not None}
        elif rows:
            by_key = dict(connection.execute(SQL["journal_heads"]).fetchall())
            heads = {row[0]: by_key[row[-1]] for row in rows if row[-1] in by_key}
        threads = map(thread_of, rows)
        return [
            msgspec.structs.replace(one, head=heads[one.id]) if heads.get(one.id, 0) > one.head else one
            for one in threads
        ]

    def _read_log(
        self, thread: str, after: int, max_bytes: int, max_events: int, connection: sqlite3.Connection
    ) -> list[Record]:
        for _ in range(5):
            log = None if self._ledger is None else self._ledger.logs.get(thread)
            if log is not None:
                place = Place(log.key, log.rows, None)
            else:
                row = connection.execute(SQL["place"], (thread,)).fetchone()
                if row is None:
                    return []
                place = Place(row[0], None, row[1] if self._ledger is None else None)
            records = read(connection, place, after, max_bytes=max_bytes, max_events=max_events)
            if records is not None:
                return records
            if not self._in_memory:
                connection.execute("ROLLBACK")  # the rows were sealed a moment ago: look at the newer state
                connection.execute("BEGIN")
        raise StoreError("The conversation could not be read at this moment; try again.", retry_after_ms=100)


_LIST = """SELECT t.id, ?, ?, t.kind, t.epoch, t.title, t.agent, t.created_at, t.updated_at, t.head, t.head_run,
       t.status, t.pinned, t.first_seq, t.key
FROM threads t WHERE t.owner = ? AND t.kind = 'chat'"""
_LIST_WORD = (
    "\n  AND t.key IN (SELECT s.thread FROM said_words w JOIN said s ON s.id = w.rowid WHERE said_words MATCH ?)"
)
_LIST_AFTER = "\n  AND (t.pinned, t.updated_at, t.id) < (?, ?, ?)"
_LIST_ORDER = "\nORDER BY t.pinned DESC, t.updated_at DESC, t.id DESC LIMIT ?"


async def _in_thread(work: Callable[[], T]) -> T:
    try:
        return await anyio.to_thread.run_sync(work)
    except RuncastError:
        raise
    except sqlite3.Error as error:
        raise map_error(error) from error


def _open(
    path: str, durability: Durability, new_id: Uuid7Source
) -> tuple[sqlite3.Connection, Ledger, Checkpointer | None, list[sqlite3.Connection], FileLock]:
    held = lock(path)
    connection: sqlite3.Connection | None = None
    try:
        connection = connect(path, durability=durability)
        migrate(connection)
        ledger = Ledger(connection, new_id)
        if path == MEMORY:
            return connection, ledger, None, [], held
        return connection, ledger, Checkpointer(path, durability=durability), _open_readers(path, durability), held
    except BaseException:
        if connection is not None:
            connection.close()
        held.release()
        raise


def _contents(path: str, durability: Durability) -> Contents:
    file = Path(path)
    root = None if path == MEMORY else file.with_name(file.name + ".files")
    return Contents(root, durable=durability == "power")


def _open_readers(path: str, durability: Durability) -> list[sqlite3.Connection]:
    readers = [connect(path, durability=durability, read_only=True) for _ in range(READERS)]
    try:
        check_current(readers[0])
    except BaseException:
        for reader in readers:
            reader.close()
        raise
    return readers


def _json(values: Sequence[str]) -> str | None:
    return msgspec.json.encode(list(values)).decode() if values else None


def _encode_cursor(thread: Thread) -> str:
    data = msgspec.json.encode(_Cursor(thread.pinned, thread.updated_at, thread.id))
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode_cursor(cursor: str) -> _Cursor:
    try:
        data = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        return msgspec.json.decode(data, type=_Cursor)
    except (ValueError, binascii.Error, msgspec.DecodeError) as error:
        raise InvalidRequest(f"The cursor {cursor[:80]!r} was not made here; begin without one.") from error
