"""P9: the cost of a token as the work grows: along a run of 10 000 tokens, with 1 to 1000 runs at once, and with 1 to
100 000 conversations in the store.

`python growth.py [--most-runs 1000] [--most-stored 100000] [--seconds 10] [--rounds 3]`. The total rate stays the same, so
that only what is asked about changes; costs are taken from the middle of the runs, without their starts and ends.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
from installing import PLACE
from rounds import Measured, Row, alternate, clients, get, median, number, options, show, started
from servers import Running, running

RATE = 1000
"""Tokens per second, all runs together."""
RUNS = (1, 10, 100, 1000)
STORED = (1, 1000, 100_000)
SOURCE = Path(__file__).parent.parent / "src" / "runcast"


def windows(
    kind: str, server: Running, *, runs: int, rate: float, warm_s: float, window_s: float, count: int
) -> list[float]:
    """CPU per token, in µs, of `count` windows one after the other in the middle of the runs."""
    tokens = int((warm_s + window_s * count + 1) * rate) + 1
    with clients(kind, server, runs=runs, readers=1, tokens=tokens, rate=rate, with_latency=False) as load:
        failed: list[BaseException] = []

        def go() -> None:
            try:
                load.go()
            except BaseException as error:
                failed.append(error)

        going = threading.Thread(target=go)
        going.start()
        time.sleep(warm_s)
        costs: list[float] = []
        for _ in range(count):
            used, began = server.cpu_s, time.monotonic()
            time.sleep(window_s)
            # Paced: what was delivered is known from the time; a server that falls behind shows in `go`'s end.
            costs.append((server.cpu_s - used) / ((time.monotonic() - began) * runs * rate) * 1e6)
        going.join()
        if failed:
            raise failed[0]
        return costs


def along(kind: str, seconds: float) -> Row:
    """One run: its first tenth against its last."""
    with started(kind) as server:
        costs = windows(kind, server, runs=1, rate=RATE, warm_s=seconds / 20, window_s=seconds / 10, count=10)
    return {"first_us": costs[0], "last_us": costs[-1], "last_to_first": costs[-1] / costs[0]}


def at_once(kind: str, counts: Sequence[int]) -> Row:
    """Many runs, slower in proportion."""
    row: Row = {}
    with started(kind) as server:
        for runs in counts:
            row[f"{runs}_us"] = windows(
                kind, server, runs=runs, rate=RATE / runs, warm_s=2 + runs / 500, window_s=4, count=1
            )[0]
    return row


# --- stored conversations ---------------------------------------------------------------------------------------------


def among(stored: int) -> Row:
    """20 runs at once in a store that holds `stored` conversations; and how long the list of them takes."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        shutil.copy(filled(stored), Path(directory) / "ours.db")
        began = time.monotonic()
        with running("ours", Path(directory)) as server:
            up_s = time.monotonic() - began
            cost = windows("ours", server, runs=20, rate=RATE / 20, warm_s=2, window_s=4, count=1)[0]
            lists: list[float] = []
            for _ in range(20):
                began = time.monotonic()
                get(server.port, "/v1/threads?limit=50")
                lists.append((time.monotonic() - began) * 1000)
            return {"cost_us": cost, "list_ms": sorted(lists)[10], "start_s": up_s, "memory_mib": server.memory / 2**20}


def filled(count: int) -> Path:
    """A database with `count` conversations of one short run each; made once per state of the store's source."""
    sources = sorted([*SOURCE.glob("stores/**/*.py"), *SOURCE.glob("stores/**/*.sql"), SOURCE / "events.py"])
    state = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:12]
    place = PLACE / f"stored-{count}-{state}.db"
    if not place.exists():
        PLACE.mkdir(exist_ok=True)
        for old in PLACE.glob(f"stored-{count}-*"):
            old.unlink()
        with tempfile.TemporaryDirectory(prefix="bench-", dir=PLACE) as directory:
            path = Path(directory) / "filling.db"
            anyio.run(fill, path, count)
            with contextlib.closing(sqlite3.connect(path)) as database:
                # Else the server gives back the free pages of the filling while it is measured.
                database.execute("VACUUM")
            path.rename(place)
    return place


