"""The vocabulary against AG-UI 1.0's own models, and on the wire."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec
import pytest
from ag_ui.core import Event as AgUiUnion
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET
from pydantic import TypeAdapter

from runcast import events as e
from runcast.events import AGUI, OWN, Event, UnknownEvent, decode, encode, of_run, stamp

AG_UI: TypeAdapter[Any] = TypeAdapter(AgUiUnion)

USAGE = [
    e.TokenUsage(
        provider="p", model="m", input_tokens=3, output_tokens=2, total_tokens=5, reasoning_tokens=1, cached_input_tokens=1,
        cache_write_input_tokens=1,
    ),
    e.TokenUsage(),
]  # fmt: skip
INTERRUPT = e.Interrupt(
    id="r.1", reason="tool_call", message="Sure?", tool_call_id="c", response_schema={"type": "object"},
    expires_at="2026-01-01T00:00:00Z", metadata={"k": None}, subagent_run_id="s",
)  # fmt: skip
INPUT = {
    "threadId": "t",
    "runId": "r",
    "messages": [{"id": "m", "role": "user", "content": "Hi"}],
    "tools": [],
    "context": [],
}
PARTS: list[dict[str, Any]] = [
    {"type": "text", "text": "a"},
    {"type": "image", "source": {"type": "url", "value": "https://example.org/i.png"}},
]
BLOB = e.Blob(url="/v1/files/f", mime_type="text/plain", size=300_000, sha256="0f" * 32)
PATCH: list[dict[str, Any]] = [
    {"op": "add", "path": "/a", "value": None}, {"op": "remove", "path": "/a"}, {"op": "replace", "path": "/a", "value": 1},
    {"op": "move", "from": "/a", "path": "/b"}, {"op": "copy", "from": "/a", "path": "/b"}, {"op": "test", "path": "", "value": {}},
]  # fmt: skip

STANDARD: list[Event] = [
    e.TextMessageStart(message_id="m"),
    e.TextMessageStart(message_id="m", role="developer", name="n"),
    e.TextMessageContent(message_id="m", delta=""),
    e.TextMessageContent(message_id="m", delta="👩\u200d👧 \u2028\x00"),
    e.TextMessageEnd(message_id="m"),
    e.TextMessageChunk(),
    e.TextMessageChunk(message_id="m", role="user", delta="d", name="n"),
    e.ReasoningStart(message_id="m"),
    e.ReasoningMessageStart(message_id="m", role="reasoning"),
    e.ReasoningMessageContent(message_id="m", delta="d"),
    e.ReasoningMessageEnd(message_id="m"),
    e.ReasoningMessageChunk(),
    e.ReasoningMessageChunk(message_id="m", delta="d"),
    e.ReasoningEnd(message_id="m"),
    e.ReasoningEncryptedValue(subtype="tool-call", entity_id="c", encrypted_value="x"),
    e.ReasoningEncryptedValue(subtype="message", entity_id="m", encrypted_value="x"),
    e.ToolCallStart(tool_call_id="c", tool_call_name="f"),
    e.ToolCallStart(tool_call_id="c", tool_call_name="f", parent_message_id="m"),
    e.ToolCallArgs(tool_call_id="c", delta="{"),
    e.ToolCallEnd(tool_call_id="c"),
    e.ToolCallChunk(),
    e.ToolCallChunk(tool_call_id="c", tool_call_name="f", parent_message_id="m", delta="{"),
    e.ToolCallResult(message_id="m", tool_call_id="c", content="text"),
    e.ToolCallResult(message_id="m", tool_call_id="c", content=PARTS, role="tool"),
    e.StateSnapshot(snapshot={"a": [None, 1.5, "x"]}),
    e.StateSnapshot(snapshot=None),
    e.StateDelta(delta=[]),
    e.StateDelta(delta=PATCH),
    e.MessagesSnapshot(messages=[]),
    e.MessagesSnapshot(messages=[{"id": "m", "role": "user", "content": "Hi"}]),
    e.ActivitySnapshot(message_id="m", activity_type="plan", content={}),
    e.ActivitySnapshot(message_id="m", activity_type="plan", content={"a": None}, replace=False),
    e.ActivityDelta(message_id="m", activity_type="plan", patch=PATCH),
    e.Raw(event=None),
    e.Raw(event={"a": 1}, source="s"),
    e.Custom(name="n", value=None),
    e.Custom(name="n", value=[1]),
    e.RunStarted(thread_id="t"),
    e.RunStarted(thread_id="t", protocol_version="1.0", parent_run_id="r0", input=INPUT),
    e.RunFinished(thread_id="t"),
    e.RunFinished(thread_id="t", result={"a": 1}, outcome=e.Outcome(type="success", pending_tool_call_ids=["c"]), usage=USAGE),
    e.RunFinished(thread_id="t", outcome=e.Outcome(type="interrupt", interrupts=[INTERRUPT, e.Interrupt(id="i", reason="x:y")])),
    e.RunFinished(thread_id="t", outcome=e.Outcome(type="cancelled")),
    e.RunError(message="m"),
    e.RunError(message="m", code="c", usage=USAGE),
    e.StepStarted(step_name="s"),
    e.StepFinished(step_name="s"),
    e.SubagentStarted(subagent_run_id="s", name="n"),
    e.SubagentStarted(
        subagent_run_id="s", name="n", description="d", parent_subagent_run_id="p", parent_tool_call_id="c", parent_message_id="m"
    ),
    e.SubagentFinished(subagent_run_id="s"),
    e.SubagentFinished(subagent_run_id="s", result=1, outcome=e.SubagentOutcome(type="success")),
    e.SubagentFinished(subagent_run_id="s", outcome=e.SubagentOutcome(type="suspended", interrupt_ids=["i"])),
    e.SubagentError(subagent_run_id="s", message="m"),
    e.SubagentError(subagent_run_id="s", message="m", code="c"),
]  # fmt: skip
"""Every AG-UI 1.0 type, with as few and with all of its fields."""

EXTENDED: list[Event] = [
    e.RunStarted(thread_id="t", agent="a", resumes="r0", replaces="r1"),
    e.RunFinished(thread_id="t", reason="because"),
    e.RunError(message="m", retryable=True, retry_after_ms=20, limit_s=1.5, request_id="q"),
    e.TextMessageEnd(message_id="m", text="whole", incomplete="cancelled"),
    e.ReasoningMessageEnd(message_id="m", text="whole", incomplete="failed"),
    e.ToolCallStart(tool_call_id="c", tool_call_name="f", title="Searching…", idempotent=True),
    e.ToolCallEnd(tool_call_id="c", args="{}", incomplete="interrupted"),
    e.ToolCallResult(
        message_id="m", tool_call_id="c", content="", status="denied", error="No.", result=None, summary="s"
    ),
    e.ToolCallResult(message_id="m", tool_call_id="c", content="a", result="b", blob=BLOB, result_blob=BLOB),
]
"""Our own fields on AG-UI's types."""

