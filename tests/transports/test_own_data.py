"""One's own data over HTTP: taken along whole, deleted only when it is asked for in words."""

from __future__ import annotations

import contextlib
import io
import json
import random
import zipfile
from collections.abc import AsyncIterator

import anyio
import pytest

from core import Told, echo
from rawclient import raw_client
from runcast import events as e
from runcast.agents.base import RunContext
from runcast.events import Event
from runcast.runs import RunInput
from runcast.transports.own_data import EXPORTS_AT_ONCE
from serving import DEADLINE_S, serving
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


async def test_only_so_many_exports_are_made_at_once() -> None:
    async with serving(Told(long, "long")) as running, running.http() as http:
        await ask(http, "hello")
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(EXPORTS_AT_ONCE):
                client = await stack.enter_async_context(raw_client(running.port))
                await client.say(b"GET /v1/me/export HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
                await client.hear_until(b"\r\n\r\n")  # and reads no further
            refused = await http.get("/v1/me/export")
            assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
        with anyio.fail_after(DEADLINE_S):
            while (again := await http.get("/v1/me/export")).status_code == 429:
                await anyio.sleep(0.01)
        assert again.status_code == 200


async def long(input: RunInput, context: RunContext) -> AsyncIterator[Event]:
    """So much, and so mixed, that an export of it does not fit into the buffers of a socket."""
    numbers = random.Random(1)
    yield e.TextMessageStart(message_id="m")
    for _ in range(400):
        yield e.TextMessageContent(message_id="m", delta=numbers.randbytes(20_000).hex())
    yield e.TextMessageEnd(message_id="m")


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
