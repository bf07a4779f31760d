"""One connection's part in what was delivered: what it wrote, what its client answered, and what a lost one leaves behind.

What was written has arrived when the client answers a later ping, or says something itself. While something is unanswered a
ping goes out every `ASK_EVERY_S` and at a run's end, so that little is said twice to who comes back. Under a server that is
not ours nobody can be asked; then what a client says is the only sign.
"""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Callable, Sequence
from typing import Final
from urllib.parse import quote

import anyio

from runcast.dialects.base import Frame, RejoinDialect, RejoinEncoder, TalkDialect
from runcast.errors import NotFound, RuncastError
from runcast.runs import Principal, Run, Thread
from runcast.transports.deliveries import LOST_TTL_S, Lost, LostRun, Mark, behind, reaches
from runcast.transports.gateway import Gateway
from runcast.transports.recalling import lost_before, message_id
from runcast.transports.straight import straight_of
from runcast.transports.wire import Scope, cookies_of, header_values, headers_of
from runcast.updates import Events

logger = logging.getLogger("runcast.talk")

COOKIE: Final = "runcast_client"
ASK_EVERY_S: Final = 0.25
LOOK_EVERY_S: Final = 2.0
"""So often a client is asked whether it is there while it waits for a run that says nothing."""
CROSSING_S: Final = 1.0
"""A page that is loaded anew may be faster than its old socket's close: by so much at most."""

_OURS = re.compile(r"[A-Za-z0-9_-]{16,128}")


