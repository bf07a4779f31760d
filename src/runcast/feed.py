"""The in-memory tail of one thread: what was committed last, and who sleeps until there is more.

A feed is only a shortcut past the store: whatever it does not hold, its readers read from there. It knows the head
that this node has seen, so that a reader who is caught up sleeps without reading anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

from runcast.events import Record

TAIL_EVENTS = 2_000
TAIL_BYTES = 1 << 20

Wake = Callable[[Sequence[Record]], None]
"""What a reader is woken with: the records just pushed, the same object for all readers, or none. They are a shortcut: nobody
may rely on getting them."""


class Feed:
    """The tail of `thread`: at most `max_events` records and `max_bytes` of JSON, the newest."""

    def __init__(self, thread: str, *, max_events: int = TAIL_EVENTS, max_bytes: int = TAIL_BYTES) -> None:
        self.thread = thread
        self.head = -1
        """The newest seq this node knows to be committed; -1: not known yet."""
        self.deleted = False
        self._records: list[Record] = []
        self._start = 0  # index of the oldest record kept; the list is cut when half of it is dead
        self._bytes = 0
        self._max_events = max_events
        self._max_bytes = max_bytes
        # A dict, not a set: waking in the order of subscribing keeps a seeded simulation deterministic.
        self._wakes: dict[int, Wake] = {}
        self._next_wake = 0

    @property
    def watchers(self) -> int:
        return len(self._wakes)

    def on_wake(self, wake: Wake) -> Callable[[], None]:
        """Call `wake` whenever there is more to read. Returns what takes it back."""
        key = self._next_wake
        self._next_wake += 1
        self._wakes[key] = wake

        def remove() -> None:
            self._wakes.pop(key, None)

        return remove

    def wake(self, pushed: Sequence[Record] = ()) -> None:
        for wake in tuple(self._wakes.values()):
            wake(pushed)

    def push(self, records: Sequence[Record]) -> None:
        """Take committed records. Doubled ones are dropped; a gap empties the tail, and readers turn to the store."""
        if not records:
            return
        first, last = cast(int, records[0].event.seq), cast(int, records[-1].event.seq)
        if last <= self.head:
            return
        if len(self._records) > self._start and self._records[-1].event.seq != first - 1:
            overlap = self._records[-1].seq
            records = [record for record in records if record.seq > overlap]
            if not records:  # a reader was faster than whoever tells (`fill`)
                self.note_head(last)
                return
            if records[0].seq != overlap + 1:
                self._records, self._start, self._bytes = [], 0, 0
        self._records.extend(records)
        self._bytes += sum([len(record.data) for record in records])
        self.head = last
        self._trim()
        self.wake(records)

    def fill(self, records: Sequence[Record]) -> None:
        """Take what a reader has read from the store, so that the next one need not: after a start everybody wants the same.
        Only an empty feed takes it; nothing is said of the head, and nobody is woken."""
        if records and len(self._records) == self._start and records[-1].seq >= self.head:
            self._records = list(records)
            self._start = 0
            self._bytes = sum([len(record.data) for record in records])

    def note_head(self, seq: int) -> None:
        """The log is known to reach `seq` at least: what is not held here is read from the store."""
        if seq > self.head:
            self.head = seq
            self.wake()

    @property
    def bytes(self) -> int:
        """Of the JSON that is held."""
        return self._bytes

    def holds(self, seq: int) -> bool:
        """Whether the record with this seq is here."""
        return len(self._records) > self._start and self._records[self._start].seq <= seq <= self._records[-1].seq

    def after(self, cursor: int, max_bytes: int, max_events: int) -> list[Record] | None:
        """The records after `cursor`, as `Store.read` would give them; None if they must be read from the store."""
        if cursor >= self.head >= 0:
            return []
        if len(self._records) == self._start:
            return None
        index = self._start + cursor + 1 - self._records[self._start].seq
        if not self._start <= index < len(self._records):
            return None
        stop = min(len(self._records), index + max_events)
        size = 0
        for position in range(index, stop):
            size += len(self._records[position].data)
            if size > max_bytes and position > index:
                stop = position
                break
        return self._records[index:stop]

    def _trim(self) -> None:
        while len(self._records) - self._start > 1 and (
            self._bytes > self._max_bytes or len(self._records) - self._start > self._max_events
        ):
            self._bytes -= len(self._records[self._start].data)
            self._start += 1
        if self._start > len(self._records) // 2:
            del self._records[: self._start]
            self._start = 0
