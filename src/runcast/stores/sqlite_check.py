"""Whether a file is whole: what SQLite says of its pages, and what the logs, the rows beside them and the search say of
each other. Only reads; a server may be writing meanwhile, what is looked at is one state of the file.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET

from runcast import events as e
from runcast.events import Event, decode
from runcast.runs import Run, RunStatus
from runcast.stores.sql import SQL
from runcast.stores.sqlite_file import check_current, check_version, connect

MOST = 100
"""So many findings are told; after them it is certain."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is not as it must be."""

    what: str
    """`file`, `log`, `run`, `thread`, `content`, `search` or `stray`."""
    message: str
    thread: str | None = None


class Report(msgspec.Struct, kw_only=True):
    """What there is, and what is wrong with it."""

    format: int = 0
    bytes: int = 0
    owners: int = 0
    threads: int = 0
    """Conversations."""
    runs: int = 0
    events: int = 0
    """Of conversations and inboxes."""
    files: int = 0
    """Contents of files."""
    findings: list[Finding] = []
    stopped: bool = False
    """There is more than `findings` tells."""

    @property
    def is_whole(self) -> bool:
        return not self.findings


class _Enough(Exception):
    """As many findings as are told."""


def check(path: str) -> Report:
    """
    Raises:
        ConfigError: there is no file, or none of this version of ours: nothing can be said of it.
    """
    report = Report()
    try:
        connection = connect(path, durability="process", read_only=True)
    except sqlite3.Error as error:
        report.findings.append(Finding(what="file", message=f"It cannot be opened: {error}."))
        return report
    with closing(connection):
        connection.execute("PRAGMA temp_store = FILE")  # the search's index is made anew there, and may be large
        _Check(connection, report, Path(path + ".files")).all()
    return report


class _Span:
    """What the log says of one run."""

    __slots__ = ("ends", "first", "last", "started", "status")

    def __init__(self, first: int) -> None:
        self.first = self.last = first
        self.started = False
        self.ends: list[int] = []
        self.status: tuple[RunStatus, ...] = ()
        """How it may stand after its terminal event."""


