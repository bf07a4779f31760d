"""Server-sent events, written so that every known client reads them (WHATWG HTML, section 9.2).

LF line ends; one `data:` line per event; comments as keep-alive, the first one at once; never `retry:`, never an event without
data. A stream that has not said its protocol's last word is cut, never ended cleanly: clients take a clean end for success.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence

import anyio
import anyio.lowlevel
from starlette.responses import Response

from runcast.auth import LEEWAY_S, Identity
from runcast.dialects.base import Encoder, Frame
from runcast.runs import Principal
from runcast.subscription import RunSubscription, Subscription
from runcast.transports.gateway import FLUSH_S, Gateway, Place
from runcast.transports.line import Line, line_of
from runcast.transports.wire import IDENTITY, Receive, Scope, Send, StreamCut, request_id_of
from runcast.updates import ThreadSnapshot, Update

logger = logging.getLogger("runcast.sse")

PING_S = 15
"""Silence after which a comment is sent."""


class EventStream(Response):
    """The ASGI response that writes one subscription. `preface` comes before what it says; `with_ids`:
    each event that ends a log position carries `<epoch>:<seq>`. `epilogue` is written behind the protocol's last word;
    `on_end` is awaited when nothing more is written, however that came to be. It leaves `place` at its end."""

    def __init__(
        self,
        gateway: Gateway,
        subscription: Subscription | RunSubscription,
        encoder: Encoder,
        place: Place,
        *,
        preface: Sequence[Update] = (),
        with_ids: bool = True,
        headers: Mapping[str, str] | None = None,
        epilogue: bytes = b"",
        on_end: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._gateway = gateway
        self._subscription = subscription
        self._encoder = encoder
        self._place = place
        self._epoch = subscription.epoch
        self._preface = preface
        self._with_ids = with_ids
        self._epilogue = epilogue
        self._on_end = on_end
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
        if not self._ended:
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
            await self._put(send, b": open\n\n" + self._format(frames))
            while not self._ended:
                update = await self._subscription.next(timeout_s=PING_S)
                if update is None:
                    if self._subscription.ended:
                        return
                    await self._put(send, b": ping\n\n")
                    continue
                if isinstance(update, ThreadSnapshot):
                    self._epoch = update.epoch
                frames = self._encoder.update(update)
                if frames:
                    self._ended = any(frame.ends for frame in frames)
                    await self._put(send, self._format(frames) + (self._epilogue if self._ended else b""))
                frames = update = None  # while this reader is stuck it holds nothing but what is in its socket (I10)
                if self._line is not None and self._line.is_full:
                    await self._room(self._line)
                else:
                    await anyio.lowlevel.checkpoint()  # a replay may never wait otherwise, and others want their turn
        except TimeoutError:
            logger.info("a reader made no progress for %g s and was let go", self._gateway.send_timeout_s)
            if self._line is not None:
                self._line.abort()
        except OSError:  # uvicorn's ClientDisconnected is one
            self._gone = True
        except Exception:
            logger.exception("stream failed", extra={"request_id": self._request_id})

    def _format(self, frames: Sequence[Frame]) -> bytes:
        lines: list[bytes] = []
        for frame in frames:
            if frame.name is not None:
                lines.append(b"event: %b\n" % frame.name.encode())
            if self._with_ids and frame.seq is not None and frame.last:
                lines.append(b"id: %b:%d\n" % (self._epoch.encode(), frame.seq))
            lines.append(b"data: %b\n\n" % frame.data)
        return b"".join(lines)

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
