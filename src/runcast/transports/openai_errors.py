"""Errors in OpenAI's shape, on the paths of its protocols: `{"error": {message, type, code, param}}`.

Clients try again by themselves after 408, 409, 429 and 5xx. `x-should-retry` tells them not to where a run had begun, since it would
do everything twice, and where the answer would be the same.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.responses import Response

from runcast.transports.wire import Scope, request_id_of

_PATHS = re.compile(r"(/openai/v1|/v1)/(chat/completions|models|responses)(/.*)?|/openai(/.*)?")

CLIENT_HEADERS = ", ".join(
    ["openai-organization", "openai-project", "openai-beta"]
    + [
        f"x-stainless-{name}"
        for name in (
            "arch", "custom-poll-interval", "helper-method", "lang", "os", "package-version", "poll-helper", "retry-count",
            "runtime", "runtime-version", "timeout",
        )
    ]
)  # fmt: skip
"""What OpenAI's client sends from a page beside the usual headers; its preflight asks for them."""

PASSING = frozenset({"run_active", "sequence_conflict"})
"""Conflicts that may be over in a moment."""

_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def is_openai(scope: Scope) -> bool:
    """Whether this request is for one of OpenAI's protocols."""
    path: str = scope["path"][len(scope.get("root_path", "")) :]
    return _PATHS.fullmatch(path) is not None


def openai_error(
    scope: Scope,
    status: int,
    code: str,
    message: str,
    *,
    at: str | None = None,
    retry_after_ms: int | None = None,
    headers: Mapping[str, str] | None = None,
    began: bool = False,
) -> Response:
    """One error answer. `at`: a JSON Pointer into the body. `began`: a run had begun, so nothing may be tried again."""
    status = 400 if status == 422 else status
    error: dict[str, Any] = {
        "message": message,
        "type": _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error"),
        "code": code,
        "param": None if at is None else param_of(at),
    }
    all_headers = {"x-request-id": request_id_of(scope), **(headers or {})}
    if retry_after_ms is not None:
        all_headers["retry-after"] = str(math.ceil(retry_after_ms / 1000))
    if status == 401:
        all_headers.setdefault("www-authenticate", "Bearer")
    if began or (status == 409 and code not in PASSING):
        all_headers["x-should-retry"] = "false"
    return Response(msgspec.json.encode({"error": error}), status, all_headers, media_type="application/json")


def param_of(at: str) -> str:
    """A JSON Pointer as OpenAI writes it: `messages[0].content`."""
    return re.sub(r"\.(\d+)(?=\.|$)", r"[\1]", at.removeprefix("/").replace("/", "."))
