"""One run as the message dialects tell it: what was said, which tools were called, what came of it.

A fold over one run's events, for dialects that say things once and in order (`chat-stream`, `text`, `thoughts`, `tool-calls`,
`partials`, `progress`). Their frames differ, what they speak of is this.

    fold = RunFold()
    said = fold.apply(event)        # new text of the answer, "" if the event says none

`said` concatenates to `fold.text`, unless something was retracted: what was sent cannot be taken back in these protocols, but
their last frame, which has the whole text, is right.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal, cast

import msgspec
from msgspec import UNSET

from runcast import events as e
from runcast.jsonpatch import PatchError
from runcast.jsonpatch import apply as patched

CallStatus = Literal["running", "success", "error", "denied", "cancelled", "interrupted"]

BETWEEN = "\n\n"
"""Between two messages of one answer."""

_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder()
to_bytes = msgspec.json.Encoder().encode


class Call:
    """One tool call. `arguments` is known from its end on (`ToolCallEnd`), before any result."""

    __slots__ = ("_pieces", "arguments", "error", "id", "name", "progress", "result", "status", "summary", "title")

    def __init__(self, id: str, name: str, title: str | None) -> None:
        self.id = id
        self.name = name
        self.title = title
        """The tool's own sentence for what it is doing."""
        self.arguments: dict[str, Any] = {}
        """Always an object; what a model wrote that is none stands under `input`."""
        self.status: CallStatus = "running"
        self.result: Any = None
        """What the tool returned, as JSON: null until the call is over, and where it returned nothing."""
        self.error: str | None = None
        """A sentence, when `status` is neither `running` nor `success`."""
        self.summary: str | None = None
        """The tool's own sentence for what it found."""
        self.progress: e.ToolCallProgress | None = None
        """What it said last of how far it is."""
        self._pieces: list[str] = []

    @property
    def over(self) -> bool:
        return self.status != "running"

    @property
    def failed(self) -> bool:
        return self.status not in ("running", "success")

    def add(self, piece: str) -> None:
        self._pieces.append(piece)

    def complete(self, args: str | None) -> None:
        """The arguments' JSON text is whole: `args`, or the pieces so far."""
        text = args if args is not None else "".join(self._pieces)
        self._pieces.clear()
        self.arguments = arguments_of(text)

    def end(self, event: e.ToolCallResult) -> None:
        self.status = "success" if event.status is UNSET else event.status
        self.result = event.result if event.result is not UNSET else event.content
        self.summary = event.summary if event.summary is not UNSET else None
        if self.failed:
            said = event.error if event.error is not UNSET else None
            self.error = said or (event.content if isinstance(event.content, str) else None) or _WHY[self.status]


_WHY: Mapping[CallStatus, str] = {
    "error": "The tool failed.",
    "denied": "A person said no.",
    "cancelled": "Stopped.",
    "interrupted": "The server was restarted.",
}


def grow(texts: dict[str, list[str]], id: str, delta: str) -> str:
    """Add a piece to one of several texts, by their ids; what the whole of them (`joined`) grows by, if they come one after the
    other."""
    pieces = texts.get(id)
    if pieces is None or not delta:
        return ""
    first = not pieces
    pieces.append(delta)
    if first and any(other for one, other in texts.items() if one != id):
        return BETWEEN + delta
    return delta


def joined(texts: Mapping[str, list[str]]) -> str:
    """All texts of which something was said."""
    return BETWEEN.join(["".join(pieces) for pieces in texts.values() if pieces])


