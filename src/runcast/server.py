"""The server: an ASGI application that joins agents, store and transports. Run it, or mount it.

    serve(Server(agents=[my_agent]))                       # own process: drains on SIGTERM

    server = Server(agents=[my_agent])                     # inside another application
    app = FastAPI(lifespan=server.lifespan)
    app.mount("/chat", server)

A mounted application's lifespan is not run by its host, and it owns no signal: so the host nests `lifespan`, and draining
exists only under `serve`.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
import signal
import socket
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final, cast

import anyio
import uvicorn

from runcast.agents.loader import adapt_all
from runcast.auth import Authenticator
from runcast.auth.configured import configured
from runcast.config import Settings, is_loopback
from runcast.errors import ConfigError, RuncastError
from runcast.ids import Clock, IdSource, SystemClock, Uuid7Source
from runcast.running import Limits
from runcast.service import open_service
from runcast.stores.base import Store
from runcast.transports.acceptor import Acceptor
from runcast.transports.clients import Clients
from runcast.transports.gateway import Gateway
from runcast.transports.guard import Guard
from runcast.transports.http import build_api
from runcast.transports.line import http_protocol
from runcast.transports.listener import listen
from runcast.transports.mounts import Mounts
from runcast.transports.problems import problem
from runcast.transports.site import BUILT, Site, SiteSettings
from runcast.transports.straight import StraightProtocol
from runcast.transports.websocket import NativeSocket
from runcast.transports.wire import App, Receive, Scope, Send, StreamCut
from runcast.upkeep import Keep
from runcast.uploads import FileLimits

logger = logging.getLogger("runcast.server")

STOP_TIMEOUT_S = 5.0
"""How long connections may take to go once they were told to."""

_HOW_TO_START = """\
This Runcast server is mounted, but was not started: a mounted application's lifespan is not run by its host. Nest it:

    app = FastAPI(lifespan=server.lifespan)
    app.mount("/chat", server)

