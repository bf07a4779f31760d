"""The floor in Python: one room, picows as the server, one prebuilt payload per event. No HTTP, no session, no log.

`python picows_room.py PORT`
"""

from __future__ import annotations

import asyncio
import json
import sys

import uvloop
from agent import parse, tokens
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

PAD = "x" * 100
"""About the size of our own frame, which names its run and message."""

readers: list[WSTransport] = []
running: set[asyncio.Task[None]] = set()


class Room(WSListener):
    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.TEXT:
            said = json.loads(frame.get_payload_as_bytes())
            if "join" in said:
                readers.append(transport)
                transport.send(WSMsgType.TEXT, b'{"type":"joined"}')
            else:
                task = asyncio.get_running_loop().create_task(broadcast(said["message"]))
                running.add(task)
        elif frame.msg_type == WSMsgType.CLOSE:
            transport.disconnect()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        if transport in readers:
            readers.remove(transport)


async def broadcast(prompt: str) -> None:
    async for token in tokens(*parse(prompt)):
        payload = f'{{"type":"token","pad":"{PAD}","content":"{token}"}}'.encode()
        for reader in readers:
            reader.send(WSMsgType.TEXT, payload)


def accept(request: WSUpgradeRequest) -> WSListener:
    return Room()


async def main(port: int) -> None:
    server = await ws_create_server(accept, "127.0.0.1", port, backlog=2048)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
