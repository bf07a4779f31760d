"""The `ai-sdk` dialect over a WebSocket: what `WebSocketChatTransport` of `ai` 7 speaks. Many requests share a connection.

    client  {type: "send", requestId, id, trigger, messageId?, messages, body?}    {type: "resume", requestId, id}
            {type: "abort", requestId}
    server  {type: "start", requestId}  {type: "chunk", requestId, sequence, chunk}  {type: "end", requestId}
            {type: "error", requestId, errorText}  {type: "no-active", requestId}

`sequence` counts the chunks of a request from 0, without a gap. A message is always replayed whole, so a client has no cursor to
give. `abort`, like a lost line, only ends the telling: the run goes on as `on_disconnect` says.

A request's stream ends with `end` behind its message's last chunk, never otherwise: else the connection is closed, which the
client takes for what it is.
"""

from __future__ import annotations

import logging
from typing import Any, Final, Literal

import anyio
import anyio.lowlevel
import msgspec

from runcast import events as e
from runcast.dialects.ai_sdk import AiSdkEncoder, Version
from runcast.dialects.json_texts import MAX_DEPTH, too_deep, too_many
from runcast.dialects.messages import conversation_fault
from runcast.errors import (
    ClientError,
    Forbidden,
    InvalidRequest,
    NotFound,
    RuncastError,
    Unauthenticated,
    describe,
)
from runcast.session import NOT_FOUND_MESSAGE, Close, CloseCode, close_for
from runcast.transports.ai_sdk_asking import Asked, Told, active, ask, subscribed
from runcast.transports.connection import ASK_TIMEOUT_S, FAILED, DialectConnection
from runcast.transports.gateway import FLUSH_S, Gateway
from runcast.transports.inflow import Inflow
from runcast.transports.presented import QueryToken
from runcast.transports.whole import whole
from runcast.transports.wire import Message, Receive, Scope, Send, request_id_of

logger = logging.getLogger("runcast.ai_sdk")

MAX_FRAME_BYTES: Final = 1024 * 1024
"""A message brings its whole history; the server takes no longer frame on any WebSocket."""
MAX_REQUESTS: Final = 16
"""Of one connection at a time."""
VERSION: Final[Version] = 7
"""The first that has this transport."""


class _Request(msgspec.Struct, rename="camel"):
    """A client's frame. Unknown fields, such as `headers`, are ignored."""

    type: Literal["send", "resume", "abort"]
    request_id: str
    id: str = ""
    trigger: Literal["submit-message", "regenerate-message"] = "submit-message"
    message_id: str | None = None
    messages: list[dict[str, Any]] = []
    body: dict[str, Any] = {}
    last_sequence: int | None = None


class AiSdkSocket:
    """The ASGI application behind the path."""

    def __init__(self, gateway: Gateway, query_token: QueryToken) -> None:
        self._gateway = gateway
        self._query_token: QueryToken = query_token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await _Connection(self._gateway, scope, receive, send, self._query_token).run()


