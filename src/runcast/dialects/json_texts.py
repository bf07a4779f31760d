"""How much JSON is read for a client: what its text may hold is known before anything is made of it. Pure.

A decoder makes an object of two bytes (`{}`) and a frame on the stack of one (`[`): the size of a text alone bounds neither the
memory nor the time that it costs.
"""

from __future__ import annotations

import re
from typing import Final

MAX_DEPTH: Final = 32
"""Deepest nesting of arrays and objects in a client's message."""
MAX_CONTAINERS: Final = 100_000
"""Most arrays and objects in a body; brackets inside of strings count too."""

MAX_DATA_URLS: Final = 1000
"""Of a request that may be larger because of the files in it."""

_DATA: Final = '"data:'
_NO_BRACKETS: Final = re.compile(r"[^\[\]{}]+")


def too_deep(text: str) -> bool:
    """Whether a JSON text nests deeper than `MAX_DEPTH`; linear, and exact for every valid JSON text."""
    if text.count("{") + text.count("[") <= MAX_DEPTH:
        return False
    # Without what is escaped, quotes stand only at the ends of strings: each second piece is outside of them.
    plain = text.replace("\\\\", "").replace('\\"', "")
    depth = 0
    for bracket in _NO_BRACKETS.sub("", "".join(plain.split('"')[::2])):
        if bracket in "{[":
            depth += 1
            if depth > MAX_DEPTH:
                return True
        else:
            depth -= 1
    return False


def too_many(text: str) -> bool:
    """Whether a JSON text may hold more than `MAX_CONTAINERS` arrays and objects."""
    return text.count("{") + text.count("[") > MAX_CONTAINERS


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
