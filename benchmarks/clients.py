"""One reader of a run, per protocol: it joins, waits, and counts the tokens that arrive and how old they are.

All find tokens alike, by what the scripted agent writes (`~<ns> `), so that the client costs about the same everywhere.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
import uuid
from array import array
from typing import cast

import msgspec
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

TOKEN = re.compile(rb"~(\d+) ")


class Reader:
    """`join` returns when everything before the run is done; `ask` starts the run; `done` when `expected` tokens are here."""

    def __init__(self, port: int, room: str, expected: int, *, with_latency: bool) -> None:
        self.port, self.room, self.expected = port, room, expected
        self.with_latency = with_latency
        self.tokens = 0
        self.bytes = 0
        self.frames = 0
        """With tokens in them; of a stream: what was read at once."""
        self.latencies = array("d")
        """In ms, by token."""
        self.made = array("d")
        """When the agent made them, in seconds on the monotonic clock."""
        self.joined: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def join(self) -> None:
        raise NotImplementedError

    def ask(self, prompt: str) -> None:
        raise NotImplementedError

    def count(self, data: bytes | memoryview) -> None:
        before = self.tokens
        if self.with_latency:
            now = time.monotonic_ns()
            found = [int(made) for made in TOKEN.findall(data)]
            self.tokens += len(found)
            self.made.extend([made / 1e9 for made in found])
            self.latencies.extend([(now - made) / 1e6 for made in found])
        else:
            self.tokens += bytes(data).count(b"~")
        self.frames += self.tokens > before
        if self.tokens >= self.expected and not self.done.done():
            self.done.set_result(None)

    def fail(self, why: str) -> None:
        for future in (self.joined, self.done):
            if not future.done():
                future.set_exception(RuntimeError(why))


# --- WebSockets -------------------------------------------------------------------------------------------------------


class Socket(Reader, WSListener):
    path = "/ws"

    async def join(self) -> None:
        url = f"ws://127.0.0.1:{self.port}{self.path}"
        await ws_connect(
            lambda: self, url, use_aiofastnet=False, disconnect_on_exception=True, websocket_handshake_timeout=60
        )
        await self.joined

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport
        self.opened()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.fail("the server closed the connection")

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            self.fail(f"closed: {frame.get_close_code()} {frame.get_close_message()}")
            transport.disconnect()
        elif frame.msg_type == WSMsgType.PING:
            transport.send_pong(frame.get_payload_as_bytes())
        else:
            data = frame.get_payload_as_bytes()
            self.bytes += len(data)
            self.received(data)

    def send(self, frame: dict[str, object]) -> None:
        self.transport.send(WSMsgType.TEXT, msgspec.json.encode(frame))

    def opened(self) -> None:
        raise NotImplementedError

    def received(self, data: bytes) -> None:
        raise NotImplementedError


class Naive(Socket):
    def opened(self) -> None:
        if self.room:
            self.send({"join": self.room})
        else:
            self.joined.set_result(None)

    def ask(self, prompt: str) -> None:
        self.send({"message": prompt})

    def received(self, data: bytes) -> None:
        if data.startswith(b'{"type":"token"'):
            self.count(data)
        elif data.startswith(b'{"type":"joined"'):
            self.joined.set_result(None)


class _Frame(msgspec.Struct):
    op: str
    seq: int = 0


class Native(Socket):
    """Ours. `room` is the thread, or `thread@seq`: the cursor to begin at."""

    path = "/v1/ws"

    def opened(self) -> None:
        self.send({"op": "hello"})
        self.room, _, after = self.room.partition("@")
        self.send({"op": "subscribe", "id": "s", "thread": self.room, "after": int(after or 0)})

    def ask(self, prompt: str) -> None:
        message = {"id": str(uuid.uuid4()), "content": prompt}
        self.send({"op": "send", "id": str(uuid.uuid4()), "thread": self.room, "message": message})

    def received(self, data: bytes) -> None:
        if data.startswith(b'{"op":"events"'):
            self.count(data)
            if b'"type":"RUN_ERROR"' in data:
                self.fail(data[:300].decode())
        elif data.startswith(b'{"op":"caught_up"'):
            self.joined.set_result(None)
        elif data.startswith(b'{"op":"error"'):
            self.fail(data.decode())


class Chainlit(Socket):
    """Engine.IO 4 with Socket.IO 5 over a WebSocket, as Chainlit's page speaks them."""

    path = "/ws/socket.io/?EIO=4&transport=websocket"

    def opened(self) -> None:
        pass

    def ask(self, prompt: str) -> None:
        message = {
            "id": str(uuid.uuid4()),
            "threadId": "",
            "name": "User",
            "type": "user_message",
            "output": prompt,
            "createdAt": "2026-01-01T00:00:00Z",
        }
        self.say("42" + json.dumps(["client_message", {"message": message, "fileReferences": []}]))

    def say(self, packet: str) -> None:
        self.transport.send(WSMsgType.TEXT, packet.encode())

    def received(self, data: bytes) -> None:
        if data.startswith((b'42["stream_token"', b'42["stream_start"', b'42["new_message"')):
            if self.tokens < self.expected:  # the message as a whole, in the end, is not one more token each
                self.count(data)
        elif data.startswith(b"0"):
            auth = {"sessionId": str(uuid.uuid4()), "clientType": "webapp", "userEnv": "{}", "threadId": None}
            self.say("40" + json.dumps(auth))
        elif data.startswith(b"40"):
            self.say('42["connection_successful"]')
        elif data.startswith(b'42["clear_call_fn"'):
            if not self.joined.done():
                self.joined.set_result(None)
        elif data == b"2":
            self.say("3")
        elif data.startswith((b"44", b"41", b"1")):
            self.fail(data.decode())


