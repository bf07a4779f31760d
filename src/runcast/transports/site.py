"""The web app: its built files, and the page that tells it where it lives.

Only files that were there at the start are served, each by its exact path. The page gets a `<base>`, so that it works under any
path, its settings as JSON, and a nonce per answer for its styles. The frame that draws diagrams runs in an opaque origin with a
policy of its own: what it draws is a model's text.
"""

from __future__ import annotations

import html
import mimetypes
import re
import secrets
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
from starlette.datastructures import Headers
from starlette.responses import FileResponse, Response

from runcast.transports.wire import Receive, Scope, Send

BUILT: Final = Path(__file__).parent.parent / "web" / "dist"
INDEX: Final = "index.html"
FRAME: Final = "diagram-frame"
"""What the diagram frame's files are called, up to the first further `.` or `-`."""

_ENCODINGS: Final = {".br": "br", ".gz": "gzip"}
_PAGE = re.compile(r"/(c/[^/]{1,200})?\Z")
_HASHED = re.compile(r"/assets/.*[-.][A-Za-z0-9_-]{8,}\.[a-z0-9]+\Z")

FRAME_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; img-src data:; font-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'; sandbox allow-scripts"
)

_MISSING = b"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>The web app is not built</title>
<h1>The web app is not built</h1>
<p>The server runs; its API is at <code>v1/</code>. A released package holds the web app; in a working copy build it once:</p>
<pre>npm install
npm run build</pre>
<p>and start the server again.</p></html>
"""


class SiteSettings(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What the page is told."""

    title: str
    welcome: str = ""
    starters: tuple[str, ...] = ()
    max_file_bytes: int = 0
    several_agents: bool = False
    """The page asks whom a new conversation is with; it learns their names from the API, which knows who asks."""
    file_types: tuple[str, ...] = ()
    """What may be attached to a message; the server checks it too."""
    sign_in_url: str = ""
    """Where people sign in; empty: the page only says that it is needed."""


class File(NamedTuple):
    path: Path
    media_type: str
    etag: str
    encodings: Mapping[str, Path]


class Site:
    """The ASGI application behind every path that is not the API's."""

    def __init__(self, settings: SiteSettings, *, directory: Path = BUILT) -> None:
        self._settings = settings
        self._files = find_files(directory)
        index = self._files.pop(f"/{INDEX}", None)
        self._index = None if index is None else index.path.read_text("utf-8")

    def serves(self, path: str) -> bool:
        """Whether `path`, without the root path, is a page or a file of the web app."""
        return path in self._files or _PAGE.match(path) is not None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        root = scope.get("root_path", "")
        path = scope["path"].removeprefix(root) or "/"
        file = self._files.get(path)
        response = self._file(path, file, Headers(scope=scope)) if file else self._page(root, scope)
        await response(scope, receive, send)

    def _page(self, root: str, scope: Scope) -> Response:
        if self._index is None:
            return Response(_MISSING, 503, media_type="text/html")
        nonce = secrets.token_urlsafe(16)
        config = msgspec.to_builtins(self._settings) | {"base": f"{root}/", "nonce": nonce}
        # `<` written out: nothing in a setting may end the script element (WHATWG HTML, section 4.12.1.3).
        text = msgspec.json.encode(config).decode().replace("<", "\\u003c")
        head = (
            f'<base href="{html.escape(root)}/">'
            f'<script type="application/json" id="runcast-config">{text}</script>'
            f'<meta property="csp-nonce" nonce="{nonce}">'
        )
        page, found = re.subn(r"<head[^>]*>", lambda match: match[0] + head, self._index, count=1)
        page = page if found else head + self._index
        page = re.sub(r"<style(?=[\s>])", f'<style nonce="{nonce}"', page)
        if self._settings.title:
            title = html.escape(self._settings.title)
            page = re.sub(r"<title>.*?</title>", lambda _: f"<title>{title}</title>", page, count=1, flags=re.DOTALL)
        headers = {"content-security-policy": page_policy(nonce, scope), "cache-control": "no-store"}
        return Response(page, headers=headers, media_type="text/html")

    def _file(self, path: str, file: File, request: Headers) -> Response:
        headers = {
            "etag": file.etag,
            "vary": "Accept-Encoding, Origin",
            "cache-control": "public, max-age=31536000, immutable" if _HASHED.match(path) else "no-cache",
        }
        if is_frame(path):
            # An opaque origin is never same-origin with anything, not even with the server its files come from.
            headers["cross-origin-resource-policy"] = "cross-origin"
            if file.media_type == "text/html":
                headers |= {"content-security-policy": FRAME_POLICY, "x-frame-options": "SAMEORIGIN"}
        if request.get("if-none-match") == file.etag:
            return Response(status_code=304, headers=headers)
        accepted = request.get("accept-encoding", "").lower()
        for encoding, compressed in file.encodings.items():
            if re.search(rf"(^|[,\s]){encoding}(?!\s*;\s*q=0(\.0*)?\s*(,|$))", accepted):
                headers["content-encoding"] = encoding
                return FileResponse(compressed, headers=headers, media_type=file.media_type)
        return FileResponse(file.path, headers=headers, media_type=file.media_type)


def page_policy(nonce: str, scope: Scope) -> str:
    """The page's Content-Security-Policy. `connect-src` names the WebSocket's origin: for Safari before 15.4 `'self'` did not."""
    host = Headers(scope=scope).get("host", "")
    scheme = "wss" if scope.get("scheme") == "https" else "ws"
    socket = f" {scheme}://{host}" if re.fullmatch(r"[A-Za-z0-9.:\[\]-]+", host) else ""
    return (
        "default-src 'none'; script-src 'self'; "
        f"style-src 'self' 'nonce-{nonce}'; "
        f"img-src 'self' data: blob:; font-src 'self'; connect-src 'self'{socket}; frame-src 'self'; "
        "manifest-src 'self'; worker-src 'self'; "
        "base-uri 'self'; "  # the page's own <base>; nothing else can be put there without script
        "form-action 'self'; frame-ancestors 'none'; object-src 'none'; require-trusted-types-for 'script'"
    )


def is_frame(path: str) -> bool:
    return re.match(rf"{FRAME}[.-]", path.rsplit("/", 1)[1]) is not None


def find_files(directory: Path) -> dict[str, File]:
    """The built files by URL path; a compressed twin (`x.js.br`) belongs to its file."""
    paths = {path for path in directory.rglob("*") if path.is_file()}
    files: dict[str, File] = {}
    for path in paths:
        if path.suffix in _ENCODINGS and path.with_suffix("") in paths:
            continue
        encodings = {
            name: twin for suffix, name in _ENCODINGS.items() if (twin := path.with_name(path.name + suffix)) in paths
        }
        media_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        if path.suffix in (".js", ".mjs"):
            media_type = "text/javascript"  # what the registry of a machine says of .js is not to be relied upon
        etag = f'"{sha256(path.read_bytes()).hexdigest()[:16]}"'
        files["/" + path.relative_to(directory).as_posix()] = File(path, media_type, etag, encodings)
    return files
