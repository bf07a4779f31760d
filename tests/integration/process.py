"""A real server in a process of its own, to be killed, stopped, starved and restarted."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio
import httpx

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class ServerProcess:
    """`runcast serve` on a port and a database that stay the same over restarts.

    With further arguments it is the command line; else `served.py` with what `under_test` says (see there), whose fields may
    be changed between two starts.
    """

    def __init__(
        self, directory: Path, *arguments: str, environment: Mapping[str, str] | None = None, **under_test: Any
    ) -> None:
        self.port = free_port()
        self.database = directory / "log.db"
        self.under_test = under_test
        self.environment = dict(environment or {})
        self.prefix: Sequence[str] = ()
        """What the command is started by, for a process that sees other disks."""
        self._directory = directory
        self._arguments: Sequence[str] = arguments
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def ws(self) -> str:
        return f"ws://127.0.0.1:{self.port}/v1/ws"

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def spawn(self) -> None:
        """Start it; whether it listens is `answers`'s to say."""
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), **self.environment}
        command = [sys.executable, "-m", "runcast.cli", "serve", *self._arguments]
        command += ["--port", str(self.port), "--database", str(self.database)]
        if not self._arguments:
            command = [sys.executable, str(HERE / "served.py")]
            settings = {"port": self.port, "database": str(self.database), **self.under_test.get("settings", {})}
            environment["RUNCAST_UNDER_TEST"] = json.dumps({**self.under_test, "settings": settings})
        with open(self._directory / "server.log", "ab") as log:
            self._process = subprocess.Popen(
                [*self.prefix, *command],
                env=environment,
                stdout=log,
                stderr=log,
                cwd=self._directory,
                start_new_session=True,  # a group of its own, as in a terminal: Ctrl-C goes to the whole group
            )

    async def start(self, deadline_s: float = 60) -> None:
        self.spawn()
        await self.answers(deadline_s)

    async def answers(self, deadline_s: float = 60) -> None:
        """Wait until it listens."""
        assert self._process is not None
        end = time.monotonic() + deadline_s
        while True:
            try:
                async with await anyio.connect_tcp("127.0.0.1", self.port):
                    return
            except OSError:
                assert self._process.poll() is None, self.log()
                assert time.monotonic() < end, f"the server did not answer in {deadline_s} s: {self.log()}"
                await anyio.sleep(0.02)

    def send_signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def stop_clock(self) -> None:
        """SIGSTOP: nothing in the process runs until `go_on`; its sockets stay open."""
        self.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL: nothing in the process gets to run any more."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def terminate(self, timeout_s: float = 60) -> int:
        """SIGTERM, and wait: its exit code."""
        self.send_signal(signal.SIGTERM)
        return self.wait(timeout_s)

    def wait(self, timeout_s: float = 60) -> int:
        assert self._process is not None
        return self._process.wait(timeout_s)

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def log(self) -> str:
        return (self._directory / "server.log").read_text()

    async def state(self, collect: bool = False) -> dict[str, Any]:
        """What the server holds right now: see `served.py`."""
        async with httpx.AsyncClient(base_url=self.http, timeout=30) as client:
            return (await client.get("/_state?gc" if collect else "/_state")).json()

    async def until(self, condition: Callable[[dict[str, Any]], bool], deadline_s: float = 30) -> dict[str, Any]:
        """The first state that fulfils `condition`."""
        end = time.monotonic() + deadline_s
        while not condition(state := await self.state()):
            assert time.monotonic() < end, f"in {deadline_s} s it did not come to it: {state}\n{self.log()[-2000:]}"
            await anyio.sleep(0.05)
        return state
