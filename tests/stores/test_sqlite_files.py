"""The contents beside a SQLite file: every moment at which a process may die, and who may look."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest

from agents.test_attached import of, saying, upload
from core import ME as CORE_ME
from core import Told, core, echo, ended
from runcast.errors import NotFound, StorageFull, StoreError
from runcast.ids import SystemClock
from runcast.service import open_service
from runcast.stores.contents import Contents
from runcast.stores.sql import load_migrations
from runcast.stores.sqlite import SqliteStore
from runcast.stores.sqlite_file import connect, migrate
from runcast.testing.store_suite import ME, NOW, bytes_of, delta, keep_file, line

pytestmark = pytest.mark.anyio


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "a.db"


def places(path: Path) -> list[tuple[Path, int]]:
    """The directory and all in it, with their modes."""
    root = Path(f"{path}.files")
    return [(place, place.stat().st_mode & 0o777) for place in [root, *root.rglob("*")] if place.exists()]


def on_disk(path: Path) -> list[Path]:
    return sorted(file for file in Path(f"{path}.files").rglob("*") if file.is_file())


async def test_nothing_is_made_before_the_first_file(path: Path) -> None:
    store = await SqliteStore.open(path)
    await store.files.collect(unbound_before=NOW, orphans=True)
    await store.close()
    assert places(path) == []


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
async def test_contents_are_the_owners_alone(path: Path) -> None:
    store = await SqliteStore.open(path)
    await keep_file(store, b"secret")
    staging = await store.files.stage()
    await staging.write(b"more")
    assert {mode for _, mode in places(path)} == {0o700, 0o600}
    assert all(mode == (0o700 if place.is_dir() else 0o600) for place, mode in places(path))
    await staging.discard()
    await store.close()


async def test_what_was_being_written_is_gone_after_a_crash(path: Path) -> None:
    store = await SqliteStore.open(path)
    file = await keep_file(store, b"whole")
    staging = await store.files.stage()
    await staging.write(b"half")
    await store.close()  # without `discard`, as a crash would have it
    assert len(on_disk(path)) == 2
    store = await SqliteStore.open(path)
    try:
        assert [place.name for place in on_disk(path)] == [file.sha256]
    finally:
        await store.close()
        await staging.discard()


async def test_a_commit_that_fails_leaves_no_row_and_its_content_is_collected(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The window between the content and its row."""
    store = await SqliteStore.open(path)
    try:
        ledger = store._ledger  # pyright: ignore[reportPrivateUsage]
        assert ledger is not None
        commit = ledger.commit

        def fails() -> None:
            if ledger.connection.in_transaction:
                raise sqlite3.OperationalError("disk I/O error")
            commit()

        with monkeypatch.context() as patch:
            patch.setattr(ledger, "commit", fails)
            with pytest.raises(StoreError):
                await keep_file(store, b"content")
        assert len(on_disk(path)) == 1, "the content came first"
        await store.files.collect(unbound_before=0, orphans=True)
        assert on_disk(path) == []
        again = await keep_file(store, b"content")
        assert await bytes_of(store, again) == b"content"
    finally:
        await store.close()


async def test_a_content_that_was_let_go_is_removed_after_a_crash_too(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The window between the row's end and the content's."""
    store = await SqliteStore.open(path)
    one = await line(store)
    file = await keep_file(store, b"content")
    await one.append(delta("x"), files=[file.id])
    with monkeypatch.context() as patch:
        patch.setattr(Contents, "drop", lambda self, digest: False)
        await store.delete_thread(one.id, fence=one.fence, now=NOW)
    assert len(on_disk(path)) == 1
    await store.close()
    store = await SqliteStore.open(path)
    try:
        await store.files.collect(unbound_before=0)
        assert on_disk(path) == []
    finally:
        await store.close()


async def test_a_row_whose_content_is_missing_is_not_found(path: Path) -> None:
    store = await SqliteStore.open(path)
    try:
        file = await keep_file(store, b"content")
        on_disk(path)[0].unlink()
        with pytest.raises(NotFound):
            await bytes_of(store, file)
    finally:
        await store.close()


async def test_whoever_only_reads_reads_files_too_and_adds_none(path: Path) -> None:
    store = await SqliteStore.open(path)
    file = await keep_file(store, b"content")
    reader = await SqliteStore.open(path, read_only=True)
    try:
        assert await reader.files.get([file.id]) == [file]
        assert await bytes_of(reader, file) == b"content"
        with pytest.raises(StoreError):
            await reader.files.stage()
    finally:
        await reader.close()
        await store.close()


async def test_a_file_from_before_there_were_files_gets_them(path: Path) -> None:
    path.parent.mkdir()
    old = connect(str(path), durability="process")
    migrate(old, load_migrations()[:1])
    old.close()
    store = await SqliteStore.open(path)
    try:
        one = await line(store)
        file = await keep_file(store, b"content")
        await one.append(delta("x"), files=[file.id])
        assert await bytes_of(store, file) == b"content"
    finally:
        await store.close()


async def test_whatever_deletes_a_thread_or_an_owner_deletes_the_files(path: Path) -> None:
    """The triggers: for a shell, a retention, a script."""
    store = await SqliteStore.open(path)
    one = await line(store)
    bound, unbound = await keep_file(store, b"bound"), await keep_file(store, b"unbound")
    await one.append(delta("x"), files=[bound.id])
    await store.close()
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("DELETE FROM threads WHERE id = ?", (one.id,))
        assert file.execute("SELECT id FROM files").fetchall() == [(unbound.id,)]
        assert file.execute("SELECT count(*) FROM file_threads").fetchone() == (0,)
        file.execute("DELETE FROM owners WHERE user = ?", (ME.user,))
        assert file.execute("SELECT count(*) FROM files").fetchone() == (0,)
    store = await SqliteStore.open(path)
    try:
        await store.files.collect(unbound_before=0)
        assert on_disk(path) == []
    finally:
        await store.close()


def test_a_full_disk_is_told_apart(tmp_path: Path) -> None:
    contents = Contents(tmp_path / "c", durable=True)
    staged = contents.stage()

    class Full:
        def write(self, data: Any) -> int:
            raise OSError(28, "No space left on device", str(tmp_path))

        def close(self) -> None:
            pass

    whole, staged._file = staged._file, Full()  # type: ignore[assignment]  # pyright: ignore
    with pytest.raises(StorageFull) as caught:
        staged.write(b"x")
    assert str(tmp_path) not in caught.value.message
    assert whole is not None
    whole.close()
    staged.discard()
    assert list((tmp_path / "c" / "staging").iterdir()) == []


class Later(SystemClock):
    def now_ms(self) -> int:
        return super().now_ms() + 25 * 60 * 60 * 1000


async def test_what_no_message_names_is_gone_after_a_day(path: Path) -> None:
    store = await SqliteStore.open(path)
    try:
        async with core(store=store) as service:
            sent, unsent = await upload(service), await upload(service, b"unsent", "a.txt", "text/plain")
            assert await ended(service, await service.send(CORE_ME, saying("look", of(sent)))) == "done"
        async with open_service(store=store, agents=[Told(echo)]) as service:
            await store.files.collect(unbound_before=0, orphans=True)
            assert (await service.uploads.get(CORE_ME, unsent.id)).size == 6
        async with open_service(store=store, agents=[Told(echo)], clock=Later()) as service:
            with anyio.fail_after(10), pytest.raises(NotFound):
                while await service.uploads.get(CORE_ME, unsent.id):
                    await anyio.sleep(0.01)
            assert (await service.uploads.get(CORE_ME, sent.id)).sha256 == sent.sha256
    finally:
        await store.close()
