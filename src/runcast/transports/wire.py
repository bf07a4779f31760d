"""The few ASGI words that the transports share (ASGI 3.0, HTTP & WebSocket message format 2.4)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qsl

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = Mapping[str, str]

REQUEST_ID = "runcast.request_id"
"""Key in the scope: the id that answers and log lines of this request carry."""

LINE = "runcast.line"
"""Key in the scope: the `Line` below this connection, if the server is ours."""


class StreamCut(Exception):
    """Raised to the ASGI server in the middle of a response: the connection is aborted, so that no client takes an
    unfinished stream for a success."""


def headers_of(scope: Scope) -> dict[str, str]:
    """Names in lower case; of a repeated header the last value."""
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}


def header_values(scope: Scope, name: str) -> list[str]:
    """All values of one header, in order; `name` in lower case."""
    wanted = name.encode("latin-1")
    return [value.decode("latin-1") for key, value in scope["headers"] if key.lower() == wanted]


def cookies_of(headers: Headers) -> dict[str, str]:
    jar: SimpleCookie = SimpleCookie()
    try:
        jar.load(headers.get("cookie", ""))
    except CookieError:
        return {}
    return {name: morsel.value for name, morsel in jar.items()}


def request_id_of(scope: Scope) -> str:
    return str(scope.get(REQUEST_ID, ""))


def query_of(scope: Scope) -> dict[str, str]:
    """The parameters in the URL; of a repeated one the last value."""
    return dict(parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True))
