"""A message dialect over plain HTTP: the body of a POST is a message, the answer is one JSON object or a stream of frames.

For networks that let no WebSocket through, and for programs. The run does not hang on the request: a client that hangs up
is one that has gone (`on_disconnect`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final, Literal

from starlette.requests import Request
from starlette.responses import Response

from runcast.dialects.base import AnswerDialect, Ask, BadFrame, Start
from runcast.dialects.run_fold import failure_of
from runcast.errors import InvalidRequest, NotFound
from runcast.events import TERMINAL, Record
from runcast.runs import Principal
from runcast.service import Sent
from runcast.subscription import RunSubscription
from runcast.transports.asking import ask_agent, thread_of
from runcast.transports.endpoint import Endpoint
from runcast.transports.gateway import Gateway
from runcast.transports.leaving import unless_gone
from runcast.transports.presented import QueryToken
from runcast.transports.problems import problem
from runcast.transports.requests import read_text, wants_stream
from runcast.transports.sse import EventStream
from runcast.transports.whole import whole
from runcast.transports.wire import Scope
from runcast.updates import Events

STATUS_OF_FAILURE: Final = {"timeout": 504, "unavailable": 503, "model_unavailable": 503, "storage_unavailable": 503}
"""The HTTP status of a run that failed, by its code; 502 for all others, 409 for one that was stopped."""


How = Literal["answer", "stream", "as accepted"]
"""`as accepted`: a stream for a client that accepts server-sent events (RFC 9110, section 12.5.1), else one answer."""


class PostEndpoint(Endpoint):
    """The ASGI application behind one path."""

    def __init__(self, gateway: Gateway, dialect: AnswerDialect, how: How, query_token: QueryToken) -> None:
        self._gateway = gateway
        self._dialect = dialect
        self._how: How = how
        self._query_token: QueryToken = query_token

    async def _respond(self, request: Request) -> Response:
        gateway = self._gateway
        principal = (await gateway.identify_scope(request.scope, query_token=self._query_token)).principal
        try:
            ask = self._dialect.decode(await read_text(request))
        except BadFrame as bad:
            raise InvalidRequest(bad.message) from None
        if ask is None:
            raise InvalidRequest("There is no message in it.")
        thread = None if ask.conversation is None else await thread_of(gateway, principal, ask.conversation)
        with gateway.claim(principal) as place:  # before anything is sent: refused means that nothing was
            sent = await ask_agent(gateway, principal, ask, thread)
            subscription = await gateway.service.subscribe_run(principal, sent.run)
            start = start_of(subscription, sent, ask)
            if self._how == "stream" or (self._how == "as accepted" and wants_stream(request)):
                complete = partial(whole, gateway.service, principal) if self._dialect.whole_results else None
                encoder = self._dialect.encoder(start)
                return EventStream(gateway, subscription, encoder, place.keep(), with_ids=False, complete=complete)
        with gateway.wait():
            told = whole_run(gateway, principal, subscription, whole_results=self._dialect.whole_results)
            records = await unless_gone(request, told)
        if records is None:
            await gateway.service.sender_gone(principal, sent.run)
            return Response(status_code=204)  # nobody gets it
        return self._answer(request.scope, start, records)

    def _answer(self, scope: Scope, start: Start, records: Sequence[Record]) -> Response:
        if not records:
            raise NotFound("The conversation was deleted.")
        failure = failure_of(records[-1].event)
        if failure is not None:
            code, message = failure
            return problem(scope, 409 if code == "cancelled" else STATUS_OF_FAILURE.get(code, 502), code, message)
        return Response(self._dialect.answer(start, records), media_type="application/json")


def start_of(subscription: RunSubscription, sent: Sent, ask: Ask) -> Start:
    """What the encoder of the run that answers `ask` is made with."""
    return Start(
        subscription.thread.id,
        subscription.epoch,
        subscription.start,
        sent.run,
        ask.conversation or sent.thread,
        ask.options,
    )


async def whole_run(
    gateway: Gateway, principal: Principal, subscription: RunSubscription, *, whole_results: bool = False
) -> list[Record]:
    """All events of a run, when it has ended; empty if its thread is deleted before. Closes the subscription."""
    records: list[Record] = []
    try:
        async for update in subscription:
            if whole_results:
                update = await whole(gateway.service, principal, update)
            if isinstance(update, Events):
                records.extend(update.records)
    finally:
        subscription.close()
    return records if records and isinstance(records[-1].event, TERMINAL) else []
