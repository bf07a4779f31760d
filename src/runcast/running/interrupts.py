"""Questions to a person: taking the answers, starting the run that goes on with them, withdrawing what nobody will answer.

A run that waits has ended on the log (`RUN_FINISHED`, outcome `interrupt`) and needs no process. Its questions stand in its
lane until each is answered; the last answer and the start of the run that resumes it are one write.
"""

from __future__ import annotations

import logging

import anyio
import anyio.to_thread
import msgspec
from msgspec import UNSET

from runcast import events as e
from runcast.errors import InvalidRequest
from runcast.events import Event
from runcast.forms import BadForm, Fault, fault_of
from runcast.ids import Clock, IdSource
from runcast.running.accepting import move, resumed
from runcast.running.appender import Appender
from runcast.running.executions import Executions
from runcast.running.lane import Lane, WaitingRun
from runcast.running.opening import started
from runcast.running.parking import needs_memory
from runcast.running.recall import Recall, decided, expired
from runcast.runs import Answer, Brief, Principal, Run
from runcast.stores.base import Receipt, Store

logger = logging.getLogger("runcast.runner")

CHECKED_AT_ONCE = 4 * 1024
"""Bytes of an answer, as JSON, that is held against its form where it came; longer ones go to a thread: a form may ask much."""
CHECKS = 2
"""How many of those at the same time; the others wait."""


