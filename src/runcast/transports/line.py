"""The line below one connection: what a sender must know of its socket, and ASGI does not say.

uvicorn's protocols with a small write buffer. A reader that does not read is felt after `WRITE_BUFFER` bytes, and who sends
waits for room *before* it reads the next batch, so that a stuck reader holds the frame that is stuck and nothing else
(I10). Under another server there is no line: sends wait as that server likes.

What comes in is bounded before anybody above sees it: how many frames, since fragments, pings and pongs reach no application,
and how long the head of a request may take.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable
from typing import Any, Literal, cast

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.protocol import State

from runcast.session import CloseCode
from runcast.transports.wire import LINE, Scope
from runcast.wakeup import Inbox

WRITE_BUFFER = 16 * 1024
"""Bytes beyond which a sender waits; the largest frame comes on top."""

MAX_FRAMES = 4096
"""Frames of all kinds that a peer may send within `FRAMES_WINDOW_S`. A fragment needs no content and a ping is answered by the
parser itself: without a limit six bytes cost a place in memory, and a flood of them everybody's time."""
FRAMES_WINDOW_S = 10.0
SLICE = 4096
"""Bytes that are parsed before the frames in them are counted: some hundred frames, a few milliseconds."""

HEAD_S = 10.0
"""How long a connection may be open, or a request begun, without the whole head of a request."""
HEAD_BYTES = 64 * 1024
"""Longest head of a request, its line and its headers, and longest trailer. httptools takes any, and keeps it."""
MAX_PIPELINED = 64
"""Requests that may wait for the one before them on a connection; uvicorn makes all that it has read."""


class Line:
    def __init__(
        self, transport: asyncio.Transport, is_full: Callable[[], bool], wait: Callable[[], Awaitable[object]]
    ) -> None:
        self._transport = transport
        self._is_full = is_full
        self._wait = wait

    @property
    def is_full(self) -> bool:
        """Whether who sends should wait for `room` first."""
        return self._is_full()

    async def room(self) -> None:
        """Return when the peer has taken most of what was sent, or is gone."""
        await self._wait()

    def pending(self) -> int:
        """How many bytes the peer has not acknowledged: less than before means that it still reads, however slowly."""
        return self._transport.get_write_buffer_size() + _unacknowledged(self._transport)

    def abort(self) -> None:
        """Close without sending what is left: a peer that reads nothing would hold it for ever."""
        self._transport.abort()


def line_of(scope: Scope) -> Line | None:
    """The line of a connection; None under a server that is not ours."""
    return scope.get(LINE)


class SocketProtocol(WebSocketsSansIOProtocol):
    is_full = False
    """Whether who sends should wait: the opposite of uvicorn's `writable`, without a call."""
    _frames = 0
    _window_ends = 0.0
    _pong_owed = b""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.queue = cast(Any, Inbox())  # uvicorn's, of asyncio, takes 3 KiB

    def data_received(self, data: bytes) -> None:
        for start in range(0, len(data), SLICE):
            if self.transport.is_closing():
                return
            super().data_received(data[start : start + SLICE] if len(data) > SLICE else data)
            if not self.handshake_initiated and self.conn.handshake_exc is not None:
                # A request that the library would not read, because of a header of more than 8 KiB for instance: uvicorn waits on.
                self.transport.write(
                    b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\ncache-control: no-store\r\n\r\n"
                )
                self.transport.close()
                return

    def handle_events(self) -> None:
        now = self.loop.time()
        if now >= self._window_ends:
            self._window_ends, self._frames = now + FRAMES_WINDOW_S, 0
        self._frames += len(self.conn.events)
        if self.handshake_complete and self.__dict__.get("request") is not None:
            # Its headers are in the scope; the library's copy of them would stay as long as the connection, 2 to 3 KiB.
            self.request = self.response = cast(Any, None)
        if self._frames <= MAX_FRAMES:
            super().handle_events()
            return
        self.conn.fail(CloseCode.RATE_LIMIT, f"More than {MAX_FRAMES} frames in {FRAMES_WINDOW_S:g} s.")
        self.close_sent = True
        if self.writable.is_set():
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.transport.close()
        else:
            self.transport.abort()

    def handle_ping(self) -> None:
        if self.writable.is_set() or self.conn.state is not State.OPEN:
            super().handle_ping()
            return
        # The peer does not read: it gets the last pong when it does (RFC 6455, section 5.5.3).
        self._pong_owed = ([b"", *self.conn.data_to_send()])[-1] or self._pong_owed

    def pause_writing(self) -> None:
        self.is_full = True
        super().pause_writing()

    def resume_writing(self) -> None:
        self.is_full = False
        super().resume_writing()
        if self._pong_owed and self.conn.state is State.OPEN and not self.transport.is_closing():
            pong, self._pong_owed = self._pong_owed, b""
            self.transport.write(pong)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.set_write_buffer_limits(high=WRITE_BUFFER)

    async def run_asgi(self) -> None:
        line = Line(self.transport, lambda: not self.writable.is_set(), self.writable.wait)
        cast(Scope, self.scope)[LINE] = line
        await super().run_asgi()


