"""Reading HTTP requests: bodies, cursors, keys; and writing JSON back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, NamedTuple, TypeVar

import anyio
import msgspec
from fastapi import Header, Query, Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from runcast.dialects.json_texts import MAX_CONTAINERS, MAX_DEPTH, beside_files, too_deep, too_many
from runcast.dialects.native import MAX_SEQ, to_bytes
from runcast.errors import InvalidRequest, NotFound, TooLarge
from runcast.ids import CLIENT_ID, IdSource
from runcast.transports.problems import HttpError
from runcast.transports.wire import StreamCut

MAX_BODY = 256 * 1024
BODY_S = 30.0
"""How long a body may take to come."""
SLOWEST = 100_000
"""Where bodies may be large they have longer: the time that the largest takes with so many bytes per second."""
MAX_WAIT_S = 60
MAX_PAGE = 500

_CURSOR = re.compile(r"(?:([a-z2-7]{1,32}):)?([0-9]{1,16})\Z")

T = TypeVar("T")

Wait = Annotated[float, Query(ge=0, le=MAX_WAIT_S, description="Seconds to wait for it, at most 60.")]
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE, description="Most events of one page.")]
After = Annotated[
    str | None,
    Query(
        pattern=r"^([a-z2-7]{1,32}:)?[0-9]{1,16}$",
        description="Only what follows this seq: `42`, or a cursor `<epoch>:42` as in the ids of server-sent events.",
    ),
]
LastEventId = Annotated[
    str | None,
    Header(
        alias="Last-Event-ID",
        pattern=r"^(([a-z2-7]{1,32}:)?[0-9]{1,16})?$",
        description="The last id that was read; it wins over `after`.",
    ),
]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern=r'^("[A-Za-z0-9._:@-]{1,128}"|[A-Za-z0-9._:@-]{1,128})$',
        description="A retry with the same key has one effect and gets the same answer; 1-128 of `A-Za-z0-9._:@-`.",
    ),
]


class Cursor(NamedTuple):
    """Where a reader stands: it has everything up to `seq` of the log `epoch` (None: of whatever log it is)."""

    seq: int
    epoch: str | None


def cursor_of(after: str | None, last_event_id: str | None) -> Cursor | None:
    """The reader's cursor; an empty Last-Event-ID is none (WHATWG HTML, section 9.2.5).

    Raises:
        InvalidRequest: it is no cursor.
    """
    text = last_event_id or after
    if text is None:
        return None
    found = _CURSOR.fullmatch(text)
    if found is None or int(found[2]) > MAX_SEQ:
        raise InvalidRequest("A cursor is `<seq>` or `<epoch>:<seq>`, the seq from 0 to 2^53-1.")
    return Cursor(int(found[2]), found[1])


def command_id(key: str | None, new_id: IdSource) -> str:
    """The id of a command: its Idempotency-Key, or a new one.

    Raises:
        InvalidRequest: a key with other characters, or too long.
    """
    if key is None:
        return new_id()
    bare = key[1:-1] if len(key) >= 2 and key[0] == key[-1] == '"' else key  # as a structured field it is quoted
    if CLIENT_ID.fullmatch(bare) is None:
        raise InvalidRequest("Idempotency-Key must be 1-128 characters of A-Z a-z 0-9 . _ : @ -")
    return bare


def checked_id(id: str) -> str:
    """An id from a path.

    Raises:
        NotFound: nothing can have this id.
    """
    if CLIENT_ID.fullmatch(id) is None:
        raise NotFound("No id looks like this.")
    return id


def wants_stream(request: Request) -> bool:
    """Whether the client asks for server-sent events."""
    accepted = (item.split(";") for item in request.headers.get("accept", "").lower().split(","))
    return any(
        parts[0].strip() == "text/event-stream" and not any(re.fullmatch(r"\s*q=0(\.0*)?\s*", p) for p in parts[1:])
        for parts in accepted
    )


async def read_json(
    request: Request,
    kind: type[T],
    *,
    optional: bool = False,
    max_bytes: int = MAX_BODY,
    max_envelope: int | None = None,
) -> T:
    """The request's body as a `kind`; with `optional` an empty body is an empty object. `max_envelope`: bytes beside the files in it.

    Raises:
        HttpError: 400 not JSON · 408 it did not come · 415 another content type.
        TooLarge: more than `max_bytes` bytes, or more than `max_envelope` beside files.
        InvalidRequest: JSON, but not a `kind`.
    """
    data = await read_body(request, max_bytes)
    if not data and optional:
        return msgspec.convert({}, kind)
    _check_json(request)
    try:
        text = data.decode()
        if max_envelope is not None and len(text) > max_envelope and beside_files(text) > max_envelope:
            raise TooLarge(f"Beside the files in it a request has at most {max_envelope} bytes.")
        if too_many(text):
            raise TooLarge(f"The body holds more than {MAX_CONTAINERS} arrays and objects.")
        if too_deep(text):
            raise InvalidRequest(f"The body nests deeper than {MAX_DEPTH} levels.")
        return msgspec.json.decode(text, type=kind)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"{error}.") from None
    except (ValueError, RecursionError):  # msgspec.DecodeError and UnicodeDecodeError are ValueErrors
        raise HttpError(400, "invalid_json", "The body is not valid JSON.") from None


async def read_text(request: Request, max_bytes: int = MAX_BODY) -> str:
    """The body of a JSON request, not read yet.

    Raises:
        HttpError: 400 not UTF-8 · 415 another content type.
        TooLarge: more than `max_bytes`.
    """
    data = await read_body(request, max_bytes)
    _check_json(request)
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise HttpError(400, "invalid_json", "The body is not UTF-8.") from None


def _check_json(request: Request) -> None:
    media_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if media_type != "application/json" and not re.fullmatch(r"application/[\w.-]+\+json", media_type):
        raise HttpError(415, "unsupported_media_type", "Send JSON, with `Content-Type: application/json`.")


async def read_body(request: Request, max_bytes: int = MAX_BODY) -> bytes:
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise HttpError(415, "unsupported_media_type", "Send the body without a content encoding.")
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and (len(declared) > 12 or int(declared) > max_bytes):
        raise TooLarge(f"The body has {declared[:20]} bytes; at most {max_bytes} are taken.")
    data = bytearray()
    try:
        with anyio.fail_after(max(BODY_S, max_bytes / SLOWEST)):
            async for chunk in request.stream():
                data += chunk
                if len(data) > max_bytes:
                    raise TooLarge(f"The body has more than {max_bytes} bytes.")
    except ClientDisconnect:
        raise StreamCut from None
    except TimeoutError:
        raise HttpError(408, "timeout", "The body took too long.") from None
    return bytes(data)


def json_answer(body: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(to_bytes(body), status, dict(headers or {}), media_type="application/json")
