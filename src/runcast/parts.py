"""What a person sees, as shapes: parts in messages in runs in a transcript. `runcast.transcript` folds a log into them.

In JSON a field that every reader needs (status, text, open …) is always written; any other is left out while it has its
default, and null is never written for it. TypeScript reads `field?: T` for those. No I/O, no behaviour.
"""

from __future__ import annotations

from typing import Any, Literal, TypeVar, cast

import msgspec

from runcast.events import Blob
from runcast.runs import RunStatus

T = TypeVar("T")

SCHEMA = 1
"""Version of the snapshot's shape. A snapshot of another version is thrown away and folded anew."""


def shown(default: T) -> T:
    """A default that is written out all the same: `omit_defaults` leaves out plain defaults, but not those of a factory."""
    if isinstance(default, list):
        return msgspec.field(default_factory=lambda: cast(T, []))
    return msgspec.field(default_factory=lambda: default)


Incomplete = Literal["cancelled", "failed", "interrupted"]
"""Why an open item was closed for it when its run ended."""

ToolStatus = Literal[
    "preparing", "running", "waiting", "pending", "done", "failed", "denied", "cancelled", "interrupted"
]
"""preparing: its arguments still arrive · running: TOOL_CALL_END seen · waiting: its run waits for a person, for an approval
of it or otherwise · pending: its run has ended and left it to the client, whose result comes with a run that follows · the
rest: its result's status, or how its run ended while it had none."""

InterruptStatus = Literal["open", "resolved", "cancelled", "expired"]

SubagentStatus = Literal["running", "waiting", "done", "failed", "cancelled", "interrupted"]


class Part(msgspec.Struct, kw_only=True, tag_field="type", rename="camel", omit_defaults=True):
    """One piece of a message, in the order in which its first event came."""

    subagent_run_id: str | None = None
    """The subagent whose work it is; absent: the run's own agent's."""


class TextPart(Part, kw_only=True, tag="text"):
    id: str
    """The id of its TEXT_MESSAGE_START; in an input message see `TranscriptMessage`."""
    text: str = shown("")
    open: bool = shown(False)
    """More is coming. Never true after the run ended (I23)."""
    name: str | None = None
    """Who speaks, if the event said."""
    incomplete: Incomplete | None = None


class ReasoningPart(Part, kw_only=True, tag="reasoning"):
    """One reasoning message, or a span of thinking (REASONING_START) that showed none of its text."""

    id: str
    text: str = shown("")
    open: bool = shown(False)
    started_at: int | None = None
    ended_at: int | None = None
    incomplete: Incomplete | None = None


class Progress(msgspec.Struct, kw_only=True, rename="camel", omit_defaults=True):
    """The newest TOOL_CALL_PROGRESS; `messages` holds the distinct sentences so far, oldest first, the newest 100 of them."""

    progress: float | None = None
    total: float | None = None
    message: str | None = None
    data: Any = None
    messages: list[str] = shown(cast(list[str], []))


class ToolPart(Part, kw_only=True, tag="tool"):
    id: str
    """The tool call's id."""
    name: str
    title: str | None = None
    status: ToolStatus = shown("preparing")
    args: str = shown("")
    """JSON text, whole once `status` has left `preparing`."""
    client: bool = False
    """It was left to the client."""
    progress: Progress | None = None
    content: str | list[dict[str, Any]] | None = None
    """What the model read."""
    result: Any = None
    """What the tool returned, as JSON; absent also if it returned null: `has_result` tells."""
    has_result: bool = False
    blob: Blob | None = None
    """Where the whole of `content` is, which is only a preview then; of `result` too, unless that has a blob of its own."""
    result_blob: Blob | None = None
    summary: str | None = None
    error: str | None = None
    started_at: int | None = None
    """Timestamp of TOOL_CALL_START, then of TOOL_CALL_END, then (after an approval) of the resuming run's RUN_STARTED, or (when
    it is left to the client) of RUN_FINISHED: when it began to do what `status` says."""
    ended_at: int | None = None


