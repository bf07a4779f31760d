"""The `openai-responses` dialect: a run as a response and its items (OpenAI API, "Responses" and its streaming events).

    event: response.output_text.delta
    data: {"type":"response.output_text.delta","sequence_number":…,"item_id":"msg_…","output_index":0,"content_index":0,"delta":"lo"}

`sequence_number` is `seq × 64 + k` of the log: it grows, has holes, and says where to go on (`starting_after`); deltas are never
joined, so that it is the same each time. Items (`openai_output`): `message`, `reasoning`; `function_call` for tools of the
client; `mcp_call` for those that run here, because clients run whatever is a `function_call`, or, with `calls=function`,
`function_call` and `function_call_output`; `mcp_approval_request` for a question to a person. A run that waits is `completed`:
its answer makes a new response.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

from msgspec import UNSET

from runcast import events as e
from runcast.dialects.base import Attach, Frame, RecordEncoder, Start
from runcast.dialects.openai_ids import RESPONSE, cost_of, created_of, failing_request
from runcast.dialects.openai_items import tool_of
from runcast.dialects.openai_output import Call, Output, Said
from runcast.dialects.run_fold import failure_of
from runcast.events import Record
from runcast.events import encode_value as to_bytes

STEP = 64
"""Sequence numbers that each event of the log may use."""

Json = dict[str, Any]
ECHOED = ("instructions", "metadata", "temperature", "top_p", "tool_choice", "parallel_tool_calls", "text", "reasoning")
"""What a response repeats of what was asked with it; it stands in the log as `forwardedProps`."""


def sequence_number(frame: Frame) -> int:
    return (frame.seq or 0) * STEP + frame.k


class OpenAiResponses:
    """Option of a stream: `calls`, `mcp` (as if it were not there) or `function`: how calls of the agent's own tools are told."""

    name: str = "openai-responses"
    attach: Attach = "replay"
    joins: bool = False
    loses: tuple[str, ...] = ("state", "artifacts", "steps", "subagents", "progress of tools")

    def encoder(self, start: Start) -> ResponsesEncoder:
        return ResponsesEncoder(as_functions=start.options.get("calls") == "function")

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


class ResponsesEncoder(RecordEncoder):
    """`left`: the calls and questions that the run left to others, once it has ended.

    Of a run that goes on with another one, `before` takes that one's records first: they say what the calls were that waited.
    """

    def __init__(self, *, as_functions: bool = False) -> None:
        self._as_functions = as_functions
        self._known: dict[str, Call] = {}
        self._reset()

    def before(self, records: Iterable[Record]) -> None:
        """Learn from the run that this one goes on with; nothing of it is said."""
        for record in records:
            self.encode(record)
        self._reset()

    def _reset(self) -> None:
        self._head: Json = {"id": RESPONSE, "created_at": 0, "model": "", "previous_response_id": None}
        self._props: Json = {}
        self._tools: list[Json] = []
        self._told = False
        self._output = Output("", (), (), self._known, as_functions=self._as_functions)
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
            "output": self._output.now(),
            "tools": self._tools,
            "usage": None,
            "background": self._props.get("background") is True,
            "store": self._props.get("store") is not False,
            "conversation": self._conversation(),
            **echoed,
            **self._more,
            **more,
        }
        body["tool_choice"] = body["tool_choice"] or "auto"
        body["parallel_tool_calls"] = body["parallel_tool_calls"] is not False
        body["metadata"] = body["metadata"] or {}
        body["text"] = body["text"] or {"format": {"type": "text"}}
        return body

    def _conversation(self) -> Json | None:
        """As the client named it."""
        given: Any = self._props.get("conversation")
        name: Any = cast(Json, given).get("id") if isinstance(given, dict) else given
        return {"id": name} if isinstance(name, str) else None

    def _begin(self, event: e.RunStarted | e.RunQueued) -> None:
        run = event.run_id if event.run_id is not UNSET else ""
        parent = event.parent_run_id
        if isinstance(event, e.RunStarted) and event.resumes is not UNSET:
            parent = event.resumes
        self._reset()
        self._head = {
            "id": RESPONSE + run,
            "created_at": created_of(event),
            "model": event.agent if event.agent is not UNSET else "",
            "previous_response_id": None if parent is UNSET else RESPONSE + parent,
        }
        given: Json = {} if event.input is UNSET else event.input
        props: Any = given.get("forwardedProps")
        self._props = cast(Json, props) if isinstance(props, dict) else {}
        self._tools = [tool_of(tool) for tool in cast(list[Json], given.get("tools") or [])]
        own = {str(tool["name"]) for tool in self._tools}
        messages = cast(list[Json], given.get("messages") or [])
        given_results = {str(one.get("toolCallId")) for one in messages if one.get("role") == "tool"}
        self._output = Output(run, own, given_results, self._known, as_functions=self._as_functions)

    # --- events ---------------------------------------------------------------------------------------------------

    def encode(self, record: Record) -> Sequence[Frame]:
        event = record.event
        if isinstance(event, e.TextMessageContent):
            return self._delta(record, "response.output_text.delta", "text", event.message_id, event.delta)
        if isinstance(event, e.ReasoningMessageContent):
            return self._delta(record, "response.reasoning_text.delta", "reasoning", event.message_id, event.delta)
        if isinstance(event, e.ToolCallArgs):
            own = self._output.is_own(event.tool_call_id)
            type = "response.mcp_call_arguments.delta" if own else "response.function_call_arguments.delta"
            return self._delta(record, type, "mcp" if own else "call", event.tool_call_id, event.delta)
        if isinstance(event, e.TERMINAL):
            return self._frames(record, [*self._output.left_open(), self._end(event)], ends=True)
        return self._frames(record, self._said(event))

    def _delta(self, record: Record, type: str, kind: str, id: str, delta: str) -> Sequence[Frame]:
        item = self._output.grow(kind, id, delta)
        return () if item is None else _shared(record, type, item.head, delta)

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
                return self._output.text(event.message_id)
            case e.TextMessageEnd():
                return self._output.ended("text", event.message_id, event.text, event.incomplete)
            case e.ReasoningMessageStart():
                return self._output.thought(event.message_id)
            case e.ReasoningMessageEnd():
                return self._output.ended("reasoning", event.message_id, event.text, event.incomplete)
            case e.ToolCallStart():
                return self._output.call(event)
            case e.ToolCallEnd():
                return self._output.called(event)
            case e.ToolCallResult():
                return self._output.result(event)
            case e.InterruptRequested():
                return self._output.asked(event.interrupt)
            case e.Source():
                return self._output.cite(event)
            case e.MessageRetracted():
                return self._output.retract(event)
            case e.RunRestarted() if event.anew is True:
                return self._output.clear()
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
        if (request := failing_request(event)) is not None:
            self._more["error"]["request_id"] = request
        return "response.failed", {"response": self.response()}

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
