"""Durable Streams over HTTP, word by word as the protocol has them (1.0, sections 5.4 to 8)."""

from __future__ import annotations

import json
from typing import Any

import anyio
import httpx
import pytest

from core import DEADLINE_S, Gated
from runcast.transports import durable_streams
from runcast.transports.durable_streams import CURSOR_EPOCH_MS, CURSOR_STEP_MS, cursor_of
from serving import said, serving
from transports.test_http import ask, problem_of

pytestmark = pytest.mark.anyio


def of_run(run: dict[str, Any]) -> str:
    return f"/v1/stream/runs/{run['id']}"


def of_thread(run: dict[str, Any]) -> str:
    return f"/v1/stream/threads/{run['thread']}"


def blocks(text: str) -> list[tuple[str, Any]]:
    """The events of an SSE body, by name; comments left out."""
    found: list[tuple[str, Any]] = []
    for block in text.split("\n\n")[:-1]:
        if not block.startswith(":"):
            name, data = block.split("\n")
            found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


async def test_catch_up_gives_the_log_and_where_it_ends() -> None:
    async with serving() as running, running.http() as http:
        run = await ask(http, "a b c")
        log = (await http.get(f"/v1/threads/{run['thread']}/events")).json()
        tail = f"{log['head']:016d}_{log['epoch']}"
        for offset in ({}, {"offset": "-1"}):
            answer = await http.get(of_thread(run), params=offset)
            assert answer.json() == log["events"]
            assert answer.headers["content-type"] == "application/json"
            assert answer.headers["stream-next-offset"] == tail
            assert answer.headers["stream-up-to-date"] == "true"
            assert answer.headers["cache-control"] == "private, no-store"
            assert "stream-closed" not in answer.headers
        rest = await http.get(of_thread(run), params={"offset": f"{3:016d}_{log['epoch']}"})
        assert rest.json() == log["events"][3:]
        bare = await http.get(of_thread(run), params={"offset": "3"})
        assert bare.json() == log["events"][3:]
        nothing = await http.get(of_thread(run), params={"offset": tail})
        assert (nothing.status_code, nothing.json()) == (200, [])


async def test_a_run_is_closed_behind_its_end_and_an_open_one_is_not() -> None:
    agent = Gated()
    async with serving(agent) as running, running.http() as http:
        sent = (await http.post("/v1/messages", json={"message": "Hi"})).json()
        await agent.reached.wait()
        url = f"/v1/stream/runs/{sent['run']}"
        opened = await http.get(url)
        assert "stream-closed" not in opened.headers
        assert "stream-closed" not in (await http.head(url)).headers
        agent.gate.set()
        run = (await http.get(f"/v1/runs/{sent['run']}?wait=10")).json()
        rest = await http.get(url, params={"offset": opened.headers["stream-next-offset"]})
        whole = await http.get(url)
        assert opened.json() + rest.json() == whole.json()
        assert whole.headers["stream-closed"] == rest.headers["stream-closed"] == "true"
        assert whole.headers["stream-next-offset"].startswith(f"{run['lastSeq']:016d}_")
        assert opened.headers["etag"] != whole.headers["etag"]
        head = await http.head(url)
        assert (head.status_code, head.content) == (200, b"")
        for name in ("stream-next-offset", "stream-closed", "content-type"):
            assert head.headers[name] == whole.headers[name]


async def test_another_run_of_the_thread_is_not_in_it() -> None:
    async with serving() as running, running.http() as http:
        one = await ask(http, "one")
        await http.post(f"/v1/threads/{one['thread']}/messages?wait=10", json={"message": "two"})
        events = (await http.get(of_run(one))).json()
        assert {event["runId"] for event in events} == {one["id"]}
        both = (await http.get(of_thread(one))).json()
        assert said(both) == "one two "


@pytest.mark.parametrize("of", [of_run, of_thread])
async def test_more_than_a_page_is_given_at_once(of: Any) -> None:
    async with serving() as running, running.http() as http:
        run = await ask(http, " ".join(str(n) for n in range(700)))
        events = (await http.get(of(run))).json()
        assert [event["seq"] for event in events][-1] >= 700
        assert len({event["seq"] for event in events}) == len(events)
        assert said(events) == run["text"]


