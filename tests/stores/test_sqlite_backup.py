"""A backup is one state of the database, whole, its owner's alone; a vacuum leaves no trace; a migration has a way back."""

from __future__ import annotations

import hashlib
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from runcast.errors import ConfigError, StoreError, StoreLocked
from runcast.stores.sql import load_migrations
from runcast.stores.sqlite import SqliteStore
from runcast.stores.sqlite_backup import back_up, formats, migrate, vacuum
from runcast.stores.sqlite_check import check
from runcast.stores.sqlite_file import connect
from runcast.stores.sqlite_file import migrate as migrate_connection
from runcast.testing.store_suite import ME, NOW, delta, line, notice, started

pytestmark = pytest.mark.anyio


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.db"


async def test_a_backup_is_one_state_of_what_is_being_written(path: Path, tmp_path: Path) -> None:
    store = await SqliteStore.open(path)
    target = tmp_path / "copy.db"
    try:
        one = await line(store, title="Kept")
        run = one.run("r")
        await one.append(started(one.id, "r", "hi"), runs=[run], head_run="r")
        over = anyio.Event()

        async def write() -> None:
            while not over.is_set():
                await one.append(delta("x" * 100), notices=[notice(one.id)])

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write)
            while one.head < 300:
                await anyio.lowlevel.checkpoint()
            before = one.head
            size = await anyio.to_thread.run_sync(back_up, str(path), str(target))
            after = one.head
            over.set()
        original = await one.all()
        thread = await store.get_thread(one.id)
    finally:
        await store.close()
    assert size == target.stat().st_size and stat.S_IMODE(target.stat().st_mode) == 0o600
    assert sorted(file.name for file in tmp_path.iterdir() if file.name.startswith(("copy", ".copy"))) == ["copy.db"]
    report = check(str(target))
    assert report.findings == []
    copy = await SqliteStore.open(target, read_only=True)
    try:
        row = await copy.get_thread(one.id)
        assert row is not None and thread is not None and before <= row.head <= after + 1
        assert row.title == "Kept" and row.epoch != thread.epoch, "what follows may differ: readers must start over"
        seen = 0
        while records := await copy.read(one.id, seen):
            assert [r.data for r in records] == [r.data for r in original[seen : seen + len(records)]]
            seen = records[-1].seq
        assert seen == row.head
    finally:
        await copy.close()
    writing = await SqliteStore.open(target)  # and a server can go on from it
    await writing.close()


async def test_a_backup_replaces_nothing_unless_it_is_told_to(path: Path, tmp_path: Path) -> None:
    await (await SqliteStore.open(path)).close()
    target = tmp_path / "copy.db"
    back_up(str(path), str(target))
    with pytest.raises(ConfigError, match="--force"):
        back_up(str(path), str(target))
    with pytest.raises(ConfigError, match="database itself"):
        back_up(str(path), str(path), force=True)
    with pytest.raises(ConfigError, match="no directory"):
        back_up(str(path), str(tmp_path / "nowhere" / "copy.db"))
    with pytest.raises(ConfigError, match="no database file"):
        back_up(str(tmp_path / "nothing.db"), str(tmp_path / "other.db"))

    store = await SqliteStore.open(target)  # a server runs on the older copy
    one = await line(store)
    with pytest.raises(StoreLocked):
        back_up(str(path), str(target), force=True)
    await store.close()
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("UPDATE process SET boot = 1000")
    (tmp_path / "copy.db-wal").write_bytes(b"of the file that was there before")
    back_up(str(path), str(target), force=True)
    assert not (tmp_path / "copy.db-wal").exists()
    with closing(sqlite3.connect(target)) as file:
        assert file.execute("SELECT boot FROM process").fetchone() == (1000,)
        assert file.execute("SELECT count(*) FROM threads WHERE id = ?", (one.id,)).fetchone() == (0,)


async def test_a_backup_that_fails_leaves_what_was_there(path: Path, tmp_path: Path) -> None:
    path.write_bytes(b"no database at all " * 1000)
    target = tmp_path / "copy.db"
    target.write_bytes(b"older")
    with pytest.raises(Exception, match="damaged"):
        back_up(str(path), str(target), force=True)
    assert target.read_bytes() == b"older"
    assert [file.name for file in tmp_path.iterdir() if "part" in file.name] == []


async def test_a_vacuum_gives_back_room_and_leaves_no_trace(path: Path) -> None:
    marker = "Zinnober4711"
    store = await SqliteStore.open(path)
    one, other = await line(store, title=f"{marker} title"), await line(store, title="stays")
    await other.append(started(other.id, "r2", "findable"), runs=[other.run("r2")])
    await one.append(started(one.id, "r", f"{marker} said"), runs=[one.run("r")])
    for _ in range(100):
        await one.append(delta(marker * 500))
    files = [path, path.with_name("a.db-wal")]
    assert any(marker.encode() in file.read_bytes() for file in files), "otherwise this test shows nothing"
    await store.delete_thread(one.id, fence=one.fence, now=NOW)
    with pytest.raises(StoreLocked):
        vacuum(str(path))
    await store.close()
    sizes = vacuum(str(path))
    assert sizes.after < sizes.before / 2 and sizes.after == path.stat().st_size
    data = path.read_bytes()
    assert marker.encode() not in data and marker.lower().encode() not in data
    assert check(str(path)).is_whole
    store = await SqliteStore.open(path)
    try:
        assert [t.title for t in (await store.list_threads(ME, query="findable")).threads] == ["stays"]
    finally:
        await store.close()


