"""The SQLite store against a model of a few dictionaries: any order of writes, refusals, ends of runs and restarts."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

from runcast import events as e
from runcast.errors import IdempotencyConflict, LeaseLost, NotFound, SequenceConflict
from runcast.runs import Run
from runcast.stores.base import Receipt, Write
from runcast.stores.sqlite import SqliteStore
from runcast.testing.store_suite import ME, NOW, OTHER, TTL_MS, delta, new_id, notice, started

T = TypeVar("T")
OWNERS = st.sampled_from([ME, OTHER])


class Known:
    """What the model knows of a thread."""

    def __init__(self, owner: Any) -> None:
        self.owner = owner
        self.log: list[bytes] = []
        self.fence: int | None = None
        self.holder: str | None = None
        self.until = 0
        self.run: str | None = None
        self.runs = 0
        self.deleted = False


class StoreMachine(RuleBasedStateMachine):
    threads = Bundle("threads")

    @initialize()
    def start(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.directory = tempfile.TemporaryDirectory()
        self.path = Path(self.directory.name) / "a.db"
        self.known: dict[str, Known] = {}
        self.inboxes: dict[Any, list[bytes]] = {ME: [], OTHER: []}
        self.receipts: dict[tuple[Any, str], Receipt] = {}
        self.aliases: dict[tuple[Any, str], str] = {}
        self.store = self.do(SqliteStore.open(self.path))

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(asyncio.wait_for(work, 20))

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.do(self.store.close())
            self.loop.run_until_complete(self.loop.shutdown_default_executor())
            self.loop.close()
            self.directory.cleanup()

    @rule(target=threads, owner=OWNERS)
    def create(self, owner: Any) -> str:
        thread = self.do(self.store.create_thread(owner, new_id(), now=NOW))
        self.known[thread.id] = Known(owner)
        return thread.id

    @rule(target=threads, owner=OWNERS, name=st.sampled_from(["x", "y"]))
    def alias(self, owner: Any, name: str) -> Any:
        thread = self.do(self.store.resolve_alias(owner, name, new_thread=new_id(), now=NOW)).id
        expected = self.aliases.get((owner, name))
        if expected is not None and not self.known[expected].deleted:
            assert thread == expected
            return multiple()
        assert thread not in self.known
        self.aliases[owner, name] = thread
        self.known[thread] = Known(owner)
        return thread

    @rule(thread=threads, node=st.sampled_from(["a", "b"]), later=st.booleans())
    def acquire(self, thread: str, node: str, later: bool) -> None:
        known = self.known[thread]
        now = NOW + TTL_MS * 2 if later else NOW
        try:
            fence = self.do(self.store.acquire(thread, node, now=now, ttl_ms=0))
        except NotFound:
            assert known.deleted
            return
        except LeaseLost:
            assert known.holder not in (None, node) and known.until > now
            return
        assert not known.deleted and fence > (known.fence or 0)
        known.fence, known.holder, known.until = fence, node, now

    @rule(thread=threads)
    def release(self, thread: str) -> None:
        known = self.known[thread]
        if known.fence is not None:
            self.do(self.store.release(thread, fence=known.fence))
            known.fence = known.holder = None

    @rule(
        thread=threads,
        sizes=st.lists(st.integers(0, 3000), min_size=1, max_size=40),
        what=st.sampled_from(["tokens", "tokens", "run", "wrong seq", "old fence", "rename"]),
        key=st.sampled_from([None, None, "k1", "k2"]),
        body=st.sampled_from(["h1", "h2"]),
        told=st.integers(0, 2),
        one_by_one=st.booleans(),
    )
    def append(
        self, thread: str, sizes: list[int], what: str, key: str | None, body: str, told: int, one_by_one: bool
    ) -> None:
        known = self.known[thread]
        events: list[e.Event] = [delta("ü" * size) for size in sizes]
        runs: list[Run] = []
        head = len(known.log)
        run = known.run
        if what == "run":
            if run is None:
                run = f"{thread}.{known.runs}"
                events.insert(0, started(thread, run, "hello"))
                row = Run(id=run, thread=thread, agent="a", status="running", created_at=NOW, first_seq=head + 1)
            else:
                events.append(e.RunFinished(run_id=run, thread_id=thread))
                (row,) = self.do(self.store.runs(ids=[run])) if not known.deleted else (None,)
                if row is not None:
                    row = Run(id=run, thread=thread, agent="a", status="done", created_at=NOW, first_seq=row.first_seq)
            runs = [] if row is None else [row]
        receipt = None if key is None else Receipt(key, body, b"1")
        write = Write(
            thread=thread,
            fence=(known.fence or 0) - (what == "old fence"),
            expected_seq=head + (what == "wrong seq"),
            events=events,
            runs=runs,
            title="renamed" if what == "rename" else None,
            receipt=receipt,
            notices=[notice(thread)] * told,
        )
        if one_by_one and what == "tokens" and receipt is None and known.fence is not None and not known.deleted:
            for event in events:  # many short rows, as tokens arrive
                one = Write(thread=thread, fence=known.fence, expected_seq=len(known.log), events=[event])
                known.log += [r.data for r in self.do(self.store.append(one, now=NOW)).records]
            return
        used = None if receipt is None else self.receipts.get((known.owner, receipt.key))
        expected: type[Exception] | None = None
        if known.deleted:
            expected = NotFound
        elif known.fence is None or what == "old fence":
            expected = LeaseLost
        elif used is not None and receipt is not None and used.body_hash != receipt.body_hash:
            expected = IdempotencyConflict
        elif used is not None or what == "wrong seq":
            expected = SequenceConflict
        if expected is not None:
            with pytest.raises(expected):
                self.do(self.store.append(write, now=NOW))
            return
        written = self.do(self.store.append(write, now=NOW))
        known.log += [record.data for record in written.records]
        self.inboxes[known.owner] += [record.data for record in written.notices]
        if receipt is not None:
            self.receipts[known.owner, receipt.key] = receipt
        if what == "run":
            known.runs += known.run is None
            known.run = run if known.run is None else None

    @rule(thread=threads)
    def delete(self, thread: str) -> None:
        known = self.known[thread]
        if known.deleted or known.fence is None:
            with pytest.raises(NotFound if known.deleted else LeaseLost):
                self.do(self.store.delete_thread(thread, fence=known.fence or 0, now=NOW))
            return
        written = self.do(self.store.delete_thread(thread, fence=known.fence, now=NOW, notices=[notice(thread)]))
        self.inboxes[known.owner] += [record.data for record in written.notices]
        known.deleted, known.log, known.fence, known.run = True, [], None, None

    @rule(thread=threads, part=st.floats(0, 1), max_bytes=st.integers(1, 20_000), max_events=st.integers(1, 30))
    def read(self, thread: str, part: float, max_bytes: int, max_events: int) -> None:
        log = self.known[thread].log
        after = int(len(log) * part)
        found = self.do(self.store.read(thread, after, max_bytes=max_bytes, max_events=max_events))
        assert [record.data for record in found] == log[after : after + len(found)]
        assert len(found) <= max_events and bool(found) == (after < len(log))
        size = sum(len(record.data) for record in found)
        assert size <= max_bytes or len(found) == 1
        if after + len(found) < len(log) and len(found) < max_events:
            assert size + len(log[after + len(found)]) > max_bytes

    @rule()
    def restart(self) -> None:
        self.do(self.store.close())
        self.store = self.do(SqliteStore.open(self.path))
        for known in self.known.values():
            known.fence = known.holder = None

    @rule()
    def everything_is_as_known(self) -> None:
        for owner, log in self.inboxes.items():
            inbox = self.do(self.store.inbox(owner, now=NOW))
            assert inbox.head == len(log) and self.whole(inbox.id) == log
        for id, known in self.known.items():
            assert self.whole(id) == known.log
            thread = self.do(self.store.get_thread(id))
            assert (thread is None) == known.deleted
            if thread is not None:
                assert thread.head == len(known.log)
                assert len(self.do(self.store.runs(thread=id))) == known.runs
        for (owner, key), receipt in self.receipts.items():
            assert self.do(self.store.receipt(owner, key)) == receipt
        for owner in (ME, OTHER):
            expected = {id for id, known in self.known.items() if known.owner == owner and not known.deleted}
            found = {thread.id for thread in self.do(self.store.list_threads(owner, limit=100)).threads}
            assert found == expected or len(expected) > 100

    @invariant()
    def orphans_are_the_running_ones_without_a_lease(self) -> None:
        if not hasattr(self, "store"):
            return
        found = {orphan.thread.id for orphan in self.do(self.store.orphans(now=NOW + TTL_MS * 4))}
        assert found == {id for id, known in self.known.items() if known.run is not None}

    def whole(self, thread: str) -> list[bytes]:
        log: list[bytes] = []
        while records := self.do(self.store.read(thread, len(log))):
            log += [record.data for record in records]
        return log


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(
    max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
