"""How each event changes a transcript: the engine under `runcast.transcript.fold`.

Everything the fold needs is in the transcript's shape; the indexes here only make it fast and are rebuilt from it. An
event that makes no sense where it stands changes nothing. No I/O, no clock, no ids of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, cast

import msgspec
from msgspec import UNSET, UnsetType

from runcast import jsonpatch
from runcast.events import (
    ActivityDelta,
    ActivitySnapshot,
    ArtifactDelta,
    ArtifactSnapshot,
    Event,
    Feedback,
    Interrupt,
    InterruptRequested,
    InterruptResolved,
    MessagePosted,
    MessageRetracted,
    ReasoningEnd,
    ReasoningMessageContent,
    ReasoningMessageEnd,
    ReasoningMessageStart,
    ReasoningStart,
    RunCancelRequested,
    RunDequeued,
    RunError,
    RunFinished,
    RunQueued,
    RunRestarted,
    RunStarted,
    RunSteered,
    Source,
    StateDelta,
    StateSnapshot,
    StepFinished,
    StepStarted,
    SubagentError,
    SubagentFinished,
    SubagentStarted,
    TextMessageContent,
    TextMessageEnd,
    TextMessageStart,
    ThreadUpdated,
    ToolCallArgs,
    ToolCallEnd,
    ToolCallProgress,
    ToolCallResult,
    ToolCallStart,
)
from runcast.parts import (
    ActivityPart,
    AnyPart,
    ArtifactPart,
    Failure,
    Incomplete,
    InterruptPart,
    Progress,
    ReasoningPart,
    RunFeedback,
    SourcePart,
    StepPart,
    SubagentPart,
    TextPart,
    ToolPart,
    ToolStatus,
    Transcript,
    TranscriptMessage,
    TranscriptRun,
)
from runcast.runs import RunStatus

MAX_PROGRESS_MESSAGES = 100

_TOOL_RESULT: dict[str, ToolStatus] = {
    "success": "done",
    "error": "failed",
    "denied": "denied",
    "cancelled": "cancelled",
    "interrupted": "interrupted",
}
_INCOMPLETE: dict[str, Incomplete] = {"cancelled": "cancelled", "failed": "failed", "interrupted": "interrupted"}
_CLOSED: dict[str, Literal["done", "failed", "cancelled", "interrupted"]] = {
    "done": "done",
    "failed": "failed",
    "cancelled": "cancelled",
    "interrupted": "interrupted",
}


def _set(value: Any) -> Any:
    """An optional field of an event as the transcript has it."""
    return None if value is UNSET else value


class Folding:
    """The fold of one transcript: indexes into it, so that no event needs a scan, and the text being gathered."""

    def __init__(self, transcript: Transcript) -> None:
        self.transcript = transcript
        self.runs: dict[str, TranscriptRun] = {}
        self.answers: dict[str, TranscriptMessage] = {}
        self.texts: dict[tuple[str, str], TextPart] = {}
        self.reasoning: dict[tuple[str, str], ReasoningPart] = {}
        self.tools: dict[tuple[str, str], ToolPart] = {}
        self.sources: dict[tuple[str, str], SourcePart] = {}
        self.subagents: dict[tuple[str, str], SubagentPart] = {}
        self.artifacts: dict[str, ArtifactPart] = {}
        self.activities: dict[str, ActivityPart] = {}
        self.interrupts: dict[str, tuple[TranscriptRun, InterruptPart]] = {}
        self.growing: TextPart | ReasoningPart | ToolPart | None = None
        self.pieces: list[str] = []
        for run in transcript.runs:
            self.runs[run.id] = run
            made = False
            for message in run.messages:
                if message.id == run.id and message.role == "assistant":
                    self.answers[run.id] = message
                    made = True  # input messages stand before it, what the run made from there on
                if made:
                    for part in message.parts:
                        self.index(run, part)

    # --- finding ---

    def index(self, run: TranscriptRun, part: AnyPart) -> None:
        match part:
            case TextPart():
                self.texts[run.id, part.id] = part
            case ReasoningPart():
                self.reasoning[run.id, part.id] = part
            case ToolPart():
                self.tools[run.id, part.id] = part
            case SourcePart():
                self.sources[run.id, part.id] = part
            case SubagentPart():
                self.subagents[run.id, part.id] = part
            case ArtifactPart():
                self.artifacts[part.id] = part
            case ActivityPart():
                self.activities[part.id] = part
            case InterruptPart():
                self.interrupts[part.id] = (run, part)
            case StepPart():
                pass

    def run(self, event: Event) -> TranscriptRun | None:
        """The run of an event while it may still change. One that is not known yet is taken for running: the reader came late."""
        if not isinstance(event.run_id, str):
            return None
        run = self.runs.get(event.run_id)
        if run is None:
            return self.add_run(event.run_id, "running")
        return None if run.ended else run

    def add_run(self, id: str, status: RunStatus) -> TranscriptRun:
        run = self.runs[id] = TranscriptRun(id=id, status=status)
        self.transcript.runs.append(run)
        self.transcript.head_run = id
        return run

    def answer(self, run: TranscriptRun, event: Event) -> TranscriptMessage:
        message = self.answers.get(run.id)
        if message is None:
            message = TranscriptMessage(id=run.id, role="assistant", created_at=_set(event.timestamp))
            self.answers[run.id] = message
            run.messages.append(message)
        return message

    def add(self, run: TranscriptRun, event: Event, part: AnyPart) -> None:
        """Put a new part at the end of the run's answer."""
        part.subagent_run_id = _set(event.subagent_run_id)
        self.answer(run, event).parts.append(part)
        self.index(run, part)

    def chain(self, run: TranscriptRun) -> Iterator[TranscriptRun]:
        """The run, the waiting run that it goes on with, the one before that …"""
        seen: set[str] = set()
        link: TranscriptRun | None = run
        while link is not None and link.id not in seen:
            yield link
            seen.add(link.id)
            link = self.runs.get(link.resumes) if link.resumes else None

    def tool(self, run: TranscriptRun, id: str) -> ToolPart | None:
        """A tool call of the run, or of a waiting run that it goes on with."""
        for link in self.chain(run):
            if (part := self.tools.get((link.id, id))) is not None:
                return part
        return None

    # --- text: gathered in pieces, so that a long one is not copied for each token ---

    def grow(self, part: TextPart | ReasoningPart | ToolPart, delta: str) -> None:
        if self.growing is not part:
            self.flush()
            self.growing = part
        self.pieces.append(delta)

    def flush(self) -> None:
        if self.growing is None:
            return
        whole = "".join(self.pieces)
        if isinstance(self.growing, ToolPart):
            self.growing.args += whole
        else:
            self.growing.text += whole
        self.growing = None
        self.pieces.clear()

    # --- the events ---

    def apply(self, event: Event) -> None:
        match event:
            case TextMessageContent() | ReasoningMessageContent() | ToolCallArgs():
                self.delta(event)
                return
            case _:
                self.flush()
        match event:
            case InterruptResolved():
                self.interrupt_resolved(event)
            case MessagePosted():
                self.message_posted(event)
            case StateSnapshot():
                self.transcript.state = event.snapshot
            case StateDelta():
                self.transcript.state = _patched(self.transcript.state, event.delta)
            case ThreadUpdated():
                self.thread_updated(event)
            case Feedback():
                self.feedback(event)
            case _:
                run = self.run(event) if isinstance(event, _OF_A_RUN) else None
                if run is not None:
                    self.apply_to(run, event)

    def apply_to(self, run: TranscriptRun, event: Event) -> None:
        match event:
            case TextMessageStart():
                self.text_start(run, event)
            case TextMessageEnd() | ReasoningMessageEnd():
                self.text_end(run, event)
            case ReasoningStart() | ReasoningMessageStart():
                self.reasoning_start(run, event)
            case ReasoningEnd():
                self.reasoning_end(run, event)
            case ToolCallStart():
                self.tool_start(run, event)
            case ToolCallEnd():
                self.tool_end(run, event)
            case ToolCallProgress():
                self.tool_progress(run, event)
            case ToolCallResult():
                self.tool_result(run, event)
            case ActivitySnapshot() | ActivityDelta():
                self.activity(run, event)
            case ArtifactSnapshot():
                self.artifact_snapshot(run, event)
            case ArtifactDelta():
                self.artifact_delta(event)
            case Source():
                self.source(run, event)
            case StepStarted():
                self.add(run, event, StepPart(name=event.step_name, open=True))
            case StepFinished():
                self.step_finished(run, event)
            case SubagentStarted():
                self.subagent_started(run, event)
            case SubagentFinished() | SubagentError():
                self.subagent_ended(run, event)
            case InterruptRequested():
                self.interrupt_requested(run, event, event.interrupt)
            case MessageRetracted():
                self.message_retracted(run, event)
            case RunQueued():
                self.run_queued(run, event)
            case RunStarted():
                self.run_started(run, event)
            case RunSteered():
                self.run_steered(run, event)
            case RunRestarted():
                run.attempt = event.attempt
            case RunCancelRequested():
                run.cancelling = True
                run.reason = _set(event.reason)
            case RunDequeued():
                run.reason = _set(event.reason) or run.reason
                self.end(run, event, "cancelled")
            case RunFinished():
                self.run_finished(run, event)
            case RunError():
                self.run_error(run, event)
            case _:
                pass

    # text and reasoning

    def delta(self, event: TextMessageContent | ReasoningMessageContent | ToolCallArgs) -> None:
        run = self.run(event)
        if run is None:
            return
        match event:
            case ToolCallArgs():
                tool = self.tool(run, event.tool_call_id)
                if tool is not None and tool.status == "preparing":
                    self.grow(tool, event.delta)
                return
            case TextMessageContent():
                part = self.texts.get((run.id, event.message_id))
                if part is None:  # its start was retracted, or lies before what this reader has
                    part = TextPart(id=event.message_id, open=True)
                    self.add(run, event, part)
            case ReasoningMessageContent():
                part = self.reasoning.get((run.id, event.message_id))
                if part is None:
                    part = ReasoningPart(id=event.message_id, open=True, started_at=_set(event.timestamp))
                    self.add(run, event, part)
        if part.open:
            self.grow(part, event.delta)

    def text_start(self, run: TranscriptRun, event: TextMessageStart) -> None:
        known = self.texts.get((run.id, event.message_id))
        if known is not None:
            known.open, known.incomplete = True, None
            return
        part = TextPart(id=event.message_id, open=True, name=_set(event.name))
        if event.role is UNSET or event.role == "assistant":
            self.add(run, event, part)
            return
        self.answer(run, event)  # before it: input messages stand in front of the answer, and only they
        part.subagent_run_id = _set(event.subagent_run_id)
        run.messages.append(
            TranscriptMessage(
                id=event.message_id,
                role=event.role,
                name=_set(event.name),
                parts=[part],
                created_at=_set(event.timestamp),
            )
        )
        self.index(run, part)

    def text_end(self, run: TranscriptRun, event: TextMessageEnd | ReasoningMessageEnd) -> None:
        is_text = isinstance(event, TextMessageEnd)
        part = (self.texts if is_text else self.reasoning).get((run.id, event.message_id))
        if part is None:
            if event.text is UNSET:
                return
            part = TextPart(id=event.message_id) if is_text else ReasoningPart(id=event.message_id)
            self.add(run, event, part)
        if event.text is not UNSET:
            part.text = event.text
        part.open = False
        part.incomplete = _incomplete(event.incomplete)
        if isinstance(part, ReasoningPart):
            part.ended_at = _set(event.timestamp)

    def reasoning_start(self, run: TranscriptRun, event: ReasoningStart | ReasoningMessageStart) -> None:
        known = self.reasoning.get((run.id, event.message_id))
        if known is not None:
            known.open, known.incomplete, known.ended_at = True, None, None
            return
        parts = self.answer(run, event).parts
        last = parts[-1] if parts else None
        if isinstance(event, ReasoningMessageStart) and isinstance(last, ReasoningPart) and last.open and not last.text:
            # A span whose first message has an id of its own: one part for both.
            del self.reasoning[run.id, last.id]
            last.id = event.message_id
            self.index(run, last)
            return
        self.add(run, event, ReasoningPart(id=event.message_id, open=True, started_at=_set(event.timestamp)))

    def reasoning_end(self, run: TranscriptRun, event: ReasoningEnd) -> None:
        part = self.reasoning.get((run.id, event.message_id))
        if part is not None:
            part.open, part.ended_at = False, _set(event.timestamp)

    # tools

    def tool_start(self, run: TranscriptRun, event: ToolCallStart) -> None:
        known = self.tool(run, event.tool_call_id)
        if known is not None and (known.content is None or (run.id, event.tool_call_id) in self.tools):
            return  # there already, or told again by the run that goes on with it
        part = ToolPart(
            id=event.tool_call_id,
            name=event.tool_call_name,
            title=_set(event.title),
            started_at=_set(event.timestamp),
        )
        self.add(run, event, part)

    def tool_end(self, run: TranscriptRun, event: ToolCallEnd) -> None:
        part = self.tool(run, event.tool_call_id)
        if part is None or part.status not in ("preparing", "waiting"):
            return
        if event.args is not UNSET:
            part.args = event.args
        if part.status == "preparing":
            part.status = "running"
            part.started_at = _set(event.timestamp)

    def tool_progress(self, run: TranscriptRun, event: ToolCallProgress) -> None:
        part = self.tool(run, event.tool_call_id)
        if part is None or part.status not in ("preparing", "running", "waiting"):
            return
        messages = part.progress.messages if part.progress else []
        if event.message is not UNSET and event.message not in messages:
            messages = [*messages, event.message][-MAX_PROGRESS_MESSAGES:]
        part.progress = Progress(
            progress=_set(event.progress),
            total=_set(event.total),
            message=_set(event.message),
            data=_set(event.data),
            messages=messages,
        )

    def tool_result(self, run: TranscriptRun, event: ToolCallResult) -> None:
        part = self.tool(run, event.tool_call_id)
        if part is None:
            return
        if not (
            part.status == "denied" and event.status in (UNSET, "success")
        ):  # a denial stays one, whatever the model reads
            part.status = _TOOL_RESULT.get("success" if event.status is UNSET else event.status, "done")
        part.content = event.content
        part.has_result = event.result is not UNSET
        part.result = _set(event.result)
        part.summary = _set(event.summary)
        part.error = _set(event.error)
        part.ended_at = _set(event.timestamp)

    # artifacts, sources, activities, steps, subagents

    def artifact_snapshot(self, run: TranscriptRun, event: ArtifactSnapshot) -> None:
        part = self.artifacts.get(event.artifact_id)
        version = event.version
        if part is None:
            part = ArtifactPart(id=event.artifact_id, kind=event.kind)
            self.add(run, event, part)
            part.version = 1 if version is UNSET else version
        else:
            part.version = part.version + 1 if version is UNSET else version
        part.kind = event.kind
        part.name = _set(event.name)
        part.mime_type = _set(event.mime_type)
        part.content = _set(event.content)
        part.url = _set(event.url)
        part.tool_call_id = _set(event.tool_call_id)

    def artifact_delta(self, event: ArtifactDelta) -> None:
        part = self.artifacts.get(event.artifact_id)
        if part is None:
            return
        if event.append is not UNSET:
            if part.content is None or isinstance(part.content, str):
                part.content = (part.content or "") + event.append
        elif event.patch is not UNSET:
            part.content = _patched(part.content, event.patch)

    def source(self, run: TranscriptRun, event: Source) -> None:
        part = self.sources.get((run.id, event.source_id))
        if part is None:
            part = SourcePart(id=event.source_id)
            self.add(run, event, part)
        part.url = _set(event.url)
        part.title = _set(event.title)
        part.media_type = _set(event.media_type)

    def activity(self, run: TranscriptRun, event: ActivitySnapshot | ActivityDelta) -> None:
        part = self.activities.get(event.message_id)
        if isinstance(event, ActivityDelta):
            if part is not None:
                content = _patched(part.content, event.patch)
                part.content = cast(dict[str, Any], content) if isinstance(content, dict) else part.content
        elif part is None:
            self.add(
                run, event, ActivityPart(id=event.message_id, activity_type=event.activity_type, content=event.content)
            )
        elif event.replace is not False:  # AG-UI 1.0, ActivitySnapshot: false leaves what is there
            part.activity_type, part.content = event.activity_type, event.content

    def step_finished(self, run: TranscriptRun, event: StepFinished) -> None:
        owner = _set(event.subagent_run_id)
        answer = self.answers.get(run.id)
        for part in reversed(answer.parts) if answer else ():
            if (
                isinstance(part, StepPart)
                and part.open
                and part.name == event.step_name
                and part.subagent_run_id == owner
            ):
                part.open = False
                return

    def subagent_started(self, run: TranscriptRun, event: SubagentStarted) -> None:
        for link in self.chain(run):
            if (part := self.subagents.get((link.id, event.subagent_run_id))) is not None:
                part.status = "running"
                return
        part = SubagentPart(
            id=event.subagent_run_id,
            name=_set(event.name),
            description=_set(event.description),
            parent_tool_call_id=_set(event.parent_tool_call_id),
        )
        self.add(run, event, part)
        part.subagent_run_id = _set(event.parent_subagent_run_id)

    def subagent_ended(self, run: TranscriptRun, event: SubagentFinished | SubagentError) -> None:
        for link in self.chain(run):
            if (part := self.subagents.get((link.id, event.subagent_run_id))) is not None:
                if isinstance(event, SubagentError):
                    part.status, part.error = "failed", event.message
                else:
                    suspended = event.outcome is not UNSET and event.outcome.type == "suspended"
                    part.status = "waiting" if suspended else "done"
                return

    # interrupts

    def interrupt_requested(self, run: TranscriptRun, event: Event, interrupt: Interrupt) -> None:
        if interrupt.id in self.interrupts:
            return
        part = InterruptPart(
            id=interrupt.id,
            reason=interrupt.reason,
            message=_set(interrupt.message),
            tool_call_id=_set(interrupt.tool_call_id),
            response_schema=_set(interrupt.response_schema),
            expires_at=_set(interrupt.expires_at),
            metadata=_set(interrupt.metadata),
        )
        self.add(run, event, part)
        if interrupt.subagent_run_id is not UNSET:
            part.subagent_run_id = interrupt.subagent_run_id
        tool = self.tool(run, part.tool_call_id) if part.tool_call_id else None
        if tool is not None and tool.status in ("preparing", "running"):
            tool.status = "waiting"

    def interrupt_resolved(self, event: InterruptResolved) -> None:
        run, part = self.interrupts.get(event.interrupt_id, (None, None))
        if run is None or part is None or part.status != "open":
            return
        part.status = event.status
        part.payload = _set(event.payload)
        part.by = _set(event.by)
        part.resolved_at = _set(event.timestamp)
        tool = self.tool(run, part.tool_call_id) if part.tool_call_id else None
        if tool is not None and tool.status == "waiting" and _denies(part):
            tool.status, tool.ended_at = "denied", part.resolved_at
        if run.status == "waiting":
            self.settle(run, withdrawn=event.ends_run is True)

    def settle(self, run: TranscriptRun, *, withdrawn: bool = False) -> None:
        """A waiting run is done once none of its interrupts is open; cancelled if Stop withdrew the last."""
        answer = self.answers.get(run.id)
        asked = [part for part in answer.parts if isinstance(part, InterruptPart)] if answer else []
        if any(part.status == "open" for part in asked):
            return
        run.status = "cancelled" if withdrawn else "done"
        if not any(part.status == "resolved" for part in asked):  # nobody answered: nothing need go on with it
            self.close_tools(run, "cancelled", run.ended_at)

    # the run itself

    def run_queued(self, run: TranscriptRun, event: RunQueued) -> None:
        if run.messages:  # queued or started already
            return
        run.status = "queued"
        run.queued_at = _set(event.timestamp)
        run.agent = event.agent
        run.parent = _set(event.parent_run_id)
        self.inputs(run, event, event.input)

    def run_started(self, run: TranscriptRun, event: RunStarted) -> None:
        run.status = "running"
        if run.started_at is None:
            run.started_at = _set(event.timestamp)
        run.agent = run.agent if event.agent is UNSET else event.agent
        run.parent = run.parent if event.parent_run_id is UNSET else event.parent_run_id
        run.resumes = run.resumes if event.resumes is UNSET else event.resumes
        self.inputs(run, event, event.input)
        self.answer(run, event)
        for link in self.chain(run):
            if link is not run:
                self.resumed(link, event)

    def resumed(self, run: TranscriptRun, event: RunStarted) -> None:
        """What waited in `run` goes on in the run that `event` starts."""
        answer = self.answers.get(run.id)
        for part in answer.parts if answer else []:
            if isinstance(part, InterruptPart) and part.status == "open":
                part.status = "cancelled"
            elif isinstance(part, ToolPart) and part.status == "waiting":
                part.status, part.started_at = "running", _set(event.timestamp)
            elif isinstance(part, SubagentPart) and part.status == "waiting":
                part.status = "running"
        if run.status == "waiting":
            run.status = "done"

    def inputs(self, run: TranscriptRun, event: Event, input: dict[str, Any] | UnsetType) -> None:
        """The run's input messages, in front of its answer; one that is there already (it was queued) is replaced."""
        given: Any = [] if input is UNSET else input.get("messages")
        answer = self.answers.get(run.id)
        place = next((at for at, message in enumerate(run.messages) if message is answer), len(run.messages))
        for value in cast(list[Any], given) if isinstance(given, list) else []:
            message = _message(value, event)
            if message is None:
                continue
            for position in range(place):
                if run.messages[position].id == message.id:
                    message.created_at = run.messages[position].created_at
                    run.messages[position] = message
                    break
            else:
                run.messages.insert(place, message)
                place += 1

    def run_steered(self, run: TranscriptRun, event: RunSteered) -> None:
        id = event.message.get("id")
        if event.consumed and isinstance(id, str) and id not in self.activities:
            self.add(run, event, ActivityPart(id=id, activity_type="steer", content=event.message))

    def run_finished(self, run: TranscriptRun, event: RunFinished) -> None:
        run.result = _set(event.result)
        self.usage(run, event)
        outcome = None if event.outcome is UNSET else event.outcome
        if outcome is None or outcome.type == "success":
            self.end(run, event, "done")
        elif outcome.type == "cancelled":
            run.reason = _set(event.reason) or run.reason
            self.end(run, event, "cancelled")
        else:
            for interrupt in [] if outcome.interrupts is UNSET else outcome.interrupts:
                self.interrupt_requested(run, event, interrupt)
            self.end(run, event, "waiting")
            self.settle(run)

    def run_error(self, run: TranscriptRun, event: RunError) -> None:
        code = event.code if isinstance(event.code, str) else "agent_error"
        run.failure = Failure(
            code=code,
            message=event.message,
            retryable=event.retryable is True,
            request_id=_set(event.request_id),
        )
        self.usage(run, event)
        self.end(run, event, "interrupted" if code == "interrupted" else "failed")

    def usage(self, run: TranscriptRun, event: RunFinished | RunError) -> None:
        if event.usage is not UNSET:
            run.usage = [cast(dict[str, Any], msgspec.to_builtins(entry)) for entry in event.usage]

    def end(self, run: TranscriptRun, event: Event, status: RunStatus) -> None:
        """The run's terminal event: nothing of it stays open (I23)."""
        run.status = status
        run.ended_at = _set(event.timestamp)
        run.cancelling = False
        if status != "cancelled":
            run.reason = None
        incomplete = _INCOMPLETE.get(status)
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
        for link in self.chain(run):
            self.close_tools(link, status, run.ended_at)

    def close_tools(self, run: TranscriptRun, status: RunStatus, ended_at: int | None) -> None:
        """Tools and subagents that have not ended take the run's end, or wait with it."""
        answer = self.answers.get(run.id)
        for part in answer.parts if answer else []:
            if isinstance(part, ToolPart) and part.status in ("preparing", "running", "waiting"):
                part.status = _CLOSED.get(status, "waiting")
                if part.status != "waiting":
                    part.ended_at = ended_at
            elif isinstance(part, SubagentPart) and part.status in ("running", "waiting"):
                part.status = _CLOSED.get(status, "waiting")

    # messages and the thread

    def message_retracted(self, run: TranscriptRun, event: MessageRetracted) -> None:
        for id in [] if event.message_ids is UNSET else event.message_ids:
            for part in (self.texts.pop((run.id, id), None), self.reasoning.pop((run.id, id), None)):
                if part is not None:
                    _remove(run, part)
        for id in [] if event.tool_call_ids is UNSET else event.tool_call_ids:
            tool = self.tools.pop((run.id, id), None)
            if tool is not None:
                _remove(run, tool)

    def message_posted(self, event: MessagePosted) -> None:
        message = _message(event.message, event)
        if message is None:
            return
        posted = self.transcript.posted
        for position, known in enumerate(posted):
            if known.id == message.id:
                message.created_at, message.after = known.created_at, known.after
                posted[position] = message
                return
        message.after = self.transcript.runs[-1].id if self.transcript.runs else None
        posted.append(message)

    def thread_updated(self, event: ThreadUpdated) -> None:
        if event.thread_id is not UNSET:  # an inbox's: about another thread
            return
        if event.title is not UNSET:
            self.transcript.title = event.title
        if event.head_run is not UNSET:
            self.transcript.head_run = event.head_run

    def feedback(self, event: Feedback) -> None:
        run = self.runs.get(event.target_run_id)
        if run is not None:
            run.feedback = (
                None
                if event.value == 0
                else RunFeedback(value=event.value, comment=_set(event.comment), by=_set(event.by))
            )


