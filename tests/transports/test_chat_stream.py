"""The `chat-stream` dialect over real sockets, spoken by programs that know nothing of this server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import websockets
from websockets.asyncio.client import ClientConnection
from websockets.typing import Subprotocol

from auth.tokens import SECRET, token
from core import DEADLINE_S, Gated, Told, echo
from runcast import events as e
from runcast.agents.context import RunContext
from runcast.errors import ConfigError
from runcast.events import Event
from runcast.runs import RunInput
from runcast.server import Server
from serving import Running, serving

pytestmark = pytest.mark.anyio

PATH = "/api/v1/chat/stream"
BIG = "ü🙂" * 250_000


async def tools(input: RunInput, context: RunContext) -> AsyncIterator[Event]:
    """Two calls of one tool at once, one that fails, one with a result of 1.5 MB, one that returns nothing."""
    for id, name, args in (("a", "add", '{"n":1}'), ("b", "add", '{"n":2}'), ("c", "read", "{}"), ("d", "dump", "{}")):
        yield e.ToolCallStart(tool_call_id=id, tool_call_name=name)
        yield e.ToolCallArgs(tool_call_id=id, delta=args)
        yield e.ToolCallEnd(tool_call_id=id)
    yield e.ToolCallResult(message_id="mb", tool_call_id="b", content="2", result=2)
    yield e.ToolCallResult(message_id="ma", tool_call_id="a", content="null", result=None)
    yield e.ToolCallResult(message_id="mc", tool_call_id="c", content="!", status="error", error="No such file.")
    yield e.ToolCallResult(message_id="md", tool_call_id="d", content=BIG, result={"text": BIG})
    async for event in echo(input, context):
        yield event


async def heard(socket: ClientConnection) -> list[dict[str, Any]]:
    """Every frame until the server closes."""
    frames: list[dict[str, Any]] = []
    with anyio.fail_after(DEADLINE_S):
        try:
            while True:
                frames.append(json.loads(await socket.recv()))
        except websockets.ConnectionClosed:
            return frames


async def asked(running: Running, message: Any, path: str = PATH, **options: Any) -> tuple[list[dict[str, Any]], int]:
    """All frames of one request, and the close code."""
    async with running.socket(path, subprotocols=None, max_size=None, **options) as socket:
        await socket.send(message if isinstance(message, str | bytes) else json.dumps(message))
        return await heard(socket), socket.close_code or 0


def ask(text: str, session: str = "s1", **fields: Any) -> dict[str, Any]:
    return {"session_id": session, "message": text, **fields}


async def status_of(running: Running) -> str:
    """How the newest run of the newest conversation stands."""
    async with running.http() as http:
        (thread, *_) = (await http.get("/v1/threads")).json()["threads"]
        events = (await http.get(f"/v1/threads/{thread['id']}/events")).json()["events"]
        run = next(event["runId"] for event in events if event["type"] == "RUN_STARTED")
        return (await http.get(f"/v1/runs/{run}", params={"wait": 10})).json()["status"]


async def test_one_request_is_one_connection() -> None:
    async with serving() as running:
        frames, code = await asked(running, ask("Grüß Gott 👋"))
        assert code == 1000
        assert [frame["type"] for frame in frames] == ["user_message", "response", "done"]
        assert frames[0]["content"] == "Grüß Gott 👋"
        assert frames[1]["content"] == "Grüß Gott 👋 "
        assert frames[1]["tool_calls"] == []
        assert datetime.fromisoformat(frames[0]["timestamp"]).utcoffset() is not None
        again, _ = await asked(running, ask("more", deltas=True))
        assert "".join(frame["content"] for frame in again if frame["type"] == "text_delta") == "more "
        async with running.http() as http:  # the session's id names one conversation
            assert len((await http.get("/v1/threads")).json()["threads"]) == 1


async def test_tools_as_they_happen_and_big_results_whole() -> None:
    async with serving(Told(tools)) as running:
        frames, _ = await asked(running, ask("ok"))
        started = [frame for frame in frames if frame["type"] == "tool_start"]
        assert [(frame["tool_id"], frame["tool_name"], frame["arguments"]) for frame in started] == [
            ("a", "add", {"n": 1}),
            ("b", "add", {"n": 2}),
            ("c", "read", {}),
            ("d", "dump", {}),
        ]
        results = {frame["tool_id"]: frame["result"] for frame in frames if frame["type"] == "tool_complete"}
        wanted = {"b": 2, "a": {"result": None}, "c": {"error": "No such file."}, "d": {"text": BIG}}
        assert results == wanted
        response = frames[-2]
        assert [call["tool_id"] for call in response["tool_calls"]] == ["a", "b", "c", "d"]
        assert {call["tool_id"]: call["result"] for call in response["tool_calls"]} == wanted
        assert response["tool_calls"][2]["error"] == "No such file."


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (ask(""), "Message is required"),
        ({"message": "m"}, "session_id is required"),
        ("{", "The message is not valid JSON."),
        (b"{}", "Binary messages are not understood; send JSON as text."),
    ],
)
async def test_a_bad_request_is_told_and_ends_the_connection(sent: Any, message: str) -> None:
    async with serving() as running:
        assert await asked(running, sent) == ([{"type": "error", "message": message}], 1000)


async def test_what_follows_the_one_request_means_nothing() -> None:
    agent = Gated("a", "b")
    async with serving(agent) as running, running.socket(PATH, subprotocols=None) as socket:
        await socket.send(json.dumps(ask("one")))
        await socket.send(json.dumps(ask("two")))
        with anyio.fail_after(DEADLINE_S):
            await agent.reached.wait()
        await socket.send("{")
        agent.gate.set()
        assert [frame["type"] for frame in await heard(socket)] == ["user_message", "response", "done"]
        assert [input.text for input in agent.inputs] == ["one"]


async def test_a_failure_and_a_time_limit_are_errors() -> None:
    async def fail(input: RunInput, context: RunContext) -> AsyncIterator[Event]:
        async for event in echo(input, context):
            yield event
        raise RuntimeError("secret")

    async with serving(Told(fail)) as running:
        frames, code = await asked(running, ask("x"))
        assert [frame["type"] for frame in frames] == ["user_message", "error"]
        assert "secret" not in frames[1]["message"]
        assert code == 1000
    async with serving(Gated(), run_timeout_s=0.5) as running:
        frames, _ = await asked(running, ask("x"))
        assert frames[-1] == {"type": "error", "message": "Request timeout (0.5s)"}


async def test_closing_on_purpose_stops_the_run() -> None:
    agent = Gated()
    async with serving(agent) as running:
        async with running.socket(PATH, subprotocols=None) as socket:
            await socket.send(json.dumps(ask("x")))
            with anyio.fail_after(DEADLINE_S):
                await agent.reached.wait()
        assert await status_of(running) == "cancelled"
        assert agent.cancelled


async def test_a_page_that_goes_away_or_a_line_that_breaks_stops_nothing() -> None:
    for leave in ("goes away", "breaks"):
        agent = Gated()
        async with serving(agent) as running:
            async with running.socket(PATH, subprotocols=None) as socket:
                await socket.send(json.dumps(ask("x")))
                with anyio.fail_after(DEADLINE_S):
                    await agent.reached.wait()
                if leave == "goes away":
                    await socket.close(1001)
                else:
                    socket.transport.abort()
            with anyio.fail_after(DEADLINE_S):
                while running.server.gateway.connections:
                    await anyio.sleep(0.01)
            agent.gate.set()
            assert await status_of(running) == "done"


async def test_a_stop_is_an_error_and_then_1012() -> None:
    agent = Gated()
    async with serving(agent) as running:
        async with (
            running.socket(PATH, subprotocols=None) as busy,
            running.socket(PATH, subprotocols=None) as idle,
        ):
            await busy.send(json.dumps(ask("x")))
            with anyio.fail_after(DEADLINE_S):
                await agent.reached.wait()
            running.process.should_exit = True
            for socket in (busy, idle):
                frames = await heard(socket)
                assert [frame["type"] for frame in frames].count("error") == 1
                assert frames[-1]["type"] == "error"
                assert socket.close_code == 1012


async def test_who_may_not_come_in_is_told_before_the_close() -> None:
    async with serving(auth="jwt", jwt_secret=SECRET) as running:
        for offered, error, code in (
            (None, "Unauthorized", 4001),
            ("bearer.nonsense", "Unauthorized", 4001),
            (f"bearer.{token(lives_s=-600)}", "Unauthorized", 4001),
        ):
            subprotocols = None if offered is None else [Subprotocol("chat"), Subprotocol(offered)]
            async with running.socket(PATH, subprotocols=subprotocols) as socket:
                assert await heard(socket) == [{"type": "error", "message": error}]
                assert socket.close_code == code
                assert socket.subprotocol == (None if offered is None else "chat")
        headers = {"authorization": f"Bearer {token()}"}
        frames, code = await asked(running, ask("hi"), additional_headers=headers)
        assert (frames[-1], code) == ({"type": "done"}, 1000)
        headers["origin"] = "https://elsewhere.example"
        async with running.socket(PATH, subprotocols=None, additional_headers=headers) as socket:
            assert await heard(socket) == [{"type": "error", "message": "Forbidden"}]
            assert socket.close_code == 4003


async def test_by_http() -> None:
    async with serving(Told(tools)) as running, running.http() as http:
        answer = await http.post("/api/v1/chat", json=ask("ok"))
        assert answer.status_code == 200
        body = answer.json()
        assert list(body) == ["session_id", "content", "tool_calls", "timestamp"]
        assert (body["session_id"], body["content"]) == ("s1", "ok ")
        assert body["tool_calls"][3]["result"] == {"text": BIG}
        refused = await http.post("/api/v1/chat", json=ask(""))
        assert (refused.status_code, refused.json()["detail"]) == (422, "Message is required")


async def test_by_server_sent_events() -> None:
    async with serving(Told(tools)) as running, running.http() as http:
        async with http.stream("POST", "/api/v1/chat/sse", json=ask("ok", deltas=True)) as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            body = "".join([text async for text in response.aiter_text()])
        blocks = [block for block in body.split("\n\n") if block and not block.startswith(":")]
        assert all(block.startswith("data: ") and "\n" not in block for block in blocks)
        frames = [json.loads(block.removeprefix("data: ")) for block in blocks]
        by_socket, _ = await asked(running, ask("ok", session="s2", deltas=True))
        assert [frame["type"] for frame in frames] == [frame["type"] for frame in by_socket]
        assert frames[-1] == {"type": "done"}


async def test_two_clients_on_one_session_take_turns() -> None:
    agent = Gated("a", "b")
    async with (
        serving(agent) as running,
        running.socket(PATH, subprotocols=None) as one,
        running.socket(PATH, subprotocols=None) as two,
    ):
        await one.send(json.dumps(ask("one")))
        with anyio.fail_after(DEADLINE_S):
            await agent.reached.wait()
        await two.send(json.dumps(ask("two")))
        agent.gate.set()
        for socket, text in ((one, "one"), (two, "two")):
            frames = await heard(socket)
            assert [frame["type"] for frame in frames] == ["user_message", "response", "done"]
            assert frames[0]["content"] == text


async def test_a_watcher_gets_each_frame_once_and_stays() -> None:
    async with serving() as running, running.socket(f"{PATH}?thread=s1", subprotocols=None) as watcher:
        for text in ("one", "two"):
            await asked(running, ask(text))
        heard_types: list[str] = []
        with anyio.fail_after(DEADLINE_S):
            for _ in range(6):
                heard_types.append(json.loads(await watcher.recv())["type"])
        assert heard_types == ["user_message", "response", "done"] * 2
        await watcher.send(json.dumps(ask("three")))
        assert [frame["type"] for frame in await heard(watcher)] == ["user_message", "response", "done"]


async def test_who_closes_at_once_leaves_no_run_behind() -> None:
    """The close may come before the run has a name."""
    for _ in range(5):
        agent = Gated()
        async with serving(agent) as running:
            async with running.socket(PATH, subprotocols=None) as socket:
                await socket.send(json.dumps(ask("x")))
            with anyio.fail_after(DEADLINE_S):
                while running.server.gateway.connections:
                    await anyio.sleep(0.01)
            async with running.http() as http:
                (thread, *_) = (await http.get("/v1/threads")).json()["threads"] or [None]
                if thread is not None:
                    events = (await http.get(f"/v1/threads/{thread['id']}/events")).json()["events"]
                    if any(event["type"] == "RUN_STARTED" for event in events):
                        assert await status_of(running) == "cancelled"


async def test_a_slow_reader_gets_the_same_text_in_fewer_frames() -> None:
    count = 20_000

    async def long(input: RunInput, context: RunContext) -> AsyncIterator[Event]:
        yield e.TextMessageStart(message_id="m")
        for number in range(count):
            yield e.TextMessageContent(message_id="m", delta=f"{number} 🙂 ")
        yield e.TextMessageEnd(message_id="m")

    async with serving(Told(long)) as running, running.socket(PATH, subprotocols=None, max_queue=1) as socket:
        await socket.send(json.dumps(ask("x", deltas=True)))
        assert json.loads(await socket.recv())["type"] == "user_message"
        assert await status_of(running) == "done"  # it did not wait for this reader
        frames = await heard(socket)
        deltas = [frame["content"] for frame in frames if frame["type"] == "text_delta"]
        assert "".join(deltas) == frames[-2]["content"] == "".join(f"{number} 🙂 " for number in range(count))
        assert len(deltas) < count


async def test_closing_on_purpose_in_the_stream_stops_the_run() -> None:
    """The server may meet the closed socket first by writing to it."""
    stopped = anyio.Event()

    async def endless(input: RunInput, context: RunContext) -> AsyncIterator[Event]:
        yield e.TextMessageStart(message_id="m")
        try:
            while True:
                yield e.TextMessageContent(message_id="m", delta="on and on ")
                await anyio.lowlevel.checkpoint()
        finally:
            stopped.set()

    for _ in range(5):
        stopped = anyio.Event()
        async with serving(Told(endless), disconnect_grace_s=60) as running:
            async with running.socket(PATH, subprotocols=None) as socket:
                await socket.send(json.dumps(ask("x", deltas=True)))
                for _ in range(20):
                    await socket.recv()
            with anyio.fail_after(DEADLINE_S):
                await stopped.wait()
            assert await status_of(running) == "cancelled"


async def test_a_stream_of_events_is_pinged_while_the_agent_says_what_is_no_frame(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without `deltas` nothing is said while the answer grows: proxies would take the stream for dead."""
    monkeypatch.setattr("runcast.transports.sse.PING_S", 0.2)
    heard = anyio.Event()

    async def talks(input: RunInput, context: RunContext) -> AsyncIterator[Event]:
        yield e.TextMessageStart(message_id="m")
        while not heard.is_set():
            yield e.TextMessageContent(message_id="m", delta="on and ")
            with anyio.move_on_after(0.02):
                await heard.wait()
        yield e.TextMessageContent(message_id="m", delta="on")
        yield e.TextMessageEnd(message_id="m")

    async with serving(Told(talks)) as running, running.http() as http:
        body = {"session_id": "s", "message": "go"}
        lines: list[str] = []
        with anyio.fail_after(DEADLINE_S):
            async with http.stream("POST", f"{PATH.removesuffix('/stream')}/sse", json=body) as stream:
                async for line in stream.aiter_lines():
                    lines.append(line)
                    if line == ": ping":
                        heard.set()
    assert ": ping" in lines
    assert lines[-2:] == ['data: {"type":"done"}', ""]


