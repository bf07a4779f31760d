"""How a client left: on purpose, or because its line broke; and noticing that it did while it waits for an answer."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

import anyio
from starlette.requests import Request

from runcast.transports.wire import Message

T = TypeVar("T")


def is_deliberate(message: Message) -> bool:
    """Whether a `websocket.disconnect` stands for a close that the client made, and not for a line that broke.

    ASGI servers report code 1005 both for `ws.close()` without a code and for a connection that ended without a close frame;
    only with a close frame does the message have the key `reason` (uvicorn 0.54 with websockets-sansio, websockets and wsproto;
    RFC 6455, section 7.1.5). A browser that goes away closes with 1001: that is a tab closed or left, not a word to the agent.
    """
    code = message.get("code", 1005)
    return code == 1000 or (code == 1005 and "reason" in message)


async def unless_gone(request: Request, work: Awaitable[T]) -> T | None:
    """What `work` gives; None, with `work` cancelled, if the client hangs up first. The request's body was read before."""
    try:
        async with anyio.create_task_group() as tasks:

            async def watch() -> None:
                while (await request.receive())["type"] != "http.disconnect":
                    pass
                tasks.cancel_scope.cancel()

            tasks.start_soon(watch)
            result = await work
            tasks.cancel_scope.cancel()
            return result
    except BaseExceptionGroup as group:
        if len(group.exceptions) == 1:  # the work's own error, not a bundle around it
            raise group.exceptions[0] from None
        raise
    return None
