"""AG-UI 1.0 over HTTP: a POST per run, as its `HttpAgent` makes it, and what that protocol leaves open.

    POST {path}/{agent}                      run: `RunAgentInput` in, server-sent events out
    GET  {path}/{agent}?threadId=&runId=     attach: the conversation as it stands, then its run live
    POST {path}/{agent}/cancel               {"threadId", "runId"?}: stop the run, or whatever runs

A POST with a `threadId` and `runId` that are known attaches to that run, and so does one that says nothing new. A client that
hangs up has gone, whatever it meant: the stock Stop button is a broken request. What becomes of the run then is `on_disconnect`,
here also `?onDisconnect=` for one run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from runcast.commands import Cancel, Subscribe
from runcast.dialects.ag_ui import AgUi
from runcast.dialects.base import Options, Start
from runcast.errors import InvalidRequest, NotFound
from runcast.ids import EXTERNAL_ID
from runcast.runs import OnDisconnect, Principal, Run, Thread
from runcast.subscription import Subscription
from runcast.transports.ag_ui_asking import Asked, Asking, RunAgentInput, check_first
from runcast.transports.ag_ui_following import Following, nothing_yet
from runcast.transports.endpoint import Endpoint
from runcast.transports.gateway import Gateway, Place
from runcast.transports.openapi import Operations, operation
from runcast.transports.presented import QueryToken
from runcast.transports.problems import HttpError
from runcast.transports.requests import json_answer, read_json
from runcast.transports.sse import EventStream, Framing
from runcast.transports.wire import App, query_of

PATH: Final = "/ag-ui"
AGENT: Final = "/{agent}"
"""What follows a path that does not say itself where the agent's name stands."""

FRAMING = Framing(ids=False)

ENVELOPE_BYTES: Final = 4 * 1024 * 1024
"""What a `RunAgentInput` may have beside its files: it has the whole conversation in it."""

What = Literal["agent", "cancel"]
BELOW: Final[Mapping[str, tuple[What, tuple[str, ...]]]] = {
    "": ("agent", ("GET", "POST")),
    "/cancel": ("cancel", ("POST",)),
}
"""What stands at and below an agent's path, and its methods."""


class ToCancel(Struct, frozen=True, kw_only=True, rename="camel"):
    thread_id: str
    run_id: str | None = None
    reason: str | None = None


class Cancelled(Struct, frozen=True, kw_only=True, rename="camel"):
    """How the run stands, under the client's names."""

    thread_id: str
    run_id: str | None
    status: str


STRUCTS: Final[tuple[type[Struct], ...]] = (RunAgentInput, ToCancel, Cancelled)
"""What is taken and answered, for the OpenAPI document."""

_GONE: Final = "What it means that the client hangs up: `continue` or `cancel`."

OPERATIONS: Final[Mapping[What, Operations]] = {
    "agent": {
        "post": operation(
            "ag-ui",
            "Run the agent",
            "The run's events (AG-UI 1.0), from the first to RUN_FINISHED or RUN_ERROR.",
            names=("agent",),
            query={"onDisconnect": _GONE},
            body=RunAgentInput,
        ),
        "get": operation(
            "ag-ui",
            "Attach",
            "The conversation as it stands, then its run live.",
            names=("agent",),
            query={
                "threadId": "The client's own id of the conversation. It must be there.",
                "runId": "The client's own id of the run: that one; else the one that goes on, else the last.",
                "protocolVersion": "As in `RunAgentInput`; none is before 1.0.",
            },
        ),
    },
    "cancel": {
        "post": operation("ag-ui", "Stop the run", "How it stands.", names=("agent",), body=ToCancel, answer=Cancelled),
    },
}


def agent_path(path: str) -> str:
    """Where the agents are that a setting puts at `path`: below it, unless it names the agent itself."""
    return path if AGENT in path else path + AGENT


def ag_ui_endpoints(gateway: Gateway, dialect: AgUi, query_token: QueryToken) -> dict[str, App]:
    """The applications of the agents by what follows their path."""
    return {
        below: AgUiEndpoint(gateway, dialect, what, methods, query_token) for below, (what, methods) in BELOW.items()
    }


class AgUiEndpoint(Endpoint):
    """The ASGI application behind one of the paths."""

    def __init__(
        self, gateway: Gateway, dialect: AgUi, what: What, methods: tuple[str, ...], query_token: QueryToken
    ) -> None:
        self._gateway = gateway
        self._routes = _Routes(gateway, dialect)
        self._what: What = what
        self.methods = methods
        self._query_token: QueryToken = query_token

    @property
    def operations(self) -> Operations:
        return OPERATIONS[self._what]

    async def _respond(self, request: Request) -> Response:
        routes, agent, query = self._routes, str(request.path_params["agent"]), query_of(request.scope)
        # Who it is comes before anything that is asked is looked at.
        principal = (await self._gateway.identify_scope(request.scope, query_token=self._query_token)).principal
        routes.check(principal, agent)
        if self._what == "cancel":
            return await routes.cancel(principal, await read_json(request, ToCancel))
        if request.method == "GET":
            if (thread := query.get("threadId")) is None:
                raise InvalidRequest("Say which conversation: `?threadId=`.")
            return await routes.attach(principal, thread, query.get("runId"), query.get("protocolVersion"))
        on_disconnect = _on_disconnect(query)
        limit = body_limit(self._gateway)
        given = await read_json(request, RunAgentInput, max_bytes=limit, max_envelope=ENVELOPE_BYTES)
        self._gateway.refuse_while_draining()
        return await routes.run(principal, agent, given, on_disconnect)


