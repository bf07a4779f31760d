"""Server-sent events, read as the standard says and compared byte for byte where clients are picky."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
import msgspec
import pytest

from core import DEADLINE_S, Gated, Told
from runcast import events as e
from runcast.agents.base import RunContext
from runcast.events import Event
from runcast.runs import RunInput
from serving import said, serving
from transports.test_http import ask, problem_of

pytestmark = pytest.mark.anyio
STREAM = {"accept": "text/event-stream"}


class ServerSent(msgspec.Struct):
    """One server-sent event."""

    name: str
    data: Any
    id: str


class Stream:
    """Reads a response as WHATWG HTML, section 9.2.6, says, and keeps its bytes."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.raw = b""
        self.events: list[ServerSent] = []
        self._id = ""
        self._bytes = response.aiter_raw()

    async def next(self) -> ServerSent | None:
        """The next event, perhaps with others behind it; None at the end."""
        count = len(self.events)
        with anyio.fail_after(DEADLINE_S):
            while len(self.events) == count:
                try:
                    self.raw += await anext(self._bytes)
                except StopAsyncIteration:
                    return None
                self._parse()
        return self.events[count]

    async def all(self) -> list[ServerSent]:
        while await self.next() is not None:
            pass
        return self.events

    async def until(self, name: str) -> None:
        while not any(event.name == name for event in self.events):
            assert await self.next() is not None

    def _parse(self) -> None:
        self.events = []
        self._id = ""
        for block in self.raw.decode().split("\n\n")[:-1]:
            name, data = "message", []
            for line in block.split("\n"):
                field, _, value = line.partition(":")
                value = value.removeprefix(" ")
                match field:
                    case "":
                        pass
                    case "event":
                        name = value
                    case "data":
                        data.append(value)
                    case "id":
                        self._id = value
                    case other:
                        raise AssertionError(f"unexpected field {other!r}")
            if data:
                assert len(data) == 1
                self.events.append(ServerSent(name, msgspec.json.decode(data[0]), self._id))


@asynccontextmanager
async def reading(http: httpx.AsyncClient, method: str, url: str, **options: Any) -> AsyncIterator[Stream]:
    headers = STREAM | options.pop("headers", {})
    async with http.stream(method, url, headers=headers, **options) as response:
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert response.headers["cache-control"] == "no-store"
        assert response.headers["x-accel-buffering"] == "no"
        yield Stream(response)


async def test_first_comment_comes_at_once() -> None:
    agent = Gated()
    async with serving(agent) as running, running.http() as http:
        sent = (await http.post("/v1/messages", json={"message": "Hi"})).json()
        await agent.reached.wait()
        async with reading(http, "GET", f"/v1/runs/{sent['run']}/events", headers={"last-event-id": "2"}) as stream:
            with anyio.fail_after(DEADLINE_S):
                assert (await anext(stream.response.aiter_raw())).startswith(b": open\n\n")
        agent.gate.set()


async def test_framing_is_what_every_client_reads() -> None:
    """LF only, one `data:` line, `id:` with each event, no `retry:`; text that looks like framing stays inside (attack 50)."""
    evil = "\r\n\r\ndata: {}\n\nid: 7\u2028\u2029\0 :"

    async def hostile(input: RunInput, context: RunContext) -> AsyncIterator[Event]:
        yield e.TextMessageStart(message_id="m")
        yield e.TextMessageContent(message_id="m", delta=evil)
        yield e.TextMessageEnd(message_id="m")

    async with serving(Told(hostile)) as running, running.http() as http:
        async with reading(http, "POST", "/v1/messages", json={"message": "Hi"}) as stream:
            events = await stream.all()
        assert b"\r" not in stream.raw
        assert b"retry:" not in stream.raw
        assert said([event.data for event in events]) == evil
        assert events[-1].data["type"] == "RUN_FINISHED"
        assert stream.response.headers["runcast-run"] == events[0].data["runId"]
        epochs = {event.id.split(":")[0] for event in events}
        assert len(epochs) == 1
        assert [int(event.id.split(":")[1]) for event in events] == [event.data["seq"] for event in events]


async def test_run_stream_ends_cleanly_with_its_run() -> None:
    async with serving() as running, running.http() as http:
        run = await ask(http)
        async with reading(http, "GET", f"/v1/runs/{run['id']}/events") as stream:
            events = await stream.all()
        assert said([event.data for event in events]) == run["text"]
        assert events[-1].data["seq"] == run["lastSeq"]
        done = await http.get(f"/v1/runs/{run['id']}/events", headers=STREAM | {"last-event-id": events[-1].id})
        assert (done.status_code, done.content) == (204, b"")


async def test_resume_with_last_event_id_wins_over_after() -> None:
    """I7."""
    async with serving() as running, running.http() as http:
        run = await ask(http, "a b c d")
        url = f"/v1/runs/{run['id']}/events"
        async with reading(http, "GET", url) as stream:
            whole = await stream.all()
        epoch = whole[0].id.split(":")[0]
        for cut in range(1, run["lastSeq"]):
            headers = {"last-event-id": f"{epoch}:{cut}"}
            async with reading(http, "GET", url, params={"after": 0}, headers=headers) as stream:
                rest = await stream.all()
            assert rest[0].data.get("from", rest[0].data["seq"]) == cut + 1
            assert rest[-1].data["seq"] == run["lastSeq"]


