"""P8, by hand: an hour of everything at once; does memory, do files and threads stay flat, and does every reader read every event?

`python soak.py [--minutes 60] [--chatters 20]` (`make soak`). Chatters write in new conversations, read along, leave in the middle
of a run and come back with their cursor, stop runs, watch with a second socket; some sockets never read. Every event is checked
to follow the one before. It ends with 1 if something was missed or grew.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import statistics
import sys
import time
import uuid
from typing import Any

import uvloop
from memory import deaf
from rounds import options, post, started
from servers import Running
from websockets.asyncio.client import ClientConnection, connect

SAMPLE_S = 10
STUCK = 3
WARM = 0.3
"""The part of the time in which caches may still fill."""
LEAST_MIN = 10
"""Minutes below which nothing is said about growth: caches and the allocator take that long to fill."""
ALLOWED = 0.05
"""By how much the memory of the last fifth may be above that of the first fifth after warming up."""


class Tally:
    def __init__(self) -> None:
        self.runs = 0
        self.events = 0
        self.reconnects = 0
        self.cancelled = 0
        self.faults: list[str] = []


class Chatter:
    def __init__(self, port: int, tally: Tally, seed: int) -> None:
        self.url = f"ws://127.0.0.1:{port}/v1/ws"
        self.tally = tally
        self.random = random.Random(seed)

    async def talk(self, until: float) -> None:
        while time.monotonic() < until:
            try:
                async with asyncio.timeout(120):
                    await self.converse()
            except Exception as error:
                self.tally.faults.append(f"{type(error).__name__}: {error}")
                await asyncio.sleep(1)

    async def converse(self) -> None:
        """One conversation of one to four runs."""
        thread: str | None = None
        last = 0
        for _ in range(self.random.randint(1, 4)):
            prompt = f"{self.random.choice((1, 20, 200, 1000))} {self.random.choice((0, 50, 200, 500))}"
            async with self.socket() as socket:
                send: dict[str, Any] = {
                    "op": "send",
                    "id": str(uuid.uuid4()),
                    "message": {"id": str(uuid.uuid4()), "content": prompt},
                }
                if thread:
                    send["thread"] = thread
                await socket.send(json.dumps(send))
                ack = json.loads(await socket.recv())
                thread = ack["thread"]
                stop = ack["run"] if self.random.random() < 0.15 else None
                leaves = self.random.random() < 0.3
                last, over = await self.read(socket, thread, last, ack["seq"], stop=stop, leaves=leaves)
            if not over:
                self.tally.reconnects += 1
                async with self.socket() as socket:
                    last, over = await self.read(socket, thread, last, ack["seq"])
            self.tally.runs += 1
            await asyncio.sleep(self.random.random())

    async def read(
        self,
        socket: ClientConnection,
        thread: str,
        last: int,
        first: int,
        *,
        stop: str | None = None,
        leaves: bool = False,
    ) -> tuple[int, bool]:
        """Read after `last` until the run that began at `first` is over, or leave somewhere in it."""
        await socket.send(json.dumps({"op": "subscribe", "id": "s", "thread": thread, "after": last}))
        patience = self.random.randint(1, 100)
        async for data in socket:
            frame = json.loads(data)
            if frame["op"] == "error":
                raise RuntimeError(data)
            for event in frame.get("events", ()):
                if event.get("from", event["seq"]) != last + 1:
                    raise RuntimeError(f"{event.get('from', event['seq'])} came after {last} in {thread}")
                last = event["seq"]
                self.tally.events += 1
                if event["type"] in ("RUN_FINISHED", "RUN_ERROR") and last > first:
                    return last, True
            patience -= 1
            if patience == 0 and stop is not None:
                self.tally.cancelled += 1
                await socket.send(json.dumps({"op": "cancel", "id": str(uuid.uuid4()), "run": stop}))
            elif patience == 0 and leaves:
                return last, False
        raise RuntimeError(f"closed: {socket.close_code} {socket.close_reason}")

    @contextlib.asynccontextmanager
    async def socket(self) -> Any:
        async with connect(self.url, compression=None, max_size=None) as socket:
            await socket.send('{"op":"hello"}')
            await socket.recv()
            yield socket


async def stuck(port: int, until: float) -> None:
    """Sockets that follow a long run and never read, one after the other."""
    while time.monotonic() < until:
        body = {"message": {"id": str(uuid.uuid4()), "content": "3000 300"}}
        thread = (await asyncio.to_thread(post, port, "/v1/messages", body))["thread"]
        peer = await asyncio.to_thread(deaf, port, thread)
        await asyncio.sleep(min(60, max(0, until - time.monotonic())))
        peer.close()


async def soak(server: Running, minutes: float, chatters: int) -> tuple[Tally, list[dict[str, float]]]:
    tally = Tally()
    began = time.monotonic()
    until = began + minutes * 60
    samples: list[dict[str, float]] = []
    async with asyncio.TaskGroup() as tasks:
        for seed in range(chatters):
            tasks.create_task(Chatter(server.port, tally, seed).talk(until))
        for _ in range(STUCK):
            tasks.create_task(stuck(server.port, until))
        while time.monotonic() < until:
            await asyncio.sleep(min(SAMPLE_S, max(0.1, until - time.monotonic())))
            sample = {
                "s": time.monotonic() - began,
                "mib": server.memory / 2**20,
                "files": float(server.files),
                "threads": float(server.threads),
                "runs": float(tally.runs),
            }
            samples.append(sample)
            print("  ".join(f"{name} {value:.1f}" for name, value in sample.items()), file=sys.stderr, flush=True)
    return tally, samples


def grown(samples: list[dict[str, float]], name: str) -> tuple[float, float]:
    """The median of the first and of the last fifth after warming up."""
    warm = samples[int(len(samples) * WARM) :]
    fifth = max(1, len(warm) // 5)
    return tuple(statistics.median(sample[name] for sample in part) for part in (warm[:fifth], warm[-fifth:]))  # type: ignore[return-value]


def verdict(tally: Tally, samples: list[dict[str, float]]) -> tuple[str, bool]:
    before, after = grown(samples, "mib")
    short = samples[-1]["s"] < LEAST_MIN * 60 * 0.99
    flat = short or after <= before * (1 + ALLOWED)
    word = "too short to say whether that is flat" if short else "flat" if flat else "GROWS"
    lines = [
        f"{samples[-1]['s'] / 60:.0f} minutes: {tally.runs} runs, {tally.events} events, "
        f"{tally.reconnects} left and came back, {tally.cancelled} stopped",
        f"memory {before:.1f} → {after:.1f} MiB: {word}",
    ]
    for name in ("files", "threads"):
        lines.append("{} {:.0f} → {:.0f}".format(name, *grown(samples, name)))
    lines.append(f"{len(tally.faults)} faults" + "".join(f"\n  {fault}" for fault in tally.faults[:10]))
    return "\n".join(lines), flat and not tally.faults


if __name__ == "__main__":
    given = options(__doc__, minutes=60.0, chatters=20)
    with started("ours") as running_server:
        found = uvloop.run(soak(running_server, given.minutes, given.chatters))
    text, good = verdict(*found)
    print(json.dumps(found[1]) if given.json else text)
    sys.exit(0 if good else 1)
