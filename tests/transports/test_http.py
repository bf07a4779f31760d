"""The native HTTP routes over a real server."""

from __future__ import annotations

import gzip
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from core import DEADLINE_S, Gated, Told, echo
from runcast import events as e
from runcast.agents.base import RunContext
from runcast.errors import AgentError
from runcast.events import Event
from runcast.running import Runner
from runcast.runs import RunInput
from runcast.stores.sqlite import SqliteStore
from serving import Running, said, serving
from transports.test_websocket import Tokens

pytestmark = pytest.mark.anyio

UNKNOWN = "01a1fa7b-ab34-7183-bd3c-000000000000"


def problem_of(
    response: httpx.Response, status: int, code: str, media_type: str = "application/problem+json"
) -> dict[str, Any]:
    """The problem that a response is, as RFC 9457 wants it."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == media_type
    problem = response.json()
    assert problem["status"] == status
    assert problem["code"] == code
    assert problem["requestId"] == response.headers["x-request-id"]
    assert problem["type"] and problem["title"] and problem["detail"]
    return problem


async def ask(http: httpx.AsyncClient, text: str = "one two", **fields: Any) -> dict[str, Any]:
    """A finished run."""
    answer = await http.post("/v1/messages?wait=10", json={"message": text, **fields})
    assert answer.status_code == 200, answer.text
    return answer.json()


# --- threads ------------------------------------------------------------------------------------------------------


async def test_threads_are_made_listed_changed_and_deleted() -> None:
    async with serving() as running, running.http() as http:
        made = await http.post("/v1/threads", json={"title": "Plans"})
        assert made.status_code == 201
        id = made.json()["id"]
        assert made.headers["location"] == f"/v1/threads/{id}"
        assert (await http.post("/v1/threads")).status_code == 201
        assert {thread["id"] for thread in (await http.get("/v1/threads")).json()["threads"]} >= {id}
        changed = await http.patch(f"/v1/threads/{id}", json={"title": "Better plans", "pinned": True})
        assert (changed.json()["title"], changed.json()["pinned"]) == ("Better plans", True)
        view = (await http.get(f"/v1/threads/{id}")).json()
        assert view["thread"]["title"] == view["transcript"]["title"] == "Better plans"
        assert (view["seq"], view["epoch"]) == (view["thread"]["head"], view["thread"]["epoch"])
        assert (await http.delete(f"/v1/threads/{id}")).status_code == 204
        problem_of(await http.get(f"/v1/threads/{id}"), 404, "not_found")
        problem_of(await http.delete(f"/v1/threads/{id}"), 404, "not_found")


async def test_threads_are_found_page_by_page() -> None:
    async with serving() as running, running.http() as http:
        ids = [(await http.post("/v1/threads", json={"title": f"T{n}"})).json()["id"] for n in range(5)]
        seen: list[str] = []
        cursor = None
        while True:
            page = (await http.get("/v1/threads", params={"limit": 2} | ({"cursor": cursor} if cursor else {}))).json()
            seen += [thread["id"] for thread in page["threads"]]
            if (cursor := page["cursor"]) is None:
                break
        assert sorted(seen) == sorted(ids)


async def test_create_thread_twice_with_one_key() -> None:
    """I5."""
    async with serving() as running, running.http() as http:
        answers = [
            await http.post("/v1/threads", json={"title": "A"}, headers={"idempotency-key": "k1"}) for _ in range(2)
        ]
        assert answers[0].json()["id"] == answers[1].json()["id"]
        other = await http.post("/v1/threads", json={"title": "B"}, headers={"idempotency-key": "k1"})
        problem_of(other, 409, "idempotency_conflict")
        problem_of(await http.post("/v1/threads", headers={"idempotency-key": "no spaces"}), 422, "invalid_request")
        problem_of(await http.post("/v1/threads", headers={"idempotency-key": "k" * 129}), 422, "invalid_request")


# --- messages -----------------------------------------------------------------------------------------------------


async def test_message_is_accepted_at_once() -> None:
    agent = Gated()
    async with serving(agent) as running, running.http() as http:
        thread = (await http.post("/v1/threads")).json()["id"]
        sent = await http.post(f"/v1/threads/{thread}/messages", json={"message": {"id": "m1", "content": "Hi"}})
        assert sent.status_code == 202
        assert sent.json()["thread"] == thread
        assert (sent.json()["seq"], sent.json()["status"]) == (1, "running")


async def test_wait_gives_the_finished_run_with_its_text() -> None:
    async with serving() as running, running.http() as http:
        run = await ask(http, "one two")
        assert (run["status"], run["text"], run["agent"]) == ("done", "one two ", "echo")
        again = (await http.get(f"/v1/runs/{run['id']}")).json()
        assert again == {**run, "replayed": False} or again == run


async def test_wait_ends_with_its_time() -> None:
    agent = Gated()
    async with serving(agent) as running, running.http() as http:
        run = await http.post("/v1/messages?wait=0.05", json={"message": "Hi"})
        assert (run.status_code, run.json()["status"]) == (200, "running")
        await agent.reached.wait()
        agent.gate.set()
        ended = (await http.get(f"/v1/runs/{run.json()['id']}?wait=10")).json()
        assert (ended["status"], ended["text"]) == ("done", "before after")


async def test_failed_run_says_why() -> None:
    async def failing(input: RunInput, context: RunContext) -> AsyncIterator[Event]:
        yield e.TextMessageStart(message_id="m")
        yield e.TextMessageContent(message_id="m", delta="half ")
        raise AgentError("The model is away.", code="no_model")

    async with serving(Told(failing)) as running, running.http() as http:
        run = await ask(http)
        assert (run["status"], run["code"], run["error"]) == ("failed", "no_model", "The model is away.")
        assert run["text"] == "half "


async def test_message_twice_has_one_effect() -> None:
    """I5: by the message's id, or by the header."""
    async with serving() as running, running.http() as http:
        by_id = [await http.post("/v1/messages", json={"message": {"id": "m1", "content": "Hi"}}) for _ in range(2)]
        assert by_id[0].json()["run"] == by_id[1].json()["run"]
        assert [answer.json()["replayed"] for answer in by_id] == [False, True]
        key = {"idempotency-key": "k-2"}
        by_key = [await http.post("/v1/messages", json={"message": "Hi"}, headers=key) for _ in range(2)]
        assert by_key[0].json()["run"] == by_key[1].json()["run"]
        assert by_key[0].json()["run"] != by_id[0].json()["run"]
        quoted = await http.post("/v1/messages", json={"message": "Hi"}, headers={"idempotency-key": '"k-2"'})
        assert quoted.json()["run"] == by_key[0].json()["run"]
        problem_of(await http.post("/v1/messages", json={"message": "Ho"}, headers=key), 409, "idempotency_conflict")
        both = await http.post("/v1/messages", json={"message": {"id": "other", "content": "Hi"}}, headers=key)
        problem_of(both, 422, "invalid_request")


