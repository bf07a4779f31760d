"""A cursor over one thread, as an async iterator of updates.

History and live are the same read: take from the feed what it holds, else from the store, else sleep. There is no queue:
a reader that is slow simply asks later, gets a bigger batch, and consecutive deltas in it are joined. So a lagging reader
costs nobody anything, and one that was away for a day is only lagging more.

A reader that is caught up and sleeps can be spared its waking: what is pushed then is handed to its sink at once
(`deliver_to`). Whether it is caught up changes only inside one synchronous step, so that nothing is given twice or late.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import cast

import anyio

from runcast.errors import Trimmed
from runcast.events import TERMINAL, Record
from runcast.feed import Feed
from runcast.runs import Run, Thread
from runcast.stores.base import MAX_BYTES, MAX_EVENTS, Store
from runcast.updates import CaughtUp, Events, Resync, ResyncReason, ThreadSnapshot, Update, join
from runcast.wakeup import WakeUp

SnapshotSource = Callable[[Thread], Awaitable[ThreadSnapshot]]
Sink = Callable[[Events], bool]


class _Updates(ABC):
    """Updates as an async iterator that can also be asked with a time limit."""

    def __aiter__(self) -> AsyncIterator[Update]:
        return self

    @abstractmethod
    async def __anext__(self) -> Update: ...

    async def next(self, timeout_s: float | None = None) -> Update | None:
        """The next update; None after `timeout_s` seconds without one, or when the subscription has ended (`ended`)."""
        with anyio.move_on_after(timeout_s):
            try:
                return await self.__anext__()
            except StopAsyncIteration:
                return None
        return None


class Subscription(_Updates):
    """`async for update in subscription`, or `await subscription.next(timeout_s)` (None when nothing came in time).

    `thread` is the row at the time of subscribing, `epoch` and `head` the log's then, `start` the seq after which the
    reader gets events (the `from` of the ack; for a snapshot, 0). `cursor` is the last seq given. With `joins` false, which may
    also be set before the first update, records are given one by one as the log has them, however far the reader lags. One reader at a time; it
    may take as long as it likes between two updates. `close()` wakes and ends the iteration; whoever made it closes it.
    """

    def __init__(
        self,
        thread: Thread,
        feed: Feed,
        store: Store,
        snapshot: SnapshotSource,
        *,
        after: int | None,
        resync: ResyncReason | None = None,
        joins: bool = True,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        self.thread = thread
        self.epoch = thread.epoch
        self.head = max(thread.head, feed.head)
        self.start = 0 if after is None or resync else after
        self.cursor = self.start
        self._feed = feed
        self._store = store
        self._snapshot = snapshot
        self.joins = joins
        self._resync = None if resync is None else Resync(resync)
        self._wants_snapshot = after is None or resync is not None
        self._caught_up = False
        self._closed = False
        self._wake = WakeUp()
        self._asleep = False
        """Caught up, and nothing has woken it yet: the next event pushed is the next one it needs."""
        self._sink: Sink | None = None
        self._unregister = feed.on_wake(self._on_wake)
        self._on_close = on_close

    async def __anext__(self) -> Update:
        while True:
            self._wake.clear()  # before reading: what comes while we read wakes us again
            if self._closed:
                raise StopAsyncIteration
            update = await self._read()
            if update is not None:
                return update
            if not self._wake.is_set():
                self._asleep = True
                try:
                    await self._wake.wait()
                finally:
                    self._asleep = False

    def deliver_to(self, sink: Sink) -> None:
        """Give `sink` what is pushed while the reader is caught up and waits for the next update, without waking it.

        `sink` is called inside the step that commits: it must not wait. It returns whether it took the events, whole; if
        not (its socket is full, something else is being sent), or if it raises, the reader is woken and gets them itself.
        """
        self._sink = sink

    def _on_wake(self, pushed: Sequence[Record]) -> None:
        if self._asleep and self._sink is not None and pushed and self._takes(self._sink, pushed):
            return
        self._asleep = False
        self._wake.set()

    def _takes(self, sink: Sink, pushed: Sequence[Record]) -> bool:
        if pushed[0].event.seq != self.cursor + 1 or self._feed.deleted or (len(pushed) > 1 and not self.joins):
            return False  # a part of it was given already: rare, and whoever reads leaves that out
        update = _shared.update if pushed is _shared.of else _shared.make(pushed)
        if update is None:
            return False
        try:
            taken = sink(update)
        except Exception:  # one reader's fault must not reach the others; it meets it again when it reads
            return False
        if taken:
            self.cursor = cast(int, pushed[-1].event.seq)
        return taken

    @property
    def ended(self) -> bool:
        return self._closed

    @property
    def latest(self) -> int:
        """The log's head as this node knows it now."""
        return max(self._feed.head, self.cursor)

    def close(self) -> None:
        """End the iteration, also while it waits. Idempotent."""
        if not self._closed:
            self._closed = True
            self._asleep = False
            self._unregister()
            self._wake.set()
            self._on_close()

    async def _read(self) -> Update | None:
        if self._feed.deleted:
            self.close()
            return Resync("deleted")
        if self._resync is not None:
            resync, self._resync = self._resync, None
            return resync
        if self._wants_snapshot:
            snapshot = await self._snapshot(self.thread)
            self._wants_snapshot = False
            self.cursor = snapshot.seq
            return snapshot
        records = self._feed.after(self.cursor, MAX_BYTES, MAX_EVENTS)
        if records is None:
            try:
                records = await self._store.read(self.thread.id, self.cursor)
            except Trimmed:
                self._wants_snapshot = True
                self._caught_up = False
                return Resync("trimmed")
            self._feed.fill(records)
            if not records:
                self._feed.note_head(self.cursor)
        if records:
            self.cursor = records[-1].seq
            return Events(join(records) if self.joins and len(records) > 1 else records)
        if not self._caught_up:
            self._caught_up = True
            return CaughtUp(self.cursor)
        return None


