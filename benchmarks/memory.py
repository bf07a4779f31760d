"""P8: what a connection costs in memory: one that only listens, and one that does not read at all.

`python memory.py [--idle 1000] [--stuck 50] [--tokens 20000] [--rounds 3]`. Growth of the server's proportional set size
(the kernel's own socket buffers are not in it). How it stands after an hour says `soak.py`.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import time
from collections.abc import Sequence

from rounds import Measured, Row, alternate, clients, options, show, started, table
from servers import KINDS, Running

ALL = ("naive", "ours")
COLUMNS = {
    "idle_kib": "KiB per idle connection",
    "idle_cpu_ms": "CPU of 1000 idle ones, ms/s",
    "stuck_kib": "KiB per stuck one",
    "base_mib": "server alone, MiB",
}


def settled(server: Running) -> int:
    """The memory in bytes once it no longer falls or rises by more than a hundredth between two looks."""
    last = server.memory
    for _ in range(20):
        time.sleep(0.3)
        now = server.memory
        if abs(now - last) < last * 0.01:
            return now
        last = now
    return last


def idle(kind: str, server: Running, count: int) -> tuple[float, float]:
    """KiB per connection that has joined a room of its own and waits; and the CPU that all of them take, in ms per second."""
    before = settled(server)
    with clients(kind, server, runs=count, readers=1, tokens=1 << 40, rate=1):
        grown = settled(server) - before
        used, began = server.cpu_s, time.monotonic()
        time.sleep(5)
        return grown / count / 1024, (server.cpu_s - used) / (time.monotonic() - began) * 1000


def stuck(server: Running, count: int, tokens: int) -> float:
    """KiB per connection that follows a run and never reads. Only ours: the naive server waits for them all."""
    run_through(server, 0, tokens)  # what such a run itself leaves behind
    before = settled(server)
    return (run_through(server, count, tokens) - before) / count / 1024


def run_through(server: Running, count: int, tokens: int) -> int:
    """The memory after a run of many tokens with one reader who reads and `count` who do not."""
    with (
        clients("ours", server, runs=1, readers=1, tokens=tokens, rate=20_000, with_latency=False) as load,
        contextlib.ExitStack() as sockets,
    ):
        for _ in range(count):
            sockets.enter_context(deaf(server.port, load.rooms[0]))
        load.go()
        return settled(server)


def deaf(port: int, thread: str) -> socket.socket:
    """A socket that says hello, subscribes and never reads again."""
    peer = socket.socket()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    peer.settimeout(30)
    peer.connect(("127.0.0.1", port))
    key = base64.b64encode(os.urandom(16)).decode()
    peer.sendall(
        f"GET /v1/ws HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += peer.recv(1024)
    for frame in ({"op": "hello"}, {"op": "subscribe", "id": "s", "thread": thread, "after": 0}):
        peer.sendall(masked(json.dumps(frame).encode()))
    return peer


def masked(payload: bytes) -> bytes:
    """One text frame of a client with the mask 0 (RFC 6455, section 5.2); at most 125 bytes."""
    assert len(payload) < 126
    return bytes([0x81, 0x80 | len(payload), 0, 0, 0, 0]) + payload


def measure(
    kinds: Sequence[str] = ALL, *, count: int = 1000, deafs: int = 50, tokens: int = 20_000, rounds: int = 3
) -> Measured:
    def once(kind: str) -> Row:
        with started(kind) as server:
            base = settled(server)
            kib, cpu = idle(kind, server, count)
        row = {"base_mib": base / 2**20, "idle_kib": kib, "idle_cpu_ms": cpu * 1000 / count}
        row["stuck_kib"] = float("nan")
        if KINDS[kind].keeps:
            with started(kind) as server:
                row["stuck_kib"] = stuck(server, deafs, tokens)
        return row

    return alternate(kinds, rounds, once)


def text(measured: Measured) -> str:
    return table(measured, COLUMNS, by="idle_kib").replace("nan (nan-nan)", "the run itself is stuck")


if __name__ == "__main__":
    given = options(__doc__, idle=1000, stuck=50, tokens=20_000, rounds=3)
    found = measure(
        given.kinds.split(",") if given.kinds else ALL,
        count=given.idle,
        deafs=given.stuck,
        tokens=given.tokens,
        rounds=given.rounds,
    )
    show(given, found, text(found))
