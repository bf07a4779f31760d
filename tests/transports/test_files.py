"""Files over a real server: in, out, named by messages; and what an attacker would try."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from core import DEADLINE_S
from runcast.config import Settings
from runcast.transports import files as transport
from runcast.transports.files import Part, Unsatisfiable, range_of
from serving import Running, serving
from transports.test_http import UNKNOWN, problem_of
from transports.test_websocket import Tokens

pytestmark = pytest.mark.anyio

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40
ADA, EVE = {"x-user": "ada"}, {"x-user": "eve"}


async def upload(http: httpx.AsyncClient, data: bytes = PNG, mime_type: str = "image/png", **options: Any) -> Any:
    headers = {"content-type": mime_type, **options.pop("headers", {})}
    answer = await http.post("/v1/files", content=data, headers=headers, **options)
    assert answer.status_code == 201, answer.text
    return answer.json()


def naming(url: str, **more: Any) -> dict[str, Any]:
    part = {"type": "image", "source": {"type": "url", "value": url}}
    return {"message": {"content": [{"type": "text", "text": "look"}, part]}, **more}


def kept_in(path: Path) -> list[Path]:
    """Every file beside the database, also half ones."""
    return [file for file in Path(f"{path}.files").rglob("*") if file.is_file()]


async def emptied(path: Path, left: int = 0) -> None:
    with anyio.fail_after(DEADLINE_S):
        while len(kept_in(path)) > left:
            await anyio.sleep(0.01)


# --- in and out ---------------------------------------------------------------------------------------------------


async def test_a_file_comes_in_and_goes_out_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    async with serving(store=path) as running, running.http() as http:
        answer = await http.post(
            "/v1/files", params={"name": "Ein Bild.png"}, content=PNG, headers={"content-type": "image/png"}
        )
        assert answer.status_code == 201
        file = answer.json()
        digest = hashlib.sha256(PNG).hexdigest()
        assert file == {
            "id": file["id"],
            "name": "Ein Bild.png",
            "mimeType": "image/png",
            "size": len(PNG),
            "sha256": digest,
            "url": f"/v1/files/{file['id']}",
        }
        assert answer.headers["location"] == file["url"]
        got = await http.get(file["url"])
        assert got.status_code == 200 and got.content == PNG
        assert got.headers["content-type"] == "image/png"
        assert got.headers["content-disposition"] == (
            "inline; filename=\"Ein Bild.png\"; filename*=UTF-8''Ein%20Bild.png"
        )
        assert got.headers["etag"] == f'"{digest}"'
        assert got.headers["x-content-type-options"] == "nosniff"
        assert "sandbox" in got.headers["content-security-policy"]
        assert got.headers["cache-control"].startswith("private")
        assert "authorization" in got.headers["vary"]
        head = await http.head(file["url"])
        assert head.status_code == 200 and head.content == b"" and head.headers["content-length"] == str(len(PNG))
        assert (await http.get(file["url"], headers={"if-none-match": f'W/"{digest}"'})).status_code == 304
        content = Path(f"{path}.files") / digest[:2] / digest
        assert content.read_bytes() == PNG
        if os.name == "posix":
            assert content.stat().st_mode & 0o777 == 0o600
            for directory in (content.parent, content.parent.parent):
                assert directory.stat().st_mode & 0o777 == 0o700


async def test_a_file_goes_out_in_parts() -> None:
    async with serving() as running, running.http() as http:
        file = await upload(http)
        etag = f'"{file["sha256"]}"'
        for asked, start, end in (("bytes=0-9", 0, 10), ("bytes=5000-", 5000, len(PNG)), ("bytes=-7", -7, len(PNG))):
            got = await http.get(file["url"], headers={"range": asked, "if-range": etag})
            assert got.status_code == 206 and got.content == PNG[start:end]
            first = start % len(PNG)
            assert got.headers["content-range"] == f"bytes {first}-{end - 1}/{len(PNG)}"
        wrong = await http.get(file["url"], headers={"range": f"bytes={len(PNG)}-"})
        assert wrong.status_code == 416 and wrong.headers["content-range"] == f"bytes */{len(PNG)}"
        changed = await http.get(file["url"], headers={"range": "bytes=0-9", "if-range": '"other"'})
        assert changed.status_code == 200 and changed.content == PNG


def test_ranges() -> None:
    assert range_of("bytes=0-0", 10) == Part(0, 1)
    assert range_of("bytes=5-99", 10) == Part(5, 10)
    assert range_of("bytes=-99", 10) == Part(0, 10)
    assert range_of("bytes=10-", 10) == range_of("bytes=-0", 10) == Unsatisfiable
    for ignored in ("bytes=5-4", "bytes=0-1,3-4", "items=0-1", "bytes=-", "bytes=x-1", "bytes=0-" + "9" * 40):
        assert range_of(ignored, 10) is None


async def test_an_upload_has_one_effect_however_often_it_is_sent(tmp_path: Path) -> None:
    """I5."""
    path = tmp_path / "a.db"
    async with serving(store=path) as running, running.http() as http:
        key = {"idempotency-key": "k1"}
        first = await upload(http, headers=key)
        again = await upload(http, headers=key)
        assert again == first | {"replayed": True}
        other = await http.post("/v1/files", content=PNG + b"x", headers={"content-type": "image/png", **key})
        problem_of(other, 409, "idempotency_conflict")
        assert len(kept_in(path)) == 1
        assert (await upload(http))["id"] != first["id"]
        assert len(kept_in(path)) == 1, "the same content is kept once"


async def test_the_name_and_type_may_come_in_other_ways() -> None:
    async with serving() as running, running.http() as http:
        named = await upload(
            http, b"# hi", "", headers={"content-disposition": "attachment; filename*=UTF-8''%C3%BC.md"}
        )
        assert (named["name"], named["mimeType"]) == ("ü.md", "text/markdown")
        assert (await upload(http, b"a,b", "application/octet-stream", params={"name": "x.csv"}))[
            "mimeType"
        ] == "text/csv"
        unnamed = await upload(http, b"hello", "text/plain; charset=utf-8")
        assert (unnamed["name"], unnamed["mimeType"]) == ("file", "text/plain")


# --- messages -----------------------------------------------------------------------------------------------------


async def test_a_message_names_its_file_and_the_thread_holds_it_until_it_goes(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    async with serving(store=path) as running, running.http() as http:
        file = await upload(http, params={"name": "cat.png"})
        answer = await http.post("/v1/messages?wait=10", json=naming(file["url"]))
        assert answer.status_code == 200 and answer.json()["status"] == "done"
        thread = answer.json()["thread"]
        events = (await http.get(f"/v1/threads/{thread}/events")).json()["events"]
        assert events[0]["input"]["messages"][0]["content"][1] == {
            "type": "image",
            "source": {"type": "url", "value": file["url"], "mimeType": "image/png"},
            "metadata": {"name": "cat.png", "size": len(PNG)},
        }
        store = running.server.gateway.service.uploads._store  # pyright: ignore[reportPrivateUsage]
        assert await store.files.collect(unbound_before=1 << 50, orphans=True) == 0
        assert (await http.get(file["url"])).content == PNG
        second = await http.post(f"/v1/threads/{thread}/messages?wait=10", json=naming(file["url"]))
        assert second.status_code == 200, "a file may be named again"
        assert (await http.delete(f"/v1/threads/{thread}")).status_code == 204
        problem_of(await http.get(file["url"]), 404, "not_found")
        assert kept_in(path) == []


async def test_a_message_that_names_what_is_not_the_senders_is_refused_whole() -> None:
    async with serving(authenticator=Tokens()) as running, running.http() as http:
        file = await upload(http, headers=ADA)
        for url in (file["url"], f"/v1/files/{UNKNOWN}"):
            refused = await http.post("/v1/messages", json=naming(url), headers=EVE)
            detail = problem_of(refused, 422, "unknown_file")["detail"]
            assert "not there" in detail
        problem_of(await http.post("/v1/messages", json=naming("file:///etc/passwd"), headers=ADA), 422, "unknown_file")
        assert (await http.get("/v1/threads", headers=EVE)).json()["threads"] == []
        assert (await http.post("/v1/messages?wait=10", json=naming(file["url"]), headers=ADA)).status_code == 200


@pytest.mark.parametrize("way", ["edit", "steer"])
async def test_an_edit_and_what_is_handed_over_may_name_no_more_than_a_message(way: str) -> None:
    """All ways by which a message comes in are held to the same, and the log says of a file what it is."""
    async with serving(authenticator=Tokens()) as running, running.http(headers=ADA) as http:
        others = await upload(http, headers=EVE)
        file = await upload(http, b"hello", "text/plain", params={"name": "a.txt"})
        first = (await http.post("/v1/messages?wait=10", json={"message": "hi"})).json()
        for content, status, code in (
            ("file:///etc/passwd", 422, "unknown_file"),
            (others["url"], 422, "unknown_file"),
            (5, 422, "invalid_request"),
        ):
            refused = await http.post(f"/v1/runs/{first['id']}/{way}", json=naming(content))
            problem_of(refused, status, code)
        inline = {"type": "image", "source": {"type": "data", "value": "A" * 17 * 1024, "mimeType": "image/png"}}
        refused = await http.post(f"/v1/runs/{first['id']}/{way}", json={"message": {"content": [inline]}})
        problem_of(refused, 413, "payload_too_large")
        lying = naming(file["url"])
        lying["message"]["content"][1]["source"]["mimeType"] = "image/png"
        taken = await http.post(f"/v1/runs/{first['id']}/{way}", json=lying)
        assert taken.status_code == 202
        events = (await http.get(f"/v1/threads/{first['thread']}/events")).json()["events"]
        [event] = [one for one in events if one["seq"] == taken.json()["seq"]]
        assert event["input"]["messages"][0]["content"][1] == {
            "type": "image",
            "source": {"type": "url", "value": file["url"], "mimeType": "text/plain"},
            "metadata": {"name": "a.txt", "size": 5},
        }


async def test_what_is_inline_is_small() -> None:
    async with serving() as running, running.http() as http:
        for length in (17 * 1024, 40 * 1024):
            part = {"type": "image", "source": {"type": "data", "value": "A" * length, "mimeType": "image/png"}}
            refused = await http.post("/v1/messages", json={"message": {"content": [part]}})
            assert refused.status_code in (413, 422)
            assert "/v1/files" in refused.json()["detail"]


async def test_a_message_may_be_a_file_alone_and_gives_the_thread_its_name() -> None:
    async with serving() as running, running.http() as http:
        file = await upload(http, params={"name": "cat.png"})
        body = {"message": {"content": [{"type": "image", "source": {"type": "url", "value": file["url"]}}]}}
        thread = (await http.post("/v1/messages?wait=10", json=body)).json()["thread"]
        assert (await http.get(f"/v1/threads/{thread}")).json()["thread"]["title"] == "cat.png"


# --- attacks ------------------------------------------------------------------------------------------------------


async def test_anothers_file_is_answered_like_one_that_is_not_there() -> None:
    async with serving(authenticator=Tokens()) as running, running.http() as http:
        file = await upload(http, headers=ADA)
        assert (await http.get(file["url"], headers=ADA)).content == PNG
        for method in ("GET", "HEAD"):
            answers = [
                await http.request(method, url, headers={**EVE, "x-request-id": "same"})
                for url in (file["url"], f"/v1/files/{UNKNOWN}")
            ]
            assert {answer.status_code for answer in answers} == {404}
            assert answers[0].content == answers[1].content
            assert {k: v for k, v in answers[0].headers.items() if k != "date"} == {
                k: v for k, v in answers[1].headers.items() if k != "date"
            }
        problem_of(await http.get(file["url"]), 401, "unauthenticated")
        problem_of(await http.post("/v1/files", content=b"x"), 401, "unauthenticated")


@pytest.mark.parametrize("name", ["../../../evil", "..\\evil", "/etc/cron.d/evil", "a\0b", "evil\r\nSet-Cookie: a=b"])
async def test_a_name_is_never_a_path_nor_a_header(tmp_path: Path, name: str) -> None:
    async with serving(store=tmp_path / "a.db") as running, running.http() as http:
        before = set(tmp_path.parent.rglob("*evil*"))
        file = await upload(http, params={"name": name})
        assert "/" not in file["name"] and "\\" not in file["name"] and file["name"].isprintable()
        got = await http.get(file["url"])
        assert got.status_code == 200 and "set-cookie" not in got.headers
        assert set(tmp_path.parent.rglob("*evil*")) == before
        for path in ("/v1/files/..%2f..%2fa.db", "/v1/files/../a.db", f"/v1/files/{file['sha256'][:2]}"):
            assert (await http.get(path)).status_code == 404


@pytest.mark.parametrize(
    ("mime_type", "data"),
    [
        ("text/html", b"<script>alert(1)</script>"),
        ("image/svg+xml", b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>"),
        ("application/xhtml+xml", b"<html xmlns='http://www.w3.org/1999/xhtml'><script>alert(1)</script></html>"),
        ("text/xml", b"<?xml-stylesheet href='x.xsl'?><a/>"),
        ("text/javascript", b"alert(1)"),
        ("application/pdf", b"%PDF-1.7 "),
        ("text/plain", b"<script>alert(1)</script>"),
    ],
)
async def test_nothing_that_could_run_is_shown_inline(mime_type: str, data: bytes) -> None:
    async with serving(file_types=["*/*"]) as running, running.http() as http:
        file = await upload(http, data, mime_type, params={"name": "x.png"})
        got = await http.get(file["url"])
        assert got.content == data
        assert got.headers["content-disposition"].startswith("attachment")
        assert got.headers["x-content-type-options"] == "nosniff"
        assert got.headers["content-security-policy"] == transport.POLICY
        served = got.headers["content-type"].partition(";")[0]
        assert served in ("application/octet-stream", "application/pdf", "text/plain")


async def test_a_file_that_lies_about_its_type_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    async with serving(store=path) as running, running.http() as http:
        for data, mime_type, status, code in (
            (b"<script>alert(1)</script>", "image/png", 422, "file_type_mismatch"),
            (b"MZ\x90\0", "application/x-msdownload", 415, "unsupported_media_type"),
            (b"\0\1\2\3", "application/octet-stream", 415, "unsupported_media_type"),
            (b"x", "not a type", 422, "invalid_request"),
            (b"", "image/png", 422, "empty_file"),
        ):
            answer = await http.post("/v1/files", content=data, headers={"content-type": mime_type})
            problem_of(answer, status, code)
        form = await http.post("/v1/files", files={"file": ("a.png", PNG, "image/png")})
        assert "?name=" in problem_of(form, 415, "unsupported_media_type")["detail"]
        bomb = {"content-type": "text/plain", "content-encoding": "gzip"}
        packed = zlib.compress(b"x" * 1_000_000)
        problem_of(await http.post("/v1/files", content=packed, headers=bomb), 415, "unsupported_media_type")
        assert kept_in(path) == []


async def test_a_page_of_another_origin_uploads_nothing() -> None:
    async with serving() as running, running.http() as http:
        headers = {"content-type": "text/plain", "origin": "https://evil.example"}
        problem_of(await http.post("/v1/files", content=b"x", headers=headers), 403, "origin_not_allowed")


async def test_a_huge_body_is_refused_with_and_without_a_length(tmp_path: Path) -> None:
    path = tmp_path / "a.db"

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(200):
            yield b"x" * 64 * 1024

    async with serving(store=path, max_file_bytes=1_000_000) as running, running.http() as http:
        text = {"content-type": "text/plain"}
        problem_of(await http.post("/v1/files", content=b"x" * 1_000_001, headers=text), 413, "payload_too_large")
        problem_of(await http.post("/v1/files", content=endless(), headers=text), 413, "payload_too_large")
        await emptied(path)
        assert (await http.post("/v1/files", content=b"x" * 1_000_000, headers=text)).status_code == 201


async def send_raw(running: Running, head: str, body: bytes, *, then_close: bool, ends: bool = True) -> bytes:
    """What the server answers to bytes that no client library would send."""

    def talk() -> bytes:
        with socket.create_connection(("127.0.0.1", running.port), timeout=DEADLINE_S) as connection:
            lines = f"POST /v1/files HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: text/plain\r\n{head}\r\n\r\n"
            connection.sendall(lines.encode() + body)
            if then_close:
                return b""
            if ends:
                connection.shutdown(socket.SHUT_WR)
            found = b""
            while data := connection.recv(65536):
                found += data
            return found

    return await anyio.to_thread.run_sync(talk)


@pytest.mark.parametrize("then_close", [True, False])
async def test_an_upload_that_breaks_off_leaves_nothing(tmp_path: Path, then_close: bool) -> None:
    """A Content-Length that lies, and a client that vanishes, are the same: the body ends too early."""
    path = tmp_path / "a.db"
    async with serving(store=path) as running, running.http() as http:
        body = b"x" * 600_000
        answer = await send_raw(running, "Content-Length: 900000", body, then_close=then_close)
        assert b"201" not in answer[:20]
        await emptied(path)
        head = "Content-Length: 3\r\nConnection: close"
        too_short = await send_raw(running, head, b"abcdef", then_close=False, ends=False)
        assert b'"size":3' in too_short
        chunked = await send_raw(running, "Transfer-Encoding: chunked", b"5\r\nhel", then_close=then_close)
        assert b"201" not in chunked[:20]
        await emptied(path, left=1)
        assert (await upload(http))["size"] == len(PNG)


async def test_a_body_that_stops_coming_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "IDLE_S", 0.2)
    path = tmp_path / "a.db"
    async with serving(store=path) as running:
        with socket.create_connection(("127.0.0.1", running.port), timeout=DEADLINE_S) as connection:
            head = (
                "POST /v1/files HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: text/plain\r\nContent-Length: 900\r\n\r\n"
            )
            connection.sendall(head.encode() + b"slow")
            answer = await anyio.to_thread.run_sync(connection.recv, 65536)
        assert answer.startswith(b"HTTP/1.1 408"), answer
        await emptied(path)


async def test_an_upload_has_a_time_limit() -> None:
    async def dripping() -> AsyncIterator[bytes]:
        for _ in range(30):
            yield b"x"
            await anyio.sleep(0.02)

    async with serving(upload_timeout_s=0.2) as running, running.http() as http:
        answer = await http.post("/v1/files", content=dripping(), headers={"content-type": "text/plain"})
        problem_of(answer, 408, "timeout")


FULL = """
import asyncio, json, resource, sys
import httpx
sys.path[:0] = {path!r}
from serving import serving

