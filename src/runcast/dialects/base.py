"""The Dialect seam: a wire protocol as two pure functions, a client's message → `Ask` and events → frames.

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

Three levels, each a Protocol; a dialect is whichever it needs:

    Dialect        events → frames: all that a server-sent stream needs
    TalkDialect    … and one message of a client → one `Ask`: a WebSocket on which people talk (`transports.talk`)
    AnswerDialect  … and a whole run → one JSON answer: the fallback by HTTP POST

A dialect may say what of a run its protocol has no words for, in `loses`, a tuple of short phrases: the reference shows them.

`runcast.transports` does everything else: who it is, waiting, sending, limits, keep-alives, closing.
`runcast.testing.DialectSuite` holds every dialect to this page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final, Literal, NamedTuple, Protocol, runtime_checkable

from runcast.events import Record
from runcast.updates import Events, Update

Attach = Literal["tail", "replay", "snapshot"]

OnClose = Literal["nothing", "cancel"]
"""What the end of a connection means to the runs that it watched: nothing (`on_disconnect` still holds), or that they are
stopped at once."""

Options = Mapping[str, str]
"""What a client chose for its own stream, in its URL or in its first message."""

NO_OPTIONS: Final[Options] = MappingProxyType({})


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
    supersedes: bool = False
    """It says all that the reader's last such frame said, and more: a reader that has not taken that yet needs only this."""


class Start(NamedTuple):
    """What an encoder is made with: where in the log it begins, of what, and what the client calls it."""

    thread: str
    epoch: str
    after: int = 0
    """The seq before the first record it will be given."""
    run: str | None = None
    """Set when the stream is one run's: other runs' events are not given to it."""
    conversation: str = ""
    """The client's own id of the thread; the thread's where it has none."""
    options: Options = NO_OPTIONS


class Encoder(Protocol):
    """One reader's state of the fold. Not shared, not thread-safe, cheap to make."""

    def encode(self, record: Record) -> Sequence[Frame]:
        """The frames of one record, possibly none. Records come in order, each once; deltas may be joined.

        A run's terminal event (`runcast.events.TERMINAL`) makes exactly one frame with `ends`; nothing of that run follows.
        """
        ...

    def update(self, update: Update) -> Sequence[Frame]:
        """The frames of whatever a subscription says: records through `encode`, and what the dialect says of the rest."""
        ...


class RecordEncoder:
    """An encoder that has words for records only: what most dialects' are. Subclasses write `encode`."""

    def encode(self, record: Record) -> Sequence[Frame]:
        raise NotImplementedError

    def update(self, update: Update) -> Sequence[Frame]:
        if not isinstance(update, Events):
            return ()
        return [frame for record in update.records for frame in self.encode(record)]


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

    def encoder(self, start: Start) -> Encoder: ...

    def error(self, code: str, message: str, *, request_id: str) -> Sequence[Frame]:
        """How this protocol says that something went wrong, outside of the log: a frame that cannot be read, a message that
        was not taken. `message` is a sentence for people."""
        ...


class Ask(NamedTuple):
    """What one message of a client asks the agent."""

    text: str
    conversation: str | None = None
    """The client's own id of the conversation (1-128 characters); None: the connection's thread, or a new one."""
    options: Options = NO_OPTIONS
    """Given to the encoder of the run that answers."""


class KeepAlive(NamedTuple):
    after_s: float
    """So long no frame went in either direction."""
    frame: bytes


@runtime_checkable
class TalkDialect(Dialect, Protocol):
    """A WebSocket on which a message asks and frames answer. Each message waits for its turn: one run at a time per socket."""

    @property
    def sockets(self) -> Sequence[str]:
        """Where it is by default: paths of WebSockets. Of their parameters `{session_id}` and `{thread}` name the conversation
        that the socket follows, `{user_id}` must be the user's own; others mean nothing."""
        ...

    @property
    def keeps_thread(self) -> bool:
        """What a message without a conversation is part of: the connection's own thread, which nobody can come back to (true),
        or each a new one (false)."""
        ...

    @property
    def asks(self) -> int | None:
        """How many messages one connection may send; the connection is closed (1000) after the answer to the last one. None:
        any number. Where it is 1, a frame that cannot be read ends the connection too."""
        ...

    @property
    def keep_alive(self) -> KeepAlive | None:
        """What is said into a silence; None: WebSocket pings only."""
        ...

    @property
    def answers_refusals(self) -> bool:
        """Whether `error` is said before a connection is closed because of who, or from where, the client is."""
        ...

    @property
    def whole_results(self) -> bool:
        """Whether a tool's result goes to the client whole where the log has only the beginning of it and a blob."""
        ...

    def decode(self, data: str | bytes) -> Ask | None:
        """What one message asks; None if it asks nothing and needs no answer.

        Raises:
            BadFrame: it says nothing that this protocol knows. Its text goes to the client through `error`.
        """
        ...

    def on_close(self, deliberate: bool) -> OnClose:
        """What it means that the client has gone while its run goes on. `deliberate`: it closed the connection on purpose (a
        close frame with code 1000 or none); false: the line broke, or the page went away."""
        ...


@runtime_checkable
class AnswerDialect(TalkDialect, Protocol):
    """A dialect with a fallback over HTTP: the body of a POST is a message, the answer is one JSON object or a stream."""

    @property
    def posts(self) -> Mapping[str, Literal["answer", "stream"]]:
        """Where by default, and how it is answered: with `answer`, or with the socket's frames as server-sent events."""
        ...

    def answer(self, start: Start, records: Sequence[Record]) -> bytes:
        """The JSON of a whole run that did not fail; `records` are its events, from the first to the terminal one."""
        ...


@runtime_checkable
class PushDialect(TalkDialect, Protocol):
    """A dialect in which the server's own code may say something to a client (`transports.clients`)."""

    def pushed(self, text: str) -> Sequence[Frame]:
        """The frames of a text that is no run's, and not in the log. Not empty unless `text` is."""
        ...


class RejoinEncoder(Encoder, Protocol):
    """An encoder whose reader may come back for what it missed. It has encoded all up to now when it is asked."""

    def missed(self, frames: Sequence[Frame]) -> Sequence[Frame]:
        """Which of these frames, that did not reach the reader, it still gets."""
        ...

    def standing(self) -> Sequence[Frame]:
        """What a reader that comes in is told of the run that goes on; nothing if none does. Their `seq` is None: they are not
        in the log."""
        ...


@runtime_checkable
class RejoinDialect(TalkDialect, Protocol):
    """A dialect whose clients come back for what did not reach them (`transports.rejoining`)."""

    @property
    def rejoins(self) -> Literal["conversation", "browser"]:
        """By what they are known again: the conversation in the URL, whoever of its sockets was reached; or a cookie, and then
        the run that a lost socket asked for goes on on the first new one."""
        ...

    def encoder(self, start: Start) -> RejoinEncoder: ...


class BadFrame(Exception):
    """A client's message that cannot be read. `malformed`: not even the protocol's syntax (three of them end a native
    connection); otherwise it was understood as far as `id`, and its field or `op` is wrong."""

    def __init__(self, message: str, *, id: str | None = None, malformed: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.id = id
        self.malformed = malformed
