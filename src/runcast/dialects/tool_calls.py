"""The `tool-calls` dialect: `type` and `data`, with the client's conversation in every frame.

    client   {"message", "conversation_id": str|null}
    server   thinking (once, first) · text · tool_call_start · tool_call_end, then exactly one of
             {"type":"complete","data":{…}}      the whole answer, with its tool calls
             {"type":"error","data":{"error"}}   there is none

The texts concatenate. A `tool_call_end` repeats the arguments of its `tool_call_start`, which always comes before it. The
page's input stays disabled until `complete` or `error`, so a browser that lost its socket finds its run again by a cookie.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from msgspec import UNSET

from runcast import events as e
from runcast.dialects.base import (
    NO_OPTIONS,
    Ask,
    Attach,
    Frame,
    KeepAlive,
    OnClose,
    Options,
    RecordEncoder,
    Start,
)
from runcast.dialects.messages import conversation_field, fields_of, only_options, text_field
from runcast.dialects.run_fold import BETWEEN, Call, RunFold, failure_of, next_run, questions_of
from runcast.dialects.shared_frames import numbered
from runcast.events import Record, encode_value

EMPTY: Final = "Message is required"
THINKING: Final = b'{"type":"thinking","data":{"message":"Processing..."}}'


class ToolCalls:
    """It has no options."""

    name: str = "tool-calls"
    attach: Attach = "tail"
    joins: bool = True
    loses: tuple[str, ...] = (
        "reasoning",
        "progress of tools",
        "state",
        "artifacts",
        "sources",
        "ids of runs and calls",
        "answering a question",
    )
    sockets: tuple[str, ...] = ("/ws/chat",)
    posts: Mapping[str, Literal["answer", "stream"]] = {"/api/chat/message": "answer"}
    keeps_thread: bool = False
    asks: int | None = None
    keep_alive: KeepAlive | None = None
    answers_refusals: bool = False
    whole_results: bool = True
    rejoins: Literal["conversation", "browser"] = "browser"

    def __init__(self, options: Options = NO_OPTIONS) -> None:
        only_options(options)

    def decode(self, data: str | bytes) -> Ask:
        fields = fields_of(data)
        message = text_field(fields, "message", empty=EMPTY)
        return Ask(message, conversation_field(fields, "conversation_id"))

    def encoder(self, start: Start) -> ToolCallsEncoder:
        return ToolCallsEncoder(start.conversation)

    def error(self, code: str, message: str, *, request_id: str) -> Sequence[Frame]:
        return (Frame(_error(message)),)

    def on_close(self, deliberate: bool) -> OnClose:
        return "nothing"

    def answer(self, start: Start, records: Sequence[Record]) -> bytes:
        run = RunFold()
        for record in records:
            run.apply(record.event)
        return encode_value(
            {
                "message": _message(run, records[-1].event),
                "tool_calls": _entries(run),
                "conversation_id": start.conversation,
            }
        )


class ToolCallsEncoder(RecordEncoder):
    def __init__(self, conversation: str) -> None:
        self._conversation = conversation
        self._run = RunFold()
        self._started: set[str] = set()
        """The calls of which the client was told that they began."""
        self._iterations = 1
        self._observed = False
        """Whether a tool gave something that the model has not answered yet."""

    def encode(self, record: Record) -> Sequence[Frame]:
        event = record.event
        if isinstance(event, e.RunStarted):
            self._run = next_run(self._run, event)
            self._started.intersection_update(self._run.calls)
            self._iterations, self._observed = 1, False
        chunk = self._run.apply(event)
        if chunk:
            return _shared(record, chunk, self._conversation)
        return numbered(self._other(event), record.seq, ends=isinstance(event, e.TERMINAL))

    def _other(self, event: e.Event) -> list[bytes]:
        match event:
            case e.RunStarted():
                return [THINKING]
            case e.TextMessageStart() | e.ReasoningMessageStart() | e.ToolCallStart():
                if self._observed and event.subagent_run_id is UNSET:
                    self._iterations += 1
                    self._observed = False
                return []
            case e.ToolCallEnd():
                return self._begun(self._run.call(event.tool_call_id))
            case e.ToolCallResult():
                self._observed = True
                call = self._run.call(event.tool_call_id)
                return [*self._begun(call), self._frame("tool_call_end", _entry(call))]
            case e.RunFinished() | e.RunError() | e.RunDequeued():
                return [self._end(event)]
            case _:
                return []

    def _begun(self, call: Call) -> list[bytes]:
        if call.id in self._started:
            return []
        self._started.add(call.id)
        return [self._frame("tool_call_start", {"tool_name": call.name, "arguments": call.arguments})]

    def _end(self, event: e.Event) -> bytes:
        if (failure := failure_of(event)) is not None:
            return _error(failure[1])
        data = {
            "message": _message(self._run, event),
            "tool_calls": _entries(self._run),
            "conversation_id": self._conversation,
            "iterations": self._iterations,
        }
        return encode_value({"type": "complete", "data": data})

    def _frame(self, kind: str, data: dict[str, Any]) -> bytes:
        return encode_value({"type": kind, "data": {**data, "conversation_id": self._conversation}})

    def missed(self, frames: Sequence[Frame]) -> Sequence[Frame]:
        return frames

    def standing(self) -> Sequence[Frame]:
        return ()


def _message(run: RunFold, event: e.Event) -> str:
    """The answer, and what the run asks a person where it ended waiting for one."""
    return BETWEEN.join([text for text in (run.text, "\n".join(questions_of(event))) if text])


def _entries(run: RunFold) -> list[dict[str, Any]]:
    """The calls that are over, in the order of their start: one that waits for a person is neither completed nor failed."""
    return [_entry(call) for call in run.calls.values() if call.over]


def _entry(call: Call) -> dict[str, Any]:
    return {
        "tool_name": call.name,
        "arguments": call.arguments,
        "result": f"Error: {call.error}" if call.failed else call.result,
        "status": "failed" if call.failed else "completed",
    }


def _error(message: str) -> bytes:
    return encode_value({"type": "error", "data": {"error": message}})


class _Texts:
    """The `text` frame made last, for all readers of one conversation by one name."""

    __slots__ = ("_conversation", "_frames", "_of", "_text")

    def __init__(self) -> None:
        self._of: Record | None = None
        self._text = ""
        self._conversation: str = ""
        self._frames: Sequence[Frame] = ()

    def __call__(self, record: Record, text: str, conversation: str) -> Sequence[Frame]:
        if record is not self._of or text != self._text or conversation != self._conversation:
            data = {"text": text, "conversation_id": conversation}
            self._frames = (Frame(encode_value({"type": "text", "data": data}), record.seq),)
            self._of, self._text, self._conversation = record, text, conversation
        return self._frames


_shared = _Texts()
