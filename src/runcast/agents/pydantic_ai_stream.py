"""pydantic-ai's stream of events, as ours: one object per run, one method per kind of event.

What pydantic-ai does, as observed with 2.68: the first piece of a part lies inside its PartStartEvent; `index` restarts with
every model response, and a second start with an open index replaces the part; arguments come as text or as a dict; a
FinalResultEvent follows at once on the start of the call that is the output; on an error parts are left open.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from msgspec import UNSET
from pydantic_ai.messages import (
    AgentStreamEvent,
    BinaryContent,
    CustomEvent,
    FilePart,
    FinalResultEvent,
    FunctionToolCallEvent,
    FunctionToolResultEvent,
    NativeToolCallPart,
    NativeToolReturnPart,
    OutputToolResultEvent,
    PartDeltaEvent,
    PartEndEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ThinkingPart,
    ThinkingPartDelta,
    ToolCallPart,
    ToolCallPartDelta,
    ToolReturnPart,
)

from runcast import events as e
from runcast.agents.context import json_text
from runcast.agents.field import TextField
from runcast.agents.sheltered import OnCancel, check_on_cancel
from runcast.events import Event
from runcast.ids import IdSource
from runcast.jsonvalue import to_json

logger = logging.getLogger("runcast.agents")

MAX_INLINE_BYTES = 150_000
"""A file of the model larger than this is announced without its bytes: events stay under 256 KiB."""


@dataclass(frozen=True, kw_only=True)
class ToolText:
    """A tool's sentences for people: text, or a function that makes it of the arguments (`title`), or of the arguments and the
    result as JSON (`summary`). In text `{name}` is an argument; in `summary` also a field of the result, `{n}` its length.

    A sentence that cannot be made (a place without a value, a function that fails or gives no text) is not told. A title
    with arguments is told as progress once they are complete, one without when the call begins.
    """

    title: str | Callable[[Mapping[str, Any]], str | None] | None = None
    summary: str | Callable[[Mapping[str, Any], Any], str | None] | None = None
    idempotent: bool = False
    """Running it twice does no more than running it once: after a crash it may be run again."""
    on_cancel: OnCancel = "cooperative"
    """What Stop does to it, for at most 10 s: `cooperative` cancels it where it awaits, `finish` lets it end and records its
    result before the run ends, `detach` ends the run at once and lets it go on without it."""

    def __post_init__(self) -> None:
        check_on_cancel(self.on_cancel)


@dataclass(kw_only=True)
class ToolProgress(CustomEvent, name="runcast.tool_progress"):
    """How far a tool is: `await ctx.emit(ToolProgress(progress=3, total=10, message="Found 3"))`."""

    progress: float | None = None
    total: float | None = None
    message: str | None = None
    details: Any = None
    """Anything more, as JSON; becomes the event's `data` (a name that pydantic-ai keeps for itself)."""


@dataclass(kw_only=True)
class Artifact(CustomEvent, name="runcast.artifact"):
    """A thing to show beside the text, from a tool: `await ctx.emit(Artifact(kind="diagram", content="graph TD…"))`."""

    kind: str
    content: Any
    title: str | None = None
    id: str | None = None
    mime_type: str | None = None


@dataclass
class _Open:
    """A part of the model's answer that has begun."""

    kind: Literal["text", "thinking", "call", "output", "other"]
    id: str
    started: bool = False
    whole: bool = False
    """Its arguments are an object that grows, not text: they are told when they are complete."""
    field: TextField | None = None


