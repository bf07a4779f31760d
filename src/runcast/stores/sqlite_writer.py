"""The one thread that writes to the SQLite file, and its natural group commit.

Work waits in a queue. The thread takes all that is there, carries it out in one transaction, commits, and tells the
event loop of all results with one call. What arrives meanwhile is the next group: no timer, the first is never held
back, and the busier the store the larger its groups. A write that is refused fails alone; when the commit fails, every
write of its group does.

Appends of events alone may be committed by the event loop itself (`append_now`): with `synchronous=NORMAL` such a commit is one
write into the page cache, cheaper than telling a thread of it. Whoever writes holds the turn; the loop never waits for it,
and gives it up for a while when a commit took long.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar

from runcast.errors import RuncastError, StoreError
from runcast.stores.base import Written
from runcast.stores.sqlite_file import CHECKPOINT_PAGES, Checkpointer, is_failure, map_error
from runcast.stores.sqlite_ledger import Appending, Ledger

logger = logging.getLogger("runcast.stores.sqlite")

T = TypeVar("T")
Kind = Literal["plain", "write", "read"]
"""`plain`: an append of events only, which changes one table. `read`: done after the group's commit."""

MAX_GROUP = 512
MAX_WAITING = 4096
"""Work accepted and not done yet; beyond it callers wait."""
BACKLOG = 256
"""Threads that wait to be sealed; beyond it they are, however busy the store is."""
SLOW_S = 0.010
SLOW_TIMES = 3
RECOVER_S = 1.0
"""`SLOW_TIMES` commits in a row on the event loop that took longer than `SLOW_S` show a disk that is busy (one alone may be a
busy machine): for `RECOVER_S` the loop leaves all commits to the thread."""
MAX_BEHIND_PAGES = 4 * CHECKPOINT_PAGES
"""A write-ahead log that is longer waits for its checkpoint: writes go to the thread that does it."""


class _Job:
    __slots__ = ("error", "future", "kind", "result", "work")

    def __init__(self, work: Callable[[], Any], kind: Kind, future: asyncio.Future[Any] | None) -> None:
        self.work, self.kind, self.future = work, kind, future
        self.result: Any = None
        self.error: RuncastError | None = None


class _LookAround:
    """What wakes the thread to do what is due beside writing."""


_LOOK_AROUND = _LookAround()


