"""What every request passes before anything looks at it: who may talk to this server at all.

    peer      without authentication only this machine, and no proxy, however the server was started
    host      without authentication only loopback's names and `allowed_hosts`: a web page whose name was re-bound to
              127.0.0.1 would otherwise be same-origin with this server (DNS rebinding)
    origin    a WebSocket, and every request that changes something, from a page of another origin must be listed; so must one
              that only reads, where the browser says by itself who asks: by a cookie, or by standing on this machine

It also gives each request its id, answers CORS preflights, puts the security headers on every answer, and logs and answers
exceptions that nobody else did.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from starlette.responses import Response

from runcast.auth.base import SAFE_METHODS
from runcast.config import is_loopback
from runcast.ids import CLIENT_ID, IdSource, SystemClock
from runcast.session import CloseCode
from runcast.transports.openai_errors import CLIENT_HEADERS, is_openai
from runcast.transports.problems import problem
from runcast.transports.refusals import Refusals, refuse_socket
from runcast.transports.wire import (
    DIALECT,
    REFUSED,
    REQUEST_ID,
    App,
    Message,
    Receive,
    Scope,
    Send,
    StreamCut,
    header_values,
    printable,
)

logger = logging.getLogger("runcast.http")
access_logger = logging.getLogger("runcast.access")

FORWARDING = frozenset(
    {
        b"forwarded",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-proto",
        b"x-forwarded-port",
        b"x-forwarded-server",
        b"x-real-ip",
        b"x-client-ip",
        b"true-client-ip",
        b"cf-connecting-ip",
    }
)
"""Headers by which a proxy says for whom it speaks: their presence means that the peer is not the client."""

SECURITY_HEADERS: dict[bytes, bytes] = {
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"permissions-policy": b"camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    b"x-frame-options": b"DENY",
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
    b"cache-control": b"no-store",
}
"""On every answer that does not say otherwise itself."""

ALLOW_METHODS = "GET, POST, PUT, PATCH, DELETE, OPTIONS"
ALLOW_HEADERS = (
    "content-type, authorization, idempotency-key, if-none-match, last-event-id, x-request-id, x-ai-sdk-version"
)
EXPOSE_HEADERS = (
    b"x-request-id, retry-after, location, etag, runcast-thread, runcast-run, runcast-seq, "
    b"stream-next-offset, stream-up-to-date, stream-closed, stream-cursor"
)


class Refusal(NamedTuple):
    status: int
    code: str
    message: str
    """Also the reason of the close: at most 123 bytes."""


FOREIGN_ORIGIN: Final = Refusal(
    403, "origin_not_allowed", "Pages of this origin may not talk to this server; see allowed_origins."
)
FOREIGN_SITE: Final = Refusal(403, "origin_not_allowed", "Another site's page may not make this request.")

OWN: Final = frozenset({"same-origin", "none"})
FOREIGN: Final = frozenset({"cross-site", "same-site"})
"""Values of `Sec-Fetch-Site`; `none` is a person's own doing, such as an address typed in."""


