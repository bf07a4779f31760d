"""The `openai-responses` dialect: a run as a response and its items (OpenAI API, "Responses" and its streaming events).

    event: response.output_text.delta
    data: {"type":"response.output_text.delta","sequence_number":…,"item_id":"msg_…","output_index":0,"content_index":0,"delta":"lo"}

`sequence_number` is `seq × 64 + k` of the log: it grows, has holes, and says where to go on (`starting_after`); deltas are never
joined, so that it is the same each time. Items: `message`, `reasoning`, `function_call`; `function_call_output` for tools that
ran here; `mcp_approval_request` for a question to a person. A run that waits is `completed`: its answer makes a new response.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from msgspec import UNSET

from runcast import events as e
from runcast.dialects.base import Attach, Frame, RecordEncoder, Start
from runcast.dialects.openai_ids import (
    APPROVAL,
    CALL,
    MESSAGE,
    OUTPUT,
    REASONING,
    RESPONSE,
    SERVER_LABEL,
    call_name,
    cost_of,
    created_of,
)
from runcast.dialects.run_fold import failure_of
from runcast.events import Record
from runcast.events import encode_value as to_bytes

STEP = 64
"""Sequence numbers that each event of the log may use."""

Json = dict[str, Any]
Said = tuple[str, Json]
"""A streaming event: its type, and its fields without `type` and `sequence_number`."""

ECHOED = ("instructions", "metadata", "temperature", "top_p", "tool_choice", "parallel_tool_calls", "text", "reasoning")
"""What a response repeats of what was asked with it; it stands in the log as `forwardedProps`."""


def sequence_number(frame: Frame) -> int:
    return (frame.seq or 0) * STEP + frame.k


class OpenAiResponses:
    name: str = "openai-responses"
    attach: Attach = "replay"
    joins: bool = False
    loses: tuple[str, ...] = ("state", "artifacts", "sources", "steps", "subagents", "progress of tools")

    def encoder(self, start: Start) -> ResponsesEncoder:
        del start
        return ResponsesEncoder()

    def error(self, code: str, message: str, *, request_id: str) -> Sequence[Frame]:
        del request_id
        body = {"type": "error", "sequence_number": 0, "code": code, "message": message, "param": None}
        return (Frame(to_bytes(body), name="error"),)

    def response(self, records: Sequence[Record]) -> Json:
        """A run as it stands after `records`: its events from the first on."""
        encoder = ResponsesEncoder()
        for record in records:
            encoder.encode(record)
        return encoder.response()


class After:
    """An encoder that says only what follows a sequence number; it is given the run from its beginning."""

    def __init__(self, encoder: ResponsesEncoder, number: int) -> None:
        self._encoder = encoder
        self._number = number

    def encode(self, record: Record) -> Sequence[Frame]:
        return [frame for frame in self._encoder.encode(record) if sequence_number(frame) > self._number]

    def update(self, update: Any) -> Sequence[Frame]:
        return [frame for frame in self._encoder.update(update) if sequence_number(frame) > self._number]


class _SharedDelta:
    """The frame of the delta that was encoded last, for all who read it; see `openai_chat`."""

    def __init__(self) -> None:
        self._of: Record | None = None
        self._item: bytes = b""
        self._frames: Sequence[Frame] = ()

    def __call__(self, record: Record, kind: str, item: bytes, delta: str) -> Sequence[Frame]:
        if record is not self._of or (item is not self._item and item != self._item):
            seq = record.seq
            data = b'{"type":"%b","sequence_number":%d,%b%b}' % (kind.encode(), seq * STEP, item, to_bytes(delta))
            self._of, self._item, self._frames = record, item, (Frame(data, seq, name=kind),)
        return self._frames


_shared = _SharedDelta()


class _Item:
    """An item of the output that still grows. `head`: the fields of its deltas, encoded, up to the delta's text."""

    def __init__(self, at: int, value: Json, **fields: Any) -> None:
        self.at = at
        self.value = value
        self.pieces: list[str] = []
        place = {"item_id": value["id"], "output_index": at, **fields, "delta": ""}
        self.head = to_bytes(place).removeprefix(b"{").removesuffix(b'""}')

    @property
    def place(self) -> Json:
        return {"item_id": self.value["id"], "output_index": self.at}


