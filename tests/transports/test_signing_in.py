"""A server with authentication, over real sockets: every route, every carrier, and the end of a token (attacks 1, 2, 10-15, 17, 19-21)."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
import pytest
import websockets
from starlette.routing import BaseRoute
from websockets.typing import Subprotocol

from auth.tokens import SECRET, signed, token
from core import DEADLINE_S, Gated
from rawclient import raw_client
from runcast.transports.http import build_api
from runcast.transports.wire import Message
from serving import NativeClient, Running, said, serving
from transports.test_http import problem_of

pytestmark = pytest.mark.anyio

ID = "01a1fa7b-ab34-7183-bd3c-000000000000"
PAGE = "http://127.0.0.1:{port}"


@asynccontextmanager
async def closed(*agents: Any, **options: Any) -> AsyncGenerator[Running]:
    """A server that asks for tokens."""
    async with serving(*agents, **({"auth": "jwt", "jwt_secret": SECRET} | options)) as running:
        yield running


def bearer(value: str) -> dict[str, str]:
    return {"authorization": f"Bearer {value}"}


def cookie(running: Running, value: str, origin: str | None = PAGE) -> dict[str, str]:
    """What a browser sends along."""
    said = {} if origin is None else {"origin": origin.format(port=running.port)}
    return {"cookie": f'theme={{"dark":1}}; auth_token={value}; last=1', **said}


async def greeted(running: Running, *, hello: str | None = None, **options: Any) -> dict[str, Any] | int:
    """The welcome of a native WebSocket, or the code with which it was closed."""
    async with running.socket(**options) as raw:
        client = NativeClient(raw)
        try:
            await client.say({"op": "hello"} | ({} if hello is None else {"token": hello}))
            return await client.hear()
        except websockets.ConnectionClosed:
            assert client.heard == []
            return raw.close_code or 0


async def user(running: Running, **options: Any) -> str | int:
    welcome = await greeted(running, **options)
    return welcome if isinstance(welcome, int) else welcome["user"]


# --- every route --------------------------------------------------------------------------------------------------


def routes_of(api: Any) -> list[tuple[str, str]]:
    """Every method of every path there is."""
    found: set[tuple[str, str]] = set()
    pending: list[BaseRoute | Any] = list(api.routes)
    while pending:
        route = pending.pop()
        nested = getattr(route, "routes", None) or getattr(getattr(route, "original_router", None), "routes", None)
        if nested:
            pending.extend(nested)
        else:
            found |= {(method, route.path) for method in route.methods}
    return sorted(found)


OPEN = {"/healthz", "/readyz"}


async def test_every_route_asks_who_it_is() -> None:
    """Attack 1: a new route that does not ask fails here."""
    async with closed() as running, running.http() as http:
        routes = routes_of(build_api(running.server.gateway))
        assert len(routes) > 20
        for method, path in routes:
            url = path.format(thread=ID, run=ID, interrupt=f"{ID}.1", file=ID, agent="echo", model="echo", response=ID)
            answer = await http.request(method, url, headers={"content-type": "application/json"})
            if path in OPEN:
                assert answer.status_code == 200
            elif method == "HEAD":
                assert answer.status_code == 401, (method, path)
            elif "error" in answer.json():  # OpenAI's clients know no other shape
                assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthenticated")
                assert re.search("/(chat/completions|responses|models)", path)
            else:
                is_native = path.startswith("/v1/")  # dialects' clients know no other type than plain JSON
                media_type = "application/problem+json" if is_native else "application/json"
                problem_of(answer, 401, "unauthenticated", media_type)
                assert answer.headers["www-authenticate"] == "Bearer"
        assert (await http.get("/v1/threads", headers=bearer(token()))).json()["threads"] == []


@pytest.mark.parametrize(
    "presented",
    [
        "x",
        "-",
        signed({"sub": "ada", "exp": 1}),
        signed({"sub": "ada", "exp": 99_999_999_999}, {"alg": "none"}),
        token() + "x",
        "a" * 9_000,
    ],
)
async def test_a_bad_token_makes_nothing(presented: str) -> None:
    """Attacks 1, 2, 9."""
    async with closed() as running, running.http() as http:
        for url in ("/v1/threads", "/v1/messages", "/v1/messages?wait=5"):
            problem_of(await http.post(url, json={"message": "x"}, headers=bearer(presented)), 401, "unauthenticated")
        stream = await http.post(
            "/v1/messages", json={"message": "x"}, headers={**bearer(presented), "accept": "text/event-stream"}
        )
        problem_of(stream, 401, "unauthenticated")
        if len(presented) < 3000:
            assert await user(running, hello=presented) == 4001
            assert await user(running, additional_headers=bearer(presented)) == 4001
        assert await user(running) == 4001
        assert (await http.get("/v1/threads", headers=bearer(token()))).json()["threads"] == []


async def test_a_huge_token_is_not_served() -> None:
    """Attack 9."""
    async with closed() as running, running.http() as http:
        try:
            answer = await http.get("/v1/threads", headers=bearer("a" * 5_000_000))
        except httpx.TransportError:
            pass  # the server hung up in the middle of it
        else:
            assert answer.status_code in (400, 401, 431)
        assert (await http.get("/healthz")).status_code == 200


# --- carriers -----------------------------------------------------------------------------------------------------


async def test_carriers_of_a_websocket() -> None:
    async with closed() as running:
        ada = token("ada")
        assert await user(running, hello=ada) == "ada"
        assert await user(running, additional_headers=bearer(ada)) == "ada"
        assert await user(running, additional_headers=cookie(running, ada)) == "ada"
        offered = [Subprotocol("runcast.v1"), Subprotocol(f"bearer.{ada}")]
        assert await user(running, subprotocols=offered) == "ada"
        assert await user(running, subprotocols=[Subprotocol("bearer"), Subprotocol(ada)]) == "ada"
        assert await user(running, path=f"/v1/ws?token={ada}") == 4001


async def test_the_earlier_carrier_counts() -> None:
    async with closed() as running:
        both = {**bearer(token("ada")), **cookie(running, token("bob"))}
        assert await user(running, additional_headers=both, hello=token("eve")) == "ada"
        assert await user(running, additional_headers=cookie(running, token("bob")), hello=token("eve")) == "bob"
        assert await user(running, additional_headers=bearer("bad"), hello=token("eve")) == 4001


@pytest.mark.parametrize(
    ("offered", "answered"),
    [
        (["runcast.v1", "bearer.{}"], "runcast.v1"),
        (["bearer.{}", "runcast.v1"], "runcast.v1"),
        (["bearer", "{}"], "bearer"),
        (["bearer", "{}", "runcast.v1"], "runcast.v1"),
        (["bearer.{}"], None),
    ],
)
async def test_a_token_among_subprotocols_is_not_echoed(offered: list[str], answered: str | None) -> None:
    """Attack 20."""
    async with closed() as running:
        for good in (token(), "x.y.z"):
            items = [Subprotocol(item.format(good)) for item in offered]
            async with running.socket(subprotocols=items) as raw:
                assert raw.subprotocol == answered
                assert raw.response is not None
                assert good not in str(raw.response.headers)


async def test_two_of_one_kind_are_refused() -> None:
    async with closed() as running, running.http() as http:
        doubled = [("authorization", f"Bearer {token('ada')}"), ("authorization", f"Bearer {token('bob')}")]
        problem_of(await http.get("/v1/threads", headers=doubled), 401, "unauthenticated")
        planted = {"cookie": f"auth_token={token('eve')}; auth_token={token('ada')}"}
        problem_of(await http.get("/v1/threads", headers=planted), 401, "unauthenticated")


async def test_the_page_of_this_server_works_with_a_cookie() -> None:
    async with closed(cookie_name="session") as running, running.http() as http:
        origin = PAGE.format(port=running.port)
        headers = {"cookie": f"session={token('ada')}"}
        assert (await http.get("/v1/threads", headers=headers)).status_code == 200
        made = await http.post("/v1/messages?wait=10", json={"message": "a b"}, headers={**headers, "origin": origin})
        assert made.json()["text"] == "a b "
        async with running.socket(additional_headers={**headers, "origin": origin}) as raw:
            client = NativeClient(raw)
            await client.say({"op": "hello"})
            assert (await client.hear())["user"] == "ada"
            ack = await client.ask("subscribe", thread=made.json()["thread"], after=0)
            assert said(await client.run_to_end(ack["sub"])) == "a b "


# --- other sites --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.test",
        "null",
        "https://127.0.0.1:{port}",
        "http://127.0.0.1",
        "http://127.0.0.1:{port}.evil.test",
        "http://localhost:{port}",
        "http://127.0.0.1:{port}.",
        "http://127.0.0.1:{port}/",
    ],
)
async def test_a_cookie_from_another_sites_page(origin: str) -> None:
    """Attacks 13, 14, 17."""
    async with closed() as running, running.http() as http:
        headers = cookie(running, token("ada"), origin)
        assert await user(running, additional_headers=headers) == 4003
        sent = await http.post("/v1/messages", json={"message": "x"}, headers=headers)
        problem_of(sent, 403, "origin_not_allowed")
        assert "access-control-allow-origin" not in sent.headers
        assert "access-control-allow-origin" not in (await http.get("/v1/threads", headers=headers)).headers
        assert (await http.get("/v1/threads", headers=bearer(token("ada")))).json()["threads"] == []


async def test_a_cookie_without_an_origin() -> None:
    """Attack 15."""
    async with closed() as running, running.http() as http:
        headers = cookie(running, token("ada"), None)
        assert await user(running, additional_headers=headers) == 4003
        problem_of(await http.post("/v1/threads", headers=headers), 403, "forbidden")
        form = await http.post(
            "/v1/messages", content=b'{"message":"x"}', headers={**headers, "content-type": "text/plain"}
        )
        problem_of(form, 403, "forbidden")
        assert (await http.get("/v1/threads", headers=headers)).json()["threads"] == []
        assert (await http.post("/v1/threads", headers=bearer(token("ada")))).status_code == 201
        assert await user(running, additional_headers=bearer(token("ada"))) == "ada"


async def test_a_browser_sees_why_it_was_refused() -> None:
    """It gives up before the close code if nothing of what it offered is answered."""
    async with closed() as running:
        headers = {"origin": "https://evil.test"}
        for offered, answered in (
            (["runcast.v1"], "runcast.v1"),
            (["bearer", "x.y.z"], "bearer"),
            (["other"], "other"),
        ):
            items = [Subprotocol(item) for item in offered]
            async with running.socket(subprotocols=items, additional_headers=headers) as raw:
                assert raw.subprotocol == answered
                assert await NativeClient(raw).close_code() == 4003


# --- users --------------------------------------------------------------------------------------------------------


async def test_another_users_thread_is_not_there() -> None:
    """Attack 21."""
    async with closed() as running:
        async with running.http(headers=bearer(token("ada"))) as ada, running.http(headers=bearer(token("eve"))) as eve:
            thread = (await ada.post("/v1/messages?wait=10", json={"message": "x"})).json()["thread"]
            assert (await ada.get(f"/v1/threads/{thread}")).status_code == 200
            answers = [await eve.get(f"/v1/threads/{id}", headers={"x-request-id": "same"}) for id in (thread, ID)]
            problem_of(answers[0], 404, "not_found")
            assert answers[0].content == answers[1].content
            run = (await ada.get(f"/v1/stream/threads/{thread}")).json()[0]["runId"]
            for url in (f"/v1/stream/threads/{thread}", f"/v1/stream/runs/{run}"):
                for live in ("", "&live=long-poll", "&live=sse"):
                    problem_of(await eve.get(f"{url}?offset=-1{live}"), 404, "not_found")
                assert (await eve.head(url)).status_code == 404


# --- the end of a token -------------------------------------------------------------------------------------------


async def test_a_token_ends_on_an_open_socket_and_the_run_goes_on() -> None:
    """Attack 10. The token is over, but for two seconds of leeway."""
    agent = Gated()
    async with closed(agent) as running:
        async with running.socket() as raw:
            client = NativeClient(raw)
            await client.say({"op": "hello", "token": token(lives_s=-28)})
            assert "tokenExpiresAt" in await client.hear()
            sent = await client.ask("send", message={"id": "m", "content": "go"})
            ack = await client.ask("subscribe", thread=sent["thread"], after=0)
            assert await client.close_code() == 4002
            assert sum(frame["op"] == "token_expiring" for frame in client.heard) == 1
            seen = client.events(ack["sub"])
        agent.gate.set()
        async with running.socket() as raw:
            again = NativeClient(raw)
            await again.say({"op": "hello", "token": token()})
            await again.hear()
            ack = await again.ask("subscribe", thread=sent["thread"], after=seen[-1]["seq"])
            rest = await again.run_to_end(ack["sub"])
        assert (rest[0].get("from") or rest[0]["seq"]) == seen[-1]["seq"] + 1
        assert said([*seen, *rest]) == "before after"


async def test_a_new_token_on_an_open_socket() -> None:
    """Also where the old one came in a header, which no longer counts."""
    async with closed() as running, running.socket(additional_headers=bearer(token(lives_s=-25))) as raw:
        client = NativeClient(raw)
        await client.say({"op": "hello"})
        first = (await client.hear())["tokenExpiresAt"]
        wrong = await client.ask("auth", token="x.y.z")
        assert (wrong["op"], wrong["code"]) == ("error", "unauthenticated")
        renewed = await client.ask("auth", token=token(lives_s=600))
        assert renewed["op"] == "ack"
        assert renewed["tokenExpiresAt"] > first + 600_000


async def test_anothers_token_on_an_open_socket() -> None:
    """Attack 11."""
    agent = Gated()
    async with closed(agent) as running, running.socket() as raw:
        client = NativeClient(raw)
        await client.say({"op": "hello", "token": token("ada")})
        sent = await client.ask("send", message={"id": "m", "content": "go"})
        await client.ask("subscribe", thread=sent["thread"], after=0)
        with anyio.fail_after(DEADLINE_S):
            await agent.reached.wait()
        await client.say({"op": "auth", "id": "a", "token": token("eve")})
        assert await client.close_code() == 4001
        count = len(client.heard)
        agent.gate.set()
        assert await client.close_code() == 4001
        assert len(client.heard) == count


async def test_a_stream_does_not_outlive_its_token() -> None:
    """Cut like a lost line, so that nobody takes it for the end; what follows says who it is."""
    agent = Gated()
    async with closed(agent) as running, running.http() as http:
        thread = (await http.post("/v1/messages", json={"message": "go"}, headers=bearer(token()))).json()["thread"]
        headers = {**bearer(token(lives_s=-28)), "accept": "text/event-stream"}
        heard = b""
        with pytest.raises(httpx.RemoteProtocolError):
            async with http.stream("GET", f"/v1/threads/{thread}/events?after=0", headers=headers) as stream:
                assert stream.status_code == 200
                async for chunk in stream.aiter_bytes():
                    heard += chunk
        assert b"RUN_STARTED" in heard
        agent.gate.set()


# --- what is logged -----------------------------------------------------------------------------------------------


async def test_no_token_is_ever_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Attack 19: good or bad, by whatever carrier, at the loudest level."""
    canary = "canary" * 7
    good = token(canary=canary)
    caplog.set_level(1)
    names = ("uvicorn.error", "uvicorn.access", "uvicorn.asgi", "uvicorn", "websockets", "runcast")
    before = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(1)
    try:
        async with closed(log_level="debug", query_token="jwt") as running, running.http() as http:
            payload = good.split(".")[1]
            for value in (good, good[:-2] + "xx", canary):
                await greeted(running, path=f"/v1/ws?token={value}")
                await answered(running, f"/ws/agent?token={value}")
                await greeted(running, hello=value)
                await greeted(running, additional_headers=bearer(value))
                await greeted(running, subprotocols=[Subprotocol("runcast.v1"), Subprotocol(f"bearer.{value}")])
                await greeted(running, additional_headers=cookie(running, value))
                await greeted(running, additional_headers=cookie(running, value, "https://evil.test"))
                await http.get(f"/v1/threads?token={value}")
                await http.get(f"/v1/nothing?token={value}")
                await http.get("/v1/threads", headers=bearer(value))
                await http.get("/v1/threads", headers=cookie(running, value))
            ours = [r for r in caplog.records if r.name.startswith(("runcast", "uvicorn"))]
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
    text = "\n".join(f"{record.getMessage()} {record.exc_text}" for record in ours)
    assert "/v1/threads" in text
    assert canary not in text
    assert payload not in text
    assert "token=" not in text


