"""The native session, without any I/O: the cases in `spec/cases/session`, and what they cannot say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runcast import events as e
from runcast.auth import Identity
from runcast.commands import Auth, Hello, Subscribe, Unsubscribe
from runcast.dialects.json_texts import MAX_DEPTH, too_deep
from runcast.errors import AgentError, NotFound, StoreError
from runcast.events import Record
from runcast.runs import Principal, Thread
from runcast.session import Close, CloseCode, Session, SessionLimits, negotiate
from runcast.updates import CaughtUp, Events, Resync, ThreadSnapshot

CASES = Path(__file__).parent.parent / "spec" / "cases" / "session"


class ManualClock:
    """Stands still until it is told otherwise."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def now_ms(self) -> int:
        return int(self.seconds * 1000)

    def monotonic(self) -> float:
        return self.seconds


class Counted:
    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> str:
        self.count += 1
        return f"id-{self.count}"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def session(clock: ManualClock) -> Session:
    return Session(clock=clock, new_id=Counted())


@pytest.fixture
def open_session(session: Session) -> Session:
    assert isinstance(session.receive('{"op":"hello"}')[0], Hello)
    session.welcome(Identity(Principal()))
    return session


def frame(data: Any) -> Any:
    assert isinstance(data, bytes)
    return json.loads(data)


def record(event: e.Event, seq: int, run: str = "r1") -> Record:
    stamped = e.stamp(e.of_run(event, run), seq, 5)
    return Record(stamped, e.encode(stamped))


def subscribe(session: Session, id: str = "s", thread: str = "t1", start: int = 0) -> int:
    (command,) = session.receive(json.dumps({"op": "subscribe", "id": id, "thread": thread}))
    assert isinstance(command, Subscribe)
    sub, ack = session.subscribed(command, thread=thread, epoch="ep", head=9, start=start)
    assert frame(ack) == {"op": "ack", "id": id, "sub": sub, "thread": thread, "epoch": "ep", "head": 9, "from": start}
    return sub


def cases() -> Iterator[Any]:
    for path in sorted(CASES.glob("*.json")):
        for case in json.loads(path.read_text()):
            yield pytest.param(case, id=f"{path.stem}: {case['name']}")


@pytest.mark.parametrize("case", list(cases()))
def test_case(case: dict[str, Any]) -> None:
    """Each step is what the client sends (`in`, or `text` for a frame as it stands), how much time passes (`advance_s`) or
    what a subscription says (`update`); `out` is what the server sends then, `command` what it is asked to do, `close` the end.
    An object in `out` may leave `requestId` and `message` out."""
    clock = ManualClock()
    session = Session(clock=clock, new_id=Counted())
    subs: dict[int, str] = {}
    for step in case["steps"]:
        out: list[Any] = []
        commands: list[str] = []
        close: int | None = None
        effects: list[Any] = []
        if "advance_s" in step:
            clock.seconds += step["advance_s"]
            effects = list(session.tick())
        elif "update" in step:
            effects = list(session.encode(step["update"]["sub"], _update(step["update"])))
        else:
            effects = list(session.receive(step["text"] if "text" in step else json.dumps(step["in"])))
        for effect in effects:
            match effect:
                case bytes():
                    out.append(json.loads(effect))
                case Close():
                    close = effect.code
                    assert len(effect.reason.encode()) <= 123
                case Hello():
                    out.append(frame(session.welcome(Identity(Principal("ada")))))
                case Subscribe():
                    ack = {"thread": effect.thread or "inbox", "epoch": "ep", "head": 9, "start": effect.after or 0}
                    sub, data = session.subscribed(effect, **ack)
                    subs[sub] = ack["thread"]
                    out.append(frame(data))
                case Unsubscribe():
                    out.append(frame(session.unsubscribed(effect)))
                case _:
                    commands.append(effect.__struct_config__.tag)
        wanted = step.get("out", [])
        assert len(out) == len(wanted), (step, out)
        for got, want in zip(out, wanted, strict=True):
            optional = {key for key in ("requestId", "message", "conn") if key in got and key not in want}
            assert {key: value for key, value in got.items() if key not in optional} == want
        assert commands == step.get("commands", [])
        assert close == step.get("close")


