"""The SQLite store: the conformance suite, and what is its own: the file, its versions, its errors."""

from __future__ import annotations

import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from runcast import events as e
from runcast.errors import ConfigError, NotFound, StoreCorrupt, StoreError, StoreLocked
from runcast.stores import sqlite_ledger
from runcast.stores.base import Store
from runcast.stores.sql import STATEMENTS, Migration, load_migrations
from runcast.stores.sqlite import SqliteStore
from runcast.stores.sqlite_file import connect, migrate
from runcast.testing import StoreSuite
from runcast.testing.store_suite import ME, NODE, NOW, TTL_MS, Line, delta, line, notice, started, titles


class TestInFile(StoreSuite):
    async def open_store(self, tmp_path: Path) -> Store:
        return await SqliteStore.open(tmp_path / "a.db")


class TestInMemory(StoreSuite):
    async def open_store(self, tmp_path: Path) -> Store:
        return await SqliteStore.open(":memory:")


class TestPower(StoreSuite):
    async def open_store(self, tmp_path: Path) -> Store:
        return await SqliteStore.open(tmp_path / "a.db", durability="power")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "a.db"


@pytest.mark.anyio
async def test_everything_is_there_after_a_restart_and_old_fences_are_void(path: Path) -> None:
    """I1, I3, I22."""
    store = await SqliteStore.open(path)
    one = await line(store, title="Kept")
    acked = (await one.append(started(one.id, "r", "hi"), runs=[one.run("r")], notices=[notice(one.id)])).records
    for k in range(50):
        acked += (await one.append(delta(str(k)))).records
    await store.close()

    store = await SqliteStore.open(path)
    try:
        assert [r.data for r in await one_of(store, one).all()] == [r.data for r in acked]
        orphans = await store.orphans(now=NOW)  # the lease of the process before is void
        assert [orphan.thread.id for orphan in orphans] == [one.id] and orphans[0].thread.head == 51
        with pytest.raises(StoreError):
            await store.append(one.write(delta("no")), now=NOW)
        fence = await store.acquire(one.id, "another", now=NOW, ttl_ms=TTL_MS)
        assert fence > one.fence
        again = Line(store, orphans[0].thread, fence)
        end = e.RunError(run_id="r", message="x", code="interrupted")
        await again.append(end, runs=[again.run("r", "interrupted", first_seq=1)], notices=[notice(one.id)])
        assert len(await again.all()) == 52
        assert (await store.inbox(ME, now=NOW)).head == 2
        assert await titles(store, "kept") == ["Kept"]
    finally:
        await store.close()


def one_of(store: Store, other: Line) -> Line:
    return Line(store, other.thread, other.fence)


@pytest.mark.anyio
async def test_an_ended_runs_log_is_sealed_and_the_journal_emptied(path: Path) -> None:
    """I13: journal and segments never overlap or leave a hole, read at every step."""
    store = await SqliteStore.open(path)
    lines = [await line(store) for _ in range(4)]
    for one in lines:
        await one.append(started(one.id, f"r{one.id}", "hi"), runs=[one.run(f"r{one.id}")])
    for k in range(1200):
        for one in lines:
            await one.append(delta(f"{k} " + "x" * (k % 200)))
    before = [[r.data for r in await one.all()] for one in lines]
    for one in lines[1:]:
        run = one.run(f"r{one.id}", "done", first_seq=1)
        await one.append(e.RunFinished(run_id=run.id, thread_id=one.id), runs=[run])
    for one, known in zip(lines, before, strict=True):
        for after in (0, 1, 500, 1200):
            assert [r.data for r in await one.all(after)][: 1201 - after] == known[after:]
    await store.close()

    with closing(sqlite3.connect(path)) as file, file:
        keys = dict(file.execute("SELECT id, key FROM threads"))
        for number, one in enumerate(lines):
            spans = file.execute(
                "SELECT first_seq, last_seq FROM segments WHERE thread = ? ORDER BY first_seq", (keys[one.id],)
            ).fetchall()
            if number == 0:
                assert spans == []  # its run is still under way
            else:
                assert [span[0] for span in spans] == [1, *(span[1] + 1 for span in spans[:-1])]
                assert spans[-1][1] == 1202
        assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        file.execute("INSERT INTO said_words (said_words) VALUES ('integrity-check')")

    store = await SqliteStore.open(path)
    try:
        for one, known in zip(lines, before, strict=True):
            assert [r.data for r in await one_of(store, one).all()][:1201] == known
        first = lines[0]
        first.fence = await store.acquire(first.id, NODE, now=NOW, ttl_ms=TTL_MS)
        first.store = store
        run = first.run(f"r{first.id}", "done", first_seq=1)
        await first.append(e.RunFinished(run_id=run.id, thread_id=first.id), runs=[run])
    finally:
        await store.close()
    with closing(sqlite3.connect(path)) as file, file:
        assert file.execute("SELECT count(*) FROM journal").fetchone()[0] < 10_000
        assert file.execute("SELECT count(*) FROM threads WHERE journal_from IS NOT NULL").fetchone() == (0,)