async def test_refusals_are_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        async with closed() as running:
            for _ in range(5):
                assert await user(running, hello="x") == 4001
                assert await answered(running) == 4001
                assert await user(running, additional_headers={"origin": "https://evil.test"}) == 4003
    told = [record.getMessage() for record in caplog.records if "/ws" in record.getMessage()]
    assert told == ["refused 127.0.0.1 at /v1/ws: it is no signed JWT"]


# --- for the routes of dialects -----------------------------------------------------------------------------------


async def answered(running: Running, path: str = "/ws/agent", **options: Any) -> str | int:
    """What the text dialect says to `a b`, or the code with which it was closed."""
    options.setdefault("subprotocols", None)
    async with running.socket(path, **options) as raw:
        heard: list[str] = []
        try:
            with anyio.fail_after(DEADLINE_S):
                await raw.send("a b")
                while heard[-1:] != ["[DONE]"]:
                    heard.append(str(await raw.recv()))
        except websockets.ConnectionClosed:
            assert heard == []
            return raw.close_code or 0
    return "".join(heard)


async def test_dialects_take_the_same_tokens() -> None:
    ada = token("ada")
    async with closed() as running:
        words = "a b [DONE]"
        assert await answered(running, additional_headers=bearer(ada)) == words
        assert await answered(running, additional_headers=cookie(running, ada)) == words
        assert await answered(running, additional_headers=cookie(running, ada, None)) == 4003
        assert await answered(running, additional_headers=cookie(running, ada, "https://evil.test")) == 4003
        for offered in (["bearer", ada], ["chat", f"bearer.{ada}"]):
            assert await answered(running, subprotocols=[Subprotocol(item) for item in offered]) == words
        assert await answered(running) == 4001
        assert await answered(running, additional_headers=bearer("x")) == 4001


