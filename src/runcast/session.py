"""One native WebSocket's protocol state, without any I/O.

    commands = session.receive(text)         what the client asks; frames to send back; or the close
    frame    = session.welcome(identity)     answers to the commands, made by whoever carried them out
    frames   = session.encode(sub, update)   what a subscription said
    session.tick()                           heartbeats and deadlines; `next_deadline()` says when to call it

Rules: every client frame with an `id` gets exactly one `ack` or `error` with that id. Until `welcome` only one frame of at most
4 KiB is read, and it must be `hello`. It never awaits, and reads time only from the clock it was given.

The frames are in `runcast.dialects.native`; waiting and sending are in `runcast.transports.websocket`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from types import MappingProxyType
from typing import Final, NamedTuple, cast

import msgspec

from runcast.auth import LEEWAY_S, Identity, read_offer
from runcast.commands import AnyCommand, Auth, Cancel, Hello, Ping, Subscribe, Unsubscribe
from runcast.dialects import native
from runcast.dialects.base import BadFrame, OnClose, Start
from runcast.dialects.native import NativeEncoder, control, error_frame, to_bytes
from runcast.errors import (
    Forbidden,
    InvalidRequest,
    NotFound,
    RuncastError,
    TooManySubscriptions,
    Unauthenticated,
    describe,
)
from runcast.ids import Clock, IdSource
from runcast.updates import CaughtUp, Events, Resync, ThreadSnapshot, Update

SUBPROTOCOL: Final = "runcast.v1"

NOT_FOUND_MESSAGE: Final = "Not found: there is no such thing, or it is not yours."
"""The one sentence for both, so that nobody learns what others have."""


class CloseCode(IntEnum):
    """Why a WebSocket was closed (RFC 6455, section 7.4; 4000-4999 are ours)."""

    NORMAL = 1000
    TOO_BIG = 1009
    INTERNAL = 1011
    RESTART = 1012
    OVERLOAD = 1013
    PROTOCOL = 4000
    UNAUTHENTICATED = 4001
    TOKEN_EXPIRED = 4002
    FORBIDDEN = 4003
    AUTH_TIMEOUT = 4004
    VERSION = 4005
    RATE_LIMIT = 4008
    TOO_MANY_CONNECTIONS = 4009
    REVOKED = 4010
    NO_PROGRESS = 4012


class Close(NamedTuple):
    """End the connection; nothing is sent after it. `reason` has at most 123 bytes (RFC 6455, section 5.5)."""

    code: CloseCode
    reason: str


class SessionLimits(msgspec.Struct, frozen=True, kw_only=True):
    max_frame_bytes: int = 64 * 1024
    max_hello_bytes: int = 4 * 1024
    hello_timeout_s: float = 10
    heartbeat_s: float = 15
    """Silence after which the server says where the logs stand."""
    max_subscriptions: int = 32
    max_bad_frames: int = 3
    max_frames: int = 1000
    """Per `frames_window_s`."""
    frames_window_s: float = 10
    token_warning_s: float = 60
    """How long before its end a token is said to expire."""
    token_leeway_s: float = LEEWAY_S


Effect = AnyCommand | bytes | Close
"""What a frame of the client leads to, in order: commands to carry out, frames to send, or the end."""


class _Subscribed:
    """One subscription's place in the protocol."""

    def __init__(self, thread: str, encoder: NativeEncoder, cursor: int) -> None:
        self.thread = thread
        self.encoder = encoder
        self.cursor = cursor


