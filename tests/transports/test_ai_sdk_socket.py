"""The AI SDK's WebSocket: many requests on one connection, and how it ends. Its own client is in `tests/clients`."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest
import websockets
from websockets.asyncio.client import ClientConnection

from core import DEADLINE_S, Gated
from runcast.config import Settings
from serving import serving

pytestmark = pytest.mark.anyio

PATH = "/api/chat/ws"


def send(request: str, text: str, *, id: str = "c1", **more: Any) -> str:
    message = {"id": f"u-{request}", "role": "user", "parts": [{"type": "text", "text": text}]}
    frame = {"type": "send", "requestId": request, "id": id, "trigger": "submit-message", "messages": [message]}
    return json.dumps({**frame, "headers": {}, "body": {}, **more})


async def hear(socket: ClientConnection) -> dict[str, Any]:
    with anyio.fail_after(DEADLINE_S):
        return json.loads(await socket.recv())


async def until_over(socket: ClientConnection, *requests: str) -> dict[str, list[dict[str, Any]]]:
    """All frames of these requests, up to the last one of each."""
    heard: dict[str, list[dict[str, Any]]] = {request: [] for request in requests}
    while not all(frames and frames[-1]["type"] in ("end", "error", "no-active") for frames in heard.values()):
        frame = await hear(socket)
        heard[frame["requestId"]].append(frame)
    return heard


def said(frames: list[dict[str, Any]]) -> str:
    chunks = [frame["chunk"] for frame in frames if frame["type"] == "chunk"]
    return "".join(chunk["delta"] for chunk in chunks if chunk["type"] == "text-delta")


async def close_code(socket: ClientConnection) -> int:
    with anyio.fail_after(DEADLINE_S):
        try:
            while True:
                await socket.recv()
        except websockets.ConnectionClosed:
            return socket.close_code or 0


async def test_requests_share_a_connection() -> None:
    async with serving() as running, running.socket(PATH, subprotocols=None) as socket:
        await socket.send(send("one", "Hi you"))
        await socket.send(send("two", "Hi", id="c2"))
        heard = await until_over(socket, "one", "two")
        for frames in heard.values():
            assert (frames[0]["type"], frames[-1]["type"]) == ("start", "end")
            assert [frame["sequence"] for frame in frames[1:-1]] == list(range(len(frames) - 2))
        assert (said(heard["one"]), said(heard["two"])) == ("Hi you ", "Hi ")


async def test_a_message_that_is_written_is_told_again_whole() -> None:
    agent = Gated("a", "b")
    async with serving(agent) as running, running.socket(PATH, subprotocols=None) as socket:
        await socket.send(send("one", "Hi"))
        with anyio.fail_after(DEADLINE_S):
            await agent.reached.wait()
        await socket.send(json.dumps({"type": "abort", "requestId": "one"}))
        await socket.send(json.dumps({"type": "abort", "requestId": "never"}))
        async with running.socket(PATH, subprotocols=None) as other:
            await other.send(json.dumps({"type": "resume", "requestId": "r", "id": "c1"}))
            assert (await hear(other))["type"] == "start"
            agent.gate.set()
            assert said((await until_over(other, "r"))["r"]) == "ab"
            await other.send(json.dumps({"type": "resume", "requestId": "s", "id": "c1"}))
            assert (await hear(other))["type"] == "no-active"


@pytest.mark.parametrize(
    "fields",
    [{"id": "a/b"}, {"id": ""}, {"messages": []}, {"body": {"agent": "nobody"}}, {"body": {"onDisconnect": 7}}],
)
async def test_a_request_that_cannot_be_carried_out_is_an_error_of_its_own(fields: dict[str, Any]) -> None:
    async with serving() as running, running.socket(PATH, subprotocols=None) as socket:
        await socket.send(json.dumps({**json.loads(send("one", "Hi")), **fields}))
        [error] = (await until_over(socket, "one"))["one"]
        assert error["type"] == "error" and isinstance(error["errorText"], str)
        await socket.send(send("two", "Hi"))
        assert said((await until_over(socket, "two"))["two"]) == "Hi "


async def test_a_cursor_and_an_id_that_is_in_use_are_refused() -> None:
    agent = Gated("a", "b")
    async with serving(agent) as running, running.socket(PATH, subprotocols=None) as socket:
        await socket.send(json.dumps({"type": "resume", "requestId": "r", "id": "c1", "lastSequence": 3}))
        assert (await hear(socket))["type"] == "error"
        await socket.send(send("one", "Hi"))
        with anyio.fail_after(DEADLINE_S):
            await agent.reached.wait()
            await socket.send(send("one", "Hi"))
            while (await hear(socket))["type"] != "error":
                pass


DEEP = '{"type":"send","requestId":"r","id":"c1","body":{"deep":' + "[" * 33 + "]" * 33 + "}}"


@pytest.mark.parametrize(
    "frame", ["{", "[]", "7", b"\x00", '{"type":"other","requestId":"r"}', '{"type":"send"}', DEEP]
)
async def test_what_is_no_frame_ends_the_connection(frame: str | bytes) -> None:
    async with serving() as running, running.socket(PATH, subprotocols=None) as socket:
        await socket.send(frame)
        assert await close_code(socket) == 4000


async def test_a_restart_is_no_end() -> None:
    agent = Gated("a", "b")
    async with serving(agent) as running, running.socket(PATH, subprotocols=None) as socket:
        await socket.send(send("one", "Hi"))
        with anyio.fail_after(DEADLINE_S):
            await agent.reached.wait()
            await running.server.gateway.stop(timeout_s=DEADLINE_S)
        assert await close_code(socket) == 1012


async def test_it_goes_with_its_chat() -> None:
    async with serving(settings=Settings(dialects={"/api/chat": "off"})) as running:
        with pytest.raises(websockets.InvalidStatus, match="404"):
            async with running.socket(PATH, subprotocols=None):
                pass
