"""Runs that nobody watches any more: `on_disconnect="cancel"`.

A watcher is whoever reads a thread or a run live, over any transport; the inbox does not count. When a thread's last watcher
goes, the runs that it could have watched have a grace; if nobody comes back in it, they are stopped as by a person, durably.
Nothing here polls: the hub tells when the first watcher comes and the last one goes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence

import anyio
from anyio.abc import TaskGroup

from runcast.hub import Hub

NOBODY = "Nobody was watching any more."


class Watching:
    """`runs_of(thread)` names the runs that end if nobody watches the thread; `stop(thread, runs)` ends them. `sleep` waits
    some seconds."""

    def __init__(
        self,
        hub: Hub,
        *,
        grace_s: float,
        runs_of: Callable[[str], Sequence[str]],
        stop: Callable[[str, Collection[str]], Awaitable[None]],
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        self._hub = hub
        self._grace_s = grace_s
        self._runs_of = runs_of
        self._stop = stop
        self._sleep = sleep
        self._graces: dict[str, anyio.CancelScope] = {}
        self._tasks: TaskGroup | None = None

    def start(self, tasks: TaskGroup) -> None:
        self._tasks = tasks
        self._hub.on_watched = self._told

    def sender_gone(self, thread: str, run: str) -> None:
        """Whoever waited for this run, as its only reader perhaps, has hung up."""
        if self._hub.watchers(thread) == 0:
            self._begin_grace(thread, [one for one in self._runs_of(thread) if one == run])

    def _told(self, thread: str, watched: bool) -> None:
        if not watched:
            self._begin_grace(thread, self._runs_of(thread))
        elif (grace := self._graces.pop(thread, None)) is not None:
            grace.cancel()

    def _begin_grace(self, thread: str, runs: Sequence[str]) -> None:
        if runs and self._tasks is not None:
            if (before := self._graces.get(thread)) is not None:
                before.cancel()
            self._graces[thread] = scope = anyio.CancelScope()
            self._tasks.start_soon(self._wait, thread, frozenset(runs), scope)

    async def _wait(self, thread: str, runs: Collection[str], scope: anyio.CancelScope) -> None:
        with scope:
            await self._sleep(self._grace_s)
        if self._graces.get(thread) is scope:  # nobody came back
            del self._graces[thread]
            await self._stop(thread, runs)
