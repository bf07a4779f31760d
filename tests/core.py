"""The core running over a real SQLite store, and agents a test can hold still: for the tests of runner, hub and service."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio

from runcast import events as e
from runcast.agents.base import Agent, RunContext
from runcast.commands import Cancel, Resolve, Send, Subscribe
from runcast.events import Event
from runcast.ids import SystemClock, Uuid7Source
from runcast.running import Limits
from runcast.runs import Message, Principal, RunInput
from runcast.service import Sent, Service, open_service
from runcast.stores.base import Store
from runcast.stores.sqlite import SqliteStore
from runcast.updates import CaughtUp, Events, Resync, ThreadSnapshot

DEADLINE_S = 10.0
ME = Principal(user="me")
OTHER = Principal(user="other")
new_id = Uuid7Source(SystemClock())


class Gated:
    """An agent that says `before`, waits for `gate`, then says `after`. `cancelled` tells that it was stopped at the gate."""

    name = "gated"
    description = ""

    def __init__(self, before: str = "before ", after: str = "after") -> None:
        self.before, self.after = before, after
        self.reached = anyio.Event()
        self.gate = anyio.Event()
        self.cancelled = False
        self.inputs: list[RunInput] = []

    async def run(self, input: RunInput, context: RunContext) -> AsyncIterator[Event]:
        self.inputs.append(input)
        message = context.new_id()
        yield e.TextMessageStart(message_id=message)
        yield e.TextMessageContent(message_id=message, delta=self.before)
        self.reached.set()
        try:
            await self.gate.wait()
        except BaseException:
            self.cancelled = True
            raise
        yield e.TextMessageContent(message_id=message, delta=self.after)
        yield e.TextMessageEnd(message_id=message)


class Told:
    """An agent that does what `script` does."""

    description = ""

    def __init__(self, script: Callable[[RunInput, RunContext], AsyncIterator[Event]], name: str = "told") -> None:
        self.name = name
        self._script = script

    def run(self, input: RunInput, context: RunContext) -> AsyncIterator[Event]:
        return self._script(input, context)


async def echo(input: RunInput, context: RunContext) -> AsyncIterator[Event]:
    message = context.new_id()
    yield e.TextMessageStart(message_id=message)
    for word in input.text.split():
        yield e.TextMessageContent(message_id=message, delta=word + " ")
    yield e.TextMessageEnd(message_id=message)


@asynccontextmanager
async def core(
    *agents: Agent, path: Path | str = ":memory:", store: Store | None = None, **limits: Any
) -> AsyncGenerator[Service]:
    """A service over `path` (or `store`), closed in the end."""
    own = store or await SqliteStore.open(path)
    try:
        async with open_service(store=own, agents=agents or [Told(echo)], limits=Limits(**limits)) as service:
            yield service
    finally:
        if store is None:
            await own.close()


async def die(
    path: Path,
    agent: Agent,
    reached: anyio.Event,
    sent: Sent | None = None,
    *more: str,
    meanwhile: Callable[[Service, Sent], Awaitable[None]] | None = None,
) -> Sent:
    """Serve `agent` until it reached something (with `sent`: taking that run up), then die as a killed process does: nothing
    more is written. `more` is sent behind; `meanwhile` is done once all was sent."""
    store = await SqliteStore.open(path)
    with anyio.CancelScope() as scope:
        async with core(agent, store=store) as service:
            if sent is None:
                sent = await service.send(ME, send("go"))
                for text in more:
                    await service.send(ME, send(text, sent.thread))
            with anyio.fail_after(DEADLINE_S):
                if meanwhile is not None:
                    await meanwhile(service, sent)
                await reached.wait()
                await service.runner._executions.get(sent.run).flush()  # type: ignore[union-attr]
            await store.close()
            scope.cancel()
    assert sent is not None
    return sent


def send(text: str, thread: str | None = None, **fields: Any) -> Send:
    key = fields.pop("key", None) or new_id()
    return Send(id=new_id(), thread=thread, message=Message(id=key, content=text), **fields)


def cancel(run: str) -> Cancel:
    return Cancel(id=new_id(), run=run)


def resolve(interrupt: str, payload: Any = None, **fields: Any) -> Resolve:
    return Resolve(id=fields.pop("id", None) or new_id(), interrupt=interrupt, payload=payload, **fields)


async def ended(service: Service, sent: Sent, principal: Principal = ME) -> str:
    """How the run ended, or that it waits."""
    with anyio.fail_after(DEADLINE_S):
        run = await service.wait_run(principal, sent.run, timeout_s=DEADLINE_S)
    return run.status


async def log(service: Service, thread: str, principal: Principal = ME) -> list[Event]:
    """The whole log as it stands."""
    found: list[Event] = []
    while True:
        page = await service.read(principal, thread, after=len(found))
        if not page.records:
            return found
        found.extend(record.event for record in page.records)


def said(events: list[Event]) -> str:
    return "".join(event.delta for event in events if isinstance(event, e.TextMessageContent))


def types(events: list[Event]) -> list[str]:
    return [event.type for event in events]


class Reader:
    """A client that follows one thread and keeps what it was given; `text` is what a person would have read."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.snapshots: list[ThreadSnapshot] = []
        self.resyncs: list[str] = []
        self.caught_up: int | None = None
        self.seq = 0
        self.changed = anyio.Event()

    async def follow(self, service: Service, thread: str, *, after: int | None = 0, principal: Principal = ME) -> None:
        subscription = await service.subscribe(principal, Subscribe(id="s", thread=thread, after=after))
        self.seq = subscription.start
        try:
            async for update in subscription:
                match update:
                    case Events(records):
                        for record in records:
                            first = record.event.from_ or record.seq
                            assert first == self.seq + 1, f"expected seq {self.seq + 1}, got {first}"
                            self.seq = record.seq
                            self.events.append(record.event)
                    case ThreadSnapshot():
                        self.snapshots.append(update)
                        self.seq = update.seq
                    case CaughtUp(seq):
                        self.caught_up = seq
                    case Resync(reason):
                        self.resyncs.append(reason)
                self.changed.set()
                self.changed = anyio.Event()
        finally:
            subscription.close()

    async def until(self, condition: Callable[[], bool]) -> None:
        with anyio.fail_after(DEADLINE_S):
            while not condition():
                await self.changed.wait()

    @property
    def text(self) -> str:
        return said(self.events)
