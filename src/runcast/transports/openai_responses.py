"""OpenAI's Responses: a response is a run, `resp_<run>`; `previous_response_id` is the run that it follows.

    POST /openai/v1/responses                   stream, whole, or in the background
    GET  /openai/v1/responses/{id}              as it stands; ?stream=true&starting_after=n: what follows, then live
    POST /openai/v1/responses/{id}/cancel
    GET  /openai/v1/responses/{id}/input_items  what was asked, by pages; ?order=asc
    DELETE /openai/v1/responses/{id}            with its conversation, if it is all of that

each also under `/v1`. Conversations of responses are conversations like all others, unless the client says `store: false`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, cast

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from runcast.commands import Cancel, Resolve, Return, Send
from runcast.dialects.openai_asking import Approval, Asked, asked_of_responses
from runcast.dialects.openai_ids import called, run_of
from runcast.dialects.openai_input import input_items
from runcast.dialects.openai_responses import STEP, After, OpenAiResponses, ResponsesEncoder, sequence_number
from runcast.errors import InvalidRequest, NotFound
from runcast.events import Record
from runcast.parts import InterruptPart
from runcast.runs import Message, OnDisconnect, Principal, Run, ToolMessage
from runcast.service import Sent
from runcast.transcript import load
from runcast.transports.gateway import Gateway
from runcast.transports.leaving import unless_gone
from runcast.transports.openai import (
    MAX_BODY,
    PREFIXES,
    check_model,
    client_of,
    content_of,
    dropped,
    failed,
    gone_on,
)
from runcast.transports.openai_references import with_items
from runcast.transports.posting import whole_run
from runcast.transports.problems import HttpError
from runcast.transports.requests import command_id, json_answer, read_json
from runcast.transports.sse import EventStream, Framing, comment
from runcast.transports.whole import whole, whole_records

STOPPED_S = 12.0
"""How long is waited for a cancelled run to end."""

FRAMING = Framing(ids=False)

MAX_CHAIN = 16
"""Of how many runs before it one that goes on knows the calls."""

Calls = Literal["mcp", "function"]
"""How calls of the agent's own tools are told: `?calls=`."""

_responses = OpenAiResponses()