OURS: list[Event] = [
    e.RunQueued(thread_id="t", input=INPUT, agent="a"),
    e.RunQueued(thread_id="t", input=INPUT, agent="a", parent_run_id="p", replaces="r1"),
    e.RunDequeued(),
    e.RunDequeued(reason="r"),
    e.RunCancelRequested(by="u", reason="r"),
    e.RunSteered(message={"id": "m"}, consumed=False),
    e.RunRestarted(attempt=2, anew=True),
    e.InterruptRequested(interrupt=INTERRUPT, args_hash="ab"),
    e.InterruptResolved(interrupt_id="i", status="expired"),
    e.InterruptResolved(interrupt_id="i", status="resolved", payload=None, by="u", ends_run=False, reason="r"),
    e.ToolCallProgress(tool_call_id="c"),
    e.ToolCallProgress(tool_call_id="c", progress=0.5, total=1.0, message="m", data=None),
    e.ArtifactSnapshot(artifact_id="a", kind="diagram"),
    e.ArtifactSnapshot(
        artifact_id="a", kind="file", name="n", mime_type="t/x", content=None, url="https://example.org", version=2, tool_call_id="c",
        message_id="m", blob=BLOB,
    ),
    e.ArtifactDelta(artifact_id="a", append="x"),
    e.ArtifactDelta(artifact_id="a", patch=PATCH),
    e.Source(source_id="s"),
    e.Source(source_id="s", url="u", title="t", media_type="m/t", message_id="m"),
    e.MessageRetracted(message_ids=["m"], tool_call_ids=["c"], reason="retry"),
    e.MessagePosted(message={"id": "m", "role": "user", "content": "x"}),
    e.ThreadUpdated(title="t"),
    e.ThreadUpdated(
        thread_id="t", title="", head_run="r", pinned=False, shared=True, deleted=False, created_at=1, updated_at=2,
        run=e.RunSummary(id="r", agent="a", status="done"),
    ),
    e.Feedback(target_run_id="r", value=-1, comment="c", by="u"),
]  # fmt: skip

