"""A file that came with a message, as an agent reads it: whole, or piece by piece."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any

from runcast.errors import AgentError, NotFound
from runcast.files import Attachment, StoredFile, attachment, id_of
from runcast.runs import Principal

if TYPE_CHECKING:
    from runcast.stores.files import Content, Files

PIECE = 256 * 1024

Open = Callable[[], "AbstractAsyncContextManager[Content]"]


class AttachedFile:
    """One file. Its bytes are not read before somebody asks for them."""

    def __init__(self, name: str, mime_type: str, size: int, open: Open, stored: StoredFile | None) -> None:
        self.name = name
        self.mime_type = mime_type
        self.size = size
        """Bytes."""
        self.stored = stored
        """Its row; None for what came inline."""
        self._open = open

    async def read(self) -> bytes:
        """All of it, in memory."""
        return b"".join([piece async for piece in self.pieces()])

    async def pieces(self) -> AsyncIterator[bytes]:
        """All of it, a piece at a time.

        Raises:
            AgentError: code `unknown_file`, it was deleted.
        """
        try:
            async with self._open() as content:
                offset = 0
                while data := await content.read(offset, PIECE):
                    offset += len(data)
                    yield data
        except NotFound:
            raise _gone(self.name) from None


async def attached(what: object, files: Callable[[], Files], principal: Principal) -> AttachedFile:
    """The file that an attachment, a content part, an id or a URL names.

    Raises:
        AgentError: `unknown_file`: it is not there (any more), or not this person's. `file_elsewhere`: it is at another site
            or at a model's provider; nothing is fetched from there.
    """
    named = _attachment(what)
    if named.data is not None:
        inline = _Inline(named.data)
        return AttachedFile(named.name, named.mime_type, len(named.data), inline.open, None)
    if named.file is None:
        raise AgentError("This attachment is not on this server, so it cannot be read here.", code="file_elsewhere")
    found = await files().get([named.file])
    if not found or (found[0].tenant, found[0].user) != (principal.tenant, principal.user):
        raise _gone(named.name)
    file = found[0]
    return AttachedFile(file.name, file.mime_type, file.size, lambda: files().open(file), file)


class _Inline:
    """What came inside the message, read like a file."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Any]:
        yield self

    async def read(self, offset: int, size: int) -> bytes:
        return self._data[offset : offset + size]


def _attachment(what: object) -> Attachment:
    if isinstance(what, Attachment):
        return what
    if isinstance(what, str):
        return Attachment(kind="document", file=id_of(what) or what)
    found = attachment(what)
    if found is None:
        raise TypeError("A file is named by an Attachment, a content part, its id or its url, and by nothing else.")
    return found


def _gone(name: str) -> AgentError:
    return AgentError(
        f"The file {name!r} is no longer there." if name else "The file is not there.", code="unknown_file"
    )
