"""A rolling restart under 200 clients: told, sent away in rounds, back by themselves, nothing lost or doubled (I24)."""

from __future__ import annotations

import json
import random
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from runcast.client import connection
from simulation.judge import judge_log

from .agents import counted
from .following import ClientFollower, Follower, SseFollower, command, judge
from .process import ServerProcess
from .talking import all_ended, message, ready, say, status_of, text_of, whole_log

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(180)]

CLIENTS = 200
THREADS = 8
RETRY_MS = [100, 800]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "BACKOFF_FIRST_S", 0.1)
    monkeypatch.setattr(connection, "BACKOFF_MOST_S", 0.5)


@dataclass
class PoliteFollower(Follower):
    """Does as it is told: after a drain and a close it comes back at a random time in the range it was given."""

    drained: list[list[int]] = field(default_factory=list)
    codes: list[int | None] = field(default_factory=list)
    left: float = 0.0
    back: float = 0.0

    async def follow(self) -> None:
        while not self.problems:
            socket: ClientConnection | None = None
            try:
                async with connect(self.url, compression=None, open_timeout=10) as socket:
                    self.connections += 1
                    if self.left and not self.back:
                        self.back = time.monotonic()
                    await self._read(socket)
            except (OSError, ConnectionClosed, InvalidHandshake, TimeoutError, EOFError):
                pass
            if socket is not None and socket.close_code is not None:
                self.codes.append(socket.close_code)
                self.left = self.left or time.monotonic()
            low, high = self.drained[-1] if self.drained else (10, 100)
            await anyio.sleep(random.uniform(low, high) / 1000)

    def other(self, frame: dict[str, Any]) -> None:
        if frame["op"] == "drain":
            self.drained.append(frame["retryMs"])


async def restarted(tmp_path: Path, **under_test: Any) -> list[str]:
    """What is wrong in the end."""
    patches = {"runcast.transports.websocket:RETRY_MS": RETRY_MS, **under_test.pop("patches", {})}
    server = ServerProcess(tmp_path, settings={"drain_timeout_s": 2}, patches=patches, **under_test)
    await server.start()
    try:
        short = [await say(server.ws, "count to 60 every 25 ms") for _ in range(THREADS // 2)]
        long = [await say(server.ws, "count to 1000 every 25 ms") for _ in range(THREADS // 2)]
        queued = [await say(server.ws, "count to 10 every 1 ms", one["thread"]) for one in long]
        threads = [one["thread"] for one in short + long]
        polite = [PoliteFollower(server.ws, threads[number % THREADS]) for number in range(CLIENTS - 10)]
        readers: list[Follower] = [*polite]
        readers += [ClientFollower(server.http, threads[number % THREADS]) for number in range(5)]
        readers += [SseFollower(server.http, threads[number % THREADS]) for number in range(5)]
        async with anyio.create_task_group() as tasks:
            for reader in readers:
                tasks.start_soon(reader.follow)
            with anyio.fail_after(60):
                while any(reader.last < 5 for reader in readers):
                    await anyio.sleep(0.02)
            server.send_signal(15)
            with anyio.fail_after(10):
                while not all(one.drained for one in polite):
                    await anyio.sleep(0.02)
            assert await ready(server.http) == (503, "draining")
            retried = message("count to 3")
            refused = json.dumps(await once(server.ws, retried))
            assert "unavailable" in refused, refused
            started = time.monotonic()
            await anyio.to_thread.run_sync(server.wait, 30)
            took_s = time.monotonic() - started
            await server.start()
            answer = await command(server.ws, retried)
            problems = [] if answer["op"] == "ack" else [f"what was refused is refused again: {answer}"]
            with anyio.fail_after(60):
                statuses = await all_ended(server.http, [one["run"] for one in short + long + queued])
            logs = {thread: await whole_log(server.http, thread) for thread in threads}
            with anyio.move_on_after(60):
                while any(reader.last < len(logs[reader.thread]) and not reader.problems for reader in readers):
                    await anyio.sleep(0.02)
            tasks.cancel_scope.cancel()
        for reader in readers:
            problems += judge(reader, logs[reader.thread])
        for thread, log in logs.items():
            problems += [f"{thread}: {problem}" for problem in judge_log(log)]
        for runs, wanted in ((short, "done"), (long, "interrupted"), (queued, "done")):
            problems += [
                f"a run is {statuses[one['run']]}, not {wanted}" for one in runs if statuses[one["run"]] != wanted
            ]
        for one in short:
            if text_of(logs[one["thread"]], one["run"]) != counted(60):
                problems.append("a run that had time to end is not whole")
        if "shut down" not in (await status_of(server.http, long[0]["run"]))["error"]:
            problems.append("an interrupted run does not say why")
        if codes := {code for one in polite for code in one.codes[:1]} - {1012}:
            problems.append(f"close codes {codes}")
        left = sorted(one.left for one in polite)
        back = sorted(one.back for one in polite)
        print(
            f"left within {left[-1] - left[0]:.2f} s, back within {back[-1] - back[0]:.2f} s; stopped in {took_s:.1f} s"
        )
        if left[-1] - left[0] < 0.5:
            problems.append("all were sent away at once")
        if left[len(left) // 2] - left[0] < 0.1 or took_s > 15:
            problems.append("the rounds are no rounds")
        return problems
    finally:
        server.kill()


async def once(url: str, frame: dict[str, Any]) -> dict[str, Any]:
    """The first answer to a command, whatever it is."""
    async with connect(url, compression=None) as socket:
        await socket.send('{"op":"hello"}')
        await socket.send(json.dumps(frame))
        async for data in socket:
            answer: dict[str, Any] = json.loads(data)
            if answer.get("id") == frame["id"]:
                return answer
    raise AssertionError("no answer")


async def test_a_restart_loses_and_doubles_nothing(tmp_path: Path) -> None:
    assert await restarted(tmp_path) == []


async def test_planted_a_server_that_sends_all_away_at_once_is_noticed(tmp_path: Path) -> None:
    problems = await restarted(tmp_path, patches={"runcast.transports.gateway:ROUND": 1000})
    assert "all were sent away at once" in problems
