"""HTTP answers that are put together from the log: pages of events, thread views, and what came of a run."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
from msgspec import UNSET
from starlette.responses import Response

from runcast import events as e
from runcast.dialects.native import to_bytes
from runcast.events import Interrupt
from runcast.runs import Principal, Run
from runcast.service import EventPage, Service
from runcast.transports.bodies import RunAnswer
from runcast.transports.requests import Cursor
from runcast.updates import ResyncReason, ThreadSnapshot


class EventAnswer(NamedTuple):
    page: EventPage
    resync: ResyncReason | None

    def response(self) -> Response:
        """The page with its events' own bytes; after a resync without any: the reader starts anew, from `next` or the view."""
        page = self.page
        if self.resync is not None:
            tail = {"next": page.first_seq - 1, "head": page.head, "epoch": page.epoch, "resync": self.resync}
            return _json(b'{"events":[],%b' % to_bytes(tail)[1:])
        tail = {"next": page.next, "head": page.head, "epoch": page.epoch}
        return _json(b'{"events":[%b],%b' % (b",".join(record.data for record in page.records), to_bytes(tail)[1:]))


def event_list(page: EventPage, cursor: Cursor | None) -> EventAnswer:
    """The answer to a reader at `cursor`: never a silent hole."""
    return EventAnswer(page, None if cursor is None else resync_of(cursor, page.epoch, page.head, page.first_seq))


def resync_of(cursor: Cursor, epoch: str, head: int, first_seq: int = 1) -> ResyncReason | None:
    """Why a cursor does not belong to the log that goes from `first_seq` to `head` now; None if it does."""
    if cursor.epoch not in (None, epoch):
        return "epoch"
    if cursor.seq > head:
        return "ahead"
    return "trimmed" if cursor.seq + 1 < first_seq else None


def thread_view(view: ThreadSnapshot) -> Response:
    head = to_bytes({"thread": view.thread, "seq": view.seq, "epoch": view.epoch})
    return _json(b'%b,"transcript":%b}' % (head[:-1], view.transcript))


async def answer_of(service: Service, principal: Principal, run: Run, *, replayed: bool = False) -> RunAnswer:
    """A run with its text, its failure or its questions, read from its events."""
    texts: dict[str, list[str]] = {}
    error: str | None = None
    retry_after_ms: int | None = None
    interrupts: list[Interrupt] = []
    result: object = None
    after = 0
    while (page := await service.read_run(principal, run.id, after=after)).records:
        for record in page.records:
            match record.event:
                case e.TextMessageStart() as event if event.role in (UNSET, "assistant"):
                    texts[event.message_id] = []
                case e.TextMessageContent() as event if event.message_id in texts:
                    texts[event.message_id].append(event.delta)
                case e.MessageRetracted() as event:
                    for id in event.message_ids or ():
                        texts.pop(id, None)
                case e.RunFinished() as event:
                    result = None if event.result is UNSET else event.result
                    if event.outcome is not UNSET and event.outcome.interrupts is not UNSET:
                        interrupts = event.outcome.interrupts
                case e.RunError() as event:
                    error = event.message
                    retry_after_ms = None if event.retry_after_ms is UNSET else event.retry_after_ms
                case _:
                    pass
        after = page.next
    text = "\n\n".join(whole for parts in texts.values() if (whole := "".join(parts)))
    fields = msgspec.structs.asdict(run)
    return RunAnswer(
        **fields,
        text=text,
        error=error,
        retry_after_ms=retry_after_ms,
        interrupts=interrupts,
        result=result,
        replayed=replayed,
    )


def _json(body: bytes) -> Response:
    return Response(body, media_type="application/json")
