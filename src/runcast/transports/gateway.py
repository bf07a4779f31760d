"""What all transports of one server share: the service behind them, who may come in, and how the server stands.

It owns no task and no socket. Connections add themselves (`join`) to be told when the server drains and stops.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Literal, Protocol

import anyio
import anyio.lowlevel

from runcast.auth import Authenticator, Credentials, Identity
from runcast.errors import Unavailable
from runcast.ids import Clock, IdSource
from runcast.runs import Principal
from runcast.service import Service
from runcast.transports.wire import Headers, Scope, cookies_of, headers_of

RETRY_MS: tuple[int, int] = (500, 8000)
"""After a restart clients come back at a random time in this range, so that they do not come all at once."""

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

    async def identify(self, scope: Scope) -> Identity:
        """Who makes this HTTP request."""
        headers = headers_of(scope)
        return await self.authenticator.authenticate(Credentials("http", headers, cookies_of(headers)))

    async def principal(self, scope: Scope) -> Principal:
        return (await self.identify(scope)).principal

    async def identify_socket(self, headers: Headers, subprotocols: tuple[str, ...], token: str | None) -> Identity:
        """Who is behind this WebSocket."""
        return await self.authenticator.authenticate(
            Credentials("websocket", headers, cookies_of(headers), subprotocols, token)
        )

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

    def take_place(self, principal: Principal) -> bool:
        """Whether this user may have one more WebSocket; who was let in gives the place back by `leave_place`."""
        limit = self._connections_per_user
        if limit and not self.authenticator.is_open and self._places[principal] >= limit:
            return False
        self._places[principal] += 1
        return True

    def leave_place(self, principal: Principal) -> None:
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
