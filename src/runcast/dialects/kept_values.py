"""Values that a log changes piece by piece, for protocols that can only say a whole value again: `data-<name>` of the AI SDK.

State, artifacts and activities; each is one data part under its own id. A text that grows would be sent again with every piece:
it is sent at once while it is short, then when a quarter of it is new or a second of log time has passed, and before whatever
else follows, so that the last word is always whole.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import UNSET

from runcast import events as e
from runcast.jsonpatch import PatchError
from runcast.jsonpatch import apply as patched

SHORT: Final = 400
"""Characters up to which a growing text is sent with every piece."""
GROWTH: Final = 1.25
PAUSE_MS: Final = 1000

Chunk = dict[str, Any]
Changing = e.StateSnapshot | e.StateDelta | e.ArtifactSnapshot | e.ArtifactDelta | e.ActivitySnapshot | e.ActivityDelta

_STATE: Final = ("state", "state")


class _Value:
    __slots__ = ("content", "more", "name", "sent", "sent_at")

    def __init__(self, name: str, content: Any, more: Chunk | None) -> None:
        self.name = name
        self.content = content
        self.more = more
        """Of an artifact: what stands beside its content."""
        self.sent = 0
        self.sent_at = 0


class KeptValues:
    def __init__(self) -> None:
        self._values: dict[tuple[str, str], _Value] = {}
        self._behind: dict[tuple[str, str], None] = {}

    @property
    def is_behind(self) -> bool:
        """Whether something was not said yet."""
        return bool(self._behind)

    def caught_up(self) -> list[Chunk]:
        """What was not said yet."""
        return [self._say(key) for key in list(self._behind)]

    def take(self, event: Changing, name: str = "") -> list[Chunk]:
        """The chunks of one change; `name` is what an artifact's part is called."""
        match event:
            case e.StateSnapshot():
                return [self._set(_STATE, _Value("state", event.snapshot, None))]
            case e.StateDelta():
                if _STATE not in self._values:  # the value is from before this message
                    return [{"type": "data-state-delta", "data": event.delta, "transient": True}]
                return self._patch(_STATE, event.delta)
            case e.ActivitySnapshot():
                return [self._set(("", event.message_id), _Value(event.activity_type, event.content, None))]
            case e.ActivityDelta():
                return self._patch(("", event.message_id), event.patch)
            case e.ArtifactSnapshot():
                more = {
                    wire: value
                    for wire, value in (
                        ("name", event.name),
                        ("mimeType", event.mime_type),
                        ("url", event.url),
                        ("version", event.version),
                        ("toolCallId", event.tool_call_id),
                    )
                    if value is not UNSET
                }
                if event.blob is not UNSET:
                    more["blob"] = msgspec.to_builtins(event.blob)
                content = event.content if event.content is not UNSET else None
                return [self._set(("artifact", event.artifact_id), _Value(name, content, more))]
            case e.ArtifactDelta():
                key = ("artifact", event.artifact_id)
                if event.append is not UNSET:
                    return self._append(key, event.append, event.timestamp if event.timestamp is not UNSET else 0)
                return self._patch(key, event.patch if event.patch is not UNSET else [])

    def _set(self, key: tuple[str, str], value: _Value) -> Chunk:
        self._values[key] = value
        return self._say(key)

    def _patch(self, key: tuple[str, str], patch: list[dict[str, Any]]) -> list[Chunk]:
        value = self._values.get(key)
        if value is None:
            return []
        try:
            value.content = patched(value.content, patch)
        except PatchError:  # as in every fold: what makes no sense changes nothing
            return []
        return [self._say(key)]

    def _append(self, key: tuple[str, str], piece: str, now: int) -> list[Chunk]:
        value = self._values.get(key)
        if value is None:
            return []
        value.content = (value.content if isinstance(value.content, str) else "") + piece
        size = len(value.content)
        if size > SHORT and size < value.sent * GROWTH and now < value.sent_at + PAUSE_MS:
            self._behind[key] = None
            return []
        value.sent_at = now
        return [self._say(key)]

    def _say(self, key: tuple[str, str]) -> Chunk:
        self._behind.pop(key, None)
        value = self._values[key]
        if isinstance(value.content, str):
            value.sent = len(value.content)
        data = value.content if value.more is None else {**value.more, "content": value.content}
        return {"type": f"data-{value.name}", "id": key[1], "data": data}
