"""Clients that come back: `tool-calls` by its cookie, `partials` by its conversation. Over real sockets."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
import websockets
from websockets.asyncio.client import ClientConnection

from core import DEADLINE_S, Told, echo
from rawclient import RawClient, connect, frame
from runcast import events as e
from runcast.agents.base import Agent
from runcast.agents.context import RunContext
from runcast.events import Event
from runcast.runs import RunInput
from serving import Running, serving

pytestmark = pytest.mark.anyio

Said = dict[str, Any]


class Steps:
    """An agent that says one word of what it was asked, calls a tool, says the next one …; each waits for `step`."""

    name = "steps"
    description = ""

    def __init__(self) -> None:
        self._steps: dict[str, int] = {}
        self._step = anyio.Event()
        self.inputs: list[str] = []

    def step(self, asked: str, count: int = 1) -> None:
        self._steps[asked] = self._steps.get(asked, 0) + count
        self._step.set()
        self._step = anyio.Event()

    async def _wait(self, asked: str) -> None:
        while not self._steps.get(asked):
            await self._step.wait()
        self._steps[asked] -= 1

    async def run(self, input: RunInput, context: RunContext) -> AsyncIterator[Event]:
        asked = input.text
        self.inputs.append(asked)
        message = context.new_id()
        yield e.TextMessageStart(message_id=message)
        for word in asked.split():
            await self._wait(asked)
            if word == "tool":
                call = context.new_id()
                yield e.ToolCallStart(tool_call_id=call, tool_call_name="look")
                yield e.ToolCallEnd(tool_call_id=call, args='{"at":1}')
                yield e.ToolCallResult(message_id=context.new_id(), tool_call_id=call, content="seen", result="seen")
            else:
                yield e.TextMessageContent(message_id=message, delta=word + " ")
        await self._wait(asked)
        yield e.TextMessageEnd(message_id=message)


class Page:
    """A browser's page, as far as this matters: it keeps the cookie and reads frames."""

    def __init__(self, running: Running, path: str = "/ws/chat") -> None:
        self._running = running
        self._path = path
        self.cookie: str | None = None

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Tab]:
        headers = {} if self.cookie is None else {"Cookie": self.cookie}
        async with self._running.socket(self._path, subprotocols=None, additional_headers=headers) as socket:
            assert socket.response is not None
            if (set_cookie := socket.response.headers.get("Set-Cookie")) is not None:
                self.cookie = set_cookie.split(";")[0]
            yield Tab(socket)


class Tab:
    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def ask(self, text: str, conversation: str = "c-1") -> None:
        await self.socket.send(json.dumps({"message": text, "content": text, "conversation_id": conversation}))

    async def hear(self) -> Said:
        with anyio.fail_after(DEADLINE_S):
            return json.loads(await self.socket.recv())

    async def until(self, kind: str) -> list[Said]:
        frames = [await self.hear()]
        while frames[-1]["type"] != kind:
            frames.append(await self.hear())
        return frames

    async def arrived(self) -> None:
        """The server knows that all that it wrote has arrived: a pong went before the answer to this."""
        pong = await self.socket.ping()
        with anyio.fail_after(DEADLINE_S):
            await pong

    async def is_silent(self) -> bool:
        """Whether nothing was sent to it until now: a broken frame is answered behind all else."""
        await self.socket.send("nonsense")
        return (await self.hear())["type"] == "error"

    def vanish(self) -> None:
        """Without a close frame."""
        self.socket.transport.abort()


def text_of(frames: list[Said]) -> str:
    return "".join(frame["data"]["text"] for frame in frames if frame["type"] == "text")


async def settled(running: Running, connections: int) -> None:
    with anyio.fail_after(DEADLINE_S):
        while running.server.gateway.connections != connections:
            await anyio.sleep(0.01)


async def delivered(running: Running) -> None:
    """The server knows that the first text has arrived."""
    (connection,) = running.server.gateway._connections  # type: ignore[reportPrivateUsage]
    with anyio.fail_after(DEADLINE_S):
        while not any(run.mark.seq > 3 for run in connection._rejoining._runs.values()):  # type: ignore[attr-defined]
            await anyio.sleep(0.01)


