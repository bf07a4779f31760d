"""The vocabulary of the log: AG-UI 1.0's 31 event types and our own, as frozen structs.

An event is one immutable fact. Wire names are AG-UI's (camelCase fields, UPPER_SNAKE types), Python attributes are
snake_case. Optional fields are left out when they have their default; required fields have none, so that a null snapshot
does not vanish. In the log every event also carries its envelope, `seq`, `runId`, `timestamp` (`of_run`, `stamp`).

Rules: no I/O, no clock and no id is made here. Keep-alives, `*_CHUNK` and `MESSAGES_SNAPSHOT` are vocabulary, but are never
in a log (`LOGGED`). A type that this version does not know decodes to `UnknownEvent` and is passed through unchanged.

Source: AG-UI 1.0 (`ag-ui-protocol` 1.0.0, models `ag_ui.core`); own types: `spec/PROTOCOL.md`, "Events".
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Literal, cast

import msgspec
from msgspec import UNSET, Struct, UnsetType

MAX_EVENT_BYTES = 256 * 1024
"""The longest event of a log, as JSON. What is longer is split, or a preview of it is logged and a reference to a blob."""

Json = Any
"""Any JSON value: what `runcast.jsonvalue.to_json` gives."""


MAX_DEPTH = 500
"""Deepest nesting of an event. Of our own: what the decoder takes depends on the Python it runs in (3.11 about 1000 levels, 3.13
about 10 000), and a log must be readable in each."""


class Event(
    Struct,
    frozen=True,
    kw_only=True,
    tag_field="type",
    rename="camel",
    omit_defaults=True,
    repr_omit_defaults=True,
    gc=False,  # a tree of JSON values has no cycles, and thousands of these live in the tails of the logs
):
    """The root. The first four fields are the envelope: an agent leaves them alone, runner and append fill them."""

    seq: int | UnsetType = UNSET
    """Place in the thread's log: 1, 2, 3 … without a hole. In a joined delta: the last of its seqs."""
    from_: int | UnsetType = msgspec.field(default=UNSET, name="from")
    """In a joined delta: the first of its seqs."""
    run_id: str | UnsetType = UNSET
    """The run it belongs to; absent for events of the thread itself."""
    timestamp: int | UnsetType = UNSET
    """Unix milliseconds of the append. Informative: never used for order."""
    raw_event: Json | UnsetType = UNSET
    metadata: dict[str, Json] | UnsetType = UNSET
    subagent_run_id: str | UnsetType = UNSET

    @property
    def type(self) -> str:
        """Its name on the wire."""
        return cast(str, self.__struct_config__.tag)


# --- AG-UI 1.0: the run -------------------------------------------------------------------------------------------


class RunStarted(Event, frozen=True, kw_only=True, tag="RUN_STARTED"):
    """First event of a run. `input` is a minimal valid RunAgentInput that holds only the new message(s)."""

    thread_id: str
    protocol_version: str | UnsetType = UNSET
    parent_run_id: str | UnsetType = UNSET
    input: dict[str, Json] | UnsetType = UNSET
    agent: str | UnsetType = UNSET
    """Own field: the agent's name."""
    resumes: str | UnsetType = UNSET
    """Own field: the waiting run that this one goes on with."""
    replaces: str | UnsetType = UNSET
    """Own field: the run that was stopped for this one (an edit or a retry of it); what was queued behind it follows this one."""


