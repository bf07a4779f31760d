"""The WebSocket of the message dialects, over real sockets: turns, threads, closing, bad frames. Spoken in `text`."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest
import websockets
from websockets.asyncio.client import ClientConnection
from websockets.typing import Subprotocol

from core import DEADLINE_S, Gated, Told, echo
from runcast import events as e
from runcast.agents.context import RunContext
from runcast.events import Event
from runcast.runs import RunInput
from serving import Running, serving

pytestmark = pytest.mark.anyio


async def hear(socket: ClientConnection) -> str:
    with anyio.fail_after(DEADLINE_S):
        frame = await socket.recv()
    assert isinstance(frame, str)
    return frame


async def answer(socket: ClientConnection) -> list[str]:
    """Everything up to the end marker, and that."""
    frames = [await hear(socket)]
    while frames[-1] != "[DONE]" and not frames[-1].startswith("[ERROR]"):
        frames.append(await hear(socket))
    return frames


async def said(socket: ClientConnection) -> str:
    """The text of one answer, however it was cut, and its end."""
    return "".join(await answer(socket))


async def threads(running: Running) -> list[str]:
    async with running.http() as http:
        return [thread["id"] for thread in (await http.get("/v1/threads")).json()["threads"]]


async def test_a_prompt_is_answered_in_chunks_and_one_end() -> None:
    async with serving() as running, running.socket("/ws/agent", subprotocols=None) as socket:
        await socket.send("Hello you")
        assert await said(socket) == "Hello you [DONE]"
        await socket.send("Again")
        assert await answer(socket) == ["Again ", "[DONE]"]
        assert len(await threads(running)) == 1  # one connection is one anonymous thread


async def test_messages_wait_their_turn() -> None:
    agent = Gated("a", "b")
    async with serving(agent) as running, running.socket("/ws/agent", subprotocols=None) as socket:
        await socket.send("one")
        await socket.send("two")
        with anyio.fail_after(DEADLINE_S):
            await agent.reached.wait()
        assert await hear(socket) == "a"
        assert len(agent.inputs) == 1  # the second one is not asked before the first is answered
        agent.gate.set()
        assert await answer(socket) == ["b", "[DONE]"]
        assert await said(socket) == "ab[DONE]"
        assert [input.text for input in agent.inputs] == ["one", "two"]


async def test_more_than_16_that_wait_are_refused() -> None:
    agent = Gated("a", "b")
    async with serving(agent) as running, running.socket("/ws/agent", subprotocols=None) as socket:
        await socket.send("first")
        with anyio.fail_after(DEADLINE_S):
            await agent.reached.wait()
        for number in range(17):
            await socket.send(f"message {number}")
        heard = [await hear(socket), await hear(socket)]
        assert min(heard).startswith("[ERROR] More than 16 messages wait")
        assert max(heard) == "a"
        agent.gate.set()
        assert await answer(socket) == ["b", "[DONE]"]
        for _ in range(16):
            assert (await answer(socket))[-1] == "[DONE]"
        assert [input.text for input in agent.inputs] == ["first", *(f"message {number}" for number in range(16))]


async def test_bad_frames_leave_the_connection_open() -> None:
    async with serving() as running, running.socket("/ws/agent", subprotocols=None) as socket:
        for bad in ("", "  \n", b"\x00\x01"):
            await socket.send(bad)
            assert (await hear(socket)).startswith("[ERROR] ")
        await socket.send("still here")
        assert (await answer(socket))[-1] == "[DONE]"


async def test_sockets_of_one_thread_hear_the_same_once() -> None:
    async with (
        serving() as running,
        running.socket("/ws/agent?thread=our+talk", subprotocols=None) as one,
        running.socket("/ws/agent?thread=our%20talk", subprotocols=None) as two,
        running.socket("/ws/agent", subprotocols=None) as stranger,
    ):
        for socket, word in ((one, "first "), (two, "second ")):
            await socket.send(word)
            assert await answer(one) == await answer(two) == [word, "[DONE]"]
        await stranger.send("mine")
        assert await answer(stranger) == ["mine ", "[DONE]"]
        assert len(await threads(running)) == 2


async def test_a_socket_that_comes_in_the_middle_hears_the_rest() -> None:
    agent = Gated("before ", "after")
    async with serving(agent) as running, running.socket("/ws/agent?thread=t", subprotocols=None) as one:
        await one.send("go")
        assert await hear(one) == "before "
        async with running.socket("/ws/agent?thread=t", subprotocols=None) as two:
            agent.gate.set()
            assert await answer(two) == ["after", "[DONE]"]
        assert await answer(one) == ["after", "[DONE]"]


async def test_a_failed_run_ends_with_its_error_and_no_done() -> None:
    async def fail(input: RunInput, context: RunContext) -> AsyncIterator[Event]:
        async for event in echo(input, context):
            yield event
        raise RuntimeError("secret")

    async with serving(Told(fail)) as running, running.socket("/ws/agent", subprotocols=None) as socket:
        await socket.send("one")
        frames = await answer(socket)
        assert frames[0] == "one "
        assert frames[-1].startswith("[ERROR] The agent failed.")
        assert "secret" not in "".join(frames)
        await socket.send("two")
        assert (await answer(socket))[0] == "two "


async def test_a_stop_ends_the_run_and_closes_with_1012() -> None:
    agent = Gated("a", "b")
    async with serving(agent) as running, running.socket("/ws/agent", subprotocols=None) as socket:
        await socket.send("go")
        assert await hear(socket) == "a"
        running.process.should_exit = True
        assert (await answer(socket))[-1].startswith("[ERROR] ")
        with anyio.fail_after(DEADLINE_S), pytest.raises(websockets.ConnectionClosed):
            await socket.recv()
        assert socket.close_code == 1012


async def test_a_message_that_waits_is_kept_when_its_client_goes() -> None:
    agent = Gated("a", "b")
    async with serving(agent) as running:
        async with running.socket("/ws/agent?thread=t", subprotocols=None) as socket:
            await socket.send("one")
            assert await hear(socket) == "a"
            await socket.send("two")
        agent.gate.set()
        async with running.socket("/ws/agent?thread=t", subprotocols=None) as socket:
            await socket.send("three")
            while [input.text for input in agent.inputs] != ["one", "two", "three"]:
                await answer(socket)


async def test_a_chunk_that_is_the_marker_is_no_end() -> None:
    async def tricky(input: RunInput, context: RunContext) -> AsyncIterator[Event]:
        message = context.new_id()
        yield e.TextMessageStart(message_id=message)
        for piece in ("[DONE]", "[ERROR] not one", "ü"):
            yield e.TextMessageContent(message_id=message, delta=piece)
        yield e.TextMessageEnd(message_id=message)

    async with serving(Told(tricky)) as running, running.socket("/ws/robust", subprotocols=None) as socket:
        await socket.send("go")
        frames = await answer(socket)
        assert frames[-1] == "[DONE]"
        assert "".join(frames[:-1]) == "[DONE][ERROR] not oneü"


async def test_paths_are_settings() -> None:
    paths = {"/ws/chat": "text?end=%0A[DONE]", "/ws/robust": "off", "/talk/{session_id}": "text"}
    async with serving(dialects=paths) as running:
        async with running.socket("/ws/chat", subprotocols=None) as socket:
            await socket.send("hi")
            assert [await hear(socket), await hear(socket)] == ["hi ", "\n[DONE]"]
        async with running.socket("/talk/any%20name", subprotocols=None) as socket:
            await socket.send("hi")
            assert await answer(socket) == ["hi ", "[DONE]"]
        for missing in ("/ws/robust", "/talk/chat", "/talk/a/b"):
            with pytest.raises(websockets.InvalidStatus) as refused:
                async with running.socket(missing, subprotocols=None):
                    pass
            assert refused.value.response.status_code == 404


async def test_a_message_whose_client_goes_at_once_is_kept() -> None:
    agent = Gated("a", "b")
    async with serving(agent) as running:
        async with running.socket("/ws/agent?thread=t", subprotocols=None) as socket:
            await socket.send("one")
        with anyio.fail_after(DEADLINE_S):
            await agent.reached.wait()
        assert [input.text for input in agent.inputs] == ["one"]
        agent.gate.set()


async def test_an_unreadable_frame_does_not_end_the_answer_under_way() -> None:
    agent = Gated("a", "b")
    async with serving(agent) as running, running.socket("/ws/agent", subprotocols=None) as socket:
        await socket.send("go")
        assert await hear(socket) == "a"
        await socket.send("")
        await socket.send("again")
        agent.gate.set()
        assert await answer(socket) == ["b", "[DONE]"]
        assert await answer(socket) == ["[ERROR] Empty message"]
        assert await said(socket) == "ab[DONE]"


async def test_what_is_offered_is_answered_but_no_token() -> None:
    async with serving() as running:
        for offered, answered in ((["bearer.secret", "chat"], "chat"), (["bearer", "secret"], "bearer")):
            protocols = [Subprotocol(item) for item in offered]
            async with running.socket("/ws/agent", subprotocols=protocols) as socket:
                assert socket.subprotocol == answered


async def asks(input: RunInput, run: RunContext) -> AsyncIterator[Event]:
    """Asks a person, if it is told to; else says what it was told."""
    if input.text == "ask":
        await run.ask("Which city?")
    await run.text(f"You said {input.text}.")
    for _ in ():
        yield _


@pytest.mark.parametrize("path", ["/ws/agent", "/ws/agent?thread=t"])
async def test_a_question_that_nobody_can_answer_here_does_not_hold_up_what_is_said_next(path: str) -> None:
    async with serving(Told(asks)) as running, running.socket(path, subprotocols=None) as socket:
        await socket.send("ask")
        assert await said(socket) == "Which city?[DONE]"
        await socket.send("Oslo")
        assert await said(socket) == "You said Oslo.[DONE]"
        (thread,) = await threads(running)
        async with running.http() as http:
            log = (await http.get(f"/v1/threads/{thread}/events?after=0")).json()["events"]
        assert [event["reason"] for event in log if event["type"] == "INTERRUPT_RESOLVED"] == [
            "A newer message took its place."
        ]


async def test_a_question_does_not_hold_up_the_next_post_either() -> None:
    async with serving(Told(asks)) as running, running.http() as http:
        for asked, answer in (("ask", "Which city?"), ("Oslo", "You said Oslo.")):
            body = {"message": asked, "session_id": "s", "conversation_id": "s"}
            assert (await http.post("/api/v1/chat", json=body)).json()["content"] == answer
        for asked, answer in (("ask", "Which city?"), ("Oslo", "You said Oslo.")):
            body = {"message": asked, "conversation_id": "c"}
            assert (await http.post("/api/chat/message", json=body)).json()["message"] == answer
