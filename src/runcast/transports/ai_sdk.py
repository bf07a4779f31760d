"""The `ai-sdk` dialect over HTTP: what `DefaultChatTransport` of the AI SDK asks for.

    POST {path}               {id, messages, trigger, messageId}: the message that answers, as server-sent events
    GET  {path}/{id}/stream   the message that is being written, from its start; 204 if there is none
    GET  {path}/{id}/messages {id, messages, active}: the chat as UI messages, for a page that is loaded
    POST {path}/{id}/stop     stops what runs and waits in the chat

The version of `ai` in the front end: `?v=`, else the header `x-ai-sdk-version`, else as the path was set (6).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any, Final, Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from runcast.commands import Cancel
from runcast.dialects.ai_sdk import VERSIONS, AiSdk, AiSdkEncoder, Version
from runcast.dialects.ai_sdk_history import history_of
from runcast.dialects.json_texts import MAX_DEPTH, too_deep, too_many, without_data
from runcast.dialects.messages import conversation_fault
from runcast.errors import InvalidRequest, NotFound, TooLarge
from runcast.runs import Principal
from runcast.service import CancelResult
from runcast.transcript import load
from runcast.transports.ai_sdk_asking import ENVELOPE_BYTES, Asked, Told, active, ask, body_limit, subscribed
from runcast.transports.endpoint import Endpoint
from runcast.transports.gateway import Gateway, Place
from runcast.transports.openapi import Operations, operation
from runcast.transports.presented import QueryToken
from runcast.transports.problems import HttpError
from runcast.transports.requests import json_answer, read_text
from runcast.transports.sse import EventStream, Framing
from runcast.transports.whole import whole, whole_transcript
from runcast.transports.wire import App, Scope, header_values, query_of

PATH: Final = "/api/chat"
HEADER: Final = "x-ai-sdk-version"

HEADERS: Final = {
    "content-type": "text/event-stream",
    "cache-control": "no-cache",
    "x-vercel-ai-ui-message-stream": "v1",
    "x-accel-buffering": "no",
}
"""As `UI_MESSAGE_STREAM_HEADERS` of `ai` 5 to 7, but `connection`, which is the server's to say (RFC 9113, section 8.2.2)."""

FRAMING: Final = Framing(ids=False, tail=b"[DONE]")

What = Literal["chat", "stream", "messages", "stop"]
BELOW: Final[dict[str, tuple[What, str]]] = {
    "": ("chat", "POST"),
    "/{chat_id}/stream": ("stream", "GET"),
    "/{chat_id}/messages": ("messages", "GET"),
    "/{chat_id}/stop": ("stop", "POST"),
}
"""What stands at and below the path of a chat, and its method."""
SOCKET: Final = "/ws"
"""Where, below it, `WebSocketChatTransport` finds its WebSocket (`transports.ai_sdk_socket`)."""


class Messages(msgspec.Struct, frozen=True, kw_only=True):
    """A chat as its page has it. `active`: the message behind these is being written; its stream tells it."""

    id: str
    messages: list[dict[str, Any]]
    active: bool


STRUCTS: Final[tuple[type[msgspec.Struct], ...]] = (Asked, Messages)
"""What is taken and answered, for the OpenAPI document."""

_VERSION: Final = {"v": "The version of `ai` in the front end: 5, 6 or 7."}
_STREAM: Final = "The assistant message in chunks (`UIMessageChunk` of `ai`), then `[DONE]`."

OPERATIONS: Final[Mapping[What, Operations]] = {
    "chat": {
        "post": operation(
            "ai-sdk",
            "Say something, or go on",
            _STREAM,
            names=(),
            query={
                **_VERSION,
                "agent": "Who answers; the default agent if it is left out.",
                "on_disconnect": "What it means that the client hangs up: `continue` or `cancel`.",
            },
            body=Asked,
        )
    },
    "stream": {
        "get": operation(
            "ai-sdk",
            "Take up the message that is being written",
            _STREAM,
            names=("chat_id",),
            query={**_VERSION, "ended": "`true`: the newest message also if it is complete."},
            empty="None is being written.",
        )
    },
    "messages": {
        "get": operation(
            "ai-sdk", "The chat's messages", "UI messages.", names=("chat_id",), query=_VERSION, answer=Messages
        )
    },
    "stop": {
        "post": operation(
            "ai-sdk", "Stop what runs and waits", "How it stands.", names=("chat_id",), answer=CancelResult
        )
    },
}


def ai_sdk_endpoints(gateway: Gateway, dialect: AiSdk, query_token: QueryToken) -> dict[str, App]:
    """The applications of one chat by what follows its path."""
    return {
        below: AiSdkEndpoint(gateway, dialect, what, method, query_token) for below, (what, method) in BELOW.items()
    }