async def fill(path: Path, count: int) -> None:
    from runcast import events as e
    from runcast.ids import SystemClock, Uuid7Source
    from runcast.runs import Principal, Run
    from runcast.stores.base import Write
    from runcast.stores.sqlite import SqliteStore

    store = await SqliteStore.open(path, durability="process")
    clock = SystemClock()
    new_id = Uuid7Source(clock)
    owner = Principal()  # who everybody is without authentication

    async def one() -> None:
        now = clock.now_ms()
        thread = await store.create_thread(owner, new_id(), title="A conversation about nothing", agent="a", now=now)
        run, message = new_id(), new_id()
        fence = await store.acquire(thread.id, "fill", now=now, ttl_ms=1)
        question: dict[str, Any] = {"id": message, "role": "user", "content": "What is stored here?"}
        input: dict[str, Any] = {"threadId": thread.id, "runId": run, "messages": [question]}
        events = [
            e.RunStarted(thread_id=thread.id, agent="a", input=input),
            e.TextMessageStart(message_id=message + "a"),
            e.TextMessageContent(message_id=message + "a", delta="Something short."),
            e.TextMessageEnd(message_id=message + "a", text="Something short."),
            e.RunFinished(thread_id=thread.id),
        ]
        row = Run(
            id=run, thread=thread.id, agent="a", status="done", created_at=now, ended_at=now, first_seq=1, last_seq=5
        )
        stamped = [e.of_run(event, run) for event in events]
        await store.append(
            Write(thread=thread.id, fence=fence, expected_seq=0, events=stamped, runs=[row], head_run=run), now=now
        )
        await store.release(thread.id, fence=fence)

    try:
        for start in range(0, count, 200):
            async with anyio.create_task_group() as tasks:
                for _ in range(min(200, count - start)):
                    tasks.start_soon(one)
    finally:
        await store.close()


def measure(
    kinds: Sequence[str] = ("naive", "ours"),
    *,
    seconds: float = 10,
    runs: Sequence[int] = RUNS,
    stored: Sequence[int] = STORED,
    rounds: int = 3,
) -> dict[str, Measured]:
    return {
        "along": alternate(kinds, rounds, lambda kind: along(kind, seconds)),
        "at_once": alternate(kinds, rounds, lambda kind: at_once(kind, runs)),
        "among": alternate([str(count) for count in stored], rounds, lambda count: among(int(count))),
    }


def text(found: dict[str, Measured]) -> str:
    def cell(part: str, kind: str, name: str) -> str:
        value = median(found[part], kind, name)
        return found[part][kind].get("missing", "") if value is None else number(value)

    lines = ["| CPU per token, µs | first tenth of a run | last tenth | ratio |", "|---|---|---|---|"]
    for kind in found["along"]:
        cells = [cell("along", kind, name) for name in ("first_us", "last_us", "last_to_first")]
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    names = [name for kind in found["at_once"].values() for row in kind.get("rounds", [])[:1] for name in row]
    names = [name for name in dict.fromkeys(names) if name.endswith("_us")]
    lines += ["", "| CPU per token, µs | " + " | ".join(f"{name[:-3]} runs at once" for name in names) + " |"]
    lines.append("|---" * (len(names) + 1) + "|")
    for kind in found["at_once"]:
        lines.append(f"| {kind} | " + " | ".join(cell("at_once", kind, name) for name in names) + " |")
    lines += [
        "",
        "| conversations stored | CPU per token, µs | list of 50, ms | start until it answers, s | memory, MiB |",
        "|---|---|---|---|---|",
    ]
    for count in found["among"]:
        cells = [cell("among", count, name) for name in ("cost_us", "list_ms", "start_s", "memory_mib")]
        lines.append(f"| {count} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    given = options(__doc__, seconds=10.0, most_runs=1000, most_stored=100_000, rounds=3)
    found = measure(
        given.kinds.split(",") if given.kinds else ("naive", "ours"),
        seconds=given.seconds,
        runs=[count for count in RUNS if count <= given.most_runs],
        stored=[count for count in STORED if count <= given.most_stored],
        rounds=given.rounds,
    )
    show(given, found, text(found))