async def ended(running: Running, count: int = 1) -> None:
    """So many runs are over."""
    with anyio.fail_after(DEADLINE_S):
        while running.server.gateway.service.runner.active:
            await anyio.sleep(0.01)


async def deaf(running: Running, path: str, said: Said | None, until: bytes, cookie: str = "") -> None:
    """A client that answers no ping: it says this, reads until that, and vanishes."""
    (await listening(running, path, said, until, cookie)).vanish()


async def listening(running: Running, path: str, said: Said | None, until: bytes, cookie: str = "") -> RawClient:
    """The same before it vanishes."""
    client = await connect(running.port)
    cookies = f"Cookie: {cookie}\r\n" if cookie else ""
    await client.say(
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{cookies}"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
    )
    with anyio.fail_after(DEADLINE_S):
        await client.hear_until(b"\r\n\r\n")
        if said is not None:
            await client.say(frame(said))
        await client.hear_until(until)
    return client


# --- tool-calls ---------------------------------------------------------------------------------------------------


async def test_the_cookie_is_for_this_path_and_not_for_scripts() -> None:
    async with serving() as running, running.socket("/ws/chat", subprotocols=None) as socket:
        assert socket.response is not None
        name, *attributes = socket.response.headers["Set-Cookie"].split("; ")
        assert name.startswith("runcast_client=")
        assert set(attributes) == {"Path=/ws/chat", "HttpOnly", "SameSite=Lax"}
    async with running_page() as (running, page, _):
        async with page.open() as tab:
            first = page.cookie
            assert first is not None
            await tab.ask("one")
        page.cookie = None
        async with page.open():
            assert page.cookie != first


@asynccontextmanager
async def running_page(path: str = "/ws/chat") -> AsyncGenerator[tuple[Running, Page, Steps]]:
    agent = Steps()
    async with serving(agent) as running:
        yield running, Page(running, path), agent


@pytest.mark.parametrize("deliberate", [True, False])
async def test_a_new_socket_goes_on_where_the_lost_one_was(deliberate: bool) -> None:
    async with running_page() as (running, page, agent):
        async with page.open() as tab:
            await tab.ask("one two tool three")
            assert await tab.hear() == {"type": "thinking", "data": {"message": "Processing..."}}
            agent.step("one two tool three")
            assert (await tab.hear())["data"] == {"text": "one ", "conversation_id": "c-1"}
            if not deliberate:
                tab.vanish()
        await settled(running, 0)
        agent.step("one two tool three", 2)
        async with page.open() as tab:
            frames = await tab.until("tool_call_end")
            agent.step("one two tool three", 2)
            frames += await tab.until("complete")
        whole = text_of(frames)
        assert whole in ("one two three ", "two three ")  # the first piece again, if its pong was not there yet
        assert frames[-1]["data"]["message"] == "one two three "
        assert [frame["type"] for frame in frames].count("complete") == 1
        assert agent.inputs == ["one two tool three"]


async def test_what_was_answered_is_not_said_again() -> None:
    async with running_page() as (running, page, agent):
        async with page.open() as tab:
            await tab.ask("one two")
            agent.step("one two")
            await tab.until("text")
            await tab.socket.send("nonsense")  # it says something: it has what was written
            await delivered(running)
        await settled(running, 0)
        agent.step("one two", 2)
        async with page.open() as tab:
            frames = await tab.until("complete")
            assert [frame["type"] for frame in frames] == ["text", "complete"]
            assert frames[0]["data"]["text"] == "two "
            assert await tab.is_silent()


async def test_pongs_alone_are_enough() -> None:
    async with running_page() as (running, page, agent):
        async with page.open() as tab:
            await tab.ask("one two")
            agent.step("one two")
            await tab.until("text")
            await delivered(running)
        await settled(running, 0)
        agent.step("one two", 2)
        async with page.open() as tab:
            assert [frame["type"] for frame in await tab.until("complete")] == ["text", "complete"]


