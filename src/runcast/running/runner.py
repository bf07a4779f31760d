"""Drives agents into the log: accepts messages and starts, queues, cancels and ends their runs.

The runner decides; the store makes the decision durable and checks that it is still true. A run is told to nobody before
its first event is committed. What it does on a thread is done under the lock of the thread's lane.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import anyio
import msgspec
from anyio.abc import TaskGroup
from msgspec import UNSET

from runcast import events as e
from runcast.agents.base import Agent
from runcast.errors import (
    InvalidRequest,
    LeaseLost,
    NotFound,
    RunActive,
    SequenceConflict,
    StoreError,
    Unavailable,
)
from runcast.hub import Hub
from runcast.ids import Clock, IdSource
from runcast.running.accepting import Acceptance
from runcast.running.appender import Appender
from runcast.running.blobs import Blobs
from runcast.running.branching import Branching
from runcast.running.executions import Executions
from runcast.running.expiry import Expiry
from runcast.running.interrupts import Interrupts
from runcast.running.lane import Lane
from runcast.running.lanes import Lanes
from runcast.running.limits import Limits
from runcast.running.recall import Recall
from runcast.running.restarting import Restarting
from runcast.running.steering import Steered
from runcast.running.stopping import Stopping
from runcast.running.takeover import Takeover
from runcast.running.watchdog import Watchdog
from runcast.running.watching import NOBODY, Watching
from runcast.runs import Answer, Brief, OnBranch, OnBusy, Principal, Run, RunStatus, Thread
from runcast.stores.base import Receipt, Store

logger = logging.getLogger("runcast.runner")


class Runner:
    def __init__(
        self,
        store: Store,
        hub: Hub,
        agents: Sequence[Agent],
        *,
        clock: Clock,
        new_id: IdSource,
        limits: Limits,
        app: Mapping[str, Any],
    ) -> None:
        self.limits = limits
        self._store = store
        self._hub = hub
        self._clock = clock
        self._new_id = new_id
        self._lanes = Lanes(
            store, clock=clock, node=new_id(), ttl_s=limits.lease_ttl_s, load=self._load, on_lost=self._on_lost
        )
        self._recall = Recall(store, hub)
        blobs = Blobs(store, clock=clock, new_id=new_id)
        self._appender = Appender(store, hub, self._lanes, blobs, clock=clock)
        restarting = Restarting(store, hub)
        self._executions = Executions(
            agents,
            self._appender,
            self._lanes,
            hub,
            self._recall,
            restarting,
            clock=clock,
            new_id=new_id,
            limits=limits,
            app=app,
            files=lambda: store.files,
        )
        self._strays: list[str] = []
        """Threads whose lease this node has without a lane."""
        self._acceptance = Acceptance(
            self._appender, self._executions, clock=clock, new_id=new_id, queue_limit=limits.queue_limit
        )
        self._interrupts = Interrupts(store, self._appender, self._executions, self._recall, clock=clock, new_id=new_id)
        self._stopping = Stopping(self._appender, self._executions, self._interrupts, self._recall, clock=clock)
        self._branching = Branching(self._acceptance, self._executions, self._interrupts, self._stopping, self._recall)
        self._steered = Steered(self._appender, self._executions, self._recall, limit=limits.queue_limit)
        self._expiry = Expiry(store, self._lanes, self._interrupts, clock=clock)
        self._takeover = Takeover(
            store,
            hub,
            self._lanes,
            self._appender,
            self._executions,
            self._recall,
            restarting,
            clock=clock,
            new_id=new_id,
        )
        self._watching = Watching(
            hub, grace_s=limits.disconnect_grace_s, runs_of=self._runs_to_watch, stop=self._stop_unwatched
        )

    # --- life -----------------------------------------------------------------------------------------------------

    async def start(self, tasks: TaskGroup) -> None:
        """Take over what a dead process left, then keep leases alive. `tasks` is where the runs will live."""
        self._executions.start(tasks)
        self._watching.start(tasks)
        await self._takeover.adopt_orphans()
        tasks.start_soon(self._keep_leases)
        tasks.start_soon(self._sweep)

    async def drain(self, timeout_s: float) -> None:
        """Accept no new runs; wait for those under way, at most `timeout_s`."""
        self._executions.draining = True
        with anyio.move_on_after(timeout_s):
            await self._executions.wait()

    async def stop(self) -> None:
        """End what still runs as *interrupted*, write everything, give the leases up."""
        self._executions.draining = True
        await self._executions.interrupt_all()
        for lane in self._lanes.all():
            await self._lanes.give_up(lane)

    @property
    def draining(self) -> bool:
        return self._executions.draining

    @property
    def active(self) -> int:
        """How many runs are under way."""
        return self._executions.active

    def watchdog(self) -> Watchdog:
        """What tells of agents that block the event loop; whoever owns the loop runs it."""
        return Watchdog(lambda: self._executions.driven)

    @property
    def healthy(self) -> bool:
        """False while the store refuses what has to be written."""
        return self._executions.healthy

    @property
    def unstoppable(self) -> int:
        """How many agents still work although their runs are over."""
        return self._executions.unstoppable

    # --- commands -------------------------------------------------------------------------------------------------

    async def send(
        self,
        principal: Principal,
        thread: Thread,
        brief: Brief,
        *,
        agent: str,
        on_busy: OnBusy,
        parent: str | None,
        receipt: Receipt,
        steer: str | None = None,
        new: bool = False,
    ) -> tuple[Run, int]:
        """Start a run on `brief`, or queue it, or hand its message to the run under way: the run, and the seq of the event
        that holds the message.

        With `on_busy` "steer" and `steer` only that run is handed the message, else whichever goes on. With `new` the thread
        does not exist yet: it is made with the message, or not at all. `receipt.result` is completed here: it is the JSON of
        `{"thread", "run", "seq", "status"}`.

        Raises:
            RunActive, QueueFull, Unavailable, InvalidRequest (a parent that is not of this thread).
        """
        self._refuse_while_draining()
        async with self._lanes.use(thread, new=new) as lane:
            if lane.deleting:
                raise NotFound("There is no such conversation.")
            if lane.busy:
                await self._refuse_replay(principal, receipt)
            if parent is not None:
                rows = await self._store.runs(thread=thread.id, ids=[parent])
                if not rows:
                    raise InvalidRequest(f"The parent run {parent!r} is not in this thread.")
                if rows[0].status == "cancelled" and rows[0].started_at is None:
                    raise InvalidRequest(
                        f"The parent run {parent!r} was taken back before it began: nothing follows it."
                    )
            if lane.busy and on_busy == "reject":
                raise RunActive("This conversation has a run under way; wait for its end or stop it.")
            if on_busy == "steer":
                execution = self._steered.takes(lane, steer)
                if execution is not None:
                    seq = await self._steered.hand(lane, execution, brief.messages[0], receipt=receipt)
                    row = await self._recall.row(execution.input.run)
                    assert row is not None
                    return row, seq
            self._acceptance.refuse_when_full(lane)
            if lane.busy and (on_busy == "interrupt" or (on_busy == "steer" and lane.waiting is not None)):
                await self._stopping.request_cancel(lane, by=principal.user, reason="A newer message took its place.")
                await self._executions.advance(lane)
            run = await self._acceptance.accept(
                lane,
                principal,
                brief,
                agent=agent,
                parent=parent or lane.tip,
                receipt=receipt,
                begin=thread if new else None,
            )
            return run, run.first_seq

    async def branch(
        self,
        principal: Principal,
        thread: Thread,
        run: Run,
        brief: Brief,
        *,
        on_busy: OnBranch,
        receipt: Receipt,
    ) -> tuple[Run, int]:
        """Start a run beside `run`: on the message in `brief` (an edit), or without one on what `run` was asked (a retry).
        As `send`.

        Raises:
            RunActive, QueueFull, Unavailable, NotFound, InvalidRequest.
        """
        self._refuse_while_draining()
        async with self._lanes.use(thread) as lane:
            if lane.deleting:
                raise NotFound("There is no such conversation.")
            await self._refuse_replay(principal, receipt)
            made = await self._branching.branch(lane, principal, run, brief, on_busy=on_busy, receipt=receipt)
            return made, made.first_seq

    async def cancel(
        self, principal: Principal, thread: Thread, run: Run, *, reason: str | None, receipt: Receipt | None = None
    ) -> RunStatus:
        """Stop a run: dequeue it, stop its agent, or withdraw its open questions. An ended run's status is the answer.

        `receipt.result` is completed here; a cancel that finds nothing to do leaves it too, or its retry might stop what
        was begun in between.
        """

        def done(status: RunStatus) -> Receipt | None:
            answer = msgspec.json.encode({"run": run.id, "status": status})
            return None if receipt is None else receipt._replace(result=answer)

        async with self._lanes.use(thread) as lane:
            if receipt is not None:
                await self._refuse_replay(principal, receipt)
            if run.id == lane.running:
                await self._stopping.request_cancel(lane, by=principal.user, reason=reason, receipt=done("running"))
                return "running"
            for entry in lane.queue:
                if entry.run.id == run.id:
                    await self._stopping.dequeue(lane, entry, reason, done("cancelled"))
                    return "cancelled"
            if lane.waiting is not None and lane.waiting.run.id == run.id:
                await self._interrupts.withdraw(lane, by=principal.user, reason=reason, receipt=done("cancelled"))
                await self._executions.advance(lane)
                return "cancelled"
            rows = await self._store.runs(ids=[run.id])
            status = rows[0].status if rows else run.status
            if receipt is not None:
                await self._appender.write(lane, [], receipt=done(status))
            return status

    async def left_to_client(self, thread: Thread, run: Run) -> frozenset[str]:
        """The tool calls that `run` left to its client, those with a result too."""
        return await self._recall.left_to_client(thread, run)

    async def resolve(
        self,
        principal: Principal,
        thread: Thread,
        run: Run,
        answer: Answer,
        *,
        receipt: Receipt,
        brief: Brief | None = None,
    ) -> tuple[str | None, int]:
        """Take a person's answer to an interrupt, and what it says of the run that goes on with it: the resuming run's id if it was the last one open, and the seq.

        Raises:
            AlreadyDecided: somebody answered before. Expired: nobody did in time. NotFound: the run never asked that.
            InvalidRequest: the answer is not what was asked for; the question stays open.
        """
        if self.draining:
            raise Unavailable("The server is about to stop; answer again in a moment.", retry_after_ms=2_000)
        async with self._lanes.use(thread) as lane:
            await self._refuse_replay(principal, receipt)
            return await self._interrupts.resolve(lane, principal, run, answer, receipt=receipt, brief=brief)

    async def update(self, thread: Thread, *, title: str | None, pinned: bool | None) -> None:
        """Rename or pin."""
        async with self._lanes.use(thread) as lane:
            event = e.ThreadUpdated(title=UNSET if title is None else title, pinned=UNSET if pinned is None else pinned)
            await self._appender.write(lane, [event], title=title, pinned=pinned)

    async def delete(self, thread: Thread) -> None:
        """Stop what runs in the thread, then remove it. A delete that was begun is finished, also when its client is gone."""
        with anyio.CancelScope(shield=True):
            async with self._lanes.use(thread) as lane:
                lane.deleting = True
                try:
                    await self._stopping.request_cancel(lane, by="", reason="The conversation was deleted.")
                except BaseException:
                    lane.deleting = False
                    raise
                running = self._executions.get(lane.running)
            if running is not None:
                await running.ended.wait()
            async with self._lanes.use(thread) as lane:
                lane.deleting = False
                try:
                    await self._remove(lane)
                except StoreError:
                    await self._executions.advance(lane)  # the thread goes on as it was, and so does its queue
                    raise

    async def expire(self, thread: Thread, *, before: int) -> bool:
        """Remove a thread that was not changed since `before` and is not in use; whether it was so and is gone."""
        async with self._lanes.use(thread) as lane:
            row = await self._store.get_thread(thread.id)
            if row is None or row.pinned or row.updated_at >= before:
                return False
            if lane.busy or lane.deleting or self._hub.is_watched(thread.id):
                return False
            with anyio.CancelScope(shield=True):  # what is gone must be told
                await self._remove(lane)
            return True

    async def _remove(self, lane: Lane) -> None:
        """The lane's lock is held, nothing runs, the caller is shielded."""
        thread = lane.thread.id
        hidden = lane.thread.kind == "hidden"  # no list has it
        notices = [] if hidden else [e.ThreadUpdated(thread_id=thread, deleted=True)]
        written = await self._store.delete_thread(thread, fence=lane.fence, now=self._clock.now_ms(), notices=notices)
        if lane.waiting is not None:
            self._executions.parking.discard(lane.waiting.run.id)
        self._lanes.forget(lane)
        self._hub.deleted(thread)
        if written.inbox is not None:
            self._hub.push(written.inbox, written.notices)

    async def _refuse_replay(self, principal: Principal, receipt: Receipt) -> None:
        """I5: a command that is delivered twice at once acts once. The lane's lock is held, so the other one is through.

        Raises:
            SequenceConflict: it was carried out; its receipt has the answer.
        """
        if await self._store.receipt(principal, receipt.key) is not None:
            raise SequenceConflict(f"The command {receipt.key!r} was carried out before; its receipt has the answer.")

    # --- watchers ---------------------------------------------------------------------------------------------------

    def sender_gone(self, run: Run) -> None:
        """Whoever sent the message of this run and waited for its end has hung up."""
        self._watching.sender_gone(run.thread, run.id)

    def _runs_to_watch(self, thread: str) -> list[str]:
        """The runs of the thread, under way or queued, that are stopped when nobody watches them."""
        lane = self._lanes.find(thread)
        if lane is None or self.draining:
            return []
        execution = self._executions.get(lane.running)
        runs = [] if execution is None else [(execution.input.run, execution.brief, execution.agent)]
        agents = self._executions.agents
        runs += [(entry.run.id, entry.brief, agents.get(entry.run.agent)) for entry in lane.queue]
        return [
            run
            for run, brief, agent in runs
            if (brief.on_disconnect or getattr(agent, "on_disconnect", None) or self.limits.on_disconnect) == "cancel"
        ]

    async def _stop_unwatched(self, thread: str, runs: Collection[str]) -> None:
        lane = self._lanes.find(thread)
        if lane is None or self.draining:
            return
        try:
            async with self._lanes.use(lane.thread) as lane:
                if self._hub.watchers(thread) > 0:
                    return
                for entry in [entry for entry in lane.queue if entry.run.id in runs]:
                    await self._stopping.dequeue(lane, entry, NOBODY, None)
                if lane.running in runs:
                    await self._stopping.request_cancel(lane, by="", reason=NOBODY)
        except (LeaseLost, NotFound):
            pass  # another node drives it, or it was deleted
        except StoreError as error:
            logger.warning("unwatched runs could not be stopped", exc_info=error, extra={"action": "unwatched_failed"})

    # --- owning ---------------------------------------------------------------------------------------------------

    def _refuse_while_draining(self) -> None:
        if self.draining:
            raise Unavailable("The server is about to stop and takes no new messages.", retry_after_ms=2_000)

    async def _load(self, lane: Lane) -> None:
        await self._takeover.load(lane)

    def _on_lost(self, lane: Lane) -> None:
        if lane.waiting is not None:
            self._executions.parking.discard(lane.waiting.run.id)
        execution = self._executions.get(lane.running)
        if execution is not None:
            execution.cancel()

    async def _keep_leases(self) -> None:
        """A task of its own: nothing that takes long may keep the leases from being renewed."""
        while True:
            await anyio.sleep(self.limits.renew_s)
            try:
                self._strays = await self._lanes.renew()
            except Exception as error:  # the next round tries again; without it leases would run out
                logger.warning("leases could not be renewed", exc_info=error, extra={"action": "renew_failed"})

    async def _sweep(self) -> None:
        while True:
            await anyio.sleep(self.limits.renew_s)
            try:
                strays, self._strays = self._strays, []
                for stray in strays:
                    thread = await self._store.get_thread(stray)
                    if thread is not None:
                        await self._takeover.adopt(thread)
                await self._takeover.adopt_orphans()
                await self._expiry.sweep()
                await self._takeover.restart_stalled()
                await self._lanes.give_up_idle(self.limits.idle_s)
            except Exception as error:  # the next round tries again
                logger.warning("a sweep failed", exc_info=error, extra={"action": "sweep_failed"})
