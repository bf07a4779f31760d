"""After SIGKILL nothing dangles: what was acknowledged is there whole, what is there is named, and half files are gone."""

from __future__ import annotations

import hashlib
import random
import sqlite3
from contextlib import closing
from pathlib import Path

import anyio
import httpx
import pytest

from .process import ServerProcess

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

KILLS = 3
DEADLINE_S = 60.0
BIG = """
import runcast

@runcast.agent
async def big(prompt, run):
    async with run.tool("read") as call:
        call.result = prompt * 40_000
    yield "done"
"""


async def busy(server: ServerProcess, acked: dict[str, bytes], sent: dict[str, str], chance: random.Random) -> None:
    """Upload and send until the server is gone; what it acknowledged is noted."""
    async with httpx.AsyncClient(base_url=server.http, timeout=DEADLINE_S) as http:
        while True:
            data = chance.randbytes(chance.choice([1, 5_000, 700_000])) if chance.random() < 0.8 else b"the same"
            try:
                answer = await http.post("/v1/files", content=data, headers={"content-type": "image/x-random"})
                if answer.status_code != 201:
                    continue
                acked[answer.json()["url"]] = data
                part = {"type": "image", "source": {"type": "url", "value": answer.json()["url"]}}
                text = {"type": "text", "text": f"{len(acked)} words "}
                answer = await http.post("/v1/messages", json={"message": {"content": [text, part]}})
                if answer.status_code == 202:
                    sent[answer.json()["run"]] = answer.json()["thread"]
            except httpx.TransportError:
                return


async def one_is_answered(server: ServerProcess, sent: dict[str, str]) -> None:
    """However slow the machine is: there is something that may get lost."""
    before = len(sent)
    while len(sent) == before:
        await anyio.sleep(0.01)
    async with httpx.AsyncClient(base_url=server.http, timeout=DEADLINE_S) as http:
        answer = await http.get(f"/v1/runs/{list(sent)[before]}", params={"wait": 20})
        assert answer.json()["status"] == "done", answer.text


def named(database: Path) -> dict[str, int]:
    """The contents that rows name, and their sizes."""
    with closing(sqlite3.connect(database)) as file, file:
        assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return dict(file.execute("SELECT sha256, size FROM files"))


def kept(database: Path) -> dict[str, Path]:
    return {file.name: file for file in Path(f"{database}.files").rglob("*") if file.is_file()}


async def test_nothing_dangles_after_every_kill(tmp_path: Path) -> None:
    (tmp_path / "big.py").write_text(BIG)
    await nothing_dangles(ServerProcess(tmp_path, f"{tmp_path / 'big.py'}:big"))


@pytest.mark.parametrize(
    ("plant", "noticed"),
    [
        ("names_what_it_has_not_kept", "a row without its content"),
        ("deletes_only_the_rows", "a content without a row"),
    ],
)
async def test_planted_contents_and_rows_that_are_apart_are_noticed(tmp_path: Path, plant: str, noticed: str) -> None:
    (tmp_path / "big.py").write_text(BIG)
    with pytest.raises(AssertionError, match=noticed):
        await nothing_dangles(ServerProcess(tmp_path, agents=f"{tmp_path / 'big.py'}:big", plant=plant))


async def nothing_dangles(server: ServerProcess) -> None:
    seed = random.randrange(1 << 30)
    print("seed", seed)
    chance = random.Random(seed)
    acked: dict[str, bytes] = {}
    sent: dict[str, str] = {}
    try:
        for _ in range(KILLS):
            await server.start()
            with anyio.fail_after(DEADLINE_S):
                async with anyio.create_task_group() as tasks:
                    for _ in range(3):
                        tasks.start_soon(busy, server, acked, sent, chance)
                    await one_is_answered(server, sent)
                    await anyio.sleep(chance.uniform(0.3, 0.8))  # the moment of death is the thing under test
                    server.kill()
            there = named(server.database)
            files = kept(server.database)
            for digest, size in there.items():
                assert digest in files and files[digest].stat().st_size == size, "a row without its content"
        await server.start()
        with anyio.fail_after(DEADLINE_S):
            while set(kept(server.database)) != set(named(server.database)):
                await anyio.sleep(0.05)  # the sweep at the start
        async with httpx.AsyncClient(base_url=server.http, timeout=DEADLINE_S) as http:
            for url, data in acked.items():
                got = await http.get(url)
                assert got.status_code == 200 and got.content == data, url
            blobs = 0
            for run in sent:
                for event in (await http.get(f"/v1/runs/{run}/events")).json()["events"]:
                    if blob := event.get("blob"):
                        blobs += 1
                        whole = (await http.get(blob["url"])).content
                        assert hashlib.sha256(whole).hexdigest() == blob["sha256"]
            assert acked and sent and blobs
            while threads := (await http.get("/v1/threads", params={"limit": 100})).json()["threads"]:
                for thread in threads:  # also those whose making was never acknowledged
                    assert (await http.delete(f"/v1/threads/{thread['id']}")).status_code == 204
        left = named(server.database)
        assert set(kept(server.database)) == set(left), "a content without a row"
        with closing(sqlite3.connect(server.database)) as file, file:
            assert file.execute("SELECT count(*) FROM files WHERE bound = 1").fetchone() == (0,)
            assert file.execute("SELECT count(*) FROM file_threads").fetchone() == (0,)
    finally:
        server.kill()