class AiSdkEndpoint(Endpoint):
    """The ASGI application behind one of the paths."""

    def __init__(self, gateway: Gateway, dialect: AiSdk, what: What, method: str, query_token: QueryToken) -> None:
        self._gateway = gateway
        self._dialect = dialect
        self._what: What = what
        self.methods = (method,)
        self._query_token: QueryToken = query_token

    @property
    def operations(self) -> Operations:
        return OPERATIONS[self._what]

    async def _respond(self, request: Request) -> Response:
        principal = (await self._gateway.identify_scope(request.scope, query_token=self._query_token)).principal
        version = version_of(request.scope, self._dialect.version)
        if (chat := request.path_params.get("chat_id")) is not None and (fault := conversation_fault(str(chat))):
            raise InvalidRequest(f"The id of the chat {fault}.")
        match self._what:
            case "chat":
                return await self._chat(request, principal, version)
            case "stream":
                return await self._stream(request, principal, version)
            case "messages":
                return await self._messages(request, principal, version)
            case "stop":
                return await self._stop(request, principal)

    async def _chat(self, request: Request, principal: Principal, version: Version) -> Response:
        asked = asked_in(await read_text(request, body_limit(self._gateway)))
        query = query_of(request.scope)
        asked.agent = asked.agent or query.get("agent")
        if (chosen := query.get("on_disconnect")) is not None:
            if chosen not in ("continue", "cancel"):
                raise InvalidRequest("`on_disconnect` is `continue` or `cancel`.")
            asked.on_disconnect = chosen
        with self._gateway.claim(principal) as place:  # before anything is sent: refused means that nothing was
            told = await ask(self._gateway, principal, asked)
            return await self._tell(principal, told, version, place)

    async def _stream(self, request: Request, principal: Principal, version: Version) -> Response:
        ended = query_of(request.scope).get("ended") == "true"
        told = await active(self._gateway, principal, str(request.path_params["chat_id"]), ended=ended)
        if told is None:
            return Response(status_code=204)
        with self._gateway.claim(principal) as place:
            return await self._tell(principal, told, version, place)

    async def _messages(self, request: Request, principal: Principal, version: Version) -> Response:
        service, chat = self._gateway.service, str(request.path_params["chat_id"])
        thread = await service.find_thread(principal, chat)
        if thread is None:
            return json_answer(Messages(id=chat, messages=[], active=False))  # one that nobody has begun
        transcript = load((await service.view(principal, thread.id)).transcript)
        await whole_transcript(service, principal, transcript)
        messages, active = history_of(thread.id, transcript, version)
        return json_answer(Messages(id=chat, messages=messages, active=active))

    async def _tell(self, principal: Principal, told: Told, version: Version, place: Place) -> Response:
        encoder = AiSdkEncoder(told.start, version=version, shown_after=told.shown_after)
        subscription = await subscribed(self._gateway, principal, told)
        return EventStream(
            self._gateway,
            subscription,
            encoder,
            place.keep(),
            framing=FRAMING,
            headers=HEADERS,
            complete=partial(whole, self._gateway.service, principal),
        )

    async def _stop(self, request: Request, principal: Principal) -> Response:
        service = self._gateway.service
        thread = await service.find_thread(principal, str(request.path_params["chat_id"]))
        if thread is None:
            raise NotFound("There is no such conversation.")
        return json_answer(await service.cancel(principal, Cancel(id=self._gateway.new_id(), thread=thread.id)))


def version_of(scope: Scope, default: Version) -> Version:
    """
    Raises:
        InvalidRequest: a version that is not known.
    """
    given = query_of(scope).get("v") or next(iter(header_values(scope, HEADER)), "")
    if not given:
        return default
    version = VERSIONS.get(re.sub(r"\..*", "", given))
    if version is None:
        raise InvalidRequest("The version of `ai` is 5, 6 or 7.")
    return version


def asked_in(text: str) -> Asked:
    """What a request's JSON text asks.

    Raises:
        HttpError: 400 not JSON.
        TooLarge: more than `ENVELOPE_BYTES` beside data URLs.
        InvalidRequest: JSON, but no request.
    """
    envelope = without_data(text)
    if len(envelope) > ENVELOPE_BYTES or too_many(envelope):
        raise TooLarge(f"Beside its files a request has at most {ENVELOPE_BYTES} bytes; send the newest message only.")
    if too_deep(envelope):
        raise InvalidRequest(f"The body nests deeper than {MAX_DEPTH} levels.")
    try:
        asked = msgspec.json.decode(text, type=Asked)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"{error}.") from None
    except (ValueError, RecursionError):
        raise HttpError(400, "invalid_json", "The body is not valid JSON.") from None
    if fault := conversation_fault(asked.id):
        raise InvalidRequest(f"`id` {fault}.")
    return asked
