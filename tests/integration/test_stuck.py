"""Readers that never read, on a long run: what they cost, and that nobody else feels them (I8, I10).

Half follow over WebSocket, half over server-sent events, on sockets with small buffers. The long form has 200 of them on
10 MB: `RUNCAST_STUCK=200 RUNCAST_STUCK_MB=10`.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from rawclient import RawClient, connect

from .agents import flooded
from .following import Follower, judge, judge_log
from .process import ServerProcess
from .talking import all_ended, say, whole_log

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(300)]

STUCK = int(os.environ.get("RUNCAST_STUCK", "60"))
MEGABYTES = int(os.environ.get("RUNCAST_STUCK_MB", "5"))
PIECE = 2_000
"""Characters of one delta; the text needs four bytes each in memory, so that this is the hard case."""
EVENTS = MEGABYTES * 1_000_000 // (PIECE * 5 // 4)
ALLOWED = 512 * 1024
"""Bytes of memory that one of them may cost (I10)."""


async def stuck_reader(server: ServerProcess, thread: str, number: int) -> RawClient:
    client = await connect(server.port)
    if number % 2:
        await client.upgrade()
        await client.subscribe(thread)
    else:
        await client.stream(f"/v1/threads/{thread}/events?after=0")
    return client


@asynccontextmanager
async def stuck(server: ServerProcess, thread: str) -> AsyncGenerator[None]:
    clients: list[RawClient] = []
    try:
        for number in range(STUCK):
            clients.append(await stuck_reader(server, thread, number))
        yield
    finally:
        for client in clients:
            client.socket.close()


async def settled(server: ServerProcess) -> dict[str, Any]:
    """The state once memory has stopped growing."""
    before = await server.state()
    while True:
        await anyio.sleep(0.3)
        now = await server.state()
        if now["memory"] - before["memory"] < 256 * 1024:
            return now
        before = now


async def cost(tmp_path: Path, **under_test: Any) -> float:
    """Bytes of memory that one stuck reader costs."""
    server = ServerProcess(tmp_path, settings={"send_timeout_s": 120}, **under_test)
    await server.start()
    try:
        sent = await say(server.ws, f"flood {EVENTS} x {PIECE}")
        await all_ended(server.http, [sent["run"]])
        before = await server.state(collect=True)
        async with stuck(server, sent["thread"]):
            await server.until(lambda state: state["watchers"] >= STUCK, 60)
            after = await settled(server)
            assert after["watchers"] == STUCK
            each = (after["memory"] - before["memory"]) / STUCK
            print(f"{each / 1024:.0f} KiB for each of {STUCK} readers of {MEGABYTES} MB")
            return each
    finally:
        server.kill()


async def test_a_stuck_reader_costs_little(tmp_path: Path) -> None:
    assert await cost(tmp_path) <= ALLOWED


async def test_planted_buffers_without_end_are_noticed(tmp_path: Path) -> None:
    assert await cost(tmp_path, plant="buffers_without_end") > ALLOWED


async def test_nobody_feels_them_and_they_are_let_go(tmp_path: Path) -> None:
    server = ServerProcess(
        tmp_path,
        settings={"send_timeout_s": 4},
        patches={"runcast.transports.websocket:CLOSE_TIMEOUT_S": 0.2},
    )
    await server.start()
    try:
        thread = (await say(server.ws, "count to 1"))["thread"]

        async def timed() -> float:
            """How long the same flood takes from the first to the last event: the agent is held up by nothing but the log."""
            sent = await say(server.ws, f"flood {EVENTS} x {PIECE}", thread)
            await all_ended(server.http, [sent["run"]])
            started = [e for e in await whole_log(server.http, thread) if e.get("runId") == sent["run"]]
            return (started[-1]["timestamp"] - started[0]["timestamp"]) / 1000

        alone_s = min([await timed() for _ in range(2)])
        head = len(await whole_log(server.http, thread))
        async with stuck(server, thread), anyio.create_task_group() as tasks:
            await server.until(lambda state: state["watchers"] >= STUCK, 60)
            reader = Follower(server.ws, thread)
            tasks.start_soon(reader.follow)
            with_them_s = await timed()
            log = await whole_log(server.http, thread)
            with anyio.fail_after(60):
                while reader.last < log[-1]["seq"]:
                    await anyio.sleep(0.01)
            assert judge(reader, log) == [] and judge_log(log) == []
            text = "".join(e["delta"] for e in reader.seen if e["type"] == "TEXT_MESSAGE_CONTENT" and e["seq"] > head)
            assert text == flooded(EVENTS, PIECE)
            # Sixty watchers are woken for each group and nothing more: I8.
            assert with_them_s < 3 * alone_s + 1, (alone_s, with_them_s)
            started = time.monotonic()
            state = await server.until(lambda state: state["watchers"] == 1, 60)
            assert time.monotonic() - started < 30
            assert state["connections"] == 1 and state["sockets"] <= 3  # its own, and who asks for the state
            tasks.cancel_scope.cancel()
    finally:
        server.kill()