class Writer:
    """Runs until `close`. All methods are the event loop's."""

    def __init__(
        self, connection: sqlite3.Connection, ledger: Ledger, checkpointer: Checkpointer | None, *, inline: bool
    ) -> None:
        """`inline`: commits do not wait for the disk, so the event loop may do them."""
        self.healthy = True
        """False since the file refused a write, until one works."""
        self._failed = False
        self._db = connection
        self._ledger = ledger
        self._checkpointer = checkpointer
        self._inline = inline
        self._inline_from = 0.0
        self._slow = 0
        self._asked = False
        """The thread was woken for a checkpoint and has not done it yet."""
        self._turn = threading.Lock()
        """Held by whoever uses `connection` and `ledger`."""
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[_Job | _LookAround | None] = queue.SimpleQueue()
        self._waiting = 0
        self._room = asyncio.Event()
        self._closing = False
        self._closed = self._loop.create_future()
        self._thread = threading.Thread(target=self._run, name="runcast-store", daemon=True)
        self._thread.start()

    async def do(self, work: Callable[[], T], kind: Kind = "write") -> T:
        """Have `work` done in the next group. A caller that is cancelled meanwhile does not stop it.

        Raises:
            StoreError: it could not be done or not be made durable. Whatever `work` raises by itself.
        """
        while self._waiting >= MAX_WAITING and not self._closing:
            self._room.clear()
            await self._room.wait()
        if self._closing:
            raise StoreError("The store is closed.")
        future: asyncio.Future[T] = self._loop.create_future()
        self._waiting += 1
        self._queue.put(_Job(work, kind, future))
        return await future

    @property
    def may_write_now(self) -> bool:
        """Whether `do_now` is worth preparing for: commits do not wait for the disk and are quick, and checkpoints keep up."""
        return (
            self._inline
            and not self._closing
            and self._ledger.pages < MAX_BEHIND_PAGES
            and (not self._inline_from or time.monotonic() >= self._inline_from)
        )

    def append_now(self, appendings: Sequence[Appending]) -> list[Written | None]:
        """Do those that are plain in one commit, here and now; None for those that were not done.

        Only if `may_write_now`: who prepares them has asked.
        """
        done: list[Written | None] = [None] * len(appendings)
        if not self._turn.acquire(blocking=False):
            return done
        try:
            began = time.monotonic()
            self._append(appendings, done)
            ended = time.monotonic()
            self._slow = self._slow + 1 if ended - began > SLOW_S else 0
            self._inline_from = ended + RECOVER_S if self._slow >= SLOW_TIMES else 0.0
        finally:
            self._turn.release()
        if not self._asked and self._checkpointer is not None and self._checkpointer.is_due(self._ledger.pages):
            self._asked = True
            self._queue.put(_LOOK_AROUND)
        return done

    def _append(self, appendings: Sequence[Appending], done: list[Written | None]) -> None:
        self._failed = False
        count = 0
        try:
            for place, one in enumerate(appendings):
                if one.is_plain:
                    try:
                        done[place] = self._ledger.append(one)
                        count += 1
                    except RuncastError:
                        continue  # it is met again, and reported, by the long way
            self._ledger.commit()
        except Exception as error:
            self._fail([], error)
            done[:] = [None] * len(done)
            count = 0
        if self._failed:
            self.healthy = False
        elif count:
            self.healthy = True

    @property
    def is_idle(self) -> bool:
        """Whether all that was accepted is done and told."""
        return self._waiting == 0

    def take_turn(self) -> bool:
        """Whether the event loop may use the ledger's memory until `give_turn`, in this step: nothing is uncommitted then."""
        return not self._closing and self._turn.acquire(blocking=False)

    def give_turn(self) -> None:
        self._turn.release()

    async def close(self) -> None:
        """Do what was accepted, then end the thread. Idempotent."""
        if not self._closing:
            self._closing = True
            self._room.set()
            self._queue.put(None)
        await asyncio.shield(self._closed)

    def _deliver(self, jobs: list[_Job]) -> None:
        self._waiting -= len(jobs)
        if self._waiting < MAX_WAITING:
            self._room.set()
        for job in jobs:
            if job.future is None or job.future.done():
                continue  # its caller was cancelled
            if job.error is not None:
                job.future.set_exception(job.error)
            else:
                job.future.set_result(job.result)

    # --- in the thread --------------------------------------------------------------------------------------------

    def _run(self) -> None:
        closing = False
        while not closing:
            jobs, closing = self._gather()
            if jobs:
                with self._turn:
                    self._carry_out(jobs)
                self._tell(self._deliver, jobs)
                del jobs
            self._checkpoint()
            if self._ledger.sealing.backlog > BACKLOG:
                self._tidy()
        while self._ledger.sealing.backlog:
            self._tidy()
        with contextlib.suppress(sqlite3.Error):
            self._db.execute("PRAGMA optimize")
        for connection in (self._db, self._checkpointer):
            if connection is not None:
                with contextlib.suppress(sqlite3.Error):
                    connection.close()
        self._tell(self._end)

    def _gather(self) -> tuple[list[_Job], bool]:
        """The next group, and whether it is the last. While there is none, the journal is tidied."""
        first = self._next()
        if first is None:
            return [], True
        jobs = [first] if isinstance(first, _Job) else []
        while len(jobs) < MAX_GROUP:
            try:
                job = self._queue.get_nowait()
            except queue.Empty:
                break
            if job is None:
                return jobs, True
            if isinstance(job, _Job):
                jobs.append(job)
        return jobs, False

    def _next(self) -> _Job | _LookAround | None:
        while self._ledger.sealing.backlog:
            try:
                return self._queue.get_nowait()
            except queue.Empty:
                self._tidy()
        return self._queue.get()

    def _checkpoint(self) -> None:
        """Bring the write-ahead log into the file when it has grown. The long part beside the writing, the rest in a turn of
        its own: only a log that is brought in whole can begin anew."""
        self._asked = False
        if self._checkpointer is None or not self._checkpointer.is_due(self._ledger.pages):
            return
        try:
            self._checkpointer.run()
            with self._turn:
                self._checkpointer.run()
                self._ledger.pages = 0
        except sqlite3.Error as error:
            logger.warning("a checkpoint failed", exc_info=error, extra={"action": "checkpoint_failed"})

    def _carry_out(self, jobs: list[_Job]) -> None:
        ledger = self._ledger
        self._failed = False
        changes = self._db.total_changes
        try:
            for job in jobs:
                if job.kind != "read":
                    self._write(job)
            ledger.commit()
        except Exception as error:
            self._fail(jobs, error)
        if self._failed:
            self.healthy = False
        elif self._db.total_changes > changes:
            self.healthy = True
        for job in jobs:
            if job.kind == "read" and job.error is None:
                try:
                    job.result = job.work()
                except Exception as error:
                    job.error = self._mapped(error)

    def _write(self, job: _Job) -> None:
        """Raises: Exception: the group cannot go on."""
        try:
            job.result = job.work() if job.kind == "plain" else self._ledger.alone(job.work)
        except RuncastError as error:
            job.error = error
        except Exception as error:
            if job.kind == "plain" or not self._db.in_transaction:
                raise
            job.error = self._mapped(error)

    def _fail(self, jobs: list[_Job], error: Exception) -> None:
        try:
            self._ledger.rollback()
        except sqlite3.Error as again:
            logger.error("a failed group could not be rolled back", exc_info=again, extra={"action": "rollback_failed"})
        mapped = self._mapped(error)
        for job in jobs:
            if job.kind != "read" and job.error is None:
                job.result = None
                job.error = type(mapped)(mapped.message, retry_after_ms=mapped.retry_after_ms)

    def _mapped(self, error: Exception) -> RuncastError:
        mapped = map_error(error)
        self._failed = self._failed or is_failure(error)
        if mapped is not error:
            logger.error("the database failed", exc_info=error, extra={"action": "store_failed"})
            mapped.__cause__ = error
        return mapped

    def _tidy(self) -> None:
        try:
            with self._turn:
                self._ledger.sealing.tidy()
        except (sqlite3.Error, StoreError) as error:
            self.healthy = self.healthy and not is_failure(error)
            logger.warning("the journal could not be tidied", exc_info=error, extra={"action": "tidy_failed"})

    def _end(self) -> None:
        if not self._closed.done():
            self._closed.set_result(None)

    def _tell(self, what: Callable[..., object], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to hear it
            self._loop.call_soon_threadsafe(what, *arguments)
