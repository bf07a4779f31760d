"""What a person sees: the pure fold of a thread's log into runs, messages and parts.

    transcript = fold(Transcript(), events)

The same fold stands in TypeScript (`packages/client/src/transcript.ts`); both run the cases in `spec/cases/transcript`.
Rules: no I/O, no clock, no ids of its own: everything comes from the events, so that a snapshot plus the events after
its `seq` equals the fold of the whole log (I14), and any split or joining of deltas folds to the same transcript (I12).
The fold advances the transcript it is given, in place; whoever made the transcript owns it.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from runcast.runs import RunStatus

SCHEMA = 1
"""Version of the snapshot's shape. A snapshot of another version is thrown away and folded anew."""

Incomplete = Literal["cancelled", "failed", "interrupted"]
"""Why an open item was closed for it when its run ended."""

ToolStatus = Literal["preparing", "running", "waiting", "done", "failed", "denied", "cancelled", "interrupted"]
"""preparing: its arguments still arrive · running: TOOL_CALL_END seen · waiting: an interrupt asks for approval of it ·
the rest: its result's status, or how its run ended while it had none."""

InterruptStatus = Literal["open", "resolved", "cancelled", "expired"]


class Part(msgspec.Struct, kw_only=True, tag_field="type", rename="camel", omit_defaults=True):
    """One piece of a message, in the order in which its first event came."""


class TextPart(Part, kw_only=True, tag="text"):
    id: str
    text: str = ""
    open: bool = False
    """More is coming. Never true after the run ended (I23)."""
    incomplete: Incomplete | None = None


class ReasoningPart(Part, kw_only=True, tag="reasoning"):
    id: str
    text: str = ""
    open: bool = False
    started_at: int | None = None
    ended_at: int | None = None
    incomplete: Incomplete | None = None


class Progress(msgspec.Struct, kw_only=True, rename="camel", omit_defaults=True):
    """The newest TOOL_CALL_PROGRESS; `messages` holds the distinct sentences so far, oldest first, at most 100."""

    progress: float | None = None
    total: float | None = None
    message: str | None = None
    messages: list[str] = []


class ToolPart(Part, kw_only=True, tag="tool"):
    id: str
    """The tool call's id."""
    name: str
    title: str | None = None
    status: ToolStatus = "preparing"
    args: str = ""
    """JSON text, whole once `status` has left `preparing`."""
    progress: Progress | None = None
    content: str | list[dict[str, Any]] | None = None
    """What the model read."""
    result: Any = None
    """What the tool returned, as JSON; null also if it returned nothing: `has_result` tells."""
    has_result: bool = False
    summary: str | None = None
    error: str | None = None
    started_at: int | None = None
    """Timestamp of TOOL_CALL_END, else of TOOL_CALL_START; milliseconds."""
    ended_at: int | None = None


class ArtifactPart(Part, kw_only=True, tag="artifact"):
    id: str
    kind: str
    name: str | None = None
    mime_type: str | None = None
    content: Any = None
    url: str | None = None
    version: int = 1
    tool_call_id: str | None = None


class SourcePart(Part, kw_only=True, tag="source"):
    id: str
    url: str | None = None
    title: str | None = None
    media_type: str | None = None


class InterruptPart(Part, kw_only=True, tag="interrupt"):
    id: str
    reason: str
    message: str | None = None
    tool_call_id: str | None = None
    response_schema: dict[str, Any] | None = None
    expires_at: str | None = None
    metadata: dict[str, Any] | None = None
    status: InterruptStatus = "open"
    payload: Any = None
    by: str | None = None
    resolved_at: int | None = None


class ActivityPart(Part, kw_only=True, tag="activity"):
    id: str
    activity_type: str
    content: dict[str, Any]


class StepPart(Part, kw_only=True, tag="step"):
    name: str
    open: bool = False


class SubagentPart(Part, kw_only=True, tag="subagent"):
    id: str
    name: str | None = None
    description: str | None = None
    status: Literal["running", "done", "failed", "waiting", "cancelled", "interrupted"] = "running"
    error: str | None = None


AnyPart = (
    TextPart | ReasoningPart | ToolPart | ArtifactPart | SourcePart | InterruptPart | ActivityPart | StepPart | SubagentPart
)


class TranscriptMessage(msgspec.Struct, kw_only=True, rename="camel", omit_defaults=True):
    """One message. What a run's agent says is one assistant message whose id is the run's id; its parts are in the order
    of the events. A user's message has one text part per text, with the message's id (`<id>.1`, `<id>.2` … for further ones);
    other content parts of a user's message become activity parts with type `attachment`."""

    id: str
    role: str
    name: str | None = None
    parts: list[AnyPart] = []
    created_at: int | None = None


class Failure(msgspec.Struct, kw_only=True, rename="camel", omit_defaults=True):
    code: str
    message: str
    retryable: bool = False
    request_id: str | None = None


class TranscriptRun(msgspec.Struct, kw_only=True, rename="camel", omit_defaults=True):
    """One run: its input message(s) first, then the assistant message (there from RUN_STARTED on), then others it made."""

    id: str
    agent: str = ""
    parent: str | None = None
    resumes: str | None = None
    status: RunStatus = "queued"
    """`waiting` while one of its interrupts is open; once all are answered it is `done`, and a run that resumes it follows."""
    cancelling: bool = False
    """RUN_CANCEL_REQUESTED came and the run has not ended."""
    attempt: int = 1
    queued_at: int | None = None
    started_at: int | None = None
    ended_at: int | None = None
    reason: str | None = None
    """Why it was cancelled."""
    failure: Failure | None = None
    usage: list[dict[str, Any]] = []
    result: Any = None
    messages: list[TranscriptMessage] = []


class Transcript(msgspec.Struct, kw_only=True, rename="camel", omit_defaults=True):
    """A thread as a person sees it, folded up to and including `seq`. Runs are in the order of their first event;
    `parent` makes them a tree."""

    schema: int = 0
    """`SCHEMA` once anything was folded."""
    seq: int = 0
    title: str = ""
    head_run: str | None = None
    state: Any = None
    """The agents' shared state: the last STATE_SNAPSHOT with the STATE_DELTAs after it."""
    runs: list[TranscriptRun] = []
    posted: list[TranscriptMessage] = []
    """Messages that no run made (MESSAGE_POSTED)."""
