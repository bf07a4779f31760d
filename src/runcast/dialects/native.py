"""The native dialect: the log as it is, and `op` frames around it (`spec/PROTOCOL.md`, "Native").

Control frames have `op`, log events have `type`, never both. Events are not encoded again: the bytes that the log shares are
put into frames as they are. The one difference to the log: an END event leaves its whole text or arguments out for a reader
that was given the item's START, because it has them already.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, cast

import msgspec

from runcast import events as e
from runcast.commands import AnyCommand, Cancel, Edit, Resolve, Send, Steer, Subscribe
from runcast.dialects.base import Attach, BadFrame, Encoder, Frame, OnClose, Start
from runcast.dialects.json_texts import MAX_DEPTH, too_deep
from runcast.events import Record
from runcast.ids import CLIENT_ID
from runcast.runs import Message
from runcast.updates import CaughtUp, Events, Resync, ThreadSnapshot, Update

MAX_TEXT_BYTES: Final = 32 * 1024
"""Longest message of a person, UTF-8."""
MAX_SEQ: Final = 2**53 - 1
"""The greatest integer that every JSON reader keeps exactly (RFC 8259, section 6)."""

to_bytes = msgspec.json.Encoder().encode
_decoder: msgspec.json.Decoder[AnyCommand] = msgspec.json.Decoder(AnyCommand)
_peek: msgspec.json.Decoder[Any] = msgspec.json.Decoder()


def decode(data: str | bytes) -> AnyCommand:
    """The one command in one frame.

    Raises:
        BadFrame: binary, not JSON, not an object, nested too deep, an unknown `op` or a wrong field.
    """
    if isinstance(data, bytes):
        raise BadFrame("Binary frames are not part of this protocol; send JSON as text.", malformed=True)
    if too_deep(data):
        raise BadFrame(f"The frame nests deeper than {MAX_DEPTH} levels.", malformed=True)
    try:
        command = _decoder.decode(data)
    except msgspec.ValidationError as error:
        raise _explain(data, error) from None
    except (ValueError, RecursionError):  # msgspec.DecodeError; a lone surrogate is a UnicodeEncodeError
        raise BadFrame("The frame is not valid JSON.", malformed=True) from None
    if fault := fault_of(command):
        raise BadFrame(fault, id=cast("str | None", getattr(command, "id", None)))
    return command


def fault_of(command: AnyCommand) -> str | None:
    """What is wrong with a command's values, in a sentence; None if nothing is."""
    id = getattr(command, "id", None)
    if id is not None and CLIENT_ID.fullmatch(id) is None:
        return "`id` must be 1-128 characters of A-Z a-z 0-9 . _ : @ -"
    match command:
        case Subscribe():
            if command.inbox == (command.thread is not None):
                return "subscribe names either a `thread` or `inbox: true`."
            if command.after is not None and not 0 <= command.after <= MAX_SEQ:
                return f"`after` must be between 0 and 2^53-1, not {command.after}."
        case Send() | Steer() | Edit():
            return fault_of_message(command.message)
        case Cancel():
            if (command.run is None) == (command.thread is None):
                return "cancel names either a `run` or a `thread`."
            return fault_of_text("reason", command.reason)
        case Resolve():
            return None
        case _:
            return None
    return None


def on_close(deliberate: bool) -> OnClose:
    """A connection is no run: whoever wants to stop one sends `cancel`."""
    del deliberate
    return "nothing"


def fault_of_message(message: Message) -> str | None:
    if CLIENT_ID.fullmatch(message.id) is None:
        return "`message.id` must be 1-128 characters of A-Z a-z 0-9 . _ : @ -"
    if not message.content or (isinstance(message.content, str) and not message.content.strip()):
        return "`message.content` is empty."
    if (size := len(to_bytes(message.content))) > MAX_TEXT_BYTES:
        hint = "" if isinstance(message.content, str) else " Upload files with POST /v1/files and name them by url."
        return f"The message has {size} bytes; at most {MAX_TEXT_BYTES} are taken.{hint}"
    if isinstance(message.content, str):
        return None
    if not all(isinstance(part.get("type"), str) for part in message.content):
        return "Each part of `message.content` needs a `type`."
    if not all(isinstance(part.get("text"), str) for part in message.content if part["type"] == "text"):
        return "A part of the type text needs a `text`."
    return None


