"""`/v1/files`: files in as a raw body, out with ranges (`spec/PROTOCOL.md`, "Files").

What people uploaded is nobody's page: it is given out as a download, with a policy that lets nothing in it run, and only raster
images are shown in place.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from email.message import Message as Headers
from email.utils import formatdate
from typing import Annotated, NamedTuple
from urllib.parse import quote

import anyio
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from runcast.errors import InvalidRequest, RuncastError, TooLarge
from runcast.files import SAFE_IMAGES, StoredFile
from runcast.stores.files import Content
from runcast.transports.gateway import Gateway
from runcast.transports.openapi import answers
from runcast.transports.problems import HttpError, runcast_error
from runcast.transports.requests import IdempotencyKey, checked_id, command_id, json_answer
from runcast.transports.wire import Receive, Scope, Send, StreamCut
from runcast.uploads import Uploaded

PIECE = 256 * 1024
"""What is read or written at once."""
IDLE_S = 30.0
"""How long an upload may bring nothing."""
LINGER_S = 2.0
"""After a refusal, what the client still sends is thrown away for so long, or it would meet a reset and not the answer."""

POLICY = "default-src 'none'; sandbox; frame-ancestors 'none'"

_RUNS = re.compile(
    r"(text/(html|xml|xsl|javascript|ecmascript|vbscript|css)|image/svg|application/.*(xml|script|xhtml))"
)
"""Types in which a browser may run or draw something: given out as bytes without a type."""
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})\Z")


def file_routes(gateway: Gateway) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["files"])

    @router.post(
        "/files",
        **answers(Uploaded, "The file is kept; a message may name it by its `url`.", status=201, changes=True),
        openapi_extra={
            "requestBody": {
                "required": True,
                "description": "The file itself; `Content-Type` says what it is.",
                "content": {"*/*": {"schema": {"type": "string", "format": "binary"}}},
            }
        },
    )
    async def upload_file(
        request: Request,
        name: Annotated[
            str | None, Query(max_length=1000, description="The file's name; else the one in Content-Disposition.")
        ] = None,
        idempotency_key: IdempotencyKey = None,
    ) -> Response:
        body = _Body(request, gateway)
        try:
            principal = await gateway.principal(request.scope)
            gateway.refuse_while_draining()
            uploads = gateway.service.uploads
            body.check(uploads.limits.max_bytes)
            key = None if idempotency_key is None else command_id(idempotency_key, gateway.new_id)
            with anyio.fail_after(gateway.upload_timeout_s):
                uploaded = await uploads.upload(
                    principal,
                    body.pieces(),
                    name=name or _disposed_name(request) or "",
                    mime_type=request.headers.get("content-type", ""),
                    key=key,
                )
        except TimeoutError:
            return await body.refused(HttpError(408, "timeout", "The upload took too long and was stopped."))
        except RuncastError as error:
            return await body.refused(error)
        location = f"{request.scope.get('root_path', '')}{uploaded.url}"
        return json_answer(uploaded, 201, {"location": location})

    @router.get(
        "/files/{file}",
        **answers(
            None,
            "The file's bytes.",
            also={
                206: (None, "The part asked for by `Range`."),
                304: (None, "It is what `If-None-Match` has."),
                416: (None, "The range is not in the file."),
            },
        ),
    )
    async def get_file(request: Request, file: str) -> Response:
        principal = await gateway.principal(request.scope)
        found = await gateway.service.uploads.get(principal, checked_id(file))
        headers = headers_of(found)
        etag = headers["etag"]
        if _names(request.headers.get("if-none-match", ""), etag):
            return Response(status_code=304, headers=headers)
        asked = request.headers.get("range")
        condition = request.headers.get("if-range")
        part = None if asked is None or condition not in (None, etag) else range_of(asked, found.size)
        if part == Unsatisfiable:
            return Response(status_code=416, headers={**headers, "content-range": f"bytes */{found.size}"})
        return FileResponse(gateway, found, headers, part if isinstance(part, Part) else None)

    router.add_api_route("/files/{file}", get_file, methods=["HEAD"], include_in_schema=False)
    return router


class _Body:
    """An upload's bytes as they come."""

    def __init__(self, request: Request, gateway: Gateway) -> None:
        self._request = request
        self._gateway = gateway
        self._ended = False
        declared = request.headers.get("content-length", "")
        self._declared = int(declared[:19]) if declared.isdigit() else None

    def check(self, max_bytes: int) -> None:
        """
        Raises:
            HttpError, TooLarge: what its headers say cannot be taken.
        """
        headers = self._request.headers
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise HttpError(415, "unsupported_media_type", "Send the file without a content encoding.")
        if headers.get("content-type", "").lower().startswith("multipart/"):
            raise HttpError(
                415,
                "unsupported_media_type",
                "Send the file itself as the body, its type in Content-Type and its name in `?name=`; forms are not read.",
            )
        if self._declared is not None and self._declared > max_bytes:
            raise TooLarge(f"The file has {self._declared} bytes; at most {max_bytes} are taken.")

    async def pieces(self) -> AsyncGenerator[bytes]:
        """Its bytes, gathered into larger pieces.

        Raises:
            StreamCut: the client is gone. HttpError: it sends nothing any more.
        """
        held = bytearray()
        size = 0
        while (chunk := await self._next()) is not None:
            held += chunk
            size += len(chunk)
            if len(held) >= PIECE:
                yield bytes(held)
                held.clear()
        if self._declared is not None and size != self._declared:
            raise InvalidRequest(f"The body has {size} bytes, its Content-Length said {self._declared}.")
        if held:
            yield bytes(held)

    async def _next(self) -> bytes | None:
        if self._ended:
            return None
        with anyio.move_on_after(IDLE_S):
            message = await self._request.receive()
            if message["type"] == "http.disconnect":
                self._ended = True
                raise StreamCut
            self._ended = not message.get("more_body", False)
            return message.get("body", b"")
        raise HttpError(408, "timeout", f"Nothing of the file came for {IDLE_S:g} s.")

    async def refused(self, error: RuncastError) -> Response:
        """The answer to an upload that is not taken. Who still sends is listened to for a while, then cut off."""
        await self._throw_away()
        response = await runcast_error(self._request, error)
        if not self._ended:
            response.headers["connection"] = "close"
        return response

    async def _throw_away(self) -> None:
        with anyio.move_on_after(LINGER_S):
            try:
                while await self._next() is not None:
                    pass
            except (StreamCut, HttpError):
                pass


