"""Durable Streams (ElectricSQL, "The Durable Streams Protocol", 1.0), the reader's half: the log itself, as JSON messages.

Each event is one message of a stream in JSON mode (section 7.1), in the bytes that the log has; nothing is joined, left out or
made up, because what stands at an offset never changes (section 4). A thread is a stream that is never closed, a run one that
is closed behind its terminal event.

An offset is `<seq>_<epoch>`, the seq in sixteen digits, so that offsets of one log sort as they follow one another (section 6).
HTTP, headers and control events are `transports.durable_streams`; they say how a reader stands, which no log knows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from runcast.dialects.base import Attach, Encoder, Frame, RecordEncoder, Start
from runcast.dialects.native import to_bytes
from runcast.events import TERMINAL, Record

_OFFSET = re.compile(r"([0-9]{1,16})(?:_([a-z2-7]{1,32}))?\Z")


def offset_of(seq: int, epoch: str) -> str:
    """The position behind the event `seq` of the log `epoch`."""
    return f"{seq:016d}_{epoch}"


def position_of(offset: str) -> tuple[int, str | None] | None:
    """Seq and epoch of an offset; None if it is none of ours. Without an epoch it is of whatever log there is."""
    found = _OFFSET.match(offset)
    return None if found is None else (int(found[1]), found[2])


def messages_of(records: Iterable[Record]) -> bytes:
    """The JSON array with these events."""
    return b"[%b]" % b",".join([record.data for record in records])


class DurableStreamsEncoder(RecordEncoder):
    def __init__(self, start: Start) -> None:
        self._run = start.run

    def encode(self, record: Record) -> Sequence[Frame]:
        event = record.event
        ends = isinstance(event, TERMINAL) and self._run is not None and event.run_id == self._run
        return (Frame(b"[%b]" % record.data, record.seq, name="data", ends=ends),)


class DurableStreams:
    """The dialect as others see it: frames are `data` events, an array of one message each."""

    name: Final = "durable-streams"
    attach: Attach = "replay"
    joins: Final = False
    loses: tuple[str, ...] = ()

    def encoder(self, start: Start) -> Encoder:
        return DurableStreamsEncoder(start)

    def error(self, code: str, message: str, *, request_id: str) -> Sequence[Frame]:
        body = to_bytes({"code": code, "message": message, "requestId": request_id})
        return (Frame(body, name="error"),)
