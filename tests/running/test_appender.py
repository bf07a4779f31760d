"""The short way into the log and the long one give the same log, however often they change."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from core import ME, Reader, Told, cancel, core, ended, log, said, send, types
from runcast import events as e
from runcast.agents.base import RunContext
from runcast.events import Event
from runcast.runs import RunInput
from runcast.stores.base import Write, Written
from runcast.stores.sqlite import SqliteStore

pytestmark = pytest.mark.anyio


class Moody(SqliteStore):
    """Appends at once only now and then; counts what went which way."""

    seed = 0
    share = 0.5

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._random = random.Random(self.seed)
        self.short = self.long = 0

    def append_now(self, writes: Sequence[Write], *, now: int) -> list[Written | None]:
        willing = [write for write in writes if self._random.random() < self.share]
        done = iter(super().append_now(willing, now=now))
        found = [next(done) if write in willing else None for write in writes]
        self.short += sum(one is not None for one in found)
        return found

    async def append(self, write: Write, *, now: int) -> Written:
        self.long += 1
        return await super().append(write, now=now)


async def counting(input: RunInput, context: RunContext) -> AsyncIterator[Event]:
    rhythm = random.Random(input.text)
    for number in range(400):
        yield e.TextMessageContent(message_id="m", delta=f"{number} ")
        if rhythm.random() < 0.3:
            await anyio.lowlevel.checkpoint()
        if rhythm.random() < 0.05:
            await anyio.sleep(0.001)


WHOLE = "".join(f"{number} " for number in range(400))


@pytest.mark.parametrize("share", [0.0, 0.5, 0.95, 1.0])
async def test_whatever_the_store_does_at_once_the_log_is_whole(share: float) -> None:
    store = await Moody.open(":memory:")
    store.share = share
    readers: list[Reader] = []
    async with core(Told(counting), store=store) as service:
        sents = [await service.send(ME, send(str(number))) for number in range(5)]
        async with anyio.create_task_group() as tasks:
            for sent in sents:
                readers.append(Reader())
                tasks.start_soon(readers[-1].follow, service, sent.thread)
            for sent in sents:
                assert await ended(service, sent) == "done"
            for reader in readers:
                await reader.until(
                    lambda reader=reader: bool(reader.events) and isinstance(reader.events[-1], e.RunFinished)  # type: ignore[misc]
                )
            tasks.cancel_scope.cancel()
        for sent, reader in zip(sents, readers, strict=True):
            events = await log(service, sent.thread)
            assert [event.seq for event in events] == list(range(1, len(events) + 1))  # I1
            assert said(events) == WHOLE == reader.text  # I7, I12
            assert types(events)[-1] == "RUN_FINISHED"
    assert (store.short > 0) == (share > 0) and store.long > 0
    await store.close()


async def test_a_run_that_is_stopped_while_it_changes_ways_ends_once() -> None:
    async def endless(input: RunInput, context: RunContext) -> AsyncIterator[Event]:
        number = 0
        while True:
            yield e.TextMessageContent(message_id="m", delta=f"{number} ")
            number += 1
            await anyio.lowlevel.checkpoint()

    store = await Moody.open(":memory:")
    async with core(Told(endless), store=store) as service:
        for _ in range(20):
            sent = await service.send(ME, send("go"))
            reader = Reader()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(reader.follow, service, sent.thread)
                await reader.until(lambda reader=reader: len(reader.text) > 20)  # type: ignore[misc]
                await service.cancel(ME, cancel(sent.run))
                assert await ended(service, sent) == "cancelled"
                tasks.cancel_scope.cancel()
            events = await log(service, sent.thread)
            terminal = [event for event in events if isinstance(event, e.TERMINAL)]
            assert len(terminal) == 1 and events[-1] is terminal[0]  # I16
            deltas = [event.delta for event in events if isinstance(event, e.TextMessageContent)]
            assert deltas == [f"{number} " for number in range(len(deltas))]
    await store.close()
