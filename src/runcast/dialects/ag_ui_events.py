"""One event of the log as AG-UI 1.0 has it: without our envelope and own fields, those in `metadata.runcast` that say something."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeVar, cast

import msgspec
from msgspec import UNSET

from runcast import events as e
from runcast.dialects.base import Frame
from runcast.events import Event, Record

OURS: Final = "runcast"
"""The one key of `metadata` that we use: clients merge it into their messages and send it back."""

E = TypeVar("E", bound=Event)


def plain(event: E, **changes: Any) -> E:
    """Without the envelope; the timestamp is AG-UI's own."""
    return msgspec.structs.replace(event, **{"seq": UNSET, "from_": UNSET, "run_id": UNSET, **changes})


def ours(**fields: Any) -> Any:
    """The `metadata` that holds those of the fields that are set; UNSET if none is."""
    said = {name: msgspec.to_builtins(value) for name, value in fields.items() if value is not UNSET}
    return {OURS: said} if said else UNSET


def with_ours(event: Event, **fields: Any) -> Any:
    """The `metadata` of `event`, with those of the fields that are set."""
    added = ours(**fields)
    if added is UNSET or event.metadata is UNSET:
        return event.metadata if added is UNSET else added
    return {**event.metadata, **added}


def present_fields(event: Event, *names: str) -> dict[str, Any]:
    """Those of the fields that are set, under their names on the wire."""
    wire = dict(zip(event.__struct_fields__, event.__struct_encode_fields__, strict=True))
    return {wire[name]: value for name in names if (value := getattr(event, name)) is not UNSET}


def owner_of(event: Event) -> str | None:
    return None if event.subagent_run_id is UNSET else event.subagent_run_id


def activity(event: Event, id: str, kind: str, content: dict[str, Any]) -> Event:
    """What stands in the list of messages and is none."""
    return e.ActivitySnapshot(
        message_id=id,
        activity_type=kind,
        content=content,
        timestamp=event.timestamp,
        subagent_run_id=event.subagent_run_id,
    )


def custom(event: Event) -> Event:
    """An own type, whole, under its name in lower case."""
    value = cast("dict[str, Any]", msgspec.to_builtins(plain(event, timestamp=UNSET)))
    return e.Custom(name=str(value.pop("type")).lower(), value=value, timestamp=event.timestamp)


def within_content(operation: dict[str, Any]) -> dict[str, Any]:
    """An operation of a JSON Patch (RFC 6902) on an artifact's content, as one on the activity that has this content."""
    moved = {name: f"/content{operation[name]}" for name in ("path", "from") if isinstance(operation.get(name), str)}
    return {**operation, **moved}


def result_id(call: str) -> str:
    """The id of the message that holds a call's result: made of the call's, because the fold knows no other."""
    return f"{call}.result"


def text_of(content: Any) -> str:
    """A content's text: of a list of parts those that are text, a line each."""
    if isinstance(content, str):
        return content
    parts = [cast("dict[str, Any]", part) for part in cast("list[Any]", content or []) if isinstance(part, dict)]
    return "\n".join(str(part["text"]) for part in parts if part.get("type") == "text" and "text" in part)


def frames(events: Sequence[Event], seq: int, *, ends: bool = False, more: bool = False) -> Sequence[Frame]:
    """The frames of one log position; `more`: others of it follow."""
    last = len(events) - (not more)
    return [Frame(e.encode(one), seq, k, k == last, ends=ends and k == last) for k, one in enumerate(events)]


class _SharedDeltas:
    """The last pieces of text, as all readers get them, encoded once: those of one thread ask soon after each other. Held with
    the record itself, so that no two can be taken for one."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._held: dict[int, tuple[Record, bytes]] = {}

    def __call__(self, record: Record) -> bytes:
        held = self._held.get(id(record))
        if held is not None and held[0] is record:
            return held[1]
        data = e.encode(plain(record.event, timestamp=UNSET))  # how pieces are cut is no matter of the protocol
        if len(self._held) >= self._size:
            del self._held[next(iter(self._held))]
        if len(data) <= MAX_SHARED:
            self._held[id(record)] = (record, data)
        return data


MAX_SHARED: Final = 4 * 1024
"""Bytes of a piece that is kept for the next reader; longer ones are joined for one that lags, and nobody else's."""

shared_delta = _SharedDeltas(256)