async def main():
    async with serving(store={database!r}) as running, running.http() as http:
        text = {{"content-type": "text/plain"}}
        assert (await http.post("/v1/files", content=b"fits", headers=text)).status_code == 201
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
        answer = await http.post("/v1/files", content=b"x" * 2_000_000, headers=text)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        print(json.dumps([answer.status_code, answer.json()]))
        assert (await http.post("/v1/files", content=b"fits again", headers=text)).status_code == 201

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of a process are POSIX")
async def test_a_full_disk_is_said_and_leaves_no_half_file(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    script = FULL.format(path=[str(Path(__file__).parents[1])], database=str(path))
    source = str(Path(__file__).parents[2] / "src")
    result = await anyio.to_thread.run_sync(
        lambda: subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONPATH": source},
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
    )
    assert result.returncode == 0, result.stderr
    status, problem = json.loads(result.stdout)
    assert (status, problem["code"]) == (507, "storage_full")
    assert str(tmp_path) not in json.dumps(problem)
    assert sorted(file.stat().st_size for file in kept_in(path)) == [4, 10]


async def test_what_may_be_uploaded_is_a_setting() -> None:
    assert "image/*" in Settings().file_types
    async with serving(file_types="text/plain, image/png", max_file_bytes=100) as running, running.http() as http:
        assert (await http.post("/v1/files", content=b"x", headers={"content-type": "text/plain"})).status_code == 201
        problem_of(
            await http.post("/v1/files", content=b"x", headers={"content-type": "text/csv"}),
            415,
            "unsupported_media_type",
        )
