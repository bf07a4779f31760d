"""The socket of the `progress` dialect: it watches whatever runs for one user, in all of that user's threads.

What it reads is `transports.progress_watches`'; here is who may come in, and how it ends. What went on already when the socket came is
folded in silence, so that tool names are known.

Nothing that a client says here means anything; the message goes by HTTP (`transports.progress_posting`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import anyio
import anyio.abc

from runcast.auth import LEEWAY_S, Identity, read_offer
from runcast.dialects.base import Frame
from runcast.dialects.progress import established
from runcast.errors import Forbidden, TooManyConnections, Unauthenticated
from runcast.ids import EXTERNAL_ID
from runcast.runs import Principal
from runcast.session import Close, CloseCode, close_for
from runcast.subscription import Subscription
from runcast.transports.gateway import FLUSH_S, Gateway, Place
from runcast.transports.inflow import Inflow
from runcast.transports.outlet import Outlet
from runcast.transports.presented import QueryToken
from runcast.transports.progress_watches import Watches
from runcast.transports.talk import CLOSE_TIMEOUT_S
from runcast.transports.wire import IDENTITY, REFUSED, Receive, Scope, Send, request_id_of

logger = logging.getLogger("runcast.progress")


async def user_of(gateway: Gateway, scope: Scope, query_token: QueryToken) -> Identity:
    """Who is there, at an address that may name a user (`{user_id}`). Without authentication the address is taken at its word,
    so that users are kept apart on one machine too.

    Raises:
        Unauthenticated: as `Gateway.identify_scope`.
        Forbidden: that too; or the address is another user's.
    """
    identity = await gateway.identify_scope(scope, query_token=query_token)
    user: str | None = scope.get("path_params", {}).get("user_id")
    if user is None or user == identity.principal.user:
        return identity
    if not gateway.authenticator.is_open or EXTERNAL_ID.match(user) is None:
        if scope["type"] == "websocket":
            scope[REFUSED] = True
        gateway.refusals.tell(scope, Forbidden.code)
        raise Forbidden("This address is another user's.")
    identity = identity._replace(principal=Principal(user=user, tenant=identity.principal.tenant))
    scope[IDENTITY] = identity
    return identity


class Tabs:
    """The sockets that are open, by user."""

    def __init__(self) -> None:
        self._open: dict[Principal, dict[ProgressConnection, None]] = {}

    def add(self, principal: Principal, tab: ProgressConnection) -> None:
        self._open.setdefault(principal, {})[tab] = None

    def remove(self, principal: Principal, tab: ProgressConnection) -> None:
        tabs = self._open.get(principal, {})
        tabs.pop(tab, None)
        if not tabs:
            self._open.pop(principal, None)

    def of(self, principal: Principal) -> Sequence[ProgressConnection]:
        return tuple(self._open.get(principal, ()))


class ProgressSocket:
    """The ASGI application behind one path."""

    def __init__(self, gateway: Gateway, tabs: Tabs, query_token: QueryToken) -> None:
        self._gateway = gateway
        self._tabs = tabs
        self._query_token: QueryToken = query_token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await ProgressConnection(self._gateway, self._tabs, scope, receive, send, self._query_token).run()


class ProgressConnection:
    def __init__(
        self, gateway: Gateway, tabs: Tabs, scope: Scope, receive: Receive, send: Send, query_token: QueryToken
    ) -> None:
        self._gateway = gateway
        self._tabs = tabs
        self._scope = scope
        self._query_token: QueryToken = query_token
        self._receive = receive
        self._asgi_send = send
        self._outlet = Outlet(gateway, scope, send)
        self._identity: Identity
        self._principal: Principal
        self._place: Place
        self.watches: Watches
        self._inflow = Inflow(gateway.clock.monotonic())
        self._wake = anyio.Event()
        self._stop_asked = False
        self._revoked = False
        self._close: Close | None = None
        self._tasks: anyio.abc.TaskGroup

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
                self.watches.end()
                self._tabs.remove(self._principal, self)
                self._place.leave()
        await self._say_goodbye()

    async def _accept_socket(self) -> None:
        protocol = read_offer(self._scope.get("subprotocols", ())).echo
        async with self._gateway.entrance():
            await self._asgi_send({"type": "websocket.accept", "subprotocol": protocol, "headers": []})

    async def _enter(self) -> Close | None:
        try:
            self._identity = await user_of(self._gateway, self._scope, self._query_token)
        except (Unauthenticated, Forbidden) as error:
            await self._accept_socket()
            return close_for(error)
        self._principal = self._identity.principal
        self.watches = Watches(self._gateway, self._principal, self._outlet)
        try:
            self._place = self._gateway.claim(self._principal).keep()
        except TooManyConnections:
            await self._accept_socket()
            return Close(CloseCode.TOO_MANY_CONNECTIONS, "This user has too many connections.")
        return None

    async def _live(self) -> None:
        """Find out what goes on; then let the client in, so that it misses nothing from then on."""
        try:
            inbox = await self._gateway.service.follow_inbox(self._principal)  # first: what begins meanwhile is in both
        except Exception as error:
            await self._accept_socket()
            self._failed(error)
            return
        try:
            await self._follow_from(inbox)
        finally:
            inbox.close()  # its task may never have begun

    async def _follow_from(self, inbox: Subscription) -> None:
        try:
            await self.watches.join_in()
        except Exception as error:
            await self._accept_socket()
            self._failed(error)
            return
        await self._accept_socket()
        await self.watches.say([Frame(established(self._principal.user))])
        self._tabs.add(self._principal, self)
        self._tasks.start_soon(self._keep_time)
        self._tasks.start_soon(self._guarded_follow, inbox)
        await self._guarded_read()

    async def _guarded_follow(self, inbox: Subscription) -> None:
        try:
            await self.watches.follow(inbox)
        except Exception as error:
            self._failed(error)

    async def _say_goodbye(self) -> None:
        if self._close is None:
            return
        logger.debug("closing with %d", self._close.code, extra={"request_id": request_id_of(self._scope)})
        with anyio.move_on_after(CLOSE_TIMEOUT_S, shield=True) as too_late:
            try:
                await self._asgi_send(
                    {"type": "websocket.close", "code": int(self._close.code), "reason": self._close.reason}
                )
            except (OSError, RuntimeError):  # the peer was faster: there is nobody left to be told
                pass
        if too_late.cancelled_caught:
            self._outlet.abort()

    def drain(self) -> None:
        """Nothing to say: the protocol has no word for it."""

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
        self.watches.end()
        self._tasks.cancel_scope.cancel()

    def _failed(self, error: Exception) -> None:
        logger.error("websocket failed", exc_info=error, extra={"request_id": request_id_of(self._scope)})
        self._end(Close(CloseCode.INTERNAL, "Something went wrong on the server."))

    # --- in -------------------------------------------------------------------------------------------------------

    async def _guarded_read(self) -> None:
        try:
            while not self.watches.over:
                message = await self._receive()
                if message["type"] == "websocket.disconnect":
                    self.watches.end()
                    return
                text: str | None = message.get("text")
                data = text if text is not None else message.get("bytes") or b""
                if (close := self._inflow.take(data, self._gateway.clock.monotonic())) is not None:
                    self._end(close)
                    return
        except Exception as error:
            self._failed(error)

    # --- time -----------------------------------------------------------------------------------------------------

    async def _keep_time(self) -> None:
        clock = self._gateway.clock
        expires_at = self._identity.expires_at
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
            wait_s = self._outlet.stuck_at() - clock.monotonic()
            if expires_at is not None:
                left_s = expires_at / 1000 + LEEWAY_S - clock.now_ms() / 1000
                if left_s <= 0:
                    self._end(Close(CloseCode.UNAUTHENTICATED, "The token has expired."))
                    return
                wait_s = min(wait_s, left_s)
            self._wake = anyio.Event()
            if self._stop_asked or self._revoked:
                continue
            with anyio.move_on_after(max(0.0, wait_s)):
                await self._wake.wait()

    async def _finish(self) -> None:
        await self.watches.finish(FLUSH_S)
        self._end(Close(CloseCode.RESTART, "The server restarts."))
