"""Errors as HTTP answers: RFC 9457 `application/problem+json` with `code` and `requestId`, for every error there is."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, cast

import msgspec
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

from runcast.errors import ClientError, InvalidRequest, NotFound, RuncastError, Unavailable, describe
from runcast.session import NOT_FOUND_MESSAGE
from runcast.transports.openai_errors import is_openai, openai_error
from runcast.transports.wire import DIALECT, Scope, request_id_of

logger = logging.getLogger("runcast.http")


class Problem(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """RFC 9457, section 3.1, with our members. `code` is stable; `detail` is for people."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    request_id: str
    retry_after_ms: int | None = None
    at: str | None = None
    """Where in the answer it is wrong: a JSON Pointer (RFC 6901)."""
    problems: list[str] = []
    """One sentence per wrong parameter."""


_CODES = {400: "invalid_request", 404: "not_found", 405: "method_not_allowed", 415: "unsupported_media_type"}


def problem(
    scope: Scope,
    status: int,
    code: str,
    detail: str,
    *,
    retry_after_ms: int | None = None,
    at: str | None = None,
    problems: list[str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """One error answer. On a dialect's path it is plain JSON: those clients look for `detail`, and know no other type.
    OpenAI's clients get theirs."""
    if is_openai(scope):
        return openai_error(scope, status, code, detail, at=at, retry_after_ms=retry_after_ms, headers=headers)
    body = Problem(
        type="about:blank",
        title=HTTPStatus(status).phrase,
        status=status,
        code=code,
        detail=detail,
        request_id=request_id_of(scope),
        retry_after_ms=retry_after_ms,
        at=at,
        problems=problems or [],
    )
    all_headers = dict(headers or {})
    if retry_after_ms is not None:
        all_headers["retry-after"] = str(math.ceil(retry_after_ms / 1000))  # RFC 9110, section 10.2.3: seconds
    if status == 401:
        all_headers.setdefault("www-authenticate", "Bearer")  # RFC 9110, section 15.5.2; RFC 6750, section 3
    media_type = "application/json" if DIALECT in scope else "application/problem+json"
    return Response(msgspec.json.encode(body), status, all_headers, media_type=media_type)


class HttpError(ClientError):
    """What only HTTP knows: an error with its own status. `at` as in `InvalidRequest`."""

    def __init__(self, status: int, code: str, message: str, *, at: str | None = None) -> None:
        super().__init__(message)
        self.at = at
        self.http_status = status
        self.http_code = code


def problem_of(scope: Scope, error: BaseException) -> Response:
    """The answer to an error; a foreign exception's text is never in it."""
    if isinstance(error, HttpError):
        return problem(scope, error.http_status, error.http_code, error.message, at=error.at)
    code, message = describe(error)
    if isinstance(error, NotFound):
        message = NOT_FOUND_MESSAGE
    status = error.status if isinstance(error, RuncastError) else 500
    retry = error.retry_after_ms if isinstance(error, RuncastError) else None
    at = error.at if isinstance(error, InvalidRequest) else None
    return problem(scope, status, code, message, retry_after_ms=retry, at=at)


def not_allowed(scope: Scope, methods: Iterable[str]) -> Response:
    """405, with the methods that are allowed (RFC 9110, section 15.5.6)."""
    message = f"{scope['method']} is not allowed here."
    return problem(scope, 405, "method_not_allowed", message, headers={"allow": ", ".join(methods)})


async def runcast_error(request: Request, error: Exception) -> Response:
    """The answer to one of our own errors, logged if it is not the client's doing."""
    if isinstance(error, Unavailable):
        logger.info("request refused: %s", error.message, extra={"request_id": request_id_of(request.scope)})
    elif not isinstance(error, ClientError):
        logger.warning("request failed", exc_info=error, extra={"request_id": request_id_of(request.scope)})
    return problem_of(request.scope, error)


def install(app: FastAPI) -> None:
    """Make every error of `app` a problem."""

    async def http_exception(request: Request, error: Exception) -> Response:
        known = cast(HTTPException, error)
        if known.status_code == 404:
            return problem(request.scope, 404, "not_found", NOT_FOUND_MESSAGE)
        code = _CODES.get(known.status_code, "invalid_request" if known.status_code < 500 else "internal")
        phrase = HTTPStatus(known.status_code).phrase
        if known.status_code == 405:
            # Starlette names the methods of the first route of this path only (RFC 9110, section 15.5.6, wants all).
            return not_allowed(request.scope, sorted(_methods(app, request.scope)))
        return problem(request.scope, known.status_code, code, f"{phrase}.", headers=known.headers)

    async def invalid(request: Request, error: Exception) -> Response:
        problems = [_sentence(detail) for detail in cast(RequestValidationError, error).errors()]
        return problem(request.scope, 422, "invalid_request", " ".join(problems), problems=problems)

    async def internal(request: Request, error: Exception) -> Response:
        # Starlette raises it again after this answer; the guard logs it, with the request id.
        return problem_of(request.scope, error)

    app.add_exception_handler(RuncastError, runcast_error)
    app.add_exception_handler(HTTPException, http_exception)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(Exception, internal)


def _methods(app: FastAPI, scope: Scope) -> set[str]:
    """What a path takes: asked of the routes themselves, because FastAPI's included routers do not list theirs."""
    methods = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
    return {m for m in methods for route in app.routes if route.matches({**scope, "method": m})[0] is Match.FULL}


def _sentence(detail: dict[str, Any]) -> str:
    location = detail.get("loc", ())
    return f"{location[-1] if location else 'request'}: {detail.get('msg', 'invalid')}."
