"""Whatever is asked of a thread in whatever order: its rows and the fold of its log say the same, and nothing is lost."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core import DEADLINE_S, ME, cancel, core, log, resolve, send
from runcast import events as e
from runcast.agents.base import RunContext
from runcast.errors import AgentError, ClientError
from runcast.events import Event
from runcast.parts import ActivityPart
from runcast.paths import path_of, path_to
from runcast.runs import RunInput
from runcast.service import Sent, Service
from runcast.stores.sqlite import SqliteStore
from runcast.transcript import Transcript
from tree import edit, retry, steer, tree

OPS = st.one_of(
    st.tuples(st.just("send"), st.sampled_from(("enqueue", "interrupt", "steer"))),
    st.tuples(st.sampled_from(("edit", "retry", "cancel", "steer", "answer")), st.integers(0, 7)),
    st.tuples(st.just("finish"), st.sampled_from(("done", "fail", "ask", "listen"))),
)


class Told:
    """An agent whose run under way does what it is told: end, fail, ask, or read what it was handed."""

    name = "told"
    description = ""
    steerable = True

    def __init__(self) -> None:
        self.commands: dict[str, str] = {}
        self.news = anyio.Event()
        self.free = False
        self.histories: dict[str, list[str]] = {}

    def tell(self, run: str, command: str) -> None:
        self.commands[run] = command
        self.news.set()
        self.news = anyio.Event()

    def let_all_go(self) -> None:
        self.free = True
        self.news.set()

    async def run(self, input: RunInput, context: RunContext) -> AsyncIterator[Event]:
        self.histories[input.run] = [turn.run.id for turn in await context.history()]
        yield e.TextMessageContent(message_id=context.new_id(), delta="…")
        while True:
            command = "done" if self.free else self.commands.pop(input.run, "")
            if command == "done":
                return
            if command == "fail":
                raise AgentError("I cannot.")
            if command == "ask":
                interrupt = e.Interrupt(id=f"{context.run_id}.1", reason="confirmation")
                yield e.InterruptRequested(interrupt=interrupt)
                yield e.RunFinished(thread_id="", outcome=e.Outcome(type="interrupt", interrupts=[interrupt]))
                return
            if command == "listen":
                await context.steered()
                continue
            await self.news.wait()


async def carry_out(service: Service, agent: Told, thread: str, sent: list[Sent], op: tuple[str, Any]) -> None:
    kind, value = op
    if kind == "send":
        sent.append(await service.send(ME, send(f"m{len(sent)}", thread, on_busy=value)))
        return
    if kind == "finish":
        running = [run.id for run in (await tree(service, thread)).runs if run.status == "running"]
        for run in running:
            agent.tell(run, value)
        await anyio.sleep(0.002)  # so that most of it has happened before the next; what is checked holds in any case
        return
    runs = (await tree(service, thread)).runs
    run = runs[value % len(runs)].id
    if kind == "edit":
        sent.append(await service.edit(ME, edit(run, f"e{len(sent)}")))
    elif kind == "retry":
        sent.append(await service.retry(ME, retry(run)))
    elif kind == "steer":
        sent.append(await service.steer(ME, steer(run, f"s{len(sent)}")))
    elif kind == "cancel":
        await service.cancel(ME, cancel(run))
    elif kind == "answer":
        answer = await service.resolve(ME, resolve(f"{run}.1", True))
        assert answer.run is not None


async def idle(service: Service, thread: str) -> Transcript:
    with anyio.fail_after(DEADLINE_S):
        while True:
            transcript = await tree(service, thread)
            if not any(run.status in ("queued", "running", "waiting") for run in transcript.runs):
                return transcript
            for run in transcript.runs:
                if run.status == "waiting":
                    await service.cancel(ME, cancel(run.id))
            await anyio.sleep(0.002)


async def play(ops: list[tuple[str, Any]], *, crash: bool) -> None:
    agent = Told()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "log.db"
        store = await SqliteStore.open(path)
        with anyio.CancelScope() as process:
            async with core(agent, store=store, queue_limit=4) as service:
                first = await service.send(ME, send("m0"))
                sent = [first]
                for op in ops:
                    try:
                        await carry_out(service, agent, first.thread, sent, op)
                    except ClientError:
                        pass  # refused: the queue is full, there is no such question, …
                    await tree(service, first.thread)
                if crash:  # a process that died writes nothing more
                    await store.close()
                    process.cancel()
                else:
                    agent.let_all_go()
                    await idle(service, first.thread)
        await store.close()
        agent.let_all_go()
        async with core(agent, path=path) as service:
            transcript = await idle(service, first.thread)
            events = await log(service, first.thread)

    running: str | None = None
    for event in events:  # I16, I17
        if isinstance(event, e.RunStarted):
            assert running is None, "two runs at once"
            running = event.run_id  # type: ignore[assignment]
        elif isinstance(event, e.TERMINAL) and not isinstance(event, e.RunDequeued):
            assert event.run_id == running
            running = None
    ends = [event.run_id for event in events if isinstance(event, e.TERMINAL)]
    assert sorted(ends) == sorted(run.id for run in transcript.runs)  # type: ignore[type-var]

    began = {run.id: run for run in transcript.runs if not run.dequeued}
    for run in began.values():
        path = [one.id for one in path_to(transcript, run.id)]
        # What it was told of the past is its path, and was so when it began (if it was not stopped before it looked).
        assert agent.histories.get(run.id, path[:-1]) == path[:-1]
        assert all(one in began for one in path)
        assert run.steering == []
        if run.resumes is None:
            assert [message.role for message in run.messages].count("user") == 1  # I6
    read = {
        part.id
        for run in transcript.runs
        for message in run.messages
        for part in message.parts
        if isinstance(part, ActivityPart)
    }
    asked = [message.id for run in began.values() for message in run.messages if message.role == "user"]
    assert not read & set(asked)  # never both read and run
    for event in events:  # nothing that was handed over is lost
        if isinstance(event, e.RunSteered) and not event.consumed:
            id = event.message["id"]
            assert id in read or any(
                message.id == id for run in transcript.runs if run.id != event.run_id for message in run.messages
            )
    assert path_of(transcript)[-1].id == transcript.head_run in began


@pytest.mark.slow
@settings(max_examples=25, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(ops=st.lists(OPS, min_size=1, max_size=12), crash=st.booleans())
def test_whatever_is_asked(ops: list[tuple[str, Any]], crash: bool) -> None:
    anyio.run(functools.partial(play, ops, crash=crash))
