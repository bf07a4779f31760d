"""The clients: `python load.py KIND PORT CLIENTS TOKENS RATE` opens CLIENTS sockets, each asks for a run of its own,
and prints one line of JSON: tokens and bytes received, seconds, CPU seconds of this process, latencies in ms."""

from __future__ import annotations

import asyncio
import json
import sys
import time
import uuid

import msgspec
import psutil
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect


class _Event(msgspec.Struct):
    type: str
    delta: str = ""


class _Frame(msgspec.Struct):
    op: str = ""
    type: str = ""
    content: str = ""
    sub: int = 0
    thread: str = ""
    run: str = ""
    events: list[_Event] = []


_decode = msgspec.json.Decoder(_Frame).decode


class Client(WSListener):
    """One socket, one run; `done` is set at the run's end."""

    def __init__(self, kind: str, prompt: str) -> None:
        self.kind, self.prompt = kind, prompt
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.tokens = 0
        self.bytes = 0
        self.latencies: list[float] = []

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        if self.kind == "naive":
            self._send({"message": self.prompt})
        else:
            self._send({"op": "hello"})
            message = {"id": str(uuid.uuid4()), "content": self.prompt}
            self._send({"op": "send", "id": str(uuid.uuid4()), "message": message})

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            if not self.done.done():
                self.done.set_exception(RuntimeError(f"closed: {frame.get_close_code()} {frame.get_close_message()}"))
            return
        now = time.monotonic_ns()
        data = frame.get_payload_as_memoryview()
        self.bytes += len(data)
        decoded = _decode(data)
        if self.kind == "naive":
            if decoded.type == "token":
                self._count(decoded.content, now)
            elif decoded.type == "done":
                self.done.set_result(None)
        elif decoded.op == "events":
            for event in decoded.events:
                if event.type == "TEXT_MESSAGE_CONTENT":
                    self._count(event.delta, now)
                elif event.type in ("RUN_FINISHED", "RUN_ERROR"):
                    self.done.set_result(None)
        elif decoded.op == "ack" and decoded.run:
            self._send({"op": "subscribe", "id": "s", "thread": decoded.thread, "after": 0})
        elif decoded.op == "error":
            self.done.set_exception(RuntimeError(bytes(data).decode()))

    def _count(self, text: str, now: int) -> None:
        for made in text.split():
            self.tokens += 1
            self.latencies.append((now - int(made)) / 1e6)

    def _send(self, frame: dict[str, object]) -> None:
        self._transport.send(WSMsgType.TEXT, msgspec.json.encode(frame))


async def main(kind: str, port: int, clients: int, count: int, rate: float) -> None:
    url = f"ws://127.0.0.1:{port}" + ("/ws" if kind == "naive" else "/v1/ws")
    opened: list[Client] = []
    started = time.monotonic()
    for number in range(clients):
        _, client = await ws_connect(lambda: Client(kind, f"{count} {rate}"), url, use_aiofastnet=False)
        opened.append(client)
        if number % 10 == 9:
            await asyncio.sleep(0.01)  # a burst of handshakes is not what is measured
    await asyncio.gather(*(client.done for client in opened))
    latencies = sorted(latency for client in opened for latency in client.latencies)
    times = psutil.Process().cpu_times()
    print(
        json.dumps(
            {
                "tokens": sum(client.tokens for client in opened),
                "bytes": sum(client.bytes for client in opened),
                "seconds": time.monotonic() - started,
                "cpu_s": times.user + times.system,
                "p50_ms": latencies[len(latencies) // 2],
                "p99_ms": latencies[int(len(latencies) * 0.99)],
            }
        )
    )


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])))