def fault_of_text(name: str, text: str | None) -> str | None:
    return f"`{name}` is longer than 1000 characters." if text is not None and len(text) > 1000 else None


def _explain(data: str, error: msgspec.ValidationError) -> BadFrame:
    try:
        frame = _peek.decode(data)
    except (ValueError, RecursionError):
        return BadFrame("The frame is not valid JSON.", malformed=True)
    if not isinstance(frame, dict):
        return BadFrame("A frame is one JSON object.", malformed=True)
    fields = cast("dict[str, Any]", frame)
    id = fields.get("id")
    known_id = id if isinstance(id, str) and len(id) <= 128 else None
    if not isinstance(fields.get("op"), str):
        return BadFrame("A frame needs an `op`.", id=known_id, malformed=known_id is None)
    return BadFrame(f"This frame cannot be read: {error}.", id=known_id)


# --- frames to the client -----------------------------------------------------------------------------------------


def control(op: str, sub: int | None = None, /, **fields: Any) -> bytes:
    """A control frame; fields that are None are left out."""
    head: dict[str, Any] = {"op": op} if sub is None else {"op": op, "sub": sub}
    return to_bytes(head | {name: value for name, value in fields.items() if value is not None})


def events_frame(sub: int, payloads: Sequence[bytes]) -> bytes:
    return b'{"op":"events","sub":%d,"events":[%b]}' % (sub, b",".join(payloads))


class _SharedFrames:
    """The frames of the update that was encoded last, by subscription number. Pieces of text are the same bytes for every
    reader, and whoever is caught up is given the same update, one after the other: each number's frame is made once."""

    def __init__(self) -> None:
        self._of: Events | None = None
        self._same = False
        self._frames: dict[int, bytes] = {}

    def __call__(self, sub: int, update: Events) -> bytes | None:
        """None if its bytes depend on the reader."""
        if update is not self._of:
            self._of, self._frames = update, {}
            self._same = True
            for record in update.records:
                if not isinstance(record.event, e.DELTAS):
                    self._same = False
                    break
        if not self._same:
            return None
        frame = self._frames.get(sub)
        if frame is None:
            frame = self._frames[sub] = events_frame(sub, [record.data for record in update.records])
        return frame


shared_frame = _SharedFrames()


def snapshot_frame(update: ThreadSnapshot, sub: int | None = None) -> bytes:
    head = control("snapshot", sub, seq=update.seq, epoch=update.epoch, thread=update.thread)
    return b'%b,"transcript":%b}' % (head[:-1], update.transcript)


def resync_frame(update: Resync, sub: int | None = None) -> bytes:
    return control("resync", sub, reason=update.reason)


def caught_up_frame(update: CaughtUp, sub: int | None = None) -> bytes:
    return control("caught_up", sub, seq=update.seq)


def error_frame(
    code: str,
    message: str,
    *,
    request_id: str,
    id: str | None = None,
    sub: int | None = None,
    retry_after_ms: int | None = None,
    at: str | None = None,
) -> bytes:
    return control(
        "error",
        None,
        id=id,
        sub=sub,
        code=code,
        message=message,
        at=at,
        requestId=request_id,
        retryAfterMs=retry_after_ms,
    )


# --- events -------------------------------------------------------------------------------------------------------

_STARTS: Final = (e.TextMessageStart, e.ReasoningMessageStart, e.ToolCallStart)
_ENDS: Final = (e.TextMessageEnd, e.ReasoningMessageEnd, e.ToolCallEnd)


