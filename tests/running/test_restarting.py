"""What becomes of runs whose process is gone: `on_crash` (I16, I20, I21, I22), and what readers see of it (I14)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from core import DEADLINE_S, ME, Told, cancel, core, die, ended, log, resolve, said, send, types
from runcast import events as e
from runcast.agents.base import Kept, RunContext, Turn
from runcast.errors import RunEnded
from runcast.events import Event
from runcast.running.restarting import ATTEMPTS
from runcast.runs import RunInput
from runcast.service import Sent, Service
from runcast.stores.sqlite import SqliteStore
from runcast.transcript import TextPart, ToolPart, Transcript, TranscriptRun, dump, fold, load

pytestmark = pytest.mark.anyio

Script = Callable[[RunInput, RunContext], AsyncIterator[Event]]


class Dying(Told):
    """An agent that does what its script does; `died` is set by the script where the process is to end."""

    def __init__(self, script: Script, on_crash: str = "restart") -> None:
        super().__init__(script, "dying")
        self.on_crash = on_crash


class Keeping(Dying):
    """One that resumes, and keeps what `kept` says."""

    def __init__(self, script: Script, kept: Callable[[Turn], Kept | None]) -> None:
        super().__init__(script, "resume")
        self.kept = kept


async def run_of(service: Service, sent: Sent) -> TranscriptRun:
    """The run as a person sees it: live, replayed and from any snapshot the same (I14)."""
    view = await service.view(ME, sent.thread)
    events = await log(service, sent.thread)
    replayed = dump(fold(Transcript(), events))
    assert json.loads(view.transcript) == json.loads(replayed)
    for cut in range(len(events)):
        snapshot = load(dump(fold(Transcript(), events[:cut])))
        assert json.loads(dump(fold(snapshot, events[cut:]))) == json.loads(replayed), f"cut after {cut}"
    assert sum(isinstance(event, e.TERMINAL) for event in events if event.run_id == sent.run) == 1  # I16
    return next(run for run in load(view.transcript).runs if run.id == sent.run)


def texts(run: TranscriptRun) -> list[str]:
    return [part.text for message in run.messages[1:] for part in message.parts if isinstance(part, TextPart)]


def stumbling(reached: anyio.Event, *before: Any) -> Script:
    """Does `before` and stays there on the first attempt; says it all on the next ones."""

    async def script(input: RunInput, context: RunContext) -> AsyncIterator[Event]:
        yield e.TextMessageContent(message_id="m", delta=f"attempt {context.attempt}: ")
        for event in before:
            yield event
        if not reached.is_set():
            reached.set()
            await anyio.sleep_forever()
        yield e.TextMessageContent(message_id="m2", delta="whole")

    return script


async def test_a_restarted_run_says_everything_once(tmp_path: Path) -> None:
    reached = anyio.Event()
    agent = Dying(stumbling(reached))
    sent = await die(tmp_path / "log.db", agent, reached, None, "behind")
    async with core(agent, path=tmp_path / "log.db") as service:
        assert await ended(service, sent) == "done"
        behind = load((await service.view(ME, sent.thread)).transcript).runs[1].id
        assert (await service.wait_run(ME, behind, timeout_s=DEADLINE_S)).status == "done"
        run = await run_of(service, sent)
        events = await log(service, sent.thread)
        assert (await service.get_run(ME, sent.run)).status == "done"
    assert (run.attempt, texts(run)) == (2, ["attempt 2: ", "whole"])
    order = types([event for event in events if event.run_id == sent.run])
    assert order.index("RUN_RESTARTED") < order.index("MESSAGE_RETRACTED") < order.index("RUN_FINISHED")
    assert order.count("RUN_STARTED") == order.count("RUN_FINISHED") == 1
    queued = [event.run_id for event in events if isinstance(event, e.RunStarted)]
    assert queued[0] == sent.run and len(queued) == 2, "what was queued begins after it (I17, I18)"
    assert events.index(next(event for event in events if isinstance(event, e.RunFinished))) < events.index(
        next(event for event in events if isinstance(event, e.RunStarted) and event.run_id == queued[1])
    )


async def test_nothing_of_the_attempt_before_is_left(tmp_path: Path) -> None:
    """Not only texts: things beside them, steps and the shared state too."""
    reached = anyio.Event()
    agent = Dying(
        stumbling(
            reached,
            e.ReasoningMessageContent(message_id="r", delta="Hm"),
            e.ArtifactSnapshot(artifact_id="a", kind="file", content="x"),
            e.Source(source_id="s", url="https://example.org"),
            e.StepStarted(step_name="look"),
            e.SubagentStarted(subagent_run_id="sub", name="helper"),
            e.ActivitySnapshot(message_id="act", activity_type="plan", content={}),
            e.StateDelta(delta=[{"op": "add", "path": "/list/-", "value": 1}]),
        )
    )

    async def first(input: RunInput, context: RunContext) -> AsyncIterator[Event]:
        yield e.StateSnapshot(snapshot={"list": []})

    async with core(Told(first, "dying"), path=tmp_path / "log.db") as service:
        before = await service.send(ME, send("state"))
        await ended(service, before)
    store = await SqliteStore.open(tmp_path / "log.db")
    with anyio.CancelScope() as scope:
        async with core(agent, store=store) as service:
            sent = await service.send(ME, send("go", before.thread))
            with anyio.fail_after(DEADLINE_S):
                await reached.wait()
            await service.runner._executions.get(sent.run).flush()  # type: ignore[union-attr]
            await store.close()
            scope.cancel()
    again = anyio.Event()
    second = Dying(stumbling(again))
    async with core(second, path=tmp_path / "log.db") as service:
        with anyio.fail_after(DEADLINE_S):
            await again.wait()
        view = load((await service.view(ME, sent.thread)).transcript)
        run = view.runs[-1]
        assert [type(part).__name__ for message in run.messages[1:] for part in message.parts] == ["TextPart"]
        assert view.state == {"list": []}


@pytest.mark.parametrize(
    ("events", "status"),
    [
        (
            [e.ToolCallStart(tool_call_id="c", tool_call_name="pay"), e.ToolCallArgs(tool_call_id="c", delta="{")],
            "done",
        ),
        (
            [
                e.ToolCallStart(tool_call_id="c", tool_call_name="look", idempotent=True),
                e.ToolCallArgs(tool_call_id="c", delta="{}"),
                e.ToolCallEnd(tool_call_id="c"),
            ],
            "done",
        ),
        ([e.ToolCallStart(tool_call_id="c", tool_call_name="pay"), e.ToolCallEnd(tool_call_id="c")], "interrupted"),
        (
            [
                e.ToolCallStart(tool_call_id="c", tool_call_name="pay"),
                e.ToolCallEnd(tool_call_id="c"),
                e.ToolCallResult(message_id="r", tool_call_id="c", content="paid"),
            ],
            "interrupted",
        ),
    ],
    ids=["arguments-only", "idempotent", "unknown", "finished"],
)
async def test_a_tool_that_began_is_not_run_twice(tmp_path: Path, events: list[Event], status: str) -> None:
    reached = anyio.Event()
    agent = Dying(stumbling(reached, *events))
    sent = await die(tmp_path / "log.db", agent, reached)
    async with core(agent, path=tmp_path / "log.db") as service:
        assert await ended(service, sent) == status
        run = await run_of(service, sent)
    if status == "interrupted":
        assert run.attempt == 1 and run.failure is not None and "pay" in run.failure.message
        assert texts(run) == ["attempt 1: "], "the partial stays"


async def test_a_run_is_taken_up_at_most_so_often(tmp_path: Path) -> None:
    sent: Sent | None = None
    began: list[int] = []
    for _ in range(ATTEMPTS):
        reached = anyio.Event()

        async def script(input: RunInput, context: RunContext, reached: anyio.Event = reached) -> AsyncIterator[Event]:
            began.append(context.attempt)
            yield e.TextMessageContent(message_id="m", delta="half")
            reached.set()
            await anyio.sleep_forever()

        agent = Dying(script)
        sent = await die(tmp_path / "log.db", agent, reached, sent)
    async with core(agent, path=tmp_path / "log.db") as service:
        assert await ended(service, sent) == "interrupted"
        run = await run_of(service, sent)
    assert began == [1, 2, 3]
    assert run.attempt == ATTEMPTS and run.failure is not None and "3 times" in run.failure.message


@pytest.mark.parametrize("on_crash", ["never", "nonsense"])
async def test_without_a_policy_it_ends(tmp_path: Path, on_crash: str) -> None:
    reached = anyio.Event()
    agent = Dying(stumbling(reached), on_crash)
    store = await SqliteStore.open(tmp_path / "log.db")
    with anyio.CancelScope() as scope:
        async with core(agent, store=store) as service:
            sent = await service.send(ME, send("go"))
            await reached.wait()
            await store.close()
            scope.cancel()
    async with core(agent, path=tmp_path / "log.db") as service:
        assert await ended(service, sent) == "interrupted"


async def test_a_stop_that_was_acknowledged_is_not_forgotten(tmp_path: Path) -> None:
    began = anyio.Event()

    async def deaf(input: RunInput, context: RunContext) -> AsyncIterator[Event]:
        yield e.TextMessageContent(message_id="m", delta="half")
        began.set()
        with anyio.CancelScope(shield=True):
            await over.wait()

    over = anyio.Event()
    store = await SqliteStore.open(tmp_path / "log.db")
    with anyio.CancelScope() as scope:
        async with core(Dying(deaf), store=store, cancel_deadline_s=0.2) as service:
            sent = await service.send(ME, send("go"))
            await began.wait()
            await service.cancel(ME, cancel(sent.run))
            await store.close()
            over.set()
            scope.cancel()
    async with core(Dying(deaf), path=tmp_path / "log.db") as service:
        assert await ended(service, sent) == "cancelled"
        run = await run_of(service, sent)
    assert run.status == "cancelled" and run.attempt == 1


async def test_a_run_that_goes_on_from_an_answer_is_not_begun_again(tmp_path: Path) -> None:
    """I20: an answer counts once."""
    reached = anyio.Event()

    async def asking(input: RunInput, context: RunContext) -> AsyncIterator[Event]:
        if input.resumes is None:
            asked = e.Interrupt(id=f"{input.run}.1", reason="input_required")
            yield e.InterruptRequested(interrupt=asked)
            yield e.RunFinished(thread_id=input.thread, outcome=e.Outcome(type="interrupt", interrupts=[asked]))
        else:
            yield e.TextMessageContent(message_id="m", delta="so")
            reached.set()
            await anyio.sleep_forever()

    path = tmp_path / "log.db"
    async with core(Dying(asking), path=path) as service:
        sent = await service.send(ME, send("go"))
        assert await ended(service, sent) == "waiting"
    store = await SqliteStore.open(path)
    with anyio.CancelScope() as scope:
        async with core(Dying(asking), store=store) as service:
            resumed = (await service.resolve(ME, resolve(f"{sent.run}.1", "yes"))).run or ""
            await reached.wait()
            await service.runner._executions.get(resumed).flush()  # type: ignore[union-attr]
            await store.close()
            scope.cancel()
    async with core(Dying(asking), path=path) as service:
        assert (await service.wait_run(ME, resumed, timeout_s=DEADLINE_S)).status == "interrupted"


async def test_a_clean_stop_leaves_what_may_go_on_to_the_next_process(tmp_path: Path) -> None:
    reached = anyio.Event()
    agent = Dying(stumbling(reached))
    async with core(agent, path=tmp_path / "log.db") as service:
        sent = await service.send(ME, send("go"))
        await reached.wait()
    async with core(agent, path=tmp_path / "log.db") as service:
        assert await ended(service, sent) == "done"
        run = await run_of(service, sent)
    assert (run.attempt, texts(run)) == (2, ["attempt 2: ", "whole"])


async def test_a_clean_stop_ends_what_may_not_go_on(tmp_path: Path) -> None:
    reached = anyio.Event()
    pay = [e.ToolCallStart(tool_call_id="c", tool_call_name="pay"), e.ToolCallEnd(tool_call_id="c")]
    agent = Dying(stumbling(reached, *pay))
    async with core(agent, path=tmp_path / "log.db") as service:
        sent = await service.send(ME, send("go"))
        await reached.wait()
        await service.runner.stop()
        assert (await service.get_run(ME, sent.run)).status == "interrupted"


async def test_a_tool_begins_when_its_call_is_in_the_log(tmp_path: Path) -> None:
    """Or a crash in between would let it run twice without anybody knowing."""
    seen: list[list[str]] = []
    gate = anyio.Event()

    async def script(input: RunInput, context: RunContext) -> AsyncIterator[Event]:
        async with context.tool("pay"):
            seen.append(types([record.event for record in await store.read(input.thread, 0)]))
        yield e.Custom(name="end", value=1)

    store = await SqliteStore.open(tmp_path / "log.db")
    async with core(Dying(script), store=store) as service:
        await ended(service, await service.send(ME, send("go")))
        gate.set()
    await store.close()
    assert seen == [["RUN_STARTED", "TOOL_CALL_START", "TOOL_CALL_ARGS", "TOOL_CALL_END"]]


async def test_what_was_said_meanwhile_comes_along(tmp_path: Path) -> None:
    reached = anyio.Event()
    steered = e.RunSteered(message={"id": "s1", "role": "user", "content": "and quickly"}, consumed=True)
    inputs: list[str] = []
    stumble = stumbling(reached, steered)

    async def script(input: RunInput, context: RunContext) -> AsyncIterator[Event]:
        inputs.append(input.text)
        if len(inputs) == 1:
            async for event in stumble(input, context):
                yield event
        else:
            yield e.TextMessageContent(message_id="m", delta="ok")

    sent = await die(tmp_path / "log.db", Dying(script), reached)
    async with core(Dying(script), path=tmp_path / "log.db") as service:
        assert await ended(service, sent) == "done"
        run = await run_of(service, sent)
    assert inputs == ["go", "go\nand quickly"]
    assert [part.content for part in run.messages[-1].parts if hasattr(part, "activity_type")] == [steered.message]


async def test_resume_keeps_what_the_agent_kept_and_tells_of_tools_nobody_knows_about(tmp_path: Path) -> None:
    reached = anyio.Event()
    left: list[Turn] = []

    async def script(input: RunInput, context: RunContext) -> AsyncIterator[Event]:
        if context.left is None:
            yield e.TextMessageContent(message_id="one", delta="kept ")
            yield e.TextMessageEnd(message_id="one")
            for call, again in (("done", False), ("lost", False), ("again", True)):
                idempotent = {"idempotent": True} if again else {}
                yield e.ToolCallStart(tool_call_id=call, tool_call_name=call, **idempotent)
                yield e.ToolCallEnd(tool_call_id=call)
            yield e.ToolCallResult(message_id="r", tool_call_id="done", content="fine")
            context.checkpoint("test", 7, b"here")
            yield e.TextMessageContent(message_id="two", delta="half")
            yield e.ToolCallStart(tool_call_id="open", tool_call_name="open")
            reached.set()
            await anyio.sleep_forever()
        left.append(context.left)  # type: ignore[arg-type]
        yield e.ToolCallResult(message_id="r2", tool_call_id="again", content="twice")
        yield e.ToolCallStart(tool_call_id="done", tool_call_name="done")  # a model that counts its calls from 0
        yield e.ToolCallEnd(tool_call_id="done")
        yield e.ToolCallResult(message_id="r3", tool_call_id="done", content="new")
        yield e.TextMessageContent(message_id="three", delta="whole")

    def kept(turn: Turn) -> Kept | None:
        assert turn.state is not None and turn.state.data == b"here"
        return Kept(frozenset({"one"}), frozenset({"done", "lost", "again"}))

    agent = Keeping(script, kept)
    sent = await die(tmp_path / "log.db", agent, reached)
    async with core(agent, path=tmp_path / "log.db") as service:
        assert await ended(service, sent) == "done"
        run = await run_of(service, sent)
    assert texts(run) == ["kept ", "whole"]
    tools = {part.id: part.status for part in run.messages[1].parts if isinstance(part, ToolPart)}
    assert tools == {"done": "done", "lost": "interrupted", "again": "done", "done.2": "done"}
    assert left[0].state is not None and left[0].state.version == 7


async def test_resume_without_anything_kept_is_a_restart(tmp_path: Path) -> None:
    reached = anyio.Event()
    agent = Keeping(stumbling(reached), lambda turn: None)
    sent = await die(tmp_path / "log.db", agent, reached)
    async with core(agent, path=tmp_path / "log.db") as service:
        assert await ended(service, sent) == "done"
        assert said([e.TextMessageContent(message_id="", delta="".join(texts(await run_of(service, sent))))]) == (
            "attempt 2: whole"
        )


async def test_a_tool_does_not_begin_once_its_run_is_over() -> None:
    began = anyio.Event()
    told: list[str] = []

    async def stubborn(input: RunInput, context: RunContext) -> AsyncIterator[Event]:
        yield e.TextMessageContent(message_id="m", delta="I stay")
        began.set()
        with anyio.CancelScope(shield=True):
            await over.wait()
            try:
                await context.flush()
            except RunEnded:
                told.append("over")
        done.set()

    over, done = anyio.Event(), anyio.Event()
    async with core(Dying(stubborn), cancel_deadline_s=0.05) as service:
        sent = await service.send(ME, send("go"))
        await began.wait()
        await service.cancel(ME, cancel(sent.run))
        assert await ended(service, sent) == "cancelled"
        over.set()
        with anyio.fail_after(DEADLINE_S):
            await done.wait()
    assert told == ["over"]
