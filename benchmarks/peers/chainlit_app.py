"""Chainlit with the same scripted agent: one message, streamed token by token, as its documentation shows."""

from __future__ import annotations

import chainlit
from agent import parse, tokens


@chainlit.on_message
async def answer(message: chainlit.Message) -> None:
    reply = chainlit.Message(content="")
    async for token in tokens(*parse(message.content)):
        await reply.stream_token(token)
    await reply.send()
