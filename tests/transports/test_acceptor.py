"""Who connects is taken in one at a time, whatever happens to those before."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import socket
import struct
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager

import anyio
import anyio.lowlevel
import pytest

from core import DEADLINE_S
from runcast.transports import acceptor as acceptors
from runcast.transports.acceptor import Acceptor
from runcast.transports.listener import listen

pytestmark = pytest.mark.anyio


class Newcomers:
    """The protocols that were made, each with the number of the loop's turn in which it was."""

    def __init__(self) -> None:
        self.turn = 0
        self.came: list[int] = []
        self.heard = 0
        self.changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def count_turns(self) -> None:
        self.turn += 1
        self._loop.call_soon(self.count_turns)

    def protocol(self) -> asyncio.Protocol:
        self.came.append(self.turn)
        newcomers = self

        class Hearing(asyncio.Protocol):
            def data_received(self, data: bytes) -> None:
                newcomers.heard += 1
                newcomers.changed.set()

        return Hearing()

    async def until(self, count: int) -> None:
        with anyio.fail_after(DEADLINE_S):
            while self.heard < count:
                self.changed.clear()
                await self.changed.wait()


@asynccontextmanager
async def accepting(listener: socket.socket, newcomers: Newcomers) -> AsyncGenerator[Acceptor]:
    acceptor = Acceptor(listener, newcomers.protocol)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(acceptor.run)
        yield acceptor
        acceptor.close()


@contextmanager
def clients(address: tuple[str, int], count: int) -> Generator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        made: list[socket.socket] = []
        for _ in range(count):
            made.append(stack.enter_context(socket.create_connection(address, timeout=DEADLINE_S)))
            made[-1].sendall(b"x")
        yield made


async def test_a_crowd_is_taken_in_one_a_turn() -> None:
    newcomers = Newcomers()
    listener = listen("127.0.0.1", 0)
    with clients(listener.getsockname(), 50):
        newcomers.count_turns()
        async with accepting(listener, newcomers):
            await newcomers.until(50)
    assert len(newcomers.came) == 50
    assert len(set(newcomers.came)) == 50, "two in one turn"


async def test_one_who_left_while_waiting_does_not_keep_out_the_next() -> None:
    newcomers = Newcomers()
    listener = listen("127.0.0.1", 0)
    with clients(listener.getsockname(), 1) as (gone,), clients(listener.getsockname(), 1):
        gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close with a reset
        gone.close()
        async with accepting(listener, newcomers):
            await newcomers.until(1)


async def test_a_socket_that_blocks_holds_up_nobody() -> None:
    newcomers = Newcomers()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with accepting(listener, newcomers):
            await anyio.lowlevel.checkpoint()
            with clients(listener.getsockname(), 1):
                await newcomers.until(1)


async def test_nobody_is_taken_in_after_the_close() -> None:
    newcomers = Newcomers()
    listener = listen("127.0.0.1", 0)
    address = listener.getsockname()
    async with accepting(listener, newcomers) as acceptor:
        with clients(address, 1):
            await newcomers.until(1)
        acceptor.close()
    assert listener.fileno() == -1
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=DEADLINE_S)


async def test_without_file_descriptors_it_waits_until_there_are_some(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(acceptors, "EXHAUSTED_S", 0.01)
    newcomers = Newcomers()
    listener = listen("127.0.0.1", 0)
    with clients(listener.getsockname(), 1), caplog.at_level(logging.ERROR, "runcast.transports"):
        async with accepting(listener, newcomers):
            with no_descriptors_left():  # before its first step
                with anyio.fail_after(DEADLINE_S):
                    while not caplog.records:
                        await anyio.lowlevel.checkpoint()
                assert newcomers.came == []
            await newcomers.until(1)
    assert {record.__dict__["action"] for record in caplog.records} == {"accept_failed"}


@contextmanager
def no_descriptors_left() -> Generator[None]:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    probe = os.open(os.devnull, os.O_RDONLY)
    resource.setrlimit(resource.RLIMIT_NOFILE, (probe + 1, limits[1]))
    taken = [probe]
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        yield
    finally:
        for one in taken:
            os.close(one)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