class Part(NamedTuple):
    start: int
    end: int
    """Exclusive."""


Unsatisfiable = "unsatisfiable"


def range_of(header: str, size: int) -> Part | str | None:
    """The one range asked for (RFC 9110, section 14.1.2); None where it is to be ignored: other units, several ranges."""
    found = _RANGE.match(header.strip().lower())
    if found is None or not (found[1] or found[2]):
        return None
    if not found[1]:
        length = min(int(found[2]), size)
        return Part(size - length, size) if length else Unsatisfiable
    start = int(found[1])
    end = min(int(found[2]) + 1, size) if found[2] else size
    if found[2] and int(found[2]) < start:
        return None  # no range at all
    return Part(start, end) if start < size else Unsatisfiable


def headers_of(file: StoredFile) -> dict[str, str]:
    """What a file is given out with: see the module."""
    inline = file.mime_type in SAFE_IMAGES
    mime_type = "application/octet-stream" if _RUNS.match(file.mime_type) else file.mime_type
    if mime_type.startswith("text/"):
        mime_type += "; charset=utf-8"
    plain = re.sub(r"[^ !#-\[\]-~]", "_", file.name)
    name = f"filename=\"{plain}\"; filename*=UTF-8''{quote(file.name, safe='')}"
    return {
        "content-type": mime_type,
        "content-disposition": f"{'inline' if inline else 'attachment'}; {name}",
        "content-security-policy": POLICY,
        "x-content-type-options": "nosniff",
        "cache-control": "private, no-cache",  # asked for again each time: whose it is may change, its bytes never do
        "vary": "origin, authorization, cookie",
        "etag": f'"{file.sha256}"',
        "last-modified": formatdate(file.created_at / 1000, usegmt=True),
        "accept-ranges": "bytes",
    }


class FileResponse(Response):
    """The bytes, piece by piece, as fast as the client takes them."""

    def __init__(self, gateway: Gateway, file: StoredFile, headers: dict[str, str], part: Part | None) -> None:
        super().__init__(status_code=200 if part is None else 206, headers=headers)
        self._gateway = gateway
        self._file = file
        self._part = part or Part(0, file.size)
        self.headers["content-length"] = str(self._part.end - self._part.start)
        if part is not None:
            self.headers["content-range"] = f"bytes {part.start}-{part.end - 1}/{file.size}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        if scope["method"] == "HEAD":
            await send(start)
            await send({"type": "http.response.body", "body": b""})
            return
        async with self._gateway.service.uploads.content(self._file) as content:
            await send(start)
            try:
                await self._stream(content, send)
            except TimeoutError:
                raise StreamCut from None  # it takes nothing

    async def _stream(self, content: Content, send: Send) -> None:
        offset, end = self._part
        while offset < end:
            data = await content.read(offset, min(PIECE, end - offset))
            if not data:
                raise StreamCut  # shorter than it was: never a clean end
            offset += len(data)
            with anyio.fail_after(self._gateway.send_timeout_s):
                await send({"type": "http.response.body", "body": data, "more_body": offset < end})


def _names(header: str, etag: str) -> bool:
    """Whether If-None-Match has the tag (RFC 9110, section 13.1.2: weak comparison)."""
    return any(tag.strip().removeprefix("W/") in (etag, "*") for tag in header.split(","))


def _disposed_name(request: Request) -> str | None:
    """The name in Content-Disposition (RFC 6266)."""
    given = request.headers.get("content-disposition")
    if given is None:
        return None
    headers = Headers()
    headers["content-disposition"] = given[:2000]
    name = headers.get_filename()
    return name if isinstance(name, str) else None