async def test_cancel_over_http() -> None:
    agent = Gated()
    async with serving(agent) as running, running.http() as http:
        sent = (await http.post("/v1/messages", json={"message": "Hi"})).json()
        await agent.reached.wait()
        assert (await http.post(f"/v1/runs/{sent['run']}/cancel", json={"reason": "enough"})).status_code == 200
        run = (await http.get(f"/v1/runs/{sent['run']}?wait=10")).json()
        assert (run["status"], run["text"]) == ("cancelled", "before ")
        again = (await http.post(f"/v1/runs/{sent['run']}/cancel")).json()
        assert again["status"] == "cancelled"


async def test_edit_and_retry_over_http() -> None:
    async with serving() as running, running.http() as http:
        run = await ask(http, "one")
        key = {"idempotency-key": "edit-1"}
        body = {"message": "eins", "onBusy": "reject"}
        edited = await http.post(f"/v1/runs/{run['id']}/edit", json=body, headers=key)
        assert edited.status_code == 202
        assert (edited.json()["thread"], edited.json()["status"]) == (run["thread"], "running")
        again = await http.post(f"/v1/runs/{run['id']}/edit", json=body, headers=key)
        assert (again.json()["run"], again.json()["replayed"]) == (edited.json()["run"], True)  # I5
        made = (await http.get(f"/v1/runs/{edited.json()['run']}?wait=10")).json()
        assert (made["text"], made.get("parent"), made["messageId"]) == ("eins ", None, "edit-1")
        retried = await http.post(f"/v1/runs/{edited.json()['run']}/retry")
        assert retried.status_code == 202
        made = (await http.get(f"/v1/runs/{retried.json()['run']}?wait=10")).json()
        assert (made["text"], made["messageId"]) == ("eins ", "edit-1")

        thread = f"/v1/threads/{run['thread']}"

        async def runs(query: str = "") -> list[str]:
            return [one["id"] for one in (await http.get(thread + query)).json()["transcript"]["runs"]]

        assert await runs() == [run["id"], edited.json()["run"], made["id"]]
        assert await runs("?run=head") == [made["id"]]
        assert await runs(f"?run={run['id']}") == [run["id"]]
        problem_of(await http.get(f"{thread}?run={UNKNOWN}"), 404, "not_found")
        problem_of(await http.get(f"{thread}?run=a/b"), 404, "not_found")
        problem_of(await http.post(f"/v1/runs/{UNKNOWN}/edit", json={"message": "x"}), 404, "not_found")
        problem_of(await http.post(f"/v1/runs/{UNKNOWN}/retry"), 404, "not_found")
        problem_of(await http.post(f"/v1/runs/{run['id']}/edit", json={"message": " "}), 422, "invalid_request")
        problem_of(await http.post(f"/v1/runs/{run['id']}/edit", json={}), 422, "invalid_request")
        steering = {"message": "x", "onBusy": "steer"}
        problem_of(await http.post(f"/v1/runs/{run['id']}/edit", json=steering), 422, "invalid_request")
        conflict = await http.post(f"/v1/runs/{run['id']}/edit", json={"message": "zwei"}, headers=key)
        problem_of(conflict, 409, "idempotency_conflict")


