"""The server run and mounted: lifespan, sub-paths, binding, signals."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount

from core import DEADLINE_S, Told, echo
from runcast.config import Settings
from runcast.errors import ConfigError, Unavailable
from runcast.server import Process, Server, check_bind, serve, url_of
from runcast.transports.listener import listen
from runcast.transports.straight import StraightProtocol
from serving import said, serving_app

PAGE = "<!doctype html><html><head><title>x</title></head></html>"


def make(**options: Any) -> Server:
    return Server([Told(echo, "echo")], **({"store": ":memory:", "drain_timeout_s": 0} | options))


@pytest.fixture
def dist(tmp_path: Path) -> Path:
    (tmp_path / "index.html").write_text(PAGE)
    (tmp_path / "favicon.svg").write_text("<svg/>")
    return tmp_path


# --- mounting -----------------------------------------------------------------------------------------------------


async def check_under(running: Any, prefix: str) -> None:
    """Page, file, HTTP, SSE and WebSocket all work under a prefix."""
    async with running.http() as http:
        page = await http.get(f"{prefix}/")
        assert f'<base href="{prefix}/">' in page.text
        assert (await http.get(f"{prefix}/c/abc")).status_code == 200
        assert (await http.get(f"{prefix}/favicon.svg")).text == "<svg/>"
        made = await http.post(f"{prefix}/v1/threads")
        assert made.headers["location"] == f"{prefix}/v1/threads/{made.json()['id']}"
        assert (await http.get(made.headers["location"])).status_code == 200
        run = (await http.post(f"{prefix}/v1/messages?wait=10", json={"message": "a b"})).json()
        assert run["text"] == "a b "
        missing = await http.get(f"{prefix}/v1/nothing")
        assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
    async with running.client(path=f"{prefix}/v1/ws") as client:
        ack = await client.ask("subscribe", thread=run["thread"], after=0)
        assert said(await client.run_to_end(ack["sub"])) == "a b "


@pytest.mark.anyio
async def test_mounted_in_fastapi_in_three_lines(dist: Path) -> None:
    server = make(web_directory=dist)
    app = FastAPI(lifespan=server.lifespan)
    app.mount("/chat", server)
    async with serving_app(server, app) as running:
        await check_under(running, "/chat")
    assert not server.gateway.is_started


@pytest.mark.anyio
async def test_mounted_deeply_with_the_hosts_own_lifespan(dist: Path) -> None:
    server = make(web_directory=dist)
    seen: list[str] = []

    @asynccontextmanager
    async def own(app: Starlette) -> AsyncIterator[None]:
        seen.append("host up")
        async with server.lifespan(app):
            yield
        seen.append("host down")

    app = Starlette(lifespan=own, routes=[Mount("/a", routes=[Mount("/b/c", app=server)])])
    async with serving_app(server, app) as running:
        await check_under(running, "/a/b/c")
    assert seen == ["host up", "host down"]


@pytest.mark.anyio
async def test_behind_a_proxy_that_strips_the_prefix(dist: Path) -> None:
    server = make(web_directory=dist, root_path="/chat")
    async with serving_app(server) as running, running.http() as http:
        page = await http.get("/")
        assert '<base href="/chat/">' in page.text
        assert (await http.get("/favicon.svg")).status_code == 200
        assert (await http.post("/v1/threads")).headers["location"].startswith("/chat/v1/threads/")
        await check_under(running, "/chat")  # and one that does not


@pytest.mark.anyio
async def test_first_use_without_lifespan_says_how(dist: Path) -> None:
    server = make(web_directory=dist)
    app = FastAPI()
    app.mount("/chat", server)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
        with pytest.raises(ConfigError, match=r"FastAPI\(lifespan=server\.lifespan\)"):
            await http.get("/chat/v1/threads")


@pytest.mark.anyio
async def test_lifespan_twice_is_an_error() -> None:
    server = make()
    async with server.lifespan():
        with pytest.raises(ConfigError, match="twice"):
            async with server.lifespan():
                pass
    async with server.lifespan():
        assert server.gateway.is_started
    with pytest.raises(Unavailable):
        _ = server.gateway.service


@pytest.mark.anyio
async def test_a_mounted_server_serves_only_this_machine() -> None:
    server = make()
    app = FastAPI(lifespan=server.lifespan)
    app.mount("/chat", server)
    async with server.lifespan():
        transport = httpx.ASGITransport(app, client=("10.0.0.7", 1234))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            response = await http.get("/chat/v1/threads")
            assert (response.status_code, response.json()["code"]) == (403, "loopback_only")


# --- settings and binding -----------------------------------------------------------------------------------------


def test_overrides_are_settings() -> None:
    assert make(title="Shop").settings.title == "Shop"
    server = make(settings=Settings(title="A", port=1234), title="B")
    assert (server.settings.title, server.settings.port) == ("B", 1234)
    with pytest.raises(ConfigError, match="did you mean 'title'"):
        make(titel="x")


@pytest.mark.anyio
async def test_functions_are_agents(dist: Path) -> None:
    async def parrot(prompt: str) -> AsyncIterator[str]:
        for word in prompt.split():
            yield word + " "

    server = Server([parrot], store=":memory:", web_directory=dist)
    app = FastAPI(lifespan=server.lifespan)
    app.mount("/chat", server)
    async with serving_app(server, app) as running:
        await check_under(running, "/chat")


def test_everything_that_is_no_agent_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as failure:
        Server([42, Told(echo, "echo"), Told])
    assert len(failure.value.problems) == 2


def test_no_agents_is_an_error() -> None:
    with pytest.raises(ConfigError, match="no agent"):
        Server([])


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.com", ""])
def test_without_authentication_only_loopback_is_bound(host: str) -> None:
    """Attack 55."""
    with pytest.raises(ConfigError, match="without authentication"):
        serve(make(), host=host, port=0)


def test_with_authentication_any_address_is_bound() -> None:
    from transports.test_websocket import Tokens

    check_bind(make(authenticator=Tokens()), "0.0.0.0")
    check_bind(make(), "::1")


def test_port_in_use_says_so() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"Port {port} .* in use.*--port"):
            serve(make(), port=port)


def test_listening_socket_has_the_options_that_readers_need() -> None:
    with listen("127.0.0.1", 0) as listener:
        options = {"TCP_NODELAY": 1, "TCP_NOTSENT_LOWAT": 131072, "TCP_USER_TIMEOUT": 90000}
        for name, value in options.items():
            if (number := getattr(socket, name, None)) is not None:
                assert listener.getsockopt(socket.IPPROTO_TCP, number) == value
        assert url_of(listener, "/chat") == f"http://127.0.0.1:{listener.getsockname()[1]}/chat/"


def test_unknown_host_says_so() -> None:
    with pytest.raises(ConfigError, match="no address of this machine"):
        listen("192.0.2.1", 0)


# --- an own process -----------------------------------------------------------------------------------------------

PROGRAM = """
import asyncio, sys
from runcast import events as e
from runcast.server import Server, serve

