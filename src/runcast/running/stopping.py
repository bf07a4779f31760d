"""Stopping runs: the one under way, one that waits for an answer, one that waits its turn."""

from __future__ import annotations

from msgspec import UNSET

from runcast import events as e
from runcast.ids import Clock
from runcast.running.accepting import Stopped, leaving, move, moves
from runcast.running.appender import Appender
from runcast.running.executions import Executions
from runcast.running.interrupts import Interrupts
from runcast.running.lane import Lane, QueuedRun
from runcast.running.recall import Recall
from runcast.stores.base import Receipt


class Stopping:
    def __init__(
        self, appender: Appender, executions: Executions, interrupts: Interrupts, recall: Recall, *, clock: Clock
    ) -> None:
        self._appender = appender
        self._executions = executions
        self._interrupts = interrupts
        self._recall = recall
        self._clock = clock

    async def request_cancel(self, lane: Lane, *, by: str, reason: str | None, receipt: Receipt | None = None) -> None:
        """Make the cancel durable, then carry it out. The lane's lock is held."""
        if lane.waiting is not None:
            await self._interrupts.withdraw(lane, by=by, reason=reason)
        execution = self._executions.get(lane.running)
        if execution is None or execution.cancelling or (execution.stopped.is_set() and not execution.asks):
            if receipt is not None:
                await self._appender.write(lane, [], receipt=receipt)
            return
        event = e.RunCancelRequested(by=by or UNSET, reason=UNSET if reason is None else reason)
        await self._appender.write(lane, [e.of_run(event, execution.input.run)], receipt=receipt)
        execution.cancelling = True
        execution.cancel_reason = reason
        self._executions.stop_agent(execution)

    async def dequeue(self, lane: Lane, entry: QueuedRun, reason: str | None, receipt: Receipt | None) -> None:
        """Take a queued run back; what is queued behind it follows what it would have followed. The lane's lock is held."""
        event, ended = leaving(Stopped(entry.run, entry, reason), lane.head + 1, self._clock.now_ms())
        follows = await self._recall.follows_instead(lane.thread, entry.run)
        moved = moves(lane, entry.run.id, follows)
        tip = lane.tip
        if tip == entry.run.id:
            tip = follows or await self._recall.newest(lane.thread, but=entry.run.id) or tip
        await self._appender.write(lane, [event], runs=[*moved.values(), ended], receipt=receipt, head_run=tip)
        lane.queue.remove(entry)
        move(lane, moved)
        lane.tip = tip
