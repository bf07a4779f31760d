"""Threads' rows as they were read last, so that who asks again reads nothing.

Only the process that holds the file's lock changes rows, so what it remembers is right until it changes them itself. Readers
in other threads keep what they read; whoever changes a row forgets it once that is committed. `keep` takes the count from
before its reading: a row that was changed since is not kept.
"""

from __future__ import annotations

from runcast.runs import Thread

KNOWN = 2_000


class Known:
    def __init__(self) -> None:
        self.changes = 0
        """How often rows were changed. Only the thread that writes counts."""
        self._rows: dict[str, Thread] = {}

    def get(self, thread: str) -> Thread | None:
        """The row; its head may be older than the log's."""
        return self._rows.get(thread)

    def keep(self, row: Thread, changes: int) -> None:
        """Remember `row`, which was read when `changes` was as it is given."""
        if len(self._rows) >= KNOWN:
            self._rows.clear()
        self._rows[row.id] = row
        if self.changes != changes:  # behind the keeping, so that a change between the two is not missed
            self._rows.pop(row.id, None)

    def forget(self, thread: str) -> None:
        """Its row was changed, or its head is known to nobody else any more."""
        self.changes += 1
        self._rows.pop(thread, None)

    def forget_all(self) -> None:
        self.changes += 1
        self._rows.clear()
