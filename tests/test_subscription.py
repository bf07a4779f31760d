"""History and live are one read: joins, lost wake-ups, slow readers, resync."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import anyio
import anyio.lowlevel
import pytest
from msgspec import UNSET

from core import DEADLINE_S, ME, Gated, Reader, Told, core, ended, log, said, send
from runcast import events as e
from runcast.agents.base import RunContext
from runcast.commands import Subscribe
from runcast.events import Event, Record
from runcast.hub import Hub
from runcast.running.limits import Limits
from runcast.runs import RunInput
from runcast.service import open_service
from runcast.stores.base import Write
from runcast.stores.sqlite import SqliteStore
from runcast.testing import MemoryStore
from runcast.updates import CaughtUp, Events, Resync, ThreadSnapshot

pytestmark = pytest.mark.anyio


async def counting(input: RunInput, context: RunContext) -> AsyncIterator[Event]:
    for number in range(int(input.text)):
        yield e.TextMessageContent(message_id="m", delta=f"{number} ")
        if number % 50 == 0:
            await anyio.lowlevel.checkpoint()


async def test_every_reader_gets_every_event_once_and_in_order_wherever_it_joins() -> None:
    readers = [Reader() for _ in range(8)]
    async with core(Told(counting)) as service:
        sent = await service.send(ME, send("1000"))
        async with anyio.create_task_group() as tasks:
            for number, reader in enumerate(readers):
                tasks.start_soon(reader.follow, service, sent.thread)
                if number % 2:
                    await anyio.lowlevel.checkpoint()  # let the run go on between two of them
            await ended(service, sent)
            for reader in readers:
                await reader.until(
                    lambda reader=reader: bool(reader.events) and isinstance(reader.events[-1], e.RunFinished)
                )  # type: ignore[misc]
            tasks.cancel_scope.cancel()
        whole = said(await log(service, sent.thread))
    assert all(reader.text == whole for reader in readers)  # I7, I12; the order is asserted by the reader


async def test_without_a_cursor_a_snapshot_then_the_tail() -> None:
    agent = Gated()
    async with core(agent) as service:
        sent = await service.send(ME, send("go"))
        await agent.reached.wait()
        reader = Reader()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: reader.follow(service, sent.thread, after=None))
            await reader.until(lambda: reader.caught_up is not None)
            assert b"before " in reader.snapshots[0].transcript
            agent.gate.set()
            await reader.until(lambda: bool(reader.events) and isinstance(reader.events[-1], e.RunFinished))
            tasks.cancel_scope.cancel()
    assert reader.text == "after"


async def test_a_cursor_of_another_log_is_told_so_and_gets_a_snapshot() -> None:
    async with core() as service:
        sent = await service.send(ME, send("go"))
        await ended(service, sent)
        head = len(await log(service, sent.thread))
        for command, reason in [
            (Subscribe(id="1", thread=sent.thread, after=1, epoch="another"), "epoch"),
            (Subscribe(id="2", thread=sent.thread, after=head + 1), "ahead"),
        ]:
            subscription = await service.subscribe(ME, command)
            updates = [await subscription.next(DEADLINE_S) for _ in range(3)]
            subscription.close()
            assert updates[0] == Resync(reason)  # type: ignore[arg-type]
            assert isinstance(updates[1], ThreadSnapshot) and updates[1].seq == head
            assert updates[2] == CaughtUp(head)


async def test_caught_up_means_asleep_not_reading(tmp_path: Path) -> None:
    store = await Counting.open(tmp_path / "log.db")
    agent = Gated()
    async with open_service(store=store, agents=[agent], poll_s=3600) as service:
        sent = await service.send(ME, send("go"))
        await agent.reached.wait()
        readers = [Reader() for _ in range(20)]
        async with anyio.create_task_group() as tasks:
            for reader in readers:
                tasks.start_soon(reader.follow, service, sent.thread)
            for reader in readers:
                await reader.until(lambda reader=reader: reader.caught_up is not None)  # type: ignore[misc]
            before = store.reads
            agent.gate.set()
            for reader in readers:
                await reader.until(lambda reader=reader: isinstance(reader.events[-1], e.RunFinished))  # type: ignore[misc]
            assert store.reads == before
            tasks.cancel_scope.cancel()
    await store.close()


class Counting(SqliteStore):
    reads = 0

    async def read(self, *args: Any, **kwargs: Any) -> list[Record]:
        self.reads += 1
        return await super().read(*args, **kwargs)


async def test_with_every_wake_up_lost_events_are_late_and_never_lost() -> None:
    store = await SqliteStore.open(":memory:")
    async with open_service(store=store, agents=[Told(counting)], poll_s=0.02) as service:
        hub = service.runner._hub
        hub.push = lambda thread, records: None  # type: ignore[method-assign]  # I9: nobody is ever told
        sent = await service.send(ME, send("500"))
        reader = Reader()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reader.follow, service, sent.thread)
            await reader.until(lambda: bool(reader.events) and isinstance(reader.events[-1], e.RunFinished))
            tasks.cancel_scope.cancel()
        assert reader.text == said(await log(service, sent.thread))
    await store.close()


async def test_who_follows_a_conversation_that_another_node_deletes_is_told() -> None:
    store = MemoryStore()
    limits = Limits(lease_ttl_s=0.2, renew_s=0.02, idle_s=0)
    async with open_service(store=store, agents=[Told(counting)], poll_s=0.01, limits=limits) as here:
        thread = await here.create_thread(ME)
        reader = Reader()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reader.follow, here, thread.id)
            await reader.until(lambda: reader.caught_up is not None)
            async with open_service(store=store, agents=[Told(counting)], limits=limits) as elsewhere:
                await elsewhere.delete_thread(ME, thread.id)
            await reader.until(lambda: reader.resyncs == ["deleted"])


async def test_a_reader_that_does_not_read_holds_nobody_up() -> None:
    async with core(Told(counting)) as service:
        sent = await service.send(ME, send("20000"))
        stuck = await service.subscribe(ME, Subscribe(id="s", thread=sent.thread, after=0))
        assert await ended(service, sent) == "done"  # I8
        text, frames = "", 0
        while True:
            update = await stuck.next(DEADLINE_S)
            if isinstance(update, CaughtUp):
                break
            assert isinstance(update, Events)
            frames += len(update.records)
            text += said([record.event for record in update.records])
        stuck.close()
        assert text == said(await log(service, sent.thread))  # I11
        assert frames < 1000  # it lagged, so deltas were joined


async def test_a_reader_who_wants_it_gets_the_log_record_by_record_however_far_it_lags() -> None:
    async with core(Told(counting)) as service:
        sent = await service.send(ME, send("200"))
        await ended(service, sent)
        for subscription in (
            await service.subscribe(ME, Subscribe(id="s", thread=sent.thread, after=0), joins=False),
            await service.subscribe_run(ME, sent.run, joins=False),
        ):
            records: list[Record] = []
            while len(records) < 205 and (update := await subscription.next(DEADLINE_S)) is not None:
                records += update.records if isinstance(update, Events) else []
                if records and isinstance(records[-1].event, e.RunFinished):
                    break
            subscription.close()
            whole = await log(service, sent.thread)
            assert [record.event for record in records] == [event for event in whole if event.run_id == sent.run]


async def test_a_deleted_thread_ends_its_subscriptions() -> None:
    async with core() as service:
        sent = await service.send(ME, send("go"))
        await ended(service, sent)
        reader = Reader()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reader.follow, service, sent.thread)
            await reader.until(lambda: reader.caught_up is not None)
            await service.delete_thread(ME, sent.thread)
            await reader.until(lambda: reader.resyncs == ["deleted"])


@pytest.mark.parametrize("seed", range(30))
async def test_what_is_handed_over_at_once_and_what_is_read_make_one_order(seed: int) -> None:
    """I7: a sink that takes, refuses and fails as it likes, wake-ups that are lost or doubled, and a reader that dawdles."""
    chance = random.Random(seed)
    store = await SqliteStore.open(":memory:")
    thread = await store.create_thread(ME, "t", now=1)
    fence = await store.acquire("t", "node", now=1, ttl_ms=10_000)
    hub = Hub(store)
    subscription = hub.subscribe(thread, after=0)
    got: list[int] = []
    handed = 0

    def sink(events: Events) -> bool:
        nonlocal handed
        match chance.choice(["take", "take", "refuse", "fail"]):
            case "take":
                give(events)
                handed += 1
                return True
            case "refuse":
                return False
            case _:
                raise OSError

    def give(events: Events) -> None:
        for record in events.records:
            first = record.seq if record.event.from_ is UNSET else record.event.from_
            assert first == (got[-1] if got else 0) + 1
            got.append(record.seq)

    async def write() -> None:
        head = 0
        while head < 200:
            size = chance.choice([1, 1, 1, 2, 5])
            deltas = [e.TextMessageContent(run_id="r", message_id="m", delta="x") for _ in range(size)]
            write = Write(thread="t", fence=fence, expected_seq=head, events=deltas)
            records = (await store.append(write, now=1)).records
            head += size
            for _ in range(chance.choice([0, 1, 1, 1, 1, 2])):
                hub.push("t", records)
            if chance.random() < 0.6:
                await anyio.lowlevel.checkpoint()
        hub.push("t", (await store.read("t", head - 1)))

    subscription.deliver_to(sink)
    with anyio.fail_after(DEADLINE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write)
            while not got or got[-1] < 200:
                update = await subscription.next(0.01)
                if isinstance(update, Events):
                    give(update)
                if chance.random() < 0.3:
                    await anyio.lowlevel.checkpoint()
    subscription.close()
    hub.push("t", [])
    await store.close()
    assert handed or seed, "the first seed shows that something is handed over at all"


async def test_a_runs_reader_is_handed_its_own_events_and_reads_the_end_itself() -> None:
    agent = Gated("a", "b")
    async with core(agent) as service:
        sent = await service.send(ME, send("go"))
        subscription = await service.subscribe_run(ME, sent.run)
        handed: list[Event] = []
        read: list[Event] = []

        def sink(events: Events) -> bool:
            handed.extend(record.event for record in events.records)
            return True

        subscription.deliver_to(sink)
        async with anyio.create_task_group() as tasks:

            async def follow() -> None:
                async for update in subscription:
                    if isinstance(update, Events):
                        read.extend(record.event for record in update.records)

            tasks.start_soon(follow)
            with anyio.fail_after(DEADLINE_S):
                await agent.reached.wait()
                while not (handed or read):
                    await anyio.lowlevel.checkpoint()
            waiting = await service.send(ME, send("another", sent.thread))  # of another run: RUN_QUEUED
            agent.gate.set()
            assert await ended(service, waiting) == "done"
        assert {event.run_id for event in (*handed, *read)} == {sent.run}
        assert isinstance(read[-1], e.RunFinished)
        assert not any(isinstance(event, e.RunFinished) for event in handed)
        assert any(isinstance(event, e.TextMessageContent) for event in handed)
        whole = [event for event in await log(service, sent.thread) if event.run_id == sent.run]
        assert sorted(cast("int", event.seq) for event in (*handed, *read)) == [event.seq for event in whole]
