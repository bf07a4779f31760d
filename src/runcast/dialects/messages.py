"""Reading what clients of message dialects send: one JSON object per message, or plain text."""

from __future__ import annotations

from typing import Any, cast

import msgspec

from runcast.dialects.base import BadFrame, Options
from runcast.dialects.json_texts import MAX_DEPTH, too_deep

MAX_CONVERSATION_ID = 128

_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder()


def fields_of(data: str | bytes) -> dict[str, Any]:
    """The JSON object in a message. Unknown fields are the caller's to ignore.

    Raises:
        BadFrame: binary, not JSON, not an object, or nested deeper than 32 levels.
    """
    if isinstance(data, bytes):
        raise BadFrame("Binary messages are not understood; send JSON as text.", malformed=True)
    if too_deep(data):
        raise BadFrame(f"The message nests deeper than {MAX_DEPTH} levels.", malformed=True)
    try:
        value = _decoder.decode(data)
    except (ValueError, RecursionError):  # msgspec.DecodeError; a lone surrogate is a UnicodeEncodeError
        raise BadFrame("The message is not valid JSON.", malformed=True) from None
    if not isinstance(value, dict):
        raise BadFrame("A message is one JSON object.", malformed=True)
    return cast("dict[str, Any]", value)


def text_field(fields: dict[str, Any], name: str, *, empty: str) -> str:
    """A required text. `empty`: what is said when it is missing, empty or only spaces.

    Raises:
        BadFrame: missing, empty, or no text.
    """
    value = fields.get(name)
    if value is not None and not isinstance(value, str):
        raise BadFrame(f"`{name}` must be a text.")
    if value is None or not value.strip():
        raise BadFrame(empty)
    return value


def conversation_field(fields: dict[str, Any], name: str) -> str | None:
    """The client's own id of the conversation: any 1-128 characters but `/` and control characters. Missing, null or empty:
    None.

    Raises:
        BadFrame: no text, or not such an id.
    """
    value = fields.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise BadFrame(f"`{name}` must be a text.")
    if fault := conversation_fault(value):
        raise BadFrame(f"`{name}` {fault}.")
    return value


def conversation_fault(id: str) -> str | None:
    """What is wrong with a client's own id of a conversation; None if nothing is."""
    if not 1 <= len(id) <= MAX_CONVERSATION_ID:
        return f"must have 1 to {MAX_CONVERSATION_ID} characters"
    if "/" in id or not id.isprintable():
        return "must not have slashes or control characters"
    return None


def only_options(options: Options, *known: str) -> None:
    """Refuse options in settings that a dialect does not know.

    Raises:
        ValueError: there is an option that is none of `known`.
    """
    if unknown := [name for name in options if name not in known]:
        there_are = f"there are: {', '.join(known)}" if known else "it has none"
        raise ValueError(f"unknown option {unknown[0]!r}; {there_are}")
