"""Faults below a server process that the test switches on and off while it runs: see `faults.c`, which is compiled here."""

from __future__ import annotations

import errno
import mmap
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent / "faults.c"
FIELDS = ("space", "write_error", "sync_error", "clock_ms", "writes", "syncs")


class Faults:
    def __init__(self, directory: Path) -> None:
        """Raises pytest's skip where there is no C compiler or no LD_PRELOAD."""
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None or not Path("/proc/self/fd").is_dir():
            pytest.skip("faults below the process need a C compiler and Linux")
        library = directory / "faults.so"
        subprocess.run(
            [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-o", library, SOURCE, "-ldl"], check=True, timeout=60
        )
        shared = directory / "faults"
        shared.write_bytes(bytes(8 * len(FIELDS)))
        self.environment = {"LD_PRELOAD": str(library), "RUNCAST_FAULTS": str(shared)}
        with open(shared, "r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 0)
        self.disk_has(None)

    def disk_has(self, space: int | None) -> None:
        """So many bytes can be written to the database from now on; None: any number."""
        self._set("space", -1 if space is None else space)

    def writes_fail(self, *, failing: bool = True) -> None:
        self._set("write_error", errno.EIO if failing else 0)

    def flushes_fail(self, *, failing: bool = True) -> None:
        self._set("sync_error", errno.EIO if failing else 0)

    def clock_jumps(self, seconds: float) -> None:
        """The wall clock is off by so much from now on."""
        self._set("clock_ms", int(seconds * 1000))

    @property
    def refused_writes(self) -> int:
        return self._get("writes")

    @property
    def refused_flushes(self) -> int:
        return self._get("syncs")

    def _set(self, field: str, value: int) -> None:
        struct.pack_into("q", self._memory, 8 * FIELDS.index(field), value)

    def _get(self, field: str) -> int:
        return int(struct.unpack_from("q", self._memory, 8 * FIELDS.index(field))[0])
