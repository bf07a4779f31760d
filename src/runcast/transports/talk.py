"""A WebSocket on which people talk in one of the message dialects: a message asks, frames answer.

One task reads and decodes, one carries out what was asked, one message after the other, one keeps time; a socket that follows
a whole thread has one more, which reads it. What a run says comes from a subscription like everybody's, so a slow client
holds back nobody, and what the client missed is in the log.

A message that comes while the one before is still being answered waits its turn; beyond `turns.MAX_WAITING` it is refused.
When the client goes, messages that wait in a conversation it can come back to are still put into the log.

The socket is accepted first and closed then: a close before the accept reaches a browser as HTTP 403, without its code.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Final

import anyio

from runcast.commands import Cancel
from runcast.dialects.base import Ask, BadFrame, Encoder, Frame, Options, PushDialect, RejoinDialect, Start, TalkDialect
from runcast.dialects.messages import conversation_fault
from runcast.errors import ClientError, Forbidden, NotFound, RuncastError, Unauthenticated
from runcast.runs import Thread
from runcast.service import Sent
from runcast.session import Close, CloseCode, close_for
from runcast.subscription import Subscription
from runcast.transports.asking import ask_agent, thread_of
from runcast.transports.connection import ASK_TIMEOUT_S, FAILED, DialectConnection
from runcast.transports.deliveries import Lost, LostRun
from runcast.transports.gateway import FLUSH_S, Gateway
from runcast.transports.inflow import Inflow
from runcast.transports.leaving import is_deliberate
from runcast.transports.presented import QueryToken
from runcast.transports.rejoining import Rejoining
from runcast.transports.speech import Speech
from runcast.transports.taking_over import tell_ends, tell_rest
from runcast.transports.turns import MAX_WAITING, Turns
from runcast.transports.whole import whole
from runcast.transports.wire import Receive, Scope, Send, query_of, request_id_of
from runcast.updates import Events, Update

logger = logging.getLogger("runcast.talk")

MAX_PUSHES: Final = 16
"""Texts of the server's own code that wait until a client takes them."""

RESTART: Final = Close(CloseCode.RESTART, "The server restarts.")
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


