"""What a reader costs that does not read, and when it is let go (I8, I10, I11)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from core import Told
from rawclient import RawClient, raw_client
from runcast import events as e
from runcast.agents.base import RunContext
from runcast.events import Event
from runcast.runs import RunInput
from runcast.transports.line import WRITE_BUFFER
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
