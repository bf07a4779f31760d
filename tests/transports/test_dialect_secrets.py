"""What goes wrong inside, told in every dialect: a sentence and a code, never an exception's text (attack 48)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
import websockets

import runcast
from core import DEADLINE_S
from runcast.agents.context import RunContext
from serving import Running, serving

pytestmark = pytest.mark.anyio

CANARY = "canary-7f3a /etc/secret sk-live-0123456789abcdef"


@runcast.agent(name="agent")
async def broken(prompt: str, run: RunContext) -> AsyncIterator[str]:
    """A tool that breaks, then the agent itself: the exceptions of both say what nobody should read."""
    yield "I try. "
    try:
        async with run.tool("read", path="x"):
            raise ValueError(CANARY)
    except ValueError:
        pass
    raise RuntimeError(CANARY) from OSError(CANARY)


AG_UI = {"threadId": "t", "runId": "r", "messages": [{"id": "m", "role": "user", "content": "Go"}]}
CHAT = {"id": "c", "messages": [{"id": "m", "role": "user", "parts": [{"type": "text", "text": "Go"}]}]}
COMPLETION = {"model": "agent", "messages": [{"role": "user", "content": "Go"}]}
RESPONSE = {"model": "agent", "input": "Go"}
MESSAGE = {"message": "Go", "session_id": "s", "conversation_id": "k"}

POSTS: list[tuple[str, dict[str, Any]]] = [
    ("/ag-ui/agent", AG_UI),
    ("/api/chat", CHAT),
    ("/api/v1/chat", MESSAGE),
    ("/api/v1/chat/sse", MESSAGE),
    ("/api/chat/message", MESSAGE),
    ("/api/ada/chat", MESSAGE),
    ("/v1/chat/completions", COMPLETION),
    ("/v1/chat/completions", {**COMPLETION, "stream": True}),
    ("/openai/v1/responses", RESPONSE),
    ("/openai/v1/responses", {**RESPONSE, "stream": True}),
]

SOCKETS: list[tuple[str, str | dict[str, Any], str]] = [
    ("/api/v1/chat/stream", MESSAGE, '"error"'),
    ("/ws/agent", "Go", "[ERROR]"),
    ("/ws/agent-thoughts", "Go", '"done"'),
    ("/ws/chat", MESSAGE, '"error"'),
    ("/ws/here", {"content": "Go"}, "Agent error"),
    ("/api/chat/ws", {"type": "send", "requestId": "q", **CHAT}, '"end"'),
]


@pytest.mark.parametrize(("path", "body"), POSTS, ids=[f"{path}-{len(body)}" for path, body in POSTS])
async def test_over_http(path: str, body: dict[str, Any]) -> None:
    async with serving(broken) as running, running.http() as http:
        answer = await http.post(path, json=body)
        assert answer.status_code in (200, 502)
        spotless(answer.text)
        spotless(str(answer.headers))
        await spotless_reads(running)


@pytest.mark.parametrize(("path", "frame", "end"), SOCKETS, ids=[path for path, _, _ in SOCKETS])
async def test_over_websockets(path: str, frame: str | dict[str, Any], end: str) -> None:
    async with serving(broken) as running, running.socket(path, subprotocols=None) as socket:
        await socket.send(frame if isinstance(frame, str) else json.dumps(frame))
        heard: list[str] = []
        with anyio.fail_after(DEADLINE_S):
            while not heard or end not in heard[-1]:
                heard.append(str(await socket.recv()))
        spotless("\n".join(heard))


async def test_on_the_socket_that_only_watches() -> None:
    async with serving(broken) as running, running.socket("/ws/ada/chat", subprotocols=None) as socket:
        async with running.http() as http:
            await http.post("/api/ada/chat", json=MESSAGE)
        heard: list[str] = []
        with anyio.fail_after(DEADLINE_S):
            while not heard or "agent_done" not in heard[-1]:
                heard.append(str(await socket.recv()))
        spotless("\n".join(heard))
        assert '"tool_error"' in "\n".join(heard)


async def test_a_handshake_that_is_refused_says_nothing_of_the_server() -> None:
    async with serving(broken, auth="jwt", jwt_secret="k7Qv1xTz9bLw3Rj5Ys8Nd2Hf6Gc4Mp0A") as running:
        for path, _, _ in SOCKETS:
            async with running.socket(path, subprotocols=None) as socket:
                with anyio.fail_after(DEADLINE_S), pytest.raises(websockets.ConnectionClosed):
                    while True:
                        spotless(str(await socket.recv()))
                assert socket.close_code == 4001
                spotless(socket.close_reason or "")


async def spotless_reads(running: Running) -> None:
    """What is read of the run afterwards, in the dialects that read."""
    async with running.http() as http:
        for thread in (await http.get("/v1/threads")).json()["threads"]:
            id, run = thread["id"], thread["headRun"]
            for path in (
                f"/v1/stream/threads/{id}", f"/v1/stream/runs/{run}", f"/v1/responses/resp_{run}", f"/api/chat/{id}/stream?ended=true",
                f"/ag-ui/agent?threadId={id}",
            ):  # fmt: skip
                answer = await http.get(path)
                assert answer.status_code == 200
                spotless(answer.text)


def spotless(text: str) -> None:
    for word in ("canary", "secret", "sk-live", "Traceback", "ValueError", "RuntimeError", ".py"):
        assert word not in text, text