def _update(update: dict[str, Any]) -> Any:
    match update["kind"]:
        case "events":
            records: list[Record] = []
            for item in update["events"]:
                data = json.dumps(item, separators=(",", ":"), ensure_ascii=False).encode()
                records.append(Record(e.decode(data), data))
            return Events(records)
        case "caught_up":
            return CaughtUp(update["seq"])
        case "resync":
            return Resync(update["reason"])
        case "snapshot":
            thread = Thread(id="t1", user="ada", epoch=update["epoch"], created_at=1, updated_at=2)
            return ThreadSnapshot(update["seq"], update["epoch"], thread, json.dumps(update["transcript"]).encode())
        case kind:
            raise AssertionError(kind)


# --- events -------------------------------------------------------------------------------------------------------


def test_events_are_the_logs_own_bytes(open_session: Session) -> None:
    sub = subscribe(open_session)
    # A field that the structs do not know and unusual spacing would not survive encoding anew.
    odd = Record(
        e.stamp(e.of_run(e.TextMessageContent(message_id="m", delta="x"), "r1"), 1, 5),
        b'{"type":"TEXT_MESSAGE_CONTENT",  "seq":1,"messageId":"m","delta":"x","later":true}',
    )
    (data,) = open_session.encode(sub, Events([odd]))
    assert data == b'{"op":"events","sub":%d,"events":[%b]}' % (sub, odd.data)


def ends(kind: str) -> list[Record]:
    match kind:
        case "text":
            return [
                record(e.TextMessageStart(message_id="m"), 2),
                record(e.TextMessageEnd(message_id="m", text="whole", incomplete="cancelled"), 3),
            ]
        case "reasoning":
            return [
                record(e.ReasoningMessageStart(message_id="m", role="reasoning"), 2),
                record(e.ReasoningMessageEnd(message_id="m", text="whole"), 3),
            ]
        case _:
            return [
                record(e.ToolCallStart(tool_call_id="m", tool_call_name="f"), 2),
                record(e.ToolCallEnd(tool_call_id="m", args="whole"), 3),
            ]


@pytest.mark.parametrize("kind", ["text", "reasoning", "tool"])
def test_end_leaves_out_what_this_reader_was_given(open_session: Session, kind: str) -> None:
    start, end = ends(kind)
    whole = "args" if kind == "tool" else "text"
    saw_start, joined_later = subscribe(open_session), subscribe(open_session)
    open_session.encode(saw_start, Events([start]))
    (slim,) = open_session.encode(saw_start, Events([end]))
    (full,) = open_session.encode(joined_later, Events([end]))
    assert frame(full)["events"] == [json.loads(end.data)]
    assert frame(slim)["events"] == [{name: value for name, value in json.loads(end.data).items() if name != whole}]


def test_end_is_whole_after_a_snapshot(open_session: Session) -> None:
    start, end = ends("text")
    sub = subscribe(open_session)
    open_session.encode(sub, Events([start]))
    thread = Thread(id="t1", user="ada", epoch="ep", created_at=1, updated_at=2)
    open_session.encode(sub, ThreadSnapshot(2, "ep", thread, b"{}"))
    (data,) = open_session.encode(sub, Events([end]))
    assert frame(data)["events"][0]["text"] == "whole"


def test_items_of_different_kinds_with_one_id_are_apart(open_session: Session) -> None:
    sub = subscribe(open_session)
    open_session.encode(sub, Events([ends("tool")[0]]))
    (data,) = open_session.encode(sub, Events([ends("text")[1]]))
    assert frame(data)["events"][0]["text"] == "whole"


def test_nothing_is_sent_for_a_subscription_that_is_over(open_session: Session) -> None:
    sub = subscribe(open_session)
    (command,) = open_session.receive(json.dumps({"op": "unsubscribe", "id": "u", "sub": sub}))
    assert isinstance(command, Unsubscribe)
    open_session.unsubscribed(command)
    assert open_session.encode(sub, Events([ends("text")[0]])) == []


# --- answers ------------------------------------------------------------------------------------------------------


def test_foreign_errors_are_not_told(open_session: Session) -> None:
    answer = frame(open_session.error("a", RuntimeError("secret path /etc")))
    assert answer["code"] == "internal"
    assert "secret" not in json.dumps(answer)
    assert answer["requestId"]


def test_not_found_does_not_say_what_was_asked(open_session: Session) -> None:
    one = frame(open_session.error("a", NotFound("There is no thread 'x'."), request_id="q"))
    two = frame(open_session.error("a", NotFound("This run is not yours."), request_id="q"))
    assert one == two


def test_errors_carry_their_code_and_wait(open_session: Session) -> None:
    answer = frame(open_session.error("a", StoreError("The disk is full.", retry_after_ms=500)))
    assert (answer["code"], answer["retryAfterMs"], answer["id"]) == ("storage_unavailable", 500, "a")
    assert frame(open_session.error("a", AgentError("No model.", code="no_model")))["code"] == "no_model"


