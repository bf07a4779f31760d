"""Which dialect answers at which path.

Every dialect has default paths; the setting `dialects` gives a path to another one, or switches it off. Where several
patterns match, the one with more fixed segments wins, whatever order they were set in; a path that is switched off answers
404 and does not fall to a wider pattern. Words that are paths of their own are no session ids.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal, NamedTuple

from starlette.responses import JSONResponse

from runcast.dialects.ag_ui import AgUi
from runcast.dialects.ai_sdk import AiSdk
from runcast.dialects.base import AnswerDialect, Dialect, Options, TalkDialect
from runcast.dialects.progress import Progress
from runcast.dialects.registry import BUILTIN, NO_DEFAULTS, dialect_named
from runcast.errors import ConfigError
from runcast.transports import ag_ui, ai_sdk
from runcast.transports.ag_ui import AgUiEndpoint
from runcast.transports.ai_sdk import AiSdkEndpoint
from runcast.transports.ai_sdk_socket import AiSdkSocket
from runcast.transports.gateway import Gateway
from runcast.transports.openapi import Operations
from runcast.transports.posting import PostEndpoint
from runcast.transports.presented import QueryToken
from runcast.transports.problems import not_allowed
from runcast.transports.progress_posting import ProgressEndpoints
from runcast.transports.talk import TalkSocket
from runcast.transports.wire import App, Receive, Scope, Send

OFF: Final = "off"

HEALTH: Final = "/api/health"
"""Where pages of the `tool-calls` dialect ask whether there is a server."""

Kind = Literal["http", "websocket"]

RESERVED: Final = frozenset(
    {
        "api",
        "ag-ui",
        "agent",
        "agent-thoughts",
        "assets",
        "chat",
        "health",
        "off",
        "openai",
        "robust",
        "secure",
        "ui",
        "v1",
        "ws",
    }
)
"""Never a session id or a user id in a path."""

NATIVE: Final = "/v1/ws"
"""The native protocol's: no dialect can be there."""

_PARAMETER = re.compile(r"\{([a-z_]+)\}")
_PATTERN = re.compile(r"(/([A-Za-z0-9._~-]+|\{[a-z_]+\}))+")


class Match(NamedTuple):
    app: App | None
    """None: switched off."""
    params: dict[str, str]


class Pattern:
    """A path with parameters: `/ws/{session_id}`. A parameter is one segment, of 1 to 128 characters.

    Raises:
        ConfigError: it is no such path.
    """

    def __init__(self, text: str) -> None:
        if _PATTERN.fullmatch(text) is None:
            raise ConfigError(
                f"{text!r} is no path of a dialect; write for example '/ws/chat' or '/ws/{{session_id}}'."
            )
        self.text = text
        names = [found.group(1) for found in _PARAMETER.finditer(text)]
        if len(names) != len(set(names)):
            raise ConfigError(f"{text!r} names a parameter twice.")
        self.fixed = [_PARAMETER.fullmatch(segment) is None for segment in text.split("/")[1:]]
        self._regex = re.compile(
            _PARAMETER.sub(
                lambda found: f"(?P<{found.group(1)}>[^/]{{1,128}})",
                re.escape(text).replace(r"\{", "{").replace(r"\}", "}"),
            )
        )

    @property
    def shape(self) -> str:
        """The same for patterns that match the same paths."""
        return _PARAMETER.sub("{}", self.text)

    def match(self, path: str) -> dict[str, str] | None:
        found = self._regex.fullmatch(path)
        if found is None:
            return None
        params = found.groupdict()
        named = {value for name, value in params.items() if name != "agent"}  # an agent may be called `chat`
        return None if RESERVED.intersection(named) else params


