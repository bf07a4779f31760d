"""One's own data over HTTP: taken along whole, deleted only when it is asked for in words."""

from __future__ import annotations

import io
import json
import zipfile

import pytest

from core import Told, echo
from serving import serving
from transports.test_http import ask

pytestmark = pytest.mark.anyio


async def test_the_export_is_a_zip_with_all_conversations_and_the_inbox() -> None:
    async with serving(Told(echo, "echo")) as running, running.http() as http:
        runs = [await ask(http, text) for text in ("ein Zebra 🦓", "two")]
        answer = await http.get("/v1/me/export")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/zip")
        assert answer.headers["content-disposition"] == 'attachment; filename="runcast-export.zip"'
        archive = zipfile.ZipFile(io.BytesIO(answer.content))
        assert archive.testzip() is None
        threads = {run["thread"] for run in runs}
        expected = {f"threads/{thread}.{end}" for thread in threads for end in ("json", "md")}
        assert set(archive.namelist()) == expected | {"inbox.json", "manifest.json"}
        assert set(json.loads(archive.read("manifest.json"))["threads"]) == threads
        whole = json.loads(archive.read(f"threads/{runs[0]['thread']}.json"))
        assert [event["seq"] for event in whole["events"]] == list(range(1, whole["thread"]["head"] + 1))
        assert [run["id"] for run in whole["runs"]] == [runs[0]["id"]]
        assert "ein Zebra 🦓" in archive.read(f"threads/{runs[0]['thread']}.md").decode()
        inbox = json.loads(archive.read("inbox.json"))
        assert {event["threadId"] for event in inbox["events"]} == threads


async def test_deleting_all_must_be_confirmed_and_leaves_nothing() -> None:
    async with serving(Told(echo, "echo")) as running, running.http() as http:
        run = await ask(http, "hello")
        for body in ({"confirm": "yes"}, {}):
            answer = await http.request("DELETE", "/v1/me/data", json=body)
            assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
        assert (await http.get(f"/v1/threads/{run['thread']}")).status_code == 200
        answer = await http.request("DELETE", "/v1/me/data", json={"confirm": "delete all my data"})
        assert (answer.status_code, answer.json()) == (200, {"threads": 1})
        assert (await http.get(f"/v1/threads/{run['thread']}")).status_code == 404
        assert (await http.get("/v1/threads")).json()["threads"] == []
        assert (await http.get("/v1/inbox/events")).json()["events"] == []
        again = await http.request("DELETE", "/v1/me/data", json={"confirm": "delete all my data"})
        assert again.json() == {"threads": 0}