async def test_steer_over_http() -> None:
    agent = Gated()
    async with serving(agent) as running, running.http() as http:
        sent = (await http.post("/v1/messages", json={"message": "Hi"})).json()
        await agent.reached.wait()
        answer = await http.post(f"/v1/runs/{sent['run']}/steer", json={"message": {"id": "m-2", "content": "faster"}})
        assert answer.status_code == 202
        assert (
            answer.json()["run"] != sent["run"] and answer.json()["status"] == "queued"
        )  # this agent cannot be steered
        agent.gate.set()
        run = (await http.get(f"/v1/runs/{answer.json()['run']}?wait=10")).json()
        assert (run["status"], run["messageId"]) == ("done", "m-2")
        problem_of(await http.post(f"/v1/runs/{UNKNOWN}/steer", json={"message": "x"}), 404, "not_found")


async def test_agents_are_listed() -> None:
    async with serving(Told(echo, "first"), Told(echo, "second")) as running, running.http() as http:
        agents = (await http.get("/v1/agents")).json()["agents"]
        assert [(agent["name"], agent["default"]) for agent in agents] == [("first", True), ("second", False)]
        assert [agent["steerable"] for agent in agents] == [False, False]
        assert agents[0].keys() == {"name", "title", "description", "starters", "default", "steerable"}
        assert (await ask(http, agent="second"))["agent"] == "second"
        problem_of(await http.post("/v1/messages", json={"message": "x", "agent": "third"}), 422, "invalid_request")


# --- events as JSON -----------------------------------------------------------------------------------------------


async def test_events_page_by_page_are_the_whole_log() -> None:
    async with serving() as running, running.http() as http:
        run = await ask(http)
        url = f"/v1/threads/{run['thread']}/events"
        seqs: list[int] = []
        after = 0
        while (page := (await http.get(url, params={"after": after, "limit": 2})).json())["events"]:
            assert len(page["events"]) <= 2
            seqs += [event["seq"] for event in page["events"]]
            after = page["next"]
        assert seqs == list(range(1, run["lastSeq"] + 1))
        assert page["head"] == run["lastSeq"]
        of_run = (await http.get(f"/v1/runs/{run['id']}/events")).json()
        assert {event["runId"] for event in of_run["events"]} == {run["id"]}


