"""Clients that do not trust the server: each keeps what it saw, frame by frame, over any number of connections; the judge of
the simulation compares that with the log. Written against the wire (`spec/PROTOCOL.md`), not against our client.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import anyio
import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from runcast import events
from runcast.client import connect as connected
from runcast.client.effects import StateChanged
from runcast.errors import RuncastError
from simulation.judge import judge_log as judge_log
from simulation.judge import judge_view


class Wrong(Exception):
    """A client got what it must not get: it stops, and its `problems` say what."""


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

    def take(self, event: dict[str, Any]) -> None:
        first = event.get("from", event["seq"])
        if first != self.last + 1:
            self.problems.append(f"after {self.last} came {first}")
            raise Wrong
        self.seen.append(event)

    def note_epoch(self, epoch: str) -> None:
        self.epoch = self.epoch or epoch
        if epoch != self.epoch:
            self.problems.append("the epoch changed though nothing was lost")

    async def follow(self) -> None:
        while not self.problems:
            try:
                async with connect(self.url, compression=None, open_timeout=5) as socket:
                    self.connections += 1
                    await self._read(socket)
            except (Wrong, OSError, ConnectionClosed, InvalidHandshake, TimeoutError, EOFError):
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
                    self.note_epoch(frame["epoch"])
                case "events":
                    for event in frame["events"]:
                        self.take(event)
                case "resync" | "error":
                    self.problems.append(f"{frame}")
                case _:
                    pass


@dataclass
class SseFollower(Follower):
    """The same over server-sent events; `url` is the server's HTTP address."""

    async def follow(self) -> None:
        while not self.problems:
            try:
                async with httpx.AsyncClient(base_url=self.url, timeout=httpx.Timeout(5, read=60)) as client:
                    headers = {"accept": "text/event-stream"}
                    if self.seen:
                        headers["last-event-id"] = f"{self.epoch}:{self.last}"
                    path = f"/v1/threads/{self.thread}/events"
                    async with client.stream("GET", path, params={"after": 0}, headers=headers) as response:
                        if response.status_code == 200:
                            self.connections += 1
                            await self._take(response)
            except (Wrong, httpx.HTTPError, OSError):
                pass
            await anyio.sleep(0.02)

    async def _take(self, response: httpx.Response) -> None:
        fields: dict[str, str] = {}
        async for line in response.aiter_lines():
            if line == "":
                self._event(fields)
                fields = {}
            elif not line.startswith(":"):
                name, _, value = line.partition(": ")
                fields[name] = value

    def _event(self, fields: dict[str, str]) -> None:
        if fields.get("event") in ("resync", "error", "snapshot"):
            self.problems.append(f"{fields}")
        elif "data" in fields and "event" not in fields:
            event = json.loads(fields["data"])
            self.take(event)
            epoch, _, seq = fields["id"].rpartition(":")
            self.note_epoch(epoch)
            if int(seq) != event["seq"]:
                self.problems.append(f"the id {fields['id']} is of another event than {event['seq']}")


@dataclass
class PollFollower(Follower):
    """The same by long polling."""

    async def follow(self) -> None:
        path = f"/v1/threads/{self.thread}/events"
        while not self.problems:
            try:
                async with httpx.AsyncClient(base_url=self.url, timeout=httpx.Timeout(5, read=30)) as client:
                    while True:
                        answer = await client.get(path, params={"after": self.last, "wait": 5, "limit": 100})
                        if answer.status_code != 200:
                            break
                        self.connections += 1
                        page = answer.json()
                        self.note_epoch(page["epoch"])
                        if page.get("resync"):
                            self.problems.append(f"{page}")
                        for event in page["events"]:
                            self.take(event)
            except (Wrong, httpx.HTTPError, OSError, ValueError):
                pass
            await anyio.sleep(0.02)


@dataclass
class ClientFollower(Follower):
    """The Python client, which comes back by itself; `url` is the server's HTTP address."""

    async def follow(self) -> None:
        def counts(state: StateChanged) -> None:
            self.connections += state.state == "open"

        async with connected(self.url, on_state=counts, patient=True) as client:
            try:
                async for event in client.follow(self.thread, after=0):
                    self.take(json.loads(events.encode(event)))
            except Wrong:
                pass
            except RuncastError as error:
                self.problems.append(f"the client gave up: {error}")


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