@pytest.mark.anyio
async def test_threads_that_nobody_works_on_are_forgotten_and_found_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory does not grow with how many conversations there ever were."""
    monkeypatch.setattr(sqlite_ledger, "CACHED_LOGS", 8)
    store = await SqliteStore.open(path)
    try:
        assert store._ledger is not None
        held = [await line(store) for _ in range(3)]
        told: list[tuple[Line, list[bytes]]] = []
        most = 0
        for _ in range(100):
            one = await line(store)
            run = one.run(f"r{one.id}")
            await one.append(started(one.id, run.id, "hi"), runs=[run])
            ended = one.run(run.id, "done", first_seq=1)
            await one.append(e.RunFinished(run_id=run.id, thread_id=one.id), runs=[ended])
            await store.release(one.id, fence=one.fence)
            told.append((one, [record.data for record in await one.all()]))
            with anyio.fail_after(10):
                while store._ledger.sealing.backlog:
                    await anyio.sleep(0.001)
            most = max(most, len(store._ledger.logs))
        assert most <= 2 * 8
        for one, known in told:
            assert [record.data for record in await one.all()] == known
        for one in held:
            await one.append(delta("still mine"))
    finally:
        await store.close()


@pytest.mark.anyio
async def test_the_file_is_the_owners_alone(path: Path) -> None:
    store = await SqliteStore.open(path)
    try:
        await line(store)
        files = sorted(path.parent.iterdir())
        assert {file.name for file in files} == {"a.db", "a.db-shm", "a.db-wal", "a.db.lock"}
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    finally:
        await store.close()


@pytest.mark.anyio
async def test_a_second_writer_is_refused_and_a_reader_is_not(path: Path) -> None:
    store = await SqliteStore.open(path)
    one = await line(store, title="Seen")
    await one.append(started(one.id, "r", "hi"), runs=[one.run("r")])
    with pytest.raises(StoreLocked, match="another Runcast process"):
        await SqliteStore.open(path)
    reader = await SqliteStore.open(path, read_only=True)
    await one.append(delta("later"))
    (thread,) = (await reader.list_threads(ME)).threads
    assert (thread.title, thread.head) == ("Seen", 2) and await reader.get_thread(one.id) == thread
    assert [r.seq for r in await reader.read(one.id, 0)] == [1, 2]
    assert [r.seq for r in await reader.read(one.id, 1)] == [2]
    run = one.run("r", "done", first_seq=1)
    await one.append(e.RunFinished(run_id="r", thread_id=one.id), runs=[run])
    await store.close()
    assert [r.seq for r in await reader.read(one.id, 0)] == [1, 2, 3]
    assert [r.seq for r in await reader.read(one.id, 2)] == [3]
    with pytest.raises(StoreError, match="reading only"):
        await reader.create_thread(ME, "t", now=NOW)
    with pytest.raises(NotFound, match="reading only"):
        await reader.inbox(ME, now=NOW)
    await reader.close()
    await (await SqliteStore.open(path)).close()


@pytest.mark.anyio
async def test_what_cannot_be_opened_is_said_clearly(path: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no database file"):
        await SqliteStore.open(path, read_only=True)
    with pytest.raises(ConfigError, match="durability"):
        await SqliteStore.open(path, durability="maybe")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="cannot be opened"):
        await SqliteStore.open(tmp_path)
    foreign = tmp_path / "foreign.db"
    with closing(sqlite3.connect(foreign)) as file, file:
        file.execute("CREATE TABLE theirs (x)")
    with pytest.raises(ConfigError, match="another program"):
        await SqliteStore.open(foreign)
    newer = tmp_path / "newer.db"
    with closing(sqlite3.connect(newer)) as file, file:
        file.execute("PRAGMA user_version = 9999")
    for read_only in (False, True):
        with pytest.raises(ConfigError, match="format 9999"):
            await SqliteStore.open(newer, read_only=read_only)
    garbage = tmp_path / "garbage.db"
    garbage.write_bytes(b"no database at all " * 1000)
    with pytest.raises(StoreCorrupt):
        await SqliteStore.open(garbage)


@pytest.mark.anyio
async def test_an_older_file_is_brought_up_to_date_and_keeps_what_it_had(path: Path) -> None:
    store = await SqliteStore.open(path)
    one = await line(store, title="Old")
    await store.close()
    first = load_migrations()
    step = Migration(first[-1].version + 1, "ALTER TABLE runs ADD COLUMN cost INTEGER;")
    broken = Migration(step.version + 1, "CREATE TABLE half (x);\nSELECT nonsense FROM nowhere;")
    file = connect(str(path), durability="process")
    migrate(file, [*first, step])
    migrate(file, [*first, step])  # nothing is left to do
    with pytest.raises(sqlite3.Error):
        migrate(file, [*first, step, broken])
    assert file.execute("PRAGMA user_version").fetchone() == (step.version,)
    assert file.execute("SELECT count(*) FROM sqlite_master WHERE name = 'half'").fetchone() == (0,)
    assert file.execute("SELECT cost FROM runs").fetchall() == []
    assert file.execute("SELECT id, title FROM threads").fetchall() == [(one.id, "Old")]
    file.close()
    with pytest.raises(ConfigError, match=f"format {step.version}"):
        await SqliteStore.open(path)


@pytest.mark.anyio
async def test_a_full_disk_fails_the_write_and_nothing_of_it_is_seen(path: Path) -> None:
    """I4: and when there is room again, the log goes on where it stood."""
    store = await SqliteStore.open(path)
    try:
        one, two = await line(store), await line(store)
        await one.append(started(one.id, "r", "hi"), runs=[one.run("r")])
        assert store._ledger is not None
        database = store._ledger.connection
        pages = database.execute("PRAGMA page_count").fetchone()[0]
        database.execute(f"PRAGMA max_page_count = {pages}")
        failed: list[StoreError] = []

        async def fail(big: Line) -> None:
            try:
                await big.append(delta("x" * 100_000), notices=[notice(big.id)])
            except StoreError as error:
                failed.append(error)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fail, one)
            tasks.start_soon(fail, two)
        with pytest.raises(StoreError):
            await one.append(delta("y" * 100_000))
        assert len(failed) == 2
        assert all("full" in error.message and str(path.parent) not in error.message for error in failed)
        assert len(await one.all()) == 1 and await two.all() == []
        thread = await store.get_thread(one.id)
        assert thread is not None and thread.head == 1
        database.execute("PRAGMA max_page_count = 1000000")
        await one.append(delta("x" * 100_000), notices=[notice(one.id)])
        assert [r.seq for r in await one.all()] == [1, 2]
        assert (await store.inbox(ME, now=NOW)).head == 1
    finally:
        await store.close()


@pytest.mark.anyio
async def test_a_commit_that_fails_fails_its_whole_group(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """I4."""
    store = await SqliteStore.open(path)
    try:
        lines = [await line(store) for _ in range(5)]
        ledger = store._ledger
        assert ledger is not None
        commit = ledger.commit

        def broken() -> None:
            raise sqlite3.OperationalError("disk I/O error")

        monkeypatch.setattr(ledger, "commit", broken)
        failed: list[StoreError] = []

        async def fail(one: Line) -> None:
            try:
                await one.append(delta("no"), runs=[one.run(f"r{one.id}")], notices=[notice(one.id)])
            except StoreError as error:
                failed.append(error)

        async with anyio.create_task_group() as tasks:
            for one in lines:
                tasks.start_soon(fail, one)
        assert len(failed) == 5
        monkeypatch.setattr(ledger, "commit", commit)
        for one in lines:
            assert await one.all() == []
            await one.append(delta("yes"), notices=[notice(one.id)])
            assert [r.seq for r in await one.all()] == [1]
        assert await store.runs() == [] and (await store.inbox(ME, now=NOW)).head == 5
    finally:
        await store.close()


@pytest.mark.anyio
async def test_what_arrives_during_a_commit_shares_the_next_one(path: Path) -> None:
    """Natural group commit: far fewer commits than appends when many arrive at once; a lone one is not held back."""
    store = await SqliteStore.open(path)
    try:
        lines = [await line(store) for _ in range(100)]
        assert store._ledger is not None
        commits: list[int] = []
        commit = store._ledger.commit

        def counted() -> None:
            commits.append(1)
            commit()

        store._ledger.commit = counted  # type: ignore[method-assign]
        async with anyio.create_task_group() as tasks:
            for one in lines:
                tasks.start_soon(one.append, delta("x"))
        assert len(commits) <= 50
        commits.clear()
        await lines[0].append(delta("y"))
        assert len(commits) == 1
    finally:
        await store.close()


_NAMED = ("thread", "seq", "status", "ids", "key", "head", "journal_from", "newest", "title", "pinned", "head_run",
          "updated_at", "before", "but", "limit", "user", "tenant")  # fmt: skip


def test_every_statement_is_described_and_can_be_prepared(path: Path) -> None:
    file = connect(":memory:", durability="process")
    migrate(file)
    source = "".join(p.read_text() for p in (Path(__file__).parents[2] / "src/runcast/stores").glob("sqlite*.py"))
    for name, statement in STATEMENTS.items():
        assert statement.description.endswith("."), name
        assert f'"{name}"' in source, f"{name} is not used"
        arguments = dict.fromkeys(_NAMED)
        count = statement.sql.count("?")
        file.execute("EXPLAIN " + statement.sql, [None] * count if count else arguments)
    file.close()


@pytest.mark.anyio
async def test_readers_see_the_log_whole_while_it_is_written_and_sealed(path: Path) -> None:
    """I1, I13: whatever moment of the sealing a read meets, it finds everything that was acknowledged before it began."""
    store = await SqliteStore.open(path)
    try:
        one = await line(store)
        over = anyio.Event()
        reads = 0

        async def watch() -> None:
            nonlocal reads
            while not over.is_set():
                head = one.head
                after = max(0, head - 40)
                found = await store.read(one.id, after)
                assert [r.seq for r in found] == list(range(after + 1, after + 1 + len(found)))
                assert after + len(found) >= head
                reads += 1

        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(watch)
            with anyio.fail_after(40):
                for number in range(150):
                    run = one.run(f"r{number}")
                    await one.append(started(one.id, run.id, "go"), runs=[run])
                    for _ in range(10):
                        await one.append(delta("x" * 50))
                    ended = one.run(run.id, "done", first_seq=run.first_seq)
                    await one.append(e.RunFinished(run_id=run.id, thread_id=one.id), runs=[ended])
            over.set()
        assert reads > 50
        assert [r.seq for r in await one.all()] == list(range(1, 150 * 12 + 1))
    finally:
        await store.close()


@pytest.mark.anyio
async def test_a_closed_store_says_so(path: Path) -> None:
    store = await SqliteStore.open(path)
    one = await line(store)
    told: list[StoreError] = []

    async def read() -> None:
        try:
            await store.read(one.id, 0)
        except StoreError as error:
            told.append(error)

    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(read)
        await anyio.lowlevel.checkpoint()
        await store.close()
    await read()
    with pytest.raises(StoreError, match="closed"):
        await one.append(delta("x"))
    assert told and all("closed" in error.message for error in told)


@pytest.mark.anyio
async def test_appends_at_once_are_committed_here_and_never_wait_for_another(path: Path) -> None:
    store = await SqliteStore.open(path)
    one = await line(store)
    assert [written is None for written in store.append_now([one.write(delta("1"))], now=NOW)] == [False]
    writer = store._writer
    assert writer is not None
    with writer._turn:  # somebody else writes
        assert store.append_now([one.write(delta("2"), expected_seq=1)], now=NOW) == [None]
    assert [record.seq for record in await one.all()] == [1]
    await store.close()
    power = await SqliteStore.open(path, durability="power")
    one = Line(power, one.thread, await power.acquire(one.id, NODE, now=NOW, ttl_ms=TTL_MS))
    assert power.append_now([one.write(delta("2"), expected_seq=1)], now=NOW) == [None]  # its commits wait for the disk
    await power.close()


@pytest.mark.anyio
async def test_a_commit_at_once_that_fails_is_left_to_the_long_way(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """I4: nothing of it is seen, and `append` says what is wrong."""
    store = await SqliteStore.open(path)
    one = await line(store)
    await one.append(delta("1"))
    assert store._ledger is not None
    commit = store._ledger.commit

    def full() -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(store._ledger, "commit", full)
    assert store.append_now([one.write(delta("2"))], now=NOW) == [None]
    with pytest.raises(StoreError):
        await one.append(delta("2"))
    monkeypatch.setattr(store._ledger, "commit", commit)
    assert len(await one.all()) == 1
    await one.append(delta("2"))
    assert [record.seq for record in await one.all()] == [1, 2]
    await store.close()


@pytest.mark.anyio
async def test_the_write_ahead_log_begins_anew_while_much_is_written_at_once(path: Path) -> None:
    store = await SqliteStore.open(path)
    one = await line(store)
    text = "x" * 64 * 1024
    for _ in range(640):
        write = one.write(delta(text))
        if store.append_now([write], now=NOW) == [None]:
            await store.append(write, now=NOW)
        one.head += 1
        await anyio.lowlevel.checkpoint()  # the thread that brings it into the file wants its turn, too
    size = path.with_name(path.name + "-wal").stat().st_size
    assert size < 25 << 20, f"{size >> 20} MiB for 40 MiB of events"
    await store.close()
