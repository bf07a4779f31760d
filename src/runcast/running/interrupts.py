"""Questions to a person: taking the answers, starting the run that goes on with them, withdrawing what nobody will answer.

A run that waits has ended on the log (`RUN_FINISHED`, outcome `interrupt`) and needs no process. Its questions stand in its
lane until each is answered; the last answer and the start of the run that resumes it are one write.
"""

from __future__ import annotations

import msgspec
from msgspec import UNSET

from runcast import events as e
from runcast.events import Event
from runcast.ids import Clock, IdSource
from runcast.running.accepting import move, resumed
from runcast.running.appender import Appender
from runcast.running.executions import Executions
from runcast.running.lane import Lane, WaitingRun
from runcast.running.opening import started
from runcast.running.recall import Recall, decided
from runcast.runs import Answer, Principal, Run
from runcast.stores.base import Receipt


class Interrupts:
    def __init__(
        self, appender: Appender, executions: Executions, recall: Recall, *, clock: Clock, new_id: IdSource
    ) -> None:
        self._appender = appender
        self._executions = executions
        self._recall = recall
        self._clock = clock
        self._new_id = new_id

    async def resolve(
        self, lane: Lane, principal: Principal, run: Run, answer: Answer, *, receipt: Receipt
    ) -> tuple[str | None, int]:
        """Take an answer: the resuming run's id if it was the last one open, and the seq. The lane's lock is held.

        Raises:
            AlreadyDecided: somebody answered before. NotFound: the run never asked that.
        """
        waiting = lane.waiting
        if waiting is None or waiting.run.id != run.id or answer.interrupt_id not in waiting.interrupts:
            raise await self._recall.why_not(lane.thread, run, answer)
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
        ordered: tuple[Answer, ...] = ()
        moved, tip = dict[str, Run](), lane.tip
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
                first_seq=lane.head + 2,
            )
            ordered = tuple(answers[one] for one in waiting.interrupts)
            events.append(started(resuming, (), ordered))
            moved, tip = resumed(lane, run.id, resuming.id)
            runs = [msgspec.structs.replace(waiting.run, status="done"), *moved.values(), resuming]
        seq = lane.head + 1
        result = {
            "interrupt": answer.interrupt_id,
            "status": answer.status,
            "run": None if resuming is None else resuming.id,
            "seq": seq,
        }
        await self._appender.write(
            lane,
            events,
            runs=runs,
            head_run=None if resuming is None else tip,
            receipt=receipt._replace(result=msgspec.json.encode(result)),
        )
        waiting.answers = answers
        if resuming is None:
            return None, seq
        lane.waiting = None
        lane.tip = tip
        move(lane, moved)
        self._executions.launch(lane, resuming, (), principal, ordered)
        return resuming.id, seq

    async def withdraw(self, lane: Lane, *, by: str, receipt: Receipt | None = None) -> None:
        """Nobody will answer any more: the waiting run stands as cancelled and is not resumed. The lane's lock is held."""
        waiting = lane.waiting
        assert isinstance(waiting, WaitingRun)
        events = [
            e.InterruptResolved(interrupt_id=one, status="cancelled", by=by or UNSET, ends_run=True)
            for one in waiting.interrupts
            if one not in waiting.answers
        ]
        ended = msgspec.structs.replace(waiting.run, status="cancelled")
        await self._appender.write(lane, events, runs=[ended], receipt=receipt)
        lane.waiting = None