class _SharedUpdate:
    """The update made of what was pushed last, once for all readers that are caught up: they are asked one after the other.
    Held together with what it was made of, so that nothing else can be taken for it."""

    __slots__ = ("of", "update")

    def __init__(self) -> None:
        self.of: Sequence[Record] = ()
        self.update: Events | None = None
        """None if it is more than a reader is given at once."""

    def make(self, pushed: Sequence[Record]) -> Events | None:
        self.of = pushed
        if len(pushed) == 1:
            self.update = Events(list(pushed))
        else:
            small = len(pushed) <= MAX_EVENTS and sum([len(record.data) for record in pushed]) <= MAX_BYTES
            self.update = Events(join(pushed)) if small else None
        return self.update


_shared = _SharedUpdate()


class RunSubscription(_Updates):
    """The events of one run only, as the same updates; the iteration ends behind its terminal event."""

    def __init__(self, run: Run, inner: Subscription) -> None:
        self.run = run
        self.inner = inner
        self.thread = inner.thread
        self.epoch = inner.epoch
        self.head = inner.head
        self.start = inner.start
        self._over = run.last_seq is not None and run.status != "running" and inner.start >= run.last_seq

    @property
    def cursor(self) -> int:
        return self.inner.cursor

    @property
    def ended(self) -> bool:
        return self._over or self.inner.ended

    async def __anext__(self) -> Update:
        while not self._over:
            update = await anext(self.inner)
            if not isinstance(update, Events):
                return update
            mine: list[Record] = []
            for record in update.records:
                if record.event.run_id == self.run.id:
                    mine.append(record)
                    if isinstance(record.event, TERMINAL):
                        self._over = True
            if mine:
                return Events(mine)
        self.close()
        raise StopAsyncIteration

    def deliver_to(self, sink: Sink) -> None:
        """As `Subscription.deliver_to`; the run's terminal event is always left to the reader."""
        self.inner.deliver_to(partial(self._pass_on, sink))

    def _pass_on(self, sink: Sink, update: Events) -> bool:
        mine = [record for record in update.records if record.event.run_id == self.run.id]
        if any(isinstance(record.event, TERMINAL) for record in mine):
            return False
        return not mine or sink(update if len(mine) == len(update.records) else Events(mine))

    def close(self) -> None:
        self.inner.close()
