"""Questions that nobody answered in time: found in the store, also those of threads that nobody works on, once a sweep."""

from __future__ import annotations

import logging

from runcast.errors import LeaseLost, NotFound
from runcast.ids import Clock
from runcast.running.interrupts import Interrupts
from runcast.running.lanes import Lanes
from runcast.stores.base import Store

logger = logging.getLogger("runcast.runner")


class Expiry:
    def __init__(self, store: Store, lanes: Lanes, interrupts: Interrupts, *, clock: Clock) -> None:
        self._store = store
        self._lanes = lanes
        self._interrupts = interrupts
        self._clock = clock

    async def sweep(self) -> None:
        """Let every question expire that is due, wherever this node may write."""
        for run in await self._store.expired(now=self._clock.now_ms()):
            try:
                thread = await self._store.get_thread(run.thread)
                if thread is None:
                    continue
                async with self._lanes.use(thread) as lane:
                    await self._interrupts.expire(lane)
            except (LeaseLost, NotFound):
                continue  # its owner sees to it
            except Exception:  # one thread that cannot be worked on must not keep the others waiting
                logger.exception("run %s could not expire", run.id, extra={"action": "sweep_failed"})
