"""Edit and retry: a run beside another, with that one's parent, so that a thread is a tree of runs.

What was asked is in the first run of a chain of runs that go on with each other's answers: that one's parent is the new
run's, wherever in the chain the edit was made. A run that goes on, waits or is queued is stopped for the new one, which takes
its place: what was queued behind it follows the new one. Two runs never run at once (I17).
"""

from __future__ import annotations

import msgspec

from runcast.errors import InvalidRequest, RunActive
from runcast.running.accepting import Acceptance, Stopped
from runcast.running.executions import Executions
from runcast.running.interrupts import Interrupts
from runcast.running.lane import Lane
from runcast.running.recall import Recall
from runcast.running.stopping import Stopping
from runcast.runs import Brief, OnBranch, Principal, Run
from runcast.stores.base import Receipt

REASON = "Another version took its place."


class Branching:
    def __init__(
        self,
        acceptance: Acceptance,
        executions: Executions,
        interrupts: Interrupts,
        stopping: Stopping,
        recall: Recall,
    ) -> None:
        self._acceptance = acceptance
        self._executions = executions
        self._interrupts = interrupts
        self._stopping = stopping
        self._recall = recall

    async def branch(
        self,
        lane: Lane,
        principal: Principal,
        run: Run,
        brief: Brief,
        *,
        on_busy: OnBranch,
        receipt: Receipt,
    ) -> Run:
        """Start a run beside `run` on `brief`; one without a message is asked what `run` was asked. The lane's lock is held.

        Raises:
            InvalidRequest: there is nothing to ask again, or its message has the id of another. RunActive, QueueFull.
        """
        first = await self._recall.first_of(run)
        for message in brief.messages:
            if await self._recall.has_message(lane.thread, message.id):
                raise InvalidRequest(
                    f"The id {message.id!r} is another message's in this thread: an edit needs a new one."
                )
        if not brief.messages:
            brief = again(await self._recall.brief(first), brief)
        if not brief.messages and not brief.tool_results:
            raise InvalidRequest(f"The run {run.id!r} was asked nothing that could be asked again.")
        stopped = await self._stop(lane, principal, first)
        if stopped is None and lane.busy:
            if on_busy == "reject":
                raise RunActive("This conversation has a run under way; wait for its end or stop it.")
            self._acceptance.refuse_when_full(lane)
            if on_busy == "interrupt":
                await self._stopping.request_cancel(lane, by=principal.user, reason="A newer message took its place.")
                await self._executions.advance(lane)
        parent = await self._recall.standing(lane.thread, first.parent)
        if stopped is not None and stopped.entry is not None:
            parent = stopped.entry.run.parent  # what it was to follow may have changed since it was accepted
        return await self._acceptance.accept(
            lane,
            principal,
            brief,
            agent=first.agent,
            parent=parent,
            receipt=receipt,
            stopped=stopped,
        )

    async def _stop(self, lane: Lane, principal: Principal, first: Run) -> Stopped | None:
        """Stop the run of this chain that has not ended; None if all have, or one is being stopped already."""
        for entry in lane.queue:
            if entry.run.id == first.id:
                return Stopped(entry.run, entry, REASON)
        if lane.waiting is not None:
            waiting = lane.waiting.run
            if (await self._recall.first_of(waiting)).id == first.id:
                await self._interrupts.withdraw(lane, by=principal.user, reason=REASON)
                return Stopped(waiting)
        execution = self._executions.get(lane.running)
        if execution is not None and not execution.cancelling and not execution.has_ending:
            running = await self._recall.row(execution.input.run)
            if running is not None and (await self._recall.first_of(running)).id == first.id:
                await self._stopping.request_cancel(lane, by=principal.user, reason=REASON)
                return Stopped(running)
        return None


def again(asked: Brief, given: Brief) -> Brief:
    """What was asked, with what is said of this try of it."""
    return msgspec.structs.replace(
        asked,
        answers=(),
        client=given.client if given.client is not None else asked.client,
        on_disconnect=given.on_disconnect,
    )
