"""One server as this process: says when it listens, and raises what kept it from starting."""

from __future__ import annotations

import logging
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

from runcast import server as serving
from runcast.errors import RuncastError
from runcast.server import Server
from runcast.transports.listener import listen


class _Process(serving.Process):
    def __init__(self, server: Server, started: Callable[[], None]) -> None:
        super().__init__(server)
        self._announce = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._announce()


def run(server: Server, started: Callable[[str], None]) -> None:
    """Serve until SIGTERM or Ctrl-C. `started` is called with the address once requests are answered.

    Raises:
        ConfigError: the address cannot be used, or serving there would not be safe.
        RuncastError: whatever kept the server from starting, a locked store for example.
    """
    settings = server.settings
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("uvicorn.error").setLevel(max(logging.WARNING, logging.getLogger().level))
    serving.check_bind(server, settings.host)
    listener = listen(settings.host, settings.port)
    url = serving.url_of(listener, settings.root_path)
    failures: list[RuncastError] = []
    with listener:
        _Process(_told(server, failures), lambda: started(url)).run(sockets=[listener])
    if failures:
        raise failures[0]


def _told(server: Server, failures: list[RuncastError]) -> Server:
    """`server`, keeping the error that ends its lifespan: uvicorn only logs it."""
    lifespan = server.lifespan

    @asynccontextmanager
    async def keeping(app: object = None) -> AsyncGenerator[None, None]:
        try:
            async with lifespan(app):
                yield
        except RuncastError as error:
            failures.append(error)
            raise

    server.lifespan = keeping  # type: ignore[method-assign]
    return server
