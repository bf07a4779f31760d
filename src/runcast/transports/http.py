"""The native HTTP routes under `/v1`, and `/healthz`, `/readyz` (`spec/PROTOCOL.md`, "Native HTTP and SSE").

A route reads the request, asks the service one thing and writes the answer; errors are raised and become problems. Bodies are
decoded by the structs in `bodies`, which also make the OpenAPI document.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Query, Request
from msgspec import UNSET
from starlette.responses import JSONResponse, Response

from runcast.commands import Cancel, Edit, Resolve, Retry, Send, Steer, Subscribe
from runcast.dialects.base import Start
from runcast.dialects.native import NativeEncoder, fault_of_message
from runcast.errors import InvalidRequest
from runcast.runs import Message, Principal, Thread
from runcast.service import CancelResult, EventPage, ResolveResult, Sent, Service
from runcast.transports import ag_ui, ai_sdk, openapi, problems
from runcast.transports.answers import answer_of, event_list, resync_of, thread_view
from runcast.transports.bodies import (
    Again,
    AgentList,
    Decision,
    EditedMessage,
    EventList,
    Health,
    MessageToSend,
    NewMessage,
    NewThread,
    RunAnswer,
    SteeringMessage,
    Stop,
    ThreadChange,
    ThreadList,
    ThreadView,
)
from runcast.transports.durable_streams import durable_streams_routes
from runcast.transports.files import file_routes
from runcast.transports.gateway import Gateway, Place
from runcast.transports.leaving import unless_gone
from runcast.transports.openai import openai_routes
from runcast.transports.openai_responses import response_routes
from runcast.transports.openapi import Operations, answers, body_of
from runcast.transports.own_data import own_routes
from runcast.transports.requests import (
    After,
    Cursor,
    IdempotencyKey,
    LastEventId,
    Limit,
    Wait,
    checked_id,
    command_id,
    cursor_of,
    json_answer,
    read_json,
    wants_stream,
)
from runcast.transports.sse import EventStream
from runcast.updates import Resync

RUN_STREAM = "The run's events; ends after its last one. Ids are `<epoch>:<seq>`."
THREAD_STREAM = (
    "What follows the cursor, then live; without a cursor a `snapshot` event first. Ids are `<epoch>:<seq>`."
)


def build_api(gateway: Gateway, dialects: Callable[[], Mapping[str, Operations]] = dict) -> FastAPI:
    """The FastAPI application of the native routes, and of the dialects that have routes of their own. It knows nothing of peers,
    hosts and origins: see `guard`. `dialects`: what the document says of those that are mounted beside it."""
    app = FastAPI(
        title="Runcast",
        version="1",
        docs_url=None,  # Swagger UI and ReDoc load scripts from another origin
        redoc_url=None,
        openapi_url=None,  # FastAPI's own route asks nobody who they are
        redirect_slashes=False,
        **openapi.telemetry_off(),
    )
    problems.install(app)
    messages = (message_routes, event_routes, run_routes, branch_routes)
    for routes in (
        health_routes,
        thread_routes,
        *messages,
        file_routes,
        own_routes,
        durable_streams_routes,
        openai_routes,
        response_routes,
    ):
        app.include_router(routes(gateway))
    openapi.install(app, dialects, (*ag_ui.STRUCTS, *ai_sdk.STRUCTS))

    @app.get("/v1/openapi.json", include_in_schema=False)
    async def openapi_document(request: Request) -> Response:
        await gateway.identify_scope(request.scope)
        root: str = request.scope.get("root_path", "").rstrip("/")
        return JSONResponse(app.openapi() | ({"servers": [{"url": root}]} if root else {}))

    return app


def health_routes(gateway: Gateway) -> APIRouter:
    router = APIRouter(tags=["health"])

    @router.get("/healthz", **answers(Health, "The process answers."))
    async def healthz() -> Response:
        return json_answer(Health(status="ok"))

    @router.get("/readyz", **answers(Health, "New runs are taken.", also={503: (Health, "New runs are not taken.")}))
    async def readyz() -> Response:
        status = gateway.status
        return json_answer(Health(status=status), 200 if status == "ok" else 503)

    router.add_api_route("/healthz", healthz, methods=["HEAD"], include_in_schema=False)
    router.add_api_route("/readyz", readyz, methods=["HEAD"], include_in_schema=False)
    return router


def thread_routes(gateway: Gateway) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["threads"])

    @router.post(
        "/threads",
        **answers(Thread, "The new thread.", status=201, changes=True),
        **body_of(NewThread, optional=True),
    )
    async def create_thread(request: Request, idempotency_key: IdempotencyKey = None) -> Response:
        principal = await gateway.principal(request.scope)
        body = await read_json(request, NewThread, optional=True)
        gateway.refuse_while_draining()
        key = None if idempotency_key is None else command_id(idempotency_key, gateway.new_id)
        thread = await gateway.service.create_thread(principal, title=body.title, agent=body.agent, key=key)
        return json_answer(thread, 201, {"location": f"{request.scope.get('root_path', '')}/v1/threads/{thread.id}"})

    @router.get("/threads", **answers(ThreadList, "One's own threads: pinned ones first, then the newest."))
    async def list_threads(
        request: Request,
        q: Annotated[
            str, Query(max_length=200, description="Words that must all occur, in titles or in what was said.")
        ] = "",
        cursor: Annotated[str | None, Query(max_length=500)] = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 50,
    ) -> Response:
        principal = await gateway.principal(request.scope)
        page = await gateway.service.list_threads(principal, query=q, cursor=cursor, limit=limit)
        return json_answer(ThreadList(threads=page.threads, cursor=page.cursor))

    @router.get("/threads/{thread}", **answers(ThreadView, "The thread and the fold of its log."))
    async def get_thread(
        request: Request,
        thread: str,
        run: Annotated[
            str | None,
            Query(
                max_length=128,
                description="Only the path over this run to the newest end below it; `head`: the head run.",
            ),
        ] = None,
    ) -> Response:
        principal = await gateway.principal(request.scope)
        path = None if run is None else checked_id(run)
        return thread_view(await gateway.service.view(principal, checked_id(thread), run=path))

    @router.patch(
        "/threads/{thread}", **answers(Thread, "The thread as it is now.", changes=True), **body_of(ThreadChange)
    )
    async def update_thread(request: Request, thread: str) -> Response:
        principal = await gateway.principal(request.scope)
        body = await read_json(request, ThreadChange)
        title = None if body.title is UNSET else body.title
        pinned = None if body.pinned is UNSET else body.pinned
        if title is None and pinned is None:
            raise InvalidRequest("Nothing to change: give `title`, `pinned` or both.")
        return json_answer(
            await gateway.service.update_thread(principal, checked_id(thread), title=title, pinned=pinned)
        )

    @router.delete("/threads/{thread}", **answers(None, "It is gone.", status=204, changes=True))
    async def delete_thread(request: Request, thread: str) -> Response:
        principal = await gateway.principal(request.scope)
        await gateway.service.delete_thread(principal, checked_id(thread))
        return Response(status_code=204)

    return router


def message_routes(gateway: Gateway) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["messages"])
    documented = answers(
        Sent,
        "The message is in the log and its run exists.",
        status=202,
        changes=True,
        also={200: (RunAnswer, "With `wait`: the run, ended or waiting. As it stands if the time was over.")},
        streams=RUN_STREAM,
    ) | body_of(MessageToSend)

    async def send(
        request: Request, thread: str | None, wait: float, idempotency_key: str | None, last_event_id: str | None
    ) -> Response:
        principal = await gateway.principal(request.scope)
        body = await read_json(request, MessageToSend)
        gateway.refuse_while_draining()
        command = to_send(body, thread, idempotency_key, gateway)
        if wants_stream(request):
            with gateway.claim(principal) as place:  # before anything is sent: refused means that nothing was
                sent = await gateway.service.send(principal, command)
                headers = {"runcast-thread": sent.thread, "runcast-run": sent.run, "runcast-seq": str(sent.seq)}
                cursor = cursor_of(None, last_event_id)
                return await run_stream(gateway, principal, sent.run, cursor, headers, place)
        sent = await gateway.service.send(principal, command)
        if wait == 0:
            return json_answer(sent, 202)
        with gateway.wait():
            run = await unless_gone(request, gateway.service.wait_run(principal, sent.run, timeout_s=wait))
        if run is None:
            await gateway.service.sender_gone(principal, sent.run)
            return Response(status_code=204)  # nobody gets it
        return json_answer(await answer_of(gateway.service, principal, run, replayed=sent.replayed))

    @router.post("/threads/{thread}/messages", **documented)
    async def send_message(
        request: Request,
        thread: str,
        wait: Wait = 0,
        idempotency_key: IdempotencyKey = None,
        last_event_id: LastEventId = None,
    ) -> Response:
        return await send(request, checked_id(thread), wait, idempotency_key, last_event_id)

    @router.post("/messages", **documented)
    async def send_message_to_new_thread(
        request: Request, wait: Wait = 0, idempotency_key: IdempotencyKey = None, last_event_id: LastEventId = None
    ) -> Response:
        return await send(request, None, wait, idempotency_key, last_event_id)

    @router.post(
        "/interrupts/{interrupt}",
        **answers(ResolveResult, "It is answered.", changes=True),
        **body_of(Decision, optional=True),
    )
    async def resolve_interrupt(request: Request, interrupt: str, idempotency_key: IdempotencyKey = None) -> Response:
        principal = await gateway.principal(request.scope)
        body = await read_json(request, Decision, optional=True)
        gateway.refuse_while_draining()
        id = command_id(idempotency_key, gateway.new_id)
        command = Resolve(id=id, interrupt=checked_id(interrupt), status=body.status, payload=body.payload)
        return json_answer(await gateway.service.resolve(principal, command))

    return router


def event_routes(gateway: Gateway) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["events"])

    async def events(
        request: Request, principal: Principal, subscribe: Subscribe, cursor: Cursor | None, limit: int, wait: float
    ) -> Response:
        service = gateway.service
        if wants_stream(request):
            with gateway.claim(principal) as place:
                subscription = await service.subscribe(principal, subscribe)
                start = Start(subscription.thread.id, subscription.epoch, subscription.start)
                return EventStream(gateway, subscription, NativeEncoder(start), place.keep())

        async def page(wait_s: float) -> EventPage:
            after = cursor.seq if cursor else 0
            if subscribe.thread is None:
                return await service.read_inbox(principal, after=after, limit=limit, wait_s=wait_s)
            return await service.read(principal, subscribe.thread, after=after, limit=limit, wait_s=wait_s)

        return await read_page(gateway, principal, page, cursor, wait)

    documented = answers(EventList, "One page of the log.", streams=THREAD_STREAM)

    @router.get("/threads/{thread}/events", **documented)
    async def thread_events(
        request: Request,
        thread: str,
        after: After = None,
        limit: Limit = 500,
        wait: Wait = 0,
        last_event_id: LastEventId = None,
    ) -> Response:
        principal = await gateway.principal(request.scope)
        cursor = cursor_of(after, last_event_id)
        return await events(request, principal, to_subscribe(gateway, checked_id(thread), cursor), cursor, limit, wait)

    @router.get("/inbox/events", **documented)
    async def inbox_events(
        request: Request, after: After = None, limit: Limit = 500, wait: Wait = 0, last_event_id: LastEventId = None
    ) -> Response:
        principal = await gateway.principal(request.scope)
        cursor = cursor_of(after, last_event_id)
        return await events(request, principal, to_subscribe(gateway, None, cursor), cursor, limit, wait)

    return router


def run_routes(gateway: Gateway) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["runs"])

    @router.get("/agents", **answers(AgentList, "What can be talked to."))
    async def list_agents(request: Request) -> Response:
        principal = await gateway.principal(request.scope)
        return json_answer(AgentList(agents=gateway.service.agents(principal)))

    @router.get("/runs/{run}", **answers(RunAnswer, "The run and what came of it so far."))
    async def get_run(request: Request, run: str, wait: Wait = 0) -> Response:
        principal = await gateway.principal(request.scope)
        service = gateway.service
        found = await service.get_run(principal, checked_id(run))
        if wait > 0:
            with gateway.claim(principal), gateway.wait():
                found = await service.wait_run(principal, found.id, timeout_s=wait)
        return json_answer(await answer_of(service, principal, found))

    @router.get(
        "/runs/{run}/events",
        **answers(
            EventList,
            "One page of the run's events.",
            streams=RUN_STREAM,
            also={204: (None, "The run has ended and everything was given: stop reconnecting.")},
        ),
    )
    async def run_events(
        request: Request,
        run: str,
        after: After = None,
        limit: Limit = 500,
        wait: Wait = 0,
        last_event_id: LastEventId = None,
    ) -> Response:
        principal = await gateway.principal(request.scope)
        cursor = cursor_of(after, last_event_id)
        service, run = gateway.service, checked_id(run)
        if wants_stream(request):
            with gateway.claim(principal) as place:
                return await run_stream(gateway, principal, run, cursor, {}, place)

        async def page(wait_s: float) -> EventPage:
            after = cursor.seq if cursor else 0
            return await service.read_run(principal, run, after=after, limit=limit, wait_s=wait_s)

        return await read_page(gateway, principal, page, cursor, wait)

    @router.post(
        "/runs/{run}/cancel",
        **answers(CancelResult, "How the run stands.", changes=True),
        **body_of(Stop, optional=True),
    )
    async def cancel_run(request: Request, run: str, idempotency_key: IdempotencyKey = None) -> Response:
        principal = await gateway.principal(request.scope)
        body = await read_json(request, Stop, optional=True)
        id = command_id(idempotency_key, gateway.new_id)
        return json_answer(
            await gateway.service.cancel(principal, Cancel(id=id, run=checked_id(run), reason=body.reason))
        )

    return router


def branch_routes(gateway: Gateway) -> APIRouter:
    router = APIRouter(prefix="/v1/runs/{run}", tags=["runs"])

    def saying(words: str) -> dict[str, Any]:
        return answers(Sent, words, status=202, changes=True)

    @router.post("/edit", **saying("The new run exists beside this one."), **body_of(EditedMessage))
    async def edit_run(request: Request, run: str, idempotency_key: IdempotencyKey = None) -> Response:
        principal = await gateway.principal(request.scope)
        body = await read_json(request, EditedMessage)
        gateway.refuse_while_draining()
        id = command_id(idempotency_key, gateway.new_id)
        command = Edit(id=id, run=checked_id(run), message=to_message(body.message, id), on_busy=body.on_busy)
        return json_answer(await gateway.service.edit(principal, command), 202)

    @router.post("/retry", **saying("The new run exists beside this one."), **body_of(Again, optional=True))
    async def retry_run(request: Request, run: str, idempotency_key: IdempotencyKey = None) -> Response:
        principal = await gateway.principal(request.scope)
        body = await read_json(request, Again, optional=True)
        gateway.refuse_while_draining()
        command = Retry(id=command_id(idempotency_key, gateway.new_id), run=checked_id(run), on_busy=body.on_busy)
        return json_answer(await gateway.service.retry(principal, command), 202)

    @router.post("/steer", **saying("The agent has it, or it waits its turn."), **body_of(SteeringMessage))
    async def steer_run(request: Request, run: str, idempotency_key: IdempotencyKey = None) -> Response:
        principal = await gateway.principal(request.scope)
        body = await read_json(request, SteeringMessage)
        gateway.refuse_while_draining()
        id = command_id(idempotency_key, gateway.new_id)
        command = Steer(id=id, run=checked_id(run), message=to_message(body.message, id))
        return json_answer(await gateway.service.steer(principal, command), 202)

    return router


async def read_page(
    gateway: Gateway,
    principal: Principal,
    page: Callable[[float], Awaitable[EventPage]],
    cursor: Cursor | None,
    wait_s: float,
) -> Response:
    """One page, at once if there is something to say; else when there is, or the time is over. Who waits has a connection."""
    answer = event_list(await page(0), cursor)
    if wait_s > 0 and not answer.page.records and answer.resync is None:
        with gateway.claim(principal), gateway.wait():
            answer = event_list(await page(wait_s), cursor)
    return answer.response()


async def run_stream(
    gateway: Gateway, principal: Principal, run: str, cursor: Cursor | None, headers: dict[str, str], place: Place
) -> Response:
    """One run's events after the cursor; the stream keeps `place`. A cursor that is not of this log is told by `resync`, and the run begins anew.
    A reader that has all of an ended run gets 204, which ends an EventSource (WHATWG HTML, section 9.2.3)."""
    service: Service = gateway.service
    row = await service.get_run(principal, run)
    after = cursor.seq if cursor else 0
    subscription = await service.subscribe_run(principal, run, after=min(after, row.last_seq or after))
    resync = None if cursor is None else resync_of(cursor, subscription.epoch, subscription.head)
    if resync is not None:
        subscription.close()
        after = 0
        subscription = await service.subscribe_run(principal, run)
    elif subscription.ended:
        subscription.close()
        return Response(status_code=204, headers=headers)
    start = Start(subscription.thread.id, subscription.epoch, after, run)
    preface = [] if resync is None else [Resync(resync)]
    return EventStream(gateway, subscription, NativeEncoder(start), place.keep(), preface=preface, headers=headers)


def to_send(body: MessageToSend, thread: str | None, key: str | None, gateway: Gateway) -> Send:
    """The command in a POSTed message. The message's id is the key of idempotency; without one it takes the header's.

    Raises:
        InvalidRequest: an id and a header that differ, or a message that cannot be sent.
    """
    given = body.message
    content = given if isinstance(given, str) else given.content
    id = None if isinstance(given, str) else given.id
    if key is not None:
        key = command_id(key, gateway.new_id)
        if id not in (None, key):
            raise InvalidRequest(
                "`message.id` is the key of a message: leave Idempotency-Key out, or give the same in both."
            )
    message = Message(id=id or key or gateway.new_id(), content=content)
    if fault := fault_of_message(message):
        raise InvalidRequest(fault)
    return Send(
        id=message.id,
        thread=thread,
        agent=body.agent,
        message=message,
        on_busy=body.on_busy,
        parent_run_id=body.parent_run_id,
    )


def to_message(given: NewMessage | str, key: str) -> Message:
    """A message in the body of a command; one without an id takes the command's.

    Raises:
        InvalidRequest: it cannot be sent.
    """
    content = given if isinstance(given, str) else given.content
    message = Message(id=(None if isinstance(given, str) else given.id) or key, content=content)
    if fault := fault_of_message(message):
        raise InvalidRequest(fault)
    return message


def to_subscribe(gateway: Gateway, thread: str | None, cursor: Cursor | None) -> Subscribe:
    return Subscribe(
        id=gateway.new_id(),
        thread=thread,
        inbox=thread is None,
        after=cursor.seq if cursor else None,
        epoch=cursor.epoch if cursor else None,
    )
