"""The Dialect seam: a wire protocol as two pure functions, bytes → commands and events → frames.

A dialect knows no socket, clock or id source. Its encoder is a fold over the log: `(state, record) → (state, frames)`, and
everything in a frame (ids, times, words) comes from the events and from what the encoder was made with. Hence:

- two encoders made alike and given the same records give the same frames;
- an encoder made anew and given the records from the start stands where the old one stood, so that a resumed stream equals
  the continued one, up to the joining of adjacent deltas (I12);
- nothing is sent that the log does not hold, and two clients of different dialects on one thread see the same run.

What a reader sees first is the dialect's `attach`:

    tail      only what comes after it attached (a socket that watches)
    replay    the log from a cursor, or from the run's first event
    snapshot  the fold of the log so far, then the tail

A frame carries the place of its event: `seq`, and `k` if an event makes several frames (0, 1 …). The transport makes ids from
them where the protocol has ids (`seq.k`, `seq × 64 + k`); only the `last` frame of an event may be resumed after.

`runcast.transports` does everything else: waiting, sending, limits, keep-alives, closing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

from runcast.commands import AnyCommand
from runcast.events import Record
from runcast.updates import Update

Attach = Literal["tail", "replay", "snapshot"]

OnClose = Literal["nothing", "cancel"]
"""What the end of a connection means to the runs that it watched: nothing (`on_disconnect` still holds), or that they are
stopped at once."""


class Frame(NamedTuple):
    """One message on the wire: the text of a WebSocket message, or the `data:` of a server-sent event."""

    data: bytes
    """UTF-8, without line breaks where the transport is SSE."""
    seq: int | None = None
    """The log position it stands for; None for what is not in the log."""
    k: int = 0
    """Which of the event's frames."""
    last: bool = True
    """No frame of the same event follows."""
    name: str | None = None
    """The `event:` of a server-sent event; None for plain messages."""
    ends: bool = False
    """The protocol's terminal frame: after it a stream may end cleanly, before it never."""


class Encoder(Protocol):
    """One reader's state of the fold. Not shared, not thread-safe, cheap to make."""

    def encode(self, record: Record) -> Sequence[Frame]:
        """The frames of one record, possibly none. Records come in order, each once; deltas may be joined."""
        ...

    def update(self, update: Update) -> Sequence[Frame]:
        """The frames of whatever a subscription says: records through `encode`, and what the dialect says of the rest."""
        ...


class Start(NamedTuple):
    """What an encoder is made with: where in the log it begins, and of what."""

    thread: str
    epoch: str
    after: int = 0
    """The seq before the first record it will be given."""
    run: str | None = None
    """Set when the stream is one run's."""


class Dialect(Protocol):
    @property
    def name(self) -> str:
        """Lower case, words joined by `-`: as in settings and in the documentation."""
        ...

    @property
    def attach(self) -> Attach: ...

    @property
    def joins(self) -> bool:
        """Whether deltas of one item may be joined for a reader that lags."""
        ...

    def decode(self, data: str | bytes) -> Sequence[AnyCommand]:
        """The commands in one message of the client.

        Raises:
            BadFrame: it says nothing that this protocol knows.
        """
        ...

    def encoder(self, start: Start) -> Encoder: ...

    def on_close(self, deliberate: bool) -> OnClose:
        """What it means that the client has gone. `deliberate`: it closed the connection on purpose (a close frame with code
        1000 or none); false: the line broke, or the page went away."""
        ...

    def error(self, code: str, message: str, *, request_id: str) -> Sequence[Frame]:
        """How this protocol says that something went wrong, outside of the log."""
        ...


class BadFrame(Exception):
    """A client's message that cannot be read. `malformed`: not even the protocol's syntax (three of them end a connection);
    otherwise it was understood as far as `id`, and its field or `op` is wrong."""

    def __init__(self, message: str, *, id: str | None = None, malformed: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.id = id
        self.malformed = malformed
