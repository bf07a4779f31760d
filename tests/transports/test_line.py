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
from runcast.transports import line, requests
from runcast.transports.line import MAX_FRAMES, WRITE_BUFFER, Line, SocketProtocol
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
        gone = Line(transport, lambda: False, anyio.lowlevel.checkpoint)
        transport.write(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        transport.abort()
        await until(lambda: transport.get_extra_info("socket").fileno() == -1)
        assert gone.pending() == 0


# --- what comes in ----------------------------------------------------------------------------------------------------


async def close_code(client: RawClient) -> int:
    """The code of the close frame that a connection ends with."""
    heard = b""
    with anyio.fail_after(DEADLINE_S):
        try:
            while data := await client.hear():
                heard += data
        except ConnectionResetError:
            pass  # what it still sent was not read
    place = heard.rfind(b"\x88")
    return int.from_bytes(heard[place + 2 : place + 4])


FLOODS = {
    "fragments": frame("", opcode=0, fin=False),
    "pings": frame(b"", opcode=9),
    "pongs": frame(b"", opcode=10),
}


@pytest.mark.parametrize("kind", FLOODS)
async def test_a_flood_of_frames_that_no_application_sees_ends_the_connection(kind: str) -> None:
    """Fragments without content have no size to be too big, and pings are answered below everything that counts frames."""
    async with serving() as running, raw_client(running.port, buffer=1 << 16) as client:
        await client.upgrade()
        await client.say(frame({"op": "hello"}))
        if kind == "fragments":
            await client.say(frame("", fin=False))
        try:
            await client.say(FLOODS[kind] * (MAX_FRAMES + 10))
        except (ConnectionResetError, BrokenPipeError):
            pass
        assert await close_code(client) == 4008
        async with running.client() as other:
            assert (await other.ask("subscribe", inbox=True))["op"] == "ack"


async def test_as_many_frames_as_are_allowed_are_no_flood() -> None:
    async with serving() as running, raw_client(running.port, buffer=1 << 16) as client:
        await client.upgrade()
        await client.say(frame({"op": "hello"}) + frame("", fin=False) + FLOODS["fragments"] * (MAX_FRAMES - 10))
        await client.say(frame({"op": "ping", "t": 7}, opcode=0))
        with anyio.fail_after(DEADLINE_S):
            await client.hear_until(b'{"op":"pong","t":7}')


async def test_of_pings_that_cannot_be_answered_now_the_last_one_is_later() -> None:
    """RFC 6455, section 5.5.3. A reader that is slow, and pings, keeps nothing else in memory here."""
    async with serving(Told(flood)) as running:
        thread = await flooded(running)
        async with raw_client(running.port) as client:
            await client.upgrade()
            await client.subscribe(thread)
            [socket] = [one for one in running.process.server_state.connections if isinstance(one, SocketProtocol)]
            await until(lambda: not socket.writable.is_set())
            before = socket.transport.get_write_buffer_size()
            await client.say(b"".join(frame(b"%03d" % i + b"x" * 100, opcode=9) for i in range(500)))
            await until(lambda: socket._pong_owed.endswith(b"499" + b"x" * 100))  # pyright: ignore[reportPrivateUsage]
            assert socket.transport.get_write_buffer_size() <= before
            with anyio.fail_after(DEADLINE_S):
                tail = b""
                while b"499" + b"x" * 100 not in tail:
                    tail = tail[-200:] + await client.hear(1 << 16)


async def test_who_sends_no_request_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line, "HEAD_S", 0.2)
    async with serving() as running:
        for begun in (
            b"",
            b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-",
            b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nGET /",
        ):
            async with raw_client(running.port) as client:
                await client.say(begun)
                with anyio.fail_after(DEADLINE_S):
                    while await client.hear():
                        pass
        await until(lambda: open_sockets(running) == 0)


async def test_a_request_that_follows_too_early_and_slowly_does_not_cut_the_one_under_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(line, "HEAD_S", 0.05)
    agent = Gated()
    async with serving(agent) as running, raw_client(running.port, buffer=1 << 16) as client:
        body = b'{"message":"go"}'
        await client.say(
            b"POST /v1/messages?wait=30 HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%bGET /hea" % (len(body), body)
        )
        with anyio.fail_after(DEADLINE_S):
            await agent.reached.wait()
            await anyio.sleep(0.2)  # several times what a head may take
            agent.gate.set()
            await client.hear_until(b'"status":"done"')


POST = b"POST /v1/messages HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("begun", "more"),
    [
        (b"GET /", b"a" * 8000),
        (b"GET / HTTP/1.1\r\nX-A: ", b"a" * 8000),
        (b"GET / HTTP/1.1\r\n", b"X-A: b\r\n" * 1000),
        (POST + b"2;", b"a" * 8000),
        (POST + b"2\r\n{}\r\n0\r\nX-A: ", b"a" * 8000),
        (POST + b"2\r\n{}\r\n0\r\n", b"X-A: b\r\n" * 1000),
        (b"", b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 500),
    ],
)
async def test_what_never_becomes_a_request_or_too_many_of_them_is_cut_off(begun: bytes, more: bytes) -> None:
    async with serving() as running, raw_client(running.port) as client:
        with anyio.fail_after(DEADLINE_S), pytest.raises(OSError):
            await client.say(begun)
            while True:
                await client.say(more)


async def test_a_long_head_and_requests_behind_each_other_are_served() -> None:
    async with serving() as running, raw_client(running.port, buffer=1 << 16) as client:
        head = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: %b\r\n" % (b"a" * 50_000)
        await client.say((head + b"\r\n") * 2 + head + b"Connection: close\r\n\r\n")
        heard = b""
        with anyio.fail_after(DEADLINE_S):
            while data := await client.hear():
                heard += data
        assert heard.count(b" 200 OK") == 3


@pytest.mark.parametrize(("fields", "size", "status"), [(0, 0, b" 101 "), (8, 1000, b" 101 "), (1, 10_000, b" 400 ")])
async def test_a_handshake_may_come_in_pieces_but_is_answered(fields: int, size: int, status: bytes) -> None:
    async with serving() as running, raw_client(running.port, buffer=1 << 16) as client:
        await client.say(
            b"GET /v1/ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
            + b"".join(b"X-%d: %b\r\n" % (i, b"a" * size) for i in range(fields))
            + b"\r\n"
        )
        with anyio.fail_after(DEADLINE_S):
            assert status in await client.hear_until(b"\r\n\r\n")
            if status == b" 101 ":
                await client.say(frame({"op": "hello"}))
                await client.hear_until(b'"welcome"')


async def test_a_body_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "BODY_S", 0.1)
    async with serving() as running, raw_client(running.port, buffer=1 << 16) as client:
        await client.say(
            b"POST /v1/messages HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
        )
        with anyio.fail_after(DEADLINE_S):
            assert b" 408 " in await client.hear_until(b"\r\n")