async def test_a_token_in_the_address_counts_in_dialects_where_it_is_switched_on() -> None:
    """Attack 19."""
    ada = token("ada")
    async with closed() as running:
        assert await answered(running, f"/ws/agent?token={ada}") == 4001
    async with closed(query_token="jwt") as running:
        assert await answered(running, f"/ws/agent?token={ada}") == "a b [DONE]"
        assert await answered(running, f"/ws/agent?token={ada}x") == 4001
        assert await answered(running, f"/ws/agent?token={ada}&token=x") == 4001
        assert await answered(running, f"/ws/agent?token={ada}", additional_headers=bearer("x")) == 4001
        assert await user(running, path=f"/v1/ws?token={ada}") == 4001
        async with running.http() as http:
            problem_of(await http.get(f"/v1/threads?token={ada}"), 401, "unauthenticated")


async def test_the_message_type_alone_is_not_enough(caplog: pytest.LogCaptureFixture) -> None:
    """A peer that is gone before it could be refused harms nothing."""
    from runcast.transports.refusals import refuse_socket

    sent: list[Message] = []

    async def gone() -> Message:
        return {"type": "websocket.disconnect", "code": 1006}

    async def send(message: Message) -> None:
        sent.append(message)

    await refuse_socket({"type": "websocket", "path": "/"}, gone, send, code=4003, reason="No.")
    assert sent == []


async def test_a_handshake_that_cannot_be_read_is_answered() -> None:
    """Attack 9, on a WebSocket: nobody waits for an answer that never comes, and no socket is held for ever."""
    async with closed() as running, raw_client(running.port) as client:
        await client.say(
            b"GET /v1/ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
            b"Authorization: Bearer " + b"a" * 9_000 + b"\r\n\r\n"
        )
        with anyio.fail_after(DEADLINE_S):
            assert (await client.hear_until(b"\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
            assert await client.hear() == b""
