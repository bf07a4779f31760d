"""A file to be uploaded: from a path, from bytes, or from something open."""

from __future__ import annotations

import io
import mimetypes
import os
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from runcast.errors import InvalidRequest
from runcast.files import kind_of

Source = str | os.PathLike[str] | bytes | BinaryIO


class UploadedFile(NamedTuple):
    """A file that the server keeps. One that no message names is gone after a day."""

    id: str
    name: str
    mime_type: str
    size: int
    """Bytes."""
    sha256: str
    url: str

    @property
    def part(self) -> dict[str, Any]:
        """The content part by which a message names it: `client.send([{"type": "text", "text": "Look"}, file.part])`."""
        source = {"type": "url", "value": self.url, "mimeType": self.mime_type}
        return {
            "type": kind_of(self.mime_type),
            "source": source,
            "metadata": {"name": self.name, "size": self.size},
        }


class Opened(NamedTuple):
    body: BinaryIO
    size: int
    name: str
    mime_type: str


@contextmanager
def opened(source: Source, name: str | None, mime_type: str | None) -> Generator[Opened]:
    """What is to be sent. A path is opened and closed; what was open already is read from where it stands.

    Raises:
        InvalidRequest: it cannot be read, or not be told how long it is.
    """
    with ExitStack() as stack:
        try:
            if isinstance(source, bytes):
                body: BinaryIO = io.BytesIO(source)
            elif isinstance(source, str | os.PathLike):
                body = stack.enter_context(Path(source).open("rb"))
                name = name or Path(source).name
            else:
                body = source
                name = name or Path(str(getattr(source, "name", ""))).name
            start = body.tell()
            size = body.seek(0, os.SEEK_END) - start
            body.seek(start)
        except OSError as error:
            raise InvalidRequest(f"The file cannot be read: {error.strerror or error}.") from error
        name = name or "file"
        yield Opened(body, size, name, mime_type or mimetypes.guess_type(name)[0] or "application/octet-stream")


def uploaded(answer: dict[str, Any]) -> UploadedFile:
    """The server's answer."""
    return UploadedFile(
        str(answer["id"]),
        str(answer["name"]),
        str(answer["mimeType"]),
        int(answer["size"]),
        str(answer["sha256"]),
        str(answer["url"]),
    )