def http_protocol() -> type[asyncio.Protocol] | Literal["auto"]:
    """For uvicorn's `http`: its protocol over httptools with a line, or, where httptools is not to be had, its own choice."""
    try:
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
    except ImportError:
        return "auto"

    class HttpProtocol(HttpToolsProtocol):
        _head_timer: asyncio.TimerHandle | None = None
        _moved = False
        _idle_bytes = 0
        """Received since anything of a request was there: a part of its head, of its trailer, of what a chunk says of itself."""

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            transport.set_write_buffer_limits(high=WRITE_BUFFER)
            self._head_timer = self.loop.call_later(HEAD_S, self._head_is_late)

        def data_received(self, data: bytes) -> None:
            for start in range(0, len(data), SLICE):
                self._moved = False
                piece = data[start : start + SLICE] if len(data) > SLICE else data
                protocol = self.transport.get_protocol()
                if protocol is not self:  # upgraded in the middle of it
                    cast(asyncio.Protocol, protocol).data_received(piece)
                    continue
                super().data_received(piece)
                self._idle_bytes = 0 if self._moved else self._idle_bytes + len(piece)
                if self.transport.is_closing():
                    return
                if self._idle_bytes > HEAD_BYTES or len(self.pipeline) > MAX_PIPELINED:
                    self.transport.abort()
                    return

        def on_body(self, body: bytes) -> None:
            self._moved = True
            super().on_body(body)

        def on_message_complete(self) -> None:
            self._moved = True
            super().on_message_complete()

        def connection_lost(self, exc: Exception | None) -> None:
            self._head_is_there()
            super().connection_lost(exc)

        def on_headers_complete(self) -> None:
            self._head_is_there()
            super().on_headers_complete()

        def _head_is_there(self) -> None:
            if self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer = None

        def _head_is_late(self) -> None:
            under_way = cast(Any, self.cycle)  # None before the first request
            if under_way is not None and not under_way.response_complete:  # what is late is the next one's
                self._head_timer = self.loop.call_later(HEAD_S, self._head_is_late)
            else:
                self.transport.close()

        def on_message_begin(self) -> None:
            self._moved = True
            super().on_message_begin()
            if self._head_timer is None:
                self._head_timer = self.loop.call_later(HEAD_S, self._head_is_late)
            flow = self.flow
            cast(Scope, self.scope)[LINE] = Line(self.transport, lambda: flow.write_paused, flow.drain)

    return HttpProtocol


def _unacknowledged(transport: asyncio.Transport) -> int:
    """What lies in the kernel (Linux and BSD: SIOCOUTQ, tcp(7)); 0 where that cannot be asked, and once the socket is closed:
    the connection's task may look before it is told that the line is gone."""
    socket = transport.get_extra_info("socket")
    if socket is None or socket.fileno() < 0:
        return 0
    try:
        import fcntl
        import termios

        return int(struct.unpack("i", fcntl.ioctl(socket.fileno(), termios.TIOCOUTQ, b"\0" * 4))[0])
    except (ImportError, AttributeError, OSError):
        return 0
