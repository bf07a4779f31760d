"""The lanes of this node: which threads it owns, how it comes to own one, keeps it and gives it up.

A lease is renewed long before it runs out; a node that cannot renew loses its lanes before another may take them (I22).
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio

from runcast.errors import LeaseLost, NotFound, StoreError
from runcast.ids import Clock
from runcast.running.lane import Lane
from runcast.runs import Thread
from runcast.stores.base import Store

logger = logging.getLogger("runcast.runner")


class Lanes:
    """`load` brings a lane that was just acquired up to how its thread stands; `on_lost` stops the work on one."""

    def __init__(
        self,
        store: Store,
        *,
        clock: Clock,
        node: str,
        ttl_s: float,
        load: Callable[[Lane], Awaitable[None]],
        on_lost: Callable[[Lane], None],
    ) -> None:
        self._store = store
        self._clock = clock
        self._node = node
        self._ttl_s = ttl_s
        self._ttl_ms = int(ttl_s * 1000)
        self._load = load
        self._on_lost = on_lost
        self._lanes: dict[str, Lane] = {}
        self._opening: dict[str, anyio.Event] = {}
        self._renewed = clock.monotonic()

    def all(self) -> tuple[Lane, ...]:
        return tuple(self._lanes.values())

    def find(self, thread: str) -> Lane | None:
        """The thread's lane if this node has it already."""
        return self._lanes.get(thread)

    @asynccontextmanager
    async def use(self, thread: Thread, *, new: bool = False) -> AsyncGenerator[Lane]:
        """The thread's lane, its lock held; acquired first if need be.

        With `new` the thread does not exist yet: the first write under the lane begins it. If none does, the lane goes.

        Raises:
            LeaseLost: another node owns the thread. NotFound: it was deleted.
        """
        while True:
            lane = await self._get(thread, new)
            lane.users += 1
            try:
                async with lane.lock:
                    if lane.lost:
                        continue
                    yield lane
                    return
            finally:
                self.leave(lane)
                if new and lane.head == 0:  # nothing was begun: also a lane that is lost has its lease for itself alone
                    self.forget(lane)
                    with anyio.CancelScope(shield=True):
                        await self._release(lane)

    def leave(self, lane: Lane) -> None:
        lane.users -= 1
        lane.idle_since = self._clock.monotonic()

    def lose(self, lane: Lane) -> None:
        """Another owner has the thread, or may have it soon: nothing more is written under this lane."""
        if not lane.lost:
            self.forget(lane)
            self._on_lost(lane)
            logger.warning("lost the lease of thread %s", lane.thread.id, extra={"action": "lease_lost"})

    def forget(self, lane: Lane) -> None:
        lane.lost = True
        if self._lanes.get(lane.thread.id) is lane:
            del self._lanes[lane.thread.id]

    async def renew(self) -> list[str]:
        """Extend every lease; a lane whose lease was taken, or can no longer be extended in time, is lost.

        Returns the threads whose lease this node has without a lane: nobody else can take them, so it must (I21). A lane
        was lost while the store kept its lease, or a lease was given and the answer did not arrive.
        """
        before = self.all()
        asked = self._clock.monotonic()
        if asked - self._renewed > self._ttl_s and before:
            # The process stood still. What it does is right as long as no other took the threads: their fences say so (I22).
            late_s = asked - self._renewed - self._ttl_s
            logger.warning("the leases ran out %.1f s ago", late_s, extra={"action": "leases_overdue"})
        held: set[str] | None = None
        # A store that does not answer is one that refuses: the work must stop before the lease has run out.
        with anyio.move_on_after(self._ttl_s / 3):
            try:
                held = await self._store.renew(self._node, now=self._clock.now_ms(), ttl_ms=self._ttl_ms)
            except StoreError as error:
                logger.warning("leases could not be renewed", exc_info=error, extra={"action": "renew_failed"})
        if held is None:
            if self._clock.monotonic() - self._renewed >= self._ttl_s * 2 / 3:
                for lane in before:
                    self.lose(lane)
            return []
        self._renewed = asked
        for lane in before:
            if lane.thread.id not in held:
                self.lose(lane)
        return sorted(thread for thread in held if thread not in self._lanes and thread not in self._opening)

    async def settle(self, lane: Lane) -> None:
        """Get a new fence, so that nothing under way with the old one can land any more. The lane's lock is held.

        Raises:
            LeaseLost: another node has the thread now. NotFound: it was deleted. StoreError.
        """
        try:
            lane.fence = await self._take(lane.thread.id)
        except (LeaseLost, NotFound):
            self.lose(lane)
            raise

    async def give_up_idle(self, idle_s: float) -> None:
        for lane in self.all():
            if not lane.busy and lane.users == 0 and self._clock.monotonic() - lane.idle_since > idle_s:
                await self.give_up(lane)

    async def give_up(self, lane: Lane) -> None:
        """Release the lease of a lane that nobody uses."""
        if lane.lost:
            return
        self.forget(lane)
        await self._release(lane)

    async def _release(self, lane: Lane) -> None:
        try:
            await self._store.release(lane.thread.id, fence=lane.fence)
        except StoreError as error:
            logger.warning("a lease could not be released", exc_info=error, extra={"action": "release_failed"})

    async def _take(self, thread: str, *, new: bool = False) -> int:
        return await self._store.acquire(thread, self._node, now=self._clock.now_ms(), ttl_ms=self._ttl_ms, new=new)

    async def _get(self, thread: Thread, new: bool) -> Lane:
        while True:
            lane = self._lanes.get(thread.id)
            if lane is not None:
                return lane
            opening = self._opening.get(thread.id)
            if opening is None:
                break
            await opening.wait()
        opening = self._opening[thread.id] = anyio.Event()
        try:
            with anyio.CancelScope(shield=True):
                self._lanes[thread.id] = await self._acquire(thread, new)
            return self._lanes[thread.id]
        finally:
            del self._opening[thread.id]
            opening.set()

    async def _acquire(self, thread: Thread, new: bool) -> Lane:
        fence = await self._take(thread.id, new=new)
        row = thread if new else await self._store.get_thread(thread.id)
        if row is None:
            raise NotFound("There is no such conversation.")
        lane = Lane(row, fence)
        lane.idle_since = self._clock.monotonic()
        if lane.head:
            async with lane.lock:
                await self._load(lane)
        return lane
