"""Taking in who connects, one connection in a turn of the event loop.

An event loop's own server takes in all who wait at once, and one turn later all their handshakes are there: after a restart
a thousand of them are a turn of some hundred milliseconds, in which nobody's tokens move. Here who connects waits in the
kernel (`listen(2)`, backlog), and runs that are under way have a turn between one newcomer and the next.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable

import anyio

logger = logging.getLogger("runcast.transports")

EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""`accept(2)` fails with these until others have left."""
EXHAUSTED_S = 1.0
"""How long to wait then before it is tried again."""


class Acceptor:
    """Takes in connections to `listener` until `close`."""

    def __init__(self, listener: socket.socket, protocol: Callable[[], asyncio.BaseProtocol]) -> None:
        listener.setblocking(False)
        self._listener = listener
        self._protocol = protocol
        self._scope = anyio.CancelScope()

    async def run(self) -> None:
        """Returns after `close`, with the socket closed: who waits in its backlog is sent away."""
        loop = asyncio.get_running_loop()
        try:
            with self._scope:
                while True:
                    connection = await self._next(loop)
                    try:
                        await loop.connect_accepted_socket(self._protocol, connection)
                    except OSError:  # it has left again
                        connection.close()
        finally:
            self._listener.close()

    def close(self) -> None:
        """Take in nobody any more. Idempotent."""
        self._scope.cancel()

    async def _next(self, loop: asyncio.AbstractEventLoop) -> socket.socket:
        while True:
            try:
                return await self._accept(loop)
            except ConnectionAbortedError:  # it left while it waited
                continue
            except OSError as error:
                if error.errno not in EXHAUSTED:
                    raise
                logger.error(
                    "no connection can be taken in: %s; trying again in %g s",
                    error.strerror,
                    EXHAUSTED_S,
                    extra={"action": "accept_failed"},
                )
                await anyio.sleep(EXHAUSTED_S)

    async def _accept(self, loop: asyncio.AbstractEventLoop) -> socket.socket:
        try:
            connection = self._listener.accept()[0]
        except BlockingIOError:
            return (await loop.sock_accept(self._listener))[0]
        connection.setblocking(False)
        return connection
