"""Durable Streams over HTTP, read only: `/v1/stream/threads/{thread}`, `/v1/stream/runs/{run}` (`dialects.durable_streams`).

    GET  ?offset=                       catch-up: a page of the log, at once
    GET  ?offset=&live=long-poll        the same; at the tail it waits for the next event
    GET  ?offset=&live=sse              `data` events with a `control` event behind each
    HEAD                                where the tail is

An offset is `-1` (the start), `now` (the tail) or what was given as `Stream-Next-Offset`. One that is not of this log any more
is answered with 410, never by silence: the reader starts anew. Everything else (create, append, delete) is 405.

Answers are private and not stored (the protocol allows caches to keep pages): what was deleted is gone everywhere.
"""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Final, NamedTuple

from fastapi import APIRouter, Request
from starlette.responses import Response

from runcast.commands import Subscribe
from runcast.dialects.base import Frame
from runcast.dialects.durable_streams import messages_of, offset_of, position_of
from runcast.dialects.native import MAX_SEQ
from runcast.events import TERMINAL
from runcast.runs import Principal, Run
from runcast.service import EventPage
from runcast.subscription import RunSubscription, Subscription
from runcast.transports.answers import resync_of
from runcast.transports.gateway import Gateway
from runcast.transports.leaving import unless_gone
from runcast.transports.openapi import REF, answers
from runcast.transports.problems import HttpError
from runcast.transports.requests import MAX_PAGE, Cursor, checked_id
from runcast.transports.sse import EventStream, Framing
from runcast.transports.streamed import Streamed
from runcast.updates import CaughtUp, Events, Resync, Update

LONG_POLL_S = 30.0
"""How long a long poll waits for the next event."""
SSE_S = 60.0
"""After so long a stream is ended, and its reader comes again (section 5.7, "Connection Lifecycle")."""

CURSOR_EPOCH_MS: Final = 1_728_432_000_000
"""9 October 2024, 00:00 UTC (section 8.1)."""
CURSOR_STEP_MS: Final = 20_000
CURSOR_LEAP: Final = 180
"""A cursor that would stand still leaps by 1 to this many steps: an hour at most."""

OFFSETS: Final = {"type": "string", "pattern": "^(-1|now|[0-9]{1,16}(_[a-z2-7]{1,32})?)$"}

CACHE: Final = "private, no-store"
START: Final = "-1"
TAIL: Final = "now"


class Where(NamedTuple):
    """Where a reader wants to begin."""

    seq: int
    epoch: str | None
    at_tail: bool = False


class Tail(NamedTuple):
    """The position behind a stream's last event."""

    seq: int
    epoch: str
    head: int
    """The log's own: behind the events of other runs, too."""
    first_seq: int


class Stream(NamedTuple):
    """One log, or a run's span of it, as a stream."""

    principal: Principal
    thread: str
    run: Run | None

    @property
    def name(self) -> str:
        return self.thread if self.run is None else self.run.id

    @property
    def last(self) -> int | None:
        """The seq of the last event of a stream that is closed."""
        return None if self.run is None or self.run.status in ("running", "queued") else self.run.last_seq


def durable_streams_routes(gateway: Gateway) -> APIRouter:
    router = APIRouter(prefix="/v1/stream", tags=["durable streams"])

    async def answer(request: Request, stream: Stream) -> Response:
        if request.method == "HEAD":
            return await head(gateway, stream)
        asked = where(request)
        match request.query_params.get("live"):
            case None:
                return await catch_up(gateway, request, stream, asked or Where(0, None))
            case "long-poll" if asked is not None:
                return await long_poll(gateway, request, stream, asked)
            case "sse" if asked is not None:
                return await follow(gateway, request, stream, asked)
            case "long-poll" | "sse":
                raise bad("`live` needs an `offset`.")
            case _:
                raise bad("`live` is `long-poll` or `sse`.")

    async def of_thread(request: Request, thread: str) -> Response:
        principal = await gateway.principal(request.scope)
        found = await gateway.service.get_thread(principal, checked_id(thread))
        return await answer(request, Stream(principal, found.id, None))

    async def of_run(request: Request, run: str) -> Response:
        principal = await gateway.principal(request.scope)
        found = await gateway.service.get_run(principal, checked_id(run))
        return await answer(request, Stream(principal, found.thread, found))

    for path, endpoint in (("/threads/{thread}", of_thread), ("/runs/{run}", of_run)):
        router.add_api_route(path, endpoint, methods=["GET"], **_described())
        router.add_api_route(path, endpoint, methods=["HEAD"], include_in_schema=False)
    return router