async def test_a_vacuum_repairs_the_search(path: Path) -> None:
    store = await SqliteStore.open(path)
    await line(store, title="Striped zebras")
    await store.close()
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("INSERT INTO said_words (said_words) VALUES ('delete-all')")
    assert [finding.what for finding in check(str(path)).findings] == ["search"]
    vacuum(str(path))
    assert check(str(path)).is_whole


async def test_an_older_file_is_copied_then_brought_up_to_date(path: Path, tmp_path: Path) -> None:
    first = load_migrations()[:1]
    with closing(connect(str(path), durability="process")) as file:
        migrate_connection(file, first)
        file.execute("INSERT INTO owners (tenant, user) VALUES ('', 'me')")
        values = ("t", "chat", "e" * 16)
        file.execute("INSERT INTO threads (id, owner, kind, epoch, title, agent, created_at, updated_at) "
                     "VALUES (?, 1, ?, ?, 'Old', '', 1, 1)", values)  # fmt: skip
    newest = load_migrations()[-1].version
    assert formats(str(path)) == (1, newest)
    with pytest.raises(ConfigError, match="format 1, older"):
        await SqliteStore.open(path, read_only=True)
    target = tmp_path / "before.db"
    store_held = await anyio.to_thread.run_sync(migrate, str(path), str(target))
    assert store_held is None
    assert formats(str(path)) == (newest, newest) and formats(str(target)) == (1, newest)
    store = await SqliteStore.open(path, read_only=True)
    try:
        thread = await store.get_thread("t")
        assert thread is not None and (thread.title, thread.first_seq) == ("Old", 1)
    finally:
        await store.close()
    store = await SqliteStore.open(path)
    with pytest.raises(StoreLocked):
        migrate(str(path), str(tmp_path / "again.db"))
    await store.close()


def put_content(path: Path, data: bytes) -> str:
    """A file's row and its bytes, as the store keeps them."""
    digest = hashlib.sha256(data).hexdigest()
    with closing(sqlite3.connect(path)) as file, file:
        file.execute(
            "CREATE TABLE IF NOT EXISTS files (id TEXT PRIMARY KEY, owner INTEGER, name TEXT, mime_type TEXT, "
            "size INTEGER, sha256 TEXT, created_at INTEGER)"
        )
        file.execute("INSERT OR IGNORE INTO owners (key, tenant, user) VALUES (1, '', 'me')")
        file.execute(
            "INSERT INTO files (id, owner, name, mime_type, size, sha256, created_at) VALUES (?, 1, 'n', 't/t', ?, ?, 1)",
            (digest[:8], len(data), digest),
        )
    place = path.with_name(path.name + ".files") / digest[:2] / digest
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(data)
    return digest


async def test_a_backup_has_the_bytes_of_the_files_too(path: Path, tmp_path: Path) -> None:
    await (await SqliteStore.open(path)).close()
    digests = [put_content(path, data) for data in (b"one", b"two" * 100_000)]
    (tmp_path / "a.db.files" / "staging").mkdir()
    (tmp_path / "a.db.files" / "staging" / "half").write_bytes(b"not yet a file")
    target = tmp_path / "copy.db"
    size = back_up(str(path), str(target))
    assert size > 300_000 and check(str(target)).is_whole and check(str(target)).files == 2
    copied = {file.name: file for file in (tmp_path / "copy.db.files").rglob("*") if file.is_file()}
    assert set(copied) == set(digests)
    assert {stat.S_IMODE(file.stat().st_mode) for file in copied.values()} == {0o600}
    assert stat.S_IMODE((tmp_path / "copy.db.files").stat().st_mode) == 0o700

    with closing(sqlite3.connect(path)) as file, file:
        file.execute("DELETE FROM files WHERE sha256 = ?", (digests[0],))
    back_up(str(path), str(target), force=True)
    assert [file.name for file in (tmp_path / "copy.db.files").rglob("*") if file.is_file()] == [digests[1]]

    place = tmp_path / "copy.db.files" / digests[1][:2] / digests[1]
    place.write_bytes(b"other bytes")
    assert [finding.what for finding in check(str(target)).findings] == ["content"]
    place.unlink()
    assert "cannot be read" in check(str(target)).findings[0].message

    (tmp_path / "a.db.files" / digests[1][:2] / digests[1]).unlink()  # damaged: what it names will not come back
    with pytest.raises(StoreError, match="missing"):
        back_up(str(path), str(tmp_path / "other.db"))
    assert not (tmp_path / "other.db").exists() and not list(tmp_path.glob(".other*"))
