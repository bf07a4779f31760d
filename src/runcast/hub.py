"""This node's feeds and wake-ups: where the runner says what was committed, and readers come to hear of it.

Nothing here is needed for correctness but the store: a wake-up that is lost costs one poll interval. The hub also keeps,
for threads somebody looks at or works on, the folded transcript, so that a reload costs the size of the text.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager

import anyio

from runcast.errors import StoreError, Trimmed
from runcast.events import Record
from runcast.feed import Feed
from runcast.runs import Thread
from runcast.stores.base import LONG_BYTES, LONG_EVENTS, Snapshot, Store
from runcast.subscription import Subscription
from runcast.transcript import SCHEMA, Transcript, dump, fold, load
from runcast.updates import ResyncReason, ThreadSnapshot

logger = logging.getLogger("runcast.hub")

IDLE_FEEDS = 128
"""Feeds that nobody uses are kept up to this number: a reload finds its thread still warm."""
IDLE_BYTES = 32 * 1024 * 1024
"""And up to so much JSON, of what they hold and of what their transcripts were folded from; as objects it is some times that."""


class _Place:
    """One thread's feed, its folded transcript and how many use it."""

    def __init__(self, thread: str) -> None:
        self.feed = Feed(thread)
        self.transcript: Transcript | None = None
        self.folding: anyio.Lock | None = None
        self.folded = 0
        """Bytes of JSON that the transcript was made of."""
        self.users = 0

    @property
    def bytes(self) -> int:
        return self.feed.bytes + self.folded


class Hub:
    def __init__(self, store: Store, *, poll_s: float = 2.0, idle_bytes: int = IDLE_BYTES) -> None:
        self._store = store
        self._most_idle_bytes = idle_bytes
        self._poll_s = poll_s
        self._places: dict[str, _Place] = {}
        self._idle: dict[str, int] = {}
        """Those that nobody uses, the one used last at the end, and how large each was then."""
        self._idle_bytes = 0
        self._watchers: dict[str, int] = {}
        self.on_watched: Callable[[str, bool], None] | None = None
        """Told when a thread's first watcher comes (true) and when its last one goes (false). Called synchronously."""

    def watchers(self, thread: str) -> int:
        """How many read the thread live, over whatever transport."""
        return self._watchers.get(thread, 0)

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
        self._wanted(thread)
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
        self._wanted(thread)

    def let_go(self, thread: str) -> None:
        place = self._places.get(thread)
        if place is None:
            return
        place.users -= 1
        if place.users == 0:
            self._idle[thread] = place.bytes
            self._idle_bytes += place.bytes
            while len(self._idle) > IDLE_FEEDS or self._idle_bytes > self._most_idle_bytes:
                oldest = next(iter(self._idle))
                self._wanted(oldest)
                del self._places[oldest]

    def _wanted(self, thread: str) -> None:
        """It is no longer idle."""
        self._idle_bytes -= self._idle.pop(thread, 0)

    def subscribe(
        self,
        thread: Thread,
        *,
        after: int | None,
        epoch: str | None = None,
        watches: bool = True,
        joins: bool = True,
    ) -> Subscription:
        """A cursor over the thread after `after`; a snapshot first without one, or when the cursor is of another log.

        `watches`: somebody reads along, until it is closed; false for what only waits for an end or reads a page. `joins`: a
        reader that lags gets deltas joined.
        """
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
        if watches:
            self._watch(thread.id, 1)

        def close() -> None:
            self.let_go(thread.id)
            if watches:
                self._watch(thread.id, -1)

        return Subscription(
            thread,
            place.feed,
            self._store,
            self.snapshot,
            after=after,
            resync=reason,
            joins=joins,
            on_close=close,
        )

    def _watch(self, thread: str, change: int) -> None:
        before = self._watchers.get(thread, 0)
        count = self._watchers[thread] = before + change
        if count == 0:
            del self._watchers[thread]
        if (count == 0 or before == 0) and self.on_watched is not None:
            self.on_watched(thread, count > 0)

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
        place.folding = place.folding or anyio.Lock()  # most places that are watched are never folded
        try:
            async with place.folding:
                if place.transcript is None:
                    # A log that is here as a whole is young: nothing of it can have been folded and stored.
                    is_whole = place.feed.holds(1)
                    place.transcript = Transcript() if is_whole else await self._stored(thread.id, place)
                transcript = place.transcript
                while True:
                    records = place.feed.after(transcript.seq, LONG_BYTES, LONG_EVENTS)
                    if records is None:
                        try:
                            records = await self._store.read(
                                thread.id, transcript.seq, max_bytes=LONG_BYTES, max_events=LONG_EVENTS
                            )
                        except Trimmed:
                            transcript = place.transcript = await self._cut(thread)
                            place.folded = 0
                            continue
                        if not records:
                            place.feed.note_head(transcript.seq)
                    if not records:
                        break
                    fold(transcript, (record.event for record in records))
                    place.folded += sum([len(record.data) for record in records])
                yield transcript
        finally:
            self.let_go(thread.id)

    async def keep(self, thread: Thread) -> None:
        """Store a snapshot of the thread as it stands, so that the next fold starts there."""
        snapshot = await self.snapshot(thread)
        await self._store.put_snapshot(thread.id, Snapshot(snapshot.seq, SCHEMA, snapshot.transcript))

    async def run(self) -> None:
        """The safety net: every `poll_s`, look whether a watched log grew, or was deleted, without this node hearing of it
        (I9)."""
        while True:
            await anyio.sleep(self._poll_s)
            watched = self.watched()
            try:
                heads = await self._store.heads(watched) if watched else {}
                for name in watched:
                    place = self._places.get(name)
                    if place is None:
                        continue
                    if name not in heads:
                        self.deleted(name)
                    elif heads[name] > place.feed.head:
                        await self._catch_up(name, place.feed)
            except StoreError as error:  # readers wait for the next round
                logger.warning("logs could not be looked at", exc_info=error, extra={"action": "poll_failed"})

    async def _catch_up(self, thread: str, feed: Feed) -> None:
        try:
            feed.push(await self._store.read(thread, max(feed.head, 0)))
        except Trimmed:
            feed.wake()  # its readers learn it themselves

    async def _stored(self, thread: str, place: _Place) -> Transcript:
        snapshot = await self._store.snapshot(thread)
        if snapshot is None or snapshot.schema != SCHEMA:
            return Transcript()
        place.folded = len(snapshot.data)
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