or, in a lifespan of your own: `async with server.lifespan(app): yield`."""


class Server:
    """One server. `store` is a `Store`, or the path of a SQLite file; without it `settings.database` says which.

    `agents` are what `runcast serve` takes too: agents, functions, agents of a framework; the first is the default one.
    Further keyword arguments are settings: `Server(agents=[a], title="Shop", run_timeout_s=60)`.

    Raises:
        ConfigError: settings or agents that cannot be served.
    """

    def __init__(
        self,
        agents: Sequence[object],
        *,
        store: Store | str | Path | None = None,
        settings: Settings | None = None,
        authenticator: Authenticator | None = None,
        clock: Clock | None = None,
        new_id: IdSource | None = None,
        web_directory: Path = BUILT,
        **overrides: Any,
    ) -> None:
        if settings is not None and overrides:
            settings = Settings(**(settings.model_dump() | overrides))
        self.settings = settings or Settings(**overrides)
        self._agents = adapt_all(agents)
        self._store = store
        self._clock = clock or SystemClock()
        new_id = new_id or Uuid7Source(self._clock)
        self._new_id = new_id
        self.authenticator = authenticator or configured(self.settings, self._clock)
        self.gateway = Gateway(
            authenticator=self.authenticator,
            clock=self._clock,
            new_id=new_id,
            send_timeout_s=self.settings.send_timeout_s,
            connections_per_user=self.settings.connections_per_user,
            upload_timeout_s=self.settings.upload_timeout_s,
        )
        self._api = cast(App, build_api(self.gateway, lambda: self._mounts.described()))
        self._native = NativeSocket(self.gateway)
        self._mounts = Mounts(
            self.gateway,
            self.settings.dialects,
            query_token=self.settings.query_token,
            options={"ag-ui": {"cancelled": self.settings.ag_ui_cancelled}},
        )
        self._site = self._make_site(web_directory)
        self._guard = Guard(
            self._route,
            is_open=self.authenticator.is_open,
            new_id=new_id,
            allowed_origins=self.settings.allowed_origins,
            allowed_hosts=self.settings.allowed_hosts,
            refusals=self.gateway.refusals,
            is_dialect=self._mounts.has,
            last_words=self._mounts.last_words,
            is_public=self._is_public,
        )

    def _is_public(self, path: str) -> bool:
        """The web app's files, which the sandboxed diagram frame asks for from an origin of its own, and how the server stands."""
        return path in ("/healthz", "/readyz") or (self._site is not None and self._site.serves(path))

    def _make_site(self, directory: Path) -> Site | None:
        if not self.settings.web:
            return None
        settings = self.settings
        title = settings.title or getattr(self._agents[0], "title", None) or self._agents[0].name
        starters = settings.starters or tuple(getattr(self._agents[0], "starters", ()))
        told = SiteSettings(
            title=title,
            welcome=settings.welcome,
            starters=starters,
            several_agents=len(self._agents) > 1,
            max_file_bytes=settings.max_file_bytes,
            file_types=settings.file_types,
            sign_in_url=settings.sign_in_url,
        )
        return Site(told, directory=directory)

    # --- life -----------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def lifespan(self, app: object = None) -> AsyncGenerator[None]:
        """The server runs while this context lasts. Give it to the host application, or nest it in the host's own."""
        del app
        if self.gateway.is_started:
            raise ConfigError("This server runs already: its lifespan was entered twice.")
        async with AsyncExitStack() as stack:
            store = await self._open_store(stack)
            limits = Limits(
                run_timeout_s=self.settings.run_timeout_s,
                queue_limit=self.settings.queue_limit,
                answer_timeout_s=self.settings.answer_timeout_s,
                parked_limit=self.settings.parked_limit,
                on_disconnect=self.settings.on_disconnect,
                disconnect_grace_s=self.settings.disconnect_grace_s,
            )
            keep = Keep(days=self.settings.retention_days, bytes=self.settings.retention_bytes)
            service = await stack.enter_async_context(
                open_service(
                    store=store,
                    agents=self._agents,
                    clock=self._clock,
                    new_id=self._new_id,
                    limits=limits,
                    file_limits=FileLimits(max_bytes=self.settings.max_file_bytes, types=self.settings.file_types),
                    keep=keep,
                    messages_per_minute=0 if self.authenticator.is_open else self.settings.messages_per_minute,
                )
            )
            stack.enter_context(service.runner.watchdog().watching())
            self.gateway.start(service)
            try:
                yield
            finally:
                await self.gateway.stop(timeout_s=STOP_TIMEOUT_S)
                self.gateway.end()

    async def _open_store(self, stack: AsyncExitStack) -> Store:
        if isinstance(self._store, Store):
            return self._store  # the caller made it and closes it
        from runcast.stores.sqlite import SqliteStore  # only who uses a file loads sqlite3

        path = self._store if self._store is not None else self.settings.database
        store = await SqliteStore.open(path, durability=self.settings.durability)
        stack.push_async_callback(store.close)
        return store

    async def drain(self, before_closing: Callable[[], None] = lambda: None) -> None:
        """Stop kindly: start nothing new, say so, let runs go on for `drain_timeout_s`, end the rest as interrupted, then
        end all connections with a restart's code, in rounds."""
        if not self.gateway.is_started:
            return
        service = self.gateway.service
        self.gateway.drain()
        logger.info("draining: %d runs under way", service.runner.active)
        await service.runner.drain(self.settings.drain_timeout_s)
        await service.runner.stop()
        before_closing()
        await self.gateway.stop(timeout_s=STOP_TIMEOUT_S)

    @property
    def clients(self) -> Clients:
        """Who is connected in a message dialect: to say something to them that no run says."""
        return self.gateway.clients

    @property
    def unstoppable(self) -> int:
        """How many agents still work although their runs are over."""
        return self.gateway.service.runner.unstoppable if self.gateway.is_started else 0

    # --- ASGI -----------------------------------------------------------------------------------------------------

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._run_lifespan(receive, send)
            return
        if not self.gateway.is_started and not self.gateway.stopping:
            raise ConfigError(_HOW_TO_START)
        await self._guard(self._rooted(scope), receive, send)

    def _rooted(self, scope: Scope) -> Scope:
        """`scope` with a path that begins with its root path, whether host and proxy strip the prefix or not."""
        prefix = self.settings.root_path
        root: str = scope.get("root_path", "").rstrip("/")
        path: str = scope["path"]
        for outer in (root, prefix):
            if outer and (path == outer or path.startswith(outer + "/")):
                path = path[len(outer) :] or "/"
        root = root if root.endswith(prefix) else root + prefix
        if root + path == scope["path"] and root == scope.get("root_path"):
            return scope
        return {**scope, "root_path": root, "path": root + path}

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"][len(scope["root_path"]) :]
        if scope["type"] == "websocket":
            if path == "/v1/ws":
                await self._native(scope, receive, send)
                return
            found = self._mounts.find("websocket", path)
            if found is None or found.app is None:
                await _no_such_socket(scope, receive, send)
                return
            scope["path_params"] = found.params
            await found.app(scope, receive, send)
            return
        if (found := self._mounts.find("http", path)) is not None:
            if found.app is None:
                await problem(scope, 404, "not_found", "There is nothing here.")(scope, receive, send)
                return
            scope["path_params"] = found.params
            await found.app(scope, receive, send)
            return
        if self._site is not None and scope["method"] in ("GET", "HEAD") and self._site.serves(path):
            await self._site(scope, receive, send)
            return
        await self._api(scope, receive, send)

    async def _run_lifespan(self, receive: Receive, send: Send) -> None:
        """ASGI 3.0, lifespan protocol 2.0."""
        await receive()
        started = False
        try:
            async with self.lifespan():
                started = True
                await send({"type": "lifespan.startup.complete"})
                await receive()
        except Exception as error:
            event = "lifespan.shutdown.failed" if started else "lifespan.startup.failed"
            message = str(error) if isinstance(error, ConfigError) else type(error).__name__
            await send({"type": event, "message": message})
            raise
        await send({"type": "lifespan.shutdown.complete"})


