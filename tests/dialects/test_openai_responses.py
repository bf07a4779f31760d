"""Responses: items, sequence numbers that survive everything, one end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest
from openai import NOT_GIVEN
from openai._models import construct_type
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import ResponseStreamEvent

from runcast import events as e
from runcast.dialects.base import Frame, Start
from runcast.dialects.openai_responses import After, OpenAiResponses, ResponsesEncoder, sequence_number
from runcast.events import Record
from runcast.testing import DialectSuite
from runcast.testing.dialect_logs import LOGS, THREAD, RunLog, log_of

CASES = sorted((Path(__file__).parents[2] / "spec/cases/dialects/openai-responses").glob("*.json"))


def frames_of(records: list[Record]) -> list[Frame]:
    encoder = OpenAiResponses().encoder(Start(THREAD, "epoch"))
    return [frame for record in records for frame in encoder.encode(record)]


def of_run(name: str, run: str = "r1") -> list[Record]:
    return [record for record in LOGS[name] if record.event.run_id == run]


class TestOpenAiResponses(DialectSuite):
    def make(self) -> OpenAiResponses:
        return OpenAiResponses()


class AsFunctions(OpenAiResponses):
    """As a client gets it that asks with `calls=function`."""

    def encoder(self, start: Start) -> ResponsesEncoder:
        return super().encoder(start._replace(options={"calls": "function"}))


class TestAsFunctions(DialectSuite):
    def make(self) -> AsFunctions:
        return AsFunctions()


def test_calls_can_be_told_as_functions_with_what_came_of_them() -> None:
    encoder = AsFunctions().encoder(Start(THREAD, "epoch"))
    for record in of_run("parallel tools"):
        encoder.encode(record)
    items = [one for one in encoder.response()["output"] if one["type"] not in ("message", "reasoning")]
    assert {one["type"] for one in items} == {"function_call", "function_call_output"}
    called = {one["call_id"]: one["name"] for one in items if one["type"] == "function_call"}
    came = {one["call_id"] for one in items if one["type"] == "function_call_output"}
    assert came == set(called)


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
        if name not in ("retracted", "restarted") and (name, run) != ("approval", "r1"):
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
    encoder = ResponsesEncoder()
    encoder.before(of_run("approval", "r1"))
    for record in of_run("approval", "r2"):
        encoder.encode(record)
    answered = encoder.response()
    assert answered["previous_response_id"] == "resp_r1"
    call, message = answered["output"]
    assert (call["type"], message["type"]) == ("mcp_call", "message")
    assert (call["name"], call["arguments"], call["output"]) == ("delete", '{"path":"a.txt"}', '{"deleted":1}')
    assert (call["status"], call["approval_request_id"]) == ("completed", asked["id"])


def test_a_call_is_the_clients_only_if_its_tool_is() -> None:
    """Clients carry out whatever is a `function_call`."""
    log = RunLog("r1")
    log.events[0] = e.of_run(e.RunStarted(thread_id=THREAD, input={"tools": [{"name": "where"}]}, agent="a"), "r1")
    log.call("c1", "where", "{}").call("c2", "search", "{}").result("c2", "x").add(
        e.RunFinished(thread_id=THREAD, outcome=e.Outcome(type="success", pending_tool_call_ids=["c1"]))
    )
    output = OpenAiResponses().response(log_of(log.events))["output"]
    assert [(one["type"], one["name"], one["status"]) for one in output] == [
        ("function_call", "where", "completed"),
        ("mcp_call", "search", "completed"),
    ]
    assert output[0]["call_id"] == "r1:c1"  # says which run left it


def helped(log: list[Record]) -> Any:
    """What the helper of OpenAI's client makes of the stream; it is strict with items that are not ended."""
    state: Any = ResponseStreamState(input_tools=[], text_format=NOT_GIVEN)
    told = [
        construct_type(type_=cast("Any", ResponseStreamEvent), value=json.loads(one.data)) for one in frames_of(log)
    ]
    return [event for one in told for event in state.handle_event(one)][-1].response.output


@pytest.mark.parametrize(
    "name", [name for name in LOGS if not name.startswith(("two runs", "queued", "dequeued", "approval"))]
)
def test_the_clients_helper_takes_every_stream(name: str) -> None:
    output = helped(of_run(name))
    assert [item.type for item in output] == [item["type"] for item in response(name)["output"]]


