"""Taking a message on: the run that it starts or that waits its turn, and where that stands in the tree.

A queued run's parent is what stands before it in the queue, so it changes when that changes: when the run before it is taken
back, when another takes that one's place, when a waiting run is gone on with. The rows change in the write that is the cause,
and readers see the same by the rules of the fold (`runcast.folding.tree`).
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec
from msgspec import UNSET

from runcast import events as e
from runcast.errors import QueueFull
from runcast.events import Event
from runcast.ids import Clock, IdSource
from runcast.running.appender import Appender
from runcast.running.executions import Executions
from runcast.running.lane import Lane, QueuedRun
from runcast.running.opening import opened, queued, title_of
from runcast.runs import Brief, Principal, Run, Thread
from runcast.stores.base import Receipt


class Stopped(NamedTuple):
    """The run that a new one takes the place of. One that is queued leaves the queue in the write that brings the new one in."""

    run: Run
    entry: QueuedRun | None = None
    reason: str | None = None


class Acceptance:
    def __init__(
        self, appender: Appender, executions: Executions, *, clock: Clock, new_id: IdSource, queue_limit: int
    ) -> None:
        self._appender = appender
        self._executions = executions
        self._clock = clock
        self._new_id = new_id
        self._queue_limit = queue_limit

    def refuse_when_full(self, lane: Lane) -> None:
        """
        Raises:
            QueueFull: the thread is busy and has no room for one more.
        """
        if lane.busy and len(lane.queue) >= self._queue_limit:
            raise QueueFull(f"{len(lane.queue)} messages are waiting in this conversation already; try again later.")

    async def accept(
        self,
        lane: Lane,
        principal: Principal,
        brief: Brief,
        *,
        agent: str,
        parent: str | None,
        receipt: Receipt,
        stopped: Stopped | None = None,
        begin: Thread | None = None,
    ) -> Run:
        """Start a run on `brief`, or queue it: last, or in the place of the one it was stopped for. The lane's lock is held.

        `begin`: the thread that is made with it. `receipt.result` is completed here: it is the JSON of `{"thread", "run", "seq", "status"}`.
        """
        now = self._clock.now_ms()
        starts = not lane.busy or (stopped is not None and lane.running is None and lane.waiting is None)
        run = Run(
            id=self._new_id(),
            thread=lane.thread.id,
            agent=agent,
            status="running" if starts else "queued",
            parent=parent,
            replaces=None if stopped is None else stopped.run.id,
            message_id=brief.messages[0].id if brief.messages else None,
            created_at=now,
            started_at=now if starts else None,
            first_seq=lane.head + 1,
        )
        moved = {} if stopped is None else moves(lane, stopped.run.id, run.id)
        tip = lane.tip if lane.tip is not None and _is_behind(lane, moved, lane.tip, run.id) else run.id
        answer = {"thread": run.thread, "run": run.id, "seq": run.first_seq, "status": run.status}
        # Behind the new one: readers then see what follows the old run follow the new one first.
        opening = opened(run, brief) if starts else [queued(run, brief)]
        place = lane.head + len(opening) + 1
        left = [] if stopped is None or stopped.entry is None else [leaving(stopped, place, now)]
        await self._appender.write(
            lane,
            [*opening, *(event for event, _ in left)],
            runs=[*(row for _, row in left), *moved.values(), run],
            title=None if lane.title or not brief.messages else title_of(brief.messages[0]),
            head_run=tip,
            receipt=receipt._replace(result=msgspec.json.encode(answer)),
            files=brief.files,
            begin=begin,
        )
        lane.tip = tip
        move(lane, moved)
        place = len(lane.queue) if stopped is None else 0
        if stopped is not None and stopped.entry is not None:
            place = lane.queue.index(stopped.entry)
            lane.queue.remove(stopped.entry)
        if starts:
            self._executions.launch(lane, run, brief, principal)
        else:
            lane.queue.insert(place, QueuedRun(run, brief, principal))
        return run


def leaving(stopped: Stopped, seq: int, now: int) -> tuple[Event, Run]:
    """What says at `seq` that a queued run is taken back, and its row then."""
    event = e.RunDequeued(reason=UNSET if stopped.reason is None else stopped.reason)
    run = msgspec.structs.replace(stopped.run, status="cancelled", ended_at=stopped.run.not_before(now), last_seq=seq)
    return e.of_run(event, run.id), run


def moves(lane: Lane, place: str, follows: str | None) -> dict[str, Run]:
    """The rows of what is queued behind `place`, as they are when it follows `follows` instead, by id."""
    return {
        entry.run.id: msgspec.structs.replace(entry.run, parent=follows)
        for entry in lane.queue
        if entry.run.parent == place
    }


def move(lane: Lane, moved: dict[str, Run]) -> None:
    """`moved` was written."""
    for entry in lane.queue:
        entry.run = moved.get(entry.run.id, entry.run)


def resumed(lane: Lane, waiting: str, run: str) -> tuple[dict[str, Run], str]:
    """What changes in the queue when `run` goes on with the run `waiting`, and the tip of the lane then."""
    moved = moves(lane, waiting, run)
    return moved, lane.tip if lane.tip is not None and _is_behind(lane, moved, lane.tip, run) else run


def _is_behind(lane: Lane, moved: dict[str, Run], id: str, ancestor: str) -> bool:
    parents = {entry.run.id: moved.get(entry.run.id, entry.run).parent for entry in lane.queue}
    while id in parents:
        parent = parents.pop(id)
        if parent == ancestor:
            return True
        if parent is None:
            return False
        id = parent
    return False
