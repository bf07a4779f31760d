"""One client's connection to a server, as a state machine without I/O: no socket, no clock, no task.

    waiting ──Connect──▶ connecting ──opened──▶ greeting ──welcome──▶ open
       ▲                     │                     │                   │
       └──── back-off ───────┴──── disconnected ───┴── watchdog ───────┘        any ──stop──▶ stopped

The driver tells it what happened (`opened`, `received`, `disconnected`, `tick`) with the time in monotonic seconds, does the
`effects()` in order, and calls `tick` no later than `deadline()`. What the machine guarantees:

- a command is sent again with the same id after every loss until it is answered, so it has one effect (I5);
- a subscription goes on after its own cursor, over all connections: every event once, in order (I7). A gap, whatever its
  cause, is answered by subscribing again after the cursor, never by going on;
- a line that is silent for `WATCHDOG_S` is dead (I15); who reconnects waits with full jitter, so that a thousand do not
  come at once.

The same machine stands in TypeScript. Wire: `spec/PROTOCOL.md`, the native WebSocket.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import msgspec

from runcast import events
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
    State,
    StateChanged,
    Stopped,
    Transmit,
)
from runcast.commands import AnyCommand, Hello, Ping, Subscribe, Unsubscribe
from runcast.events import Event
from runcast.ids import IdSource

WATCHDOG_S = 40.0
"""Longer than two heartbeats of the server (15 s) and the time of a slow network between them."""
CONNECT_S = 10.0
"""How long opening a socket, and then the server's welcome, may take."""
BACKOFF_FIRST_S = 0.5
BACKOFF_MOST_S = 30.0
STABLE_S = 10.0
"""A connection that lasted this long was a good one: the next back-off starts at the beginning."""
RETRIES = 5
"""How often a command or subscription is tried again when the server says that it cannot now."""

CloseClass = Literal["reconnect", "wait", "new_token", "stop"]

CLOSE_CLASSES: dict[int, CloseClass] = {
    1009: "stop",
    1013: "wait",
    4000: "stop",
    4001: "new_token",
    4002: "new_token",
    4003: "stop",
    4005: "stop",
    4008: "wait",
    4009: "wait",
    4010: "stop",
}
"""What to do after a close code (`spec/PROTOCOL.md`, "Close codes"); every other one: `reconnect`. `wait` starts at 5 s. After
1009 only if no command is to blame: one that is, is refused, and the line comes back."""

BLAMED_BYTES = 4096
"""Commands of more than this may be what the server found too big."""

STOP_WORDS: dict[int, tuple[str, str]] = {
    1009: ("payload_too_large", "A message was larger than the server takes."),
    4000: ("protocol_error", "The server did not understand this client; they may be of different versions."),
    4001: ("unauthenticated", "The server asks for a valid token."),
    4002: ("unauthenticated", "The token has expired."),
    4003: ("forbidden", "The server does not allow this user or origin."),
    4005: ("unsupported_version", "The server speaks another version of the protocol."),
    4010: ("unauthenticated", "The session was ended."),
}

_LATER: frozenset[str] = frozenset({"unavailable", "storage_unavailable", "rate_limited"})
"""Errors that say nothing about the request itself."""


class _Frame(msgspec.Struct, rename="camel"):
    """Any server frame; `op` says which of the fields are there."""

    op: str
    id: str | None = None
    sub: int | None = None
    epoch: str | None = None
    head: int | None = None
    from_: int | None = msgspec.field(default=None, name="from")
    seq: int | None = None
    events: list[msgspec.Raw] = []
    thread: dict[str, Any] | str | None = None
    transcript: msgspec.Raw = msgspec.Raw(b"null")
    reason: str | None = None
    heads: dict[str, int] = {}
    retry_ms: tuple[int, int] | None = None
    code: str | None = None
    message: str | None = None
    retry_after_ms: int | None = None
    at: str | None = None


