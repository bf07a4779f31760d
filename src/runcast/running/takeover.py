"""Taking threads over: from a process that died, or simply because this node has not worked on them for a while.

Whoever acquires a lane learns from the log how its thread stands. A run without a living process is ended (I21, I23) or, by
its agent's declared policy, goes on; what was queued is started (I18), and questions stay open.
"""

from __future__ import annotations

import logging

import msgspec
from msgspec import UNSET

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
from runcast.running.recorder import Ending
from runcast.running.restarting import Over, Restarting, policy_of
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
        restarting: Restarting,
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
        self._restarting = restarting
        self._clock = clock
        self._new_id = new_id

    async def load(self, lane: Lane) -> None:
        """Bring a lane just acquired up to how its thread stands. Its lock is held."""
        thread = lane.thread
        self._hub.note_head(thread.id, lane.head)  # what another node wrote, this node's feed may not know
        principal = Principal(user=thread.user, tenant=thread.tenant)
        runs = await self._store.runs(thread=thread.id, status=["queued", "running", "waiting"])
        for run in await self._recall.in_order([run for run in runs if run.status == "queued"]):
            lane.queue.append(QueuedRun(run, await self._recall.brief(run), principal))
        for run in runs:
            if run.status == "running":
                await self._take_up(lane, run, principal)
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

    async def _take_up(self, lane: Lane, run: Run, principal: Principal) -> None:
        """The process of this run is gone: let the run go on if its agent says so and the log allows it, else end it."""
        before = self._executions.get(run.id)
        if before is not None:  # this node lost the lease and has it back: its first attempt is just ending
            await before.ended.wait()
        agent = self._executions.agents.get(run.agent)
        if self._executions.draining and policy_of(agent) != "never":
            return  # the next process takes it up
        verdict = await self._restarting.judge(lane.thread, run, agent)
        if isinstance(verdict, Over):
            await self._end_dead(lane, run, verdict)
            return
        await self._appender.write(lane, verdict.events)
        recorder = await self._recall.recorder(lane.thread, run)
        left = await self._recall.left(lane.thread, run) if verdict.resumes else None
        logger.warning(
            "run %s is taken up again, attempt %d",
            run.id,
            verdict.attempt,
            extra={"action": "run_restarted", "run": run.id, "attempt": verdict.attempt},
        )
        self._executions.launch(
            lane,
            run,
            verdict.brief,
            principal,
            attempt=verdict.attempt,
            recorder=recorder,
            left=left,
            handed=await self._recall.unread(lane.thread, run.id),
        )

    async def _end_dead(self, lane: Lane, run: Run, over: Over) -> None:
        """I21, I23: close what the run left open and say how it ended; a Stop that was asked for is kept."""
        recorder = await self._recall.recorder(lane.thread, run)
        status: Ending = "cancelled" if over.cancelled else "interrupted"
        reason = UNSET if over.reason is None else over.reason
        terminal: e.RunFinished | e.RunError = interrupted(over.sentence)
        if over.cancelled:
            terminal = e.RunFinished(thread_id=run.thread, outcome=e.Outcome(type="cancelled"), reason=reason)
        events = [*recorder.close(status), e.of_run(terminal, run.id)]
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
            status=status,
            ended_at=run.not_before(now),
            last_seq=lane.head + len(events),
            code=None if over.cancelled else "interrupted",
        )
        await self._appender.write(
            lane,
            [*events, *(queued(entry.run, entry.brief) for entry in left)],
            runs=[ended, *(entry.run for entry in left)],
            head_run=left[-1].run.id if left else None,
        )
        join(lane, left)
        logger.warning("run %s was interrupted", run.id, extra={"action": "run_interrupted", "run": run.id})
