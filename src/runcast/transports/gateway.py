"""What all transports of one server share: the service behind them, who may come in, and how the server stands.

It owns no task and no socket. Connections add themselves (`join`) to be told when the server drains and stops.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Literal, Protocol

import anyio
import anyio.lowlevel

from runcast.auth import Authenticator, Identity
from runcast.errors import Forbidden, TooManyConnections, Unauthenticated, Unavailable
from runcast.ids import Clock, IdSource
from runcast.runs import Principal
from runcast.service import Service
from runcast.transports.clients import Clients
from runcast.transports.deliveries import Deliveries
from runcast.transports.presented import QueryToken, credentials_of, renewed
from runcast.transports.refusals import Refusals
from runcast.transports.wire import IDENTITY, REFUSED, Scope

RETRY_MS: tuple[int, int] = (500, 8000)
"""After a restart clients come back at a random time in this range, so that they do not come all at once."""

FULL_MS = 5_000
"""When a user who has too many connections should come back, in milliseconds."""

FLUSH_S = 0.5
"""What readers get at most to be told how their runs ended, before a stop closes their connections."""

ROUND = 25
"""So many connections are closed at once; the next round follows after `ROUND_S`."""
ROUND_S = 0.2
MAX_ROUNDS = 20
"""With more connections than this many rounds take, the rounds are larger."""


class Connection(Protocol):
    """A long-lived connection: both calls only leave a note and return at once."""

    def drain(self) -> None:
        """Tell the client that the server is about to stop."""
        ...

    def stop(self) -> None:
        """End it, so that the client sees a restart and not a success."""
        ...

    def revoke(self, principal: Principal) -> None:
        """End it if it is this principal's: who they are is no longer to be believed."""
        ...


