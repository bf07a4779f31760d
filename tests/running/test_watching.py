"""Runs that nobody watches any more (`on_disconnect`), with a clock that the test moves."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import httpx
import pytest

from core import DEADLINE_S, ME, Gated, Reader, Told, core, ended, log, resolve, send, types
from runcast import events as e
from runcast.agents.base import RunContext
from runcast.commands import Retry, Subscribe
from runcast.hub import Hub
from runcast.running.watching import NOBODY, Watching
from runcast.runs import OnDisconnect, RunInput, Thread
from runcast.stores.sqlite import SqliteStore
from serving import serving

pytestmark = pytest.mark.anyio


class Sleeper:
    """A grace that is over when the test says so."""

    def __init__(self) -> None:
        self.begun = 0
        self.over = anyio.Event()
        self._more = anyio.Event()

    async def __call__(self, seconds: float) -> None:
        self.begun += 1
        self._more.set()
        await self.over.wait()

    async def until(self, count: int) -> None:
        with anyio.fail_after(DEADLINE_S):
            while self.begun < count:
                self._more = anyio.Event()
                await self._more.wait()


class Watched:
    """A hub over an empty log, and a watching that notes what it would stop."""

    def __init__(self, hub: Hub, thread: Thread) -> None:
        self.hub, self.thread = hub, thread
        self.sleeper = Sleeper()
        self.runs = ["r1"]
        self.stopped: list[tuple[str, list[str]]] = []
        self.watching = Watching(hub, grace_s=10, runs_of=lambda thread: self.runs, stop=self._stop, sleep=self.sleeper)

    async def _stop(self, thread: str, runs: object) -> None:
        self.stopped.append((thread, sorted(runs)))  # type: ignore[call-overload]

    def subscribe(self, **options: bool):
        return self.hub.subscribe(self.thread, after=0, **options)


@asynccontextmanager
async def watched() -> AsyncGenerator[Watched]:
    store = await SqliteStore.open(":memory:")
    try:
        thread = await store.create_thread(ME, "t1", now=1)
        world = Watched(Hub(store), thread)
        async with anyio.create_task_group() as tasks:
            world.watching.start(tasks)
            yield world
            tasks.cancel_scope.cancel()
    finally:
        await store.close()


async def settle() -> None:
    for _ in range(20):
        await anyio.lowlevel.checkpoint()


async def test_the_last_watcher_counts_and_only_after_the_grace() -> None:
    async with watched() as world:
        one, two = world.subscribe(), world.subscribe()
        one.close()
        await settle()
        assert world.sleeper.begun == 0
        two.close()
        await world.sleeper.until(1)
        assert world.stopped == []
        world.runs = ["r1", "r2"]  # r2 came later: it was never watched
        world.sleeper.over.set()
        await settle()
        assert world.stopped == [("t1", ["r1"])]


async def test_whoever_comes_back_in_the_grace_changes_nothing() -> None:
    async with watched() as world:
        world.subscribe().close()
        await world.sleeper.until(1)
        back = world.subscribe()
        world.sleeper.over.set()
        await settle()
        assert world.stopped == []
        back.close()
        await settle()
        assert world.stopped == [("t1", ["r1"])], "and when they go again, the grace begins anew"


async def test_what_only_waits_for_an_end_is_no_watcher() -> None:
    async with watched() as world:
        world.subscribe(watches=False).close()
        await settle()
        assert world.sleeper.begun == 0


async def test_a_sender_who_hangs_up_counts_if_nobody_else_reads() -> None:
    async with watched() as world:
        reader = world.subscribe()
        world.watching.sender_gone("t1", "r1")
        await settle()
        assert world.sleeper.begun == 0
        reader.close()
        await world.sleeper.until(1)
        world.watching.sender_gone("t1", "other")
        world.sleeper.over.set()
        await settle()
        assert world.stopped == [("t1", ["r1"])]


async def test_nothing_to_stop_begins_no_grace() -> None:
    async with watched() as world:
        world.runs = []
        world.subscribe().close()
        await settle()
        assert world.sleeper.begun == 0


# --- with real runs ---------------------------------------------------------------------------------------------------


async def test_runs_are_stopped_durably_and_queued_ones_taken_back(tmp_path: Path) -> None:
    agent = Gated()
    async with core(agent, path=tmp_path / "log.db", on_disconnect="cancel", disconnect_grace_s=0) as service:
        sent = await service.send(ME, send("go"))
        queued = await service.send(ME, send("next", sent.thread))
        reader = Reader()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reader.follow, service, sent.thread)
            await reader.until(lambda: reader.text == "before ")
            tasks.cancel_scope.cancel()
        assert await ended(service, sent) == "cancelled"
        assert await ended(service, queued) == "cancelled"
        events = await log(service, sent.thread)
    asked = next(event for event in events if isinstance(event, e.RunCancelRequested))
    assert (asked.run_id, asked.reason) == (sent.run, NOBODY)
    assert "RUN_DEQUEUED" in types(events)
    assert agent.cancelled


async def test_a_run_that_nobody_ever_watched_goes_on() -> None:
    agent = Gated()
    async with core(agent, on_disconnect="cancel", disconnect_grace_s=0) as service:
        sent = await service.send(ME, send("go"))
        await agent.reached.wait()
        await service.read(ME, sent.thread)  # a page is no watcher
        await service.wait_run(ME, sent.run, timeout_s=0.01)
        inbox = await service.subscribe(ME, Subscribe(id="i", inbox=True, after=0))
        inbox.close()
        await settle()
        agent.gate.set()
        assert await ended(service, sent) == "done"


@pytest.mark.parametrize(("own", "setting"), [("continue", "cancel"), (None, "continue")])
async def test_it_goes_on_if_agent_or_server_says_so(own: str | None, setting: str) -> None:
    agent = Gated()
    agent.on_disconnect = own  # type: ignore[attr-defined]
    async with core(agent, on_disconnect=setting, disconnect_grace_s=0) as service:
        sent = await service.send(ME, send("go"))
        await agent.reached.wait()
        (await service.subscribe(ME, Subscribe(id="s", thread=sent.thread, after=0))).close()
        await settle()
        agent.gate.set()
        assert await ended(service, sent) == "done"


async def test_the_agents_word_wins_over_the_servers() -> None:
    agent = Gated()
    agent.on_disconnect = "cancel"  # type: ignore[attr-defined]
    async with core(agent, disconnect_grace_s=0) as service:
        sent = await service.send(ME, send("go"))
        await agent.reached.wait()
        (await service.subscribe(ME, Subscribe(id="s", thread=sent.thread, after=0))).close()
        assert await ended(service, sent) == "cancelled"


@pytest.mark.parametrize("word", ["continue", "cancel"])
async def test_what_is_said_of_a_run_wins_over_both(word: OnDisconnect) -> None:
    """Also of one that is queued, and of one that is asked again."""
    agent = Gated()
    agent.on_disconnect = "cancel" if word == "continue" else "continue"  # type: ignore[attr-defined]
    async with core(agent, on_disconnect=agent.on_disconnect, disconnect_grace_s=0) as service:  # type: ignore[attr-defined]
        first = await service.send(ME, send("go", on_disconnect=word))
        queued = await service.send(ME, send("next", first.thread, on_disconnect=word))
        again = await service.retry(ME, Retry(id="again", run=queued.run, on_disconnect=word))
        assert await ended(service, queued) == "cancelled", "the retry took its place"
        await agent.reached.wait()
        (await service.subscribe(ME, Subscribe(id="s", thread=first.thread, after=0))).close()
        if word == "continue":
            await settle()
            agent.gate.set()
        for sent in (first, again):
            assert await ended(service, sent) == ("done" if word == "continue" else "cancelled")


@pytest.mark.parametrize("said", ["before", "with the answer"])
async def test_what_is_said_of_a_run_holds_for_the_one_that_goes_on(said: str) -> None:
    gate = anyio.Event()

    async def asks(input: RunInput, context: RunContext) -> AsyncIterator[e.Event]:
        if input.answers:
            await gate.wait()
            return
        asked = [e.Interrupt(id=f"{input.run}.1", reason="confirmation")]
        yield e.InterruptRequested(interrupt=asked[0])
        yield e.RunFinished(thread_id=input.thread, outcome=e.Outcome(type="interrupt", interrupts=asked))

    words: tuple[OnDisconnect, OnDisconnect | None] = ("cancel", None) if said == "before" else ("continue", "cancel")
    async with core(Told(asks), disconnect_grace_s=0) as service:
        sent = await service.send(ME, send("go", on_disconnect=words[0]))
        assert await ended(service, sent) == "waiting"
        answer = resolve(f"{sent.run}.1", {"approved": True}, on_disconnect=words[1])
        run = (await service.resolve(ME, answer)).run
        assert run is not None
        (await service.subscribe(ME, Subscribe(id="s", thread=sent.thread, after=0))).close()
        assert (await service.wait_run(ME, run, timeout_s=DEADLINE_S)).status == "cancelled"


@pytest.mark.parametrize("way", ["websocket", "sse", "run-sse", "send-sse", "long-poll", "send-wait"])
async def test_every_transport_tells_that_its_reader_left(way: str) -> None:
    agent = Gated()
    async with serving(agent, on_disconnect="cancel", disconnect_grace_s=0) as running, running.http() as http:
        body = {"message": {"id": "m1", "content": "go"}}
        stream = {"accept": "text/event-stream"}
        if way == "send-sse":
            async with http.stream("POST", "/v1/messages", json=body, headers=stream) as response:
                run = response.headers["runcast-run"]
                await agent.reached.wait()
        elif way == "send-wait":
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as tasks:

                    async def hang_up() -> None:
                        await agent.reached.wait()
                        scope.cancel()

                    tasks.start_soon(hang_up)
                    await http.post("/v1/messages", params={"wait": 30}, json=body)
            run = agent.inputs[0].run
        else:
            sent = (await http.post("/v1/messages", json=body)).json()
            run, thread = sent["run"], sent["thread"]
            await agent.reached.wait()
            match way:
                case "websocket":
                    async with running.client() as client:
                        await client.ask("subscribe", thread=thread, after=0)
                case "sse" | "run-sse":
                    path = f"/v1/threads/{thread}/events" if way == "sse" else f"/v1/runs/{run}/events"
                    async with http.stream("GET", path, params={"after": 0}, headers=stream) as response:
                        await anext(response.aiter_lines())
                case _:
                    path = f"/v1/threads/{thread}/events"
                    page = (await http.get(path)).json()
                    while page["events"]:
                        page = (await http.get(path, params={"after": page["next"], "wait": 0.05})).json()
        with anyio.fail_after(DEADLINE_S):
            answer: httpx.Response | None = None
            while answer is None or answer.json()["status"] == "running":
                answer = await http.get(f"/v1/runs/{run}", params={"wait": 5})
        assert answer.json()["status"] == "cancelled"
        assert agent.cancelled