_OF_A_RUN: tuple[type[Event], ...] = (
    TextMessageStart, TextMessageEnd, ReasoningStart, ReasoningMessageStart, ReasoningMessageEnd, ReasoningEnd,
    ToolCallStart, ToolCallEnd, ToolCallProgress, ToolCallResult, ActivitySnapshot, ActivityDelta,
    ArtifactSnapshot, ArtifactDelta, Source, StepStarted, StepFinished, SubagentStarted, SubagentFinished, SubagentError,
    InterruptRequested, MessageRetracted, RunQueued, RunStarted, RunSteered, RunRestarted, RunCancelRequested,
    RunDequeued, RunFinished, RunError,
)  # fmt: skip
"""What changes a run. Others (RAW, CUSTOM, a type of a newer version …) show nothing, not even a run that is not known yet."""


def _patched(value: Any, patch: list[dict[str, Any]]) -> Any:
    """The patched value; the value itself if the patch does not apply: as a whole or not at all (RFC 6902, section 5)."""
    try:
        return jsonpatch.apply(value, patch)
    except jsonpatch.PatchError:
        return value


def _incomplete(word: str | UnsetType) -> Incomplete | None:
    return None if word is UNSET else _INCOMPLETE.get(word, "interrupted")


def _denies(part: InterruptPart) -> bool:
    """Whether the answer means that the tool does not run: only an approval lets it."""
    if part.status != "resolved":
        return part.reason != "input_required"  # AG-UI 1.0, Interrupt.reason: a question, not an approval
    payload = part.payload
    return payload is False or (
        isinstance(payload, Mapping) and cast(Mapping[str, Any], payload).get("approved") is False
    )


def _remove(run: TranscriptRun, part: AnyPart) -> None:
    for message in run.messages:
        for position, known in enumerate(message.parts):
            if known is part:
                del message.parts[position]
                if not message.parts and message.id != run.id:
                    run.messages = [other for other in run.messages if other is not message]
                return


def _message(value: Any, event: Event) -> TranscriptMessage | None:
    """A message in AG-UI's shape as the transcript has it; None if it has no id."""
    if not isinstance(value, Mapping):
        return None
    fields = cast(Mapping[str, Any], value)
    id, role, name, content = fields.get("id"), fields.get("role"), fields.get("name"), fields.get("content")
    if not isinstance(id, str):
        return None
    parts: list[AnyPart] = []
    given: list[Any] = [{"type": "text", "text": content}] if isinstance(content, str) else []
    if isinstance(content, list):
        given = cast(list[Any], content)
    for position, item in enumerate(given):
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
        created_at=_set(event.timestamp),
    )
