"""The line below one connection: what a sender must know of its socket, and ASGI does not say.

uvicorn's protocols with a small write buffer. A reader that does not read is felt after `WRITE_BUFFER` bytes, and who sends
waits for room *before* it reads the next batch, so that a stuck reader holds the frame that is stuck and nothing else
(I10). Under another server there is no line: sends wait as that server likes.
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

    def pause_writing(self) -> None:
        self.is_full = True
        super().pause_writing()

    def resume_writing(self) -> None:
        self.is_full = False
        super().resume_writing()

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


def http_protocol() -> type[asyncio.Protocol] | Literal["auto"]:
    """For uvicorn's `http`: its protocol over httptools with a line, or, where httptools is not to be had, its own choice."""
    try:
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
    except ImportError:
        return "auto"

    class HttpProtocol(HttpToolsProtocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            transport.set_write_buffer_limits(high=WRITE_BUFFER)

        def on_message_begin(self) -> None:
            super().on_message_begin()
            flow = self.flow
            cast(Scope, self.scope)[LINE] = Line(self.transport, lambda: flow.write_paused, flow.drain)

    return HttpProtocol


def _unacknowledged(transport: asyncio.Transport) -> int:
    """What lies in the kernel (Linux and BSD: SIOCOUTQ, tcp(7)); 0 where that cannot be asked."""
    socket = transport.get_extra_info("socket")
    if socket is None:
        return 0
    try:
        import fcntl
        import termios

        return int(struct.unpack("i", fcntl.ioctl(socket.fileno(), termios.TIOCOUTQ, b"\0" * 4))[0])
    except (ImportError, AttributeError, OSError):
        return 0
