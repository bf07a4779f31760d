"""Files that stand in a message as base64: as many as a message may have, read piece by piece."""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncGenerator, Iterable, Mapping
from typing import Any, Final, cast

import anyio.lowlevel

from runcast.errors import InvalidRequest, TooLarge

MAX_INLINE: Final = 64
"""Files inside of one message: each is written to the disk before anybody sees whether the message is taken."""
PIECE: Final = 256 * 1024
"""Characters that are decoded at once; a multiple of four, so that each piece is base64 for itself."""


def check_inline(parts: Iterable[Mapping[str, Any]]) -> None:
    """
    Raises:
        TooLarge: more than `MAX_INLINE` of these content parts (AG-UI 1.0) carry their data.
    """
    if sum(1 for part in parts if is_inline(part)) > MAX_INLINE:
        raise TooLarge(f"A message carries at most {MAX_INLINE} files inside; upload them with POST /v1/files.")


def is_inline(part: Mapping[str, Any]) -> bool:
    source: Any = part.get("source")
    return isinstance(source, Mapping) and cast("Mapping[str, Any]", source).get("type") == "data"


async def pieces(value: Any) -> AsyncGenerator[bytes]:
    """The bytes of a text in base64. Others get their turn between two pieces.

    Raises:
        InvalidRequest: it is none.
    """
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
