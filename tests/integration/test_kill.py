"""kill -9 in a loop, with runs, queues and readers in flight: nothing that was seen or acknowledged is lost (I1, I2, I3, I7).

The seed is printed with every failure; set RUNCAST_SEED to repeat one.
"""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from simulation.judge import judge_log

from .agents import paid
from .counting import expected
from .following import Follower, command, judge
from .process import HERE, ServerProcess
from .talking import all_ended, answer_of, cancel_of, message, say, status_of, whole_log

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(600)]

KILLS = int(os.environ.get("RUNCAST_KILLS", "10"))
"""The long form has 50: `RUNCAST_KILLS=50`."""
READERS = 3
STEPS = 150


async def test_nothing_is_lost_when_the_server_is_killed_again_and_again(tmp_path: Path) -> None:
    seed = int(os.environ.get("RUNCAST_SEED", random.randrange(1 << 30)))
    print(f"RUNCAST_SEED={seed}")
    dice = random.Random(seed)
    server = ServerProcess(tmp_path, f"{HERE / 'counting.py'}:counting")
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


class Payments:
    """Questions that are asked and answered while the server is killed, and what came of them (I5, I20)."""

    def __init__(self, server: ServerProcess, dice: random.Random) -> None:
        self.server = server
        self.dice = dice
        self.acks: dict[str, dict[str, Any]] = {}
        """The answer that was given to each command, by its id."""
        self.frames: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []
        self.decided: dict[str, str] = {}
        """run that asked → what the answer was that won."""
        self.cancelled: list[str] = []
        self.problems: list[str] = []

    async def do(self, frame: dict[str, Any]) -> dict[str, Any]:
        answer = await command(self.server.ws, frame)
        self.frames[frame["id"]] = frame
        self.acks[frame["id"]] = answer
        return answer

    async def again(self) -> None:
        """A command that was answered is sent once more: the same answer (I5)."""
        if not self.frames:
            return
        id = self.dice.choice(list(self.frames))
        answer = await command(self.server.ws, self.frames[id])
        before = {key: value for key, value in self.acks[id].items() if key not in ("replayed", "requestId")}
        if {key: value for key, value in answer.items() if key not in ("replayed", "requestId")} != before:
            self.problems.append(f"I5: {self.frames[id]} was answered by {before}, then by {answer}")

    async def pay(self) -> None:
        while True:
            sent = await self.do(message("pay the rent"))
            if self.dice.random() < 0.3:
                await self.again()
            await all_ended(self.server.http, [sent["run"]])
            if (await status_of(self.server.http, sent["run"]))["status"] != "waiting":
                continue  # killed while it was about to ask
            self.asked.append(sent["run"])
            if self.dice.random() < 0.2:
                continue  # left open
            # Two people answer at once, each until the server says what became of it.
            async with anyio.create_task_group() as both:
                for status in ("resolved", "cancelled"):
                    both.start_soon(self.decide, sent["run"], status)

    async def decide(self, run: str, status: str) -> None:
        answer = await self.do(answer_of(run, status=status))
        if answer["op"] == "ack":
            if run in self.decided:
                self.problems.append(f"I20: two answers to {run} were taken")
            self.decided[run] = status
        elif answer["code"] != "already_decided":
            self.problems.append(f"{answer}")

    async def stop(self) -> None:
        while True:
            sent = await self.do(message("count to 1000 every 2 ms"))
            await anyio.sleep(self.dice.uniform(0, 0.1))
            answer = await self.do(cancel_of(sent["run"]))
            if answer["op"] != "ack":
                self.problems.append(f"{answer}")
            self.cancelled.append(sent["run"])


async def killed_while_people_decide(tmp_path: Path, kills: int, **under_test: Any) -> list[str]:
    """What is wrong in the end."""
    seed = int(os.environ.get("RUNCAST_SEED", random.randrange(1 << 30)))
    print(f"RUNCAST_SEED={seed}")
    dice = random.Random(seed)
    server = ServerProcess(tmp_path, **under_test)
    await server.start()
    payments = Payments(server, dice)
    try:
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(payments.pay)
            tasks.start_soon(payments.stop)
            for _ in range(kills):
                goal = len(payments.acks) + dice.randint(1, 12)
                with anyio.fail_after(60):
                    while len(payments.acks) < goal and not payments.problems:
                        await anyio.sleep(0.002)
                server.kill()
                await server.start()
            tasks.cancel_scope.cancel()
        with anyio.fail_after(60):
            for _ in range(20):
                await payments.again()
        problems = payments.problems
        with anyio.fail_after(120):
            ended = await all_ended(server.http, payments.cancelled)
            problems += [f"I19: {run} was stopped and is {how}" for run, how in ended.items() if how == "waiting"]
            left_open = [run for run in payments.asked if run not in payments.decided]
            left_open = [run for run in left_open if (await status_of(server.http, run))["status"] == "waiting"]
            late = [await command(server.ws, answer_of(run)) for run in left_open]  # open questions survived
            problems += [f"{answer}" for answer in late if answer["op"] != "ack"]
            for answer in late:
                if (await all_ended(server.http, [answer["run"]]))[answer["run"]] != "done":
                    problems.append(f"{answer} was not carried out")
        used = paid(tmp_path)
        problems += [f"I20: paid twice for {one}" for one in set(used) if used.count(one) > 1]
        refused = {f"{run}.1" for run, status in payments.decided.items() if status == "cancelled"}
        problems += [f"I20: paid for {one} without a yes" for one in refused & set(used)]
        problems += [f"{run} was left open, then approved, and not paid" for run in left_open if f"{run}.1" not in used]
        threads = {answer["thread"] for answer in payments.acks.values() if "thread" in answer}
        for thread in sorted(threads)[:: max(1, len(threads) // 20)]:
            problems += judge_log(await whole_log(server.http, thread))
        print(
            f"{len(payments.acks)} commands, {len(payments.decided)} decided, {len(left_open)} open, {len(used)} paid"
        )
        assert kills < 3 or (len(payments.decided) > kills / 2 and used)
        return problems
    finally:
        server.kill()


async def test_an_answer_is_used_once_whenever_the_server_is_killed(tmp_path: Path) -> None:
    assert await killed_while_people_decide(tmp_path, KILLS * 2 // 3) == []


async def test_planted_commands_that_are_forgotten_are_noticed(tmp_path: Path) -> None:
    assert await killed_while_people_decide(tmp_path, 1, plant="forgets_commands")
