"""What every `Store` guarantees, as tests. Subclass it and say how yours is opened:

    class TestMyStore(StoreSuite):
        async def open_store(self, tmp_path: Path) -> Store:
            return await MyStore.open(...)

The suite closes what it opens. It needs pytest with anyio's plugin; an `anyio_backend` fixture is part of it.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from msgspec.structs import replace

from runcast import events as e
from runcast.errors import (
    IdempotencyConflict,
    InvalidRequest,
    LeaseLost,
    NotFound,
    SequenceConflict,
    TooManyFiles,
    Trimmed,
    UnknownFile,
)
from runcast.events import Event, Record, decode, encode
from runcast.files import StoredFile
from runcast.ids import SystemClock, Uuid7Source
from runcast.runs import AgentState, Principal, Run, RunStatus, Thread
from runcast.stores.base import Pruning, Receipt, Snapshot, Store, Write, Written

ME = Principal(user="me", tenant="t")
OTHER = Principal(user="other", tenant="t")
NAMESAKE = Principal(user="me", tenant="another")
NODE = "node-1"
TTL_MS = 15_000
NOW = 1_800_000_000_000

new_id = Uuid7Source(SystemClock())


class Line:
    """One thread under a lease, and how far it is: short words for the tests."""

    def __init__(self, store: Store, thread: Thread, fence: int) -> None:
        self.store, self.thread, self.fence, self.head = store, thread, fence, thread.head

    @property
    def id(self) -> str:
        return self.thread.id

    def write(self, *events: Event, **fields: Any) -> Write:
        values: dict[str, Any] = {"thread": self.id, "fence": self.fence, "expected_seq": self.head, "events": events}
        return Write(**{**values, **fields})

    async def append(self, *events: Event, now: int = NOW, **fields: Any) -> Written:
        written = await self.store.append(self.write(*events, **fields), now=now)
        self.head += len(events)
        return written

    def run(self, id: str, status: RunStatus = "running", **fields: Any) -> Run:
        values: dict[str, Any] = {"agent": "a", "created_at": NOW, "first_seq": self.head + 1}
        return Run(id=id, thread=self.id, status=status, **{**values, **fields})

    async def all(self, after: int = 0) -> list[Record]:
        found: list[Record] = []
        while records := await self.store.read(self.id, after):
            found.extend(records)
            after = records[-1].seq
        return found


async def line(store: Store, owner: Principal = ME, *, title: str = "", now: int = NOW, node: str = NODE) -> Line:
    thread = await store.create_thread(owner, new_id(), title=title, now=now)
    return Line(store, thread, await store.acquire(thread.id, node, now=now, ttl_ms=TTL_MS))


def delta(text: str) -> Event:
    return e.TextMessageContent(run_id="r", message_id="m", delta=text)


def started(thread: str, run: str, text: str) -> Event:
    given = {"messages": [{"id": f"{run}.m", "role": "user", "content": text}]}
    return e.RunStarted(run_id=run, thread_id=thread, input=given)


def notice(thread: str) -> Event:
    return e.ThreadUpdated(thread_id=thread)


async def titles(store: Store, query: str, owner: Principal = ME) -> list[str]:
    return [thread.title for thread in (await store.list_threads(owner, query=query)).threads]


async def keep_file(store: Store, data: bytes, owner: Principal = ME, *, now: int = NOW, **fields: Any) -> StoredFile:
    """A file with this content, kept and not bound."""
    staging = await store.files.stage()
    try:
        for start in range(0, len(data), 1000):
            await staging.write(data[start : start + 1000])
        file = StoredFile(
            id=new_id(),
            tenant=owner.tenant,
            user=owner.user,
            name="a.txt",
            mime_type="text/plain",
            size=staging.size,
            sha256=await staging.finish(),
            created_at=now,
        )
        await store.files.put(owner, staging, file, now=now, **fields)
        return file
    finally:
        await staging.discard()


async def bytes_of(store: Store, file: StoredFile) -> bytes:
    found = b""
    async with store.files.open(file) as content:
        while data := await content.read(len(found), 700):
            found += data
    return found


class StoreSuite:
    @abstractmethod
    async def open_store(self, tmp_path: Path) -> Store:
        """A new, empty store."""

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    @pytest.fixture
    async def store(self, anyio_backend: str, tmp_path: Path) -> AsyncIterator[Store]:
        async with self._opened(tmp_path) as store:
            yield store

    @asynccontextmanager
    async def _opened(self, tmp_path: Path) -> AsyncGenerator[Store]:
        store = await self.open_store(tmp_path)
        try:
            yield store
        finally:
            await store.close()

    # --- the log --------------------------------------------------------------------------------------------------

    @pytest.mark.anyio
    async def test_seqs_are_dense_and_what_was_acked_is_read_back_byte_for_byte(self, store: Store) -> None:
        """I1, I3."""
        one = await line(store)
        acked: list[Record] = []
        texts = ["plain", "tab\tnewline\n", "👩‍👩‍👧‍👦", "", "\u2028", "é" * 1000]
        for start in range(0, 60, 3):
            events = [delta(texts[(start + k) % len(texts)]) for k in range(1 + start % 4)]
            acked.extend((await one.append(*events)).records)
        acked.extend((await one.append(e.unknown({"type": "FROM_THE_FUTURE", "x": [1, None]}))).records)
        acked.extend((await one.append(e.StateSnapshot(snapshot=None))).records)
        found = await one.all()
        assert [record.seq for record in found] == list(range(1, len(acked) + 1))
        assert [record.data for record in found] == [record.data for record in acked]
        assert [record.event for record in found] == [decode(record.data) for record in acked]
        assert all(record.data == encode(record.event) for record in acked)
        assert {record.event.timestamp for record in found} == {NOW}
        for after in range(len(acked)):
            assert [record.data for record in await store.read(one.id, after)] == [r.data for r in acked[after:]]
        assert await store.read(one.id, len(acked)) == []
        assert await store.read(one.id, len(acked) + 5) == []

    @pytest.mark.anyio
    async def test_reading_the_same_before_and_after_a_run_ends(self, store: Store) -> None:
        """I13: how the log is kept may change when nothing runs; what is read may not."""
        one = await line(store)
        acked: list[Record] = []
        for run in ("r1", "r2"):
            acked += (await one.append(started(one.id, run, "hi"), runs=[one.run(run)])).records
            for k in range(300):
                acked += (await one.append(delta(f"{k} " * (k % 50)), delta("x"))).records
                if k % 100 == 0:
                    assert [r.data for r in await one.all()] == [r.data for r in acked]
            end = e.RunFinished(run_id=run, thread_id=one.id)
            done = one.run(run, "done", first_seq=1)
            acked += (await one.append(end, runs=[done])).records
            for after in (0, 1, 2, 299, 300, one.head - 1):
                assert [r.data for r in await one.all(after)] == [r.data for r in acked[after:]]
        other = await line(store)
        await other.append(delta("elsewhere"))
        assert [r.data for r in await one.all()] == [r.data for r in acked]

    @pytest.mark.anyio
    async def test_a_read_keeps_its_limits_and_gives_at_least_one(self, store: Store) -> None:
        one = await line(store)
        await one.append(*[delta("x" * 100) for _ in range(50)])
        for _ in range(50):
            await one.append(delta("x" * 100))
        size = len((await store.read(one.id, 98))[0].data)
        assert len(await store.read(one.id, 0, max_events=7)) == 7
        assert len(await store.read(one.id, 47, max_events=7)) == 7
        assert [r.seq for r in await store.read(one.id, 40, max_bytes=1)] == [41]
        assert len(await store.read(one.id, 60, max_bytes=size * 10)) == 10
        assert len(await store.read(one.id, 0, max_events=1000)) == 100

    @pytest.mark.anyio
    async def test_the_head_must_be_as_expected(self, store: Store) -> None:
        one = await line(store)
        await one.append(delta("a"))
        for wrong in (0, 2, 7):
            with pytest.raises(SequenceConflict):
                await store.append(one.write(delta("b"), expected_seq=wrong), now=NOW)
        assert len(await one.all()) == 1
        await one.append(delta("b"))

    @pytest.mark.anyio
    async def test_what_is_appended_at_once_is_as_good_and_all_else_is_left_alone(self, store: Store) -> None:
        one, two, three = [await line(store) for _ in range(3)]
        await two.append(delta("a"))
        good = one.write(delta("1"), delta("2"))
        writes = [
            good,
            two.write(delta("b"), expected_seq=7),
            three.write(delta("c"), fence=three.fence - 1),
            three.write(delta("c"), runs=[three.run("r")]),
        ]
        written = store.append_now(writes, now=NOW)
        assert written[1:] == [None, None, None]
        if written[0] is None:
            written[0] = await store.append(good, now=NOW)
        assert await one.all() == written[0].records and [record.seq for record in written[0].records] == [1, 2]
        assert len(await two.all()) == 1 and await three.all() == []
        assert await store.runs(thread=three.id) == []
        with pytest.raises(SequenceConflict):
            await store.append(good, now=NOW)
        again = store.append_now([one.write(delta("3"), expected_seq=2)], now=NOW)
        assert again == [None] or [record.seq for record in (await one.all())] == [1, 2, 3]

    @pytest.mark.anyio
    async def test_nothing_with_an_old_fence_is_ever_visible(self, store: Store) -> None:
        """I22."""
        one = await line(store)
        await one.append(delta("a"))
        later = await store.acquire(one.id, NODE, now=NOW, ttl_ms=TTL_MS)
        assert later > one.fence
        with pytest.raises(LeaseLost):
            await one.append(delta("b"), runs=[one.run("r")], title="b", notices=[notice(one.id)])
        for wrong in (0, later + 1):
            with pytest.raises(LeaseLost):
                await store.append(one.write(delta("b"), fence=wrong), now=NOW)
        with pytest.raises(LeaseLost):
            await store.delete_thread(one.id, fence=one.fence, now=NOW)
        assert len(await one.all()) == 1 and await store.runs(thread=one.id) == []
        thread = await store.get_thread(one.id)
        assert thread is not None and thread.title == ""
        one.fence = later
        await one.append(delta("b"))

    @pytest.mark.anyio
    async def test_what_does_not_exist_is_not_found(self, store: Store) -> None:
        with pytest.raises(NotFound):
            await store.append(Write(thread=new_id(), fence=1, expected_seq=0, events=[delta("a")]), now=NOW)
        with pytest.raises(NotFound):
            await store.acquire(new_id(), NODE, now=NOW, ttl_ms=TTL_MS)
        assert await store.get_thread(new_id()) is None
        assert await store.read(new_id(), 0) == []
        assert await store.snapshot(new_id()) is None

    # --- one transaction ------------------------------------------------------------------------------------------

    @pytest.mark.anyio
    async def test_heads_are_those_of_threads_that_are_there(self, store: Store) -> None:
        one, two, gone = [await line(store) for _ in range(3)]
        await one.append(delta("a"), delta("b"))
        await gone.append(delta("c"))
        await store.delete_thread(gone.id, fence=gone.fence, now=NOW)
        inbox = await store.inbox(ME, now=NOW)
        assert await store.heads([one.id, two.id, gone.id, "none", inbox.id]) == {
            one.id: 2,
            two.id: 0,
            inbox.id: inbox.head,
        }
        assert await store.heads([]) == {}

    @pytest.mark.anyio
    async def test_a_row_is_never_older_than_what_was_acknowledged(self, store: Store) -> None:
        """Whoever reads it again and again meanwhile, and keeps it."""
        one = await line(store, title="0")
        acknowledged = 0
        over = False

        async def look() -> None:
            while not over:
                known, head = acknowledged, one.head
                row = await store.get_thread(one.id)
                assert row is not None and int(row.title) >= known and row.head >= head
                await anyio.lowlevel.checkpoint()

        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(look)
            for number in range(1, 40):
                await one.append(delta("a"), title=str(number), pinned=number % 2 == 0)
                acknowledged = number
                row = await store.get_thread(one.id)
                assert row is not None and (row.title, row.pinned) == (str(number), number % 2 == 0)
                await one.append(delta("b"))
                row = await store.get_thread(one.id)
                assert row is not None and row.head == one.head
            over = True
        await store.delete_thread(one.id, fence=one.fence, now=NOW)
        assert await store.get_thread(one.id) is None

    @pytest.mark.anyio
    async def test_a_write_is_all_or_nothing(self, store: Store) -> None:
        """I5, I6: events, runs, title, agent state, receipt and notices stand or fall together."""
        one = await line(store)
        state = AgentState(run="r", adapter="test", version=2, data=b"\x00\xff")
        first = Receipt("k", "h1", b'{"n":1}')
        everything: dict[str, Any] = {
            "runs": [one.run("r")],
            "title": "Title",
            "pinned": True,
            "head_run": "r",
            "agent_state": state,
            "notices": [notice(one.id), notice(one.id)],
        }
        written = await one.append(started(one.id, "r", "hi"), now=NOW + 5, receipt=first, **everything)
        assert [r.seq for r in written.notices] == [1, 2] and written.inbox is not None
        inbox = await store.inbox(ME, now=NOW)
        assert (inbox.id, inbox.kind, inbox.head) == (written.inbox, "inbox", 2)
        assert [r.data for r in await store.read(inbox.id, 0)] == [r.data for r in written.notices]
        thread = await store.get_thread(one.id)
        assert thread is not None
        assert (thread.title, thread.pinned, thread.head_run, thread.status) == ("Title", True, "r", "running")
        assert (thread.head, thread.updated_at, thread.created_at) == (1, NOW + 5, NOW)
        assert await store.runs(thread=one.id) == [one.run("r", first_seq=1)]
        assert await store.agent_states(["x", "r"]) == [state]
        assert await store.receipt(ME, "k") == first

        everything |= {"title": "No", "runs": [one.run("r", "failed", first_seq=1), one.run("r2")]}
        for again, error in ((first, SequenceConflict), (Receipt("k", "h2", b""), IdempotencyConflict)):
            with pytest.raises(error):
                await store.append(one.write(delta("no"), receipt=again, **everything), now=NOW + 9)
        with pytest.raises(SequenceConflict):
            stale = one.write(delta("no"), receipt=Receipt("k2", "h", b""), expected_seq=0, **everything)
            await store.append(stale, now=NOW + 9)
        assert await store.get_thread(one.id) == thread
        assert [run.status for run in await store.runs(thread=one.id)] == ["running"]
        assert (await store.inbox(ME, now=NOW)).head == 2
        assert await store.receipt(ME, "k") == first and await store.receipt(ME, "k2") is None

    @pytest.mark.anyio
    async def test_a_receipt_is_its_owners_alone(self, store: Store) -> None:
        mine, theirs, elsewhere = await line(store), await line(store, OTHER), await line(store, NAMESAKE)
        await mine.append(delta("a"), receipt=Receipt("k", "h1", b"1"))
        assert await store.receipt(OTHER, "k") is None and await store.receipt(NAMESAKE, "k") is None
        await theirs.append(delta("a"), receipt=Receipt("k", "h2", b"2"))
        await elsewhere.append(delta("a"), receipt=Receipt("k", "h3", b"3"))
        receipts = [await store.receipt(owner, "k") for owner in (ME, OTHER, NAMESAKE)]
        assert [receipt.result for receipt in receipts if receipt is not None] == [b"1", b"2", b"3"]

    @pytest.mark.anyio
    async def test_a_command_delivered_many_times_at_once_has_one_effect(self, store: Store) -> None:
        """I5."""
        one = await line(store)
        done: list[Written] = []
        refused: list[Exception] = []

        async def deliver() -> None:
            try:
                done.append(await store.append(one.write(delta("a"), receipt=Receipt("k", "h", b"1")), now=NOW))
            except SequenceConflict as error:
                refused.append(error)

        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(deliver)
        assert (len(done), len(refused)) == (1, 9)
        assert len(await one.all()) == 1

    @pytest.mark.anyio
    async def test_many_threads_at_once_and_a_refused_write_among_them(self, store: Store) -> None:
        """I1, I4: one write of a group that fails takes no other with it; its notices and runs are not there either."""
        lines = [await line(store) for _ in range(30)]
        refused: list[Exception] = []

        async def talk(one: Line, bad: bool) -> None:
            for k in range(20):
                if bad and k % 4 == 1:
                    try:
                        ghost = one.run(f"ghost{one.id}{k}")
                        write = one.write(delta("no"), expected_seq=99, runs=[ghost], notices=[notice(one.id)])
                        await store.append(write, now=NOW)
                    except SequenceConflict as error:
                        refused.append(error)
                await one.append(delta(f"{k}"), notices=[notice(one.id)] if k % 5 == 0 else [])

        async with anyio.create_task_group() as tasks:
            for number, one in enumerate(lines):
                tasks.start_soon(talk, one, number % 3 == 0)
        assert len(refused) == 10 * 5
        for one in lines:
            records = await one.all()
            assert [r.seq for r in records] == list(range(1, 21))
            assert [getattr(r.event, "delta", None) for r in records] == [str(k) for k in range(20)]
        inbox = await store.inbox(ME, now=NOW)
        assert inbox.head == 30 * 4
        assert [r.seq for r in await store.read(inbox.id, 0)] == list(range(1, 121))
        assert await store.runs() == []

    # --- threads --------------------------------------------------------------------------------------------------

    @pytest.mark.anyio
    async def test_a_thread_is_made_once(self, store: Store) -> None:
        id = new_id()
        first = await store.create_thread(ME, id, title="One", agent="a", now=NOW)
        assert first == Thread(
            id=id, tenant="t", user="me", epoch=first.epoch, title="One", agent="a", created_at=NOW, updated_at=NOW
        )
        assert first.epoch and await store.get_thread(id) == first
        assert await store.create_thread(ME, id, title="Two", now=NOW + 1) == first
        for owner in (OTHER, NAMESAKE):
            with pytest.raises(NotFound):
                await store.create_thread(owner, id, now=NOW)
        assert (await store.create_thread(ME, new_id(), now=NOW)).epoch != first.epoch

    @pytest.mark.anyio
    async def test_creating_with_a_receipt_happens_once(self, store: Store) -> None:
        receipt = Receipt("k", "h", b"{}")
        await store.create_thread(ME, new_id(), now=NOW, receipt=receipt)
        for again, error in ((receipt, SequenceConflict), (Receipt("k", "x", b""), IdempotencyConflict)):
            with pytest.raises(error):
                await store.create_thread(ME, new_id(), now=NOW, receipt=again)
        assert len((await store.list_threads(ME)).threads) == 1

    @pytest.mark.anyio
    async def test_lists_are_sorted_paged_and_private(self, store: Store) -> None:
        lines = [await line(store, title=f"{k}", now=NOW + k // 2) for k in range(9)]
        await line(store, OTHER, title="theirs")
        await line(store, NAMESAKE, title="namesake")
        await store.inbox(ME, now=NOW)
        await lines[3].append(pinned=True, now=NOW + 3)
        await lines[0].append(title="0!", now=NOW + 100)
        await lines[1].append(delta("a token does not move a thread"), now=NOW + 200)
        everything = (await store.list_threads(ME)).threads
        expected = sorted(everything, key=lambda t: (t.pinned, t.updated_at, t.id), reverse=True)
        assert everything == expected and len(everything) == 9
        assert [t.title for t in everything[:2]] == ["3", "0!"]
        assert next(t for t in everything if t.title == "1").head == 1
        for limit in (1, 2, 4, 9, 50):
            found: list[Thread] = []
            cursor: str | None = None
            while True:
                page = await store.list_threads(ME, cursor=cursor, limit=limit)
                assert len(page.threads) <= limit
                found += page.threads
                cursor = page.cursor
                if cursor is None:
                    break
            assert found == everything
        for forged in ("", "x", "%%%", "bm9uc2Vuc2U", "WzEsMl0", "ü", "W2ZhbHNlLDkyMjMzNzIwMzY4NTQ3NzU4MDgsIngiXQ"):
            with pytest.raises(InvalidRequest):
                await store.list_threads(ME, cursor=forged)
        assert await store.list_threads(Principal(user="nobody")) == ([], None)

    @pytest.mark.anyio
    async def test_search_finds_titles_and_what_was_said_and_only_ones_own(self, store: Store) -> None:
        bread = await line(store, title="Baking Bread")
        await bread.append(started(bread.id, "r", "How long do I knead it?"), runs=[bread.run("r")])
        await bread.append(e.TextMessageEnd(run_id="r", message_id="m", text="About ten minutes, naïve Zürcher."))
        await bread.append(delta("neverindexed"))
        tea = await line(store, title="Tea")
        queued = {"messages": [{"role": "user", "content": [{"type": "text", "text": "Green, minutes?"}]}]}
        await tea.append(
            e.RunQueued(run_id="q", thread_id=tea.id, input=queued, agent="a"), runs=[tea.run("q", "queued")]
        )
        await tea.append(e.RunStarted(run_id="q", thread_id=tea.id, input=queued), runs=[tea.run("q", first_seq=1)])
        theirs = await line(store, OTHER, title="Bread of theirs")
        await theirs.append(title="Bread, secret")
        for query, found in {
            "bread": ["Baking Bread"],
            "BAK": ["Baking Bread"],
            "knead bread": ["Baking Bread"],
            "naive zurcher": ["Baking Bread"],
            "minut": ["Tea", "Baking Bread"],
            "green": ["Tea"],
            "green bread": [],
            "secret": [],
            "neverindexed": [],
            "aking": [],
        }.items():
            assert sorted(await titles(store, query)) == sorted(found), query
        assert await titles(store, "secret", OTHER) == ["Bread, secret"]
        assert await titles(store, "theirs", OTHER) == []
        await bread.append(title="Sourdough")
        assert await titles(store, "baking") == [] and await titles(store, "sourd") == ["Sourdough"]
        page = await store.list_threads(ME, query="minutes", limit=1)
        rest = await store.list_threads(ME, query="minutes", limit=1, cursor=page.cursor)
        assert {page.threads[0].id, rest.threads[0].id} == {bread.id, tea.id} and rest.cursor is None

    @pytest.mark.anyio
    @pytest.mark.parametrize(
        "query",
        ['"', "''", "a OR b", "NOT", "a AND", "(", ")", "*", "title:x", "^a", "a-b", "NEAR(a b)", "\0", "%", "_", "\\",
         "\ud800", "👍", "{x}", "-", "a\nb", "x" * 500, "a " * 250],
    )  # fmt: skip
    async def test_any_text_is_a_valid_query(self, store: Store, query: str) -> None:
        await line(store, title="Something")
        await store.list_threads(ME, query=query)

    @pytest.mark.anyio
    async def test_a_deleted_thread_is_gone_and_its_id_is_never_used_again(self, store: Store) -> None:
        one = await line(store, title="Findable")
        state = AgentState(run="r", adapter="t", version=1, data=b"x")
        await one.append(started(one.id, "r", "unique"), runs=[one.run("r")], agent_state=state)
        await one.append(
            e.RunFinished(run_id="r", thread_id=one.id),
            runs=[one.run("r", "done", first_seq=1)],
            receipt=Receipt("k", "h", b"1"),
        )
        await store.put_snapshot(one.id, Snapshot(2, 1, b"{}"))
        written = await store.delete_thread(one.id, fence=one.fence, now=NOW, notices=[notice(one.id)])
        assert written.records == [] and [r.seq for r in written.notices] == [1]
        assert await store.get_thread(one.id) is None
        assert await store.read(one.id, 0) == []
        assert await store.runs(thread=one.id) == [] and await store.runs(ids=["r"]) == []
        assert await store.agent_states(["r"]) == [] and await store.snapshot(one.id) is None
        assert await titles(store, "findable") == [] and await titles(store, "unique") == []
        assert (await store.list_threads(ME)).threads == []
        assert await store.receipt(ME, "k") is not None
        with pytest.raises(NotFound):
            await one.append(delta("a"))
        with pytest.raises(NotFound):
            await store.delete_thread(one.id, fence=one.fence, now=NOW)
        for owner in (ME, OTHER):
            with pytest.raises(NotFound):
                await store.create_thread(owner, one.id, now=NOW)
        await store.put_snapshot(one.id, Snapshot(3, 1, b"{}"))
        assert await store.snapshot(one.id) is None

    @pytest.mark.anyio
    async def test_an_alias_names_one_thread_per_owner(self, store: Store) -> None:
        assert await store.find_alias(ME, "session 1/ü") is None
        made = await store.resolve_alias(ME, "session 1/ü", new_thread=new_id(), agent="poet", now=NOW)
        assert made.kind == "chat" and made.agent == "poet" and await store.get_thread(made.id) == made
        assert await store.find_alias(ME, "session 1/ü") == made
        assert await store.find_alias(OTHER, "session 1/ü") is None and await store.find_alias(ME, made.id) is None
        assert await store.resolve_alias(ME, "session 1/ü", new_thread=new_id(), agent="other", now=NOW + 1) == made
        assert await store.resolve_alias(ME, "session 1/ü", new_thread=new_id(), now=NOW + 1) == made
        assert (await store.resolve_alias(ME, "session 2", new_thread=new_id(), now=NOW)).id != made.id
        for owner in (OTHER, NAMESAKE):
            theirs = await store.resolve_alias(owner, "session 1/ü", new_thread=new_id(), now=NOW)
            assert theirs.id != made.id and (theirs.tenant, theirs.user) == (owner.tenant, owner.user)
        fence = await store.acquire(made.id, NODE, now=NOW, ttl_ms=TTL_MS)
        await store.delete_thread(made.id, fence=fence, now=NOW)
        assert await store.find_alias(ME, "session 1/ü") is None
        fresh = await store.resolve_alias(ME, "session 1/ü", new_thread=new_id(), now=NOW)
        assert fresh.id != made.id
        names: set[str] = set()

        async def ask() -> None:
            names.add((await store.resolve_alias(ME, "race", new_thread=new_id(), now=NOW)).id)

        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(ask)
        assert len(names) == 1

    @pytest.mark.anyio
    async def test_an_owner_has_one_inbox(self, store: Store) -> None:
        inbox = await store.inbox(ME, now=NOW)
        assert inbox.kind == "inbox" and await store.get_thread(inbox.id) == inbox
        assert (await store.inbox(ME, now=NOW + 1)).id == inbox.id
        assert len({(await store.inbox(owner, now=NOW)).id for owner in (ME, OTHER, NAMESAKE)}) == 3
        one, two = await line(store), await line(store)
        for k in range(1, 150):
            written = await (one if k % 2 else two).append(delta("a"), notices=[notice(one.id)])
            assert written.inbox == inbox.id and [r.seq for r in written.notices] == [k]
        assert [r.seq for r in await store.read(inbox.id, 0)] == list(range(1, 150))
        assert (await one.append(delta("a"))).inbox is None

    # --- runs, states, snapshots ----------------------------------------------------------------------------------

    @pytest.mark.anyio
    async def test_runs_are_found_by_thread_status_and_id(self, store: Store) -> None:
        one, two = await line(store), await line(store)
        statuses: Sequence[RunStatus] = ("done", "waiting", "running", "queued")
        for number, status in enumerate(statuses):
            await one.append(delta("a"), runs=[one.run(f"r{number}", status, parent="p", message_id="m")])
        await two.append(delta("a"), runs=[two.run("s", "running")])

        async def ids(**filters: Any) -> list[str]:
            return [run.id for run in await store.runs(**filters)]

        assert await ids(thread=one.id) == ["r0", "r1", "r2", "r3"]
        assert sorted(await ids(status=["running"])) == ["r2", "s"]
        assert await ids(thread=one.id, status=["queued", "running"]) == ["r2", "r3"]
        assert await ids(ids=["r3", "r1", "none"]) == ["r1", "r3"]
        assert await ids(ids=["r3", "s"], thread=two.id) == ["s"]
        assert await ids(ids=["r3", "r2"], status=["queued"]) == ["r3"]
        assert len(await ids()) == 5
        assert await ids(thread=new_id()) == []
        thread = await store.get_thread(one.id)
        assert thread is not None and (thread.status, thread.head_run) == ("queued", "r3")
        ended = one.run("r2", "done", first_seq=3, ended_at=NOW, last_seq=4, code="x")
        await one.append(runs=[ended])
        assert await store.runs(ids=["r2"]) == [ended]
        thread = await store.get_thread(one.id)
        assert thread is not None and (thread.status, thread.head_run) == ("queued", "r3")

    @pytest.mark.anyio
    async def test_active_runs_are_found_by_whose_they_are(self, store: Store) -> None:
        one, two, foreign = await line(store), await line(store), await line(store, OTHER)
        statuses: Sequence[RunStatus] = ("done", "waiting", "running", "queued")
        for number, status in enumerate(statuses):
            await one.append(delta("a"), runs=[one.run(f"r{number}", status)])
        await two.append(delta("a"), runs=[two.run("s", "running")])
        await foreign.append(delta("a"), runs=[foreign.run("f", "running")])
        assert sorted(run.id for run in await store.active_runs(ME)) == ["r2", "r3", "s"]
        assert [run.id for run in await store.active_runs(OTHER)] == ["f"]
        assert await store.active_runs(Principal(user="nobody")) == []
        await one.append(runs=[one.run("r2", "done", first_seq=3, ended_at=NOW, last_seq=4)])
        assert sorted(run.id for run in await store.active_runs(ME)) == ["r3", "s"]

    @pytest.mark.anyio
    async def test_states_come_in_the_order_asked(self, store: Store) -> None:
        one = await line(store)
        for run in ("a", "b", "c"):
            state = AgentState(run=run, adapter="x", version=1, data=run.encode())
            await one.append(delta("x"), runs=[one.run(run, "done")], agent_state=state)
        assert [state.run for state in await store.agent_states(["c", "none", "a"])] == ["c", "a"]
        assert await store.agent_states([]) == []

    @pytest.mark.anyio
    async def test_the_newest_snapshot_stays(self, store: Store) -> None:
        one = await line(store)
        assert await store.snapshot(one.id) is None
        for seq, kept in ((5, 5), (3, 5), (9, 9), (9, 9)):
            await store.put_snapshot(one.id, Snapshot(seq, 1, f"{seq}".encode()))
            assert await store.snapshot(one.id) == Snapshot(kept, 1, f"{kept}".encode())

    # --- leases ---------------------------------------------------------------------------------------------------

    @pytest.mark.anyio
    async def test_a_thread_has_one_owner_at_a_time(self, store: Store) -> None:
        thread = (await store.create_thread(ME, new_id(), now=NOW)).id
        first = await store.acquire(thread, "a", now=NOW, ttl_ms=100)
        with pytest.raises(LeaseLost):
            await store.acquire(thread, "b", now=NOW + 99, ttl_ms=100)
        assert await store.renew("a", now=NOW + 50, ttl_ms=100) == {thread}
        with pytest.raises(LeaseLost):
            await store.acquire(thread, "b", now=NOW + 149, ttl_ms=100)
        second = await store.acquire(thread, "b", now=NOW + 151, ttl_ms=100)
        assert second > first
        assert await store.renew("a", now=NOW + 151, ttl_ms=100) == set()
        await store.release(thread, fence=first)  # no error, and b keeps it
        with pytest.raises(LeaseLost):
            await store.acquire(thread, "a", now=NOW + 152, ttl_ms=100)
        await store.append(Write(thread=thread, fence=second, expected_seq=0, events=[delta("b")]), now=NOW)
        await store.release(thread, fence=second)
        with pytest.raises(LeaseLost):
            await store.append(Write(thread=thread, fence=second, expected_seq=1, events=[delta("b")]), now=NOW)
        assert await store.acquire(thread, "a", now=NOW + 153, ttl_ms=100) > second

    @pytest.mark.anyio
    async def test_a_lease_that_ran_out_is_good_until_somebody_takes_it(self, store: Store) -> None:
        one = await line(store)
        await one.append(delta("a"), now=NOW + TTL_MS * 2)
        assert await store.renew(NODE, now=NOW + TTL_MS * 3, ttl_ms=TTL_MS) == {one.id}

    @pytest.mark.anyio
    async def test_orphans_are_threads_that_nobody_drives(self, store: Store) -> None:
        """I21."""
        statuses: Sequence[RunStatus] = ("running", "queued", "waiting", "done")
        lines: dict[RunStatus, Line] = {status: await line(store) for status in statuses}
        for status, one in lines.items():
            await one.append(delta("x"), runs=[one.run(status, status)])
        both = lines["running"]
        await both.append(delta("y"), runs=[both.run("next", "queued")])
        assert await store.orphans(now=NOW) == []
        found = {orphan.thread.id: orphan for orphan in await store.orphans(now=NOW + TTL_MS + 1)}
        assert set(found) == {both.id, lines["queued"].id}
        assert [run.id for run in found[both.id].runs] == ["running", "next"]
        assert found[both.id].thread == await store.get_thread(both.id)
        await store.release(both.id, fence=both.fence)
        assert [orphan.thread.id for orphan in await store.orphans(now=NOW)] == [both.id]
        await store.acquire(both.id, "b", now=NOW, ttl_ms=TTL_MS)
        assert await store.orphans(now=NOW) == []

    @pytest.mark.anyio
    async def test_waiting_runs_are_found_by_their_date(self, store: Store) -> None:
        first, second = await line(store), await line(store)
        await first.append(delta("x"), runs=[replace(first.run("late", "waiting"), expires_at=NOW + 2)])
        await second.append(delta("x"), runs=[replace(second.run("soon", "waiting"), expires_at=NOW + 1)])
        await second.append(delta("y"), runs=[second.run("dateless", "waiting")])
        await second.append(delta("z"), runs=[replace(second.run("done", "done"), expires_at=NOW)])
        assert await store.expired(now=NOW) == []
        assert [run.id for run in await store.expired(now=NOW + 1)] == ["soon"]
        found = await store.expired(now=NOW + 5)
        assert [(run.id, run.expires_at) for run in found] == [("soon", NOW + 1), ("late", NOW + 2)]
        await second.append(delta("x"), runs=[replace(found[0], status="done", expires_at=None)])
        assert [run.id for run in await store.expired(now=NOW + 5)] == ["late"]

    # --- the end --------------------------------------------------------------------------------------------------

    # --- upkeep ---------------------------------------------------------------------------------------------------

    @pytest.mark.anyio
    async def test_a_thread_is_begun_with_its_first_write_or_not_at_all(self, store: Store) -> None:
        """I6: no conversation without its message."""
        await (await line(store)).append(delta("x"), receipt=Receipt("used", "h", b"1"))
        thread = Thread(id=new_id(), tenant=ME.tenant, user=ME.user, epoch="", created_at=NOW, updated_at=NOW)
        with pytest.raises(NotFound):
            await store.acquire(thread.id, NODE, now=NOW, ttl_ms=TTL_MS)
        fence = await store.acquire(thread.id, NODE, now=NOW, ttl_ms=TTL_MS, new=True)
        one = Line(store, thread, fence)
        refused: list[tuple[type[Exception], dict[str, Any]]] = [
            (LeaseLost, {"fence": fence + 1}),
            (SequenceConflict, {"expected_seq": 1}),
            (SequenceConflict, {"receipt": Receipt("used", "h", b"1")}),
        ]
        before = await store.inbox(ME, now=NOW)
        for error, fields in refused:
            with pytest.raises(error):
                write = one.write(delta("no"), begin=thread, title="No", notices=[notice(one.id)], **fields)
                await store.append(write, now=NOW)
            assert await store.get_thread(thread.id) is None and await store.read(thread.id, 0) == []
        written = await one.append(delta("a"), begin=thread, title="Yes", notices=[notice(one.id)], now=NOW + 3)
        assert [record.seq for record in written.records] == [1]
        row = await store.get_thread(thread.id)
        assert row is not None
        assert (row.title, row.head, row.user, row.tenant) == ("Yes", 1, ME.user, ME.tenant) and row.epoch
        assert (await store.inbox(ME, now=NOW)).head == before.head + 1
        await one.append(delta("b"))
        assert [record.seq for record in await one.all()] == [1, 2]
        with pytest.raises(SequenceConflict):
            await store.append(one.write(delta("c"), begin=thread, expected_seq=0), now=NOW)

    @pytest.mark.anyio
    async def test_idle_threads_are_those_that_may_go_the_oldest_first(self, store: Store) -> None:
        lines = [await line(store, owner, now=NOW + k) for k, owner in enumerate([ME, OTHER, ME, ME, ME, ME, ME, ME])]
        for number, status in enumerate(("queued", "running", "waiting", "done"), 2):
            await lines[number].append(delta("x"), runs=[lines[number].run(f"r{number}", status)], now=NOW + number)
        await lines[6].append(pinned=True, now=NOW + 6)
        await store.inbox(ME, now=NOW)
        found = await store.idle_threads(before=NOW + 100)
        assert [thread.id for thread in found] == [lines[k].id for k in (0, 1, 5, 7)]
        assert found[2] == await store.get_thread(lines[5].id) and found[1].user == OTHER.user
        assert [t.id for t in await store.idle_threads(before=NOW + 1)] == [lines[0].id]
        assert [t.id for t in await store.idle_threads(before=NOW + 100, limit=2)] == [lines[0].id, lines[1].id]
        some = await store.idle_threads(before=NOW + 100, but=[lines[0].id, lines[5].id])
        assert [t.id for t in some] == [lines[1].id, lines[7].id]

    @pytest.mark.anyio
    async def test_hidden_threads_are_in_no_list_and_are_found_by_their_age(self, store: Store) -> None:
        rows: list[Thread] = []
        for k, owner in enumerate([ME, OTHER, ME]):
            id = f"hidden{k}"
            fence = await store.acquire(id, "n", now=NOW, ttl_ms=60_000, new=True)
            begin = Thread(
                id=id, tenant=owner.tenant, user=owner.user, kind="hidden", epoch="", created_at=NOW, updated_at=NOW
            )
            write = Write(thread=id, begin=begin, fence=fence, expected_seq=0, events=[delta("x")])
            await store.append(write, now=NOW + k)
            row = await store.get_thread(id)
            assert row is not None and row.kind == "hidden"
            rows.append(row)
        await line(store, ME, now=NOW)
        assert len((await store.list_threads(ME)).threads) == 1
        assert all(thread.kind == "chat" for thread in await store.idle_threads(before=NOW + 100))
        assert [t.id for t in await store.hidden_threads(before=NOW + 100)] == [row.id for row in rows]
        assert await store.hidden_threads(before=NOW + 2, limit=1) == rows[:1]
        assert [t.id for t in await store.hidden_threads(before=NOW + 100, owner=OTHER)] == ["hidden1"]
        assert not await store.delete_owner(OTHER)

    @pytest.mark.anyio
    async def test_old_receipts_and_tombstones_are_pruned(self, store: Store) -> None:
        one = await line(store)
        for k in range(1200):
            await one.append(receipt=Receipt(f"k{k}", "h", b"1"), now=NOW + k)
        gone = [await line(store) for _ in range(2)]
        for k, other in enumerate(gone):
            await store.delete_thread(other.id, fence=other.fence, now=NOW + k)
        rounds = 0
        while await store.prune(Pruning(receipts_before=NOW + 1190, tombstones_before=NOW + 1, inbox_events=10)):
            rounds += 1
        assert rounds >= 2, "a prune is bounded"
        known = [k for k in (0, 600, 1189, 1190, 1199) if await store.receipt(ME, f"k{k}") is not None]
        assert known == [1190, 1199]
        with pytest.raises(NotFound):
            await store.create_thread(ME, gone[1].id, now=NOW)
        assert (await store.create_thread(ME, gone[0].id, now=NOW)).head == 0

    @pytest.mark.anyio
    async def test_an_inbox_is_cut_at_its_old_end_and_says_so(self, store: Store) -> None:
        one = await line(store)
        told: list[Record] = []
        for k in range(200):
            told += (await one.append(delta(str(k)), notices=[notice(one.id)] * 10, now=NOW + k)).notices
        inbox = await store.inbox(ME, now=NOW)
        assert (inbox.first_seq, inbox.head) == (1, 2000)
        with anyio.fail_after(20):
            while inbox.first_seq == 1:
                await store.prune(Pruning(receipts_before=0, tombstones_before=0, inbox_events=50))
                inbox = await store.inbox(ME, now=NOW)
        assert inbox.first_seq <= 1951 and inbox.head == 2000
        for after in (0, inbox.first_seq - 2):
            with pytest.raises(Trimmed):
                await store.read(inbox.id, after)
        kept: list[Record] = []
        while records := await store.read(inbox.id, kept[-1].seq if kept else inbox.first_seq - 1):
            kept += records
        assert [record.data for record in kept] == [record.data for record in told[inbox.first_seq - 1 :]]
        await one.append(delta("x"), notices=[notice(one.id)])
        assert [record.seq for record in await store.read(inbox.id, 2000)] == [2001]
        assert len(await one.all()) == 201, "a conversation is never cut"

    @pytest.mark.anyio
    async def test_an_owner_is_forgotten_when_nothing_is_left(self, store: Store) -> None:
        mine, theirs = await line(store), await line(store, OTHER)
        for one in (mine, theirs):
            await one.append(delta("x"), receipt=Receipt("k", "h", b"1"), notices=[notice(one.id)])
        inbox, other = await store.inbox(ME, now=NOW), await store.inbox(OTHER, now=NOW)
        file, same = await keep_file(store, b"content"), await keep_file(store, b"content", OTHER)
        assert await store.files.of_owner(ME) == [file]
        assert not await store.delete_owner(ME)
        assert await store.receipt(ME, "k") is not None and len(await mine.all()) == 1
        await store.delete_thread(mine.id, fence=mine.fence, now=NOW, notices=[notice(mine.id)])
        assert await store.delete_owner(ME)
        assert await store.receipt(ME, "k") is None and await store.get_thread(inbox.id) is None
        assert await store.read(inbox.id, 0) == []
        assert await store.files.get([file.id]) == [] and await store.files.of_owner(ME) == []
        assert await store.files.of_owner(OTHER) == [same]
        async with store.files.open(same) as content:
            assert await content.read(0, 100) == b"content", "another's file may be the same"
        assert await store.delete_owner(ME) and await store.delete_owner(NAMESAKE), "there is nothing to do"
        assert await store.receipt(OTHER, "k") is not None and len(await theirs.all()) == 1
        assert (await store.inbox(OTHER, now=NOW)) == other
        again = await store.inbox(ME, now=NOW)
        assert (again.head, again.id != inbox.id) == (0, True)
        anew = await line(store)
        await anew.append(delta("y"), receipt=Receipt("k", "h2", b"2"), notices=[notice(anew.id)])
        assert [record.seq for record in await store.read(again.id, 0)] == [1]

    @pytest.mark.anyio
    async def test_size_counts_what_is_in_use(self, store: Store) -> None:
        before = await store.size()
        one = await line(store)
        for _ in range(40):
            await one.append(delta("x" * 50_000))
        full = await store.size()
        assert full >= before + 1_500_000
        await store.delete_thread(one.id, fence=one.fence, now=NOW)
        assert await store.size() < full - 1_500_000

    @pytest.mark.anyio
    async def test_a_store_that_works_is_healthy(self, store: Store) -> None:
        await store.probe()
        one = await line(store)
        with pytest.raises(SequenceConflict):
            await store.append(one.write(delta("no"), expected_seq=7), now=NOW)
        assert store.healthy, "a write that is refused says nothing of the store"

    @pytest.mark.anyio
    async def test_closing_finishes_what_was_accepted_and_can_be_repeated(self, tmp_path: Path) -> None:
        store = await self.open_store(tmp_path)
        lines = [await line(store) for _ in range(20)]
        done: list[int] = []

        async def append(one: Line) -> None:
            done.append((await one.append(delta("x"))).records[0].seq)

        async with anyio.create_task_group() as tasks:
            for one in lines:
                tasks.start_soon(append, one)
            await anyio.lowlevel.checkpoint()
            await store.close()
        assert done == [1] * 20
        await store.close()

    # --- files ----------------------------------------------------------------------------------------------------

    @pytest.mark.anyio
    async def test_a_file_is_read_back_from_anywhere_and_its_row_with_it(self, store: Store) -> None:
        data = bytes(range(256)) * 20
        file = await keep_file(store, data)
        other = await keep_file(store, b"", OTHER)
        assert file.sha256 == hashlib.sha256(data).hexdigest() and file.size == len(data)
        assert await store.files.get([other.id, "none", file.id]) == [other, file]
        assert await bytes_of(store, file) == data
        async with store.files.open(file) as content:
            assert await content.read(5000, 1000) == data[5000:]
            assert await content.read(len(data) + 1, 10) == b""

    @pytest.mark.anyio
    async def test_a_file_is_bound_with_the_write_that_names_it_or_not_at_all(self, store: Store) -> None:
        one = await line(store)
        file, foreign = await keep_file(store, b"mine"), await keep_file(store, b"not mine", OTHER)
        for wrong in (foreign.id, "none"):
            with pytest.raises(UnknownFile):
                await one.append(delta("no"), files=[file.id, wrong])
        assert await one.all() == []
        with pytest.raises(SequenceConflict):
            await one.append(delta("no"), files=[file.id], expected_seq=7)
        assert await store.files.collect(unbound_before=NOW) == 0
        assert await store.files.collect(unbound_before=NOW + 1) == 2, "neither was bound"
        assert await store.files.get([file.id, foreign.id]) == []
        with pytest.raises(NotFound):
            await bytes_of(store, file)
        kept = await keep_file(store, b"kept")
        one.head = 0
        await one.append(delta("yes"), files=[kept.id])
        await one.append(delta("again"), files=[kept.id])
        assert await store.files.collect(unbound_before=NOW + 1, orphans=True) == 0
        assert await bytes_of(store, kept) == b"kept"

    @pytest.mark.anyio
    async def test_a_file_goes_with_the_last_of_its_threads_and_its_content_with_the_last_row(
        self, store: Store
    ) -> None:
        first, second = await line(store), await line(store)
        shared, own, copy = (
            await keep_file(store, b"x"),
            await keep_file(store, b"y"),
            await keep_file(store, b"y", OTHER),
        )
        await first.append(delta("a"), files=[shared.id, own.id])
        await second.append(delta("b"), files=[shared.id])
        await store.delete_thread(first.id, fence=first.fence, now=NOW)
        assert await store.files.get([shared.id, own.id, copy.id]) == [shared, copy]
        assert await bytes_of(store, shared) == b"x" and await bytes_of(store, copy) == b"y"
        await store.delete_thread(second.id, fence=second.fence, now=NOW)
        assert await store.files.delete_all(OTHER) == 1
        for gone in (shared, own, copy):
            assert await store.files.get([gone.id]) == []
            with pytest.raises(NotFound):
                await bytes_of(store, gone)

    @pytest.mark.anyio
    async def test_who_reads_a_file_reads_it_to_the_end_although_it_is_deleted(self, store: Store) -> None:
        file = await keep_file(store, b"ab" * 1000)
        async with store.files.open(file) as content:
            assert await content.read(0, 2) == b"ab"
            await store.files.delete_all(ME)
            assert await content.read(1998, 10) == b"ab"

    @pytest.mark.anyio
    async def test_the_same_content_coming_and_going_at_once_is_never_lost(self, store: Store) -> None:
        one = await line(store)
        kept: list[StoredFile] = []

        async def come() -> None:
            for _ in range(10):
                file = await keep_file(store, b"again and again")
                kept.append(file)
                await anyio.lowlevel.checkpoint()

        async def go() -> None:
            for _ in range(10):
                await store.files.collect(unbound_before=NOW + 1, orphans=True)

        async with anyio.create_task_group() as tasks:
            for work in (come, go, come, go):
                tasks.start_soon(work)
        last = await keep_file(store, b"again and again")
        await one.append(delta("a"), files=[last.id])
        await store.files.collect(unbound_before=NOW + 1, orphans=True)
        assert await bytes_of(store, last) == b"again and again"
        assert await store.files.get([file.id for file in kept]) == []

    @pytest.mark.anyio
    async def test_an_owners_files_go_with_the_owner(self, store: Store) -> None:
        one = await line(store)
        receipt = Receipt("k", "h", b"{}")
        sent, unsent = await keep_file(store, b"sent"), await keep_file(store, b"unsent", receipt=receipt)
        other = await keep_file(store, b"sent", OTHER)
        await one.append(delta("a"), files=[sent.id])
        await store.delete_thread(one.id, fence=one.fence, now=NOW)
        assert await store.delete_owner(ME)
        assert await store.files.get([sent.id, unsent.id, other.id]) == [other]
        assert await bytes_of(store, other) == b"sent"
        with pytest.raises(NotFound):
            await bytes_of(store, unsent)

    @pytest.mark.anyio
    async def test_what_is_uploaded_and_not_sent_is_bounded(self, store: Store) -> None:
        one = await line(store)
        first = await keep_file(store, b"x" * 60, pending_bytes=100)
        with pytest.raises(TooManyFiles):
            await keep_file(store, b"x" * 41, pending_bytes=100)
        await keep_file(store, b"x" * 41, OTHER, pending_bytes=100)
        await one.append(delta("a"), files=[first.id])
        await keep_file(store, b"x" * 41, pending_bytes=100)

    @pytest.mark.anyio
    async def test_a_files_receipt_is_kept_with_it(self, store: Store) -> None:
        """I5."""
        receipt = Receipt("k", "h", b"{}")
        await keep_file(store, b"a", receipt=receipt)
        assert await store.receipt(ME, "k") == receipt
        with pytest.raises(SequenceConflict):
            await keep_file(store, b"a", receipt=receipt)
        with pytest.raises(IdempotencyConflict):
            await keep_file(store, b"b", receipt=receipt._replace(body_hash="other"))
        assert await store.files.collect(unbound_before=NOW + 1) == 1
