"""Readers whose other end is gone and says nothing: their packets are dropped, no FIN and no RST ever comes (I8, I10, I15).

A filter on the reader's socket drops whatever comes to it (SO_ATTACH_FILTER, socket(7)): its kernel acknowledges nothing more,
as that of a machine that lost its power or its network. All times are shortened; what they are is in `transports.listener`,
`transports.sse` and the settings.
"""

from __future__ import annotations

import contextlib
import ctypes
import socket
import struct
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from rawclient import RawClient, connect
from runcast.transports import listener
from simulation.judge import judge_log

from .agents import flooded
from .following import Follower, judge
from .process import ServerProcess
from .talking import all_ended, say, text_of, whole_log
from .test_stuck import ALLOWED, settled

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.slow,
    pytest.mark.timeout(180),
    pytest.mark.skipif(sys.platform != "linux", reason="sockets have such filters on Linux"),
]

ATTACH_FILTER, DETACH_FILTER = 26, 27
"""asm-generic/socket.h; Python has no names for them."""
DROP = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))
"""One instruction of classic BPF: `ret #0`, keep nothing of the packet."""

USER_TIMEOUT_S = 3
SEND_TIMEOUT_S = 3
SHORT: dict[str, Any] = {
    "settings": {"send_timeout_s": SEND_TIMEOUT_S},
    "patches": {
        "runcast.transports.listener:USER_TIMEOUT_MS": USER_TIMEOUT_S * 1000,
        "runcast.transports.sse:PING_S": 0.5,
        "runcast.transports.websocket:CLOSE_TIMEOUT_S": 0.5,
    },
    "ping_s": 1.0,
    "session": {"heartbeat_s": 0.75},
}
MOST_S = 10 * USER_TIMEOUT_S
READERS = 30
PIECE = 2_000
EVENTS = 1_600
"""Four megabytes of text."""


def lose(client: RawClient) -> None:
    """From now on nothing reaches this client."""
    program = struct.pack("HL", 1, ctypes.addressof(DROP))
    client.socket.setsockopt(socket.SOL_SOCKET, ATTACH_FILTER, program)


def forget(client: RawClient) -> None:
    """Let the kernel take its half of the connection away."""
    with contextlib.suppress(OSError):
        client.socket.setsockopt(socket.SOL_SOCKET, DETACH_FILTER, 0)
    client.vanish()


@asynccontextmanager
async def lost(
    server: ServerProcess, thread: str, kind: str, count: int = 1, *, begun: bool = False
) -> AsyncGenerator[None]:
    """Readers of a thread, who were there and are not any more: once they had it all, or when they had just `begun`."""
    clients: list[RawClient] = []
    try:
        for _ in range(count):
            clients.append(client := await connect(server.port))
            if kind == "websocket":
                await client.upgrade()
                await client.subscribe(thread)
                await client.hear_until(b"RUN_STARTED" if begun else b"caught_up")
            else:
                await client.stream(f"/v1/threads/{thread}/events?after=0")
                await client.hear_until(b"RUN_STARTED" if begun else b"RUN_FINISHED")
        for client in clients:
            lose(client)
        yield
    finally:
        for client in clients:
            forget(client)


@asynccontextmanager
async def served(tmp_path: Path, **more: Any) -> AsyncGenerator[tuple[ServerProcess, str]]:
    """A server, and a thread in which nothing goes on."""
    server = ServerProcess(tmp_path, **{**SHORT, **more})
    await server.start()
    try:
        sent = await say(server.ws, "count to 1")
        await all_ended(server.http, [sent["run"]])
        yield server, sent["thread"]
    finally:
        server.kill()


def is_gone(state: dict[str, Any]) -> bool:
    """Nothing of a reader is left; whoever asks for the state has a socket too."""
    return state["watchers"] == state["connections"] == 0 and state["sockets"] <= 1


@pytest.mark.parametrize("kind", ["sse", "websocket"])
async def test_a_reader_who_is_lost_in_silence_is_let_go(kind: str, tmp_path: Path) -> None:
    """Nothing goes on: only keep-alives can tell."""
    async with served(tmp_path) as (server, thread), lost(server, thread, kind):
        await server.until(lambda state: state["watchers"] == 1)
        await server.until(is_gone, MOST_S)
        assert "Traceback" not in server.log()


@pytest.mark.parametrize("kind", ["sse", "websocket"])
async def test_readers_who_are_lost_in_a_flood_cost_little_and_hurt_nobody(kind: str, tmp_path: Path) -> None:
    async with served(tmp_path) as (server, thread):
        before = await server.state(collect=True)
        async with anyio.create_task_group() as tasks, lost(server, thread, kind, READERS):
            follower = Follower(server.ws, thread)
            tasks.start_soon(follower.follow)
            await server.until(lambda state: state["watchers"] == READERS + 1)
            sent = await say(server.ws, f"flood {EVENTS} x {PIECE}", thread)
            assert await all_ended(server.http, [sent["run"]]) == {sent["run"]: "done"}
            await server.until(lambda state: state["watchers"] == state["connections"] == 1, MOST_S)
            log = await whole_log(server.http, thread)
            with anyio.fail_after(60):
                while follower.last < log[-1]["seq"]:
                    await anyio.sleep(0.01)
            tasks.cancel_scope.cancel()
        assert judge(follower, log) == [] and judge_log(log) == []
        assert text_of(log, sent["run"]) == flooded(EVENTS, PIECE)
        await server.until(is_gone, MOST_S)
        assert before["runs"] == (await server.state())["runs"] == 0
        assert "Traceback" not in server.log()


async def cost(tmp_path: Path, kind: str, **more: Any) -> float:
    """Bytes of memory that one of them costs, while it is kept."""
    patient = {"settings": {"send_timeout_s": 120}, "patches": {}, "ping_s": 120, "session": {}}
    async with served(tmp_path, **patient, **more) as (server, thread):
        sent = await say(server.ws, f"flood {EVENTS} x {PIECE}", thread)
        await all_ended(server.http, [sent["run"]])
        before = await server.state(collect=True)
        async with lost(server, thread, kind, READERS, begun=True):
            await server.until(lambda state: state["watchers"] == READERS)
            after = await settled(server)
            assert after["watchers"] == READERS
        each = (after["memory"] - before["memory"]) / READERS
        print(f"{each / 1024:.0f} KiB for each of {READERS} readers")
        return each


@pytest.mark.parametrize("kind", ["sse", "websocket"])
async def test_a_lost_reader_costs_little_as_long_as_it_is_kept(kind: str, tmp_path: Path) -> None:
    assert await cost(tmp_path, kind) <= ALLOWED


async def test_planted_buffers_without_end_are_noticed(tmp_path: Path) -> None:
    assert await cost(tmp_path, "sse", plant="buffers_without_end") > ALLOWED


async def test_planted_a_kernel_that_is_told_no_time_is_noticed(tmp_path: Path) -> None:
    """Without TCP_USER_TIMEOUT it goes on trying for a quarter of an hour."""
    patches = {**SHORT["patches"], "runcast.transports.listener:USER_TIMEOUT_MS": 0}
    async with served(tmp_path, patches=patches) as (server, thread), lost(server, thread, "sse"):
        with anyio.move_on_after(4 * USER_TIMEOUT_S):
            while not is_gone(await server.state()):
                await anyio.sleep(0.2)
            pytest.fail("the reader was let go all the same")


def test_the_real_time_is_a_minute_and_a_half() -> None:
    assert listener.USER_TIMEOUT_MS == 90_000
    with listener.listen("127.0.0.1", 0) as server:
        assert server.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 90_000