class Rejoining:
    """Of one connection; `give` takes what a lost socket of the same browser left. A dialect whose clients do not come back
    makes it do nothing."""

    def __init__(self, gateway: Gateway, dialect: TalkDialect, scope: Scope, give: Callable[[Lost], None]) -> None:
        self._gateway = gateway
        self._by = dialect.rejoins if isinstance(dialect, RejoinDialect) else None
        self._scope = scope
        self._give = give
        self._straight = straight_of(scope)
        self.headers: list[tuple[bytes, bytes]] = []
        """Of the answer to the handshake."""
        self._principal: Principal | None = None
        self._browser: str | None = None
        self._returns = False
        """Whether the browser had its cookie already."""
        self._thread: str | None = None
        """The conversation that is followed."""
        self._runs: dict[str, LostRun] = {}
        """Those asked for whose ends have not arrived, with what has."""
        self._run: str | None = None
        self._written: dict[str, tuple[Mark, bool]] = {}
        """What was written since the last ping, by thread or run: the mark behind it, and whether it was the end."""
        self._asked: list[dict[str, tuple[Mark, bool]]] = []
        """What was written before each ping that is not answered."""
        self._something = anyio.Event()
        self._urgent = anyio.Event()
        self._answered = anyio.Event()
        self._heard_at = gateway.clock.monotonic()

    @property
    def follows(self) -> bool:
        return self._by == "conversation"

    # --- coming in ------------------------------------------------------------------------------------------------

    def enter(self, principal: Principal) -> None:
        """The client may come in."""
        self._principal = principal
        if self._by != "browser":
            return
        found = cookies_of(header_values(self._scope, "cookie")).get(COOKIE, "")
        if _OURS.fullmatch(found):
            self._browser, self._returns = found, True
            return
        self._browser = secrets.token_urlsafe(24)
        secure = self._scope.get("scheme") == "wss" or headers_of(self._scope).get("origin", "").startswith("https:")
        path: str = self._scope["path"]
        cookie = (
            f"{COOKIE}={self._browser}; Path={_encoded(path)}; HttpOnly; SameSite=Lax{'; Secure' if secure else ''}"
        )
        self.headers = [(b"set-cookie", cookie.encode("ascii"))]

    def join(self) -> None:
        """The client is in, and can be told of what was lost."""
        if self._principal is not None and self._browser is not None:
            self._gateway.deliveries.join(self._principal, self._browser, self, self._give)

    def message_id(self, conversation: str | None) -> str | None:
        """The id of a message, if its run is to be found again after a crash of the server."""
        return None if self._browser is None else message_id(self._gateway.new_id(), self._browser, conversation)

    async def recall(self) -> None:
        """Find what the browser waited for when the server before this one died; once for each browser."""
        if not self._returns or self._principal is None or self._browser is None:
            return
        deliveries, clock = self._gateway.deliveries, self._gateway.clock
        if not deliveries.recalls(self._principal, self._browser):
            return
        try:
            lost = await lost_before(
                self._gateway.service,
                self._principal,
                self._browser,
                since=deliveries.began_ms,
                now=clock.now_ms(),
            )
        except RuncastError as error:
            logger.warning("what a browser waited for could not be looked up: %s", error.code)
            return
        deliveries.recalled(self._principal, self._browser, self, lost)

    # --- what it wrote, and what arrived --------------------------------------------------------------------------

    def awaits(self, run: LostRun) -> None:
        """The client waits for the end of this run."""
        if self._by == "browser":
            self._runs.setdefault(run.run, run)
            self._something.set()

    def tells(self, run: str) -> None:
        """What is written from now on is this run's."""
        self._run = run

    def wrote(self, frame: Frame) -> None:
        if (mark := behind(frame)) is None or (of := self._thread or self._run) is None:
            return
        before = self._written.get(of)
        self._written[of] = (mark, frame.ends or (before is not None and before[1]))
        if self._straight is not None:
            self._something.set()
            if frame.ends:
                self._urgent.set()

    def heard(self) -> None:
        """The client said something: it has what was written."""
        self._heard_at = self._gateway.clock.monotonic()
        for written in [*self._asked, self._written]:
            self._arrived(written)
        self._asked.clear()
        self._written = {}

    def closed(self) -> None:
        """The client says that it goes: it was there until now."""
        self._heard_at = max(self._heard_at, self._gateway.clock.monotonic() - CROSSING_S)

    async def keep_asking(self) -> None:
        """Ask whether what was written has arrived, as long as something is unanswered."""
        while self._straight is not None and self._by is not None:
            if self._runs:
                with anyio.move_on_after(LOOK_EVERY_S):
                    await self._something.wait()
            else:
                await self._something.wait()
            self._something = anyio.Event()
            self._urgent = anyio.Event()
            written, self._written = self._written, {}
            self._asked.append(written)
            self._answered = anyio.Event()
            if not self._straight.ping(lambda written=written: self._pong(written)):
                return
            await self._answered.wait()
            with anyio.move_on_after(ASK_EVERY_S):
                await self._urgent.wait()

    def _pong(self, written: dict[str, tuple[Mark, bool]]) -> None:
        self._heard_at = self._gateway.clock.monotonic()
        if any(one is written for one in self._asked):
            self._asked = [one for one in self._asked if one is not written]
            self._arrived(written)
        self._answered.set()

    def _arrived(self, written: dict[str, tuple[Mark, bool]]) -> None:
        for of, (mark, ended) in written.items():
            if of == self._thread and self._principal is not None:
                self._gateway.deliveries.reached(self._principal, of, mark)
            elif (run := self._runs.get(of)) is not None:
                if ended:
                    del self._runs[of]
                else:
                    self._runs[of] = run._replace(mark=mark)

    def leave(self) -> None:
        """The connection is over, whatever ended it."""
        if self._principal is None:
            return
        deliveries = self._gateway.deliveries
        if self._thread is not None:
            deliveries.release(self._principal, self._thread, self)
        if self._browser is not None:
            lost = tuple(self._runs.values())
            deliveries.leave(self._principal, self._browser, self, lost, last_heard=self._heard_at)

    # --- catching up ----------------------------------------------------------------------------------------------

    async def missed(self, thread: Thread, encoder: RejoinEncoder) -> tuple[list[Frame], int]:
        """What somebody who comes into this conversation is told first, and the seq that `encoder` stands at then."""
        assert self._principal is not None
        service, deliveries = self._gateway.service, self._gateway.deliveries
        self._thread = thread.id
        known = deliveries.mark(self._principal, thread.id)
        runs = await service.runs_from(self._principal, thread.id, 0 if known is None else known.seq)
        here = Mark(thread.head + 1)
        mark = known or self._unknown(runs) or here
        runs = [run for run in runs if run.status == "running" or (run.last_seq or 0) >= mark.seq]
        cursor = min([thread.head, *[run.first_seq - 1 for run in runs]])
        frames: list[Frame] = []
        # Page by page, because pages are not joined: a delta over the mark would be said twice.
        while cursor < thread.head:
            page = await service.read(self._principal, thread.id, after=cursor, limit=thread.head - cursor)
            if not page.records:
                break
            told = encoder.update(Events(page.records))
            frames += encoder.missed([frame for frame in told if reaches(frame, mark)])
            cursor = page.records[-1].seq
        deliveries.begin(self._principal, thread.id, mark)
        # Between reading the mark and this another socket may have come in: it was there first.
        if frames and (now := deliveries.mark(self._principal, thread.id)) is not None:
            frames = [frame for frame in frames if reaches(frame, now)]
        if frames and (last := behind(frames[-1])) is not None:
            deliveries.promise(self._principal, thread.id, self, last)
        return [*frames, *encoder.standing()], cursor

    def _unknown(self, runs: Sequence[Run]) -> Mark | None:
        """In a conversation that is not known: the end of the last run, if that went on when the server began, is for who
        comes first."""
        last = runs[-1] if runs else None
        since = self._gateway.deliveries.known_since_ms
        if last is None or last.ended_at is None or last.last_seq is None or last.ended_at < since:
            return None
        return Mark(last.last_seq) if (last.started_at or last.created_at) < since else None

    async def living(self, lost: Lost) -> Lost:
        """Those of the lost runs that may still be taken, which is until `LOST_TTL_S` after their end."""
        assert self._principal is not None
        assert self._browser is not None
        now = self._gateway.clock.now_ms()
        runs: list[LostRun] = []
        for one in lost.runs:
            try:
                row = await self._gateway.service.get_run(self._principal, one.run)
            except NotFound:
                continue
            if row.ended_at is None or now - row.ended_at <= LOST_TTL_S * 1000:
                runs.append(one)
        gone = [one.run for one in lost.runs if one not in runs]
        for run in gone:
            self._runs.pop(run, None)
        self._gateway.deliveries.expire(self._principal, self._browser, gone)
        return lost._replace(runs=runs)


def _encoded(path: str) -> str:
    """A path in a cookie's attribute (RFC 6265, section 4.1.1): no `;`, no control characters."""
    return quote(path, safe="/-._~!$&'()*+,=:@")
