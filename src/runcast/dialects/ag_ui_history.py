"""A thread's fold as a client of AG-UI 1.0 has it: its list of messages, what is open in it, and how its last run ended.

The messages are those that a client makes of the frames itself, with the same ids and in the same order: it keeps what it knows
where it stands and appends the rest. So each text is an assistant message, calls in a row share one that has the first one's id
and their results right behind it; thoughts, activities, artifacts and sources stand where they came.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import UNSET

from runcast import events as e
from runcast.dialects.ag_ui_events import OURS, result_id, text_of
from runcast.dialects.ag_ui_items import Items
from runcast.events import Event
from runcast.histories import edited_id
from runcast.transcript import (
    ActivityPart,
    AnyPart,
    ArtifactPart,
    InterruptPart,
    ReasoningPart,
    SourcePart,
    StepPart,
    SubagentPart,
    TextPart,
    ToolPart,
    Transcript,
    TranscriptMessage,
    TranscriptRun,
)

DIGEST = 12
"""Characters behind the colon of an edited message's id (`histories.edited_id`)."""


def run_shown(transcript: Transcript, run: str | None) -> TranscriptRun | None:
    """The run `run`; without one that which goes on, else the head run. None if there is none."""
    runs = {one.id: one for one in transcript.runs}
    if run is not None:
        return runs.get(run)
    going = next((one for one in transcript.runs if one.status == "running"), None)
    return going or runs.get(transcript.head_run or "") or (transcript.runs[-1] if transcript.runs else None)


# --- messages ---------------------------------------------------------------------------------------------------------


def messages_of(transcript: Transcript, path: Sequence[TranscriptRun], *, rich: bool) -> list[dict[str, Any]]:
    """The messages of a path, oldest first. `rich`: results may be lists of content parts."""
    posted: dict[str | None, list[TranscriptMessage]] = {}
    for message in transcript.posted:
        posted.setdefault(message.after, []).append(message)
    messages = [_plain(message) for message in posted.get(None, [])]
    for run in path:
        for message in run.messages:
            if message.id == run.id and message.role == "assistant":
                messages += _Answer(rich).of(message.parts)
            elif message.parts:
                messages.append(_plain(message))
        messages += [_plain(message) for message in posted.get(run.id, [])]
    return messages


def _plain(message: TranscriptMessage) -> dict[str, Any]:
    return {"id": _given_id(message), "role": message.role, "content": _content(message)}


def _content(message: TranscriptMessage) -> str | list[dict[str, Any]]:
    if len(message.parts) == 1 and isinstance(message.parts[0], TextPart):
        return message.parts[0].text
    return [
        {"type": "text", "text": part.text} if isinstance(part, TextPart) else part.content
        for part in message.parts
        if isinstance(part, TextPart | ActivityPart)
    ]


def _given_id(message: TranscriptMessage) -> str:
    """The client's own id of a message: in the log, one that it changed has another."""
    id, _, digest = message.id.rpartition(":")
    if id and len(digest) == DIGEST and edited_id({"id": id, "content": _content(message)}) == message.id:
        return id
    return message.id


class _Answer:
    """What one run said."""

    def __init__(self, rich: bool) -> None:
        self._rich = rich
        self._messages: list[dict[str, Any]] = []
        self._group: dict[str, Any] | None = None
        self._behind = 0
        self._ended: list[int] = []
        """When the results of the group came, in order."""

    def of(self, parts: Sequence[AnyPart]) -> list[dict[str, Any]]:
        for part in parts:
            self._add(part)
        return self._messages

    def _add(self, part: AnyPart) -> None:
        match part:
            case ToolPart():
                self._call(part)
            case TextPart():
                self._group = None
                self._put(part, {"id": part.id, "role": "assistant", "content": part.text})
            case ReasoningPart() if part.text:
                self._put(part, {"id": part.id, "role": "reasoning", "content": part.text})
            case ActivityPart() if part.activity_type == "steer":
                self._group = None
                self._put(part, {**part.content, "id": part.id, "role": "user"})
            case ActivityPart():
                self._activity(part, part.id, part.activity_type, part.content)
            case ArtifactPart():
                content = present(part, "name", "mime_type", "content", "url", "version", "tool_call_id")
                self._activity(part, part.id, part.kind, content)
            case SourcePart():
                self._activity(part, f"source:{part.id}", "source", present(part, "url", "title", "media_type"))
            case _:
                pass

    def _put(self, part: AnyPart, message: dict[str, Any]) -> None:
        if part.subagent_run_id is not None:
            message["subagentRunId"] = part.subagent_run_id
        self._messages.append(message)

    def _activity(self, part: AnyPart, id: str, kind: str, content: dict[str, Any]) -> None:
        self._put(part, {"id": id, "role": "activity", "activityType": kind, "content": content})

    def _call(self, part: ToolPart) -> None:
        if self._group is None:
            self._group = {"id": part.id, "role": "assistant", "toolCalls": []}
            self._ended = []
            self._put(part, self._group)
            self._behind = len(self._messages)
        args = part.args if part.status == "preparing" else part.args or "{}"
        function = {"name": part.name, "arguments": args}
        self._group["toolCalls"].append({"id": part.id, "type": "function", "function": function})
        if part.content is not None:
            ended = part.ended_at or 0
            place = bisect_right(self._ended, ended)
            self._ended.insert(place, ended)
            self._messages.insert(self._behind + place, self._result(part, part.content))
        if part.progress is not None:
            said = part.progress
            content = {"toolCallId": part.id, **present(said, "progress", "total", "message", "data")}
            self._activity(part, f"progress:{part.id}", "tool_progress", content)

    def _result(self, part: ToolPart, content: str | list[dict[str, Any]]) -> dict[str, Any]:
        result: dict[str, Any] = {
            "id": result_id(part.id),
            "role": "tool",
            "toolCallId": part.id,
            "content": content if self._rich else text_of(content),
        }
        if part.error is not None:
            result["error"] = part.error
            result["metadata"] = {OURS: {"error": part.error}}
        if part.subagent_run_id is not None:
            result["subagentRunId"] = part.subagent_run_id
        return result