def test_a_question_takes_the_place_of_the_call_that_waits() -> None:
    """As with OpenAI; a client would take a call without a result for one that ran."""
    assert [one["type"] for one in response("approval")["output"]] == ["message", "mcp_approval_request"]
    assert [item.type for item in helped(of_run("approval"))] == ["message", "mcp_approval_request"]


@pytest.mark.parametrize("restarts", [True, False])
def test_a_call_that_is_taken_back_is_ended(restarts: bool) -> None:
    run = RunLog("r1").call("c1", "search", '{"q":1}').call("c2", "search", '{"q":2}')
    run.add(e.RunRestarted(attempt=2, anew=True) if restarts else e.MessageRetracted(tool_call_ids=["c1", "c2"]))
    output = helped(log_of(run.say("Right.").done()))
    assert [item.type for item in output] == ["message"]


@pytest.mark.parametrize("status", ["error", "denied", "cancelled", "interrupted"])
def test_a_call_that_failed_says_so(status: Any) -> None:
    log = log_of(RunLog("r1").call("c1", "read").result("c1", "No.", status=status, error="No.").done())
    (call,) = OpenAiResponses().response(log)["output"]
    assert (call["status"], call["output"]) == ("failed", None)
    assert call["error"] == {"type": "mcp_tool_execution_error", "content": [{"type": "text", "text": "No."}]}
    assert "response.mcp_call.failed" in [frame.name for frame in frames_of(log)]


def test_the_arguments_deltas_are_the_arguments() -> None:
    """Clients put them together, also where the model wrote them at once."""
    for name in ("tools", "no arguments", "approval"):
        told = [json.loads(frame.data) for frame in frames_of(LOGS[name])]
        for at, one in enumerate(told):
            if one["type"] == "response.mcp_call_arguments.done":
                start = max(i for i in range(at) if told[i]["type"] == "response.output_item.added")
                said = [t["delta"] for t in told[start:at] if t["type"] == "response.mcp_call_arguments.delta"]
                assert "".join(said) == one["arguments"] != ""


# --- sources ----------------------------------------------------------------------------------------------------------


def source(id: str, **more: Any) -> e.Source:
    return e.Source(source_id=id, url=f"https://example.com/{id}", **more)


def cited(log: list[Record]) -> list[list[tuple[str, int]]]:
    output = OpenAiResponses().response(log)["output"]
    return [[(one["url"][-1], one["start_index"]) for one in item["content"][0]["annotations"]] for item in output]


def test_a_source_is_cited_where_the_text_stood() -> None:
    run = RunLog("r1").add(source("a"))
    run.add(e.TextMessageStart(message_id="m1"), e.TextMessageContent(message_id="m1", delta="Ünö"), source("b"))
    run.add(e.TextMessageContent(message_id="m1", delta=" two"), e.TextMessageEnd(message_id="m1", text="Ünö two"))
    log = log_of(run.add(source("c")).say("More.").add(source("d", title="D"), e.Source(source_id="x")).done())
    assert cited(log) == [[("a", 0), ("b", 3)], [("c", 0), ("d", 5)]]
    told = [json.loads(frame.data) for frame in frames_of(log)]
    added = [one for one in told if one["type"] == "response.output_text.annotation.added"]
    assert [(one["annotation_index"], one["item_id"]) for one in added] == [
        (0, "msg_r1:m1"), (1, "msg_r1:m1"), (0, "msg_r1:r1-m8"), (1, "msg_r1:r1-m8"),
    ]  # fmt: skip
    assert [one["annotation"]["title"] for one in added][2:] == ["https://example.com/c", "D"]


def test_a_source_of_a_run_that_says_nothing_is_lost_in_silence() -> None:
    assert OpenAiResponses().response(log_of(RunLog("r1").add(source("a")).done()))["output"] == []


def test_what_was_retracted_is_not_in_the_output() -> None:
    assert [one["content"][0]["text"] for one in response("retracted")["output"]] == ["Right."]
    assert [one["content"][0]["text"] for one in response("restarted")["output"]] == ["Right."]


def test_a_delta_is_encoded_once_for_all_readers() -> None:
    encoders = [OpenAiResponses().encoder(Start(THREAD, "epoch")) for _ in range(3)]
    for record in LOGS["plain"]:
        frames = [encoder.encode(record) for encoder in encoders]
        if isinstance(record.event, e.TextMessageContent):
            assert frames[0][0] is frames[1][0] is frames[2][0]