class _Check:
    def __init__(self, connection: sqlite3.Connection, report: Report, files: Path) -> None:
        self._db = connection
        self._files = files
        self._report = report

    def all(self) -> None:
        try:
            self._pages()
            self._db.execute("BEGIN")  # from here on one state of the file
            for part in (self._logs, self._strays, self._contents, self._search):
                try:
                    part()
                except sqlite3.Error as error:
                    self._tell("file", f"It cannot be read any further: {error}.")
        except sqlite3.Error as error:
            self._report.findings.append(Finding(what="file", message=f"It cannot be read: {error}."))
        except _Enough:
            self._report.stopped = True

    def _tell(self, what: str, message: str, thread: str | None = None) -> None:
        self._report.findings.append(Finding(what=what, message=message, thread=thread))
        if len(self._report.findings) >= MOST:
            raise _Enough

    # --- the pages ------------------------------------------------------------------------------------------------

    def _pages(self) -> None:
        check_current(self._db)
        self._report.format = check_version(self._db)
        self._report.bytes = self._one("SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()")
        for (line,) in self._db.execute(f"PRAGMA integrity_check({MOST})"):
            if line != "ok":
                self._tell("file", f"SQLite says: {line}")

    # --- logs -----------------------------------------------------------------------------------------------------

    def _logs(self) -> None:
        self._report.owners = self._one("SELECT count(*) FROM owners")
        self._report.runs = self._one("SELECT count(*) FROM runs")
        places: dict[int, list[int]] = {}
        for number, key, _ in self._db.execute(SQL["journal_places"]):
            places.setdefault(key, []).append(number)
        keys: list[int] = [key for (key,) in self._db.execute("SELECT key FROM threads ORDER BY key")]
        for key in keys:
            try:
                self._thread(key, places.get(key, []))
            except sqlite3.Error as error:
                self._tell("log", f"The log cannot be read: {error}.", self._id(key))

    def _thread(self, key: int, numbers: list[int]) -> None:
        id, kind, head, first_seq, journal_from, newest, status, head_run, owner = self._db.execute(
            """SELECT t.id, t.kind, t.head, t.first_seq, t.journal_from, t.newest, t.status, t.head_run, o.key
            FROM threads t LEFT JOIN owners o ON o.key = t.owner WHERE t.key = ?""",
            (key,),
        ).fetchone()
        self._report.threads += kind == "chat"
        if owner is None:
            self._tell("thread", "Its owner is missing.", id)
        if journal_from is not None and (not numbers or numbers[0] != journal_from):
            self._tell("log", f"Row {journal_from} of the journal is missing, where its unsealed part begins.", id)
        spans: dict[str, _Span] = {}
        last, is_whole = self._events(id, key, numbers, first_seq, spans)
        if last < head or (last > head and journal_from is None):
            self._tell("log", f"It ends at seq {last}, but its head is {head}: events are missing.", id)
            is_whole = False
        runs = self._runs(id, key, spans, is_whole=is_whole)
        if runs:
            latest = max(runs.values(), key=lambda run: run.first_seq)
            if (newest, status) != (latest.first_seq, latest.status):
                self._tell("thread", f"It says {status!r} of its newest run, the run's row {latest.status!r}.", id)
        if head_run is not None and head_run not in runs:
            self._tell("thread", f"Its newest run {head_run!r} has no row.", id)
        found = self._db.execute("SELECT seq FROM snapshots WHERE thread = ?", (key,)).fetchone()
        if found is not None and found[0] > last:
            self._tell("thread", f"Its snapshot is of seq {found[0]}, the log ends at {last}.", id)

    def _events(
        self, id: str, key: int, numbers: list[int], first_seq: int, spans: dict[str, _Span]
    ) -> tuple[int, bool]:
        """Look at every event: the last seq, and whether the log is whole up to there (I1)."""
        expected = first_seq
        is_whole = True
        for where, first, last, blob, checksum in self._pieces(key, numbers):
            if first != expected:
                is_whole = False
                if first > expected:
                    self._tell("log", f"Events {expected} to {first - 1} are missing.", id)
                else:
                    self._tell("log", f"The {where} repeats events from seq {first} on.", id)
            expected = last + 1
            try:
                lines = (zlib.decompress(blob) if where == "segment" else bytes(blob)).split(b"\n")
            except (zlib.error, TypeError):
                is_whole = False
                self._tell("log", f"The {where} with events {first} to {last} is damaged.", id)
                continue
            if len(lines) != last - first + 1:
                is_whole = False
                self._tell("log", f"The {where} with events {first} to {last} has {len(lines)} events.", id)
                continue
            if checksum is not None and checksum != zlib.crc32(b"\n".join(lines)):
                self._tell("log", f"The {where} with events {first} to {last} is not what was written.", id)
            for seq, data in enumerate(lines, first):
                self._report.events += 1
                event = _decoded(data)
                if event is None or event.seq != seq:
                    is_whole = False
                    self._tell("log", f"Event {seq} cannot be read.", id)
                else:
                    _note(event, seq, spans)
        return expected - 1, is_whole

    def _pieces(self, key: int, numbers: list[int]) -> Iterator[tuple[str, int, int, Any, int | None]]:
        """Of each piece what it is, its first and last seq, its bytes and, if it needs one, its checksum."""
        rows = self._db.execute(
            "SELECT first_seq, last_seq, events FROM segments WHERE thread = ? ORDER BY first_seq", (key,)
        )
        for first, last, blob in rows:
            yield "segment", first, last, blob, None
        rows = self._db.execute(
            """SELECT j.first_seq, j.last_seq, j.events, j.checksum
            FROM json_each(?) r CROSS JOIN journal j ON j.row = r.value ORDER BY j.row""",
            (json.dumps(numbers),),
        )
        for first, last, blob, checksum in rows:
            yield "row of the journal", first, last, blob, checksum

    # --- runs -----------------------------------------------------------------------------------------------------

    def _runs(self, id: str, key: int, spans: dict[str, _Span], *, is_whole: bool) -> dict[str, Run]:
        """Compare the rows of runs with what the log says of them (I6, I16)."""
        runs: dict[str, Run] = {}
        rows = self._db.execute("SELECT id, status, first_seq, data FROM runs WHERE thread = ?", (key,))
        for name, status, first_seq, data in rows:
            try:
                run = msgspec.json.decode(data, type=Run)
            except msgspec.MsgspecError:
                self._tell("run", f"The row of run {name!r} cannot be read.", id)
                continue
            runs[name] = run
            if (run.id, run.thread, run.status, run.first_seq) != (name, id, status, first_seq):
                self._tell("run", f"The row of run {name!r} contradicts itself.", id)
            if is_whole and (fault := _fault(run, spans.get(name))) is not None:
                self._tell("run", f"Run {name!r}: {fault}", id)
        if is_whole:
            for name in spans.keys() - runs.keys():
                self._tell("run", f"Run {name!r} is in the log and has no row.", id)
        return runs

    # --- what belongs to nothing ----------------------------------------------------------------------------------

    def _strays(self) -> None:
        for table in ("segments", "runs", "agent_states", "snapshots", "aliases", "said", "file_threads"):
            count = self._one(f"SELECT count(*) FROM {table} WHERE thread NOT IN (SELECT key FROM threads)")  # noqa: S608
            if count:
                self._tell("stray", f"{count} rows of the table {table} belong to no thread.")
        for table in ("receipts", "aliases", "files"):
            count = self._one(f"SELECT count(*) FROM {table} WHERE owner NOT IN (SELECT key FROM owners)")  # noqa: S608
            if count:
                self._tell("stray", f"{count} rows of the table {table} belong to nobody.")

    # --- contents -------------------------------------------------------------------------------------------------

    def _contents(self) -> None:
        """Whether the bytes of every file are there and are what they were."""
        for digest, size in self._db.execute("SELECT DISTINCT sha256, size FROM files ORDER BY sha256").fetchall():
            self._report.files += 1
            try:
                with (self._files / digest[:2] / digest).open("rb") as content:
                    found = hashlib.file_digest(content, "sha256").hexdigest()
                    is_whole = found == digest and content.tell() == size
            except OSError as error:
                if not self._is_named(digest):
                    continue  # it was deleted meanwhile
                self._tell("content", f"The content {digest} of a file cannot be read: {error.strerror}.")
            else:
                if not is_whole:
                    self._tell("content", f"The content {digest} of a file is not what was put there.")

    def _is_named(self, digest: str) -> bool:
        """Whether a row names the content now; what is being looked at may be a little older."""
        self._db.execute("ROLLBACK")
        self._db.execute("BEGIN")
        return self._db.execute("SELECT 1 FROM files WHERE sha256 = ?", (digest,)).fetchone() is not None

    # --- the search -----------------------------------------------------------------------------------------------

    def _search(self) -> None:
        """Make the index anew beside the file, and compare: FTS5 can check its own only by writing."""
        for statement in (
            "CREATE VIRTUAL TABLE temp.anew USING fts5(owner, text, content = '', "
            "tokenize = 'unicode61 remove_diacritics 2')",
            "CREATE VIRTUAL TABLE temp.should USING fts5vocab(temp, anew, col)",
            "CREATE VIRTUAL TABLE temp.stands USING fts5vocab(main, said_words, col)",
            "INSERT INTO temp.anew (rowid, owner, text) SELECT id, owner, text FROM main.said",
        ):
            self._db.execute(statement)
        for one, other, fault in (("should", "stands", "lacks"), ("stands", "should", "has too much of")):
            columns = "term, col, doc, cnt"
            rows = self._db.execute(f"SELECT {columns} FROM {one} EXCEPT SELECT {columns} FROM {other}").fetchall()  # noqa: S608
            if rows:
                self._tell("search", f"The index {fault} {len(rows)} words; `runcast db vacuum` makes it anew.")

    # --- pieces ---------------------------------------------------------------------------------------------------

    def _one(self, sql: str) -> int:
        return self._db.execute(sql).fetchone()[0]

    def _id(self, key: int) -> str | None:
        try:
            row = self._db.execute("SELECT id FROM threads WHERE key = ?", (key,)).fetchone()
        except sqlite3.Error:
            return None
        return None if row is None else row[0]