class TalkConnection(DialectConnection):
    def __init__(
        self,
        gateway: Gateway,
        dialect: TalkDialect,
        scope: Scope,
        receive: Receive,
        send: Send,
        query_token: QueryToken,
    ) -> None:
        super().__init__(gateway, scope, receive, send)
        self._dialect = dialect
        self._query_token: QueryToken = query_token
        self._rejoining = Rejoining(gateway, dialect, scope, self._take_over)
        self._speech = Speech(gateway, dialect, self._outlet, request_id_of(scope), self._rejoining.wrote)
        self._options: Options = query_of(scope)
        self._conversation: str | None = None
        """The client's own id of the thread that this socket follows, from its URL."""
        self._thread: Thread | None = None
        """The thread that this socket follows; for a socket with a thread of its own, that one."""
        self._turns = Turns()
        self._asks = 0
        self._run: str | None = None
        """What the newest message started, until its last frame was sent."""
        self._cancels = False
        """Whether the client closed the connection to stop what it asked for."""
        self._inflow = Inflow(gateway.clock.monotonic())
        self._pushes = 0
        self._last_words = ""
        """What is said before the close, in a dialect that says something; the close's reason otherwise."""

    # --- life -----------------------------------------------------------------------------------------------------

    async def _let_in(self) -> None:
        await self._accept_socket(self._rejoining.headers)

    def _left(self) -> None:
        self._rejoining.leave()

    def _over(self) -> None:
        self._speech.over = True

    async def _live(self) -> None:
        """Follow the thread that the URL names; then let the client in, so that it misses nothing from then on."""
        followed: tuple[Subscription, Encoder, Sequence[Frame]] | None = None
        try:
            if self._conversation is not None:
                thread = await thread_of(self._gateway, self._principal, self._conversation)
                followed = await self._follow(thread)
        except Exception as error:
            await self._let_in()
            await self._speech.say_error(error)
            self._end(FAILED)
            return
        try:
            await self._let_in()
        except BaseException:
            if followed is not None:
                followed[0].close()
            raise
        if followed is not None:
            self._tasks.start_soon(self._pump, *followed)
        self._rejoining.join()
        self._tasks.start_soon(self._rejoining.recall)
        self._tasks.start_soon(self._rejoining.keep_asking)
        self._tasks.start_soon(self._keep_time)
        self._tasks.start_soon(self._work)
        if isinstance(self._dialect, PushDialect):
            id = self._scope.get("path_params", {}).get("client_id")
            with self._gateway.clients.join(self, id, self._principal):
                await self._guarded_read()
        else:
            await self._guarded_read()

    async def _enter(self) -> Close | None:
        """Who is there, and where; the close that follows if they may not come in."""
        try:
            identity = await self._gateway.identify_scope(self._scope, query_token=self._query_token)
            self._principal, self._expires_at = identity.principal, identity.expires_at
            self._speech.principal = identity.principal
            if fault := self._misplaced():
                raise Forbidden(fault)
        except (Unauthenticated, Forbidden) as error:
            await self._let_in()
            self._last_words = "Unauthorized" if isinstance(error, Unauthenticated) else "Forbidden"
            return close_for(error)
        if (refusal := self._claim()) is not None:
            await self._let_in()
            return refusal
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

    async def _say_last_words(self, close: Close) -> None:
        if self._dialect.answers_refusals:
            words = self._last_words or (RESTARTING if close.code is CloseCode.RESTART else close.reason)
            await self._speech.say_last(close.code.name.lower(), words)

    # --- server code ----------------------------------------------------------------------------------------------

    def push(self, text: str) -> bool:
        if self._speech.over or self._pushes >= MAX_PUSHES:
            return False
        self._pushes += 1
        self._tasks.start_soon(self._push, text)
        return True

    async def _push(self, text: str) -> None:
        assert isinstance(self._dialect, PushDialect)
        await self._speech.say(self._dialect.pushed(text))
        self._pushes -= 1

    # --- what was asked -------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        try:
            while True:
                turn = await self._turns.take()
                if isinstance(turn, Lost):
                    await self._go_on(turn)
                    continue
                if isinstance(turn, BadFrame):
                    await self._speech.refuse("invalid_request", turn.message)
                else:
                    await self._answer(turn)
                self._asks += 1
                if self._dialect.asks is not None and self._asks >= self._dialect.asks:
                    stops = self._gateway.draining
                    self._end(RESTART if stops else Close(CloseCode.NORMAL, ""))
                    return
        except Exception as error:
            await self._speech.say_error(error)
            self._end(FAILED)

    async def _follow(self, thread: Thread) -> tuple[Subscription, Encoder, Sequence[Frame]]:
        """Read along from here on; the frames are said first. A run that goes on is folded from its start, so that what
        follows makes sense."""
        self._thread = thread
        service = self._gateway.service
        if isinstance(self._dialect, RejoinDialect) and self._rejoining.follows:
            start = Start(thread.id, thread.epoch, 0, None, self._conversation or thread.id, self._options)
            returning = self._dialect.encoder(start)
            first, cursor = await self._rejoining.missed(thread, returning)
            return await service.follow(self._principal, thread.id, after=cursor), returning, first
        running = await service.running_run(self._principal, thread.id)
        cursor = thread.head if running is None else running.first_seq - 1
        encoder = self._dialect.encoder(
            Start(thread.id, thread.epoch, cursor, None, self._conversation or thread.id, self._options)
        )
        # Page by page, because pages are not joined: a delta over the place where the reader comes in would be said twice.
        while records := (await service.read(self._principal, thread.id, after=cursor)).records:
            update: Update = Events(records)
            if self._dialect.whole_results:
                update = await whole(service, self._principal, update)
            encoder.update(update)
            cursor = records[-1].seq
        subscription = await service.follow(self._principal, thread.id, after=cursor)
        return subscription, encoder, ()

    async def _pump(self, subscription: Subscription, encoder: Encoder, first: Sequence[Frame]) -> None:
        try:
            await self._speech.say(first)
            first = ()
            await self._speech.tell(subscription, encoder)
            if not self._speech.over:  # the thread was deleted
                self._end(Close(CloseCode.NORMAL, "The conversation was deleted."))
        except Exception as error:
            await self._speech.say_error(error)
            self._end(FAILED)
        finally:
            subscription.close()

    async def _answer(self, ask: Ask) -> None:
        """Put one message into its thread and say everything of its run."""
        try:
            sent = await self._accept(ask)
        except Exception as error:
            await self._speech.say_error(error)
            return
        self._run = sent.run
        self._rejoining.tells(sent.run)
        try:
            if self._conversation is not None and self._thread is not None and sent.thread == self._thread.id:
                await self._speech.ended.until(sent.run)  # `_pump` says it
            elif not await self._tell_run(sent, ask):
                if self._speech.over:  # met by writing: how the client left is for the reader to hear
                    await anyio.sleep_forever()
                await self._speech.say_error(NotFound("The conversation was deleted."))
            self._run = None
        finally:
            if self._run is not None:  # the client went while its run goes on
                with anyio.CancelScope(shield=True):
                    await (self._cancel if self._cancels else self._abandon)(sent.run)

    async def _accept(self, ask: Ask) -> Sent:
        with anyio.fail_after(ASK_TIMEOUT_S, shield=True):
            thread = await self._thread_of(ask)
            sent = await ask_agent(
                self._gateway,
                self._principal,
                ask,
                thread,
                comes_back=not self._is_anonymous(ask),
                id=self._rejoining.message_id(ask.conversation),
            )
            if self._conversation is None:  # a socket with a thread in its URL reads along when it comes again
                options = {**self._options, **ask.options}
                self._rejoining.awaits(LostRun(sent.run, sent.thread, ask.conversation or sent.thread, options))
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
            return await self._speech.tell(subscription, self._dialect.encoder(start), until_run=sent.run)
        finally:
            subscription.close()

    def _take_over(self, lost: Lost) -> None:
        if lost.whole:
            for run in lost.runs:
                self._rejoining.awaits(run)
            self._turns.put_first(lost)
        else:
            self._tasks.start_soon(self._tell_ends, lost)

    async def _go_on(self, lost: Lost) -> None:
        """Say what did not reach the socket that asked, and go on live."""
        for run in (await self._rejoining.living(lost)).runs:
            self._run = run.run
            self._rejoining.tells(run.run)
            try:
                told = await tell_rest(self._gateway.service, self._dialect, self._speech, run)
                if not told and not self._speech.over:
                    await self._speech.say_error(NotFound("The conversation was deleted."))
                self._run = None
            finally:
                if self._run is not None:
                    with anyio.CancelScope(shield=True):
                        await self._abandon(run.run)

    async def _tell_ends(self, lost: Lost) -> None:
        try:
            runs = (await self._rejoining.living(lost)).runs
            await tell_ends(self._gateway.service, self._dialect, self._speech, runs)
        except Exception as error:
            await self._speech.say_error(error)

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
            self._end(FAILED)

    async def _read(self) -> None:
        while self._close is None:
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                self._speech.over = True
                if "reason" in message:
                    self._rejoining.closed()
                await self._leave(is_deliberate(message))
                return
            self._rejoining.heard()
            text: str | None = message.get("text")
            data = text if text is not None else message.get("bytes") or b""
            if (close := self._inflow.take(data, self._gateway.clock.monotonic())) is not None:
                if (
                    self._run is None and not self._turns
                ):  # else it would be taken for the end of what is being answered
                    await self._speech.refuse("payload_too_large", close.reason)
                self._end(close)
                return
            await self._heard(data)

    async def _heard(self, data: str | bytes) -> None:
        try:
            turn = self._dialect.decode(data)
        except BadFrame as bad:
            turn = bad
        if turn is None:
            return
        asks = self._dialect.asks
        if asks is not None and self._asks + len(self._turns) + (self._run is not None) >= asks:
            return  # the rest of what such a client says means nothing
        if not self._turns.add(turn):
            await self._speech.refuse(
                "queue_full", f"More than {MAX_WAITING} messages wait for an answer; wait for the next one."
            )

    async def _leave(self, deliberate: bool) -> None:
        """What the client's going means; there is nobody left to be answered."""
        asks = self._turns.rest()
        if self._dialect.on_close(deliberate) == "cancel":
            self._cancels = True
            return  # whoever waits for the run's end stops it
        for ask in asks:
            if not self._is_anonymous(ask):
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

    def _due_s(self) -> float:
        silence = self._dialect.keep_alive
        if silence is None:
            return math.inf
        now = self._gateway.clock.monotonic()
        quiet_since = max(self._inflow.last_heard, self._outlet.last_sent)
        if now >= quiet_since + silence.after_s:
            self._tasks.start_soon(self._speech.say, [Frame(silence.frame)])
            quiet_since = now
        return quiet_since + silence.after_s - now

    async def _finish(self) -> None:
        """The server stops: what is in the log is still said, then the connection ends so that the client sees a restart."""
        with anyio.move_on_after(FLUSH_S):
            while self._run is not None:
                await anyio.sleep(0.01)
        self._end(RESTART)
