"""The `chat-stream` dialect: steps as they happen, no null results, one end."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dialects.cases import Case, cases_of, check
from runcast.dialects.base import BadFrame, Dialect, Start
from runcast.dialects.chat_stream import ChatStream
from runcast.testing import DialectSuite
from runcast.testing.dialect_logs import LOGS, THREAD


class TestChatStream(DialectSuite):
    def make(self) -> Dialect:
        return ChatStream()


class TestWithDeltas(TestChatStream):
    deltas = ("content",)

    def start(self, after: int = 0, run: str | None = None) -> Start:
        return Start(THREAD, "epoch", after, run, "mine", {"deltas": "true"})


@pytest.mark.parametrize("case", cases_of("chat-stream"))
def test_frames(case: Case) -> None:
    check(ChatStream(), case)


@pytest.mark.parametrize("name", LOGS)
def test_no_result_is_null_and_every_tool_that_began_is_in_the_answer(name: str) -> None:
    started: list[str] = []
    encoder = ChatStream().encoder(Start(THREAD, "epoch"))
    for record in LOGS[name]:
        for frame in encoder.encode(record):
            said: dict[str, Any] = json.loads(frame.data)
            match said["type"]:
                case "user_message":
                    started = []
                case "tool_start":
                    started.append(said["tool_id"])
                case "tool_complete":
                    assert said["result"] is not None
                case "response":
                    assert all(call["result"] is not None for call in said["tool_calls"])
                    assert {call["tool_id"] for call in said["tool_calls"]} >= set(started)
                case _:
                    pass


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("{", "The message is not valid JSON."),
        ("[]", "A message is one JSON object."),
        (b"{}", "Binary messages are not understood; send JSON as text."),
        ("{}", "Message is required"),
        ('{"session_id":"s"}', "Message is required"),
        ('{"session_id":"s","message":"  "}', "Message is required"),
        ('{"session_id":"s","message":null}', "Message is required"),
        ('{"session_id":"s","message":7}', "`message` must be a text."),
        ('{"message":"m"}', "session_id is required"),
        ('{"session_id":"","message":"m"}', "session_id is required"),
        ('{"session_id":"a/b","message":"m"}', "`session_id` must not have slashes or control characters."),
    ],
)
def test_bad_frames(data: str | bytes, message: str) -> None:
    with pytest.raises(BadFrame) as bad:
        ChatStream().decode(data)
    assert bad.value.message == message


def test_a_message() -> None:
    ask = ChatStream().decode('{"session_id":"s 1","message":" Hi ","more":{}}')
    assert (ask.text, ask.conversation, dict(ask.options)) == (" Hi ", "s 1", {})
    assert ChatStream().decode('{"session_id":"s","message":"m","deltas":true}').options == {"deltas": "true"}
    assert not ChatStream().decode('{"session_id":"s","message":"m","deltas":"yes"}').options


def test_the_whole_answer_at_once() -> None:
    answer = json.loads(ChatStream().answer(Start(THREAD, "epoch", conversation="mine"), LOGS["tools"]))
    assert answer == {
        "session_id": "mine",
        "content": "I look.\n\nThree.",
        "tool_calls": [{"tool_id": "c1", "name": "search", "arguments": {"q": "a"}, "result": {"found": 3}}],
        "timestamp": "2026-01-01T00:00:01.400+00:00",
    }


def test_only_a_deliberate_close_is_a_stop() -> None:
    assert ChatStream().on_close(True) == "cancel"
    assert ChatStream().on_close(False) == "nothing"


def test_it_has_no_options() -> None:
    with pytest.raises(ValueError, match="unknown option 'end'"):
        ChatStream({"end": "x"})
