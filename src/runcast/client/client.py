"""The Python client: talk to a Runcast server, over as many connections as it takes.

    async with connect("http://127.0.0.1:8000") as client:
        run = await client.send("Show me all tables")
        async for event in run.events():
            print(event)

Drives a `Connection` over the `websockets` package, on asyncio. A reader that is slower than its thread costs no memory
and holds nobody up: its subscription is left and taken again after its cursor, because the log is on the server.
"""

from __future__ import annotations

import random as randomness
import urllib.parse
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import anyio
import anyio.abc
import websockets.asyncio.client
import websockets.exceptions
import websockets.typing

from runcast import errors, events
from runcast.client import address
from runcast.client.connection import Connection
from runcast.client.effects import (
    Answered,
    Batch,
    CaughtUp,
    Connect,
    Disconnect,
    Effect,
    Ended,
    Refused,
    Rewound,
    SnapshotTaken,
    StateChanged,
    Stopped,
    Transmit,
)
from runcast.client.refusals import LogChanged, Unreachable, error_of
from runcast.client.upload import Source, UploadedFile, opened, uploaded
from runcast.commands import AnyCommand, Cancel, Edit, Resolve, Retry, Send, Steer
from runcast.errors import RuncastError
from runcast.events import Event
from runcast.ids import Clock, IdSource, SystemClock, Uuid7Source
from runcast.runs import Message, OnBranch, OnBusy
from runcast.transcript import Transcript, fold, load

SUBPROTOCOL = "runcast.v1"
MAX_WAITING_EVENTS = 1000
"""What one slow reader holds in memory before its subscription is paused."""
MAX_FRAME_BYTES = 64 * 1024 * 1024
"""A snapshot of a long conversation comes in one frame."""

Token = str | Callable[[], Awaitable[str]]
"""A token, or how to get a new one: asked at each connection."""
Update = Batch | CaughtUp | SnapshotTaken | Rewound


class SentRun:
    """A run that was started (or queued) by `Client.send`."""

    def __init__(self, client: Client, thread: str, run: str, seq: int, replayed: bool) -> None:
        self.thread = thread
        self.id = run
        self.seq = seq
        """Where its first event stands in the thread's log."""
        self.replayed = replayed
        self._client = client

    def __repr__(self) -> str:
        return f"SentRun({self.id!r}, thread={self.thread!r})"

    async def events(self) -> AsyncGenerator[Event, None]:
        """The run's own events from its first on; ends after its terminal event."""
        async with aclosing(self._client.follow(self.thread, after=self.seq - 1)) as followed:
            async for event in followed:
                if event.run_id == self.id:
                    yield event
                    if isinstance(event, events.TERMINAL):
                        return

    async def text(self) -> str:
        """What the agent says, once the run has ended or waits.

        Raises:
            AgentError: the run failed; with its code and sentence.
        """
        said: list[str] = []
        async with aclosing(self.events()) as mine:
            async for event in mine:
                match event:
                    case events.TextMessageContent():
                        said.append(event.delta)
                    case events.RunError():
                        code = event.code if isinstance(event.code, str) else None
                        raise errors.AgentError(
                            event.message,
                            code=code,
                            retryable=event.retryable is True,
                            retry_after_ms=event.retry_after_ms if isinstance(event.retry_after_ms, int) else None,
                        )
                    case _:
                        pass
        return "".join(said)

    async def cancel(self, reason: str | None = None) -> str:
        """Stop it: see `Client.cancel`."""
        return await self._client.cancel(run=self.id, reason=reason)


class _Reader:
    """The updates of one subscription that its reader has not taken yet."""

    def __init__(self) -> None:
        self.waiting: deque[Update] = deque()
        self.events = 0
        self.paused = False
        self.ended: RuncastError | None = None
        self.closed = False
        self.news = anyio.Event()

    def wake(self) -> None:
        self.news.set()
        self.news = anyio.Event()


class _Call:
    """One command that waits for its answer."""

    def __init__(self) -> None:
        self.done = anyio.Event()
        self.result: dict[str, Any] = {}
        self.error: RuncastError | None = None


