"""Clients that vanish, in every state a connection can be in: the server lets go of everything, and both sides notice a line
that has lost its other end (I15).
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from rawclient import RawClient, connect, frame
from runcast.client import connection
from runcast.server import Server, configuration
from simulation.judge import judge_log

from .agents import Playing
from .chaos import chaos
from .following import ClientFollower, Follower, judge
from .process import ServerProcess
from .talking import all_ended, say, whole_log

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(120)]

HELD = ("connections", "users", "watchers", "tasks", "sockets", "runs")
"""What a connection holds; the names are `/_state`'s."""


class At:
    """Where a client is when it vanishes."""

    def __init__(self, client: RawClient, live: str, long: str) -> None:
        self.client = client
        self.live = live
        """A thread whose run goes on slowly."""
        self.long = long
        """A thread with more than the socket takes."""

    async def connected(self) -> None: ...

    async def half_a_request_line(self) -> None:
        await self.client.say(b"GET /v1/thr")

    async def half_a_handshake(self) -> None:
        await self.client.say(b"GET /v1/ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nSec-WebSoc")

    async def before_hello(self) -> None:
        await self.client.upgrade()

    async def in_the_middle_of_hello(self) -> None:
        await self.client.upgrade()
        await self.client.say(frame({"op": "hello"})[:7])

    async def after_hello(self) -> None:
        await self.client.upgrade()
        await self.client.say(frame({"op": "hello"}))
        await self.client.hear_until(b"welcome")

    async def while_subscribing(self) -> None:
        await self.client.upgrade()
        await self.client.subscribe(self.live)

    async def in_the_middle_of_a_replay(self) -> None:
        await self.client.upgrade()
        await self.client.subscribe(self.long)
        await self.client.hear_until(b"TEXT_MESSAGE_CONTENT")

    async def live_stream(self) -> None:
        await self.client.upgrade()
        await self.client.subscribe(self.live)
        await self.client.hear_until(b"caught_up")

    async def in_the_middle_of_a_frame(self) -> None:
        await self.live_stream()
        await self.client.say(frame({"op": "ping", "t": 1})[:9])

    async def in_the_middle_of_a_command(self) -> None:
        await self.live_stream()
        await self.client.say(
            frame({"op": "send", "id": "c", "thread": self.live, "message": {"id": "lost", "content": "count to 1"}})
        )

    async def in_the_closing_handshake_it_began(self) -> None:
        await self.live_stream()
        await self.client.say(frame(b"\x03\xe8", opcode=8))

    async def in_the_closing_handshake_of_the_server(self) -> None:
        await self.client.upgrade()
        await self.client.say(frame("no hello"))
        await self.client.hear_until(b"hello")

    async def in_the_middle_of_server_sent_events(self) -> None:
        await self.client.stream(f"/v1/threads/{self.live}/events?after=0")
        await self.client.hear_until(b"TEXT_MESSAGE_CONTENT")

    async def in_a_replay_of_server_sent_events(self) -> None:
        await self.client.stream(f"/v1/threads/{self.long}/events?after=0")
        await self.client.hear_until(b"TEXT_MESSAGE_CONTENT")

    async def while_it_waits_for_a_page(self) -> None:
        await self.client.say(f"GET /v1/threads/{self.long}/events?after=1000000&wait=60 HTTP/1.1\r\n".encode())
        await self.client.say(b"Host: 127.0.0.1\r\n\r\n")

    async def in_the_middle_of_a_body(self) -> None:
        await self.client.say(
            b"POST /v1/messages HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            b'Content-Length: 1000\r\n\r\n{"message": "cou'
        )

    async def while_it_waits_for_a_run(self) -> None:
        body = json.dumps({"message": "count to 3 every 1 ms"}).encode()
        await self.client.say(
            b"POST /v1/messages?wait=60 HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        )


STATES = [name for name in vars(At) if not name.startswith("_")]


async def fin(client: RawClient) -> None:
    """The process ends: a FIN, then resets for what still comes."""
    client.socket.close()


async def rst(client: RawClient) -> None:
    client.vanish()


async def half_closed(client: RawClient) -> None:
    """It says that it will say no more, hears on for a moment, then is gone."""
    client.socket.shutdown(socket.SHUT_WR)
    with anyio.move_on_after(0.05):
        while await client.hear():
            pass
    client.vanish()


WAYS: list[Callable[[RawClient], Awaitable[None]]] = [fin, rst, half_closed]


@asynccontextmanager
async def watched(tmp_path: Path, **under_test: Any) -> AsyncGenerator[tuple[ServerProcess, str, str, dict[str, Any]]]:
    """A server with a slow run and a long thread, and what it holds when nobody is there."""
    server = ServerProcess(tmp_path, settings={"send_timeout_s": 60}, **under_test)
    await server.start()
    try:
        long = await say(server.ws, "flood 3000 x 1000")
        await all_ended(server.http, [long["run"]])
        live = await say(server.ws, "count to 100000 every 100 ms")
        await server.state()
        base = await server.until(
            lambda state: state["connections"] == 0 and state["runs"] == 1 and state["sockets"] == 1
        )
        yield server, live["thread"], long["thread"], base
    finally:
        server.kill()


def more(state: dict[str, Any], base: dict[str, Any]) -> dict[str, int]:
    return {name: state[name] - base[name] for name in HELD if state[name] > base[name]}


async def vanished(
    tmp_path: Path, states: list[str], within_s: float = 15, **under_test: Any
) -> dict[str, dict[str, int]]:
    """What the server still holds, by the state and way in which clients vanished."""
    held: dict[str, dict[str, int]] = {}
    async with watched(tmp_path, **under_test) as (server, live, long, base):
        for state in states:
            for way in WAYS:
                clients = [await connect(server.port) for _ in range(3)]
                for client in clients:
                    with anyio.fail_after(20):
                        await getattr(At(client, live, long), state)()
                for client in clients:
                    await way(client)
                end = time.monotonic() + within_s
                while (left := more(await server.state(), base)) and time.monotonic() < end:
                    await anyio.sleep(0.02)
                if left:
                    held[f"{state}, {way.__name__}"] = left
                    return held
        assert "Traceback" not in server.log(), server.log()
    return held


async def test_the_server_lets_go_of_clients_that_vanish(tmp_path: Path) -> None:
    assert await vanished(tmp_path, STATES) == {}


async def test_planted_leaks_are_noticed(tmp_path: Path) -> None:
    assert await vanished(tmp_path, ["live_stream"], 3, plant="keeps_subscriptions")


async def test_both_sides_notice_a_line_without_its_other_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All times shortened to a twentieth; what they are is below."""
    monkeypatch.setattr(connection, "WATCHDOG_S", 2.0)
    monkeypatch.setattr(connection, "CONNECT_S", 1.0)
    monkeypatch.setattr(connection, "BACKOFF_FIRST_S", 0.1)
    monkeypatch.setattr(connection, "BACKOFF_MOST_S", 0.3)
    async with (
        watched(tmp_path, ping_s=1.0, session={"heartbeat_s": 0.75}) as (server, live, _, base),
        chaos(server.port, 1) as proxy,
        anyio.create_task_group() as tasks,
    ):
        proxy.calm = True
        readers: list[Follower] = [ClientFollower(proxy.http, live) for _ in range(3)]
        for reader in readers:
            tasks.start_soon(reader.follow)
        with anyio.fail_after(30):
            while any(reader.last < 3 for reader in readers):
                await anyio.sleep(0.01)
        proxy.blackhole = True
        began = time.monotonic()
        await server.until(lambda state: more(state, base).get("watchers", 0) == 0, 10)
        assert time.monotonic() - began < 45 / 20 + 2, "the server did not notice in time"
        proxy.blackhole = False
        with anyio.fail_after(30):
            while any(reader.connections < 2 for reader in readers):
                await anyio.sleep(0.01)
        seen = [reader.last for reader in readers]
        with anyio.fail_after(30):
            while any(reader.last <= last for reader, last in zip(readers, seen, strict=True)):
                await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()
        log = await whole_log(server.http, live)
        assert judge_log(log, ended=False) == []
        for reader in readers:
            assert judge(reader, log[: reader.last]) == []


def test_the_real_times_are_within_45_seconds() -> None:
    config = configuration(Server([Playing()], store=":memory:"), log_level="info")
    assert config.ws_ping_interval is not None and config.ws_ping_timeout is not None
    assert config.ws_ping_interval + config.ws_ping_timeout <= 45
    assert connection.WATCHDOG_S <= 45
