"""A process that appends until it is killed, and prints each seq after the store acknowledged it: `<thread> <seq>`."""

from __future__ import annotations

import os
import sys

import anyio

from runcast import events as e
from runcast.stores.base import Store
from runcast.stores.sqlite import SqliteStore
from runcast.testing.store_suite import NOW, Line, delta, line, notice, started

THREADS = 8
RUN_LENGTH = 40


async def talk(store: Store) -> None:
    """Runs one after the other, so that kills also meet ends of runs and sealing."""
    one = await line(store)
    number = 0
    while True:
        number += 1
        run = one.run(f"{one.id}.{number}")
        await tell(one, started(one.id, run.id, "go"), runs=[run], notices=[notice(one.id)])
        for k in range(RUN_LENGTH):
            await tell(one, delta(f"{number}.{k} " + "x" * (k * 7 % 300)))
        ended = one.run(run.id, "done", first_seq=run.first_seq)
        await tell(one, e.RunFinished(run_id=run.id, thread_id=one.id), runs=[ended], notices=[notice(one.id)])


async def tell(one: Line, *events: e.Event, **fields: object) -> None:
    written = await one.append(*events, now=NOW, **fields)
    said = "".join(f"{one.id} {record.seq}\n" for record in written.records)
    said += "".join(f"{written.inbox} {record.seq}\n" for record in written.notices)
    os.write(1, said.encode())  # one call, unbuffered: what was printed was acknowledged


async def main(path: str) -> None:
    store = await SqliteStore.open(path)
    async with anyio.create_task_group() as tasks:
        for _ in range(THREADS):
            tasks.start_soon(talk, store)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1])
