"""One process of clients. `python load.py JOB`, JOB being JSON of a `Job`: joins, says `ready`, waits for a line, starts
the runs, and prints one line of JSON when every token has arrived."""

from __future__ import annotations

import asyncio
import sys
import time

import msgspec
import uvloop

from clients import PROTOCOLS


class Seat(msgspec.Struct):
    """One client: the room it joins, and whether it is the one that asks."""

    room: str
    asks: bool


class Job(msgspec.Struct):
    kind: str
    port: int
    seats: list[Seat]
    prompt: str
    expected: int
    with_latency: bool = True
    timeout_s: float = 300


class Report(msgspec.Struct):
    """What one process saw. Latencies in ms; times in seconds on the monotonic clock, which all processes share."""

    tokens: int
    bytes: int
    frames: int
    started: float
    ended: float
    cpu_s: float
    latencies: list[float]
    """A sorted sample, at most `SAMPLE`."""


SAMPLE = 20_000


async def main(job: Job) -> None:
    kind = PROTOCOLS[job.kind]
    readers = [kind(job.port, seat.room, job.expected, with_latency=job.with_latency) for seat in job.seats]
    for start in range(0, len(readers), 20):  # a burst of handshakes is not what is measured here
        async with asyncio.timeout(60):
            await asyncio.gather(*(reader.join() for reader in readers[start : start + 20]))
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    started, used = time.monotonic(), time.process_time()
    for reader, seat in zip(readers, job.seats, strict=True):
        if seat.asks:
            reader.ask(job.prompt)
    async with asyncio.timeout(job.timeout_s):
        await asyncio.gather(*(reader.done for reader in readers))
    ended, used = time.monotonic(), time.process_time() - used
    latencies = sorted(latency for reader in readers for latency in reader.latencies)
    step = max(1, len(latencies) // SAMPLE)
    report = Report(
        tokens=sum(reader.tokens for reader in readers),
        bytes=sum(reader.bytes for reader in readers),
        frames=sum(reader.frames for reader in readers),
        started=started,
        ended=ended,
        cpu_s=used,
        latencies=latencies[::step],
    )
    print(msgspec.json.encode(report).decode(), flush=True)


if __name__ == "__main__":
    uvloop.run(main(msgspec.json.decode(sys.argv[1], type=Job)))
