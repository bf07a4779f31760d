"""The `thoughts` dialect: an agent that thinks aloud, in typed frames.

    client   the prompt, plain text
    server   {"type":"thinking"|"action"|"observation"|"answer","content":…} as it happens, then exactly one
             {"type":"done"}, after {"type":"error","message":…} as well

A program that prints a line for each frame reads well: a thought comes a line at a time, the answer in sentences. What is
being collected is sent at the end of its part, before any other frame, and once it has been collected for `LONGEST_MS` by
the log's own times; what was sent concatenates to the answer. `?deltas=true` gives each piece of the answer as it comes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

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
from runcast.dialects.messages import only_options
from runcast.dialects.run_fold import BETWEEN, Call, RunFold, failure_of, next_run, questions_of, readable
from runcast.dialects.shared_frames import SharedFrames, numbered
from runcast.events import Record, encode_value

EMPTY: Final = "Empty message"
DONE: Final = b'{"type":"done"}'
PING: Final = b'{"type":"ping"}'
SILENCE_S: Final = 60.0

NOTHING: Final = "Done."
"""What is observed of a tool that returned nothing and has no sentence for it."""

MOST_CHARACTERS: Final = 100_000
"""Of an action or observation: they are lines for people, and Python's `websockets` gives up a connection at a frame of more than
1 MiB, which so many characters never need (RFC 8259, section 7: six bytes each at most)."""

LONGEST_MS: Final = 1000
"""How long text is collected, by the log's own times."""


class Thoughts:
    """It has no options of its own; a client may ask for `?deltas=true`."""

    name: str = "thoughts"
    attach: Attach = "tail"
    joins: bool = True
    sockets: tuple[str, ...] = ("/ws/agent-thoughts",)
    keeps_thread: bool = True
    asks: int | None = None
    keep_alive: KeepAlive | None = KeepAlive(SILENCE_S, PING)
    answers_refusals: bool = False
    loses: tuple[str, ...] = (
        "results as values",
        "progress of tools",
        "state",
        "artifacts",
        "sources",
        "ids",
        "answering a question",
    )
    whole_results: bool = True

    def __init__(self, options: Options = NO_OPTIONS) -> None:
        only_options(options)

    def decode(self, data: str | bytes) -> Ask:
        if isinstance(data, bytes):
            raise BadFrame("Binary messages are not understood; send text.")
        if not data.strip():
            raise BadFrame(EMPTY)
        return Ask(data)

    def encoder(self, start: Start) -> ThoughtsEncoder:
        return ThoughtsEncoder(deltas=start.options.get("deltas") == "true")

    def error(self, code: str, message: str, *, request_id: str) -> Sequence[Frame]:
        return (Frame(_error(message)), Frame(DONE))

    def on_close(self, deliberate: bool) -> OnClose:
        return "nothing"

    def pushed(self, text: str) -> Sequence[Frame]:
        return (Frame(_said("answer", text)),)


class ThoughtsEncoder(RecordEncoder):
    def __init__(self, *, deltas: bool) -> None:
        self._deltas = deltas
        self._run = RunFold()
        self._thought = Thought()
        self._answer = Answer()

    def encode(self, record: Record) -> Sequence[Frame]:
        event = record.event
        if isinstance(event, e.RunStarted):
            self._run = next_run(self._run, event)
            self._thought, self._answer = Thought(), Answer()
        chunk = self._run.apply(event)
        if chunk:
            thoughts = self._thought.rest()
            texts = [chunk] if self._deltas else self._answer.add(chunk, event)
            if thoughts:
                return numbered([*_thinking(thoughts), *_answers(texts)], record.seq)
            return _shared(record, texts[0]) if texts else ()
        return numbered(self._other(event), record.seq, ends=isinstance(event, e.TERMINAL))

    def _other(self, event: e.Event) -> list[bytes]:
        match event:
            case e.ReasoningMessageContent() if event.subagent_run_id is UNSET:
                return [*_answers(self._answer.rest()), *_thinking(self._thought.add(event.delta, event))]
            case e.ReasoningMessageEnd() if event.subagent_run_id is UNSET:
                return _thinking(self._thought.rest())
            case e.TextMessageEnd() if event.subagent_run_id is UNSET:
                return _answers(self._answer.rest())
            case e.ToolCallEnd():
                return [*self._rest(), _said("action", _action(self._run.call(event.tool_call_id)))]
            case e.ToolCallResult():
                return [*self._rest(), _said("observation", _observation(self._run.call(event.tool_call_id)))]
            case e.RunFinished() | e.RunError() | e.RunDequeued():
                return [*self._rest(), *self._end(event), DONE]
            case _:
                return []

    def _rest(self) -> list[bytes]:
        """What was collected and not sent: at most one of the two has something."""
        return [*_thinking(self._thought.rest()), *_answers(self._answer.rest())]

    def _end(self, event: e.Event) -> list[bytes]:
        if (failure := failure_of(event)) is not None:
            return [_error(failure[1])]
        questions = "\n".join(questions_of(event))
        if not questions:
            return []
        return [_said("answer", BETWEEN + questions if self._run.text else questions)]


