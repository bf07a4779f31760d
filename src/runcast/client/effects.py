"""What a `Connection` asks its driver to do, in order, and what it tells about its subscriptions and commands. No I/O."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from runcast.events import Event

State = Literal["waiting", "connecting", "greeting", "open", "stopped"]


class Connect(NamedTuple):
    """Open a socket, then call `opened` or `disconnected`. `fresh_token`: the last token was refused."""

    fresh_token: bool


class Transmit(NamedTuple):
    text: str


class Disconnect(NamedTuple):
    """Close the socket; the machine does not wait for it and ignores what still comes from it."""

    code: int


class Answered(NamedTuple):
    """The server carried the command out (perhaps already on an earlier try)."""

    id: str
    result: dict[str, Any]


class Refused(NamedTuple):
    """The server will not carry the command out, and trying again would not help."""

    id: str
    code: str
    message: str
    retry_after_ms: int | None
    at: str | None = None


class Batch(NamedTuple):
    """The next events of a subscription, each after the one before."""

    key: int
    events: list[Event]


class CaughtUp(NamedTuple):
    """All that was in the log when the subscription (or its renewal) began has been given."""

    key: int
    seq: int


class SnapshotTaken(NamedTuple):
    """The transcript as of `seq`; replaces what the reader has."""

    key: int
    seq: int
    epoch: str
    thread: dict[str, Any]
    transcript: bytes


class Rewound(NamedTuple):
    """The log is another one now (`reason`: epoch, ahead, trimmed); a snapshot follows."""

    key: int
    reason: str


class Ended(NamedTuple):
    """The subscription is over: the thread was deleted, is not there, or not one's own."""

    key: int
    code: str
    message: str


class StateChanged(NamedTuple):
    state: State
    detail: str
    """For people: why, in a sentence; empty when it is plain."""
    retry_in_s: float | None


class Stopped(NamedTuple):
    """No further try will be made."""

    code: str
    message: str


Effect = (
    Connect
    | Transmit
    | Disconnect
    | Answered
    | Refused
    | Batch
    | CaughtUp
    | SnapshotTaken
    | Rewound
    | Ended
    | StateChanged
    | Stopped
)
