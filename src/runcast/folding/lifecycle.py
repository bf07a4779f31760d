"""How runs begin, wait, go on and end, and what belongs to the thread: answers, posted messages, titles, feedback."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, cast

import msgspec
from msgspec import UNSET, UnsetType

from runcast.events import (
    Event,
    Feedback,
    Interrupt,
    InterruptResolved,
    MessagePosted,
    RunError,
    RunFinished,
    RunQueued,
    RunRestarted,
    RunStarted,
    RunSteered,
    ThreadUpdated,
)
from runcast.folding import tree
from runcast.folding.index import Index, given
from runcast.folding.items import INCOMPLETE
from runcast.parts import (
    ActivityPart,
    AnyPart,
    Failure,
    InterruptPart,
    ReasoningPart,
    RunFeedback,
    StepPart,
    SubagentPart,
    TextPart,
    ToolPart,
    TranscriptMessage,
    TranscriptRun,
)
from runcast.runs import RunStatus

_CLOSED: dict[str, Literal["done", "failed", "cancelled", "interrupted"]] = {
    "done": "done",
    "failed": "failed",
    "cancelled": "cancelled",
    "interrupted": "interrupted",
}


def interrupt_requested(at: Index, run: TranscriptRun, event: Event, interrupt: Interrupt) -> None:
    if interrupt.id in at.interrupts:
        return
    part = InterruptPart(
        id=interrupt.id,
        reason=interrupt.reason,
        message=given(interrupt.message),
        tool_call_id=given(interrupt.tool_call_id),
        response_schema=given(interrupt.response_schema),
        expires_at=given(interrupt.expires_at),
        metadata=given(interrupt.metadata),
    )
    at.add(run, event, part)
    if interrupt.subagent_run_id is not UNSET:
        part.subagent_run_id = interrupt.subagent_run_id
    tool = at.tool(run, part.tool_call_id) if part.tool_call_id else None
    if tool is not None and tool.status in ("preparing", "running"):
        tool.status = "waiting"


def interrupt_resolved(at: Index, event: InterruptResolved) -> None:
    run, part = at.interrupts.get(event.interrupt_id, (None, None))
    if run is None or part is None or part.status != "open":
        return
    part.status = event.status
    part.payload = given(event.payload)
    part.by = given(event.by)
    part.resolved_at = given(event.timestamp)
    tool = at.tool(run, part.tool_call_id) if part.tool_call_id else None
    if tool is not None and tool.status == "waiting" and _denies(part):
        # Whoever withdrew the question said nothing about the tool.
        withdrawn = part.status == "cancelled" and event.ends_run is True
        tool.status, tool.ended_at = "cancelled" if withdrawn else "denied", part.resolved_at
    if run.status == "waiting":
        settle(at, run, withdrawn=event.ends_run is True, reason=given(event.reason))


def settle(at: Index, run: TranscriptRun, *, withdrawn: bool = False, reason: str | None = None) -> None:
    """A waiting run is done once none of its interrupts is open; cancelled, for `reason`, if the last was withdrawn."""
    answer = at.answers.get(run.id)
    asked = [part for part in answer.parts if isinstance(part, InterruptPart)] if answer else []
    if any(part.status == "open" for part in asked):
        return
    run.status = "cancelled" if withdrawn else "done"
    if withdrawn:
        run.reason = reason
    if withdrawn or not any(part.status == "resolved" for part in asked):  # nothing need go on with it
        close_tools(at, run, "cancelled", run.ended_at)


def run_queued(at: Index, run: TranscriptRun, event: RunQueued) -> None:
    if run.messages:  # queued or started already
        return
    run.status = "queued"
    run.queued_at = given(event.timestamp)
    run.agent = event.agent
    run.parent = given(event.parent_run_id)
    run.replaces = given(event.replaces)
    inputs(at, run, event, event.input)
    tree.take_place(at, run)


def run_started(at: Index, run: TranscriptRun, event: RunStarted) -> None:
    run.status = "running"
    if run.started_at is None:
        run.started_at = given(event.timestamp)
    run.agent = run.agent if event.agent is UNSET else event.agent
    run.parent = run.parent if event.parent_run_id is UNSET else event.parent_run_id
    run.resumes = run.resumes if event.resumes is UNSET else event.resumes
    run.replaces = run.replaces if event.replaces is UNSET else event.replaces
    inputs(at, run, event, event.input)
    at.answer(run, event)
    for link in at.chain(run):
        if link is not run:
            resumed(at, link, event)
    given_up(at, run, event)
    tree.take_place(at, run)


def given_up(at: Index, run: TranscriptRun, event: RunStarted) -> None:
    """What the run before left to the client, and this one does not bring the result of: nobody waits for it any more."""
    parent = at.runs.get(run.parent) if run.parent else None
    messages: Any = None if event.input is UNSET else event.input.get("messages")
    brought: set[str] = set()
    for value in cast(list[Any], messages) if isinstance(messages, list) else []:
        if isinstance(value, Mapping):
            brought.add(str(cast(Mapping[str, Any], value).get("toolCallId")))
    for link in at.chain(parent) if parent is not None else ():
        answer = at.answers.get(link.id)
        for part in answer.parts if answer else []:
            if isinstance(part, ToolPart) and part.status == "pending" and part.id not in brought:
                part.status, part.ended_at = "cancelled", given(event.timestamp)


def resumed(at: Index, run: TranscriptRun, event: RunStarted) -> None:
    """What waited in `run` goes on in the run that `event` starts."""
    answer = at.answers.get(run.id)
    for part in answer.parts if answer else []:
        if isinstance(part, InterruptPart) and part.status == "open":
            part.status = "cancelled"
        elif isinstance(part, ToolPart) and part.status == "waiting":
            part.status, part.started_at = "running", given(event.timestamp)
        elif isinstance(part, SubagentPart) and part.status == "waiting":
            part.status = "running"
    if run.status == "waiting":
        run.status = "done"


def inputs(at: Index, run: TranscriptRun, event: Event, input: dict[str, Any] | UnsetType) -> None:
    """The run's input messages, in front of its answer; one that is there already (it was queued) is replaced."""
    messages: Any = [] if input is UNSET else input.get("messages")
    answer = at.answers.get(run.id)
    place = next((at for at, message in enumerate(run.messages) if message is answer), len(run.messages))
    for value in cast(list[Any], messages) if isinstance(messages, list) else []:
        message = _message(value, event)
        if message is None or message.role == "tool":  # a result is shown with its call
            continue
        for position in range(place):
            if run.messages[position].id == message.id:
                message.created_at = run.messages[position].created_at
                run.messages[position] = message
                break
        else:
            run.messages.insert(place, message)
            place += 1
        for other in at.transcript.runs:  # what its agent had not read runs by itself now
            if other.steering and other is not run:
                other.steering = [one for one in other.steering if one.id != message.id]


