"""A disk that is full, cannot write or cannot flush: what was not logged is seen by nobody, it is said, and it heals (I2, I4, I21).

Each fault comes in the middle of a run, with readers and a queued message behind it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from .agents import counted
from .faults import Faults
from .following import Follower, SseFollower, command, judge, judge_log
from .process import ServerProcess
from .talking import all_ended, message, ready, say, status_of, text_of, whole_log

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(180)]

STEPS = 600
FAULTS: dict[str, tuple[str, Callable[[Faults, bool], None]]] = {
    "full": ("process", lambda faults, on: faults.disk_has(0 if on else None)),
    "nearly full": ("process", lambda faults, on: faults.disk_has(50_000 if on else None)),
    "write error": ("process", lambda faults, on: faults.writes_fail(failing=on)),
    "flush error": ("power", lambda faults, on: faults.flushes_fail(failing=on)),
}


async def until(condition: Callable[[], bool], deadline_s: float = 60) -> None:
    with anyio.fail_after(deadline_s):
        while not condition():
            await anyio.sleep(0.01)


async def until_ready(http: str, wanted: tuple[int, str]) -> None:
    with anyio.fail_after(60):
        while await ready(http) != wanted:
            await anyio.sleep(0.02)


@asynccontextmanager
async def broken(
    tmp_path: Path, fault: str, **under_test: Any
) -> AsyncGenerator[tuple[ServerProcess, Faults, list[Follower], list[dict[str, Any]], Any]]:
    """A server whose disk fails now, in the middle of a run: with its readers, what it acknowledged, and the fault's switch."""
    durability, switch = FAULTS[fault]
    faults = Faults(tmp_path)
    server = ServerProcess(tmp_path, environment=faults.environment, settings={"durability": durability}, **under_test)
    await server.start()
    try:
        async with anyio.create_task_group() as tasks:
            first = await say(server.ws, f"count to {STEPS} every 5 ms")
            queued = await say(server.ws, "count to 20 every 1 ms", first["thread"])
            readers = [Follower(server.ws, first["thread"]), SseFollower(server.http, first["thread"])]
            for reader in readers:
                tasks.start_soon(reader.follow)
            await until(lambda: all(reader.last > 60 for reader in readers))
            switch(faults, True)
            await until(lambda: faults.refused_writes + faults.refused_flushes > 0)
            yield server, faults, readers, [first, queued], lambda: switch(faults, False)
            tasks.cancel_scope.cancel()
    finally:
        server.kill()


async def judged(server: ServerProcess, thread: str, readers: list[Follower]) -> list[dict[str, Any]]:
    """The log, once all readers have it, and it and they are without fault."""
    log = await whole_log(server.http, thread)
    await until(lambda: all(reader.last >= log[-1]["seq"] for reader in readers))
    assert judge_log(log) == []
    for reader in readers:
        assert judge(reader, log) == []
    return log


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_failing_disk_is_said_and_heals(fault: str, tmp_path: Path) -> None:
    async with broken(tmp_path, fault) as (server, _, readers, acknowledged, heal):
        run, queued = (answer["run"] for answer in acknowledged)
        thread = acknowledged[0]["thread"]
        await until_ready(server.http, (503, "failing"))
        retried = message("count to 3")
        refused = await command(server.ws, retried)
        assert refused["op"] == "error" and refused["code"] == "storage_unavailable", refused
        assert str(tmp_path) not in str(refused) and "Error" not in refused["message"]
        async with httpx.AsyncClient(base_url=server.http) as http:
            assert (await http.get("/healthz")).status_code == 200
        seen = max(reader.last for reader in readers)
        log = await whole_log(server.http, thread)  # reading goes on
        assert seen <= len(log), "I4: somebody saw what is not in the log"
        heal()
        await until_ready(server.http, (200, "ok"))
        assert await all_ended(server.http, [run, queued]) == {run: "failed", queued: "done"}
        answer = await command(server.ws, retried)
        assert answer["op"] == "ack" and await all_ended(server.http, [answer["run"]]) == {answer["run"]: "done"}
        ended = await status_of(server.http, run)
        assert ended["code"] == "storage_unavailable" and ended["error"]
        later = await say(server.ws, "count to 30", thread)
        assert await all_ended(server.http, [later["run"]]) == {later["run"]: "done"}
        log = await judged(server, thread, readers)
        assert counted(STEPS).startswith(text_of(log, run))
        assert text_of(log, queued) == counted(20) and text_of(log, later["run"]) == counted(30)


@pytest.mark.parametrize("fault", ["full", "flush error"])
async def test_a_kill_while_the_disk_fails_loses_nothing(fault: str, tmp_path: Path) -> None:
    async with broken(tmp_path, fault) as (server, _, readers, acknowledged, heal):
        await until_ready(server.http, (503, "failing"))
        server.kill()
        heal()
        await server.start()
        runs = [answer["run"] for answer in acknowledged]
        statuses = await all_ended(server.http, runs)
        # What could not be flushed may be there nevertheless, but nobody was told of it: the end that was tried, here.
        assert statuses[runs[0]] in (("interrupted",) if fault == "full" else ("interrupted", "failed"))
        assert statuses[runs[1]] == "done"
        await judged(server, acknowledged[0]["thread"], readers)
