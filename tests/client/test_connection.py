"""The connection as a state machine: what happens in, effects out; no socket and no clock."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runcast.client.connection import CLOSE_CLASSES, CONNECT_S, RETRIES, STABLE_S, STOP_WORDS, WATCHDOG_S, Connection
from runcast.client.effects import (
    Answered,
    Batch,
    CaughtUp,
    Connect,
    Disconnect,
    Effect,
    Ended,
    Refused,
    Rewound,
    SnapshotTaken,
    Stopped,
    Transmit,
)
from runcast.commands import Send
from runcast.runs import Message


class Line:
    """A connection and a server's pen: says what came, and collects what the machine sends and tells."""

    def __init__(self, *, renewable: bool = False, random: float = 0.5) -> None:
        self.ids: Iterator[str] = (f"id{n}" for n in range(1000))
        self.machine = Connection(new_id=lambda: next(self.ids), random=lambda: random, client="t", renewable=renewable)
        self.now = 100.0
        self.seen: list[Effect] = []

    def take(self) -> list[Effect]:
        effects = self.machine.effects()
        self.seen += effects
        return effects

    def sent(self) -> list[dict[str, Any]]:
        return [json.loads(effect.text) for effect in self.take() if isinstance(effect, Transmit)]

    def told(self, kind: type[Any]) -> list[Any]:
        return [effect for effect in self.take() if isinstance(effect, kind)]

    def says(self, **frame: Any) -> None:
        self.machine.received(json.dumps(frame), self.now)

    def open(self) -> list[dict[str, Any]]:
        """To the welcome; what was sent after it."""
        if self.machine.state == "waiting":
            self.now = max(self.now, self.machine.deadline() or self.now)
            self.machine.tick(self.now)
        self.machine.opened(self.now, "secret")
        hello = self.sent()
        assert [frame["op"] for frame in hello] == ["hello"]
        self.says(op="welcome", conn="c", user="u", heartbeatMs=15000, maxFrameBytes=65536)
        return self.sent()

    def follow(self, after: int | None = 0, *, sub: int = 1, thread: str | None = "t") -> int:
        """Subscribed and acknowledged."""
        key = self.machine.subscribe(thread, after=after)
        asked = self.sent()[-1]
        self.says(op="ack", id=asked["id"], sub=sub, epoch="e1", head=9, **{"from": after})
        return key


def started(**options: Any) -> Line:
    line = Line(**options)
    line.machine.start(line.now)
    return line


