"""What uploads that are under way may cost one user's server: they are on its disk before they are files."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest

from core import DEADLINE_S, ME, OTHER, core
from runcast.errors import TooManyFiles
from runcast.uploads import PENDING_FILES, UPLOADS_AT_ONCE, FileLimits, Uploads

pytestmark = pytest.mark.anyio


class Stalling:
    """Uploads that bring `size` bytes each and then nothing more until `go`."""

    def __init__(self, uploads: Uploads, size: int) -> None:
        self._uploads = uploads
        self._size = size
        self.stalled = 0
        self.changed = anyio.Event()
        self.go = anyio.Event()

    async def chunks(self) -> AsyncIterator[bytes]:
        yield b"x" * self._size
        self.stalled += 1
        self.changed.set()
        await self.go.wait()

    async def upload(self) -> None:
        await self._uploads.upload(ME, self.chunks(), name="a.txt", mime_type="text/plain")

    async def until(self, count: int) -> None:
        with anyio.fail_after(DEADLINE_S):
            while self.stalled < count:
                self.changed = anyio.Event()
                await self.changed.wait()


async def whole(size: int) -> AsyncIterator[bytes]:
    yield b"y" * size


async def test_files_that_never_end_are_worth_no_more_than_whole_ones() -> None:
    async with core() as service:
        uploads = service.uploads
        uploads.limits = FileLimits(max_bytes=1000)
        stalling = Stalling(uploads, 1000)
        async with anyio.create_task_group() as tasks:
            for _ in range(PENDING_FILES):
                tasks.start_soon(stalling.upload)
            await stalling.until(PENDING_FILES)
            with pytest.raises(TooManyFiles):
                await uploads.upload(ME, whole(1), name="a.txt", mime_type="text/plain")
            await uploads.upload(OTHER, whole(1000), name="a.txt", mime_type="text/plain")
            tasks.cancel_scope.cancel()
        await uploads.upload(ME, whole(1000), name="a.txt", mime_type="text/plain")


async def test_only_so_many_files_come_in_at_once() -> None:
    async with core() as service:
        stalling = Stalling(service.uploads, 1)
        async with anyio.create_task_group() as tasks:
            for _ in range(UPLOADS_AT_ONCE):
                tasks.start_soon(stalling.upload)
            await stalling.until(UPLOADS_AT_ONCE)
            with pytest.raises(TooManyFiles):
                await service.uploads.upload(ME, whole(1), name="a.txt", mime_type="text/plain")
            stalling.go.set()
        assert (await service.uploads.upload(ME, whole(1), name="a.txt", mime_type="text/plain")).size == 1
