"""What one connection presented as credentials, read from its ASGI scope: every carrier there is (`runcast.auth.carriers`)."""

from __future__ import annotations

from typing import Literal
from urllib.parse import parse_qsl

from runcast.auth import Credentials
from runcast.errors import Unauthenticated
from runcast.transports.wire import Scope, cookies_of, header_values, headers_of

QueryToken = Literal["off", "jwt"]
"""Whether `?token=` counts."""

MOST_FIELDS = 100


def credentials_of(
    scope: Scope,
    *,
    token: str | None = None,
    query_token: QueryToken = "off",  # noqa: S107
) -> Credentials:
    """`token` is what came in the `hello` frame.

    Raises:
        Unauthenticated: two `Authorization` headers, or two different `token` in the query: nobody knows which one counts.
    """
    headers = headers_of(scope)
    if len(header_values(scope, "authorization")) > 1:
        raise Unauthenticated("A request has one Authorization header at most.", reason="two Authorization headers")
    return Credentials(
        "websocket" if scope["type"] == "websocket" else "http",
        headers,
        cookies_of(header_values(scope, "cookie")),
        tuple(scope.get("subprotocols", ())),
        token,
        _query_token(scope) if query_token == "jwt" else None,  # noqa: S105
        scope.get("method", "GET"),
    )


def renewed(scope: Scope, token: str) -> Credentials:
    """Of a new token on a connection that is open: what the connection was opened with no longer counts."""
    headers = {name: value for name, value in headers_of(scope).items() if name not in ("authorization", "cookie")}
    return Credentials("websocket", headers, token=token)


def _query_token(scope: Scope) -> str | None:
    try:
        fields = parse_qsl(scope.get("query_string", b"").decode("latin-1"), max_num_fields=MOST_FIELDS)
    except ValueError:
        return None
    tokens = {value for name, value in fields if name == "token"}
    if len(tokens) > 1:
        raise Unauthenticated("The address has two tokens.", reason="two tokens in the query")
    return tokens.pop() if tokens else None