class Gateway:
    def __init__(
        self,
        *,
        authenticator: Authenticator,
        clock: Clock,
        new_id: IdSource,
        send_timeout_s: float = 45,
        connections_per_user: int = 0,
        upload_timeout_s: float = 600,
    ) -> None:
        self.authenticator = authenticator
        self.clock = clock
        self.new_id = new_id
        self.refusals = Refusals(clock)
        self.deliveries = Deliveries(clock)
        self.clients = Clients()
        self.send_timeout_s = send_timeout_s
        self.upload_timeout_s = upload_timeout_s
        self.draining = False
        self.stopping = False
        self._service: Service | None = None
        # A dict, not a set: telling them in the order of their coming keeps a seeded simulation deterministic.
        self._connections: dict[Connection, None] = {}
        self._left = anyio.Event()
        self._entrance = anyio.Lock(fast_acquire=True)
        self._connections_per_user = connections_per_user
        self._places: Counter[Principal] = Counter()

    @property
    def service(self) -> Service:
        if self._service is None:
            raise Unavailable("The server is not running yet, or no longer.", retry_after_ms=RETRY_MS[0])
        return self._service

    @property
    def is_started(self) -> bool:
        return self._service is not None

    def start(self, service: Service) -> None:
        self._service = service
        self.draining = self.stopping = False

    def end(self) -> None:
        self._service = None

    @property
    def status(self) -> Literal["ok", "draining", "starting", "failing"]:
        """How the server stands; only while it is `ok` should new work be sent to it."""
        if self.draining:
            return "draining"
        if self._service is None:
            return "starting"
        return "ok" if self._service.ready else "failing"

    def refuse_while_draining(self) -> None:
        """
        Raises:
            Unavailable: the server is about to stop and starts nothing new.
        """
        if self.draining:
            raise Unavailable("The server is restarting; send it again in a moment.", retry_after_ms=RETRY_MS[1])

    async def identify_scope(
        self,
        scope: Scope,
        *,
        token: str | None = None,
        query_token: QueryToken = "off",  # noqa: S107
    ) -> Identity:
        """Who makes this HTTP request or opened this WebSocket, by whatever carries a token (`runcast.auth.carriers`). `token` is
        what a `hello` said; `query_token` says whether `?token=` counts. The log is told of a refusal, at most once a minute for
        each address.

        Raises:
            Unauthenticated: nobody that is known: 401, or accept and close with 4001.
            Forbidden: somebody who may not come in, or a cookie without an Origin: 403, or accept and close with 4003.
        """
        try:
            credentials = credentials_of(scope, token=token, query_token=query_token)
            identity = await self.authenticator.authenticate(credentials)
        except (Unauthenticated, Forbidden) as error:
            self._refused(scope, error)
            raise
        scope[IDENTITY] = identity
        return identity

    async def principal(self, scope: Scope) -> Principal:
        return (await self.identify_scope(scope)).principal

    async def renew(self, scope: Scope, token: str) -> Identity:
        """Who a new token names that came on a WebSocket which is open. Whether it is the same user the caller must see.

        Raises:
            Unauthenticated, Forbidden: as `identify_scope`.
        """
        identity = await self.authenticator.authenticate(renewed(scope, token))
        scope[IDENTITY] = identity
        return identity

    def _refused(self, scope: Scope, error: Unauthenticated | Forbidden) -> None:
        if scope["type"] == "websocket":
            scope[REFUSED] = True
        reason = error.reason if isinstance(error, Unauthenticated) else ""
        self.refusals.tell(scope, reason or type(error).code)

    # --- long-lived connections -----------------------------------------------------------------------------------

    @contextmanager
    def join(self, connection: Connection) -> Generator[None]:
        """Be told of drain and stop while the context lasts."""
        self._connections[connection] = None
        if self.stopping:
            connection.stop()
        elif self.draining:
            connection.drain()
        try:
            yield
        finally:
            self._connections.pop(connection, None)
            self._left.set()
            self._left = anyio.Event()

    @contextmanager
    def wait(self) -> Generator[None]:
        """Wait for something on behalf of one request, but not beyond the server's stop.

        Raises:
            Unavailable: the server stopped meanwhile.
        """
        waiting = _Waiting()
        with self.join(waiting), waiting.scope:
            yield
        if waiting.scope.cancelled_caught:
            raise Unavailable("The server is restarting; ask again in a moment.", retry_after_ms=RETRY_MS[1])

    def claim(self, principal: Principal) -> Place:
        """A place for one more connection of this user: a WebSocket, an event stream or a request that waits for something to read.

        Raises:
            TooManyConnections: they have as many as they may.
        """
        limit = self._connections_per_user
        if limit and not self.authenticator.is_open and self._places[principal] >= limit:
            raise TooManyConnections(
                f"You have {limit} connections open already; close one, or try again later.", retry_after_ms=FULL_MS
            )
        self._places[principal] += 1
        return Place(partial(self._leave, principal))

    def _leave(self, principal: Principal) -> None:
        self._places[principal] -= 1
        if self._places[principal] <= 0:
            del self._places[principal]

    def revoke(self, principal: Principal) -> None:
        """Who they are is no longer to be believed: end all their connections. What they began goes on."""
        for connection in tuple(self._connections):
            connection.revoke(principal)

    @asynccontextmanager
    async def entrance(self) -> AsyncGenerator[None]:
        """One step of a connection's coming in. Only one is taken in each turn of the event loop, in the order of their coming:
        when a thousand come at once, runs that are under way get their turns in between."""
        async with self._entrance:
            yield
            await anyio.lowlevel.checkpoint()

    @property
    def connections(self) -> int:
        return len(self._connections)

    def drain(self) -> None:
        """Start nothing new, and say so."""
        self.draining = True
        for connection in tuple(self._connections):
            connection.drain()

    async def stop(self, *, timeout_s: float) -> None:
        """End all connections, in rounds of a random order, so that not all come back at once; returns when they are gone or
        the time is over, which counts from the last round."""
        self.draining = self.stopping = True
        waiting = list(self._connections)
        random.shuffle(waiting)
        size = max(ROUND, -(-len(waiting) // MAX_ROUNDS))
        for start in range(0, len(waiting), size):
            if start:
                await anyio.sleep(ROUND_S)
            for connection in waiting[start : start + size]:
                connection.stop()
        with anyio.move_on_after(timeout_s):
            while self._connections:
                await self._left.wait()


class Place:
    """One connection's place among its user's; left at the end of the `with` block, unless it is kept: then by `leave`."""

    def __init__(self, on_leave: Callable[[], None]) -> None:
        self._on_leave = on_leave
        self._left = False
        self._kept = False

    def __enter__(self) -> Place:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._kept:
            self.leave()

    def keep(self) -> Place:
        """Whoever gets it leaves it."""
        self._kept = True
        return self

    def leave(self) -> None:
        """Idempotent."""
        if not self._left:
            self._left = True
            self._on_leave()


class _Waiting:
    """A request that waits: a stop wakes it."""

    def __init__(self) -> None:
        self.scope = anyio.CancelScope()

    def drain(self) -> None:
        """It may go on waiting: what it waits for may still come."""

    def stop(self) -> None:
        self.scope.cancel()

    def revoke(self, principal: Principal) -> None:
        """One answer more may be given: each request is identified anew."""
