"""What a message of another protocol carries in itself, kept as uploaded files: a log names files and holds none."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Final, cast

import anyio.lowlevel
import msgspec

from runcast import files
from runcast.errors import InvalidRequest, TooLarge
from runcast.runs import Principal
from runcast.uploads import Uploads

MAX_ENCLOSED: Final = 64
"""Files inside of one message: each is written to the disk before anybody sees whether the message is taken."""
PIECE: Final = 256 * 1024
"""Characters that are decoded at once; a multiple of four, so that each piece is base64 for itself."""


async def filed(
    uploads: Uploads, principal: Principal, content: Sequence[Mapping[str, Any]], *, key: str = ""
) -> list[dict[str, Any]]:
    """Content parts in AG-UI 1.0's shape, with an address in place of all bytes: each part that carries some is uploaded.
    `key` is the message's, the same when it is sent again: then its files are the same too.

    Raises:
        InvalidRequest: a part says that it is base64 and is not.
        TooLarge: more than `MAX_ENCLOSED` of them carry their bytes.
        ClientError: a file is not taken (too large, of a wrong type).
    """
    parts = [files.modern(part) for part in content]
    enclosed = {number: source for number, part in enumerate(parts) if (source := _enclosed(part)) is not None}
    if len(enclosed) > MAX_ENCLOSED:
        raise TooLarge(f"A message carries at most {MAX_ENCLOSED} files inside; upload them with POST /v1/files.")
    for number, source in enclosed.items():
        part = parts[number]
        metadata: Any = part.get("metadata")
        name = cast("Mapping[str, Any]", metadata).get("name") if isinstance(metadata, Mapping) else None
        file = await uploads.upload(
            principal,
            _decoded(source.get("value")),
            name=name if isinstance(name, str) and name else str(part["type"]),
            mime_type=str(source.get("mimeType") or ""),
            key=_key(key, number) if key else None,
        )
        parts[number] = {**part, "source": {"type": "url", "value": file.url, "mimeType": file.mime_type}}
    return parts


def _enclosed(part: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The source of a part that carries its bytes."""
    source: Any = part.get("source")
    if part.get("type") not in files.KINDS or not isinstance(source, Mapping):
        return None
    found = cast("Mapping[str, Any]", source)
    return found if found.get("type") == "data" else None


def _key(message: str, number: int) -> str:
    return f"enclosed:{hashlib.sha256(msgspec.json.encode([message, number])).hexdigest()}"


async def _decoded(value: Any) -> AsyncGenerator[bytes]:
    """The bytes of a text in base64. Others get their turn between two pieces."""
    if not isinstance(value, str):
        raise InvalidRequest("A part says that it is base64 and is not.")
    for at in range(0, len(value), PIECE):
        piece = value[at : at + PIECE]
        try:
            if "=" in piece and at + PIECE < len(value):
                raise ValueError
            data = base64.b64decode(piece, validate=True)
        except (binascii.Error, ValueError):
            raise InvalidRequest("A part says that it is base64 and is not.") from None
        yield data
        await anyio.lowlevel.checkpoint()
