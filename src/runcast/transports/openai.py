"""OpenAI's protocols for their clients: Chat Completions and the list of models here, Responses in `openai_responses`.

    GET  /openai/v1/models, /openai/v1/models/{model}     the agents
    POST /openai/v1/chat/completions                      one run in a conversation of its own

each also under `/v1`. A chat client keeps the history itself and sends all of it each time, without ids: so a request's
conversation is nobody's to come back to. It is deleted as soon as the answer was given, or when the client hangs up, which stops
the run; only one whose run left calls to the client stays, until the results come.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, cast

import anyio
from fastapi import APIRouter, Request
from msgspec import UNSET
from starlette.responses import Response

from runcast.commands import Return, Send
from runcast.dialects.base import Start
from runcast.dialects.openai_asking import Asked, asked_in_chat
from runcast.dialects.openai_chat import USAGE, ChatEncoder, OpenAiChat
from runcast.dialects.openai_ids import RATE_LIMITED, called, failing_request
from runcast.dialects.run_fold import failure_of
from runcast.errors import InvalidRequest, NotFound, RuncastError
from runcast.events import Record, RunError
from runcast.runs import ClientInput, Message, OnDisconnect, Principal, ToolMessage
from runcast.service import Sent
from runcast.transports.enclosed import filed
from runcast.transports.gateway import Gateway
from runcast.transports.leaving import unless_gone
from runcast.transports.openai_errors import openai_error
from runcast.transports.posting import STATUS_OF_FAILURE, whole_run
from runcast.transports.problems import HttpError
from runcast.transports.requests import json_answer, read_json
from runcast.transports.sse import EventStream, Framing

logger = logging.getLogger("runcast.openai")

PREFIXES = ("/openai/v1", "/v1")
MAX_BODY = 8 * 1024 * 1024
"""Bytes of a request: it holds a whole history, and pictures."""
FRAMING = Framing(ids=False, tail=b"[DONE]")
OWNER = "runcast"

_chat = OpenAiChat()


def openai_routes(gateway: Gateway) -> APIRouter:
    router = APIRouter(tags=["openai"])

    async def models(request: Request) -> Response:
        principal = await gateway.principal(request.scope)
        agents = gateway.service.agents(principal)
        return json_answer({"object": "list", "data": [model_of(agent.name) for agent in agents]})

    async def model(request: Request, model: str) -> Response:
        principal = await gateway.principal(request.scope)
        check_model(gateway, principal, model)
        return json_answer(model_of(model))

    async def completions(request: Request) -> Response:
        principal = await gateway.principal(request.scope)
        body = await read_json(request, dict[str, Any], max_bytes=MAX_BODY)
        asked = asked_in_chat(body)
        check_model(gateway, principal, asked.model)
        gateway.refuse_while_draining()
        options: Any = body.get("stream_options")
        usage = isinstance(options, dict) and cast("dict[str, Any]", options).get(USAGE) is True
        return await complete(gateway, request, principal, asked, usage=usage)

    for prefix in PREFIXES:
        router.add_api_route(f"{prefix}/models", models, methods=["GET"], include_in_schema=False)
        router.add_api_route(f"{prefix}/models/{{model}}", model, methods=["GET"], include_in_schema=False)
        router.add_api_route(f"{prefix}/chat/completions", completions, methods=["POST"], include_in_schema=False)
    return router


def model_of(agent: str) -> dict[str, Any]:
    return {"id": agent, "object": "model", "created": 0, "owned_by": OWNER}


def check_model(gateway: Gateway, principal: Principal, model: str) -> None:
    """
    Raises:
        HttpError: 404, there is no such agent.
    """
    if all(agent.name != model for agent in gateway.service.agents(principal)):
        message = f"There is no agent {model[:64]!r}; GET /v1/models names them."
        raise HttpError(404, "model_not_found", message, at="/model")


async def complete(gateway: Gateway, request: Request, principal: Principal, asked: Asked, *, usage: bool) -> Response:
    """Run the agent on what was asked, and answer with its stream or with the whole completion."""
    with gateway.claim(principal) as place:  # before anything is sent: refused means that nothing was
        sent = await begun(gateway, principal, asked)
        try:
            subscription = await gateway.service.subscribe_run(principal, sent.run)
        except BaseException:
            await dropped(gateway, principal, sent.thread)
            raise
        options = {USAGE: "true"} if usage else {}
        encoder = _chat.encoder(Start(sent.thread, subscription.epoch, subscription.start, sent.run, options=options))
        if asked.stream:

            async def end() -> None:
                await over(gateway, principal, sent.thread, encoder)

            return EventStream(gateway, subscription, encoder, place.keep(), framing=FRAMING, on_end=end)
    records: list[Record] | None = None
    try:
        with gateway.wait():
            records = await unless_gone(request, whole_run(gateway, principal, subscription))
        for record in records or ():
            encoder.encode(record)
    finally:
        await over(gateway, principal, sent.thread, encoder)
    if not records:
        return Response(status_code=204)  # nobody gets it
    if (refused := failed(request, records)) is not None:
        return refused
    return Response(_chat.completion(records), media_type="application/json")


def failed(request: Request, records: Sequence[Record]) -> Response | None:
    """The error answer of a run that failed; None for others, also for one that was stopped. Its request id is the one under which the
    server's log says why."""
    failure = failure_of(records[-1].event)
    if failure is None or failure[0] == "cancelled":
        return None
    code, message = failure
    event = records[-1].event
    wait_ms = event.retry_after_ms if isinstance(event, RunError) and event.retry_after_ms is not UNSET else None
    known = failing_request(event)
    return openai_error(
        request.scope,
        429 if code in RATE_LIMITED else STATUS_OF_FAILURE.get(code, 502),
        code,
        message,
        retry_after_ms=wait_ms,
        headers=None if known is None else {"x-request-id": known},
        began=True,
    )


