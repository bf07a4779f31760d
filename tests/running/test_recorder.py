"""What an agent's events become before they enter the log."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runcast import events as e
from runcast.errors import AgentError
from runcast.events import Event
from runcast.running.recorder import Ending, Recorder
from runcast.transcript import Transcript, fold


def record(*given: Event, ending: Ending = "done") -> list[Event]:
    recorder = Recorder("r")
    out = [one for event in given for one in recorder.take(event, 0.0)]
    return [*out, *recorder.close(ending)]


def test_ends_hold_the_whole_text_and_arguments() -> None:
    out = record(
        e.TextMessageStart(message_id="m"),
        e.TextMessageContent(message_id="m", delta="a"),
        e.ToolCallStart(tool_call_id="c", tool_call_name="search"),
        e.ToolCallArgs(tool_call_id="c", delta='{"q":'),
        e.TextMessageContent(message_id="m", delta="b"),
        e.ToolCallArgs(tool_call_id="c", delta="1}"),
        e.ToolCallEnd(tool_call_id="c"),
        e.TextMessageEnd(message_id="m"),
        e.ToolCallResult(message_id="res", tool_call_id="c", content="ok"),
    )
    assert next(x for x in out if isinstance(x, e.TextMessageEnd)).text == "ab"
    assert next(x for x in out if isinstance(x, e.ToolCallEnd)).args == '{"q":1}'
    assert all(x.run_id == "r" for x in out)


def test_chunks_become_what_they_stand_for() -> None:
    out = record(
        e.TextMessageChunk(message_id="m", delta="a"),
        e.TextMessageChunk(delta="b"),
        e.ToolCallChunk(tool_call_id="c", tool_call_name="search", delta="{"),
        e.ToolCallChunk(delta="}"),
        e.TextMessageChunk(message_id="n", delta="c"),
        e.ReasoningMessageChunk(message_id="t", delta="hm"),
    )
    kinds = [x.type for x in out]
    assert kinds == [
        "TEXT_MESSAGE_START",
        "TEXT_MESSAGE_CONTENT",
        "TEXT_MESSAGE_CONTENT",
        "TEXT_MESSAGE_END",
        "TOOL_CALL_START",
        "TOOL_CALL_ARGS",
        "TOOL_CALL_ARGS",
        "TOOL_CALL_END",
        "TEXT_MESSAGE_START",
        "TEXT_MESSAGE_CONTENT",
        "TEXT_MESSAGE_END",
        "REASONING_MESSAGE_START",
        "REASONING_MESSAGE_CONTENT",
        "REASONING_MESSAGE_END",
        "TOOL_CALL_RESULT",
    ]


def test_what_needs_a_start_gets_one_and_doubles_are_dropped() -> None:
    out = record(
        e.TextMessageContent(message_id="m", delta="a"),
        e.TextMessageStart(message_id="m"),
        e.TextMessageContent(message_id="m", delta=""),
        e.TextMessageEnd(message_id="m"),
        e.TextMessageEnd(message_id="m"),
        e.ReasoningEnd(message_id="never opened"),
        e.ToolCallArgs(tool_call_id="never opened", delta="x"),
    )
    assert [x.type for x in out] == ["TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_END"]


def test_an_id_that_is_used_again_names_a_new_item() -> None:
    out = record(
        e.ReasoningMessageContent(message_id="a", delta="hm"),
        e.TextMessageContent(message_id="a", delta="x"),
        e.TextMessageEnd(message_id="a"),
        e.TextMessageStart(message_id="a"),
        e.TextMessageContent(message_id="a", delta="y"),
        e.ToolCallStart(tool_call_id="call_0", tool_call_name="t"),
        e.ToolCallResult(message_id="r1", tool_call_id="call_0", content="1"),
        e.ToolCallStart(tool_call_id="call_0", tool_call_name="t"),
        e.ToolCallResult(message_id="r2", tool_call_id="call_0", content="2"),
    )
    assert {x.message_id: x.text for x in out if isinstance(x, e.TextMessageEnd)} == {"a.2": "x", "a.3": "y"}
    assert [x.text for x in out if isinstance(x, e.ReasoningMessageEnd)] == ["hm"]
    assert [x.tool_call_id for x in out if isinstance(x, e.ToolCallResult)] == ["call_0", "call_0.2"]


def test_a_waiting_run_keeps_its_unanswered_calls() -> None:
    call = [e.ToolCallStart(tool_call_id="c", tool_call_name="delete"), e.ToolCallEnd(tool_call_id="c")]
    assert not any(isinstance(x, e.ToolCallResult) for x in record(*call, ending="waiting"))
    closed = record(*call, ending="cancelled")[-1]
    assert isinstance(closed, e.ToolCallResult) and closed.status == "cancelled" and closed.error


def test_what_nests_too_deep_is_cut_in_every_python() -> None:
    """What copies or compares it later goes down as many levels."""
    value: list[object] = []
    for _ in range(2000):
        value = [value]
    for event in (e.StateSnapshot(snapshot=value), e.Custom(name="c", value={"in": value})):
        [kept] = Recorder("r").take(event, 0.0)
        assert not e.nests_deeper(e.encode(kept), 80)
        assert b"nested too deeply" in e.encode(kept)


def test_a_flood_of_progress_is_thinned_first_and_last_kept() -> None:
    recorder = Recorder("r")
    recorder.take(e.ToolCallStart(tool_call_id="c", tool_call_name="count"), 0)
    out: list[Event] = []
    for number in range(10_001):
        out += recorder.take(e.ToolCallProgress(tool_call_id="c", progress=float(number)), number / 10_000)
    out += recorder.take(e.ToolCallResult(message_id="res", tool_call_id="c", content="done"), 1.1)
    reports = [x.progress for x in out if isinstance(x, e.ToolCallProgress)]
    assert reports[0] == 0 and reports[-1] == 10_000
    assert len(reports) <= 23
    assert isinstance(out[-1], e.ToolCallResult)


def test_values_that_json_does_not_know_are_converted() -> None:
    loop: dict[str, object] = {}
    loop["self"] = loop
    given = [
        e.StateSnapshot(snapshot={"a": object(), "b": {1, 2}}),
        e.Custom(name="x", value=loop),
        e.TextMessageContent(message_id="m", delta="lone \ud800 surrogate"),
        e.ToolCallResult(message_id="res", tool_call_id="c", content="ok", result=float("nan")),
    ]
    for event in record(*given):
        assert e.decode(e.encode(event))


@pytest.mark.parametrize(
    "event",
    [
        e.TextMessageContent(message_id="m", delta=None),  # type: ignore[arg-type]
        e.TextMessageContent(message_id=7, delta="x"),  # type: ignore[arg-type]
        e.ToolCallStart(tool_call_id="c", tool_call_name=None),  # type: ignore[arg-type]
        e.StateDelta(delta="no patch"),  # type: ignore[arg-type]
    ],
)
def test_what_could_not_be_read_back_is_never_written(event: Event) -> None:
    with pytest.raises(AgentError) as caught:
        Recorder("r").take(event, 0.0)
    assert caught.value.agent_code == "invalid_yield"


ITEMS = st.sampled_from(["a", "b"])
ANY = st.one_of(
    st.builds(e.TextMessageStart, message_id=ITEMS),
    st.builds(e.TextMessageContent, message_id=ITEMS, delta=st.text(max_size=3)),
    st.builds(e.TextMessageEnd, message_id=ITEMS),
    st.builds(e.TextMessageChunk, message_id=ITEMS, delta=st.text(max_size=3)),
    st.builds(e.ReasoningStart, message_id=ITEMS),
    st.builds(e.ReasoningMessageContent, message_id=ITEMS, delta=st.text(max_size=3)),
    st.builds(e.ReasoningEnd, message_id=ITEMS),
    st.builds(e.ToolCallStart, tool_call_id=ITEMS, tool_call_name=st.just("t")),
    st.builds(e.ToolCallArgs, tool_call_id=ITEMS, delta=st.text(max_size=3)),
    st.builds(e.ToolCallEnd, tool_call_id=ITEMS),
    st.builds(lambda c: e.ToolCallResult(message_id="r" + c, tool_call_id=c, content="x"), ITEMS),
    st.builds(e.StepStarted, step_name=ITEMS),
    st.builds(e.StepFinished, step_name=ITEMS),
    st.builds(lambda s: e.SubagentStarted(subagent_run_id=s, name="helper"), ITEMS),
)


@given(st.lists(ANY, max_size=30), st.sampled_from(["done", "cancelled", "failed", "interrupted"]))
def test_whatever_an_agent_yields_its_log_is_balanced(given: list[Event], ending: Ending) -> None:
    opened: dict[tuple[str, str], bool] = {}
    for event in record(*given, ending=ending):
        match event:
            case e.TextMessageStart(message_id=item):
                assert not opened.get(("text", item))
                opened["text", item] = True
            case e.TextMessageContent(message_id=item):
                assert opened.get(("text", item)) and event.delta
            case e.TextMessageEnd(message_id=item):
                assert opened.pop(("text", item))
            case e.ToolCallStart(tool_call_id=item):
                assert not opened.get(("call", item))
                opened["call", item] = True
            case e.ToolCallArgs(tool_call_id=item):
                assert opened.get(("call", item))
            case e.ToolCallEnd(tool_call_id=item):
                assert opened.pop(("call", item))
            case _:
                pass
    assert not opened


@given(st.lists(ANY, max_size=20))
def test_a_recorder_made_from_the_log_closes_the_same_texts(given: list[Event]) -> None:
    living = Recorder("r")
    events: list[Event] = [e.RunStarted(thread_id="t", run_id="r")]
    events += [one for event in given for one in living.take(event, 0.0)]
    stamped = [e.stamp(event, number, 0) for number, event in enumerate(events, 1)]
    transcript = fold(Transcript(), stamped)
    found = Recorder.of_transcript(transcript.runs[0])

    def texts(out: list[Event]) -> dict[str, object]:
        return {x.message_id: x.text for x in out if isinstance(x, e.TextMessageEnd)}

    assert texts(found.close("interrupted")) == texts(living.close("interrupted"))
