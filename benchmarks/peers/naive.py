"""What people write first: FastAPI, one `send_json` per token, nothing kept. Beside it the same as server-sent events.

A socket that names a `room` gets what is said there, as in FastAPI's own example of a connection manager.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any

from agent import parse, tokens
from fastapi import Body, FastAPI, WebSocket, WebSocketDisconnect
from fastapi.responses import StreamingResponse

app = FastAPI()
rooms: dict[str, list[WebSocket]] = defaultdict(list)


@app.websocket("/ws")
async def chat(websocket: WebSocket) -> None:
    await websocket.accept()
    room: str | None = None
    try:
        while True:
            frame = await websocket.receive_json()
            if "join" in frame:
                room = frame["join"]
                rooms[room].append(websocket)
                await websocket.send_json({"type": "joined"})
                continue
            async for token in tokens(*parse(frame["message"])):
                if room is None:
                    await websocket.send_json({"type": "token", "content": token})
                else:
                    for reader in rooms[room]:
                        await reader.send_json({"type": "token", "content": token})
    except WebSocketDisconnect:
        if room is not None:
            rooms[room].remove(websocket)


@app.post("/sse")
async def stream(body: dict[str, Any] = Body()) -> StreamingResponse:  # noqa: B008
    async def events() -> AsyncIterator[str]:
        async for token in tokens(*parse(body["message"])):
            yield f"data: {json.dumps({'type': 'token', 'content': token})}\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")
