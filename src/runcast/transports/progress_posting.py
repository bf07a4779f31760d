"""The HTTP side of the `progress` dialect: a message by POST, answered when its run is over; and who is signed in.

The run does not hang on the request, and the request does not hang on the sockets: one that takes nothing is not waited for.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import anyio
import msgspec
from starlette.requests import Request
from starlette.responses import Response

from runcast.commands import Send as SendCommand
from runcast.dialects.base import BadFrame
from runcast.dialects.progress import answer_of, message_of
from runcast.dialects.run_fold import failure_of
from runcast.errors import InvalidRequest, NotFound, RateLimited
from runcast.events import Record, RunError
from runcast.runs import Message, OnBusy, Principal
from runcast.service import Sent
from runcast.transports.endpoint import Endpoint
from runcast.transports.gateway import FULL_MS, Gateway
from runcast.transports.leaving import unless_gone
from runcast.transports.posting import STATUS_OF_FAILURE, whole_run
from runcast.transports.presented import QueryToken
from runcast.transports.problems import problem
from runcast.transports.progress import ProgressConnection, ProgressSocket, Tabs, user_of
from runcast.transports.progress_watches import DELETED
from runcast.transports.requests import json_answer, read_text
from runcast.transports.wire import App, Scope

TOLD_S: Final = 1.0
"""What the sockets get at most to say `agent_done` before the POST is answered."""

UNLIMITED_S: Final = 86_400
"""For how long a session is said to last that has no end."""

_STATUS: Final = {**STATUS_OF_FAILURE, "interrupted": 503, "rate_limited": 429}


class ProgressEndpoints:
    """The endpoints of one server: they know of each other's sockets."""

    def __init__(self, gateway: Gateway, query_token: QueryToken) -> None:
        self._gateway = gateway
        self._query_token: QueryToken = query_token
        self._tabs = Tabs()

    def socket(self) -> App:
        return ProgressSocket(self._gateway, self._tabs, self._query_token)

    def post(self) -> App:
        return ProgressPost(self._gateway, self._tabs, self._query_token)

    def session(self) -> App:
        return ProgressSession(self._gateway, self._query_token)


class ProgressPost(Endpoint):
    """`POST /api/{user_id}/chat`, as an ASGI application."""

    def __init__(self, gateway: Gateway, tabs: Tabs, query_token: QueryToken) -> None:
        self._gateway = gateway
        self._tabs = tabs
        self._query_token: QueryToken = query_token

    async def _respond(self, request: Request) -> Response:
        gateway = self._gateway
        principal = (await user_of(gateway, request.scope, self._query_token)).principal
        try:
            text, conversation = message_of(await read_text(request))
        except BadFrame as bad:
            raise InvalidRequest(bad.message) from None
        gateway.refuse_while_draining()
        tabs = self._tabs.of(principal)  # those that are there before it begins hear its end
        sent, conversation = await self._send(principal, text, conversation)
        subscription = await gateway.service.subscribe_run(principal, sent.run)
        with gateway.wait():
            records = await unless_gone(request, whole_run(gateway, principal, subscription, whole_results=True))
        if records is None:
            with contextlib.suppress(NotFound):
                await gateway.service.sender_gone(principal, sent.run)
            return Response(status_code=204)  # nobody gets it
        await self._let_hear(
            sent.run, [*tabs, *(tab for tab in self._tabs.of(principal) if tab.watches.expects(sent.run))]
        )
        return self._answer(request.scope, conversation, records)

    async def _send(self, principal: Principal, text: str, conversation: str | None) -> tuple[Sent, str]:
        """Say it in that conversation; in a new one if it is not there, or not one's own. A question that the conversation waits
        on is withdrawn: nobody can answer it here, and the message would wait behind it."""
        service = self._gateway.service
        thread = None if conversation is None else await service.find_thread(principal, conversation)
        if thread is not None and conversation is not None:
            try:
                on_busy = "interrupt" if thread.status == "waiting" else "enqueue"
                return await service.send(principal, self._command(text, thread.id, on_busy)), conversation
            except NotFound:
                pass  # deleted meanwhile
        sent = await service.send(principal, self._command(text, None))
        return sent, sent.thread

    def _command(self, text: str, thread: str | None, on_busy: OnBusy = "enqueue") -> SendCommand:
        id = self._gateway.new_id()
        return SendCommand(id=id, thread=thread, message=Message(id=id, content=text), on_busy=on_busy)

    async def _let_hear(self, run: str, tabs: Sequence[ProgressConnection]) -> None:
        with anyio.move_on_after(TOLD_S):
            async with anyio.create_task_group() as tasks:
                for tab in dict.fromkeys(tabs):
                    tasks.start_soon(tab.watches.told, run)

    def _answer(self, scope: Scope, conversation: str, records: Sequence[Record]) -> Response:
        if not records:
            return problem(scope, 409, "cancelled", DELETED)
        event = records[-1].event
        failure = failure_of(event)
        if failure is None:
            return Response(answer_of(records, conversation), media_type="application/json")
        code, message = failure
        wait = event.retry_after_ms if isinstance(event, RunError) else None
        retry_after_ms = wait if isinstance(wait, int) else None
        status = 409 if code == "cancelled" else _STATUS.get(code, 502)
        if status == 429:
            return self._limited(scope, code, message, retry_after_ms)
        return problem(scope, status, code, message, retry_after_ms=retry_after_ms)

    def _refused(self, scope: Scope, error: Exception) -> Response:
        if isinstance(error, RateLimited):
            return self._limited(scope, error.code, error.message, error.retry_after_ms)
        return super()._refused(scope, error)

    def _limited(self, scope: Scope, code: str, message: str, retry_after_ms: int | None) -> Response:
        """429, with the time from which on it may be tried again."""
        wait_ms = FULL_MS if retry_after_ms is None else retry_after_ms
        response = problem(scope, 429, code, message, retry_after_ms=wait_ms)
        body: dict[str, Any] = msgspec.json.decode(response.body)
        body["resets_at"] = _iso(self._gateway.clock.now_ms() + wait_ms)
        return json_answer(body, 429, {"retry-after": response.headers["retry-after"]})


class ProgressSession(Endpoint):
    """`GET /api/auth/session`, as an ASGI application: who is signed in, for pages that ask. Signing in is the application's."""

    methods = ("GET", "HEAD")

    def __init__(self, gateway: Gateway, query_token: QueryToken) -> None:
        self._gateway = gateway
        self._query_token: QueryToken = query_token

    async def _respond(self, request: Request) -> Response:
        identity = await self._gateway.identify_scope(request.scope, query_token=self._query_token)
        user = identity.principal.user
        inbox = await self._gateway.service.follow_inbox(identity.principal)
        inbox.close()
        expires_at = identity.expires_at or self._gateway.clock.now_ms() + UNLIMITED_S * 1000
        return json_answer(
            {
                "authenticated": True,
                "user": {
                    "id": user,
                    "email": user if "@" in user else "",
                    "created_at": _iso(inbox.thread.created_at),
                    "updated_at": _iso(inbox.thread.updated_at),
                },
                "expires_at": _iso(expires_at),
            }
        )


def _iso(ms: int) -> str:
    """Unix milliseconds as ISO 8601 with offset, UTC."""
    moment = datetime.fromtimestamp(ms // 1000, UTC).replace(microsecond=ms % 1000 * 1000)
    return moment.isoformat(timespec="milliseconds")
