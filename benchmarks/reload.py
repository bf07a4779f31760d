"""P6: a reload in the middle of a run of 10 000 tokens: time and bytes from opening the socket to *caught up*.

The peers keep nothing, so they have no row here. `python reload.py [--rounds 10]`
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid

import msgspec
from rounds import options, show, spread, started
from websockets.asyncio.client import ClientConnection, connect

TOKENS = 10_000


async def hello(socket: ClientConnection) -> None:
    await socket.send('{"op":"hello"}')
    assert json.loads(await socket.recv())["op"] == "welcome"


async def reload(url: str, thread: str) -> dict[str, float]:
    """What a browser does on F5: open, hello, subscribe without a cursor; until caught up."""
    started = time.perf_counter()
    received = 0
    async with connect(url, compression=None, max_size=None) as socket:
        await hello(socket)
        await socket.send(json.dumps({"op": "subscribe", "id": "s", "thread": thread}))
        said = ""
        while True:
            data = await socket.recv()
            received += len(data)
            frame = msgspec.json.decode(data)
            if frame["op"] == "snapshot":
                parts = frame["transcript"]["runs"][0]["messages"][-1]["parts"]
                said = "".join(part.get("text", "") for part in parts if part["type"] == "text")
            elif frame["op"] == "events":
                said += "".join(event.get("delta", "") for event in frame["events"])
            elif frame["op"] == "caught_up":
                elapsed = time.perf_counter() - started
                return {"ms": elapsed * 1000, "bytes": received, "text_bytes": len(said.encode())}


async def measure(url: str, rounds: int) -> list[dict[str, float]]:
    async with connect(url, compression=None, max_size=None) as socket:
        await hello(socket)
        # The first 10 000 tokens at once, then the run goes on at 100 a second while pages are reloaded.
        rest = 100 + 30 * rounds
        message = {"id": str(uuid.uuid4()), "content": f"{TOKENS} 0 {rest} 100"}
        await socket.send(json.dumps({"op": "send", "id": str(uuid.uuid4()), "message": message}))
        thread = json.loads(await socket.recv())["thread"]
        await socket.send(json.dumps({"op": "subscribe", "id": "s", "thread": thread, "after": 0}))
        tokens = 0
        while tokens < TOKENS:
            frame = msgspec.json.decode(await socket.recv())
            for event in frame.get("events", []):
                tokens += event.get("delta", "").count("~")
        found = []
        for _ in range(rounds):
            found.append(await reload(url, thread))
            await asyncio.sleep(0.2)
        return found


def text(found: list[dict[str, float]]) -> str:
    return "\n".join(
        [
            "| measure | median (min-max) |",
            "|---|---|",
            f"| reload to caught up, ms | {spread([row['ms'] for row in found])} |",
            f"| bytes received / bytes of text | {spread([row['bytes'] / row['text_bytes'] for row in found])} |",
            f"| bytes of text | {found[-1]['text_bytes']:.0f} |",
        ]
    )


def run(rounds: int = 10) -> list[dict[str, float]]:
    with started("ours") as server:
        return asyncio.run(measure(f"ws://127.0.0.1:{server.port}/v1/ws", rounds))


if __name__ == "__main__":
    given = options(__doc__, rounds=10)
    rows = run(given.rounds)
    show(given, rows, text(rows))
