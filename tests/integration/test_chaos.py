"""Five clients of different kinds behind a network that breaks all the time: each gets each event once, in order (I7, I11, I12).

The seed is printed with every failure; set RUNCAST_SEED to repeat one.
"""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import anyio
import pytest

from runcast.client import connection

from .agents import counted, flooded
from .chaos import chaos
from .following import ClientFollower, Follower, PollFollower, SseFollower, judge, judge_log
from .process import ServerProcess
from .talking import all_ended, say, text_of, whole_log

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(180)]

ROUNDS = int(os.environ.get("RUNCAST_CHAOS_ROUNDS", "1"))
"""The long form: `RUNCAST_CHAOS_ROUNDS=20`."""
COUNT = 2_600
FLOOD = (300, 60)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "BACKOFF_FIRST_S", 0.02)
    monkeypatch.setattr(connection, "BACKOFF_MOST_S", 0.2)


async def followed(tmp_path: Path, count: int = COUNT, **under_test: Any) -> list[str]:
    """What is wrong in the end."""
    seed = int(os.environ.get("RUNCAST_SEED", random.randrange(1 << 30)))
    print(f"RUNCAST_SEED={seed}")
    server = ServerProcess(tmp_path, **under_test)
    await server.start()
    try:
        async with chaos(server.port, seed) as proxy, anyio.create_task_group() as tasks:
            sent = await say(proxy.ws, f"count to {count} every 1 ms")  # over the proxy, too: one effect
            more = await say(proxy.ws, f"flood {FLOOD[0]} x {FLOOD[1]}", sent["thread"])
            thread = sent["thread"]
            readers: list[Follower] = [
                ClientFollower(proxy.http, thread),
                ClientFollower(proxy.http, thread),
                Follower(proxy.ws, thread),
                SseFollower(proxy.http, thread),
                PollFollower(proxy.http, thread),
            ]
            for reader in readers:
                tasks.start_soon(reader.follow)
            with anyio.fail_after(90):
                statuses = await all_ended(server.http, [sent["run"], more["run"]])
            log = await whole_log(server.http, thread)
            with anyio.move_on_after(60):
                while any(reader.last < log[-1]["seq"] and not reader.problems for reader in readers):
                    await anyio.sleep(0.02)
            tasks.cancel_scope.cancel()
        problems = judge_log(log)
        for reader in readers:
            problems += [f"{type(reader).__name__}: {problem}" for problem in judge(reader, log)]
            text = "".join(e["delta"] for e in reader.seen if e["type"] == "TEXT_MESSAGE_CONTENT")
            if text != counted(count) + flooded(*FLOOD):
                problems.append(f"{type(reader).__name__}: I11, I12: the text is another")
        print(f"{len(log)} events; {dict(proxy.done)}; connections {[reader.connections for reader in readers]}")
        if problems:
            print(*[problem[:300] for problem in problems[:10]], sep="\n")
            return problems
        assert set(statuses.values()) == {"done"} and text_of(log, sent["run"]) == counted(count)
        assert len(log) > 3_000 and len(proxy.done) >= 5 and all(reader.connections > 2 for reader in readers), (
            "the network was too good"
        )
        return problems
    finally:
        server.kill()


@pytest.mark.parametrize("round", range(ROUNDS))
async def test_every_client_gets_every_event_once(round: int, tmp_path: Path) -> None:
    del round
    assert await followed(tmp_path) == []


@pytest.mark.parametrize("plant", ["resumes_too_late", "resumes_too_early", "joins_too_much"])
async def test_planted_losses_doubles_and_wrong_joins_are_noticed(plant: str, tmp_path: Path) -> None:
    assert await followed(tmp_path, 700, plant=plant)
