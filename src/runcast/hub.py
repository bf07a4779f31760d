"""This node's feeds and wake-ups: where the runner says what was committed, and readers come to hear of it.

Nothing here is needed for correctness but the store: a wake-up that is lost costs one poll interval. The hub also keeps,
for threads somebody looks at or works on, the folded transcript, so that a reload costs the size of the text.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from itertools import count

import anyio

from runcast.brokers.base import Broker, Notice
from runcast.brokers.memory import MemoryBroker
from runcast.errors import StoreError, Trimmed
from runcast.events import Record
from runcast.feed import Feed
from runcast.runs import Thread
from runcast.stores.base import Snapshot, Store
from runcast.subscription import Subscription
from runcast.transcript import SCHEMA, Transcript, dump, fold, load
from runcast.updates import ResyncReason, ThreadSnapshot

logger = logging.getLogger("runcast.hub")

IDLE_FEEDS = 128
"""Feeds that nobody uses are kept up to this number: a reload finds its thread still warm."""


DELETED_POLLS = 5
"""Every so many polls it is looked whether a quiet log is still there."""


class _Place:
    """One thread's feed, its folded transcript and how many use it."""

    def __init__(self, thread: str) -> None:
        self.feed = Feed(thread)
        self.transcript: Transcript | None = None
        self.folding = anyio.Lock()
        self.users = 0


class Hub:
    def __init__(self, store: Store, broker: Broker | None = None, *, poll_s: float = 2.0) -> None:
        self._store = store
        self._broker = broker or MemoryBroker()
        self._poll_s = poll_s
        self._places: dict[str, _Place] = {}

    def push(self, thread: str, records: Sequence[Record]) -> None:
        """These were committed just now. Synchronous: no reader is served before all feeds agree."""
        place = self._places.get(thread)
        if place is not None:
            place.feed.push(records)

    def note_head(self, thread: str, seq: int) -> None:
        """The log reaches `seq` at least, whatever this node has heard of it."""
        place = self._places.get(thread)
        if place is not None:
            place.feed.note_head(seq)

    def deleted(self, thread: str) -> None:
        """The thread is gone: its readers are told and end."""
        place = self._places.pop(thread, None)
        if place is not None:
            place.feed.deleted = True
            place.feed.wake()

    def is_watched(self, thread: str) -> bool:
        """Whether somebody has a subscription to it."""
        place = self._places.get(thread)
        return place is not None and place.feed.watchers > 0

    def watched(self) -> list[str]:
        """The threads that somebody has a subscription to."""
        return [thread for thread, place in self._places.items() if place.feed.watchers > 0]

    def hold(self, thread: str) -> None:
        """Keep the thread's feed and transcript in memory until `let_go`."""
        self._place(thread).users += 1

    def let_go(self, thread: str) -> None:
        place = self._places.get(thread)
        if place is None:
            return
        place.users -= 1
        if place.users == 0:
            # Newest idle last: the oldest idle ones go first.
            self._places[thread] = self._places.pop(thread)
            idle = [name for name, other in self._places.items() if other.users == 0]
            for name in idle[: max(0, len(idle) - IDLE_FEEDS)]:
                del self._places[name]

    def subscribe(self, thread: Thread, *, after: int | None, epoch: str | None = None) -> Subscription:
        """A cursor over the thread after `after`; a snapshot first without one, or when the cursor is of another log."""
        # `thread.head` is not told to the feed: what was appended since that row was read may have been pushed to nobody.
        place = self._place(thread.id)
        reason: ResyncReason | None = None
        if after is not None:
            if epoch is not None and epoch != thread.epoch:
                reason = "epoch"
            elif after > max(thread.head, place.feed.head):
                reason = "ahead"
            elif after + 1 < thread.first_seq:
                reason = "trimmed"
        self.hold(thread.id)
        return Subscription(
            thread,
            place.feed,
            self._store,
            self.snapshot,
            after=after,
            resync=reason,
            on_close=lambda: self.let_go(thread.id),
        )

    async def snapshot(self, thread: Thread) -> ThreadSnapshot:
        """The fold of the whole log as it stands, as JSON."""
        async with self.transcript(thread) as transcript:
            data = dump(transcript)
            return ThreadSnapshot(transcript.seq, thread.epoch, thread, data)

    @asynccontextmanager
    async def transcript(self, thread: Thread) -> AsyncGenerator[Transcript]:
        """The fold of the whole log as it stands; to be read, and only inside the block."""
        self.hold(thread.id)
        place = self._place(thread.id)
        try:
            async with place.folding:
                if place.transcript is None:
                    place.transcript = await self._stored(thread.id)
                transcript = place.transcript
                while True:
                    records = place.feed.after(transcript.seq, 1 << 20, 10_000)
                    if records is None:
                        try:
                            records = await self._store.read(
                                thread.id, transcript.seq, max_bytes=1 << 20, max_events=10_000
                            )
                        except Trimmed:
                            transcript = place.transcript = await self._cut(thread)
                            continue
                        if not records:
                            place.feed.note_head(transcript.seq)
                    if not records:
                        break
                    fold(transcript, (record.event for record in records))
                yield transcript
        finally:
            self.let_go(thread.id)

    async def keep(self, thread: Thread) -> None:
        """Store a snapshot of the thread as it stands, so that the next fold starts there."""
        snapshot = await self.snapshot(thread)
        await self._store.put_snapshot(thread.id, Snapshot(snapshot.seq, SCHEMA, snapshot.transcript))

    async def publish(self, thread: str) -> None:
        """Tell other nodes that the thread's log grew."""
        await self._broker.publish(Notice(f"thread:{thread}", b""))

    async def run(self) -> None:
        """The safety net: every `poll_s`, look whether a watched log grew without this node hearing of it (I9), and now and
        then whether it was deleted elsewhere."""
        for number in count(1):
            await anyio.sleep(self._poll_s)
            for name, place in tuple(self._places.items()):
                if place.feed.watchers == 0:
                    continue
                try:
                    records = await self._store.read(name, max(place.feed.head, 0))
                    if not records and number % DELETED_POLLS == 0 and await self._store.get_thread(name) is None:
                        self.deleted(name)
                except Trimmed:
                    place.feed.wake()  # its readers learn it themselves
                    continue
                except StoreError as error:
                    logger.warning("a log could not be looked at", exc_info=error, extra={"action": "poll_failed"})
                    continue  # its readers wait for the next round
                place.feed.push(records)

    async def _stored(self, thread: str) -> Transcript:
        snapshot = await self._store.snapshot(thread)
        if snapshot is None or snapshot.schema != SCHEMA:
            return Transcript()
        return load(snapshot.data)

    async def _cut(self, thread: Thread) -> Transcript:
        """The fold of nothing, where a log begins whose older part is gone."""
        row = await self._store.get_thread(thread.id)
        return Transcript(seq=(row or thread).first_seq - 1)

    def _place(self, thread: str) -> _Place:
        place = self._places.get(thread)
        if place is None:
            place = self._places[thread] = _Place(thread)
        return place
