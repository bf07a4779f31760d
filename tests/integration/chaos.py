"""A TCP proxy that does to connections what bad networks do, by the dice: what it does follows from its seed and the order of
connections.

    accept, then close          before a byte was forwarded
    reset                       RST in the middle of whatever was under way
    half-close                  FIN to one side, while the other still talks
    stall, then reset           nothing is forwarded for a while
    crumbs                      slices of 1-7 bytes
    delays                      of a few milliseconds

`calm` lets everything through, `blackhole` nothing: bytes are read and lost, no side is told (a line without its other end).
"""

from __future__ import annotations

import random
import socket
import struct
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import anyio.abc
from anyio.streams.stapled import MultiListener

CRUMBS = 3_000
"""So many bytes of a connection come in crumbs at most: each is a system call on either side."""
BROKEN = (OSError, RuntimeError, anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream)
"""RuntimeError: a write after a half-close."""


class ChaosProxy:
    def __init__(self, target: int, seed: int, *, mean_bytes: float = 50_000) -> None:
        """To `target` on loopback; a connection lives for about `mean_bytes` from the server."""
        self.port = 0
        self.calm = False
        self.blackhole = False
        self.done: Counter[str] = Counter()
        """How often what was done."""
        self._target = target
        self._seed = seed
        self._mean_bytes = mean_bytes
        self._count = 0

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws(self) -> str:
        return f"ws://127.0.0.1:{self.port}/v1/ws"

    async def serve(self, listener: MultiListener[anyio.abc.SocketStream]) -> None:
        await listener.serve(self._connection)

    async def _connection(self, client: anyio.abc.SocketStream) -> None:
        self._count += 1
        dice = random.Random(f"{self._seed}/{self._count}")
        async with client:
            if not self.calm and dice.random() < 0.08:
                self.done["accept, then close"] += 1
                return
            try:
                server = await anyio.connect_tcp("127.0.0.1", self._target)
            except OSError:
                return
            async with server:
                for stream in (client, server):
                    _raw(stream).setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                await self._relay(client, server, dice)

    async def _relay(self, client: anyio.abc.SocketStream, server: anyio.abc.SocketStream, dice: random.Random) -> None:
        left = dice.expovariate(1 / self._mean_bytes)
        ends = dice.choice(["reset", "half-close", "stall", "reset the server", "half-close the server"])
        crumbs = CRUMBS if dice.random() < 0.3 else 0
        if crumbs:
            self.done["crumbs"] += 1
        slow = dice.random() < 0.2
        async with anyio.create_task_group() as tasks:

            async def upstream() -> None:
                try:
                    async for data in client:
                        for piece in _pieces(data, dice, crumbs):
                            if not self.blackhole:
                                await server.send(piece)
                    await server.send_eof()
                except BROKEN:
                    tasks.cancel_scope.cancel()

            async def downstream() -> None:
                nonlocal left, crumbs
                try:
                    async for data in server:
                        for piece in _pieces(data, dice, crumbs):
                            left -= len(piece)
                            crumbs = max(0, crumbs - len(piece))
                            if left < 0 and not self.calm:
                                await self._break(ends, client, server, dice)
                                tasks.cancel_scope.cancel()
                                return
                            if slow and dice.random() < 0.05:
                                await anyio.sleep(dice.uniform(0, 0.005))
                            if not self.blackhole:
                                await client.send(piece)
                except BROKEN:
                    pass
                tasks.cancel_scope.cancel()

            tasks.start_soon(upstream)
            tasks.start_soon(downstream)

    async def _break(
        self, ends: str, client: anyio.abc.SocketStream, server: anyio.abc.SocketStream, dice: random.Random
    ) -> None:
        self.done[ends] += 1
        match ends:
            case "reset":
                _reset_on_close(client)
            case "reset the server":
                _reset_on_close(server)
            case "stall":
                await anyio.sleep(dice.uniform(0.02, 0.3))
                _reset_on_close(client)
            case "half-close":
                await client.send_eof()
                await anyio.sleep(dice.uniform(0.02, 0.1))  # the client may talk on
            case _:
                await server.send_eof()
                with anyio.move_on_after(0.1):  # the server may talk on
                    async for data in server:
                        await client.send(data)


def _pieces(data: bytes, dice: random.Random, crumbs: int) -> list[bytes]:
    """`data` cut: its first `crumbs` bytes into 1-7 at a time, the rest anyhow."""
    pieces: list[bytes] = []
    at = 0
    while at < len(data):
        size = dice.randint(1, 7) if at < crumbs else dice.randint(1, 8192)
        pieces.append(data[at : at + size])
        at += size
    return pieces


def _raw(stream: anyio.abc.SocketStream) -> socket.socket:
    return stream.extra(anyio.abc.SocketAttribute.raw_socket)


def _reset_on_close(stream: anyio.abc.SocketStream) -> None:
    _raw(stream).setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@asynccontextmanager
async def chaos(target: int, seed: int, *, mean_bytes: float = 50_000) -> AsyncGenerator[ChaosProxy]:
    proxy = ChaosProxy(target, seed, mean_bytes=mean_bytes)
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        proxy.port = listener.extra(anyio.abc.SocketAttribute.local_port)
        tasks.start_soon(proxy.serve, listener)
        try:
            yield proxy
        finally:
            tasks.cancel_scope.cancel()
