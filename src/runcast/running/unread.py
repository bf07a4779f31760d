"""What was handed to a running agent and not read by it when its run ended: queued messages, so that nothing is lost."""

from __future__ import annotations

from collections.abc import Sequence

from runcast.ids import IdSource
from runcast.running.lane import Lane, QueuedRun
from runcast.runs import Brief, Message, Principal, Run


def requeued(
    lane: Lane,
    run: Run,
    unread: Sequence[Message],
    principal: Principal,
    *,
    first_seq: int,
    new_id: IdSource,
    now: int,
) -> list[QueuedRun]:
    """The queued runs that `unread` becomes, in order, the first with its event at `first_seq`: behind all that is queued.

    The caller writes their events and rows in the write that ends `run`, then gives them to `join`.
    """
    entries: list[QueuedRun] = []
    parent = lane.tip
    for message in unread:
        row = Run(
            id=new_id(),
            thread=run.thread,
            agent=run.agent,
            status="queued",
            parent=parent,
            message_id=message.id,
            created_at=now,
            first_seq=first_seq + len(entries),
        )
        parent = row.id
        entries.append(QueuedRun(row, Brief(messages=(message,)), principal))
    return entries


def join(lane: Lane, entries: Sequence[QueuedRun]) -> None:
    """They were written."""
    lane.queue.extend(entries)
    if entries:
        lane.tip = entries[-1].run.id
