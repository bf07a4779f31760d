"""The disk is full, and it is the kernel that says so: nothing acknowledged is lost, it is said, and it heals (I2, I4, I21).

`test_disk.py` has more ways to fail, by a library under the process; here nothing stands between SQLite and the kernel. A limit
of the process is had everywhere, a small file system where one may be mounted.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import httpx
import pytest

from .agents import counted
from .following import Follower, SseFollower, command, judge
from .process import ServerProcess
from .rooms import Room, kinds, room
from .talking import all_ended, message, ready, say, status_of, text_of, whole_log
from .test_disk import judged, until, until_ready

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(180)]

STEPS = 600
KINDS = kinds() or [pytest.param("none", marks=pytest.mark.skip("disks are filled on Linux only"))]


class Full(NamedTuple):
    server: ServerProcess
    room: Room
    readers: list[Follower]
    run: str
    queued: str
    thread: str
    file: dict[str, Any]


@asynccontextmanager
async def full(
    kind: str, tmp_path: Path, is_full: Callable[[ServerProcess], Awaitable[object]], **under_test: Any
) -> AsyncGenerator[Full]:
    """A server without room, since the middle of a run: with its readers and what it acknowledged before."""
    with room(kind, tmp_path) as (disk, database):
        server = ServerProcess(tmp_path, **under_test)
        server.database, server.prefix = database, disk.prefix
        await server.start()
        try:
            async with anyio.create_task_group() as tasks:
                file = await upload(server, b"acknowledged" * 1000)
                assert file.status_code == 201
                first = await say(server.ws, f"count to {STEPS} every 5 ms")
                thread = first["thread"]
                queued = await say(server.ws, "count to 20 every 1 ms", thread)
                readers = [Follower(server.ws, thread), SseFollower(server.http, thread)]
                for reader in readers:
                    tasks.start_soon(reader.follow)
                await until(lambda: all(reader.last > 60 for reader in readers))
                disk.fill(server)
                await is_full(server)
                yield Full(server, disk, readers, first["run"], queued["run"], thread, file.json())
                tasks.cancel_scope.cancel()
        finally:
            server.kill()


async def upload(server: ServerProcess, data: bytes) -> httpx.Response:
    async with httpx.AsyncClient(base_url=server.http, timeout=30) as http:
        return await http.post("/v1/files", content=data, headers={"content-type": "text/plain"})


async def says_so(server: ServerProcess) -> None:
    await until_ready(server.http, (503, "failing"))


async def kept(full: Full) -> None:
    async with httpx.AsyncClient(base_url=full.server.http, timeout=30) as http:
        assert (await http.get(full.file["url"])).content == b"acknowledged" * 1000


@pytest.mark.parametrize("kind", KINDS)
async def test_a_full_disk_is_said_and_heals(kind: str, tmp_path: Path) -> None:
    async with full(kind, tmp_path, says_so) as found:
        server, disk, readers, run, queued, thread, _ = found
        retried = message("count to 3")
        refused = await command(server.ws, retried)
        assert refused["op"] == "error" and refused["code"] == "storage_unavailable", refused
        assert str(tmp_path) not in str(refused) and "Error" not in refused["message"]
        file = await upload(server, b"x" * 200_000)
        assert (file.status_code, file.json()["code"]) == (507, "storage_full")
        async with httpx.AsyncClient(base_url=server.http) as http:
            assert (await http.get("/healthz")).status_code == 200
        seen = max(reader.last for reader in readers)
        log = await whole_log(server.http, thread)  # reading goes on
        assert seen <= len(log), "I4: somebody saw what is not in the log"
        await kept(found)
        disk.clear(server)
        await until_ready(server.http, (200, "ok"))
        assert await all_ended(server.http, [run, queued]) == {run: "failed", queued: "done"}
        answer = await command(server.ws, retried)
        assert answer["op"] == "ack" and await all_ended(server.http, [answer["run"]]) == {answer["run"]: "done"}
        ended = await status_of(server.http, run)
        assert ended["code"] == "storage_unavailable" and ended["error"]
        assert (await upload(server, b"x" * 200_000)).status_code == 201
        later = await say(server.ws, "count to 30", thread)
        assert await all_ended(server.http, [later["run"]]) == {later["run"]: "done"}
        log = await judged(server, thread, readers)
        assert counted(STEPS).startswith(text_of(log, run))
        assert text_of(log, queued) == counted(20) and text_of(log, later["run"]) == counted(30)
        await kept(found)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_kill_while_the_disk_is_full_loses_nothing(kind: str, tmp_path: Path) -> None:
    async with full(kind, tmp_path, says_so) as found:
        server, disk, readers, run, queued, thread, _ = found
        server.kill()
        disk.clear(server)
        await server.start()
        assert await all_ended(server.http, [run, queued]) == {run: "interrupted", queued: "done"}
        await judged(server, thread, readers)
        await kept(found)


async def test_planted_readers_that_are_told_too_early_are_noticed(tmp_path: Path) -> None:
    async with full(KINDS[0], tmp_path, says_so, plant="tells_before_it_writes") as found:
        found.room.clear(found.server)
        await all_ended(found.server.http, [found.run, found.queued])
        log = await whole_log(found.server.http, found.thread)
        assert any(judge(reader, log) for reader in found.readers)


async def test_planted_a_server_that_calls_itself_well_is_noticed(tmp_path: Path) -> None:
    async def refuses(server: ServerProcess) -> None:
        with anyio.fail_after(30):
            while (await command(server.ws, message("count to 3")))["op"] != "error":
                pass

    async with full(KINDS[0], tmp_path, refuses, plant="calls_itself_well") as found:
        assert await ready(found.server.http) == (200, "ok")
