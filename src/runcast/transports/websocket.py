"""The native WebSocket: moves bytes between one socket and one `Session`, and carries out its commands.

One task reads and carries out commands in the order they came; one pump per subscription sends; a timer, no task, keeps time,
for most connections do nothing most of the time. All sends go through one fair lock, so that frames never interleave and no subscription starves another; what a caught-up reader gets is
written at once, if nothing is being sent (`transports.straight`). A client that does not read holds
its own pumps back (they await the send) and nothing else; one that makes no progress within `send_timeout_s` is let go.

The socket is accepted first and closed then: a close before the accept reaches a browser as HTTP 403, without its code.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextvars import Context, copy_context
from functools import partial
from typing import Any

import anyio
import anyio.abc
import anyio.lowlevel
import msgspec

from runcast.commands import (
    AnyCommand,
    Auth,
    Cancel,
    Edit,
    Hello,
    Ping,
    Resolve,
    Retry,
    Return,
    Steer,
    Subscribe,
    Unsubscribe,
)
from runcast.commands import (
    Send as SendMessage,
)
from runcast.dialects import native
from runcast.dialects.base import OnClose
from runcast.errors import ClientError, Forbidden, RuncastError, TooManyConnections, Unauthenticated
from runcast.runs import Principal
from runcast.session import Close, CloseCode, Session, SessionLimits, close_for, negotiate
from runcast.subscription import Subscription
from runcast.transports.gateway import FLUSH_S, RETRY_MS, Gateway, Place
from runcast.transports.leaving import is_deliberate
from runcast.transports.line import line_of
from runcast.transports.straight import straight_of
from runcast.transports.wire import Receive, Scope, Send
from runcast.updates import Events, Resync

sniffio: Any
try:
    import sniffio
except ModuleNotFoundError:
    sniffio = None

logger = logging.getLogger("runcast.websocket")

Change = SendMessage | Return | Cancel | Resolve | Steer | Edit | Retry
Request = Subscribe | Unsubscribe | Auth | Change
"""What is answered by an ack or an error."""

CLOSE_TIMEOUT_S = 5
"""How long a peer that does not read may take to make room for a close frame."""

LEAST_DELAY_S = 0.001
"""A timer that goes off a rounding error too early must not do so for ever."""

COMMAND_TIMEOUT_S = 60
"""A command that was begun is finished even if its client goes away, but not for ever."""


def _timing() -> Context:
    """Where a timer runs that starts tasks: no task is current there, and anyio asks `sniffio`, if it is installed, which
    event loop it is on."""
    context = copy_context()
    if sniffio is not None:
        context.run(sniffio.current_async_library_cvar.set, "asyncio")
    return context


class NativeSocket:
    """The ASGI application behind `/v1/ws`."""

    def __init__(
        self,
        gateway: Gateway,
        limits: SessionLimits | None = None,
        on_close: Callable[[bool], OnClose] = native.on_close,
    ) -> None:
        self._gateway = gateway
        self._limits = limits
        self._on_close = on_close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await NativeConnection(self._gateway, scope, receive, send, self._limits, self._on_close).run()


class NativeConnection:
    def __init__(
        self,
        gateway: Gateway,
        scope: Scope,
        receive: Receive,
        send: Send,
        limits: SessionLimits | None = None,
        on_close: Callable[[bool], OnClose] = native.on_close,
    ) -> None:
        self._gateway = gateway
        self._scope = scope
        self._receive = receive
        self._asgi_send = send
        self._straight = straight_of(scope)
        self._line = line_of(scope)
        self._session = Session(clock=gateway.clock, new_id=gateway.new_id, limits=limits, on_close=on_close)
        self._lock = anyio.Lock(fast_acquire=True)
        self._sending_since: float | None = None
        self._pending_then = 0
        """What the peer had not taken when it was last looked whether it takes anything."""
        self._pumps: dict[int, anyio.CancelScope] = {}
        self._subscriptions: dict[int, Subscription] = {}
        self._place: Place | None = None
        self._timer: asyncio.Handle | None = None
        self._timing = _timing()
        self._drain_asked = False
        self._drain_told = False
        self._stop_asked = False
        self._stopping = False
        self._revoked = False
        self._close: Close | None = None
        self._over = False
        self._tasks: anyio.abc.TaskGroup

    async def run(self) -> None:
        """Returns when the connection is over, whatever ended it."""
        if (await self._receive())["type"] != "websocket.connect":
            return
        subprotocol, refusal = negotiate(self._scope.get("subprotocols", ()))
        async with self._gateway.entrance():
            await self._asgi_send({"type": "websocket.accept", "subprotocol": subprotocol, "headers": []})
        if refusal is not None:
            self._close = refusal
        else:
            try:
                with self._gateway.join(self):
                    async with anyio.create_task_group() as self._tasks:
                        self._look_soon()
                        await self._guarded_read()
                        self._over = True
                        self._tasks.cancel_scope.cancel()
            finally:
                self._over = True
                if self._timer is not None:
                    self._timer.cancel()
                if self._place is not None:
                    self._place.leave()
        if self._close is not None:
            logger.debug("closing %s with %d", self._session.id, self._close.code)
            with anyio.move_on_after(CLOSE_TIMEOUT_S, shield=True) as too_late:
                try:
                    await self._asgi_send(
                        {"type": "websocket.close", "code": int(self._close.code), "reason": self._close.reason}
                    )
                except (OSError, RuntimeError):  # the peer was faster: there is nobody left to be told
                    pass
            if too_late.cancelled_caught and self._line is not None:
                self._line.abort()

    def drain(self) -> None:
        self._drain_asked = True
        self._look_soon()

    def stop(self) -> None:
        self._stop_asked = True
        self._look_soon()

    def revoke(self, principal: Principal) -> None:
        if self._session.identity is not None and self._session.identity.principal == principal:
            self._revoked = True
            self._look_soon()

    def _end(self, close: Close | None) -> None:
        """Stop all tasks; the first reason counts. Without a reason the peer is gone."""
        if self._close is None:
            self._close = close
        self._over = True
        self._tasks.cancel_scope.cancel()

    # --- out ------------------------------------------------------------------------------------------------------

    async def _send(self, frame: bytes) -> None:
        async with self._lock:
            self._sending_since = self._gateway.clock.monotonic()
            if self._line is not None and self._line.is_full:
                self._pending_then = self._line.pending()
            try:
                await self._asgi_send({"type": "websocket.send", "text": frame.decode()})
            except OSError:  # uvicorn's ClientDisconnected is one
                self._end(None)
            finally:
                self._sending_since = None

    def _deliver(self, sub: int, events: Events) -> bool:
        """What a reader that is caught up is given inside the step that commits; whether it could be."""
        straight = self._straight
        if straight is None or self._over or self._lock.locked() or not straight.has_room:
            return False
        for frame in self._session.encode(sub, events):
            straight.write_text(frame)
        return True

    async def _room(self) -> None:
        """Wait until the peer takes more."""
        assert self._line is not None
        async with self._lock:
            self._sending_since = self._gateway.clock.monotonic()
            self._pending_then = self._line.pending()
            try:
                await self._line.room()
            finally:
                self._sending_since = None

    async def _pump(self, sub: int, subscription: Subscription, scope: anyio.CancelScope) -> None:
        with scope:
            try:
                async for update in subscription:
                    for frame in self._session.encode(sub, update):
                        await self._send(frame)
                    if self._over or (isinstance(update, Resync) and update.reason == "deleted"):
                        break  # a cancellation alone would be noticed only where something waits
                    lags = isinstance(update, Events) and len(update.records) > 1
                    frame = update = None  # while this reader is stuck it holds nothing but what is in its socket (I10)
                    if self._line is not None and self._line.is_full:
                        await self._room()
                    elif lags:
                        await (
                            anyio.lowlevel.checkpoint()
                        )  # a replay may never wait otherwise, and others want their turn
            except Exception as error:
                request_id = self._gateway.new_id()
                if not isinstance(error, ClientError):
                    logger.exception("subscription failed", extra={"request_id": request_id})
                await self._send(self._session.error(None, error, sub=sub, request_id=request_id))
            finally:
                subscription.close()
                self._session.ended(sub)
                self._pumps.pop(sub, None)
                self._subscriptions.pop(sub, None)

    async def _flush(self) -> None:
        """Let the readers have what is in the log; one that lags by more than a moment gets it after the restart."""
        with anyio.move_on_after(FLUSH_S):
            while self._lock.locked() or any(
                subscription.cursor < subscription.latest for subscription in self._subscriptions.values()
            ):
                await anyio.sleep(0.01)

    # --- time -----------------------------------------------------------------------------------------------------

    def _look_soon(self) -> None:
        """Somebody left a note, or a deadline may have moved: look in the next turn of the event loop."""
        if self._timer is not None:
            self._timer.cancel()
        if not self._over:
            self._timer = asyncio.get_running_loop().call_soon(self._keep_time, context=self._timing)

    def _keep_time(self) -> None:
        """Do what is due, and come again when something is."""
        if self._over:
            return
        try:
            self._look()
        except Exception:
            logger.exception("websocket failed", extra={"connection": self._session.id})
            self._end(Close(CloseCode.INTERNAL, "Something went wrong on the server."))

    def _look(self) -> None:
        now = self._gateway.clock.monotonic()
        if self._revoked:
            self._end(Close(CloseCode.REVOKED, "The session was ended."))
            return
        if self._stop_asked:
            if not self._stopping:
                self._stopping = True
                self._tasks.start_soon(self._restart)
            return
        if self._drain_asked and not self._drain_told and self._session.identity is not None:
            self._drain_told = True
            self._tasks.start_soon(self._send, self._session.drain(RETRY_MS))
        # A frame of ours that is stuck in the socket must not hold up the time: frames are sent by tasks of their own.
        heads = {sub: subscription.latest for sub, subscription in self._subscriptions.items()}
        for due in self._session.tick(heads, is_blocked=self._sending_since is not None):
            if isinstance(due, Close):
                self._end(due)
                return
            self._tasks.start_soon(self._send, due)
        # A send that begins meanwhile is looked at when it may be stuck.
        deadline = min(self._session.next_deadline(), now + self._gateway.send_timeout_s)
        if self._sending_since is not None:
            if now >= self._sending_since + self._gateway.send_timeout_s:
                if not self._takes_something():
                    self._end(Close(CloseCode.NO_PROGRESS, "No progress."))
                    return
                self._sending_since = now
            deadline = min(deadline, self._sending_since + self._gateway.send_timeout_s)
        delay_s = max(LEAST_DELAY_S, deadline - now)
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._keep_time, context=self._timing)

    async def _restart(self) -> None:
        await self._flush()
        self._end(Close(CloseCode.RESTART, "The server restarts."))

    def _takes_something(self) -> bool:
        """Whether a peer that holds us up has taken anything since it was last looked: then it is slow, not stuck."""
        if self._line is None:
            return False
        before, self._pending_then = self._pending_then, self._line.pending()
        return self._pending_then < before

    # --- in -------------------------------------------------------------------------------------------------------

    async def _guarded_read(self) -> None:
        try:
            await self._read()
        except Exception:
            logger.exception("websocket failed", extra={"connection": self._session.id})
            self._end(Close(CloseCode.INTERNAL, "Something went wrong on the server."))

    async def _read(self) -> None:
        while True:
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                await self._leave(is_deliberate(message))
                self._end(None)
                return
            text: str | None = message.get("text")
            for effect in self._session.receive(text if text is not None else message.get("bytes") or b""):
                match effect:
                    case bytes():
                        await self._send(effect)
                    case Close():
                        self._end(effect)
                        return
                    case _:
                        await self._carry_out(effect)
            if self._over:
                return

    async def _leave(self, deliberate: bool) -> None:
        """What the dialect makes of the client's going; there is nobody left to be answered."""
        identity = self._session.identity
        for command in self._session.closed(deliberate):
            assert identity is not None
            try:
                with anyio.fail_after(COMMAND_TIMEOUT_S, shield=True):
                    await self._gateway.service.cancel(identity.principal, command)
            except ClientError:
                continue  # an inbox, a thread that is gone or in which nothing runs

    async def _carry_out(self, command: AnyCommand) -> None:
        if isinstance(command, Hello):
            await self._hello(command)
            return
        assert not isinstance(command, Ping)  # the session answers it
        try:
            await self._execute(command)
        except Exception as error:
            request_id = self._gateway.new_id()
            if not isinstance(error, ClientError):
                fields = {"request_id": request_id, "op": str(command.__struct_config__.tag)}
                logger.log(
                    logging.WARNING if isinstance(error, RuncastError) else logging.ERROR,
                    "command failed",
                    exc_info=error,
                    extra=fields,
                )
            if isinstance(command, Subscribe):
                await self._send(self._session.subscribe_failed(command, error, request_id=request_id))
            else:
                await self._send(self._session.error(command.id, error, request_id=request_id))

    async def _hello(self, hello: Hello) -> None:
        try:
            identity = await self._gateway.identify_scope(self._scope, token=hello.token)
        except (Unauthenticated, Forbidden) as error:
            self._end(close_for(error))
            return
        try:
            self._place = self._gateway.claim(identity.principal).keep()
        except TooManyConnections:
            self._end(Close(CloseCode.TOO_MANY_CONNECTIONS, "This user has too many connections."))
            return
        frame = self._session.welcome(identity)
        self._look_soon()
        await self._send(frame)

    async def _execute(self, command: Request) -> None:
        service = self._gateway.service
        session = self._session
        assert session.identity is not None  # only `hello` is let through before
        principal = session.identity.principal
        match command:
            case Subscribe():
                async with self._gateway.entrance():
                    subscription = await service.subscribe(principal, command)
                sub, ack = session.subscribed(
                    command,
                    thread=subscription.thread.id,
                    epoch=subscription.epoch,
                    head=subscription.head,
                    start=subscription.start,
                )
                self._pumps[sub] = scope = anyio.CancelScope()
                self._subscriptions[sub] = subscription
                try:
                    await self._send(ack)
                except BaseException:
                    subscription.close()
                    raise
                if self._straight is not None:
                    subscription.deliver_to(partial(self._deliver, sub))
                self._tasks.start_soon(self._pump, sub, subscription, scope)
            case Unsubscribe():
                ack = session.unsubscribed(command)
                self._subscriptions.pop(command.sub, None)
                if (scope := self._pumps.pop(command.sub, None)) is not None:
                    scope.cancel()
                await self._send(ack)
            case Auth():
                identity = await self._gateway.renew(self._scope, command.token)
                renewed = session.renew(command, identity)
                self._look_soon()
                if isinstance(renewed, Close):
                    self._end(renewed)
                    return
                await self._send(renewed)
            case SendMessage() | Return() | Cancel() | Resolve() | Steer() | Edit() | Retry():
                with anyio.fail_after(COMMAND_TIMEOUT_S, shield=True):
                    result = await self._change(command)
                await self._send(session.ack(command.id, result))

    async def _change(self, command: Change) -> msgspec.Struct:
        service = self._gateway.service
        assert self._session.identity is not None
        principal = self._session.identity.principal
        if not isinstance(command, Cancel):
            self._gateway.refuse_while_draining()
        match command:
            case SendMessage():
                return await service.send(principal, command)
            case Return():
                return await service.return_results(principal, command)
            case Cancel():
                return await service.cancel(principal, command)
            case Resolve():
                return await service.resolve(principal, command)
            case Steer():
                return await service.steer(principal, command)
            case Edit():
                return await service.edit(principal, command)
            case Retry():
                return await service.retry(principal, command)
