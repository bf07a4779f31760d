"""Files from the Python client to the real server, and into messages."""

from __future__ import annotations

import io
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from client.served import DEADLINE_S, served
from runcast.agents.base import RunContext
from runcast.client import Unreachable, connect, sync
from runcast.errors import EmptyFile, IdempotencyConflict, InvalidRequest, TooLarge, UnsupportedType

pytestmark = pytest.mark.anyio


async def read(run: RunContext) -> str:
    """Says what came along."""
    files = [await run.file(one) for one in run.input.attachments]
    return ", ".join([f"{file.name} {file.mime_type} {(await file.read()).decode()}" for file in files])


async def test_a_file_goes_up_and_into_a_message(tmp_path: Path) -> None:
    path = tmp_path / "Notizen \u00fc.md"
    path.write_text("# hi")
    with anyio.fail_after(DEADLINE_S):
        async with served(read, database=tmp_path / "log.db") as url, connect(url) as client:
            note = await client.upload_file(path)
            assert (note.name, note.mime_type, note.size) == ("Notizen \u00fc.md", "text/markdown", 4)
            again = await client.upload_file(b"a,b", name="t.csv", id="k")
            assert await client.upload_file(b"a,b", name="t.csv", id="k") == again
            with pytest.raises(IdempotencyConflict):
                await client.upload_file(b"a;b", name="t.csv", id="k")
            half = io.BytesIO(b"not this: but this")
            half.seek(10)
            rest = await client.upload_file(half, mime_type="text/plain")
            run = await client.send([{"type": "text", "text": "look"}, note.part, again.part, rest.part])
            assert await run.text() == (
                "Notizen \u00fc.md text/markdown # hi, t.csv text/csv a,b, file text/plain but this"
            )


async def test_what_the_server_does_not_take_is_told_by_type(tmp_path: Path) -> None:
    with anyio.fail_after(DEADLINE_S):
        async with served(read, database=tmp_path / "log.db", max_file_bytes=1000) as url, connect(url) as client:
            for data, name, error in (
                (b"", "a.txt", EmptyFile),
                (b"x" * 1001, "a.txt", TooLarge),
                (b"MZ", "a.exe", UnsupportedType),
            ):
                with pytest.raises(error):
                    await client.upload_file(data, name=name)
            with pytest.raises(InvalidRequest):
                await client.upload_file(tmp_path / "missing.txt")
            with pytest.raises(InvalidRequest):
                await client.upload_file(tmp_path)


async def test_the_blocking_client_does_the_same(tmp_path: Path) -> None:
    def talk(url: str) -> str:
        with sync.connect(url) as client:
            file = client.upload_file(b"hello", name="a.txt")
            return client.send([file.part]).text()

    with anyio.fail_after(DEADLINE_S):
        async with served(read, database=tmp_path / "log.db") as url:
            assert await anyio.to_thread.run_sync(talk, url) == "a.txt text/plain hello"


async def test_a_server_that_is_gone_is_unreachable(tmp_path: Path) -> None:
    with anyio.fail_after(DEADLINE_S):
        async with served(read, database=tmp_path / "log.db") as url, connect(url) as client:
            client.base_url = "http://127.0.0.1:1"
            with pytest.raises(Unreachable):
                await client.upload_file(b"x", name="a.txt")
