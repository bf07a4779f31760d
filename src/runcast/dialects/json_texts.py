"""How much JSON is read for a client: what its text may hold is known before anything is made of it. Pure.

A decoder makes an object of two bytes (`{}`) and a frame on the stack of one (`[`): the size of a text alone bounds neither the
memory nor the time that it costs.
"""

from __future__ import annotations

import re
from typing import Final

from runcast.events import nests_deeper

MAX_DEPTH: Final = 32
"""Deepest nesting of arrays and objects in a client's message."""
MAX_CONTAINERS: Final = 100_000
"""Most arrays and objects in a body; brackets inside of strings count too."""

MAX_DATA_URLS: Final = 1000
"""Of a request that may be larger because of the files in it."""

_DATA: Final = '"data:'
_BASE64: Final = re.compile(r'"(?:value|data)"\s*:\s*"[A-Za-z0-9+/=]*"')
"""Where the bytes of an AG-UI content part stand: `source.value`, and `data` of the older `binary`."""


def too_deep(text: str) -> bool:
    """Whether a JSON text nests deeper than `MAX_DEPTH`."""
    return nests_deeper(text, MAX_DEPTH)


def too_many(text: str) -> bool:
    """Whether a JSON text may hold more than `MAX_CONTAINERS` arrays and objects."""
    return text.count("{") + text.count("[") > MAX_CONTAINERS


def beside_files(text: str) -> int:
    """How long a JSON text is without the files that AG-UI's content parts carry in base64."""
    size = len(text)
    for number, found in enumerate(_BASE64.finditer(text)):
        if number == MAX_DATA_URLS:
            return len(text)
        size -= found.end() - found.start()
    return size


def without_data(text: str) -> str:
    """A JSON text with empty ones in place of its data URLs (RFC 2397): as long as all that is not a file in it, and nested as
    deep. Only so many are looked for as a request has files."""
    if not 0 < text.count(_DATA) <= MAX_DATA_URLS:
        return text
    kept: list[str] = []
    start = 0
    while (at := text.find(_DATA, start)) >= 0:
        end = text.find('"', at + 1)
        whole = (
            end >= 0 and text[at - 1 : at] != "\\" and text[end - 1] != "\\"
        )  # else the quotes are inside of a string
        kept.append(text[start : at + 1] if whole else text[start : at + len(_DATA)])
        start = end if whole else at + len(_DATA)
    return "".join([*kept, text[start:]])
