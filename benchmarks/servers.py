"""Starts one of the servers in a process of its own: `python servers.py ours|naive PORT DATABASE`."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

HERE = Path(__file__).parent


class Running:
    """A server process; `cpu_s` is the user and system time it has used so far, in seconds."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.port = port
        self._process = psutil.Process(process.pid)

    @property
    def cpu_s(self) -> float:
        times = self._process.cpu_times()
        return times.user + times.system

    @property
    def rss(self) -> int:
        return self._process.memory_info().rss


@contextlib.contextmanager
def running(kind: str, directory: Path) -> Iterator[Running]:
    """The server, once it answers; it is stopped in the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, str(HERE / "servers.py"), kind, str(port), str(directory / f"{kind}-{port}.db")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent / "src")])}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the {kind} server did not start")
            time.sleep(0.05)
        yield Running(process, port)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def serve(kind: str, port: int, database: str) -> None:
    if kind == "naive":
        import uvicorn
        from peers.naive import app

        uvicorn.run(
            app,
            host="127.0.0.1",
            port=port,
            log_level="warning",
            ws="websockets-sansio",
            ws_per_message_deflate=False,
            access_log=False,
        )
        return
    from agent import parse, tokens

    import runcast
    from runcast.server import Server
    from runcast.server import serve as serve_runcast

    @runcast.agent
    async def scripted(prompt: str):
        async for token in tokens(*parse(prompt)):
            yield token

    serve_runcast(Server(agents=[scripted], database=database, host="127.0.0.1", port=port, log_level="warning"))


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), sys.argv[3])
