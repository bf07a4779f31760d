"""A SQLite database that is only ever read: how it is opened, guarded, limited in time, and stopped.

Three locks, each enough alone: the file is opened with `mode=ro`, the connection is set to `query_only`, and statements
that come from a model or a person run under an authorizer that knows nothing but reading (`guarded`). The schema itself is
not trusted either (`trusted_schema=OFF`): a view in a stranger's file may not call functions with side effects.

SQLite works in worker threads. A `Reader` is one connection, used by one thread at a time; when the awaiting task is
cancelled the statement is interrupted and the thread is waited for, so that nothing goes on after a Stop.

Sources: SQLite documentation, "URI Filenames", "Compile-Time Authorization Callbacks", "Defense Against The Dark Arts".
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import anyio
from anyio import from_thread, to_thread

from runcast.errors import ConfigError
from runcast.ids import Clock, SystemClock
from runcast.scenes.explorer import sample

T = TypeVar("T")

TIME_LIMIT_S = 10.0
"""The longest one piece of work on a connection may take."""

_STEPS = 2_000
"""Virtual machine instructions between two looks at the clock: about 0.1 ms."""

_MAX_VALUE_BYTES = 32 * 1024 * 1024
_MAX_SQL_BYTES = 64 * 1024
_READS = frozenset(
    {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
)  # fmt: skip
_FORBIDDEN_FUNCTIONS = frozenset({"load_extension", "fts3_tokenizer"})


class QueryStopped(Exception):
    """The statement ran out of time (`timed_out`), or the task that awaited it was cancelled."""

    def __init__(self, timed_out: bool) -> None:
        super().__init__("time limit" if timed_out else "cancelled")
        self.timed_out = timed_out


class Reader:
    """One read-only connection. Not for two tasks at once."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], clock: Clock, time_limit_s: float) -> None:
        self._connect = connect
        self._clock = clock
        self._time_limit_s = time_limit_s
        self._connection: sqlite3.Connection | None = None
        self._stopped = threading.Event()
        self._busy = threading.Lock()

    async def run(self, work: Callable[[sqlite3.Connection], T], *, time_limit_s: float | None = None) -> T:
        """Call `work` with the connection in a worker thread. Returns when the thread has left it, also when cancelled.

        Raises:
            QueryStopped: it took longer than `time_limit_s`, by default the database's.
            sqlite3.Error: what the work raised.
        """
        limit = self._time_limit_s if time_limit_s is None else time_limit_s
        started = threading.Event()
        ended = anyio.Event()

        def call() -> T:
            started.set()
            try:
                return self._call(work, limit)
            finally:
                with suppress(RuntimeError):  # the loop is gone: nobody waits
                    from_thread.run_sync(ended.set)

        try:
            return await to_thread.run_sync(call, abandon_on_cancel=True)
        except anyio.get_cancelled_exc_class():
            self.stop()
            if started.is_set():
                with anyio.move_on_after(5, shield=True):
                    await ended.wait()
            raise

    def stop(self) -> None:
        """Stop the statement under way, and every later one. Any thread may call it."""
        self._stopped.set()
        connection = self._connection
        if connection is not None:
            with suppress(sqlite3.ProgrammingError):  # closed meanwhile
                connection.interrupt()

    def close(self) -> None:
        """Close the connection, unless a thread that did not stop still holds it."""
        if self._busy.acquire(blocking=False):
            try:
                if self._connection is not None:
                    self._connection.close()
            finally:
                self._busy.release()

    def _call(self, work: Callable[[sqlite3.Connection], T], limit: float) -> T:
        with self._busy:
            if self._stopped.is_set():
                raise QueryStopped(timed_out=False)
            deadline = self._clock.monotonic() + limit

            def over() -> bool:
                return self._stopped.is_set() or self._clock.monotonic() > deadline

            connection = self._connection
            if connection is None:
                connection = self._connection = self._connect()
            connection.set_progress_handler(over, _STEPS)
            try:
                return work(connection)
            except sqlite3.OperationalError as error:
                if over():
                    raise QueryStopped(timed_out=not self._stopped.is_set()) from error
                raise
            finally:
                connection.set_progress_handler(None, 0)


