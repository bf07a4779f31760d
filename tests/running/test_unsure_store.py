"""What holds when the store fails in the middle of something, and nobody knows whether it was done."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from core import DEADLINE_S, ME, Gated, Told, core, ended, log, said, send, types
from runcast import events as e
from runcast.agents.base import Agent
from runcast.errors import StoreError
from runcast.runs import Run
from runcast.service import Service
from runcast.stores.base import Write, Written
from runcast.testing import MemoryStore

pytestmark = pytest.mark.anyio

QUICK: dict[str, float] = {"renew_s": 0.02, "lease_ttl_s": 0.5, "cancel_deadline_s": 1}


class UnsureStore(MemoryStore):
    """Fails when `refuses` says so, before it has done anything, or when `forgets` says so, after it has done it."""

    def __init__(self) -> None:
        super().__init__()
        self.refuses: Callable[[str, Any], bool] = lambda name, what: False
        self.forgets: Callable[[str, Any], bool] = lambda name, what: False

    def _maybe(self, chance: Callable[[str, Any], bool], name: str, what: Any) -> None:
        if chance(name, what):
            raise StoreError("The connection to the store broke.")

    def append_now(self, writes: Sequence[Write], *, now: int) -> list[Written | None]:
        return [None for _ in writes]

    async def append(self, write: Write, *, now: int) -> Written:
        self._maybe(self.refuses, "append", write)
        written = await super().append(write, now=now)
        self._maybe(self.forgets, "append", write)
        return written

    async def acquire(self, thread: str, owner: str, *, now: int, ttl_ms: int, new: bool = False) -> int:
        self._maybe(self.refuses, "acquire", thread)
        fence = await super().acquire(thread, owner, now=now, ttl_ms=ttl_ms, new=new)
        self._maybe(self.forgets, "acquire", thread)
        return fence

    async def renew(self, owner: str, *, now: int, ttl_ms: int) -> set[str]:
        self._maybe(self.refuses, "renew", owner)
        return await super().renew(owner, now=now, ttl_ms=ttl_ms)

    async def delete_thread(self, thread: str, **kwargs: Any) -> Written:
        self._maybe(self.refuses, "delete_thread", thread)
        return await super().delete_thread(thread, **kwargs)


def once(condition: Callable[[str, Any], bool]) -> Callable[[str, Any], bool]:
    done: list[bool] = []

    def first(name: str, what: Any) -> bool:
        if not done and condition(name, what):
            done.append(True)
            return True
        return False

    return first


def holds(kind: type[e.Event]) -> Callable[[str, Any], bool]:
    return lambda name, what: name == "append" and any(isinstance(event, kind) for event in what.events)


@asynccontextmanager
async def unsure(*agents: Agent, **limits: Any) -> AsyncGenerator[tuple[Service, UnsureStore]]:
    store = UnsureStore()
    async with core(*agents, store=store, **{**QUICK, **limits}) as service:
        yield service, store


async def until(service: Service, thread: str, condition: Callable[[list[e.Event]], bool]) -> list[e.Event]:
    with anyio.fail_after(DEADLINE_S):
        while not condition(events := await log(service, thread)):
            await anyio.sleep(0.01)
    return events


@pytest.mark.parametrize("kind", [e.RunStarted, e.TextMessageContent, e.RunFinished])
async def test_a_write_that_landed_although_it_failed_counts(kind: type[e.Event]) -> None:
    """I1, I16, I21: the log is asked; nothing is written twice, and the run goes on."""
    async with unsure() as (service, store):
        store.forgets = once(holds(kind))
        sent = await service.send(ME, send("one two three"))
        assert await ended(service, sent) == "done"
        events = await log(service, sent.thread)
        assert said(events) == "one two three "
        assert types(events).count("RUN_STARTED") == types(events).count("RUN_FINISHED") == 1
        again = await service.send(ME, send("four", sent.thread))
        assert await ended(service, again) == "done"


@pytest.mark.parametrize("kind", [e.RunStarted, e.TextMessageContent, e.RunFinished])
async def test_a_run_ends_even_if_the_log_cannot_be_asked(kind: type[e.Event]) -> None:
    """I16, I21, I23: a write landed, and what would have told so failed too: the thread is taken up again from its log."""
    async with unsure() as (service, store):
        failed: list[bool] = []

        def forgets(name: str, what: Any) -> bool:
            if not failed and holds(kind)(name, what):
                failed.append(True)
                return True
            return False

        store.forgets = forgets
        store.refuses = once(lambda name, what: name == "acquire" and bool(failed))
        thread = await service.create_thread(ME)
        try:
            await service.send(ME, send("one two three", thread.id))
        except StoreError:
            assert kind is e.RunStarted
        events = await until(service, thread.id, lambda events: any(isinstance(one, e.TERMINAL) for one in events))
        assert sum(isinstance(one, e.TERMINAL) for one in events) == 1
        command = send("four", thread.id)
        with anyio.fail_after(DEADLINE_S):
            while True:
                try:
                    again = await service.send(ME, command)
                    break
                except StoreError as error:
                    if not error.retryable:
                        raise
                    await anyio.sleep(0.01)
        assert await ended(service, again) == "done"


async def test_a_lease_that_was_given_and_not_told_is_used() -> None:
    """I18, I21: a queued run whose process died must not wait behind a lease that nobody knows to be his."""
    store = UnsureStore()
    agent = Gated()
    with pytest.raises(ZeroDivisionError):
        async with core(agent, store=store, **QUICK) as service:
            sent = await service.send(ME, send("1"))
            await agent.reached.wait()
            queued = await service.send(ME, send("2", sent.thread))
            # Its process dies: nothing more is written, and the store forgets its leases.
            store.refuses = lambda name, what: True
            raise ZeroDivisionError
    for stored in store._logs.values():
        stored.lease = None
    store.refuses = lambda name, what: False
    store.forgets = once(lambda name, what: name == "acquire")
    async with core(Told(_nothing, "gated"), store=store, **QUICK) as service:
        assert await ended(service, sent) == "interrupted"
        assert await ended(service, queued) == "done"


async def _nothing(input: Any, context: Any) -> Any:
    return
    yield


async def test_what_is_queued_starts_although_the_store_refused_to_start_it() -> None:
    """I18."""
    agent = Gated()
    async with unsure(agent) as (service, store):
        first = await service.send(ME, send("1"))
        await agent.reached.wait()
        second = await service.send(ME, send("2", first.thread))
        store.refuses = once(holds(e.RunStarted))
        agent.gate.set()
        assert await ended(service, first) == "done"
        assert await ended(service, second) == "done"


async def test_a_conversation_goes_on_when_its_delete_failed() -> None:
    """I18: its queue too."""
    agent = Gated()
    async with unsure(agent) as (service, store):
        first = await service.send(ME, send("1"))
        await agent.reached.wait()
        second = await service.send(ME, send("2", first.thread))
        store.refuses = once(lambda name, what: name == "delete_thread")
        agent.gate.set()
        with pytest.raises(StoreError):
            await service.delete_thread(ME, first.thread)
        assert await ended(service, second) == "done"


async def test_a_delete_that_was_begun_is_finished_although_its_client_is_gone() -> None:
    """Or the conversation would take no message any more and not be gone either."""
    agent = Gated()
    async with unsure(agent) as (service, store):
        sent = await service.send(ME, send("1"))
        await agent.reached.wait()
        with anyio.CancelScope() as client:
            client.cancel()
            await service.delete_thread(ME, sent.thread)
        assert await store.get_thread(sent.thread) is None


async def test_leases_are_renewed_while_something_else_takes_long() -> None:
    """I22: an adoption that hangs in the store must not cost this node its other threads."""
    agent = Gated()

    class Slow(UnsureStore):
        async def orphans(self, *, now: int) -> list[Any]:
            if self.forgets("orphans", None):
                await anyio.sleep_forever()
            return await super().orphans(now=now)

    store = Slow()
    async with core(agent, store=store, **QUICK) as service:
        sent = await service.send(ME, send("1"))
        await agent.reached.wait()
        store.forgets = lambda name, what: name == "orphans"
        lease = store._logs[sent.thread].lease
        assert lease is not None
        until = lease.until
        with anyio.fail_after(DEADLINE_S):
            while lease.until <= until + 500:
                await anyio.sleep(0.01)
        agent.gate.set()
        assert await ended(service, sent) == "done"


async def test_a_node_that_did_not_hear_of_a_run_ends_it_by_the_log() -> None:
    """I16, I23: this node's readers saw how a run of another one began; its takeover must close what came after that."""
    store = UnsureStore()
    thread = await store.create_thread(ME, "thread", now=0)
    fence = await store.acquire(thread.id, "another node", now=0, ttl_ms=1 << 60)

    async def written(*events: e.Event, **rows: Any) -> None:
        head = len(store._logs[thread.id].records)
        stamped = [e.of_run(event, "run") for event in events]
        await store.append(Write(thread=thread.id, fence=fence, expected_seq=head, events=stamped, **rows), now=0)

    run = Run(id="run", thread=thread.id, agent="told", status="running", created_at=0, first_seq=1)
    await written(e.RunStarted(thread_id=thread.id), runs=[run])
    async with core(store=store, **QUICK) as service:
        assert (await service.view(ME, thread.id)).seq == 1  # feed and fold of this node stand here
        await written(e.TextMessageStart(message_id="m"), e.TextMessageContent(message_id="m", delta="half a"))
        lease = store._logs[thread.id].lease
        assert lease is not None
        lease.until = 0
        events = await until(service, thread.id, lambda events: isinstance(events[-1], e.TERMINAL))
        assert types(events)[-2:] == ["TEXT_MESSAGE_END", "RUN_ERROR"]


async def test_a_run_whose_conversation_another_node_deleted_just_ends(caplog: pytest.LogCaptureFixture) -> None:
    """There is nothing to write its end to, and nobody to call."""
    store, agent = UnsureStore(), Gated()

    def deleted_meanwhile(name: str, what: Any) -> bool:
        if name == "append" and isinstance(what.events[-1], e.RunFinished):
            store._forget(store._log(what.thread))
        return False

    async with core(agent, store=store) as service:
        store.refuses = deleted_meanwhile
        await service.send(ME, send("go"))
        agent.gate.set()
        with anyio.fail_after(DEADLINE_S):
            while service.runner.active:
                await anyio.sleep(0.01)
        assert service.runner.healthy
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []
