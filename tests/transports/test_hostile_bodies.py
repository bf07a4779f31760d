"""What hostile clients put into the bodies of the dialects' requests: each is answered soon, and the server goes on.

What takes a time that grows with the square of a body misses the deadline of these clients by far; nothing here says how fast
the rest is.
"""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx
import pytest

from clients.agent import agent as played
from serving import serving

pytestmark = pytest.mark.anyio

JSON = {"content-type": "application/json"}
MANY = 50_000


async def refused(path: str, body: bytes | dict[str, Any], *, status: int, code: str) -> None:
    """`body` is refused in the words of its protocol, and then a run goes well."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with serving(played) as running, running.http() as http:
        answer = await http.post(path, content=content, headers=JSON)
        assert (answer.status_code, code_of(answer)) == (status, code), answer.text[:300]
        good = await http.post("/api/v1/chat", json={"session_id": "after", "message": "plain"})
        assert good.json()["content"] == "Hello you."


def code_of(answer: httpx.Response) -> str:
    said = answer.json()
    return said["error"]["code"] if "error" in said else said["code"]


def ag_ui(**more: Any) -> dict[str, Any]:
    return {"threadId": "t", "runId": "r", "messages": [{"id": "m", "role": "user", "content": "plain"}], **more}


async def test_many_tools() -> None:
    tools = [{"name": f"n{i}", "description": ""} for i in range(MANY)]
    await refused("/ag-ui/agent", ag_ui(tools=tools), status=413, code="payload_too_large")


async def test_many_results() -> None:
    results = [{"role": "tool", "tool_call_id": f"r:{i}", "content": ""} for i in range(9_000)]
    asked = {"model": "agent", "messages": [{"role": "user", "content": "plain"}, *results]}
    await refused("/v1/chat/completions", asked, status=413, code="payload_too_large")


async def test_nothing_but_empty_objects() -> None:
    much = b"{}," * 1_300_000 + b"{}"
    await refused(
        "/ag-ui/agent", b'{"threadId":"t","runId":"r","messages":[%b]}' % much, status=413, code="payload_too_large"
    )
    await refused(
        "/v1/chat/completions", b'{"model":"agent","messages":[%b]}' % much, status=413, code="payload_too_large"
    )
    await refused("/api/chat", b'{"id":"c","messages":[%b]}' % much, status=413, code="payload_too_large")


async def test_longer_histories_than_anybody_has() -> None:
    empty = b'{"role":"user"},' * 20_000 + b'{"role":"user"}'
    await refused(
        "/ag-ui/agent", b'{"threadId":"t","runId":"r","messages":[%b]}' % empty, status=422, code="invalid_request"
    )
    await refused(
        "/v1/chat/completions", b'{"model":"agent","messages":[%b]}' % empty, status=400, code="invalid_request"
    )
    await refused("/api/chat", b'{"id":"c","messages":[%b]}' % empty, status=422, code="invalid_request")


async def test_a_history_larger_than_its_files() -> None:
    """The AI SDK's body may be large only because of what is in it as data URLs."""
    told = {"id": "a", "role": "assistant", "parts": [{"type": "text", "text": "x" * 5_000_000}]}
    asked = {"id": "u", "role": "user", "parts": [{"type": "text", "text": "plain"}]}
    await refused("/api/chat", {"id": "c", "messages": [told, asked]}, status=413, code="payload_too_large")


async def test_an_input_larger_than_its_files() -> None:
    """Of AG-UI too: `body` may be large only because of the bytes in its content parts."""
    told = {"id": "a", "role": "assistant", "content": "x y" * 2_000_000}
    asked = {"id": "u", "role": "user", "content": "plain"}
    await refused("/ag-ui/agent", {**ag_ui(), "messages": [told, asked]}, status=413, code="payload_too_large")
    text = base64.b64encode(b"A text. " * 700_000).decode()
    part = {"type": "document", "source": {"type": "data", "mimeType": "text/plain", "value": text}}
    given = {**ag_ui(), "messages": [{**asked, "content": [{"type": "text", "text": "plain"}, part]}]}
    async with serving(played) as running, running.http() as http:
        for separators in ((",", ":"), (", ", ": ")):
            body = json.dumps({**given, "runId": separators[0]}, separators=separators).encode()
            assert (await http.post("/ag-ui/agent", content=body, headers=JSON)).status_code == 200


async def test_deep_bodies() -> None:
    deep = b"[" * 500 + b"]" * 500
    message = b'{"id":"m","role":"user","content":"plain","parts":[{"type":"text","text":"plain"}]}'
    tools = b'"tools":[{"name":"x","parameters":%b}]' % deep
    ag_ui = b'{"threadId":"t","runId":"r","messages":[%b],%b}' % (message, tools)
    await refused("/ag-ui/agent", ag_ui, status=422, code="invalid_request")
    await refused("/api/chat", b'{"id":"c","messages":[%b],%b}' % (message, tools), status=422, code="invalid_request")
    chat = b'{"model":"agent","messages":[%b],"tools":[%b]}' % (message, deep)
    await refused("/v1/chat/completions", chat, status=400, code="invalid_request")


def file(url: str) -> dict[str, Any]:
    return {"type": "file", "mediaType": "text/plain", "url": url}


def chat(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"id": "c", "messages": [{"id": "u", "role": "user", "parts": [*parts]}]}


async def test_a_data_url_that_is_all_percent_signs() -> None:
    await refused("/api/chat", chat(file("data:text/plain," + "%41" * 8_000_000)), status=413, code="payload_too_large")


async def test_more_files_in_one_message_than_are_kept() -> None:
    much = [file("data:text/plain,x")] * 500
    await refused("/api/chat", chat(*much), status=413, code="payload_too_large")
    pictures = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,QQ=="}}] * 500
    asked = {"model": "agent", "messages": [{"role": "user", "content": pictures}]}
    await refused("/openai/v1/chat/completions", asked, status=413, code="payload_too_large")


@pytest.mark.parametrize("value", ["QQ==QQ==", "QQ", "****", "Q Q=", "é"])
async def test_what_says_that_it_is_base64(value: str) -> None:
    await refused("/api/chat", chat(file(f"data:text/plain;base64,{value}")), status=422, code="invalid_request")


async def test_what_is_refused_leaves_no_conversation() -> None:
    long = {"id": "m", "role": "user", "content": "x" * 40_000}
    refused: list[tuple[str, dict[str, Any]]] = [
        ("/ag-ui/agent", {"threadId": "t1", "runId": "r", "messages": []}),
        (
            "/ag-ui/agent",
            {"threadId": "t2", "runId": "r", "messages": [{"id": "a", "role": "assistant", "content": "x"}]},
        ),
        ("/ag-ui/agent", {"threadId": "t3", "runId": "r", "messages": [long]}),
        ("/ag-ui/agent", {**ag_ui(resume=[{"interruptId": "x.1", "status": "resolved"}]), "threadId": "t4"}),
        ("/api/chat", {"id": "c1", "messages": []}),
        ("/api/chat", {"id": "c2", "messages": [{"id": "u", "role": "user", "parts": []}]}),
    ]
    async with serving(played) as running, running.http() as http:
        for path, body in refused:
            answer = await http.post(path, json=body)
            assert answer.status_code in (404, 422), (path, body)
        assert (await http.get("/v1/threads")).json()["threads"] == []
        assert (await http.post("/ag-ui/agent", json={**ag_ui(), "threadId": "t1"})).status_code == 200
