"""The `thoughts` dialect over real sockets: typed frames, pushes of the server's own code, and silence."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
import websockets
from websockets.asyncio.client import ClientConnection

from auth.tokens import SECRET, token
from core import DEADLINE_S, Gated, Told, echo
from runcast import events as e
from runcast.agents.context import RunContext
from runcast.dialects.thoughts import Thoughts
from runcast.errors import AgentError
from runcast.events import Event
from runcast.runs import RunInput
from runcast.server import Server
from serving import serving, serving_app

pytestmark = pytest.mark.anyio

PATH = "/ws/agent-thoughts"


async def think(input: RunInput, context: RunContext) -> AsyncIterator[Event]:
    yield e.ReasoningMessageStart(message_id="r", role="reasoning")
    for piece in ("Let me ", "see.\nA search", " helps."):
        yield e.ReasoningMessageContent(message_id="r", delta=piece)
    yield e.ReasoningMessageEnd(message_id="r")
    for id, q in (("a", "x"), ("b", "ü")):
        yield e.ToolCallStart(tool_call_id=id, tool_call_name="search")
        yield e.ToolCallArgs(tool_call_id=id, delta=json.dumps({"q": q}))
        yield e.ToolCallEnd(tool_call_id=id)
    yield e.ToolCallResult(message_id="mb", tool_call_id="b", content="no", status="error", error="No network.")
    yield e.ToolCallResult(message_id="ma", tool_call_id="a", content="3 found", result="3 found")
    async for event in echo(input, context):
        yield event
    if input.text == "fail":
        raise AgentError("The model went away.")


async def hear(socket: ClientConnection) -> dict[str, Any]:
    with anyio.fail_after(DEADLINE_S):
        return json.loads(await socket.recv())


async def answer(socket: ClientConnection) -> list[tuple[str, str]]:
    """As a program reads it: until `done`. The answer's pieces are put together."""
    said: list[tuple[str, str]] = []
    while (frame := await hear(socket))["type"] != "done":
        kind, text = frame["type"], frame.get("content", frame.get("message"))
        if said and kind == said[-1][0] == "answer":
            text = said.pop()[1] + text
        said.append((kind, text))
    assert frame == {"type": "done"}
    return said


BEFORE = [
    ("thinking", "Let me see."),
    ("thinking", "A search helps."),
    ("action", 'search(q="x")'),
    ("action", 'search(q="ü")'),
    ("observation", "Error: No network."),
    ("observation", "3 found"),
]


@pytest.mark.parametrize("query", ["", "?deltas=true"])
async def test_an_agent_thinks_aloud(query: str) -> None:
    async with serving(Told(think)) as running, running.socket(PATH + query, subprotocols=None) as socket:
        for text in ("Grüß dich 👋", "again"):
            await socket.send(text)
            assert await answer(socket) == [*BEFORE, ("answer", f"{text} ")]
        await socket.send("fail")
        assert await answer(socket) == [*BEFORE, ("answer", "fail "), ("error", "The model went away.")]


async def test_bad_frames_are_told_in_their_turn() -> None:
    agent = Gated("a", "b")
    async with serving(agent) as running, running.socket(PATH, subprotocols=None) as socket:
        await socket.send("go")
        with anyio.fail_after(DEADLINE_S):
            await agent.reached.wait()
        for bad in ("", b"\x00"):
            await socket.send(bad)
        await socket.send("again")
        agent.gate.set()
        assert await answer(socket) == [("answer", "ab")]
        assert await answer(socket) == [("error", "Empty message")]
        assert await answer(socket) == [("error", "Binary messages are not understood; send text.")]
        assert await answer(socket) == [("answer", "ab")]


async def test_all_who_joined_a_conversation_get_the_same() -> None:
    async with (
        serving(Told(think)) as running,
        running.socket(f"{PATH}?thread=t", subprotocols=None) as one,
        running.socket(f"{PATH}?thread=t", subprotocols=None) as two,
        running.socket("/ws/agent?thread=t", subprotocols=None) as plain,
    ):
        await two.send("hi")
        assert await answer(one) == await answer(two) == [*BEFORE, ("answer", "hi ")]
        with anyio.fail_after(DEADLINE_S):
            assert [await plain.recv(), await plain.recv()] == ["hi ", "[DONE]"]


async def test_silence_is_answered_with_a_ping(monkeypatch: pytest.MonkeyPatch) -> None:
    silence = Thoughts.keep_alive
    assert silence is not None
    monkeypatch.setattr(Thoughts, "keep_alive", silence._replace(after_s=0.05))
    async with serving() as running, running.socket(PATH, subprotocols=None) as socket:
        for _ in range(2):
            assert await hear(socket) == {"type": "ping"}


async def test_nobody_left_stops_an_anonymous_run_and_not_one_to_come_back_to() -> None:
    for query, is_stopped in (("", True), ("?thread=t", False)):
        agent = Gated()
        async with serving(agent, disconnect_grace_s=0) as running:
            async with running.socket(PATH + query, subprotocols=None) as socket:
                await socket.send("go")
                with anyio.fail_after(DEADLINE_S):
                    await agent.reached.wait()
                socket.transport.abort()
            with anyio.fail_after(DEADLINE_S):
                while running.server.gateway.connections:
                    await anyio.sleep(0.01)
            if not is_stopped:
                agent.gate.set()
            async with running.http() as http:
                (thread,) = (await http.get("/v1/threads")).json()["threads"]
                events = (await http.get(f"/v1/threads/{thread['id']}/events")).json()["events"]
                run = next(event["runId"] for event in events if event["type"] == "RUN_STARTED")
                status = (await http.get(f"/v1/runs/{run}", params={"wait": 10})).json()["status"]
            assert status == ("cancelled" if is_stopped else "done")


