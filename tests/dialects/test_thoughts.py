"""The `thoughts` dialect: typed frames, thoughts by lines, answers by sentences, `done` after everything."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialects.cases import Case, cases_of, check
from runcast import events as e
from runcast.dialects.base import BadFrame, Dialect, Start
from runcast.dialects.thoughts import LONGEST_MS, Thoughts
from runcast.events import Record
from runcast.testing import DialectSuite
from runcast.testing.dialect_logs import LOGS, THREAD
from runcast.updates import Events, join


class TestThoughts(DialectSuite):
    deltas = ("content",)

    def make(self) -> Dialect:
        return Thoughts()


class TestWithDeltas(TestThoughts):
    def start(self, after: int = 0, run: str | None = None) -> Start:
        return Start(THREAD, "epoch", after, run, "mine", {"deltas": "true"})


@pytest.mark.parametrize("case", cases_of("thoughts"))
def test_frames(case: Case) -> None:
    check(Thoughts(), case)


def log_of(*events: tuple[int, e.Event]) -> list[Record]:
    """A run of these events, each with its time in milliseconds."""
    begun: list[tuple[int, e.Event]] = [
        (0, e.RunStarted(thread_id=THREAD)),
        (0, e.TextMessageStart(message_id="m")),
        *events,
    ]
    last = begun[-1][0]
    begun += [(last, e.TextMessageEnd(message_id="m")), (last, e.RunFinished(thread_id=THREAD))]
    records: list[Record] = []
    for ms, event in begun:
        stamped = e.stamp(e.of_run(event, "r1"), len(records) + 1, ms)
        records.append(Record(stamped, e.encode(stamped)))
    return records


def frames_of(records: list[Record]) -> list[dict[str, Any]]:
    return [json.loads(frame.data) for frame in Thoughts().encoder(Start(THREAD, "e")).update(Events(records))]


texts = st.lists(
    st.tuples(st.integers(0, 1500), st.text(alphabet="ab .!\n\r\"'🙂", min_size=1, max_size=6)), max_size=25
)


def timed(pieces: list[tuple[int, str]], kind: Any) -> list[tuple[int, e.Event]]:
    ms = 0
    events: list[tuple[int, e.Event]] = []
    for pause, text in pieces:
        ms += pause
        events.append((ms, kind(message_id="m", delta=text)))
    return events


@given(texts)
def test_answers_concatenate(pieces: list[tuple[int, str]]) -> None:
    frames = frames_of(log_of(*timed(pieces, e.TextMessageContent)))
    assert "".join(frame["content"] for frame in frames if frame["type"] == "answer") == "".join(t for _, t in pieces)
    assert all(frame.get("content", "x") for frame in frames)
    assert frames[-1] == {"type": "done"}


@given(texts, st.booleans())
def test_joined_pieces_say_the_same(pieces: list[tuple[int, str]], thinking: bool) -> None:
    records = log_of(*timed(pieces, e.ReasoningMessageContent if thinking else e.TextMessageContent))
    said = ["".join(frame.get("content", "") for frame in frames_of(log)) for log in (records, join(records))]
    assert said[0] == said[1]


@given(texts)
def test_no_text_is_held_for_longer_than_a_second_of_the_log(pieces: list[tuple[int, str]]) -> None:
    """At each piece: whatever was said more than a second before it has left, but spaces that nothing followed."""
    events = timed(pieces, e.TextMessageContent)
    records = log_of(*events)
    encoder = Thoughts().encoder(Start(THREAD, "e"))
    sent = 0
    for record in records:
        sent += sum(len(json.loads(frame.data).get("content", "")) for frame in encoder.encode(record))
        if isinstance(record.event, e.TextMessageContent):
            now = record.event.timestamp
            old = "".join(event.delta for ms, event in events if ms <= now - LONGEST_MS)  # type: ignore[operator,attr-defined]
            assert not old[sent:].strip()


def test_bad_frames() -> None:
    for data, message in ((b"x", "Binary messages are not understood; send text."), (" \n", "Empty message")):
        with pytest.raises(BadFrame) as bad:
            Thoughts().decode(data)
        assert bad.value.message == message


def test_an_error_is_followed_by_done() -> None:
    frames = Thoughts().error("invalid_request", "Empty message", request_id="q")
    assert [json.loads(frame.data) for frame in frames] == [
        {"type": "error", "message": "Empty message"},
        {"type": "done"},
    ]


def test_only_silence_is_answered_with_a_ping() -> None:
    silence = Thoughts().keep_alive
    assert silence is not None
    assert (silence.after_s, json.loads(silence.frame)) == (60, {"type": "ping"})


def test_readable_actions() -> None:
    args = '{"q":"a b","n":[1,null],"not a name":{"x":true}}'
    records = log_of(
        (1, e.ToolCallStart(tool_call_id="c", tool_call_name="find")), (2, e.ToolCallEnd(tool_call_id="c", args=args))
    )
    assert frames_of(records)[0] == {
        "type": "action",
        "content": 'find(q="a b", n=[1,null], "not a name"={"x":true})',
    }


def test_what_a_tool_gave_is_one_observation() -> None:
    assert [frame["content"] for frame in frames_of(LOGS["parallel tools"]) if frame["type"] == "observation"] == [
        "2",
        "Done.",
    ]