async def test_if_none_match() -> None:
    async with serving() as running, running.http() as http:
        run = await ask(http)
        etag = (await http.get(of_thread(run))).headers["etag"]
        same = await http.get(of_thread(run), headers={"if-none-match": f'"x", W/{etag}'})
        assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", etag)
        await http.post(f"/v1/threads/{run['thread']}/messages?wait=10", json={"message": "more"})
        assert (await http.get(of_thread(run), headers={"if-none-match": etag})).status_code == 200


async def test_now_is_the_tail() -> None:
    async with serving() as running, running.http() as http:
        run = await ask(http)
        whole = await http.get(of_thread(run))
        now = await http.get(of_thread(run), params={"offset": "now"})
        assert now.json() == []
        assert now.headers["stream-next-offset"] == whole.headers["stream-next-offset"]
        assert now.headers["stream-up-to-date"] == "true"
        assert "etag" not in now.headers


async def test_long_poll_waits_for_the_next_event_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = Gated()
    async with serving(agent) as running, running.http() as http:
        sent = (await http.post("/v1/messages", json={"message": "Hi"})).json()
        await agent.reached.wait()
        url = f"/v1/stream/runs/{sent['run']}"
        tail = (await http.head(url)).headers["stream-next-offset"]
        monkeypatch.setattr(durable_streams, "LONG_POLL_S", 0.05)
        nothing = await http.get(url, params={"offset": tail, "live": "long-poll", "cursor": "9999999"})
        assert (nothing.status_code, nothing.content) == (204, b"")
        assert nothing.headers["stream-next-offset"] == tail
        assert nothing.headers["stream-up-to-date"] == "true"
        assert int(nothing.headers["stream-cursor"]) > 9999999
        monkeypatch.setattr(durable_streams, "LONG_POLL_S", DEADLINE_S)
        answers: list[httpx.Response] = []

        async def poll(offset: str) -> None:
            answers.append(await http.get(url, params={"offset": offset, "live": "long-poll"}))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(poll, tail)
            tasks.start_soon(poll, "now")
            while running.server.gateway.connections < 2:
                await anyio.sleep(0.01)
            agent.gate.set()
        for answer in answers:
            assert answer.status_code == 200
            assert answer.json()[0]["seq"] == int(tail[:16]) + 1
            assert "stream-cursor" in answer.headers
        await http.get(f"/v1/runs/{sent['run']}?wait=10")
        end = (await http.head(url)).headers["stream-next-offset"]
        closed = await http.get(url, params={"offset": end, "live": "long-poll"})
        assert (closed.status_code, closed.headers["stream-closed"]) == (204, "true")


async def test_sse_tells_after_each_batch_where_it_stands() -> None:
    async with serving() as running, running.http() as http:
        run = await ask(http, "a b")
        answer = await http.get(of_run(run), params={"offset": "-1", "live": "sse"})
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["x-accel-buffering"] == "no"
        assert "\nid:" not in answer.text
        events = blocks(answer.text)
        assert [name for name, _ in events] == ["data", "control"]
        assert events[0][1] == (await http.get(of_run(run))).json()
        control = events[1][1]
        assert control["streamNextOffset"] == (await http.head(of_run(run))).headers["stream-next-offset"]
        assert (control["streamClosed"], control["upToDate"]) == (True, True)
        assert control["streamCursor"].isdigit()
        again = await http.get(of_run(run), params={"offset": control["streamNextOffset"], "live": "sse"})
        assert blocks(again.text)[0][1]["streamClosed"] is True


async def test_sse_is_ended_cleanly_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable_streams, "SSE_S", 0.2)
    async with serving() as running, running.http() as http:
        run = await ask(http)
        for offset in ("-1", "now"):
            answer = await http.get(of_thread(run), params={"offset": offset, "live": "sse"})
            name, control = blocks(answer.text)[-1]
            assert (name, control["upToDate"]) == ("control", True)
            assert control["streamNextOffset"].startswith(f"{run['lastSeq']:016d}_")
            assert "streamClosed" not in control


