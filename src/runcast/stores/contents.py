"""A directory of contents, each under its SHA-256: `ab/abcd…`. What is there is whole; what is being written is in `staging/`.

Blocking, for worker threads. Files are for the owner alone (0600, directories 0700). One process writes: the one that holds
the database's lock.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from runcast.errors import NotFound, StorageFull, StoreError

_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_PRIVATE_FILE = 0o600
_PRIVATE_DIRECTORY = 0o700
_CREATE = os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


class StagedContent:
    """Bytes on their way into the directory."""

    def __init__(self, path: Path, descriptor: int, *, durable: bool) -> None:
        self.path = path
        self.size = 0
        self.digest = ""
        """Once it is finished."""
        self._durable = durable
        self._hash = hashlib.sha256()
        self._file: BinaryIO | None = os.fdopen(descriptor, "wb", buffering=0)

    def write(self, data: bytes) -> None:
        """
        Raises:
            StorageFull, StoreError.
        """
        if self._file is None:
            raise StoreError("The file was finished already.")
        view = memoryview(data)
        try:
            while view:
                written = self._file.write(view)
                self._hash.update(view[:written])
                self.size += written
                view = view[written:]
        except OSError as error:
            raise mapped(error) from error

    def finish(self) -> str:
        if self._file is not None:
            file, self._file = self._file, None
            try:
                with file:
                    if self._durable:
                        os.fsync(file.fileno())
            except OSError as error:
                raise mapped(error) from error
            self.digest = self._hash.hexdigest()
        return self.digest

    def discard(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        self.path.unlink(missing_ok=True)


class Contents:
    """`root` is made at the first use; None: a temporary directory, which goes with `close`. `durable`: what was kept survives
    a power cut."""

    def __init__(self, root: Path | None, *, durable: bool = False) -> None:
        self._root = root
        self._is_temporary = root is None
        self._durable = durable
        self._count = 0

    def stage(self) -> StagedContent:
        """
        Raises:
            StorageFull, StoreError.
        """
        try:
            directory = self._made(self._base() / "staging")
            self._count += 1
            path = directory / f"{os.getpid()}-{self._count}-{os.urandom(4).hex()}"
            return StagedContent(path, os.open(path, _CREATE, _PRIVATE_FILE), durable=self._durable)
        except OSError as error:
            raise mapped(error) from error

    def keep(self, staged: StagedContent) -> None:
        """Put a finished content into its place, in one step. One that is there already is the same, and is replaced.

        Raises:
            StorageFull, StoreError.
        """
        try:
            place = self._place(staged.digest)
            self._made(place.parent)
            try:
                staged.path.replace(place)
            except PermissionError:
                if not place.exists():
                    raise
                staged.path.unlink()  # Windows replaces nothing that is being read
            if self._durable:
                _sync(place.parent)
        except OSError as error:
            raise mapped(error) from error

    def open(self, digest: str) -> BinaryIO:
        """
        Raises:
            NotFound: it is not there (any more). StoreError.
        """
        try:
            return self._place(digest).open("rb", buffering=0)
        except FileNotFoundError:
            raise NotFound("There is no such file.") from None
        except OSError as error:
            raise mapped(error) from error

    def has(self, digest: str) -> bool:
        return self._place(digest).exists()

    def drop(self, digest: str) -> bool:
        """Remove a content; whether it is gone. False if the system does not let it go now."""
        place = self._place(digest)
        try:
            place.unlink(missing_ok=True)
        except OSError:
            return False
        try:
            place.parent.rmdir()
        except OSError:
            pass  # others are in it, or it was never made
        return True

    def all(self) -> Iterator[str]:
        """The digests of all contents, in no order."""
        if self._root is None or not self._root.is_dir():
            return
        for directory in list(self._root.iterdir()):
            if len(directory.name) == 2 and directory.is_dir():
                for file in list(directory.iterdir()):
                    if _DIGEST.match(file.name):
                        yield file.name

    def clear_staging(self) -> None:
        """Remove what a dead process was writing. Only before anything is staged here."""
        if self._root is not None:
            shutil.rmtree(self._root / "staging", ignore_errors=True)

    def close(self) -> None:
        if self._is_temporary and self._root is not None:
            shutil.rmtree(self._root, ignore_errors=True)
            self._root = None

    def _base(self) -> Path:
        if self._root is None:
            self._root = Path(tempfile.mkdtemp(prefix="runcast-files-"))
        return self._root

    def _place(self, digest: str) -> Path:
        if _DIGEST.match(digest) is None:
            raise StoreError("This is no content's name.")
        return self._base() / digest[:2] / digest

    def _made(self, directory: Path) -> Path:
        if not directory.is_dir():
            directory.mkdir(mode=_PRIVATE_DIRECTORY, parents=True, exist_ok=True)
            directory.parent.chmod(_PRIVATE_DIRECTORY)  # `parents` does not take the mode
            if self._durable:
                _sync(directory.parent)
                _sync(directory.parent.parent)
        return directory


def mapped(error: OSError) -> StoreError:
    """What a failure of the file system means; the message names no path."""
    if error.errno in _NO_ROOM:
        return StorageFull("There is no room for this file on the server's disk.")
    return StoreError("The server's disk failed while a file was read or written.")


def _sync(directory: Path) -> None:
    """Make a new name in a directory survive a power cut; not possible, and not needed, on Windows."""
    try:
        descriptor = os.open(directory, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)
