"""The native dialect: pure, deterministic, and the log's own bytes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runcast import events as e
from runcast.commands import Send
from runcast.dialects.base import BadFrame, Dialect, Start
from runcast.dialects.native import Native, NativeEncoder, decode
from runcast.events import Record
from runcast.runs import Thread
from runcast.updates import CaughtUp, Events, Resync, ThreadSnapshot

START = Start("t1", "ep", 0)


def record(event: e.Event, seq: int, run: str = "r1") -> Record:
    stamped = e.stamp(e.of_run(event, run), seq, 5)
    return Record(stamped, e.encode(stamped))


def log(texts: list[str]) -> list[Record]:
    """Runs that each say one text, in pieces."""
    records: list[Record] = []
    for number, text in enumerate(texts):
        run, message = f"r{number}", f"m{number % 2}"
        events: list[e.Event] = [e.RunStarted(thread_id="t1"), e.TextMessageStart(message_id=message)]
        events += [e.TextMessageContent(message_id=message, delta=character) for character in text]
        events += [e.TextMessageEnd(message_id=message, text=text), e.RunFinished(thread_id="t1")]
        for event in events:
            records.append(record(event, len(records) + 1, run))
    return records


def test_is_a_dialect() -> None:
    dialect: Dialect = Native()
    assert (dialect.name, dialect.attach, dialect.joins) == ("native", "snapshot", True)
    assert isinstance(dialect.decode('{"op":"send","id":"a","message":{"id":"m","content":"x"}}')[0], Send)
    (frame,) = dialect.error("not_found", "Nothing.", request_id="q")
    assert json.loads(frame.data) == {"op": "error", "code": "not_found", "message": "Nothing.", "requestId": "q"}


def test_a_call_without_arguments_ends_with_what_no_delta_said() -> None:
    """I14: who followed live must not fold it to other arguments than who reads the log again."""
    encoder = NativeEncoder(START)
    encoder.payload(record(e.ToolCallStart(tool_call_id="c", tool_call_name="look"), 1))
    end = record(e.ToolCallEnd(tool_call_id="c", args="{}"), 2)
    assert encoder.payload(end) == end.data
    encoder.payload(record(e.ToolCallStart(tool_call_id="d", tool_call_name="look"), 3))
    assert "args" not in json.loads(encoder.payload(record(e.ToolCallEnd(tool_call_id="d", args='{"a":1}'), 4)))


@given(st.lists(st.text(max_size=8), max_size=4), st.data())
def test_a_resumed_stream_says_the_same_as_the_continued_one(texts: list[str], data: st.DataObject) -> None:
    """Except that an END whose START was not given again is whole: nothing is missing, nothing differs otherwise."""
    records = log(texts)
    cut = data.draw(st.integers(0, len(records)))
    continued, resumed = NativeEncoder(START), NativeEncoder(Start("t1", "ep", cut))
    whole = [frame for item in records for frame in continued.encode(item)]
    rest = [frame for item in records[cut:] for frame in resumed.encode(item)]
    assert [frame.seq for frame in whole] == [item.seq for item in records]
    for one, other, item in zip(whole[cut:], rest, records[cut:], strict=True):
        assert (one.seq, one.k, one.last) == (other.seq, other.k, other.last)
        assert other.data in (one.data, item.data)


@given(st.lists(st.text(max_size=8), max_size=4))
def test_two_encoders_say_the_same(texts: list[str]) -> None:
    records = log(texts)
    one, other = NativeEncoder(START), NativeEncoder(START)
    assert [one.encode(item) for item in records] == [other.encode(item) for item in records]


@given(st.text())
def test_no_text_is_left_in_an_end_that_was_streamed(text: str) -> None:
    encoder = NativeEncoder(START)
    frames = [json.loads(frame.data) for item in log([text]) for frame in encoder.encode(item)]
    assert "".join(frame.get("delta", "") for frame in frames) == text
    assert all("text" not in frame for frame in frames)


def test_frames_are_one_line() -> None:
    (frame,) = NativeEncoder(START).encode(record(e.TextMessageContent(message_id="m", delta="a\r\nb"), 1))
    assert b"\n" not in frame.data and b"\r" not in frame.data


def test_a_run_ends_its_own_stream_only() -> None:
    ours, another = record(e.RunFinished(thread_id="t1"), 1, "r1"), record(e.RunFinished(thread_id="t1"), 2, "r2")
    encoder = NativeEncoder(Start("t1", "ep", 0, run="r1"))
    assert [encoder.encode(item)[0].ends for item in (ours, another)] == [True, False]
    assert NativeEncoder(START).encode(ours)[0].ends is False


def test_what_is_no_event_has_a_name_and_an_op() -> None:
    encoder = NativeEncoder(START)
    thread = Thread(id="t1", user="ada", epoch="ep", created_at=1, updated_at=2)
    frames = {
        "snapshot": encoder.update(ThreadSnapshot(4, "ep", thread, b'{"seq":4}'))[0],
        "caught_up": encoder.update(CaughtUp(4))[0],
        "resync": encoder.update(Resync("ahead"))[0],
    }
    for name, frame in frames.items():
        assert frame.name == name
        assert json.loads(frame.data)["op"] == name
    assert frames["snapshot"].seq == 4
    assert json.loads(frames["snapshot"].data)["transcript"] == {"seq": 4}
    assert frames["resync"].ends is False
    assert encoder.update(Resync("deleted"))[0].ends is True
    (event,) = encoder.update(Events([record(e.RunStarted(thread_id="t1"), 5)]))
    assert event.name is None


@pytest.mark.parametrize(
    ("frame", "malformed", "id"),
    [
        ("", True, None),
        ("nonsense", True, None),
        ("7", True, None),
        ("{}", True, None),
        ('{"id":"a"}', False, "a"),
        ('{"op":7,"id":"a"}', False, "a"),
        ('{"op":"dance"}', False, None),
        ('{"op":"ping"', True, None),
        (b'{"op":"ping"}', True, None),
        ('{"op":"send","id":7,"message":{"id":"m","content":"x"}}', False, None),
        ('{"op":"send","id":"a","message":{"id":"m","content":[]}}', False, "a"),
        ('{"op":"send","id":"a","message":{"id":"m","content":[{"text":"x"}]}}', False, "a"),
        ('{"op":"send","id":"a","onBusy":"never","message":{"id":"m","content":"x"}}', False, "a"),
        ('{"op":"cancel","id":"a","run":"r","thread":"t"}', False, "a"),
    ],
)
def test_bad_frames(frame: Any, malformed: bool, id: str | None) -> None:
    with pytest.raises(BadFrame) as caught:
        decode(frame)
    assert (caught.value.malformed, caught.value.id) == (malformed, id)
    assert caught.value.message


def test_message_has_at_most_32_kib() -> None:
    def send(size: int) -> str:
        return json.dumps({"op": "send", "id": "a", "message": {"id": "m", "content": "x" * size}})

    assert isinstance(decode(send(32 * 1024 - 2)), Send)
    with pytest.raises(BadFrame, match="32768"):
        decode(send(32 * 1024 - 1))