class Guard:
    def __init__(
        self,
        app: App,
        *,
        is_open: bool,
        new_id: IdSource,
        allowed_origins: Sequence[str] = (),
        allowed_hosts: Sequence[str] = (),
        refusals: Refusals | None = None,
        is_dialect: Callable[[str], bool] = lambda path: False,
        last_words: Callable[[str], Sequence[str]] = lambda path: (),
        is_public: Callable[[str], bool] = lambda path: False,
    ) -> None:
        """`is_dialect`: whether a path, without the root path, is a dialect's; its errors are plain JSON. `last_words`: what is
        said on a WebSocket of this path before it is closed because it was refused, in frames. `is_public`: whether a GET of
        this path gives everybody the same."""
        self._app = app
        self._is_open = is_open
        self._new_id = new_id
        self._origins = frozenset(parse_origin(origin) or origin for origin in allowed_origins)
        self._hosts = tuple(host.lower() for host in allowed_hosts)
        self._refusals = refusals or Refusals(SystemClock())
        self._is_dialect = is_dialect
        self._last_words = last_words
        self._is_public = is_public

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[REQUEST_ID] = self._request_id(scope)
        path = scope["path"][len(scope.get("root_path", "")) :]
        if self._is_dialect(path):
            scope[DIALECT] = True
        if scope["type"] == "websocket":
            await self._websocket(path, scope, receive, send)
            return
        started = time.perf_counter()
        answer = _Answer(send, self._common_headers(scope))
        try:
            if (refusal := self.refusal(scope)) is not None:
                response = problem(scope, refusal.status, refusal.code, refusal.message)
                await response(scope, receive, answer.send)
            elif scope["method"] == "OPTIONS" and (preflight := self._preflight(scope)) is not None:
                await preflight(scope, receive, answer.send)
            else:
                await self._app(scope, receive, answer.send)
        except StreamCut:
            raise
        except Exception as error:
            logger.error("request failed", exc_info=error, extra={"request_id": scope[REQUEST_ID]})
            if not answer.complete:
                raise StreamCut from error
        finally:
            access_logger.info(
                "%s %s %s",
                scope["method"],
                printable(scope["path"]),
                answer.status or "-",
                extra={
                    "request_id": scope[REQUEST_ID],
                    "status": answer.status,
                    "duration_ms": round((time.perf_counter() - started) * 1000, 1),
                },
            )

    async def _websocket(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        if (refusal := self.refusal(scope)) is not None:
            self._refusals.tell(scope, refusal.message)
            frames = self._last_words(path)
            code = CloseCode.FORBIDDEN
            await refuse_socket(scope, receive, send, code=code, reason=refusal.message, frames=frames)
            return
        started = time.perf_counter()
        try:
            await self._app(scope, receive, send)
        finally:
            if REFUSED not in scope:
                access_logger.info(
                    "WS %s",
                    printable(scope["path"]),
                    extra={
                        "request_id": scope[REQUEST_ID],
                        "duration_ms": round((time.perf_counter() - started) * 1000, 1),
                    },
                )

    # --- the rules ------------------------------------------------------------------------------------------------

    def refusal(self, scope: Scope) -> Refusal | None:
        """Why this connection is not served; None if it is."""
        if self._is_open and (refusal := _not_local(scope)) is not None:
            return refusal
        hosts = header_values(scope, "host")
        if len(hosts) != 1:
            return Refusal(400, "invalid_request", "A request needs exactly one Host header.")
        if not self._host_allowed(hosts[0]):
            return Refusal(421, "host_not_allowed", "This server does not answer to that host name; see allowed_hosts.")
        if scope["type"] != "websocket" and scope["method"] in SAFE_METHODS:
            return self._read_refusal(scope)
        origins = header_values(scope, "origin")
        if origins:
            return None if self._are_allowed(origins, scope) else FOREIGN_ORIGIN
        return FOREIGN_SITE if _site(scope) in FOREIGN else None

    def _read_refusal(self, scope: Scope) -> Refusal | None:
        """Why a request that changes nothing is not served. A page of another site cannot read the answer, but it could have a
        visitor's browser ask for ever: exports, streams, waits. Who presents a token in a header was given it; a person who
        follows a link is no page; and old browsers, which say nothing of the site, are believed."""
        path = scope["path"][len(scope.get("root_path", "")) :]
        if scope["method"] == "OPTIONS" or not (self._is_open or _is_by_cookie(scope)) or self._is_public(path):
            return None
        site = _site(scope)
        origins = header_values(scope, "origin")
        if site in OWN or (origins and self._are_allowed(origins, scope)):
            return None
        if origins:
            return FOREIGN_ORIGIN
        return FOREIGN_SITE if site in FOREIGN and not _is_visit(scope) else None

    def _are_allowed(self, origins: Sequence[str], scope: Scope) -> bool:
        return len(origins) == 1 and self.origin_allowed(origins[0], scope)

    def _host_allowed(self, host: str) -> bool:
        name = _without_port(host.lower())
        if name is None:
            return False
        if is_loopback(name) or any(_host_matches(name, allowed) for allowed in self._hosts):
            return True
        return not self._is_open and not self._hosts

    def origin_allowed(self, origin: str, scope: Scope) -> bool:
        """Whether a page of this origin may use this server with the user's rights."""
        parsed = parse_origin(origin)
        if (parsed or origin) in self._origins:
            return True
        if parsed is None:
            return False
        if self._is_open and is_loopback(urlsplit(parsed).hostname or ""):
            return True  # front-end development servers run on other ports of this machine
        scheme = {"ws": "http", "wss": "https"}.get(scope["scheme"], scope["scheme"])
        hosts = header_values(scope, "host")
        return len(hosts) == 1 and parsed == parse_origin(f"{scheme}://{hosts[0]}")

    # --- headers --------------------------------------------------------------------------------------------------

    def _request_id(self, scope: Scope) -> str:
        given = header_values(scope, "x-request-id")
        return given[0] if len(given) == 1 and CLIENT_ID.fullmatch(given[0]) else self._new_id()

    def _common_headers(self, scope: Scope) -> dict[bytes, bytes]:
        headers = SECURITY_HEADERS | {b"x-request-id": scope[REQUEST_ID].encode(), b"vary": b"Origin"}
        origins = header_values(scope, "origin")
        if len(origins) == 1 and self.origin_allowed(origins[0], scope):
            headers |= {
                b"access-control-allow-origin": origins[0].encode("latin-1"),
                b"access-control-allow-credentials": b"true",
                b"access-control-expose-headers": EXPOSE_HEADERS,
            }
        return headers

    def _preflight(self, scope: Scope) -> Response | None:
        """The answer to a CORS preflight (Fetch, section 3.2.2); None if it is an OPTIONS request of another kind."""
        origins = header_values(scope, "origin")
        if not origins or not header_values(scope, "access-control-request-method"):
            return None
        if len(origins) > 1 or not self.origin_allowed(origins[0], scope):
            return problem(scope, 403, "origin_not_allowed", "Pages of this origin may not talk to this server.")
        headers = {
            "access-control-allow-methods": ALLOW_METHODS,
            "access-control-allow-headers": f"{ALLOW_HEADERS}, {CLIENT_HEADERS}" if is_openai(scope) else ALLOW_HEADERS,
            "access-control-max-age": "600",
        }
        return Response(status_code=204, headers=headers)


class _Answer:
    """Passes an answer on, with the common headers that it does not set itself."""

    def __init__(self, send: Send, headers: dict[bytes, bytes]) -> None:
        self._send = send
        self._headers = headers
        self.status: int | None = None
        self.complete = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            given = list(message.get("headers", ()))
            names = {name.lower() for name, _ in given}
            message["headers"] = given + [item for item in self._headers.items() if item[0] not in names]
            if b"vary" in names and not any(
                name.lower() == b"vary" and b"origin" in value.lower() for name, value in given
            ):
                message["headers"].append((b"vary", b"Origin"))
        elif message["type"] == "http.response.body" and not message.get("more_body", False):
            self.complete = True
        await self._send(message)


def _not_local(scope: Scope) -> Refusal | None:
    client = scope.get("client")
    if client is None or not is_loopback(str(client[0])):
        return Refusal(403, "loopback_only", "Without authentication this server serves only the machine it runs on.")
    if any(name.lower() in FORWARDING for name, _ in scope["headers"]):
        return Refusal(403, "loopback_only", "Without authentication this server does not serve through a proxy.")
    return None


def _site(scope: Scope) -> str:
    """Where a request comes from: browsers say so even where they leave Origin out (W3C Fetch Metadata, "Sec-Fetch-Site")."""
    return "".join(header_values(scope, "sec-fetch-site")[-1:])


def _is_visit(scope: Scope) -> bool:
    """Whether the answer is to be shown in a tab of its own, and not inside of the page that asks (W3C Fetch Metadata)."""
    mode, destination = header_values(scope, "sec-fetch-mode"), header_values(scope, "sec-fetch-dest")
    return mode[-1:] == ["navigate"] and destination[-1:] == ["document"]


def _is_by_cookie(scope: Scope) -> bool:
    """Whether what says who asks, if anything does, is sent by the browser, whichever page makes it."""
    return bool(header_values(scope, "cookie")) and not header_values(scope, "authorization")


def parse_origin(text: str) -> str | None:
    """An origin in its one spelling, `scheme://host:port`; None if it is none, or `null` (RFC 6454, section 6.2)."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return None
    host = parts.hostname
    if parts.scheme not in ("http", "https") or not host or parts.username is not None or parts.password is not None:
        return None
    if parts.path or parts.query or parts.fragment or "?" in text or "#" in text or host.endswith("."):
        return None
    if not host.isascii():
        return None
    default = 443 if parts.scheme == "https" else 80
    name = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{name}:{default if port is None else port}"


def _without_port(host: str) -> str | None:
    found = re.fullmatch(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:\d{1,5})?", host)
    return found[1] if found else None


def _host_matches(name: str, allowed: str) -> bool:
    return name == allowed or (allowed.startswith("*.") and name.endswith(allowed[1:]))