def response_routes(gateway: Gateway) -> APIRouter:
    router = APIRouter(tags=["openai"])

    async def create(request: Request, calls: Calls = "mcp") -> Response:
        principal = await gateway.principal(request.scope)
        body = await read_json(request, dict[str, Any], max_bytes=MAX_BODY)
        asked = asked_of_responses(await with_items(gateway, principal, body))
        check_model(gateway, principal, asked.model)
        gateway.refuse_while_draining()
        id = command_id(request.headers.get("idempotency-key"), gateway.new_id)
        background = body.get("background") is True
        if body.get("store") is False and background:
            raise InvalidRequest("A response in the background is stored: leave `store` out.", at="/store")
        with gateway.claim(principal) as place:  # before anything is sent: refused means that nothing was
            sent = await begun(gateway, principal, asked, body, id, "continue" if background else "cancel")

            encoder = ResponsesEncoder(as_functions=calls == "function")
            if asked.approvals:
                await taught(encoder, gateway, principal, sent.run)
            if background and not asked.stream:
                return json_answer(await response_now(gateway, principal, sent.run, calls))
            subscription = await gateway.service.subscribe_run(principal, sent.run, joins=_responses.joins)
            passing = subscription.thread.kind == "hidden"

            async def end() -> None:
                if passing and not encoder.left:
                    await dropped(gateway, principal, sent.thread)

            if asked.stream:
                complete = partial(whole, gateway.service, principal)
                return EventStream(
                    gateway, subscription, encoder, place.keep(), framing=FRAMING, complete=complete, on_end=end
                )
        records: list[Record] | None = None
        try:
            with gateway.wait():
                told = whole_run(gateway, principal, subscription, whole_results=True)
                records = await unless_gone(request, told)
            for record in records or ():
                encoder.encode(record)
        finally:
            await end()
        if not records:
            if not passing:
                await gateway.service.sender_gone(principal, sent.run)
            return Response(status_code=204)  # nobody gets it
        return failed(request, records) or json_answer(encoder.response())

    async def retrieve(
        request: Request,
        response: str,
        stream: bool = False,
        starting_after: int = Query(-1, ge=-1),
        calls: Calls = "mcp",
    ) -> Response:
        principal = await gateway.principal(request.scope)
        run = await run_named(gateway, principal, response)
        if not stream:
            return json_answer(await response_now(gateway, principal, run.id, calls))
        if (
            run.last_seq is not None
            and starting_after >= run.last_seq * STEP
            and await has_all(gateway, principal, run.id, starting_after, calls)
        ):
            return Response(comment(FRAMING.opening), media_type="text/event-stream")
        with gateway.claim(principal) as place:
            subscription = await gateway.service.subscribe_run(principal, run.id, joins=_responses.joins)
            encoder = After(await encoder_of(gateway, principal, run.id, calls), starting_after)
            complete = partial(whole, gateway.service, principal)
            return EventStream(gateway, subscription, encoder, place.keep(), framing=FRAMING, complete=complete)

    async def cancel(request: Request, response: str, calls: Calls = "mcp") -> Response:
        principal = await gateway.principal(request.scope)
        run = await run_named(gateway, principal, response)
        id = command_id(request.headers.get("idempotency-key"), gateway.new_id)
        await gateway.service.cancel(principal, Cancel(id=id, run=run.id))
        with gateway.wait():
            await gateway.service.wait_run(principal, run.id, timeout_s=STOPPED_S)
        return json_answer(await response_now(gateway, principal, run.id, calls))

    async def delete(request: Request, response: str) -> Response:
        principal = await gateway.principal(request.scope)
        run = await run_named(gateway, principal, response)
        if len(await gateway.service.runs_from(principal, run.thread, 0)) > 1:
            message = (
                "The conversation of this response has more in it, and is deleted only as a whole: "
                f"DELETE /v1/threads/{run.thread}."
            )
            raise HttpError(409, "conflict", message)
        await gateway.service.delete_thread(principal, run.thread)
        return json_answer({"id": response, "object": "response.deleted", "deleted": True})

    async def list_input(
        request: Request,
        response: str,
        after: str | None = None,
        limit: int = Query(20, ge=1, le=100),
        order: Literal["asc", "desc"] = "desc",
    ) -> Response:
        principal = await gateway.principal(request.scope)
        run = await run_named(gateway, principal, response)
        page = await gateway.service.read_run(principal, run.id, limit=1)
        items = [item for record in page.records for item in input_items(record.event)]
        return json_answer(listed(items if order == "asc" else items[::-1], after, limit))

    for prefix in PREFIXES:
        one = f"{prefix}/responses/{{response}}"
        router.add_api_route(f"{prefix}/responses", create, methods=["POST"], include_in_schema=False)
        router.add_api_route(one, retrieve, methods=["GET"], include_in_schema=False)
        router.add_api_route(one, delete, methods=["DELETE"], include_in_schema=False)
        router.add_api_route(f"{one}/cancel", cancel, methods=["POST"], include_in_schema=False)
        router.add_api_route(f"{one}/input_items", list_input, methods=["GET"], include_in_schema=False)
    return router


def listed(items: Sequence[dict[str, Any]], after: str | None, limit: int) -> dict[str, Any]:
    """A page of a list, behind the item with the id `after`.

    Raises:
        InvalidRequest: there is no such item.
    """
    ids = [item["id"] for item in items]
    if after is not None and after not in ids:
        raise InvalidRequest(f"There is no item {after[:64]!r} in this list.", at="/after")
    start = 0 if after is None else ids.index(after) + 1
    data = items[start : start + limit]
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": start + limit < len(items),
    }


async def run_named(gateway: Gateway, principal: Principal, response: str) -> Run:
    """The run that a response's id names.

    Raises:
        NotFound: there is none, or it is another's.
    """
    run = run_of(response)
    if run is None:
        raise NotFound("There is no such response.")
    return await gateway.service.get_run(principal, run)


