"""The socket of the `progress` dialect: it watches whatever runs for one user, in all of that user's threads.

What it reads is `transports.progress_watches`'; here is who may come in, and how it ends. What went on already when the socket came is
folded in silence, so that tool names are known.

Nothing that a client says here means anything; the message goes by HTTP (`transports.progress_posting`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from runcast.auth import Identity
from runcast.dialects.base import Frame
from runcast.dialects.progress import established
from runcast.errors import Forbidden, Unauthenticated
from runcast.ids import EXTERNAL_ID
from runcast.runs import Principal
from runcast.session import Close, CloseCode, close_for
from runcast.subscription import Subscription
from runcast.transports.connection import FAILED, DialectConnection
from runcast.transports.gateway import FLUSH_S, Gateway
from runcast.transports.inflow import Inflow
from runcast.transports.presented import QueryToken
from runcast.transports.progress_watches import Watches
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


class ProgressConnection(DialectConnection):
    def __init__(
        self, gateway: Gateway, tabs: Tabs, scope: Scope, receive: Receive, send: Send, query_token: QueryToken
    ) -> None:
        super().__init__(gateway, scope, receive, send)
        self._tabs = tabs
        self._query_token: QueryToken = query_token
        self.watches: Watches
        self._inflow = Inflow(gateway.clock.monotonic())

    # --- life -----------------------------------------------------------------------------------------------------

    def _over(self) -> None:
        self.watches.end()

    def _left(self) -> None:
        self._tabs.remove(self._principal, self)

    async def _enter(self) -> Close | None:
        try:
            identity = await user_of(self._gateway, self._scope, self._query_token)
        except (Unauthenticated, Forbidden) as error:
            await self._accept_socket()
            return close_for(error)
        self._principal, self._expires_at = identity.principal, identity.expires_at
        self.watches = Watches(self._gateway, self._principal, self._outlet)
        if (refusal := self._claim()) is not None:
            await self._accept_socket()
        return refusal

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

    def _failed(self, error: Exception) -> None:
        logger.error("websocket failed", exc_info=error, extra={"request_id": request_id_of(self._scope)})
        self._end(FAILED)

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

    async def _finish(self) -> None:
        await self.watches.finish(FLUSH_S)
        self._end(Close(CloseCode.RESTART, "The server restarts."))
