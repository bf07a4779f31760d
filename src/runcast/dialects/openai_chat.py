"""The `openai-chat` dialect: a run as a chat completion, streamed or whole (OpenAI API, "Chat Completions").

    {"id":"chatcmpl-…","object":"chat.completion.chunk","created":…,"model":agent,"choices":[{"index":0,"delta":{…},"finish_reason":null}]}

The transport writes each as one `data:`, and `[DONE]` behind the last. A client sees the text, the thoughts
(`delta.reasoning_content`, an extra that clients pass on), and the calls that are left to it, whole, in the end: a call that the
model took back meanwhile would be carried out otherwise. Calls of the agent's own tools are not told, since a client that sees
a call owes its result. Sources with an address are annotations, all in one piece at the end. A question to a person is said as text; nobody can answer it here. What was retracted cannot be taken
back from a stream; a whole completion is without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import UNSET

from runcast import events as e
from runcast.dialects.base import Attach, Frame, RecordEncoder, Start
from runcast.dialects.openai_ids import COMPLETION, RATE_LIMITED, Cost, call_name, cost_of, created_of, failing_request
from runcast.dialects.openai_items import citation_of
from runcast.dialects.run_fold import BETWEEN, RunFold, failure_of, grow, joined, questions_of
from runcast.events import Record
from runcast.events import encode_value as to_bytes

USAGE = "include_usage"
"""Option of the stream: `true` adds a chunk with the token counts."""


class OpenAiChat:
    name: str = "openai-chat"
    attach: Attach = "replay"
    joins: bool = True
    loses: tuple[str, ...] = (
        "the agent's own tools", "answering a question", "that it was stopped", "state", "artifacts", "steps", "subagents",
    )  # fmt: skip

    def encoder(self, start: Start) -> ChatEncoder:
        return ChatEncoder(usage=start.options.get(USAGE) == "true")

    def error(self, code: str, message: str, *, request_id: str) -> Sequence[Frame]:
        del request_id
        return (Frame(to_bytes(error_body(code, message))),)

    def completion(self, records: Sequence[Record]) -> bytes:
        """The JSON of a whole run that did not fail."""
        encoder = ChatEncoder(usage=False)
        for record in records:
            encoder.encode(record)
        return to_bytes(encoder.completion())


def error_body(code: str, message: str, request: str | None = None) -> dict[str, Any]:
    """How OpenAI says that a run failed; `request_id` is ours, where the server's log says more."""
    kind = "rate_limit_error" if code in RATE_LIMITED else "server_error"
    error = {"message": message, "type": kind, "code": code, "param": None}
    return {"error": error if request is None else {**error, "request_id": request}}


class _SharedPiece:
    """The frame of the piece of text that was encoded last: readers of one run ask one after the other. Held with the record
    and with what stands before the text, so that it is taken for nothing else."""

    def __init__(self) -> None:
        self._of: Record | None = None
        self._head = b""
        self._frames: Sequence[Frame] = ()

    def __call__(self, record: Record, head: bytes, text: str) -> Sequence[Frame]:
        if record is not self._of or (head is not self._head and head != self._head):
            data = b'%b%b},"logprobs":null,"finish_reason":null}]}' % (head, to_bytes(text))
            self._of, self._head, self._frames = record, head, (Frame(data, record.seq),)
        return self._frames


_shared = _SharedPiece()