async def test_the_servers_code_speaks_to_one_client_or_to_all() -> None:
    server = Server([Told(echo)], store=":memory:", drain_timeout_s=0, dialects={"/ws/{client_id}": "thoughts"})
    async with (
        serving_app(server) as running,
        running.socket("/ws/ada", subprotocols=None) as ada,
        running.socket("/ws/ada", subprotocols=None) as ada_too,
        running.socket("/ws/bob", subprotocols=None) as bob,
        running.socket("/ws/agent", subprotocols=None) as plain,
    ):
        with anyio.fail_after(DEADLINE_S):
            while len(server.clients) < 4:
                await anyio.sleep(0.01)
        assert server.clients.ids == ["ada", "bob"]
        assert server.clients.send("ada", "Your report is ready.") == 2
        assert server.clients.send("nobody", "x") == 0
        assert server.clients.send("bob", "x", user="somebody else") == 0
        assert server.clients.broadcast("Hello, all.") == 4
        assert server.clients.broadcast("") == 0
        for socket in (ada, ada_too):
            assert await hear(socket) == {"type": "answer", "content": "Your report is ready."}
        for socket in (ada, ada_too, bob):
            assert await hear(socket) == {"type": "answer", "content": "Hello, all."}
        with anyio.fail_after(DEADLINE_S):
            assert await plain.recv() == "Hello, all."
        await bob.close()
        with anyio.fail_after(DEADLINE_S):
            while "bob" in server.clients.ids:
                await anyio.sleep(0.01)
        assert server.clients.send("bob", "x") == 0


async def test_a_client_that_reads_nothing_is_told_no_more_than_16_things() -> None:
    server = Server([Told(echo)], store=":memory:", drain_timeout_s=0, dialects={"/ws/{client_id}": "thoughts"})
    async with serving_app(server) as running, running.socket("/ws/ada", subprotocols=None):
        with anyio.fail_after(DEADLINE_S):
            while not server.clients.ids:
                await anyio.sleep(0.01)
        assert sum(server.clients.send("ada", "x") for _ in range(20)) == 16


@pytest.mark.parametrize("path", [PATH, "/ws/secure"])
async def test_who_may_not_come_in_is_closed_without_a_word(path: str) -> None:
    async with serving(auth="jwt", jwt_secret=SECRET, query_token="jwt") as running:
        for query, code in (("", 4001), ("?token=x", 4001), (f"?token={token(lives_s=-600)}", 4001)):
            async with running.socket(path + query, subprotocols=None) as socket:
                with anyio.fail_after(DEADLINE_S), pytest.raises(websockets.ConnectionClosed):
                    await socket.recv()
                assert socket.close_code == code
        async with running.socket(f"{path}?token={token()}", subprotocols=None) as socket:
            await socket.send("hi")
            with anyio.fail_after(DEADLINE_S):
                assert "hi" in str(await socket.recv())


@pytest.mark.parametrize("path", [PATH, "/api/v1/chat/stream", "/ws/agent", "/ws/chat", "/ws/s-1"])
async def test_a_connection_ends_with_its_token(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runcast.transports.connection.LEEWAY_S", 0)
    async with serving(auth="jwt", jwt_secret=SECRET) as running:
        headers = {"authorization": f"Bearer {token(lives_s=2)}"}
        async with running.socket(path, subprotocols=None, additional_headers=headers) as socket:
            frames: list[Any] = []
            with anyio.fail_after(DEADLINE_S):
                try:
                    while True:
                        frames.append(await socket.recv())
                except websockets.ConnectionClosed:
                    pass
            assert socket.close_code == 4001
            assert len(frames) == (path == "/api/v1/chat/stream")


async def test_a_stop_closes_with_1012_after_done() -> None:
    agent = Gated()
    async with serving(agent) as running, running.socket(PATH, subprotocols=None) as socket:
        await socket.send("go")
        with anyio.fail_after(DEADLINE_S):
            await agent.reached.wait()
        running.process.should_exit = True
        said = await answer(socket)
        assert [kind for kind, _ in said] == ["answer", "error"]
        with anyio.fail_after(DEADLINE_S), pytest.raises(websockets.ConnectionClosed):
            await socket.recv()
        assert socket.close_code == 1012


async def test_a_long_result_is_a_line_that_the_python_client_takes() -> None:
    """`websockets` closes with 1009 at a frame of more than 1 MiB, and `observation` is for people."""

    async def dump(input: RunInput, run: RunContext) -> AsyncIterator[Event]:
        async with run.tool("dump", note="\x01" * 200_000) as call:
            call.result = "\x01" * 1_100_000
        await run.text("Dumped.")
        for _ in ():
            yield _

    async with serving(Told(dump)) as running, running.socket(PATH, subprotocols=None) as socket:
        await socket.send("go")
        said = await answer(socket)
    assert [kind for kind, _ in said] == ["action", "observation", "answer"]
    assert [len(text) for _, text in said[:2]] == [100_000, 100_000]
    assert said[1][1].endswith("\x01…")
