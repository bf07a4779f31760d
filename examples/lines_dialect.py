"""A dialect of one's own: JSON lines over a WebSocket. How to install it: docs/how-to/write-a-dialect.md."""

import json
from collections.abc import Mapping, Sequence

from runcast import events as e
from runcast.dialects.base import Ask, BadFrame, Frame, RecordEncoder, Start
from runcast.dialects.run_fold import RunFold, failure_of


class Lines:
    """Client: {"ask": text}. Server: {"say": piece}, {"tool": name, "with": {…}}, then {"end": "done"} or {"end": why}."""

    name = "lines"
    attach = "tail"  # a reader gets what comes after it asked
    joins = True  # pieces may come several at once
    sockets = ()  # no path of its own: the setting `dialects` says where it is spoken
    keeps_thread = True  # all messages of a connection are one conversation
    asks = keep_alive = None  # any number of messages; WebSocket pings keep it alive
    answers_refusals = whole_results = False
    loses = ("reasoning", "results of tools", "state", "artifacts", "sources")

    def __init__(self, options: Mapping[str, str]) -> None:
        if options:
            raise ValueError("it has no options")

    def decode(self, data: str | bytes) -> Ask | None:
        try:
            text = json.loads(data)["ask"]
        except (ValueError, KeyError, TypeError, RecursionError):
            text = None
        if not isinstance(text, str) or not text.strip():
            raise BadFrame('Send {"ask": "…"}.')
        return Ask(text)

    def encoder(self, start: Start) -> RecordEncoder:
        return LinesEncoder()

    def error(self, code: str, message: str, *, request_id: str) -> Sequence[Frame]:
        return (Frame(json.dumps({"error": message, "id": request_id}).encode()),)

    def on_close(self, deliberate: bool) -> str:
        return "nothing"


class LinesEncoder(RecordEncoder):
    def __init__(self) -> None:
        self._run = RunFold()

    def encode(self, record: e.Record) -> Sequence[Frame]:
        event = record.event
        if isinstance(event, e.RunStarted):
            self._run = RunFold()
        said: dict[str, object] = {"say": text} if (text := self._run.apply(event)) else {}
        if isinstance(event, e.ToolCallEnd):
            call = self._run.call(event.tool_call_id)
            said = {"tool": call.name, "with": call.arguments}
        elif isinstance(event, e.TERMINAL):
            said = {"end": why[1] if (why := failure_of(event)) else "done"}
        return [Frame(json.dumps(said).encode(), record.seq, ends="end" in said)] if said else []
