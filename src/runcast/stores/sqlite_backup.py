"""The SQLite file as a whole: copied while a server writes to it, rewritten without its holes, brought to a newer format.

A copy is made with `VACUUM INTO`: one state of the file, without what was deleted from it. Its logs get new epochs, because
from here on they may go other ways: a reader that followed the original is told to start over when the copy takes its
place (`resync`), instead of being given other events under the same numbers.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import sys
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from runcast.errors import ConfigError, StoreError
from runcast.ids import new_epoch
from runcast.stores.sql import load_migrations
from runcast.stores.sqlite_file import check_current, check_version, connect, lock, map_error
from runcast.stores.sqlite_file import migrate as migrate_connection

_PRIVATE = 0o600
ATTEMPTS = 3


class Sizes(NamedTuple):
    """Bytes of the file."""

    before: int
    after: int


class Formats(NamedTuple):
    """The file's format and this version's."""

    have: int
    newest: int


def back_up(path: str, target: str, *, force: bool = False) -> int:
    """Copy the database at `path` to the file `target` (mode 0600), also while a server writes to it: its bytes.

    Raises:
        ConfigError: there is no database, or `target` cannot be written or is there already and not to be replaced.
        StoreError: it could not be read or written; `target` is as it was.
    """
    to = Path(target)
    if to.exists() and (not to.is_file() or to.samefile(path)):
        raise ConfigError(f"{target!r} cannot be the backup: it is no file, or the database itself.")
    if to.exists() and not force:
        raise ConfigError(f"{target!r} is there already; --force replaces it, or name another file.")
    if not to.parent.is_dir():
        raise ConfigError(f"There is no directory {str(to.parent)!r} to write the backup to.")
    files, kept_files = contents_of(path), contents_of(target)
    with _not_written_to(target if to.exists() else None), _part_of(to) as part:
        part_files = contents_of(str(part))
        for _ in range(ATTEMPTS):
            _copy(path, part)
            if _copy_contents(contents_named(part), files, part_files):
                break  # else some went while they were copied: what names them has gone too
        else:
            raise StoreError("Files that the database names are missing beside it; `runcast db check` says which.")
        _flush(part)
        for stale in ("-wal", "-shm", "-journal"):  # of the file that is replaced: they must not be applied to this one
            to.with_name(to.name + stale).unlink(missing_ok=True)
        shutil.rmtree(kept_files, ignore_errors=True)
        if part_files.exists():
            part_files.replace(kept_files)
        part.replace(to)
        _flush(to.parent)
    return to.stat().st_size + sum(size for _, size in contents_named(to))


def contents_of(path: str) -> Path:
    """The directory beside a database that has the bytes of its files, each under its SHA-256: `ab/abcd…`."""
    return Path(path + ".files")


def contents_named(path: Path) -> list[tuple[str, int]]:
    """SHA-256 and size of each content that a database names."""
    with closing(sqlite3.connect(path)) as connection, _mapped():
        if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'files'").fetchone() is None:
            return []
        return connection.execute("SELECT DISTINCT sha256, size FROM files ORDER BY sha256").fetchall()


def vacuum(path: str) -> Sizes:
    """Rewrite the file without holes and without what was deleted, and make the search's index anew.

    It needs free room as large as the file, for a while.

    Raises:
        StoreLocked: a server holds the file. ConfigError: there is none. StoreError: it did not work; nothing was changed.
    """
    before = _size(path)
    with _held(path) as connection, _mapped():
        check_current(connection)
        connection.execute("INSERT INTO said_words (said_words) VALUES ('rebuild')")
        connection.execute("INSERT INTO said_words (said_words) VALUES ('optimize')")
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return Sizes(before, _size(path))


def formats(path: str) -> Formats:
    """
    Raises:
        ConfigError: there is no database of ours, or one of a newer version.
    """
    with closing(connect(path, durability="process", read_only=True)) as connection, _mapped():
        have = check_version(connection)
    if have == 0:
        raise ConfigError(f"The file {path!r} is no database of Runcast.")
    return Formats(have, load_migrations()[-1].version)


def migrate(path: str, backup: str) -> None:
    """Bring the file to this version's format, a copy of it as it is to `backup` first.

    Raises:
        StoreLocked: a server holds the file. ConfigError: it cannot be brought up to date, or `backup` is there already.
    """
    with _held(path) as connection, _mapped():
        back_up(path, backup)
        migrate_connection(connection)


def _copy(path: str, part: Path) -> None:
    """One state of the database at `path`, into the file `part`."""
    part.write_bytes(b"")
    with closing(connect(path, durability="process", read_only=True)) as connection, _mapped():
        if check_version(connection) == 0:
            raise ConfigError(f"The file {path!r} is no database of Runcast.")
        connection.execute("VACUUM INTO ?", (str(part),))
    with closing(sqlite3.connect(part, isolation_level=None)) as copy, _mapped():
        copy.create_function("new_epoch", 0, new_epoch)
        copy.execute("PRAGMA synchronous = FULL")
        copy.execute("UPDATE threads SET epoch = new_epoch()")


def _copy_contents(named: list[tuple[str, int]], source: Path, target: Path) -> bool:
    """Copy what is not there yet; False if one is missing."""
    for digest, _ in named:
        to = target / digest[:2] / digest
        if to.exists():
            continue
        for directory in (target, to.parent):
            directory.mkdir(mode=0o700, exist_ok=True)
        try:
            with (source / digest[:2] / digest).open("rb") as content, to.open("xb") as copy:
                to.chmod(_PRIVATE)
                shutil.copyfileobj(content, copy, 1 << 20)
                copy.flush()
                os.fsync(copy.fileno())
        except FileNotFoundError:
            return False
        except OSError as error:
            raise StoreError(f"A file could not be copied: {error.strerror or 'not possible'}.") from error
    return True


@contextmanager
def _held(path: str) -> Generator[sqlite3.Connection]:
    if not Path(path).is_file():
        raise ConfigError(f"There is no database file {path!r}.")
    held = lock(path)
    try:
        with closing(connect(path, durability="power")) as connection:
            yield connection
    finally:
        held.release()


@contextmanager
def _not_written_to(path: str | None) -> Generator[None]:
    """Keep a server from starting on the file that is about to be replaced, or refuse if one runs."""
    if path is None:
        yield
        return
    held = lock(path)
    try:
        yield
    finally:
        held.release()


@contextmanager
def _part_of(target: Path) -> Generator[Path]:
    """An empty file beside `target` that takes its place in the end; it is removed if that does not come to pass."""
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        os.close(os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, _PRIVATE))
    except OSError as error:
        raise ConfigError(
            f"The backup {str(target)!r} cannot be written: {error.strerror or 'not possible'}."
        ) from error
    try:
        yield part
    finally:
        for name in (part, part.with_name(part.name + "-journal")):
            name.unlink(missing_ok=True)
        shutil.rmtree(contents_of(str(part)), ignore_errors=True)


@contextmanager
def _mapped() -> Generator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise map_error(error) from error


def _size(path: str) -> int:
    return sum(Path(path + end).stat().st_size for end in ("", "-wal") if Path(path + end).exists())


def _flush(path: Path) -> None:
    if sys.platform == "win32":
        return
    with contextlib.suppress(OSError):  # a directory on some file systems
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