async def test_thread_stream_without_cursor_begins_with_a_snapshot() -> None:
    async with serving() as running, running.http() as http:
        run = await ask(http)
        async with reading(http, "GET", f"/v1/threads/{run['thread']}/events") as stream:
            await stream.until("caught_up")
            snapshot, caught_up = stream.events
            assert (snapshot.name, snapshot.data["op"], snapshot.data["seq"]) == (
                "snapshot",
                "snapshot",
                run["lastSeq"],
            )
            assert snapshot.id.endswith(f":{run['lastSeq']}")
            assert caught_up.data["seq"] == run["lastSeq"]
            await http.post(f"/v1/threads/{run['thread']}/messages", json={"message": "live"})
            while not any(event.data.get("type") == "RUN_FINISHED" for event in stream.events):
                await stream.next()
            assert said([event.data for event in stream.events]) == "live "


@pytest.mark.parametrize(("cursor", "reason"), [("otherepoch:1", "epoch"), ("99999", "ahead")])
async def test_foreign_cursor_gives_resync_then_snapshot(cursor: str, reason: str) -> None:
    async with serving() as running, running.http() as http:
        run = await ask(http)
        url = f"/v1/threads/{run['thread']}/events"
        async with reading(http, "GET", url, headers={"last-event-id": cursor}) as stream:
            await stream.until("caught_up")
            assert [event.name for event in stream.events] == ["resync", "snapshot", "caught_up"]
            assert stream.events[0].data["reason"] == reason
            assert stream.events[1].id.split(":")[0] != "otherepoch"


@pytest.mark.parametrize(("cursor", "reason"), [("otherepoch:3", "epoch"), ("99999", "ahead")])
async def test_foreign_cursor_gives_resync_then_the_whole_run(cursor: str, reason: str) -> None:
    async with serving() as running, running.http() as http:
        run = await ask(http)
        async with reading(http, "GET", f"/v1/runs/{run['id']}/events", headers={"last-event-id": cursor}) as stream:
            events = await stream.all()
        assert (events[0].name, events[0].data["reason"], events[0].id) == ("resync", reason, "")
        assert (events[1].data["seq"], events[-1].data["seq"]) == (1, run["lastSeq"])
        assert said([event.data for event in events]) == run["text"]


async def test_bad_last_event_id_is_refused() -> None:
    async with serving() as running, running.http() as http:
        run = await ask(http)
        response = await http.get(f"/v1/threads/{run['thread']}/events", headers=STREAM | {"last-event-id": "x;y"})
        problem_of(response, 422, "invalid_request")
        assert (await http.get("/v1/threads/nowhere/events", headers=STREAM)).status_code == 404


async def test_deleted_thread_ends_its_stream_with_a_word() -> None:
    async with serving() as running, running.http() as http:
        run = await ask(http)
        async with reading(http, "GET", f"/v1/threads/{run['thread']}/events") as stream:
            await stream.until("caught_up")
            await http.delete(f"/v1/threads/{run['thread']}")
            events = await stream.all()
        assert (events[-1].name, events[-1].data["reason"]) == ("resync", "deleted")


async def test_a_stopping_server_cuts_streams_without_end() -> None:
    """Never a clean end without the protocol's last word: a client would take it for success."""
    async with serving() as running, running.http() as http:
        run = await ask(http)
        with pytest.raises(httpx.RemoteProtocolError):
            async with reading(http, "GET", f"/v1/threads/{run['thread']}/events") as stream:
                await stream.until("caught_up")
                running.process.should_exit = True
                await stream.all()


async def test_a_stopping_server_ends_run_streams_with_the_runs_end() -> None:
    agent = Gated()
    async with serving(agent) as running, running.http() as http:
        async with reading(http, "POST", "/v1/messages", json={"message": "Hi"}) as stream:
            await agent.reached.wait()
            running.process.should_exit = True
            events = await stream.all()
        assert (events[-1].data["type"], events[-1].data["code"]) == ("RUN_ERROR", "interrupted")


async def test_a_client_that_goes_away_is_forgotten_and_its_run_goes_on() -> None:
    agent = Gated()
    async with serving(agent) as running, running.http() as http:
        async with reading(http, "POST", "/v1/messages", json={"message": "Hi"}) as stream:
            await stream.next()
            run = stream.response.headers["runcast-run"]
            assert running.server.gateway.connections == 1
        with anyio.fail_after(DEADLINE_S):
            while running.server.gateway.connections:
                await anyio.sleep(0.01)
        agent.gate.set()
        assert (await http.get(f"/v1/runs/{run}?wait=10")).json()["status"] == "done"


async def test_silence_is_filled_with_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runcast.transports.sse.PING_S", 0.05)
    agent = Gated()
    async with serving(agent) as running, running.http() as http:
        async with reading(http, "POST", "/v1/messages", json={"message": "Hi"}) as stream:
            await agent.reached.wait()
            with anyio.fail_after(DEADLINE_S):
                async for chunk in stream.response.aiter_raw():
                    if chunk == b": ping\n\n":
                        break
        agent.gate.set()
