"""Drives agents into the log: accepts messages, starts, queues, cancels and ends runs, and finds those whose process died.

The runner decides; the store makes the decision durable and checks that it is still true. A run is told to nobody before
its first event is committed, and it ends with exactly one terminal event (I16), whatever its agent does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import anyio
import msgspec
from anyio.abc import TaskGroup
from msgspec import UNSET

from runcast import events as e
from runcast.agents.base import Agent
from runcast.ending import end_of, interrupted
from runcast.errors import (
    AgentError,
    InvalidRequest,
    LeaseLost,
    NotFound,
    QueueFull,
    RunActive,
    StoreError,
    Unavailable,
)
from runcast.events import Event
from runcast.execution import SHUTDOWN, Execution
from runcast.hub import Hub
from runcast.ids import Clock, IdSource
from runcast.lane import Lane, QueuedRun, WaitingRun
from runcast.lanes import Lanes
from runcast.opening import queued, started, title_of
from runcast.recall import Recall, decided
from runcast.runs import Answer, Message, OnBusy, Principal, Run, RunInput, RunStatus, Thread
from runcast.stores.base import Receipt, Store, Write

logger = logging.getLogger("runcast.runner")

_RETRY_DELAYS_S = (0.05, 0.2, 0.5)


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much and how long. Times are seconds."""

    run_timeout_s: float = 300.0
    """Wall-clock limit of a run whose agent does not say otherwise (`timeout_s`)."""
    queue_limit: int = 8
    """Messages that may wait in one thread."""
    cancel_deadline_s: float = 10.0
    """After this a cancelled run is over, even if its agent does not stop."""
    lease_ttl_s: float = 15.0
    renew_s: float = 5.0
    idle_s: float = 30.0
    """A thread without work is given up after this."""


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
        self.agents = {agent.name: agent for agent in agents}
        self.limits = limits
        self.draining = False
        self._store = store
        self._hub = hub
        self._clock = clock
        self._new_id = new_id
        self._app = app
        self._lanes = Lanes(
            store, clock=clock, node=new_id(), ttl_s=limits.lease_ttl_s, load=self._load, on_lost=self._on_lost
        )
        self._executions: dict[str, Execution] = {}
        self._unwritten: set[str] = set()
        """Runs whose end the store refuses."""
        self._agents: set[asyncio.Task[None]] = set()
        """What agents still do; of a run that has ended only if its agent did not stop."""
        self._recall = Recall(store, hub)
        self._tasks: TaskGroup | None = None

    # --- life -----------------------------------------------------------------------------------------------------

    async def start(self, tasks: TaskGroup) -> None:
        """Take over what a dead process left, then keep leases alive. `tasks` is where the runs will live."""
        self._tasks = tasks
        await self._adopt_orphans()
        tasks.start_soon(self._sweep)

    async def drain(self, timeout_s: float) -> None:
        """Accept no new runs; wait for those under way, at most `timeout_s`."""
        self.draining = True
        with anyio.move_on_after(timeout_s):
            for execution in tuple(self._executions.values()):
                await execution.ended.wait()

    async def stop(self) -> None:
        """End what still runs as *interrupted*, write everything, give the leases up."""
        self.draining = True
        for execution in tuple(self._executions.values()):
            execution.interrupted = SHUTDOWN
            self._stop_agent(execution)
        for execution in tuple(self._executions.values()):
            await execution.ended.wait()
        for lane in self._lanes.all():
            await self._lanes.give_up(lane)

    @property
    def active(self) -> int:
        """How many runs are under way."""
        return len(self._executions)

    @property
    def healthy(self) -> bool:
        """False while the store refuses what has to be written."""
        return not self._unwritten

    @property
    def unstoppable(self) -> int:
        """How many agents still work although their runs are over."""
        return len(self._agents) - sum(not execution.stopped.is_set() for execution in self._executions.values())

    # --- commands -------------------------------------------------------------------------------------------------

    async def send(
        self,
        principal: Principal,
        thread: Thread,
        message: Message,
        *,
        agent: str,
        on_busy: OnBusy,
        parent: str | None,
        receipt: Receipt,
    ) -> tuple[Run, int]:
        """Start a run on `message`, or queue it: the run and the seq of the event that holds the message.

        `receipt.result` is completed here: it is the JSON of `{"thread", "run", "seq", "status"}`.

        Raises:
            RunActive, QueueFull, Unavailable, InvalidRequest (a parent that is not of this thread).
        """
        if self.draining:
            raise Unavailable("The server is about to stop and takes no new messages.", retry_after_ms=2_000)
        async with self._lanes.use(thread) as lane:
            if lane.deleting:
                raise NotFound("There is no such conversation.")
            if parent is not None and not await self._store.runs(thread=thread.id, ids=[parent]):
                raise InvalidRequest(f"The parent run {parent!r} is not in this thread.")
            if lane.busy and on_busy == "reject":
                raise RunActive("This conversation has a run under way; wait for its end or stop it.")
            if lane.busy and len(lane.queue) >= self.limits.queue_limit:
                raise QueueFull(
                    f"{len(lane.queue)} messages are waiting in this conversation already; try again later."
                )
            if lane.busy and on_busy == "interrupt":
                await self._request_cancel(lane, by=principal.user, reason="A newer message took its place.")
                await self._advance(lane)
            now = self._clock.now_ms()
            status: RunStatus = "queued" if lane.busy else "running"
            run = Run(
                id=self._new_id(),
                thread=thread.id,
                agent=agent,
                status=status,
                parent=parent or lane.tip,
                message_id=message.id,
                created_at=now,
                started_at=None if lane.busy else now,
                first_seq=lane.head + 1,
            )
            answer = {"thread": thread.id, "run": run.id, "seq": run.first_seq, "status": status}
            title = None if lane.title else title_of(message)
            opening = queued(run, (message,)) if lane.busy else started(run, (message,))
            await self._write(
                lane,
                [opening],
                runs=[run],
                title=title,
                head_run=run.id,
                receipt=receipt._replace(result=msgspec.json.encode(answer)),
            )
            lane.tip = run.id
            if lane.busy:
                lane.queue.append(QueuedRun(run, (message,), principal))
            else:
                self._launch(lane, run, (message,), principal)
            return run, run.first_seq

    async def cancel(
        self, principal: Principal, thread: Thread, run: Run, *, reason: str | None, receipt: Receipt | None = None
    ) -> RunStatus:
        """Stop a run: dequeue it, stop its agent, or withdraw its open questions. An ended run's status is the answer.

        `receipt.result` is completed here, with the event that the cancel makes; one that finds nothing to do leaves none.
        """

        def done(status: RunStatus) -> Receipt | None:
            answer = msgspec.json.encode({"run": run.id, "status": status})
            return None if receipt is None else receipt._replace(result=answer)

        async with self._lanes.use(thread) as lane:
            if run.id == lane.running:
                await self._request_cancel(lane, by=principal.user, reason=reason, receipt=done("running"))
                return "running"
            for entry in lane.queue:
                if entry.run.id == run.id:
                    await self._dequeue(lane, entry, reason, done("cancelled"))
                    return "cancelled"
            if lane.waiting is not None and lane.waiting.run.id == run.id:
                await self._withdraw(lane, lane.waiting, by=principal.user, receipt=done("cancelled"))
                await self._advance(lane)
                return "cancelled"
            rows = await self._store.runs(ids=[run.id])
            return rows[0].status if rows else run.status

    async def resolve(
        self, principal: Principal, thread: Thread, run: Run, answer: Answer, *, receipt: Receipt
    ) -> tuple[str | None, int]:
        """Take a person's answer to an interrupt: the resuming run's id if it was the last one open, and the seq.

        Raises:
            AlreadyDecided: somebody answered before. NotFound: the run never asked that.
        """
        if self.draining:
            raise Unavailable("The server is about to stop; answer again in a moment.", retry_after_ms=2_000)
        async with self._lanes.use(thread) as lane:
            waiting = lane.waiting
            if waiting is None or waiting.run.id != run.id or answer.interrupt_id not in waiting.interrupts:
                raise await self._recall.why_not(thread, run, answer)
            if answer.interrupt_id in waiting.answers:
                raise decided(waiting.answers[answer.interrupt_id].by)
            event = e.InterruptResolved(
                interrupt_id=answer.interrupt_id,
                status=answer.status,
                payload=UNSET if answer.payload is None else answer.payload,
                by=answer.by,
            )
            events: list[Event] = [event]
            runs: list[Run] = []
            resuming: Run | None = None
            answers = {**waiting.answers, answer.interrupt_id: answer}
            if len(answers) == len(waiting.interrupts):
                now = self._clock.now_ms()
                resuming = Run(
                    id=self._new_id(),
                    thread=thread.id,
                    agent=run.agent,
                    status="running",
                    parent=run.id,
                    resumes=run.id,
                    created_at=now,
                    started_at=now,
                    first_seq=lane.head + 2,
                )
                ordered = tuple(answers[one] for one in waiting.interrupts)
                events.append(started(resuming, (), ordered))
                runs = [msgspec.structs.replace(waiting.run, status="done"), resuming]
            seq = lane.head + 1
            result = {
                "interrupt": answer.interrupt_id,
                "status": answer.status,
                "run": None if resuming is None else resuming.id,
                "seq": seq,
            }
            await self._write(
                lane,
                events,
                runs=runs,
                head_run=None if resuming is None else resuming.id,
                receipt=receipt._replace(result=msgspec.json.encode(result)),
            )
            waiting.answers = answers
            if resuming is None:
                return None, seq
            lane.waiting = None
            lane.tip = resuming.id
            self._launch(lane, resuming, (), principal, tuple(answers[one] for one in waiting.interrupts))
            return resuming.id, seq

    async def update(self, thread: Thread, *, title: str | None, pinned: bool | None) -> None:
        """Rename or pin."""
        async with self._lanes.use(thread) as lane:
            event = e.ThreadUpdated(title=UNSET if title is None else title, pinned=UNSET if pinned is None else pinned)
            await self._write(lane, [event], title=title, pinned=pinned)

    async def delete(self, thread: Thread) -> None:
        """Stop what runs in the thread, then remove it."""
        async with self._lanes.use(thread) as lane:
            lane.deleting = True
            try:
                await self._request_cancel(lane, by="", reason="The conversation was deleted.")
            except BaseException:
                lane.deleting = False
                raise
            running = self._executions.get(lane.running or "")
        if running is not None:
            await running.ended.wait()
        async with self._lanes.use(thread) as lane:
            lane.deleting = False  # if it fails here, the thread goes on as it was
            notice = e.ThreadUpdated(thread_id=thread.id, deleted=True)
            written = await self._store.delete_thread(
                thread.id, fence=lane.fence, now=self._clock.now_ms(), notices=[notice]
            )
            self._lanes.forget(lane)
            self._hub.deleted(thread.id)
            if written.inbox is not None:
                self._hub.push(written.inbox, written.notices)

    # --- the life of a run ----------------------------------------------------------------------------------------

    def _launch(
        self,
        lane: Lane,
        run: Run,
        messages: tuple[Message, ...],
        principal: Principal,
        answers: tuple[Answer, ...] = (),
    ) -> None:
        """Its first event is in the log: let the agent work. The lane's lock is held."""
        assert self._tasks is not None, "the runner was not started"
        agent = self.agents.get(run.agent) or _MissingAgent(run.agent)
        execution = Execution(
            agent,
            RunInput(
                thread=run.thread,
                run=run.id,
                agent=run.agent,
                messages=messages,
                parent=run.parent,
                resumes=run.resumes,
                answers=answers,
            ),
            principal,
            clock=self._clock,
            new_id=self._new_id,
            history=lambda: self._recall.history(lane.thread, run),
            app=self._app,
            limit_s=getattr(agent, "timeout_s", None) or self.limits.run_timeout_s,
        )
        lane.running = run.id
        lane.users += 1
        self._executions[run.id] = execution
        self._hub.hold(run.thread)
        self._tasks.start_soon(self._execute, lane, run, execution)

    async def _execute(self, lane: Lane, run: Run, execution: Execution) -> None:
        """The whole life of a run on this node. Shielded: a run is stopped by stopping its agent. Its end is written
        whatever happens around it, also when the event loop is being shut down and cancels every task."""
        with anyio.CancelScope(shield=True):
            failed = False
            try:
                failed = await self._pump(lane, run, execution)
            finally:
                if not failed and not execution.has_ending:
                    execution.interrupted = SHUTDOWN  # this task itself is being cancelled
                execution.cancel()
                execution.seal()
                try:
                    await self._finish(lane, run, execution, failed=failed)
                except Exception:
                    logger.exception("run %s could not be ended", run.id, extra={"action": "run_unended"})
                    self._lanes.forget(lane)  # whoever takes the thread next ends it from the log
                finally:
                    self._unwritten.discard(run.id)
                    self._executions.pop(run.id, None)
                    self._hub.let_go(run.thread)
                    self._lanes.leave(lane)
                    execution.ended.set()

    async def _pump(self, lane: Lane, run: Run, execution: Execution) -> bool:
        """Let the agent work and write what it gives, group by group; whether the writing failed."""
        too_late = asyncio.get_running_loop().call_later(
            execution.limit_s + self.limits.cancel_deadline_s, execution.give_up
        )
        try:
            execution.context.state = await self._recall.state(lane.thread, run)
            # Not in the task group: an agent that never stops must not keep the server from stopping.
            agent = asyncio.create_task(execution.drive())  # noqa: TID251
            self._agents.add(agent)
            agent.add_done_callback(self._agents.discard)
            while group := await execution.next_group():
                async with lane.lock:
                    await self._append(lane, group)
            return False
        except Exception as error:  # mostly the store's; a defect of ours must not take the server down either
            execution.error = error
            execution.cancel()
            with anyio.move_on_after(self.limits.cancel_deadline_s):
                await execution.stopped.wait()
            return True
        finally:
            too_late.cancel()

    async def _finish(self, lane: Lane, run: Run, execution: Execution, *, failed: bool) -> None:
        """Write what is left, what closes it and the terminal event; then start what is next in the thread."""
        end = end_of(run, execution, self._new_id)
        rest = execution.drain()
        closing: list[Event] | None = None if failed else [*rest, *execution.recorder.close(end.status)]
        delays = iter(_RETRY_DELAYS_S)
        while not lane.lost:
            try:
                async with lane.lock:
                    if closing is None:
                        # I4: what the store refused was seen by nobody and is dropped; the log alone says what is open.
                        closing = (await self._recall.recorder(lane.thread, run)).close(end.status)
                    events = [*closing, e.of_run(end.terminal, run.id)]
                    code = end.terminal.code if isinstance(end.terminal, e.RunError) else UNSET
                    ended = msgspec.structs.replace(
                        run,
                        status=end.status,
                        ended_at=self._clock.now_ms(),
                        last_seq=lane.head + len(events),
                        code=None if code is UNSET else code,
                    )
                    await self._write(lane, events, runs=[ended], agent_state=execution.context.saved)
                    self._unwritten.discard(run.id)
                    lane.running = None
                    if end.interrupts:
                        lane.waiting = WaitingRun(ended, end.interrupts)
                    await self._advance(lane)
                    break
            except LeaseLost:
                return
            except StoreError:
                # I21: the end is written as soon as the store takes it; until then the node says that it is not well.
                self._unwritten.add(run.id)
                if lane.running is None:
                    break  # the end stands; only the next run could not be started: the sweep finds it
                closing = None
                if self.draining:
                    return
                await anyio.sleep(next(delays, 1.0))
        if self._tasks is not None and not self.draining and not lane.lost:
            self._tasks.start_soon(self._keep, lane.thread)

    async def _advance(self, lane: Lane) -> None:
        """Start the next queued run if the thread is free. The lane's lock is held."""
        if lane.running is not None or lane.waiting is not None or not lane.queue or self.draining or lane.deleting:
            return
        entry = lane.queue[0]
        run = msgspec.structs.replace(entry.run, status="running", started_at=self._clock.now_ms())
        await self._write(lane, [started(run, entry.messages)], runs=[run], head_run=run.id)
        lane.queue.popleft()
        self._launch(lane, run, entry.messages, entry.principal)

    # --- stopping -------------------------------------------------------------------------------------------------

    async def _request_cancel(self, lane: Lane, *, by: str, reason: str | None, receipt: Receipt | None = None) -> None:
        """Make the cancel durable, then carry it out. The lane's lock is held."""
        if lane.waiting is not None:
            await self._withdraw(lane, lane.waiting, by=by)
        execution = self._executions.get(lane.running or "")
        if execution is None or execution.cancelling or execution.stopped.is_set():
            return
        event = e.RunCancelRequested(by=by or UNSET, reason=UNSET if reason is None else reason)
        await self._write(lane, [e.of_run(event, execution.input.run)], receipt=receipt)
        execution.cancelling = True
        execution.cancel_reason = reason
        self._stop_agent(execution)

    def _stop_agent(self, execution: Execution) -> None:
        assert self._tasks is not None
        execution.cancel()
        self._tasks.start_soon(self._enforce, execution)

    async def _enforce(self, execution: Execution) -> None:
        with anyio.move_on_after(self.limits.cancel_deadline_s):
            await execution.stopped.wait()
            return
        logger.warning("an agent did not stop in time", extra={"action": "cancel_overdue", "run": execution.input.run})
        execution.seal()

    async def _dequeue(self, lane: Lane, entry: QueuedRun, reason: str | None, receipt: Receipt | None) -> None:
        now = self._clock.now_ms()
        event = e.of_run(e.RunDequeued(reason=UNSET if reason is None else reason), entry.run.id)
        run = msgspec.structs.replace(entry.run, status="cancelled", ended_at=now, last_seq=lane.head + 1)
        await self._write(lane, [event], runs=[run], receipt=receipt)
        lane.queue.remove(entry)

    async def _withdraw(self, lane: Lane, waiting: WaitingRun, *, by: str, receipt: Receipt | None = None) -> None:
        """Nobody will answer any more: the waiting run stands as cancelled and is not resumed."""
        events = [
            e.InterruptResolved(interrupt_id=one, status="cancelled", by=by or UNSET, ends_run=True)
            for one in waiting.interrupts
            if one not in waiting.answers
        ]
        ended = msgspec.structs.replace(waiting.run, status="cancelled")
        await self._write(lane, events, runs=[ended], receipt=receipt)
        lane.waiting = None

    # --- writing --------------------------------------------------------------------------------------------------

    async def _write(
        self,
        lane: Lane,
        events: Sequence[Event],
        *,
        runs: Sequence[Run] = (),
        title: str | None = None,
        pinned: bool | None = None,
        head_run: str | None = None,
        receipt: Receipt | None = None,
        agent_state: Any = None,
    ) -> None:
        """`_append` for a command: a write that was begun is waited for, also when its client is gone."""
        now = self._clock.now_ms()
        notices: list[Event] = []
        if runs or title is not None or pinned is not None:
            newest = runs[-1] if runs else None
            notices.append(
                e.ThreadUpdated(
                    thread_id=lane.thread.id,
                    title=title if title is not None else lane.title,
                    pinned=UNSET if pinned is None else pinned,
                    head_run=UNSET if head_run is None else head_run,
                    created_at=lane.thread.created_at,
                    updated_at=now,
                    run=UNSET
                    if newest is None
                    else e.RunSummary(id=newest.id, agent=newest.agent, status=newest.status),
                )
            )
        with anyio.CancelScope(shield=True):
            await self._append(
                lane,
                events,
                runs=runs,
                title=title,
                pinned=pinned,
                head_run=head_run,
                receipt=receipt,
                agent_state=agent_state,
                notices=notices,
            )
            if title is not None:
                lane.title = title

    async def _append(self, lane: Lane, events: Sequence[Event], **rows: Any) -> None:
        """Append, then tell. The lane's lock is held; the caller shields it, for a write half known is a lane lost."""
        if lane.lost:
            raise LeaseLost("This node no longer owns the thread.")
        write = Write(thread=lane.thread.id, fence=lane.fence, expected_seq=lane.head, events=events, **rows)
        try:
            written = await self._store.append(write, now=self._clock.now_ms())
        except LeaseLost:
            self._lanes.lose(lane)
            raise
        lane.head += len(events)
        self._hub.push(lane.thread.id, written.records)
        if written.inbox is not None:
            self._hub.push(written.inbox, written.notices)

    async def _keep(self, thread: Thread) -> None:
        try:
            await self._hub.keep(thread)
        except Exception as error:  # a snapshot only saves time: the log is whole without it
            logger.warning("a snapshot could not be kept", exc_info=error, extra={"action": "snapshot_failed"})

    # --- taking over ----------------------------------------------------------------------------------------------

    async def _load(self, lane: Lane) -> None:
        """Bring a lane just acquired up to how its thread stands. A run without a living process is ended here."""
        thread = lane.thread
        principal = Principal(user=thread.user, tenant=thread.tenant)
        for run in await self._store.runs(thread=thread.id, status=["queued", "running", "waiting"]):
            if run.status == "running":
                await self._end_dead(lane, run)
            elif run.status == "waiting":
                lane.waiting = await self._recall.waiting(thread, run)
            else:
                lane.queue.append(QueuedRun(run, await self._recall.messages(run), principal))
        lane.tip = lane.queue[-1].run.id if lane.queue else thread.head_run
        await self._advance(lane)

    async def _end_dead(self, lane: Lane, run: Run) -> None:
        """I21, I23: the process of this run is gone; close what it left open and say so."""
        recorder = await self._recall.recorder(lane.thread, run)
        terminal = e.of_run(interrupted("The server was restarted while this run was under way."), run.id)
        events = [*recorder.close("interrupted"), terminal]
        ended = msgspec.structs.replace(
            run,
            status="interrupted",
            ended_at=self._clock.now_ms(),
            last_seq=lane.head + len(events),
            code="interrupted",
        )
        await self._write(lane, events, runs=[ended])
        logger.warning("run %s was interrupted", run.id, extra={"action": "run_interrupted", "run": run.id})

    async def _adopt_orphans(self) -> None:
        for orphan in await self._store.orphans(now=self._clock.now_ms()):
            try:
                async with self._lanes.use(orphan.thread):
                    pass  # acquiring the lane ends dead runs and starts queued ones
            except (LeaseLost, NotFound):
                continue
            except Exception:  # one thread that cannot be taken over must not keep the others waiting
                logger.exception(
                    "thread %s could not be taken over", orphan.thread.id, extra={"action": "sweep_failed"}
                )

    async def _sweep(self) -> None:
        while True:
            await anyio.sleep(self.limits.renew_s)
            try:
                await self._lanes.renew()
                await self._adopt_orphans()
                await self._lanes.give_up_idle(self.limits.idle_s)
            except Exception as error:  # the next round tries again; without a sweep leases would run out
                logger.warning("a sweep failed", exc_info=error, extra={"action": "sweep_failed"})

    def _on_lost(self, lane: Lane) -> None:
        execution = self._executions.get(lane.running or "")
        if execution is not None:
            execution.cancel()


class _MissingAgent:
    """Stands in for an agent that the log names and this server no longer has."""

    description = ""

    def __init__(self, name: str) -> None:
        self.name = name

    async def run(self, input: RunInput, context: Any) -> AsyncIterator[Event]:
        raise AgentError(f"This server has no agent {self.name!r} any more.", code="unknown_agent")
        yield  # an async generator