# --- server-sent events -----------------------------------------------------------------------------------------------


class Stream(Reader, asyncio.Protocol):
    """One POST whose answer is the stream; the connection is opened before, the request is the question."""

    path = "/sse"

    async def join(self) -> None:
        self._rest = b""
        self._status = b""
        await asyncio.get_running_loop().create_connection(lambda: self, "127.0.0.1", self.port)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's does not derive from asyncio's

    def body(self, prompt: str) -> dict[str, object]:
        return {"message": prompt}

    def ask(self, prompt: str) -> None:
        body = json.dumps(self.body(prompt)).encode()
        head = (
            f"POST {self.path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nContent-Type: application/json\r\n"
            f"Accept: text/event-stream\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self.transport.write(head.encode() + body)

    def data_received(self, data: bytes) -> None:
        self.bytes += len(data)
        if not self._status:
            self._status = data.split(b"\r\n", 1)[0]
            if b" 200 " not in self._status:
                self.fail(data[:600].decode(errors="replace"))
                return
        # A token may lie across two reads, a line never across two of their events.
        data = self._rest + data
        end = data.rfind(b"\n") + 1
        self._rest = data[end:]
        if end:
            self.count(data[:end])

    def connection_lost(self, exc: Exception | None) -> None:
        self.fail("the server closed the connection")


class AgUi(Stream):
    path = "/ag-ui"

    def body(self, prompt: str) -> dict[str, object]:
        return {
            "threadId": str(uuid.uuid4()),
            "runId": str(uuid.uuid4()),
            "messages": [{"id": str(uuid.uuid4()), "role": "user", "content": prompt}],
            "state": None,
            "tools": [],
            "context": [],
            "forwardedProps": None,
        }


class Vercel(Stream):
    path = "/vercel"

    def body(self, prompt: str) -> dict[str, object]:
        message = {"id": str(uuid.uuid4()), "role": "user", "parts": [{"type": "text", "text": prompt}]}
        return {"trigger": "submit-message", "id": str(uuid.uuid4()), "messages": [message]}


class LangGraph(Stream):
    path = "/runs/stream"

    def body(self, prompt: str) -> dict[str, object]:
        return {"assistant_id": "agent", "input": {"prompt": prompt}, "stream_mode": ["custom"]}


PROTOCOLS: dict[str, type[Reader]] = {
    "ours": Native,
    "naive": Naive,
    "sse": Stream,
    "ag-ui": AgUi,
    "vercel": Vercel,
    "chainlit": Chainlit,
    "langgraph": LangGraph,
    "picows": Naive,
    "floor": Naive,
    "floor-10": Naive,
}