def _described() -> dict[str, Any]:
    """How the document of the API tells a stream. Its parameters are described and not declared: the protocol wants 400 for
    those that cannot be read (section 5.6), and a page has one offset only."""
    options = answers(None, "A page of the log.", streams="`data` events, each followed by a `control` event.")
    responses = options["responses"]
    page = responses[200]
    page["content"]["application/json"] = {"schema": {"type": "array", "items": {"$ref": REF.format(name="Event")}}}
    headers = {
        "Stream-Next-Offset": "The position behind this page.",
        "Stream-Up-To-Date": "`true` where the page went to the tail.",
        "Stream-Closed": "`true` where nothing will ever follow.",
        "Stream-Cursor": "Of a long poll: to be given with the next one.",
    }
    page["headers"] = {name: {"description": said, "schema": {"type": "string"}} for name, said in headers.items()}
    responses[204] = {"description": "A long poll had nothing to give, or the stream is closed."}
    responses[304] = {"description": "The page is the one that `If-None-Match` names."}
    responses[410] = responses[404]
    queries = (
        (
            "offset",
            OFFSETS,
            "Where to begin: the start (`-1`, as without it), the tail (`now`), or a `Stream-Next-Offset`.",
        ),
        ("live", {"type": "string", "enum": ["long-poll", "sse"]}, "How to wait for what follows; needs an `offset`."),
        ("cursor", {"type": "string"}, "The `Stream-Cursor` of the answer before."),
    )
    parameters = [
        {"name": name, "in": "query", "required": False, "schema": schema, "description": said}
        for name, schema, said in queries
    ]
    return {**options, "openapi_extra": {"parameters": parameters}}


async def tail_of(gateway: Gateway, stream: Stream) -> Tail:
    thread = await gateway.service.get_thread(stream.principal, stream.thread)
    seq = thread.head if stream.last is None else stream.last
    return Tail(seq, thread.epoch, thread.head, thread.first_seq)


async def head(gateway: Gateway, stream: Stream) -> Response:
    tail = await tail_of(gateway, stream)
    headers = headers_of(tail.seq, tail.epoch, closed=stream.last is not None)
    return Response(headers=headers, media_type="application/json")


async def catch_up(gateway: Gateway, request: Request, stream: Stream, asked: Where) -> Response:
    """All from an offset up to the tail as it is now. Not by pages: a reader that is not going to follow asks only once."""
    tail = await tail_of(gateway, stream)
    begin = tail.seq if asked.at_tail else asked.seq
    check(asked, tail.epoch, tail.head, tail.first_seq)
    closed = stream.last is not None
    headers = headers_of(max(begin, tail.seq), tail.epoch, closed=closed, up_to_date=True)
    if not asked.at_tail:
        headers["etag"] = etag_of(stream, begin, tail.seq, tail.epoch, closed=closed)
        if matches(request, headers["etag"]):
            return Response(status_code=304, headers=headers)
    return Streamed(gateway, pages(gateway, stream, begin, tail.seq), "application/json", headers)


