"""`/v1/me`: what a user may do with all of their own data at once: take it along, and have it deleted."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing

from fastapi import APIRouter, Request
from starlette.responses import Response

from runcast.errors import InvalidRequest, RateLimited
from runcast.runs import Principal
from runcast.transports.bodies import Forget, Forgotten
from runcast.transports.gateway import Gateway
from runcast.transports.openapi import answers, body_of
from runcast.transports.requests import json_answer, read_json
from runcast.transports.streamed import Streamed

CONFIRMATION = "delete all my data"
EXPORTS_AT_ONCE = 2
"""How many exports one user may be reading: each holds a whole conversation in memory while it is."""


def own_routes(gateway: Gateway) -> APIRouter:
    router = APIRouter(prefix="/v1/me", tags=["own data"])
    under_way: Counter[Principal] = Counter()
    documented = answers(None, "A ZIP: conversations as JSON and Markdown, files, the inbox.")
    documented["responses"][200]["content"] = {"application/zip": {"schema": {"type": "string", "format": "binary"}}}

    @router.get("/export", **documented)
    async def export(request: Request) -> Response:
        principal = await gateway.principal(request.scope)
        headers = {"content-disposition": 'attachment; filename="runcast-export.zip"', "cache-control": "no-store"}
        return Streamed(gateway, _counted(gateway, principal, under_way), "application/zip", headers)

    @router.delete("/data", **answers(Forgotten, "It is gone.", changes=True), **body_of(Forget))
    async def forget(request: Request) -> Response:
        principal = await gateway.principal(request.scope)
        body = await read_json(request, Forget)
        if body.confirm != CONFIRMATION:
            raise InvalidRequest(f"To delete everything of yours for good, send `confirm`: {CONFIRMATION!r}.")
        return json_answer(Forgotten(threads=await gateway.service.delete_user_data(principal)))

    return router


async def _counted(gateway: Gateway, principal: Principal, under_way: Counter[Principal]) -> AsyncGenerator[bytes]:
    """
    Raises:
        RateLimited: the user reads as many as they may.
    """
    if under_way[principal] >= EXPORTS_AT_ONCE:
        raise RateLimited("Your data is being exported already; wait for its end.", retry_after_ms=5_000)
    under_way[principal] += 1
    try:
        async with aclosing(gateway.service.export_user_data(principal)) as chunks:
            async for chunk in chunks:
                yield chunk
    finally:
        under_way[principal] -= 1
        if not under_way[principal]:
            del under_way[principal]