def run_steered(at: Index, run: TranscriptRun, event: RunSteered) -> None:
    message = _message(event.message, event)
    if message is None or message.id in at.activities:
        return
    known = [one for one in run.steering if one.id != message.id]
    if event.consumed:
        run.steering = known
        at.add(run, event, ActivityPart(id=message.id, activity_type="steer", content=event.message))
    elif len(known) == len(run.steering):
        run.steering = [*known, message]


def run_restarted(at: Index, run: TranscriptRun, event: RunRestarted) -> None:
    run.attempt = event.attempt
    answer = at.answers.get(run.id)
    if event.anew is not True or answer is None:
        return
    place = next(position for position, message in enumerate(run.messages) if message is answer)
    kept: list[AnyPart] = []
    for message in run.messages[place:]:
        for part in message.parts:
            if message is answer and isinstance(part, ActivityPart) and part.activity_type == "steer":
                kept.append(part)  # a person's words, not the agent's
            else:
                at.forget(run, part)
    answer.parts = kept
    del run.messages[place + 1 :]


def run_finished(at: Index, run: TranscriptRun, event: RunFinished) -> None:
    run.result = given(event.result)
    usage(at, run, event)
    outcome = None if event.outcome is UNSET else event.outcome
    if outcome is None or outcome.type == "success":
        pending = [] if outcome is None else outcome.pending_tool_call_ids or []
        for part in [at.tool(run, call) for call in pending]:
            if part is not None and part.status in ("preparing", "running", "waiting"):
                part.status, part.client, part.started_at = "pending", True, given(event.timestamp)
        end(at, run, event, "done")
    elif outcome.type == "cancelled":
        run.reason = given(event.reason) or run.reason
        end(at, run, event, "cancelled")
    else:
        for interrupt in [] if outcome.interrupts is UNSET else outcome.interrupts:
            interrupt_requested(at, run, event, interrupt)
        end(at, run, event, "waiting")
        settle(at, run)


