"""What is done to the journal in idle time: logs in which nothing runs are sealed, and rows that all are sealed go.

Used by the writer's thread alone, between two groups.
"""

from __future__ import annotations

import sqlite3

from runcast.stores.sql import SQL
from runcast.stores.sqlite_log import Log, seal

TRIM_ROWS = 2000
"""So many sealed rows are removed from the journal at once."""
HELD_BACK_ROWS = 10_000


class Sealing:
    """`logs` are the ledger's: every log with rows in the journal is there."""

    def __init__(self, connection: sqlite3.Connection, logs: dict[str, Log]) -> None:
        self._db = connection
        self._logs = logs
        self._to_seal: dict[str, Log] = {}
        oldest, newest = self._db.execute(SQL["journal_span"]).fetchone()
        self._next_row: int = (newest or 0) + 1
        self._oldest_row: int = oldest or 1
        self._trim_to: int = self._oldest_row
        """Rows before it are sealed and may go."""
        self._sealed = 0
        """Rows sealed since it was last looked which may go."""

    def take_row(self) -> int:
        """The number of the journal's next row. A number that comes to nothing is not used again."""
        number = self._next_row
        self._next_row += 1
        return number

    def want(self, log: Log) -> None:
        """Have the log sealed, as far as nothing runs in it."""
        self._to_seal[log.id] = log

    def forget(self, log: Log) -> None:
        """The log is gone; its sealed rows should not wait for others' to go."""
        self._to_seal.pop(log.id, None)
        self._sealed += TRIM_ROWS

    @property
    def backlog(self) -> int:
        """How much there is to do when there is nothing to do."""
        return len(self._to_seal) + (self._trim_to > self._oldest_row) + (self._sealed >= TRIM_ROWS)

    def tidy(self) -> None:
        """Do a little of it, in a transaction of its own. Between groups.

        Raises:
            sqlite3.Error, StoreError: nothing was changed; what failed is not tried again soon.
        """
        if self._trim_to > self._oldest_row:
            goal, self._trim_to = self._trim_to, self._oldest_row
            part = min(goal, self._oldest_row + TRIM_ROWS)
            self._db.execute(SQL["trim_journal"], (part,))
            self._oldest_row, self._trim_to = part, goal
        elif self._to_seal:
            self._seal_some()
        else:
            self._sealed = 0
            self._trim_to = self._find_sealed()

    def _seal_some(self) -> None:
        """Seal a part of one thread's log."""
        id = next(iter(self._to_seal))
        log = self._to_seal.pop(id)
        if log.active or not log.rows or self._logs.get(id) is not log:
            return
        self._db.execute("BEGIN IMMEDIATE")
        try:
            count = seal(self._db, log)
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        log.rows = log.rows.without(count)
        log.journal_from = log.rows.numbers[0] if log.rows else None
        self._sealed += count
        if log.rows:
            self._to_seal[id] = log

    def _find_sealed(self) -> int:
        """The first row that is not sealed. Logs that hold back many others are sealed next, however short they are."""
        first = self._next_row
        for log in self._logs.values():
            if log.rows:
                first = min(first, log.rows.numbers[0])
                if not log.active and log.rows.numbers[0] < self._next_row - HELD_BACK_ROWS:
                    self._to_seal[log.id] = log
        return first