class ArtifactPart(Part, kw_only=True, tag="artifact"):
    """Artifact ids are unique in a thread: the same id again, in whatever run, changes this part where it stands."""

    id: str
    kind: str
    name: str | None = None
    mime_type: str | None = None
    content: Any = None
    url: str | None = None
    version: int = shown(1)
    """The snapshot's `version`, else one more than before. Deltas do not count."""
    tool_call_id: str | None = None
    blob: Blob | None = None
    """Where the whole of `content` is, which is only a preview then; deltas change nothing."""


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
    status: InterruptStatus = shown("open")
    """`cancelled` also when its run ended in another way than waiting."""
    payload: Any = None
    by: str | None = None
    resolved_at: int | None = None


class ActivityPart(Part, kw_only=True, tag="activity"):
    """An AG-UI activity; also, in an input message, a content part that is not text (`activity_type` is `attachment`), and
    in an answer a message that the agent was steered with (`activity_type` is `steer`, `content` the AG-UI message)."""

    id: str
    activity_type: str
    content: dict[str, Any]


class StepPart(Part, kw_only=True, tag="step"):
    name: str
    open: bool = shown(False)


class SubagentPart(Part, kw_only=True, tag="subagent"):
    id: str
    name: str | None = None
    description: str | None = None
    status: SubagentStatus = shown("running")
    error: str | None = None
    parent_tool_call_id: str | None = None


AnyPart = (
    TextPart
    | ReasoningPart
    | ToolPart
    | ArtifactPart
    | SourcePart
    | InterruptPart
    | ActivityPart
    | StepPart
    | SubagentPart
)


class TranscriptMessage(msgspec.Struct, kw_only=True, rename="camel", omit_defaults=True):
    """One message. What a run's agent says is one assistant message whose id is the run's id; its parts are in the order
    of the events. An input message has one part for each of its content parts: the first has the message's id, the next
    ones `<id>.1`, `<id>.2` …; text becomes text parts, everything else activity parts with the type `attachment`."""

    id: str
    role: str
    name: str | None = None
    parts: list[AnyPart] = shown(cast(list[AnyPart], []))
    created_at: int | None = None
    after: str | None = None
    """Of a posted message: the run that was the newest when it came."""


class Failure(msgspec.Struct, kw_only=True, rename="camel", omit_defaults=True):
    code: str
    message: str
    retryable: bool = shown(False)
    limit_s: float | None = None
    """Of a run that took too long: the limit, in seconds."""
    retry_after_ms: int | None = None
    """Counted from the run's `ended_at`."""
    request_id: str | None = None


class RunFeedback(msgspec.Struct, kw_only=True, rename="camel", omit_defaults=True):
    """The newest FEEDBACK on a run; one with value 0 takes it away."""

    value: Literal[-1, 1]
    comment: str | None = None
    by: str | None = None


class TranscriptRun(msgspec.Struct, kw_only=True, rename="camel", omit_defaults=True):
    """One run: its input message(s) first, then the assistant message (there from RUN_STARTED on), then others it made."""

    id: str
    agent: str = shown("")
    parent: str | None = None
    resumes: str | None = None
    replaces: str | None = None
    """The run that was stopped for this one: an edit or a retry of it."""
    status: RunStatus = shown("queued")
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
    feedback: RunFeedback | None = None
    messages: list[TranscriptMessage] = shown(cast(list[TranscriptMessage], []))
    steering: list[TranscriptMessage] = []
    """Messages that were handed to its agent and that it has not read yet."""

    @property
    def dequeued(self) -> bool:
        """It was taken back before it began: no path leads over it."""
        return self.status == "cancelled" and not any(
            message.id == self.id and message.role == "assistant" for message in self.messages
        )

    @property
    def ended(self) -> bool:
        """Its terminal event came: nothing of it follows."""
        return self.status not in ("queued", "running")


class Transcript(msgspec.Struct, kw_only=True, rename="camel", omit_defaults=True, dict=True):
    """A thread as a person sees it, folded up to and including `seq`. Runs are in the order of their first event;
    `parent` makes them a tree."""

    schema: int = shown(SCHEMA)
    seq: int = shown(0)
    title: str = shown("")
    head_run: str | None = None
    """The run whose path is shown by default, and after which the next message goes: see `spec/PROTOCOL.md`, section 5.2."""
    state: Any = None
    """The agents' shared state: the last STATE_SNAPSHOT with the STATE_DELTAs after it."""
    runs: list[TranscriptRun] = shown(cast(list[TranscriptRun], []))
    posted: list[TranscriptMessage] = shown(cast(list[TranscriptMessage], []))
    """Messages that no run made (MESSAGE_POSTED)."""
