"""An answer that is made while it is sent."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import anyio
from starlette.responses import StreamingResponse
from starlette.types import Send

from runcast.transports.gateway import Gateway
from runcast.transports.wire import StreamCut


class Streamed(StreamingResponse):
    """A body in chunks. One that fails on the way is cut, never ended as if it were whole."""

    def __init__(
        self, gateway: Gateway, chunks: AsyncGenerator[bytes], media_type: str, headers: Mapping[str, str]
    ) -> None:
        super().__init__(chunks, media_type=media_type, headers=headers)
        self._gateway = gateway
        self._chunks = chunks

    async def stream_response(self, send: Send) -> None:
        async def put(message: dict[str, Any]) -> None:
            with anyio.fail_after(self._gateway.send_timeout_s):
                await send(message)

        async with aclosing(self._chunks) as chunks:
            first = await anext(chunks)  # what fails at once is still a problem with a code
            await put({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await put({"type": "http.response.body", "body": first, "more_body": True})
            try:
                async for chunk in chunks:
                    await put({"type": "http.response.body", "body": chunk, "more_body": True})
            except TimeoutError:
                raise StreamCut from None  # it takes nothing
        await put({"type": "http.response.body", "body": b"", "more_body": False})
