"""The socket of the `progress` dialect: it watches whatever runs for one user, in all of that user's threads.

It reads the user's inbox, and each thread in which a run goes on, from that run's first event, for as long as one does: an idle
socket costs one cursor. What went on already when the socket came is folded in silence, so that tool names are known.

Nothing that a client says here means anything; the message goes by HTTP (`transports.progress_posting`).
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Final

import anyio
import anyio.abc
import anyio.lowlevel
from msgspec import UNSET

from runcast import events as e
from runcast.auth import Identity
from runcast.auth.base import LEEWAY_S
from runcast.dialects.base import Frame
from runcast.dialects.progress import ProgressEncoder, established
from runcast.errors import Forbidden, NotFound, TooManyConnections, Unauthenticated
from runcast.events import Record
from runcast.ids import EXTERNAL_ID
from runcast.runs import Principal, Run
from runcast.session import Close, CloseCode, close_for
from runcast.stores.base import MAX_EVENTS
from runcast.subscription import Subscription
from runcast.transports.gateway import FLUSH_S, Gateway, Place
from runcast.transports.outlet import Outlet
from runcast.transports.presented import QueryToken
from runcast.transports.talk import CLOSE_TIMEOUT_S, FRAMES_WINDOW_S, MAX_FRAME_BYTES, MAX_FRAMES, protocol_of
from runcast.transports.wire import IDENTITY, REFUSED, Receive, Scope, Send, request_id_of
from runcast.updates import Events, Resync, ThreadSnapshot

logger = logging.getLogger("runcast.progress")

REMEMBERED: Final = 1024
"""So many threads' cursors, and runs that ended, a socket remembers: what is told once is not told again."""

DELETED: Final = "The conversation was deleted."
RESTARTS: Final = "The server is restarting."


async def user_of(gateway: Gateway, scope: Scope, query_token: QueryToken) -> Identity:
    """Who is there, at an address that may name a user (`{user_id}`). Without authentication the address is taken at its word,
    so that users are kept apart on one machine too.

    Raises:
        Unauthenticated: as `Gateway.identify_scope`.
        Forbidden: that too; or the address is another user's.
    """
    identity = await gateway.identify_scope(scope, query_token=query_token)
    user: str | None = scope.get("path_params", {}).get("user_id")
    if user is None or user == identity.principal.user:
        return identity
    if not gateway.authenticator.is_open or EXTERNAL_ID.match(user) is None:
        if scope["type"] == "websocket":
            scope[REFUSED] = True
        gateway.refusals.tell(scope, Forbidden.code)
        raise Forbidden("This address is another user's.")
    identity = identity._replace(principal=Principal(user=user, tenant=identity.principal.tenant))
    scope[IDENTITY] = identity
    return identity


class Tabs:
    """The sockets that are open, by user."""

    def __init__(self) -> None:
        self._open: dict[Principal, dict[ProgressConnection, None]] = {}

    def add(self, principal: Principal, tab: ProgressConnection) -> None:
        self._open.setdefault(principal, {})[tab] = None

    def remove(self, principal: Principal, tab: ProgressConnection) -> None:
        tabs = self._open.get(principal, {})
        tabs.pop(tab, None)
        if not tabs:
            self._open.pop(principal, None)

    def of(self, principal: Principal) -> Sequence[ProgressConnection]:
        return tuple(self._open.get(principal, ()))


class ProgressSocket:
    """The ASGI application behind one path."""

    def __init__(self, gateway: Gateway, tabs: Tabs, query_token: QueryToken) -> None:
        self._gateway = gateway
        self._tabs = tabs
        self._query_token: QueryToken = query_token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await ProgressConnection(self._gateway, self._tabs, scope, receive, send, self._query_token).run()


class _Watch:
    """One thread that is read, while one of the `wanted` runs goes on or is queued."""

    def __init__(self, thread: str, cursor: int) -> None:
        self.thread = thread
        self.cursor = cursor
        self.encoder = ProgressEncoder()
        self.wanted: dict[str, None] = {}


