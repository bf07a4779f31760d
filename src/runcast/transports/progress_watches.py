"""What one socket of the `progress` dialect reads: the user's inbox, and each thread in which a run goes on.

A thread is read from its run's first event, for as long as one of its runs goes on or is queued: an idle socket costs one
cursor. What is told once is not told again, however late a notice comes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Final

import anyio
import anyio.abc
import anyio.lowlevel
from msgspec import UNSET

from runcast import events as e
from runcast.dialects.base import Frame
from runcast.dialects.progress import ProgressEncoder
from runcast.errors import NotFound
from runcast.events import Record
from runcast.runs import Principal, Run
from runcast.stores.base import MAX_EVENTS
from runcast.subscription import Subscription
from runcast.transports.gateway import Gateway
from runcast.transports.outlet import Outlet
from runcast.transports.whole import whole
from runcast.updates import Events, Resync, ThreadSnapshot

REMEMBERED: Final = 1024
"""So many threads' cursors, and runs that ended, a socket remembers."""

DELETED: Final = "The conversation was deleted."
RESTARTS: Final = "The server is restarting."


class _Watch:
    """One thread that is read, while one of the `wanted` runs goes on or is queued."""

    def __init__(self, thread: str, cursor: int) -> None:
        self.thread = thread
        self.cursor = cursor
        self.encoder = ProgressEncoder()
        self.wanted: dict[str, None] = {}
        self.saying = False
        """What was read is on its way to the client."""

    @property
    def busy(self) -> bool:
        return self.saying or bool(self.encoder.started)