async def test_sse_gives_messages_as_the_log_has_them_however_far_it_lags() -> None:
    """Section 7.1: the boundaries of messages are the same for everybody, so nothing is joined."""
    async with serving() as running, running.http() as http:
        run = await ask(http, " ".join(str(n) for n in range(300)))
        answer = await http.get(of_run(run), params={"offset": "-1", "live": "sse"})
        events = [event for name, data in blocks(answer.text) if name == "data" for event in data]
        assert events == (await http.get(of_run(run))).json()


async def test_an_offset_of_another_log_is_gone() -> None:
    async with serving() as running, running.http() as http:
        run = await ask(http)
        for url in (of_run(run), of_thread(run)):
            for offset in (f"{3:016d}_otherlog", "999"):
                for live in ({}, {"live": "long-poll"}, {"live": "sse"}):
                    problem_of(await http.get(url, params={"offset": offset, **live}), 410, "trimmed")


@pytest.mark.parametrize(
    "query", ["offset=x", "offset=", "offset=1&offset=2", "offset=-1&live=no", "live=sse", "live=long-poll"]
)
async def test_what_is_no_request(query: str) -> None:
    async with serving() as running, running.http() as http:
        run = await ask(http)
        problem_of(await http.get(f"{of_run(run)}?{query}"), 400, "invalid_request")


async def test_it_is_only_read() -> None:
    async with serving() as running, running.http() as http:
        run = await ask(http)
        for method in ("PUT", "POST", "DELETE", "PATCH"):
            refused = await http.request(method, of_run(run), content=b"[]")
            problem_of(refused, 405, "method_not_allowed")
            assert refused.headers["allow"] == "GET, HEAD"


async def test_what_is_deleted_is_gone_also_for_who_reads_it() -> None:
    async with serving() as running, running.http() as http:
        run = await ask(http)
        async with http.stream("GET", of_thread(run), params={"offset": "-1", "live": "sse"}) as answer:
            text = answer.aiter_text()
            read = ""
            while "event: control" not in read:
                read += await anext(text)
            await http.delete(f"/v1/threads/{run['thread']}")
            with anyio.fail_after(DEADLINE_S):
                async for more in text:
                    read += more
        assert "streamClosed" not in read
        for method in ("GET", "HEAD"):
            assert (await http.request(method, of_thread(run))).status_code == 404
        assert (await http.get("/v1/stream/runs/nowhere")).status_code == 404


async def test_a_server_that_stops_says_come_again() -> None:
    """A clean end without `streamClosed`: the client asks again with its offset, until somebody answers."""
    async with serving() as running, running.http() as http:
        run = await ask(http)
        async with http.stream("GET", of_thread(run), params={"offset": "now", "live": "sse"}) as answer:
            with anyio.fail_after(DEADLINE_S):
                read = ""
                async for more in answer.aiter_text():
                    read += more
                    if "event: control" in read:
                        running.process.should_exit = True
        assert "streamClosed" not in read


async def test_pages_of_other_origins_may_read_where_they_stand() -> None:
    """Fetch, section 3.2.3: a header that is not exposed does not exist for them."""
    async with serving() as running, running.http() as http:
        run = await ask(http)
        answer = await http.get(of_run(run), headers={"origin": "http://localhost:5173"})
        exposed = answer.headers["access-control-expose-headers"].split(", ")
        assert {"stream-next-offset", "stream-up-to-date", "stream-closed", "stream-cursor", "etag"} <= set(exposed)


def test_cursors_never_stand_still() -> None:
    """Section 8.1."""
    now = CURSOR_EPOCH_MS + 7 * CURSOR_STEP_MS + 5
    assert cursor_of(now, None) == "7"
    assert cursor_of(now, "6") == "7"
    assert cursor_of(now, "junk") == "7"
    assert all(7 < int(cursor_of(now, "7")) <= 7 + 180 for _ in range(100))
    assert int(cursor_of(now, "1000")) > 1000
