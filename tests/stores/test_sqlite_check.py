"""The check finds what is wrong, names it, and finds nothing where nothing is wrong."""

from __future__ import annotations

import random
import shutil
import sqlite3
import zlib
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from runcast import events as e
from runcast.errors import ConfigError, StoreCorrupt
from runcast.stores.sqlite import SqliteStore
from runcast.stores.sqlite_check import Report, check
from runcast.stores.sqlite_file import connect
from runcast.stores.sqlite_log import Log, seal
from runcast.testing.store_suite import ME, OTHER, delta, line, notice, started


async def fill(path: Path) -> None:
    """Two conversations whose runs have ended (sealed), one whose run goes on (in the journal), and their inboxes."""
    store = await SqliteStore.open(path)
    try:
        for number, (owner, over) in enumerate([(ME, True), (ME, False), (OTHER, True)]):
            one = await line(store, owner, title=f"Number {number}")
            run = one.run(f"r{number}")
            await one.append(
                started(one.id, run.id, "hello there"), runs=[run], head_run=run.id, notices=[notice(one.id)]
            )
            for k in range(40):
                text = e.TextMessageContent(run_id=run.id, message_id="m", delta=f"word {k} ")
                await one.append(text, e.of_run(delta("x" * 400), run.id))
            end = e.TextMessageEnd(run_id=run.id, message_id="m", text="words and words")
            if over:
                ended = one.run(run.id, "done", first_seq=1, last_seq=one.head + 2)
                await one.append(end, e.RunFinished(run_id=run.id, thread_id=one.id), runs=[ended])
    finally:
        await store.close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("check") / "whole.db"
    anyio.run(fill, path)
    return path


@pytest.fixture
def path(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(whole, tmp_path / "a.db"))