class Mounts:
    """The dialects of one server, by path. `paths`: the setting, path → name of a dialect, or `off`. `options`: of dialects by
    their names, where `paths` does not say otherwise.

    Raises:
        ConfigError: a path or a name that cannot be used; all problems at once.
    """

    def __init__(
        self,
        gateway: Gateway,
        paths: Mapping[str, str],
        *,
        query_token: QueryToken = "off",  # noqa: S107
        options: Mapping[str, Options] = NO_DEFAULTS,
    ) -> None:
        self._gateway = gateway
        self._options = options
        self._query_token: QueryToken = query_token
        self._progress = ProgressEndpoints(gateway, query_token)
        self._apps: dict[tuple[Kind, str], tuple[Pattern, App | None]] = {}
        problems: list[str] = []

        def attempt(add: Callable[[], None]) -> None:
            try:
                add()
            except ConfigError as error:
                problems.extend(error.problems)

        for name in BUILTIN:
            self._add_defaults(dialect_named(name, options))
        self._put("http", HEALTH, answer_health)
        for path, name in paths.items():
            attempt(lambda path=path, name=name: self._set(path, name))
        if problems:
            raise ConfigError("These dialects cannot be served:\n- " + "\n- ".join(problems), problems)
        # More fixed segments first, earlier ones before later ones.
        self._ordered = sorted(self._apps.items(), key=lambda item: [not fixed for fixed in item[1][0].fixed])

    def _add_defaults(self, dialect: Dialect) -> None:
        if isinstance(dialect, TalkDialect):
            for path in dialect.sockets:
                self._put("websocket", path, TalkSocket(self._gateway, dialect, query_token=self._query_token))
        if isinstance(dialect, Progress):
            for path in dialect.sockets:
                self._put("websocket", path, self._progress.socket())
            for path in dialect.posts:
                self._put("http", path, self._progress.post())
            for path in dialect.sessions:
                self._put("http", path, self._progress.session())
        if isinstance(dialect, AnswerDialect):
            for path, how in dialect.posts.items():
                self._put("http", path, PostEndpoint(self._gateway, dialect, how, self._query_token))
        if isinstance(dialect, AiSdk):
            self._add_chat(ai_sdk.PATH, dialect)
        if isinstance(dialect, AgUi):
            self._add_agents(ag_ui.PATH, dialect)

    def _add_chat(self, path: str, dialect: AiSdk) -> None:
        for below, app in ai_sdk.ai_sdk_endpoints(self._gateway, dialect, self._query_token).items():
            self._put("http", path + below, app)
        self._put("websocket", path + ai_sdk.SOCKET, AiSdkSocket(self._gateway, self._query_token))

    def _add_agents(self, path: str, dialect: AgUi) -> None:
        for below, app in ag_ui.ag_ui_endpoints(self._gateway, dialect, self._query_token).items():
            self._put("http", ag_ui.agent_path(path) + below, app)

    def _set(self, path: str, name: str) -> None:
        if path == NATIVE:
            raise ConfigError(f"{path!r} is the native protocol's; take another path for {name!r}.")
        if name == OFF:
            for kind in ("http", "websocket"):
                self._put(kind, path, None)
            self._switch_off("websocket", path + ai_sdk.SOCKET)
            for below in ai_sdk.BELOW:
                self._switch_off("http", path + below)
            for below in ag_ui.BELOW:
                self._switch_off("http", ag_ui.agent_path(path) + below)
            return
        dialect = dialect_named(name, self._options)
        if isinstance(dialect, AiSdk):
            self._add_chat(path, dialect)
            return
        if isinstance(dialect, AgUi):
            self._add_agents(path, dialect)
            return
        if isinstance(dialect, Progress):
            self._put("websocket", path, self._progress.socket())
            self._put("http", path, self._progress.post())
            return
        if not isinstance(dialect, TalkDialect):
            raise ConfigError(f"The dialect {name!r} is not spoken over a WebSocket; it cannot be put at {path!r}.")
        self._put("websocket", path, TalkSocket(self._gateway, dialect, query_token=self._query_token))
        if isinstance(dialect, AnswerDialect):
            self._put("http", path, PostEndpoint(self._gateway, dialect, "as accepted", self._query_token))

    def _switch_off(self, kind: Kind, path: str) -> None:
        """What is below a chat, and below the path of the agents, goes with it."""
        if (kind, Pattern(path).shape) in self._apps:
            self._put(kind, path, None)

    def _put(self, kind: Kind, path: str, app: App | None) -> None:
        pattern = Pattern(path)
        self._apps[kind, pattern.shape] = (pattern, app)

    def find(self, kind: Kind, path: str) -> Match | None:
        """What answers at `path` (without the root path); None if nothing was ever mounted there."""
        for (of, _), (pattern, app) in self._ordered:
            if of == kind and (params := pattern.match(path)) is not None:
                return Match(app, params)
        return None

    def described(self) -> dict[str, Operations]:
        """What the OpenAPI document says of the paths of the dialects that programs are written for."""
        return {
            pattern.text: app.operations
            for (kind, _), (pattern, app) in self._apps.items()
            if kind == "http" and isinstance(app, AiSdkEndpoint | AgUiEndpoint)
        }

    def has(self, path: str) -> bool:
        """Whether a dialect answers at `path`, over whatever it is spoken."""
        return any(self.find(kind, path) is not None for kind in ("http", "websocket"))

    def last_words(self, path: str) -> Sequence[str]:
        """What is said on a WebSocket before it is closed because its page may not talk to this server."""
        found = self.find("websocket", path)
        if found is None or not isinstance(found.app, TalkSocket) or not found.app.dialect.answers_refusals:
            return ()
        return [frame.data.decode() for frame in found.app.dialect.error("forbidden", "Forbidden", request_id="")]


async def answer_health(scope: Scope, receive: Receive, send: Send) -> None:
    """That the server answers, to everybody who may ask it anything; whether it should get work is `/readyz`."""
    if scope["method"] not in ("GET", "HEAD"):
        await not_allowed(scope, ("GET", "HEAD"))(scope, receive, send)
        return
    await JSONResponse({"status": "ok", "message": "Backend is running"})(scope, receive, send)