def test_ack_of_an_empty_result(open_session: Session) -> None:
    assert open_session.ack('a"b', {}) == b'{"op":"ack","id":"a\\"b"}'


# --- limits -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "closes"), [(4096, False), (4097, True)])
def test_hello_may_be_4_kib(session: Session, size: int, closes: bool) -> None:
    hello = json.dumps({"op": "hello", "token": ""}, separators=(",", ":"))
    padded = hello[:-2] + "x" * (size - len(hello)) + hello[-2:]
    assert len(padded) == size
    (effect,) = session.receive(padded)
    assert (effect == Close(CloseCode.TOO_BIG, "A frame has at most 4096 bytes.")) is closes


@pytest.mark.parametrize(("size", "closes"), [(65536, False), (65537, True)])
@pytest.mark.parametrize("character", ["x", "é"])
def test_frame_may_be_64_kib(open_session: Session, size: int, closes: bool, character: str) -> None:
    ping = json.dumps({"op": "ping", "t": ""}, separators=(",", ":"))
    width = len(character.encode())
    fill = size - len(ping)
    padded = ping[:-2] + character * (fill // width) + "x" * (fill % width) + ping[-2:]
    assert len(padded.encode()) == size
    (effect,) = open_session.receive(padded)
    assert isinstance(effect, Close) is closes


def test_flood_of_frames_ends_the_connection(clock: ManualClock) -> None:
    session = Session(clock=clock, new_id=Counted(), limits=SessionLimits(max_frames=5))
    session.receive('{"op":"hello"}')
    session.welcome(Identity(Principal()))
    for _ in range(4):
        assert isinstance(session.receive('{"op":"ping"}')[0], bytes)
    (effect,) = session.receive('{"op":"ping"}')
    assert isinstance(effect, Close)
    assert effect.code == CloseCode.RATE_LIMIT


def test_frames_may_come_again_in_the_next_window(clock: ManualClock) -> None:
    session = Session(clock=clock, new_id=Counted(), limits=SessionLimits(max_frames=5))
    session.receive('{"op":"hello"}')
    session.welcome(Identity(Principal()))
    for _ in range(20):
        clock.seconds += 3
        assert isinstance(session.receive('{"op":"ping"}')[0], bytes)


def test_33rd_subscription_is_refused(open_session: Session) -> None:
    for number in range(32):
        subscribe(open_session, id=f"s{number}")
    (answer,) = open_session.receive('{"op":"subscribe","id":"s","thread":"t"}')
    assert frame(answer)["code"] == "too_many_subscriptions"
    (command,) = open_session.receive('{"op":"unsubscribe","id":"u","sub":1}')
    assert isinstance(command, Unsubscribe)
    open_session.unsubscribed(command)
    assert subscribe(open_session, id="again") == 33


def test_failed_subscribe_gives_its_place_back(open_session: Session) -> None:
    for _ in range(100):
        (command,) = open_session.receive('{"op":"subscribe","id":"s","thread":"t"}')
        assert isinstance(command, Subscribe)
        assert frame(open_session.subscribe_failed(command, NotFound("")))["code"] == "not_found"


# --- time ---------------------------------------------------------------------------------------------------------


def test_nothing_is_due_before_its_time(open_session: Session, clock: ManualClock) -> None:
    assert open_session.next_deadline() == clock.seconds + 15
    clock.seconds += 14.9
    assert open_session.tick() == []


def test_what_is_sent_puts_the_heartbeat_off(open_session: Session, clock: ManualClock) -> None:
    sub = subscribe(open_session, start=4)
    clock.seconds += 14
    open_session.encode(sub, Events([record(e.TextMessageContent(message_id="m", delta="x"), 5)]))
    clock.seconds += 14
    assert open_session.tick() == []
    clock.seconds += 1
    assert [frame(due) for due in open_session.tick()] == [{"op": "heartbeat", "heads": {"1": 5}}]


def test_a_heartbeat_says_how_far_the_log_reaches(open_session: Session, clock: ManualClock) -> None:
    sub = subscribe(open_session, start=4)
    clock.seconds += 15
    assert [frame(due) for due in open_session.tick({sub: 9})] == [{"op": "heartbeat", "heads": {"1": 9}}]
    clock.seconds += 15
    assert [frame(due) for due in open_session.tick({sub: 3})] == [{"op": "heartbeat", "heads": {"1": 4}}]


def test_a_full_line_gets_no_heartbeat_on_top(open_session: Session, clock: ManualClock) -> None:
    clock.seconds += 15
    assert open_session.tick(is_blocked=True) == []
    assert open_session.next_deadline() == clock.seconds + 15


def test_token_is_said_to_expire_then_ends(session: Session, clock: ManualClock) -> None:
    session.receive('{"op":"hello","token":"x"}')
    expires = clock.now_ms() + 100_000
    assert frame(session.welcome(Identity(Principal("ada"), expires)))["tokenExpiresAt"] == expires
    clock.seconds += 40
    told = [frame(due) for due in session.tick()]
    assert {"op": "token_expiring", "at": expires} in told
    assert session.tick() == []
    clock.seconds += 60 + 29
    session.tick()
    assert session.next_deadline() <= clock.seconds + 1.001
    clock.seconds += 1.001
    (close,) = session.tick()
    assert isinstance(close, Close)
    assert close.code == CloseCode.TOKEN_EXPIRED


def test_new_token_must_be_the_same_persons(session: Session, clock: ManualClock) -> None:
    session.receive('{"op":"hello","token":"x"}')
    session.welcome(Identity(Principal("ada"), clock.now_ms() + 1000))
    (command,) = session.receive('{"op":"auth","id":"a","token":"y"}')
    assert isinstance(command, Auth)
    renewed = session.renew(command, Identity(Principal("ada"), clock.now_ms() + 900_000))
    assert frame(renewed)["op"] == "ack"
    assert session.next_deadline() == clock.seconds + 15
    other = session.renew(command, Identity(Principal("eve"), clock.now_ms() + 900_000))
    assert isinstance(other, Close)
    assert other.code == CloseCode.UNAUTHENTICATED


# --- the rest -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offered", "answer", "closes"),
    [
        ([], None, None),
        (["runcast.v1"], "runcast.v1", None),
        (["chat", "runcast.v1"], "runcast.v1", None),
        (["runcast.v1", "bearer.abc"], "runcast.v1", None),
        (["bearer.abc"], None, None),
        (["runcast.v2"], None, CloseCode.VERSION),
        (["graphql-ws", "bearer.abc"], None, CloseCode.VERSION),
    ],
)
def test_negotiation_never_echoes_what_it_does_not_speak(
    offered: list[str], answer: str | None, closes: CloseCode | None
) -> None:
    subprotocol, close = negotiate(offered)
    assert subprotocol == answer
    assert (close.code if close else None) == closes


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=30,
)


def depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max((depth(item) for item in value.values()), default=0)
    if isinstance(value, list):
        return 1 + max((depth(item) for item in value), default=0)
    return 0


@given(json_values, st.integers(min_value=0, max_value=40), st.booleans())
def test_depth_is_counted_exactly(value: Any, wraps: int, ascii_only: bool) -> None:
    for _ in range(wraps):
        value = [value]
    assert too_deep(json.dumps(value, ensure_ascii=ascii_only)) is (depth(value) > MAX_DEPTH)


@given(st.text() | st.binary() | json_values.map(json.dumps))
def test_no_frame_breaks_it(data: str | bytes) -> None:
    session = Session(clock=ManualClock(), new_id=Counted())
    session.receive('{"op":"hello"}')
    session.welcome(Identity(Principal()))
    effects = session.receive(data)
    assert effects
    for effect in effects:
        if isinstance(effect, bytes):
            assert json.loads(effect)["op"] in {"error", "pong"}


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"op":"ping","t":1' + "0" * 50_000 + "}", '{"op":"ping","t":NaN}', '{"op":"ping","t":"\\ud800"}'],
)
def test_hostile_json_is_only_an_error(open_session: Session, text: str) -> None:
    effects = open_session.receive(text)
    assert all(isinstance(effect, Close) or frame(effect)["op"] in {"error", "pong"} for effect in effects)


def test_native_makes_nothing_of_a_close(open_session: Session) -> None:
    subscribe(open_session)
    assert open_session.closed(True) == open_session.closed(False) == []


def test_a_dialect_may_stop_what_its_client_watched(clock: ManualClock) -> None:
    session = Session(clock=clock, new_id=Counted(), on_close=lambda deliberate: "cancel" if deliberate else "nothing")
    assert session.closed(True) == [], "nobody was let in yet"
    session.receive('{"op":"hello"}')
    session.welcome(Identity(Principal()))
    for id, thread in (("a", "t1"), ("b", "t2"), ("c", "t1")):
        subscribe(session, id, thread)
    assert session.closed(False) == []
    assert [command.thread for command in session.closed(True)] == ["t1", "t2"]