class Session:
    def __init__(
        self,
        *,
        clock: Clock,
        new_id: IdSource,
        limits: SessionLimits | None = None,
        on_close: Callable[[bool], OnClose] = native.on_close,
    ) -> None:
        self._on_close = on_close
        self._clock = clock
        self._new_id = new_id
        self._limits = limits or SessionLimits()
        self.id = new_id()
        """The connection's id: the `conn` of the welcome, and what the server's log calls it."""
        self.identity: Identity | None = None
        """Who this is; None until `welcome`."""
        self.client: str | None = None
        """What the client calls itself."""
        self._subs: dict[int, _Subscribed] = {}
        self._next_sub = 1
        self._pending_subscribes = 0
        self._bad_frames = 0
        self._frames = 0
        now = clock.monotonic()
        self._window_ends = now + self._limits.frames_window_s
        self._last_sent = now
        self._hello_by: float | None = now + self._limits.hello_timeout_s
        self._hello_seen = False
        self._expiry_told = False

    # --- the client's side ----------------------------------------------------------------------------------------

    def receive(self, data: str | bytes) -> list[Effect]:
        """What one message of the client leads to."""
        if (close := self._too_much(data)) is not None:
            return [close]
        try:
            command = native.decode(data)
        except BadFrame as bad:
            return self._refuse(bad)
        if not self._hello_seen:
            if not isinstance(command, Hello):
                return [Close(CloseCode.PROTOCOL, "The first frame must be hello.")]
            self._hello_seen = True
            self.client = command.client
            return [command]
        match command:
            case Hello():
                return self._refuse(BadFrame("hello comes once, as the first frame.", malformed=True))
            case Ping():
                return [self._out(control("pong", t=command.t))]
            case Subscribe():
                if len(self._subs) + self._pending_subscribes >= self._limits.max_subscriptions:
                    most = self._limits.max_subscriptions
                    return [
                        self.error(command.id, TooManySubscriptions(f"A connection has at most {most} subscriptions."))
                    ]
                self._pending_subscribes += 1
            case Unsubscribe():
                if command.sub not in self._subs:
                    return [self.error(command.id, NotFound(f"This connection has no subscription {command.sub}."))]
            case _:
                pass
        return [command]

    def _too_much(self, data: str | bytes) -> Close | None:
        limits = self._limits
        most = limits.max_frame_bytes if self.identity is not None else limits.max_hello_bytes
        # A character has at most four bytes, so most frames need no second look.
        if (
            len(data) * 4 > most
            and (len(data) if isinstance(data, bytes) else len(data.encode("utf-8", "replace"))) > most
        ):
            return Close(CloseCode.TOO_BIG, f"A frame has at most {most} bytes.")
        now = self._clock.monotonic()
        if now >= self._window_ends:
            self._window_ends = now + limits.frames_window_s
            self._frames = 0
        self._frames += 1
        if self._frames > limits.max_frames:
            return Close(CloseCode.RATE_LIMIT, f"More than {limits.max_frames} frames in {limits.frames_window_s:g} s.")
        return None

    def _refuse(self, bad: BadFrame) -> list[Effect]:
        if not self._hello_seen:
            return [Close(CloseCode.PROTOCOL, "The first frame must be hello.")]
        reply = self._error_frame("invalid_request", bad.message, id=bad.id)
        if not bad.malformed:
            return [reply]
        self._bad_frames += 1
        if self._bad_frames < self._limits.max_bad_frames:
            return [reply]
        return [reply, Close(CloseCode.PROTOCOL, f"{self._bad_frames} frames could not be read.")]

    # --- answers --------------------------------------------------------------------------------------------------

    def welcome(self, identity: Identity) -> bytes:
        """The connection is open, as `identity`."""
        self.identity = identity
        self._hello_by = None
        self._expiry_told = False
        return self._out(
            control(
                "welcome",
                conn=self.id,
                user=identity.principal.user,
                heartbeatMs=int(self._limits.heartbeat_s * 1000),
                maxFrameBytes=self._limits.max_frame_bytes,
                tokenExpiresAt=identity.expires_at,
            )
        )

    def renew(self, command: Auth, identity: Identity) -> bytes | Close:
        """A new token was accepted: it must be the same person's."""
        if self.identity is None or identity.principal != self.identity.principal:
            return Close(CloseCode.UNAUTHENTICATED, "The new token is another user's.")
        self.identity = identity
        self._expiry_told = False
        return self.ack(command.id, {"tokenExpiresAt": identity.expires_at} if identity.expires_at else {})

    def ack(self, id: str, result: msgspec.Struct | Mapping[str, object]) -> bytes:
        """The one answer to a command that was carried out; the fields of `result` stand beside `op` and `id`."""
        fields = to_bytes(result)
        separator = b"" if fields == b"{}" else b","
        return self._out(b'{"op":"ack","id":%b%b%b' % (to_bytes(id), separator, fields[1:]))

    def error(
        self, id: str | None, error: BaseException, *, sub: int | None = None, request_id: str | None = None
    ) -> bytes:
        """The one answer to a command that was not; never a foreign exception's text."""
        code, message = describe(error)
        if isinstance(error, NotFound):
            message = NOT_FOUND_MESSAGE
        retry = error.retry_after_ms if isinstance(error, RuncastError) else None
        at = error.at if isinstance(error, InvalidRequest) else None
        return self._error_frame(code, message, id=id, sub=sub, retry_after_ms=retry, at=at, request_id=request_id)

    def _error_frame(
        self,
        code: str,
        message: str,
        *,
        id: str | None = None,
        sub: int | None = None,
        retry_after_ms: int | None = None,
        at: str | None = None,
        request_id: str | None = None,
    ) -> bytes:
        request_id = request_id or self._new_id()
        return self._out(
            error_frame(code, message, request_id=request_id, id=id, sub=sub, retry_after_ms=retry_after_ms, at=at)
        )

    # --- subscriptions --------------------------------------------------------------------------------------------

    def subscribed(self, command: Subscribe, *, thread: str, epoch: str, head: int, start: int) -> tuple[int, bytes]:
        """The subscription stands: its number, and the ack that must be sent before any of its frames."""
        self._pending_subscribes -= 1
        sub = self._next_sub
        self._next_sub += 1
        encoder = NativeEncoder(Start(thread=thread, epoch=epoch, after=start))
        self._subs[sub] = _Subscribed(thread, encoder, start)
        fields = {"sub": sub, "thread": thread, "epoch": epoch, "head": head, "from": start}
        return sub, self.ack(command.id, fields)

    def subscribe_failed(self, command: Subscribe, error: BaseException, *, request_id: str | None = None) -> bytes:
        self._pending_subscribes -= 1
        return self.error(command.id, error, request_id=request_id)

    def unsubscribed(self, command: Unsubscribe) -> bytes:
        """No frame of this subscription follows the ack."""
        self._subs.pop(command.sub, None)
        return self.ack(command.id, {})

    def ended(self, sub: int) -> None:
        """The subscription is over by itself: its thread was deleted, or it failed (`error` with its number told why)."""
        self._subs.pop(sub, None)

    def encode(self, sub: int, update: Update) -> list[bytes]:
        """The frames for one update of a subscription; none if it is over."""
        state = self._subs.get(sub)
        if state is None:
            return []
        match update:
            case Events():
                state.cursor = cast(int, update.records[-1].event.seq)
                frame = native.shared_frame(sub, update)
                if frame is None:
                    frame = native.events_frame(sub, [state.encoder.payload(record) for record in update.records])
                return [self._out(frame)]
            case ThreadSnapshot():
                state.cursor = update.seq
                state.encoder.forget()
                return [self._out(native.snapshot_frame(update, sub))]
            case CaughtUp():
                return [self._out(native.caught_up_frame(update, sub))]
            case Resync():
                state.encoder.forget()
                return [self._out(native.resync_frame(update, sub))]

    def closed(self, deliberate: bool) -> list[Cancel]:
        """The client has gone, on purpose or not: what is to be carried out for it still, in the order of its subscriptions."""
        if self.identity is None or self._on_close(deliberate) == "nothing":
            return []
        threads = dict.fromkeys(state.thread for state in self._subs.values())
        reason = "The conversation was closed."
        return [Cancel(id=self._new_id(), thread=thread, reason=reason) for thread in threads]

    @property
    def subscriptions(self) -> Sequence[int]:
        return tuple(self._subs)

    # --- time -----------------------------------------------------------------------------------------------------

    def next_deadline(self) -> float:
        """When `tick` has something to do, in seconds of the clock's `monotonic`; may move later, never earlier, except
        through `welcome` and `renew`."""
        if self._hello_by is not None:
            return self._hello_by
        deadline = self._last_sent + self._limits.heartbeat_s
        if (left := self._token_left_s()) is not None:
            margin = -self._limits.token_leeway_s if self._expiry_told else self._limits.token_warning_s
            deadline = min(deadline, self._clock.monotonic() + max(0.0, left - margin))
        return deadline

    def tick(self, heads: Mapping[int, int] = MappingProxyType({}), *, is_blocked: bool = False) -> list[bytes | Close]:
        """What is due now: nothing, a heartbeat, a warning, or the end. `heads`: how far the log of a subscription reaches,
        if that may be more than was given. While a frame waits for room (`is_blocked`) the line is not silent but full."""
        now = self._clock.monotonic()
        if self._hello_by is not None:
            if now < self._hello_by:
                return []
            return [Close(CloseCode.AUTH_TIMEOUT, f"No hello within {self._limits.hello_timeout_s:g} s.")]
        due: list[bytes | Close] = []
        left = self._token_left_s()
        if left is not None and left <= -self._limits.token_leeway_s:
            return [Close(CloseCode.TOKEN_EXPIRED, "The token has expired.")]
        if left is not None and left <= self._limits.token_warning_s and not self._expiry_told:
            self._expiry_told = True
            due.append(self._out(control("token_expiring", at=self.identity.expires_at if self.identity else None)))
        if is_blocked:
            self._last_sent = now
        if now >= self._last_sent + self._limits.heartbeat_s:
            due.append(
                self._out(
                    control(
                        "heartbeat",
                        heads={str(sub): max(state.cursor, heads.get(sub, 0)) for sub, state in self._subs.items()},
                    )
                )
            )
        return due

    def drain(self, retry_ms: tuple[int, int]) -> bytes:
        """The server is about to stop: after the close, come back after a random time in this range."""
        return self._out(control("drain", retryMs=retry_ms))

    def _token_left_s(self) -> float | None:
        if self.identity is None or self.identity.expires_at is None:
            return None
        return (self.identity.expires_at - self._clock.now_ms()) / 1000

    def _out(self, frame: bytes) -> bytes:
        self._last_sent = self._clock.monotonic()
        return frame


def close_for(error: BaseException) -> Close:
    """How a refused `hello` ends."""
    match error:
        case Unauthenticated():
            return Close(CloseCode.UNAUTHENTICATED, "Invalid or missing token.")
        case Forbidden():
            return Close(CloseCode.FORBIDDEN, "Not allowed.")
        case _:
            return Close(CloseCode.INTERNAL, "Something went wrong on the server.")


def negotiate(offered: Sequence[str]) -> tuple[str | None, Close | None]:
    """The subprotocol to answer with, and the close that follows if none of the offered is spoken.

    Items that carry a token are no protocols: never echoed, but for the word `bearer` before one. A client that offers no
    protocol is taken at its word.
    """
    offer = read_offer(offered)
    if SUBPROTOCOL in offer.protocols:
        return SUBPROTOCOL, None
    if offer.protocols:
        return None, Close(CloseCode.VERSION, f"This server speaks {SUBPROTOCOL}.")
    return offer.marker, None
