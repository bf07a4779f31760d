"""What each write does to the file, inside the group it belongs to. Used by the writer's thread alone.

A group is one transaction of several writes. A write checks first and then changes; what it changes in memory is undone
with it. The journal's rows of a group go in with one statement at its end: a token costs one row and nothing else.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any
from zlib import crc32

import msgspec

from runcast.errors import IdempotencyConflict, NotFound, SequenceConflict, StoreError, UnknownFile
from runcast.events import DELTAS, Event, Record, encode, stamp
from runcast.ids import IdSource, new_epoch
from runcast.runs import AgentState, Principal, RunStatus, Thread, ThreadKind
from runcast.stores.base import Orphan, Pruning, Receipt, Snapshot, Write, Written
from runcast.stores.sql import SQL
from runcast.stores.sqlite_known import Known
from runcast.stores.sqlite_leases import Leases
from runcast.stores.sqlite_log import Log, Rows
from runcast.stores.sqlite_retention import Retention
from runcast.stores.sqlite_rows import run_of, thread_of
from runcast.stores.sqlite_sealing import Sealing
from runcast.stores.sqlite_search import said

CACHED_LOGS = 4_000
"""Threads that nobody works on and owners are forgotten when there are more: 2 KiB each."""
INSERT_ROWS = 64
"""Journal rows in one statement. One statement is one hand-over of the interpreter's lock; two would be two."""
ROW_BYTES = 64 * 1024
"""Of JSON in one row of the journal; a longer event has a row of its own."""
SEAL_ROWS = 64
"""So many rows are worth a segment when no run's end asks for it: an inbox never ends."""
_ACTIVE: frozenset[RunStatus] = frozenset({"queued", "running"})


class Appending:
    """A write on its way, with its events stamped and encoded by the caller's thread."""

    __slots__ = ("is_plain", "now", "records", "rows", "write")

    def __init__(self, write: Write, now: int) -> None:
        self.write = write
        self.now = now
        self.records = stamped(write.events, write.expected_seq, now)
        self.rows = rows_of(self.records)
        self.is_plain = not _changes_rows(write) and not _says(write.events)
        """Nothing but events that the search need not know."""


def _changes_rows(write: Write) -> bool:
    return bool(
        write.runs
        or write.begin is not None
        or write.notices
        or write.files
        or write.receipt is not None
        or write.title is not None
        or write.pinned is not None
        or write.head_run is not None
        or write.agent_state is not None
    )


def _says(events: Sequence[Event]) -> bool:
    """Whether the search has to know of one of them."""
    for event in events:
        if not isinstance(event, DELTAS):
            return next(said(events, ()), None) is not None
    return False


def stamped(events: Iterable[Event], head: int, now: int) -> list[Record]:
    """The events as they follow `head` in a log."""
    records: list[Record] = []
    for seq, event in enumerate(events, head + 1):
        event = stamp(event, seq, now)
        data = encode(event)
        if b"\n" in data:  # only inside a value that was JSON text already (msgspec.Raw)
            data = msgspec.json.format(data, indent=-1)
        records.append(Record(event, data))
    return records


def rows_of(records: Sequence[Record]) -> list[tuple[int, bytes]]:
    """Rows of the journal for one write: how many events each holds, and their JSON, a line each. One row, mostly; a row is
    read as a whole, so what is much becomes several, or a reader that takes a little at a time would read it again and again.
    """
    if not records:
        return []
    if len(records) == 1:
        return [(1, records[0].data)]
    data = [record.data for record in records]
    if sum(map(len, data)) <= ROW_BYTES:
        return [(len(data), b"\n".join(data))]
    rows: list[tuple[int, bytes]] = []
    start = size = 0
    for index, line in enumerate(data):
        if index > start and size + len(line) > ROW_BYTES:
            rows.append((index - start, b"\n".join(data[start:index])))
            start, size = index, 0
        size += len(line)
    rows.append((len(data) - start, b"\n".join(data[start:])))
    return rows