def present(value: msgspec.Struct, *names: str) -> dict[str, Any]:
    """Those of the fields that are there, under their names on the wire."""
    wire = dict(zip(value.__struct_fields__, value.__struct_encode_fields__, strict=True))
    return {wire[name]: found for name in names if (found := getattr(value, name)) is not None}


# --- what is open, and how it ended -----------------------------------------------------------------------------------


def standing(path: Sequence[TranscriptRun], *, rich: bool) -> tuple[Items, list[Event]]:
    """What is open in the last run of a path, and the events that open it at a client that has its messages."""
    at = Items(rich=rich)
    opening: list[Event] = []
    for run in path:
        for part in [part for message in run.messages for part in message.parts]:
            if isinstance(part, ArtifactPart):
                at.artifacts[part.id] = (part.kind, part.content)
            if isinstance(part, ToolPart) and part.content is None:
                at.told.add(part.id)
    if not path:
        return at, opening
    for message in path[-1].messages:
        for part in message.parts:
            opening += _reopened(at, part)
    return at, opening


def _reopened(at: Items, part: AnyPart) -> list[Event]:
    owner = part.subagent_run_id
    subagent = UNSET if owner is None else owner
    match part:
        case SubagentPart():
            at.named.add(part.id)
            if part.status == "running":
                at.subagents.append(part.id)
                return [e.SubagentStarted(subagent_run_id=part.id, name=part.name or part.id)]
        case StepPart() if part.open:
            at.steps.append((owner, part.name))
            return [e.StepStarted(step_name=part.name, subagent_run_id=subagent)]
        case TextPart():
            at.group = None
            if part.open:
                at.texts[part.id] = owner
                return [e.TextMessageStart(message_id=part.id, role="assistant", subagent_run_id=subagent)]
        case ReasoningPart() if part.open and not part.text:
            at.silent[part.id] = owner
        case ReasoningPart() if part.open:
            at.thoughts[part.id] = owner
            return [e.ReasoningMessageStart(message_id=part.id, role="reasoning", subagent_run_id=subagent)]
        case ToolPart():
            at.told.add(part.id)
            at.group = at.group or part.id
            if part.status == "preparing":
                at.calls[part.id] = bool(part.args)
                start = e.ToolCallStart(tool_call_id=part.id, tool_call_name=part.name, parent_message_id=at.group)
                return [start if owner is None else msgspec.structs.replace(start, subagent_run_id=owner)]
        case ActivityPart() if part.activity_type == "steer":
            at.group = None
        case _:
            pass
    return []


def ending(run: TranscriptRun) -> Event:
    """The terminal event of a run that has ended, as its fold knows it."""
    common: dict[str, Any] = {"run_id": run.id, "timestamp": UNSET if run.ended_at is None else run.ended_at}
    common["usage"] = msgspec.convert(run.usage, list[e.TokenUsage]) if run.usage else UNSET
    if (failure := run.failure) is not None:
        return e.RunError(
            message=failure.message,
            code=failure.code,
            retryable=failure.retryable,
            retry_after_ms=UNSET if failure.retry_after_ms is None else failure.retry_after_ms,
            request_id=failure.request_id or UNSET,
            **common,
        )
    parts = [part for message in run.messages for part in message.parts]
    asked = [_interrupt(part) for part in parts if isinstance(part, InterruptPart) and part.status == "open"]
    pending = [part.id for part in parts if isinstance(part, ToolPart) and part.status == "pending"]
    outcome = e.Outcome(type="success", pending_tool_call_ids=pending or UNSET)
    if run.status == "cancelled":
        outcome = e.Outcome(type="cancelled")
    elif run.status == "waiting" and asked:
        outcome = e.Outcome(type="interrupt", interrupts=asked)
    result = UNSET if run.result is None else run.result
    return e.RunFinished(thread_id="", outcome=outcome, result=result, reason=run.reason or UNSET, **common)


def _interrupt(part: InterruptPart) -> e.Interrupt:
    names = ("message", "tool_call_id", "response_schema", "expires_at", "metadata", "subagent_run_id")
    given: dict[str, Any] = {name: value for name in names if (value := getattr(part, name)) is not None}
    return e.Interrupt(id=part.id, reason=part.reason, **given)
