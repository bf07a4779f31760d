"""What a deletion leaves in the file, how its room is given back, and how the store tells that it cannot write."""

from __future__ import annotations

import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from runcast.errors import StoreError
from runcast.stores import sqlite_retention
from runcast.stores.base import Pruning, Receipt
from runcast.stores.sqlite import SqliteStore
from runcast.stores.sqlite_check import check
from runcast.testing.store_suite import ME, NOW, OTHER, delta, line, notice, started

pytestmark = pytest.mark.anyio
NOTHING = Pruning(receipts_before=0, tombstones_before=0, inbox_events=10_000)
MARKER = "Zinnober4711"


async def test_room_is_given_back_to_the_disk_in_small_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_retention, "FREE_PAGES", 100)
    path = tmp_path / "a.db"
    store = await SqliteStore.open(path)
    try:
        one, kept = await line(store), await line(store, title="kept")
        for _ in range(100):
            await one.append(delta("x" * 50_000))
        # a run that goes on would hold back what was sealed before: its rows of the journal are younger
        await kept.append(started(kept.id, "r", "hi"), runs=[kept.run("r")])
        await kept.append(delta("y" * 50_000))
        await store.delete_thread(one.id, fence=one.fence, now=NOW)

        def pages() -> int:
            with closing(sqlite3.connect(path)) as file:
                return file.execute("PRAGMA page_count").fetchone()[0]

        before, steps = pages(), 0
        with anyio.fail_after(20):
            while before > 300:  # what was sealed leaves the journal in idle time
                steps += await store.prune(NOTHING)
                now = pages()
                assert before - now <= sqlite_retention.VACUUM_PAGES + 2, (
                    "a step is bounded (and pages of the map of pages go)"
                )
                before = now
        assert steps >= 3
        assert len(await kept.all()) == 2
    finally:
        await store.close()
    assert path.stat().st_size < 2_000_000
    assert check(str(path)).is_whole


async def test_of_an_owner_who_is_deleted_no_row_has_anything(tmp_path: Path) -> None:
    """Also not what was sealed and waits in the journal for others, nor the words of the search."""
    path = tmp_path / "a.db"
    store = await SqliteStore.open(path)
    try:
        one, busy = await line(store, title=f"{MARKER} title"), await line(store, OTHER, title="theirs")
        await busy.append(started(busy.id, "b", "mine"), runs=[busy.run("b")])  # holds the journal back
        run = one.run("r")
        await one.append(started(one.id, "r", f"{MARKER} said"), runs=[run], receipt=Receipt(MARKER, "h", b"1"))
        for _ in range(30):
            await one.append(delta(MARKER))
        event = started(one.id, "r", MARKER)
        await one.append(event, runs=[one.run("r", "done", first_seq=1)], notices=[notice(one.id), delta(MARKER)])
        await store.resolve_alias(ME, MARKER, new_thread="t9", now=NOW)
        for thread in (await store.list_threads(ME)).threads:
            fence = await store.acquire(thread.id, "node-1", now=NOW, ttl_ms=1000)
            await store.delete_thread(thread.id, fence=fence, now=NOW)
        assert await store.delete_owner(ME)
        while await store.prune(NOTHING):
            pass
        assert len(await busy.all()) == 1
    finally:
        await store.close()
    dump = tmp_path / "copy.db"
    with closing(sqlite3.connect(path)) as file:
        file.execute("VACUUM INTO ?", (str(dump),))  # every row and the search's index, no free page
    data = dump.read_bytes()
    assert MARKER.encode() not in data and MARKER.lower().encode() not in data
    assert b"theirs" in data
    assert check(str(path)).is_whole


LIMITED = """
import resource, signal, sys
import anyio
from runcast.errors import StoreError
from runcast.stores.sqlite import SqliteStore
from runcast.testing.store_suite import ME, NOW, delta, line, new_id, started

def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

async def refused(work):
    try:
        await work
    except StoreError as error:
        return error.message
    raise SystemExit("it was not refused")

async def main():
    store = await SqliteStore.open(sys.argv[1])
    one = await line(store)
    await one.append(started(one.id, "r", "hi"), runs=[one.run("r")])
    assert store.healthy
    limit(4096)
    said = [await refused(one.append(delta("y"))), await refused(store.create_thread(ME, new_id(), now=NOW)),
            await refused(store.resolve_alias(ME, "name", new_thread=new_id(), now=NOW)), await refused(store.probe())]
    assert all("disk" in message for message in said), said
    assert not store.healthy
    assert len(await one.all()) == 1 and not store.healthy, "a read that works says nothing of writes"
    limit(resource.RLIM_INFINITY)
    await store.probe()
    assert store.healthy
    await one.append(delta("y"))
    assert [record.seq for record in await one.all()] == [1, 2]
    assert len((await store.list_threads(ME)).threads) == 1
    await store.close()

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
anyio.run(main)
"""


async def test_a_store_that_cannot_write_says_so_until_it_can(tmp_path: Path) -> None:
    """I4: with a real limit on the size of files."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    command = [sys.executable, "-c", LIMITED, str(tmp_path / "a.db")]
    result = await anyio.run_process(command, env=environment, check=False)
    assert result.returncode == 0, result.stderr.decode()[-2000:]
    assert check(str(tmp_path / "a.db")).is_whole


async def test_a_refused_write_among_good_ones_is_not_overlooked(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "a.db")
    try:
        one, two = await line(store), await line(store)
        assert store._ledger is not None
        database = store._ledger.connection
        pages = database.execute("PRAGMA page_count").fetchone()[0]
        database.execute(f"PRAGMA max_page_count = {pages + 2}")
        with pytest.raises(StoreError, match="full"):
            await one.append(delta("x" * 100_000))
        assert not store.healthy
        await two.append(delta("small"))
        assert store.healthy, "the last write worked"
    finally:
        await store.close()
