"""What a browser waited for when the server before this one died: found in the log, by the ids of its messages.

What was delivered is known in memory only (`transports.deliveries`). So the message that a browser sends, where the browser is
known by a cookie, has an id that names it: by a hash, which opens nothing, and with the client's own id of the conversation if that
fits. The runs that such messages began and that ended after this server started cannot have been told to anybody.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Final

from msgspec import UNSET

from runcast import events as e
from runcast.errors import NotFound
from runcast.ids import CLIENT_ID
from runcast.runs import Principal, Run
from runcast.service import Service
from runcast.stores.base import MAX_EVENTS
from runcast.transports.deliveries import LOST_TTL_S, MAX_LOST_RUNS, LostRun, Mark

TAG_BYTES: Final = 16
MAX_CONVERSATION: Final = 64
"""Characters of a conversation's id that has room in a message's; clients of this kind make UUIDs."""
MAX_PAGES: Final = 8
"""Of the inbox, from its end."""


def message_id(id: str, browser: str, conversation: str | None) -> str:
    """`id`, with what finds its run again."""
    known = conversation if conversation is not None and len(conversation) <= MAX_CONVERSATION else ""
    return f"{id}@{_tag(browser)}:{known if CLIENT_ID.match(known) else ''}"


async def lost_before(service: Service, principal: Principal, browser: str, *, since: int, now: int) -> list[LostRun]:
    """The runs that this browser asked for before `since`, when this server began, and that ended then or later, but no longer than
    `LOST_TTL_S` ago, or go on. Their marks are at the first event since then. Times are Unix milliseconds."""
    tag = f"@{_tag(browser)}:"
    found: list[LostRun] = []
    for thread in await _changed(service, principal, since):
        try:
            rows = await service.runs_from(principal, thread, 0)
            for row in rows:
                _, named, conversation = (row.message_id or "").partition(tag)
                if named and _is_lost(row, since, now):
                    mark = await _first_since(service, principal, row, since)
                    found.append(LostRun(row.id, thread, conversation or thread, mark=mark))
        except NotFound:
            continue  # deleted meanwhile
    return found[-MAX_LOST_RUNS:]


def _is_lost(run: Run, since: int, now: int) -> bool:
    if run.created_at >= since:
        return False
    return run.ended_at is None or (run.ended_at >= since and now - run.ended_at <= LOST_TTL_S * 1000)


async def _changed(service: Service, principal: Principal, since: int) -> list[str]:
    """The conversations in which a run goes on, or began or ended since then: of these the newest, the last one first."""
    threads = dict.fromkeys(run.thread for run in await service.active_runs(principal))
    inbox = await service.follow_inbox(principal)
    inbox.close()
    before = inbox.thread.head
    for _ in range(MAX_PAGES):
        after = max(before - MAX_EVENTS, inbox.thread.first_seq - 1)
        if after >= before:
            break
        records = (await service.read_inbox(principal, after=after, limit=before - after)).records
        recent = [record for record in records if _time_of(record.event) >= since]
        for record in reversed(recent):
            if isinstance(record.event, e.ThreadUpdated) and isinstance(record.event.thread_id, str):
                threads[record.event.thread_id] = None
        before = after
        if len(recent) < len(records):
            break
    return list(threads)[:MAX_LOST_RUNS]


async def _first_since(service: Service, principal: Principal, run: Run, since: int) -> Mark:
    """The place of the run's first event since then."""
    cursor = run.first_seq - 1
    while records := (await service.read_run(principal, run.id, after=cursor)).records:
        for record in records:
            if _time_of(record.event) >= since:
                return Mark(record.seq)
        cursor = records[-1].seq
    return Mark(cursor + 1)


def _time_of(event: e.Event) -> int:
    return event.timestamp if event.timestamp is not UNSET else 0


def _tag(browser: str) -> str:
    digest = hashlib.sha256(browser.encode()).digest()[:TAG_BYTES]
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
