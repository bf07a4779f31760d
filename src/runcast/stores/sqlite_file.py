"""The SQLite file: made, locked, opened, brought to this version's schema; and what its errors mean.

One process writes to a file. It holds an exclusive lock on `<file>.lock` for as long as it lives; the operating system
gives it up when the process dies, however it dies. Others may open the file for reading.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol

from runcast.errors import ConfigError, RuncastError, StoreCorrupt, StoreError, StoreLocked
from runcast.stores.sql import Migration, load_migrations

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

Durability = Literal["process", "power"]
MEMORY = ":memory:"
OLDEST_SQLITE = (3, 38, 0)
"""Upserts, RETURNING, and JSON in every build."""
BUSY_S = 2.0
"""How long a statement waits for another process (a backup, a shell) to let go of the file."""
CHECKPOINT_PAGES = 1000
_PRIVATE = 0o600


class FileLock(Protocol):
    """The lock of the one process that writes."""

    def release(self) -> None: ...


class _OsLock:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, _PRIVATE)
        try:
            if sys.platform == "win32":
                msvcrt.locking(self._descriptor, msvcrt.LK_NBLCK, 1)
            else:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._descriptor)
            raise StoreLocked(
                f"The database {path.name.removesuffix('.lock')!r} is in use by another Runcast process; "
                "stop that one, or give this one another file."
            ) from error

    def release(self) -> None:
        # The file stays: to remove it would let two processes lock two files of the same name.
        os.close(self._descriptor)


class _NoLock:
    def release(self) -> None:
        pass


def lock(path: str) -> FileLock:
    """Become the file's only writer; its directory and the file are made if they are not there, for the owner alone.

    Raises:
        StoreLocked: another process writes to it.
        ConfigError: the place cannot be used.
    """
    if path == MEMORY:
        return _NoLock()
    file = Path(path)
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        held = _OsLock(file.with_name(file.name + ".lock"))
        # SQLite gives -wal and -shm the mode of the file itself.
        os.close(os.open(file, os.O_RDWR | os.O_CREAT, _PRIVATE))
        return held
    except OSError as error:
        reason = error.strerror or "not possible"
        raise ConfigError(f"The database file {path!r} cannot be opened or made: {reason}.") from error


def connect(path: str, *, durability: Durability, read_only: bool = False) -> sqlite3.Connection:
    """A connection in autocommit mode. The caller sees to it that one thread at a time uses it."""
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        raise ConfigError(
            f"SQLite {'.'.join(map(str, OLDEST_SQLITE))} or newer is needed; this Python has {sqlite3.sqlite_version}."
        )
    if read_only and not Path(path).is_file():
        raise ConfigError(f"There is no database file {path!r}.")
    target = Path(path).absolute().as_uri() + "?mode=ro" if read_only else path
    connection = sqlite3.connect(
        target, timeout=BUSY_S, isolation_level=None, check_same_thread=False, cached_statements=256, uri=read_only
    )
    try:
        connection.execute("PRAGMA temp_store = MEMORY")
        if not read_only:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # of a new file; an older one needs a VACUUM too
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA secure_delete = ON")  # deleted is deleted; many builds of SQLite have it so
            connection.execute(f"PRAGMA synchronous = {'FULL' if durability == 'power' else 'NORMAL'}")
            connection.execute("PRAGMA journal_size_limit = 67108864")
            connection.execute("PRAGMA wal_autocheckpoint = 0")  # a commit must not wait for one: see Checkpointer
            connection.execute("PRAGMA cache_size = -16000")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


class Checkpointer:
    """Brings the write-ahead log into the file, over a connection of its own, so that it can go on beside commits."""

    def __init__(self, path: str, *, durability: Durability) -> None:
        self._db = connect(path, durability=durability)

    def is_due(self, pages: int) -> bool:
        """Whether a log that grew by about `pages` pages should be brought in."""
        return pages >= CHECKPOINT_PAGES

    def run(self) -> None:
        """Bring in what no reader holds back (sqlite.org/pragma.html#pragma_wal_checkpoint, PASSIVE)."""
        self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()

    def close(self) -> None:
        self._db.close()


def migrate(connection: sqlite3.Connection, migrations: Sequence[Migration] | None = None) -> None:
    """Bring the file to the newest version, each step in one transaction.

    Raises:
        ConfigError: the file is of a newer version, or no file of ours.
    """
    migrations = load_migrations() if migrations is None else migrations
    have = check_version(connection, migrations)
    if have == 0 and connection.execute("SELECT 1 FROM sqlite_master").fetchone() is not None:
        raise ConfigError("This SQLite file belongs to another program; give Runcast a file of its own.")
    for version, script in migrations:
        if version > have:
            try:
                connection.executescript(f"BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version = {version};\nCOMMIT;")
            except sqlite3.Error:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise


def check_version(connection: sqlite3.Connection, migrations: Sequence[Migration] | None = None) -> int:
    """The file's version, at most ours."""
    migrations = load_migrations() if migrations is None else migrations
    newest = max((migration.version for migration in migrations), default=0)
    have: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if have > newest:
        raise ConfigError(
            f"The database has format {have}, this version of Runcast knows formats up to {newest}; "
            "use the newer Runcast that wrote it, or another file."
        )
    return have


def check_current(connection: sqlite3.Connection) -> None:
    """
    Raises:
        ConfigError: the file is not of this version's format, or no file of ours.
    """
    have, newest = check_version(connection), load_migrations()[-1].version
    if have == 0:
        raise ConfigError("This file is no database of Runcast.")
    if have < newest:
        raise ConfigError(
            f"The database has format {have}, older than this version of Runcast reads ({newest}); "
            "start a server on it, or run `runcast db migrate`."
        )


def is_failure(error: BaseException) -> bool:
    """Whether an error means that the file could not be used, and not that what was asked of it was wrong."""
    return isinstance(error, sqlite3.OperationalError) or type(error) is sqlite3.DatabaseError


def map_error(error: BaseException) -> RuncastError:
    """What a failure in the store means to the caller; the message names no path and no foreign text."""
    if isinstance(error, RuncastError):
        return error
    if isinstance(error, sqlite3.Error):
        # Extended codes keep the primary one in their low byte (sqlite.org/rescode.html).
        code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return StoreCorrupt("The database file is damaged; restore it from a backup.")
        if code == sqlite3.SQLITE_FULL:
            return StoreError("The disk is full: nothing more can be stored until there is room.")
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return StoreError("Another program kept the database locked; try again.", retry_after_ms=1_000)
        if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN):
            return StoreError("The database file cannot be written to.")
        if code == sqlite3.SQLITE_IOERR:
            return StoreError("The disk failed while the database was read or written.")
    return StoreError("The database could not carry this out.")