async def over(gateway: Gateway, principal: Principal, thread: str, encoder: ChatEncoder) -> None:
    """The answer was given, or the client is gone: nobody comes back to the conversation, unless calls were left."""
    if not encoder.left:
        await dropped(gateway, principal, thread)


async def dropped(gateway: Gateway, principal: Principal, thread: str) -> None:
    """Stop what runs in a conversation that nobody can come back to, and delete it."""
    with anyio.CancelScope(shield=True):
        try:
            await gateway.service.delete_thread(principal, thread)
        except NotFound:
            pass  # deleted elsewhere meanwhile
        except RuncastError as error:
            logger.warning("a conversation of a completion stays", exc_info=error, extra={"action": "drop_failed"})


async def begun(gateway: Gateway, principal: Principal, asked: Asked) -> Sent:
    """The run that answers: one that goes on with the results of calls, or one of a new conversation."""
    if asked.results:
        returned = await gone_on(gateway, principal, asked, on_disconnect="cancel")
        if returned is not None:
            return returned
        asked = asked.anew()
    return await gateway.service.send(
        principal,
        Send(
            id=(id := gateway.new_id()),
            agent=asked.model,
            message=Message(id=id, content=await content_of(gateway, principal, asked)),
            on_disconnect="cancel",
            client=client_of(asked),
        ),
        hidden=True,
    )


async def gone_on(gateway: Gateway, principal: Principal, asked: Asked, *, on_disconnect: OnDisconnect) -> Sent | None:
    """Give the results of calls to the run that left them; None if that is not known (any longer)."""
    named = [(found, result) for result in asked.results if (found := called(result.call)) is not None]
    if not named:
        return None
    run = named[-1][0][0]
    new = gateway.new_id
    results = tuple(
        ToolMessage(id=new(), tool_call_id=call, content=result.content) for (of, call), result in named if of == run
    )
    message = None
    if asked.content is not None:
        message = Message(id=new(), content=await content_of(gateway, principal, asked))
    command = Return(
        id=new(), run=run, results=results, message=message, on_disconnect=on_disconnect,
        client=client_of(asked._replace(history=())),
    )  # fmt: skip
    try:
        return await gateway.service.return_results(principal, command)
    except (NotFound, InvalidRequest):
        return None


def client_of(asked: Asked) -> ClientInput:
    return ClientInput(tools=asked.tools, history=asked.history, forwarded_props=asked.props or None)


async def content_of(gateway: Gateway, principal: Principal, asked: Asked) -> str | list[dict[str, Any]]:
    """What is said now; what came as data is kept as files, because a log holds none.

    Raises:
        ClientError: it is not taken.
    """
    content = asked.content
    if content is None or isinstance(content, str):
        return content or ""
    return await filed(gateway.service.uploads, principal, content)
