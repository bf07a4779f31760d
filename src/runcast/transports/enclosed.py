"""What a message of another protocol carries in itself, kept as uploaded files: a log names files and holds none."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final, cast

import msgspec

from runcast import files
from runcast.errors import InvalidRequest
from runcast.runs import Principal
from runcast.uploads import Uploads

PIECE: Final = 64 * 1024


async def filed(
    uploads: Uploads, principal: Principal, content: Sequence[Mapping[str, Any]], *, key: str
) -> list[dict[str, Any]]:
    """Content parts in AG-UI 1.0's shape, with an address in place of all bytes: each part that carries some is uploaded.
    `key` is the message's, the same when it is sent again: then its files are the same too.

    Raises:
        InvalidRequest: it says that it is base64 and is not.
        ClientError: the file is not taken (too large, of a wrong type).
    """
    parts: list[dict[str, Any]] = []
    for number, given in enumerate(content):
        part = files.modern(given)
        source: Any = part.get("source")
        if part.get("type") not in files.KINDS or not isinstance(source, dict):
            parts.append(part)
            continue
        where = cast("dict[str, Any]", source)
        found = files.attachment(part)
        if where.get("type") != "data":
            parts.append(part)
        elif found is None or found.data is None:
            raise InvalidRequest(f"The {part['type']} part's `source.value` is not base64.")
        else:
            file = await uploads.upload(
                principal,
                _pieces(found.data),
                name=found.name or found.kind,
                mime_type=found.mime_type,
                key=_key(key, number),
            )
            parts.append({**part, "source": {"type": "url", "value": file.url, "mimeType": file.mime_type}})
    return parts


def _key(message: str, number: int) -> str:
    return f"enclosed:{hashlib.sha256(msgspec.json.encode([message, number])).hexdigest()}"


async def _pieces(data: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(data), PIECE):
        yield data[at : at + PIECE]