class Watches:
    """All threads of one user that one socket reads now. Made when the socket is let in."""

    def __init__(self, gateway: Gateway, principal: Principal, outlet: Outlet) -> None:
        self.over = False
        """The peer is gone, or the connection is at its end: nothing more is said."""
        self._gateway = gateway
        self._principal = principal
        self._outlet = outlet
        self._watches: dict[str, _Watch] = {}
        """By thread."""
        self._cursors: OrderedDict[str, int] = OrderedDict()
        """How far threads were read that are not watched now."""
        self._ended: OrderedDict[str, None] = OrderedDict()
        """The runs that ended, when their last frame has left."""
        self._changed = anyio.Event()
        self._tasks: anyio.abc.TaskGroup

    async def say(self, frames: Iterable[Frame]) -> None:
        for frame in frames:
            try:
                await self._outlet.send(frame.data)
            except OSError:  # uvicorn's ClientDisconnected is one
                self.end()
                return

    def expects(self, run: str) -> bool:
        """Whether it will still say how `run` ended."""
        return any(run in watch.wanted for watch in self._watches.values())

    async def told(self, run: str) -> None:
        """Returns when the last frame of `run` has left, or will not leave any more; at once if the client takes nothing."""
        while run not in self._ended and not self.over and not self._outlet.is_full:
            await self._changed.wait()

    def end(self) -> None:
        self.over = True
        self._note_change()

    async def finish(self, timeout_s: float) -> None:
        """The server stops: what is in the log is still said, and of a run that the log does not end here, that it ends for this
        socket. At most twice `timeout_s`."""
        with anyio.move_on_after(timeout_s):
            while any(watch.busy for watch in self._watches.values()):
                await self._changed.wait()
        with anyio.move_on_after(timeout_s):
            for watch in tuple(self._watches.values()):
                await self._give_up(watch, watch.encoder.started, RESTARTS)

    def _note_change(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    # --- which threads --------------------------------------------------------------------------------------------

    async def join_in(self) -> None:
        """Fold what goes on now, in silence."""
        runs: dict[str, list[Run]] = {}
        for run in await self._gateway.service.active_runs(self._principal):
            runs.setdefault(run.thread, []).append(run)
        for thread, active in runs.items():
            try:
                watch = _Watch(thread, min([await self._begin_of(run) for run in active]))
                watch.wanted.update(dict.fromkeys(run.id for run in active))
                await self._fold(watch, None)
            except NotFound:
                continue  # deleted meanwhile: it had said nothing here
            if watch.wanted:
                self._watches[thread] = watch

    async def _begin_of(self, run: Run) -> int:
        """The seq before the first event that is needed to understand `run`: of the run, or of the waiting one it goes on with."""
        while run.resumes is not None:
            run = await self._gateway.service.get_run(self._principal, run.resumes)
        return run.first_seq - 1

    async def _fold(self, watch: _Watch, until: int | None) -> None:
        """Read in silence up to `until` (None: to the head). Page by page, because pages are not joined."""
        while until is None or watch.cursor < until:
            limit = MAX_EVENTS if until is None else min(MAX_EVENTS, until - watch.cursor)
            page = await self._gateway.service.read(self._principal, watch.thread, after=watch.cursor, limit=limit)
            if not page.records:
                return
            for record in page.records:
                watch.encoder.encode(record)
            self._note_ends(watch, page.records)

    async def follow(self, inbox: Subscription) -> None:
        """Say what runs, until cancelled. `inbox` was made before `join_in`; whoever made it closes it.

        Raises:
            Exception: the log cannot be read.
        """
        async with anyio.create_task_group() as self._tasks:
            for watch in tuple(self._watches.values()):
                self._tasks.start_soon(self._pump, watch)
            await self._hear(inbox)

    async def _hear(self, inbox: Subscription) -> None:
        """Learn from the inbox which runs begin."""
        service = self._gateway.service
        while True:
            try:
                async for update in inbox:
                    match update:
                        case Events(records):
                            for record in records:
                                await self._heard(record.event)
                        case ThreadSnapshot():  # notices were missed: they are no longer kept
                            await self._look()
                        case _:
                            pass
            finally:
                inbox.close()
            inbox = await service.follow_inbox(self._principal)  # it was deleted, with all the user's data
            await self._look()

    async def _heard(self, event: e.Event) -> None:
        """A run that ends begins nothing: the thread itself says so to who watches it."""
        if not isinstance(event, e.ThreadUpdated) or event.run is UNSET or event.thread_id is UNSET:
            return
        if event.run.status in ("queued", "running"):
            await self._announced(event.thread_id, event.run.id)

    async def _look(self) -> None:
        for run in await self._gateway.service.active_runs(self._principal):
            await self._announced(run.thread, run.id)

    async def _announced(self, thread: str, run: str) -> None:
        """A run goes on or is queued: watch its thread, behind all that was told of it."""
        if run in self._ended:
            return
        watch = self._watches.get(thread)
        if watch is not None:
            watch.wanted[run] = None
            return
        try:
            row = await self._gateway.service.get_run(self._principal, run)
            after = max(row.first_seq - 1, self._cursors.get(thread, 0))
            if row.last_seq is not None and row.last_seq <= after:
                return
            watch = _Watch(thread, min(after, await self._begin_of(row)))
            await self._fold(watch, after)
        except NotFound:
            await self._give_up(_Watch(thread, 0), [run], DELETED)
            return
        watch.wanted[run] = None
        self._watches[thread] = watch
        self._tasks.start_soon(self._pump, watch)

    # --- one thread -----------------------------------------------------------------------------------------------

    async def _pump(self, watch: _Watch) -> None:
        try:
            subscription = await self._gateway.service.follow(self._principal, watch.thread, after=watch.cursor)
            try:
                if await self._tell(subscription, watch):
                    return
            finally:
                subscription.close()
        except NotFound:
            pass
        finally:
            if self._watches.get(watch.thread) is watch:
                del self._watches[watch.thread]
        if not self.over:
            await self._give_up(watch, watch.wanted, DELETED)

    async def _tell(self, subscription: Subscription, watch: _Watch) -> bool:
        """Say what the thread says until none of the wanted runs is left; false if the thread is deleted before."""
        async for update in subscription:
            if isinstance(update, Resync) and update.reason == "deleted":
                return False
            update = await whole(self._gateway.service, self._principal, update)
            if isinstance(update, Events):
                watch.saying = True
                await self.say([frame for record in update.records for frame in watch.encoder.encode(record)])
                watch.saying = False
                if self.over:
                    return True
                self._note_ends(watch, update.records)
                if not watch.wanted:  # nothing is awaited from here to where the watch is forgotten
                    self._remember(watch)
                    return True
            update = None  # while this reader is stuck it holds nothing but what is in its socket (I10)
            if self._outlet.is_full:
                self._note_change()
                await self._outlet.room()
            else:
                await anyio.lowlevel.checkpoint()
        return False

    def _note_ends(self, watch: _Watch, records: Sequence[Record]) -> None:
        """These were read and, if at all, told."""
        for record in records:
            if isinstance(record.event, e.TERMINAL) and isinstance(record.event.run_id, str):
                watch.wanted.pop(record.event.run_id, None)
                self._note_end(record.event.run_id)
        watch.cursor = records[-1].seq

    def _note_end(self, run: str) -> None:
        self._ended[run] = None
        while len(self._ended) > REMEMBERED:
            self._ended.popitem(last=False)
        self._note_change()

    def _remember(self, watch: _Watch) -> None:
        self._watches.pop(watch.thread, None)
        self._cursors[watch.thread] = watch.cursor
        self._cursors.move_to_end(watch.thread)
        while len(self._cursors) > REMEMBERED:
            self._cursors.popitem(last=False)

    async def _give_up(self, watch: _Watch, runs: Iterable[str], reason: str) -> None:
        """Say that `runs` are over, because the log will not."""
        runs = list(runs)
        await self.say(watch.encoder.give_up(reason, runs))
        for run in runs:
            watch.wanted.pop(run, None)
            self._note_end(run)
