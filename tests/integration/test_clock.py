"""The wall clock jumps by hours, forwards and backwards, under runs: nothing takes notice but the timestamps (I1, I16, I21, I22)."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from simulation.judge import judge_log

from .agents import counted
from .faults import Faults
from .following import Follower, judge
from .process import ServerProcess
from .talking import all_ended, say, status_of, text_of, whole_log

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(120)]

JUMPS_S = (6 * 3600, -6 * 3600, 30 * 86_400, -1, 0)
STEPS = 400


async def test_the_clock_jumps_and_nothing_ends(tmp_path: Path) -> None:
    await jumps(tmp_path)


async def test_planted_durations_by_the_wall_clock_are_noticed(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="lease"):
        await jumps(tmp_path, plant="measures_by_the_wall_clock")


async def jumps(tmp_path: Path, **under_test: Any) -> None:
    faults = Faults(tmp_path)
    limits = {"lease_ttl_s": 0.6, "renew_s": 0.2, "idle_s": 0.5}
    server = ServerProcess(tmp_path, environment=faults.environment, limits=limits, **under_test)
    await server.start()
    try:
        sent = [await say(server.ws, f"count to {STEPS} every 5 ms") for _ in range(4)]
        sent += [await say(server.ws, "count to 20 every 1 ms", one["thread"]) for one in sent]
        threads = [one["thread"] for one in sent[:4]]
        readers = [Follower(server.ws, thread) for thread in threads]
        async with anyio.create_task_group() as tasks:
            for reader in readers:
                tasks.start_soon(reader.follow)
            for number, jump in enumerate(JUMPS_S, 1):
                goal = number * STEPS // (len(JUMPS_S) + 1)
                with anyio.fail_after(60):
                    while min(reader.last for reader in readers) < goal:
                        await anyio.sleep(0.01)
                faults.clock_jumps(jump)
                late = await say(server.ws, "count to 5")  # a thread that is new to this time
                sent.append(late)
                await anyio.sleep(1.2 * limits["lease_ttl_s"])  # two sweeps and the end of every lease
            with anyio.fail_after(60):
                statuses = await all_ended(server.http, [one["run"] for one in sent])
            logs = [await whole_log(server.http, thread) for thread in threads]
            with anyio.fail_after(30):
                while any(reader.last < log[-1]["seq"] for reader, log in zip(readers, logs, strict=True)):
                    await anyio.sleep(0.01)
            tasks.cancel_scope.cancel()
        assert set(statuses.values()) == {"done"}, server.log()
        ids: list[str] = []
        for reader, log, first in zip(readers, logs, sent, strict=False):
            assert judge_log(log) == [] and judge(reader, log) == []
            assert text_of(log, first["run"]) == counted(STEPS)
            assert "RUN_RESTARTED" not in {event["type"] for event in log}
            ids += [event[key] for event in log for key in ("messageId",) if event["type"] == "TEXT_MESSAGE_START"]
            # The jumps reached this server: without them times would only grow.
            assert any(later["timestamp"] < earlier["timestamp"] for earlier, later in itertools.pairwise(log))
        assert len(set(ids)) == len(ids)
        assert "lease" not in server.log()
        for run in statuses:
            await sane(await status_of(server.http, run))
        async with httpx.AsyncClient(base_url=server.http) as http:
            listed = (await http.get("/v1/threads")).json()["threads"]
            assert {one["id"] for one in listed} == {one["thread"] for one in sent}
    finally:
        server.kill()


async def sane(run: dict[str, Any]) -> None:
    """A page can say when it was and how long it took."""
    assert run["createdAt"] <= run["startedAt"] <= run["endedAt"], f"times that make no sense: {run}"


async def test_a_restart_in_another_time_takes_over(tmp_path: Path) -> None:
    """Leases in the future of a clock that was set back bind nobody."""
    await restarts(tmp_path)


async def test_planted_a_server_that_believes_old_leases_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(TimeoutError):
        await restarts(tmp_path, deadline_s=5, plant="believes_old_leases")


async def test_planted_a_run_that_ends_before_it_begins_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="times that make no sense"):
        await restarts(tmp_path, plant="ends_before_it_begins")


async def restarts(tmp_path: Path, *, deadline_s: float = 30, **under_test: Any) -> None:
    faults = Faults(tmp_path)
    server = ServerProcess(tmp_path, environment=faults.environment, **under_test)
    faults.clock_jumps(86_400)
    await server.start()
    try:
        sent = await say(server.ws, f"count to {STEPS} every 5 ms")
        queued = await say(server.ws, "count to 20 every 1 ms", sent["thread"])
        server.kill()
        faults.clock_jumps(-86_400)
        await server.start()
        with anyio.fail_after(deadline_s):
            statuses = await all_ended(server.http, [sent["run"], queued["run"]])
        assert statuses == {sent["run"]: "interrupted", queued["run"]: "done"}
        log = await whole_log(server.http, sent["thread"])
        assert judge_log(log) == []
        for run in statuses:
            await sane(await status_of(server.http, run))
    finally:
        server.kill()
