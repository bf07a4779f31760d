"""Steering: what is said to a run that goes on is read by its agent, or runs by itself; never lost, never twice."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from core import DEADLINE_S, ME, Gated, Told, cancel, core, ended, log, said, send, types
from runcast import events as e
from runcast.agents.base import RunContext
from runcast.agents.function import agent
from runcast.errors import InvalidRequest, NotFound, QueueFull
from runcast.events import Event
from runcast.parts import ActivityPart, TextPart
from runcast.runs import RunInput
from runcast.service import Service
from runcast.stores.sqlite import SqliteStore
from runcast.transcript import load
from tree import said_to, steer, tree

pytestmark = pytest.mark.anyio


class Listening:
    """Says that it works, then reads what it is told until it is told to end. `deaf`: it reads nothing."""

    name = "listening"
    description = ""
    steerable = True

    def __init__(self, *, deaf: bool = False) -> None:
        self.deaf = deaf
        self.reached = anyio.Event()
        self.gate = anyio.Event()
        self.inputs: list[str] = []

    async def run(self, input: RunInput, context: RunContext) -> AsyncIterator[Event]:
        self.inputs.append(input.text)
        yield e.TextMessageContent(message_id=context.new_id(), delta=f"[{input.text}] ")
        self.reached.set()
        if self.deaf or input.text != "work":
            await self.gate.wait()
            return
        async for message in context.steering():
            yield e.TextMessageContent(message_id=context.new_id(), delta=f"({message.text}) ")
            if message.text == "end":
                return


def steered(events: list[Event]) -> list[tuple[str, bool]]:
    return [(event.message["content"], event.consumed) for event in events if isinstance(event, e.RunSteered)]


async def test_a_message_is_handed_over_and_read_in_order() -> None:
    async with core(Listening()) as service:
        sent = await service.send(ME, send("work"))
        command = steer(sent.run, "left")
        answer = await service.steer(ME, command)
        assert (answer.thread, answer.run, answer.status) == (sent.thread, sent.run, "running")
        again = await service.steer(ME, command)
        assert again.replayed and again.seq == answer.seq  # I5
        with pytest.raises(InvalidRequest, match="another message's"):
            await service.steer(ME, steer(sent.run, "right", message=command.message.id))
        last = await service.send(ME, send("end", sent.thread, on_busy="steer"))
        assert last.run == sent.run
        assert await ended(service, sent) == "done"
        events = await log(service, sent.thread)
        transcript = await tree(service, sent.thread)
    assert said(events) == "[work] (left) (end) "
    assert sorted(steered(events)) == [("end", False), ("end", True), ("left", False), ("left", True)]
    assert events[answer.seq - 1].type == "RUN_STEERED"
    [run] = transcript.runs
    assert run.steering == []
    heard = [part.content["content"] for part in run.messages[-1].parts if isinstance(part, ActivityPart)]
    assert heard == ["left", "end"]


async def test_what_was_not_read_runs_by_itself() -> None:
    agent = Listening(deaf=True)
    async with core(agent) as service:
        sent = await service.send(ME, send("work"))
        await agent.reached.wait()
        queued = await service.send(ME, send("queued", sent.thread))
        answer = await service.steer(ME, steer(sent.run, "left", message="m-left"))
        assert answer.run == sent.run
        transcript = await tree(service, sent.thread)
        assert [message.id for message in transcript.runs[0].steering] == ["m-left"]
        agent.gate.set()
        assert await ended(service, queued) == "done"
        await _until_idle(service, sent.thread)
        events = await log(service, sent.thread)
        transcript = await tree(service, sent.thread)
        assert await said_to(service, sent.thread) == [("work", None), ("queued", "work"), ("left", "queued")]
    assert agent.inputs == ["work", "queued", "left"]
    assert steered(events) == [("left", False)]
    assert [message.id for message in transcript.runs[2].messages] == ["m-left", transcript.runs[2].id]
    assert transcript.runs[0].steering == []
    order = types(events)
    end = next(n for n, event in enumerate(events) if event.run_id == sent.run and isinstance(event, e.TERMINAL))
    assert order[end + 1] == "RUN_QUEUED"  # one write: nobody can see the end without it


async def test_a_stopped_run_loses_nothing_that_it_was_told() -> None:
    agent = Listening(deaf=True)
    async with core(agent) as service:
        sent = await service.send(ME, send("work"))
        await agent.reached.wait()
        await service.steer(ME, steer(sent.run, "left"))
        await service.cancel(ME, cancel(sent.run))
        assert await ended(service, sent) == "cancelled"
        agent.gate.set()
        await _until_idle(service, sent.thread)
    assert agent.inputs == ["work", "left"]


async def test_after_a_crash_what_was_not_read_is_found(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    store = await SqliteStore.open(path)
    agent = Listening(deaf=True)
    with anyio.CancelScope() as scope:
        async with core(agent, store=store) as service:
            sent = await service.send(ME, send("work"))
            await agent.reached.wait()
            await service.send(ME, send("queued", sent.thread))
            await service.steer(ME, steer(sent.run, "left"))
            await service.steer(ME, steer(sent.run, "right"))
            await store.close()  # the process dies
            scope.cancel()
    agent = Listening(deaf=True)
    agent.gate.set()
    async with core(agent, path=path) as service:
        assert await ended(service, sent) == "interrupted"
        await _until_idle(service, sent.thread)
        await tree(service, sent.thread)
    assert agent.inputs == ["queued", "left", "right"]


async def test_what_was_read_before_a_clean_stop_does_not_run_again(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    async with core(Listening(), path=path) as service:
        sent = await service.send(ME, send("work"))
        await service.steer(ME, steer(sent.run, "left"))
        with anyio.fail_after(DEADLINE_S):
            while ("left", True) not in steered(await log(service, sent.thread)):
                await anyio.sleep(0.01)
    agent = Listening()
    async with core(agent, path=path) as service:
        assert await ended(service, sent) == "interrupted"
        await tree(service, sent.thread)
    assert agent.inputs == []


async def test_an_agent_that_cannot_be_steered_gets_it_next() -> None:
    agent = Gated()
    async with core(agent) as service:
        sent = await service.send(ME, send("1"))
        answer = await service.steer(ME, steer(sent.run, "2"))
        assert answer.run != sent.run and answer.status == "queued"
        agent.gate.set()
        assert await ended(service, answer) == "done"
        assert "RUN_STEERED" not in types(await log(service, sent.thread))
        idle = await service.steer(ME, steer(sent.run, "3"))
        assert idle.status == "running"
        assert await ended(service, idle) == "done"
        with pytest.raises(NotFound):
            await service.steer(ME, steer("no-such-run", "4"))
    assert [input.text for input in agent.inputs] == ["1", "2", "3"]


async def asking(input: RunInput, context: RunContext) -> AsyncIterator[Event]:
    if input.text == "ask":
        interrupt = e.Interrupt(id=f"{context.run_id}.1", reason="confirmation", message="Shall I?")
        yield e.InterruptRequested(interrupt=interrupt)
        yield e.RunFinished(thread_id="", outcome=e.Outcome(type="interrupt", interrupts=[interrupt]))


async def test_steering_a_waiting_thread_withdraws_its_question() -> None:
    async with core(Told(asking)) as service:
        sent = await service.send(ME, send("ask"))
        assert await ended(service, sent) == "waiting"
        answer = await service.steer(ME, steer(sent.run, "do something else"))
        assert await ended(service, answer) == "done"
        assert (await service.get_run(ME, sent.run)).status == "cancelled"
        await tree(service, sent.thread)


async def test_what_is_handed_over_has_a_cap() -> None:
    agent = Listening(deaf=True)
    async with core(agent, queue_limit=1) as service:
        sent = await service.send(ME, send("work"))
        await agent.reached.wait()
        await service.steer(ME, steer(sent.run, "1"))
        with pytest.raises(QueueFull):
            await service.steer(ME, steer(sent.run, "2"))
        agent.gate.set()


async def test_a_function_reads_at_its_own_pace() -> None:
    reached = anyio.Event()

    @agent(steerable=True)
    async def worker(prompt: str, run: RunContext) -> AsyncIterator[str]:
        yield f"{prompt}: "
        assert await run.steered() is None
        reached.set()
        message = await run.steered(timeout_s=DEADLINE_S)
        yield message.text if message else "nothing"

    async with core(worker) as service:
        assert [info.steerable for info in service.agents(ME)] == [True]
        sent = await service.send(ME, send("work"))
        await reached.wait()
        await service.steer(ME, steer(sent.run, "left"))
        assert await ended(service, sent) == "done"
        assert said(await log(service, sent.thread)) == "work: left"
        [run] = (await tree(service, sent.thread)).runs
    parts = [part for part in run.messages[-1].parts if isinstance(part, TextPart | ActivityPart)]
    said_so = [part.text if isinstance(part, TextPart) else part.activity_type for part in parts]
    assert said_so == ["work: ", "steer", "left"], "what was said stands where it was read, not below it all"


async def _until_idle(service: Service, thread: str) -> None:
    """Nothing runs and nothing is queued; polled, because a run that nobody waits for wakes nobody."""
    with anyio.fail_after(DEADLINE_S):
        while any(
            run.status in ("queued", "running") for run in load((await service.view(ME, thread)).transcript).runs
        ):
            await anyio.sleep(0.01)
