"""What is too big for one event of the log, and what is logged in its place. No I/O.

An event is at most `MAX_EVENT_BYTES` long. A longer delta is split; an END leaves out the whole text, which the deltas have; of
a tool's result and of an artifact the beginning is logged, and the whole goes into a blob (`running.blobs`). Nothing else an
agent says may be so long.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, cast

import msgspec
from msgspec import UNSET, UnsetType

from runcast import events as e
from runcast.errors import AgentError
from runcast.events import MAX_EVENT_BYTES, Blob, Event

ENVELOPE_BYTES = 512
"""What the append adds, with room to spare."""
ROOM = MAX_EVENT_BYTES - ENVELOPE_BYTES
PIECE = 32 * 1024
"""Characters of a delta: none is longer than six bytes in JSON (RFC 8259, section 7)."""
FIELD_BYTES = 64 * 1024
"""Of an event that is too long, fields of more than this go into a blob."""
PREVIEW_BYTES = 4 * 1024

Field = Literal["content", "result"]

_SPLIT_OR_DERIVED = (
    *e.DELTAS,
    e.TextMessageChunk,
    e.ReasoningMessageChunk,
    e.ToolCallChunk,
    e.TextMessageEnd,
    e.ReasoningMessageEnd,
    e.ToolCallEnd,
    e.MessagesSnapshot,
)
"""What the recorder splits, writes itself or drops."""


class Bulk(NamedTuple):
    """The whole of a field that goes into a blob."""

    field: Field
    data: bytes
    mime_type: str
    name: str


def check(event: Event, size: int) -> None:
    """Whether the log can hold it in one way or another; `size` is that of its JSON.

    Raises:
        AgentError: code `event_too_large`.
    """
    if size <= ROOM:
        return
    if isinstance(event, _SPLIT_OR_DERIVED):
        beside = [value for value in (event.raw_event, event.metadata) if value is not UNSET]
        size = len(e.encode_value(beside))
    elif isinstance(event, e.ToolCallResult):
        size = len(e.encode(msgspec.structs.replace(event, content="", result=UNSET)))
    elif isinstance(event, e.ArtifactSnapshot):
        size = len(e.encode(msgspec.structs.replace(event, content=UNSET)))
    if size > FIELD_BYTES:
        raise AgentError(
            f"The agent gave a {event.type} of {size} bytes, and one event of that type can hold at most "
            f"{MAX_EVENT_BYTES}; large results belong into a tool's result or an artifact.",
            code="event_too_large",
        )


def pieces(event: Event) -> list[Event]:
    """A delta as several that are short enough, in order; a short one as it is. What it carries beside, the first keeps."""
    delta = cast(e.TextMessageContent, event).delta
    if len(delta) <= PIECE:
        return [event]
    first = msgspec.structs.replace(event, delta=delta[:PIECE])
    bare = msgspec.structs.replace(event, raw_event=UNSET, metadata=UNSET)
    starts = range(PIECE, len(delta), PIECE)
    return [first, *(msgspec.structs.replace(bare, delta=delta[start : start + PIECE]) for start in starts)]


def whole(text: bytearray) -> str | UnsetType:
    """The whole text for an END event, given as UTF-8, if it is short enough for one."""
    if len(text) > ROOM:
        return UNSET
    said = text.decode()
    return said if len(said) <= PIECE or len(e.encode_value(said)) <= ROOM else UNSET


def is_bulky(event: Event) -> bool:
    """Whether a blob is to be made of a part of it. Dear only for the two types of which one may be."""
    return isinstance(event, (e.ToolCallResult, e.ArtifactSnapshot)) and len(e.encode(event)) > ROOM


def bulk_of(event: Event) -> list[Bulk]:
    """What goes into blobs, of an event that `is_bulky`."""
    if isinstance(event, e.ArtifactSnapshot):
        is_text = isinstance(event.content, str)
        given = event.mime_type if isinstance(event.mime_type, str) and is_text else ""
        mime_type = given or ("text/plain" if is_text else "application/json")
        name = event.name if isinstance(event.name, str) else f"{event.kind}{_SUFFIXES.get(mime_type, '')}"
        return [Bulk("content", _text(event.content).encode(), mime_type, name)]
    assert isinstance(event, e.ToolCallResult)
    if _is_same(event):
        return [_bulk("content", event.content, is_text=isinstance(event.result, str))]
    fields: list[tuple[Field, Any]] = [("content", event.content), ("result", event.result)]
    return [
        _bulk(field, value, is_text=isinstance(value, str))
        for field, value in fields
        if value is not UNSET and len(e.encode_value(value)) > FIELD_BYTES
    ]


def without(event: Event, blobs: Mapping[Field, Blob]) -> Event:
    """The event as the log gets it: the beginning of what is in these blobs, and where they are."""
    if isinstance(event, e.ArtifactSnapshot):
        blob = blobs["content"]
        return msgspec.structs.replace(
            event, content=preview(event.content), blob=blob, url=blob.url if event.url is UNSET else event.url
        )
    assert isinstance(event, e.ToolCallResult)
    changes: dict[str, Any] = {}
    if "content" in blobs:
        changes |= {"content": preview(event.content), "blob": blobs["content"]}
        if _is_same(event):
            changes["result"] = changes["content"]
    if "result" in blobs:
        changes |= {"result": preview(event.result), "result_blob": blobs["result"]}
    return msgspec.structs.replace(event, **changes)


def preview(value: Any) -> str:
    """The beginning of a text, or of a value's JSON, cut between two characters."""
    return _text(value).encode()[:PREVIEW_BYTES].decode("utf-8", "ignore")


_SUFFIXES = {"text/plain": ".txt", "application/json": ".json"}


def _bulk(field: Field, value: Any, *, is_text: bool) -> Bulk:
    mime_type = "text/plain" if is_text else "application/json"
    return Bulk(field, _text(value).encode(), mime_type, f"result{_SUFFIXES[mime_type]}")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else e.encode_value(value).decode()


def _is_same(event: e.ToolCallResult) -> bool:
    """Whether the model read just what the tool returned."""
    if event.result is UNSET or event.content == event.result:
        return event.result is not UNSET
    if not isinstance(event.content, str) or isinstance(event.result, str):
        return False
    try:
        return json.loads(event.content) == event.result
    except (ValueError, RecursionError):
        return False
