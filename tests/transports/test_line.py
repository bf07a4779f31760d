"""What a reader costs that does not read, when it is let go (I8, I10, I11), and that whoever sends no request is let go too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from core import Gated, Told
from rawclient import RawClient, frame, raw_client
from runcast import events as e
from runcast.agents.base import RunContext
from runcast.events import Event
from runcast.runs import RunInput
from runcast.transports.line import WRITE_BUFFER, Line
from serving import DEADLINE_S, Running, serving

pytestmark = pytest.mark.anyio

SIZE = 16 * 1024 * 1024
"""More than the kernel's buffers take."""
PIECE = 32 * 1024


async def flood(input: RunInput, context: RunContext) -> AsyncIterator[Event]:
    yield e.TextMessageStart(message_id="m")
    for _ in range(SIZE // PIECE):
        yield e.TextMessageContent(message_id="m", delta="x" * PIECE)


async def flooded(running: Running) -> str:
    """A thread with a long answer."""
    async with running.http() as http:
        run = (await http.post("/v1/messages", json={"message": "go"}, params={"wait": 60})).json()
        assert run["status"] == "done"
        return str(run["thread"])


async def read(client: RawClient, kind: str, thread: str) -> None:
    if kind == "sse":
        await client.stream(f"/v1/threads/{thread}/events?after=0")
    else:
        await client.upgrade()
        await client.subscribe(thread)


def open_sockets(running: Running) -> int:
    return len(running.process.server_state.connections)


async def until(condition: Any) -> None:
    with anyio.fail_after(DEADLINE_S):
        while not condition():
            await anyio.sleep(0.01)


@pytest.mark.parametrize("kind", ["sse", "websocket"])
async def test_a_reader_that_takes_nothing_is_let_go_with_its_socket(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runcast.transports.websocket.CLOSE_TIMEOUT_S", 0.1)
    async with serving(Told(flood, "flood"), send_timeout_s=0.3) as running:
        thread = await flooded(running)
        await until(lambda: open_sockets(running) == 0)
        async with raw_client(running.port) as client:
            await read(client, kind, thread)
            await until(lambda: running.server.gateway.connections == 1)
            await until(lambda: running.server.gateway.connections == 0)
            await until(lambda: open_sockets(running) == 0)  # a plain close would wait for the buffer to empty


@pytest.mark.parametrize("kind", ["sse", "websocket"])
async def test_a_reader_that_takes_little_is_served_on(kind: str) -> None:
    async with serving(Told(flood, "flood"), send_timeout_s=0.2) as running:
        thread = await flooded(running)
        async with raw_client(running.port) as client:
            await read(client, kind, thread)
            for _ in range(20):  # ten times the limit, and never as much as makes room for a frame
                await anyio.sleep(0.1)
                assert await client.hear(4096)
            assert running.server.gateway.connections == 1


@pytest.mark.parametrize("kind", ["sse", "websocket"])
async def test_a_stuck_reader_has_one_frame_waiting(kind: str) -> None:
    async with serving(Told(flood, "flood")) as running:
        thread = await flooded(running)
        await until(lambda: open_sockets(running) == 0)
        async with raw_client(running.port) as client:
            await read(client, kind, thread)
            await until(lambda: running.server.gateway.connections == 1)
            (protocol,) = running.process.server_state.connections
            transport: Any = protocol.transport
            await until(lambda: transport.get_write_buffer_size() > WRITE_BUFFER)
            await anyio.sleep(0.2)
            assert transport.get_write_buffer_size() < WRITE_BUFFER + 2 * PIECE + 65536


async def test_a_line_that_is_gone_has_nothing_pending() -> None:
    """The kernel has given the peer up, and the socket is closed before the connection's task is told."""
    async with serving() as running:
        transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, "127.0.0.1", running.port)
        line = Line(transport, lambda: False, anyio.lowlevel.checkpoint)
        transport.write(REQUEST)
        transport.abort()
        await until(lambda: transport.get_extra_info("socket").fileno() == -1)
        assert line.pending() == 0


REQUEST = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
TIMED_OUT = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


async def answered(client: RawClient) -> None:
    await client.say(REQUEST)
    assert (await client.hear_until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")
    await client.hear_until(b"}")


async def to_the_end(client: RawClient) -> bytes:
    """What still comes, until the server has closed the connection."""
    heard = b""
    with anyio.fail_after(DEADLINE_S):
        while data := await client.hear():
            heard += data
    return heard


@pytest.mark.parametrize(
    ("sent", "heard"),
    [(b"", b""), (b"GET /v1/thr", TIMED_OUT), (REQUEST[:-2], TIMED_OUT), (b"\r\n", TIMED_OUT)],
    ids=["nothing", "half a line", "half a head", "an empty line"],
)
@pytest.mark.parametrize("kept_alive", [False, True])
async def test_who_sends_no_request_is_let_go(
    sent: bytes, heard: bytes, kept_alive: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runcast.transports.line.HEAD_TIMEOUT_S", 0.3)
    async with serving() as running:
        running.process.config.timeout_keep_alive = 1
        async with raw_client(running.port) as client:
            if kept_alive:
                await answered(client)
            await client.say(sent)
            assert await to_the_end(client) == heard
            await until(lambda: open_sockets(running) == 0)


@pytest.mark.parametrize("kept_alive", [False, True])
async def test_who_sends_a_byte_now_and_then_is_let_go(kept_alive: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time is that of the whole head, not of each of its pieces."""
    monkeypatch.setattr("runcast.transports.line.HEAD_TIMEOUT_S", 0.5)
    async with serving() as running, raw_client(running.port) as client:
        if kept_alive:
            await answered(client)

        async def drip() -> None:
            await client.say(b"GET /healthz HTTP/1.1\r\n")
            while True:
                await client.say(b"X-Drip: 1\r\n")
                await anyio.sleep(0.05)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(drip)
            assert await to_the_end(client) == TIMED_OUT
            tasks.cancel_scope.cancel()
        await until(lambda: open_sockets(running) == 0)


async def test_a_body_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runcast.transports.requests.BODY_TIMEOUT_S", 0.3)
    monkeypatch.setattr("runcast.transports.line.HEAD_TIMEOUT_S", 0.3)
    async with serving() as running, raw_client(running.port) as client:
        await client.say(
            b"POST /v1/messages HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            b'Content-Length: 1000\r\n\r\n{"message": "go'
        )
        with anyio.fail_after(DEADLINE_S):
            assert (await client.hear_until(b"\r\n\r\n")).startswith(b"HTTP/1.1 408 ")
        assert b'"code":"timeout"' in await client.hear_until(b"}")
        await client.say(b"es on")  # and goes on with it, as if it had been heard
        assert (await to_the_end(client)).startswith(b"HTTP/1.1 408 ")
        await until(lambda: open_sockets(running) == 0)


async def test_who_is_being_answered_is_not_hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a long answer, nor a WebSocket, nor a connection that is used again."""
    monkeypatch.setattr("runcast.transports.line.HEAD_TIMEOUT_S", 0.3)
    agent = Gated()
    async with serving(agent) as running, raw_client(running.port) as client, raw_client(running.port) as socket:
        await answered(client)
        await answered(client)
        body = b'{"message": "go"}'
        await client.say(
            b"POST /v1/messages?wait=10 HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        await socket.upgrade()
        await agent.reached.wait()
        await anyio.sleep(1)
        agent.gate.set()
        with anyio.fail_after(DEADLINE_S):
            assert (await client.hear_until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")
        await socket.say(frame({"op": "hello"}))
        with anyio.fail_after(DEADLINE_S):
            assert b"welcome" in await socket.hear_until(b"welcome")