async def test_at_another_path_the_socket_and_the_posts_are_there() -> None:
    """Without a path of its own for the stream, the client says which it accepts."""
    paths = {"/mine": "chat-stream", "/mine/{user_id}": "progress", "/its": "tool-calls"}
    body = {"session_id": "s", "conversation_id": "s", "message": "hi"}
    async with serving(dialects=paths) as running, running.http() as http:
        frames, code = await asked(running, body, "/mine")
        assert (frames[-1], code) == ({"type": "done"}, 1000)
        assert (await http.post("/mine", json=body)).json()["content"] == "hi "
        assert (await http.post("/its", json=body)).json()["message"] == "hi "
        assert (await http.post("/mine/ana", json=body)).json()["response"] == "hi "
        stream = await http.post("/mine", json=body, headers={"accept": "text/event-stream"})
        assert stream.headers["content-type"].startswith("text/event-stream")
        assert stream.text.endswith('data: {"type":"done"}\n\n')
        assert (await http.get("/mine")).status_code == 405
        preflight = {"origin": "http://localhost:5173", "access-control-request-method": "POST"}
        assert (await http.options("/mine", headers=preflight)).status_code == 204


def test_the_native_path_is_no_dialects() -> None:
    with pytest.raises(ConfigError, match="is the native protocol's"):
        Server([Told(echo)], dialects={"/v1/ws": "text"})