ALL = [*STANDARD, *EXTENDED, *OURS]


def name(event: Event) -> str:
    return event.type


def in_log(event: Event) -> Event:
    return stamp(of_run(event, "r"), 7, 1_767_225_600_000)


def test_the_lists_are_complete() -> None:
    assert len(AGUI) == 31
    assert {type(event) for event in STANDARD} == set(AGUI)
    assert {type(event) for event in OURS} == set(OWN)
    assert len({event.type for event in (*STANDARD, *OURS)}) == len(AGUI) + len(OWN)


def test_every_field_is_tried() -> None:
    """Otherwise the tests below would say nothing about it."""
    envelope = {field.name for field in msgspec.structs.fields(Event)}
    for kind in (*AGUI, *OWN):
        tried = {
            field.name
            for event in ALL
            if type(event) is kind
            for field in msgspec.structs.fields(kind)
            if getattr(event, field.name) is not UNSET
        }
        assert {field.name for field in msgspec.structs.fields(kind)} - envelope <= tried, kind.__name__


@pytest.mark.parametrize("event", STANDARD, ids=name)
def test_ag_ui_reads_what_we_write_and_the_reverse(event: Event) -> None:
    """As it stands in the log: envelope and all."""
    event = in_log(event)
    model = AG_UI.validate_json(encode(event))
    assert model.type == event.type
    unknown = set(model.model_extra or {}) - {"seq", "runId"}
    assert not unknown, f"AG-UI does not know {unknown}"
    dumped = model.model_dump_json(by_alias=True)
    assert decode(dumped) == event
    assert json.loads(dumped) == json.loads(encode(event))
    dumped = json.dumps(model.model_dump(mode="json", by_alias=True, exclude_none=True))
    if b"null" not in encode(event):  # exclude_none also drops nulls that mean something
        assert decode(dumped) == event


@pytest.mark.parametrize("event", EXTENDED, ids=name)
def test_ag_ui_bears_our_own_fields(event: Event) -> None:
    """It keeps what it does not know, so even the unprojected log can be read by it."""
    event = in_log(event)
    model = AG_UI.validate_json(encode(event))
    assert decode(model.model_dump_json(by_alias=True)) == event


@pytest.mark.parametrize("event", ALL, ids=name)
def test_round_trip(event: Event) -> None:
    for each in (event, in_log(event)):
        assert decode(encode(each)) == each
        assert decode(encode(each).decode()) == each
        assert b"\n" not in encode(each), "one line"


@pytest.mark.parametrize("event", STANDARD, ids=name)
def test_required_fields_are_required_in_ag_ui_too(event: Event) -> None:
    for field in msgspec.structs.fields(type(event)):
        if field.required:
            raw = {key: value for key, value in json.loads(encode(in_log(event))).items() if key != field.encode_name}
            with pytest.raises(msgspec.ValidationError, match=field.encode_name):
                decode(json.dumps(raw))
            if field.encode_name != "role":  # required by AG-UI's schema; its Python model fills in the only value
                with pytest.raises(ValueError, match=field.encode_name):
                    AG_UI.validate_python(raw)


@pytest.mark.parametrize("kind", AGUI, ids=lambda kind: kind.__name__)
def test_common_fields(kind: type[Event]) -> None:
    first = next(event for event in STANDARD if type(event) is kind)
    event = msgspec.structs.replace(in_log(first), raw_event={"a": [None]}, metadata={"k": None})
    assert decode(AG_UI.validate_json(encode(event)).model_dump_json(by_alias=True)) == event


def test_a_required_null_is_written() -> None:
    assert json.loads(encode(e.StateSnapshot(snapshot=None))) == {"type": "STATE_SNAPSHOT", "snapshot": None}
    assert json.loads(encode(e.Custom(name="n", value=None)))["value"] is None
    assert json.loads(encode(e.Raw(event=None)))["event"] is None
    assert (
        json.loads(encode(e.ToolCallResult(message_id="m", tool_call_id="c", content="", result=None)))["result"]
        is None
    )


def test_an_optional_field_without_value_is_left_out() -> None:
    assert encode(e.RunDequeued()) == b'{"type":"RUN_DEQUEUED"}'


