"""What people yield, as events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

import ag_ui.core as ag_ui
import pytest

from runcast import events as e
from runcast.agents.function import FunctionAgent
from runcast.agents.yields import WORDS
from runcast.errors import AgentError
from runcast.testing import Collected, collect
from runcast.testing.agent_suite import check


async def run(*values: object, **options: Any) -> Collected:
    async def agent() -> AsyncIterator[object]:
        for value in values:
            yield value

    return await collect(FunctionAgent(agent), "Hi", run="r", **options)


def plain(events: Collected) -> list[tuple[Any, ...]]:
    """Types and what they say, without ids."""
    return [
        (event.type, *(value for name in ("delta", "tool_call_name", "title", "content", "status", "error", "summary")
                       if (value := getattr(event, name, e.UNSET)) is not e.UNSET))
        for event in events
    ]  # fmt: skip


@pytest.mark.anyio
async def test_strings_are_one_message() -> None:
    events = await run("Hel", "", "lo")
    assert list(events) == [
        e.TextMessageStart(message_id="r-1"),
        e.TextMessageContent(message_id="r-1", delta="Hel"),
        e.TextMessageContent(message_id="r-1", delta="lo"),
        e.TextMessageEnd(message_id="r-1"),
    ]


@pytest.mark.anyio
async def test_the_small_dicts_of_a_thoughts_stream() -> None:
    events = await run(
        {"type": "thinking", "content": "I search."},
        {"type": "thinking", "content": "Then I read."},
        {"type": "action", "content": "Searching the web"},
        {"type": "observation", "content": "3 pages"},
        {"type": "answer", "content": "It "},
        {"type": "answer", "content": "is."},
        {"type": "done"},
    )
    assert plain(events) == [
        ("REASONING_START",),
        ("REASONING_MESSAGE_START",),
        ("REASONING_MESSAGE_CONTENT", "I search."),
        ("REASONING_MESSAGE_END",),
        ("REASONING_END",),
        ("REASONING_START",),
        ("REASONING_MESSAGE_START",),
        ("REASONING_MESSAGE_CONTENT", "Then I read."),
        ("REASONING_MESSAGE_END",),
        ("REASONING_END",),
        ("TOOL_CALL_START", "action", "Searching the web"),
        ("TOOL_CALL_ARGS", "{}"),
        ("TOOL_CALL_END",),
        ("TOOL_CALL_RESULT", "3 pages"),
        ("TEXT_MESSAGE_START",),
        ("TEXT_MESSAGE_CONTENT", "It "),
        ("TEXT_MESSAGE_CONTENT", "is."),
        ("TEXT_MESSAGE_END",),
    ]
    check(events)


@pytest.mark.anyio
async def test_a_thought_in_pieces_is_one_thought() -> None:
    events = await run({"type": "thought", "delta": "I "}, {"type": "thought", "delta": "see"}, "yes")
    assert events.types.count("REASONING_START") == 1
    check(events)


class Kind(Enum):
    ANSWER = "answer"


@dataclass
class AgentThought:
    type: Any
    content: str
    timestamp: float = 0.0


class Plain:
    def __init__(self, type: str, content: str) -> None:
        self.type = type
        self.content = content


@pytest.mark.anyio
async def test_objects_with_type_and_content() -> None:
    events = await run(AgentThought("thinking", "hm"), AgentThought(Kind.ANSWER, "yes "), Plain("answer", "indeed"))
    assert events.text == "yes indeed" and "REASONING_START" in events.types
    check(events)


@pytest.mark.anyio
async def test_tool_calls_are_matched_by_id_then_name_then_age() -> None:
    events = await run(
        {"type": "tool_call", "id": 1, "name": "a", "arguments": {"x": 1}},
        {"type": "tool_start", "tool_name": "b", "args": '{"y": 2}'},
        {"type": "action", "tool": "b", "input": {}},
        {"type": "progress", "tool": "b", "message": "half", "current": 1, "total": 2},
        {"type": "tool_end", "tool_name": "b", "result": {"n": 1}, "summary": "Found 1"},
        {"type": "tool_result", "id": 1, "error": "No such table."},
        {"type": "observation", "content": "late"},
    )
    b, b2 = [event.tool_call_id for event in events if isinstance(event, e.ToolCallStart)][1:]
    results = [event for event in events if isinstance(event, e.ToolCallResult)]
    assert [(r.tool_call_id, r.content) for r in results] == [(b, '{"n":1}'), ("1", "No such table."), (b2, "late")]
    assert (results[0].result, results[0].summary) == ({"n": 1}, "Found 1")
    assert (results[1].status, results[1].error) == ("error", "No such table.")
    (progress,) = [event for event in events if isinstance(event, e.ToolCallProgress)]
    assert (progress.tool_call_id, progress.progress, progress.total, progress.message) == (b, 1.0, 2.0, "half")
    check(events)


@pytest.mark.anyio
async def test_the_shapes_of_data_inside_data() -> None:
    """`{"type": …, "data": {…}}`, as front ends of one house send it."""
    events = await run(
        {"type": "text", "data": {"text": "Hi"}}, {"type": "error", "data": {"error": "Bad"}}, catch=True
    )
    assert events.text == "Hi"
    assert isinstance(events.error, AgentError) and events.error.message == "Bad"


@pytest.mark.anyio
async def test_things_beside_the_text_do_not_cut_it() -> None:
    events = await run(
        "a",
        {"type": "diagram", "content": "graph TD", "title": "Tables"},
        {"type": "artifact", "kind": "table", "data": [[1]], "id": "t", "mime_type": "application/json"},
        {"type": "source", "url": "https://example.org", "title": "Example"},
        {"type": "state", "state": {"n": 1}},
        {"type": "progress", "percent": 50},
        "b",
    )
    assert list(events)[2:-2] == [
        e.ArtifactSnapshot(artifact_id="r-2", kind="diagram", content="graph TD", name="Tables"),
        e.ArtifactSnapshot(artifact_id="t", kind="table", content=[[1]], mime_type="application/json"),
        e.Source(source_id="r-3", url="https://example.org", title="Example"),
        e.StateSnapshot(snapshot={"n": 1}),
        e.Custom(name="progress", value={"percent": 50}),
    ]
    assert events.types.count("TEXT_MESSAGE_START") == 1
    assert events.state == {"n": 1}


@pytest.mark.anyio
async def test_a_result_without_a_call_and_a_call_without_a_result() -> None:
    events = await run({"type": "observation", "content": "rain"}, {"type": "action", "name": "look"})
    assert [(t, *rest) for t, *rest in plain(events) if t in ("TOOL_CALL_START", "TOOL_CALL_RESULT")] == [
        ("TOOL_CALL_START", "observation"),
        ("TOOL_CALL_RESULT", "rain"),
        ("TOOL_CALL_START", "look"),
        ("TOOL_CALL_RESULT", ""),
    ]
    check(events)


@pytest.mark.anyio
async def test_events_pass_and_close_the_open_text() -> None:
    events = await run(
        "a", e.StepStarted(step_name="one"), "b", e.StepFinished(step_name="one"), e.RunFinished(thread_id="", result=1)
    )
    assert events.types == [
        "TEXT_MESSAGE_START",
        "TEXT_MESSAGE_CONTENT",
        "TEXT_MESSAGE_END",
        "STEP_STARTED",
        "TEXT_MESSAGE_START",
        "TEXT_MESSAGE_CONTENT",
        "TEXT_MESSAGE_END",
        "STEP_FINISHED",
        "RUN_FINISHED",
    ]
    assert events[-1] == e.RunFinished(thread_id="thread-1", result=1)


@pytest.mark.anyio
async def test_ag_ui_events_as_models_and_as_json() -> None:
    events = await run(
        ag_ui.RunStartedEvent(thread_id="t", run_id="x"),
        ag_ui.TextMessageStartEvent(message_id="m", role="assistant", timestamp=5),
        ag_ui.TextMessageContentEvent(message_id="m", delta="Hi"),
        {"type": "TEXT_MESSAGE_END", "messageId": "m", "seq": 3},
        {"type": "STATE_SNAPSHOT", "snapshot": None},
        ag_ui.StateDeltaEvent(delta=[{"op": "add", "path": "/a", "value": None}]),
        ag_ui.RunFinishedEvent(thread_id="t", run_id="x"),
    )
    assert list(events) == [
        e.TextMessageStart(message_id="m", role="assistant"),
        e.TextMessageContent(message_id="m", delta="Hi"),
        e.TextMessageEnd(message_id="m"),
        e.StateSnapshot(snapshot=None),
        e.StateDelta(delta=[{"op": "add", "path": "/a", "value": None}]),
        e.RunFinished(thread_id="thread-1"),
    ]


@pytest.mark.anyio
async def test_an_error_event_fails_the_run() -> None:
    events = await run(e.RunError(message="The service is closed.", code="closed"), catch=True)
    assert isinstance(events.error, AgentError)
    assert (events.error.agent_code, events.error.message) == ("closed", "The service is closed.")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("value", "told"),
    [
        (3, "a value of type int"),
        (None, "a value of type NoneType"),
        (b"x", "a value of type bytes"),
        ({"content": "x"}, "a dict without a `type`"),
        ({"type": "thinkin", "content": "x"}, "did you mean 'thinking'?"),
        ({"type": "TEXT_MESAGE_START"}, "did you mean TEXT_MESSAGE_START?"),
        ({"type": "TEXT_MESSAGE_START"}, "whose fields do not fit"),
        ({"type": "text"}, "without text"),
        ({"type": "diagram"}, "without `content`"),
        ({"type": "source"}, "without a `url`"),
    ],
)
async def test_what_cannot_be_shown_is_told(value: object, told: str) -> None:
    events = await run("before", value, catch=True)
    assert isinstance(events.error, AgentError)
    assert events.error.agent_code == "invalid_yield" and told in events.error.message
    assert events.text == "before"


@pytest.mark.anyio
@pytest.mark.parametrize("word", sorted(WORDS))
async def test_every_word_is_understood_in_any_spelling(word: str) -> None:
    fields = {"content": "x", "url": "https://example.org", "name": "n"}
    events = await run({"type": word.replace("_", "-").capitalize(), **fields}, catch=True)
    assert (events.error is not None) == (word == "error")
    if events.error is None:
        check(events)