class ChatEncoder(RecordEncoder):
    """`left`: the calls that the run left to the client, once it has ended."""

    def __init__(self, *, usage: bool) -> None:
        self._usage = usage
        self._begin(RunFold(), "", 0, "")

    def _begin(self, run: RunFold, id: str, created: int, model: str) -> None:
        self._run = run
        self._head: dict[str, Any] = {
            "id": COMPLETION + id,
            "object": "chat.completion.chunk",
            "created": created,
            "model": model,
        }
        opening = to_bytes({**self._head, "choices": 0}).removesuffix(b"0}") + b'[{"index":0,"delta":{'
        self._text_head = opening + b'"content":'
        self._thought_head = opening + b'"reasoning_content":'
        self._thoughts: dict[str, list[str]] = {}
        self._names: dict[str, str] = {}
        self._args: dict[str, str] = {}
        self._cited: list[tuple[dict[str, Any], int]] = []
        self._asked = ""
        self._finish = "stop"
        self._cost = Cost()
        self.left: list[dict[str, Any]] = []

    def encode(self, record: Record) -> Sequence[Frame]:
        event = record.event
        if isinstance(event, e.TextMessageContent):
            text = self._run.apply(event)
            return _shared(record, self._text_head, text) if text else ()
        if isinstance(event, e.ReasoningMessageContent):
            text = grow(self._thoughts, event.message_id, event.delta)
            return _shared(record, self._thought_head, text) if text else ()
        if isinstance(event, e.RunStarted):
            run = event.run_id if event.run_id is not UNSET else ""
            self._begin(RunFold(), run, created_of(event), event.agent if event.agent is not UNSET else "")
            self._run.apply(event)
            return self._frames(record, [self._chunk({"role": "assistant", "content": ""})])
        if isinstance(event, e.RunQueued):
            self._begin(RunFold(), event.run_id if event.run_id is not UNSET else "", created_of(event), event.agent)
            return ()
        if isinstance(event, e.TERMINAL):
            return self._end(record)
        self._run.apply(event)
        match event:
            case e.ToolCallStart():
                self._names[event.tool_call_id] = event.tool_call_name
            case e.ToolCallEnd():
                self._args[event.tool_call_id] = event.args if event.args is not UNSET else "{}"
            case e.ReasoningMessageStart() if event.subagent_run_id is UNSET:
                self._thoughts.setdefault(event.message_id, [])
            case e.MessageRetracted() if event.message_ids is not UNSET:
                for id in event.message_ids:
                    self._thoughts.pop(id, None)
            case e.Source() if event.subagent_run_id is UNSET and (citation := citation_of(event)) is not None:
                self._cited.append((citation, len(self._run.text)))
            case e.RunRestarted() if event.anew is True:
                self._thoughts.clear()
                self._cited.clear()
            case _:
                pass
        return ()

    def _end(self, record: Record) -> Sequence[Frame]:
        event = record.event
        self._cost = cost_of(event)
        failure = failure_of(event)
        if failure is not None and failure[0] != "cancelled":
            return self._frames(record, [error_body(*failure, failing_request(event))], ends=True)
        chunks: list[dict[str, Any]] = []
        if questions := "\n".join(questions_of(event)):
            self._asked = f"{BETWEEN}{questions}" if self._run.text else questions
            chunks.append(self._chunk({"content": self._asked}))
        if annotations := self._annotations():
            chunks.append(self._chunk({"annotations": annotations}))
        self.left = self._left(event)
        if self.left:
            self._finish = "tool_calls"
            chunks.append(self._chunk({"tool_calls": [{"index": at, **one} for at, one in enumerate(self.left)]}))
        chunks.append(self._chunk({}, finish=self._finish))
        if self._usage:
            chunks.append({**self._head, "choices": [], "usage": self._cost.of_completion()})
        return self._frames(record, chunks, ends=True)

    def _annotations(self) -> list[dict[str, Any]]:
        """The sources, each where the text stood; what was taken back meanwhile has left no place."""
        end = len(self._run.text)
        return [
            {
                "type": "url_citation",
                "url_citation": {
                    "url": one["url"],
                    "title": one["title"],
                    "start_index": min(at, end),
                    "end_index": min(at, end),
                },
            }
            for one, at in self._cited
        ]

    def _left(self, event: e.Event) -> list[dict[str, Any]]:
        """The calls that the run leaves to the client."""
        if not isinstance(event, e.RunFinished) or event.outcome is UNSET:
            return []
        pending = event.outcome.pending_tool_call_ids
        run = event.run_id if event.run_id is not UNSET else ""
        return [
            {
                "id": call_name(run, id),
                "type": "function",
                "function": {"name": self._names[id], "arguments": self._args.get(id, "{}")},
            }
            for id in (() if pending is UNSET else pending)
            if id in self._names
        ]

    def _chunk(self, delta: dict[str, Any], *, finish: str | None = None) -> dict[str, Any]:
        return {
            **self._head,
            "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}],
        }

    def _frames(self, record: Record, chunks: Sequence[dict[str, Any]], *, ends: bool = False) -> Sequence[Frame]:
        last = len(chunks) - 1
        return [
            Frame(to_bytes(chunk), record.seq, k, k == last, ends=ends and k == last) for k, chunk in enumerate(chunks)
        ]

    def completion(self) -> dict[str, Any]:
        """The run as one object, when it has ended."""
        text = self._run.text + self._asked
        thoughts = joined(self._thoughts)
        message: dict[str, Any] = {"role": "assistant", "content": text if text or not self.left else None}
        message["refusal"] = None
        if thoughts:
            message["reasoning_content"] = thoughts
        if annotations := self._annotations():
            message["annotations"] = annotations
        if self.left:
            message["tool_calls"] = self.left
        return {
            **self._head,
            "object": "chat.completion",
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": self._finish}],
            "usage": self._cost.of_completion(),
        }