def change(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as file, file:
        for statement in statements:
            assert file.execute(statement).rowcount != 0, f"{statement} changed nothing"


def messages(report: Report) -> str:
    return "\n".join(f"{finding.what}: {finding.message}" for finding in report.findings)


def test_what_is_whole_is_said_to_be(path: Path) -> None:
    report = check(str(path))
    assert report.findings == [] and report.is_whole
    assert (report.owners, report.threads, report.runs) == (2, 3, 3)
    assert report.events == 3 * 81 + 2 * 2 + 3 and report.bytes == path.stat().st_size


SEGMENT = "(SELECT t.key FROM threads t JOIN runs r ON r.thread = t.key WHERE r.id = 'r0')"
JOURNAL = "(SELECT t.key FROM threads t JOIN runs r ON r.thread = t.key WHERE r.id = 'r1')"
ROW = f"thread = {JOURNAL} AND first_seq = 20"


def data(field: str, value: str | int) -> str:
    return f"data = json_set(CAST(data AS TEXT), '$.{field}', {value!r})"


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        (f"DELETE FROM journal WHERE {ROW}", "log: Events 20 to 21 are missing"),
        (
            f"DELETE FROM journal WHERE row = (SELECT journal_from FROM threads WHERE key = {JOURNAL})",
            "is missing, where",
        ),
        (f"DELETE FROM segments WHERE thread = {SEGMENT}", "log: It ends at seq 0, but its head is 83"),
        (
            f"UPDATE segments SET events = CAST(x'01' || events AS BLOB) WHERE thread = {SEGMENT}",
            "segment with events 1 to 83 is damaged",
        ),
        (f"UPDATE segments SET last_seq = last_seq - 1 WHERE thread = {SEGMENT}", "1 to 82 has 83 events"),
        (f"UPDATE segments SET first_seq = 2 WHERE thread = {SEGMENT}", "Events 1 to 1 are missing"),
        (f"UPDATE journal SET events = substr(events, 2) WHERE {ROW}", "log: Event 20 cannot be read"),
        (
            f'UPDATE journal SET events = CAST(replace(CAST(events AS TEXT), \'"delta":"\', \'"delta":"!\') AS BLOB) WHERE {ROW}',
            "log: The row of the journal with events 20 to 21 is not what was written",
        ),
        (f"UPDATE journal SET checksum = checksum + 1 WHERE {ROW}", "events 20 to 21 is not what was written"),
        (
            f"UPDATE journal SET events = CAST(replace(CAST(events AS TEXT), '\"seq\":20', '\"seq\":19') AS BLOB) WHERE {ROW}",
            "Event 20",
        ),
        (f"UPDATE threads SET head = head + 1 WHERE key = {SEGMENT}", "log: It ends at seq 83, but its head is 84"),
        (f"UPDATE threads SET head = head - 1 WHERE key = {SEGMENT}", "log: It ends at seq 83, but its head is 82"),
        ("DELETE FROM runs WHERE id = 'r0'", "run: Run 'r0' is in the log and has no row"),
        ("UPDATE runs SET status = 'failed' WHERE id = 'r0'", "run: The row of run 'r0' contradicts itself"),
        (
            f"UPDATE runs SET status = 'failed', {data('status', 'failed')} WHERE id = 'r0'",
            "run: Run 'r0': its row says failed, its terminal event done",
        ),
        (
            f"UPDATE runs SET status = 'done', {data('status', 'done')} WHERE id = 'r1'",
            "run: Run 'r1': its row says done, and it has 0 terminal events instead of one",
        ),
        (
            f"UPDATE runs SET status = 'running', {data('status', 'running')} WHERE id = 'r0'",
            "run: Run 'r0': its row says running, but it ended at seq 83",
        ),
        (f"UPDATE runs SET {data('lastSeq', 80)} WHERE id = 'r0'", "it ended at seq 83, its row says 80"),
        ("UPDATE runs SET data = 'no json' WHERE id = 'r0'", "run: The row of run 'r0' cannot be read"),
        ("UPDATE threads SET status = 'failed' WHERE head_run = 'r0'", "thread: It says 'failed' of its newest run"),
        (
            "UPDATE threads SET head_run = 'nowhere' WHERE head_run = 'r0'",
            "thread: Its newest run 'nowhere' has no row",
        ),
        ("DELETE FROM owners WHERE user = 'other'", "thread: Its owner is missing"),
        ("UPDATE said SET text = 'something else' WHERE is_title = 0", "search: The index lacks"),
        ("DELETE FROM said WHERE is_title = 0", "search: The index has too much of"),
        ("INSERT INTO agent_states VALUES ('r9', 999, 'a', 1, x'00')", "stray: 1 rows of the table agent_states"),
        ("INSERT INTO receipts VALUES (999, 'k', 'h', x'00', 1)", "stray: 1 rows of the table receipts"),
        (f"INSERT INTO snapshots VALUES ({SEGMENT}, 84, 1, x'00')", "thread: Its snapshot is of seq 84"),
    ],
)
def test_each_damage_is_found_and_named(path: Path, statement: str, told: str) -> None:
    """I1, I6, I16."""
    change(path, statement)
    report = check(str(path))
    assert told in messages(report), messages(report)


def test_a_run_that_goes_on_after_its_end_is_found(path: Path) -> None:
    """I16: the terminal event is the last."""
    terminal = b'{"type":"RUN_DEQUEUED","seq":%d,"timestamp":1,"runId":"r1"}'

    def cut(file: sqlite3.Connection) -> None:
        last, events = file.execute(
            f"SELECT last_seq, events FROM journal WHERE thread = {JOURNAL} ORDER BY row DESC LIMIT 1"
        ).fetchone()
        _, second = bytes(events).split(b"\n")
        changed = terminal % (last - 1) + b"\n" + second
        file.execute(f"UPDATE journal SET events = ? WHERE thread = {JOURNAL} AND last_seq = ?", (changed, last))

    with closing(sqlite3.connect(path)) as file, file:
        cut(file)
    assert "Run 'r1': its row says running, but it ended at seq 80" in messages(check(str(path)))


def test_a_truncated_file_is_found(path: Path) -> None:
    data = path.read_bytes()
    for part in (0.9, 0.5, 0.1):
        path.write_bytes(data[: int(len(data) * part)])
        report = check(str(path))
        assert not report.is_whole, f"{part} of the file"
        assert any(finding.what == "file" for finding in report.findings)
    path.write_bytes(data[:50])
    with pytest.raises(ConfigError, match="no database of Runcast"):
        check(str(path))


def flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


