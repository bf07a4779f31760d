"""A store that keeps everything in memory: for tests and simulations, and the shortest statement of what a store does.

No method waits for anything: each is one step of the event loop, so whoever wraps it decides how long an operation takes
and when it commits. Nothing outlives the object; two servers may share one, as they would share a database.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count
from typing import Any, cast

import msgspec

from runcast import events as e
from runcast.errors import (
    IdempotencyConflict,
    InvalidRequest,
    LeaseLost,
    NotFound,
    SequenceConflict,
    StoreError,
    Trimmed,
)
from runcast.events import Event, Record, encode, stamp
from runcast.ids import IdSource, SystemClock, Uuid7Source, new_epoch
from runcast.runs import AgentState, Principal, Run, RunStatus, Thread, ThreadKind
from runcast.stores.base import MAX_BYTES, MAX_EVENTS, Orphan, Page, Pruning, Receipt, Snapshot, Store, Write, Written
from runcast.testing.memory_files import MemoryFiles

PRUNED_AT_ONCE = 500

_Owner = tuple[str, str]
_ACTIVE: frozenset[RunStatus] = frozenset({"queued", "running"})


class _Lease:
    def __init__(self, owner: str, fence: int, until: int) -> None:
        self.owner = owner
        self.fence = fence
        self.until = until
        """Unix milliseconds. After it another owner may take the thread; until one does, the fence stays good."""


class _Log:
    """One thread: its row, its records and all that goes when it is deleted."""

    def __init__(self, thread: Thread) -> None:
        self.thread = thread
        self.records: list[Record] = []
        self.runs: dict[str, Run] = {}
        self.said: list[str] = []
        self.snapshot: Snapshot | None = None
        self.lease: _Lease | None = None
        self.first_seq = 1

    @property
    def row(self) -> Thread:
        return msgspec.structs.replace(self.thread, head=len(self.records), first_seq=self.first_seq)


class MemoryStore(Store):
    def __init__(self, *, new_id: IdSource | None = None, epochs: Callable[[], str] = new_epoch) -> None:
        """`new_id` names inboxes, `epochs` logs: a simulation gives its own."""
        self._new_id = new_id or Uuid7Source(SystemClock())
        self._epochs = epochs
        self._logs: dict[str, _Log] = {}
        self._tombstones: dict[str, int] = {}
        self._unborn: dict[str, _Lease] = {}
        """Leases of threads that are about to be begun."""
        self._inboxes: dict[_Owner, str] = {}
        self._aliases: dict[tuple[_Owner, str], str] = {}
        self._receipts: dict[tuple[_Owner, str], Receipt] = {}
        self._receipt_times: dict[tuple[_Owner, str], int] = {}
        self._threads_of_runs: dict[str, str] = {}
        self._states: dict[str, AgentState] = {}
        self._fences = count(1)
        self._files = MemoryFiles(self._keep_receipt)

    @property
    def files(self) -> MemoryFiles:
        return self._files

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
        found = self._logs.get(thread)
        if found is not None:
            if _owner_of(found.thread) != _key(owner):
                raise _not_found()
            return found.row
        if thread in self._tombstones:
            raise _not_found()
        if receipt is not None:
            self._check_receipt(_key(owner), receipt)
            self._put_receipt(_key(owner), receipt, now)
        row = Thread(
            id=thread,
            tenant=owner.tenant,
            user=owner.user,
            kind=kind,
            epoch=self._epochs(),
            title=title,
            agent=agent,
            created_at=now,
            updated_at=now,
        )
        self._logs[thread] = _Log(row)
        return row

    async def get_thread(self, thread: str) -> Thread | None:
        log = self._logs.get(thread)
        return None if log is None else log.row

    async def heads(self, threads: Sequence[str]) -> dict[str, int]:
        return {thread: log.row.head for thread in threads if (log := self._logs.get(thread)) is not None}

    async def inbox(self, owner: Principal, *, now: int) -> Thread:
        return self._inbox(_key(owner), now).row

    async def list_threads(
        self, owner: Principal, *, query: str = "", cursor: str | None = None, limit: int = 50
    ) -> Page:
        limit = max(1, min(limit, 100))
        wanted = _words(query)
        rows = [
            log.row
            for log in self._logs.values()
            if log.thread.kind == "chat" and _owner_of(log.thread) == _key(owner) and _has(log, wanted)
        ]
        rows.sort(key=_rank, reverse=True)
        if cursor is not None:
            try:
                place = msgspec.json.decode(bytes.fromhex(cursor), type=tuple[bool, int, str])
            except (ValueError, msgspec.DecodeError) as error:
                raise InvalidRequest(f"The cursor {cursor[:80]!r} was not made here; begin without one.") from error
            rows = [row for row in rows if _rank(row) < place]
        more = len(rows) > limit
        return Page(rows[:limit], msgspec.json.encode(_rank(rows[limit - 1])).hex() if more else None)

    async def delete_thread(self, thread: str, *, fence: int, now: int, notices: Sequence[Event] = ()) -> Written:
        log = self._log(thread)
        _check_fence(log, fence)
        inbox, told = self._notify(log, notices, now)
        self._forget(log)
        self._tombstones[thread] = now
        return Written([], inbox, told)

    def _forget(self, log: _Log) -> None:
        thread = log.thread.id
        del self._logs[thread]
        for run in log.runs:
            self._threads_of_runs.pop(run, None)
            self._states.pop(run, None)
        self._files.let_go(thread)
        self._aliases = {name: target for name, target in self._aliases.items() if target != thread}

    async def delete_owner(self, owner: Principal) -> bool:
        key = _key(owner)
        if any(log.thread.kind != "inbox" and _owner_of(log.thread) == key for log in self._logs.values()):
            return False
        inbox = self._inboxes.pop(key, None)
        if inbox is not None:
            self._forget(self._logs[inbox])
        for name in [name for name in self._receipts if name[0] == key]:
            del self._receipts[name], self._receipt_times[name]
        await self._files.delete_all(owner)
        return True

    async def resolve_alias(
        self, owner: Principal, external_id: str, *, new_thread: str, agent: str = "", now: int
    ) -> Thread:
        name = (_key(owner), external_id)
        known = self._aliases.get(name)
        row = await self.create_thread(owner, known or new_thread, agent=agent, now=now)
        self._aliases[name] = row.id
        return row

    async def find_alias(self, owner: Principal, external_id: str) -> Thread | None:
        known = self._aliases.get((_key(owner), external_id))
        return None if known is None else await self.get_thread(known)

    # --- the log --------------------------------------------------------------------------------------------------

    async def receipt(self, owner: Principal, key: str) -> Receipt | None:
        return self._receipts.get((_key(owner), key))

    async def append(self, write: Write, *, now: int) -> Written:
        log = self._begun(write.begin) if write.begin is not None else self._log(write.thread)
        owner = _owner_of(log.thread)
        # All checks come before the first change: a write is all or nothing.
        _check_fence(log, write.fence)
        if write.receipt is not None:
            self._check_receipt(owner, write.receipt)
        if len(log.records) != write.expected_seq:
            raise SequenceConflict(
                f"The log's head is {len(log.records)}, not {write.expected_seq}: another append came first."
            )
        for run in write.runs:
            if run.thread != write.thread:
                raise InvalidRequest(f"The run {run.id!r} is of thread {run.thread!r}, the write of {write.thread!r}.")
            if self._threads_of_runs.get(run.id, write.thread) != write.thread:
                raise StoreError(f"The run {run.id!r} belongs to another conversation.")
        self._files.check(owner, write.files)
        if write.begin is not None:
            self._logs[write.thread] = log
            self._unborn.pop(write.thread, None)
        records = _stamped(write.events, len(log.records), now)
        queued = [run.id for run in log.runs.values() if run.status in _ACTIVE]
        log.said.extend(_said(write.events, queued))
        log.records.extend(records)
        self._put_rows(log, write, now)
        self._files.bind(write.thread, write.files)
        if write.receipt is not None:
            self._put_receipt(owner, write.receipt, now)
        inbox, told = self._notify(log, write.notices, now)
        return Written(records, inbox, told)

    def append_now(self, writes: Sequence[Write], *, now: int) -> list[Written | None]:
        return [self._append_now(write, now) for write in writes]

    def _append_now(self, write: Write, now: int) -> Written | None:
        log = self._logs.get(write.thread)
        plain = Write(thread=write.thread, fence=write.fence, expected_seq=write.expected_seq, events=write.events)
        if log is None or log.lease is None or log.lease.fence != write.fence or write != plain:
            return None
        if len(log.records) != write.expected_seq:
            return None
        records = _stamped(write.events, len(log.records), now)
        log.said.extend(_said(write.events, ()))
        log.records.extend(records)
        return Written(records, None, [])

    async def read(
        self, thread: str, after: int, *, max_bytes: int = MAX_BYTES, max_events: int = MAX_EVENTS
    ) -> list[Record]:
        log = self._logs.get(thread)
        if log is None:
            return []
        if after + 1 < log.first_seq:
            raise Trimmed(f"The log is kept from seq {log.first_seq} on; what followed {after} is gone.")
        found: list[Record] = []
        size = 0
        for record in log.records[max(0, after) : max(0, after) + max(1, max_events)]:
            size += len(record.data)
            if found and size > max_bytes:
                break
            found.append(record)
        return found

    async def runs(
        self, *, thread: str | None = None, status: Sequence[RunStatus] = (), ids: Sequence[str] = ()
    ) -> list[Run]:
        if thread is not None:
            logs = [log] if (log := self._logs.get(thread)) is not None else []
        elif ids:
            names = dict.fromkeys(self._threads_of_runs[run] for run in ids if run in self._threads_of_runs)
            logs = [self._logs[name] for name in names]
        else:
            logs = list(self._logs.values())
        return [
            run
            for log in logs
            for run in sorted(log.runs.values(), key=lambda run: run.first_seq)
            if (not status or run.status in status) and (not ids or run.id in ids)
        ]

    async def active_runs(self, owner: Principal) -> list[Run]:
        return [
            run
            for log in self._logs.values()
            if (log.thread.tenant, log.thread.user) == (owner.tenant, owner.user)
            for run in sorted(log.runs.values(), key=lambda run: run.first_seq)
            if run.status in ("queued", "running")
        ]

    async def expired(self, *, now: int) -> list[Run]:
        due = [
            run
            for log in self._logs.values()
            for run in log.runs.values()
            if run.status == "waiting" and run.expires_at is not None and run.expires_at <= now
        ]
        return sorted(due, key=lambda run: run.expires_at or 0)

    async def agent_states(self, runs: Sequence[str]) -> list[AgentState]:
        return [self._states[run] for run in runs if run in self._states]

    async def snapshot(self, thread: str) -> Snapshot | None:
        log = self._logs.get(thread)
        return None if log is None else log.snapshot

    async def put_snapshot(self, thread: str, snapshot: Snapshot) -> None:
        log = self._logs.get(thread)
        if log is not None and (log.snapshot is None or log.snapshot.seq <= snapshot.seq):
            log.snapshot = snapshot

    # --- leases ---------------------------------------------------------------------------------------------------

    async def acquire(self, thread: str, owner: str, *, now: int, ttl_ms: int, new: bool = False) -> int:
        if new and thread not in self._logs:
            self._unborn[thread] = _Lease(owner, next(self._fences), now + ttl_ms)
            return self._unborn[thread].fence
        log = self._log(thread)
        if log.lease is not None and log.lease.owner != owner and log.lease.until > now:
            raise LeaseLost("Another owner has this conversation; its lease has not run out.")
        log.lease = _Lease(owner, next(self._fences), now + ttl_ms)
        return log.lease.fence

    async def renew(self, owner: str, *, now: int, ttl_ms: int) -> set[str]:
        held = {thread for thread, lease in self._unborn.items() if lease.owner == owner}
        for log in self._logs.values():
            if log.lease is not None and log.lease.owner == owner:
                log.lease.until = now + ttl_ms
                held.add(log.thread.id)
        return held

    async def release(self, thread: str, *, fence: int) -> None:
        log = self._logs.get(thread)
        if log is not None and log.lease is not None and log.lease.fence == fence:
            log.lease = None
        if thread in self._unborn and self._unborn[thread].fence == fence:
            del self._unborn[thread]

    async def orphans(self, *, now: int) -> list[Orphan]:
        return [
            Orphan(log.row, runs)
            for log in self._logs.values()
            if (log.lease is None or log.lease.until <= now)
            and (runs := [run for run in log.runs.values() if run.status in _ACTIVE])
        ]

    # --- upkeep ---------------------------------------------------------------------------------------------------

    @property
    def healthy(self) -> bool:
        return True

    async def probe(self) -> None:
        pass

    async def size(self) -> int:
        return self._files.bytes + sum(len(record.data) for log in self._logs.values() for record in log.records)

    async def idle_threads(self, *, before: int, but: Sequence[str] = (), limit: int = 50) -> list[Thread]:
        rows = [
            log.row
            for log in self._logs.values()
            if log.thread.kind == "chat" and not log.thread.pinned and log.thread.id not in but
            if log.thread.updated_at < before
            and not any(run.status in (*_ACTIVE, "waiting") for run in log.runs.values())
        ]
        return sorted(rows, key=lambda row: row.updated_at)[:limit]

    async def hidden_threads(self, *, before: int, owner: Principal | None = None, limit: int = 50) -> list[Thread]:
        rows = [
            log.row
            for log in self._logs.values()
            if log.thread.kind == "hidden" and log.thread.updated_at < before
            if owner is None or _owner_of(log.thread) == _key(owner)
        ]
        return sorted(rows, key=lambda row: row.updated_at)[:limit]

    async def prune(self, pruning: Pruning) -> bool:
        old = [name for name, made in self._receipt_times.items() if made < pruning.receipts_before]
        for name in old[:PRUNED_AT_ONCE]:
            del self._receipts[name], self._receipt_times[name]
        for thread in [one for one, deleted in self._tombstones.items() if deleted < pruning.tombstones_before]:
            del self._tombstones[thread]
        for inbox in self._inboxes.values():
            log = self._logs[inbox]
            if len(log.records) - log.first_seq >= 2 * pruning.inbox_events:
                log.first_seq = len(log.records) - pruning.inbox_events + 1
        return len(old) > PRUNED_AT_ONCE

    async def close(self) -> None:
        pass

    # --- pieces ---------------------------------------------------------------------------------------------------

    def _log(self, thread: str) -> _Log:
        log = self._logs.get(thread)
        if log is None:
            raise _not_found()
        return log

    def _begun(self, thread: Thread) -> _Log:
        """The log of a thread that does not exist yet; nothing knows of it."""
        if thread.id in self._logs:
            return self._logs[thread.id]
        if thread.id in self._tombstones:
            raise _not_found()
        row = msgspec.structs.replace(
            thread, title="", epoch=self._epochs(), head=0, pinned=False, head_run=None, status=None
        )
        log = _Log(row)
        log.lease = self._unborn.get(thread.id)
        return log

    def _put_receipt(self, owner: _Owner, receipt: Receipt, now: int) -> None:
        self._receipts[owner, receipt.key] = receipt
        self._receipt_times[owner, receipt.key] = now

    def _inbox(self, owner: _Owner, now: int) -> _Log:
        id = self._inboxes.get(owner)
        if id is None:
            id = self._inboxes[owner] = self._new_id()
            tenant, user = owner
            row = Thread(
                id=id, tenant=tenant, user=user, kind="inbox", epoch=self._epochs(), created_at=now, updated_at=now
            )
            self._logs[id] = _Log(row)
        return self._logs[id]

    def _notify(self, log: _Log, notices: Sequence[Event], now: int) -> tuple[str | None, list[Record]]:
        if not notices:
            return None, []
        inbox = self._inbox(_owner_of(log.thread), now)
        told = _stamped(notices, len(inbox.records), now)
        inbox.records.extend(told)
        return inbox.thread.id, told

    def _check_receipt(self, owner: _Owner, receipt: Receipt) -> None:
        known = self._receipts.get((owner, receipt.key))
        if known is None:
            return
        if known.body_hash != receipt.body_hash:
            raise IdempotencyConflict(f"The id {receipt.key!r} was used for another command; make a new one.")
        raise SequenceConflict(f"The command {receipt.key!r} was carried out before; its receipt has the answer.")

    def _keep_receipt(self, owner: _Owner, receipt: Receipt, now: int) -> None:
        self._check_receipt(owner, receipt)
        self._put_receipt(owner, receipt, now)

    def _put_rows(self, log: _Log, write: Write, now: int) -> None:
        changes: dict[str, Any] = {}
        for run in write.runs:
            newest = max((one.first_seq for one in log.runs.values()), default=0)
            log.runs[run.id] = run
            self._threads_of_runs[run.id] = write.thread
            if run.first_seq >= newest:
                changes["status"] = run.status
                if run.first_seq > newest:
                    changes["head_run"] = run.id
        if write.agent_state is not None:
            self._states[write.agent_state.run] = write.agent_state
        for name in ("title", "pinned", "head_run"):
            if getattr(write, name) is not None:
                changes[name] = getattr(write, name)
        if write.runs or write.title is not None or write.pinned is not None:
            changes["updated_at"] = now
        if changes:
            log.thread = msgspec.structs.replace(log.thread, **changes)


def _key(owner: Principal) -> _Owner:
    return owner.tenant, owner.user


def _owner_of(thread: Thread) -> _Owner:
    return thread.tenant, thread.user


def _rank(thread: Thread) -> tuple[bool, int, str]:
    return thread.pinned, thread.updated_at, thread.id


def _check_fence(log: _Log, fence: int) -> None:
    if log.lease is None or log.lease.fence != fence:
        raise LeaseLost("Another owner has this conversation now; nothing was written.")


def _stamped(events: Iterable[Event], head: int, now: int) -> list[Record]:
    stamped = (stamp(event, seq, now) for seq, event in enumerate(events, head + 1))
    return [Record(event, encode(event)) for event in stamped]


def _said(events: Iterable[Event], queued: Sequence[str]) -> Iterable[str]:
    """What a person wrote or was answered. `queued`: runs whose input is in the log already."""
    for event in events:
        match event:
            case e.TextMessageEnd(text=str(text)):
                yield text
            case e.RunStarted(run_id=run, input=dict(given)) if run not in queued:
                yield from _contents(given.get("messages"))
            case e.RunQueued(input=given):
                yield from _contents(given.get("messages"))
            case e.MessagePosted(message=message) | e.RunSteered(message=message):
                yield from _contents([message])
            case _:
                pass


def _contents(messages: Any) -> Iterable[str]:
    for message in cast("list[Any]", messages) if isinstance(messages, list) else []:
        content: Any = cast("Mapping[str, Any]", message).get("content") if isinstance(message, dict) else None
        parts = cast("list[Any]", content) if isinstance(content, list) else [{"text": content}]
        for part in parts:
            text: Any = cast("Mapping[str, Any]", part).get("text") if isinstance(part, dict) else None
            if isinstance(text, str):
                yield text


def _has(log: _Log, wanted: Sequence[str]) -> bool:
    """Whether each of the words begins a word of the title or of what was said."""
    if not wanted:
        return True
    there = [word for text in (log.thread.title, *log.said) for word in _words(text)]
    return all(any(word.startswith(one) for word in there) for one in wanted)


def _words(text: str) -> list[str]:
    """The words of a text, case and accents folded."""
    folded = "".join(one for one in unicodedata.normalize("NFKD", text) if not unicodedata.combining(one)).casefold()
    return "".join(one if one.isalnum() else " " for one in folded).split()


def _not_found() -> NotFound:
    return NotFound("There is no such conversation.")
