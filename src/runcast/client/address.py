"""Where a server is, and plain requests to it with nothing but the standard library."""

from __future__ import annotations

import urllib.error
import urllib.parse
import urllib.request
from typing import Any, BinaryIO

import msgspec

from runcast.client.refusals import Unreachable, error_of
from runcast.errors import InvalidRequest, RuncastError

TIMEOUT_S = 30
UPLOAD_TIMEOUT_S = 600
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
    return _ask(urllib.request.Request(url, headers=headers), TIMEOUT_S)  # noqa: S310 - `base_url` checked the scheme


def post(url: str, headers: dict[str, str], body: BinaryIO, size: int) -> dict[str, Any]:
    """One POST of `size` bytes, blocking, read from `body` piece by piece: the JSON object that came.

    Raises:
        As `get`.
    """
    headers = headers | {"Content-Length": str(size)}
    return _ask(urllib.request.Request(url, body, headers, method="POST"), UPLOAD_TIMEOUT_S)  # noqa: S310


def _ask(request: urllib.request.Request, timeout_s: float) -> dict[str, Any]:
    url = request.full_url
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as response:  # noqa: S310
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
