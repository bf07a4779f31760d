"""A page's own TestClient tests keep working."""

from __future__ import annotations

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from core import Told, echo
from runcast.server import Server
from runcast.testing import client_of


def make() -> Server:
    return Server([Told(echo)], store=":memory:", drain_timeout_s=0)


def test_websockets_and_http() -> None:
    with client_of(make()) as client:
        with client.websocket_connect("/ws/agent") as socket:
            socket.send_text("Hello")
            assert [socket.receive_text(), socket.receive_text()] == ["Hello ", "[DONE]"]
        with client.websocket_connect("/api/v1/chat/stream", subprotocols=["chat"]) as socket:
            assert socket.accepted_subprotocol == "chat"
            socket.send_json({"session_id": "s", "message": "Hi"})
            assert [socket.receive_json()["type"] for _ in range(3)] == ["user_message", "response", "done"]
            with pytest.raises(WebSocketDisconnect) as closed:
                socket.receive_text()
            assert closed.value.code == 1000
        assert client.get("/healthz").json() == {"status": "ok"}
        answer = client.post("/api/v1/chat", json={"session_id": "s", "message": "Hi"})
        assert answer.json()["content"] == "Hi "


def test_mounted_in_an_application() -> None:
    server = make()
    app = FastAPI(lifespan=server.lifespan)
    app.mount("/chat", server)
    with client_of(app) as client, client.websocket_connect("/chat/ws/agent") as socket:
        socket.send_text("Hello")
        assert socket.receive_text() == "Hello "


def test_a_plain_client_is_a_stranger() -> None:
    with TestClient(make()) as client:
        assert client.get("/healthz").status_code == 403
        with client.websocket_connect("/ws/agent") as socket, pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_text()
        assert closed.value.code == 4003
