"""A word when an agent blocks the event loop.

All runs, readers and requests of a server share one thread. An `async` function that computes or waits without `await` holds
them all up, and the one who wrote it sees only that everything is slow. A thread beside the loop notices and logs which run
it is and where it stands, once per run.
"""

from __future__ import annotations

import asyncio
import linecache
import logging
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

logger = logging.getLogger("runcast.runner")

LIMIT_S = 1.0
"""How long the loop may stand still before it is told."""

_PACKAGE = str(Path(__file__).parents[1])
_FOREIGN = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})


class Driven(NamedTuple):
    """A run under way, as a log line names it."""

    run: str
    agent: str


DRIVEN: ContextVar[Driven | None] = ContextVar("runcast_driven", default=None)
"""The run for which a task works; tasks that it starts inherit it."""


class Watchdog:
    """Watches the running event loop. `runs` says which runs are under way: where the task itself cannot be asked (Python
    3.11) and there is only one, it is that one."""

    def __init__(self, runs: Callable[[], Sequence[Driven]], *, limit_s: float = LIMIT_S) -> None:
        self._runs = runs
        self._limit_s = limit_s
        self._beaten = 0.0
        self._beat_again: asyncio.TimerHandle | None = None
        self._over = threading.Event()
        self._told: set[str] = set()
        self._told_at = 0.0

    @contextmanager
    def watching(self) -> Generator[None]:
        """Watch the loop that runs now, while the context lasts."""
        loop = asyncio.get_running_loop()
        thread = threading.Thread(
            target=self._watch, args=(loop, threading.get_ident()), name="runcast-watchdog", daemon=True
        )
        self._beat(loop)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            if self._beat_again is not None:
                self._beat_again.cancel()
            thread.join(self._limit_s)

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        self._beaten = time.monotonic()
        self._beat_again = loop.call_later(self._limit_s / 4, self._beat, loop)

    def _watch(self, loop: asyncio.AbstractEventLoop, thread: int) -> None:
        """In the watchdog's own thread."""
        while not self._over.wait(self._limit_s / 4):
            beaten = self._beaten
            still_s = time.monotonic() - beaten
            if still_s > self._limit_s and self._told_at != beaten:
                self._told_at = beaten
                task = asyncio.current_task(loop)
                frame = sys._current_frames().get(thread)  # pyright: ignore[reportPrivateUsage]
                if task is not None and frame is not None:  # otherwise it only slept, or the whole machine did
                    self._tell(self._driven(task), still_s, _own(frame))

    def _driven(self, task: asyncio.Task[Any]) -> Driven | None:
        get_context = getattr(task, "get_context", None)  # Python 3.12
        if get_context is not None:
            return get_context().get(DRIVEN)
        runs = self._runs()
        return runs[0] if len(runs) == 1 else None

    def _tell(self, driven: Driven | None, still_s: float, frame: FrameType) -> None:
        file, line = frame.f_code.co_filename, frame.f_lineno
        where = f"{file}:{line}"
        key = where if driven is None else driven.run
        if key in self._told:
            return
        self._told.add(key)
        logger.warning(
            "%s blocks the event loop: nothing on this server has moved for %.1f s. It is at %s, in %s: %s. "
            "Let it await, make it a function without `async`, or do this in a thread.",
            "an agent" if driven is None else f"the agent {driven.agent}, in run {driven.run},",
            still_s,
            where,
            frame.f_code.co_name,
            linecache.getline(file, line).strip() or "?",
            extra={"action": "loop_blocked", "run": None if driven is None else driven.run, "where": where},
        )


def _own(frame: FrameType) -> FrameType:
    """The innermost frame that is neither a library's nor ours, else the innermost."""
    own: FrameType | None = frame
    while own is not None:
        file = own.f_code.co_filename
        if not file.startswith((_PACKAGE, "<", *_FOREIGN)):
            return own
        own = own.f_back
    return frame