async def test_long_poll_returns_as_soon_as_something_comes() -> None:
    agent = Gated()
    async with serving(agent) as running, running.http() as http:
        sent = (await http.post("/v1/messages", json={"message": "Hi"})).json()
        await agent.reached.wait()
        url = f"/v1/threads/{sent['thread']}/events"
        head = (await http.get(url)).json()["next"]
        found: list[dict[str, Any]] = []

        async def poll() -> None:
            found.append((await http.get(url, params={"after": head, "wait": 60})).json())

        with anyio.fail_after(DEADLINE_S):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(poll)
                agent.gate.set()
        assert found[0]["events"][0]["seq"] == head + 1


async def test_long_poll_gives_an_empty_page_when_nothing_comes() -> None:
    async with serving() as running, running.http() as http:
        run = await ask(http)
        page = (
            await http.get(f"/v1/threads/{run['thread']}/events", params={"after": run["lastSeq"], "wait": 0.05})
        ).json()
        assert (page["events"], page["next"], page["head"]) == ([], run["lastSeq"], run["lastSeq"])
        assert "resync" not in page


@pytest.mark.parametrize(("after", "reason"), [("otherepoch:1", "epoch"), ("999999", "ahead")])
async def test_foreign_cursor_is_told_at_once(after: str, reason: str) -> None:
    async with serving() as running, running.http() as http:
        run = await ask(http)
        for url in (f"/v1/threads/{run['thread']}/events", f"/v1/runs/{run['id']}/events"):
            with anyio.fail_after(DEADLINE_S):
                page = (await http.get(url, params={"after": after, "wait": 60})).json()
            assert (page["resync"], page["events"], page["next"]) == (reason, [], 0)


@pytest.mark.parametrize("after", ["-1", "9223372036854775808", "NaN", "1e3", "", "a:b", "x" * 1000, "1" * 5000])
async def test_bad_cursor_is_refused(after: str) -> None:
    async with serving() as running, running.http() as http:
        run = await ask(http)
        problem_of(
            await http.get(f"/v1/threads/{run['thread']}/events", params={"after": after}), 422, "invalid_request"
        )


async def test_inbox_as_json() -> None:
    async with serving() as running, running.http() as http:
        run = await ask(http)
        page = (await http.get("/v1/inbox/events")).json()
        assert any(event.get("threadId") == run["thread"] for event in page["events"])


# --- errors -------------------------------------------------------------------------------------------------------


async def test_not_yours_and_not_there_are_the_same_bytes() -> None:
    """Attack 21."""
    async with serving(authenticator=Tokens()) as running:
        async with running.http(headers={"x-user": "ada"}) as ada, running.http(headers={"x-user": "eve"}) as eve:
            sent = (await ada.post("/v1/messages?wait=10", json={"message": "secret"})).json()
            thread, run = sent["thread"], sent["id"]
            for method, url, body in (
                ("GET", "/v1/threads/{thread}", None),
                ("PATCH", "/v1/threads/{thread}", {"title": "mine"}),
                ("DELETE", "/v1/threads/{thread}", None),
                ("GET", "/v1/threads/{thread}/events", None),
                ("POST", "/v1/threads/{thread}/messages", {"message": "x"}),
                ("GET", "/v1/runs/{run}", None),
                ("GET", "/v1/runs/{run}/events", None),
                ("POST", "/v1/runs/{run}/cancel", {}),
                ("POST", "/v1/interrupts/{run}.1", {}),
            ):
                answers: list[httpx.Response] = []
                for ids in ({"thread": thread, "run": run}, {"thread": UNKNOWN, "run": UNKNOWN}):
                    headers = {"x-request-id": "same"}
                    answers.append(await eve.request(method, url.format(**ids), json=body, headers=headers))
                assert answers[0].status_code == answers[1].status_code == 404, (url, answers[0].text)
                assert answers[0].content == answers[1].content
                assert "secret" not in answers[0].text
            assert (await eve.get("/v1/threads")).json()["threads"] == []
        async with running.http() as nobody:
            problem_of(await nobody.get("/v1/threads"), 401, "unauthenticated")


