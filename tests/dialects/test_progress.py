"""The `progress` dialect: its frames for every kind of run, and the answer of its POST."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from runcast import events as e
from runcast.dialects.base import BadFrame
from runcast.dialects.progress import MAX_MESSAGE, Progress, ProgressEncoder, answer_of, message_of
from runcast.dialects.registry import dialect_named
from runcast.errors import ConfigError
from runcast.events import Event, Record
from runcast.testing import DialectSuite
from runcast.testing.dialect_logs import LOGS

CASES = Path(__file__).parents[2] / "spec" / "cases" / "dialects" / "progress"
KEYS = ["event_type", "tool", "task_id", "count", "message", "result", "error"]


def frame(event_type: str, message: str, **fields: Any) -> dict[str, Any]:
    return dict.fromkeys(KEYS) | {"event_type": event_type, "message": message} | fields


def told(records: list[Record]) -> list[dict[str, Any]]:
    encoder = ProgressEncoder()
    return [json.loads(frame.data) for record in records for frame in encoder.encode(record)]


def run_of(*events: Event) -> list[Record]:
    stamped = [e.stamp(e.of_run(event, "r1"), seq, 0) for seq, event in enumerate(events, 1)]
    return [Record(event, e.encode(event)) for event in stamped]


START = e.RunStarted(thread_id="t1")
DONE = e.RunFinished(thread_id="t1")


class TestProgress(DialectSuite):
    def make(self) -> Progress:
        return Progress()


def cases() -> list[Any]:
    return [pytest.param(json.loads(path.read_text()), id=path.stem) for path in sorted(CASES.glob("*.json"))]


@pytest.mark.parametrize("case", cases())
def test_cases(case: dict[str, Any]) -> None:
    lines = [json.dumps(one).encode() for one in case["events"]]
    assert told([Record(e.decode(line), line) for line in lines]) == case["frames"]


def test_there_is_a_case_of_every_kind_of_run() -> None:
    names = {json.loads(path.read_text())["name"] for path in CASES.glob("*.json")}
    assert names >= set(LOGS)


@pytest.mark.parametrize("name", LOGS)
def test_every_frame_has_all_keys_in_order(name: str) -> None:
    assert all(list(one) == KEYS for one in told(LOGS[name]))


def test_frames_are_made_once_for_all_readers() -> None:
    for records in LOGS.values():
        one, two = ProgressEncoder(), ProgressEncoder()
        for record in records:
            for mine, other in zip(one.encode(record), two.encode(record), strict=True):
                assert mine is other


def test_readers_that_know_different_things_get_their_own_frames() -> None:
    """One joined in the middle and does not know the tool's name."""
    records = LOGS["tools"]
    whole, late = ProgressEncoder(), ProgressEncoder()
    tools: list[tuple[str, str]] = []
    for record in records:
        mine = whole.encode(record)
        if record.seq > 8 and isinstance(record.event, e.ToolCallResult):
            tools += [
                (json.loads(a.data)["tool"], json.loads(b.data)["tool"])
                for a, b in zip(mine, late.encode(record), strict=True)
            ]
    assert tools == [("search", "tool")]


def test_a_call_that_was_asked_about_is_known_in_the_run_that_goes_on() -> None:
    assert [(one["event_type"], one["tool"]) for one in told(LOGS["approval"])] == [
        ("agent_thinking", None),
        ("tool_starting", "delete"),
        ("agent_done", None),
        ("agent_thinking", None),
        ("tool_complete", "delete"),
        ("agent_done", None),
    ]


def test_tools_that_have_not_ended_are_errors_before_the_end() -> None:
    start = e.ToolCallStart(tool_call_id="c1", tool_call_name="dig")
    other = e.ToolCallStart(tool_call_id="c2", tool_call_name="fill")
    frames = told(run_of(START, start, other, e.RunError(message="Too slow.", code="timeout")))
    assert frames[3:] == [
        frame("tool_error", "Error in dig: Too slow.", tool="dig", error="Too slow."),
        frame("tool_error", "Error in fill: Too slow.", tool="fill", error="Too slow."),
        frame("agent_done", "Stopped: Too slow.", error="Too slow."),
    ]


@pytest.mark.parametrize(
    ("result", "fields"),
    [
        (None, {"result": {"result": None}}),
        ("text", {"result": {"result": "text"}}),
        ([1, 2], {"result": {"result": [1, 2]}, "count": 2}),
        ({"task_id": 7, "count": 3}, {"result": {"task_id": 7, "count": 3}, "task_id": 7, "count": 3}),
        ({"task": {"id": "a", "title": "b"}}, {"result": {"task": {"id": "a", "title": "b"}}, "task_id": "a"}),
        ({"task_id": True, "count": "many"}, {"result": {"task_id": True, "count": "many"}}),
    ],
)
def test_what_a_result_says(result: Any, fields: dict[str, Any]) -> None:
    start = e.ToolCallStart(tool_call_id="c1", tool_call_name="add")
    end = e.ToolCallResult(message_id="m", tool_call_id="c1", content="", result=result)
    assert told(run_of(START, start, end))[2] == frame("tool_complete", "Completed add", tool="add", **fields)


