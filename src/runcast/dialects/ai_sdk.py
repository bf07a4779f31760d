"""The `ai-sdk` dialect: the UI message stream of the AI SDK (header `x-vercel-ai-ui-message-stream: v1`), for `ai` 5, 6 and 7.

A stream tells one assistant message: `start`, its parts in chunks, `finish` (or `abort`, or `error` and `finish`). The message is
a whole chain of runs: a run that waits for a person, or left calls to the client, is gone on with in the same message, whose id
is the first run's.

    events                        chunks
    RUN_STARTED                   start{messageId, messageMetadata}, start-step
    text, reasoning, tool calls   text-*, reasoning-*, tool-input-*, tool-output-*; a new step behind the results of tools
    INTERRUPT_REQUESTED           tool-approval-request (6, 7) if it asks about a call of this message; data-interrupt
    state, artifacts, activities  data-state, data-<kind>, data-<activity type>: the whole value each time, under its own id
    progress, custom, queued …    data-… with `transient`: `onData` gets it, the message does not keep it
    the run's end                 data-run-status if it is not simply done, then finish | abort | error + finish

What a version does not know is never sent to it: one unknown type ends its stream.

Sources: `uiMessageChunkSchema` and `processUIMessageStream` of `ai` 5.0.277, 6.0.326 and 7.0.173.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, cast

import msgspec
from msgspec import UNSET

from runcast import events as e
from runcast.dialects.ai_sdk_data import Chunk, DataParts, transient
from runcast.dialects.ai_sdk_ends import FAILED, UNFINISHED, Version, add_usage, last_chunks, status_of
from runcast.dialects.base import NO_OPTIONS, Attach, Frame, Options, RecordEncoder, Start
from runcast.dialects.run_fold import arguments_of
from runcast.events import Record

VERSIONS: Final[Mapping[str, Version]] = {"5": 5, "6": 6, "7": 7}
DEFAULT: Final[Version] = 6


class AiSdk:
    """Options: `v`, the version of `ai` in the front end: 5, 6 (default) or 7. What is for 6 is understood by 7."""

    name: str = "ai-sdk"
    attach: Attach = "replay"
    joins: bool = True
    loses: tuple[str, ...] = ("encrypted thoughts", "subagents' texts", "patches of state (whole values instead)")

    def __init__(self, options: Options | None = None) -> None:
        given = dict(options or {})
        version = given.pop("v", str(DEFAULT))
        if given:
            raise ValueError(f"it has no option {next(iter(given))!r}")
        if version not in VERSIONS:
            raise ValueError("`v` is 5, 6 or 7")
        self.version: Version = VERSIONS[version]

    def encoder(self, start: Start) -> AiSdkEncoder:
        return AiSdkEncoder(start, version=VERSIONS.get(start.options.get("v", ""), self.version))

    def error(self, code: str, message: str, *, request_id: str) -> Sequence[Frame]:
        return (Frame(e.encode_value({"type": "error", "errorText": message})),)


class _Deltas:
    """The frame of the piece of text that was encoded last: the same bytes for every reader, made once."""

    def __init__(self) -> None:
        self._of: Record | None = None
        self._frames: tuple[Frame, ...] = ()

    def __call__(self, record: Record, kind: str, id: str, delta: str) -> tuple[Frame, ...]:
        if record is not self._of:
            chunk = {"type": f"{kind}-delta", "id": id, "delta": delta}
            self._of, self._frames = record, (Frame(e.encode_value(chunk), record.seq),)
        return self._frames


_deltas = _Deltas()


class AiSdkEncoder(RecordEncoder):
    """One assistant message. With `start.run` it is given the records of that run and of those that it goes on with, and of the
    thread; without, each run is a message, or goes on with one. What stands up to `shown_after` is folded and not told: the
    client has it, and goes on with its message."""

    def __init__(self, start: Start, *, version: Version = DEFAULT, shown_after: int = 0) -> None:
        self._run = start.run
        self._thread = start.thread
        self._version: Version = version
        self._shown_after = shown_after
        self._message: str | None = None
        """Its id, while it is told."""
        self._messages: dict[str, str] = {}
        """Of runs that went before: the message that they are part of."""
        self._is_started = False
        """The reader was told of `start`."""
        self._in_step = False
        self._step: set[str] = set()
        """What was begun in this step: ids of texts, thoughts and calls."""
        self._new_step = False
        """What comes next belongs to another step."""
        self._texts: set[str] = set()
        self._thoughts: set[str] = set()
        """Ids of what is open."""
        self._calls: dict[str, str] = {}
        """Names of calls without a result, by id."""
        self._own: set[str] = set()
        """Names of the tools that the client runs itself."""
        self._asked: dict[str, e.Interrupt] = {}
        """Interrupts of this message, by id."""
        self._approvals: set[str] = set()
        """Those that were told as a request for approval."""
        self._data = DataParts()
        self._has_status = False
        self._usage: dict[str, int] = {}

    def encode(self, record: Record) -> Sequence[Frame]:
        event = record.event
        if isinstance(event, (e.TextMessageContent, e.ReasoningMessageContent)):  # first: they are the many
            text = isinstance(event, e.TextMessageContent)
            if event.message_id not in (self._texts if text else self._thoughts) or not event.delta:
                return ()
            if not self._data.is_behind and record.seq > self._shown_after:
                return _deltas(record, "text" if text else "reasoning", event.message_id, event.delta)
        chunks = self._fold(event)
        if record.seq <= self._shown_after:
            return ()
        if chunks and not self._is_started and self._message is not None:
            self._is_started = True
            if chunks[0]["type"] != "start":
                chunks.insert(0, self._start())
        frames = [e.encode_value(chunk) for chunk in chunks]
        ends = isinstance(event, e.TERMINAL) and self._ends(event)
        if ends:
            self._is_started = False
            self._message = None
        last = len(frames) - 1
        return [Frame(data, record.seq, k, k == last, ends=ends and k == last) for k, data in enumerate(frames)]

    def _ends(self, event: e.Event) -> bool:
        return self._run is None or event.run_id == self._run

    def _fold(self, event: e.Event) -> list[Chunk]:
        chunks: list[Chunk] = []
        if not isinstance(event, e.ArtifactDelta | e.ActivityDelta):
            in_passing = isinstance(event, (*e.DELTAS, e.ToolCallProgress))
            chunks += self._data.caught_up(in_passing=in_passing)
        match event:
            case e.TextMessageContent():
                chunks.append({"type": "text-delta", "id": event.message_id, "delta": event.delta})
            case e.ReasoningMessageContent():
                chunks.append({"type": "reasoning-delta", "id": event.message_id, "delta": event.delta})
            case e.TextMessageStart() if event.role in (UNSET, "assistant") and event.subagent_run_id is UNSET:
                self._texts.add(event.message_id)
                chunks += self._part(event.message_id, {"type": "text-start", "id": event.message_id})
            case e.TextMessageEnd() if event.message_id in self._texts:
                self._texts.discard(event.message_id)
                chunks.append({"type": "text-end", "id": event.message_id})
            case e.ReasoningMessageStart() if event.subagent_run_id is UNSET:
                self._thoughts.add(event.message_id)
                chunks += self._part(event.message_id, {"type": "reasoning-start", "id": event.message_id})
            case e.ReasoningMessageEnd() if event.message_id in self._thoughts:
                self._thoughts.discard(event.message_id)
                chunks.append({"type": "reasoning-end", "id": event.message_id})
            case e.ToolCallStart() | e.ToolCallArgs() | e.ToolCallEnd() | e.ToolCallResult() | e.ToolCallProgress():
                chunks += self._tool(event)
            case e.RunQueued():
                chunks.append(transient("run-status", {"runId": event.run_id, "status": "queued"}))
            case e.RunStarted():
                chunks += self._begin(event)
            case e.RunCancelRequested():
                status = {"runId": event.run_id, "status": "running", "cancelling": True}
                chunks.append(transient("run-status", status))
            case e.RunRestarted() if event.anew is True:
                chunks += self._take_back(self._step)
            case e.MessageRetracted():
                lists = (event.message_ids, event.tool_call_ids)
                chunks += self._take_back({id for one in lists if one is not UNSET for id in one})
            case e.InterruptRequested():
                chunks += self._ask(event.interrupt)
            case e.InterruptResolved():
                chunks += self._answer(event)
            case e.RunFinished() | e.RunError() | e.RunDequeued():
                chunks += self._end(event)
            case e.StepStarted():
                self._new_step = self._new_step or bool(self._step)
            case _:
                chunks += self._data.take(event)
        return chunks

    # --- begin and end --------------------------------------------------------------------------------------------

    def _begin(self, event: e.RunStarted) -> list[Chunk]:
        run = event.run_id if event.run_id is not UNSET else ""
        goes_on = self._message is not None
        if not goes_on:
            before = event.resumes if event.resumes is not UNSET else None
            self._message = self._messages.get(before, before) if before is not None else run
            self._is_started = False
        self._messages[run] = cast(str, self._message)
        given: Mapping[str, Any] = event.input if event.input is not UNSET else NO_OPTIONS
        tools = cast("list[dict[str, Any]]", given.get("tools") or [])
        self._own.update(str(tool.get("name")) for tool in tools)
        if goes_on or event.resumes is not UNSET:
            self._new_step = True  # results of the calls that were asked about come first, and belong to theirs
            return []
        self._in_step = True
        self._step = set()
        return [self._start(), {"type": "start-step"}]

    def _start(self) -> Chunk:
        metadata = {"threadId": self._thread, "runId": self._message}
        return {"type": "start", "messageId": self._message, "messageMetadata": metadata}

    def _part(self, id: str, chunk: Chunk) -> list[Chunk]:
        """The chunk that begins a part, in the step to which it belongs."""
        chunks: list[Chunk] = []
        if self._new_step and not self._calls:
            if self._in_step:
                chunks.append({"type": "finish-step"})
            self._in_step = False
        if not self._in_step:
            chunks.append({"type": "start-step"})
            self._in_step, self._new_step, self._step = True, False, set()
        self._step.add(id)
        return [*chunks, chunk]

    def _close(self) -> list[Chunk]:
        """What a run left open: nothing, if the log is as it should be."""
        chunks: list[Chunk] = [{"type": "text-end", "id": id} for id in sorted(self._texts)]
        chunks += [{"type": "reasoning-end", "id": id} for id in sorted(self._thoughts)]
        self._texts.clear()
        self._thoughts.clear()
        return chunks

    def _end(self, event: e.RunFinished | e.RunError | e.RunDequeued) -> list[Chunk]:
        run = event.run_id if event.run_id is not UNSET else ""
        if self._message is None:
            self._message = run  # it never started
        chunks = self._close()
        usage = UNSET if isinstance(event, e.RunDequeued) else event.usage
        add_usage(self._usage, usage if usage is not UNSET else ())
        status = status_of(event)
        left: Collection[str] = ()
        outcome = event.outcome if isinstance(event, e.RunFinished) else UNSET
        if status["status"] == "waiting" and outcome is not UNSET:
            left = list(self._calls)
            for interrupt in outcome.interrupts if outcome.interrupts is not UNSET else ():
                if interrupt.id not in self._asked:
                    chunks += self._ask(interrupt)
        elif outcome is not UNSET and outcome.pending_tool_call_ids is not UNSET:
            left = outcome.pending_tool_call_ids
        for id in [id for id in self._calls if id not in left]:
            del self._calls[id]
            chunks.append(_failed(id, status.get("message") or status.get("reason") or UNFINISHED))
        if self._in_step:
            chunks.append({"type": "finish-step"})
            self._in_step = False
        if not self._ends(event):
            self._has_status = status["status"] != "done"  # a client that was told so far was told this as well
            return chunks
        if status["status"] != "done" or self._has_status:
            self._has_status = True
            chunks.append({"type": "data-run-status", "id": "run-status", "data": status})
        return [*chunks, *last_chunks(status, self._version, waits=bool(left), usage=self._usage)]

    def _take_back(self, ids: Collection[str]) -> list[Chunk]:
        """`ai` 7 can drop a whole step; otherwise what was said stays."""
        if self._version < 7 or not self._step or not self._step <= set(ids):
            return []
        for id in self._step:
            self._texts.discard(id)
            self._thoughts.discard(id)
            self._calls.pop(id, None)
        self._step = set()
        return [{"type": "reset-step"}]

    # --- tools and questions --------------------------------------------------------------------------------------

    def _tool(self, event: e.Event) -> list[Chunk]:
        match event:
            case e.ToolCallStart():
                id = event.tool_call_id
                chunk = self._call("tool-input-start", id, event.tool_call_name)
                if event.title is not UNSET:
                    chunk["title"] = event.title
                chunks = self._part(id, chunk)
                self._calls[id] = event.tool_call_name
                return chunks
            case e.ToolCallArgs() if event.tool_call_id in self._calls and event.delta:
                return [{"type": "tool-input-delta", "toolCallId": event.tool_call_id, "inputTextDelta": event.delta}]
            case e.ToolCallEnd() if (name := self._calls.get(event.tool_call_id)) is not None:
                args = event.args if event.args is not UNSET else ""
                if event.incomplete is not UNSET:
                    return []  # nothing will be called; its result says so
                chunk = self._call("tool-input-available", event.tool_call_id, name)
                return [{**chunk, "input": arguments_of(args)}]
            case e.ToolCallResult() if event.tool_call_id in self._calls:
                del self._calls[event.tool_call_id]
                self._new_step = True
                return [self._result(event)]
            case e.ToolCallProgress():
                data = {"toolCallId": event.tool_call_id, **_fields(event, "progress", "total", "message", "data")}
                return [transient("tool-progress", data)]
            case _:
                return []

    def _call(self, type: str, id: str, name: str) -> Chunk:
        chunk: Chunk = {"type": type, "toolCallId": id, "toolName": name, "dynamic": True}
        return chunk if name in self._own else {**chunk, "providerExecuted": True}

    def _result(self, event: e.ToolCallResult) -> Chunk:
        status = event.status if event.status is not UNSET else "success"
        if status == "success":
            output = event.result if event.result is not UNSET else event.content
            return {
                "type": "tool-output-available",
                "toolCallId": event.tool_call_id,
                "output": output,
                "dynamic": True,
            }
        if status == "denied" and self._version >= 6:
            return {"type": "tool-output-denied", "toolCallId": event.tool_call_id}
        said = event.error if event.error is not UNSET else event.content
        return _failed(event.tool_call_id, said if isinstance(said, str) and said else FAILED)

    def _ask(self, interrupt: e.Interrupt) -> list[Chunk]:
        self._asked[interrupt.id] = interrupt
        chunks: list[Chunk] = []
        call = interrupt.tool_call_id
        if self._version >= 6 and interrupt.reason != "input_required" and call is not UNSET and call in self._calls:
            self._approvals.add(interrupt.id)
            chunk: Chunk = {"type": "tool-approval-request", "approvalId": interrupt.id, "toolCallId": call}
            if self._version >= 7 and interrupt.message is not UNSET:
                chunk["reason"] = interrupt.message
            chunks.append(chunk)
        data = {**cast("Chunk", msgspec.to_builtins(interrupt)), "status": "open"}
        return [*chunks, {"type": "data-interrupt", "id": interrupt.id, "data": data}]

    def _answer(self, event: e.InterruptResolved) -> list[Chunk]:
        interrupt = self._asked.get(event.interrupt_id)
        if interrupt is None or self._run is None:
            return []
        chunks: list[Chunk] = []
        payload: Any = event.payload if event.payload is not UNSET else None
        said = cast("Chunk", payload) if isinstance(payload, dict) else {"approved": payload}
        if self._version >= 7 and interrupt.id in self._approvals:
            yes = event.status == "resolved" and said.get("approved") is True
            chunk: Chunk = {"type": "tool-approval-response", "approvalId": interrupt.id, "approved": yes}
            if isinstance(why := said.get("reason"), str):
                chunk["reason"] = why
            chunks.append(chunk)
        data = {**cast("Chunk", msgspec.to_builtins(interrupt)), "status": event.status}
        return [*chunks, {"type": "data-interrupt", "id": interrupt.id, "data": data}]


def _failed(call: str, sentence: str) -> Chunk:
    return {"type": "tool-output-error", "toolCallId": call, "errorText": sentence, "dynamic": True}


def _fields(event: e.Event, *names: str) -> Chunk:
    return {name: value for name in names if (value := getattr(event, name)) is not UNSET}
