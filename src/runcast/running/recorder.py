"""What an agent's events need before they may enter the log: one recorder per run. No I/O, no clock.

- shorthands (`*_CHUNK`) become the START, CONTENT and END they stand for;
- what needs a START gets one, a second START of an open item and an END of a closed one are dropped (AG-UI 1.0 clients
  reject both), empty deltas too;
- END events get the whole text or arguments, if they are short enough for one event;
- floods of progress are thinned to `PROGRESS_PER_S` a call, first and last kept;
- values that JSON does not know are converted;
- what is too long for one event is split, left out of ENDs, or refused (`running.bulk`);
- when the run ends, everything open is closed before its terminal event (I16, I23).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Literal, TypeVar, cast

import msgspec
from msgspec import UNSET, UnsetType

from runcast import events as e
from runcast.errors import AgentError
from runcast.events import Event
from runcast.jsonvalue import MAX_DEPTH, to_json
from runcast.running.bulk import PIECE, check, pieces, whole
from runcast.running.question import check_answerable, moment
from runcast.transcript import ReasoningPart, StepPart, SubagentPart, TextPart, ToolPart, TranscriptRun

Ending = Literal["done", "waiting", "cancelled", "failed", "interrupted"]

PROGRESS_PER_S = 20

LEVELS = MAX_DEPTH + 8
"""Of an event as JSON: those of a value, and those it stands in."""

_UNFINISHED = {
    "cancelled": "The run was stopped before this tool finished.",
    "failed": "The run failed before this tool finished.",
    "interrupted": "The server was restarted before this tool finished; whether it had an effect is unknown.",
    "done": "The run ended without a result of this tool.",
}


_OF_MESSAGE = (
    e.TextMessageStart,
    e.TextMessageContent,
    e.TextMessageEnd,
    e.ReasoningMessageStart,
    e.ReasoningMessageContent,
    e.ReasoningMessageEnd,
    e.TextMessageChunk,
    e.ReasoningMessageChunk,
)
_OF_REASONING = (
    e.ReasoningMessageStart,
    e.ReasoningMessageContent,
    e.ReasoningMessageEnd,
    e.ReasoningMessageChunk,
)
_KIND_OF_CHUNK = {"TEXT_MESSAGE_CHUNK": "text", "REASONING_MESSAGE_CHUNK": "reasoning"}
_OF_CALL = (e.ToolCallStart, e.ToolCallArgs, e.ToolCallEnd, e.ToolCallChunk, e.ToolCallProgress, e.ToolCallResult)
_OPENS = (
    e.TextMessageStart,
    e.TextMessageContent,
    e.TextMessageChunk,
    e.ReasoningMessageStart,
    e.ReasoningMessageContent,
    e.ReasoningMessageChunk,
    e.ToolCallStart,
    e.ToolCallChunk,
)


class Recorder:
    """The events of one run on their way to the log. `take` what the agent gives, then `close` once."""

    def __init__(self, run: str, *, expiry: Callable[[], str] | None = None) -> None:
        self.run = run
        self._expiry = expiry
        """The date on which a question expires whose agent says none."""
        self._asked: dict[str, e.Interrupt] = {}
        # What was said so far, as UTF-8: a list of its small strings would take up to ten times as much.
        self._texts: dict[str, bytearray] = {}
        self._reasoning: dict[str, bytearray] = {}
        self._spans: dict[str, None] = {}
        self._calls: dict[str, bytearray] = {}
        """Calls whose arguments still arrive."""
        self._unanswered: dict[str, str] = {}
        """Calls without a result, by id: their names."""
        self._used: dict[str, int] = {}
        """How many items of this run had the id."""
        self._names: dict[tuple[str, str], str] = {}
        self._steps: dict[str, None] = {}
        self._subagents: dict[str, None] = {}
        self._chunked: tuple[str, str] | None = None
        """Kind and id of the item that *_CHUNK events opened; any other event closes it."""
        self._progress: dict[str, tuple[float, e.ToolCallProgress | None]] = {}
        """When the call last reported, in seconds, and what was held back since."""

    @classmethod
    def of_transcript(cls, run: TranscriptRun) -> Recorder:
        """The recorder as it would stand after the part of the run that is in the log: for a run whose process died."""
        recorder = cls(run.id)
        for message in run.messages:
            for part in message.parts:
                if isinstance(part, TextPart | ReasoningPart | ToolPart):
                    recorder._count(part)
                match part:
                    case TextPart(open=True):
                        recorder._texts[part.id] = bytearray(part.text.encode())
                    case ReasoningPart(open=True):
                        recorder._reasoning[part.id] = bytearray(part.text.encode())
                    case ToolPart(status="preparing"):
                        recorder._calls[part.id] = bytearray(part.args.encode())
                        recorder._unanswered[part.id] = part.name
                    case ToolPart(status="running"):
                        recorder._unanswered[part.id] = part.name
                    case StepPart(open=True):
                        recorder._steps[part.name] = None
                    case SubagentPart(status="running"):
                        recorder._subagents[part.id] = None
                    case _:
                        pass
        return recorder

    @property
    def unanswered(self) -> Mapping[str, str]:
        """Calls without a result, by id, in order: their names."""
        return self._unanswered

    def called(self, call: str) -> str:
        """The id in the log of the call that the agent gave last under `call`."""
        return self._names.get(("call", call), call)

    def date_by(self, expiry: Callable[[], str]) -> None:
        """Take the dates on which questions expire whose agent says none from here."""
        self._expiry = expiry

    def follow(self, before: Recorder) -> None:
        """The agent goes on in this run: it calls its messages and tool calls as in the run before."""
        self._names, self._used = dict(before._names), dict(before._used)

    def dated(self, interrupt: e.Interrupt) -> e.Interrupt:
        """The question as it was announced in this run, with the date on which it expires.

        Raises:
            AgentError: code `invalid_question`, see `check_answerable`.
        """
        known = self._asked.get(interrupt.id)
        if known is not None:
            return known
        check_answerable(interrupt)
        date = interrupt.expires_at
        if self._expiry is not None and (not isinstance(date, str) or moment(date) is None):
            interrupt = msgspec.structs.replace(interrupt, expires_at=self._expiry())
        if isinstance(interrupt.tool_call_id, str):
            name = self._names.get(("call", interrupt.tool_call_id), interrupt.tool_call_id)
            interrupt = msgspec.structs.replace(interrupt, tool_call_id=name)
        self._asked[interrupt.id] = interrupt
        return interrupt

    def _count(self, part: TextPart | ReasoningPart | ToolPart) -> None:
        """The id was used: that which comes next under the same one is named anew."""
        kind = "call" if isinstance(part, ToolPart) else "text" if isinstance(part, TextPart) else "reasoning"
        item, _, number = part.id.rpartition(".")
        if not (number.isdecimal() and int(number) > 1 and self._used.get(item, 0) == int(number) - 1):
            item, number = part.id, "1"
        self._used[item] = int(number)
        self._names[kind, item] = part.id

    def take(self, event: Event, now_s: float) -> list[Event]:
        """What enters the log for one event of the agent; `now_s` is monotonic, in seconds."""
        if self._goes_on(event):
            return [e.of_run(event, self.run)]
        event = storable(event)
        out = [*self._end_chunked(event)]
        out.extend(self._expand(self._named(event), now_s))
        if len(out) > 0 and isinstance(out[-1], e.DELTAS) and len(cast(e.TextMessageContent, out[-1]).delta) > PIECE:
            out[-1:] = pieces(out[-1])
        return [e.of_run(one, self.run) for one in out]

    def _goes_on(self, event: Event) -> bool:
        """Whether it is what nearly all events are: one more piece of text for an item that is open under its own id. Then
        it is taken as it is; all others have to be looked at more closely."""
        if isinstance(event, e.TextMessageContent):
            kind, item, opened = "text", event.message_id, self._texts
        elif isinstance(event, e.ReasoningMessageContent):
            kind, item, opened = "reasoning", event.message_id, self._reasoning
        elif isinstance(event, e.ToolCallArgs):
            kind, item, opened = "call", event.tool_call_id, self._calls
        else:
            return False
        delta = event.delta
        if self._chunked is not None or not _is_bare(event) or type(item) is not str or type(delta) is not str:
            return False
        text = opened.get(item)
        if text is None or not delta or len(delta) > PIECE or self._names.get((kind, item), item) != item:
            return False
        try:
            text += delta.encode()
        except UnicodeEncodeError:  # a lone surrogate
            return False
        return True

    def close(self, ending: Ending, *, unanswered: Collection[str] = (), open: Collection[str] = ()) -> list[Event]:
        """What closes everything that is open, in the order: progress held back, texts, calls, results, steps, subagents.

        A run that ends as *waiting* keeps its unanswered calls: the run that resumes it brings their results. Those in
        `unanswered` stay so too: the client brings their results, or the run is restarted and makes them again. One that is
        restarted also keeps the texts in `open`, which go on.
        """
        out: list[Event] = []
        incomplete = ending if ending in ("cancelled", "failed", "interrupted") else UNSET
        for call in tuple(self._progress):
            out.extend(self._flush_progress(call))
        for item in tuple(self._texts):
            if item not in open:
                out.append(self._end_text(item, incomplete))
        for item in tuple(self._reasoning):
            out.append(self._end_reasoning(item, incomplete))
        for item in tuple(self._spans):
            del self._spans[item]
            out.append(e.ReasoningEnd(message_id=item))
        for call in tuple(self._calls):
            out.append(self._end_call(call, incomplete))
        if ending != "waiting":
            for call in tuple(self._unanswered):
                if call not in unanswered:
                    del self._unanswered[call]
                    out.append(self._unfinished(call, ending))
        for step in tuple(self._steps):
            del self._steps[step]
            out.append(e.StepFinished(step_name=step))
        for subagent in tuple(self._subagents):
            del self._subagents[subagent]
            out.append(e.SubagentError(subagent_run_id=subagent, message=f"The run ended: {ending}.", code=ending))
        return [e.of_run(one, self.run) for one in out]

    # --- ids ------------------------------------------------------------------------------------------------------

    def _named(self, event: Event) -> Event:
        """The event with the id its item has in the log: an id that is used again (`call_0` in every answer of some
        models; one id for the thinking and the text) names a new item, `call_0.2`, or what was said before would be
        overwritten."""
        opens = isinstance(event, _OPENS)
        if isinstance(event, _OF_CALL):
            if isinstance(event.tool_call_id, str):
                name = self._name(event.tool_call_id, "call", self._calls, opens=opens)
                return event if name == event.tool_call_id else msgspec.structs.replace(event, tool_call_id=name)
        elif isinstance(event, _OF_MESSAGE) and isinstance(event.message_id, str):
            thinks = isinstance(event, _OF_REASONING)
            kind, items = ("reasoning", self._reasoning) if thinks else ("text", self._texts)
            name = self._name(event.message_id, kind, items, opens=opens)
            return event if name == event.message_id else msgspec.structs.replace(event, message_id=name)
        return event

    def _name(self, item: str, kind: str, items: dict[str, bytearray], *, opens: bool) -> str:
        name = self._names.get((kind, item), item)
        if opens and name not in items:
            count = self._used[item] = self._used.get(item, 0) + 1
            name = self._names[kind, item] = item if count == 1 else f"{item}.{count}"
        return name

    # --- one event ------------------------------------------------------------------------------------------------

    def _expand(self, event: Event, now_s: float) -> Iterator[Event]:
        match event:
            case e.TextMessageContent(message_id=item, delta=delta):
                if item not in self._texts:
                    self._texts[item] = bytearray()
                    yield e.TextMessageStart(message_id=item)
                if delta:
                    self._texts[item] += delta.encode()
                    yield event
            case e.TextMessageStart(message_id=item):
                if item not in self._texts:
                    self._texts[item] = bytearray()
                    yield event
            case e.TextMessageEnd(message_id=item):
                if item in self._texts:
                    yield self._end_text(item, event.incomplete)
            case e.ReasoningStart(message_id=item):
                if item not in self._spans:
                    self._spans[item] = None
                    yield event
            case e.ReasoningMessageStart(message_id=item):
                if item not in self._reasoning:
                    self._reasoning[item] = bytearray()
                    yield event
            case e.ReasoningMessageContent(message_id=item, delta=delta):
                if item not in self._reasoning:
                    self._reasoning[item] = bytearray()
                    yield e.ReasoningMessageStart(message_id=item, role="reasoning")
                if delta:
                    self._reasoning[item] += delta.encode()
                    yield event
            case e.ReasoningMessageEnd(message_id=item):
                if item in self._reasoning:
                    yield self._end_reasoning(item, event.incomplete)
            case e.ReasoningEnd(message_id=item):
                if item in self._spans:
                    del self._spans[item]
                    yield event
            case e.ToolCallStart(tool_call_id=call):
                if call not in self._calls:
                    self._calls[call] = bytearray()
                    self._unanswered[call] = event.tool_call_name
                    yield event
            case e.ToolCallArgs(tool_call_id=call, delta=delta):
                if delta and call in self._calls:
                    self._calls[call] += delta.encode()
                    yield event
            case e.ToolCallEnd(tool_call_id=call):
                if call in self._calls:
                    yield self._end_call(call, event.incomplete)
            case e.ToolCallResult(tool_call_id=call):
                yield from self._flush_progress(call)
                if call in self._calls:
                    yield self._end_call(call, UNSET)
                self._unanswered.pop(call, None)
                yield event
            case e.ToolCallProgress():
                yield from self._thin(event, now_s)
            case e.InterruptRequested():
                yield msgspec.structs.replace(event, interrupt=self.dated(event.interrupt))
            case e.StepStarted(step_name=step):
                if step not in self._steps:
                    self._steps[step] = None
                    yield event
            case e.StepFinished(step_name=step):
                if step in self._steps:
                    del self._steps[step]
                    yield event
            case e.SubagentStarted(subagent_run_id=subagent):
                self._subagents[subagent] = None
                yield event
            case e.SubagentFinished(subagent_run_id=subagent) | e.SubagentError(subagent_run_id=subagent):
                if subagent in self._subagents:
                    del self._subagents[subagent]
                    yield event
            case e.MessageRetracted():
                for item in event.message_ids or []:
                    self._texts.pop(item, None)
                    self._reasoning.pop(item, None)
                for call in event.tool_call_ids or []:
                    self._calls.pop(call, None)
                    self._unanswered.pop(call, None)
                yield event
            case e.TextMessageChunk() | e.ReasoningMessageChunk() | e.ToolCallChunk():
                yield from self._expand_chunk(event)
            case e.MessagesSnapshot() | e.RunStarted() | e.RunFinished() | e.RunError():
                pass  # derived, or the runner's own to write
            case _:
                yield event

    def _expand_chunk(self, event: e.TextMessageChunk | e.ReasoningMessageChunk | e.ToolCallChunk) -> Iterator[Event]:
        """AG-UI 1.0, "chunk" events: the id may be left out after the first; another id or kind closes the item."""
        given = event.tool_call_id if isinstance(event, e.ToolCallChunk) else event.message_id
        item = given if isinstance(given, str) else self._chunked[1] if self._chunked else None
        if item is None:
            return  # a continuation of nothing
        self._chunked = (event.type, item)
        delta = event.delta or ""
        match event:
            case e.TextMessageChunk():
                if item not in self._texts:
                    self._texts[item] = bytearray()
                    yield e.TextMessageStart(message_id=item, role=event.role, name=event.name)
                if delta:
                    self._texts[item] += delta.encode()
                    yield e.TextMessageContent(message_id=item, delta=delta)
            case e.ReasoningMessageChunk():
                if item not in self._reasoning:
                    self._reasoning[item] = bytearray()
                    yield e.ReasoningMessageStart(message_id=item, role="reasoning")
                if delta:
                    self._reasoning[item] += delta.encode()
                    yield e.ReasoningMessageContent(message_id=item, delta=delta)
            case e.ToolCallChunk():
                if item not in self._calls:
                    name = event.tool_call_name or "tool"
                    self._calls[item] = bytearray()
                    self._unanswered[item] = name
                    yield e.ToolCallStart(
                        tool_call_id=item, tool_call_name=name, parent_message_id=event.parent_message_id
                    )
                if delta:
                    self._calls[item] += delta.encode()
                    yield e.ToolCallArgs(tool_call_id=item, delta=delta)

    def _end_chunked(self, event: Event) -> Iterator[Event]:
        """The END of the item that chunks opened, if `event` is not its continuation."""
        if self._chunked is None:
            return
        if isinstance(event, (e.TextMessageChunk, e.ReasoningMessageChunk, e.ToolCallChunk)):
            given = event.tool_call_id if isinstance(event, e.ToolCallChunk) else event.message_id
            kind = "call" if isinstance(event, e.ToolCallChunk) else _KIND_OF_CHUNK[event.type]
            if event.type == self._chunked[0] and (
                given is UNSET or self._names.get((kind, given), given) == self._chunked[1]
            ):
                return
        (kind, item), self._chunked = self._chunked, None
        if kind == "TEXT_MESSAGE_CHUNK" and item in self._texts:
            yield self._end_text(item, UNSET)
        elif kind == "REASONING_MESSAGE_CHUNK" and item in self._reasoning:
            yield self._end_reasoning(item, UNSET)
        elif kind == "TOOL_CALL_CHUNK" and item in self._calls:
            yield self._end_call(item, UNSET)

    # --- ends -----------------------------------------------------------------------------------------------------

    def _end_text(self, item: str, incomplete: str | UnsetType) -> Event:
        return e.TextMessageEnd(message_id=item, text=whole(self._texts.pop(item)), incomplete=incomplete)

    def _end_reasoning(self, item: str, incomplete: str | UnsetType) -> Event:
        return e.ReasoningMessageEnd(message_id=item, text=whole(self._reasoning.pop(item)), incomplete=incomplete)

    def _end_call(self, call: str, incomplete: str | UnsetType) -> Event:
        args = whole(self._calls.pop(call))
        return e.ToolCallEnd(tool_call_id=call, args="{}" if args == "" else args, incomplete=incomplete)

    def _unfinished(self, call: str, ending: Ending) -> Event:
        sentence = _UNFINISHED.get(ending, _UNFINISHED["done"])
        return e.ToolCallResult(
            message_id=f"{call}.result",
            tool_call_id=call,
            content=sentence,
            role="tool",
            status="cancelled"
            if ending in ("cancelled", "done")
            else "interrupted"
            if ending == "interrupted"
            else "error",
            error=sentence,
        )

    # --- progress -------------------------------------------------------------------------------------------------

    def _thin(self, event: e.ToolCallProgress, now_s: float) -> Iterator[Event]:
        last, _ = self._progress.get(event.tool_call_id, (None, None))
        if last is None or now_s - last >= 1 / PROGRESS_PER_S:
            self._progress[event.tool_call_id] = (now_s, None)
            yield event
        else:
            self._progress[event.tool_call_id] = (last, event)

    def _flush_progress(self, call: str) -> Iterator[Event]:
        _, held = self._progress.pop(call, (0.0, None))
        if held is not None:
            yield held


AnyEvent = TypeVar("AnyEvent", bound=Event)


def storable(event: AnyEvent) -> AnyEvent:
    """The event as it will be read from the log: every value in a form that JSON knows, no lone surrogate.

    Raises:
        AgentError: code `invalid_yield`: a field holds what its type is not, so no reader could read the log any more.
            Code `event_too_large`.
    """
    if isinstance(event, e.DELTAS) and _is_plain(event):
        return event  # the many: such strings are read as they are written
    data: bytes | None = None
    try:
        data = e.encode(event)
        if e.nests_deeper(data, LEVELS):
            data = None
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError):
        pass
    if data is None:
        fields = {name: _clean(getattr(event, name)) for name in event.__struct_fields__}
        event = type(event)(**fields)
    try:
        if data is None:
            data = e.encode(event)
        check(event, len(data))
        return cast(AnyEvent, e.decode(data))
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise AgentError(f"The agent gave a {event.type} that holds a wrong value.", code="invalid_yield") from error


def _is_plain(event: Event) -> bool:
    """Whether a delta holds nothing but its strings, and these what UTF-8 can: it is read as it is written."""
    delta = cast(e.TextMessageContent, event)
    item = event.tool_call_id if isinstance(event, e.ToolCallArgs) else delta.message_id
    return _is_bare(event) and _is_text(item) and _is_text(delta.delta)


def _is_bare(event: Event) -> bool:
    return event.raw_event is UNSET and event.metadata is UNSET and event.subagent_run_id is UNSET


def _is_text(value: object) -> bool:
    if type(value) is not str:
        return False
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:  # a lone surrogate
            return False
    return True


def _clean(value: Any) -> Any:
    if value is UNSET or value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, (e.Interrupt, e.Outcome, e.TokenUsage, e.RunSummary, e.SubagentOutcome)):
        return value
    if isinstance(value, list) and value and isinstance(value[0], (e.TokenUsage, e.Interrupt)):
        return cast(Any, value)
    return to_json(value)