async def test_every_error_is_a_problem() -> None:
    async with serving() as running, running.http() as http:
        problem_of(await http.get("/v1/nothing"), 404, "not_found")
        problem_of(await http.get("/v1/threads/%00"), 404, "not_found")
        problem_of(await http.get("/v1/threads/" + "x" * 500), 404, "not_found")
        wrong_method = await http.put("/v1/threads")
        problem_of(wrong_method, 405, "method_not_allowed")
        assert "GET" in wrong_method.headers["allow"]
        problem_of(await http.get("/v1/threads?limit=x"), 422, "invalid_request")
        problem_of(await http.get("/v1/threads?limit=0"), 422, "invalid_request")


@pytest.mark.parametrize(
    ("content", "headers", "status", "code"),
    [
        (b"{", {"content-type": "application/json"}, 400, "invalid_json"),
        (b"\xff\xfe", {"content-type": "application/json"}, 400, "invalid_json"),
        (b'{"message":"\\ud800"}', {"content-type": "application/json"}, 400, "invalid_json"),
        (b'{"message":NaN}', {"content-type": "application/json"}, 400, "invalid_json"),
        (b"[1]", {"content-type": "application/json"}, 422, "invalid_request"),
        (b"[" * 1000 + b"]" * 1000, {"content-type": "application/json"}, 422, "invalid_request"),
        (b'{"message":1' + b"0" * 100_000 + b"}", {"content-type": "application/json"}, 422, "invalid_request"),
        (b'{"message":7}', {"content-type": "application/json"}, 422, "invalid_request"),
        (b'{"message":" "}', {"content-type": "application/json"}, 422, "invalid_request"),
        (b'{"message":{"id":"bad id","content":"x"}}', {"content-type": "application/json"}, 422, "invalid_request"),
        (b'{"message":"x"}', {"content-type": "text/plain"}, 415, "unsupported_media_type"),
        (b'{"message":"x"}', {}, 415, "unsupported_media_type"),
        (gzip.compress(b'{"message":"x"}', mtime=0), {"content-type": "application/json", "content-encoding": "gzip"}, 415, "unsupported_media_type"),
        (b" " * (256 * 1024 + 1), {"content-type": "application/json"}, 413, "payload_too_large"),
        (json.dumps({"message": "x" * 40_000}).encode(), {"content-type": "application/json"}, 422, "invalid_request"),
    ],
)  # fmt: skip
async def test_bad_bodies(content: bytes, headers: dict[str, str], status: int, code: str) -> None:
    async with serving() as running, running.http() as http:
        response = await http.post("/v1/messages", content=content, headers=headers)
        if status == 400 and response.status_code == 422:
            code, status = "invalid_request", 422
        problem_of(response, status, code)
        assert (await http.get("/v1/threads")).json()["threads"] == []


async def test_body_without_a_length_is_limited_as_well() -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(300):
            yield b" " * 1024

    async with serving() as running, running.http() as http:
        response = await http.post("/v1/messages", content=endless(), headers={"content-type": "application/json"})
        problem_of(response, 413, "payload_too_large")


async def test_internal_error_is_logged_with_its_id_and_not_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving() as running, running.http() as http:

        async def broken(*args: object, **kwargs: object) -> None:
            raise RuntimeError("canary")

        monkeypatch.setattr(running.server.gateway.service, "list_threads", broken)
        with caplog.at_level(logging.INFO):
            response = await http.get("/v1/threads", headers={"x-request-id": "find-me"})
        problem_of(response, 500, "internal")
        assert "canary" not in response.text
        (record,) = [record for record in caplog.records if record.exc_info and "canary" in str(record.exc_info[1])]
        assert record.__dict__["request_id"] == "find-me"


async def test_request_ids_are_given_back_unless_they_could_harm() -> None:
    async with serving() as running, running.http() as http:
        assert (await http.get("/healthz", headers={"x-request-id": "abc.1"})).headers["x-request-id"] == "abc.1"
        made = (await http.get("/healthz", headers={"x-request-id": "a b<script>"})).headers["x-request-id"]
        assert made != "a b<script>" and made


# --- health -------------------------------------------------------------------------------------------------------