class ResponsesEncoder(RecordEncoder):
    """`left`: the calls and questions that the run left to others, once it has ended."""

    def __init__(self) -> None:
        self._head: Json = {"id": RESPONSE, "created_at": 0, "model": "", "previous_response_id": None}
        self._props: Json = {}
        self._tools: list[Json] = []
        self._told = False
        self._given: set[str] = set()
        self._output: dict[int, Json] = {}
        self._next = 0
        self._open: dict[tuple[str, str], _Item] = {}
        self._calls: dict[str, Json] = {}
        self._status = "in_progress"
        self._more: Json = {}
        self.left: Sequence[str] = ()

    # --- the response ---------------------------------------------------------------------------------------------

    def response(self, status: str | None = None, **more: Any) -> Json:
        """The response as it stands; `status` and `more` in place of its own."""
        echoed = {name: self._props.get(name) for name in ECHOED}
        body: Json = {
            **self._head,
            "object": "response",
            "status": status or self._status,
            "error": None,
            "incomplete_details": None,
            "output": [self._snapshot(at) for at in sorted(self._output)],
            "tools": self._tools,
            "usage": None,
            "background": self._props.get("background") is True,
            "store": self._props.get("store") is not False,
            **echoed,
            **self._more,
            **more,
        }
        body["tool_choice"] = body["tool_choice"] or "auto"
        body["parallel_tool_calls"] = body["parallel_tool_calls"] is not False
        body["metadata"] = body["metadata"] or {}
        body["text"] = body["text"] or {"format": {"type": "text"}}
        return body

    def _snapshot(self, at: int) -> Json:
        for (kind, _), item in self._open.items():
            if item.at == at and item.pieces:
                return _filled(kind, item.value, "".join(item.pieces), "in_progress")
        return self._output[at]

    def _begin(self, event: e.RunStarted | e.RunQueued) -> None:
        run = event.run_id if event.run_id is not UNSET else ""
        parent = event.parent_run_id
        if isinstance(event, e.RunStarted) and event.resumes is not UNSET:
            parent = event.resumes
        self.__init__()
        self._head = {
            "id": RESPONSE + run,
            "created_at": created_of(event),
            "model": event.agent if event.agent is not UNSET else "",
            "previous_response_id": None if parent is UNSET else RESPONSE + parent,
        }
        given: Json = {} if event.input is UNSET else event.input
        props: Any = given.get("forwardedProps")
        self._props = cast(Json, props) if isinstance(props, dict) else {}
        self._tools = [_tool(tool) for tool in cast(list[Json], given.get("tools") or [])]
        messages = cast(list[Json], given.get("messages") or [])
        self._given = {str(one.get("toolCallId")) for one in messages if one.get("role") == "tool"}

    # --- events ---------------------------------------------------------------------------------------------------

    def encode(self, record: Record) -> Sequence[Frame]:
        event = record.event
        if isinstance(event, e.TextMessageContent):
            return self._delta(record, "response.output_text.delta", ("text", event.message_id), event.delta)
        if isinstance(event, e.ReasoningMessageContent):
            return self._delta(record, "response.reasoning_text.delta", ("reasoning", event.message_id), event.delta)
        if isinstance(event, e.ToolCallArgs):
            kind = "response.function_call_arguments.delta"
            return self._delta(record, kind, ("call", event.tool_call_id), event.delta)
        if isinstance(event, e.TERMINAL):
            return self._frames(record, [self._end(event)], ends=True)
        return self._frames(record, self._said(event))

    def _delta(self, record: Record, kind: str, key: tuple[str, str], delta: str) -> Sequence[Frame]:
        item = self._open.get(key)
        if item is None or not delta:
            return ()
        item.pieces.append(delta)
        return _shared(record, kind, item.head, delta)

    def _said(self, event: e.Event) -> Sequence[Said]:
        if event.subagent_run_id is not UNSET and not isinstance(event, e.ToolCallResult):
            return ()
        match event:
            case e.RunQueued():
                self._begin(event)
                self._told, self._status = True, "queued"
                return [(f"response.{kind}", {"response": self.response()}) for kind in ("created", "queued")]
            case e.RunStarted():
                return self._started(event)
            case e.TextMessageStart() if event.role in (UNSET, "assistant"):
                value: Json = {"id": MESSAGE + event.message_id, "type": "message", "role": "assistant", "content": []}
                item, said = self._add(("text", event.message_id), value, content_index=0, logprobs=[])
                part: Json = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
                return [*said, ("response.content_part.added", {**item.place, "content_index": 0, "part": part})]
            case e.TextMessageEnd():
                return self._ended(("text", event.message_id), event.text, event.incomplete)
            case e.ReasoningMessageStart():
                value = {"id": REASONING + event.message_id, "type": "reasoning", "summary": [], "content": []}
                item, said = self._add(("reasoning", event.message_id), value, content_index=0)
                part = {"type": "reasoning_text", "text": ""}
                return [*said, ("response.content_part.added", {**item.place, "content_index": 0, "part": part})]
            case e.ReasoningMessageEnd():
                return self._ended(("reasoning", event.message_id), event.text, event.incomplete)
            case e.ToolCallStart():
                run = event.run_id if event.run_id is not UNSET else ""
                value = {
                    "id": CALL + call_name(run, event.tool_call_id),
                    "type": "function_call",
                    "call_id": event.tool_call_id,
                    "name": event.tool_call_name,
                    "arguments": "",
                }
                return self._add(("call", event.tool_call_id), value)[1]
            case e.ToolCallEnd():
                return self._ended(("call", event.tool_call_id), event.args, event.incomplete)
            case e.ToolCallResult() if event.tool_call_id not in self._given:
                return self._put(_output_of(event))
            case e.InterruptRequested():
                return self._put(self._approval(event.interrupt))
            case e.MessageRetracted():
                self._retract(event)
            case e.RunRestarted() if event.anew is True:
                self._output.clear()
                self._open.clear()
            case _:
                pass
        return ()

    def _started(self, event: e.RunStarted) -> Sequence[Said]:
        told = self._told
        if not told:
            self._begin(event)
        self._status = "in_progress"
        kinds = ("in_progress",) if told else ("created", "in_progress")
        self._told = False
        return [(f"response.{kind}", {"response": self.response()}) for kind in kinds]

    def _end(self, event: e.Event) -> Said:
        self._open.clear()
        self._more = {"usage": cost_of(event).of_response()}
        failure = failure_of(event)
        if isinstance(event, e.RunFinished) and event.outcome is not UNSET:
            pending, asked = event.outcome.pending_tool_call_ids, event.outcome.interrupts
            self.left = [*(() if pending is UNSET else pending), *(() if asked is UNSET else [one.id for one in asked])]
        if failure is None:
            self._status = "completed"
            return "response.completed", {"response": self.response()}
        code, message = failure
        if code == "cancelled":  # the stream has no word for it; whoever asks for the response reads `cancelled`
            self._status = "cancelled"
            details = {"reason": "cancelled"}
            return "response.incomplete", {"response": self.response("incomplete", incomplete_details=details)}
        self._status = "failed"
        self._more["error"] = {"code": code, "message": message}
        return "response.failed", {"response": self.response()}

    # --- items ----------------------------------------------------------------------------------------------------

    def _add(self, key: tuple[str, str], value: Json, **fields: Any) -> tuple[_Item, list[Said]]:
        value["status"] = "in_progress"
        item = _Item(self._next, value, **fields)
        self._open[key] = item
        self._output[item.at] = value
        self._next += 1
        return item, [("response.output_item.added", {"output_index": item.at, "item": dict(value)})]

    def _put(self, value: Json) -> Sequence[Said]:
        """An item that is whole at once."""
        at, self._next = self._next, self._next + 1
        self._output[at] = value
        return [(f"response.output_item.{kind}", {"output_index": at, "item": value}) for kind in ("added", "done")]

    def _ended(self, key: tuple[str, str], whole: Any, incomplete: Any) -> Sequence[Said]:
        item = self._open.pop(key, None)
        if item is None:
            return ()
        kind = key[0]
        text: str = "".join(item.pieces) if whole is UNSET else whole
        value = _filled(kind, item.value, text, "completed" if incomplete is UNSET else "incomplete")
        self._output[item.at] = value
        done: Said = ("response.output_item.done", {"output_index": item.at, "item": value})
        if kind == "call":
            self._calls[key[1]] = value
            fields = {**item.place, "name": value["name"], "arguments": text}
            return [("response.function_call_arguments.done", fields), done]
        place = {**item.place, "content_index": 0}
        part = value["content"][0]
        if kind == "text":
            said: Said = ("response.output_text.done", {**place, "text": text, "logprobs": []})
        else:
            said = ("response.reasoning_text.done", {**place, "text": text})
        return [said, ("response.content_part.done", {**place, "part": part}), done]

    def _approval(self, interrupt: e.Interrupt) -> Json:
        call = None if interrupt.tool_call_id is UNSET else self._calls.get(interrupt.tool_call_id)
        message = interrupt.message if interrupt.message is not UNSET else None
        arguments = to_bytes({"message": message}).decode() if call is None else call["arguments"]
        return {
            "id": APPROVAL + interrupt.id,
            "type": "mcp_approval_request",
            "server_label": SERVER_LABEL,
            "name": interrupt.reason if call is None else call["name"],
            "arguments": arguments,
            "message": message,
        }

    def _retract(self, event: e.MessageRetracted) -> None:
        messages = () if event.message_ids is UNSET else event.message_ids
        calls = () if event.tool_call_ids is UNSET else event.tool_call_ids
        gone = {prefix + id for id in messages for prefix in (MESSAGE, REASONING)}
        for at, value in list(self._output.items()):
            if value["id"] in gone or value.get("call_id") in calls:
                del self._output[at]

    def _frames(self, record: Record, said: Sequence[Said], *, ends: bool = False) -> Sequence[Frame]:
        last, seq = len(said) - 1, record.seq
        return [
            Frame(
                to_bytes({"type": kind, "sequence_number": seq * STEP + k, **fields}),
                seq,
                k,
                k == last,
                kind,
                ends=ends and k == last,
            )
            for k, (kind, fields) in enumerate(said)
        ]


def _filled(kind: str, value: Json, text: str, status: str) -> Json:
    match kind:
        case "text":
            part: Json = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
            return {**value, "status": status, "content": [part]}
        case "reasoning":
            return {**value, "status": status, "content": [{"type": "reasoning_text", "text": text}]}
        case _:
            return {**value, "status": status, "arguments": text}


def _output_of(event: e.ToolCallResult) -> Json:
    """What came of a tool that ran here."""
    done = event.status in (UNSET, "success")
    content = event.content if isinstance(event.content, str) else to_bytes(event.content).decode()
    error = event.error if event.error is not UNSET else ""
    return {
        "id": OUTPUT + event.tool_call_id,
        "type": "function_call_output",
        "call_id": event.tool_call_id,
        "output": content if done else content or error,
        "status": "completed" if done else "incomplete",
    }


def _tool(tool: Json) -> Json:
    return {
        "type": "function",
        "name": tool.get("name"),
        "description": tool.get("description"),
        "parameters": tool.get("parameters"),
        "strict": False,
    }