@pytest.mark.parametrize("until", ["Processing", "one ", "tool_call_start", "tool_call_end", "two ", "complete"])
async def test_what_was_not_answered_comes_again_wherever_the_client_vanished(until: str) -> None:
    async with running_page() as (running, page, agent):
        page.cookie = "runcast_client=abcdefghijklmnopqrst"
        agent.step("one tool two", 4)
        asked = {"message": "one tool two", "conversation_id": "c-1"}
        await deaf(running, "/ws/chat", asked, until.encode(), page.cookie)
        await settled(running, 0)
        async with page.open() as tab:
            frames = await tab.until("complete")
            assert [frame["type"] for frame in frames if frame["type"] != "text"] == [
                "thinking",
                "tool_call_start",
                "tool_call_end",
                "complete",
            ]
            assert text_of(frames) == frames[-1]["data"]["message"] == "one two "
            assert await tab.is_silent()
        assert agent.inputs == ["one tool two"]


async def test_exactly_one_new_socket_gets_it() -> None:
    async with running_page() as (running, page, agent):
        async with page.open() as tab:
            await tab.ask("one")
            await tab.until("thinking")
        await settled(running, 0)
        async with page.open() as first, page.open() as second:
            agent.step("one", 2)
            assert (await first.until("complete"))[-1]["data"]["message"] == "one "
            assert await second.is_silent()
        await settled(running, 0)
        async with page.open() as third:
            assert await third.is_silent()


async def test_an_end_that_came_meanwhile_is_told_and_another_browser_gets_nothing() -> None:
    async with running_page() as (running, page, agent):
        async with page.open() as tab:
            await tab.ask("one")
            await tab.until("thinking")
        await settled(running, 0)
        agent.step("one", 2)
        await ended(running)
        async with Page(running).open() as stranger:
            assert await stranger.is_silent()
        async with page.open() as tab:
            assert (await tab.until("complete"))[-1]["data"]["conversation_id"] == "c-1"


async def test_a_socket_that_is_lost_again_leaves_it_to_the_next() -> None:
    async with running_page() as (running, page, agent):
        async with page.open() as tab:
            await tab.ask("one two three")
            await tab.until("thinking")
        for _ in range(3):
            await settled(running, 0)
            agent.step("one two three")
            async with page.open() as tab:
                await tab.until("text")
        await settled(running, 0)
        agent.step("one two three")
        async with page.open() as tab:
            assert (await tab.until("complete"))[-1]["data"]["message"] == "one two three "
        assert agent.inputs == ["one two three"]


async def test_of_several_conversations_each_new_socket_gets_only_the_ends() -> None:
    async with running_page() as (running, page, agent):
        async with page.open() as one, page.open() as two:
            page_cookie = page.cookie
            await one.ask("one", "c-1")
            await two.ask("two", "c-2")
            await one.until("thinking")
            await two.until("thinking")
        page.cookie = page_cookie
        await settled(running, 0)
        async with page.open() as one, page.open() as two:
            agent.step("one", 2)
            agent.step("two", 2)
            for tab in (one, two):
                frames = [await tab.hear(), await tab.hear()]
                assert [frame["type"] for frame in frames] == ["complete", "complete"]
                assert {frame["data"]["conversation_id"] for frame in frames} == {"c-1", "c-2"}
        assert sorted(agent.inputs) == ["one", "two"]


async def test_a_message_whose_client_vanishes_at_once_is_answered_once() -> None:
    async with running_page() as (running, page, agent):
        async with page.open() as tab:
            await tab.ask("one")
            tab.vanish()
        await settled(running, 0)
        agent.step("one", 2)
        async with page.open() as tab:
            if agent.inputs:
                assert (await tab.until("complete"))[-1]["data"]["message"] == "one "
        assert agent.inputs in ([], ["one"])


async def test_a_tabs_second_socket_hears_nothing_of_the_first_ones_run() -> None:
    async with running_page() as (_, page, agent):
        async with page.open() as one, page.open() as two:
            await two.ask("before")
            agent.step("before", 2)
            await two.until("complete")
            await one.ask("one tool tool")
            agent.step("one tool tool", 4)
            frames = await one.until("complete")
            assert [frame["type"] for frame in frames].count("tool_call_end") == 2  # of the same tool
            assert frames[-1]["data"]["iterations"] == 2
            assert await two.is_silent()


