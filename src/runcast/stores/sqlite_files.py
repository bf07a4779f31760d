"""Files of the SQLite store: rows in the database, contents in the directory `<database>.files` beside it.

A content comes into its place, and goes from it, in the writer's thread only: between two groups of writes, so that none can
be removed because no row names it while its row is on the way. First the row is written, then the content is put into its
place, then the group commits; first the row's deletion is committed, then the content is removed. A crash in between leaves a
content without a row, which `collect` finds.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, BinaryIO, Protocol, TypeVar

import anyio
import anyio.to_thread

from runcast.errors import StoreError, TooManyFiles
from runcast.files import StoredFile
from runcast.runs import Principal
from runcast.stores.base import Receipt
from runcast.stores.contents import Contents, StagedContent, mapped
from runcast.stores.files import Content, Files, Staging
from runcast.stores.sql import SQL
from runcast.stores.sqlite_ledger import Ledger
from runcast.stores.sqlite_writer import Writer

T = TypeVar("T")

THREADS = 4
"""How many read and write contents at the same time; the others wait."""
AT_ONCE = 200
"""Contents looked at between two groups of writes."""


class _Read(Protocol):
    def __call__(self, work: Callable[[sqlite3.Connection], T], /) -> Awaitable[T]: ...


class _Staging(Staging):
    def __init__(self, content: StagedContent, limiter: anyio.CapacityLimiter) -> None:
        self.content = content
        self.size = 0
        self._limiter = limiter

    async def write(self, data: bytes) -> None:
        await anyio.to_thread.run_sync(self.content.write, data, limiter=self._limiter)
        self.size = self.content.size

    async def finish(self) -> str:
        return await anyio.to_thread.run_sync(self.content.finish, limiter=self._limiter)

    async def discard(self) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self.content.discard, limiter=self._limiter)


class _Open(Content):
    def __init__(self, file: BinaryIO, limiter: anyio.CapacityLimiter) -> None:
        self.file = file
        self._limiter = limiter

    async def read(self, offset: int, size: int) -> bytes:
        return await anyio.to_thread.run_sync(self._read, offset, size, limiter=self._limiter)

    def _read(self, offset: int, size: int) -> bytes:
        try:
            self.file.seek(offset)
            return self.file.read(size)
        except OSError as error:
            raise mapped(error) from error


class SqliteFiles(Files):
    """Made by `SqliteStore.open`. Without a ledger and a writer it only reads."""

    def __init__(self, contents: Contents, ledger: Ledger | None, writer: Writer | None, read: _Read) -> None:
        self._contents = contents
        self._ledger = ledger
        self._writer = writer
        self._read = read
        self._limiter = anyio.CapacityLimiter(THREADS)

    async def stage(self) -> Staging:
        self._writing()
        return _Staging(
            await anyio.to_thread.run_sync(self._contents.stage, limiter=self._limiter),
            self._limiter,
        )

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
        ledger, writer = self._writing()

        def work() -> None:
            key = ledger.owner(owner, receipt, now)
            if pending_bytes is not None:
                (pending,) = ledger.connection.execute(SQL["pending_bytes"], (key,)).fetchone()
                if pending + file.size > pending_bytes:
                    raise TooManyFiles(
                        "You have uploaded more files than you have sent; send or wait before you upload others."
                    )
            values = (file.id, key, file.name, file.mime_type, file.size, file.sha256, file.created_at)
            ledger.connection.execute(SQL["insert_file"], values)
            self._contents.keep(staging.content)

        await writer.do(work)

    async def get(self, ids: Sequence[str]) -> list[StoredFile]:
        if not ids:
            return []

        def work(connection: sqlite3.Connection) -> list[StoredFile]:
            return [_file_of(row) for row in connection.execute(SQL["files"], (json.dumps(list(ids)),))]

        return await self._read(work)

    async def of_owner(self, owner: Principal) -> list[StoredFile]:
        def work(connection: sqlite3.Connection) -> list[StoredFile]:
            rows = connection.execute(SQL["files_of_owner"], (owner.tenant, owner.user))
            return [_file_of(row) for row in rows]

        return await self._read(work)

    @asynccontextmanager
    async def open(self, file: StoredFile) -> AsyncGenerator[Content]:
        opened = await anyio.to_thread.run_sync(self._contents.open, file.sha256, limiter=self._limiter)
        try:
            yield _Open(opened, self._limiter)
        finally:
            opened.close()

    async def delete_all(self, owner: Principal) -> int:
        ledger, writer = self._writing()

        def work() -> int:
            row = ledger.connection.execute(SQL["owner_key"], (owner.tenant, owner.user)).fetchone()
            if row is None:
                return 0
            ledger.connection.execute(SQL["unbind_files_of_owner"], row)
            return ledger.connection.execute(SQL["delete_files_of_owner"], row).rowcount

        count = await writer.do(work)
        await self.drop()
        return count

    async def collect(self, *, unbound_before: int, orphans: bool = False) -> int:
        ledger, writer = self._writing()
        count = await writer.do(
            lambda: ledger.connection.execute(SQL["delete_unbound_files"], (unbound_before,)).rowcount
        )
        await self.drop()
        if orphans:
            digests = await anyio.to_thread.run_sync(lambda: list(self._contents.all()), limiter=self._limiter)
            for start in range(0, len(digests), AT_ONCE):
                await writer.do(partial(self._drop_unnamed, ledger, digests[start : start + AT_ONCE]), "read")
        return count

    async def drop(self) -> None:
        """Remove the contents that rows have let go of and no other row names."""
        ledger, writer = self._writing()
        while dropped := await self._read(_dropped):
            gone = await writer.do(partial(self._drop_unnamed, ledger, dropped), "read")
            await writer.do(partial(self._forget, ledger, gone))
            if len(gone) < len(dropped):
                return  # some cannot be removed now; another time

    def _drop_unnamed(self, ledger: Ledger, digests: Sequence[str]) -> list[str]:
        """In the writer's thread, after the group's commit. Those that are settled: removed, or named by a row after all."""
        used = _used(ledger, digests)
        return [digest for digest in digests if digest in used or self._contents.drop(digest)]

    def _forget(self, ledger: Ledger, digests: Sequence[str]) -> None:
        """Those that came back and were let go of again meanwhile stay noted."""
        used = _used(ledger, digests)
        settled = [digest for digest in digests if digest in used or not self._contents.has(digest)]
        ledger.connection.execute(SQL["forget_dropped"], (json.dumps(settled),))

    def _writing(self) -> tuple[Ledger, Writer]:
        if self._ledger is None or self._writer is None:
            raise StoreError("The database was opened for reading only.")
        return self._ledger, self._writer


def _dropped(connection: sqlite3.Connection) -> list[str]:
    return [digest for (digest,) in connection.execute(SQL["dropped_contents"], (AT_ONCE,))]


def _used(ledger: Ledger, digests: Sequence[str]) -> set[str]:
    rows = ledger.connection.execute(SQL["contents_in_use"], (json.dumps(list(digests)),))
    return {digest for (digest,) in rows}


def _file_of(row: Any) -> StoredFile:
    id, tenant, user, name, mime_type, size, sha256, created_at = row
    return StoredFile(
        id=id,
        tenant=tenant,
        user=user,
        name=name,
        mime_type=mime_type,
        size=size,
        sha256=sha256,
        created_at=created_at,
    )