def _decoded(data: bytes) -> Event | None:
    try:
        return decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _note(event: Event, seq: int, spans: dict[str, _Span]) -> None:
    run = event.run_id
    if run is UNSET:
        return
    span = spans.get(run)
    if span is None:
        span = spans[run] = _Span(seq)
    span.last = seq
    if isinstance(event, e.RunStarted):
        span.started = True
    if isinstance(event, e.TERMINAL):
        span.ends.append(seq)
        span.status = _stands(event)


def _stands(event: Event) -> tuple[RunStatus, ...]:
    match event:
        case e.RunError(code="interrupted"):
            return ("interrupted",)
        case e.RunError():
            return ("failed",)
        case e.RunFinished(outcome=e.Outcome(type="interrupt")):
            return ("waiting", "done", "cancelled")
        case e.RunFinished(outcome=e.Outcome(type="cancelled")):
            return ("cancelled",)
        case e.RunFinished():
            return ("done",)
        case _:
            return ("cancelled",)


def _fault(run: Run, span: _Span | None) -> str | None:
    """What is wrong between a run's row and its span of the log; None: nothing."""
    if span is None:
        return "none of its events is in the log."
    if span.first != run.first_seq:
        return f"it begins at seq {span.first}, its row says {run.first_seq}."
    if run.status in ("queued", "running"):
        if span.ends:
            return f"its row says {run.status}, but it ended at seq {span.ends[0]}."
        if span.started != (run.status == "running"):
            return f"its row says {run.status}, the log that it {'started' if span.started else 'did not start'}."
        return None
    if len(span.ends) != 1:
        return f"its row says {run.status}, and it has {len(span.ends)} terminal events instead of one."
    (end,) = span.ends
    if end != span.last:
        return f"events follow its terminal event, seq {end}."
    if end != run.last_seq:
        return f"it ended at seq {end}, its row says {run.last_seq}."
    if run.status not in span.status:
        return f"its row says {run.status}, its terminal event {' or '.join(span.status)}."
    return None