class Stream:
    """`events(e)` for each event of the run, in order. `resumed`: calls that an earlier run has shown already; `returned`: those
    of them whose results are shown too."""

    def __init__(
        self,
        *,
        new_id: IdSource,
        resumed: frozenset[str] = frozenset(),
        returned: frozenset[str] = frozenset(),
        text_field: str | None = None,
        structured: Literal["no", "tool", "text"] = "no",
        sentences: Callable[[str], ToolText] = lambda name: ToolText(),
    ) -> None:
        self.arguments: dict[str, Any] = {}
        """Arguments by call, as JSON."""
        self.texts: list[str] = []
        """Ids of the texts and thoughts that were shown."""
        self.calls: list[str] = []
        """The same of calls, in order; an id that the model uses again comes again."""
        self.running: dict[str, str] = {}
        """Calls whose tool works, or is about to, by id: the tool's name."""
        self._new_id = new_id
        self._resumed = resumed
        self._told = set(returned)
        self._text_field = text_field
        self._structured = structured
        self._sentences = sentences
        self._open: dict[int, _Open] = {}
        self._shown: set[str] = set(resumed)
        self._held: PartStartEvent | None = None
        self._outputs: dict[str, str] = {}
        """Output calls: id → the message in which their text was shown."""

    def events(self, event: AgentStreamEvent) -> list[Event]:
        if self._held is not None:
            held, self._held = self._held, None
            call = cast(ToolCallPart, held.part)
            output = isinstance(event, FinalResultEvent) and event.tool_call_id == call.tool_call_id
            return [*self._start(held, output=output), *self.events(event)]
        match event:
            case PartStartEvent(part=ToolCallPart()) if self._structured == "tool":
                self._held = event  # the next event tells whether it is a call or the answer
                return []
            case PartStartEvent():
                return self._start(event, output=False)
            case PartDeltaEvent():
                return self._delta(event)
            case PartEndEvent():
                return self._end(event)
            case FunctionToolCallEvent(part=part) if part.tool_call_id in self._told:
                return []
            case FunctionToolCallEvent():
                return self._running(event.part)
            case FunctionToolResultEvent(part=part) if part.tool_call_id in self._told:
                self._told.discard(part.tool_call_id)  # the model may use the id again
                return []
            case FunctionToolResultEvent():
                return self._returned(event.part)
            case OutputToolResultEvent():
                return self._output_returned(event.part)
            case CustomEvent():
                return self._custom(event)
            case _:
                return []

    # --- the model's answer ---------------------------------------------------------------------------------------

    def _start(self, event: PartStartEvent, *, output: bool) -> list[Event]:
        part = event.part
        events: list[Event] = []
        if (replaced := self._open.pop(event.index, None)) is not None:
            events += self._retract(replaced)
        match part:
            case TextPart():
                field = TextField(self._text_field) if self._structured == "text" and self._text_field else None
                piece = self._open[event.index] = _Open("text", self._new_id(), field=field)
                if self._structured == "text" and field is None:
                    piece.kind = "other"
                events += self._text(piece, part.content)
            case ThinkingPart():
                piece = self._open[event.index] = _Open("thinking", self._new_id())
                events += self._thinking(piece, part.content)
            case ToolCallPart() if output:
                field = TextField(self._text_field) if self._text_field else None
                piece = self._open[event.index] = _Open("output", self._new_id(), field=field)
                self._outputs[part.tool_call_id] = piece.id
                events += self._output_args(piece, part.args)
            case ToolCallPart() | NativeToolCallPart():
                piece = self._open[event.index] = _Open("call", part.tool_call_id)
                events += self._call(part.tool_call_id, part.tool_name)
                events += self._args(piece, part.args)
            case NativeToolReturnPart():
                self._open[event.index] = _Open("other", part.tool_call_id)
                events += self._returned(part)
            case FilePart():
                self._open[event.index] = _Open("other", "")
                events += self._file(part.content)
            case _:
                self._open[event.index] = _Open("other", "")
        return events

    def _delta(self, event: PartDeltaEvent) -> list[Event]:
        piece = self._open.get(event.index)
        if piece is None:
            return []
        match event.delta:
            case TextPartDelta(content_delta=text):
                return self._text(piece, text)
            case ThinkingPartDelta(content_delta=text):
                return self._thinking(piece, text or "")
            case ToolCallPartDelta(args_delta=args):
                return self._output_args(piece, args) if piece.kind == "output" else self._args(piece, args)
            case _:
                return []

    def _end(self, event: PartEndEvent) -> list[Event]:
        piece = self._open.pop(event.index, None)
        if piece is None:
            return []
        match event.part:
            case ThinkingPart(signature=signature) if piece.started:
                hidden: list[Event] = (
                    [e.ReasoningEncryptedValue(subtype="message", entity_id=piece.id, encrypted_value=signature)]
                    if signature
                    else []
                )
                return [e.ReasoningMessageEnd(message_id=piece.id), *hidden, e.ReasoningEnd(message_id=piece.id)]
            case (ToolCallPart() | NativeToolCallPart()) as part if piece.kind == "call":
                return self._args_end(piece, part)
            case ToolCallPart(args=args) if piece.kind == "output":
                return [*(self._whole_output(piece, args) if piece.whole else []), *self._text_end(piece)]
            case _:
                return self._text_end(piece)

    def _text(self, piece: _Open, delta: str) -> list[Event]:
        if piece.kind != "text":
            return []
        return self._say(piece, piece.field.feed(delta) if piece.field is not None else delta)

    def _say(self, piece: _Open, delta: str) -> list[Event]:
        if not delta:
            return []
        start: list[Event] = [] if piece.started else [e.TextMessageStart(message_id=piece.id)]
        if not piece.started:
            self.texts.append(piece.id)
        piece.started = True
        return [*start, e.TextMessageContent(message_id=piece.id, delta=delta)]

    def _text_end(self, piece: _Open) -> list[Event]:
        if piece.kind in ("text", "output") and piece.started:
            return [e.TextMessageEnd(message_id=piece.id)]
        return []

    def _thinking(self, piece: _Open, delta: str) -> list[Event]:
        if piece.kind != "thinking" or not delta:
            return []
        start: list[Event] = []
        if not piece.started:
            piece.started = True
            self.texts.append(piece.id)
            start = [
                e.ReasoningStart(message_id=piece.id),
                e.ReasoningMessageStart(message_id=piece.id, role="reasoning"),
            ]
        return [*start, e.ReasoningMessageContent(message_id=piece.id, delta=delta)]

    def _retract(self, piece: _Open) -> list[Event]:
        """The model began this part anew: what was shown of it no longer counts."""
        if not piece.started and piece.kind != "call":
            return []
        reason = "The model began anew."
        match piece.kind:
            case "text" | "output":
                end: list[Event] = [e.TextMessageEnd(message_id=piece.id)]
            case "thinking":
                end = [e.ReasoningMessageEnd(message_id=piece.id), e.ReasoningEnd(message_id=piece.id)]
            case "call":
                self._shown.discard(piece.id)
                return [
                    e.ToolCallEnd(tool_call_id=piece.id),
                    e.MessageRetracted(tool_call_ids=[piece.id], reason=reason),
                ]
            case _:
                return []
        return [*end, e.MessageRetracted(message_ids=[piece.id], reason=reason)]

    # --- tools ----------------------------------------------------------------------------------------------------

    def _call(self, id: str, name: str) -> list[Event]:
        self._shown.add(id)
        self.calls.append(id)
        tool = self._sentences(name)
        return [
            e.ToolCallStart(
                tool_call_id=id,
                tool_call_name=name,
                title=tool.title if isinstance(tool.title, str) and tool.title and "{" not in tool.title else UNSET,
                idempotent=True if tool.idempotent else UNSET,
            )
        ]

    def _args(self, piece: _Open, args: str | Mapping[str, Any] | None) -> list[Event]:
        if piece.kind != "call":
            return []
        if isinstance(args, str):
            return [e.ToolCallArgs(tool_call_id=piece.id, delta=args)] if args else []
        if args is not None:
            piece.whole = True
        return []

    def _args_end(self, piece: _Open, part: ToolCallPart | NativeToolCallPart) -> list[Event]:
        self.arguments[piece.id] = _arguments(part.args)
        args: list[Event] = []
        if piece.whole or not part.args:
            args = [e.ToolCallArgs(tool_call_id=piece.id, delta=json_text(self.arguments[piece.id]))]
        return [*args, e.ToolCallEnd(tool_call_id=piece.id)]

    def _running(self, part: ToolCallPart) -> list[Event]:
        """The tool begins, or waits. A call that was not streamed is shown whole; one that was approved is known."""
        self.arguments[part.tool_call_id] = _arguments(part.args)
        self.running[part.tool_call_id] = part.tool_name
        events: list[Event] = []
        if part.tool_call_id not in self._shown:
            events = [
                *self._call(part.tool_call_id, part.tool_name),
                e.ToolCallArgs(tool_call_id=part.tool_call_id, delta=json_text(_arguments(part.args))),
                e.ToolCallEnd(tool_call_id=part.tool_call_id),
            ]
        title = self._sentences(part.tool_name).title
        if title is not None and (callable(title) or "{" in title):
            arguments = self.arguments[part.tool_call_id]
            sentence = _made(part.tool_name, title, arguments) if callable(title) else _filled(title, arguments)
            if sentence:
                events.append(e.ToolCallProgress(tool_call_id=part.tool_call_id, message=sentence))
        return events

    def _returned(self, part: ToolReturnPart | NativeToolReturnPart) -> list[Event]:
        self.running.pop(part.tool_call_id, None)
        content = part.model_response_str()
        common: dict[str, Any] = {
            "message_id": self._new_id(),
            "tool_call_id": part.tool_call_id,
            "content": content,
        }
        if part.outcome == "success":
            result = to_json(part.content)
            summary = self._summary(part, result)
            return [e.ToolCallResult(**common, result=result, summary=summary or UNSET)]
        status = {"denied": "denied", "interrupted": "interrupted"}.get(part.outcome, "error")
        return [e.ToolCallResult(**common, status=cast(Any, status), error=_failure(part, content))]

    def _summary(self, part: ToolReturnPart | NativeToolReturnPart, result: Any) -> str | None:
        template = self._sentences(part.tool_name).summary
        if template is None:
            return None
        if callable(template):
            return _made(part.tool_name, template, self.arguments.get(part.tool_call_id) or {}, result)
        fields: dict[str, Any] = {**cast(dict[str, Any], result)} if isinstance(result, dict) else {}
        arguments = self.arguments.get(part.tool_call_id)
        known: dict[str, Any] = {"result": result, **(arguments or {}), **fields}
        if isinstance(result, list | dict):
            known.setdefault("n", len(cast(list[Any], result)))
        return _filled(template, known)

    # --- the answer as an object ----------------------------------------------------------------------------------

    def _output_args(self, piece: _Open, args: str | Mapping[str, Any] | None) -> list[Event]:
        if isinstance(args, str):
            return self._say(piece, piece.field.feed(args)) if piece.field is not None else []
        if args is not None:
            piece.whole = True
        return []

    def _whole_output(self, piece: _Open, args: Any) -> list[Event]:
        text = _arguments(args).get(self._text_field or "")
        return self._say(piece, text) if isinstance(text, str) else []

    def _output_returned(self, part: ToolReturnPart) -> list[Event]:
        """The model has to give its answer again: what was shown of it no longer counts."""
        message = self._outputs.pop(part.tool_call_id, None)
        if message is None or part.outcome != "retried":
            return []
        return [e.MessageRetracted(message_ids=[message], reason="The answer did not have the form it must have.")]

    # --- events of the application --------------------------------------------------------------------------------

    def _custom(self, event: CustomEvent) -> list[Event]:
        call = event.tool_call_id
        if isinstance(event, Artifact):
            return [
                e.ArtifactSnapshot(
                    artifact_id=event.id or self._new_id(),
                    kind=event.kind,
                    content=to_json(event.content),
                    name=event.title or UNSET,
                    mime_type=event.mime_type or UNSET,
                    tool_call_id=call or UNSET,
                )
            ]
        if not type(event).ui:
            return []
        fields = {name: value for name, value in vars(event).items() if name not in _FRAMEWORK_FIELDS}
        progress, total, message = (fields.get(name) for name in ("progress", "total", "message"))
        if call is not None and any(value is not None for value in (progress, total, message)):
            rest = {
                key: value for key, value in fields.items() if key not in ("progress", "total", "message", "details")
            }
            data = fields.get("details", rest or None)
            return [
                e.ToolCallProgress(
                    tool_call_id=call,
                    progress=_number(progress),
                    total=_number(total),
                    message=message if isinstance(message, str) else UNSET,
                    data=UNSET if data is None else to_json(data),
                )
            ]
        value: Any = to_json(fields)
        if call is not None:
            value["toolCallId"] = call
        return [e.Custom(name=event.name, value=value)]

    def _file(self, content: BinaryContent) -> list[Event]:
        url = UNSET
        if len(content.data) <= MAX_INLINE_BYTES:
            url = f"data:{content.media_type};base64,{base64.b64encode(content.data).decode('ascii')}"
        return [
            e.ArtifactSnapshot(
                artifact_id=self._new_id(),
                kind="file",
                mime_type=content.media_type,
                content={"bytes": len(content.data)},
                url=url,
            )
        ]


