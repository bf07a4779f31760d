"""Histories that clients bring: where what they send belongs in a thread that the server keeps itself. Pure.

Clients of AG-UI, the AI SDK and OpenAI's Chat Completions send the whole conversation with each request.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec


def newest(messages: Sequence[Mapping[str, Any]], max_bytes: int) -> tuple[dict[str, Any], ...]:
    """The newest messages that fit in `max_bytes` of JSON, in their order."""
    kept: list[dict[str, Any]] = []
    for message in reversed(messages):
        max_bytes -= len(msgspec.json.encode(message)) + 1
        if max_bytes < 0:
            break
        kept.append(dict(message))
    return tuple(reversed(kept))