async def test_health_and_readiness(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = Gated()
    async with serving(agent, drain_timeout_s=DEADLINE_S) as running, running.http() as http:
        assert (await http.get("/healthz")).json() == {"status": "ok"}
        assert (await http.head("/healthz")).status_code == 200
        assert (await http.get("/readyz")).json() == {"status": "ok"}
        with monkeypatch.context() as patch:
            patch.setattr(Runner, "healthy", False)
            failing = await http.get("/readyz")
            assert (failing.status_code, failing.json()) == (503, {"status": "failing"})
        await http.post("/v1/messages", json={"message": "Hi"})
        await agent.reached.wait()
        running.server.gateway.drain()
        ready = await http.get("/readyz")
        assert (ready.status_code, ready.json()) == (503, {"status": "draining"})
        refused = problem_of(await http.post("/v1/messages", json={"message": "Hi"}), 503, "unavailable")
        assert refused["retryAfterMs"] > 0
        assert (await http.get("/healthz")).status_code == 200
        agent.gate.set()


async def test_a_store_that_refuses_any_write_is_seen_and_leaves_no_half_conversation(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "a.db")
    assert store._ledger is not None
    database = store._ledger.connection
    try:
        async with serving(store=store) as running, running.http() as http:
            assert (await http.get("/readyz")).status_code == 200
            for method, url, body in (
                ("POST", "/v1/threads", {"title": "x"}),
                ("POST", "/v1/messages", {"message": {"id": "m1", "content": "Hi"}}),
            ):
                database.execute("PRAGMA query_only = ON")
                problem_of(await http.request(method, url, json=body), 503, "storage_unavailable")
                failing = await http.get("/readyz")
                assert (failing.status_code, failing.json()) == (503, {"status": "failing"})
                assert (await http.get("/v1/threads")).json()["threads"] == []
                assert (await http.get("/healthz")).status_code == 200
                database.execute("PRAGMA query_only = OFF")
                await store.probe()
                assert (await http.get("/readyz")).status_code == 200
            sent = await http.post("/v1/messages", json={"message": {"id": "m1", "content": "Hi"}})
            assert (sent.status_code, sent.json()["replayed"]) == (202, False)
    finally:
        await store.close()


async def test_answers_are_not_to_be_kept_or_sniffed() -> None:
    async with serving() as running, running.http() as http:
        for url in ("/v1/threads", "/v1/nothing", "/healthz"):
            headers = (await http.get(url)).headers
            assert headers["cache-control"] == "no-store"
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["cross-origin-resource-policy"] == "same-origin"
            assert "server" not in headers


async def test_access_log_has_no_query(caplog: pytest.LogCaptureFixture) -> None:
    """Attack 19."""
    async with serving() as running, running.http() as http:
        with caplog.at_level(logging.DEBUG):
            await http.get("/v1/threads?q=canary&token=canary")
            async with running.client() as client:
                del client
            async with running.socket("/v1/ws?token=canary"):
                pass
        ours = [record for record in caplog.records if not record.name.startswith(("httpx", "httpcore", "websockets"))]
        assert ours
        assert not any("canary" in record.getMessage() for record in ours)


async def test_stop_wakes_long_polls() -> None:
    agent = Gated()
    async with serving(agent) as running, running.http() as http:
        sent = (await http.post("/v1/messages", json={"message": "Hi"})).json()
        await agent.reached.wait()
        head = (await http.get(f"/v1/threads/{sent['thread']}/events")).json()["next"]
        answers: list[httpx.Response] = []

        async def poll(running: Running) -> None:
            answers.append(await http.get("/v1/inbox/events", params={"after": 9000, "wait": 60}))
            answers.append(await http.get(f"/v1/threads/{sent['thread']}/events", params={"after": head, "wait": 60}))

        with anyio.fail_after(DEADLINE_S):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(poll, running)
                while running.server.gateway.connections == 0:
                    await anyio.sleep(0.01)
                running.process.should_exit = True
        assert answers[0].json()["resync"] == "ahead"
        assert answers[1].status_code == 503 or said(answers[1].json()["events"]) == "" or answers[1].json()["events"]
