"""The `chat-stream` dialect: one request per connection, tool steps as they happen, the whole answer at the end.

    client   {"session_id", "message"}, and "deltas": true for the answer's text as it comes
    server   user_message · tool_start · tool_complete · text_delta (where asked for) · response, then exactly one of
             {"type":"done"}                     it is complete
             {"type":"error","message":…}        it is not

Its clients take a result of null for a tool that still works, and have no handler for a connection that closes: so a result
is never null, and no close comes without `done` or `error` before it. Closing by the client while the run goes on stops it.
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
    BadFrame,
    Frame,
    KeepAlive,
    OnClose,
    Options,
    RecordEncoder,
    Start,
)
from runcast.dialects.messages import conversation_field, fields_of, only_options, text_field
from runcast.dialects.run_fold import BETWEEN, Call, RunFold, failure_of, iso, next_run, questions_of
from runcast.dialects.shared_frames import SharedFrames, numbered
from runcast.events import Record, encode_value

EMPTY: Final = "Message is required"
DONE: Final = b'{"type":"done"}'
DELTAS: Final[Options] = {"deltas": "true"}


class ChatStream:
    """It has no options."""

    name: str = "chat-stream"
    attach: Attach = "tail"
    joins: bool = True
    sockets: tuple[str, ...] = ("/api/v1/chat/stream",)
    posts: Mapping[str, Literal["answer", "stream"]] = {"/api/v1/chat": "answer", "/api/v1/chat/sse": "stream"}
    keeps_thread: bool = False
    asks: int | None = 1
    keep_alive: KeepAlive | None = None
    answers_refusals: bool = True
    loses: tuple[str, ...] = (
        "reasoning",
        "progress of tools",
        "state",
        "artifacts",
        "sources",
        "ids of runs",
        "answering a question",
    )
    whole_results: bool = True

    def __init__(self, options: Options = NO_OPTIONS) -> None:
        only_options(options)

    def decode(self, data: str | bytes) -> Ask:
        fields = fields_of(data)
        message = text_field(fields, "message", empty=EMPTY)
        session = conversation_field(fields, "session_id")
        if session is None:
            raise BadFrame("session_id is required")
        return Ask(message, session, DELTAS if fields.get("deltas") is True else NO_OPTIONS)

    def encoder(self, start: Start) -> ChatStreamEncoder:
        return ChatStreamEncoder(deltas=start.options.get("deltas") == "true")

    def error(self, code: str, message: str, *, request_id: str) -> Sequence[Frame]:
        return (Frame(_error(message)),)

    def on_close(self, deliberate: bool) -> OnClose:
        return "cancel" if deliberate else "nothing"

    def answer(self, start: Start, records: Sequence[Record]) -> bytes:
        run = RunFold()
        for record in records:
            run.apply(record.event)
        event = records[-1].event
        return encode_value(
            {
                "session_id": start.conversation,
                "content": _content(run, event),
                "tool_calls": [_entry(call) for call in run.calls.values()],
                "timestamp": iso(event),
            }
        )


class ChatStreamEncoder(RecordEncoder):
    def __init__(self, *, deltas: bool) -> None:
        self._deltas = deltas
        self._run = RunFold()

    def encode(self, record: Record) -> Sequence[Frame]:
        event = record.event
        if isinstance(event, e.RunStarted):
            self._run = next_run(self._run, event)
        chunk = self._run.apply(event)
        if chunk:
            return _shared_deltas(record, chunk) if self._deltas else ()
        match event:
            case e.RunStarted() if self._run.asked:
                said = {"type": "user_message", "content": self._run.asked, "timestamp": iso(event)}
                return numbered([encode_value(said)], record.seq)
            case e.ToolCallEnd():
                return numbered([_tool_start(self._run.call(event.tool_call_id), event)], record.seq)
            case e.ToolCallResult():
                return numbered([_tool_complete(self._run.call(event.tool_call_id), event)], record.seq)
            case e.RunFinished() | e.RunError() | e.RunDequeued():
                return self._end(event, record.seq)
            case _:
                return ()

    def _end(self, event: e.Event, seq: int) -> Sequence[Frame]:
        if (failure := failure_of(event)) is not None:
            return numbered([_error(_sentence(event, failure[1]))], seq, ends=True)
        response = {
            "type": "response",
            "content": _content(self._run, event),
            "tool_calls": [_entry(call) for call in self._run.calls.values()],
            "timestamp": iso(event),
        }
        return numbered([encode_value(response), DONE], seq, ends=True)


def _content(run: RunFold, event: e.Event) -> str:
    """The answer, and what the run asks a person where it ended waiting for one."""
    return BETWEEN.join([text for text in (run.text, "\n".join(questions_of(event))) if text])


def _sentence(event: e.Event, message: str) -> str:
    if isinstance(event, e.RunError) and event.code == "timeout" and event.limit_s is not UNSET:
        return f"Request timeout ({event.limit_s:g}s)"
    return message


def _error(message: str) -> bytes:
    return encode_value({"type": "error", "message": message})


def _delta(text: str, seq: int) -> Sequence[Frame]:
    return (Frame(encode_value({"type": "text_delta", "content": text}), seq),)


_shared_deltas = SharedFrames(_delta)


def _tool_start(call: Call, event: e.Event) -> bytes:
    return encode_value(
        {
            "type": "tool_start",
            "tool_id": call.id,
            "tool_name": call.name,
            "arguments": call.arguments,
            "timestamp": iso(event),
        }
    )


def _tool_complete(call: Call, event: e.Event) -> bytes:
    fields = {
        "type": "tool_complete",
        "tool_id": call.id,
        "tool_name": call.name,
        "result": _result(call),
        "timestamp": iso(event),
    }
    return encode_value(fields | _failure(call))


def _entry(call: Call) -> dict[str, Any]:
    """A call as the answer lists it."""
    fields = {"tool_id": call.id, "name": call.name, "arguments": call.arguments, "result": _result(call)}
    return fields | _failure(call)


def _result(call: Call) -> Any:
    """Never null."""
    if call.failed:
        return {"error": call.error}
    if not call.over:
        return {"pending": True}
    return {"result": None} if call.result is None else call.result


def _failure(call: Call) -> dict[str, Any]:
    return {"error": call.error} if call.failed else {}
