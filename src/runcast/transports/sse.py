"""Server-sent events, written so that every known client reads them (WHATWG HTML, section 9.2).

LF line ends; one `data:` line per event; comments as keep-alive, the first one at once; never `retry:`, never an event without
data. A stream that has not said its protocol's last word is cut, never ended cleanly: clients take a clean end for success.

All dialects write by this. What differs between them stands in a `Framing`:

    Framing()                       ids, `: open`, `: ping`: the native stream
    Framing(ids=False)              for readers that do not clear an id at a blank line (OpenAI's Python client)
    Framing(ids=False, tail=b"[DONE]")      one data line more behind the last word
    Framing(ids=False, lasts_s=60)          a clean end means "come again": the protocol's reader knows where it stood
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

import anyio
import anyio.lowlevel
from starlette.responses import Response

from runcast.auth import LEEWAY_S, Identity
from runcast.dialects.base import Encoder, Frame
from runcast.runs import Principal, Thread
from runcast.transports.gateway import FLUSH_S, Gateway, Place
from runcast.transports.line import Line, line_of
from runcast.transports.wire import IDENTITY, Receive, Scope, Send, StreamCut, request_id_of
from runcast.updates import ThreadSnapshot, Update

logger = logging.getLogger("runcast.sse")

PING_S = 15
"""Silence after which a comment is sent."""


class Framing(NamedTuple):
    """How one protocol's stream is written."""

    ids: bool = True
    """Each event that ends a log position carries `id: <epoch>:<seq>`."""
    opening: str = "open"
    """The comment at the beginning: it tells proxies and clients that the stream is there."""
    ping: str = "ping"
    """The comment into a silence of `PING_S`."""
    tail: bytes = b""
    """A last `data:` line, behind the frame that ends the stream; none if empty."""
    lasts_s: float | None = None
    """The protocol's readers take a clean end without a last word for "come again, after what you have": the stream is ended
    so after this many seconds, when the server stops and when it is no longer allowed. None: such a stream is cut."""

    def text(self, frames: Sequence[Frame], epoch: str) -> bytes:
        """Frames as they stand on the wire, the tail behind one that ends."""
        lines: list[bytes] = []
        for frame in frames:
            if frame.name is not None:
                lines.append(b"event: %b\n" % frame.name.encode())
            if self.ids and frame.seq is not None and frame.last:
                lines.append(b"id: %b:%d\n" % (epoch.encode(), frame.seq))
            lines.append(b"data: %b\n\n" % (frame.data if frame.data.isascii() else one_line(frame.data)))
            if frame.ends and self.tail:
                lines.append(b"data: %b\n\n" % self.tail)
        return b"".join(lines)


NATIVE: Final = Framing()


_BREAKS: Final = tuple((chr(code).encode(), b"\\u%04x" % code) for code in (0x85, 0x2028, 0x2029))


def one_line(data: bytes) -> bytes:
    """JSON without the characters that some readers of lines break at besides LF and CR: Python's `splitlines`, and so httpx's
    `iter_lines`. In JSON they can only stand inside of strings, where an escape is the same."""
    if data[:1] in (b"{", b"["):
        for character, escape in _BREAKS:
            if character in data:
                data = data.replace(character, escape)
    return data


def comment(words: str) -> bytes:
    """What every reader skips."""
    return b": %b\n\n" % words.encode()


class Updates(Protocol):
    """What a stream reads: a `Subscription`, a `RunSubscription`, or something in front of one."""

    @property
    def thread(self) -> Thread: ...

    @property
    def epoch(self) -> str: ...

    @property
    def ended(self) -> bool: ...

    async def next(self, timeout_s: float | None = None) -> Update | None: ...

    def close(self) -> None: ...


