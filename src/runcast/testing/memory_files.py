"""The files of a store that keeps everything in memory."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager

from runcast.errors import NotFound, StoreError, TooManyFiles, UnknownFile
from runcast.files import StoredFile
from runcast.runs import Principal
from runcast.stores.base import Receipt
from runcast.stores.files import Content, Files, Staging


class _Staging(Staging):
    def __init__(self) -> None:
        self.size = 0
        self.data = b""
        self._pieces: list[bytes] = []

    async def write(self, data: bytes) -> None:
        self._pieces.append(bytes(data))
        self.size += len(data)

    async def finish(self) -> str:
        self.data = b"".join(self._pieces)
        return hashlib.sha256(self.data).hexdigest()

    async def discard(self) -> None:
        self._pieces.clear()


class _Open(Content):
    def __init__(self, data: bytes) -> None:
        self._data = data

    async def read(self, offset: int, size: int) -> bytes:
        return self._data[offset : offset + size]


class _Kept:
    """One file's row, its bytes and the threads that hold it."""

    def __init__(self, file: StoredFile, data: bytes) -> None:
        self.file = file
        self.data = data
        self.threads: dict[str, None] = {}


class MemoryFiles(Files):
    """Part of `MemoryStore`. `keep_receipt` checks a receipt and keeps it."""

    def __init__(self, keep_receipt: Callable[[tuple[str, str], Receipt, int], None]) -> None:
        self._keep_receipt = keep_receipt
        self._kept: dict[str, _Kept] = {}

    async def stage(self) -> Staging:
        return _Staging()

    async def put(
        self,
        owner: Principal,
        staging: Staging,
        file: StoredFile,
        *,
        now: int,
        receipt: Receipt | None = None,
        pending_bytes: int | None = None,
    ) -> None:
        if not isinstance(staging, _Staging):
            raise StoreError("This was staged in another store.")
        if pending_bytes is not None:
            pending = sum(one.file.size for one in self._kept.values() if _is(one.file, owner) and not one.threads)
            if pending + file.size > pending_bytes:
                raise TooManyFiles(
                    "You have uploaded more files than you have sent; send or wait before you upload others."
                )
        if receipt is not None:
            self._keep_receipt((owner.tenant, owner.user), receipt, now)
        self._kept[file.id] = _Kept(file, staging.data)

    async def get(self, ids: Sequence[str]) -> list[StoredFile]:
        return [self._kept[id].file for id in ids if id in self._kept]

    async def of_owner(self, owner: Principal) -> list[StoredFile]:
        return [one.file for one in self._kept.values() if _is(one.file, owner)]

    @property
    def bytes(self) -> int:
        return sum(len(one.data) for one in self._kept.values())

    @asynccontextmanager
    async def open(self, file: StoredFile) -> AsyncGenerator[Content]:
        kept = self._kept.get(file.id)
        if kept is None:
            raise NotFound("There is no such file.")
        yield _Open(kept.data)

    async def delete_all(self, owner: Principal) -> int:
        mine = [id for id, one in self._kept.items() if _is(one.file, owner)]
        for id in mine:
            del self._kept[id]
        return len(mine)

    async def collect(self, *, unbound_before: int, orphans: bool = False) -> int:
        del orphans  # there is no content without its row
        old = [id for id, one in self._kept.items() if not one.threads and one.file.created_at < unbound_before]
        for id in old:
            del self._kept[id]
        return len(old)

    # --- what a write does ----------------------------------------------------------------------------------------

    def check(self, owner: tuple[str, str], files: Sequence[str]) -> None:
        """
        Raises:
            UnknownFile: one of them is not there, or another's.
        """
        for id in files:
            if id not in self._kept or not _is(self._kept[id].file, Principal(tenant=owner[0], user=owner[1])):
                raise UnknownFile(f"There is no file {id!r}; upload it first.")

    def bind(self, thread: str, files: Sequence[str]) -> None:
        for id in files:
            self._kept[id].threads[thread] = None

    def let_go(self, thread: str) -> None:
        """The thread was deleted: what it alone held goes with it."""
        for id, one in tuple(self._kept.items()):
            if thread in one.threads:
                del one.threads[thread]
                if not one.threads:
                    del self._kept[id]


def _is(file: StoredFile, owner: Principal) -> bool:
    return (file.tenant, file.user) == (owner.tenant, owner.user)
