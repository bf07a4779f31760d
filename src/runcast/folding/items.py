"""What an agent makes: text, reasoning, tool calls, artifacts, sources, activities, steps and subagents."""

from __future__ import annotations

from typing import Any, cast

from msgspec import UNSET, UnsetType

from runcast import jsonpatch
from runcast.events import (
    ActivityDelta,
    ActivitySnapshot,
    ArtifactDelta,
    ArtifactSnapshot,
    MessageRetracted,
    ReasoningEnd,
    ReasoningMessageContent,
    ReasoningMessageEnd,
    ReasoningMessageStart,
    ReasoningStart,
    Source,
    StepFinished,
    SubagentError,
    SubagentFinished,
    SubagentStarted,
    TextMessageContent,
    TextMessageEnd,
    TextMessageStart,
    ToolCallArgs,
    ToolCallEnd,
    ToolCallProgress,
    ToolCallResult,
    ToolCallStart,
)
from runcast.folding.index import Index, given
from runcast.parts import (
    ActivityPart,
    AnyPart,
    ArtifactPart,
    Incomplete,
    Progress,
    ReasoningPart,
    SourcePart,
    StepPart,
    SubagentPart,
    TextPart,
    ToolPart,
    ToolStatus,
    TranscriptMessage,
    TranscriptRun,
)

MAX_PROGRESS_MESSAGES = 100

_TOOL_RESULT: dict[str, ToolStatus] = {
    "success": "done",
    "error": "failed",
    "denied": "denied",
    "cancelled": "cancelled",
    "interrupted": "interrupted",
}
INCOMPLETE: dict[str, Incomplete] = {"cancelled": "cancelled", "failed": "failed", "interrupted": "interrupted"}


def delta(at: Index, event: TextMessageContent | ReasoningMessageContent | ToolCallArgs) -> None:
    run = at.run(event)
    if run is None:
        return
    match event:
        case ToolCallArgs():
            tool = at.tool(run, event.tool_call_id)
            if tool is not None and tool.status == "preparing":
                at.grow(tool, event.delta)
            return
        case TextMessageContent():
            part = at.texts.get((run.id, event.message_id))
            if part is None:  # its start was retracted, or lies before what this reader has
                part = TextPart(id=event.message_id, open=True)
                at.add(run, event, part)
        case ReasoningMessageContent():
            part = at.reasoning.get((run.id, event.message_id))
            if part is None:
                part = ReasoningPart(id=event.message_id, open=True, started_at=given(event.timestamp))
                at.add(run, event, part)
    if part.open:
        at.grow(part, event.delta)


def text_start(at: Index, run: TranscriptRun, event: TextMessageStart) -> None:
    known = at.texts.get((run.id, event.message_id))
    if known is not None:
        known.open, known.incomplete = True, None
        return
    part = TextPart(id=event.message_id, open=True, name=given(event.name))
    if event.role is UNSET or event.role == "assistant":
        at.add(run, event, part)
        return
    at.answer(run, event)  # before it: input messages stand in front of the answer, and only they
    part.subagent_run_id = given(event.subagent_run_id)
    run.messages.append(
        TranscriptMessage(
            id=event.message_id,
            role=event.role,
            name=given(event.name),
            parts=[part],
            created_at=given(event.timestamp),
        )
    )
    at.index(run, part)


def text_end(at: Index, run: TranscriptRun, event: TextMessageEnd | ReasoningMessageEnd) -> None:
    is_text = isinstance(event, TextMessageEnd)
    part = (at.texts if is_text else at.reasoning).get((run.id, event.message_id))
    if part is None:
        if event.text is UNSET:
            return
        part = TextPart(id=event.message_id) if is_text else ReasoningPart(id=event.message_id)
        at.add(run, event, part)
    if event.text is not UNSET:
        part.text = event.text
    part.open = False
    part.incomplete = _incomplete(event.incomplete)
    if isinstance(part, ReasoningPart):
        part.ended_at = given(event.timestamp)


