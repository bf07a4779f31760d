"""A real server on a free port, in this event loop, and clients that talk to it: for the tests of the transports."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
import uvicorn
import websockets
from websockets.asyncio.client import ClientConnection
from websockets.typing import Subprotocol

from core import Told, echo
from runcast.agents.base import Agent
from runcast.server import Process, Server
from runcast.transports.listener import listen

DEADLINE_S = 10.0


class Running:
    """One server that listens."""

    def __init__(self, server: Server, process: uvicorn.Server, port: int) -> None:
        self.server = server
        self.process = process
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def http(self, **options: Any) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, timeout=DEADLINE_S, **options)

    @asynccontextmanager
    async def socket(self, path: str = "/v1/ws", **options: Any) -> AsyncGenerator[ClientConnection]:
        options.setdefault("subprotocols", [Subprotocol("runcast.v1")])
        async with websockets.connect(f"ws://127.0.0.1:{self.port}{path}", proxy=None, **options) as socket:
            yield socket

    @asynccontextmanager
    async def client(self, **options: Any) -> AsyncGenerator[NativeClient]:
        async with self.socket(**options) as socket:
            client = NativeClient(socket)
            await client.say({"op": "hello"})
            client.welcome = await client.hear()
            assert client.welcome["op"] == "welcome"
            yield client


class NativeClient:
    """Speaks the native protocol and keeps what it hears."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.heard: list[dict[str, Any]] = []
        self.welcome: dict[str, Any] = {}
        self._ids = 0

    async def say(self, frame: dict[str, Any] | str | bytes) -> None:
        await self.socket.send(json.dumps(frame) if isinstance(frame, dict) else frame)

    async def hear(self) -> dict[str, Any]:
        with anyio.fail_after(DEADLINE_S):
            frame = json.loads(await self.socket.recv())
        self.heard.append(frame)
        return frame

    async def until(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The next frame that is wanted; what comes before it is kept in `heard`."""
        with anyio.fail_after(DEADLINE_S):
            while not wanted(frame := await self.hear()):
                pass
        return frame

    async def ask(self, op: str, **fields: Any) -> dict[str, Any]:
        """Send a command and wait for its one answer."""
        self._ids += 1
        id = fields.pop("id", f"c{self._ids}")
        await self.say({"op": op, "id": id, **fields})
        return await self.until(lambda frame: frame.get("id") == id)

    async def close_code(self) -> int:
        """How the server ended the connection; frames before it are kept."""
        with anyio.fail_after(DEADLINE_S):
            try:
                while True:
                    await self.hear()
            except websockets.ConnectionClosed:
                return self.socket.close_code or 0

    def events(self, sub: int = 1) -> list[dict[str, Any]]:
        return [e for frame in self.heard if frame["op"] == "events" and frame["sub"] == sub for e in frame["events"]]

    async def run_to_end(self, sub: int = 1) -> list[dict[str, Any]]:
        """All events of a subscription, up to a run's last one."""
        ends = {"RUN_FINISHED", "RUN_ERROR"}
        while not any(event["type"] in ends for event in self.events(sub)):
            await self.hear()
        return self.events(sub)


@asynccontextmanager
async def serving(*agents: Agent, **options: Any) -> AsyncGenerator[Running]:
    """A server with these agents (or an echo); further arguments are the server's."""
    options.setdefault("store", ":memory:")
    options.setdefault("drain_timeout_s", 0)  # an agent that a test holds still must not hold up its end
    async with serving_app(Server(list(agents) or [Told(echo, "echo")], **options)) as running:
        yield running


@asynccontextmanager
async def serving_app(server: Server, app: Any = None) -> AsyncGenerator[Running]:
    """`server` in a process's manner, or mounted in `app` behind a uvicorn that knows nothing of it."""
    listener = listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    process: uvicorn.Server
    if app is None:
        process = Process(server)
    else:
        process = uvicorn.Server(
            uvicorn.Config(app, ws="websockets-sansio", log_config=None, timeout_graceful_shutdown=1)
        )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_serve, process, listener)
        with anyio.fail_after(DEADLINE_S):
            while not process.started:
                await anyio.sleep(0.01)
        try:
            yield Running(server, process, port)
        finally:
            process.should_exit = True


async def _serve(process: uvicorn.Server, listener: socket.socket) -> None:
    with listener, anyio.CancelScope(shield=True):  # also after a failed test: `should_exit` ends it
        await process.serve(sockets=[listener])
    if not process.started:
        raise AssertionError("the server did not start")


def said(events: list[dict[str, Any]]) -> str:
    return "".join(event["delta"] for event in events if event.get("type") == "TEXT_MESSAGE_CONTENT")