class _Sub:
    """One subscription over all connections. `sub` is the server's number on this one."""

    def __init__(self, key: int, thread: str | None, after: int | None, epoch: str | None) -> None:
        self.key = key
        self.thread = thread
        self.cursor = after
        self.epoch = epoch
        self.asked: str | None = None
        """Id of the subscribe frame that waits for its ack."""
        self.sub: int | None = None
        self.paused = False
        self.tries = 0
        self.retry_at: float | None = None
        self.head_seen = 0
        """The head in the last heartbeat: if the cursor has not reached it by the next, events were lost."""


class _Pending:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tries = 0
        self.retry_at: float | None = None


_frames = msgspec.json.Decoder(_Frame)
_encoder = msgspec.json.Encoder()


def encode(command: AnyCommand) -> str:
    """A command as the text of one frame."""
    return _encoder.encode(command).decode()


class Connection:
    """See the module. All methods are synchronous and must be called from one place at a time."""

    def __init__(
        self, *, new_id: IdSource, random: Callable[[], float], client: str = "", renewable: bool = False
    ) -> None:
        """`random` gives numbers in [0, 1). `renewable`: a new token can be had when the old one is refused."""
        self.state: State = "waiting"
        self._new_id = new_id
        self._random = random
        self._client = client
        self._renewable = renewable
        self._effects: list[Effect] = []
        self._subs: dict[int, _Sub] = {}
        self._pending: dict[str, _Pending] = {}
        self._next_key = 1
        self._attempt = 0
        self._connect_at: float | None = None
        self._fresh_token = False
        self._token_refusals = 0
        self._heard_at = 0.0
        self._opened_at: float | None = None
        self._drain_ms: tuple[int, int] | None = None

    # --- what the driver calls ----------------------------------------------------------------------------------------

    def start(self, now: float) -> None:
        """Begin: the first Connect is among the next effects."""
        self._connect_at = now
        self.tick(now)

    def opened(self, now: float, token: str | None = None) -> None:
        """The socket is open, with the subprotocol `runcast.v1`."""
        if self.state != "connecting":
            return
        self._heard_at = now
        self._turn("greeting")
        self._transmit(encode(Hello(token=token, client=self._client or None)))

    def received(self, text: str | bytes, now: float) -> None:
        """One frame came. A frame that cannot be understood is a protocol error: the line is dropped and made anew."""
        if self.state not in ("greeting", "open"):
            return
        self._heard_at = now
        try:
            frame = _frames.decode(text)
        except msgspec.DecodeError:  # also ValidationError
            self._effects.append(Disconnect(4000))
            self._lost(now, "The server sent a frame that is not of this protocol.")
            return
        self._take(frame, text, now)

    def disconnected(self, now: float, code: int | None = None, detail: str = "") -> None:
        """The socket closed with `code`, broke (None), or could not be opened (None)."""
        if self.state not in ("connecting", "greeting", "open"):
            return
        kind = CLOSE_CLASSES.get(code, "reconnect") if code is not None else "reconnect"
        if code == 1009 and self._refuse_biggest():
            kind = "reconnect"
        if kind == "new_token":
            self._token_refusals += 1
            if self._renewable and self._token_refusals < 3:
                self._fresh_token = True
                kind = "reconnect"
            else:
                kind = "stop"
        if kind == "stop" and code is not None:
            stop_code, message = STOP_WORDS[code]
            self.stop(stop_code, message)
            return
        self._lost(now, detail, least_s=5.0 if kind == "wait" else 0.0)

    def tick(self, now: float) -> None:
        """Do what is due. Calling it too often costs nothing."""
        if self.state == "waiting" and self._connect_at is not None and now >= self._connect_at:
            self._connect_at = None
            self._heard_at = now
            self._turn("connecting")
            self._effects.append(Connect(self._fresh_token))
        elif self.state in ("connecting", "greeting") and now >= self._heard_at + CONNECT_S:
            self._effects.append(Disconnect(1000))
            self._lost(now, "The server did not answer in time.")
        elif self.state == "open":
            if now >= self._heard_at + WATCHDOG_S:
                self._effects.append(Disconnect(1000))
                self._lost(now, "Nothing was heard from the server for a while.")
                return
            for pending in self._pending.values():
                if pending.retry_at is not None and now >= pending.retry_at:
                    pending.retry_at = None
                    self._transmit(pending.text)
            for sub in self._subs.values():
                if sub.retry_at is not None and now >= sub.retry_at:
                    self._ask(sub)

    def deadline(self) -> float | None:
        """When `tick` must be called next, in the clock's seconds; None: only something else can move it."""
        if self.state == "waiting":
            return self._connect_at
        if self.state in ("connecting", "greeting"):
            return self._heard_at + CONNECT_S
        if self.state == "stopped":
            return None
        retries = [
            entry.retry_at for entry in (*self._pending.values(), *self._subs.values()) if entry.retry_at is not None
        ]
        return min([self._heard_at + WATCHDOG_S, *retries])

    def effects(self) -> list[Effect]:
        """What is to be done now, oldest first. Each is given once."""
        taken, self._effects = self._effects, []
        return taken

    def hurry(self, now: float) -> None:
        """The network came back: if it is waiting, try at once."""
        if self.state == "waiting":
            self._connect_at = now
            self.tick(now)

    def stop(self, code: str = "closed", message: str = "The connection was closed.") -> None:
        """For good. Commands without an answer are refused with `code`: whether they were carried out is not known."""
        if self.state == "stopped":
            return
        if self.state != "waiting":
            self._effects.append(Disconnect(1000))
        self._turn("stopped", message)
        for pending_id in self._pending:
            self._effects.append(Refused(pending_id, code, message, None))
        for sub in self._subs.values():
            self._effects.append(Ended(sub.key, code, message))
        self._pending.clear()
        self._subs.clear()
        self._effects.append(Stopped(code, message))

    # --- what the client calls ----------------------------------------------------------------------------------------

    def command(self, id: str, command: AnyCommand) -> None:
        """Send a command with this id, now or as soon as there is a connection, until it is answered."""
        pending = self._pending[id] = _Pending(encode(command))
        if self.state == "open":
            self._transmit(pending.text)

    def forget(self, id: str) -> None:
        """Nobody waits for the answer any more. What was sent stays sent."""
        self._pending.pop(id, None)

    def subscribe(self, thread: str | None, *, after: int | None = None, epoch: str | None = None) -> int:
        """Follow a thread (None: one's own inbox). Its effects carry the key that is returned."""
        key = self._next_key
        self._next_key += 1
        sub = self._subs[key] = _Sub(key, thread, after, epoch)
        if self.state == "open":
            self._ask(sub)
        return key

    def unsubscribe(self, key: int) -> None:
        sub = self._subs.pop(key, None)
        if sub is not None:
            self._leave(sub)

    def pause(self, key: int) -> None:
        """The reader is behind: stop its events, keep its cursor. Nothing is lost, `resume` goes on after it."""
        sub = self._subs.get(key)
        if sub is not None and not sub.paused:
            sub.paused = True
            sub.retry_at = None
            self._leave(sub)

    def resume(self, key: int) -> None:
        sub = self._subs.get(key)
        if sub is not None and sub.paused:
            sub.paused = False
            if self.state == "open":
                self._ask(sub)

    def ping(self, t: float) -> None:
        if self.state == "open":
            self._transmit(encode(Ping(t=t)))

    # --- frames -------------------------------------------------------------------------------------------------------

    def _take(self, frame: _Frame, text: str | bytes, now: float) -> None:
        match frame.op:
            case "welcome":
                self._welcome(now)
            case "ack":
                self._ack(frame, text)
            case "error":
                self._error(frame, now)
            case "events" if (sub := self._by_number(frame.sub)) is not None:
                self._events(sub, frame.events)
            case "caught_up" if (sub := self._by_number(frame.sub)) is not None:
                sub.tries = 0
                self._effects.append(CaughtUp(sub.key, frame.seq if frame.seq is not None else sub.cursor or 0))
            case "snapshot" if (sub := self._by_number(frame.sub)) is not None:
                sub.cursor, sub.tries = frame.seq or 0, 0
                sub.epoch = frame.epoch or sub.epoch
                thread = frame.thread if isinstance(frame.thread, dict) else {}
                self._effects.append(
                    SnapshotTaken(sub.key, sub.cursor, sub.epoch or "", thread, bytes(frame.transcript))
                )
            case "resync" if (sub := self._by_number(frame.sub)) is not None:
                self._resync(sub, frame.reason or "")
            case "heartbeat":
                self._heartbeat(frame.heads)
            case "drain":
                self._drain_ms = frame.retry_ms
            case _:
                pass  # pong, token_expiring, and what newer servers say: unknown frames are ignored

    def _refuse_biggest(self) -> bool:
        """A frame was too big for the server: the biggest command on the line is at fault, if one can be."""
        sizes = (
            {id: len(pending.text.encode()) for id, pending in self._pending.items()} if self.state == "open" else {}
        )
        biggest = max(sizes, key=sizes.__getitem__, default=None)
        if biggest is None or sizes[biggest] <= BLAMED_BYTES:
            return False
        del self._pending[biggest]
        self._effects.append(Refused(biggest, *STOP_WORDS[1009], None))
        return True

    def _welcome(self, now: float) -> None:
        if self.state != "greeting":
            return
        self._opened_at = now
        self._fresh_token = False
        self._token_refusals = 0
        self._turn("open")
        for pending in self._pending.values():
            pending.retry_at = None
            self._transmit(pending.text)
        for sub in self._subs.values():
            if not sub.paused:
                self._ask(sub)

    def _ack(self, frame: _Frame, text: str | bytes) -> None:
        for sub in self._subs.values():
            if sub.asked is not None and sub.asked == frame.id:
                sub.asked, sub.sub = None, frame.sub
                sub.epoch = frame.epoch or sub.epoch
                return
        if frame.id is not None and self._pending.pop(frame.id, None) is not None:
            result: dict[str, Any] = msgspec.json.decode(text)
            self._effects.append(Answered(frame.id, result))
        elif frame.sub is not None:
            # A subscribe whose reader has gone, or was paused, in the meantime: tell the server so.
            self._transmit(encode(Unsubscribe(id=self._new_id(), sub=frame.sub)))

    def _error(self, frame: _Frame, now: float) -> None:
        code, message = frame.code or "internal", frame.message or "The server refused."
        later = code in _LATER
        if frame.id is not None and (pending := self._pending.get(frame.id)) is not None:
            pending.tries += 1
            if later and pending.tries < RETRIES:
                pending.retry_at = now + self._pause(pending.tries, frame.retry_after_ms)
            else:
                del self._pending[frame.id]
                self._effects.append(Refused(frame.id, code, message, frame.retry_after_ms, frame.at))
            return
        for sub in list(self._subs.values()):
            of_ask = sub.asked is not None and sub.asked == frame.id
            if not of_ask and (frame.sub is None or sub.sub != frame.sub):
                continue
            sub.asked = sub.sub = None
            sub.tries += 1
            if later and sub.tries < RETRIES:
                sub.retry_at = now + self._pause(sub.tries, frame.retry_after_ms)
            else:
                del self._subs[sub.key]
                self._effects.append(Ended(sub.key, code, message))
            return

    def _events(self, sub: _Sub, raws: list[msgspec.Raw]) -> None:
        batch: list[Event] = []
        for raw in raws:
            event = events.decode(bytes(raw))
            if not isinstance(event.seq, int):
                continue
            first = event.from_ if isinstance(event.from_, int) else event.seq
            if sub.cursor is None:
                sub.cursor = first - 1
            if event.seq <= sub.cursor:
                continue  # seen already: nothing new in it
            if first != sub.cursor + 1:
                # A hole, or a joined delta that begins in the middle of what was seen: read again after the cursor.
                if batch:
                    self._effects.append(Batch(sub.key, batch))
                self._again(sub)
                return
            sub.cursor, sub.tries = event.seq, 0
            batch.append(event)
        if batch:
            self._effects.append(Batch(sub.key, batch))

    def _resync(self, sub: _Sub, reason: str) -> None:
        if reason == "deleted" and sub.thread is None:
            # Who deleted all their data still has an inbox: a new one.
            sub.cursor = sub.epoch = None
            self._effects.append(Rewound(sub.key, reason))
            self._ask(sub)
        elif reason == "deleted":
            del self._subs[sub.key]
            self._effects.append(Ended(sub.key, "not_found", "The conversation was deleted."))
        else:
            self._effects.append(Rewound(sub.key, reason))

    def _heartbeat(self, heads: dict[str, int]) -> None:
        for number, head in heads.items():
            sub = self._by_number(int(number)) if number.isdigit() else None
            if sub is None or sub.cursor is None:
                continue
            behind = sub.cursor < sub.head_seen
            sub.head_seen = head
            if behind:
                self._again(sub)

    # --- parts --------------------------------------------------------------------------------------------------------

    def _by_number(self, number: int | None) -> _Sub | None:
        if number is None:
            return None
        return next((sub for sub in self._subs.values() if sub.sub == number and not sub.paused), None)

    def _ask(self, sub: _Sub) -> None:
        sub.retry_at = None
        sub.sub = None
        sub.asked = self._new_id()
        self._transmit(
            encode(
                Subscribe(
                    id=sub.asked,
                    thread=sub.thread,
                    inbox=sub.thread is None,
                    after=sub.cursor,
                    epoch=sub.epoch if sub.cursor is not None else None,
                )
            )
        )

    def _again(self, sub: _Sub) -> None:
        """Something is missing: read again after the cursor, but not for ever from a server that has a hole."""
        sub.tries += 1
        sub.head_seen = 0
        self._leave(sub)
        if sub.tries < RETRIES:
            self._ask(sub)
        else:
            del self._subs[sub.key]
            self._effects.append(Ended(sub.key, "protocol_error", "The server leaves out events of this conversation."))

    def _leave(self, sub: _Sub) -> None:
        if sub.sub is not None and self.state == "open":
            self._transmit(encode(Unsubscribe(id=self._new_id(), sub=sub.sub)))
        sub.asked = sub.sub = None

    def _lost(self, now: float, detail: str, *, least_s: float = 0.0) -> None:
        if self._opened_at is not None and now - self._opened_at >= STABLE_S:
            self._attempt = 0
        self._opened_at = None
        for sub in self._subs.values():
            sub.asked = sub.sub = sub.retry_at = None
            sub.head_seen = 0
        if self._drain_ms is not None:
            low, high = self._drain_ms
            wait_s = (low + self._random() * max(0, high - low)) / 1000
            self._drain_ms = None
        else:
            # Full jitter: anywhere between now and the bound, so that clients who were cut together come back apart.
            wait_s = max(least_s, self._random() * min(BACKOFF_MOST_S, BACKOFF_FIRST_S * 2**self._attempt))
            wait_s += least_s * self._random()
        self._attempt = min(self._attempt + 1, 16)
        self._connect_at = now + wait_s
        self._turn("waiting", detail, wait_s)

    def _pause(self, tries: int, retry_after_ms: int | None) -> float:
        if retry_after_ms is not None:
            return retry_after_ms / 1000
        return (0.5 + self._random()) * BACKOFF_FIRST_S * 2**tries

    def _transmit(self, text: str) -> None:
        self._effects.append(Transmit(text))

    def _turn(self, state: State, detail: str = "", retry_in_s: float | None = None) -> None:
        self.state = state
        self._effects.append(StateChanged(state, detail, retry_in_s))