def reasoning_start(at: Index, run: TranscriptRun, event: ReasoningStart | ReasoningMessageStart) -> None:
    known = at.reasoning.get((run.id, event.message_id))
    if known is not None:
        known.open, known.incomplete, known.ended_at = True, None, None
        return
    parts = at.answer(run, event).parts
    last = parts[-1] if parts else None
    if isinstance(event, ReasoningMessageStart) and isinstance(last, ReasoningPart) and last.open and not last.text:
        # A span whose first message has an id of its own: one part for both.
        del at.reasoning[run.id, last.id]
        last.id = event.message_id
        at.index(run, last)
        return
    at.add(run, event, ReasoningPart(id=event.message_id, open=True, started_at=given(event.timestamp)))


def reasoning_end(at: Index, run: TranscriptRun, event: ReasoningEnd) -> None:
    part = at.reasoning.get((run.id, event.message_id))
    if part is not None:
        part.open, part.ended_at = False, given(event.timestamp)


def tool_start(at: Index, run: TranscriptRun, event: ToolCallStart) -> None:
    known = at.tool(run, event.tool_call_id)
    if known is not None and (known.content is None or (run.id, event.tool_call_id) in at.tools):
        return  # there already, or told again by the run that goes on with it
    part = ToolPart(
        id=event.tool_call_id,
        name=event.tool_call_name,
        title=given(event.title),
        started_at=given(event.timestamp),
    )
    at.add(run, event, part)


def tool_end(at: Index, run: TranscriptRun, event: ToolCallEnd) -> None:
    part = at.tool(run, event.tool_call_id)
    if part is None or part.status not in ("preparing", "waiting"):
        return
    if event.args is not UNSET:
        part.args = event.args
    if part.status == "preparing":
        part.status = "running"
        part.started_at = given(event.timestamp)


def tool_progress(at: Index, run: TranscriptRun, event: ToolCallProgress) -> None:
    part = at.tool(run, event.tool_call_id)
    if part is None or part.status not in ("preparing", "running", "waiting"):
        return
    messages = part.progress.messages if part.progress else []
    if event.message is not UNSET and event.message not in messages:
        messages = [*messages, event.message][-MAX_PROGRESS_MESSAGES:]
    part.progress = Progress(
        progress=given(event.progress),
        total=given(event.total),
        message=given(event.message),
        data=given(event.data),
        messages=messages,
    )


def tool_result(at: Index, run: TranscriptRun, event: ToolCallResult) -> None:
    part = at.tool(run, event.tool_call_id) or at.left_to_client(run, event.tool_call_id)
    if part is None:
        return
    status = "success" if event.status is UNSET else event.status
    if part.status != "denied" or status != "success":  # a denial stays one, whatever the model is told
        part.status = _TOOL_RESULT[status]
    part.content = event.content
    part.has_result = event.result is not UNSET
    part.result = given(event.result)
    part.blob = given(event.blob)
    part.result_blob = given(event.result_blob)
    part.summary = given(event.summary)
    part.error = given(event.error)
    part.ended_at = given(event.timestamp)


def artifact_snapshot(at: Index, run: TranscriptRun, event: ArtifactSnapshot) -> None:
    part = at.artifacts.get(event.artifact_id)
    version = event.version
    if part is None:
        part = ArtifactPart(id=event.artifact_id, kind=event.kind)
        at.add(run, event, part)
        part.version = 1 if version is UNSET else version
    else:
        part.version = part.version + 1 if version is UNSET else version
    part.kind = event.kind
    part.name = given(event.name)
    part.mime_type = given(event.mime_type)
    part.content = given(event.content)
    part.url = given(event.url)
    part.tool_call_id = given(event.tool_call_id)
    part.blob = given(event.blob)


