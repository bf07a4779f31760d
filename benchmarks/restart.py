"""P7: 1000 clients without jitter reconnect at once to a server that has just started again, each 50 events behind.

`python restart.py [--clients 1000] [--threads 50] [--rounds 3] [--kinds ours,naive]`. A run that goes on meanwhile says what
the storm does to others: its latency before and during it. The naive peer has nothing to catch up with: it only accepts.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import uvloop
from rounds import Measured, Row, alternate, clients, new_room, note, options, show, table
from servers import free_port, running

from clients import PROTOCOLS

ALL = ("naive", "ours")
BEHIND = 50
TOKENS = 200
COLUMNS = {
    "caught_up_s": "all back, s",
    "quiet_p99_ms": "others' p99 before, ms",
    "storm_p99_ms": "others' p99 meanwhile, ms",
    "cpu_ms_per_client": "server CPU, ms/client",
    "client_cpu_share": "busiest client, cores",
}


def once(kind: str, count: int, threads: int) -> Row:
    port = free_port()
    rooms = [""]
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        place = Path(directory)
        if kind == "ours":
            with (
                running(kind, place, port) as server,
                clients(kind, server, runs=threads, readers=1, tokens=TOKENS, rate=0) as load,
            ):
                rooms = [f"{thread}@{TOKENS - BEHIND}" for thread in load.rooms]
                load.go()
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(running(kind, place, port))
            seats = [rooms[number % len(rooms)] for number in range(count)]
            command = [sys.executable, __file__, "--herd"]
            probe_room = new_room(kind, port, 1)
            herds = []
            for job in (
                [kind, port, [probe_room], True],
                [kind, port, seats[::2], False],
                [kind, port, seats[1::2], False],
            ):
                herds.append(
                    subprocess.Popen([*command, json.dumps(job)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
                )
                stack.callback(herds[-1].kill)
            probe, *storm = herds
            for herd in herds:
                assert herd.stdout is not None
                herd.stdout.readline()
            _go(probe)
            time.sleep(3)
            before, began = server.cpu_s, time.monotonic()
            for herd in storm:
                _go(herd)
            reports = [json.loads(herd.communicate(timeout=120)[0]) for herd in storm]
            ended, used = max(report["ended"] for report in reports), server.cpu_s - before
            latencies = json.loads(probe.communicate(timeout=120)[0])["latencies"]
    quiet = sorted(latency for made, latency in latencies if made < began)
    during = sorted(latency for made, latency in latencies if began <= made <= ended) or quiet[-1:]
    return {
        "caught_up_s": ended - began,
        "quiet_p99_ms": quiet[int(len(quiet) * 0.99)],
        "storm_p99_ms": during[int(len(during) * 0.99)],
        "cpu_ms_per_client": used / count * 1000,
        "client_cpu_share": max(report["client_cpu_share"] for report in reports),
    }


def _go(herd: subprocess.Popen[bytes]) -> None:
    assert herd.stdin is not None
    herd.stdin.write(b"go\n")
    herd.stdin.flush()


async def herd(kind: str, port: int, rooms: list[str], probes: bool) -> None:
    """One process: everybody at once. The probe reads a run of 10 s at 100 tokens/s of its own instead."""
    readers = [PROTOCOLS[kind](port, room, 1000, with_latency=True) for room in rooms]
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    began, used = time.monotonic(), time.process_time()
    async with asyncio.timeout(100):
        await asyncio.gather(*(reader.join() for reader in readers))
        if not probes:
            ended = time.monotonic()
            share = (time.process_time() - used) / (ended - began)
            print(json.dumps({"ended": ended, "client_cpu_share": share}), flush=True)
            return
        probe = readers[0]
        probe.ask("1000 100")
        await probe.done
    print(json.dumps({"latencies": list(zip(probe.made, probe.latencies, strict=True))}), flush=True)


def measure(kinds: Sequence[str] = ALL, *, count: int = 1000, threads: int = 50, rounds: int = 3) -> Measured:
    return alternate(kinds, rounds, lambda kind: once(kind, count, threads))


def text(measured: Measured) -> str:
    return table(measured, COLUMNS, by="caught_up_s")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--herd"]:
        uvloop.run(herd(*json.loads(sys.argv[2])))
        raise SystemExit
    given = options(__doc__, clients=1000, threads=50, rounds=3)
    note(f"{given.clients} clients")
    found = measure(
        given.kinds.split(",") if given.kinds else ALL, count=given.clients, threads=given.threads, rounds=given.rounds
    )
    show(given, found, text(found))
