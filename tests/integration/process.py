"""A real server in a process of its own, to be killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import anyio
import anyio.to_thread

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class ServerProcess:
    """`runcast serve` on a port and a database that stay the same over restarts."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self.port = free_port()
        self.database = directory / "log.db"
        self._directory = directory
        self._arguments: Sequence[str] = arguments or [f"{HERE / 'counting.py'}:counting"]
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

    def serve(self, *arguments: str) -> None:
        """What the next start serves."""
        self._arguments = arguments

    async def start(self, deadline_s: float = 60, **settings: object) -> None:
        command = [sys.executable, "-m", "runcast.cli", "serve", *self._arguments]
        command += ["--port", str(self.port), "--database", str(self.database)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
        environment |= {f"RUNCAST_{name.upper()}": str(value) for name, value in settings.items()}
        with open(self._directory / "server.log", "ab") as log:
            self._process = subprocess.Popen(
                command,
                env=environment,
                stdout=log,
                stderr=log,
                cwd=self._directory,
                start_new_session=True,  # a group of its own, as in a terminal
            )
        end = time.monotonic() + deadline_s
        while True:
            try:
                async with await anyio.connect_tcp("127.0.0.1", self.port):
                    return
            except OSError:
                assert self._process.poll() is None, self.log()
                assert time.monotonic() < end, f"the server did not answer in {deadline_s} s: {self.log()}"
                await anyio.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL: nothing in the process gets to run any more."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def signal(self, number: signal.Signals, *, group: bool = False) -> None:
        """To the process, or to its whole group, as Ctrl-C does in a terminal."""
        assert self._process is not None
        if group:
            os.killpg(self._process.pid, number)
        else:
            self._process.send_signal(number)

    async def wait_dead(self, timeout_s: float = 60) -> int:
        process = self._process
        assert process is not None
        return await anyio.to_thread.run_sync(lambda: process.wait(timeout_s))

    def terminate(self, timeout_s: float = 60) -> int:
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(timeout_s)

    def log(self) -> str:
        return (self._directory / "server.log").read_text()
