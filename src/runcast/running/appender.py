"""How anything of a lane gets into the log: append, then tell.

A write that was begun is waited for, also when whoever asked for it is gone: a write of which nobody knows whether it
happened would be a lane lost.
"""

from __future__ import annotations

from collections.abc import Sequence

import anyio
from msgspec import UNSET

from runcast import events as e
from runcast.errors import LeaseLost
from runcast.events import Event
from runcast.hub import Hub
from runcast.ids import Clock
from runcast.running.lane import Lane
from runcast.running.lanes import Lanes
from runcast.runs import AgentState, Run
from runcast.stores.base import Receipt, Store, Write


class Appender:
    def __init__(self, store: Store, hub: Hub, lanes: Lanes, *, clock: Clock) -> None:
        self._store = store
        self._hub = hub
        self._lanes = lanes
        self._clock = clock

    async def events(self, lane: Lane, events: Sequence[Event], checkpoint: AgentState | None = None) -> None:
        """Append what an agent gave, and how far it is. The lane's lock is held, the caller is shielded.

        Raises:
            LeaseLost: the lane is lost, nothing was written. StoreError: nothing was written.
        """
        write = Write(
            thread=lane.thread.id, fence=lane.fence, expected_seq=lane.head, events=events, agent_state=checkpoint
        )
        await self._append(lane, write)

    async def write(
        self,
        lane: Lane,
        events: Sequence[Event],
        *,
        runs: Sequence[Run] = (),
        title: str | None = None,
        pinned: bool | None = None,
        head_run: str | None = None,
        receipt: Receipt | None = None,
        agent_state: AgentState | None = None,
    ) -> None:
        """Append events with the rows that change with them, and tell the owner's inbox. The lane's lock is held."""
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
                    updated_at=self._clock.now_ms(),
                    run=UNSET
                    if newest is None
                    else e.RunSummary(id=newest.id, agent=newest.agent, status=newest.status),
                )
            )
        write = Write(
            thread=lane.thread.id,
            fence=lane.fence,
            expected_seq=lane.head,
            events=events,
            runs=runs,
            title=title,
            pinned=pinned,
            head_run=head_run,
            receipt=receipt,
            agent_state=agent_state,
            notices=notices,
        )
        with anyio.CancelScope(shield=True):
            await self._append(lane, write)
            if title is not None:
                lane.title = title

    async def _append(self, lane: Lane, write: Write) -> None:
        if lane.lost:
            raise LeaseLost("This node no longer owns the thread.")
        try:
            written = await self._store.append(write, now=self._clock.now_ms())
        except LeaseLost:
            self._lanes.lose(lane)
            raise
        lane.head += len(write.events)
        self._hub.push(lane.thread.id, written.records)
        if written.inbox is not None:
            self._hub.push(written.inbox, written.notices)
