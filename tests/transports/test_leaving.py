"""A close that somebody made, and a line that broke: what each server implementation tells of them."""

from __future__ import annotations

import base64
import importlib.util
import os
import socket
import struct
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, cast

import anyio
import anyio.abc
import pytest
import uvicorn
from starlette.requests import Request

from core import DEADLINE_S, Gated
from runcast.dialects.base import OnClose
from runcast.server import Server
from runcast.transports.leaving import is_deliberate, unless_gone
from runcast.transports.listener import listen
from runcast.transports.websocket import NativeSocket
from runcast.transports.wire import Message
from serving import serving_app

pytestmark = pytest.mark.anyio

IMPLEMENTATIONS = [
    "websockets-sansio",
    pytest.param(
        "wsproto",
        marks=pytest.mark.skipif(importlib.util.find_spec("wsproto") is None, reason="wsproto is not installed"),
    ),
]


@asynccontextmanager
async def recording(implementation: Any) -> AsyncGenerator[tuple[int, list[Message], anyio.Event]]:
    """A server on this implementation that keeps the `websocket.disconnect` it is given."""
    heard: list[Message] = []
    done = anyio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "websocket":
            return
        await receive()
        await send({"type": "websocket.accept"})
        heard.append(await receive())
        done.set()

    config = uvicorn.Config(app, ws=implementation, lifespan="off", log_config=None, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    with listen("127.0.0.1", 0) as listener:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: server.serve(sockets=[listener]))
            with anyio.fail_after(DEADLINE_S):
                while not server.started:
                    await anyio.sleep(0.01)
            try:
                yield listener.getsockname()[1], heard, done
            finally:
                server.should_exit = True


async def opened(port: int, path: str = "/") -> anyio.abc.SocketStream:
    """A raw WebSocket, after its handshake (RFC 6455, section 4)."""
    stream = await anyio.connect_tcp("127.0.0.1", port)
    key = base64.b64encode(os.urandom(16)).decode()
    head = (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    await stream.send(head.encode())
    answer = b""
    with anyio.fail_after(DEADLINE_S):
        while b"\r\n\r\n" not in answer:
            answer += await stream.receive()
    assert answer.startswith(b"HTTP/1.1 101")
    return stream


def frame(opcode: int, payload: bytes = b"") -> bytes:
    """One masked frame of a client, the mask being zero."""
    assert len(payload) < 126
    return bytes([0x80 | opcode, 0x80 | len(payload), 0, 0, 0, 0]) + payload


async def reset(stream: anyio.abc.SocketStream) -> None:
    raw = cast(socket.socket, stream.extra(anyio.abc.SocketAttribute.raw_socket))
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await stream.aclose()


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(
    ("way", "deliberate"),
    [("1000", True), ("no code", True), ("1001", False), ("4000", False), ("FIN", False), ("RST", False)],
)
async def test_a_close_frame_is_told_from_a_broken_line(implementation: str, way: str, deliberate: bool) -> None:
    async with recording(implementation) as (port, heard, done):
        stream = await opened(port)
        match way:
            case "no code":
                await stream.send(frame(8))
            case "FIN":
                await stream.aclose()
            case "RST":
                await reset(stream)
            case code:
                await stream.send(frame(8, int(code).to_bytes(2, "big")))
        with anyio.fail_after(DEADLINE_S):
            await done.wait()
        if way not in ("FIN", "RST"):
            await stream.aclose()
    assert heard[0]["type"] == "websocket.disconnect"
    assert is_deliberate(heard[0]) is deliberate, heard[0]


@pytest.mark.parametrize(("way", "status"), [("no code", "cancelled"), ("FIN", "running")])
async def test_a_dialect_may_stop_what_was_watched_when_its_client_closes(way: str, status: str) -> None:
    told: list[bool] = []

    def on_close(deliberate: bool) -> OnClose:
        told.append(deliberate)
        return "cancel" if deliberate else "nothing"

    agent = Gated()
    server = Server([agent], store=":memory:", drain_timeout_s=0)
    server._native = NativeSocket(server.gateway, on_close=on_close)
    async with serving_app(server) as running, running.http() as http:
        sent = (await http.post("/v1/messages", json={"message": {"id": "m1", "content": "go"}})).json()
        await agent.reached.wait()
        stream = await opened(running.port, "/v1/ws")
        await stream.send(frame(1, b'{"op":"hello"}'))
        await stream.send(frame(1, b'{"op":"subscribe","id":"c","thread":"%b"}' % sent["thread"].encode()))
        heard = b""
        while b'"caught_up"' not in heard:
            heard += await stream.receive()
        if way == "FIN":
            await stream.aclose()
        else:
            await stream.send(frame(8))
        with anyio.fail_after(DEADLINE_S):
            while not told or (status == "cancelled" and not agent.cancelled):
                await anyio.sleep(0.01)
        wait = {"wait": 5 if status == "cancelled" else 0}
        assert (await http.get(f"/v1/runs/{sent['run']}", params=wait)).json()["status"] == status
        await stream.aclose()
    assert told == [way == "no code"]


async def test_work_ends_when_its_client_hangs_up() -> None:
    left = anyio.Event()

    async def receive() -> Message:
        await left.wait()
        return {"type": "http.disconnect"}

    async def work() -> int:
        left.set()
        await anyio.sleep_forever()
        return 1

    async def done() -> int:
        return 1

    async def failing() -> int:
        raise LookupError("no")

    request = Request({"type": "http"}, receive)
    assert await unless_gone(request, done()) == 1
    with pytest.raises(LookupError):
        await unless_gone(request, failing())
    assert await unless_gone(request, work()) is None
