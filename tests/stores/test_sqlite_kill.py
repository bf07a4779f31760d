"""I2, I3: what the store acknowledged is in the file after SIGKILL, without a hole, again and again."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from runcast.stores.sqlite import SqliteStore
from runcast.testing.store_suite import NOW

KILLS = 6
APPENDER = Path(__file__).with_name("appender.py")


def kill_after(path: Path, lines: int) -> list[str]:
    """What the appender printed until it was killed, some time after `lines` lines."""
    source = str(Path(__file__).parents[2] / "src")
    command = [sys.executable, str(APPENDER), str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": source}) as process:
        assert process.stdout is not None
        said: list[bytes] = []
        try:
            for _ in range(lines):
                said.append(process.stdout.readline())
        finally:
            process.send_signal(signal.SIGKILL)
        said.extend(process.stdout)
        process.wait(10)
    return [line.decode() for line in said if line.endswith(b"\n")]


@pytest.mark.anyio
async def test_what_was_acknowledged_is_there_after_every_kill(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    seed = random.randrange(1 << 30)
    print("seed", seed)
    chance = random.Random(seed)
    acked: dict[str, int] = {}
    for _ in range(KILLS):
        for line in kill_after(path, chance.randrange(200, 3000)):
            thread, seq = line.split()
            acked[thread] = max(acked.get(thread, 0), int(seq))
        with closing(sqlite3.connect(path)) as file, file:
            assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            file.execute("INSERT INTO said_words (said_words) VALUES ('integrity-check')")
        store = await SqliteStore.open(path)
        try:
            for thread, seq in acked.items():
                row = await store.get_thread(thread)
                assert row is not None and row.head >= seq, f"{thread}: {seq} was acknowledged, {row} is there"
                after = 0
                while records := await store.read(thread, after):
                    assert [r.seq for r in records] == list(range(after + 1, after + 1 + len(records)))
                    after = records[-1].seq
                assert after == row.head
                runs = await store.runs(thread=thread)
                if row.kind == "chat":
                    assert [run.status for run in runs[:-1]] == ["done"] * (len(runs) - 1)
                    assert row.status == runs[-1].status
            orphans = {orphan.thread.id for orphan in await store.orphans(now=NOW)}
            running = {run.thread for run in await store.runs(status=["running"])}
            assert orphans == running
        finally:
            await store.close()
    assert sum(acked.values()) > KILLS * 200
