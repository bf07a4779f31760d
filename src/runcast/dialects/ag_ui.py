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

from collections.abc import Sequence
from typing import Any, Final, cast

import msgspec
from msgspec import UNSET

from runcast import events as e
from runcast.dialects.ag_ui_events import (
    activity,
    custom,
    frames,
    ours,
    owner_of,
    plain,
    present_fields,
    shared_delta,
    with_ours,
    within_content,
)
from runcast.dialects.ag_ui_history import Standing, ending, messages_of, result_id, run_shown, standing, text_of
from runcast.dialects.base import Attach, Frame, Options, Start
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

    name: Final = "ag-ui"
    attach: Attach = "snapshot"
    joins: Final = True

    def __init__(self, options: Options | None = None) -> None:
        cancelled = (options or {}).get("cancelled", CANCELLED[0])
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
        self._at = Standing()
        self._brought: set[str] = set()
        """Calls whose results the client brought: it has them."""

    # --- the log, event by event ----------------------------------------------------------------------------------

    def encode(self, record: Record) -> Sequence[Frame]:
        event = record.event
        if self._run is not None and event.run_id != self._run:
            return ()
        if isinstance(event, e.DELTAS):
            if isinstance(event, e.ReasoningMessageContent) and event.message_id in self._at.silent:
                return self._first_thought(record, event)
            return (Frame(shared_delta(record), record.seq),) if self._takes(event) else ()
        ends = isinstance(event, e.TERMINAL)
        return frames(self._told(event), record.seq, ends=ends)

    def update(self, update: Update) -> Sequence[Frame]:
        match update:
            case Events():
                return [frame for record in update.records for frame in self.encode(record)]
            case ThreadSnapshot():
                return self._tell_anew(update.seq, load(update.transcript))
            case _:
                return ()

    def _takes(self, event: Event) -> bool:
        match event:
            case e.TextMessageContent():
                return bool(event.delta) and event.message_id in self._at.texts
            case e.ReasoningMessageContent():
                return bool(event.delta) and event.message_id in self._at.thoughts
            case e.ToolCallArgs():
                if not event.delta or event.tool_call_id not in self._at.calls:
                    return False
                self._at.calls[event.tool_call_id] = True
                return True
            case _:
                return False

    def _first_thought(self, record: Record, event: e.ReasoningMessageContent) -> Sequence[Frame]:
        start = e.ReasoningMessageStart(
            message_id=event.message_id, role="reasoning", subagent_run_id=event.subagent_run_id
        )
        return (*frames(self._thought(start), record.seq, more=True), Frame(shared_delta(record), record.seq, 1))

    def _told(self, event: Event) -> list[Event]:
        match event:
            case e.RunStarted():
                return self._start(event)
            case e.RunFinished() | e.RunError() | e.RunDequeued():
                return self._end(event)
            case _ if not self._begun:
                return []
            case e.TextMessageStart() | e.TextMessageEnd():
                return self._text(event)
            case e.ReasoningStart() | e.ReasoningEnd() | e.ReasoningMessageStart() | e.ReasoningMessageEnd():
                return self._thought(event)
            case e.ToolCallStart() | e.ToolCallEnd() | e.ToolCallResult():
                return self._call(event)
            case e.StepStarted() | e.StepFinished():
                return self._step(event)
            case e.SubagentStarted() | e.SubagentFinished() | e.SubagentError():
                return self._subagent(event)
            case e.RunRestarted() if event.anew is True:
                return [*self._close(), custom(event)]
            case _:
                return [*self._of_subagent(event), *self._other(event)]

    def _start(self, event: e.RunStarted) -> list[Event]:
        if self._begun:  # told already, by a snapshot
            return []
        given: dict[str, Any] = {} if event.input is UNSET else event.input
        messages = cast("list[dict[str, Any]]", given.get("messages") or [])
        self._at = Standing(told=self._at.told if event.resumes is not UNSET else set(), artifacts=self._at.artifacts)
        run = event.run_id if event.run_id is not UNSET else ""
        if self._asked_by_client:
            self._brought = {str(one.get("toolCallId")) for one in messages if one.get("role") == "tool"}
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
        before += self._close(outcome)
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

    # --- items: opened once, closed once --------------------------------------------------------------------------

    def _text(self, event: e.TextMessageStart | e.TextMessageEnd) -> list[Event]:
        open = self._at.texts
        if isinstance(event, e.TextMessageEnd):
            if event.message_id not in open:
                return []
            del open[event.message_id]
            return [plain(event, text=UNSET, incomplete=UNSET, metadata=with_ours(event, incomplete=event.incomplete))]
        if event.message_id in open:
            return []
        open[event.message_id] = owner_of(event)
        if event.role in (UNSET, "assistant"):
            self._at.group = None
        return [*self._of_subagent(event), plain(event)]

    def _thought(self, event: Event) -> list[Event]:
        at = self._at
        match event:
            case e.ReasoningStart() if event.message_id not in at.spans:
                at.spans[event.message_id] = owner_of(event)
                return [*self._of_subagent(event), plain(event)]
            case e.ReasoningMessageStart() if event.message_id not in at.thoughts:
                at.thoughts[event.message_id] = owner_of(event)
                at.silent.pop(event.message_id, None)
                return [*self._of_subagent(event), plain(event)]
            case e.ReasoningMessageEnd() if event.message_id in at.thoughts:
                del at.thoughts[event.message_id]
                return [
                    plain(event, text=UNSET, incomplete=UNSET, metadata=with_ours(event, incomplete=event.incomplete))
                ]
            case e.ReasoningEnd() if event.message_id in at.spans:
                del at.spans[event.message_id]
                return [plain(event)]
            case e.ReasoningEnd() if (
                event.message_id in at.thoughts
            ):  # opened anew from a snapshot, which knows no spans
                del at.thoughts[event.message_id]
                return [e.ReasoningMessageEnd(message_id=event.message_id, timestamp=event.timestamp)]
            case _:
                return []

    def _call(self, event: e.ToolCallStart | e.ToolCallEnd | e.ToolCallResult) -> list[Event]:
        at, id = self._at, event.tool_call_id
        match event:
            case e.ToolCallStart():
                if id in at.told:  # also one that a run goes on with: only its result is new
                    return []
                at.told.add(id)
                at.calls[id] = False
                at.group = at.group or id
                said = with_ours(event, title=event.title)
                told = plain(event, parent_message_id=at.group, title=UNSET, idempotent=UNSET, metadata=said)
                return [*self._of_subagent(event), told]
            case e.ToolCallEnd():
                if id not in at.calls:
                    return []
                had_args = at.calls.pop(id)
                missing = [] if had_args else [e.ToolCallArgs(tool_call_id=id, delta=event.args or "{}")]
                said = with_ours(event, incomplete=event.incomplete)
                return [*missing, plain(event, args=UNSET, incomplete=UNSET, metadata=said)]
            case e.ToolCallResult():
                if id in self._brought:
                    return []
                opened = [e.ToolCallEnd(tool_call_id=id)] if at.calls.pop(id, None) is not None else []
                return [*opened, *self._of_subagent(event), self._result(event)]

    def _result(self, event: e.ToolCallResult) -> Event:
        failed = event.status not in (UNSET, "success")
        return e.ToolCallResult(
            message_id=result_id(event.tool_call_id),
            tool_call_id=event.tool_call_id,
            content=event.content if self._modern else text_of(event.content),
            role="tool",
            timestamp=event.timestamp,
            subagent_run_id=event.subagent_run_id,
            metadata=with_ours(
                event,
                status=event.status if failed else UNSET,
                error=event.error,
                summary=event.summary,
                blob=event.blob,
            ),
        )

    def _step(self, event: e.StepStarted | e.StepFinished) -> list[Event]:
        step = (owner_of(event), event.step_name)
        if isinstance(event, e.StepStarted):
            if step in self._at.steps:
                return []
            self._at.steps.append(step)
            return [*self._of_subagent(event), plain(event)]
        if step not in self._at.steps:
            return []
        self._at.steps.remove(step)
        return [plain(event)]

    def _subagent(self, event: e.SubagentStarted | e.SubagentFinished | e.SubagentError) -> list[Event]:
        at, id = self._at, event.subagent_run_id
        if isinstance(event, e.SubagentStarted):
            if id in at.named:
                return []
            at.named.add(id)
            at.subagents.append(id)
            return [plain(event)]
        if id not in at.subagents:
            return []
        at.subagents.remove(id)
        return [*self._close_items(id), plain(event)]

    def _of_subagent(self, event: Event) -> list[Event]:
        """The start of the subagent whose item this is, if the client was not told: a run may go on with one of the run before."""
        id = event.subagent_run_id
        if id is UNSET or id in self._at.named:
            return []
        self._at.named.add(id)
        self._at.subagents.append(id)
        return [e.SubagentStarted(subagent_run_id=id, name=id, timestamp=event.timestamp)]

    def _close_items(self, owner: str | None) -> list[Event]:
        """What ends the items of one owner."""
        at = self._at
        closing: list[Event] = []
        for id in [id for id, of in at.texts.items() if of == owner]:
            del at.texts[id]
            closing.append(e.TextMessageEnd(message_id=id))
        for id in [id for id, of in at.thoughts.items() if of == owner]:
            del at.thoughts[id]
            closing.append(e.ReasoningMessageEnd(message_id=id))
        for id in [id for id, of in at.spans.items() if of == owner]:
            del at.spans[id]
            closing.append(e.ReasoningEnd(message_id=id))
        for step in [step for step in at.steps if step[0] == owner]:
            at.steps.remove(step)
            closing.append(e.StepFinished(step_name=step[1]))
        return [one if owner is None else plain(one, subagent_run_id=owner) for one in closing]

    def _close(self, outcome: e.Outcome | msgspec.UnsetType = UNSET) -> list[Event]:
        """What ends everything that is open, the innermost first."""
        at = self._at
        closing: list[Event] = [e.ToolCallEnd(tool_call_id=id) for id in at.calls]
        at.calls.clear()
        waits = [] if outcome is UNSET or outcome.interrupts is UNSET else [one.id for one in outcome.interrupts]
        how = e.SubagentOutcome(type="suspended", interrupt_ids=waits) if waits else UNSET
        for id in reversed(at.subagents):
            closing += self._close_items(id)
            closing.append(e.SubagentFinished(subagent_run_id=id, outcome=how))
        at.subagents.clear()
        return [*closing, *self._close_items(None)]

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
                self._at.artifacts[event.artifact_id] = (event.kind, content.get("content"))
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
        known = self._at.artifacts.get(event.artifact_id)
        if known is None:
            return []
        kind, content = known
        if event.append is not UNSET:
            content = (content if isinstance(content, str) else "") + event.append
            patch: list[dict[str, Any]] = [{"op": "add", "path": "/content", "value": content}]
        else:
            operations = [] if event.patch is UNSET else event.patch
            try:
                content = patched(content, operations)
            except PatchError:  # as in every fold: what makes no sense changes nothing
                return []
            patch = [within_content(one) for one in operations]
        self._at.artifacts[event.artifact_id] = (kind, content)
        delta = e.ActivityDelta(
            message_id=event.artifact_id,
            activity_type=kind,
            patch=patch,
            timestamp=event.timestamp,
            subagent_run_id=event.subagent_run_id,
        )
        return [delta]

    def _steered(self, event: e.RunSteered) -> list[Event]:
        """What a person said into the run, as the message that it is."""
        id, text = str(event.message.get("id")), text_of(event.message.get("content"))
        self._at.group = None
        said = [e.TextMessageContent(message_id=id, delta=text)] if text else []
        return [e.TextMessageStart(message_id=id, role="user"), *said, e.TextMessageEnd(message_id=id)]

    # --- anew -----------------------------------------------------------------------------------------------------

    def _tell_anew(self, seq: int, transcript: Transcript) -> Sequence[Frame]:
        """Everything, for a reader that has nothing, or that has what no longer counts: it may come any number of times."""
        run = run_shown(transcript, self._run)
        told: list[Event] = self._close() if self._begun else [self._begin("" if run is None else run.id)]
        if run is None and not transcript.posted:
            return frames([*told, *self._end(e.RunFinished(thread_id=""))], seq, ends=True)
        path = [] if run is None else path_to(transcript, run.id)
        self._run = None if run is None else run.id
        told.append(e.MessagesSnapshot(messages=messages_of(transcript, path, rich=self._modern)))
        if transcript.state is not None:
            told.append(e.StateSnapshot(snapshot=transcript.state))
        self._at, opening = standing(path)
        if run is not None and not run.ended:
            return frames([*told, *opening], seq)
        ended = e.RunFinished(thread_id="") if run is None else ending(run)
        return frames([*told, *self._end(ended)], seq, ends=True)


def is_modern(version: str | None) -> bool:
    """Whether a client speaks 1.0 or later (`RunAgentInput.protocolVersion`): those before it send none."""
    major = (version or "").partition(".")[0]
    return major.isdecimal() and int(major) >= 1
