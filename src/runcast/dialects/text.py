"""The `text` dialect: plain text in, plain text out, and a marker at the end.

    client   the prompt
    server   the chunks of the answer as they come, then exactly one of
             [DONE]            it is complete
             [ERROR] message   it is not

Never a ping frame, never an empty frame. A chunk that would equal a marker is sent in two pieces.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from runcast import events as e
from runcast.dialects.base import Ask, Attach, BadFrame, Frame, KeepAlive, OnClose, Options, RecordEncoder, Start
from runcast.dialects.run_fold import RunFold, failure_of, questions_of
from runcast.events import Record

DONE: Final = "[DONE]"
ERROR: Final = "[ERROR] "
EMPTY: Final = "Empty message"


class Text:
    """Options: `end`, the marker of a complete answer (default `[DONE]`)."""

    name: str = "text"
    attach: Attach = "tail"
    joins: bool = True
    sockets: tuple[str, ...] = ("/ws/agent", "/ws", "/ws/robust", "/ws/secure")
    keeps_thread: bool = True
    asks: int | None = None
    keep_alive: KeepAlive | None = None
    answers_refusals: bool = False

    def __init__(self, options: Options | None = None) -> None:
        self._end = (options or {}).get("end", DONE)

    def decode(self, data: str | bytes) -> Ask:
        if isinstance(data, bytes):
            raise BadFrame("Binary messages are not understood; send text.")
        if not data.strip():
            raise BadFrame(EMPTY)
        return Ask(data)

    def encoder(self, start: Start) -> TextEncoder:
        return TextEncoder(self._end)

    def error(self, code: str, message: str, *, request_id: str) -> Sequence[Frame]:
        return (Frame((ERROR + message).encode()),)

    def on_close(self, deliberate: bool) -> OnClose:
        return "nothing"


class TextEncoder(RecordEncoder):
    def __init__(self, end: str) -> None:
        self._end = end
        self._run = RunFold()

    def encode(self, record: Record) -> Sequence[Frame]:
        event, seq = record.event, record.seq
        if isinstance(event, e.RunStarted):
            self._run = RunFold()
        chunk = self._run.apply(event)
        if chunk:
            return frames_of(self._chunks(chunk), seq)
        if not isinstance(event, e.TERMINAL):
            return ()
        if (failure := failure_of(event)) is not None:
            return (Frame((ERROR + failure[1]).encode(), seq, ends=True),)
        questions = "\n".join(questions_of(event))
        if questions:
            questions = f"\n\n{questions}" if self._run.text else questions
        *chunks, end = [*self._chunks(questions), self._end]
        frames = [Frame(text.encode(), seq, k, last=False) for k, text in enumerate(chunks)]
        return [*frames, Frame(end.encode(), seq, len(frames), ends=True)]

    def _chunks(self, text: str) -> list[str]:
        if not text:
            return []
        if text == self._end or text.startswith(ERROR.rstrip()):
            return [text[:1], text[1:]]
        return [text]


def frames_of(texts: Sequence[str], seq: int) -> Sequence[Frame]:
    """The frames of one event."""
    last = len(texts) - 1
    return [Frame(text.encode("utf-8", "replace"), seq, k, k == last) for k, text in enumerate(texts)]