async def pages(gateway: Gateway, stream: Stream, after: int, until: int) -> AsyncGenerator[bytes]:
    """The JSON array of a stream's events after one seq, up to another."""
    between = b"["
    while after < until and (page := await page_of(gateway, stream, after)).records:
        wanted = [record for record in page.records if record.seq <= until]
        if wanted:
            yield between + b",".join([record.data for record in wanted])
            between = b","
        after = page.next
    yield b"[]" if between == b"[" else b"]"


async def long_poll(gateway: Gateway, request: Request, stream: Stream, asked: Where) -> Response:
    """A page; at the tail the first one that there is within `LONG_POLL_S`, else 204."""
    tail = await tail_of(gateway, stream)
    begin = tail.seq if asked.at_tail else asked.seq
    check(asked, tail.epoch, tail.head, tail.first_seq)
    page = await page_of(gateway, stream, begin)
    if not page.records and not is_closed(stream, page):
        with gateway.claim(stream.principal), gateway.wait():
            waited = await unless_gone(request, page_of(gateway, stream, begin, LONG_POLL_S))
        if waited is None:
            return Response(status_code=204)  # nobody gets it
        page = waited
    closed = is_closed(stream, page)
    headers = headers_of(page.next, page.epoch, closed=closed, up_to_date=closed or is_up_to_date(stream, page))
    headers["stream-cursor"] = cursor_of(gateway.clock.now_ms(), request.query_params.get("cursor"))
    if not page.records:
        return Response(status_code=204, headers=headers)
    headers["etag"] = etag_of(stream, begin, page.next, page.epoch, closed=closed)
    return Response(messages_of(page.records), headers=headers, media_type="application/json")


async def page_of(gateway: Gateway, stream: Stream, after: int, wait_s: float = 0) -> EventPage:
    service, principal = gateway.service, stream.principal
    if stream.run is None:
        return await service.read(principal, stream.thread, after=after, limit=MAX_PAGE, wait_s=wait_s)
    return await service.read_run(principal, stream.run.id, after=after, limit=MAX_PAGE, wait_s=wait_s)


def is_closed(stream: Stream, page: EventPage) -> bool:
    """Whether nothing will ever follow this page."""
    if stream.run is None:
        return False
    if page.records:
        return isinstance(page.records[-1].event, TERMINAL)
    return stream.last is not None and page.next >= stream.last


def is_up_to_date(stream: Stream, page: EventPage) -> bool:
    """Whether the page went to the tail. A run's page that is not full has all there is: other runs' events are passed over."""
    return page.next >= page.head or (stream.run is not None and len(page.records) < MAX_PAGE)


async def follow(gateway: Gateway, request: Request, stream: Stream, asked: Where) -> Response:
    """`data` and `control` events until the stream is closed, or for `SSE_S`."""
    service = gateway.service
    tail = await tail_of(gateway, stream)
    begin = tail.seq if asked.at_tail else asked.seq
    check(asked, tail.epoch, tail.head, tail.first_seq)
    cursor = cursor_of(gateway.clock.now_ms(), request.query_params.get("cursor"))
    with gateway.claim(stream.principal) as place:
        subscription: Subscription | RunSubscription
        if stream.run is None:
            command = Subscribe(id=gateway.new_id(), thread=stream.thread, after=begin, epoch=tail.epoch)
            subscription = inner = await service.subscribe(stream.principal, command, joins=False)
        else:
            subscription = await service.subscribe_run(stream.principal, stream.run.id, after=begin, joins=False)
            inner = subscription.inner
        preface = [CaughtUp(begin)] if subscription.ended else []
        encoder = ControlledEncoder(subscription, inner, cursor)
        framing = Framing(ids=False, lasts_s=SSE_S)
        return EventStream(gateway, subscription, encoder, place.keep(), preface=preface, framing=framing)


