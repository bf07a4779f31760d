"""How anything of a lane gets into the log: append, then tell.

A write that was begun is waited for, also when whoever asked for it is gone. When the store fails in the middle of one, it
may have landed all the same: then a new fence is got, under which nothing older can land any more, and the log says which
it was. Until that is known nothing else is written, or the log would get two ends of one run; and what landed after it was
called failed makes the lane a lost one: whoever acquires the thread next learns from the log how it stands.

What agents give comes in by two ways. `offer` is the short one: at the end of the event loop's turn everything offered in it
is appended in one commit, if the store can do that at once, and told in the same step. Whatever cannot go that way (the
lane is in use, the store is busy or refuses) goes the long one, `events`, by the task that drives the run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

import anyio
import msgspec
from msgspec import UNSET

from runcast import events as e
from runcast.errors import LeaseLost, NotFound, SequenceConflict, StoreError
from runcast.events import Event, Record
from runcast.hub import Hub
from runcast.ids import Clock
from runcast.running.blobs import Blobs
from runcast.running.bulk import is_bulky
from runcast.running.lane import Lane
from runcast.running.lanes import Lanes
from runcast.runs import AgentState, Principal, Run, Thread
from runcast.stores.base import Receipt, Store, Write, Written


class Source(Protocol):
    """Who has events for the log."""

    def take_now(self) -> list[Event]:
        """What came since the last group; empty if there is nothing, or if the long way has begun already."""
        ...

    def go_the_long_way(self, events: list[Event]) -> None:
        """These could not be appended; they come before whatever came since."""
        ...


class Appender:
    def __init__(self, store: Store, hub: Hub, lanes: Lanes, blobs: Blobs, *, clock: Clock) -> None:
        self._store = store
        self._blobs = blobs
        self._hub = hub
        self._lanes = lanes
        self._clock = clock
        self._offered: dict[int, tuple[Lane, Source]] = {}

    def offer(self, lane: Lane, source: Source) -> None:
        """`source` has something to append; it is taken at the end of this turn of the event loop."""
        if not self._offered:
            asyncio.get_running_loop().call_soon(self._append_offered)
        self._offered[id(source)] = (lane, source)

    def _append_offered(self) -> None:
        offered, self._offered = self._offered, {}
        taken: list[tuple[Lane, Source, Write]] = []
        for lane, source in offered.values():
            if lane.lost or lane.doubtful or lane.lock.locked():
                source.go_the_long_way([])
            elif not (events := source.take_now()):
                pass
            elif any(map(is_bulky, events)):  # a part of it has to be kept elsewhere first
                source.go_the_long_way(events)
            else:
                write = Write(thread=lane.thread.id, fence=lane.fence, expected_seq=lane.head, events=events)
                taken.append((lane, source, write))
        if not taken:
            return
        done = self._store.append_now([write for _, _, write in taken], now=self._clock.now_ms())
        for (lane, source, write), written in zip(taken, done, strict=True):
            if written is None:
                source.go_the_long_way(list(write.events))
            else:
                self._tell(lane, write, written)

    async def events(self, lane: Lane, events: Sequence[Event], checkpoint: AgentState | None = None) -> None:
        """Append what an agent gave, and how far it is. The lane's lock is held, the caller is shielded.

        Raises:
            LeaseLost: the lane is lost. StoreError: nothing was written, or that is not known and nothing more will be
                until it is.
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
        files: Sequence[str] = (),
        begin: Thread | None = None,
    ) -> None:
        """Append events with the rows that change with them, and tell the owner's inbox. The lane's lock is held."""
        notices: list[Event] = []
        if lane.thread.kind != "hidden" and (runs or title is not None or pinned is not None):
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
            begin=begin,
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
            files=files,
        )
        with anyio.CancelScope(shield=True):
            await self._append(lane, write)
            if title is not None:
                lane.title = title

    async def _append(self, lane: Lane, write: Write) -> None:
        if lane.lost:
            raise LeaseLost("This node no longer owns the thread.")
        if lane.doubtful:
            await self.find_out(lane)
            write = msgspec.structs.replace(write, fence=lane.fence)
        owner = Principal(user=lane.thread.user, tenant=lane.thread.tenant)
        events, files = await self._blobs.taken_out(owner, write.events)
        if files:
            write = msgspec.structs.replace(write, events=events, files=[*write.files, *files])
        try:
            written = await self._store.append(write, now=self._clock.now_ms())
        except (LeaseLost, NotFound):  # another node has the thread now, or has deleted it
            self._lanes.lose(lane)
            raise
        except SequenceConflict:
            if write.receipt is None:  # with one, it may only say that the command was carried out before
                self._lanes.lose(lane)
            raise
        except StoreError:
            written = await self._landed(lane, write)
            if written is None:
                raise
        self._tell(lane, write, written)

    def _tell(self, lane: Lane, write: Write, written: Written) -> None:
        lane.head += len(write.events)
        self._hub.push(lane.thread.id, written.records)
        if written.inbox is not None:
            self._hub.push(written.inbox, written.notices)

    async def _landed(self, lane: Lane, write: Write) -> Written | None:
        """What the store did although it failed; None if nothing, or if it is not known yet. The caller is shielded."""
        lane.doubtful = True
        try:
            await self._lanes.settle(lane)
            records = await self._read(lane, len(write.events))
        except (StoreError, NotFound):
            return None
        if [_plain(record.event) for record in records] != [_plain(event) for event in write.events]:
            if records:
                self._lanes.lose(lane)
            lane.doubtful = False
            return None
        if not write.events:
            return None  # a receipt alone: its command will find it
        lane.doubtful = False
        return Written(records, None, [])  # the inbox's readers learn of its notices from the next ones, or a poll

    async def find_out(self, lane: Lane) -> None:
        """Whether the write that failed had landed after all. The lane's lock is held.

        Raises:
            LeaseLost: another node has the thread. StoreError: it had, and the lane is lost; or that cannot be known yet.
        """
        await self._lanes.settle(lane)
        if await self._read(lane, 1):
            self._lanes.lose(lane)
            raise StoreError("The conversation is being read again after a failure; try again.", retry_after_ms=100)
        lane.doubtful = False

    async def _read(self, lane: Lane, count: int) -> list[Record]:
        """What follows the head that is known, up to one record more than `count`."""
        records: list[Record] = []
        while len(records) <= count:
            more = await self._store.read(lane.thread.id, lane.head + len(records), max_events=count + 1 - len(records))
            if not more:
                break
            records += more
        return records


def _plain(event: Event) -> Event:
    """The event without what the append gives it."""
    return msgspec.structs.replace(event, seq=UNSET, timestamp=UNSET)
