"""Chat Completions: pieces of text and thought, calls that are left to the client whole, one end."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from runcast import events as e
from runcast.dialects.base import Frame, Start
from runcast.dialects.openai_chat import OpenAiChat
from runcast.events import Record
from runcast.testing import DialectSuite
from runcast.testing.dialect_logs import LOGS, THREAD, RunLog, log_of

CASES = sorted((Path(__file__).parents[2] / "spec/cases/dialects/openai-chat").glob("*.json"))


def frames_of(records: list[Record], options: dict[str, str] | None = None) -> list[Frame]:
    encoder = OpenAiChat().encoder(Start(THREAD, "epoch", options=options or {}))
    return [frame for record in records for frame in encoder.encode(record)]


def records_of(events: list[dict[str, Any]]) -> list[Record]:
    return [Record(e.decode(data := json.dumps(event).encode()), data) for event in events]


class TestOpenAiChat(DialectSuite):
    deltas = ("delta.content", "delta.reasoning_content")

    def make(self) -> OpenAiChat:
        return OpenAiChat()

    def merged(self, frames: Iterable[Frame]) -> list[Any]:
        return super().merged(_flat(frame) for frame in frames)


def _flat(frame: Frame) -> Frame:
    """The one choice of a chunk, where the suite looks for pieces of text."""
    chunk = json.loads(frame.data)
    if not chunk.get("choices"):
        return frame
    return frame._replace(data=json.dumps({**chunk, **chunk["choices"][0], "choices": 1}).encode())


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_cases(path: Path) -> None:
    case = json.loads(path.read_text())
    frames = frames_of(records_of(case["events"]), case.get("start", {}).get("options"))
    assert [json.loads(frame.data) for frame in frames] == case["frames"]


def test_there_is_a_case_for_every_kind_of_run() -> None:
    assert {path.stem.replace("-", " ") for path in CASES} >= set(LOGS)


def test_sources_are_annotations_once_in_the_end_of_a_stream() -> None:
    """The clients' helpers put lists together by an index that annotations do not have: so they come in one piece."""
    run = RunLog("r1").add(e.Source(source_id="a", url="https://example.com/a", title="A")).say("Ünö")
    log = log_of(run.add(e.Source(source_id="b", url="https://example.com/b"), e.Source(source_id="c")).done())
    cited = [
        {"type": "url_citation", "url_citation": {"url": url, "title": title, "start_index": at, "end_index": at}}
        for url, title, at in (("https://example.com/a", "A", 0), ("https://example.com/b", "https://example.com/b", 3))
    ]
    told = [json.loads(frame.data)["choices"][0] for frame in frames_of(log)]
    assert [one["delta"]["annotations"] for one in told if "annotations" in one["delta"]] == [cited]
    assert told[-2]["delta"] == {"annotations": cited}
    assert json.loads(OpenAiChat().completion(log))["choices"][0]["message"]["annotations"] == cited


def test_a_source_of_what_was_taken_back_points_into_the_text() -> None:
    run = RunLog("r1").say("Wrong and long", id="m1").add(e.Source(source_id="a", url="https://example.com/a"))
    log = log_of(run.add(e.MessageRetracted(message_ids=["m1"])).say("Right.").done())
    (one,) = json.loads(OpenAiChat().completion(log))["choices"][0]["message"]["annotations"]
    assert one["url_citation"]["end_index"] == len("Right.")


def said(name: str) -> str:
    chunks = [json.loads(frame.data) for frame in frames_of(LOGS[name])]
    return "".join(one["choices"][0]["delta"].get("content") or "" for one in chunks if "choices" in one)


def test_the_text_of_a_stream_is_the_text_of_the_whole() -> None:
    for name in ("plain", "two messages", "tools", "parallel tools", "tool error", "unicode", "long", "subagent"):
        whole = json.loads(OpenAiChat().completion(LOGS[name]))
        assert whole["choices"][0]["message"]["content"] == said(name), name
        assert whole["choices"][0]["finish_reason"] == "stop"


def test_what_was_retracted_is_not_in_the_whole() -> None:
    assert json.loads(OpenAiChat().completion(LOGS["retracted"]))["choices"][0]["message"]["content"] == "Right."


def test_thoughts_stand_beside_the_text() -> None:
    message = json.loads(OpenAiChat().completion(LOGS["reasoning"]))["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"]) == ("42\n\n.", "Let me see.\nAnd then.\n\nSure?")


def left() -> list[Record]:
    """A run that calls a tool of its own and leaves two calls to the client."""
    usage = [e.TokenUsage(input_tokens=10, output_tokens=3), e.TokenUsage(input_tokens=20, output_tokens=4)]
    events: list[e.Event] = [
        e.RunStarted(thread_id=THREAD, agent="helper"),
        e.ToolCallStart(tool_call_id="own", tool_call_name="look"),
        e.ToolCallEnd(tool_call_id="own", args="{}"),
        e.ToolCallResult(message_id="o", tool_call_id="own", content="x"),
        e.ToolCallStart(tool_call_id="c1", tool_call_name="weather"),
        e.ToolCallArgs(tool_call_id="c1", delta='{"city":'),
        e.ToolCallArgs(tool_call_id="c1", delta='"Rome"}'),
        e.ToolCallEnd(tool_call_id="c1", args='{"city":"Rome"}'),
        e.ToolCallStart(tool_call_id="c2", tool_call_name="now"),
        e.ToolCallEnd(tool_call_id="c2", args="{}"),
        e.RunFinished(
            thread_id=THREAD,
            outcome=e.Outcome(type="success", pending_tool_call_ids=["c1", "c2"]),
            usage=usage,
        ),
    ]
    return log_of([e.of_run(event, "r1") for event in events])


def test_calls_left_to_the_client_are_told_whole_and_the_agents_own_are_not() -> None:
    *_, calls, finish, usage = [json.loads(frame.data) for frame in frames_of(left(), {"include_usage": "true"})]
    told = calls["choices"][0]["delta"]["tool_calls"]
    assert [(one["index"], one["id"], one["function"]) for one in told] == [
        (0, "r1:c1", {"name": "weather", "arguments": '{"city":"Rome"}'}),
        (1, "r1:c2", {"name": "now", "arguments": "{}"}),
    ]
    assert finish["choices"][0]["finish_reason"] == "tool_calls"
    assert usage["choices"] == []
    assert (usage["usage"]["prompt_tokens"], usage["usage"]["completion_tokens"]) == (30, 7)
    assert usage["usage"]["total_tokens"] == 37
    whole = json.loads(OpenAiChat().completion(left()))
    assert whole["choices"][0]["message"]["content"] is None
    assert len(whole["choices"][0]["message"]["tool_calls"]) == 2


def test_a_delta_is_encoded_once_for_all_readers() -> None:
    encoders = [OpenAiChat().encoder(Start(THREAD, "epoch")) for _ in range(3)]
    for record in LOGS["plain"]:
        frames = [encoder.encode(record) for encoder in encoders]
        if isinstance(record.event, e.TextMessageContent):
            assert frames[0][0] is frames[1][0] is frames[2][0]