def artifact_delta(at: Index, event: ArtifactDelta) -> None:
    part = at.artifacts.get(event.artifact_id)
    if part is None or part.blob is not None:  # what is there is only the beginning
        return
    if event.append is not UNSET:
        if part.content is None or isinstance(part.content, str):
            part.content = (part.content or "") + event.append
    elif event.patch is not UNSET:
        part.content = patched(part.content, event.patch)


def source(at: Index, run: TranscriptRun, event: Source) -> None:
    part = at.sources.get((run.id, event.source_id))
    if part is None:
        part = SourcePart(id=event.source_id)
        at.add(run, event, part)
    part.url = given(event.url)
    part.title = given(event.title)
    part.media_type = given(event.media_type)


def activity(at: Index, run: TranscriptRun, event: ActivitySnapshot | ActivityDelta) -> None:
    part = at.activities.get(event.message_id)
    if isinstance(event, ActivityDelta):
        if part is not None:
            content = patched(part.content, event.patch)
            part.content = cast(dict[str, Any], content) if isinstance(content, dict) else part.content
    elif part is None:
        at.add(run, event, ActivityPart(id=event.message_id, activity_type=event.activity_type, content=event.content))
    elif event.replace is not False:  # AG-UI 1.0, ActivitySnapshot: false leaves what is there
        part.activity_type, part.content = event.activity_type, event.content


def step_finished(at: Index, run: TranscriptRun, event: StepFinished) -> None:
    owner = given(event.subagent_run_id)
    answer = at.answers.get(run.id)
    for part in reversed(answer.parts) if answer else ():
        if isinstance(part, StepPart) and part.open and part.name == event.step_name and part.subagent_run_id == owner:
            part.open = False
            return


def subagent_started(at: Index, run: TranscriptRun, event: SubagentStarted) -> None:
    for link in at.chain(run):
        if (part := at.subagents.get((link.id, event.subagent_run_id))) is not None:
            part.status = "running"
            return
    part = SubagentPart(
        id=event.subagent_run_id,
        name=given(event.name),
        description=given(event.description),
        parent_tool_call_id=given(event.parent_tool_call_id),
    )
    at.add(run, event, part)
    part.subagent_run_id = given(event.parent_subagent_run_id)


def subagent_ended(at: Index, run: TranscriptRun, event: SubagentFinished | SubagentError) -> None:
    for link in at.chain(run):
        if (part := at.subagents.get((link.id, event.subagent_run_id))) is not None:
            if isinstance(event, SubagentError):
                part.status, part.error = "failed", event.message
            else:
                suspended = event.outcome is not UNSET and event.outcome.type == "suspended"
                part.status = "waiting" if suspended else "done"
            return


def message_retracted(at: Index, run: TranscriptRun, event: MessageRetracted) -> None:
    for id in [] if event.message_ids is UNSET else event.message_ids:
        for part in (at.texts.pop((run.id, id), None), at.reasoning.pop((run.id, id), None)):
            if part is not None:
                _remove(run, part)
    for id in [] if event.tool_call_ids is UNSET else event.tool_call_ids:
        tool = at.tools.pop((run.id, id), None)
        if tool is not None:
            _remove(run, tool)


def patched(value: Any, patch: list[dict[str, Any]]) -> Any:
    """The patched value; the value itself if the patch does not apply: as a whole or not at all (RFC 6902, section 5)."""
    try:
        return jsonpatch.apply(value, patch)
    except (jsonpatch.PatchError, RecursionError):
        return value


def _incomplete(word: str | UnsetType) -> Incomplete | None:
    return None if word is UNSET else INCOMPLETE.get(word, "interrupted")


def _remove(run: TranscriptRun, part: AnyPart) -> None:
    for message in run.messages:
        for position, known in enumerate(message.parts):
            if known is part:
                del message.parts[position]
                if not message.parts and message.id != run.id:
                    run.messages = [other for other in run.messages if other is not message]
                return
