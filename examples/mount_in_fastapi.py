"""Runcast inside an app that has its own routes and its own lifespan. Run it: uvicorn mount_in_fastapi:app"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

import runcast


@runcast.agent
async def parrot(prompt: str) -> AsyncIterator[str]:
    """Says it again."""
    for word in prompt.split():
        yield word + " "


server = runcast.Server([parrot], database="parrot.db")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with server.lifespan(app):  # your own connections go beside it
        yield


app = FastAPI(lifespan=lifespan)
app.mount("/chat", server)


@app.get("/")
async def home() -> dict[str, str]:
    return {"the parrot is at": "/chat/"}