def test_an_unknown_type_is_kept_whole() -> None:
    raw = {
        "seq": 3,
        "runId": "r",
        "timestamp": 5,
        "type": "NEW_THING",
        "a": [None, {"b": 1.5}],
        "metadata": {"k": 1},
        "delta": "d",
    }
    event = decode(json.dumps(raw))
    assert isinstance(event, UnknownEvent)
    assert event.type == "NEW_THING"
    assert (event.seq, event.run_id, event.timestamp) == (3, "r", 5)
    assert json.loads(encode(event)) == raw
    again = stamp(of_run(event, "r2"), 9, 10)
    assert json.loads(encode(again)) == {**raw, "seq": 9, "runId": "r2", "timestamp": 10}
    assert decode(encode(again)) == again


@pytest.mark.parametrize(
    "data",
    [
        '{"type":"TEXT_MESSAGE_CONTENT","messageId":"m"}',
        '{"type":"TEXT_MESSAGE_CONTENT","messageId":1,"delta":""}',
        '{"type":"FEEDBACK","targetRunId":"r","value":2}',
        '{"delta":"no type"}',
        '{"type":7}',
        "[]",
        "null",
    ],
)
def test_a_known_type_must_be_right(data: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        decode(data)


@pytest.mark.parametrize("envelope", ['"seq":"x"', '"runId":5', '"timestamp":"now"', '"from":[]'])
def test_the_envelope_of_an_unknown_type_must_be_right(envelope: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        decode('{"type":"NEW_THING",' + envelope + "}")


@pytest.mark.parametrize(
    "data",
    [
        "{",
        "",
        b'{"type":"STEP_STARTED","stepName":"\xff"}',
        b'{"type":"NEW_THING","a":"\xff"}',
        '{"type":"STEP_STARTED","stepName":"\ud800"}',
        '{"type":"RAW","event":' + "[" * 5000 + "]" * 5000 + "}",
        '{"type":"NEW_THING","event":' + "[" * 5000 + "]" * 5000 + "}",
        '{"type":"RAW","event":NaN}',
    ],
    ids=["open", "empty", "not UTF-8", "unknown, not UTF-8", "surrogate", "deep", "unknown, deep", "NaN"],
)
def test_what_is_not_json_is_told_apart(data: str | bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode(data)


def test_how_deep_an_event_may_nest_does_not_depend_on_the_python() -> None:
    inside = "[" * (e.MAX_DEPTH - 1) + "]" * (e.MAX_DEPTH - 1)
    assert decode('{"type":"RAW","event":' + inside + "}")
    with pytest.raises(msgspec.DecodeError, match="too deep"):
        decode('{"type":"RAW","event":[' + inside + "]}")
    assert decode('{"type":"RAW","event":"' + "[" * 5000 + '\\""}') == e.Raw(event="[" * 5000 + '"')


def test_numbers_that_json_has_not() -> None:
    """They must not make a log that cannot be read."""
    event = e.ToolCallProgress(tool_call_id="c", progress=math.nan, total=math.inf)
    assert event == e.ToolCallProgress(tool_call_id="c")
    assert decode(encode(event)) == event
    assert decode(encode(e.StateSnapshot(snapshot=[math.inf]))) == e.StateSnapshot(snapshot=[None])


def test_unknown_fields_are_dropped() -> None:
    assert decode('{"type":"STEP_STARTED","stepName":"s","new":1}') == e.StepStarted(step_name="s")


@given(st.text(st.characters(), max_size=8))
def test_any_text_can_be_encoded(text: str) -> None:
    """Lone surrogates too: an agent that cuts an emoji in half must not kill its run."""
    expected = "".join("\ufffd" if 0xD800 <= ord(character) < 0xE000 else character for character in text)
    for event in (e.TextMessageContent(message_id="m", delta=text), e.StateSnapshot(snapshot={text: [text]})):
        again = decode(encode(event))
        assert again in (
            e.TextMessageContent(message_id="m", delta=expected),
            e.StateSnapshot(snapshot={expected: [expected]}),
        )
    raw = UnknownEvent(raw={"type": "X", "a": text})
    assert json.loads(encode(raw))["a"] == expected


def test_half_a_character_in_each_of_two_deltas() -> None:
    assert decode(encode(e.TextMessageContent(message_id="m", delta="a\ud83d"))) == e.TextMessageContent(
        message_id="m", delta="a\ufffd"
    )


def test_stamp_is_the_appends() -> None:
    event = stamp(msgspec.structs.replace(e.RunDequeued(), seq=1, from_=1), 5, 6)
    assert (event.seq, event.from_, event.timestamp) == (5, UNSET, 6)
    assert of_run(event, "r").run_id == "r"


def test_a_printed_event_shows_only_what_is_there() -> None:
    assert repr(e.TextMessageContent(message_id="m", delta="x")) == "TextMessageContent(message_id='m', delta='x')"