class _Connection(DialectConnection):
    def __init__(self, gateway: Gateway, scope: Scope, receive: Receive, send: Send, query_token: QueryToken) -> None:
        super().__init__(gateway, scope, receive, send)
        self._query_token: QueryToken = query_token
        self._requests: dict[str, anyio.CancelScope] = {}
        self._inflow = Inflow(gateway.clock.monotonic(), max_frame_bytes=MAX_FRAME_BYTES)

    # --- life -----------------------------------------------------------------------------------------------------

    async def _enter(self) -> Close | None:
        try:
            identity = await self._gateway.identify_scope(self._scope, query_token=self._query_token)
        except (Unauthenticated, Forbidden) as error:
            refusal = close_for(error)
        else:
            self._principal, self._expires_at = identity.principal, identity.expires_at
            refusal = self._claim()
        await self._accept_socket()
        return refusal

    async def _live(self) -> None:
        self._tasks.start_soon(self._keep_time)
        await self._read()

    async def _finish(self) -> None:
        with anyio.move_on_after(FLUSH_S):  # what is in the log is still said
            while self._requests:
                await anyio.sleep(0.01)
        self._end(Close(CloseCode.RESTART, "The server restarts."))

    # --- in -------------------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        while self._close is None:
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                return
            data: str | bytes = message.get("text") or message.get("bytes") or b""
            self._close = self._inflow.take(data, self._gateway.clock.monotonic())
            if self._close is not None:
                return
            try:
                request = _request_in(message)
            except InvalidRequest as error:
                self._close = Close(CloseCode.PROTOCOL, error.message[:120])
                return
            if request.type == "abort":
                if (scope := self._requests.get(request.request_id)) is not None:
                    scope.cancel()
            elif len(self._requests) >= MAX_REQUESTS:
                await self._say_error(request.request_id, InvalidRequest("Too many requests at once."))
            elif request.request_id in self._requests:
                await self._say_error(request.request_id, InvalidRequest("This `requestId` is in use."))
            else:
                scope = self._requests[request.request_id] = anyio.CancelScope()
                self._tasks.start_soon(self._answer, request, scope)

    # --- out ------------------------------------------------------------------------------------------------------

    async def _answer(self, request: _Request, scope: anyio.CancelScope) -> None:
        try:
            with scope:
                try:
                    told = await self._asked(request)
                except Exception as error:
                    await self._say_error(request.request_id, error)
                else:
                    if told is None:
                        await self._say("no-active", request.request_id)
                    else:
                        await self._tell(request.request_id, told)
        except OSError:  # uvicorn's ClientDisconnected is one
            self._end(None)
        except Exception:
            logger.exception("websocket failed", extra={"request_id": request_id_of(self._scope)})
            self._end(FAILED)
        finally:
            self._requests.pop(request.request_id, None)

    async def _asked(self, request: _Request) -> Told | None:
        if fault := conversation_fault(request.id):
            raise InvalidRequest(f"`id` {fault}.")
        if request.type == "resume":
            if request.last_sequence is not None:
                raise InvalidRequest("A message is replayed whole; leave `lastSequence` out.")
            return await active(self._gateway, self._principal, request.id)
        given = {**request.body, "id": request.id, "messages": request.messages, "trigger": request.trigger}
        try:
            asked = msgspec.convert({**given, "messageId": request.message_id}, Asked)
        except msgspec.ValidationError as error:
            raise InvalidRequest(f"{error}.") from None
        with anyio.fail_after(ASK_TIMEOUT_S, shield=True):  # what was begun is finished, also if the client goes away
            return await ask(self._gateway, self._principal, asked)

    async def _tell(self, request: str, told: Told) -> None:
        encoder = AiSdkEncoder(told.start, version=VERSION, shown_after=told.shown_after)
        with anyio.fail_after(
            ASK_TIMEOUT_S, shield=True
        ):  # whoever asked is a watcher, if only to be one that has gone
            subscription = await subscribed(self._gateway, self._principal, told)
        head = b'{"type":"chunk","requestId":%b,"sequence":' % e.encode_value(request)
        sequence = 0
        try:
            await self._say("start", request)
            async for update in subscription:
                for frame in encoder.update(await whole(self._gateway.service, self._principal, update)):
                    await self._outlet.send(b'%b%d,"chunk":%b}' % (head, sequence, frame.data))
                    sequence += 1
                    if frame.ends:
                        await self._say("end", request)
                        return
                update = None  # while this reader is stuck it holds nothing but what is in its socket (I10)
                if self._outlet.is_full:
                    await self._outlet.room()
                else:
                    await anyio.lowlevel.checkpoint()  # a replay may never wait otherwise, and others want their turn
        finally:
            subscription.close()
        await self._say_error(request, NotFound("The conversation was deleted."))

    async def _say(self, type: str, request: str, **more: str) -> None:
        await self._outlet.send(e.encode_value({"type": type, "requestId": request, **more}))

    async def _say_error(self, request: str, error: Exception) -> None:
        _, message = describe(error)
        if isinstance(error, NotFound):
            message = NOT_FOUND_MESSAGE
        if not isinstance(error, ClientError):
            level = logging.WARNING if isinstance(error, RuncastError) else logging.ERROR
            logger.log(level, "request failed", exc_info=error, extra={"request_id": request_id_of(self._scope)})
        await self._say("error", request, errorText=message)


def _request_in(message: Message) -> _Request:
    """
    Raises:
        InvalidRequest: it is no frame of this protocol.
    """
    text = message.get("text")
    if text is None:
        raise InvalidRequest("Binary messages are not understood.")
    if too_many(text) or too_deep(text):
        raise InvalidRequest(f"The message nests deeper than {MAX_DEPTH} levels, or holds too much.")
    try:
        request = msgspec.json.decode(text, type=_Request)
    except (ValueError, RecursionError):  # msgspec.DecodeError; a lone surrogate is a UnicodeEncodeError
        raise InvalidRequest("The message is no request of this protocol.") from None
    if not 0 < len(request.request_id) <= 128:
        raise InvalidRequest("`requestId` has 1 to 128 characters.")
    return request
