"""Reading only, in time, and stopping when told."""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import anyio
import pytest
from anyio import from_thread

from runcast.errors import ConfigError
from runcast.scenes.explorer.database import Database, QueryStopped, guarded

FOREVER = "WITH RECURSIVE c (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT COUNT(*) FROM c"

WRITES = [
    "DELETE FROM employee",
    "INSERT INTO employee VALUES (9, 'x', NULL)",
    "UPDATE employee SET name = 'x'",
    "DROP TABLE employee",
    "CREATE TABLE new (a)",
    "CREATE TEMP TABLE new (a)",
    "ALTER TABLE employee ADD COLUMN x",
    "ATTACH ':memory:' AS other",
    "PRAGMA query_only = OFF",
    "PRAGMA table_info(employee)",
    "PRAGMA writable_schema = ON",
    "SELECT * FROM pragma_table_info('employee')",
    "SELECT load_extension('x')",
    "VACUUM",
    "REINDEX",
    "ANALYZE",
    "BEGIN IMMEDIATE",
    "WITH a AS (SELECT 1) DELETE FROM employee",
    "WITH a AS (SELECT 9, 'x', NULL) INSERT INTO employee SELECT * FROM a",
]


@pytest.mark.parametrize("statement", WRITES)
def test_guarded_connections_only_read(odd: Path, statement: str) -> None:
    before = hashlib.sha256(odd.read_bytes()).digest()
    connection = Database(odd).connect()
    try:
        with guarded(connection), pytest.raises(sqlite3.Error):
            connection.execute(statement)
    finally:
        connection.close()
    assert hashlib.sha256(odd.read_bytes()).digest() == before


@pytest.mark.parametrize("statement", WRITES[:5])
def test_even_without_the_guard_nothing_is_written(odd: Path, statement: str) -> None:
    connection = Database(odd).connect()
    try:
        with pytest.raises(sqlite3.OperationalError, match=r"readonly|query_only|attempt to write"):
            connection.execute(statement)
    finally:
        connection.close()


def test_an_attached_file_is_never_made(odd: Path, tmp_path: Path) -> None:
    connection = Database(odd).connect()
    with pytest.raises(sqlite3.Error):
        connection.execute(f"ATTACH '{tmp_path / 'made.db'}' AS other")
    with guarded(connection), pytest.raises(sqlite3.Error):
        connection.execute(f"VACUUM INTO '{tmp_path / 'copy.db'}'")
    connection.close()
    assert {path.name for path in tmp_path.iterdir()} == {"odd.db"}


def test_reading_leaves_no_file_behind(odd: Path) -> None:
    connection = Database(odd).connect()
    assert connection.execute("SELECT COUNT(*) FROM employee").fetchone() == (2,)
    connection.close()
    assert [path.name for path in odd.parent.iterdir()] == ["odd.db"]


def test_paths_may_hold_what_uris_escape(odd: Path) -> None:
    strange = odd.with_name("50% of? #1 ü.db")
    odd.rename(strange)
    database = Database(strange)
    connection = database.connect()
    assert connection.execute("SELECT COUNT(*) FROM employee").fetchone() == (2,)
    connection.close()
    assert database.name == "50% of? #1 ü"


def test_what_is_no_database_is_refused_with_a_reason(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"There is no database file .*nowhere"):
        Database(tmp_path / "nowhere.db")
    text = tmp_path / "notes.txt"
    text.write_text("this is not a database, it is a text")
    with pytest.raises(ConfigError, match="is not a SQLite database"):
        Database(text)


def test_text_that_is_not_utf8_can_be_read(make_file: object, tmp_path: Path) -> None:
    path = tmp_path / "latin.db"
    with closing(sqlite3.connect(path)) as made, made:
        made.execute("CREATE TABLE t (a TEXT)")
        made.execute("INSERT INTO t VALUES (CAST(x'e9' AS TEXT))")
    made.close()
    connection = Database(path).connect()
    assert connection.execute("SELECT a FROM t").fetchone() == ("\ufffd",)
    connection.close()


@pytest.mark.anyio
async def test_work_ends_at_its_time_limit() -> None:
    async with Database(time_limit_s=0.2).reader() as reader:
        with anyio.fail_after(10), pytest.raises(QueryStopped) as stopped:
            await reader.run(lambda connection: connection.execute(FOREVER).fetchall())
        assert stopped.value.timed_out
        assert await reader.run(lambda connection: connection.execute("SELECT 1").fetchone()) == (1,)


@pytest.mark.anyio
async def test_cancelling_stops_the_statement_and_waits_for_its_thread() -> None:
    """I19: after a Stop no work of the run goes on."""
    running, ended = anyio.Event(), threading.Event()

    def work(connection: sqlite3.Connection) -> None:
        from_thread.run_sync(running.set)
        try:
            connection.execute(FOREVER).fetchall()
        finally:
            ended.set()

    with anyio.fail_after(10):
        async with Database(time_limit_s=60).reader() as reader, anyio.create_task_group() as tasks:
            tasks.start_soon(reader.run, work)
            await running.wait()
            tasks.cancel_scope.cancel()
    assert ended.is_set()


@pytest.mark.anyio
async def test_a_stopped_reader_starts_nothing() -> None:
    async with Database().reader() as reader:
        reader.stop()
        with pytest.raises(QueryStopped) as stopped:
            await reader.run(lambda connection: connection.execute("SELECT 1").fetchone())
        assert not stopped.value.timed_out