_FRAMEWORK_FIELDS = frozenset({"name", "tool_call_id", "tool_name", "event_kind"})


def _arguments(args: Any) -> dict[str, Any]:
    from runcast.agents.pydantic_ai_history import arguments

    if isinstance(args, str):
        return arguments(args)
    value: Any = to_json(args)
    return cast(dict[str, Any], value) if isinstance(value, dict) else {}


def _filled(template: str, fields: Mapping[str, Any]) -> str | None:
    """`template` with its places filled; None if a field is not there: no sentence is better than half of one."""
    try:
        return template.format_map(fields)
    except (LookupError, ValueError, AttributeError, TypeError):
        return None


def _made(tool: str, sentence: Callable[..., Any], *given: Any) -> str | None:
    """What a function makes of a call; a sentence is not worth a run that fails."""
    try:
        made = sentence(*given)
    except Exception:
        logger.warning("the sentence of the tool %s could not be made", tool, exc_info=True)
        return None
    return made if isinstance(made, str) and made else None


def _failure(part: ToolReturnPart | NativeToolReturnPart, content: str) -> str:
    """One sentence for people; what the model reads may be long and technical."""
    if part.outcome == "denied":
        return "The tool call was denied." if not content or "\n" in content or len(content) > 300 else content
    if part.outcome == "interrupted":
        return "The tool did not finish."
    if isinstance(part.content, str) and part.content and "\n" not in part.content and len(part.content) <= 300:
        return part.content
    return f"The tool {part.tool_name} could not be used this way; the model may try again."


def _number(value: object) -> Any:
    return float(value) if isinstance(value, int | float) else UNSET