async def _no_such_socket(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    response = problem(scope, 404, "not_found", "There is no WebSocket here.")
    if "websocket.http.response" in scope.get("extensions", {}):
        headers = list(response.raw_headers)
        await send({"type": "websocket.http.response.start", "status": 404, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": response.body})
    else:
        await send({"type": "websocket.close"})


# --- an own process -----------------------------------------------------------------------------------------------


def serve(
    server: Server,
    *,
    host: str | None = None,
    port: int | None = None,
    on_started: Callable[[str], None] | None = None,
) -> None:
    """Listen and serve until SIGTERM or Ctrl-C; then drain. A second signal stops at once.

    `on_started` is called once, with the server's URL, when it answers.

    Raises:
        ConfigError: the address cannot be used, or serving there would not be safe.
        RuncastError: whatever else kept the server from starting, a locked store for example.
    """
    host = server.settings.host if host is None else host
    port = server.settings.port if port is None else port
    check_bind(server, host)
    with listen(host, port) as listener:
        url = url_of(listener, server.settings.root_path)
        process = Process(server, on_started=functools.partial(on_started or log_start, url))
        try:
            process.run(sockets=[listener])
        except KeyboardInterrupt:
            pass  # uvicorn raises the signal again once all is closed
        except SystemExit:  # how uvicorn gives up a start that failed
            if process.failure is None:
                raise
    if process.failure is not None:
        raise process.failure
    process.leave_threads_behind()


def log_start(url: str) -> None:
    logger.info("listening on %s", url)


def check_bind(server: Server, host: str) -> None:
    """
    Raises:
        ConfigError: beyond loopback without authentication.
    """
    if server.authenticator.is_open:
        check_open_host(host)


def check_open_host(host: str) -> None:
    """Whether a server without authentication may listen there.

    Raises:
        ConfigError: beyond loopback.
    """
    if not is_loopback(host):
        raise ConfigError(
            f"Refusing to listen on {host}: without authentication everybody who reaches this machine could use it. "
            "Listen on 127.0.0.1, or set up authentication (--auth jwt) and allowed origins."
        )


def url_of(listener: socket.socket, root_path: str = "") -> str:
    """Where people find the server."""
    host, port = listener.getsockname()[:2]
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{port}{root_path}/"


def configuration(application: App, *, log_level: str) -> uvicorn.Config:
    """How uvicorn listens for us: the HTTP and WebSocket implementations with their limits. `scripts/autobahn.py` has an
    echo served under the same."""
    return uvicorn.Config(
        cast(Any, application),
        interface="asgi3",
        http=http_protocol(),
        ws=StraightProtocol,  # uvicorn's websockets-sansio
        ws_max_size=1024 * 1024,
        ws_per_message_deflate=False,  # costs more CPU and memory than it saves, and a bomb cannot be sent
        ws_ping_interval=20,
        ws_ping_timeout=20,
        lifespan="on",
        access_log=False,  # the guard writes one without query strings
        server_header=False,
        proxy_headers=False,
        log_config=None,
        log_level=log_level,
        timeout_graceful_shutdown=10,
    )


GARBAGE: Final = (3_000, 3, 50)
"""CPython looks for cycles after so many new containers (`gc.set_threshold`). Its default of 700 is for programs that keep
little: with a thousand connections every look at all of them holds up everybody for tens of milliseconds. The middle
generation is looked at often, so that it stays small (12 000 containers, some milliseconds); all of them seldom."""


def spare_what_stays() -> None:
    """Modules, classes and routes live as long as the process: the collector need not look at them again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE)


class Process(uvicorn.Server):
    """uvicorn with our way of stopping: its own closes every connection within a tenth of a second."""

    def __init__(self, server: Server, *, on_started: Callable[[], None] = lambda: None) -> None:
        self.failure: RuncastError | None = None
        """What kept the server from starting: uvicorn only logs it."""
        super().__init__(configuration(self._application, log_level=server.settings.log_level))
        self._server = server
        self._on_started = on_started
        self._acceptors: list[Acceptor] = []
        self._signal: int | None = None
        quiet_uvicorn()

    async def _application(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._server(scope, receive, send)
        except RuncastError as error:
            if scope["type"] == "lifespan":
                self.failure = error
            raise

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup([])  # uvicorn itself would take in all who wait at once
        if self.started:
            self._acceptors = [Acceptor(listener, self._connected) for listener in sockets or ()]
            spare_what_stays()
            self._on_started()

    def _connected(self) -> asyncio.Protocol:
        return cast(Any, self.config.http_protocol_class)(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )

    async def main_loop(self) -> None:
        """Take in who connects until a signal, and while the runs are given their time to end."""
        async with anyio.create_task_group() as tasks:
            for acceptor in self._acceptors:
                tasks.start_soon(acceptor.run)
            await super().main_loop()
            await self._drain()
            self._stop_listening()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._signal = sig
        if self.should_exit and not self.force_exit:
            self.force_exit = True  # the second signal: now
            return
        super().handle_exit(sig, frame)

    async def _drain(self) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._give_up_on_force, tasks.cancel_scope)
            await self._server.drain(self._stop_listening)
            tasks.cancel_scope.cancel()

    def _stop_listening(self) -> None:
        """Who is sent away comes back to the next process, not to this one."""
        for acceptor in self._acceptors:
            acceptor.close()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        stuck = self._server.unstoppable
        await super().shutdown([])
        if stuck and self._signal is not None:
            # asyncio would wait for their tasks for ever before it lets the process end.
            logger.warning("%d agents did not stop and are left behind", stuck)
            signal.signal(self._signal, signal.SIG_DFL)
            signal.raise_signal(self._signal)

    def leave_threads_behind(self) -> None:
        """A function without `async` that never returns would be waited for when the interpreter ends: end by the signal."""
        threads = [thread for thread in threading.enumerate() if thread.name == "AnyIO worker thread"]
        for thread in threads:
            thread.join(1 / len(threads))
        if self._signal is not None and any(thread.is_alive() for thread in threads):
            logger.warning("functions of agents did not return and are left behind")
            signal.signal(self._signal, signal.SIG_DFL)
            signal.raise_signal(self._signal)

    async def _give_up_on_force(self, scope: anyio.CancelScope) -> None:
        while not self.force_exit:
            await anyio.sleep(0.1)
        scope.cancel()


class _NoCuts(logging.Filter):
    """uvicorn tells of what we stop on purpose (a stream, all at a second signal) and of a client's broken text as of a crash,
    its accept line has the query string in it, and in its debug lines are all headers and frames: tokens, and what people say."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.INFO:
            return False
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, StreamCut | asyncio.CancelledError):
            return False
        return not str(record.msg).startswith(('%s - "WebSocket %s', "Invalid UTF-8 sequence"))


def quiet_uvicorn() -> None:
    log = logging.getLogger("uvicorn.error")
    if not any(isinstance(existing, _NoCuts) for existing in log.filters):
        log.addFilter(_NoCuts())