@pytest.mark.parametrize("path", ["/ws/chat", "/ws/s-1"])
async def test_a_refusal_is_only_a_close(path: str) -> None:
    secret = "k7Qv1xTz9bLw3Rj5Ys8Nd2Hf6Gc4Mp0A"
    async with serving(auth="jwt", jwt_secret=secret) as running:
        async with running.socket(path, subprotocols=None) as socket:
            with anyio.fail_after(DEADLINE_S), pytest.raises(websockets.ConnectionClosed):
                await socket.recv()
            assert socket.close_code == 4001


async def test_over_http() -> None:
    async with serving() as running, running.http() as http:
        answer = await http.post("/api/chat/message", json={"message": "Hi there", "conversation_id": None})
        assert answer.status_code == 200
        assert set(answer.json()) == {"message", "tool_calls", "conversation_id"}
        assert answer.json()["message"] == "Hi there "
        assert answer.json()["conversation_id"]
        assert (await http.post("/api/chat/message", json={"message": ""})).json()["detail"] == "Message is required"
        health = await http.get("/api/health")
        assert (health.status_code, health.json()) == (200, {"status": "ok", "message": "Backend is running"})
        assert (await http.post("/api/health")).status_code == 405


async def test_a_conversation_goes_on_by_its_id() -> None:
    async with serving() as running, running.socket("/ws/chat", subprotocols=None) as socket:
        tab = Tab(socket)
        for bad in ("nonsense", "[]", b"\x00", '{"message":""}'):
            await socket.send(bad)
            assert set((await tab.hear())["data"]) == {"error"}
        await tab.ask("Grüß Gott 👩‍👩‍👧", "mine")
        assert (await tab.until("complete"))[-1]["data"]["message"] == "Grüß Gott 👩‍👩‍👧 "
        await tab.ask("again", "mine")
        await tab.until("complete")
        async with running.http() as http:
            assert len((await http.get("/v1/threads")).json()["threads"]) == 1


@asynccontextmanager
async def crashed(tmp_path: Path, *asked: str, agent: Agent | None = None) -> AsyncGenerator[tuple[Running, Page]]:
    """A server after the one before died, in the middle of what a page had asked there, each in a conversation of its own."""
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    steps = Steps()
    async with serving(steps, store=before / "log.db") as running:
        page = Page(running)
        async with page.open() as tab:
            await tab.ask("done", "c-0")
            steps.step("done", 2)
            await tab.until("complete")
            async with page.open() as two:
                for number, (text, one) in enumerate(zip(asked, (tab, two), strict=False), start=1):
                    await one.ask(text, f"c-{number}")
                    steps.step(text)
                    await one.until("text")
                shutil.copytree(before, after)  # as the disk is when the power fails
        cookie = page.cookie
    async with serving(agent or Steps(), store=after / "log.db") as running:
        page = Page(running)
        page.cookie = cookie
        yield running, page


async def test_after_a_crash_the_page_learns_that_its_run_is_over(tmp_path: Path) -> None:
    async with crashed(tmp_path, "one two") as (running, page):
        async with Page(running).open() as stranger:
            assert await stranger.is_silent()
        async with page.open() as tab, page.open() as second:
            assert await tab.hear() == {
                "type": "error",
                "data": {"error": "The server was restarted while this run was under way."},
            }
            assert await tab.is_silent()
            assert await second.is_silent()
        await settled(running, 0)
        async with page.open() as tab:
            assert await tab.is_silent()


async def test_after_a_crash_a_run_that_goes_on_is_told_from_there(tmp_path: Path) -> None:
    class GoesOn(Steps):
        on_crash = "restart"

    agent = GoesOn()
    async with crashed(tmp_path, "one two", agent=agent) as (_, page), page.open() as tab:
        agent.step("one two", 3)
        frames = await tab.until("complete")
    assert text_of(frames) == frames[-1]["data"]["message"] == "one two "
    assert {frame["data"]["conversation_id"] for frame in frames} == {"c-1"}


async def test_after_a_crash_of_several_conversations_each_socket_gets_the_ends(tmp_path: Path) -> None:
    async with crashed(tmp_path, "one two", "three four") as (running, page):
        for _ in range(2):
            async with page.open() as tab:
                assert [(await tab.hear())["type"], (await tab.hear())["type"]] == ["error", "error"]
            await settled(running, 0)


