"""A real server on a real socket, in the test's own event loop."""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.abc

from runcast.agents import loader
from runcast.server import Process, Server

DEADLINE_S = 10.0


def free_socket(port: int = 0) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen()
    return listener


@asynccontextmanager
async def served(*agents: Callable[..., Any], database: Path, port: int = 0, **settings: Any) -> AsyncGenerator[str]:
    """The address of a server with these agents, for as long as the block lasts. Then it is gone as if by a crash of
    its connections: nothing is drained."""
    server = Server(
        [loader.adapt(agent) for agent in agents], database=str(database), drain_timeout_s=0, web=False, **settings
    )
    listener = free_socket(port)
    ready = anyio.Event()
    process = Process(server, on_started=ready.set)
    async with AsyncExitStack() as stack:
        stack.callback(listener.close)  # after uvicorn has let go of it
        tasks = await stack.enter_async_context(anyio.create_task_group())
        tasks.start_soon(process._serve, [listener])  # `serve` would take the signals of pytest
        with anyio.fail_after(DEADLINE_S):
            await ready.wait()
        assert process.started
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            process.should_exit = True


class Relay:
    """A line between client and server that can be cut, as by a network: without any word of WebSocket."""

    def __init__(self, url: str) -> None:
        self._port = int(url.rpartition(":")[2])
        self._open = anyio.CancelScope()
        self.lines = 0
        """How many connections were made over it."""

    async def __aenter__(self) -> Relay:
        self._listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        self._tasks = await anyio.create_task_group().__aenter__()
        self._tasks.start_soon(self._listener.serve, self._carry)
        self.url = f"http://127.0.0.1:{self._listener.extra(anyio.abc.SocketAttribute.local_port)}"
        return self

    async def __aexit__(self, *error: object) -> None:
        self._tasks.cancel_scope.cancel()
        await self._tasks.__aexit__(None, None, None)
        await self._listener.aclose()

    def cut(self) -> None:
        """Break the connections that stand now."""
        self._open.cancel()
        self._open = anyio.CancelScope()

    async def _carry(self, client: anyio.abc.SocketStream) -> None:
        self.lines += 1
        with anyio.CancelScope() as scope:
            self._open = scope
            async with client, await anyio.connect_tcp("127.0.0.1", self._port) as server:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._copy, client, server, tasks.cancel_scope)
                    tasks.start_soon(self._copy, server, client, tasks.cancel_scope)

    async def _copy(
        self, source: anyio.abc.SocketStream, target: anyio.abc.SocketStream, both: anyio.CancelScope
    ) -> None:
        try:
            async for data in source:
                await target.send(data)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass
        both.cancel()