def test_flipped_bytes_in_what_is_sealed_are_found(path: Path) -> None:
    with closing(sqlite3.connect(path)) as file:
        (blob,) = file.execute(f"SELECT events FROM segments WHERE thread = {SEGMENT}").fetchone()
    data = path.read_bytes()
    start = data.index(blob[:64])
    for seed in range(12):
        at = random.Random(seed).randrange(min(len(blob), 2000))
        path.write_bytes(flip(data, start + at))
        assert check(str(path)).is_whole == says_the_same(flip(blob, at), blob), f"seed {seed}"


def says_the_same(flipped: bytes, blob: bytes) -> bool:
    """One in some hundred flips leaves what is said as it was: of a text that repeats itself another place is copied."""
    try:
        return zlib.decompress(flipped) == zlib.decompress(blob)
    except zlib.error:
        return False


def test_a_flipped_byte_is_not_sealed(path: Path) -> None:
    """The segment would have a checksum of what is wrong."""
    change(
        path,
        f"UPDATE journal SET events = CAST(replace(CAST(events AS TEXT), 'word', 'work') AS BLOB) WHERE {ROW}",
    )
    with closing(connect(str(path), durability="process")) as file:
        fields = file.execute(
            f"SELECT key, id, owner, head, newest, journal_from FROM threads WHERE key = {JOURNAL}"
        ).fetchone()
        log = Log(*fields)
        for number, last_seq in file.execute(
            "SELECT row, last_seq FROM journal WHERE thread = ? ORDER BY row", fields[:1]
        ):
            log.rows.add(number, last_seq)
        with pytest.raises(StoreCorrupt, match="not what was written"):
            seal(file, log)


def test_rows_of_a_time_without_checksums_are_taken_as_they_are(path: Path) -> None:
    change(path, "UPDATE journal SET checksum = NULL")
    assert check(str(path)).findings == []


def test_wild_damage_never_breaks_the_check(path: Path) -> None:
    """Whatever is in the file: it ends, and says something or finds nothing to say."""
    data = path.read_bytes()
    found = 0
    for seed in range(40):
        chance = random.Random(seed)
        broken = bytearray(data)
        at = chance.randrange(100, len(data) - 600)
        broken[at : at + 500] = chance.randbytes(500)
        path.write_bytes(broken)
        found += not check(str(path)).is_whole
    assert found >= 10, "much of the file is in use"


def test_only_a_file_of_ours_can_be_checked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no database file"):
        check(str(tmp_path / "nothing.db"))
    foreign = tmp_path / "foreign.db"
    with closing(sqlite3.connect(foreign)) as file, file:
        file.execute("CREATE TABLE theirs (x)")
    with pytest.raises(ConfigError, match="no database of Runcast"):
        check(str(foreign))
    with closing(sqlite3.connect(foreign)) as file, file:
        file.execute("PRAGMA user_version = 1")
    with pytest.raises(ConfigError, match="older"):
        check(str(foreign))
    garbage = tmp_path / "garbage.db"
    garbage.write_bytes(b"no database at all " * 1000)
    assert [finding.what for finding in check(str(garbage)).findings] == ["file"]


@pytest.mark.anyio
async def test_a_file_that_is_written_to_is_whole_at_every_moment(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    shutil.copy(whole, path)
    store = await SqliteStore.open(path)
    try:
        over = False

        async def write() -> None:
            nonlocal over
            lines = [await line(store) for _ in range(3)]
            for number in range(30):
                for one in lines:
                    run = one.run(f"{one.id}.{number}")
                    await one.append(
                        started(one.id, run.id, "go"), runs=[run], head_run=run.id, notices=[notice(one.id)]
                    )
                    for _ in range(10):
                        await one.append(e.of_run(delta("x" * 50), run.id))
                    last = one.head + 1
                    ended = one.run(run.id, "done", first_seq=run.first_seq, last_seq=last)
                    await one.append(
                        e.RunFinished(run_id=run.id, thread_id=one.id), runs=[ended], notices=[notice(one.id)]
                    )
            over = True

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write)
            checks = 0
            while not over:
                report = await anyio.to_thread.run_sync(check, str(path))
                assert report.findings == [], messages(report)
                checks += 1
        assert checks >= 2
    finally:
        await store.close()
    assert check(str(path)).is_whole