async def test_a_socket_that_is_lost_before_it_learnt_leaves_it_to_the_next(tmp_path: Path) -> None:
    async with crashed(tmp_path, "one two") as (running, page):
        assert page.cookie is not None
        await deaf(running, "/ws/chat", None, b"restarted", page.cookie)
        await settled(running, 0)
        async with page.open() as tab:
            assert (await tab.hear())["type"] == "error"
            assert await tab.is_silent()


# --- partials -----------------------------------------------------------------------------------------------------


async def test_partials_all_sockets_of_a_session_hear_it() -> None:
    async with running_page("/ws/s-1") as (running, page, agent):
        async with page.open() as one, page.open() as two, Page(running, "/ws/s-2").open() as other:
            await one.ask("one tool two")
            agent.step("one tool two", 4)
            frames = [frame["type"] for frame in await one.until("agent")]
            assert frames == [frame["type"] for frame in await two.until("agent")]
            assert frames[0] == "user"
            assert await other.is_silent()


async def test_partials_come_back_in_the_middle() -> None:
    async with running_page("/ws/s-1") as (running, page, agent):
        async with page.open() as tab:
            await tab.ask("tool one tool two")
            assert await tab.hear() == {"type": "user", "content": "tool one tool two"}
        await settled(running, 0)
        async with page.open() as tab:
            assert await tab.hear() == {"type": "agent_partial", "content": ""}  # at once, also an empty one
            agent.step("tool one tool two", 2)
            await tab.until("tool")
            while (await tab.hear())["content"] != "one ":
                pass
            await tab.socket.send("nonsense")
            assert (await tab.hear())["type"] == "error"
        await settled(running, 0)
        async with page.open() as tab:  # the tool was delivered
            assert await tab.hear() == {"type": "agent_partial", "content": "one "}
        await settled(running, 0)
        agent.step("tool one tool two", 1)
        async with page.open() as tab:
            frames = await tab.until("agent_partial")
            while frames[-1]["content"] != "one ":
                frames.append(await tab.hear())
            agent.step("tool one tool two", 2)
            frames += await tab.until("agent")
            assert [frame["type"] for frame in frames].count("tool") == 1
            assert frames[-1]["content"] == "one two "
            assert "user" not in [frame["type"] for frame in frames]


async def test_partials_an_end_that_nobody_got_comes_once() -> None:
    async with running_page("/ws/s-1") as (running, page, agent):
        async with page.open() as tab:
            await tab.ask("one tool")
            await tab.until("user")
        await settled(running, 0)
        agent.step("one tool", 3)
        await ended(running)
        async with page.open() as first, page.open() as second:
            assert [frame["type"] for frame in await first.until("agent")] == ["tool", "agent"]
            assert await first.is_silent()
            assert await second.is_silent()
        await settled(running, 0)
        async with page.open() as tab:
            assert await tab.is_silent()
            await tab.ask("next")
            assert await tab.hear() == {"type": "user", "content": "next"}


async def test_partials_an_end_that_was_given_to_a_socket_that_vanished_comes_again() -> None:
    async with running_page("/ws/s-1") as (running, page, agent):
        agent.step("one tool", 3)
        await deaf(running, "/ws/s-1", {"content": "one tool"}, b'"agent"')
        await settled(running, 0)
        client = await listening(running, "/ws/s-1", None, b'"agent"')
        async with page.open() as tab:
            assert await tab.is_silent()  # the other one is being told
        client.vanish()
        await settled(running, 0)
        async with page.open() as tab:
            assert [frame["type"] for frame in await tab.until("agent")] == ["tool", "agent"]
            assert await tab.is_silent()
        await settled(running, 0)
        async with page.open() as tab:
            assert await tab.is_silent()


async def test_partials_a_delivered_end_is_never_said_again() -> None:
    async with running_page("/ws/s-1") as (running, page, agent):
        async with page.open() as tab:
            await tab.ask("one")
            agent.step("one", 2)
            await tab.until("agent")
            await tab.is_silent()
        await settled(running, 0)
        async with page.open() as tab:
            assert await tab.is_silent()


