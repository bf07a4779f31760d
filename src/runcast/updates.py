"""What a subscription tells its reader, in order. No I/O.

A reader that lags gets consecutive text, reasoning and argument deltas of one item joined (`join`); nothing else is ever
merged, reordered or dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, cast

import msgspec
from msgspec import UNSET

from runcast.events import DELTAS, Event, ReasoningMessageContent, Record, TextMessageContent, ToolCallArgs, encode
from runcast.runs import Thread

ResyncReason = Literal["epoch", "ahead", "trimmed", "deleted"]


class Events(NamedTuple):
    """The next records after the cursor: one while the reader keeps up, more (and joined) when it lags. Never empty."""

    records: list[Record]


class CaughtUp(NamedTuple):
    """Everything up to `seq` was given; what follows is live. Once per subscription."""

    seq: int


class ThreadSnapshot(NamedTuple):
    """The fold of the log up to `seq`: replaces whatever the reader has. The cursor stands at `seq` now."""

    seq: int
    epoch: str
    thread: Thread
    transcript: bytes
    """JSON of a `runcast.transcript.Transcript`."""


class Resync(NamedTuple):
    """The reader's cursor does not belong to this log; a snapshot follows, but after `deleted` nothing does."""

    reason: ResyncReason


Update = Events | CaughtUp | ThreadSnapshot | Resync


def join(records: Sequence[Record], limit: int | None = None) -> list[Record]:
    """Consecutive deltas of one item joined into one: text, reasoning or arguments of the same run, message or tool call,
    adjacent in the log, never across another event.

    A joined record's `from` is its first seq, `seq` its last, `timestamp` the first's; joined ones can be joined again. A record that nothing is
    joined to is passed on as it is, the same object. `limit` bounds a joined delta, in characters (one that is longer
    already stays as it is). A delta that carries more than its envelope (`rawEvent`, `metadata`) is never joined: nothing is lost.
    """
    joined: list[Record] = []
    group: list[Record] = []
    size = 0
    for record in records:
        event = record.event
        if group and _continues(group[-1].event, event):
            length = len(cast(_Delta, event).delta)
            if limit is None or size + length <= limit:
                group.append(record)
                size += length
                continue
        if group:
            joined.append(_one(group))
            group = []
        if isinstance(event, DELTAS) and event.raw_event is UNSET and event.metadata is UNSET:
            group = [record]
            size = len(cast(_Delta, event).delta)
        else:
            joined.append(record)
    if group:
        joined.append(_one(group))
    return joined


_Delta = TextMessageContent | ReasoningMessageContent | ToolCallArgs


def _continues(last: Event, event: Event) -> bool:
    """Whether `event`, the next record, goes on with the item of `last`, a delta that may be joined."""
    if type(last) is not type(event) or last.run_id != event.run_id or last.subagent_run_id != event.subagent_run_id:
        return False
    if event.raw_event is not UNSET or event.metadata is not UNSET:
        return False
    first = event.seq if event.from_ is UNSET else event.from_
    if last.seq is UNSET or first is UNSET or first != last.seq + 1:
        return False
    match last, event:
        case (TextMessageContent(), TextMessageContent()) | (ReasoningMessageContent(), ReasoningMessageContent()):
            return last.message_id == event.message_id
        case ToolCallArgs(), ToolCallArgs():
            return last.tool_call_id == event.tool_call_id
        case _:
            return False


def _one(group: list[Record]) -> Record:
    if len(group) == 1:
        return group[0]
    first = group[0].event
    last = group[-1].event
    whole = msgspec.structs.replace(
        first,
        from_=first.seq if first.from_ is UNSET else first.from_,
        seq=last.seq,
        delta="".join([cast(_Delta, record.event).delta for record in group]),
    )
    return Record(whole, encode(whole))
