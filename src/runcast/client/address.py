"""Where a server is, and one plain GET on it with nothing but the standard library."""

from __future__ import annotations

import urllib.error
import urllib.parse
import urllib.request
from typing import Any

import msgspec

from runcast.client.refusals import Unreachable, error_of
from runcast.errors import InvalidRequest, RuncastError

TIMEOUT_S = 30
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

_objects: msgspec.json.Decoder[dict[str, Any]] = msgspec.json.Decoder(dict[str, Any])


def base_url(url: str) -> str:
    parts = urllib.parse.urlsplit(url if "://" in url else f"http://{url}")
    scheme = {"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme)
    if scheme not in ("http", "https") or not parts.hostname:
        raise InvalidRequest(f"{url!r} is not the address of a server. Give one like http://127.0.0.1:8000.")
    return f"{scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def socket_url(base_url: str) -> str:
    return "ws" + base_url.removeprefix("http") + "/v1/ws"


def why(error: Exception) -> str:
    if isinstance(error, ConnectionRefusedError) or "Connect call failed" in str(error):
        return "Nothing listens there: is the server running?"
    if isinstance(error, RuncastError):
        return error.message
    return f"{type(error).__name__}: {error}"


def get(url: str, headers: dict[str, str]) -> dict[str, Any]:
    """One GET, blocking: the JSON object that came.

    Raises:
        Unreachable: nobody answered, or not with JSON. Others: what the server's problem document says.
    """
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - the scheme was checked by `base_url`
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:  # noqa: S310
            return _objects.decode(response.read())
    except urllib.error.HTTPError as error:
        raise _problem(url, error) from None
    except (OSError, msgspec.DecodeError) as error:
        raise Unreachable(f"{url} could not be read. {why(error)}") from None


def _problem(url: str, error: urllib.error.HTTPError) -> RuncastError:
    try:
        problem = _objects.decode(error.read())
    except (OSError, msgspec.DecodeError):
        problem = {}
    code = str(problem.get("code") or "unreachable")
    return error_of(code, str(problem.get("detail") or f"{url} answered with HTTP {error.code}."))
