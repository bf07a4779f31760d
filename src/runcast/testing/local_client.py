"""Starlette's TestClient, for tests of a page's own that speak to a server in the same process, without a socket.

    with client_of(Server([agent], store=":memory:")) as client, client.websocket_connect("/ws/agent") as socket:
        socket.send_text("Hello")
        assert socket.receive_text() == "Hi"

A server without authentication talks to this machine only, and TestClient says that it is `testclient`, at a host named
`testserver`. That is no address of this machine, so a plain `TestClient(server)` is refused as any stranger; this one comes
from 127.0.0.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urljoin

from starlette.testclient import TestClient, WebSocketTestSession
from starlette.types import ASGIApp

HTTP = "http://127.0.0.1"
WEBSOCKET = "ws://127.0.0.1"


class LocalClient(TestClient):
    """Made by `client_of`. Everything else is TestClient's."""

    def websocket_connect(
        self, url: str, subprotocols: Sequence[str] | None = None, **options: Any
    ) -> WebSocketTestSession:  # TestClient's own says `testserver`, whatever its base is
        return super().websocket_connect(urljoin(WEBSOCKET, url), subprotocols, **options)


def client_of(app: ASGIApp, **options: Any) -> LocalClient:
    """A client for `app`, a `Server` or an application that one is mounted in, on this machine. As a context manager it runs
    the app's lifespan, which a server needs. `options` are TestClient's."""
    return LocalClient(app, base_url=HTTP, client=("127.0.0.1", 50_000), **options)
