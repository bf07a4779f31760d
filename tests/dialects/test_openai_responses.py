"""Responses: items, sequence numbers that survive everything, one end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from runcast import events as e
from runcast.dialects.base import Frame, Start
from runcast.dialects.openai_responses import After, OpenAiResponses, sequence_number
from runcast.events import Record
from runcast.testing import DialectSuite
from runcast.testing.dialect_logs import LOGS, THREAD

CASES = sorted((Path(__file__).parents[2] / "spec/cases/dialects/openai-responses").glob("*.json"))


def frames_of(records: list[Record]) -> list[Frame]:
    encoder = OpenAiResponses().encoder(Start(THREAD, "epoch"))
    return [frame for record in records for frame in encoder.encode(record)]


def of_run(name: str, run: str = "r1") -> list[Record]:
    return [record for record in LOGS[name] if record.event.run_id == run]


class TestOpenAiResponses(DialectSuite):
    def make(self) -> OpenAiResponses:
        return OpenAiResponses()


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_cases(path: Path) -> None:
    case = json.loads(path.read_text())
    records = [Record(e.decode(data := json.dumps(event).encode()), data) for event in case["events"]]
    frames = frames_of(records)
    assert [json.loads(frame.data) for frame in frames] == case["frames"]
    assert [frame.name for frame in frames] == [frame["type"] for frame in case["frames"]]


def test_there_is_a_case_for_every_kind_of_run() -> None:
    assert {path.stem.replace("-", " ") for path in CASES} >= set(LOGS)


@pytest.mark.parametrize("name", LOGS)
def test_sequence_numbers_grow_and_say_where_to_go_on(name: str) -> None:
    frames = frames_of(LOGS[name])
    numbers = [sequence_number(frame) for frame in frames]
    assert numbers == [json.loads(frame.data)["sequence_number"] for frame in frames]
    assert numbers == sorted(set(numbers))
    for at, number in enumerate(numbers):
        encoder = After(OpenAiResponses().encoder(Start(THREAD, "epoch")), number)
        assert [frame for record in LOGS[name] for frame in encoder.encode(record)] == frames[at + 1 :]


@pytest.mark.parametrize("name", LOGS)
def test_items_are_added_and_done_once_in_order(name: str) -> None:
    for run in dict.fromkeys(r.event.run_id for r in LOGS[name] if isinstance(r.event.run_id, str)):
        told = [json.loads(frame.data) for frame in frames_of(of_run(name, run))]
        added = [one["output_index"] for one in told if one["type"] == "response.output_item.added"]
        done = [one["output_index"] for one in told if one["type"] == "response.output_item.done"]
        assert added == list(range(len(added)))
        if name not in ("queued",):
            assert sorted(done) == added
        last = told[-1]["response"]
        if name not in ("retracted", "restarted"):
            assert last["output"] == [
                one["item"] for one in sorted(told, key=lambda one: one.get("output_index", -1))
                if one["type"] == "response.output_item.done"
            ]  # fmt: skip


def response(name: str, run: str = "r1") -> dict[str, Any]:
    return OpenAiResponses().response(of_run(name, run))


def test_how_a_run_stands_when_it_is_asked_for() -> None:
    assert response("plain")["status"] == "completed"
    assert response("cancelled")["status"] == "cancelled"
    assert response("failed")["error"] == {"code": "model_unavailable", "message": "The model cannot be reached."}
    assert response("interrupted")["error"]["code"] == "interrupted"
    assert response("dequeued", "r2")["status"] == "cancelled"
    assert OpenAiResponses().response(LOGS["dequeued"][:1])["status"] == "queued"
    part = OpenAiResponses().response(LOGS["plain"][:4])
    assert part["status"] == "in_progress"
    assert part["output"][0]["content"][0]["text"] == "Hello"


def test_an_approval_is_an_item_and_its_answer_a_new_response() -> None:
    *_, asked = response("approval")["output"]
    assert asked["type"] == "mcp_approval_request"
    assert (asked["id"], asked["name"], asked["arguments"]) == ("mcpr_r1.1", "delete", '{"path":"a.txt"}')
    answered = response("approval", "r2")
    assert answered["previous_response_id"] == "resp_r1"
    assert [one["type"] for one in answered["output"]] == ["function_call_output", "message"]


def test_what_was_retracted_is_not_in_the_output() -> None:
    assert [one["content"][0]["text"] for one in response("retracted")["output"]] == ["Right."]
    assert [one["content"][0]["text"] for one in response("restarted")["output"]] == ["Right."]


def test_a_delta_is_encoded_once_for_all_readers() -> None:
    encoders = [OpenAiResponses().encoder(Start(THREAD, "epoch")) for _ in range(3)]
    for record in LOGS["plain"]:
        frames = [encoder.encode(record) for encoder in encoders]
        if isinstance(record.event, e.TextMessageContent):
            assert frames[0][0] is frames[1][0] is frames[2][0]
