"""Clients that do not trust the server: each keeps what it saw, frame by frame, over any number of connections; the judge of
the simulation compares that with the log. Written against the wire (`spec/PROTOCOL.md`), not against our client.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import anyio
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from simulation.judge import judge_view


@dataclass
class Follower:
    """Follows one thread from its beginning and comes back after every break with the last seq it saw."""

    url: str
    thread: str
    seen: list[dict[str, Any]] = field(default_factory=list)
    epoch: str = ""
    connections: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def last(self) -> int:
        return self.seen[-1]["seq"] if self.seen else 0

    async def follow(self) -> None:
        while True:
            try:
                async with connect(self.url, compression=None, open_timeout=5) as socket:
                    self.connections += 1
                    await self._read(socket)
            except (OSError, ConnectionClosed, InvalidHandshake, TimeoutError, EOFError):
                await anyio.sleep(0.02)

    async def _read(self, socket: ClientConnection) -> None:
        await socket.send('{"op":"hello"}')
        subscribe: dict[str, Any] = {"op": "subscribe", "id": "s", "thread": self.thread, "after": self.last}
        if self.epoch:
            subscribe["epoch"] = self.epoch
        await socket.send(json.dumps(subscribe))
        async for data in socket:
            frame = json.loads(data)
            match frame["op"]:
                case "ack":
                    self.epoch = self.epoch or frame["epoch"]
                    if frame["epoch"] != self.epoch:
                        self.problems.append("the epoch changed though nothing was lost")
                case "events":
                    for event in frame["events"]:
                        first = event.get("from", event["seq"])
                        if first != self.last + 1:
                            self.problems.append(f"after {self.last} came {first}")
                        self.seen.append(event)
                case "resync" | "error":
                    self.problems.append(f"{frame}")
                case _:
                    pass


async def command(url: str, frame: dict[str, Any]) -> dict[str, Any]:
    """Send one command until it is answered, over as many connections as it takes: the same id each time."""
    while True:
        try:
            async with connect(url, compression=None, open_timeout=5) as socket:
                await socket.send('{"op":"hello"}')
                await socket.send(json.dumps(frame))
                async for data in socket:
                    answer = json.loads(data)
                    if answer.get("id") == frame["id"]:
                        return answer
        except (OSError, ConnectionClosed, InvalidHandshake, TimeoutError, EOFError):
            await anyio.sleep(0.02)


def judge(follower: Follower, log: list[dict[str, Any]]) -> list[str]:
    """What is wrong with what this client saw, given the whole log: gaps, doubles, phantoms, altered events."""
    problems = [*follower.problems, *judge_view(follower.seen, log)]
    if log and follower.last != log[-1]["seq"]:
        problems.append(f"saw up to {follower.last} of {log[-1]['seq']}")
    return problems