class NativeEncoder:
    """Remembers which items' START this reader was given; an item is known by its kind and id."""

    def __init__(self, start: Start) -> None:
        self._run = start.run
        self._seen: set[str] = set()

    def payload(self, record: Record) -> bytes:
        """The event's JSON as this reader gets it."""
        event = record.event
        if isinstance(event, e.DELTAS):
            return record.data  # first: they are the many
        if isinstance(event, _STARTS):
            self._seen.add(_item(event))
        elif isinstance(event, _ENDS):
            item = _item(event)
            if item in self._seen:
                self._seen.discard(item)
                # A call without arguments ends with `{}`, which no delta said: its reader must be told.
                return record.data if isinstance(event, e.ToolCallEnd) and event.args == "{}" else _slim(event)
        elif isinstance(event, (e.RunFinished, e.RunError)):
            self._seen.clear()  # everything open was closed before it (I16)
        return record.data

    def encode(self, record: Record) -> Sequence[Frame]:
        event = record.event
        ends = isinstance(event, e.TERMINAL) and self._run is not None and event.run_id == self._run
        return (Frame(self.payload(record), record.seq, ends=ends),)

    def update(self, update: Update) -> Sequence[Frame]:
        match update:
            case Events():
                return [frame for record in update.records for frame in self.encode(record)]
            case ThreadSnapshot():
                self._seen.clear()
                return (Frame(snapshot_frame(update), update.seq, name="snapshot"),)
            case CaughtUp():
                return (Frame(caught_up_frame(update), name="caught_up"),)
            case Resync():
                return (Frame(resync_frame(update), name="resync", ends=update.reason == "deleted"),)

    def forget(self) -> None:
        """The reader starts over from a snapshot: nothing was given to it."""
        self._seen.clear()


def _item(event: e.Event) -> str:
    match event:
        case e.TextMessageStart() | e.TextMessageEnd():
            return "t" + event.message_id
        case e.ReasoningMessageStart() | e.ReasoningMessageEnd():
            return "r" + event.message_id
        case e.ToolCallStart() | e.ToolCallEnd():
            return "c" + event.tool_call_id
        case _:
            raise AssertionError(event)


MAX_SHARED = 64 * 1024
"""Characters of an END event that is held for the next reader. Longer ones would be kept in memory for long, and to encode
them without their text costs the same."""


class _SlimEnds:
    """The last END events' bytes without their texts, encoded once for all readers: those of one thread ask soon after each
    other. Held by the event itself, so that no two events can be taken for one."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._held: dict[int, tuple[e.Event, bytes]] = {}

    def __call__(self, event: e.Event) -> bytes:
        held = self._held.get(id(event))
        if held is not None and held[0] is event:
            return held[1]
        data = e.encode(_without_whole(event))
        if _length(event) <= MAX_SHARED:
            if len(self._held) >= self._size:
                del self._held[next(iter(self._held))]
            self._held[id(event)] = (event, data)
        return data


def _length(event: e.Event) -> int:
    whole = event.args if isinstance(event, e.ToolCallEnd) else cast(e.TextMessageEnd, event).text
    return len(whole) if isinstance(whole, str) else 0


def _without_whole(event: e.Event) -> e.Event:
    if isinstance(event, e.ToolCallEnd):
        return msgspec.structs.replace(event, args=msgspec.UNSET)
    return msgspec.structs.replace(event, text=msgspec.UNSET)


_slim = _SlimEnds(32)


class Native:
    """The dialect as the transports see it."""

    name: Final = "native"
    attach: Attach = "snapshot"
    joins: Final = True
    loses: tuple[str, ...] = ()

    def decode(self, data: str | bytes) -> Sequence[AnyCommand]:
        return (decode(data),)

    def encoder(self, start: Start) -> Encoder:
        return NativeEncoder(start)

    def error(self, code: str, message: str, *, request_id: str) -> Sequence[Frame]:
        return (Frame(error_frame(code, message, request_id=request_id), name="error"),)
