"""What stands beside the answer in the AI SDK's stream: data parts, sources and files.

State, artifacts and activities are data parts, `data-<name>`, each under its own id. A log changes them piece by piece, the stream
can only say a whole value again. A text that grows is said when that is worth it (`runcast.dialects.growing`).
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import UNSET

from runcast import events as e
from runcast.dialects.growing import Growing
from runcast.jsonpatch import PatchError
from runcast.jsonpatch import apply as patched

Chunk = dict[str, Any]

_OWN: Final = frozenset(
    {"custom", "interrupt", "run-status", "state", "state-delta", "steer", "subagent", "tool-progress"}
)
"""Data parts that are ours; an artifact of such a kind is called `artifact-<kind>`, an activity `activity-<type>`."""

_STATE: Final = ("state", "state")


class _Value:
    __slots__ = ("content", "growing", "more", "name")

    def __init__(self, name: str, content: Any, more: Chunk | None) -> None:
        self.name = name
        self.content = content
        self.more = more
        """Of an artifact: what stands beside its content."""
        self.growing = Growing()


class DataParts:
    def __init__(self) -> None:
        self._values: dict[tuple[str, str], _Value] = {}
        self._behind: dict[tuple[str, str], None] = {}

    @property
    def is_behind(self) -> bool:
        """Whether something was not said yet."""
        return bool(self._behind)

    def caught_up(self, *, in_passing: bool = False) -> list[Chunk]:
        """What was not said yet; `in_passing`: as far as it may be, before a piece of something else."""
        return [
            self._say(key)
            for key in list(self._behind)
            if not in_passing or self._values[key].growing.is_affordable(len(self._values[key].content))
        ]

    def take(self, event: e.Event) -> list[Chunk]:
        """The chunks of one event; none for events that are no data."""
        match event:
            case e.StateSnapshot():
                return [self._set(_STATE, _Value("state", event.snapshot, None))]
            case e.StateDelta():
                if _STATE not in self._values:  # the value is from before this message
                    return [{"type": "data-state-delta", "data": event.delta, "transient": True}]
                return self._patch(_STATE, event.delta)
            case e.ActivitySnapshot():
                return [
                    self._set(
                        ("", event.message_id), _Value(named("activity", event.activity_type), event.content, None)
                    )
                ]
            case e.ActivityDelta():
                return self._patch(("", event.message_id), event.patch)
            case e.ArtifactSnapshot() if event.kind == "file" and event.url is not UNSET:
                type = event.mime_type if event.mime_type is not UNSET else "application/octet-stream"
                return [{"type": "file", "url": event.url, "mediaType": type}]
            case e.ArtifactSnapshot():
                name = named("artifact", event.kind)
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

            case e.Source() if event.url is not UNSET:
                title = {"title": event.title} if event.title is not UNSET else {}
                return [{"type": "source-url", "sourceId": event.source_id, "url": event.url, **title}]
            case e.Source():
                type = event.media_type if event.media_type is not UNSET else "text/plain"
                title = event.title if event.title is not UNSET else event.source_id
                return [{"type": "source-document", "sourceId": event.source_id, "mediaType": type, "title": title}]
            case e.Custom():
                return [transient("custom", {"name": event.name, "value": event.value})]
            case e.RunSteered() if event.consumed:
                return [{"type": "data-steer", "id": str(event.message.get("id")), "data": event.message}]
            case e.SubagentStarted():
                return [_subagent(event.subagent_run_id, "running", name=event.name)]
            case e.SubagentFinished():
                return [_subagent(event.subagent_run_id, "done")]
            case e.SubagentError():
                return [_subagent(event.subagent_run_id, "failed", message=event.message)]
            case _:
                return []

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
        if not value.growing.is_due(len(value.content), now):
            self._behind[key] = None
            return []
        return [self._say(key, now)]

    def _say(self, key: tuple[str, str], now: int | None = None) -> Chunk:
        self._behind.pop(key, None)
        value = self._values[key]
        if isinstance(value.content, str):
            value.growing.say(len(value.content), now)
        data = value.content if value.more is None else {**value.more, "content": value.content}
        return {"type": f"data-{value.name}", "id": key[1], "data": data}


def transient(name: str, data: Chunk) -> Chunk:
    """A data part that the client hands to `onData` and does not keep."""
    return {"type": f"data-{name}", "data": data, "transient": True}


def named(what: str, kind: str) -> str:
    """What the data part of an artifact or activity of this kind is called, behind `data-`."""
    return f"{what}-{kind}" if kind in _OWN else kind


def _subagent(id: str, status: str, **more: str) -> Chunk:
    return {"type": "data-subagent", "id": id, "data": {"status": status, **more}}