class RunFold:
    def __init__(self) -> None:
        self.run: str | None = None
        self.asked = ""
        """What the person said."""
        self.calls: dict[str, Call] = {}
        """By id, in the order of their start."""
        self.artifacts: dict[str, Any] = {}
        """The content of the newest artifact of each kind."""
        self._kinds: dict[str, str] = {}
        self._said: dict[str, list[str]] = {}
        """The pieces of each message of the answer, by message id."""
        self._ids: set[str] = set()

    @property
    def text(self) -> str:
        """The answer so far."""
        return joined(self._said)

    @property
    def open_calls(self) -> list[Call]:
        return [call for call in self.calls.values() if not call.over]

    def call(self, id: str) -> Call:
        """The call with this id; one that was never started (a resumed run's result) is made up."""
        call = self.calls.get(id)
        if call is None:
            call = self.calls[id] = Call(id, "tool", None)
        return call

    def apply(self, event: e.Event) -> str:
        """Take one event in; the text that it adds to the answer."""
        match event:
            case e.TextMessageContent():
                return grow(self._said, event.message_id, event.delta)
            case e.ToolCallArgs():
                self.call(event.tool_call_id).add(event.delta)
            case e.TextMessageStart():
                if event.subagent_run_id is UNSET and event.role in (UNSET, "assistant"):
                    self._said.setdefault(event.message_id, [])
            case e.ToolCallStart():
                title = event.title if event.title is not UNSET else None
                self.calls[event.tool_call_id] = Call(event.tool_call_id, event.tool_call_name, title)
            case e.ToolCallEnd():
                self.call(event.tool_call_id).complete(event.args if event.args is not UNSET else None)
            case e.ToolCallProgress():
                self.call(event.tool_call_id).progress = event
            case e.ToolCallResult():
                self.call(event.tool_call_id).end(event)
            case e.ArtifactSnapshot():
                self._kinds[event.artifact_id] = event.kind
                if event.content is not UNSET:
                    self.artifacts[event.kind] = event.content
            case e.ArtifactDelta():
                self._amend(event)
            case e.MessageRetracted():
                self._retract(event)
            case e.RunRestarted() if event.anew is True:
                self._said.clear()
                self.calls.clear()
                self.artifacts.clear()
            case e.RunStarted():
                self.run = event.run_id if event.run_id is not UNSET else None
                self.asked = asked_of(event)
            case _:
                pass
        return ""

    def _retract(self, event: e.MessageRetracted) -> None:
        for id in event.message_ids if event.message_ids is not UNSET else ():
            if id in self._said:
                self._said[id] = []
        for id in event.tool_call_ids if event.tool_call_ids is not UNSET else ():
            self.calls.pop(id, None)

    def _amend(self, event: e.ArtifactDelta) -> None:
        kind = self._kinds.get(event.artifact_id)
        if kind is None:
            return
        content = self.artifacts.get(kind)
        if event.append is not UNSET:
            self.artifacts[kind] = (content if isinstance(content, str) else "") + event.append
        elif event.patch is not UNSET:
            with contextlib.suppress(PatchError):  # as in every fold: what makes no sense changes nothing
                self.artifacts[kind] = patched(content, event.patch)


def next_run(before: RunFold, event: e.RunStarted) -> RunFold:
    """The fold of the run that `event` starts. One that goes on with another has the calls that wait for its results: by their
    names and arguments, which are not said again."""
    fold = RunFold()
    if event.resumes is not UNSET and event.resumes == before.run:
        fold.calls = {call.id: call for call in before.open_calls}
    return fold


def asked_of(event: e.RunStarted | e.RunQueued) -> str:
    """The text of the person's message that a run answers; "" if it answers none (it resumes another)."""
    if event.input is UNSET:
        return ""
    messages = cast("list[dict[str, Any]]", event.input.get("messages") or [])
    return "\n".join(text for message in messages if (text := _text_of(message.get("content"))))


def _text_of(content: Any) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = [cast("dict[str, Any]", part) for part in cast("list[Any]", content) if isinstance(part, dict)]
    return "\n".join(str(part["text"]) for part in parts if part.get("type") == "text" and "text" in part)


def arguments_of(text: str) -> dict[str, Any]:
    """The arguments in a call's JSON text, always an object."""
    try:
        value: Any = _decoder.decode(text) if text else {}
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return {"input": text}
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {"input": value}


def failure_of(event: e.Event) -> tuple[str, str] | None:
    """Code and sentence, if `event` ends a run that did not come to an answer: failed, interrupted, cancelled, or removed from
    the queue. None for the end of one that did, or that waits for a person, and for all other events."""
    match event:
        case e.RunError():
            return (event.code if event.code is not UNSET else "agent_error", event.message)
        case e.RunDequeued():
            return ("cancelled", event.reason if event.reason is not UNSET and event.reason else "Stopped.")
        case e.RunFinished() if event.outcome is not UNSET and event.outcome.type == "cancelled":
            return ("cancelled", event.reason if event.reason is not UNSET and event.reason else "Stopped.")
        case _:
            return None


def questions_of(event: e.Event) -> list[str]:
    """What a run that ended waiting asks a person, a sentence each; empty for all other events."""
    if not isinstance(event, e.RunFinished) or event.outcome is UNSET or event.outcome.interrupts is UNSET:
        return []
    return [one.message if one.message is not UNSET else "An answer is needed." for one in event.outcome.interrupts]


def readable(value: Any) -> str:
    """A JSON value as people read it in one line: text as it is, everything else as JSON."""
    if isinstance(value, str):
        return value
    return to_bytes(value).decode()


def iso(event: e.Event) -> str:
    """When the event was appended: ISO 8601 with milliseconds and offset, UTC."""
    ms = event.timestamp if event.timestamp is not UNSET else 0
    moment = datetime.fromtimestamp(ms // 1000, UTC).replace(microsecond=ms % 1000 * 1000)
    return moment.isoformat(timespec="milliseconds")
