"""`runcast db`: as an operator uses it, in processes of their own, beside a server that works."""

from __future__ import annotations

import json
import sqlite3
import stat
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from runcast.stores.sqlite_check import check
from test_cli import here as here
from test_cli import runcast, running

MARKER = "Zinnober4711"


def post(url: str, text: str) -> dict[str, Any]:
    body = json.dumps({"message": text}).encode()
    request = urllib.request.Request(f"{url}v1/messages?wait=30", body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=40) as answer:
        return json.load(answer)


@pytest.fixture
def filled(here: Path) -> Path:
    """Where `a.db` has two conversations."""
    with running("serve", "mine:agent", "--port", "0", "--database", "a.db", cwd=here) as (_, url):
        for text in (f"{MARKER} one", "two"):
            assert post(url, text)["status"] == "done"
    return here


@pytest.mark.slow
def test_a_backup_during_a_load_is_whole_and_can_be_served(here: Path) -> None:
    arguments = ("serve", "mine:agent", "--port", "0", "--database", "a.db")
    with running(*arguments, cwd=here) as (_, url):
        threads = [post(url, f"before {number}")["thread"] for number in range(3)]
        waiting = urllib.request.Request(
            f"{url}v1/messages", json.dumps({"message": "wait"}).encode(), {"content-type": "application/json"}
        )
        with urllib.request.urlopen(waiting, timeout=40):
            pass
        for number in range(3):
            result = runcast("db", "backup", f"copy{number}.db", "--database", "a.db", cwd=here)
            assert result.returncode == 0 and f"Wrote copy{number}.db" in result.stdout, result.stderr
            post(url, f"meanwhile {number}")
        result = runcast("db", "check", "--database", "a.db", cwd=here)
        assert result.returncode == 0 and "Everything is whole." in result.stdout, result.stdout
        for refused in (("vacuum",), ("delete-user", "local", "--yes")):
            result = runcast("db", *refused, "--database", "a.db", cwd=here)
            assert (result.returncode, "in use by another Runcast process" in result.stderr) == (1, True), result.stderr
        result = runcast("db", "backup", "copy0.db", "--database", "a.db", cwd=here)
        assert (result.returncode, "--force" in result.stderr) == (2, True)
    assert check(str(here / "a.db")).findings == [], "also after the server was killed in the middle of a run"
    for number in range(3):
        copy = here / f"copy{number}.db"
        assert stat.S_IMODE(copy.stat().st_mode) == 0o600
        report = check(str(copy))
        assert report.findings == [] and report.threads == 4 + number
    with running("serve", "mine:agent", "--port", "0", "--database", "copy2.db", cwd=here) as (_, url):
        with urllib.request.urlopen(f"{url}v1/threads", timeout=40) as answer:
            known = {thread["id"] for thread in json.load(answer)["threads"]}
        assert set(threads) < known
        assert post(url, "goes on")["status"] == "done"


def damages(path: Path) -> Iterator[str]:
    """Damage a whole file in one way after another; what the check must say of each."""
    with closing(sqlite3.connect(path)) as file:
        file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    whole = path.read_bytes()
    with closing(sqlite3.connect(path)) as file:
        (segment,) = file.execute("SELECT events FROM segments ORDER BY length(events) DESC LIMIT 1").fetchone()
    path.write_bytes(whole[: len(whole) // 2])
    yield "DAMAGED file"
    at = whole.index(segment[:64]) + 30
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
    yield "DAMAGED log"
    path.write_bytes(whole)
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("DELETE FROM segments WHERE first_seq = 1")
    yield "DAMAGED log: It ends at seq 0"
    path.write_bytes(whole)


@pytest.mark.slow
def test_damage_is_told_and_exits_with_1(filled: Path) -> None:
    for words in damages(filled / "a.db"):
        result = runcast("db", "check", "--database", "a.db", cwd=filled)
        assert (result.returncode, words in result.stdout) == (1, True), result.stdout + result.stderr
        assert "Traceback" not in result.stderr
    result = runcast("db", "check", "--json", "--database", "a.db", cwd=filled)
    report = json.loads(result.stdout)
    assert (result.returncode, report["ok"], report["threads"], report["findings"]) == (0, True, 2, [])


@pytest.mark.slow
def test_a_users_data_is_taken_along_then_deleted_without_a_trace(filled: Path) -> None:
    def db(*arguments: str, input: str = "") -> Any:
        return runcast("db", *arguments, "--database", "a.db", cwd=filled, input=input)

    result = db("export-user", "local", "-o", "mine.zip")
    assert (result.returncode, result.stdout) == (0, "Wrote mine.zip (2 conversations)\n"), result.stderr
    with zipfile.ZipFile(filled / "mine.zip") as archive:
        assert archive.testzip() is None
        names = set(archive.namelist())
    assert db("export-user", "local", "-o", "mine").returncode == 0
    files = {str(file.relative_to(filled / "mine")) for file in (filled / "mine").rglob("*") if file.is_file()}
    assert files == names and {"manifest.json", "inbox.json"} < names
    assert any(MARKER in (filled / "mine" / name).read_text() for name in names if name.endswith(".md"))
    for arguments, words in (
        (("export-user", "local", "-o", "mine"), "there already"),
        (("export-user", "nobody", "-o", "other.zip"), "nothing of the user 'nobody'"),
        (("export-user", "local", "--tenant", "t", "-o", "other"), "nothing of the user 'local'"),
    ):
        result = db(*arguments)
        assert result.returncode != 0 and words in result.stderr
    assert not (filled / "other.zip").exists() and not (filled / "other").exists()

    assert db("delete-user", "local", input="n\n").returncode == 1
    assert check(str(filled / "a.db")).threads == 2
    result = db("delete-user", "local", input="y\n")
    assert result.returncode == 0 and "Deleted 2 conversations" in result.stdout, result.stderr
    left = b"".join(file.read_bytes() for file in filled.glob("a.db*"))
    assert MARKER.encode() not in left and MARKER.lower().encode() not in left
    assert check(str(filled / "a.db")).is_whole
    result = db("vacuum")
    assert result.returncode == 0 and "before" in result.stdout


@pytest.mark.slow
def test_a_migration_is_told_before_it_is_done(here: Path) -> None:
    from runcast.stores.sql import load_migrations
    from runcast.stores.sqlite_file import connect, migrate

    with closing(connect(str(here / "a.db"), durability="process")) as file:
        migrate(file, load_migrations()[:1])
    newest = load_migrations()[-1].version
    result = runcast("db", "check", "--database", "a.db", cwd=here)
    assert result.returncode == 2 and "runcast db migrate" in result.stderr
    result = runcast("db", "migrate", "--dry-run", "--database", "a.db", cwd=here)
    assert result.returncode == 0 and f"from format 1 to {newest}" in result.stdout
    assert not (here / "a.db.format-1").exists()
    result = runcast("db", "migrate", "--database", "a.db", cwd=here)
    assert result.returncode == 0 and (here / "a.db.format-1").exists(), result.stderr
    result = runcast("db", "migrate", "--database", "a.db", cwd=here)
    assert result.returncode == 0 and "up to date" in result.stdout
    assert check(str(here / "a.db")).is_whole


@pytest.mark.parametrize("command", [["check"], ["backup", "x.db"], ["vacuum"], ["migrate"], ["delete-user", "u"]])
def test_a_database_that_is_not_there_is_named(here: Path, command: list[str]) -> None:
    result = runcast("db", *command, cwd=here)
    assert (result.returncode, "There is no database 'runcast.db'" in result.stderr) == (2, True), result.stderr
    assert sorted(file.name for file in here.iterdir()) == ["mine.py"]
