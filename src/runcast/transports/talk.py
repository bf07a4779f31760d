"""A WebSocket on which people talk in one of the message dialects: a message asks, frames answer.

One task reads and decodes, one carries out what was asked, one message after the other, one keeps time; a socket that follows
a whole thread has one more, which reads it. What a run says comes from a subscription like everybody's, so a slow client
holds back nobody, and what the client missed is in the log.

A message that comes while the one before is still being answered waits its turn; beyond `MAX_WAITING` it is refused. When the
client goes, messages that wait in a conversation it can come back to are still put into the log.

The socket is accepted first and closed then: a close before the accept reaches a browser as HTTP 403, without its code.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

import anyio
import anyio.abc
import anyio.lowlevel

from runcast.commands import Cancel
from runcast.dialects.base import Ask, BadFrame, Encoder, Frame, Options, RejoinDialect, Start, TalkDialect
from runcast.dialects.messages import conversation_fault
from runcast.errors import ClientError, Forbidden, NotFound, RuncastError, TooManyConnections, Unauthenticated, describe
from runcast.events import TERMINAL
from runcast.runs import Principal, Thread
from runcast.service import Sent
from runcast.session import NOT_FOUND_MESSAGE, Close, CloseCode, close_for
from runcast.subscription import RunSubscription, Subscription
from runcast.transports.asking import ask_agent, thread_of
from runcast.transports.deliveries import Lost, LostRun
from runcast.transports.gateway import FLUSH_S, Gateway, Place
from runcast.transports.leaving import is_deliberate
from runcast.transports.outlet import Outlet
from runcast.transports.presented import QueryToken
from runcast.transports.rejoining import From, Rejoining
from runcast.transports.wire import Receive, Scope, Send, query_of, request_id_of
from runcast.updates import Events, Resync

logger = logging.getLogger("runcast.talk")

MAX_WAITING: Final = 16
"""Messages of one socket that wait for the answer to the one before."""
MAX_FRAME_BYTES: Final = 64 * 1024
MAX_FRAMES: Final = 1000
"""Per `FRAMES_WINDOW_S`."""
FRAMES_WINDOW_S: Final = 10.0
ASK_TIMEOUT_S: Final = 60.0
"""A message that was begun to be accepted is accepted even if its client goes away, but not for ever."""
CLOSE_TIMEOUT_S: Final = 5.0
"""How long a peer that does not read may take to make room for a close frame."""
ENDED_RUNS: Final = 64
"""So many of the runs that ended last are remembered, for messages whose run is over before they learn its name."""

RESTARTING: Final = "The server is restarting; send it again in a moment."


class TalkSocket:
    """The ASGI application behind one path of a dialect. Of the path's parameters, `session_id` or `thread` names the
    conversation of the socket, `user_id` must be the user's own."""

    def __init__(self, gateway: Gateway, dialect: TalkDialect, *, query_token: QueryToken = "off") -> None:  # noqa: S107
        self._gateway = gateway
        self.dialect = dialect
        self._query_token: QueryToken = query_token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await TalkConnection(self._gateway, self.dialect, scope, receive, send, self._query_token).run()