class ProgressConnection:
    def __init__(
        self, gateway: Gateway, tabs: Tabs, scope: Scope, receive: Receive, send: Send, query_token: QueryToken
    ) -> None:
        self._gateway = gateway
        self._tabs = tabs
        self._scope = scope
        self._query_token: QueryToken = query_token
        self._receive = receive
        self._asgi_send = send
        self._outlet = Outlet(gateway, scope, send)
        self._identity: Identity
        self._principal: Principal
        self._place: Place
        self._watches: dict[str, _Watch] = {}
        """By thread."""
        self._cursors: OrderedDict[str, int] = OrderedDict()
        """How far threads were read that are not watched now."""
        self._ended: OrderedDict[str, None] = OrderedDict()
        """The runs that ended, when their last frame has left."""
        self._changed = anyio.Event()
        self._frames = 0
        self._window_ends = gateway.clock.monotonic() + FRAMES_WINDOW_S
        self._wake = anyio.Event()
        self._stop_asked = False
        self._revoked = False
        self._close: Close | None = None
        self._over = False
        self._tasks: anyio.abc.TaskGroup

    # --- life -----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Returns when the connection is over, whatever ended it."""
        if (await self._receive())["type"] != "websocket.connect":
            return
        self._close = await self._enter()
        if self._close is None:
            try:
                with self._gateway.join(self):
                    async with anyio.create_task_group() as self._tasks:
                        await self._live()
                        self._tasks.cancel_scope.cancel()
            finally:
                self._over = True
                self._note_change()
                self._tabs.remove(self._principal, self)
                self._place.leave()
        await self._say_goodbye()

    async def _accept_socket(self) -> None:
        protocol = protocol_of(self._scope.get("subprotocols", ()))
        await self._asgi_send({"type": "websocket.accept", "subprotocol": protocol, "headers": []})

    async def _enter(self) -> Close | None:
        try:
            self._identity = await user_of(self._gateway, self._scope, self._query_token)
        except (Unauthenticated, Forbidden) as error:
            await self._accept_socket()
            return close_for(error)
        self._principal = self._identity.principal
        try:
            self._place = self._gateway.claim(self._principal).keep()
        except TooManyConnections:
            await self._accept_socket()
            return Close(CloseCode.TOO_MANY_CONNECTIONS, "This user has too many connections.")
        return None

    async def _live(self) -> None:
        """Find out what goes on; then let the client in, so that it misses nothing from then on."""
        try:
            inbox = await self._gateway.service.follow_inbox(self._principal)  # first: what begins meanwhile is in both
        except Exception as error:
            await self._accept_socket()
            self._failed(error)
            return
        try:
            await self._follow_from(inbox)
        finally:
            inbox.close()  # its task may never have begun

    async def _follow_from(self, inbox: Subscription) -> None:
        try:
            await self._join_in()
        except Exception as error:
            await self._accept_socket()
            self._failed(error)
            return
        await self._accept_socket()
        await self._say([Frame(established(self._principal.user))])
        self._tabs.add(self._principal, self)
        self._tasks.start_soon(self._keep_time)
        self._tasks.start_soon(self._guarded_follow, inbox)
        for watch in tuple(self._watches.values()):
            self._tasks.start_soon(self._pump, watch)
        await self._guarded_read()

    async def _say_goodbye(self) -> None:
        if self._close is None:
            return
        logger.debug("closing with %d", self._close.code, extra={"request_id": request_id_of(self._scope)})
        with anyio.move_on_after(CLOSE_TIMEOUT_S, shield=True) as too_late:
            try:
                await self._asgi_send(
                    {"type": "websocket.close", "code": int(self._close.code), "reason": self._close.reason}
                )
            except (OSError, RuntimeError):  # the peer was faster: there is nobody left to be told
                pass
        if too_late.cancelled_caught:
            self._outlet.abort()

    def drain(self) -> None:
        """Nothing to say: the protocol has no word for it."""

    def stop(self) -> None:
        self._stop_asked = True
        self._wake.set()

    def revoke(self, principal: Principal) -> None:
        if self._principal == principal:
            self._revoked = True
            self._wake.set()

    def _end(self, close: Close | None) -> None:
        """Stop all tasks; the first reason counts. Without a reason the peer is gone."""
        if self._close is None:
            self._close = close
        self._over = True
        self._tasks.cancel_scope.cancel()

    def _failed(self, error: Exception) -> None:
        logger.error("websocket failed", exc_info=error, extra={"request_id": request_id_of(self._scope)})
        self._end(Close(CloseCode.INTERNAL, "Something went wrong on the server."))

    # --- what the POST asks ---------------------------------------------------------------------------------------

    def expects(self, run: str) -> bool:
        """Whether it will still say how `run` ended."""
        return any(run in watch.wanted for watch in self._watches.values())

    async def told(self, run: str) -> None:
        """Returns when the last frame of `run` has left, or will not leave any more; at once if the client takes nothing."""
        while run not in self._ended and not self._over and not self._outlet.is_full:
            await self._changed.wait()

    def _note_change(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    # --- out ------------------------------------------------------------------------------------------------------

    async def _say(self, frames: Iterable[Frame]) -> None:
        for frame in frames:
            try:
                await self._outlet.send(frame.data)
            except OSError:  # uvicorn's ClientDisconnected is one
                self._over = True
                return

    # --- which threads --------------------------------------------------------------------------------------------

    async def _join_in(self) -> None:
        """Fold what goes on now, in silence."""
        runs: dict[str, list[Run]] = {}
        for run in await self._gateway.service.active_runs(self._principal):
            runs.setdefault(run.thread, []).append(run)
        for thread, active in runs.items():
            try:
                watch = _Watch(thread, min([await self._begin_of(run) for run in active]))
                watch.wanted.update(dict.fromkeys(run.id for run in active))
                await self._fold(watch, None)
            except NotFound:
                continue  # deleted meanwhile: it had said nothing here
            if watch.wanted:
                self._watches[thread] = watch

    async def _begin_of(self, run: Run) -> int:
        """The seq before the first event that is needed to understand `run`: of the run, or of the waiting one it goes on with."""
        while run.resumes is not None:
            run = await self._gateway.service.get_run(self._principal, run.resumes)
        return run.first_seq - 1

    async def _fold(self, watch: _Watch, until: int | None) -> None:
        """Read in silence up to `until` (None: to the head). Page by page, because pages are not joined."""
        while until is None or watch.cursor < until:
            limit = MAX_EVENTS if until is None else min(MAX_EVENTS, until - watch.cursor)
            page = await self._gateway.service.read(self._principal, watch.thread, after=watch.cursor, limit=limit)
            if not page.records:
                return
            for record in page.records:
                watch.encoder.encode(record)
            self._note_ends(watch, page.records)

    async def _guarded_follow(self, inbox: Subscription) -> None:
        try:
            await self._follow(inbox)
        except Exception as error:
            self._failed(error)

    async def _follow(self, inbox: Subscription) -> None:
        """Hear from the inbox which runs begin."""
        service = self._gateway.service
        while True:
            try:
                async for update in inbox:
                    match update:
                        case Events(records):
                            for record in records:
                                await self._heard(record.event)
                        case ThreadSnapshot():  # notices were missed: they are no longer kept
                            await self._look()
                        case _:
                            pass
            finally:
                inbox.close()
            inbox = await service.follow_inbox(self._principal)  # it was deleted, with all the user's data
            await self._look()

    async def _heard(self, event: e.Event) -> None:
        """A run that ends begins nothing: the thread itself says so to who watches it."""
        if not isinstance(event, e.ThreadUpdated) or event.run is UNSET or event.thread_id is UNSET:
            return
        if event.run.status in ("queued", "running"):
            await self._announced(event.thread_id, event.run.id)

    async def _look(self) -> None:
        for run in await self._gateway.service.active_runs(self._principal):
            await self._announced(run.thread, run.id)

    async def _announced(self, thread: str, run: str) -> None:
        """A run goes on or is queued: watch its thread, behind all that was told of it."""
        if run in self._ended:
            return
        watch = self._watches.get(thread)
        if watch is not None:
            watch.wanted[run] = None
            return
        try:
            row = await self._gateway.service.get_run(self._principal, run)
            after = max(row.first_seq - 1, self._cursors.get(thread, 0))
            if row.last_seq is not None and row.last_seq <= after:
                return
            watch = _Watch(thread, min(after, await self._begin_of(row)))
            await self._fold(watch, after)
        except NotFound:
            await self._give_up(_Watch(thread, 0), [run], DELETED)
            return
        watch.wanted[run] = None
        self._watches[thread] = watch
        self._tasks.start_soon(self._pump, watch)

    # --- one thread -----------------------------------------------------------------------------------------------

    async def _pump(self, watch: _Watch) -> None:
        try:
            subscription = await self._gateway.service.follow(self._principal, watch.thread, after=watch.cursor)
            try:
                if await self._tell(subscription, watch):
                    return
            finally:
                subscription.close()
        except NotFound:
            pass
        except Exception as error:
            self._failed(error)
            return
        finally:
            self._watches.pop(watch.thread, None)
        if not self._over:
            await self._give_up(watch, watch.wanted, DELETED)

    async def _tell(self, subscription: Subscription, watch: _Watch) -> bool:
        """Say what the thread says until none of the wanted runs is left; false if the thread is deleted before."""
        async for update in subscription:
            if isinstance(update, Resync) and update.reason == "deleted":
                return False
            if isinstance(update, Events):
                await self._say([frame for record in update.records for frame in watch.encoder.encode(record)])
                if self._over:
                    return True
                self._note_ends(watch, update.records)
                if not watch.wanted:  # nothing is awaited from here to where the watch is forgotten
                    self._remember(watch)
                    return True
            update = None  # while this reader is stuck it holds nothing but what is in its socket (I10)
            if self._outlet.is_full:
                self._note_change()
                await self._outlet.room()
            else:
                await anyio.lowlevel.checkpoint()
        return False

    def _note_ends(self, watch: _Watch, records: Sequence[Record]) -> None:
        """These were read and, if at all, told."""
        for record in records:
            if isinstance(record.event, e.TERMINAL) and isinstance(record.event.run_id, str):
                watch.wanted.pop(record.event.run_id, None)
                self._note_end(record.event.run_id)
        watch.cursor = records[-1].seq

    def _note_end(self, run: str) -> None:
        self._ended[run] = None
        while len(self._ended) > REMEMBERED:
            self._ended.popitem(last=False)
        self._note_change()

    def _remember(self, watch: _Watch) -> None:
        self._watches.pop(watch.thread, None)
        self._cursors[watch.thread] = watch.cursor
        self._cursors.move_to_end(watch.thread)
        while len(self._cursors) > REMEMBERED:
            self._cursors.popitem(last=False)

    async def _give_up(self, watch: _Watch, runs: Iterable[str], reason: str) -> None:
        """Say that `runs` are over, because the log will not."""
        runs = list(runs)
        await self._say(watch.encoder.give_up(reason, runs))
        for run in runs:
            watch.wanted.pop(run, None)
            self._note_end(run)

    # --- in -------------------------------------------------------------------------------------------------------

    async def _guarded_read(self) -> None:
        try:
            while not self._over:
                message = await self._receive()
                if message["type"] == "websocket.disconnect":
                    self._over = True
                    return
                text: str | None = message.get("text")
                if (close := self._too_much(text if text is not None else message.get("bytes") or b"")) is not None:
                    self._end(close)
                    return
        except Exception as error:
            self._failed(error)

    def _too_much(self, data: str | bytes) -> Close | None:
        # A character has at most four bytes, so most messages need no second look.
        if len(data) * 4 > MAX_FRAME_BYTES:
            size = len(data) if isinstance(data, bytes) else len(data.encode("utf-8", "replace"))
            if size > MAX_FRAME_BYTES:
                return Close(CloseCode.TOO_BIG, f"A frame has at most {MAX_FRAME_BYTES} bytes.")
        now = self._gateway.clock.monotonic()
        if now >= self._window_ends:
            self._window_ends = now + FRAMES_WINDOW_S
            self._frames = 0
        self._frames += 1
        if self._frames > MAX_FRAMES:
            return Close(CloseCode.RATE_LIMIT, f"More than {MAX_FRAMES} frames in {FRAMES_WINDOW_S:g} s.")
        return None

    # --- time -----------------------------------------------------------------------------------------------------

    async def _keep_time(self) -> None:
        clock = self._gateway.clock
        expires_at = self._identity.expires_at
        while True:
            if self._revoked:
                self._end(Close(CloseCode.REVOKED, "The session was ended."))
                return
            if self._stop_asked:
                await self._finish()
                return
            if self._outlet.is_stuck():
                self._end(Close(CloseCode.NO_PROGRESS, "No progress."))
                return
            wait_s = self._outlet.stuck_at() - clock.monotonic()
            if expires_at is not None:
                left_s = expires_at / 1000 + LEEWAY_S - clock.now_ms() / 1000
                if left_s <= 0:
                    self._end(Close(CloseCode.UNAUTHENTICATED, "The token has expired."))
                    return
                wait_s = min(wait_s, left_s)
            self._wake = anyio.Event()
            if self._stop_asked or self._revoked:
                continue
            with anyio.move_on_after(max(0.0, wait_s)):
                await self._wake.wait()

    async def _finish(self) -> None:
        """The server stops: what is in the log is still said, and of a run that the log does not end here, that it ends for
        this socket; then the connection ends so that the client sees a restart."""
        with anyio.move_on_after(FLUSH_S):
            while any(watch.encoder.started for watch in self._watches.values()):
                await self._changed.wait()
        with anyio.move_on_after(FLUSH_S):
            for watch in tuple(self._watches.values()):
                await self._give_up(watch, watch.encoder.started, RESTARTS)
        self._end(Close(CloseCode.RESTART, "The server restarts."))
