"""The line below one connection: what a sender must know of its socket, and ASGI does not say.

uvicorn's protocols with a small write buffer. A reader that does not read is felt after `WRITE_BUFFER` bytes, and who sends
waits for room *before* it reads the next batch, so that a stuck reader holds the frame that is stuck and nothing else
(I10). Who connects and sends no request is let go. Under another server there is no line: sends wait as that server likes.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable
from typing import Literal, cast

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from runcast.transports.wire import LINE, Scope

WRITE_BUFFER = 16 * 1024
"""Bytes beyond which a sender waits; the largest frame comes on top."""


HEAD_TIMEOUT_S = 30.0
"""How long a connection may take until the line and the headers of a request are there."""


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
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.set_write_buffer_limits(high=WRITE_BUFFER)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self.handshake_initiated and self.conn.handshake_exc is not None:
            # A request that the library would not read, because of a header of more than 8 KiB for instance: uvicorn waits on.
            self.transport.write(
                b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\ncache-control: no-store\r\n\r\n"
            )
            self.transport.close()

    async def run_asgi(self) -> None:
        line = Line(self.transport, lambda: not self.writable.is_set(), self.writable.wait)
        cast(Scope, self.scope)[LINE] = line
        await super().run_asgi()


class HeadTimer:
    """Closes a connection on which no request comes: nothing at all, half a line, a header now and then. uvicorn's keep-alive
    limits only the time in which *nothing* comes after an answer. Between a request's head and the end of its answer it rests.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._handle: asyncio.TimerHandle | None = None
        self._began = False

    def expect(self, *, began: bool = False) -> None:
        """A head is due within `HEAD_TIMEOUT_S`, if none is already. `began`: some of it is there."""
        self._began = self._began or began
        if self._handle is None and not self._transport.is_closing():
            self._handle = asyncio.get_running_loop().call_later(HEAD_TIMEOUT_S, self._overdue)

    def rest(self) -> None:
        self._began = False
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _overdue(self) -> None:
        self._handle = None
        if not self._transport.is_closing():
            if self._began:  # RFC 9110, section 15.5.9; who has said nothing is told nothing
                self._transport.write(b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
            self._transport.close()


def http_protocol() -> type[asyncio.Protocol] | Literal["auto"]:
    """For uvicorn's `http`: its protocol over httptools with a line, or, where httptools is not to be had, its own choice."""
    try:
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
    except ImportError:
        return "auto"

    class HttpProtocol(HttpToolsProtocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            transport.set_write_buffer_limits(high=WRITE_BUFFER)
            self._head = HeadTimer(transport)
            self._head.expect()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            cycle = cast("RequestResponseCycle | None", self.cycle)
            answering = cycle is not None and not cycle.response_complete
            if answering or self.transport.get_protocol() is not self:  # upgraded: the WebSocket has limits of its own
                self._head.rest()
            else:
                self._head.expect(began=True)

        def connection_lost(self, exc: Exception | None) -> None:
            self._head.rest()
            super().connection_lost(exc)

        def on_message_begin(self) -> None:
            super().on_message_begin()
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