class TalkConnection:
    def __init__(
        self,
        gateway: Gateway,
        dialect: TalkDialect,
        scope: Scope,
        receive: Receive,
        send: Send,
        query_token: QueryToken,
    ) -> None:
        self._gateway = gateway
        self._dialect = dialect
        self._scope = scope
        self._query_token: QueryToken = query_token
        self._receive = receive
        self._asgi_send = send
        self._outlet = Outlet(gateway, scope, send)
        self._rejoining = Rejoining(gateway, dialect, scope, self._take_over)
        self._options: Options = query_of(scope)
        self._principal: Principal
        self._place: Place
        self._conversation: str | None = None
        """The client's own id of the thread that this socket follows, from its URL."""
        self._thread: Thread | None = None
        """The thread that this socket follows; for a socket with a thread of its own, that one."""
        self._waiting: deque[Ask | Lost] = deque()
        self._asked = anyio.Event()
        self._asks = 0
        self._run: str | None = None
        """What the newest message started, until its last frame was sent."""
        self._ended: deque[str] = deque(maxlen=ENDED_RUNS)
        self._run_ended = anyio.Event()
        self._frames = 0
        now = gateway.clock.monotonic()
        self._window_ends = now + FRAMES_WINDOW_S
        self._last_heard = now
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
                self._place.leave()
                self._rejoining.leave()
        await self._say_goodbye()

    async def _accept_socket(self) -> None:
        protocol = protocol_of(self._scope.get("subprotocols", ()))
        headers = self._rejoining.headers
        await self._asgi_send({"type": "websocket.accept", "subprotocol": protocol, "headers": headers})

    async def _live(self) -> None:
        """Follow the thread that the URL names; then let the client in, so that it misses nothing from then on."""
        try:
            if self._conversation is not None:
                thread = await thread_of(self._gateway, self._principal, self._conversation)
                await self._follow(thread)
        except Exception as error:
            await self._accept_socket()
            await self._say_error(error)
            self._end(Close(CloseCode.INTERNAL, "Something went wrong on the server."))
            return
        await self._accept_socket()
        self._rejoining.join()
        self._tasks.start_soon(self._rejoining.keep_asking)
        self._tasks.start_soon(self._keep_time)
        self._tasks.start_soon(self._work)
        await self._guarded_read()

    async def _enter(self) -> Close | None:
        """Who is there, and where; the close that follows if they may not come in."""
        try:
            identity = await self._gateway.identify_scope(self._scope, query_token=self._query_token)
            self._principal = identity.principal
            if fault := self._misplaced():
                raise Forbidden(fault)
        except (Unauthenticated, Forbidden) as error:
            await self._accept_socket()
            if self._dialect.answers_refusals:
                word = "Unauthorized" if isinstance(error, Unauthenticated) else "Forbidden"
                await self._say(self._dialect.error(error.code, word, request_id=request_id_of(self._scope)))
            return close_for(error)
        try:
            self._place = self._gateway.claim(self._principal).keep()
        except TooManyConnections:
            await self._accept_socket()
            return Close(CloseCode.TOO_MANY_CONNECTIONS, "This user has too many connections.")
        self._rejoining.enter(self._principal)
        return None

    def _misplaced(self) -> str | None:
        """What is wrong with the conversation or user that the URL names."""
        params: dict[str, str] = self._scope.get("path_params", {})
        self._conversation = params.get("session_id") or params.get("thread") or self._options.get("thread") or None
        if self._conversation is not None and (fault := conversation_fault(self._conversation)):
            return f"The conversation's id {fault}."
        user = params.get("user_id")
        if user is not None and user != self._principal.user:
            return "This address is another user's."
        return None

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
        """Nothing to say: these protocols have no word for it."""

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

    # --- out ------------------------------------------------------------------------------------------------------

    async def _say(self, frames: Iterable[Frame]) -> None:
        for frame in frames:
            try:
                await self._outlet.send(frame.data)
            except OSError:  # uvicorn's ClientDisconnected is one
                self._over = True
                return
            self._rejoining.wrote(frame)

    async def _say_error(self, error: BaseException) -> None:
        request_id = request_id_of(self._scope)
        code, message = describe(error)
        if isinstance(error, NotFound):
            message = NOT_FOUND_MESSAGE
        if not isinstance(error, ClientError):
            level = logging.WARNING if isinstance(error, RuncastError) else logging.ERROR
            logger.log(level, "message failed", exc_info=error, extra={"request_id": request_id})
        await self._say(self._dialect.error(code, message, request_id=request_id))

    async def _tell(
        self, subscription: Subscription | RunSubscription, encoder: Encoder, *, until_run: str | None = None
    ) -> bool:
        """Say what a subscription says, in this dialect. With `until_run` it returns true behind that run's last frame; false
        when the subscription is over before."""
        async for update in subscription:
            frames = newest(encoder.update(update))
            await self._say(frames)
            if self._over:
                return False
            if isinstance(update, Events):
                for record in update.records:
                    if isinstance(record.event, TERMINAL) and isinstance(record.event.run_id, str):
                        self._ended.append(record.event.run_id)
                        self._run_ended.set()
                        self._run_ended = anyio.Event()
                if until_run is not None and until_run in self._ended:
                    return True
            elif isinstance(update, Resync) and update.reason == "deleted":
                return False
            frames = update = ()  # while this reader is stuck it holds nothing but what is in its socket (I10)
            if self._outlet.is_full:
                await self._outlet.room()
            else:
                await anyio.lowlevel.checkpoint()  # a replay may never wait otherwise, and others want their turn
        return False

    # --- what was asked -------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        try:
            while True:
                while not self._waiting:
                    self._asked = anyio.Event()
                    await self._asked.wait()
                next_one = self._waiting.popleft()
                if isinstance(next_one, Lost):
                    await self._go_on(next_one)
                    continue
                await self._answer(next_one)
                self._asks += 1
                if self._dialect.asks is not None and self._asks >= self._dialect.asks:
                    self._end(Close(CloseCode.NORMAL, ""))
                    return
        except Exception as error:
            await self._say_error(error)
            self._end(Close(CloseCode.INTERNAL, "Something went wrong on the server."))

    async def _follow(self, thread: Thread) -> None:
        """Read along from here on. A run that goes on is folded from its start, so that what follows makes sense."""
        self._thread = thread
        service = self._gateway.service
        if isinstance(self._dialect, RejoinDialect) and self._rejoining.follows:
            start = Start(thread.id, thread.epoch, 0, None, self._conversation or thread.id, self._options)
            encoder = self._dialect.encoder(start)
            frames, cursor = await self._rejoining.missed(thread, encoder)
            subscription = await service.follow(self._principal, thread.id, after=cursor)
            self._tasks.start_soon(self._pump, subscription, encoder, frames)
            return
        running = await service.running_run(self._principal, thread.id)
        cursor = thread.head if running is None else running.first_seq - 1
        encoder = self._dialect.encoder(
            Start(thread.id, thread.epoch, cursor, None, self._conversation or thread.id, self._options)
        )
        # Page by page, because pages are not joined: a delta over the place where the reader comes in would be said twice.
        while records := (await service.read(self._principal, thread.id, after=cursor)).records:
            for record in records:
                encoder.encode(record)
            cursor = records[-1].seq
        subscription = await service.follow(self._principal, thread.id, after=cursor)
        self._tasks.start_soon(self._pump, subscription, encoder)

    async def _pump(self, subscription: Subscription, encoder: Encoder, first: Sequence[Frame] = ()) -> None:
        try:
            await self._say(first)
            first = ()
            await self._tell(subscription, encoder)
            if not self._over:  # the thread was deleted
                self._end(Close(CloseCode.NORMAL, "The conversation was deleted."))
        except Exception as error:
            await self._say_error(error)
            self._end(Close(CloseCode.INTERNAL, "Something went wrong on the server."))
        finally:
            subscription.close()

    async def _answer(self, ask: Ask) -> None:
        """Put one message into its thread and say everything of its run."""
        try:
            sent = await self._accept(ask)
        except Exception as error:
            await self._say_error(error)
            return
        self._run = sent.run
        self._rejoining.tells(sent.run)
        try:
            if self._conversation is not None and self._thread is not None and sent.thread == self._thread.id:
                while sent.run not in self._ended:  # `_pump` says it
                    await self._run_ended.wait()
            elif not await self._tell_run(sent, ask) and not self._over:
                await self._say_error(NotFound("The conversation was deleted."))
            self._run = None
        finally:
            if self._run is not None:  # the client went while its run goes on
                with anyio.CancelScope(shield=True):
                    await self._abandon(sent.run)

    async def _accept(self, ask: Ask) -> Sent:
        with anyio.fail_after(ASK_TIMEOUT_S, shield=True):
            thread = await self._thread_of(ask)
            sent = await ask_agent(self._gateway, self._principal, ask, thread, comes_back=not self._is_anonymous(ask))
            conversation = ask.conversation or sent.thread
            options = {**self._options, **ask.options}
            if self._conversation is None:  # a socket with a thread in its URL reads along when it comes again
                self._rejoining.awaits(LostRun(sent.run, sent.thread, conversation, options))
            if thread is None and self._dialect.keeps_thread:
                self._thread = await self._gateway.service.get_thread(self._principal, sent.thread)
        return sent

    async def _thread_of(self, ask: Ask) -> Thread | None:
        if ask.conversation is not None and ask.conversation != self._conversation:
            return await thread_of(self._gateway, self._principal, ask.conversation)
        return self._thread

    def _is_anonymous(self, ask: Ask) -> bool:
        """Whether nobody can come back to the conversation of this message."""
        return self._dialect.keeps_thread and ask.conversation is None and self._conversation is None

    async def _tell_run(self, sent: Sent, ask: Ask) -> bool:
        service = self._gateway.service
        subscription = await service.subscribe_run(self._principal, sent.run)
        try:
            start = Start(
                subscription.thread.id,
                subscription.epoch,
                subscription.start,
                sent.run,
                ask.conversation or self._conversation or sent.thread,
                {**self._options, **ask.options},
            )
            return await self._tell(subscription, self._dialect.encoder(start), until_run=sent.run)
        finally:
            subscription.close()

    # --- what another socket was lost with ------------------------------------------------------------------------

    def _take_over(self, lost: Lost) -> None:
        if lost.whole:
            for run in lost.runs:
                self._rejoining.awaits(run)
            self._waiting.appendleft(lost)
            self._asked.set()
        else:
            self._tasks.start_soon(self._tell_ends, lost)

    async def _go_on(self, lost: Lost) -> None:
        """Say what did not reach the socket that asked, and go on live."""
        for run in (await self._rejoining.living(lost)).runs:
            self._run = run.run
            self._rejoining.tells(run.run)
            try:
                if not await self._tell_from(run) and not self._over:
                    await self._say_error(NotFound("The conversation was deleted."))
                self._run = None
            finally:
                if self._run is not None:
                    with anyio.CancelScope(shield=True):
                        await self._abandon(run.run)

    async def _tell_from(self, lost: LostRun) -> bool:
        service = self._gateway.service
        start = Start(lost.thread, "", 0, lost.run, lost.conversation, lost.options)
        encoder = From(self._dialect.encoder(start), lost.mark)
        cursor = 0
        # Up to the mark page by page, because pages are not joined: a delta over the mark would be said twice.
        while cursor < lost.mark.seq and (
            records := (await service.read_run(self._principal, lost.run, after=cursor)).records
        ):
            await self._say(newest(frame for record in records for frame in encoder.encode(record)))
            cursor = records[-1].seq
            if isinstance(records[-1].event, TERMINAL):
                return True
        subscription = await service.subscribe_run(self._principal, lost.run, after=cursor)
        try:
            return await self._tell(subscription, encoder, until_run=lost.run)
        finally:
            subscription.close()

    async def _tell_ends(self, lost: Lost) -> None:
        """Nobody knows which of several conversations this client's is: when all runs are over it is told how they ended."""
        try:
            ends: list[Frame] = []
            for run in (await self._rejoining.living(lost)).runs:
                encoder = self._dialect.encoder(Start(run.thread, "", 0, run.run, run.conversation, run.options))
                subscription = await self._gateway.service.subscribe_run(self._principal, run.run)
                try:
                    async for update in subscription:
                        ends += [frame._replace(seq=None) for frame in encoder.update(update) if frame.ends]
                finally:
                    subscription.close()
            await self._say(ends)
        except Exception as error:
            await self._say_error(error)

    async def _abandon(self, run: str) -> None:
        try:
            with anyio.fail_after(ASK_TIMEOUT_S):
                await self._gateway.service.sender_gone(self._principal, run)
        except (RuncastError, TimeoutError):
            logger.debug("the run of a client that has gone could not be found")

    # --- in -------------------------------------------------------------------------------------------------------

    async def _guarded_read(self) -> None:
        try:
            await self._read()
        except Exception:
            logger.exception("websocket failed", extra={"request_id": request_id_of(self._scope)})
            self._end(Close(CloseCode.INTERNAL, "Something went wrong on the server."))

    async def _read(self) -> None:
        while not self._over:
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                self._over = True
                if "reason" in message:
                    self._rejoining.closed()
                await self._leave(is_deliberate(message))
                return
            self._last_heard = self._gateway.clock.monotonic()
            self._rejoining.heard()
            text: str | None = message.get("text")
            data = text if text is not None else message.get("bytes") or b""
            if (close := self._too_much(data)) is not None:
                self._end(close)
                return
            await self._heard(data)

    async def _heard(self, data: str | bytes) -> None:
        try:
            ask = self._dialect.decode(data)
        except BadFrame as bad:
            await self._say(self._dialect.error("invalid_request", bad.message, request_id=request_id_of(self._scope)))
            if self._dialect.asks == 1:
                self._end(Close(CloseCode.NORMAL, ""))
            return
        if ask is None:
            return
        if (
            self._dialect.asks is not None
            and self._asks + len(self._waiting) + (self._run is not None) >= self._dialect.asks
        ):
            return  # the rest of what such a client says means nothing
        if len(self._waiting) >= MAX_WAITING:
            message = f"More than {MAX_WAITING} messages wait for an answer; wait for the next one."
            await self._say(self._dialect.error("queue_full", message, request_id=request_id_of(self._scope)))
            return
        self._waiting.append(ask)
        self._asked.set()

    def _too_much(self, data: str | bytes) -> Close | None:
        # A character has at most four bytes, so most messages need no second look.
        if len(data) * 4 > MAX_FRAME_BYTES:
            size = len(data) if isinstance(data, bytes) else len(data.encode("utf-8", "replace"))
            if size > MAX_FRAME_BYTES:
                return Close(CloseCode.TOO_BIG, f"A frame has at most {MAX_FRAME_BYTES} bytes.")
        if self._last_heard >= self._window_ends:
            self._window_ends = self._last_heard + FRAMES_WINDOW_S
            self._frames = 0
        self._frames += 1
        if self._frames > MAX_FRAMES:
            return Close(CloseCode.RATE_LIMIT, f"More than {MAX_FRAMES} frames in {FRAMES_WINDOW_S:g} s.")
        return None

    async def _leave(self, deliberate: bool) -> None:
        """What the client's going means; there is nobody left to be answered."""
        if self._dialect.on_close(deliberate) == "cancel":
            self._waiting.clear()
            if self._run is not None:
                await self._cancel(self._run)
            return
        while self._waiting:
            ask = self._waiting.popleft()
            if isinstance(ask, Ask) and not self._is_anonymous(ask):
                try:
                    await self._accept(ask)
                except RuncastError as error:
                    logger.info("a message of a client that has gone was not taken: %s", error.code)

    async def _cancel(self, run: str) -> None:
        command = Cancel(id=self._gateway.new_id(), run=run, reason="The connection was closed.")
        try:
            with anyio.fail_after(ASK_TIMEOUT_S, shield=True):
                await self._gateway.service.cancel(self._principal, command)
        except ClientError:
            pass  # it has ended meanwhile

    # --- time -----------------------------------------------------------------------------------------------------

    async def _keep_time(self) -> None:
        clock, silence = self._gateway.clock, self._dialect.keep_alive
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
            deadline = self._outlet.stuck_at()
            if silence is not None:
                quiet_since = max(self._last_heard, self._outlet.last_sent)
                if clock.monotonic() >= quiet_since + silence.after_s:
                    self._tasks.start_soon(self._say, [Frame(silence.frame)])
                    quiet_since = clock.monotonic()
                deadline = min(deadline, quiet_since + silence.after_s)
            self._wake = anyio.Event()
            if self._stop_asked or self._revoked:
                continue
            with anyio.move_on_after(max(0.0, deadline - clock.monotonic())):
                await self._wake.wait()

    async def _finish(self) -> None:
        """The server stops: what is in the log is still said, then the connection ends so that the client sees a restart."""
        with anyio.move_on_after(FLUSH_S):
            while self._run is not None:
                await anyio.sleep(0.01)
        if self._dialect.asks is not None:  # such a client has no word for a connection that just closes
            await self._say(self._dialect.error("unavailable", RESTARTING, request_id=request_id_of(self._scope)))
        self._end(Close(CloseCode.RESTART, "The server restarts."))


def newest(frames: Iterable[Frame]) -> Sequence[Frame]:
    """Without the frames that a later one of the same batch supersedes."""
    kept = list(frames)
    last = max((index for index, frame in enumerate(kept) if frame.supersedes), default=-1)
    return [frame for index, frame in enumerate(kept) if not frame.supersedes or index == last]


def protocol_of(offered: Sequence[str]) -> str | None:
    """The subprotocol to answer with: a browser ends a handshake in which none of those that it offered comes back. A token is
    never echoed, only what stands beside it."""
    names = [item for item in offered if not item.startswith("bearer.")]
    return names[0] if names else None
