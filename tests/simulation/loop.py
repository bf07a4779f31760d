"""An event loop whose time is a number: when nothing is ready it jumps to the next timer.

Deterministic: handles run in the order asyncio promises, tasks hash by their number (anyio iterates over sets of tasks),
and there are no sockets, threads or signals. What belongs to one *process* (everything that was begun in its context) can
be halted between two steps, as SIGKILL and SIGSTOP do: no line of its code runs any more, no `finally`, nothing.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import itertools
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from anyio._backends import _asyncio as anyio_asyncio

MAX_STEPS = 400_000
"""Of one seed. Who needs more is in an endless loop."""
STEP_S = 2e-6
"""What one round of the loop costs: time goes on also for who never waits."""


class Stalled(Exception):
    """Everything waits for something that nobody will do."""


class Livelock(Exception):
    """Something goes round and round without waiting."""


class Process:
    """What dies together. `context` is where its code runs: tasks and timers made there inherit it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.halted = False
        self.held: list[asyncio.Handle] = []
        self.context = contextvars.copy_context()
        self.context.run(_process.set, self)

    def __repr__(self) -> str:
        return self.name


_process: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)


class NumberedTask(asyncio.Task[Any]):
    """A task whose hash does not depend on where in memory it is."""

    def __init__(self, coro: Any, *, loop: VirtualLoop, **kwargs: Any) -> None:
        self._number = next(loop.numbers)
        super().__init__(coro, loop=loop, **kwargs)
        loop.tasks.append(self)

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


class VirtualLoop(asyncio.BaseEventLoop):
    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._selector = self
        self._clock_resolution = 1e-9
        self.steps = 0
        self.numbers = itertools.count()
        self.tasks: list[NumberedTask] = []
        """All, so that those of a dead process are not collected at a moment that memory decides."""
        self.processes: list[Process] = []
        self.unhandled: list[str] = []
        self.set_task_factory(lambda loop, coro, **kw: NumberedTask(coro, loop=loop, **kw))
        self.set_exception_handler(self._note)

    def time(self) -> float:
        return self._now

    # --- what the base class wants of a selector ------------------------------------------------------------------

    def select(self, timeout: float | None) -> list[Any]:
        self.steps += 1
        if self.steps > MAX_STEPS:
            raise Livelock(f"{MAX_STEPS} steps at {self._now:.3f} s")
        self._now += STEP_S
        if timeout is None:
            raise Stalled(f"nothing will ever happen any more at {self._now:.3f} s")
        if timeout > 0:
            self._now = max(self._now, self._scheduled[0].when())
        return []

    def _process_events(self, event_list: list[Any]) -> None:
        del event_list

    def _write_to_self(self) -> None:
        pass

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
        raise RuntimeError(f"a simulation has no threads: {func}")

    def _note(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        del loop
        self.unhandled.append(f"{context.get('message')}: {context.get('exception')!r}")

    # --- processes ------------------------------------------------------------------------------------------------

    def process(self, name: str) -> Process:
        process = Process(name)
        self.processes.append(process)
        return process

    def spawn(self, process: Process, coro: Any, name: str = "") -> asyncio.Task[Any]:
        """A task of its own in this process."""
        return self.create_task(coro, name=name or None, context=process.context.copy())

    def _call_soon(self, callback: Any, args: Any, context: Any) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        process = handle._context.get(_process)
        if process is not None and process.halted:
            process.held.append(handle)
        else:
            self._ready.append(handle)
        return handle

    def halt(self, process: Process) -> None:
        """Between two of its steps: from now on none of its code runs."""
        process.halted = True

        def mine(handle: asyncio.Handle) -> bool:
            return handle._context.get(_process) is process

        process.held += [handle for handle in self._ready if mine(handle)]
        rest = [handle for handle in self._ready if not mine(handle)]
        self._ready.clear()
        self._ready.extend(rest)
        timers = sorted((timer for timer in self._scheduled if mine(timer)), key=lambda timer: timer.when())
        self._scheduled = [timer for timer in self._scheduled if not mine(timer)]
        heapq.heapify(self._scheduled)
        self._timer_cancelled_count = sum(timer.cancelled() for timer in self._scheduled)
        for timer in timers:
            timer._scheduled = False
        process.held += timers

    def go_on(self, process: Process) -> None:
        """It was only stopped: what became due meanwhile happens now."""
        process.halted = False
        held, process.held = process.held, []
        for handle in held:
            if handle.cancelled():
                continue
            if isinstance(handle, asyncio.TimerHandle) and handle.when() > self._now:
                handle._scheduled = True
                heapq.heappush(self._scheduled, handle)
            else:
                self._ready.append(handle)

    # --- the end --------------------------------------------------------------------------------------------------

    def bury(self, rounds: int = 200) -> None:
        """Let every task end, those of dead processes too, so that nothing of this world is left in memory."""
        for process in self.processes:
            if process.halted:
                self.go_on(process)
        self.steps = 0

        async def end_all() -> None:
            for _ in range(5):
                await asyncio.sleep(0)  # a task that is cancelled before its first step leaves its coroutine unawaited
            for _ in range(rounds):
                rest = sorted(
                    (task for task in asyncio.all_tasks(self) if task is not asyncio.current_task()), key=hash
                )
                if not rest:
                    return
                for task in rest:
                    task.cancel()
                for _ in range(5):
                    await asyncio.sleep(0)
                await asyncio.sleep(1)
            raise AssertionError(f"tasks that do not end: {list(asyncio.all_tasks(self))[:5]}")

        self.run_until_complete(end_all())
        self.run_until_complete(self.shutdown_asyncgens())
        self.tasks.clear()


class _Ordered(dict[Any, None]):
    """A set that iterates in the order of adding."""

    def add(self, item: Any) -> None:
        self[item] = None

    def discard(self, item: Any) -> None:
        self.pop(item, None)

    def remove(self, item: Any) -> None:
        del self[item]


@contextmanager
def deterministic() -> Generator[None]:
    """anyio keeps the scopes inside a scope in a set and cancels them in its order, which depends on memory addresses."""
    scope = anyio_asyncio.CancelScope
    original: Callable[..., None] = scope.__init__

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        self._child_scopes = _Ordered()

    scope.__init__ = init  # type: ignore[method-assign]
    try:
        yield
    finally:
        scope.__init__ = original  # type: ignore[method-assign]
