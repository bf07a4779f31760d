"""Who may talk to a server at all: peers, hosts and origins (attacks 13-17, 51)."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import websockets
from fastapi import Request
from starlette.responses import Response

from runcast.ids import SystemClock, Uuid7Source
from runcast.session import SUBPROTOCOL
from runcast.transports.bodies import NewThread
from runcast.transports.guard import FORWARDING, Guard, parse_origin
from runcast.transports.http import build_api
from runcast.transports.requests import read_json
from runcast.transports.wire import Message, Scope, printable
from serving import NativeClient, Running, serving
from transports.test_http import problem_of
from transports.test_websocket import Tokens

LISTED = "https://app.example.com"


def guard(*, is_open: bool = True, **options: Any) -> Guard:
    async def app(*args: Any) -> None:
        raise AssertionError("not reached")

    return Guard(app, is_open=is_open, new_id=Uuid7Source(SystemClock()), **options)


def scope(
    *, method: str = "POST", client: tuple[str, int] | None = ("127.0.0.1", 5), host: str | None = "127.0.0.1:8000",
    scheme: str = "http", kind: str = "http", **headers: str,
) -> Scope:  # fmt: skip
    pairs = [(b"host", host.encode())] if host is not None else []
    pairs += [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    return {"type": kind, "method": method, "client": client, "scheme": scheme, "headers": pairs, "path": "/v1/x"}


# --- peers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("client", [("127.0.0.1", 1), ("::1", 1), ("::ffff:127.0.0.1", 1), ("127.3.2.1", 1)])
def test_this_machine_is_served(client: tuple[str, int]) -> None:
    assert guard().refusal(scope(client=client)) is None


@pytest.mark.parametrize("client", [("192.168.1.5", 1), ("::ffff:192.168.1.5", 1), ("testclient", 1), ("", 0), None])
def test_others_are_not_without_authentication(client: tuple[str, int] | None) -> None:
    refusal = guard().refusal(scope(client=client))
    assert refusal is not None
    assert (refusal.status, refusal.code) == (403, "loopback_only")
    assert guard(is_open=False).refusal(scope(client=client)) is None


@pytest.mark.parametrize("header", sorted(FORWARDING))
def test_proxies_are_not_without_authentication(header: bytes) -> None:
    refusal = guard().refusal(scope(**{header.decode().replace("-", "_"): "127.0.0.1"}))
    assert refusal is not None
    assert refusal.code == "loopback_only"


# --- hosts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8000", "127.0.0.1", "[::1]:8000", "LOCALHOST:1", "app.localhost"]
)
def test_loopback_names_are_answered_to(host: str) -> None:
    assert guard().refusal(scope(host=host)) is None


@pytest.mark.parametrize(
    "host",
    ["attacker.test", "attacker.test:8000", "localhost.attacker.test", "127.0.0.1.nip.io", "10.0.0.1", "", "a@localhost", "localhost:8000:9", "localhost/"],
)  # fmt: skip
def test_rebound_names_are_not(host: str) -> None:
    """Attack 16."""
    refusal = guard().refusal(scope(host=host, method="GET"))
    assert refusal is not None
    assert refusal.status == 421


def test_a_request_needs_one_host() -> None:
    doubled = scope()
    doubled["headers"].append((b"host", b"127.0.0.1:8000"))
    for bad in (doubled, scope(host=None)):
        refusal = guard().refusal(bad)
        assert refusal is not None
        assert refusal.status == 400


def test_hosts_may_be_listed() -> None:
    listing = guard(allowed_hosts=["chat.example.com", "*.corp.example"])
    assert listing.refusal(scope(host="chat.example.com:443")) is None
    assert listing.refusal(scope(host="a.b.corp.example")) is None
    assert listing.refusal(scope(host="corp.example")) is not None
    assert listing.refusal(scope(host="evil-corp.example")) is not None
    assert guard(is_open=False).refusal(scope(host="any.example")) is None
    assert guard(is_open=False, allowed_hosts=["chat.example.com"]).refusal(scope(host="any.example")) is not None


# --- origins ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("http://127.0.0.1:8000", True),
        ("http://localhost:5173", True),
        ("http://[::1]:3000", True),
        (LISTED, True),
        ("HTTPS://APP.example.com", True),
        ("https://app.example.com:443", True),
        ("null", False),
        ("https://app.example.com.evil", False),
        ("https://evilapp.example.com", False),
        ("http://app.example.com", False),
        ("https://app.example.com:8443", False),
        ("https://app.example.com.", False),
        ("https://арр.example.com", False),
        ("https://app.example.com/", False),
        ("https://app.example.com@evil.test", False),
        ("https://user@app.example.com", False),
        ("https://app.example.com#x", False),
        ("http://localhost.evil.test", False),
        ("file://", False),
        ("", False),
    ],
)
@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_origins(origin: str, allowed: bool, kind: str) -> None:
    """Attacks 13 and 14."""
    checked = scope(kind=kind)
    checked["headers"].append((b"origin", origin.encode()))
    refusal = guard(allowed_origins=[LISTED]).refusal(checked)
    assert (refusal is None) is allowed
    assert refusal is None or (refusal.status, refusal.code) == (403, "origin_not_allowed")


def test_two_origins_are_refused() -> None:
    doubled = scope(origin=LISTED)
    doubled["headers"].append((b"origin", LISTED.encode()))
    assert guard(allowed_origins=[LISTED]).refusal(doubled) is not None


def test_null_only_if_listed() -> None:
    assert guard(allowed_origins=["null"]).refusal(scope(origin="null")) is None


def test_with_authentication_loopback_pages_are_foreign_too() -> None:
    closed = guard(is_open=False)
    assert closed.refusal(scope(host="chat.example.com", origin="http://localhost:3000")) is not None
    assert closed.refusal(scope(host="chat.example.com", origin="https://chat.example.com", scheme="https")) is None
    assert closed.refusal(scope(host="chat.example.com", origin="http://chat.example.com", scheme="https")) is not None
    assert (
        closed.refusal(scope(host="chat.example.com:8443", origin="https://chat.example.com", scheme="https"))
        is not None
    )
    assert closed.refusal(scope(kind="websocket", scheme="wss", host="c.example", origin="https://c.example")) is None


@pytest.mark.parametrize(
    ("site", "refused"), [("cross-site", True), ("same-site", True), ("same-origin", False), ("none", False)]
)
def test_fetch_metadata_where_origin_is_left_out(site: str, refused: bool) -> None:
    """Attack 17."""
    assert (guard().refusal(scope(sec_fetch_site=site)) is not None) is refused


NAVIGATION = {"sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("headers", "refused"),
    [
        ({"sec_fetch_site": "cross-site", "sec_fetch_mode": "no-cors", "sec_fetch_dest": "image"}, True),
        ({"sec_fetch_site": "same-site", "sec_fetch_mode": "no-cors"}, True),
        ({"sec_fetch_site": "cross-site"}, True),
        ({"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate", "sec_fetch_dest": "iframe"}, True),
        ({"sec_fetch_site": "cross-site", **NAVIGATION}, False),
        ({"sec_fetch_site": "same-origin", "sec_fetch_mode": "cors"}, False),
        ({"sec_fetch_site": "none", **NAVIGATION}, False),
        ({}, False),
        ({"origin": "https://evil.test"}, True),
        ({"origin": "null", "sec_fetch_site": "cross-site"}, True),
        ({"origin": LISTED, "sec_fetch_site": "cross-site", "sec_fetch_mode": "cors"}, False),
        ({"origin": "https://chat.example.com", "sec_fetch_site": "same-origin"}, False),
    ],
)
def test_reads_of_other_sites_pages(method: str, headers: dict[str, str], refused: bool) -> None:
    """Attack 17: `<img src=…/v1/me/export>` and its like, where the browser itself says who asks."""
    everybody = guard(allowed_origins=[LISTED])
    assert (everybody.refusal(scope(method=method, **headers)) is not None) is refused
    closed = guard(is_open=False, allowed_origins=[LISTED])
    asked = scope(method=method, cookie="auth_token=x", **headers)
    assert (closed.refusal(asked) is not None) is refused
    assert closed.refusal(scope(method=method, cookie="x=y", authorization="Bearer x", **headers)) is None
    assert closed.refusal(scope(method=method, **headers)) is None  # nobody says who asks


def test_what_is_public_is_for_all_sites() -> None:
    public = guard(is_public=lambda path: path == "/v1/x")
    assert public.refusal(scope(method="GET", sec_fetch_site="cross-site")) is None
    assert public.refusal(scope(method="POST", sec_fetch_site="cross-site")) is not None


@pytest.mark.anyio
async def test_another_sites_page_reads_nothing() -> None:
    """Attacks 17 and 51, on every route that reads."""
    image = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"}
    async with serving() as running, running.http() as http:
        sent = (await http.post("/v1/messages?wait=10", json={"message": "hi"})).json()
        thread, run = sent["thread"], sent["id"]
        reads = [
            "/v1/me/export", "/v1/threads", "/v1/inbox/events?wait=60", f"/v1/threads/{thread}/events",
            f"/v1/stream/threads/{thread}?offset=now&live=long-poll", f"/v1/stream/runs/{run}",
            f"/api/chat/{thread}/stream?ended=true", f"/ag-ui/echo?threadId={thread}", f"/v1/responses/resp_{run}?stream=true",
            "/openai/v1/models", "/api/auth/session", "/v1/openapi.json",
        ]  # fmt: skip
        for path in reads:
            assert (await http.get(path, headers=image)).status_code == 403, path
        for path in ("/healthz", "/readyz", "/"):
            assert (await http.get(path, headers=image)).status_code != 403, path
        visit = {**image, "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
        assert (await http.get(f"/v1/threads/{thread}", headers=visit)).status_code == 200


def test_one_spelling_of_an_origin() -> None:
    assert parse_origin("HTTP://Example.COM") == parse_origin("http://example.com:80") == "http://example.com:80"
    assert parse_origin("https://[::1]") == "https://[::1]:443"
    assert parse_origin("https://a:b") is None


def test_log_lines_stay_lines() -> None:
    """Attack 45."""
    assert printable("/a\nGET /b\x1b[31m\u2028") == "/a\\nGET /b\\x1b[31m\\u2028"


# --- over a real server -------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_refusals_are_problems_and_closes() -> None:
    async with serving() as running, running.http() as http:
        problem_of(await http.get("/healthz", headers={"host": "attacker.test"}), 421, "host_not_allowed")
        problem_of(await http.get("/healthz", headers={"x-forwarded-for": "1.2.3.4"}), 403, "loopback_only")
        evil = await http.post("/v1/messages", json={"message": "x"}, headers={"origin": "https://evil.test"})
        problem_of(evil, 403, "origin_not_allowed")
        assert "access-control-allow-origin" not in evil.headers
        form = await http.post(
            "/v1/messages",
            content=b'{"message":"x"}',
            headers={"content-type": "text/plain", "sec-fetch-site": "cross-site"},
        )
        problem_of(form, 403, "origin_not_allowed")
        assert (await http.get("/v1/threads")).json()["threads"] == []
        for headers in ({"Origin": "https://evil.test"}, {"X-Forwarded-For": "1.2.3.4"}):
            async with running.socket(additional_headers=headers) as raw:
                client = NativeClient(raw)
                assert await client.close_code() == 4003
                assert client.heard == []


@pytest.mark.anyio
async def test_rebound_websocket_is_closed() -> None:
    async with serving() as running, websockets.connect(
        f"ws://attacker.test:{running.port}/v1/ws", host="127.0.0.1", port=running.port, proxy=None,
        subprotocols=[websockets.Subprotocol(SUBPROTOCOL)],
    ) as raw:  # fmt: skip
        assert await NativeClient(raw).close_code() == 4003


@pytest.mark.anyio
async def test_cors_for_listed_origins_only() -> None:
    """Attack 51."""
    async with serving(allowed_origins=[LISTED]) as running, running.http() as http:

        async def preflight(origin: str) -> httpx.Response:
            headers = {"origin": origin, "access-control-request-method": "POST"}
            return await http.options("/v1/messages", headers=headers)

        allowed = await preflight(LISTED)
        assert allowed.status_code == 204
        assert allowed.headers["access-control-allow-origin"] == LISTED
        assert allowed.headers["access-control-allow-credentials"] == "true"
        assert "PATCH" in allowed.headers["access-control-allow-methods"]
        assert "idempotency-key" in allowed.headers["access-control-allow-headers"]
        assert "origin" in allowed.headers["vary"].lower()
        refused = await preflight("https://evil.test")
        problem_of(refused, 403, "origin_not_allowed")
        answer = await http.get("/v1/nothing", headers={"origin": LISTED})
        assert answer.headers["access-control-allow-origin"] == LISTED
        foreign = await http.get("/v1/agents", headers={"origin": "https://evil.test"})
        assert "access-control-allow-origin" not in foreign.headers
        assert foreign.headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.anyio
async def test_with_authentication_proxies_are_served() -> None:
    async with serving(authenticator=Tokens()) as running, running.http() as http:
        headers = {"x-user": "ada", "x-forwarded-for": "1.2.3.4", "host": "chat.example.com"}
        assert (await http.get("/v1/agents", headers=headers)).status_code == 200


@pytest.mark.anyio
async def test_an_exception_in_an_answer_cuts_it() -> None:
    from runcast.transports.wire import StreamCut

    async def half(scope: Scope, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise RuntimeError("canary")

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    outer = Guard(half, is_open=True, new_id=Uuid7Source(SystemClock()))
    with pytest.raises(StreamCut):
        await outer(scope(method="GET"), receive, send)
    assert sent[-1]["more_body"] is True


# --- the paths of dialects ----------------------------------------------------------------------------------------


@asynccontextmanager
async def with_dialect() -> AsyncGenerator[Running]:
    """A server in which everything below /api and /ws is a dialect's, as far as guard and errors go."""
    async with serving(authenticator=Tokens(), allowed_origins=[LISTED]) as running:
        server = running.server
        server._guard._is_dialect = lambda path: path.startswith(("/api/", "/ws"))
        server._guard._last_words = lambda path: ('{"type":"error"}',) if path == "/ws" else ()
        app = build_api(server.gateway)

        @app.post("/api/ask")
        async def chat(request: Request, limit: int = 1) -> Response:
            await server.gateway.identify_scope(request.scope)
            await read_json(request, NewThread)
            return Response(b"{}", media_type="application/json", headers={"vary": "Accept"})

        server._api = app  # type: ignore[assignment]
        yield running


