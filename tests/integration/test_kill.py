"""kill -9 in a loop, with runs, queues and readers in flight: nothing that was seen or acknowledged is lost (I1, I2, I3, I7).

The seed is printed with every failure; set RUNCAST_SEED to repeat one.
"""

from __future__ import annotations

import os
import random
import uuid
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from simulation.judge import judge_log

from .counting import expected
from .following import Follower, command, judge
from .process import ServerProcess

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(600)]

KILLS = 20
READERS = 3
STEPS = 150


async def whole_log(http: str, thread: str) -> list[dict[str, Any]]:
    log: list[dict[str, Any]] = []
    async with httpx.AsyncClient(base_url=http) as client:
        while True:
            answer = await client.get(f"/v1/threads/{thread}/events", params={"after": len(log)})
            answer.raise_for_status()
            page = answer.json()
            log += page["events"]
            if not page["events"]:
                return log


async def say(url: str, text: str, thread: str | None = None) -> dict[str, Any]:
    frame = {"op": "send", "id": str(uuid.uuid4()), "message": {"id": str(uuid.uuid4()), "content": text}}
    if thread is not None:
        frame["thread"] = thread
    answer = await command(url, frame)
    assert answer["op"] == "ack", answer
    return answer


async def all_ended(http: str, runs: list[str]) -> dict[str, str]:
    statuses: dict[str, str] = {}
    async with httpx.AsyncClient(base_url=http, timeout=30) as client:
        for run in runs:
            while statuses.get(run) in (None, "queued", "running"):
                answer = await client.get(f"/v1/runs/{run}/events", params={"after": 0, "wait": 5})
                answer.raise_for_status()
                statuses[run] = (await client.get(f"/v1/runs/{run}")).json()["status"]
                await anyio.sleep(0.02)
    return statuses


async def test_nothing_is_lost_when_the_server_is_killed_again_and_again(tmp_path: Path) -> None:
    seed = int(os.environ.get("RUNCAST_SEED", random.randrange(1 << 30)))
    print(f"RUNCAST_SEED={seed}")
    dice = random.Random(seed)
    server = ServerProcess(tmp_path)
    await server.start()
    first = await say(server.ws, f"count to {STEPS}")
    thread = first["thread"]
    acknowledged = [first]
    readers = [Follower(server.ws, thread) for _ in range(READERS)]
    try:
        async with anyio.create_task_group() as tasks:
            for reader in readers:
                tasks.start_soon(reader.follow)

            async def talk() -> None:
                while True:
                    acknowledged.append(await say(server.ws, f"count to {STEPS}", thread))
                    with anyio.fail_after(120):
                        await all_ended_quietly(acknowledged[-1]["run"])

            async def all_ended_quietly(run: str) -> None:
                """Wait for the run's end over restarts; half of the time do not wait, so that messages queue."""
                if dice.random() < 0.5:
                    await anyio.sleep(dice.uniform(0, 0.1))
                    return
                while True:
                    try:
                        await all_ended(server.http, [run])
                        return
                    except httpx.HTTPError:
                        await anyio.sleep(0.02)

            tasks.start_soon(talk)
            for _ in range(KILLS):
                # By progress, not by time: some runs end between two kills on any machine, and most do not.
                goal = readers[0].last + dice.randint(1, 2 * STEPS)
                with anyio.fail_after(120):
                    while readers[0].last < goal:
                        await anyio.sleep(0.005)
                server.kill()
                await server.start()
            tasks.cancel_scope.cancel()
        runs = [answer["run"] for answer in acknowledged]
        with anyio.fail_after(120):
            statuses = await all_ended(server.http, runs)
        log = await whole_log(server.http, thread)
        async with anyio.create_task_group() as tasks:
            for reader in readers:
                tasks.start_soon(reader.follow)
            with anyio.fail_after(60):
                while any(reader.last < log[-1]["seq"] for reader in readers):
                    await anyio.sleep(0.02)
            tasks.cancel_scope.cancel()
        assert judge_log(log) == []
        for reader in readers:
            assert judge(reader, log) == []
            assert reader.connections > KILLS / 2, "the kills did not reach this reader"
        started = [event["runId"] for event in log if event["type"] == "RUN_STARTED"]
        assert sorted(set(started)) == sorted(started), "a run started twice"
        assert set(runs) <= {event["runId"] for event in log if event["type"] in ("RUN_STARTED", "RUN_QUEUED")}  # I6
        assert "interrupted" in statuses.values() and "done" in statuses.values(), statuses
        for run, status in statuses.items():
            text = "".join(e["delta"] for e in log if e.get("runId") == run and e["type"] == "TEXT_MESSAGE_CONTENT")
            if status == "done":
                assert text == expected(STEPS)
            else:
                assert expected(STEPS).startswith(text)
    finally:
        server.kill()