def run_error(at: Index, run: TranscriptRun, event: RunError) -> None:
    code = event.code if isinstance(event.code, str) else "agent_error"
    run.failure = Failure(
        code=code,
        message=event.message,
        retryable=event.retryable is True,
        limit_s=given(event.limit_s),
        retry_after_ms=given(event.retry_after_ms),
        request_id=given(event.request_id),
    )
    usage(at, run, event)
    end(at, run, event, "interrupted" if code == "interrupted" else "failed")


def usage(at: Index, run: TranscriptRun, event: RunFinished | RunError) -> None:
    if event.usage is not UNSET:
        run.usage = [cast(dict[str, Any], msgspec.to_builtins(entry)) for entry in event.usage]


def end(at: Index, run: TranscriptRun, event: Event, status: RunStatus) -> None:
    """The run's terminal event: nothing of it stays open (I23)."""
    run.status = status
    run.ended_at = given(event.timestamp)
    run.cancelling = False
    if status != "cancelled":
        run.reason = None
    incomplete = INCOMPLETE.get(status)
    for message in run.messages:
        for part in message.parts:
            match part:
                case TextPart() | ReasoningPart() if part.open:
                    part.open, part.incomplete = False, incomplete
                    if isinstance(part, ReasoningPart):
                        part.ended_at = run.ended_at
                case StepPart():
                    part.open = False
                case InterruptPart() if part.status == "open" and status != "waiting":
                    part.status = "cancelled"
                case _:
                    pass
    for link in at.chain(run):
        close_tools(at, link, status, run.ended_at)


def close_tools(at: Index, run: TranscriptRun, status: RunStatus, ended_at: int | None) -> None:
    """Tools and subagents that have not ended take the run's end, or wait with it."""
    answer = at.answers.get(run.id)
    for part in answer.parts if answer else []:
        if isinstance(part, ToolPart) and part.status in ("preparing", "running", "waiting"):
            part.status = _CLOSED.get(status, "waiting")
            if part.status != "waiting":
                part.ended_at = ended_at
        elif isinstance(part, SubagentPart) and part.status in ("running", "waiting"):
            part.status = _CLOSED.get(status, "waiting")


def message_posted(at: Index, event: MessagePosted) -> None:
    message = _message(event.message, event)
    if message is None:
        return
    posted = at.transcript.posted
    for position, known in enumerate(posted):
        if known.id == message.id:
            message.created_at, message.after = known.created_at, known.after
            posted[position] = message
            return
    message.after = at.transcript.runs[-1].id if at.transcript.runs else None
    posted.append(message)


def thread_updated(at: Index, event: ThreadUpdated) -> None:
    if event.thread_id is not UNSET:  # an inbox's: about another thread
        return
    if event.title is not UNSET:
        at.transcript.title = event.title
    if event.head_run is not UNSET:
        at.transcript.head_run = event.head_run


def feedback(at: Index, event: Feedback) -> None:
    run = at.runs.get(event.target_run_id)
    if run is not None:
        run.feedback = (
            None
            if event.value == 0
            else RunFeedback(value=event.value, comment=given(event.comment), by=given(event.by))
        )


def _denies(part: InterruptPart) -> bool:
    """Whether the answer means that the tool does not run: only an approval lets it."""
    if part.status != "resolved":
        return part.reason != "input_required"  # AG-UI 1.0, Interrupt.reason: a question, not an approval
    payload = part.payload
    return payload is False or (
        isinstance(payload, Mapping) and cast(Mapping[str, Any], payload).get("approved") is False
    )


def _message(value: Any, event: Event) -> TranscriptMessage | None:
    """A message in AG-UI's shape as the transcript has it; None if it has no id."""
    if not isinstance(value, Mapping):
        return None
    fields = cast(Mapping[str, Any], value)
    id, role, name, content = fields.get("id"), fields.get("role"), fields.get("name"), fields.get("content")
    if not isinstance(id, str):
        return None
    parts: list[AnyPart] = []
    pieces: list[Any] = [{"type": "text", "text": content}] if isinstance(content, str) else []
    if isinstance(content, list):
        pieces = cast(list[Any], content)
    for position, item in enumerate(pieces):
        part_id = id if position == 0 else f"{id}.{position}"
        if not isinstance(item, dict):
            continue
        piece = cast(dict[str, Any], item)
        if piece.get("type") == "text" and isinstance(piece.get("text"), str):
            parts.append(TextPart(id=part_id, text=piece["text"]))
        else:
            parts.append(ActivityPart(id=part_id, activity_type="attachment", content=piece))
    return TranscriptMessage(
        id=id,
        role=role if isinstance(role, str) else "user",
        name=name if isinstance(name, str) else None,
        parts=parts,
        created_at=given(event.timestamp),
    )
