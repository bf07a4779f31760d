"""The `partials` dialect: the whole text so far again and again, and an answer with a diagram at the end.

    client   {"content"}
    server   user (first) · agent_partial (the WHOLE text so far) · tool (one for each call, when it ends), then exactly one of
             {"type":"agent","content","diagram","canvas_trigger","metrics","timestamp"}
             {"type":"error","content","timestamp"}

Sent naively this is quadratic. Here a partial supersedes the one before, and after `EVERY` characters one comes only when the
text has grown by a twelfth or a second has passed, by the log's own times: so a text of 20 000 characters costs less than 30
times itself, unless it comes more slowly than some 370 characters a second; then it costs one partial a second. What is still
unsaid is said before every other frame, so that `agent.content` is that of the last partial.

The client takes a `tool` for the end of what it shows: so the partial is said again behind it, also an empty one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, cast

from msgspec import UNSET

from runcast import events as e
from runcast.dialects.base import NO_OPTIONS, Ask, Attach, Frame, KeepAlive, OnClose, Options, RecordEncoder, Start
from runcast.dialects.diagrams import mermaid_of
from runcast.dialects.messages import fields_of, only_options, text_field
from runcast.dialects.run_fold import BETWEEN, Call, RunFold, failure_of, iso, next_run, questions_of, readable
from runcast.events import Record, encode_value

EMPTY: Final = "Empty message"
EVERY: Final = 400
"""Up to so many characters there is a partial for each delta."""
GROWTH: Final = 12
"""Beyond, one when the text has grown by this part of itself …"""
LONGEST_MS: Final = 1000
"""… or so long after the one before."""
TOOL_CHARACTERS: Final = 2000
NOTHING: Final = "Done."
"""What a tool that returned nothing and has no sentence for it has done."""

ACTIONS: Final = ("switch_view", "new_analysis", "none")
VIEWS: Final = ("er_diagram", "table_list", "relationship_graph")
COUNTS: Final = ("total_tables", "total_columns", "facts_count", "dimensions_count")


class Partials:
    """It has no options."""

    name: str = "partials"
    attach: Attach = "snapshot"
    joins: bool = True
    loses: tuple[str, ...] = (
        "reasoning",
        "arguments of tools",
        "progress of tools",
        "state",
        "sources",
        "ids",
        "answering a question",
    )
    sockets: tuple[str, ...] = ("/ws/{session_id}",)
    keeps_thread: bool = True
    asks: int | None = None
    keep_alive: KeepAlive | None = None
    answers_refusals: bool = False
    whole_results: bool = False
    rejoins: Literal["conversation", "browser"] = "conversation"

    def __init__(self, options: Options = NO_OPTIONS) -> None:
        only_options(options)

    def decode(self, data: str | bytes) -> Ask:
        return Ask(text_field(fields_of(data), "content", empty=EMPTY))

    def encoder(self, start: Start) -> PartialsEncoder:
        return PartialsEncoder()

    def error(self, code: str, message: str, *, request_id: str) -> Sequence[Frame]:
        return (Frame(encode_value({"type": "error", "content": message})),)

    def on_close(self, deliberate: bool) -> OnClose:
        return "nothing"


class PartialsEncoder(RecordEncoder):
    def __init__(self) -> None:
        self._run = RunFold()
        self._going = False
        self._said = ""
        """The last partial."""
        self._length = 0
        """Of the text, as far as it was told in pieces."""
        self._next_length = 0
        self._said_at = 0

    def encode(self, record: Record) -> Sequence[Frame]:
        event, seq = record.event, record.seq
        if isinstance(event, e.RunStarted):
            self._run = next_run(self._run, event)
            self._going, self._said, self._length, self._next_length = True, "", 0, 0
        chunk = self._run.apply(event)
        if chunk:
            self._length += len(chunk)
            at = _ms(event)
            if self._length > EVERY and self._length < self._next_length and at - self._said_at < LONGEST_MS:
                return ()
            self._said_at = at
            self._next_length = self._length + self._length // GROWTH
            return self._partial(record)
        match event:
            case e.TextMessageEnd() if event.subagent_run_id is UNSET:
                return self._rest(seq)
            case e.MessageRetracted() | e.RunRestarted():
                self._length = len(self._run.text)
                self._next_length = 0
                return ()
            case e.RunStarted() if self._run.asked:
                return (Frame(encode_value({"type": "user", "content": self._run.asked}), seq),)
            case e.ToolCallResult():
                return self._tool(self._run.call(event.tool_call_id), seq)
            case e.RunDequeued() if (failure := failure_of(event)) is not None:
                # Another run may go on meanwhile, and nothing of it is said here.
                return (Frame(_error(event, failure[1]), seq, ends=True),)
            case e.RunFinished() | e.RunError():
                self._going = False
                return self._end(event, seq)
            case _:
                return ()

    def missed(self, frames: Sequence[Frame]) -> Sequence[Frame]:
        """Tools and ends: a partial is said as it stands, and what the person said is on their screen."""
        return [frame for frame in frames if frame.ends or frame.data.startswith(_TOOL)]

    def standing(self) -> Sequence[Frame]:
        if not self._going:
            return ()
        self._said = self._run.text
        return (Frame(_partial(self._said), supersedes=True),)

    def _partial(self, record: Record) -> Sequence[Frame]:
        self._said = self._run.text
        return _shared(record, self._said)

    def _rest(self, seq: int, *, text: str | None = None) -> list[Frame]:
        """What was not said yet, or `text` in its place."""
        text = self._run.text if text is None else text
        if text == self._said:
            return []
        self._said = text
        return [Frame(_partial(text), seq, supersedes=True)]

    def _tool(self, call: Call, seq: int) -> Sequence[Frame]:
        before = self._rest(seq)
        data = encode_value({"type": "tool", "content": _readable(call), "tool_name": call.name})
        return _numbered([*before, Frame(data, seq), Frame(_partial(self._said), seq)])

    def _end(self, event: e.Event, seq: int) -> Sequence[Frame]:
        if (failure := failure_of(event)) is not None:
            return _numbered([*self._rest(seq), Frame(_error(event, failure[1]), seq, ends=True)])
        content = BETWEEN.join([text for text in (self._run.text, "\n".join(questions_of(event))) if text])
        artifacts = self._run.artifacts
        end = {
            "type": "agent",
            "content": content,
            "diagram": diagram_of(artifacts.get("diagram")),
            "canvas_trigger": canvas_trigger_of(artifacts.get("canvas_trigger")),
            "metrics": metrics_of(artifacts.get("metrics")),
            "timestamp": iso(event),
        }
        return _numbered([*self._rest(seq, text=content), Frame(encode_value(end), seq, ends=True)])


_TOOL: Final = b'{"type":"tool",'


def _ms(event: e.Event) -> int:
    return event.timestamp if event.timestamp is not UNSET else 0


def _numbered(frames: Sequence[Frame]) -> Sequence[Frame]:
    last = len(frames) - 1
    return [frame._replace(k=k, last=k == last) for k, frame in enumerate(frames)]


def _partial(text: str) -> bytes:
    return encode_value({"type": "agent_partial", "content": text})


class _Shared:
    """The partial made last, for all readers of one conversation."""

    __slots__ = ("_frames", "_of", "_text")

    def __init__(self) -> None:
        self._of: Record | None = None
        self._text = ""
        self._frames: Sequence[Frame] = ()

    def __call__(self, record: Record, text: str) -> Sequence[Frame]:
        if record is not self._of or text != self._text:
            self._frames = (Frame(_partial(text), record.seq, supersedes=True),)
            self._of, self._text = record, text
        return self._frames


_shared = _Shared()


def _readable(call: Call) -> str:
    if call.failed:
        text = f"Error: {call.error}"
    else:
        text = ("" if call.result is None else readable(call.result)) or call.summary or NOTHING
    return text if len(text) <= TOOL_CHARACTERS else text[: TOOL_CHARACTERS - 1] + "…"


def _error(event: e.Event, sentence: str) -> bytes:
    content = f"Agent error: {sentence}"
    if isinstance(event, e.RunError) and event.code == "timeout" and event.limit_s is not UNSET:
        content = f"Request timeout ({event.limit_s:g}s). Please try a simpler query."
    return encode_value({"type": "error", "content": content, "timestamp": iso(event)})


# --- what an agent attaches ---------------------------------------------------------------------------------------


def diagram_of(content: Any) -> str | None:
    return mermaid_of(content) if isinstance(content, str) else None


def canvas_trigger_of(content: Any) -> dict[str, Any] | None:
    """None if it is no such object. The client switches only where there is a confidence: so `switch_view` has one."""
    fields = _object(content)
    if fields is None or fields.get("action") not in ACTIONS:
        return None
    trigger: dict[str, Any] = {"action": fields["action"]}
    if fields.get("view_type") in VIEWS:
        trigger["view_type"] = fields["view_type"]
    for name in ("entity_name", "query"):
        if isinstance(fields.get(name), str):
            trigger[name] = fields[name]
    reason = fields.get("reason")
    trigger["reason"] = reason if isinstance(reason, str) else ""
    if _is_number(fields.get("confidence")):
        trigger["confidence"] = min(1, max(0, fields["confidence"]))
    elif trigger["action"] == "switch_view":
        trigger["confidence"] = 1.0
    return trigger


def metrics_of(content: Any) -> dict[str, Any] | None:
    """None unless all four counts are there."""
    fields = _object(content)
    if fields is None or not all(_is_number(fields.get(name)) for name in COUNTS):
        return None
    metrics = {name: fields[name] for name in COUNTS}
    for name in ("quality_score", "relationships_count"):
        if _is_number(fields.get(name)):
            metrics[name] = fields[name]
    for name in ("schema_name", "as_of"):
        if isinstance(fields.get(name), str):
            metrics[name] = fields[name]
    if isinstance(fields.get("is_stale"), bool):
        metrics["is_stale"] = fields["is_stale"]
    return metrics


def _object(content: Any) -> Mapping[str, Any] | None:
    return cast("Mapping[str, Any]", content) if isinstance(content, dict) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
