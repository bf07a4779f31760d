"""The servers that are measured, each in a process of its own: ours, and its peers.

`python servers.py ours|naive PORT DATABASE` is one of those processes.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
from installing import Missing, interpreter, library

HERE = Path(__file__).parent
PEERS = HERE / "peers"


class Kind(NamedTuple):
    """`command(port, directory)` starts it; `rooms`: several readers may follow one run; `keeps`: events are durable."""

    title: str
    command: Callable[[int, Path], list[str]]
    rooms: bool = False
    keeps: bool = False


def _own(kind: str) -> Callable[[int, Path], list[str]]:
    return lambda port, directory: [
        sys.executable,
        str(HERE / "servers.py"),
        kind,
        str(port),
        str(directory / f"{kind}.db"),
    ]


def _uvicorn(app: str, peer: str) -> Callable[[int, Path], list[str]]:
    return lambda port, directory: [
        *(str(interpreter(peer)), "-m", "uvicorn", app, "--host", "127.0.0.1", "--port", str(port)),
        *("--log-level", "warning", "--no-access-log"),
    ]


def _chainlit(port: int, directory: Path) -> list[str]:
    script = interpreter("chainlit").with_name("chainlit")
    return [
        str(script),
        "run",
        str(PEERS / "chainlit_app.py"),
        "--headless",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]


def _langgraph(port: int, directory: Path) -> list[str]:
    script = interpreter("langgraph").with_name("langgraph")
    config = directory / "langgraph.json"
    config.write_text('{"dependencies": ["."], "graphs": {"agent": "./graph.py:graph"}}')
    (directory / "graph.py").write_text((PEERS / "langgraph_app.py").read_text())
    return [
        *(str(script), "dev", "--config", str(config), "--host", "127.0.0.1", "--port", str(port)),
        *("--no-browser", "--no-reload", "--n-jobs-per-worker", "200", "--server-log-level", "ERROR"),
    ]


def _floor(per_write: int) -> Callable[[int, Path], list[str]]:
    return lambda port, directory: [
        *(sys.executable, str(PEERS / "floor.py"), str(port), str(library()), str(per_write))
    ]


KINDS = {
    "ours": Kind("Runcast", _own("ours"), rooms=True, keeps=True),
    "naive": Kind("FastAPI send_json", _own("naive"), rooms=True),
    "sse": Kind("FastAPI SSE", _own("naive")),
    "ag-ui": Kind("pydantic-ai AG-UI", _uvicorn("peers.pydantic_ai_app:app", "pydantic-ai")),
    "vercel": Kind("pydantic-ai Vercel", _uvicorn("peers.pydantic_ai_app:app", "pydantic-ai")),
    "chainlit": Kind("Chainlit", _chainlit),
    "langgraph": Kind("LangGraph dev", _langgraph),
    "picows": Kind("picows", lambda port, _: [sys.executable, str(PEERS / "picows_room.py"), str(port)], rooms=True),
    "floor": Kind("C", _floor(1), rooms=True),
    "floor-10": Kind("C, 10 frames a write", _floor(10), rooms=True),
}


class Running:
    """A server process and its children; `cpu_s` is the user and system time they have used so far, in seconds."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.port = port
        self.process = process
        self._main = psutil.Process(process.pid)
        self._family = [self._main, *self._main.children(recursive=True)]

    @property
    def cpu_s(self) -> float:
        return sum(cpu_s(member) for member in self._family)

    @property
    def memory(self) -> int:
        """Proportional set size in bytes, where the system says; resident otherwise."""
        info = self._main.memory_full_info()
        return getattr(info, "pss", info.rss)

    @property
    def files(self) -> int:
        return self._main.num_fds()

    @property
    def threads(self) -> int:
        return self._main.num_threads()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def cpu_s(process: psutil.Process) -> float:
    """User and system time of all its threads, those that ended included: by the clock POSIX has for it
    (clock_getcpuclockid, in ns), or by the accounting in ticks of a hundredth of a second."""
    libc = ctypes.CDLL(None)
    clock = ctypes.c_int()
    if hasattr(libc, "clock_getcpuclockid") and libc.clock_getcpuclockid(process.pid, ctypes.byref(clock)) == 0:
        with contextlib.suppress(OSError):
            return time.clock_gettime(clock.value)
    times = process.cpu_times()
    return times.user + times.system


def end_with_children() -> None:
    """Let SIGTERM end this process as an error would, so that the servers it started are stopped too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def many_files() -> None:
    """As many open files as the system lets us have; children inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextlib.contextmanager
def running(kind: str, directory: Path, port: int | None = None) -> Iterator[Running]:
    """The server, once it answers; it is stopped in the end. What it says is in `server.log` in `directory`.

    Raises:
        Missing: it cannot be had here, or does not start.
    """
    many_files()
    end_with_children()
    port = port or free_port()
    command = KINDS[kind].command(port, directory)
    path = [str(HERE), *([str(HERE.parent / "src")] if kind == "ours" else [])]
    environment = {
        **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        "PYTHONPATH": os.pathsep.join(path),
        "CHAINLIT_APP_ROOT": str(directory),
        "LANGSMITH_TRACING": "false",
        "LANGGRAPH_CLI_NO_ANALYTICS": "1",
    }
    log_path = directory / "server.log"
    with log_path.open("ab") as log:
        process = subprocess.Popen(
            command, env=environment, cwd=directory, stdout=log, stderr=log, start_new_session=True
        )
    try:
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            if process.poll() is not None or time.monotonic() > deadline:
                last = log_path.read_text(errors="replace").strip().splitlines()[-3:]
                raise Missing(f"{KINDS[kind].title} did not start: {' | '.join(last)}")
            time.sleep(0.02)
        yield Running(process, port)
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)  # whatever it started: the process leads a group of its own
    process.wait()


def serve(kind: str, port: int, database: str) -> None:
    many_files()
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

    @runcast.agent(timeout_s=24 * 3600)
    async def scripted(prompt: str):
        async for token in tokens(*parse(prompt)):
            yield token

    serve_runcast(Server(agents=[scripted], database=database, host="127.0.0.1", port=port, log_level="warning"))


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), sys.argv[3])
