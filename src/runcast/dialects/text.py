"""The `text` dialect: plain text in, plain text out, and a marker at the end.

    client   the prompt
    server   the chunks of the answer as they come, then exactly one of
             [DONE]            it is complete
             [ERROR] message   it is not

Never a ping frame, never an empty frame. A chunk that would be taken for a marker is sent in two pieces.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

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
from runcast.dialects.run_fold import BETWEEN, RunFold, failure_of, questions_of
from runcast.dialects.shared_frames import SharedFrames, numbered
from runcast.events import Record

DONE: Final = "[DONE]"
ERROR: Final = "[ERROR] "
EMPTY: Final = "Empty message"


class Text:
    """Options: `end`, the marker of a complete answer (default `[DONE]`).

    Raises:
        ValueError: an unknown option, or a marker that is empty or could be an error.
    """

    name: str = "text"
    attach: Attach = "tail"
    joins: bool = True
    sockets: tuple[str, ...] = ("/ws/agent", "/ws", "/ws/robust", "/ws/secure")
    keeps_thread: bool = True
    asks: int | None = None
    keep_alive: KeepAlive | None = None
    answers_refusals: bool = False
    loses: tuple[str, ...] = ("reasoning", "tools", "state", "artifacts", "sources", "ids", "answering a question")
    whole_results: bool = False

    def __init__(self, options: Options = NO_OPTIONS) -> None:
        only_options(options, "end")
        self._end = options.get("end", DONE)
        if len(self._end) < 2 or self._end.startswith(ERROR.rstrip()):
            raise ValueError("the marker `end` has at least two characters, and is none of an error")
        self._shared = SharedFrames(self._frames)

    def decode(self, data: str | bytes) -> Ask:
        if isinstance(data, bytes):
            raise BadFrame("Binary messages are not understood; send text.")
        if not data.strip():
            raise BadFrame(EMPTY)
        return Ask(data)

    def encoder(self, start: Start) -> TextEncoder:
        return TextEncoder(self)

    def error(self, code: str, message: str, *, request_id: str) -> Sequence[Frame]:
        return (Frame(_encoded(ERROR + message)),)

    def on_close(self, deliberate: bool) -> OnClose:
        return "nothing"

    def pushed(self, text: str) -> Sequence[Frame]:
        return [Frame(_encoded(chunk)) for chunk in self.chunks(text)]

    def said(self, record: Record, chunk: str) -> Sequence[Frame]:
        """The frames of a chunk, made once for all readers."""
        return self._shared(record, chunk)

    def ended(self, text: str, seq: int) -> Sequence[Frame]:
        """`text`, which may be empty, and the marker of a complete answer."""
        return numbered([*map(_encoded, self.chunks(text)), _encoded(self._end)], seq, ends=True)

    def chunks(self, text: str) -> list[str]:
        """`text` in frames of which none is a marker."""
        if not text:
            return []
        if text == self._end or text.startswith(ERROR.rstrip()):
            return [text[:1], text[1:]]
        return [text]

    def _frames(self, chunk: str, seq: int) -> Sequence[Frame]:
        return numbered([*map(_encoded, self.chunks(chunk))], seq)


class TextEncoder(RecordEncoder):
    def __init__(self, dialect: Text) -> None:
        self._dialect = dialect
        self._run = RunFold()

    def encode(self, record: Record) -> Sequence[Frame]:
        event, seq = record.event, record.seq
        if isinstance(event, e.RunStarted):
            self._run = RunFold()
        chunk = self._run.apply(event)
        if chunk:
            return self._dialect.said(record, chunk)
        if not isinstance(event, e.TERMINAL):
            return ()
        if (failure := failure_of(event)) is not None:
            return numbered([_encoded(ERROR + failure[1])], seq, ends=True)
        questions = "\n".join(questions_of(event))
        return self._dialect.ended(BETWEEN + questions if questions and self._run.text else questions, seq)


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "replace")
