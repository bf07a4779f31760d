"""What a subscription tells its reader, in order. No I/O.

A reader that lags gets consecutive text, reasoning and argument deltas of one item joined (`join`); nothing else is ever
merged, reordered or dropped.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from runcast.events import Record
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