class Thought:
    """Collects thoughts and cuts them at line breaks. Spaces at both ends of a line and empty lines are left out."""

    def __init__(self) -> None:
        self._line = ""
        self._begun = False
        """Whether the beginning of the line was said."""
        self._since: int | None = None
        """When the last frame of this part was made; before the first one, when the part began."""

    def add(self, piece: str, event: e.Event) -> list[str]:
        """The thoughts that are to be said now."""
        *whole, self._line = _LINE_BREAK.split(self._line + piece)
        said: list[str] = []
        for line in whole:
            said += self._trimmed(line)
            self._begun = False
        now = _time_of(event)
        if self._since is not None and not said and now - self._since >= LONGEST_MS:
            said = self._trimmed(self._line)
            if said:
                self._line = self._line[len(self._line.rstrip()) :]  # spaces wait for what follows them
                self._begun = True
        if said or self._since is None:
            self._since = now
        return said

    def rest(self) -> list[str]:
        """The part is over, or something else is said."""
        said = self._trimmed(self._line)
        self._line, self._begun, self._since = "", False, None
        return said

    def _trimmed(self, line: str) -> list[str]:
        text = line.rstrip() if self._begun else line.strip()
        return [text] if text else []


class Answer:
    """Collects the answer's text and cuts it behind sentences and lines. Nothing of it is left out."""

    def __init__(self) -> None:
        self._text = ""
        self._since: int | None = None

    def add(self, piece: str, event: e.Event) -> list[str]:
        """The text that is to be said now."""
        now = _time_of(event)
        text = self._text + piece
        if self._since is None:
            self._since = now
        at = len(text) if now - self._since >= LONGEST_MS else _last_end(text, len(self._text))
        if not text[:at].strip():
            self._text = text
            return []
        self._text, self._since = text[at:], now
        return [text[:at]]

    def rest(self) -> list[str]:
        """Something else is said."""
        text, self._text, self._since = self._text, "", None
        return [text] if text else []


_LINE_BREAK: Final = re.compile(r"\r\n|[\n\r]")
_SENTENCE: Final = re.compile(r"[.!?…][\"'”’»)\]*_]*\s+|[。！？]|\n+")
_LOOK_BACK: Final = 8
"""Characters before a piece that may be the sentence's end which the piece's first space completes."""


def _last_end(text: str, before: int) -> int:
    """Behind the last sentence or line that ends in `text[before:]`; 0 if none does."""
    at = 0
    for found in _SENTENCE.finditer(text, max(0, before - _LOOK_BACK)):
        at = found.end()
    return at


def _time_of(event: e.Event) -> int:
    return event.timestamp if event.timestamp is not UNSET else 0


def _said(kind: str, text: str) -> bytes:
    return encode_value({"type": kind, "content": text})


def _error(message: str) -> bytes:
    return encode_value({"type": "error", "message": message})


def _thinking(texts: Sequence[str]) -> list[bytes]:
    return [_said("thinking", text) for text in texts]


def _answers(texts: Sequence[str]) -> list[bytes]:
    return [_said("answer", text) for text in texts]


def _action(call: Call) -> str:
    """`search(q="a", limit=3)`."""
    return _cut(f"{call.name}({', '.join([f'{_name(key)}={_json(value)}' for key, value in call.arguments.items()])})")


def _name(key: str) -> str:
    return key if key.isidentifier() else _json(key)


def _json(value: Any) -> str:
    return encode_value(value).decode()


def _observation(call: Call) -> str:
    if call.failed:
        return f"Error: {call.error}"
    said = "" if call.result is None else readable(call.result)
    return _cut(said or call.summary or NOTHING)


def _cut(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else text[: MOST_CHARACTERS - 1] + "…"


def _answer_frame(text: str, seq: int) -> Sequence[Frame]:
    return (Frame(_said("answer", text), seq),)


_shared = SharedFrames(_answer_frame)