async def test_partials_after_a_crash_the_end_comes_once(tmp_path: Path) -> None:
    """What went on then ends as interrupted; what had ended before counts as delivered."""
    agent = Steps()
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    async with serving(agent, store=before / "log.db") as running:
        page = Page(running, "/ws/ended")
        async with page.open() as tab:
            await tab.ask("done")
            agent.step("done", 2)
            await tab.until("agent")
        async with Page(running, "/ws/cut-off").open() as tab:
            await tab.ask("one two")
            agent.step("one two")
            await tab.until("agent_partial")
            shutil.copytree(before, after)  # as the disk is when the power fails
    async with serving(Steps(), store=after / "log.db") as running:
        async with Page(running, "/ws/ended").open() as tab:
            assert await tab.is_silent()
        async with Page(running, "/ws/cut-off").open() as tab:
            assert [frame["type"] for frame in await tab.until("error")] == ["error"]
            assert await tab.is_silent()
        await settled(running, 0)
        async with Page(running, "/ws/cut-off").open() as tab:
            assert await tab.is_silent()


async def test_partials_time_limit_in_words() -> None:
    agent = Steps()
    async with serving(agent, run_timeout_s=1) as running, Page(running, "/ws/s-1").open() as tab:
        await tab.ask("never")
        frames = await tab.until("error")
        assert frames[-1]["content"] == "Request timeout (1s). Please try a simpler query."


async def test_partials_bad_frames_and_failures() -> None:
    async def fail(input: RunInput, context: RunContext) -> AsyncIterator[Event]:
        async for event in echo(input, context):
            yield event
        raise RuntimeError("secret")

    async with serving(Told(fail)) as running, Page(running, "/ws/s-1").open() as tab:
        for bad in ("nonsense", "[]", b"\x00", '{"content":""}', '{"content":null}'):
            await tab.socket.send(bad)
            answer = await tab.hear()
            assert answer["type"] == "error"
            assert isinstance(answer["content"], str)
        await tab.ask("one")
        frames = await tab.until("error")
        assert frames[-1]["content"].startswith("Agent error: ")
        assert "secret" not in json.dumps(frames)


@pytest.mark.parametrize("path", ["/ws/chat", "/ws/s-1"])
async def test_a_stop_ends_with_an_error_and_1012(path: str) -> None:
    async with running_page(path) as (running, page, agent), page.open() as tab:
        await tab.ask("one")
        agent.step("one")
        await tab.hear()
        running.process.should_exit = True
        await tab.until("error")
        with anyio.fail_after(DEADLINE_S), pytest.raises(websockets.ConnectionClosed):
            await tab.socket.recv()
        assert tab.socket.close_code == 1012


@pytest.mark.parametrize("path", ["/ws/chat", "/ws/s-1", "/ws/agent", "/ws/agent-thoughts", "/api/v1/chat/stream"])
async def test_what_is_too_long_is_answered_before_the_close(path: str) -> None:
    """The page of `tool-calls` waits for an answer, and would wait on every socket that it opens then."""
    async with serving() as running, running.socket(path, subprotocols=None) as socket:
        await socket.send(json.dumps({"message": "x" * 70_000, "content": "x" * 70_000}))
        heard: list[str | bytes] = []
        with anyio.fail_after(DEADLINE_S), pytest.raises(websockets.ConnectionClosed):
            while True:
                heard.append(await socket.recv())
        assert socket.close_code == 1009
        assert [frame for frame in heard if "A frame has at most 65536 bytes." in str(frame)] == heard[:1]
        assert heard[1:] == (['{"type":"done"}'] if path == "/ws/agent-thoughts" else [])


async def test_what_is_too_long_does_not_end_the_answer_under_way() -> None:
    async with running_page() as (running, page, agent):
        async with page.open() as tab:
            await tab.ask("one")
            await tab.until("thinking")
            await tab.socket.send("x" * 70_000)
            with anyio.fail_after(DEADLINE_S), pytest.raises(websockets.ConnectionClosed):
                await tab.socket.recv()
        await settled(running, 0)
        agent.step("one", 2)
        async with page.open() as tab:
            assert (await tab.until("complete"))[-1]["data"]["message"] == "one "
