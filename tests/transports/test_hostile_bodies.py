"""What hostile clients put into the bodies of the dialects' requests: each is answered soon, and the server goes on.

What takes a time that grows with the square of a body misses the deadline of these clients by far; nothing here says how fast
the rest is.
"""

from __future__ import annotations

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
    results = [{"role": "tool", "tool_call_id": f"r:{i}", "content": ""} for i in range(MANY)]
    asked = {"model": "agent", "messages": [{"role": "user", "content": "plain"}, *results]}
    await refused("/v1/chat/completions", asked, status=413, code="payload_too_large")
