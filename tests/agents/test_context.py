"""The verbs of a run's context."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import anyio
import pytest

from runcast import events as e
from runcast.agents.context import RunContext
from runcast.agents.function import FunctionAgent
from runcast.errors import AgentError
from runcast.testing import Collected, collect
from runcast.testing.agent_suite import check


async def run(work: Callable[[RunContext], Awaitable[object]], **options: object) -> Collected:
    async def agent(run: RunContext) -> None:
        await work(run)

    return await collect(FunctionAgent(agent), "Hi", run="r", **options)  # type: ignore[arg-type]


@pytest.mark.anyio
async def test_written_and_yielded_text_are_one_message_in_order() -> None:
    async def agent(run: RunContext) -> AsyncIterator[str]:
        yield "a"
        await run.text("b")
        yield "c"
        async with run.tool("look"):
            await run.text("d")
        yield "e"

    events = await collect(FunctionAgent(agent), "Hi")
    assert [event.delta for event in events if isinstance(event, e.TextMessageContent)] == list("abcde")
    assert [t for t in events.types if t in ("TEXT_MESSAGE_START", "TOOL_CALL_START", "TOOL_CALL_RESULT")] == [
        "TEXT_MESSAGE_START",
        "TOOL_CALL_START",
        "TEXT_MESSAGE_START",
        "TOOL_CALL_RESULT",
    ]
    check(events)


@pytest.mark.anyio
async def test_a_tool_call_from_its_arguments_to_its_result() -> None:
    async def work(run: RunContext) -> None:
        async with run.tool("search", {"title": "T"}, title="Searching…", query="milk") as call:
            await call.progress(3, total=10, message="Found 3")
            await call.progress(data={1, 2})
            call.result = [("milk", 1)]
            call.summary = "Found 1"

    events = await run(work)
    assert list(events) == [
        e.ToolCallStart(tool_call_id="r-1", tool_call_name="search", title="Searching…"),
        e.ToolCallArgs(tool_call_id="r-1", delta='{"title":"T","query":"milk"}'),
        e.ToolCallEnd(tool_call_id="r-1"),
        e.ToolCallProgress(tool_call_id="r-1", progress=3.0, total=10.0, message="Found 3"),
        e.ToolCallProgress(tool_call_id="r-1", data=[1, 2]),
        e.ToolCallResult(
            message_id="r-2", tool_call_id="r-1", content='[["milk",1]]', result=[["milk", 1]], summary="Found 1"
        ),
    ]
    check(events)


@pytest.mark.anyio
async def test_text_results_are_read_as_they_are_unless_the_model_reads_something_else() -> None:
    async def work(run: RunContext) -> None:
        async with run.tool("a") as call:
            call.result = "plain"
        async with run.tool("b") as call:
            call.result, call.content = {"long": "x"}, "short"

    results = [event for event in await run(work) if isinstance(event, e.ToolCallResult)]
    assert [(result.content, result.result) for result in results] == [("plain", "plain"), ("short", {"long": "x"})]


@pytest.mark.anyio
async def test_a_failing_tool_tells_a_safe_sentence_and_goes_on_raising() -> None:
    async def work(run: RunContext) -> None:
        with pytest.raises(KeyError):
            async with run.tool("secret"):
                raise KeyError("password")
        async with run.tool("weather"):
            raise AgentError("The weather service is closed.")

    events = await run(work, catch=True)
    results = [event for event in events if isinstance(event, e.ToolCallResult)]
    assert [(result.status, result.error) for result in results] == [
        ("error", "The tool secret failed."),
        ("error", "The weather service is closed."),
    ]
    assert not any(b"password" in e.encode(event) for event in events)
    assert isinstance(events.error, AgentError)


@pytest.mark.anyio
async def test_a_cancelled_tool_writes_nothing_more() -> None:
    inside = anyio.Event()

    async def work(run: RunContext) -> None:
        async with run.tool("slow"):
            inside.set()
            await anyio.sleep_forever()

    events = await run(work, cancel_when=inside)
    assert events.cancelled
    assert events.types == ["TOOL_CALL_START", "TOOL_CALL_ARGS", "TOOL_CALL_END"]


@pytest.mark.anyio
async def test_messages_and_thoughts_of_their_own() -> None:
    async def work(run: RunContext) -> None:
        await run.text("open")
        await run.think("At once.")
        async with run.reasoning() as thought:
            await thought.write("In ")
            await thought.write("")
            await thought.write("pieces")
        async with run.message(name="critic") as message:
            await message.write("Mine")
        with pytest.raises(ValueError, match="'nobody'"):
            async with run.message(role="nobody"):
                pass
        with pytest.raises(RuntimeError):
            async with run.message() as message:
                await message.write("Half")
                raise RuntimeError

    events = await run(work)
    assert [event.delta for event in events if isinstance(event, e.ReasoningMessageContent)] == [
        "At once.",
        "In ",
        "pieces",
    ]
    ends = [event for event in events if isinstance(event, e.TextMessageEnd)]
    assert [end.incomplete for end in ends] == [e.UNSET, e.UNSET, "failed"]
    assert [event.name for event in events if isinstance(event, e.TextMessageStart)] == [e.UNSET, "critic", e.UNSET]
    check(events)


@pytest.mark.anyio
async def test_artifacts_sources_and_events_of_ones_own() -> None:
    async def work(run: RunContext) -> None:
        first = await run.artifact("diagram", "graph TD", name="Tables")
        assert await run.artifact("diagram", "graph LR", id=first, version=2) == first
        await run.source("https://example.org", title="Example")
        await run.custom("mine", {"a": {3}})

    assert list(await run(work)) == [
        e.ArtifactSnapshot(artifact_id="r-1", kind="diagram", content="graph TD", name="Tables"),
        e.ArtifactSnapshot(artifact_id="r-1", kind="diagram", content="graph LR", version=2),
        e.Source(source_id="r-2", url="https://example.org", title="Example"),
        e.Custom(name="mine", value={"a": [3]}),
    ]


@pytest.mark.anyio
async def test_the_shared_state_is_replaced_and_patched() -> None:
    async def work(run: RunContext) -> None:
        assert run.state == {"old": True}
        await run.set_state({"n": 1})
        await run.patch_state([{"op": "replace", "path": "/n", "value": 2}])
        assert run.state == {"n": 2}
        with pytest.raises(AgentError) as caught:
            await run.patch_state([{"op": "remove", "path": "/missing"}])
        assert caught.value.agent_code == "invalid_patch"
        assert run.state == {"n": 2}

    events = await run(work, state={"old": True})
    assert list(events) == [
        e.StateSnapshot(snapshot={"n": 1}),
        e.StateDelta(delta=[{"op": "replace", "path": "/n", "value": 2}]),
    ]


@pytest.mark.anyio
async def test_an_emitted_event_keeps_its_place() -> None:
    async def agent(run: RunContext) -> AsyncIterator[object]:
        yield "a"
        await run.emit(e.StepStarted(step_name="s"))
        yield e.StepFinished(step_name="s")

    events = await collect(FunctionAgent(agent), "Hi")
    assert events.types == [
        "TEXT_MESSAGE_START",
        "TEXT_MESSAGE_CONTENT",
        "TEXT_MESSAGE_END",
        "STEP_STARTED",
        "STEP_FINISHED",
    ]
