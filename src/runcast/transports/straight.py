"""Frames written straight to the socket, for readers that are caught up.

uvicorn's `send` is a coroutine and makes several objects for each frame; one text frame is a header of 2 to 10 bytes and the
text (RFC 6455, section 5.2). Under our own process this protocol offers, in the connection's scope, a way to write such a
frame at once when the socket has room, and to learn what has arrived. Everything else (handshake, close, pings, frames that have to wait) stays uvicorn's.
Mounted under another server there is no such offer, and every frame goes the ordinary way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, cast

from runcast.transports.line import SocketProtocol
from runcast.transports.wire import Scope

EXTENSION: Final = "runcast.straight"

_TEXT: Final = 0x81
"""FIN, opcode 1 (text): RFC 6455, section 5.2."""


_PING: Final = b"runcast"
"""Begins the payload of our own pings; uvicorn's have four bytes."""


class StraightProtocol(SocketProtocol):
    """uvicorn's WebSocket with one more way out. The connection must not use extensions that change frames (deflate)."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._asked = 0
        self._answers: dict[bytes, Callable[[], None]] = {}
        """What is called when a ping is answered, by its payload, the oldest first."""

    def handle_connect(self, event: Any) -> None:
        super().handle_connect(event)
        scope = getattr(self, "scope", None)
        if scope is not None:  # the handshake was sound; the application's task has not begun yet
            scope["extensions"][EXTENSION] = self

    @property
    def has_room(self) -> bool:
        """Whether a frame could be written at once: the handshake is over, nobody closes, the socket takes more."""
        return (
            self.handshake_complete
            and not self.close_sent
            and not self.disconnected
            and not self.is_full
            and not self.transport.is_closing()
        )

    def ping(self, answered: Callable[[], None]) -> bool:
        """Ask whether the peer has what was written so far: `answered` is called when it says so. False if nothing can be
        asked now. A pong may stand for several pings, and answers all before it (RFC 6455, section 5.5.3)."""
        if not self.handshake_complete or self.close_sent or self.disconnected or self.transport.is_closing():
            return False
        self._asked += 1
        payload = b"%b%d" % (_PING, self._asked)
        self._answers[payload] = answered
        self.conn.send_ping(payload)
        self.transport.write(b"".join(self.conn.data_to_send()))
        return True

    def handle_pong(self, event: Any) -> None:
        payload = bytes(event.data)
        if payload not in self._answers:
            super().handle_pong(event)
            return
        for asked in list(self._answers):
            self._answers.pop(asked)()
            if asked == payload:
                return

    def write_text(self, text: bytes) -> None:
        """Write one text frame. Only after `has_room`, in the same step; the bytes are UTF-8."""
        if text is not _last.text:
            _last.text, _last.frame = text, text_frame(text)
        self.transport.write(_last.frame)


def straight_of(scope: Scope) -> StraightProtocol | None:
    """The offer of this connection's server, if it makes one."""
    return cast("StraightProtocol | None", scope.get("extensions", {}).get(EXTENSION))


def text_frame(text: bytes) -> bytes:
    """One unmasked, whole text frame (RFC 6455, section 5.2: a server does not mask)."""
    size = len(text)
    if size < 126:
        return b"%c%c%b" % (_TEXT, size, text)
    if size < 65_536:
        return b"%c\x7e%b%b" % (_TEXT, size.to_bytes(2, "big"), text)
    return b"%c\x7f%b%b" % (_TEXT, size.to_bytes(8, "big"), text)


class _Last:
    """The frame made last: many readers are given the same text, one after the other."""

    __slots__ = ("frame", "text")

    def __init__(self) -> None:
        self.text = b""
        self.frame = text_frame(b"")


_last = _Last()