@pytest.mark.anyio
async def test_errors_of_dialects_are_plain_json_with_a_detail() -> None:
    ada = {"x-user": "ada", "origin": LISTED, "content-type": "application/json"}
    async with with_dialect() as running, running.http() as http:
        asked: list[tuple[int, str, str, dict[str, Any]]] = [
            (401, "POST", "/api/ask", {"headers": {"origin": LISTED}}),
            (403, "POST", "/api/ask", {"headers": {**ada, "origin": "https://evil.test"}}),
            (404, "GET", "/api/nothing", {"headers": ada}),
            (405, "PUT", "/api/ask", {"headers": ada}),
            (413, "POST", "/api/ask", {"headers": ada, "content": b'{"title":"' + b"x" * 300_000 + b'"}'}),
            (415, "POST", "/api/ask", {"headers": {**ada, "content-type": "text/plain"}, "content": b"{}"}),
            (422, "POST", "/api/ask", {"headers": ada, "content": b'{"title":7}'}),
            (422, "POST", "/api/ask?limit=x", {"headers": ada, "content": b"{}"}),
            (400, "POST", "/api/ask", {"headers": ada, "content": b"{"}),
        ]
        for status, method, url, options in asked:
            answer = await http.request(method, url, **options)
            assert answer.status_code == status, (url, answer.text)
            assert answer.headers["content-type"] == "application/json"
            assert isinstance(answer.json()["detail"], str) and answer.json()["detail"]
            assert answer.headers["vary"] == "Origin"
            allowed = answer.headers.get("access-control-allow-origin")
            assert allowed == (None if status == 403 else LISTED)
            assert status == 403 or answer.headers["access-control-allow-credentials"] == "true"
        good = await http.post("/api/ask", headers=ada, content=b"{}")
        assert good.status_code == 200
        assert good.headers.get_list("vary") == ["Accept", "Origin"]
        problem_of(await http.get("/v1/threads"), 401, "unauthenticated")