class Ledger:
    def __init__(self, connection: sqlite3.Connection, new_id: IdSource) -> None:
        self.connection = self._db = connection
        self._new_id = new_id
        self._owners: dict[tuple[str, str], int] = {}
        self._inboxes: dict[int, str] = {}
        self.logs: dict[str, Log] = {}
        """Threads in use, and every thread with rows in the journal. Readers look here too."""
        self._forget_at = CACHED_LOGS
        self.known = Known()
        self.retention = Retention(connection)
        self.leases = Leases(self._db.execute(SQL["next_boot"]).fetchone()[0])
        self.sealing = Sealing(connection, self.logs)
        self.pages = 0
        """About how many pages the write-ahead log grew by; whoever brings it into the file sets it back."""
        self._journal: list[tuple[int, int, int, int, bytes, int]] = []
        self._placed: list[tuple[Log, int]] = []
        """The log of each row in `_journal`, and its last seq."""
        self._undo: list[Callable[[], Any]] = []
        self._on_commit: list[Callable[[], Any]] = []
        self._find_journal()

    def _find_journal(self) -> None:
        """Learn where the rows that the process before left in the journal belong."""
        by_key: dict[int, Log] = {}
        for number, key, last_seq in self._db.execute(SQL["journal_places"]).fetchall():
            log = by_key.get(key)
            if log is None:
                row = self._db.execute(SQL["log_by_key"], (key,)).fetchone()
                if row is None:
                    continue  # cannot be: a thread goes together with its rows
                log = by_key[key] = self._keep(row)
            log.rows.add(number, last_seq)
            log.head = log.visible = last_seq
        for log in by_key.values():
            if not log.active:
                self.sealing.want(log)

    # --- the group ------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        if not self._db.in_transaction:
            self._db.execute("BEGIN IMMEDIATE")

    def alone(self, work: Callable[[], Any]) -> Any:
        """Do a write so that its failure takes back what it did and nothing else of the group."""
        self.begin()
        self._db.execute("SAVEPOINT write")
        mark = self.mark()
        try:
            result = work()
        except BaseException:
            self.undo(mark)
            if self._db.in_transaction:  # SQLite ends the transaction itself when the disk is full
                self._db.execute("ROLLBACK TO write")
                self._db.execute("RELEASE write")
            raise
        self._db.execute("RELEASE write")
        return result

    def mark(self) -> tuple[int, int, int]:
        return len(self._undo), len(self._journal), len(self._on_commit)

    def undo(self, mark: tuple[int, int, int] = (0, 0, 0)) -> None:
        """Take back in memory what was done since `mark`."""
        undone, rows, hooks = mark
        while len(self._undo) > undone:
            self._undo.pop()()
        del self._journal[rows:]
        del self._placed[rows:]
        del self._on_commit[hooks:]

    def commit(self) -> None:
        """Make the group durable, then visible.

        Raises:
            sqlite3.Error: nothing of the group was done; call `rollback`.
        """
        journal = self._journal
        if len(journal) > INSERT_ROWS:
            self.begin()
        self.pages += 8 if self._db.in_transaction else 2
        for start in range(0, len(journal), INSERT_ROWS):
            part = journal[start : start + INSERT_ROWS]
            self._db.execute(_INSERT_ROWS[len(part)], [value for row in part for value in row])
            self.pages += sum([len(row[4]) for row in part]) // 4096
        if self._db.in_transaction:
            self._db.execute("COMMIT")
        for (number, *_), (log, last_seq) in zip(journal, self._placed, strict=True):
            log.rows.add(number, last_seq)
            log.visible = last_seq
        for hook in self._on_commit:
            hook()
        self._journal, self._placed = [], []
        self._undo.clear()
        self._on_commit.clear()

    def rollback(self) -> None:
        """Forget the whole group."""
        self.undo()
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    # --- writes ---------------------------------------------------------------------------------------------------

    def create_thread(
        self,
        owner: Principal,
        thread: str,
        kind: ThreadKind,
        title: str,
        agent: str,
        now: int,
        receipt: Receipt | None,
    ) -> Thread:
        row = self._db.execute(SQL["thread"], (thread,)).fetchone()
        if row is not None:
            found = thread_of(row)
            if (found.tenant, found.user) != (owner.tenant, owner.user):
                raise _not_found()
            log = self.logs.get(thread)
            return found if log is None else msgspec.structs.replace(found, head=log.head)
        if self._db.execute(SQL["tombstone"], (thread,)).fetchone() is not None:
            raise _not_found()
        key = self._owner(owner)
        if receipt is not None:
            self._put_receipt(key, receipt, now)
        created = Thread(
            id=thread,
            tenant=owner.tenant,
            user=owner.user,
            kind=kind,
            epoch=new_epoch(),
            title=title,
            agent=agent,
            created_at=now,
            updated_at=now,
        )
        cursor = self._db.execute(SQL["insert_thread"], (thread, key, kind, created.epoch, title, agent, now, now))
        if title and kind == "chat":
            self._index(cursor.lastrowid or 0, key, title, is_title=True)
        return created

    def inbox(self, owner: Principal, now: int) -> Thread:
        row = self._db.execute(SQL["inbox"], (self._owner(owner),)).fetchone()
        if row is None:
            return self.create_thread(owner, self._new_id(), "inbox", "", "", now, None)
        log = self.logs.get(row[0])
        return thread_of(row) if log is None else msgspec.structs.replace(thread_of(row), head=log.head)

    def resolve_alias(self, owner: Principal, external_id: str, new_thread: str, agent: str, now: int) -> Thread:
        key = self._owner(owner)
        row = self._db.execute(SQL["alias"], (key, external_id)).fetchone()
        thread = self.create_thread(owner, row[0] if row else new_thread, "chat", "", agent, now, None)
        if row is None:
            of_thread = self._db.execute(SQL["log"], (new_thread,)).fetchone()[0]
            self._db.execute(SQL["put_alias"], (key, external_id, of_thread))
        return thread

    def append(self, appending: Appending) -> Written:
        write, now = appending.write, appending.now
        if write.begin is not None:
            self._begin(write.begin, now)
        log = self._log(write.thread)
        self.leases.check(write.thread, write.fence)
        if write.receipt is not None:
            self._put_receipt(log.owner, write.receipt, now)
        if log.head != write.expected_seq:
            raise SequenceConflict(
                f"The log's head is {log.head}, not {write.expected_seq}: another append came first."
            )
        self._undo.append(partial(log.restore, log.state()))
        queued = log.active
        self._add(log, appending.rows)
        if not appending.is_plain:
            self._put_rows(log, write, now)
            self._bind(log, write.files)
            for text in said(write.events, queued):
                self._index(log.key, log.owner, text)
        if not log.active and (write.runs or len(log.rows) >= SEAL_ROWS):
            self._on_commit.append(partial(self.sealing.want, log))
        inbox, notices = self._notify(log, write.notices, now) if write.notices else (None, [])
        return Written(appending.records, inbox, notices)

    def delete_thread(self, thread: str, fence: int, now: int, notices: Sequence[Event]) -> Written:
        log = self._log(thread)
        self.leases.check(thread, fence)
        inbox, told = self._notify(log, notices, now)
        self._delete(log)
        self._db.execute(SQL["insert_tombstone"], (thread, now))
        return Written([], inbox, told)

    def delete_owner(self, owner: Principal) -> bool:
        row = self._db.execute(SQL["owner_key"], (owner.tenant, owner.user)).fetchone()
        if row is None:
            return True
        (key,) = row
        if self._db.execute(SQL["has_conversations"], (key,)).fetchone() is not None:
            return False
        inbox = self._db.execute(SQL["inbox_log"], (key,)).fetchone()
        if inbox is not None:
            self._delete(self._log(inbox[1]))
        for name in ("delete_receipts", "delete_aliases_of_owner", "delete_owner"):
            self._db.execute(SQL[name], (key,))
        self._db.execute(SQL["delete_stray_rows"])
        self._owners.pop((owner.tenant, owner.user), None)
        self._inboxes.pop(key, None)
        self._on_commit.append(self.retention.merge_words)
        return True

    def _delete(self, log: Log) -> None:
        if log.head != log.visible:
            raise StoreError("The conversation is being written to at this moment; try again.")
        changes = self._db.total_changes
        self._db.execute(SQL["unindex_thread"], (log.key,))
        for name in _DELETES:
            self._db.execute(SQL[name], (log.key,))
        self._db.execute(SQL["delete_journal_rows"], (json.dumps(list(log.rows.numbers)),))
        self.pages += 2 * (self._db.total_changes - changes)
        self._on_commit.append(partial(self._forget, log))
        self.logs.pop(log.id, None)
        self._undo.append(partial(self.logs.__setitem__, log.id, log))

    def prune(self, pruning: Pruning) -> bool:
        free = self.retention.free_pages()
        more = self.retention.prune(pruning)
        self._on_commit.append(self.known.forget_all)
        self.pages += 2 * max(0, free - self.retention.free_pages())
        return more

    def owner(self, owner: Principal, receipt: Receipt | None, now: int) -> int:
        """The owner's key, for a write of rows that belong to no thread; and its receipt kept.

        Raises:
            IdempotencyConflict, SequenceConflict: as in `append`.
        """
        key = self._owner(owner)
        if receipt is not None:
            self._put_receipt(key, receipt, now)
        return key

    def put_snapshot(self, thread: str, snapshot: Snapshot) -> None:
        row = self._db.execute(SQL["log"], (thread,)).fetchone()
        if row is not None:
            self._db.execute(SQL["put_snapshot"], (row[0], snapshot.seq, snapshot.schema, snapshot.data))

    # --- leases: after the group's commit -------------------------------------------------------------------------

    def acquire(self, thread: str, owner: str, now: int, ttl_ms: int, new: bool) -> int:
        if not new:
            self._log(thread)
        return self.leases.acquire(thread, owner, now=now, ttl_ms=ttl_ms)

    def orphans(self, now: int) -> list[Orphan]:
        found: list[Orphan] = []
        for (key,) in self._db.execute(SQL["threads_with_active_runs"]).fetchall():
            row = self._db.execute(SQL["thread_by_key"], (key,)).fetchone()
            if row is None or self.leases.is_valid(row[0], now):
                continue
            thread = thread_of(row)
            log = self.logs.get(thread.id)
            if log is not None:
                thread = msgspec.structs.replace(thread, head=log.visible)
            runs = [run_of(one) for one in self._db.execute(SQL["active_run_rows"], (key,))]
            found.append(Orphan(thread, runs))
        return found

    # --- pieces ---------------------------------------------------------------------------------------------------

    def _begin(self, thread: Thread, now: int) -> None:
        """Make the thread that the write at hand begins."""
        owner = Principal(user=thread.user, tenant=thread.tenant)
        self.create_thread(owner, thread.id, thread.kind, "", thread.agent, now, None)
        self._undo.append(partial(self.logs.pop, thread.id, None))

    def _log(self, thread: str) -> Log:
        log = self.logs.get(thread)
        if log is None:
            row = self._db.execute(SQL["log"], (thread,)).fetchone()
            if row is None:
                raise _not_found()
            log = self._keep(row)
        return log

    def _keep(self, row: Any) -> Log:
        if len(self.logs) >= self._forget_at:
            for log in [one for one in self.logs.values() if not one.rows and one.head == one.visible]:
                if log.id not in self.leases and log.journal_from is None:
                    del self.logs[log.id]
                    self.known.forget(log.id)
            self._forget_at = max(CACHED_LOGS, 2 * len(self.logs))  # those in use are not looked at for each new one
        log = Log(*row)
        log.active = frozenset(run for (run,) in self._db.execute(SQL["active_runs"], (log.key,)))
        self.logs[log.id] = log
        return log

    def _owner(self, owner: Principal) -> int:
        name = (owner.tenant, owner.user)
        key = self._owners.get(name)
        if key is None:
            row = self._db.execute(SQL["owner_key"], name).fetchone()
            if row is None:
                row = self._db.execute(SQL["insert_owner"], name).fetchone()
                self._undo.append(partial(self._owners.pop, name, None))
            if len(self._owners) >= CACHED_LOGS:
                self._owners.clear()
            key = self._owners[name] = row[0]
        return key

    def _add(self, log: Log, rows: Sequence[tuple[int, bytes]]) -> None:
        """Let these rows of the journal follow in the log. The caller has taken care of the undoing."""
        for count, blob in rows:
            number = self.sealing.take_row()
            first_seq = log.head + 1
            log.head += count
            self._journal.append((number, log.key, first_seq, log.head, blob, crc32(blob)))
            self._placed.append((log, log.head))
            if log.journal_from is None:
                log.journal_from = number
                self.begin()
                self._db.execute(SQL["place_in_journal"], (log.head, number, log.key))

    def _put_rows(self, log: Log, write: Write, now: int) -> None:
        """Runs, agent state and the thread's own row."""
        status: RunStatus | None = None
        head_run = write.head_run
        for run in write.runs:
            values = (run.id, log.key, run.status, run.first_seq, msgspec.json.encode(run), run.expires_at)
            if self._db.execute(SQL["put_run"], values).rowcount != 1:
                raise StoreError(f"The run {run.id!r} belongs to another conversation.")
            log.active = log.active | {run.id} if run.status in _ACTIVE else log.active - {run.id}
            if run.first_seq >= log.newest:
                if run.first_seq > log.newest and write.head_run is None:
                    head_run = run.id
                log.newest, status = run.first_seq, run.status
        if write.agent_state is not None:
            self._put_agent_state(log, write.agent_state)
        if write.title is not None:
            self._db.execute(SQL["unindex_title"], (log.key,))
            self._db.execute(SQL["delete_title"], (log.key,))
            self._index(log.key, log.owner, write.title, is_title=True)
        if write.runs or write.title is not None or write.pinned is not None or head_run is not None:
            moved = write.runs or write.title is not None or write.pinned is not None
            values = {
                "key": log.key,
                "head": log.head,
                "journal_from": log.journal_from,
                "newest": log.newest,
                "title": write.title,
                "pinned": write.pinned,
                "head_run": head_run,
                "status": status,
                "updated_at": now if moved else None,
            }
            self._db.execute(SQL["update_thread"], values)
            self._on_commit.append(partial(self.known.forget, log.id))

    def _bind(self, log: Log, files: Sequence[str]) -> None:
        for file in files:
            if self._db.execute(SQL["bind_file"], (file, log.owner)).rowcount != 1:
                raise UnknownFile(f"There is no file {file!r}; upload it first.")
            self._db.execute(SQL["put_file_thread"], (log.key, file))

    def _put_agent_state(self, log: Log, state: AgentState) -> None:
        values = (state.run, log.key, state.adapter, state.version, state.data)
        if self._db.execute(SQL["put_agent_state"], values).rowcount != 1:
            raise StoreError(f"The run {state.run!r} belongs to another conversation.")

    def _put_receipt(self, owner: int, receipt: Receipt, now: int) -> None:
        known = self._db.execute(SQL["receipt_hash"], (owner, receipt.key)).fetchone()
        if known is not None:
            if known[0] != receipt.body_hash:
                raise IdempotencyConflict(f"The id {receipt.key!r} was used for another command; make a new one.")
            raise SequenceConflict(f"The command {receipt.key!r} was carried out before; its receipt has the answer.")
        self._db.execute(SQL["insert_receipt"], (owner, receipt.key, receipt.body_hash, receipt.result, now))

    def _notify(self, log: Log, notices: Sequence[Event], now: int) -> tuple[str | None, list[Record]]:
        """Append to the inbox of the thread's owner."""
        if not notices:
            return None, []
        inbox = self._inbox(log, now)
        self._undo.append(partial(inbox.restore, inbox.state()))
        records = stamped(notices, inbox.head, now)
        self._add(inbox, rows_of(records))
        if len(inbox.rows) >= SEAL_ROWS:
            self._on_commit.append(partial(self.sealing.want, inbox))
        return inbox.id, records

    def _inbox(self, log: Log, now: int) -> Log:
        id = self._inboxes.get(log.owner)
        if id is None:
            row = self._db.execute(SQL["inbox_log"], (log.owner,)).fetchone()
            id = self._new_id() if row is None else row[1]
            if row is None:
                self._db.execute(SQL["insert_thread"], (id, log.owner, "inbox", new_epoch(), "", "", now, now))
                self._undo.append(partial(self.logs.pop, id, None))
            if len(self._inboxes) >= CACHED_LOGS:
                self._inboxes.clear()
            self._inboxes[log.owner] = id
            self._undo.append(partial(self._inboxes.pop, log.owner, None))
        return self._log(id)

    def _index(self, thread: int, owner: int, text: str, *, is_title: bool = False) -> None:
        if not text.strip():
            return
        cursor = self._db.execute(SQL["insert_said"], (thread, int(is_title), str(owner), text))
        self._db.execute(SQL["index_said"], (cursor.lastrowid, str(owner), text))

    def _forget(self, log: Log) -> None:
        self.leases.forget(log.id)
        self.known.forget(log.id)
        if self._inboxes.get(log.owner) == log.id:
            del self._inboxes[log.owner]
        log.rows = Rows()
        self.sealing.forget(log)


_DELETES = (
    "delete_said",
    "delete_segments",
    "delete_runs",
    "delete_agent_states",
    "delete_snapshot",
    "delete_aliases",
    "delete_thread",
)
_INSERT_ROWS = [
    "INSERT INTO journal (row, thread, first_seq, last_seq, events, checksum) "  # noqa: S608
    f"VALUES {', '.join(['(?, ?, ?, ?, ?, ?)'] * size)}"
    for size in range(INSERT_ROWS + 1)
]


def _not_found() -> NotFound:
    return NotFound("There is no such conversation.")