class Database:
    """A source of readers: the sample, or any SQLite file."""

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        clock: Clock | None = None,
        time_limit_s: float | None = None,
    ) -> None:
        """The file at `path`, or the sample if it is None. `time_limit_s` is by default `TIME_LIMIT_S`.

        Raises:
            ConfigError: no such file, or not a SQLite database.
        """
        self.path = None if path is None else Path(path)
        self._clock = clock or SystemClock()
        self._time_limit_s = TIME_LIMIT_S if time_limit_s is None else time_limit_s
        if self.path is not None:
            _check(self.path)

    @property
    def name(self) -> str:
        """What people call it: the sample's schema, or the file's name without its suffix."""
        return sample.SCHEMA_NAME if self.path is None else self.path.stem

    @property
    def as_of(self) -> str:
        """When its contents last changed, ISO 8601 in UTC."""
        if self.path is None:
            return sample.AS_OF
        changed = max(
            file.stat().st_mtime for file in (self.path, Path(f"{self.path}-wal")) if file == self.path or file.exists()
        )
        return datetime.fromtimestamp(changed, UTC).isoformat(timespec="seconds")

    def connect(self) -> sqlite3.Connection:
        """A new read-only connection, usable from any one thread at a time. The caller closes it."""
        if self.path is None:
            connection = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
            connection.deserialize(sample.image())
        else:
            uri = f"file:{quote(str(self.path.absolute()))}?mode=ro"
            connection = sqlite3.connect(uri, uri=True, check_same_thread=False, isolation_level=None, timeout=2.0)
        connection.execute("PRAGMA query_only = ON")
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_VALUE_BYTES)
        connection.setlimit(sqlite3.SQLITE_LIMIT_SQL_LENGTH, _MAX_SQL_BYTES)
        connection.text_factory = _text
        return connection

    @asynccontextmanager
    async def reader(self) -> AsyncGenerator[Reader]:
        """A reader for the time of the block."""
        reader = Reader(self.connect, self._clock, self._time_limit_s)
        try:
            yield reader
        finally:
            reader.close()


@contextmanager
def guarded(connection: sqlite3.Connection) -> Generator[None]:
    """Let the connection do nothing but read while the block lasts: for statements that others wrote."""
    connection.set_authorizer(_authorize)
    try:
        yield
    finally:
        connection.set_authorizer(None)


def _authorize(action: int, first: str | None, second: str | None, database: str | None, source: str | None) -> int:
    if action == sqlite3.SQLITE_FUNCTION and (second or "").lower() in _FORBIDDEN_FUNCTIONS:
        return sqlite3.SQLITE_DENY
    if action == sqlite3.SQLITE_READ and (first or "").lower().startswith("pragma_"):
        return sqlite3.SQLITE_DENY  # a PRAGMA in the shape of a table, which a connection may know from the catalogue
    if action in _READS:
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_PRAGMA and first == "data_version" and second is None:
        return sqlite3.SQLITE_OK  # what full-text tables ask of themselves at each read
    return sqlite3.SQLITE_DENY


def _text(value: bytes) -> str:
    # A TEXT column may hold any bytes; a reader of other people's files must not stop at them.
    return value.decode("utf-8", "replace")


def _check(path: Path) -> None:
    if not path.is_file():
        raise ConfigError(f"There is no database file {str(path)!r}. Give the path of a SQLite file.")
    with path.open("rb") as file:
        head = file.read(16)
    if (
        head and head != b"SQLite format 3\x00"
    ):  # an empty file is an empty database (SQLite, "Database File Format", 1.3)
        raise ConfigError(f"{str(path)!r} is not a SQLite database: it does not begin with 'SQLite format 3'.")
