"""What a server does by itself at leisure: deletes what is too old or too much, and looks whether the store works again.

A little at a time: conversations are deleted one by one, like a user deletes them (their open pages and lists are told),
and the store is never held for longer than a few milliseconds.
"""

from __future__ import annotations

import logging
from typing import NamedTuple

import anyio

from runcast.errors import LeaseLost, NotFound, StoreError
from runcast.hub import Hub
from runcast.ids import Clock
from runcast.running import Runner
from runcast.runs import Thread
from runcast.stores.base import Pruning, Store

logger = logging.getLogger("runcast.upkeep")

PROBE_S = 5.0
"""How often a store that refused a write is tried."""
ROUND_S = 60.0
PAUSE_S = 1.0
"""Between two rounds while there is more to do."""
THREADS_A_ROUND = 50
STEPS_A_ROUND = 20
DAY_MS = 86_400_000
YOUNG_MS = 3_600_000
"""What was changed within the last hour is kept, however full the store is: somebody may be about to go on."""
RECEIPTS_MS = 7 * DAY_MS
"""A command that is sent again after a week is a new one: no client retries for so long."""
TOMBSTONES_MS = 90 * DAY_MS
"""Ids are unique by themselves; the tombstone only answers a client that was away since before the deletion."""
HIDDEN_MS = 3_600_000
"""A hidden thread that is still there was left behind by a crash, or waits for results that its client owes."""
INBOX_EVENTS = 2_000
"""What a list needs to be brought up to date; a reader that is further behind starts over."""


class Keep(NamedTuple):
    """How long and how much conversations are kept; 0: without a limit."""

    days: int = 0
    bytes: int = 0


class Upkeep:
    def __init__(self, store: Store, hub: Hub, runner: Runner, *, clock: Clock, keep: Keep) -> None:
        self._store = store
        self._hub = hub
        self._runner = runner
        self._clock = clock
        self._keep = keep

    async def run(self) -> None:
        """Until it is cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._look_after_the_store)
            tasks.start_soon(self._sweep)

    async def _look_after_the_store(self) -> None:
        while True:
            await anyio.sleep(PROBE_S)
            if not self._store.healthy:
                try:
                    await self._store.probe()
                except StoreError:
                    continue  # the store has said why
                logger.info("the store takes writes again", extra={"action": "store_recovered"})

    async def _sweep(self) -> None:
        pause = PAUSE_S
        while True:
            await anyio.sleep(pause)
            pause = ROUND_S
            if self._runner.draining:
                return
            try:
                if await self.round():
                    pause = PAUSE_S
            except Exception as error:  # the next round tries again
                logger.warning("a round of the upkeep failed", exc_info=error, extra={"action": "upkeep_failed"})

    async def round(self) -> bool:
        """Do a part of what there is to do; whether there is more.

        Raises:
            StoreError: the store cannot be read or written.
        """
        now = self._clock.now_ms()
        for thread in await self._store.hidden_threads(before=now - HIDDEN_MS, limit=THREADS_A_ROUND):
            await self._expire(thread, now - HIDDEN_MS)
        more = self._keep.days > 0 and await self._delete_old(now - self._keep.days * DAY_MS)
        if self._keep.bytes > 0:
            more = await self._delete_beyond(self._keep.bytes, now - YOUNG_MS) or more
        return await self._prune(now) or more

    async def _delete_old(self, before: int) -> bool:
        threads = await self._store.idle_threads(before=before, but=self._hub.watched(), limit=THREADS_A_ROUND)
        for thread in threads:
            await self._expire(thread, before)
        return len(threads) == THREADS_A_ROUND

    async def _delete_beyond(self, limit: int, before: int) -> bool:
        if await self._store.size() <= limit:
            return False
        threads = await self._store.idle_threads(before=before, but=self._hub.watched(), limit=THREADS_A_ROUND)
        for thread in threads:
            await self._expire(thread, before)
            if await self._store.size() <= limit:
                return False
        return len(threads) == THREADS_A_ROUND

    async def _expire(self, thread: Thread, before: int) -> None:
        try:
            if await self._runner.expire(thread, before=before):
                logger.info("thread %s was deleted: it was kept long enough", thread.id, extra={"action": "expired"})
        except (LeaseLost, NotFound):
            pass  # it is another node's, or was deleted meanwhile

    async def _prune(self, now: int) -> bool:
        pruning = Pruning(
            receipts_before=now - RECEIPTS_MS, tombstones_before=now - TOMBSTONES_MS, inbox_events=INBOX_EVENTS
        )
        for _ in range(STEPS_A_ROUND):
            if not await self._store.prune(pruning):
                return False
        return True
