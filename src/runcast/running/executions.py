"""The runs under way on this node: from the first event in the log to the last, then what is next in the thread.

A run is stopped by stopping its agent; the run's own task is shielded, so that its end is written whatever happens around
it. It ends with exactly one terminal event (I16), whatever its agent does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from typing import Any

import anyio
import msgspec
from anyio.abc import TaskGroup
from msgspec import UNSET

from runcast import events as e
from runcast.agents.base import Agent, Turn
from runcast.errors import AgentError, LeaseLost, NotFound, StoreError
from runcast.events import Event
from runcast.hub import Hub
from runcast.ids import Clock, IdSource
from runcast.running.appender import Appender
from runcast.running.ending import end_of
from runcast.running.execution import SHUTDOWN, Execution
from runcast.running.lane import Lane, WaitingRun
from runcast.running.lanes import Lanes
from runcast.running.limits import Limits
from runcast.running.opening import opened, queued
from runcast.running.parking import Parking, Unparked
from runcast.running.recall import Recall
from runcast.running.recorder import Recorder
from runcast.running.restarting import GoesOn, Restarting, policy_of
from runcast.running.unread import join, requeued
from runcast.running.watchdog import Driven
from runcast.runs import Brief, ClientInput, Message, Principal, Run, RunInput, Thread
from runcast.stores.files import Files

logger = logging.getLogger("runcast.runner")

_RETRY_DELAYS_S = (0.05, 0.2, 0.5)


class Executions:
    def __init__(
        self,
        agents: Sequence[Agent],
        appender: Appender,
        lanes: Lanes,
        hub: Hub,
        recall: Recall,
        restarting: Restarting,
        *,
        clock: Clock,
        new_id: IdSource,
        limits: Limits,
        app: Mapping[str, Any],
        files: Callable[[], Files],
    ) -> None:
        self.agents = {agent.name: agent for agent in agents}
        self.draining = False
        """Nothing new begins: the server is about to stop."""
        self._appender = appender
        self._lanes = lanes
        self._hub = hub
        self._recall = recall
        self._restarting = restarting
        self._clock = clock
        self._new_id = new_id
        self._limits = limits
        self._app = app
        self._files = files
        self._by_run: dict[str, Execution] = {}
        self._unwritten: set[str] = set()
        """Runs whose end the store refuses."""
        self._tasks_of_agents: set[asyncio.Task[None]] = set()
        """What agents still do; of a run that has ended only if its agent did not stop."""
        self._tasks: TaskGroup | None = None
        self.parking = Parking(limits.parked_limit)

    def start(self, tasks: TaskGroup) -> None:
        """`tasks` is where the runs will live."""
        self._tasks = tasks

    def get(self, run: str | None) -> Execution | None:
        return self._by_run.get(run or "")

    async def wait(self) -> None:
        """Until all that run now have ended."""
        for execution in tuple(self._by_run.values()):
            await execution.ended.wait()

    async def interrupt_all(self) -> None:
        """End all as *interrupted* and wait until that is written."""
        for execution in tuple(self._by_run.values()):
            if not execution.stopped.is_set():
                execution.interrupted = SHUTDOWN
                self.stop_agent(execution)
        await self.wait()
        await self.parking.clear(self._limits.cancel_deadline_s)

    @property
    def active(self) -> int:
        """How many runs are under way."""
        return len(self._by_run)

    @property
    def driven(self) -> list[Driven]:
        """The runs under way, for the watchdog; it asks from a thread of its own."""
        return [Driven(one.input.run, one.agent.name) for one in tuple(self._by_run.values())]

    @property
    def healthy(self) -> bool:
        """False while the store refuses the end of a run."""
        return not self._unwritten

    @property
    def unstoppable(self) -> int:
        """How many agents still work although their runs are over."""
        working = sum(not one.stopped.is_set() for one in self._by_run.values())
        return len(self._tasks_of_agents) - working - len(self.parking)

    # --- beginning ------------------------------------------------------------------------------------------------

    def launch(
        self,
        lane: Lane,
        run: Run,
        brief: Brief,
        principal: Principal,
        *,
        attempt: int = 1,
        recorder: Recorder | None = None,
        left: Turn | None = None,
        handed: Sequence[Message] = (),
    ) -> None:
        """The run's first event is in the log: let the agent work. The lane's lock is held.

        `attempt`, `recorder`, `left`: of a run that is taken up again (`GoesOn`); `handed`, what was said to it meanwhile and
        not read.
        """
        assert self._tasks is not None, "the runner was not started"
        agent = self.agents.get(run.agent) or _MissingAgent(run.agent)
        limit_s = getattr(agent, "timeout_s", None) or self._limits.run_timeout_s
        parked = self.parking.take(run.resumes)
        if run.resumes is not None and parked is None:
            agent = Unparked(agent)
        execution = Execution(
            agent,
            RunInput(
                thread=run.thread,
                run=run.id,
                agent=run.agent,
                messages=brief.messages,
                parent=run.parent,
                resumes=run.resumes,
                answers=brief.answers,
                tool_results=brief.tool_results,
                client=brief.client or ClientInput(),
                attempt=attempt,
            ),
            principal,
            clock=self._clock,
            new_id=self._new_id,
            history=lambda: self._recall.history(lane.thread, run),
            app=self._app,
            files=self._files,
            limit_s=limit_s,
            parking=self.parking,
            answer_timeout_s=self._limits.answer_timeout_s,
            goes_on=parked,
            recorder=recorder,
            left=left,
            on_disconnect=brief.on_disconnect,
        )
        for message in handed:
            execution.handed.hand(message)
        lane.running = run.id
        lane.users += 1
        self._by_run[run.id] = execution
        self._hub.hold(run.thread)
        self._tasks.start_soon(self._execute, lane, run, execution)

    async def advance(self, lane: Lane) -> None:
        """Start the next queued run if the thread is free. The lane's lock is held."""
        if lane.running is not None or lane.waiting is not None or not lane.queue or self.draining or lane.deleting:
            return
        entry = lane.queue[0]
        run = msgspec.structs.replace(
            entry.run, status="running", started_at=entry.run.not_before(self._clock.now_ms())
        )
        await self._appender.write(lane, opened(run, entry.brief), runs=[run])
        lane.queue.popleft()
        self.launch(lane, run, entry.brief, entry.principal)

    # --- under way ------------------------------------------------------------------------------------------------

    async def _execute(self, lane: Lane, run: Run, execution: Execution) -> None:
        """The whole life of a run on this node. Shielded: its end is written whatever happens around it, also when the
        event loop is being shut down and cancels every task."""
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
                    if execution.parked and (lane.lost or lane.waiting is None or lane.waiting.run.id != run.id):
                        self.parking.discard(run.id)
                    self._unwritten.discard(run.id)
                    if self._by_run.get(run.id) is execution:
                        del self._by_run[run.id]
                    self._hub.let_go(run.thread)
                    self._lanes.leave(lane)
                    execution.ended.set()

    async def _pump(self, lane: Lane, run: Run, execution: Execution) -> bool:
        """Let the agent work and write what it gives, group by group; whether the writing failed."""
        too_late = asyncio.get_running_loop().call_later(
            execution.limit_s + self._limits.cancel_deadline_s, execution.give_up
        )
        try:
            execution.context.state = await self._recall.state(lane.thread, run)
            execution.offer_by(partial(self._appender.offer, lane, execution))
            await execution.take_clients_state()
            if execution.driver is execution:
                # Not in the task group: an agent that never stops must not keep the server from stopping.
                agent = asyncio.create_task(execution.drive())  # noqa: TID251
                self._tasks_of_agents.add(agent)
                agent.add_done_callback(self._tasks_of_agents.discard)
            else:
                execution.go_on()
            while (group := await execution.next_group()) is not None:
                # Before anything waits: it must not be ahead of the log.
                checkpoint = execution.context.take_checkpoint()
                async with lane.lock:
                    await self._appender.events(lane, group, checkpoint)
            if execution.leaves:  # the answer calls it again: it must not be at work twice
                execution.cancel()
                with anyio.move_on_after(self._limits.cancel_deadline_s):
                    await execution.driver.done.wait()
            return False
        except Exception as error:  # mostly the store's; a defect of ours must not take the server down either
            execution.error = error
            execution.cancel()
            with anyio.move_on_after(self._limits.cancel_deadline_s):
                await execution.stopped.wait()
            return True
        finally:
            too_late.cancel()

    async def _finish(self, lane: Lane, run: Run, execution: Execution, *, failed: bool) -> None:
        """Write what is left, what closes it and the terminal event; then start what is next in the thread."""
        if lane.lost:
            return  # whoever has the thread ends the run, if the thread is still there
        if not failed and await self._leave(lane, run, execution):
            return
        end = end_of(run, execution, self._new_id)
        rest = execution.drain()
        closing: list[Event] | None = None
        if not failed:
            closing = [*rest, *execution.recorder.close(end.status, unanswered=end.pending)]
        delays = iter(_RETRY_DELAYS_S)
        while not lane.lost:
            try:
                async with lane.lock:
                    unread = execution.handed.unread
                    if end.status == "waiting" and execution.cancelling:  # Stop came while the question was on its way
                        end = end_of(run, execution, self._new_id)
                        closing = None if closing is None else [*closing, *execution.recorder.close(end.status)]
                    if closing is None:
                        # I4: what the store refused was seen by nobody and is dropped; the log alone says what is open.
                        self._hub.note_head(lane.thread.id, lane.head)
                        closing = (await self._recall.recorder(lane.thread, run)).close(
                            end.status, unanswered=end.pending
                        )
                        unread = await self._recall.unread(lane.thread, run.id)
                    events = [*closing, e.of_run(end.terminal, run.id)]
                    now = self._clock.now_ms()
                    left = requeued(
                        lane,
                        run,
                        unread,
                        execution.principal,
                        first_seq=lane.head + len(events) + 1,
                        new_id=self._new_id,
                        now=now,
                    )
                    code = end.terminal.code if isinstance(end.terminal, e.RunError) else UNSET
                    ended = msgspec.structs.replace(
                        run,
                        status=end.status,
                        ended_at=run.not_before(now),
                        last_seq=lane.head + len(events),
                        code=None if code is UNSET else code,
                        expires_at=end.expires_at,
                    )
                    asked = end.interrupts and (execution.parked or execution.leaves)
                    state = execution.asked_state if asked else execution.context.saved
                    await self._appender.write(
                        lane,
                        [*events, *(queued(entry.run, entry.brief) for entry in left)],
                        runs=[ended, *(entry.run for entry in left)],
                        head_run=left[-1].run.id if left else None,
                        agent_state=state,
                    )
                    join(lane, left)
                    for message in unread:  # a parked agent goes on: it must not read what runs by itself
                        execution.handed.take(message)
                    self._unwritten.discard(run.id)
                    lane.running = None
                    if end.interrupts:
                        lane.waiting = WaitingRun(ended, end.interrupts, execution.brief)
                    await self.advance(lane)
                    break
            except (LeaseLost, NotFound):
                return  # another node has the thread, or has deleted it
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

    async def _leave(self, lane: Lane, run: Run, execution: Execution) -> bool:
        """A run that the next process can take up again is not ended by the stop of this one, only left."""
        stopped = execution.interrupted == SHUTDOWN and not execution.cancelling and execution.error is None
        if not stopped or policy_of(execution.agent) == "never" or lane.lost:
            return False
        rest: list[Event] = []
        try:
            async with lane.lock:
                checkpoint = execution.context.take_checkpoint()
                if (rest := execution.drain()) or checkpoint is not None:
                    await self._appender.events(lane, rest, checkpoint)
                    rest = []
                self._hub.note_head(lane.thread.id, lane.head)
                verdict = await self._restarting.judge(lane.thread, run, execution.agent)
        except LeaseLost:
            return True  # another owner decides
        except StoreError:
            execution.go_the_long_way(rest)
            return False
        if isinstance(verdict, GoesOn):
            fields = {"action": "run_left", "run": run.id}
            logger.info("run %s is left to the next process", run.id, extra=fields)
        return isinstance(verdict, GoesOn)

    async def _keep(self, thread: Thread) -> None:
        try:
            await self._hub.keep(thread)
        except Exception as error:  # a snapshot only saves time: the log is whole without it
            logger.warning("a snapshot could not be kept", exc_info=error, extra={"action": "snapshot_failed"})

    # --- stopping -------------------------------------------------------------------------------------------------

    def stop_agent(self, execution: Execution) -> None:
        """Stop the agent; after the deadline the run ends without it."""
        assert self._tasks is not None
        execution.cancel()
        self._tasks.start_soon(self._enforce, execution)

    async def _enforce(self, execution: Execution) -> None:
        with anyio.move_on_after(self._limits.cancel_deadline_s):
            await execution.stopped.wait()
            return
        logger.warning("an agent did not stop in time", extra={"action": "cancel_overdue", "run": execution.input.run})
        execution.abandon()


class _MissingAgent:
    """Stands in for an agent that the log names and this server no longer has."""

    description = ""

    def __init__(self, name: str) -> None:
        self.name = name

    async def run(self, input: RunInput, context: Any) -> AsyncIterator[Event]:
        raise AgentError(f"This server has no agent {self.name!r} any more.", code="unknown_agent")
        yield  # an async generator