class TokenUsage(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What a model call cost. The last three are parts of the totals (AG-UI 1.0, TokenUsage)."""

    provider: str | UnsetType = UNSET
    model: str | UnsetType = UNSET
    input_tokens: int | UnsetType = UNSET
    output_tokens: int | UnsetType = UNSET
    total_tokens: int | UnsetType = UNSET
    reasoning_tokens: int | UnsetType = UNSET
    cached_input_tokens: int | UnsetType = UNSET
    cache_write_input_tokens: int | UnsetType = UNSET


class Interrupt(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A question to a person (AG-UI 1.0, Interrupt). `reason`: `tool_call`, `input_required`, `confirmation` or `<framework>:<name>`."""

    id: str
    reason: str
    message: str | UnsetType = UNSET
    tool_call_id: str | UnsetType = UNSET
    response_schema: dict[str, Json] | UnsetType = UNSET
    expires_at: str | UnsetType = UNSET
    metadata: dict[str, Json] | UnsetType = UNSET
    subagent_run_id: str | UnsetType = UNSET


class Outcome(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """How a run ended without failing. `interrupts` (one or more) exactly when `type` is `interrupt`."""

    type: Literal["success", "interrupt", "cancelled"]
    pending_tool_call_ids: list[str] | UnsetType = UNSET
    interrupts: list[Interrupt] | UnsetType = UNSET


class RunFinished(Event, frozen=True, kw_only=True, tag="RUN_FINISHED"):
    """Terminal event of a run that did not fail. An absent outcome means success."""

    thread_id: str
    result: Json | UnsetType = UNSET
    outcome: Outcome | UnsetType = UNSET
    usage: list[TokenUsage] | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    """Own field: why it was cancelled, in the canceller's words."""


class RunError(Event, frozen=True, kw_only=True, tag="RUN_ERROR"):
    """Terminal event of a run that failed, or (code `interrupted`) whose process went away."""

    message: str
    code: str | UnsetType = UNSET
    usage: list[TokenUsage] | UnsetType = UNSET
    retryable: bool | UnsetType = UNSET
    """Own field."""
    limit_s: float | UnsetType = UNSET
    """Own field, with the code `timeout`: the limit that was reached, in seconds."""
    retry_after_ms: int | UnsetType = UNSET
    """Own field: it may succeed this many milliseconds after the event, not earlier."""
    request_id: str | UnsetType = UNSET
    """Own field: by this id the operator finds the exception in the server's log."""


class StepStarted(Event, frozen=True, kw_only=True, tag="STEP_STARTED"):
    step_name: str


class StepFinished(Event, frozen=True, kw_only=True, tag="STEP_FINISHED"):
    step_name: str


# --- AG-UI 1.0: text ----------------------------------------------------------------------------------------------


class TextMessageStart(Event, frozen=True, kw_only=True, tag="TEXT_MESSAGE_START"):
    message_id: str
    role: Literal["developer", "system", "assistant", "user"] | UnsetType = UNSET
    """Absent means assistant."""
    name: str | UnsetType = UNSET


class TextMessageContent(Event, frozen=True, kw_only=True, tag="TEXT_MESSAGE_CONTENT"):
    message_id: str
    delta: str


class TextMessageEnd(Event, frozen=True, kw_only=True, tag="TEXT_MESSAGE_END"):
    message_id: str
    text: str | UnsetType = UNSET
    """Own field: the whole text. Always in the log; left out of live frames for readers that saw the start."""
    incomplete: str | UnsetType = UNSET
    """Own field: `cancelled`, `failed` or `interrupted` when the run ended in the middle of it."""


class TextMessageChunk(Event, frozen=True, kw_only=True, tag="TEXT_MESSAGE_CHUNK"):
    message_id: str | UnsetType = UNSET
    role: Literal["developer", "system", "assistant", "user"] | UnsetType = UNSET
    delta: str | UnsetType = UNSET
    name: str | UnsetType = UNSET


# --- AG-UI 1.0: reasoning -----------------------------------------------------------------------------------------


class ReasoningStart(Event, frozen=True, kw_only=True, tag="REASONING_START"):
    """Opens a span of thinking; its messages lie inside."""

    message_id: str


class ReasoningMessageStart(Event, frozen=True, kw_only=True, tag="REASONING_MESSAGE_START"):
    message_id: str
    role: Literal["reasoning"]


class ReasoningMessageContent(Event, frozen=True, kw_only=True, tag="REASONING_MESSAGE_CONTENT"):
    message_id: str
    delta: str


class ReasoningMessageEnd(Event, frozen=True, kw_only=True, tag="REASONING_MESSAGE_END"):
    message_id: str
    text: str | UnsetType = UNSET
    """Own field, as in `TextMessageEnd`."""
    incomplete: str | UnsetType = UNSET


class ReasoningMessageChunk(Event, frozen=True, kw_only=True, tag="REASONING_MESSAGE_CHUNK"):
    message_id: str | UnsetType = UNSET
    delta: str | UnsetType = UNSET


class ReasoningEnd(Event, frozen=True, kw_only=True, tag="REASONING_END"):
    message_id: str


class ReasoningEncryptedValue(Event, frozen=True, kw_only=True, tag="REASONING_ENCRYPTED_VALUE"):
    subtype: Literal["message", "tool-call"]
    entity_id: str
    encrypted_value: str


# --- AG-UI 1.0: tools ---------------------------------------------------------------------------------------------


class ToolCallStart(Event, frozen=True, kw_only=True, tag="TOOL_CALL_START"):
    tool_call_id: str
    tool_call_name: str
    parent_message_id: str | UnsetType = UNSET
    title: str | UnsetType = UNSET
    """Own field: the tool's own sentence for what it is doing, e.g. `Searching your tasks…`."""
    idempotent: bool | UnsetType = UNSET
    """Own field: it may be run again if nobody knows whether it had its effect."""


class ToolCallArgs(Event, frozen=True, kw_only=True, tag="TOOL_CALL_ARGS"):
    """A piece of the arguments' JSON text."""

    tool_call_id: str
    delta: str


class ToolCallEnd(Event, frozen=True, kw_only=True, tag="TOOL_CALL_END"):
    """The arguments are complete; the tool begins (or waits for approval)."""

    tool_call_id: str
    args: str | UnsetType = UNSET
    """Own field: the whole JSON text of the arguments, as `text` of `TextMessageEnd`."""
    incomplete: str | UnsetType = UNSET


class ToolCallChunk(Event, frozen=True, kw_only=True, tag="TOOL_CALL_CHUNK"):
    tool_call_id: str | UnsetType = UNSET
    tool_call_name: str | UnsetType = UNSET
    parent_message_id: str | UnsetType = UNSET
    delta: str | UnsetType = UNSET


class Blob(Struct, frozen=True, kw_only=True, rename="camel"):
    """Where the whole of something is that is too big for the log: a file of this server, below its address at `url`."""

    url: str
    mime_type: str
    size: int
    """Bytes."""
    sha256: str


class ToolCallResult(Event, frozen=True, kw_only=True, tag="TOOL_CALL_RESULT"):
    """`content` is what the model reads: text, or a list of AG-UI content parts.

    An event over 256 KiB is not logged whole: `content` is then the beginning of its text, and `blob` says where the whole is.
    """

    message_id: str
    tool_call_id: str
    content: str | list[dict[str, Json]]
    role: Literal["tool"] | UnsetType = UNSET
    status: Literal["success", "error", "denied", "cancelled", "interrupted"] | UnsetType = UNSET
    """Own field. Absent means success."""
    error: str | UnsetType = UNSET
    """Own field: a human sentence when `status` is not success."""
    result: Json | UnsetType = UNSET
    """Own field: what the tool returned, as JSON."""
    summary: str | UnsetType = UNSET
    """Own field: the tool's own sentence for what it found, e.g. `Found 3 tasks`."""
    blob: Blob | UnsetType = UNSET
    """Own field: the whole of `content`, which is only a preview then; of `result` too, unless that has a blob of its own."""
    result_blob: Blob | UnsetType = UNSET
    """Own field: the whole of `result`, which is only a preview then."""


# --- AG-UI 1.0: state, activities, the rest -----------------------------------------------------------------------


class StateSnapshot(Event, frozen=True, kw_only=True, tag="STATE_SNAPSHOT"):
    snapshot: Json


class StateDelta(Event, frozen=True, kw_only=True, tag="STATE_DELTA"):
    """`delta` is a JSON Patch (RFC 6902)."""

    delta: list[dict[str, Json]]


class MessagesSnapshot(Event, frozen=True, kw_only=True, tag="MESSAGES_SNAPSHOT"):
    messages: list[dict[str, Json]]


class ActivitySnapshot(Event, frozen=True, kw_only=True, tag="ACTIVITY_SNAPSHOT"):
    message_id: str
    activity_type: str
    content: dict[str, Json]
    replace: bool | UnsetType = UNSET
    """Absent means true."""


class ActivityDelta(Event, frozen=True, kw_only=True, tag="ACTIVITY_DELTA"):
    """`patch` is a JSON Patch (RFC 6902) on the activity's content."""

    message_id: str
    activity_type: str
    patch: list[dict[str, Json]]


class Raw(Event, frozen=True, kw_only=True, tag="RAW"):
    event: Json
    source: str | UnsetType = UNSET


class Custom(Event, frozen=True, kw_only=True, tag="CUSTOM"):
    name: str
    value: Json


class SubagentStarted(Event, frozen=True, kw_only=True, tag="SUBAGENT_STARTED"):
    subagent_run_id: str  # pyright: ignore[reportGeneralTypeIssues]  # required here, optional in the root
    name: str
    description: str | UnsetType = UNSET
    parent_subagent_run_id: str | UnsetType = UNSET
    parent_tool_call_id: str | UnsetType = UNSET
    parent_message_id: str | UnsetType = UNSET


class SubagentOutcome(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    type: Literal["success", "suspended"]
    interrupt_ids: list[str] | UnsetType = UNSET


class SubagentFinished(Event, frozen=True, kw_only=True, tag="SUBAGENT_FINISHED"):
    subagent_run_id: str  # pyright: ignore[reportGeneralTypeIssues]  # required here, optional in the root
    result: Json | UnsetType = UNSET
    outcome: SubagentOutcome | UnsetType = UNSET


class SubagentError(Event, frozen=True, kw_only=True, tag="SUBAGENT_ERROR"):
    subagent_run_id: str  # pyright: ignore[reportGeneralTypeIssues]  # required here, optional in the root
    message: str
    code: str | UnsetType = UNSET


# --- our own ------------------------------------------------------------------------------------------------------


class RunQueued(Event, frozen=True, kw_only=True, tag="RUN_QUEUED"):
    """The run waits for the thread to be free. Its RUN_STARTED follows, or RUN_DEQUEUED."""

    thread_id: str
    input: dict[str, Json]
    agent: str
    parent_run_id: str | UnsetType = UNSET
    replaces: str | UnsetType = UNSET
    """As in RUN_STARTED: this run takes that one's place, also in the queue."""


class RunDequeued(Event, frozen=True, kw_only=True, tag="RUN_DEQUEUED"):
    """Terminal event of a run that never started: removed from the queue."""

    reason: str | UnsetType = UNSET


class RunCancelRequested(Event, frozen=True, kw_only=True, tag="RUN_CANCEL_REQUESTED"):
    """Somebody pressed Stop: other tabs show *Stopping*."""

    by: str | UnsetType = UNSET
    reason: str | UnsetType = UNSET


class RunSteered(Event, frozen=True, kw_only=True, tag="RUN_STEERED"):
    """A message was handed to the running agent (`consumed` false), and the agent has read it (true). One that the agent has
    not read when its run ends becomes a queued run, under the same message id."""

    message: dict[str, Json]
    consumed: bool


class RunRestarted(Event, frozen=True, kw_only=True, tag="RUN_RESTARTED"):
    """The same run goes on under a new owner; `attempt` counts from 2."""

    attempt: int
    anew: bool | UnsetType = UNSET
    """It begins again: nothing that the run has made so far counts any more, whether MESSAGE_RETRACTED names it or not."""


class InterruptRequested(Event, frozen=True, kw_only=True, tag="INTERRUPT_REQUESTED"):
    """The agent asks a person something. The run's RUN_FINISHED repeats it in its outcome."""

    interrupt: Interrupt
    args_hash: str | UnsetType = UNSET
    """SHA-256, hex, of the canonical JSON of the tool's arguments: what exactly was approved."""


class InterruptResolved(Event, frozen=True, kw_only=True, tag="INTERRUPT_RESOLVED"):
    """An interrupt was answered, once. An event of the thread (no `runId`): the waiting run has ended already."""

    interrupt_id: str
    status: Literal["resolved", "cancelled", "expired"]
    payload: Json | UnsetType = UNSET
    by: str | UnsetType = UNSET
    ends_run: bool | UnsetType = UNSET
    """True: the question was withdrawn, or expired with nobody left to go on; the waiting run stands as cancelled and no run
    resumes it."""
    reason: str | UnsetType = UNSET
    """Why it was withdrawn, in words for people; with `endsRun` it is the waiting run's reason."""


class ToolCallProgress(Event, frozen=True, kw_only=True, tag="TOOL_CALL_PROGRESS"):
    """How far a tool is. `progress` counts towards `total` (MCP 2025-06-18, progress notifications)."""

    tool_call_id: str
    progress: float | UnsetType = UNSET
    total: float | UnsetType = UNSET
    message: str | UnsetType = UNSET
    data: Json | UnsetType = UNSET

    def __post_init__(self) -> None:
        for name in ("progress", "total"):
            value = getattr(self, name)
            if value is not UNSET and not math.isfinite(value):  # JSON has no such numbers
                msgspec.structs.force_setattr(self, name, UNSET)


class ArtifactSnapshot(Event, frozen=True, kw_only=True, tag="ARTIFACT_SNAPSHOT"):
    """A thing beside the text: a diagram, a file, a table. The same `artifactId` again replaces it; `version` counts from 1.

    `kind` is an open word; the project itself uses `diagram` (Mermaid source), `canvas_trigger`, `metrics`, `file`.
    """

    artifact_id: str
    kind: str
    name: str | UnsetType = UNSET
    mime_type: str | UnsetType = UNSET
    content: Json | UnsetType = UNSET
    url: str | UnsetType = UNSET
    version: int | UnsetType = UNSET
    tool_call_id: str | UnsetType = UNSET
    message_id: str | UnsetType = UNSET
    blob: Blob | UnsetType = UNSET
    """The whole of `content`, which is only the beginning of its text then. `url` is the blob's, unless it had one."""


class ArtifactDelta(Event, frozen=True, kw_only=True, tag="ARTIFACT_DELTA"):
    """Exactly one of `append` (to a text content) and `patch` (RFC 6902)."""

    artifact_id: str
    append: str | UnsetType = UNSET
    patch: list[dict[str, Json]] | UnsetType = UNSET


class Source(Event, frozen=True, kw_only=True, tag="SOURCE"):
    """Where something in the answer comes from."""

    source_id: str
    url: str | UnsetType = UNSET
    title: str | UnsetType = UNSET
    media_type: str | UnsetType = UNSET
    message_id: str | UnsetType = UNSET


class MessageRetracted(Event, frozen=True, kw_only=True, tag="MESSAGE_RETRACTED"):
    """These items no longer count: a model call was tried again after a partial output."""

    message_ids: list[str] | UnsetType = UNSET
    tool_call_ids: list[str] | UnsetType = UNSET
    reason: str | UnsetType = UNSET


class MessagePosted(Event, frozen=True, kw_only=True, tag="MESSAGE_POSTED"):
    """A whole message that no run made: server push, or a person beside the agent. AG-UI message shape."""

    message: dict[str, Json]


class RunSummary(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    id: str
    agent: str
    status: str


class ThreadUpdated(Event, frozen=True, kw_only=True, tag="THREAD_UPDATED"):
    """Something about the thread itself changed; only what changed is there.

    In a thread's own log `threadId` is absent. In an inbox it says which thread, and `run` says how its newest run stands.
    """

    thread_id: str | UnsetType = UNSET
    title: str | UnsetType = UNSET
    head_run: str | UnsetType = UNSET
    pinned: bool | UnsetType = UNSET
    shared: bool | UnsetType = UNSET
    deleted: bool | UnsetType = UNSET
    created_at: int | UnsetType = UNSET
    updated_at: int | UnsetType = UNSET
    run: RunSummary | UnsetType = UNSET


class Feedback(Event, frozen=True, kw_only=True, tag="FEEDBACK"):
    """What a person thinks of a run: `value` 1 or -1, 0 takes it back."""

    target_run_id: str
    value: Literal[-1, 0, 1]
    comment: str | UnsetType = UNSET
    by: str | UnsetType = UNSET


class UnknownEvent(Event, frozen=True, kw_only=True, tag="UNKNOWN"):
    """A type of a newer version, kept whole in `raw` and passed through; folds skip it."""

    raw: dict[str, Json]

    @property
    def type(self) -> str:
        return str(self.raw.get("type", "UNKNOWN"))


AGUI: tuple[type[Event], ...] = (
    TextMessageStart, TextMessageContent, TextMessageEnd, TextMessageChunk,
    ReasoningStart, ReasoningMessageStart, ReasoningMessageContent, ReasoningMessageEnd, ReasoningMessageChunk,
    ReasoningEnd, ReasoningEncryptedValue,
    ToolCallStart, ToolCallArgs, ToolCallEnd, ToolCallChunk, ToolCallResult,
    StateSnapshot, StateDelta, MessagesSnapshot, ActivitySnapshot, ActivityDelta, Raw, Custom,
    RunStarted, RunFinished, RunError, StepStarted, StepFinished,
    SubagentStarted, SubagentFinished, SubagentError,
)  # fmt: skip
"""AG-UI 1.0's 31 types."""

OWN: tuple[type[Event], ...] = (
    RunQueued, RunDequeued, RunCancelRequested, RunSteered, RunRestarted, InterruptRequested, InterruptResolved,
    ToolCallProgress, ArtifactSnapshot, ArtifactDelta, Source, MessageRetracted, MessagePosted, ThreadUpdated, Feedback,
)  # fmt: skip
"""Our own types, named in AG-UI's pattern."""

NEVER_LOGGED: tuple[type[Event], ...] = (TextMessageChunk, ReasoningMessageChunk, ToolCallChunk, MessagesSnapshot)
"""Shorthands: an agent may yield them; the runner writes what they stand for."""

TERMINAL: tuple[type[Event], ...] = (RunFinished, RunError, RunDequeued)
"""Each run has exactly one of these, and it is its last event (I16)."""


class Record(Struct, gc=False):  # as many live as events do, and no cycle can go through one
    """One event as it stands in the log, with its JSON, encoded once and shared by all who read it. Not to be changed."""

    event: Event
    data: bytes

    @property
    def seq(self) -> int:
        """The last seq it covers."""
        return cast(int, self.event.seq)  # the append stamped it


_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(
    TextMessageStart | TextMessageContent | TextMessageEnd | TextMessageChunk
    | ReasoningStart | ReasoningMessageStart | ReasoningMessageContent | ReasoningMessageEnd | ReasoningMessageChunk
    | ReasoningEnd | ReasoningEncryptedValue
    | ToolCallStart | ToolCallArgs | ToolCallEnd | ToolCallChunk | ToolCallResult
    | StateSnapshot | StateDelta | MessagesSnapshot | ActivitySnapshot | ActivityDelta | Raw | Custom
    | RunStarted | RunFinished | RunError | StepStarted | StepFinished
    | SubagentStarted | SubagentFinished | SubagentError
    | RunQueued | RunDequeued | RunCancelRequested | RunSteered | RunRestarted | InterruptRequested | InterruptResolved
    | ToolCallProgress | ArtifactSnapshot | ArtifactDelta | Source | MessageRetracted | MessagePosted | ThreadUpdated
    | Feedback
)  # fmt: skip
_raw_decoder: msgspec.json.Decoder[dict[str, Any]] = msgspec.json.Decoder(dict[str, Any])
_SURROGATE = re.compile("[\ud800-\udfff]")
_TYPES: frozenset[str] = frozenset(cast(str, kind.__struct_config__.tag) for kind in (*AGUI, *OWN))
_ENVELOPE: dict[str, str] = {"seq": "seq", "from": "from_", "runId": "run_id", "timestamp": "timestamp"}


def stamp(event: Event, seq: int, timestamp: int) -> Event:
    """`event` with its place in the log: what the append does before it writes. `runId` was filled by the runner."""
    return msgspec.structs.replace(event, seq=seq, from_=UNSET, timestamp=timestamp)


def of_run(event: Event, run: str) -> Event:
    """`event` as one of `run`'s."""
    return event if event.run_id == run else msgspec.structs.replace(event, run_id=run)


def encode(event: Event) -> bytes:
    """The event as one line of JSON, UTF-8. A lone surrogate, which UTF-8 cannot hold, becomes U+FFFD.

    Raises:
        TypeError: a field holds what is no JSON value; `runcast.jsonvalue.to_json` makes one of anything.
    """
    if isinstance(event, UnknownEvent):
        envelope = {wire: value for wire, name in _ENVELOPE.items() if (value := getattr(event, name)) is not UNSET}
        return encode_value({**event.raw, **envelope})
    return encode_value(event)


def encode_value(value: Any) -> bytes:
    """Any struct of the vocabulary, or JSON value, as `encode` does it."""
    try:
        return _encoder.encode(value)
    except UnicodeEncodeError:
        return _encoder.encode(_without_surrogates(msgspec.to_builtins(value)))


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, dict):
        members = cast(dict[Any, Any], value)
        return {_without_surrogates(key): _without_surrogates(item) for key, item in members.items()}
    if isinstance(value, list):
        return [_without_surrogates(item) for item in cast(list[Any], value)]
    return value


def decode(data: bytes | str) -> Event:
    """The event in one JSON object. Unknown fields are dropped; an unknown type is kept whole.

    Raises:
        msgspec.ValidationError: a known type with a missing or wrong field, or no `type` at all.
        msgspec.DecodeError: not JSON, not UTF-8, or nested too deep.
    """
    if nests_deeper(data, MAX_DEPTH):
        raise msgspec.DecodeError("The event nests too deep.")
    try:
        try:
            return cast(Event, _decoder.decode(data))
        except msgspec.ValidationError:
            raw = _raw_decoder.decode(data)
            kind = raw.get("type")
            if not isinstance(kind, str) or kind in _TYPES:
                raise
            return unknown(raw)
    except UnicodeError as error:
        raise msgspec.DecodeError("The event is not valid UTF-8.") from error
    except RecursionError as error:
        raise msgspec.DecodeError("The event nests too deep.") from error


def nests_deeper(text: str | bytes, depth: int) -> bool:
    """Whether a JSON text nests arrays and objects deeper than `depth`; linear, and exact for every valid JSON text in UTF-8."""
    if len(text) <= 2 * depth:
        return False
    if isinstance(text, bytes):
        if text.count(b"{") + text.count(b"[") <= depth:
            return False
        text = text.decode("latin-1")  # the signs that matter are ASCII, and nothing else in UTF-8 has their bytes
    elif text.count("{") + text.count("[") <= depth:
        return False
    found = 0
    pieces = iter(text.split('"'))
    for piece in pieces:  # outside of strings
        for character in piece:
            if character in "{[":
                found += 1
                if found > depth:
                    return True
            elif character in "}]":
                found -= 1
        for piece in pieces:  # inside a string, up to its closing quote: one after an even number of backslashes
            if (len(piece) - len(piece.rstrip("\\"))) % 2 == 0:
                break
    return False


def unknown(raw: Mapping[str, Any]) -> UnknownEvent:
    """An event of a type that this version does not know, from its JSON object.

    Raises:
        msgspec.ValidationError: a field of the envelope is wrong.
    """
    envelope = msgspec.convert({key: raw[key] for key in _ENVELOPE if key in raw}, _Envelope)
    return UnknownEvent(
        raw={key: value for key, value in raw.items() if key not in _ENVELOPE},
        seq=envelope.seq,
        from_=envelope.from_,
        run_id=envelope.run_id,
        timestamp=envelope.timestamp,
    )


class _Envelope(Struct, rename="camel"):
    seq: int | UnsetType = UNSET
    from_: int | UnsetType = msgspec.field(default=UNSET, name="from")
    run_id: str | UnsetType = UNSET
    timestamp: int | UnsetType = UNSET


DELTAS: tuple[type[Event], ...] = (TextMessageContent, ReasoningMessageContent, ToolCallArgs)
"""Consecutive ones of one item may be joined for a reader that lags (I12)."""
