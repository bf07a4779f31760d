"""Taking threads over: from a process that died, or simply because this node has not worked on them for a while.

Whoever acquires a lane learns from the log how its thread stands. A run without a living process is ended (I21, I23),
what was queued is started (I18), and questions stay open.
"""

from __future__ import annotations

import logging

import msgspec

from runcast import events as e
from runcast.errors import LeaseLost, NotFound
from runcast.hub import Hub
from runcast.ids import Clock, IdSource
from runcast.running.appender import Appender
from runcast.running.ending import interrupted
from runcast.running.executions import Executions
from runcast.running.lane import Lane, QueuedRun
from runcast.running.lanes import Lanes
from runcast.running.opening import queued
from runcast.running.recall import Recall
from runcast.running.unread import join, requeued
from runcast.runs import Principal, Run, Thread
from runcast.stores.base import Store

logger = logging.getLogger("runcast.runner")


class Takeover:
    def __init__(
        self,
        store: Store,
        hub: Hub,
        lanes: Lanes,
        appender: Appender,
        executions: Executions,
        recall: Recall,
        *,
        clock: Clock,
        new_id: IdSource,
    ) -> None:
        self._store = store
        self._hub = hub
        self._lanes = lanes
        self._appender = appender
        self._executions = executions
        self._recall = recall
        self._clock = clock
        self._new_id = new_id

    async def load(self, lane: Lane) -> None:
        """Bring a lane just acquired up to how its thread stands. Its lock is held."""
        thread = lane.thread
        self._hub.note_head(thread.id, lane.head)  # what another node wrote, this node's feed may not know
        principal = Principal(user=thread.user, tenant=thread.tenant)
        runs = await self._store.runs(thread=thread.id, status=["queued", "running", "waiting"])
        for run in await self._recall.in_order([run for run in runs if run.status == "queued"]):
            lane.queue.append(QueuedRun(run, await self._recall.messages(run), principal))
        for run in runs:
            if run.status == "running":
                await self._end_dead(lane, run)
            elif run.status == "waiting":
                lane.waiting = await self._recall.waiting(thread, run)
        await self._executions.advance(lane)

    async def adopt_orphans(self) -> None:
        """Acquire every thread with work and without an owner; acquiring it ends dead runs and starts queued ones."""
        for orphan in await self._store.orphans(now=self._clock.now_ms()):
            await self.adopt(orphan.thread)

    async def adopt(self, thread: Thread) -> None:
        """Acquire the thread, if that can be; what is queued in it goes on, what is in doubt is found out."""
        try:
            async with self._lanes.use(thread) as lane:
                if lane.doubtful:
                    await self._appender.find_out(lane)
                if lane.stalled:
                    await self._executions.advance(lane)
        except (LeaseLost, NotFound):
            pass
        except Exception:  # one thread that cannot be taken over must not keep the others waiting
            logger.exception("thread %s could not be taken over", thread.id, extra={"action": "sweep_failed"})

    async def restart_stalled(self) -> None:
        """Start what is queued where the store refused to start it (I18), and look again where it was not sure."""
        for lane in self._lanes.all():
            if lane.stalled or lane.doubtful:
                await self.adopt(lane.thread)

    async def _end_dead(self, lane: Lane, run: Run) -> None:
        """I21, I23: the process of this run is gone; close what it left open and say so."""
        recorder = await self._recall.recorder(lane.thread, run)
        terminal = e.of_run(interrupted("The server was restarted while this run was under way."), run.id)
        events = [*recorder.close("interrupted"), terminal]
        now = self._clock.now_ms()
        left = requeued(
            lane,
            run,
            await self._recall.unread(lane.thread, run.id),
            Principal(user=lane.thread.user, tenant=lane.thread.tenant),
            first_seq=lane.head + len(events) + 1,
            new_id=self._new_id,
            now=now,
        )
        ended = msgspec.structs.replace(
            run,
            status="interrupted",
            ended_at=run.not_before(now),
            last_seq=lane.head + len(events),
            code="interrupted",
        )
        await self._appender.write(
            lane,
            [*events, *(queued(entry.run, entry.messages) for entry in left)],
            runs=[ended, *(entry.run for entry in left)],
            head_run=left[-1].run.id if left else None,
        )
        join(lane, left)
        logger.warning("run %s was interrupted", run.id, extra={"action": "run_interrupted", "run": run.id})
