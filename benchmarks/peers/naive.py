"""The peer: what people write first. FastAPI, one `send_json` per token, nothing kept."""

from __future__ import annotations

from agent import parse, tokens
from fastapi import FastAPI, WebSocket, WebSocketDisconnect

app = FastAPI()


@app.websocket("/ws")
async def chat(websocket: WebSocket) -> None:
    await websocket.accept()
    try:
        while True:
            frame = await websocket.receive_json()
            async for token in tokens(*parse(frame["message"])):
                await websocket.send_json({"type": "token", "content": token})
            await websocket.send_json({"type": "done"})
    except WebSocketDisconnect:
        pass
