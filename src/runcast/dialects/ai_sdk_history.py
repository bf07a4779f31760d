"""A thread's fold as a page of the AI SDK has it: UI messages, as its own readers make them of the chunks of `runcast.dialects.ai_sdk`.

What a page is given as `messages` when it is loaded. A message that is still being written is left out: its stream tells it from
its start. Pure.

Where the fold knows less than the log: state stands in the newest answer, an artifact in the answer that first had it, and a step
begins behind results as far as times tell.

Source: `UIMessage` and `processUIMessageStream` of `ai` 5 to 7.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import msgspec

from runcast import events as e
from runcast.dialects.ag_ui_history import ending, present
from runcast.dialects.ai_sdk_data import named
from runcast.dialects.ai_sdk_ends import FAILED, UNFINISHED, Version, add_usage, status_of
from runcast.dialects.run_fold import arguments_of
from runcast.dialects.ui_messages import goes_on
from runcast.parts import (
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
from runcast.paths import path_to

UiPart = dict[str, Any]


class History(NamedTuple):
    messages: list[dict[str, Any]]
    """UI messages of the head run's path, oldest first."""
    is_active: bool
    """The message behind them is being written, or waits its turn."""


def history_of(thread: str, transcript: Transcript, version: Version) -> History:
    """The conversation up to the first run that has not ended: what was said to that one is the last message."""
    posted: dict[str | None, list[TranscriptMessage]] = {}
    for message in transcript.posted:
        posted.setdefault(message.after, []).append(message)
    messages = [_given(message) for message in posted.get(None, [])]
    path = path_to(transcript)
    is_active = False
    for chain in _chains(path):
        for run in chain:
            messages += [_given(message) for message in run.messages if _is_given(message, run)]
        if is_active := not chain[-1].ended:
            break
        messages.append(_Answer(thread, chain, version).message(transcript.state if chain[-1] is path[-1] else None))
        for run in chain:
            messages += [_given(message) for message in posted.get(run.id, [])]
    return History([message for message in messages if message["parts"]], is_active)


def _chains(path: Sequence[TranscriptRun]) -> list[list[TranscriptRun]]:
    """The runs of each answer."""
    chains: list[list[TranscriptRun]] = []
    for run in path:
        if chains and goes_on(run):
            chains[-1].append(run)
        else:
            chains.append([run])
    return chains


# --- what people said -------------------------------------------------------------------------------------------------


def _is_given(message: TranscriptMessage, run: TranscriptRun) -> bool:
    return message.id != run.id and message.role in ("user", "system")


def _given(message: TranscriptMessage) -> dict[str, Any]:
    parts: list[UiPart] = []
    for part in message.parts:
        if isinstance(part, TextPart):
            parts.append({"type": "text", "text": part.text})
        elif isinstance(part, ActivityPart) and (file := _file(part.content)) is not None:
            parts.append(file)
    return {"id": message.id, "role": message.role, "parts": parts}


def _file(content: Mapping[str, Any]) -> UiPart | None:
    source, more = content.get("source"), content.get("metadata")
    if not isinstance(source, Mapping):
        return None
    where = cast("Mapping[str, Any]", source)
    type = str(where.get("mimeType") or "application/octet-stream")
    value = str(where.get("value"))
    url = f"data:{type};base64,{value}" if where.get("type") == "data" else value
    part: UiPart = {"type": "file", "mediaType": type, "url": url}
    name = cast("Mapping[str, Any]", more).get("name") if isinstance(more, Mapping) else None
    return {**part, "filename": name} if isinstance(name, str) and name else part


# --- what was answered ------------------------------------------------------------------------------------------------


