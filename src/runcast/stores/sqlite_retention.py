"""What need not be kept for ever, removed a little at a time. Used by the writer's thread alone.

Deleting makes pages of the file free, and SQLite uses them again; what is left over is given back to the disk in small
steps, once it is much. (Only a file made with `auto_vacuum = INCREMENTAL` can do that: those of an earlier version need one
`runcast db vacuum`.)
"""

from __future__ import annotations

import sqlite3

from runcast.stores.base import Pruning
from runcast.stores.sql import SQL

ROWS = 500
"""So many rows are removed in one step, so that an append never waits long."""
MERGE_PAGES = 200
VACUUM_PAGES = 200
FREE_PART = 0.25
FREE_PAGES = 4000
"""Free pages are given back when they are more than this part of the file, and more than so many."""


class Retention:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        self._merge = 0
        """Pages to merge in the next step; 0: nothing is to be merged."""

    def merge_words(self) -> None:
        """From now on `prune` rewrites the index of the search: until then it still has words that were deleted."""
        self._merge = -MERGE_PAGES

    def prune(self, pruning: Pruning) -> bool:
        """One step of each kind, in the transaction at hand; whether there is more to do."""
        more = self._delete("old_receipts", "delete_receipt", pruning.receipts_before)
        more = self._delete("old_tombstones", "delete_tombstone", pruning.tombstones_before) or more
        more = self._cut_an_inbox(pruning.inbox_events) or more
        more = self._merge_some() or more
        return self._give_back() or more

    def _delete(self, find: str, delete: str, before: int) -> bool:
        found = self._db.execute(SQL[find], (before, ROWS)).fetchall()
        self._db.executemany(SQL[delete], found)
        return len(found) == ROWS

    def _cut_an_inbox(self, keep: int) -> bool:
        """Only whole segments go: what is sealed."""
        found = self._db.execute(SQL["long_inbox"], (keep,)).fetchone()
        if found is None:
            return False
        key, head, _ = found
        (cut,) = self._db.execute(SQL["inbox_cut"], (key, head - keep)).fetchone()
        if cut is None:
            return False
        self._db.execute(SQL["cut_segments"], (key, cut))
        self._db.execute(SQL["put_first_seq"], (cut + 1, key))
        return True

    def _merge_some(self) -> bool:
        if self._merge == 0:
            return False
        before = self._db.total_changes
        self._db.execute(SQL["merge_words"], (self._merge,))
        self._merge = MERGE_PAGES if self._db.total_changes - before >= 2 else 0
        return self._merge != 0

    def free_pages(self) -> int:
        return self._db.execute("PRAGMA freelist_count").fetchone()[0]

    def _give_back(self) -> bool:
        (pages,) = self._db.execute("PRAGMA page_count").fetchone()
        free = self.free_pages()
        (kind,) = self._db.execute("PRAGMA auto_vacuum").fetchone()
        if kind != 2 or free < FREE_PAGES or free < pages * FREE_PART:
            return False
        for _ in range(min(VACUUM_PAGES, free)):
            # One by one: the statement gives a row without columns for each page, and the module takes that for its end.
            self._db.execute("PRAGMA incremental_vacuum(1)")
        return True