class EventStream(Response):
    """The ASGI response that writes one subscription. `preface` comes before what it says; with `with_ids` false no event has
    an id, whatever `framing` says. `complete` is given each update before it is encoded. `on_end` is awaited
    when nothing more is written, however that came to be. It leaves `place` at its end."""

    def __init__(
        self,
        gateway: Gateway,
        subscription: Updates,
        encoder: Encoder,
        place: Place,
        *,
        preface: Sequence[Update] = (),
        with_ids: bool = True,
        framing: Framing = NATIVE,
        headers: Mapping[str, str] | None = None,
        complete: Callable[[Update], Awaitable[Update]] | None = None,
        on_end: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._gateway = gateway
        self._subscription = subscription
        self._encoder = encoder
        self._place = place
        self._epoch = subscription.epoch
        self._preface = preface
        self._complete = complete
        self._on_end = on_end
        self._framing = framing if with_ids else framing._replace(ids=False)
        # Starlette's own initialiser is for a body that is there already.
        self.status_code = 200
        self.background = None
        self.init_headers(
            {
                "content-type": "text/event-stream; charset=utf-8",
                "cache-control": "no-store",
                "x-accel-buffering": "no",  # nginx holds a response back otherwise
                **(headers or {}),
            }
        )
        self._ended = False
        self._gone = False
        self._failed = False
        self._line: Line | None = None
        self._scope = anyio.CancelScope()
        self._request_id = ""

    def drain(self) -> None:
        """Nothing to say: the protocol has no word for it."""

    def stop(self) -> None:
        self._scope.deadline = min(self._scope.deadline, anyio.current_time() + FLUSH_S)

    def revoke(self, principal: Principal) -> None:
        owner = self._subscription.thread
        if (owner.tenant, owner.user) == (principal.tenant, principal.user):
            self._scope.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._request_id = request_id_of(scope)
        self._line = line_of(scope)
        identity: Identity | None = scope.get(IDENTITY)
        if identity is not None and identity.expires_at is not None:
            left_s = identity.expires_at / 1000 + LEEWAY_S - self._gateway.clock.now_ms() / 1000
            self._scope.deadline = (
                anyio.current_time() + left_s
            )  # cut like a lost line: the next request says who it is
        if self._framing.lasts_s is not None:
            self._scope.deadline = min(self._scope.deadline, anyio.current_time() + self._framing.lasts_s)
        try:
            with self._gateway.join(self), self._scope:
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._watch, receive, tasks.cancel_scope)
                    await self._write(send)
                    tasks.cancel_scope.cancel()
        finally:
            self._subscription.close()
            self._place.leave()
            if self._on_end is not None:
                with anyio.CancelScope(shield=True):
                    await self._on_end()
        if self._gone:
            return
        if not self._ended and (self._failed or self._framing.lasts_s is None):
            raise StreamCut
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _watch(self, receive: Receive, scope: anyio.CancelScope) -> None:
        """A send to a peer that has gone is silent on some servers; only `receive` tells."""
        while True:
            if (await receive())["type"] == "http.disconnect":
                self._gone = True
                scope.cancel()
                return

    async def _write(self, send: Send) -> None:
        """Until the last word, the end of the subscription or of the reader."""
        try:
            frames = [frame for update in self._preface for frame in self._encoder.update(update)]
            self._ended = any(frame.ends for frame in frames)
            await self._put(send, comment(self._framing.opening) + self._framing.text(frames, self._epoch))
            said_at = anyio.current_time()
            while not self._ended:
                # Counted from what was said last: much of what is read may be nothing that this protocol says.
                update = await self._subscription.next(timeout_s=max(0.0, said_at + PING_S - anyio.current_time()))
                if update is None and self._subscription.ended:
                    return
                frames = () if update is None else await self._encoded(update)
                if frames or anyio.current_time() >= said_at + PING_S:
                    self._ended = any(frame.ends for frame in frames)
                    await self._put(send, self._framing.text(frames, self._epoch) or comment(self._framing.ping))
                    said_at = anyio.current_time()
                frames = update = None  # while this reader is stuck it holds nothing but what is in its socket (I10)
                if self._line is not None and self._line.is_full:
                    await self._room(self._line)
                else:
                    await anyio.lowlevel.checkpoint()  # a replay may never wait otherwise, and others want their turn
        except TimeoutError:
            logger.info("a reader made no progress for %g s and was let go", self._gateway.send_timeout_s)
            self._failed = True
            if self._line is not None:
                self._line.abort()
        except OSError:  # uvicorn's ClientDisconnected is one
            self._gone = True
        except Exception:
            self._failed = True
            logger.exception("stream failed", extra={"request_id": self._request_id})

    async def _encoded(self, update: Update) -> Sequence[Frame]:
        if self._complete is not None:
            update = await self._complete(update)
        if isinstance(update, ThreadSnapshot):
            self._epoch = update.epoch
        return self._encoder.update(update)

    async def _put(self, send: Send, body: bytes) -> None:
        with anyio.fail_after(self._gateway.send_timeout_s):
            await send({"type": "http.response.body", "body": body, "more_body": True})

    async def _room(self, line: Line) -> None:
        """Wait until the peer takes more. A slow one may take as long as it likes, if it only takes something.

        Raises:
            TimeoutError: it took nothing for `send_timeout_s`.
        """
        while line.is_full:
            pending = line.pending()
            with anyio.move_on_after(self._gateway.send_timeout_s):
                await line.room()
                return
            if line.pending() >= pending:
                raise TimeoutError