@pytest.mark.anyio
async def test_a_preflight_of_a_dialect() -> None:
    async with with_dialect() as running, running.http() as http:
        headers = {"origin": LISTED, "access-control-request-method": "POST"}
        answer = await http.options("/api/ask", headers=headers)
        assert (answer.status_code, answer.content) == (204, b"")
        assert answer.headers["access-control-allow-methods"] == "GET, POST, PUT, PATCH, DELETE, OPTIONS"
        assert {"content-type", "authorization"} <= set(answer.headers["access-control-allow-headers"].split(", "))
        assert answer.headers["access-control-allow-origin"] == LISTED
        assert answer.headers["access-control-allow-credentials"] == "true"
        assert answer.headers["vary"] == "Origin"
        refused = await http.options("/api/ask", headers={**headers, "origin": "https://evil.test"})
        assert refused.status_code == 403
        assert isinstance(refused.json()["detail"], str)


@pytest.mark.anyio
async def test_a_dialects_last_words_come_before_the_close() -> None:
    async with with_dialect() as running:
        for path, heard in (("/ws", [{"type": "error"}]), ("/ws/chat", [])):
            options: dict[str, Any] = {"subprotocols": None, "additional_headers": {"origin": "https://evil.test"}}
            async with running.socket(path, **options) as raw:
                client = NativeClient(raw)
                assert await client.close_code() == 4003
                assert client.heard == heard