class Client:
    """Made by `connect`. Its methods may be called by several tasks at once."""

    def __init__(
        self,
        base_url: str,
        tasks: anyio.abc.TaskGroup,
        *,
        token: Token | None,
        on_state: Callable[[StateChanged], None] | None,
        clock: Clock,
        new_id: IdSource,
        random: Callable[[], float],
    ) -> None:
        self.base_url = base_url
        self._tasks = tasks
        self._token = token
        self._on_state = on_state
        self._clock = clock
        self._new_id = new_id
        self._machine = Connection(new_id=new_id, random=random, client="runcast-python", renewable=callable(token))
        self._readers: dict[int, _Reader] = {}
        self._calls: dict[str, _Call] = {}
        self._outgoing: deque[str] = deque()
        self._outgoing_news = anyio.Event()
        self._line: anyio.CancelScope | None = None
        self._moved = anyio.Event()
        self._first = anyio.Event()
        self._stopped: Stopped | None = None
        self._last_detail = ""
        self.welcomed = False
        """A connection has stood at least once."""

    # --- commands -----------------------------------------------------------------------------------------------------

    async def send(
        self,
        content: str | list[dict[str, Any]],
        *,
        thread: str | None = None,
        agent: str | None = None,
        on_busy: OnBusy = "enqueue",
        parent_run_id: str | None = None,
        id: str | None = None,
    ) -> SentRun:
        """Say something; without `thread` in a new conversation. Returns when it is in the log.

        `id` names the message: sending the same id again has no second effect. Default: a new one.

        Raises:
            NotFound: no such thread. InvalidRequest: no such agent. RunActive, QueueFull: the thread is busy.
        """
        key = id or self._new_id()
        message = Message(id=key, content=content)
        command = Send(
            id=key, thread=thread, agent=agent, message=message, on_busy=on_busy, parent_run_id=parent_run_id
        )
        return self._sent(await self._ask(key, command))

    async def cancel(self, *, run: str | None = None, thread: str | None = None, reason: str | None = None) -> str:
        """Stop a run, or what runs and waits in a thread: its status then (`running` while it is being stopped)."""
        key = self._new_id()
        answer = await self._ask(key, Cancel(id=key, run=run, thread=thread, reason=reason))
        return str(answer.get("status", ""))

    async def resolve(self, interrupt: str, *, approved: bool | None = None, payload: Any = None) -> str | None:
        """Answer an interrupt: the id of the run that goes on, None while others are open.

        For an approval say `approved`; for a question give the answer as `payload`.

        Raises:
            AlreadyDecided: somebody answered before. Expired: too late. NotFound.
        """
        key = self._new_id()
        if approved is not None:
            more: dict[str, Any] = payload or {}
            payload = {"approved": approved, **more}
        answer = await self._ask(key, Resolve(id=key, interrupt=interrupt, payload=payload))
        return answer.get("run")

    async def steer(self, run: str, content: str | list[dict[str, Any]], *, id: str | None = None) -> SentRun:
        """Hand a message to the agent of a run that goes on: that run. If it cannot take one, or the run is over, the message is
        sent, and its run is the answer. `id` names the message, as in `send`."""
        key = id or self._new_id()
        return self._sent(await self._ask(key, Steer(id=key, run=run, message=Message(id=key, content=content))))

    async def edit(
        self, run: str, content: str | list[dict[str, Any]], *, on_busy: OnBranch = "enqueue", id: str | None = None
    ) -> SentRun:
        """Say something else in place of what `run` was asked: a new run beside it, with its parent. A run that goes on, waits or
        is queued is stopped for it; `on_busy` is for another run of the thread. `id` names the new message.

        Raises:
            NotFound: no such run. InvalidRequest: no such agent. RunActive, QueueFull: the thread is busy.
        """
        key = id or self._new_id()
        message = Message(id=key, content=content)
        return self._sent(await self._ask(key, Edit(id=key, run=run, message=message, on_busy=on_busy)))

    async def retry(self, run: str, *, on_busy: OnBranch = "enqueue", id: str | None = None) -> SentRun:
        """Ask again what `run` was asked: as `edit`, with the same message. Sending the same `id` again has no second effect."""
        key = id or self._new_id()
        return self._sent(await self._ask(key, Retry(id=key, run=run, on_busy=on_busy)))

    # --- reading ------------------------------------------------------------------------------------------------------

    async def updates(
        self, thread: str | None, *, after: int | None = None, epoch: str | None = None
    ) -> AsyncGenerator[Update, None]:
        """A subscription as it comes: events, snapshots, resyncs. Without `after`: a snapshot first, then what follows.

        Ends when the client is closed.

        Raises:
            NotFound: no such thread, not one's own, or deleted meanwhile.
        """
        reader = _Reader()
        if self._stopped is not None:
            raise error_of(self._stopped.code, self._stopped.message)
        key = self._machine.subscribe(thread, after=after, epoch=epoch)
        self._readers[key] = reader
        self._flush()
        try:
            while True:
                while reader.waiting:
                    update = reader.waiting.popleft()
                    if isinstance(update, Batch):
                        reader.events -= len(update.events)
                    yield update
                if reader.closed:
                    return
                if reader.ended is not None:
                    raise reader.ended
                if reader.paused:
                    reader.paused = False
                    self._machine.resume(key)
                    self._flush()
                if not reader.waiting:
                    await reader.news.wait()
        finally:
            self._readers.pop(key, None)
            self._machine.unsubscribe(key)
            self._flush()

    async def follow(self, thread: str, *, after: int = 0, epoch: str | None = None) -> AsyncGenerator[Event, None]:
        """The events of a thread after seq `after`, then what comes, for ever: none is missing, none comes twice.

        Neighbouring text deltas may come joined (`from_` is the first seq, `seq` the last).

        Raises:
            LogChanged: the log is not the one that `after` belongs to. NotFound: as `updates`.
        """
        async with aclosing(self.updates(thread, after=after, epoch=epoch)) as updates:
            async for update in updates:
                match update:
                    case Batch():
                        for event in update.events:
                            yield event
                    case Rewound():
                        raise LogChanged(f"The log of thread {thread!r} has changed ({update.reason}); read it anew.")
                    case CaughtUp() | SnapshotTaken():
                        pass

    async def watch(self, thread: str) -> AsyncGenerator[Transcript, None]:
        """The conversation as a person sees it, whenever it has changed. The same object each time, changed in place."""
        transcript = Transcript()
        async with aclosing(self.updates(thread)) as updates:
            async for update in updates:
                match update:
                    case SnapshotTaken():
                        transcript = load(update.transcript)
                        yield transcript
                    case Batch():
                        transcript = fold(transcript, update.events)
                        yield transcript
                    case CaughtUp() | Rewound():
                        pass

    async def agents(self) -> list[dict[str, Any]]:
        """What the server serves: `name`, `description`, `default` of each."""
        answer = await self.get("/v1/agents")
        return list(answer.get("agents", []))

    async def threads(self, query: str = "") -> list[dict[str, Any]]:
        """One's newest conversations, at most a page of them."""
        answer = await self.get("/v1/threads?" + urllib.parse.urlencode({"q": query} if query else {}))
        return list(answer.get("threads", []))

    async def upload_file(
        self, source: Source, *, name: str | None = None, mime_type: str | None = None, id: str | None = None
    ) -> UploadedFile:
        """Hand a file to the server: from a path, from bytes, or from a binary file that is open. A message names it by its
        `part`. With the same `id` a retry gives the same file.

        Raises:
            InvalidRequest, TooLarge, UnsupportedType, EmptyFile, FileTypeMismatch, TooManyFiles, StorageFull, Unreachable.
        """
        headers = await self._headers()
        id = id or self._new_id()

        def work() -> UploadedFile:
            with opened(source, name, mime_type) as file:
                headers.update({"Content-Type": file.mime_type, "Idempotency-Key": id})
                url = f"{self.base_url}/v1/files?" + urllib.parse.urlencode({"name": file.name})
                return uploaded(address.post(url, headers, file.body, file.size))

        return await anyio.to_thread.run_sync(work)

    async def get(self, path: str) -> dict[str, Any]:
        """One GET on the server's HTTP API, decoded."""
        headers = await self._headers()
        return await anyio.to_thread.run_sync(address.get, self.base_url + path, headers, abandon_on_cancel=True)

    async def _headers(self) -> dict[str, str]:
        headers = {"Accept": "application/json"}
        token = await self._current_token()
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        return headers

    # --- the line -----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._machine.start(self._clock.monotonic())
        self._flush()
        self._tasks.start_soon(self._tick)

    async def ready(self, *, patient: bool) -> None:
        """Wait for the first connection. Not `patient`: one failed try is a failure.

        Raises:
            Unreachable, Unauthenticated, Forbidden: what the reason is.
        """
        while not self.welcomed:
            if self._stopped is not None:
                raise error_of(self._stopped.code, self._stopped.message)
            if not patient and self._machine.state == "waiting":
                detail = self._last_detail or "The connection was closed."
                raise Unreachable(f"No Runcast server could be reached at {self.base_url}. {detail}")
            await self._first.wait()

    def close(self) -> None:
        for reader in self._readers.values():
            reader.closed = True
        self._machine.stop()
        self._flush()

    def _sent(self, answer: dict[str, Any]) -> SentRun:
        return SentRun(self, answer["thread"], answer["run"], answer["seq"], bool(answer.get("replayed")))

    async def _ask(self, id: str, command: AnyCommand) -> dict[str, Any]:
        if self._stopped is not None:
            raise error_of(self._stopped.code, self._stopped.message)
        call = self._calls[id] = _Call()
        self._machine.command(id, command)
        self._flush()
        try:
            await call.done.wait()
        finally:
            del self._calls[id]
            self._machine.forget(id)
        if call.error is not None:
            raise call.error
        return call.result

    async def _tick(self) -> None:
        while self._stopped is None:
            moved = self._moved
            deadline = self._machine.deadline()
            wait_s = None if deadline is None else max(0.0, deadline - self._clock.monotonic())
            with anyio.move_on_after(wait_s):
                await moved.wait()
            self._machine.tick(self._clock.monotonic())
            self._flush()

    def _flush(self) -> None:
        """Do what the machine wants. Never waits, so that nothing comes between two effects."""
        for effect in self._machine.effects():
            self._do(effect)
        self._moved.set()
        self._moved = anyio.Event()

    def _do(self, effect: Effect) -> None:
        match effect:
            case Connect():
                self._outgoing.clear()
                self._line = anyio.CancelScope()
                self._tasks.start_soon(self._hold, self._line, effect.fresh_token)
            case Transmit():
                self._outgoing.append(effect.text)
                self._outgoing_news.set()
            case Disconnect():
                if self._line is not None:
                    self._line.cancel()
                    self._line = None
            case Answered() | Refused():
                call = self._calls.get(effect.id)
                if call is not None:
                    if isinstance(effect, Answered):
                        call.result = effect.result
                    else:
                        call.error = error_of(effect.code, effect.message, effect.retry_after_ms, effect.at)
                    call.done.set()
            case Batch() | CaughtUp() | SnapshotTaken() | Rewound():
                self._give(effect)
            case Ended():
                reader = self._readers.get(effect.key)
                if reader is not None:
                    reader.ended = error_of(effect.code, effect.message)
                    reader.wake()
            case StateChanged():
                self._last_detail = effect.detail or self._last_detail
                self.welcomed = self.welcomed or effect.state == "open"
                self._signal_first()
                if self._on_state is not None:
                    self._on_state(effect)
            case Stopped():
                self._stopped = effect
                self._signal_first()

    def _signal_first(self) -> None:
        self._first.set()
        self._first = anyio.Event()

    def _give(self, update: Update) -> None:
        reader = self._readers.get(update.key)
        if reader is None:
            return
        reader.waiting.append(update)
        if isinstance(update, Batch):
            reader.events += len(update.events)
            if reader.events > MAX_WAITING_EVENTS and not reader.paused:
                reader.paused = True
                self._machine.pause(update.key)
        reader.wake()

    async def _hold(self, scope: anyio.CancelScope, fresh_token: bool) -> None:
        """One connection, from opening to its end; what happens on it is told to the machine."""
        del fresh_token  # a callable token is asked each time
        code: int | None = None
        detail = ""
        with scope:
            try:
                token = await self._current_token()
                async with websockets.asyncio.client.connect(
                    address.socket_url(self.base_url),
                    subprotocols=[websockets.typing.Subprotocol(SUBPROTOCOL)],
                    compression=None,
                    max_size=MAX_FRAME_BYTES,
                    open_timeout=None,  # the machine has its own deadline
                    ping_interval=None,  # the server pings, and the machine's watchdog listens for heartbeats
                    close_timeout=1,
                    proxy=None if urllib.parse.urlsplit(self.base_url).hostname in address.LOOPBACK else True,
                ) as socket:
                    self._machine.opened(self._clock.monotonic(), token)
                    self._flush()
                    async with anyio.create_task_group() as both:
                        both.start_soon(self._write, socket)
                        try:
                            async for text in socket:
                                self._machine.received(text, self._clock.monotonic())
                                self._flush()
                        except websockets.exceptions.ConnectionClosed:
                            pass  # the close code tells
                        both.cancel_scope.cancel()
                code = socket.close_code
            except websockets.exceptions.InvalidStatus as error:
                status = error.response.status_code
                if status in (401, 403):
                    code = 4001 if status == 401 else 4003
                elif status in (400, 404, 405, 426):
                    self._machine.stop("unreachable", f"There is no Runcast server at {self.base_url} (HTTP {status}).")
                detail = f"The server answered with HTTP {status}."
            except (OSError, websockets.exceptions.WebSocketException, RuncastError) as error:
                detail = address.why(error)
        if not scope.cancelled_caught:
            # A line that the machine gave up itself has nothing more to tell: another may stand already.
            self._machine.disconnected(self._clock.monotonic(), code, detail)
        self._flush()

    async def _write(self, socket: websockets.asyncio.client.ClientConnection) -> None:
        try:
            while True:
                while self._outgoing:
                    await socket.send(self._outgoing.popleft())
                self._outgoing_news = anyio.Event()
                await self._outgoing_news.wait()
        except websockets.exceptions.ConnectionClosed:
            pass  # the reading side sees it too, and tells why

    async def _current_token(self) -> str | None:
        return await self._token() if callable(self._token) else self._token


@asynccontextmanager
async def connect(
    url: str = "http://127.0.0.1:8000",
    *,
    token: Token | None = None,
    patient: bool = False,
    on_state: Callable[[StateChanged], None] | None = None,
) -> AsyncGenerator[Client, None]:
    """A client of the server at `url` (http, https, ws or wss; a sub-path if it is mounted on one).

    The first connection must succeed, unless `patient`; every later loss is mended without the caller's doing, and
    told to `on_state`. Leaving the block closes the client; runs go on.

    Raises:
        Unreachable, Unauthenticated, Forbidden: the first connection could not be made.
        InvalidRequest: `url` is not one.
    """
    base_url = address.base_url(url)
    clock = SystemClock()
    failed: Exception | None = None
    async with anyio.create_task_group() as tasks:
        client = Client(
            base_url,
            tasks,
            token=token,
            on_state=on_state,
            clock=clock,
            new_id=Uuid7Source(clock),
            random=randomness.random,
        )
        try:
            client.start()
            await client.ready(patient=patient)
            yield client
        except Exception as error:
            failed = error
        finally:
            client.close()
            tasks.cancel_scope.cancel()
    if failed is not None:
        raise failed
