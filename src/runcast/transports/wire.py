"""The few ASGI words that the transports share (ASGI 3.0, HTTP & WebSocket message format 2.4)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
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


IDENTITY = "runcast.identity"
"""Key in the scope: who makes this request, once that is known (`Gateway.identify_scope`)."""

REFUSED = "runcast.refused"
"""Key in the scope: this WebSocket was refused, and the log was told as far as it is to be."""

DIALECT = "runcast.dialect"
"""Key in the scope: the path is a dialect's; its errors are plain JSON."""


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


def cookies_of(headers: Iterable[str]) -> dict[str, str]:
    """The cookies in these `Cookie` headers (RFC 6265, section 5.4). Each pair is read for itself, so that another application's
    odd one spoils nothing. A name that comes twice with different values is left out: one of them may have been planted by a
    neighbouring host, and nothing says which."""
    found: dict[str, str] = {}
    doubled: set[str] = set()
    for header in headers:
        for pair in header.split(";"):
            name, equals, value = pair.partition("=")
            name, value = name.strip(" \t"), value.strip(" \t")
            if not equals or not name:
                continue
            if len(value) >= 2 and value[0] == value[-1] == '"':
                value = value[1:-1]
            if found.setdefault(name, value) != value:
                doubled.add(name)
    return {name: value for name, value in found.items() if name not in doubled}


def printable(text: str) -> str:
    """For a log line: control characters and line breaks written out, at most 200 characters."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[:200])


def request_id_of(scope: Scope) -> str:
    return str(scope.get(REQUEST_ID, ""))


def query_of(scope: Scope) -> dict[str, str]:
    """The parameters in the URL; of a repeated one the last value."""
    return dict(parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True))
