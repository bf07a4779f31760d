"""The `tool-calls` dialect: `type` and `data`, every call with its start and its end."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dialects.cases import Case, cases_of, check
from runcast.dialects.base import BadFrame, Start
from runcast.dialects.tool_calls import ToolCalls
from runcast.testing import DialectSuite
from runcast.testing.dialect_logs import LOGS


class TestToolCalls(DialectSuite):
    deltas = ("data.text",)

    def make(self) -> ToolCalls:
        return ToolCalls()

    def said(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(frame.data) for frame in self.of(LOGS[name])]

    @pytest.mark.parametrize("name", LOGS)
    def test_every_frame_is_one_of_the_protocols(self, name: str) -> None:
        shapes = {
            "thinking": {"message"},
            "text": {"text", "conversation_id"},
            "tool_call_start": {"tool_name", "arguments", "conversation_id"},
            "tool_call_end": {"tool_name", "arguments", "result", "status", "conversation_id"},
            "complete": {"message", "tool_calls", "conversation_id", "iterations"},
            "error": {"error"},
        }
        for frame in self.said(name):
            assert set(frame) == {"type", "data"}
            assert set(frame["data"]) == shapes[frame["type"]]

    def test_texts_concatenate_to_the_message(self) -> None:
        for name in ("plain", "two messages", "tools", "unicode", "long"):
            frames = self.said(name)
            whole = "".join(frame["data"]["text"] for frame in frames if frame["type"] == "text")
            assert frames[-1]["data"]["message"] == whole

    def test_iterations_count_the_answers_of_the_model(self) -> None:
        assert self.said("plain")[-1]["data"]["iterations"] == 1
        assert self.said("tools")[-1]["data"]["iterations"] == 2
        assert self.said("parallel tools")[-1]["data"]["iterations"] == 2

    def test_a_call_that_a_person_allowed_is_started_once(self) -> None:
        kinds = [frame["type"] for frame in self.said("approval")]
        assert kinds.count("tool_call_start") == kinds.count("tool_call_end") == 1

    def test_the_whole_run_as_one_answer(self) -> None:
        answer = json.loads(ToolCalls().answer(Start("t", "e", conversation="mine"), LOGS["tool error"]))
        assert answer == {
            "message": "It is not there.",
            "tool_calls": [
                {
                    "tool_name": "read",
                    "arguments": {"path": "x"},
                    "result": "Error: There is no file x.",
                    "status": "failed",
                }
            ],
            "conversation_id": "mine",
        }


@pytest.mark.parametrize("case", cases_of("tool-calls"))
def test_frames(case: Case) -> None:
    check(ToolCalls(), case)


def test_messages() -> None:
    assert ToolCalls().decode('{"message":"Hi","conversation_id":null,"more":1}') == ("Hi", None, {})
    assert ToolCalls().decode('{"message":"Hi","conversation_id":"c-1"}') == ("Hi", "c-1", {})
    for data in ("{}", '{"message":""}', '{"message":"  "}', '{"message":null}'):
        with pytest.raises(BadFrame, match="^Message is required$"):
            ToolCalls().decode(data)
    (frame,) = ToolCalls().error("invalid_request", "Message is required", request_id="q")
    assert frame.data == b'{"type":"error","data":{"error":"Message is required"}}'
