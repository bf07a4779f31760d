"""Clients on a bare socket, for what no library does: not reading, stopping in the middle, vanishing."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

RECEIVE_BUFFER = 4096
"""Small, so that a client that does not read is felt soon."""


class RawClient:
    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self._loop = asyncio.get_running_loop()

    async def say(self, data: bytes) -> None:
        await self._loop.sock_sendall(self.socket, data)

    async def hear(self, size: int = 65536) -> bytes:
        """What is there, at most `size` bytes; empty at the end."""
        return await self._loop.sock_recv(self.socket, size)

    async def hear_until(self, end: bytes) -> bytes:
        heard = b""
        while end not in heard:
            data = await self.hear(1)
            assert data, f"the connection ended after {heard!r}"
            heard += data
        return heard

    async def upgrade(self, path: str = "/v1/ws") -> None:
        """Make it a WebSocket."""
        await self.say(
            b"GET %b HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n" % path.encode()
        )
        assert b" 101 " in await self.hear_until(b"\r\n\r\n")

    async def subscribe(self, thread: str, *, after: int = 0) -> None:
        """On a WebSocket."""
        await self.say(frame({"op": "hello"}) + frame({"op": "subscribe", "id": "s", "thread": thread, "after": after}))

    async def stream(self, path: str) -> None:
        """Ask for server-sent events."""
        await self.say(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n".encode())

    def vanish(self) -> None:
        """Close with a reset: nothing more is sent, what was not read is lost."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.socket.close()


def frame(value: dict[str, Any] | str | bytes, *, opcode: int = 1, fin: bool = True) -> bytes:
    """One masked client frame (RFC 6455, section 5.2); the mask is zero."""
    data = (
        json.dumps(value).encode() if isinstance(value, dict) else value.encode() if isinstance(value, str) else value
    )
    size = len(data)
    length = (
        bytes([0x80 | size])
        if size < 126
        else b"\xfe" + size.to_bytes(2)
        if size < 65536
        else b"\xff" + size.to_bytes(8)
    )
    return bytes([(0x80 if fin else 0) | opcode]) + length + b"\0\0\0\0" + data


async def connect(port: int, *, buffer: int = RECEIVE_BUFFER) -> RawClient:
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
    return RawClient(connection)


@asynccontextmanager
async def raw_client(port: int, *, buffer: int = RECEIVE_BUFFER) -> AsyncGenerator[RawClient]:
    client = await connect(port, buffer=buffer)
    try:
        yield client
    finally:
        client.socket.close()
