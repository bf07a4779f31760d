"""AG-UI 1.0 (`ag-ui-protocol` 1.0.0, `@ag-ui/client`): the log without what is only ours, as strictly as its clients read it.

The vocabulary is the log's own, so most events go out as they are. What differs:

- own fields are left out or, where a client may want them, moved to `metadata.runcast`; own types become activities
  (`TOOL_CALL_PROGRESS`, artifacts, sources) or `CUSTOM` events, or say nothing;
- runs and the thread are called what the client calls them;
- no type that 0.0.59 does not know, no event of an item that was not opened, nothing left open at `RUN_FINISHED`: that client
  takes each of these for a fatal error;
- who attaches gets `RUN_STARTED`, `MESSAGES_SNAPSHOT` with the partial texts, `STATE_SNAPSHOT`, a START for whatever is open, and
  from there on new deltas only. These clients append: telling a run from its start would double its text.

Options of a stream: `run`, what the client calls the run; `protocolVersion`, as `RunAgentInput` has it (none: before 1.0).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, cast

from msgspec import UNSET

from runcast import events as e
from runcast.dialects.ag_ui_events import (
    activity,
    custom,
    frames,
    ours,
    plain,
    present_fields,
    shared_delta,
    text_of,
    with_ours,
    within_content,
)
from runcast.dialects.ag_ui_history import ending, messages_of, run_shown, standing
from runcast.dialects.ag_ui_items import Items
from runcast.dialects.base import Attach, Frame, Options, Start
from runcast.dialects.growing import Growing
from runcast.dialects.messages import only_options
from runcast.events import Event, Record
from runcast.jsonpatch import PatchError
from runcast.jsonpatch import apply as patched
from runcast.paths import path_to
from runcast.transcript import Transcript, load
from runcast.updates import Events, ThreadSnapshot, Update

CANCELLED: Final = ("finished", "error")


class AgUi:
    """Options: `cancelled`, how a client before 1.0, which knows no such outcome, is told that a run was stopped: `finished` (a
    CUSTOM event `run_cancelled`, then a plain RUN_FINISHED) or `error` (RUN_ERROR with the code `cancelled`)."""

    name: str = "ag-ui"
    attach: Attach = "snapshot"
    joins: bool = True
    loses: tuple[str, ...] = ("sequence numbers", "feedback", "titles", "what waits in the queue")

    def __init__(self, options: Options | None = None) -> None:
        given = dict(options or {})
        only_options(given, "cancelled")
        cancelled = given.get("cancelled", CANCELLED[0])
        if cancelled not in CANCELLED:
            raise ValueError(f"`cancelled` is one of {', '.join(CANCELLED)}, not {cancelled!r}")
        self._cancelled_is_error = cancelled == "error"

    def encoder(self, start: Start) -> AgUiEncoder:
        return AgUiEncoder(start, cancelled_is_error=self._cancelled_is_error)

    def error(self, code: str, message: str, *, request_id: str) -> Sequence[Frame]:
        said = e.RunError(message=message, code=code, metadata=ours(requestId=request_id or UNSET))
        return (Frame(e.encode(said)),)


class AgUiEncoder:
    """One reader's state: what is open at the client, and what it was told of already."""

    def __init__(self, start: Start, *, cancelled_is_error: bool = False) -> None:
        self._thread = start.conversation or start.thread
        self._own_thread = start.thread
        self._run = start.run
        self._asked_by_client = start.run is not None
        """It posted the run's input itself."""
        self._called = start.options.get("run")
        self._modern = is_modern(start.options.get("protocolVersion"))
        self._cancelled_is_error = cancelled_is_error
        self._begun = False
        self._is_settled = False
        self._items = Items(rich=self._modern)
        self._growing: dict[str, Growing] = {}
        self._behind: dict[str, e.ArtifactDelta] = {}
        """Artifacts of which a piece was not told, and that piece."""

    def knows(self, calls: Iterable[str]) -> None:
        """The client was told of these calls, by the run that the one to come goes on with."""
        self._items.told.update(calls)

    def settle(self) -> None:
        """The client answered what nobody asks any more. It believes that only of a RUN_FINISHED: if the run that is shown had
        failed before, it is told by the messages, and not by a RUN_ERROR again."""
        self._is_settled = True

    # --- the log, event by event ----------------------------------------------------------------------------------

    def encode(self, record: Record) -> Sequence[Frame]:
        event = record.event
        if self._run is not None and event.run_id != self._run:
            return ()
        if isinstance(event, e.DELTAS):
            before = self._caught_up(in_passing=True) if self._behind else []
            if isinstance(event, e.ReasoningMessageContent) and event.message_id in self._items.silent:
                return self._first_thought(record, event, before)
            if not self._items.takes(event):
                return frames(before, record.seq)
            return (*frames(before, record.seq, more=True), Frame(shared_delta(record), record.seq, len(before)))
        ends = isinstance(event, e.TERMINAL)
        before: list[Event] = []
        if self._behind and not isinstance(event, e.ArtifactDelta):
            before = self._caught_up(in_passing=isinstance(event, e.ToolCallProgress))
        return frames([*before, *self._told(event)], record.seq, ends=ends)

    def update(self, update: Update) -> Sequence[Frame]:
        match update:
            case Events():
                return [frame for record in update.records for frame in self.encode(record)]
            case ThreadSnapshot():
                return self._tell_anew(update.seq, load(update.transcript))
            case _:
                return ()

    def _first_thought(
        self, record: Record, event: e.ReasoningMessageContent, before: Sequence[Event]
    ) -> Sequence[Frame]:
        start = e.ReasoningMessageStart(
            message_id=event.message_id, role="reasoning", subagent_run_id=event.subagent_run_id
        )
        told = [*before, *self._items.thought(start)]
        return (*frames(told, record.seq, more=True), Frame(shared_delta(record), record.seq, len(told)))

    def _told(self, event: Event) -> list[Event]:
        match event:
            case e.RunStarted():
                return self._start(event)
            case e.RunFinished() | e.RunError() | e.RunDequeued():
                return self._end(event)
            case _ if not self._begun:
                return []
            case e.TextMessageStart() | e.TextMessageEnd():
                return self._items.text(event)
            case e.ReasoningStart() | e.ReasoningEnd() | e.ReasoningMessageStart() | e.ReasoningMessageEnd():
                return self._items.thought(event)
            case e.ToolCallStart() | e.ToolCallEnd() | e.ToolCallResult():
                return self._items.call(event)
            case e.StepStarted() | e.StepFinished():
                return self._items.step(event)
            case e.SubagentStarted() | e.SubagentFinished() | e.SubagentError():
                return self._items.subagent(event)
            case e.RunRestarted() if event.anew is True:
                return [*self._items.close(), custom(event)]
            case _:
                return [*self._items.of_subagent(event), *self._other(event)]

    def _start(self, event: e.RunStarted) -> list[Event]:
        given: dict[str, Any] = {} if event.input is UNSET else event.input
        messages = cast("list[dict[str, Any]]", given.get("messages") or [])
        brought = {str(one.get("toolCallId")) for one in messages if one.get("role") == "tool"}
        if self._begun:  # told already, by a snapshot that came while it was queued
            self._items.brought = brought if self._asked_by_client else set()
            return []
        told = self._items.told if event.resumes is not UNSET else set[str]()
        self._items = Items(rich=self._modern, told=told, artifacts=self._items.artifacts)
        run = event.run_id if event.run_id is not UNSET else ""
        if self._asked_by_client:
            self._items.brought = brought
            input: Any = UNSET
        else:
            said = [one for one in messages if one.get("role") != "tool"]
            input = {
                "threadId": self._thread, "runId": self._called or run, "messages": said, "tools": [], "context": [],
                "state": {}, "forwardedProps": {},
            }  # fmt: skip
        started = self._begin(run, input=input, timestamp=event.timestamp)
        answers = cast("list[dict[str, Any]]", given.get("resume") or [])
        return [started, *(e.Custom(name="interrupt_resolved", value=one) for one in answers)]

    def _begin(self, run: str, **fields: Any) -> Event:
        self._begun = True
        return e.RunStarted(
            thread_id=self._thread,
            run_id=self._called or run,
            protocol_version="1.0" if self._modern else UNSET,
            metadata=ours(thread=self._own_thread, run=run),
            **fields,
        )

    def _end(self, event: Event) -> list[Event]:
        run = event.run_id if event.run_id is not UNSET else ""
        before: list[Event] = []
        if not self._begun:
            if self._run is None and isinstance(event, e.RunDequeued):
                return []  # nobody was told that it is queued
            before = [self._begin(run, timestamp=event.timestamp)]
        outcome = event.outcome if isinstance(event, e.RunFinished) else UNSET
        before += self._items.close(outcome)
        self._begun = False
        common: dict[str, Any] = {"timestamp": event.timestamp}
        if isinstance(event, e.RunError):
            said = with_ours(
                event, retryable=event.retryable, retryAfterMs=event.retry_after_ms, requestId=event.request_id
            )
            failed = e.RunError(message=event.message, code=event.code, usage=event.usage, metadata=said, **common)
            return [*before, failed]
        common |= {"thread_id": self._thread, "run_id": self._called or run}
        if isinstance(event, e.RunFinished):
            common |= {"usage": event.usage, "result": event.result}
            if outcome is not UNSET and outcome.type == "success" and not self._modern:
                outcome = e.Outcome(type="success")  # 0.0.59 knows no `pendingToolCallIds`, and takes it for an error
            if outcome is UNSET or outcome.type != "cancelled":
                return [*before, e.RunFinished(outcome=outcome, metadata=event.metadata, **common)]
        reason = cast(e.RunFinished | e.RunDequeued, event).reason
        said = with_ours(event, reason=reason)
        if self._modern:
            return [*before, e.RunFinished(outcome=e.Outcome(type="cancelled"), metadata=said, **common)]
        if self._cancelled_is_error:
            why = reason if reason is not UNSET and reason else "Stopped."
            return [*before, e.RunError(message=why, code="cancelled", timestamp=event.timestamp)]
        value = {} if reason is UNSET else {"reason": reason}
        return [*before, e.Custom(name="run_cancelled", value=value), e.RunFinished(metadata=said, **common)]

    # --- what AG-UI has no type for -------------------------------------------------------------------------------

    def _other(self, event: Event) -> list[Event]:
        match event:
            case e.ToolCallProgress():
                content = present_fields(event, "tool_call_id", "progress", "total", "message", "data")
                return [activity(event, f"progress:{event.tool_call_id}", "tool_progress", content)]
            case e.Source():
                content = present_fields(event, "url", "title", "media_type")
                return [activity(event, f"source:{event.source_id}", "source", content)]
            case e.ArtifactSnapshot():
                content = present_fields(event, "name", "mime_type", "content", "url", "version", "tool_call_id")
                self._items.artifacts[event.artifact_id] = (event.kind, content.get("content"))
                self._growing.pop(event.artifact_id, None)
                return [activity(event, event.artifact_id, event.kind, content)]
            case e.ArtifactDelta():
                return self._amended(event)
            case e.RunSteered() if event.consumed:
                return self._steered(event)
            case e.RunCancelRequested() | e.MessageRetracted() | e.RunRestarted():
                return [custom(event)]
            case e.Custom() | e.Raw() | e.StateSnapshot() | e.StateDelta() | e.ActivitySnapshot() | e.ActivityDelta():
                return [plain(event)]
            case e.ReasoningEncryptedValue():
                return [plain(event)]
            case _:
                return []

    def _amended(self, event: e.ArtifactDelta) -> list[Event]:
        known = self._items.artifacts.get(event.artifact_id)
        if known is None:
            return []
        id, (kind, content) = event.artifact_id, known
        if event.append is not UNSET:
            return self._appended(event, kind, content, event.append)
        operations = [] if event.patch is UNSET else event.patch
        try:
            changed = patched(content, operations)
        except PatchError:  # as in every fold: what makes no sense changes nothing
            return []
        behind = [] if id not in self._behind else [self._whole(self._behind[id])]
        self._items.artifacts[id] = (kind, changed)
        return [*behind, _activity_delta(event, kind, [within_content(one) for one in operations])]

    def _appended(self, event: e.ArtifactDelta, kind: str, content: Any, piece: str) -> list[Event]:
        """A JSON Patch has no word for a text that grows: its value is said anew, when it is worth it."""
        id, text = event.artifact_id, (content if isinstance(content, str) else "") + piece
        self._items.artifacts[id] = (kind, text)
        growing = self._growing.setdefault(id, Growing(len(text) - len(piece)))
        now = event.timestamp if event.timestamp is not UNSET else 0
        if growing.is_due(len(text), now):
            return [self._whole(event, now)]
        self._behind[id] = event
        return []

    def _whole(self, event: e.ArtifactDelta, now: int | None = None) -> Event:
        kind, text = self._items.artifacts[event.artifact_id]
        self._behind.pop(event.artifact_id, None)
        self._growing[event.artifact_id].say(len(text), now)
        return _activity_delta(event, kind, [{"op": "add", "path": "/content", "value": text}])

    def _caught_up(self, *, in_passing: bool) -> list[Event]:
        """What was not told of artifacts; `in_passing`: as far as it may be, before a piece of something else."""
        return [
            self._whole(event)
            for id, event in list(self._behind.items())
            if not in_passing or self._growing[id].is_affordable(len(self._items.artifacts[id][1]))
        ]

    def _steered(self, event: e.RunSteered) -> list[Event]:
        """What a person said into the run, as the message that it is."""
        id, text = str(event.message.get("id")), text_of(event.message.get("content"))
        self._items.group = None
        said = [e.TextMessageContent(message_id=id, delta=text)] if text else []
        return [e.TextMessageStart(message_id=id, role="user"), *said, e.TextMessageEnd(message_id=id)]

    # --- anew -----------------------------------------------------------------------------------------------------

    def _tell_anew(self, seq: int, transcript: Transcript) -> Sequence[Frame]:
        """Everything, for a reader that has nothing, or that has what no longer counts: it may come any number of times."""
        run = run_shown(transcript, self._run)
        told: list[Event] = self._items.close() if self._begun else [self._begin("" if run is None else run.id)]
        if run is None and not transcript.posted:
            return frames([*told, *self._end(e.RunFinished(thread_id=""))], seq, ends=True)
        path = [] if run is None else path_to(transcript, run.id)
        self._run = None if run is None else run.id
        told.append(e.MessagesSnapshot(messages=messages_of(transcript, path, rich=self._modern)))
        if transcript.state is not None:
            told.append(e.StateSnapshot(snapshot=transcript.state))
        self._items, opening = standing(path, rich=self._modern)
        self._growing.clear()
        self._behind.clear()
        if run is not None and not run.ended:
            return frames([*told, *opening], seq)
        ended = e.RunFinished(thread_id="") if run is None else ending(run)
        if self._is_settled and isinstance(ended, e.RunError):
            ended = e.RunFinished(thread_id="", timestamp=ended.timestamp, usage=ended.usage)
        return frames([*told, *self._end(ended)], seq, ends=True)


def _activity_delta(event: e.ArtifactDelta, kind: str, patch: list[dict[str, Any]]) -> Event:
    return e.ActivityDelta(
        message_id=event.artifact_id,
        activity_type=kind,
        patch=patch,
        timestamp=event.timestamp,
        subagent_run_id=event.subagent_run_id,
    )


def is_modern(version: str | None) -> bool:
    """Whether a client speaks 1.0 or later (`RunAgentInput.protocolVersion`): those before it send none."""
    major = (version or "").partition(".")[0]
    return major.isdecimal() and int(major) >= 1