async def response_now(gateway: Gateway, principal: Principal, run: str, calls: Calls) -> dict[str, Any]:
    """A run as a response, as it stands in the log."""
    encoder = await encoder_of(gateway, principal, run, calls)
    for record in await records_of(gateway, principal, run):
        encoder.encode(record)
    return encoder.response()


async def encoder_of(gateway: Gateway, principal: Principal, run: str, calls: Calls) -> ResponsesEncoder:
    """An encoder for a run, that knows the calls of those which it goes on with."""
    encoder = ResponsesEncoder(as_functions=calls == "function")
    await taught(encoder, gateway, principal, run)
    return encoder


async def taught(encoder: ResponsesEncoder, gateway: Gateway, principal: Principal, run: str) -> None:
    """Let the encoder know the calls of the runs that this one goes on with."""
    chain: list[str] = []
    resumed = (await gateway.service.get_run(principal, run)).resumes
    while resumed is not None and len(chain) < MAX_CHAIN:
        chain.append(resumed)
        resumed = (await gateway.service.get_run(principal, resumed)).resumes
    for before in reversed(chain):
        encoder.before(await records_of(gateway, principal, before))


async def has_all(gateway: Gateway, principal: Principal, run: str, number: int, calls: Calls) -> bool:
    """Whether nothing follows a sequence number, and nothing ever will: the run's last word is before it."""
    encoder = await encoder_of(gateway, principal, run, calls)
    frames = [frame for record in await records_of(gateway, principal, run) for frame in encoder.encode(record)]
    return bool(frames) and frames[-1].ends and sequence_number(frames[-1]) <= number


async def records_of(gateway: Gateway, principal: Principal, run: str) -> list[Record]:
    """A run's events so far, with tool results whole."""
    records: list[Record] = []
    after = 0
    while (page := await gateway.service.read_run(principal, run, after=after)).records:
        records += await whole_records(gateway.service, principal, page.records)
        after = page.next
    return records


async def begun(
    gateway: Gateway, principal: Principal, asked: Asked, body: dict[str, Any], id: str, on_disconnect: OnDisconnect
) -> Sent:
    """The run that answers."""
    previous = body.get("previous_response_id")
    parent = None if previous is None else await _previous(gateway, principal, previous)
    if asked.approvals:
        return await _resolved(gateway, principal, asked, on_disconnect)
    if asked.results:
        returned = await _returned(gateway, principal, asked, parent, on_disconnect)
        if returned is not None:
            return returned
        asked = asked.anew()
    thread = parent.thread if parent is not None else await _conversation(gateway, principal, asked, body)
    return await gateway.service.send(
        principal,
        Send(
            id=id,
            thread=thread,
            agent=asked.model,
            message=Message(id=id, content=await content_of(gateway, principal, asked)),
            parent_run_id=None if parent is None else parent.id,
            on_busy="interrupt" if parent is not None and parent.status == "waiting" else "enqueue",
            on_disconnect=on_disconnect,
            client=client_of(asked),
        ),
        hidden=thread is None and body.get("store") is False,
    )


async def _previous(gateway: Gateway, principal: Principal, previous: Any) -> Run:
    run = run_of(previous) if isinstance(previous, str) else None
    if run is not None:
        try:
            return await gateway.service.get_run(principal, run)
        except NotFound:
            pass
    message = f"There is no response {str(previous)[:64]!r}."
    raise HttpError(400, "previous_response_not_found", message, at="/previous_response_id")


async def _conversation(gateway: Gateway, principal: Principal, asked: Asked, body: dict[str, Any]) -> str | None:
    """The thread that the client names with `conversation`; None for a new one."""
    given: Any = body.get("conversation")
    if given is None:
        return None
    if body.get("previous_response_id") is not None:
        raise InvalidRequest("Say `conversation` or `previous_response_id`, not both.", at="/conversation")
    name: Any = cast("dict[str, Any]", given).get("id") if isinstance(given, dict) else given
    if not isinstance(name, str):
        raise InvalidRequest("`conversation` must be an id.", at="/conversation")
    return (await gateway.service.open_thread(principal, name, agent=asked.model)).id


