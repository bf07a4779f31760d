"""Files in memory: what `MemoryStore` keeps beside its logs. No method waits for anything."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager

from runcast.errors import NotFound, StoreError, TooManyFiles, UnknownFile
from runcast.files import StoredFile
from runcast.runs import Principal
from runcast.stores.base import Receipt
from runcast.stores.files import Content, Files, Staging


class _Staging(Staging):
    def __init__(self) -> None:
        self.size = 0
        self.data = bytearray()
        self.finished: bytes | None = None

    async def write(self, data: bytes) -> None:
        if self.finished is not None:
            raise StoreError("The file was finished already.")
        self.data += data
        self.size = len(self.data)

    async def finish(self) -> str:
        self.finished = bytes(self.data)
        return hashlib.sha256(self.finished).hexdigest()

    async def discard(self) -> None:
        self.data.clear()


class _Content(Content):
    def __init__(self, data: bytes) -> None:
        self._data = data

    async def read(self, offset: int, size: int) -> bytes:
        return self._data[offset : offset + size]


class MemoryFiles(Files):
    def __init__(self, keep_receipt: Callable[[Principal, Receipt], None]) -> None:
        """`keep_receipt` checks a receipt and keeps it."""
        self._keep_receipt = keep_receipt
        self._rows: dict[str, StoredFile] = {}
        self._data: dict[str, bytes] = {}
        self._threads: dict[str, set[str]] = {}
        """By file: the threads that hold it."""

    # --- for the store --------------------------------------------------------------------------------------------

    def check(self, owner: tuple[str, str], files: Iterable[str]) -> None:
        """
        Raises:
            UnknownFile: one is not there, or not the owner's.
        """
        for id in files:
            file = self._rows.get(id)
            if file is None or (file.tenant, file.user) != owner:
                raise UnknownFile(f"There is no file {id!r}; upload it first.")

    def bind(self, thread: str, files: Iterable[str]) -> None:
        """The thread holds these, which `check` has let pass."""
        for id in files:
            self._threads[id].add(thread)

    def let_go(self, thread: str) -> None:
        """The thread is gone: so are the files that no other holds."""
        for id, threads in list(self._threads.items()):
            if thread in threads:
                threads.discard(thread)
                if not threads:
                    self._delete(id)

    # --- the seam -------------------------------------------------------------------------------------------------

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
        assert isinstance(staging, _Staging)
        assert staging.finished is not None
        pending = sum(row.size for row in self._of(owner) if not self._threads[row.id])
        if pending_bytes is not None and pending + file.size > pending_bytes:
            raise TooManyFiles(
                "You have uploaded more files than you have sent; send or wait before you upload others."
            )
        if receipt is not None:
            self._keep_receipt(owner, receipt)
        self._rows[file.id], self._data[file.id], self._threads[file.id] = file, staging.finished, set()

    async def get(self, ids: Sequence[str]) -> list[StoredFile]:
        return [self._rows[id] for id in ids if id in self._rows]

    @asynccontextmanager
    async def open(self, file: StoredFile) -> AsyncGenerator[Content]:
        if file.id not in self._data:
            raise NotFound("There is no such file.")
        yield _Content(self._data[file.id])

    async def delete_all(self, owner: Principal) -> int:
        rows = self._of(owner)
        for row in rows:
            self._delete(row.id)
        return len(rows)

    async def collect(self, *, unbound_before: int, orphans: bool = False) -> int:
        del orphans  # nothing can be left behind
        old = [row.id for row in self._rows.values() if row.created_at < unbound_before and not self._threads[row.id]]
        for id in old:
            self._delete(id)
        return len(old)

    def _of(self, owner: Principal) -> list[StoredFile]:
        return [row for row in self._rows.values() if (row.tenant, row.user) == (owner.tenant, owner.user)]

    def _delete(self, id: str) -> None:
        del self._rows[id], self._data[id], self._threads[id]