@pytest.mark.parametrize(
    ("progress", "message", "count"),
    [
        (e.ToolCallProgress(tool_call_id="c1", progress=3, message="Found 3 tasks"), "Found 3 tasks", 3),
        (e.ToolCallProgress(tool_call_id="c1", progress=0.5, total=1), "find: 0.5 of 1", 0),
        (e.ToolCallProgress(tool_call_id="c1", message="Looking", data={"count": 4}), "Looking", 4),
        (e.ToolCallProgress(tool_call_id="c1"), "Searching…", None),
    ],
)
def test_what_a_tool_reports(progress: Event, message: str, count: int | None) -> None:
    start = e.ToolCallStart(tool_call_id="c1", tool_call_name="find", title="Searching…")
    frames = told(run_of(START, start, progress))
    assert frames[1:] == [
        frame("tool_starting", "Searching…", tool="find"),
        frame("tool_progress", message, tool="find", count=count),
    ]


def test_a_call_ends_once() -> None:
    start = e.ToolCallStart(tool_call_id="c1", tool_call_name="add")
    end = e.ToolCallResult(message_id="m", tool_call_id="c1", content="", result=1)
    assert len(told(run_of(START, start, end, end, DONE))) == 4


def test_giving_up_ends_what_is_asked_and_nothing_else() -> None:
    encoder = ProgressEncoder()
    for record in run_of(START, e.ToolCallStart(tool_call_id="c1", tool_call_name="dig")):
        encoder.encode(record)
    assert list(encoder.started) == ["r1"]
    frames = encoder.give_up("It is gone.", ["r1", "r2"])
    assert [json.loads(one.data)["event_type"] for one in frames] == ["tool_error", "agent_done", "agent_done"]
    assert [one.ends for one in frames] == [False, True, True]
    assert not encoder.started


# --- the POST -----------------------------------------------------------------------------------------------------


def test_messages_are_trimmed_and_conversations_taken_as_they_come() -> None:
    assert message_of('{"message":"  hi\\n","conversation_id":"a/b","more":1}') == ("hi", "a/b")
    for conversation in ("null", "7", '""', "{}", "[]"):
        assert message_of(f'{{"message":"hi","conversation_id":{conversation}}}') == ("hi", None)
    assert message_of(json.dumps({"message": " " + "x" * MAX_MESSAGE + " "}))[0] == "x" * MAX_MESSAGE


@pytest.mark.parametrize(
    "body",
    [
        "",
        "[]",
        "{",
        "{}",
        '{"message":null}',
        '{"message":7}',
        '{"message":" \\n"}',
        json.dumps({"message": "x" * 10_001}),
    ],
)
def test_what_is_no_message(body: str) -> None:
    with pytest.raises(BadFrame):
        message_of(body)


def tasks(*events: Event) -> list[Any]:
    return json.loads(answer_of(run_of(START, *events, DONE), "c"))["tasks"]


def returned(id: str, result: Any, **fields: Any) -> list[Event]:
    return [
        e.ToolCallStart(tool_call_id=id, tool_call_name="tool"),
        e.ToolCallResult(message_id=f"{id}.m", tool_call_id=id, content="", result=result, **fields),
    ]


def test_the_answer() -> None:
    records = LOGS["tools"]
    assert json.loads(answer_of(records, "mine")) == {
        "response": "I look.\n\nThree.",
        "conversation_id": "mine",
        "tasks": [],
    }


def test_tasks_are_what_tools_returned_each_once_as_said_last() -> None:
    milk = {"id": 1, "title": "Milk", "priority": "high", "due_date": None, "owner": "x"}
    assert tasks(
        *returned("a", {"task": milk}),
        *returned("b", {"tasks": [{"id": 2, "title": "Tea", "completed": True}, {"id": 3}, "no"]}),
        *returned("c", {"task": {**milk, "completed": True}}),
        *returned("d", {"task": {"id": 9, "title": "Never"}}, status="error"),
        *returned("e", ["task"]),
    ) == [
        {"id": 1, "title": "Milk", "priority": "high", "completed": True},
        {"id": 2, "title": "Tea", "completed": True},
    ]


def test_tasks_shown_as_an_artifact_win() -> None:
    shown = e.ArtifactSnapshot(artifact_id="a", kind="tasks", content=[{"id": "x", "title": "Shown"}])
    assert tasks(*returned("a", {"task": {"id": 1, "title": "Returned"}}), shown) == [
        {"id": "x", "title": "Shown", "completed": False}
    ]
    assert tasks(e.ArtifactSnapshot(artifact_id="a", kind="tasks", content=None)) == []


def test_it_has_no_options() -> None:
    with pytest.raises(ConfigError, match="progress"):
        dialect_named("progress?colour=red")