async def _returned(
    gateway: Gateway, principal: Principal, asked: Asked, parent: Run | None, on_disconnect: OnDisconnect
) -> Sent | None:
    """Give the results of calls to the run that left them: the previous response's, else the one that the items name."""
    if parent is None:
        return await gone_on(gateway, principal, asked, on_disconnect=on_disconnect)
    new = gateway.new_id
    results = tuple(
        ToolMessage(id=new(), tool_call_id=_call_of(one.call, parent), content=one.content) for one in asked.results
    )
    message = None
    if asked.content is not None:
        message = Message(id=new(), content=await content_of(gateway, principal, asked))
    command = Return(
        id=new(), run=parent.id, results=results, message=message, on_disconnect=on_disconnect,
        client=client_of(asked._replace(history=())),
    )  # fmt: skip
    return await gateway.service.return_results(principal, command)


def _call_of(name: str, run: Run) -> str:
    """The call of `run` that a client names: by the name it was told, or without the run."""
    found = called(name)
    return found[1] if found is not None and found[0] == run.id else name


# --- answers to questions ---------------------------------------------------------------------------------------------


async def _resolved(gateway: Gateway, principal: Principal, asked: Asked, on_disconnect: OnDisconnect) -> Sent:
    """Answer the open questions of a waiting run: all at once, so that the run that goes on exists.

    Raises:
        InvalidRequest: some are not answered, or there is something else in the input; nothing was done.
    """
    if asked.content is not None or asked.results:
        raise InvalidRequest("Answer the questions first, and say the rest in a response that follows.", at="/input")
    runs = {approval.interrupt.rpartition(".")[0] for approval in asked.approvals}
    if len(runs) > 1:
        raise InvalidRequest("These answers are of several responses: give each its own.", at="/input")
    run = await gateway.service.get_run(principal, runs.pop())
    questions = await _open(gateway, principal, run)
    given = {approval.interrupt: approval for approval in asked.approvals}
    if left := [id for id in questions if id not in given]:
        raise InvalidRequest(f"{len(left)} more questions of that response are open: answer all of them.", at="/input")
    resolved = None
    for id, approval in given.items():
        status, payload = answer_to(questions.get(id), approval)
        command = Resolve(
            id=gateway.new_id(),
            interrupt=id,
            status=status,
            payload=payload,
            on_disconnect=on_disconnect,
            client=client_of(asked._replace(history=())),
        )
        resolved = await gateway.service.resolve(principal, command)
    if resolved is None or resolved.run is None:
        raise HttpError(409, "conflict", "Somebody else answers these questions at this moment.")
    return Sent(thread=run.thread, run=resolved.run, seq=resolved.seq, status="running")


async def _open(gateway: Gateway, principal: Principal, run: Run) -> dict[str, InterruptPart]:
    """The open questions of a run, by id."""
    transcript = load((await gateway.service.view(principal, run.thread)).transcript)
    parts = [part for one in transcript.runs if one.id == run.id for message in one.messages for part in message.parts]
    return {part.id: part for part in parts if isinstance(part, InterruptPart) and part.status == "open"}


def answer_to(question: InterruptPart | None, approval: Approval) -> tuple[Any, Any]:
    """Status and payload of the answer. A question that asks for more than yes or no is answered by the `reason`."""
    schema = question.response_schema if question is not None else None
    kind = None if schema is None else schema.get("type")
    fields: Any = None if schema is None else schema.get("properties")
    if schema is None or (isinstance(fields, dict) and "approved" in fields):
        return "resolved", {"approved": approval.approve} | (
            {"reason": approval.reason} if approval.reason is not None else {}
        )
    if kind == "boolean":
        return "resolved", approval.approve
    return ("resolved", approval.reason or "") if approval.approve else ("cancelled", None)