def delta(seq: int, **more: Any) -> dict[str, Any]:
    return {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": str(seq), "seq": seq, "runId": "r", **more}


def seqs(batches: list[Batch]) -> list[int]:
    return [event.seq for batch in batches for event in batch.events if isinstance(event.seq, int)]


def send(id: str = "s1") -> Send:
    return Send(id=id, message=Message(id=id, content="hi"))


def test_the_first_frame_is_hello_with_the_token() -> None:
    line = started()
    assert line.told(Connect) == [Connect(False)]
    line.machine.opened(line.now, "secret")
    assert line.sent() == [{"op": "hello", "token": "secret", "client": "t"}]


def test_nothing_else_is_sent_before_the_welcome() -> None:
    line = started()
    line.machine.command("s1", send())
    line.machine.subscribe("t", after=3)
    line.machine.opened(line.now, None)
    assert [frame["op"] for frame in line.sent()] == ["hello"]
    line.says(op="welcome", conn="c", user="u")
    assert [frame["op"] for frame in line.sent()] == ["send", "subscribe"]


def test_a_command_without_answer_is_sent_again_with_the_same_id() -> None:
    """I5: a retry is the same command, so it has one effect."""
    line = started()
    line.open()
    line.machine.command("s1", send())
    first = line.sent()
    line.machine.disconnected(line.now, 1006)
    assert line.open() == first
    line.says(op="ack", id="s1", thread="t", run="r", seq=1)
    (answer,) = line.told(Answered)
    assert (answer.id, answer.result["run"]) == ("s1", "r")
    line.machine.disconnected(line.now, 1006)
    assert line.open() == []


def test_a_refusal_ends_a_command() -> None:
    line = started()
    line.open()
    line.machine.command("s1", send())
    line.says(op="error", id="s1", code="run_active", message="Busy.", requestId="q")
    assert line.told(Refused) == [Refused("s1", "run_active", "Busy.", None)]
    assert line.machine.deadline() == line.now + WATCHDOG_S


def test_a_server_that_cannot_now_is_asked_again_when_it_says_then_given_up() -> None:
    line = started()
    line.open()
    line.machine.command("s1", send())
    (first,) = line.sent()
    for attempt in range(1, RETRIES):
        line.says(op="error", id="s1", code="unavailable", message="Draining.", retryAfterMs=2000)
        assert line.told(Refused) == [], attempt
        line.machine.tick(line.now + 1.9)
        assert line.sent() == []
        line.now += 2.0
        line.machine.tick(line.now)
        assert line.sent() == [first]
    line.says(op="error", id="s1", code="unavailable", message="Draining.", retryAfterMs=2000)
    assert [refused.code for refused in line.told(Refused)] == ["unavailable"]


def test_a_subscription_goes_on_after_its_cursor_on_the_next_connection() -> None:
    """I7: over all connections every event once, in order."""
    line = started()
    line.open()
    key = line.follow(0)
    line.says(op="events", sub=1, events=[delta(1), delta(2)])
    line.says(op="caught_up", sub=1, seq=2)
    line.machine.disconnected(line.now, None)
    (asked,) = line.open()
    assert (asked["op"], asked["after"], asked["epoch"]) == ("subscribe", 2, "e1")
    line.says(op="ack", id=asked["id"], sub=7, epoch="e1", head=3, **{"from": 2})
    line.says(op="events", sub=7, events=[delta(3)])
    assert seqs([e for e in (*line.seen, *line.take()) if isinstance(e, Batch)]) == [1, 2, 3]
    assert [e for e in line.seen if isinstance(e, CaughtUp)] == [CaughtUp(key, 2)]


def test_a_gap_is_answered_by_reading_again_after_the_cursor() -> None:
    """I7: never a silent hole."""
    line = started()
    line.open()
    line.follow(0)
    line.says(op="events", sub=1, events=[delta(1), delta(3), delta(4)])
    effects = line.take()
    assert seqs([e for e in effects if isinstance(e, Batch)]) == [1]
    leave, ask = [json.loads(e.text) for e in effects if isinstance(e, Transmit)]
    assert (leave["op"], leave["sub"]) == ("unsubscribe", 1)
    assert (ask["op"], ask["after"]) == ("subscribe", 1)
    line.says(op="events", sub=1, events=[delta(2)])  # still under way on the old subscription
    assert line.told(Batch) == []


def test_a_server_with_a_hole_is_not_asked_for_ever() -> None:
    line = started()
    line.open()
    key = line.follow(0)
    for number in range(1, 20):
        line.says(op="events", sub=number, events=[delta(5)])
        effects = line.take()
        if any(isinstance(e, Ended) for e in effects):
            assert [(e.key, e.code) for e in effects if isinstance(e, Ended)] == [(key, "protocol_error")]
            assert number == RETRIES
            return
        asked = json.loads([e.text for e in effects if isinstance(e, Transmit)][-1])
        line.says(op="ack", id=asked["id"], sub=number + 1, epoch="e1", head=5, **{"from": 0})
    pytest.fail("it never gave up")


@pytest.mark.parametrize(
    ("frames", "given", "asks_after"),
    [
        pytest.param([[delta(1)], [delta(3, **{"from": 2})]], [1, 3], None, id="joined delta fits"),
        pytest.param(
            [[delta(1), delta(2)], [delta(2), delta(3)]], [1, 2, 3], None, id="a doubled event is passed over"
        ),
        pytest.param([[delta(1), delta(2)], [delta(4, **{"from": 2})]], [1, 2], 2, id="joined delta overlaps"),
        pytest.param([[delta(2)]], [], 0, id="the first one is missing"),
    ],
)
def test_which_events_are_given(frames: list[list[dict[str, Any]]], given: list[int], asks_after: int | None) -> None:
    line = started()
    line.open()
    line.follow(0)
    for events in frames:
        line.says(op="events", sub=1, events=events)
    effects = line.take()
    assert seqs([e for e in effects if isinstance(e, Batch)]) == given
    asked = [json.loads(e.text) for e in effects if isinstance(e, Transmit)]
    assert [frame["after"] for frame in asked if frame["op"] == "subscribe"] == (
        [] if asks_after is None else [asks_after]
    )


def test_a_snapshot_moves_the_cursor() -> None:
    line = started()
    line.open()
    key = line.machine.subscribe("t")
    (asked,) = line.sent()
    assert "after" not in asked
    line.says(op="ack", id=asked["id"], sub=1, epoch="e1", head=40, **{"from": 40})
    line.says(op="snapshot", sub=1, seq=40, epoch="e1", thread={"id": "t"}, transcript={"schema": 1, "seq": 40})
    line.says(op="events", sub=1, events=[delta(41)])
    effects = line.take()
    (snapshot,) = [e for e in effects if isinstance(e, SnapshotTaken)]
    assert (snapshot.key, snapshot.seq, snapshot.thread) == (key, 40, {"id": "t"})
    assert json.loads(snapshot.transcript) == {"schema": 1, "seq": 40}
    assert seqs([e for e in effects if isinstance(e, Batch)]) == [41]


def test_a_resync_is_told_and_a_deletion_ends_it() -> None:
    line = started()
    line.open()
    key = line.follow(5)
    line.says(op="resync", sub=1, reason="epoch")
    assert line.told(Rewound) == [Rewound(key, "epoch")]
    line.says(op="resync", sub=1, reason="deleted")
    assert [(e.key, e.code) for e in line.told(Ended)] == [(key, "not_found")]
    line.machine.disconnected(line.now, 1006)
    assert line.open() == []


def test_a_paused_subscription_keeps_its_cursor() -> None:
    line = started()
    line.open()
    key = line.follow(0)
    line.says(op="events", sub=1, events=[delta(1)])
    line.take()
    line.machine.pause(key)
    assert [frame["op"] for frame in line.sent()] == ["unsubscribe"]
    line.says(op="events", sub=1, events=[delta(2)])
    assert line.told(Batch) == []
    line.machine.disconnected(line.now, 1006)
    assert line.open() == []
    line.machine.resume(key)
    assert [(frame["op"], frame["after"]) for frame in line.sent()] == [("subscribe", 1)]


def test_an_ack_for_a_reader_that_left_is_answered_with_unsubscribe() -> None:
    line = started()
    line.open()
    key = line.machine.subscribe("t", after=0)
    (asked,) = line.sent()
    line.machine.unsubscribe(key)
    line.says(op="ack", id=asked["id"], sub=4, epoch="e", head=0, **{"from": 0})
    assert [(frame["op"], frame["sub"]) for frame in line.sent()] == [("unsubscribe", 4)]


def test_events_that_never_came_are_noticed_by_the_heartbeat() -> None:
    """I9: late, never lost: a head that stays ahead of the cursor for a heartbeat means something got lost."""
    line = started()
    line.open()
    line.follow(0)
    line.says(op="heartbeat", heads={"1": 1})
    assert line.sent() == []
    line.says(op="heartbeat", heads={"1": 1})
    assert [frame["op"] for frame in line.sent()] == ["unsubscribe", "subscribe"]


def test_silence_is_a_dead_line() -> None:
    """I15: noticed within 45 s."""
    assert WATCHDOG_S <= 45
    line = started()
    line.open()
    line.now += 30
    line.says(op="heartbeat", heads={})
    line.machine.tick(line.now + WATCHDOG_S - 1)
    assert line.told(Disconnect) == []
    line.machine.tick(line.now + WATCHDOG_S)
    assert line.told(Disconnect) == [Disconnect(1000)]
    assert line.machine.state == "waiting"


def test_a_server_that_does_not_welcome_is_given_up() -> None:
    line = started()
    line.machine.opened(line.now)
    line.machine.tick(line.now + CONNECT_S)
    assert line.told(Disconnect) == [Disconnect(1000)]
    assert line.machine.state == "waiting"


def test_back_off_doubles_to_a_bound_and_starts_anew_after_a_good_connection() -> None:
    line = started(random=1.0)
    waits: list[float] = []
    for _ in range(8):
        line.machine.disconnected(line.now, 1006)
        deadline = line.machine.deadline()
        assert deadline is not None
        waits.append(deadline - line.now)
        line.now = deadline
        line.machine.tick(line.now)
    assert waits == [0.5, 1, 2, 4, 8, 16, 30, 30]
    line.open()
    line.now += STABLE_S
    line.machine.disconnected(line.now, 1006)
    assert line.machine.deadline() == line.now + 0.5


def test_a_restarting_server_says_when_to_come_back() -> None:
    line = started(random=0.5)
    line.open()
    line.says(op="drain", retryMs=[500, 8000])
    line.machine.disconnected(line.now, 1012)
    assert line.machine.deadline() == line.now + 4.25


def test_a_network_that_is_back_is_tried_at_once() -> None:
    line = started(random=1.0)
    line.machine.disconnected(line.now, None)
    line.take()
    line.machine.hurry(line.now)
    assert line.told(Connect) == [Connect(False)]


@pytest.mark.parametrize("code", [code for code, kind in CLOSE_CLASSES.items() if kind in ("stop", "new_token")])
def test_some_close_codes_stop_for_good_with_a_sentence(code: int) -> None:
    line = started()
    line.open()
    line.machine.command("s1", send())
    key = line.follow(0)
    line.machine.disconnected(line.now, code)
    effects = line.take()
    assert line.machine.state == "stopped"
    assert [e for e in effects if isinstance(e, Stopped)] == [Stopped(*STOP_WORDS[code])]
    assert [e.id for e in effects if isinstance(e, Refused)] == ["s1"]
    assert [e.key for e in effects if isinstance(e, Ended)] == [key]
    assert line.machine.deadline() is None


@pytest.mark.parametrize("code", [code for code, kind in CLOSE_CLASSES.items() if kind == "wait"])
def test_an_overloaded_server_is_left_alone_for_a_while(code: int) -> None:
    line = started(random=0.0)
    line.open()
    line.machine.disconnected(line.now, code)
    deadline = line.machine.deadline()
    assert deadline is not None
    assert deadline - line.now >= 5


def test_an_inbox_that_was_deleted_is_followed_anew() -> None:
    line = started()
    line.open()
    key = line.follow(3, thread=None)
    line.says(op="resync", sub=1, reason="deleted")
    told = line.take()
    assert [effect for effect in told if isinstance(effect, Rewound | Ended)] == [Rewound(key, "deleted")]
    [asked] = [json.loads(effect.text) for effect in told if isinstance(effect, Transmit)]
    assert asked["inbox"] is True and asked.get("after") is None and asked.get("epoch") is None
    line.says(op="ack", id=asked["id"], sub=2, epoch="e2", head=0, **{"from": 0})
    line.says(op="snapshot", sub=2, seq=0, epoch="e2", thread={}, transcript={})
    line.says(op="events", sub=2, events=[delta(1)])
    assert seqs(line.told(Batch)) == [1]


def test_close_codes_have_the_classes_of_the_protocol() -> None:
    cases = json.loads((Path(__file__).parents[2] / "spec" / "cases" / "close-codes.json").read_text("utf-8"))
    known = {code: CLOSE_CLASSES.get(int(code), "reconnect").replace("_", " ") for code in cases}
    assert known == cases
    assert {str(code) for code in CLOSE_CLASSES} <= set(cases)


def test_a_command_that_was_too_big_is_refused_and_the_line_comes_back() -> None:
    line = started(random=0.0)
    line.open()
    line.machine.command("small", send("small"))
    line.machine.command("big", Send(id="big", message=Message(id="big", content="x" * 5000)))
    line.machine.disconnected(line.now, 1009)
    assert [(e.id, e.code) for e in line.told(Refused)] == [("big", "payload_too_large")]
    assert line.machine.state == "waiting"
    assert [frame["id"] for frame in line.open()] == ["small"]


@pytest.mark.parametrize("code", [None, 1000, 1001, 1005, 1006, 1011, 1012, 4004, 4012, 4999])
def test_every_other_close_is_followed_by_another_try(code: int | None) -> None:
    line = started(random=0.0)
    line.open()
    line.machine.disconnected(line.now, code)
    assert line.machine.state == "waiting"
    assert line.machine.deadline() == line.now


def test_a_refused_token_is_renewed_twice_then_it_stops() -> None:
    line = started(renewable=True)
    for _ in range(2):
        line.machine.opened(line.now)
        line.machine.disconnected(line.now, 4001)
        line.now = line.machine.deadline() or line.now
        line.take()
        line.machine.tick(line.now)
        assert line.told(Connect) == [Connect(True)]
    line.machine.opened(line.now)
    line.machine.disconnected(line.now, 4001)
    assert line.machine.state == "stopped"


@pytest.mark.parametrize("text", ["", "[]", "{", '{"sub":1}', '{"op":3}', '{"op":"events","sub":"x"}'])
def test_a_frame_that_makes_no_sense_drops_the_line(text: str) -> None:
    line = started()
    line.open()
    line.machine.received(text, line.now)
    assert line.told(Disconnect) == [Disconnect(4000)]
    assert line.machine.state == "waiting"


def test_unknown_frames_and_unknown_events_pass() -> None:
    """A newer server may say more: what is not known is passed over, or passed on."""
    line = started()
    line.open()
    line.follow(0)
    line.says(op="weather", sub=1, fine=True)
    line.says(op="events", sub=1, events=[{"type": "BRAND_NEW", "seq": 1, "runId": "r", "x": 1}])
    (batch,) = line.told(Batch)
    assert batch.events[0].type == "BRAND_NEW"


def test_after_a_stop_nothing_moves_it() -> None:
    line = started()
    line.open()
    line.machine.stop()
    line.take()
    line.machine.disconnected(line.now, 1006)
    line.machine.tick(line.now + 1000)
    line.machine.hurry(line.now)
    line.says(op="welcome", conn="c", user="u")
    assert line.take() == []
