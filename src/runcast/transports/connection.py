"""What the sockets of all dialects have in common below what is said on them: coming in, growing stuck, ending, closing.

A socket is accepted first and closed then: a close before the accept reaches a browser as HTTP 403, without its code. The
native socket has a session instead (`runcast.session`), with deadlines of its own.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Final

import anyio
import anyio.abc

from runcast.auth import LEEWAY_S, read_offer
from runcast.errors import TooManyConnections
from runcast.runs import Principal
from runcast.session import Close, CloseCode
from runcast.transports.gateway import Gateway, Place
from runcast.transports.outlet import Outlet
from runcast.transports.wire import Receive, Scope, Send, request_id_of

logger = logging.getLogger("runcast.connection")

ASK_TIMEOUT_S: Final = 60.0
"""A message that was begun to be accepted is accepted even if its client goes away, but not for ever."""
CLOSE_TIMEOUT_S: Final = 5.0
"""How long a peer that does not read may take to make room for a close frame."""

EXPIRED: Final = Close(CloseCode.UNAUTHENTICATED, "The token has expired.")
"""Of 4002 only native clients know; all others sign people in again at 4001."""
FAILED: Final = Close(CloseCode.INTERNAL, "Something went wrong on the server.")


class DialectConnection:
    """One WebSocket of a dialect, from its handshake to its close. Subclasses say who may come in (`_enter`) and what is said
    (`_live`, which starts `_keep_time`); the server tells it to end by `stop` and `revoke`."""

    def __init__(self, gateway: Gateway, scope: Scope, receive: Receive, send: Send) -> None:
        self._gateway = gateway
        self._scope = scope
        self._receive = receive
        self._asgi_send = send
        self._outlet = Outlet(gateway, scope, send)
        self._principal: Principal
        self._place: Place
        self._expires_at: int | None = None
        """When the client's token ends, Unix milliseconds."""
        self._wake = anyio.Event()
        self._stop_asked = False
        self._revoked = False
        self._close: Close | None = None
        self._tasks: anyio.abc.TaskGroup

    # --- what a dialect says --------------------------------------------------------------------------------------

    async def _enter(self) -> Close | None:
        """Find out who is there, and take their place; the close that follows, after the accept, if they may not come in."""
        raise NotImplementedError

    async def _live(self) -> None:
        """Everything between the handshake and the end. Returns when the client is gone or `_end` was called."""
        raise NotImplementedError

    async def _finish(self) -> None:
        """The server stops: say what is in the log still, then `_end`."""
        raise NotImplementedError

    def _over(self) -> None:
        """Nothing is said from now on. Idempotent."""

    def _left(self) -> None:
        """The connection is over; give back what was taken beside its place."""

    async def _say_last_words(self, close: Close) -> None:
        """What is said before the close."""

    def _due_s(self) -> float:
        """What is to be done by the clock; in how many seconds there is something again."""
        return math.inf

    # --- life -----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Returns when the connection is over, whatever ended it."""
        if (await self._receive())["type"] != "websocket.connect":
            return
        self._close = await self._enter()
        if self._close is None:
            try:
                with self._gateway.join(self):
                    async with anyio.create_task_group() as self._tasks:
                        await self._live()
                        self._tasks.cancel_scope.cancel()
            finally:
                self._over()
                self._place.leave()
                self._left()
        await self._say_goodbye()

    async def _accept_socket(self, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        protocol = read_offer(self._scope.get("subprotocols", ())).echo
        async with self._gateway.entrance():
            await self._asgi_send({"type": "websocket.accept", "subprotocol": protocol, "headers": headers})

    def _claim(self) -> Close | None:
        """Take one of the user's places; the close that follows if there is none."""
        try:
            self._place = self._gateway.claim(self._principal).keep()
        except TooManyConnections:
            return Close(CloseCode.TOO_MANY_CONNECTIONS, "This user has too many connections.")
        return None

    async def _say_goodbye(self) -> None:
        close = self._close
        if close is None:
            return
        logger.debug("closing with %d", close.code, extra={"request_id": request_id_of(self._scope)})
        with anyio.move_on_after(CLOSE_TIMEOUT_S, shield=True) as too_late:
            try:
                await self._say_last_words(close)
                await self._asgi_send({"type": "websocket.close", "code": int(close.code), "reason": close.reason})
            except (OSError, RuntimeError):  # the peer was faster: there is nobody left to be told
                pass
        if too_late.cancelled_caught:
            self._outlet.abort()

    def drain(self) -> None:
        """Nothing to say: these protocols have no word for it."""

    def stop(self) -> None:
        self._stop_asked = True
        self._wake.set()

    def revoke(self, principal: Principal) -> None:
        if self._principal == principal:
            self._revoked = True
            self._wake.set()

    def _end(self, close: Close | None) -> None:
        """Stop all tasks; the first reason counts. Without a reason the peer is gone."""
        if self._close is None:
            self._close = close
        self._over()
        self._tasks.cancel_scope.cancel()

    # --- time -----------------------------------------------------------------------------------------------------

    async def _keep_time(self) -> None:
        clock = self._gateway.clock
        while True:
            if self._revoked:
                self._end(Close(CloseCode.REVOKED, "The session was ended."))
                return
            if self._stop_asked:
                await self._finish()
                return
            if self._outlet.is_stuck():
                self._end(Close(CloseCode.NO_PROGRESS, "No progress."))
                return
            left_s = self._token_left_s()
            if left_s <= 0:
                self._end(EXPIRED)
                return
            wait_s = min(self._outlet.stuck_at() - clock.monotonic(), left_s, self._due_s())
            self._wake = anyio.Event()
            if self._stop_asked or self._revoked:
                continue
            with anyio.move_on_after(max(0.0, wait_s)):
                await self._wake.wait()

    def _token_left_s(self) -> float:
        if self._expires_at is None:
            return math.inf
        return self._expires_at / 1000 + LEEWAY_S - self._gateway.clock.now_ms() / 1000