class ControlledEncoder:
    """One reader's `data` events, all that came at once in one, each with its `control` event (section 5.7)."""

    def __init__(self, subscription: Subscription | RunSubscription, inner: Subscription, cursor: str) -> None:
        self._subscription = subscription
        self._inner = inner
        self._ends = b'_%b","streamCursor":"%b"' % (subscription.epoch.encode(), cursor.encode())
        """What stands behind the seq in each of its control events: `offset_of`, but for once."""
        self._said = False
        """The reader knows that it has all there is."""

    def encode(self, record: object) -> Sequence[Frame]:
        raise NotImplementedError  # a control event is about a batch

    def update(self, update: Update) -> Sequence[Frame]:
        match update:
            case Events():
                data = Frame(messages_of(update.records), update.records[-1].seq, last=False, name="data")
                return data, self._control(update.records[-1].seq)
            case CaughtUp() if not self._said or self._subscription.ended:
                return (self._control(update.seq),)
            case Resync():
                self._subscription.close()  # it comes again with its offset, and is told then
            case _:
                pass
        return ()

    def _control(self, seq: int) -> Frame:
        closed = self._subscription.ended
        up_to_date = self._said = closed or self._inner.cursor >= self._inner.latest
        caught_up = b',"upToDate":true' if up_to_date else b""
        end = b',"streamClosed":true' if closed else b""
        said = b'{"streamNextOffset":"%016d%b%b%b}' % (seq, self._ends, caught_up, end)
        return Frame(said, seq, 1, name="control", ends=closed)


# --- words of the protocol ----------------------------------------------------------------------------------------


def where(request: Request) -> Where | None:
    """Where a request's `offset` begins; None without one.

    Raises:
        HttpError: 400: it is no offset.
    """
    given = request.query_params.getlist("offset")
    if not given:
        return None
    if len(given) > 1:
        raise bad("There is more than one `offset`.")
    if given[0] == TAIL:
        return Where(0, None, at_tail=True)
    if given[0] == START:
        return Where(0, None)
    position = position_of(given[0])
    if position is None or position[0] > MAX_SEQ:
        raise bad("`offset` is `-1`, `now`, or what an answer named as `Stream-Next-Offset`.")
    return Where(*position)


def check(asked: Where, epoch: str, head: int, first_seq: int) -> None:
    """
    Raises:
        HttpError: 410: the offset is of a log that was replaced, or of a part of it that is not kept.
    """
    if not asked.at_tail and resync_of(Cursor(asked.seq, asked.epoch), epoch, head, first_seq) is not None:
        raise HttpError(410, "trimmed", "What follows this offset is not kept any more; start at -1.")


def etag_of(stream: Stream, after: int, next: int, epoch: str, *, closed: bool) -> str:
    """Another one when the stream is closed, though no byte is (section 8.1)."""
    return f'"{stream.name}:{epoch}:{after}-{next}{":closed" if closed else ""}"'


def matches(request: Request, etag: str) -> bool:
    """RFC 9110, section 13.1.2: the weak comparison."""
    given = request.headers.get("if-none-match", "").split(",")
    return any(one.strip() == "*" or one.strip().removeprefix("W/") == etag for one in given)


def bad(message: str) -> HttpError:
    return HttpError(400, "invalid_request", message)


def headers_of(seq: int, epoch: str, *, closed: bool, up_to_date: bool = False) -> dict[str, str]:
    headers = {"stream-next-offset": offset_of(seq, epoch), "cache-control": CACHE}
    if up_to_date:
        headers["stream-up-to-date"] = "true"
    if closed:
        headers["stream-closed"] = "true"
    return headers


def cursor_of(now_ms: int, given: str | None) -> str:
    """The number of this time's interval; always more than what the client gave (section 8.1), so that no cache can give a
    waiting reader the same answer for ever."""
    now = max(0, now_ms - CURSOR_EPOCH_MS) // CURSOR_STEP_MS
    before = int(given) if given is not None and given.isascii() and given.isdigit() and len(given) <= 15 else -1
    return str(now if before < now else before + random.randint(1, CURSOR_LEAP))  # noqa: S311  # no secret