def body_limit(gateway: Gateway) -> int:
    """The longest `RunAgentInput`, in bytes. Files come as base64, four characters for three bytes."""
    return gateway.service.uploads.limits.max_bytes * 4 // 3 + ENVELOPE_BYTES


def _on_disconnect(query: Mapping[str, str]) -> OnDisconnect | None:
    match query.get("onDisconnect"):
        case None:
            return None
        case "continue" | "cancel" as chosen:
            return chosen
        case _:
            raise InvalidRequest("`onDisconnect` is `continue` or `cancel`.")


class _Routes:
    def __init__(self, gateway: Gateway, dialect: AgUi) -> None:
        self._gateway = gateway
        self._dialect = dialect

    def check(self, principal: Principal, agent: str) -> None:
        """
        Raises:
            HttpError: 404, there is no such agent.
        """
        known = [one.name for one in self._gateway.service.agents(principal)]
        if agent not in known:
            raise HttpError(404, "not_found", f"There is no agent {agent[:64]!r}; there are: {', '.join(known)}.")

    async def run(
        self, principal: Principal, agent: str, given: RunAgentInput, on_disconnect: OnDisconnect | None
    ) -> Response:
        service = self._gateway.service
        if EXTERNAL_ID.match(given.run_id) is None:
            raise InvalidRequest("`runId` must be 1-128 characters, without `/` and control characters.")
        with self._gateway.claim(principal) as place:  # before anything is started: refused means that nothing was
            thread = await service.find_thread(principal, given.thread_id)
            if thread is None:
                check_first(given)
                thread = await service.open_thread(principal, given.thread_id, agent=agent)
            asked = await Asking(service, principal, thread, agent, given, on_disconnect).ask()
            run = await service.get_run(principal, asked.run)
            options = _options(given.run_id, given.protocol_version)
            if asked.is_new:
                inner = await service.follow(principal, thread.id, after=run.first_seq - 1)
            else:
                inner = await service.subscribe(principal, Subscribe(id="", thread=thread.id))
            return self._stream(principal, thread, run, inner, given.thread_id, options, place, asked)

    async def attach(self, principal: Principal, thread_id: str, run_id: str | None, version: str | None) -> Response:
        service = self._gateway.service
        with self._gateway.claim(principal) as place:
            thread = await service.find_thread(principal, thread_id)
            options = _options(run_id, version)
            if thread is None:
                frames = self._dialect.encoder(Start("", "", 0, None, thread_id, options)).update(nothing_yet())
                body = FRAMING.text(frames, "")
                return Response(body, headers={"cache-control": "no-store"}, media_type="text/event-stream")
            run = None if run_id is None else await service.find_run(principal, thread.id, run_id)
            inner = await service.subscribe(principal, Subscribe(id="", thread=thread.id))
            return self._stream(principal, thread, run, inner, thread_id, options, place)

    def _stream(
        self,
        principal: Principal,
        thread: Thread,
        run: Run | None,
        inner: Subscription,
        called: str,
        options: Options,
        place: Place,
        asked: Asked | None = None,
    ) -> Response:
        start = Start(thread.id, inner.epoch, inner.start, None if run is None else run.id, called, options)
        updates = Following(self._gateway.service, principal, inner, None if run is None else run.id)
        encoder = self._dialect.encoder(start)
        if asked is not None:
            encoder.knows(asked.calls)
            if asked.is_settled:
                encoder.settle()
        return EventStream(self._gateway, updates, encoder, place.keep(), with_ids=False)

    async def cancel(self, principal: Principal, given: ToCancel) -> Response:
        service = self._gateway.service
        thread = await service.find_thread(principal, given.thread_id)
        if thread is None:
            raise NotFound("There is no such conversation.")
        command = Cancel(id=self._gateway.new_id(), thread=thread.id, reason=given.reason)
        if given.run_id is not None:
            run = await service.find_run(principal, thread.id, given.run_id)
            if run is None:
                raise NotFound("There is no such run.")
            command = Cancel(id=command.id, run=run.id, reason=given.reason)
        result = await service.cancel(principal, command)
        return json_answer(
            Cancelled(thread_id=given.thread_id, run_id=given.run_id or result.run, status=result.status)
        )


def _options(run_id: str | None, version: str | None) -> Options:
    given = {"run": run_id, "protocolVersion": version}
    return {name: value for name, value in given.items() if value is not None}
