"""The part of the Store seam that keeps bytes: files that people send, and blobs, the whole of what is too big for the log.

Content comes first (`stage`, in pieces, never whole in memory), its row second (`put`): a crash between the two leaves bytes
that nobody names, which `collect` removes; never a row without bytes. Equal content is kept once and goes with the last row
that names it. A row that no thread holds (`Write.files` binds it) is removed when it is old; a bound one goes with its threads.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

from runcast.files import StoredFile
from runcast.runs import Principal
from runcast.stores.base import Receipt


class Staging(ABC):
    """Bytes on their way into the store."""

    size: int
    """How many came so far."""

    @abstractmethod
    async def write(self, data: bytes) -> None:
        """More of them.

        Raises:
            StorageFull: there is no room. StoreError: they cannot be written.
        """

    @abstractmethod
    async def finish(self) -> str:
        """That was all: the content's SHA-256, hex. It is as durable as the store is when this returns."""

    @abstractmethod
    async def discard(self) -> None:
        """Forget them, unless they were `put`. Idempotent; whoever called `stage` calls this in the end."""


class Content(ABC):
    """A file's bytes, open for reading; also while the file is being deleted."""

    @abstractmethod
    async def read(self, offset: int, size: int) -> bytes:
        """The bytes from `offset` on, `size` of them or as many as there are; empty at the end.

        Raises:
            StoreError: they cannot be read.
        """


class Files(ABC):
    """The files of one store. All methods may be called concurrently."""

    @abstractmethod
    async def stage(self) -> Staging:
        """Begin to take a content."""

    @abstractmethod
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
        """Keep what was staged (and finished) as `file`, which is `owner`'s and not bound yet; and the receipt with it.

        Raises:
            TooManyFiles: the owner's files that no message names would be more than `pending_bytes` together.
            IdempotencyConflict, SequenceConflict: as in `Store.append`.
            StorageFull, StoreError.
        """

    @abstractmethod
    async def get(self, ids: Sequence[str]) -> list[StoredFile]:
        """The rows of these ids that are there, in the order asked. Authorisation is the caller's."""

    @abstractmethod
    async def of_owner(self, owner: Principal) -> list[StoredFile]:
        """The rows of all files and blobs of an owner, in the order put."""

    @abstractmethod
    def open(self, file: StoredFile) -> AbstractAsyncContextManager[Content]:
        """The file's bytes.

        Raises:
            NotFound: it was deleted a moment ago.
        """

    @abstractmethod
    async def delete_all(self, owner: Principal) -> int:
        """Delete all files of an owner, bound or not; how many."""

    @abstractmethod
    async def collect(self, *, unbound_before: int, orphans: bool = False) -> int:
        """Remove rows that were put before (Unix milliseconds) and never bound, and content that no row names any more; how
        many rows. With `orphans` also look for content that a crash left behind: takes time with the number of contents."""
