"""I13, I14: sealing changes where a log is kept and nothing else, at whatever moment a read meets it.

The ledger is driven step by step, without its thread, so that a read can be placed between any two steps: what a reader saw of
the memory before a step is used on the file after it.
"""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from runcast import events as e
from runcast.ids import SystemClock, Uuid7Source
from runcast.runs import Run
from runcast.stores import sqlite_log, sqlite_sealing
from runcast.stores.base import Write
from runcast.stores.sqlite_check import check
from runcast.stores.sqlite_file import connect, migrate
from runcast.stores.sqlite_ledger import Appending, Ledger
from runcast.stores.sqlite_log import Place, read
from runcast.testing.store_suite import ME, NODE, NOW, TTL_MS, new_id, started
from runcast.transcript import Transcript, dump, fold


class Look(NamedTuple):
    """What a reader saw in memory a while ago."""

    numbers: list[int]
    unsealed: bool

    def after(self, seq: int, limit: int) -> Look:
        return self


class Steps:
    """A ledger over a file, three threads, and what their logs must be."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.logs: list[list[bytes]] = [[], [], []]
        self.runs: list[Run | None] = [None, None, None]
        self.reader: sqlite3.Connection | None = None
        self.open()
        self.ids = [new_id() for _ in self.logs]
        for id in self.ids:
            self.ledger.alone(lambda id=id: self.ledger.create_thread(ME, id, "chat", "", "", NOW, None))  # type: ignore[misc]
        self.ledger.commit()
        self.acquire()

    def open(self) -> None:
        self.writer = connect(str(self.path), durability="process")
        migrate(self.writer)
        self.ledger = Ledger(self.writer, Uuid7Source(SystemClock()))
        self.reader = connect(str(self.path), durability="process", read_only=True)

    def acquire(self) -> None:
        self.fences = [self.ledger.acquire(id, NODE, NOW, TTL_MS, False) for id in self.ids]

    def close(self) -> None:
        assert self.reader is not None
        self.reader.close()
        self.writer.close()

    def append(self, number: int, events: list[e.Event], **rows: Any) -> None:
        log = self.logs[number]
        write = Write(thread=self.ids[number], fence=self.fences[number], expected_seq=len(log), events=events, **rows)
        appending = Appending(write, NOW)
        self.ledger.append(appending) if appending.is_plain else self.ledger.alone(
            lambda: self.ledger.append(appending)
        )
        self.ledger.commit()
        log += [record.data for record in appending.records]

    def talk(self, number: int, sizes: list[int]) -> None:
        """Tokens of the thread's run, which begins if there is none."""
        run = self.runs[number]
        if run is None:
            run = Run(id=new_id(), thread=self.ids[number], agent="a", status="running", created_at=NOW,
                      first_seq=len(self.logs[number]) + 1)  # fmt: skip
            self.runs[number] = run
            self.append(number, [started(run.thread, run.id, "go")], runs=[run], head_run=run.id)
        for size in sizes:
            text = e.TextMessageContent(run_id=run.id, message_id=f"m{run.id}", delta="ü" * size + "x")
            self.append(number, [text] * (1 + size % 3))

    def end(self, number: int) -> None:
        run = self.runs[number]
        if run is not None:
            last = len(self.logs[number]) + 1
            ended = Run(id=run.id, thread=run.thread, agent="a", status="done", created_at=NOW, first_seq=run.first_seq,
                        last_seq=last)  # fmt: skip
            self.append(number, [e.RunFinished(run_id=run.id, thread_id=run.thread)], runs=[ended])
            self.runs[number] = None

    def tidy(self) -> None:
        if self.ledger.sealing.backlog:
            self.ledger.sealing.tidy()

    def restart(self) -> None:
        """As after a kill: nothing is tidied up."""
        self.close()
        self.open()
        self.acquire()

    # --- reading --------------------------------------------------------------------------------------------------

    def looks(self) -> list[tuple[int, int, Look, int]]:
        """What readers at every cursor of every log would go by now, and how far the log is."""
        found: list[tuple[int, int, Look, int]] = []
        for number, id in enumerate(self.ids):
            rows = self.ledger.logs[id].rows
            size = len(self.logs[number])
            for after in sorted({*range(0, size + 1, max(1, size // 12)), max(0, size - 1), size}):
                found.append((number, after, Look(*rows.after(after, 500)), size))
        return found

    def compare(self, looks: list[tuple[int, int, Look, int]]) -> None:
        """Reads that go by an old look find what they must, or that they must look again: never a hole, never nothing."""
        for number, after, look, size in looks:
            log = self.logs[number]
            found = self._read(number, after, look)
            if found is None:
                found = self._read(number, after, Look(*self.ledger.logs[self.ids[number]].rows.after(after, 500)))
                assert found is not None, "nothing happened between look and read"
            assert found == log[after : after + len(found)]
            assert found or after >= size, f"a hole after {after}: the log went to {size} when the reader looked"

    def _read(self, number: int, after: int, look: Look) -> list[bytes] | None:
        assert self.reader is not None
        self.reader.execute("BEGIN")
        try:
            place = Place(self.ledger.logs[self.ids[number]].key, look, None)  # type: ignore[arg-type]
            records = read(self.reader, place, after, max_bytes=3000, max_events=50)
        finally:
            self.reader.execute("ROLLBACK")
        return None if records is None else [record.data for record in records]


THREADS = st.integers(0, 2)
STEP = st.one_of(
    st.tuples(st.just("talk"), THREADS, st.lists(st.integers(0, 60), min_size=1, max_size=12)),
    st.tuples(st.just("end"), THREADS),
    st.tuples(st.just("tidy")),
    st.tuples(st.just("tidy")),
    st.tuples(st.just("restart")),
)


@pytest.fixture(scope="module", autouse=True)
def _small() -> Any:
    """Small pieces: sealing and trimming take several steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite_log, "SEGMENT_BYTES", 700)
        patch.setattr(sqlite_log, "SEAL_BYTES", 2000)
        patch.setattr(sqlite_log, "SEAL_ROWS", 8)
        patch.setattr(sqlite_sealing, "TRIM_ROWS", 5)
        patch.setattr(sqlite_sealing, "HELD_BACK_ROWS", 20)
        yield


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.reuse, Phase.generate),  # to make it small takes longer than a test may
)
@given(st.lists(STEP, min_size=5, max_size=25))
def test_no_read_finds_a_hole_whatever_is_sealed_meanwhile(script: list[tuple[Any, ...]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "a.db"
        steps = Steps(path)
        try:
            for name, *arguments in script:
                looks = [] if name == "restart" else steps.looks()
                getattr(steps, name)(*arguments)
                steps.compare(looks)
                steps.compare(steps.looks())
            for number in range(3):
                steps.end(number)
            looks = steps.looks()  # as old as can be: from before all of the sealing
            while steps.ledger.sealing.backlog:
                steps.tidy()
                steps.compare(looks)
            with closing(sqlite3.connect(path)) as file:
                assert file.execute("SELECT count(*) FROM threads WHERE journal_from IS NOT NULL").fetchone() == (0,)
            for number in range(3):
                replayed(steps, number)
        finally:
            steps.close()
        assert check(str(path)).findings == []


def replayed(steps: Steps, number: int) -> None:
    """I14: a snapshot at any seq and what follows it in the sealed log give what the whole log gave when it was written."""
    written = [e.decode(data) for data in steps.logs[number]]
    whole = dump(fold(Transcript(), written))
    look = Look([], False)
    for seq in {0, 1, len(written) // 3, len(written) // 2, len(written)}:
        transcript = fold(Transcript(), written[:seq])
        while found := steps._read(number, transcript.seq, look):
            fold(transcript, [e.decode(data) for data in found])
        assert dump(transcript) == whole
