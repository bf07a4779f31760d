"""What is too old or too much goes, a little at a time, and never what somebody uses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from core import DEADLINE_S, ME, OTHER, Gated, Told, core, echo, ended, send
from runcast import events as e
from runcast import upkeep
from runcast.agents.base import RunContext
from runcast.commands import Subscribe
from runcast.errors import NotFound, StoreError
from runcast.events import Event
from runcast.ids import SystemClock
from runcast.runs import Principal, RunInput
from runcast.service import Service, open_service
from runcast.stores.sqlite import SqliteStore
from runcast.updates import Events, Resync
from runcast.upkeep import DAY_MS, Keep, Upkeep

pytestmark = pytest.mark.anyio


class Later(SystemClock):
    """So many days from now."""

    def __init__(self, days: float) -> None:
        self.days = days

    def now_ms(self) -> int:
        return super().now_ms() + int(self.days * DAY_MS)


def at(service: Service, day: float, **keep: int) -> Upkeep:
    return Upkeep(service._store, service._hub, service.runner, clock=Later(day), keep=Keep(**keep))


async def talk(service: Service, count: int, principal: Principal = ME, text: str = "hello") -> list[str]:
    threads: list[str] = []
    for _ in range(count):
        sent = await service.send(principal, send(text))
        assert await ended(service, sent, principal) == "done"
        threads.append(sent.thread)
        await anyio.sleep(0.002)  # `updated_at` is in milliseconds, and the oldest go first
    return threads


async def kept(service: Service, principal: Principal = ME) -> set[str]:
    return {thread.id for thread in (await service.list_threads(principal, limit=100)).threads}


async def test_nothing_goes_unless_it_is_asked_for() -> None:
    async with core() as service:
        threads = await talk(service, 2)
        assert not await at(service, 10_000).round()
        assert await kept(service) == set(threads)


async def test_what_is_old_goes_for_everybody_and_what_is_younger_stays() -> None:
    async with core() as service:
        mine, theirs = await talk(service, 3), await talk(service, 1, OTHER)
        await at(service, 29.9, days=30).round()
        assert await kept(service) == set(mine) and await kept(service, OTHER) == set(theirs)
        assert not await at(service, 30.1, days=30).round()
        assert await kept(service) == set() and await kept(service, OTHER) == set()
        with pytest.raises(NotFound):
            await service.get_thread(ME, mine[0])


async def test_what_is_pinned_in_use_or_looked_at_stays() -> None:
    gated = Gated()

    async def asks(input: RunInput, context: RunContext) -> AsyncIterator[Event]:
        interrupt = e.Interrupt(id=f"{input.run}.1", reason="input_required", message="Which?")
        yield e.RunFinished(thread_id=input.thread, outcome=e.Outcome(type="interrupt", interrupts=[interrupt]))

    async with core(Told(echo, "echo"), gated, Told(asks, "asks")) as service:
        pinned, watched, gone = await talk(service, 3)
        await service.update_thread(ME, pinned, pinned=True)
        running = await service.send(ME, send("go", agent=gated.name))
        waiting = await service.send(ME, send("go", agent="asks"))
        assert await ended(service, waiting) == "waiting"
        subscription = await service.subscribe(ME, Subscribe(id="s", thread=watched, after=0))
        await gated.reached.wait()
        await at(service, 365, days=1).round()
        assert await kept(service) == {pinned, watched, running.thread, waiting.thread}
        subscription.close()
        gated.gate.set()
        assert await ended(service, running) == "done"
        await at(service, 365, days=1).round()
        assert await kept(service) == {pinned, waiting.thread} and gone not in await kept(service)


async def test_a_thread_that_comes_to_life_between_two_looks_stays() -> None:
    async with core() as service:
        (thread,) = await talk(service, 1)
        row = await service.get_thread(ME, thread)
        assert not await service.runner.expire(row, before=row.updated_at)
        await talk(service, 1)
        sent = await service.send(ME, send("again", thread))
        assert not await service.runner.expire(row, before=row.updated_at + 1)
        await ended(service, sent)
        assert thread in await kept(service)


async def test_open_lists_learn_of_it() -> None:
    async with core() as service:
        (thread,) = await talk(service, 1)
        inbox = await service.read_inbox(ME)
        await at(service, 2, days=1).round()
        told = (await service.read_inbox(ME, after=inbox.next)).records
        assert [(r.event.thread_id, r.event.deleted) for r in told if isinstance(r.event, e.ThreadUpdated)] == [
            (thread, True)
        ]


async def test_when_it_is_too_much_the_longest_unchanged_go_first(tmp_path: Path) -> None:
    async with core(path=tmp_path / "a.db") as service:
        threads = await talk(service, 8, text="word " * 6000)
        store = service._store
        full = await store.size()
        limit = full - 120_000
        assert not await at(service, 0, bytes=limit).round()
        assert await kept(service) == set(threads), "what was changed a moment ago is not taken away"
        await at(service, 1, bytes=limit).round()
        left = await kept(service)
        assert 0 < len(left) < 8 and left == set(threads[-len(left) :])
        assert await store.size() <= limit
        await at(service, 1, bytes=1).round()
        assert await kept(service) == set()
        await at(service, 1, bytes=1).round()  # nothing is left to delete, and it is still too much: no loop


async def test_a_round_is_bounded_and_says_that_there_is_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "THREADS_A_ROUND", 3)
    async with core() as service:
        await talk(service, 7)
        rounds = [await at(service, 2, days=1).round() for _ in range(3)]
        assert rounds == [True, True, False] and await kept(service) == set()


async def test_an_inbox_that_was_cut_answers_an_old_cursor_with_resync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "INBOX_EVENTS", 40)
    async with core() as service:
        (thread,) = await talk(service, 1)
        live = await service.subscribe(ME, Subscribe(id="live", inbox=True))
        lagging = await service.subscribe(ME, Subscribe(id="lagging", inbox=True, after=1))
        seen = 0
        for number in range(600):
            await service.update_thread(ME, thread, title=f"Number {number}")
            while seen < number + 3:  # what follows the two of the run
                update = await live.next(DEADLINE_S)
                assert update is not None
                seen = update.records[-1].seq if isinstance(update, Events) else getattr(update, "seq", seen)
        inbox = await service._store.inbox(ME, now=0)
        with anyio.fail_after(DEADLINE_S):
            while inbox.first_seq == 1:
                await at(service, 0).round()
                inbox = await service._store.inbox(ME, now=0)
        assert seen == inbox.head > inbox.first_seq > 3
        # one that stood at the head goes on, whoever is behind the cut starts over
        await service.update_thread(ME, thread, title="The last")
        update = await live.next(DEADLINE_S)
        assert isinstance(update, Events) and [r.seq for r in update.records] == [inbox.head + 1]
        live.close()
        service._hub._places[inbox.id].feed._records.clear()  # as after a restart: it must be read from the store
        service._hub._places[inbox.id].feed._start = 0
        old = await service.subscribe(ME, Subscribe(id="old", inbox=True, after=1, epoch=inbox.epoch))
        for subscription in (lagging, old):
            updates = [await subscription.next(DEADLINE_S) for _ in range(2)]
            assert updates[0] == Resync("trimmed")
            assert getattr(updates[1], "seq", None) == inbox.head + 1, updates
            subscription.close()
        page = await service.read_inbox(ME, limit=5)
        assert [r.seq for r in page.records] == list(range(inbox.first_seq, inbox.first_seq + 5))
        assert page.first_seq == inbox.first_seq


async def test_a_store_that_works_again_is_noticed_although_nobody_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "PROBE_S", 0.01)
    store = await SqliteStore.open(tmp_path / "a.db")
    try:
        async with open_service(store=store, agents=[Told(echo)]) as service:
            assert service.ready
            assert store._ledger is not None
            database = store._ledger.connection
            await talk(service, 1)
            pages = database.execute("PRAGMA page_count").fetchone()[0]
            database.execute(f"PRAGMA max_page_count = {pages}")
            database.execute("PRAGMA query_only = ON")  # so that not even the probe works
            with pytest.raises(StoreError):
                await service.create_thread(ME, title="x")
            assert not service.ready, "no write works: a thread could not be made"
            database.execute("PRAGMA query_only = OFF")
            with anyio.fail_after(DEADLINE_S):
                while not service.ready:
                    await anyio.sleep(0.01)
    finally:
        await store.close()
