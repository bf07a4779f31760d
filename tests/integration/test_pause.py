"""The server stands still for longer than its leases (SIGSTOP), then goes on, or is killed and replaced (I15, I21, I22, I23).

To everybody outside a process that stands still looks like a half-open line: its sockets are there, and nothing comes.
"""

from __future__ import annotations

import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from runcast.client import connection

from .agents import counted, paid
from .following import ClientFollower, Follower, SseFollower, command, judge, judge_log
from .process import ServerProcess
from .talking import all_ended, answer_of, say, status_of, text_of, whole_log

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(120)]

STEPS = 400
LEASE_S = 0.6
LIMITS = {"lease_ttl_s": LEASE_S, "renew_s": 0.2}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that take a line for dead after a second: forty times as soon as they do."""
    monkeypatch.setattr(connection, "WATCHDOG_S", 1.0)
    monkeypatch.setattr(connection, "CONNECT_S", 1.0)
    monkeypatch.setattr(connection, "BACKOFF_FIRST_S", 0.1)
    monkeypatch.setattr(connection, "BACKOFF_MOST_S", 0.5)


class Scene:
    """A server with a run under way, a message queued behind it, and a question open in another thread."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server
        self.readers: list[Follower] = []

    async def begin(self) -> None:
        server = self.server
        self.run = await say(server.ws, f"count to {STEPS} every 5 ms")
        self.thread = self.run["thread"]
        self.queued = await say(server.ws, "count to 20 every 1 ms", self.thread)
        self.asked = await say(server.ws, "pay the rent")
        assert await all_ended(server.http, [self.asked["run"]]) == {self.asked["run"]: "waiting"}
        self.readers = [kind(server.http, self.thread) for kind in (ClientFollower, SseFollower)]
        self.readers.append(Follower(server.ws, self.thread))

    async def reached(self, seq: int) -> None:
        with anyio.fail_after(60):
            while min(reader.last for reader in self.readers) < seq:
                await anyio.sleep(0.01)

    async def end(self, directory: Path) -> dict[str, str]:
        """Answer the question and wait for all ends; the log and every reader are judged."""
        server = self.server
        with anyio.fail_after(60):
            answered = await command(server.ws, answer_of(self.asked["run"]))
            assert answered["op"] == "ack", answered
            runs = [self.run["run"], self.queued["run"], answered["run"]]
            statuses = await all_ended(server.http, runs)
        assert paid(directory) == [f"{self.asked['run']}.1"]
        assert statuses[answered["run"]] == "done" and statuses[self.queued["run"]] == "done"
        log = await whole_log(server.http, self.thread)
        await self.reached(log[-1]["seq"])
        assert judge_log(log) == []
        for reader in self.readers:
            assert judge(reader, log) == [], type(reader)
        assert text_of(log, self.queued["run"]) == counted(20)
        assert counted(STEPS).startswith(text_of(log, self.run["run"]))
        return statuses


@asynccontextmanager
async def scene(tmp_path: Path, **under_test: object) -> AsyncGenerator[Scene]:
    options = {"limits": LIMITS, "session": {"heartbeat_s": 0.3}, **under_test}
    server = ServerProcess(tmp_path, **options)
    await server.start()
    try:
        one = Scene(server)
        await one.begin()
        async with anyio.create_task_group() as tasks:
            for reader in one.readers:
                tasks.start_soon(reader.follow)
            await one.reached(50)
            yield one
            tasks.cancel_scope.cancel()
    finally:
        server.kill()


async def stand_still(one: Scene) -> None:
    """For four leases, and long enough for the impatient client to give the line up."""
    one.server.stop_clock()
    seen = [reader.last for reader in one.readers]
    await anyio.sleep(max(4 * LEASE_S, 2.0))
    assert seen == [reader.last for reader in one.readers] or max(seen) < STEPS
    one.server.go_on()


async def test_it_goes_on_where_it_stood(tmp_path: Path) -> None:
    async with scene(tmp_path) as one:
        await stand_still(one)
        statuses = await one.end(tmp_path)
        assert statuses[one.run["run"]] == "done"
        assert one.readers[0].connections > 1, "the client did not notice that the line was dead (I15)"
        assert "the leases ran out" in one.server.log()
        late = await say(one.server.ws, "count to 5", one.thread)
        assert await all_ended(one.server.http, [late["run"]]) == {late["run"]: "done"}


async def test_a_run_whose_time_is_over_meanwhile_ends_so(tmp_path: Path) -> None:
    async with scene(tmp_path, settings={"run_timeout_s": 1.5}) as one:
        await stand_still(one)
        statuses = await one.end(tmp_path)
        assert statuses[one.run["run"]] == "failed"
        assert (await status_of(one.server.http, one.run["run"]))["code"] == "timeout"


async def test_who_stands_still_keeps_the_file_until_it_is_killed(tmp_path: Path) -> None:
    async with scene(tmp_path) as one:
        server = one.server
        server.stop_clock()
        rival = ServerProcess(tmp_path)
        rival.spawn()
        assert await anyio.to_thread.run_sync(rival.wait) != 0
        assert "StoreLocked" in rival.log()
        server.kill()
        with anyio.fail_after(30):
            await server.start()
            statuses = await one.end(tmp_path)
        assert statuses[one.run["run"]] == "interrupted"
        assert (await status_of(server.http, one.run["run"]))["error"]


async def test_planted_a_server_that_gives_its_runs_up_is_noticed(tmp_path: Path) -> None:
    """The test can fail: a server that takes its overdue leases for lost ends the run under way."""
    async with scene(tmp_path, plant="gives_up_when_late") as one:
        await stand_still(one)
        statuses = await one.end(tmp_path)
        assert statuses[one.run["run"]] != "done"


def test_no_process_is_left_behind() -> None:
    listed = subprocess.run(["ps", "-eo", "stat,args"], capture_output=True, text=True, check=True).stdout
    assert not [line for line in listed.splitlines() if line.startswith("T") and "served.py" in line]