class Slow:
    name = "slow"
    description = ""
    async def run(self, input, context):
        yield e.TextMessageStart(message_id=input.run)
        for n in range(int(input.text)):
            yield e.TextMessageContent(message_id=input.run, delta=f"{n} ")
            await asyncio.sleep(0.02)
        yield e.TextMessageEnd(message_id=input.run)

server = Server([Slow()], store=sys.argv[1], port=0, drain_timeout_s=float(sys.argv[2]))
serve(server, on_started=lambda url: print(url, flush=True))
"""


@asynccontextmanager
async def process(tmp_path: Path, drain_s: float) -> AsyncIterator[tuple[subprocess.Popen[str], str]]:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent / "src")}
    command = [sys.executable, str(program), str(tmp_path / "log.db"), str(drain_s)]
    stderr = (tmp_path / "stderr").open("w")
    child = await anyio.to_thread.run_sync(
        lambda: subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment)
    )
    try:
        assert child.stdout is not None
        url = await anyio.to_thread.run_sync(child.stdout.readline)
        yield child, url.strip()
    finally:
        child.kill()
        await anyio.to_thread.run_sync(child.wait)
        assert child.stdout is not None
        child.stdout.close()
        stderr.close()


@pytest.mark.anyio
async def test_sigterm_lets_a_run_end_and_then_stops(tmp_path: Path) -> None:
    async with process(tmp_path, 20) as (child, url), httpx.AsyncClient(base_url=url, timeout=DEADLINE_S) as http:
        headers = {"accept": "text/event-stream"}
        async with http.stream("POST", "v1/messages", json={"message": "50"}, headers=headers) as response:
            body = b""
            async for chunk in response.aiter_raw():
                if b"TEXT_MESSAGE_CONTENT" in body + chunk and b"TEXT_MESSAGE_CONTENT" not in body:
                    child.send_signal(signal.SIGTERM)
                body += chunk
        assert b"RUN_FINISHED" in body
        assert b'49 "' in body
        code = await anyio.to_thread.run_sync(lambda: child.wait(DEADLINE_S))
        assert code in (0, -signal.SIGTERM)


@pytest.mark.anyio
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_stops_at_once(tmp_path: Path, number: signal.Signals) -> None:
    async with process(tmp_path, 60) as (child, url), httpx.AsyncClient(base_url=url, timeout=DEADLINE_S) as http:
        await http.post("v1/messages", json={"message": "3000"})
        child.send_signal(number)
        with anyio.fail_after(DEADLINE_S):
            while (await http.get("readyz")).status_code != 503:
                await anyio.sleep(0.01)
        started = time.monotonic()
        child.send_signal(number)
        await anyio.to_thread.run_sync(lambda: child.wait(DEADLINE_S))
        assert time.monotonic() - started < 10
    with closing(sqlite3.connect(tmp_path / "log.db")) as log:
        ((status,),) = log.execute("SELECT status FROM runs")
    assert status in ("running", "interrupted")  # `running` if it was too fast: the next start says interrupted
    assert "Traceback" not in (tmp_path / "stderr").read_text()


def test_process_serves_what_was_measured_to_be_fast() -> None:
    config = Process(make()).config
    assert config.ws is StraightProtocol
    assert config.ws_per_message_deflate is False
    assert config.proxy_headers is False


_NEVER = """
import os, signal, threading, time
import httpx, runcast
from runcast.server import Server, serve

@runcast.agent
def never(prompt: str):
    while True:
        time.sleep(1)

def started(url):
    def use():
        httpx.post(url + "v1/messages", json={"message": "go"})
        os.kill(os.getpid(), signal.SIGINT)
    threading.Thread(target=use, daemon=True).start()

server = Server([never], store=":memory:", drain_timeout_s=0)
serve(server, port=0, on_started=started)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_function_that_never_returns_does_not_keep_the_process() -> None:
    ended = subprocess.run([sys.executable, "-c", _NEVER], timeout=30, capture_output=True, check=False)
    assert ended.returncode == -signal.SIGINT