class Interrupts:
    def __init__(
        self,
        store: Store,
        appender: Appender,
        executions: Executions,
        recall: Recall,
        *,
        clock: Clock,
        new_id: IdSource,
    ) -> None:
        self._store = store
        self._appender = appender
        self._executions = executions
        self._recall = recall
        self._clock = clock
        self._new_id = new_id
        self._limiter = anyio.CapacityLimiter(CHECKS)

    async def resolve(
        self,
        lane: Lane,
        principal: Principal,
        run: Run,
        answer: Answer,
        *,
        receipt: Receipt,
        brief: Brief | None = None,
    ) -> tuple[str | None, int]:
        """Take an answer, and what it says of the run that goes on with it (`brief`): the resuming run's id if it was the last one open, and the seq. The lane's lock is held.

        Raises:
            AlreadyDecided: somebody answered before. Expired: nobody did in time. NotFound: the run never asked that.
            InvalidRequest: the answer is not what was asked for; the question stays open.
        """
        await self.expire(lane)
        waiting = lane.waiting
        if waiting is None or waiting.run.id != run.id or answer.interrupt_id not in waiting.interrupts:
            raise await self._recall.why_not(lane.thread, run, answer)
        if answer.interrupt_id in waiting.answers:
            before = waiting.answers[answer.interrupt_id]
            raise expired() if before.expired else decided(before.by)
        if answer.status == "resolved":
            await self._check(waiting, answer)
        event = e.InterruptResolved(
            interrupt_id=answer.interrupt_id,
            status=answer.status,
            payload=UNSET if answer.payload is None else answer.payload,
            by=answer.by,
        )
        seq = lane.head + 1
        resuming = await self._take(lane, waiting, {answer.interrupt_id: answer}, [event], principal, receipt, brief)
        return resuming, seq

    async def expire(self, lane: Lane) -> None:
        """What nobody answered in time counts as a no; the run goes on with it if there is somebody to. The lock is held."""
        waiting = lane.waiting
        now = self._clock.now_ms()
        due = [] if waiting is None else [id for id, one in waiting.open.items() if (one.expires_at or now + 1) <= now]
        if waiting is None or not due or self._executions.draining:
            return
        last = len(due) == len(waiting.open)
        if last and not await self._can_go_on(waiting.run):
            ends = [e.InterruptResolved(interrupt_id=one, status="expired", ends_run=True) for one in due]
            await self._end(lane, waiting, ends, "Nobody answered in time.")
            await self._executions.advance(lane)
            return
        answers = {one: Answer(interrupt_id=one, status="cancelled", expired=True) for one in due}
        events: list[Event] = [e.InterruptResolved(interrupt_id=one, status="expired") for one in due]
        principal = Principal(user=lane.thread.user, tenant=lane.thread.tenant)
        await self._take(lane, waiting, answers, events, principal, None)

    async def _check(self, waiting: WaitingRun, answer: Answer) -> None:
        schema = waiting.interrupts[answer.interrupt_id].schema
        fault: Fault | None = None
        try:
            if schema is not None and len(msgspec.json.encode(answer.payload)) <= CHECKED_AT_ONCE:
                fault = fault_of(schema, answer.payload)
            elif schema is not None:
                fault = await anyio.to_thread.run_sync(fault_of, schema, answer.payload, limiter=self._limiter)
        except BadForm as error:  # nobody could ever answer: better any answer than none
            logger.warning(
                "interrupt %s has an unusable schema: %s", answer.interrupt_id, error, extra={"action": "bad_form"}
            )
        fault = fault or self._executions.parking.fault(waiting.run.id, answer.interrupt_id, answer.payload)
        if fault is not None:
            where = fault.at.rpartition("/")[2] or "The answer"
            raise InvalidRequest(f"{where} {fault.why.rstrip('.')}.", at=fault.at)

    async def _can_go_on(self, run: Run) -> bool:
        if run.id in self._executions.parking:
            return True
        agent = self._executions.agents.get(run.agent)
        states = await self._store.agent_states([run.id])
        return agent is not None and not needs_memory(agent, states[0] if states else None)

    async def _take(
        self,
        lane: Lane,
        waiting: WaitingRun,
        given: dict[str, Answer],
        events: list[Event],
        principal: Principal,
        receipt: Receipt | None,
        brief: Brief | None = None,
    ) -> str | None:
        """Write these answers and, with the last, the start of the run that goes on with all: its id."""
        run = waiting.run
        resuming: Run | None = None
        answers = {**waiting.answers, **given}
        begins = Brief()
        moved, tip = dict[str, Run](), lane.tip
        dates = [one.expires_at for id, one in waiting.interrupts.items() if id not in answers and one.expires_at]
        waits = msgspec.structs.replace(run, expires_at=min(dates, default=None))
        runs = [waits]
        seq = lane.head + 1
        if len(answers) == len(waiting.interrupts):
            now = self._clock.now_ms()
            resuming = Run(
                id=self._new_id(),
                thread=run.thread,
                agent=run.agent,
                status="running",
                parent=run.id,
                resumes=run.id,
                created_at=now,
                started_at=now,
                first_seq=lane.head + len(events) + 1,
            )
            begins = going_on(waiting.brief, brief, tuple(answers[one] for one in waiting.interrupts))
            events = [*events, started(resuming, begins)]
            moved, tip = resumed(lane, run.id, resuming.id)
            runs = [msgspec.structs.replace(waits, status="done"), *moved.values(), resuming]
        if receipt is not None:
            [answer] = given.values()
            result = {
                "interrupt": answer.interrupt_id,
                "status": answer.status,
                "run": None if resuming is None else resuming.id,
                "seq": seq,
            }
            receipt = receipt._replace(result=msgspec.json.encode(result))
        await self._appender.write(lane, events, runs=runs, head_run=None if resuming is None else tip, receipt=receipt)
        waiting.answers, waiting.run = answers, waits
        if resuming is None:
            return None
        lane.waiting = None
        lane.tip = tip
        move(lane, moved)
        self._executions.launch(lane, resuming, begins, principal)
        return resuming.id

    async def withdraw(self, lane: Lane, *, by: str, reason: str | None = None, receipt: Receipt | None = None) -> None:
        """Nobody will answer any more: the waiting run stands as cancelled and is not resumed. The lane's lock is held."""
        waiting = lane.waiting
        assert isinstance(waiting, WaitingRun)
        events = [
            e.InterruptResolved(interrupt_id=one, status="cancelled", by=by or UNSET, ends_run=True)
            for one in waiting.open
        ]
        await self._end(lane, waiting, events, reason, receipt)

    async def _end(
        self,
        lane: Lane,
        waiting: WaitingRun,
        events: list[e.InterruptResolved],
        reason: str | None,
        receipt: Receipt | None = None,
    ) -> None:
        if reason:
            events = [msgspec.structs.replace(one, reason=reason) for one in events]
        ended = msgspec.structs.replace(waiting.run, status="cancelled", expires_at=None)
        await self._appender.write(lane, events, runs=[ended], receipt=receipt)
        lane.waiting = None
        self._executions.parking.discard(waiting.run.id)


def going_on(waiting: Brief, given: Brief | None, answers: tuple[Answer, ...]) -> Brief:
    """What a run begins with that goes on with `answers`: what they say of it, else what was said of the run that waits."""
    given = given or Brief()
    return Brief(
        answers=answers,
        client=given.client if given.client is not None else waiting.client,
        on_disconnect=given.on_disconnect or waiting.on_disconnect,
    )