class _Answer:
    """One assistant message: the parts of a chain of runs that have ended."""

    def __init__(self, thread: str, chain: Sequence[TranscriptRun], version: Version) -> None:
        self._thread = thread
        self._chain = chain
        self._version: Version = version
        self._parts: list[UiPart] = []
        self._in_step = False
        self._step_is_empty = True
        self._new_step = False
        self._has_status = False
        self._last_status = status_of(cast("e.RunFinished | e.RunError", ending(chain[-1])))
        self._calls: list[ToolPart] = []
        """Of this step."""
        self._questions: dict[str, InterruptPart] = {}
        """Approvals by the calls that they are asked about."""
        for part in self._all_parts():
            if isinstance(part, InterruptPart) and part.tool_call_id is not None and part.reason != "input_required":
                self._questions[part.tool_call_id] = part

    def _all_parts(self) -> list[AnyPart]:
        return [
            part
            for run in self._chain
            for message in run.messages
            if not _is_given(message, run) and message.role == "assistant"
            for part in message.parts
        ]

    def message(self, state: Any) -> dict[str, Any]:
        first = self._chain[0]
        self._begin_step()
        if state is not None:
            self._data("state", "state", state)
        status = self._last_status
        for run in self._chain:
            if run is not first:
                self._in_step = False
                if run.resumes is not None:
                    self._status(status)
            for message in run.messages:
                if message.role == "assistant":
                    for part in message.parts:
                        self._add(part)
        if status["status"] != "done":
            self._status(status)
        metadata: dict[str, Any] = {"threadId": self._thread, "runId": first.id}
        usage: dict[str, int] = {}
        for run in self._chain:
            add_usage(usage, msgspec.convert(run.usage, list[e.TokenUsage]))
        if usage:
            metadata["usage"] = usage
        return {"id": first.id, "role": "assistant", "metadata": metadata, "parts": self._parts}

    def _begin_step(self) -> None:
        self._parts.append({"type": "step-start"})
        self._in_step, self._new_step, self._step_is_empty, self._calls = True, False, True, []

    def _step(self, since: int | None = None) -> None:
        """What comes next belongs to a step: to another one, if this one's calls had come to their ends by `since`."""
        ended = [call.ended_at for call in self._calls]
        over = all(at is not None and (since is None or at < since) for at in ended)
        if not self._in_step or (over and (self._new_step or ended)):
            self._begin_step()
        self._step_is_empty = False

    def _add(self, part: AnyPart) -> None:
        match part:
            case TextPart() if part.subagent_run_id is None:
                self._step()
                self._parts.append({"type": "text", "text": part.text, "state": "done"})
            case ReasoningPart() if part.subagent_run_id is None and part.text:
                self._step()
                self._parts.append({"type": "reasoning", "id": part.id, "text": part.text, "state": "done"})
            case ToolPart():
                self._step(part.started_at)
                self._calls.append(part)
                self._parts.append(self._call(part))
            case StepPart():
                self._new_step = self._new_step or not self._step_is_empty
            case ArtifactPart() if part.kind == "file" and part.url is not None:
                type = part.mime_type or "application/octet-stream"
                self._parts.append({"type": "file", "mediaType": type, "url": part.url})
            case ArtifactPart():
                more = present(part, "name", "mime_type", "url", "tool_call_id")
                if part.version != 1:
                    more["version"] = part.version
                if part.blob is not None:
                    more["blob"] = msgspec.to_builtins(part.blob)
                self._data(named("artifact", part.kind), part.id, {**more, "content": part.content})
            case SourcePart() if part.url is not None:
                self._parts.append({"type": "source-url", "sourceId": part.id, **present(part, "url", "title")})
            case SourcePart():
                type, title = part.media_type or "text/plain", part.title or part.id
                self._parts.append({"type": "source-document", "sourceId": part.id, "mediaType": type, "title": title})
            case InterruptPart():
                names = ("reason", "message", "tool_call_id", "response_schema", "expires_at", "metadata")
                said = {"id": part.id, **present(part, *names, "subagent_run_id"), "status": part.status}
                self._data("interrupt", part.id, said)
            case ActivityPart() if part.activity_type == "steer":
                self._data("steer", part.id, part.content)
            case ActivityPart():
                self._data(named("activity", part.activity_type), part.id, part.content)
            case SubagentPart():
                name = {"name": part.name} if part.name is not None and part.status == "running" else {}
                failed = {"message": part.error} if part.error is not None else {}
                self._data("subagent", part.id, {"status": part.status, **name, **failed})
            case _:
                pass

    def _status(self, status: Mapping[str, Any]) -> None:
        """Said once, where it was said first: when the message waited."""
        if not self._has_status:
            self._has_status = True
            self._data("run-status", "run-status", status)

    def _data(self, name: str, id: str, data: Any) -> None:
        self._parts.append({"type": f"data-{name}", "id": id, "data": data})

    # --- tools ----------------------------------------------------------------------------------------------------

    def _call(self, part: ToolPart) -> UiPart:
        call: UiPart = {"type": "dynamic-tool", "toolName": part.name, "toolCallId": part.id}
        call["input"] = arguments_of(part.args)
        if part.title is not None:
            call["title"] = part.title
        if not part.client:
            call["providerExecuted"] = True
        question = self._questions.get(part.id) if self._version >= 6 else None
        if question is not None:
            call["approval"] = self._approval(question)
        return call | self._state(part, question)

    def _approval(self, question: InterruptPart) -> dict[str, Any]:
        approval: dict[str, Any] = {"id": question.id}
        if self._version >= 7 and question.message is not None:
            approval["requestReason"] = question.message
        if question.status != "open":
            payload = question.payload
            said = cast("dict[str, Any]", payload) if isinstance(payload, dict) else {"approved": payload}
            approval["approved"] = question.status == "resolved" and said.get("approved") is True
            if isinstance(why := said.get("reason"), str):
                approval["reason"] = why
        return approval

    def _state(self, part: ToolPart, question: InterruptPart | None) -> UiPart:
        match part.status:
            case "done":
                return {"state": "output-available", "output": part.result if part.has_result else part.content}
            case "denied" if self._version >= 6:
                return {"state": "output-denied"}
            case "denied" | "failed" | "cancelled" | "interrupted":
                said = part.error or part.content
                if said is None:
                    said = self._last_status.get("message") or self._last_status.get("reason") or UNFINISHED
                return {"state": "output-error", "errorText": said if isinstance(said, str) and said else FAILED}
            case _ if question is not None and question.status == "open":
                return {"state": "approval-requested"}
            case _:
                return {"state": "input-available"}
