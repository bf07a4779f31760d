"""Disks that are really full: what the kernel refuses, not a library under the process."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import subprocess
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from .process import ServerProcess


class Room(Protocol):
    prefix: Sequence[str]
    """What starts a process that sees it."""

    def fill(self, server: ServerProcess) -> None:
        """From now on nothing more fits."""

    def clear(self, server: ServerProcess) -> None:
        """There is room again."""


class Allowance:
    """RLIMIT_FSIZE (setrlimit(2)): no file of the process grows beyond so many bytes, a write there is EFBIG. Needs no rights."""

    BYTES = 48 * 1024
    """More than the file that SQLite shares among processes (-shm), less than a log of some hundred events."""
    prefix: Sequence[str] = ()

    def fill(self, server: ServerProcess) -> None:
        self._allow(server, self.BYTES)

    def clear(self, server: ServerProcess) -> None:
        self._allow(server, resource.RLIM_INFINITY)

    def _allow(self, server: ServerProcess, size: int) -> None:
        if server.is_running:
            resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


class SmallDisk:
    """A file system of a few megabytes, that only the server sees: the rest of it is filled, a write there is ENOSPC. It is gone
    with the process that holds it, and that one ends with this one."""

    SIZE = "8m"

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        script = f'mount -t tmpfs -o size={self.SIZE} tmpfs "$0" && echo mounted && exec cat'
        self._holder = subprocess.Popen(
            [*_unshare(), "sh", "-c", script, str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != b"mounted\n":
            self.close()
            raise OSError(errno.EPERM, "no file system can be mounted here")
        names = ["--mount", *(() if os.geteuid() == 0 else ("--user", "--preserve-credentials"))]
        self.prefix = ["nsenter", "--target", str(self._holder.pid), *names, f"--wd={directory.parent}", "--"]
        self._ballast = Path(f"/proc/{self._holder.pid}/root{directory}/ballast")

    def fill(self, server: ServerProcess) -> None:
        with self._ballast.open("ab", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise

    def clear(self, server: ServerProcess) -> None:
        self._ballast.unlink(missing_ok=True)

    def close(self) -> None:
        assert self._holder.stdin is not None and self._holder.stdout is not None
        self._holder.stdin.close()
        self._holder.wait()
        self._holder.stdout.close()


def _unshare() -> list[str]:
    return ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]


def kinds() -> list[str]:
    """What can be had on this machine: an allowance always (on Linux), a file system of one's own where one may be mounted."""
    if not hasattr(resource, "prlimit"):
        return []
    if any(shutil.which(tool) is None for tool in ("unshare", "nsenter", "mount")):
        return ["allowance"]
    tried = subprocess.run(
        [*_unshare(), "sh", "-c", "mount -t tmpfs -o size=64k tmpfs /mnt"], capture_output=True, timeout=30, check=False
    )
    return ["allowance", "small disk"] if tried.returncode == 0 else ["allowance"]


@contextmanager
def room(kind: str, directory: Path) -> Generator[tuple[Room, Path]]:
    """The room, and where a database in it is."""
    if kind == "allowance":
        yield Allowance(), directory / "log.db"
        return
    disk = SmallDisk(directory / "disk")
    try:
        yield disk, directory / "disk" / "log.db"
    finally:
        disk.close()
