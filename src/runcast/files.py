"""Files beside the log: what people send along with a message, and how a message names them. No I/O.

A content part of a message (AG-UI 1.0, `ImagePart`, `AudioPart`, `VideoPart`, `DocumentPart`) says by its `source` where its
bytes are: in a file of this server (`/v1/files/<id>`), inline (`data`, for the very small), at another site, or at a model's
provider. This module reads such parts, checks what can be checked without the bytes, and cleans names.
"""

from __future__ import annotations

import base64
import binascii
import mimetypes
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, cast
from urllib.parse import urlsplit

import msgspec

from runcast.errors import InvalidRequest, TooLarge, UnknownFile

PATH = "/v1/files/"
"""A file's URL is this and its id, below the address of the server."""

INLINE_BYTES = 16 * 1024
"""The longest `data` source, in characters of base64; what is longer is uploaded."""

HEAD_BYTES = 4096
"""How much of a file's beginning `type_of` and `is_of_type` want to see."""

NAME_BYTES = 200
"""The longest name, UTF-8: with room for a suffix in every file system."""

MediaKind = Literal["image", "audio", "video", "document"]
KINDS: frozenset[str] = frozenset({"image", "audio", "video", "document"})

SAFE_IMAGES: frozenset[str] = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
"""Raster images: no browser runs anything in them. Only these are ever shown inline. SVG is a document with scripts."""

_FILE_URL = re.compile(r"/?v1/files/([A-Za-z0-9._:@-]{1,128})\Z")
_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,99}/[a-z0-9][a-z0-9!#$&^_.+-]{0,99}\Z")
_TYPES = mimetypes.MimeTypes(filenames=())  # the same on every machine: nothing is read from /etc
_OWN_TYPES = {".md": "text/markdown", ".webp": "image/webp", ".yaml": "text/yaml", ".yml": "text/yaml"}
_MAGIC: dict[str, tuple[bytes, ...]] = {
    "image/png": (b"\x89PNG\r\n\x1a\n",),
    "image/jpeg": (b"\xff\xd8\xff",),
    "image/gif": (b"GIF87a", b"GIF89a"),
    "image/webp": (b"RIFF",),
    "application/pdf": (b"%PDF-",),
}
"""How these begin (WHATWG MIME Sniffing, section 6.1; ISO 32000-2, section 7.5.2)."""


class StoredFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file's row. `created_at` is Unix milliseconds, `size` bytes, `sha256` hex."""

    id: str
    tenant: str = ""
    user: str
    name: str
    mime_type: str
    size: int
    sha256: str
    created_at: int

    @property
    def url(self) -> str:
        return url_of(self.id)


class Attachment(msgspec.Struct, frozen=True, kw_only=True):
    """What one content part of a message brings along. Exactly one of `file`, `data`, `url`, `handle` is there."""

    kind: MediaKind
    name: str = ""
    mime_type: str = ""
    """As far as known: of a file always."""
    size: int | None = None
    file: str | None = None
    """Id of a file of this server: `RunContext.file` reads it."""
    data: bytes | None = None
    """The bytes themselves, where they came inline."""
    url: str | None = None
    """Somewhere else. Nothing fetches it unless the agent does."""
    handle: str | None = None
    """What a model's provider calls it (AG-UI 1.0, `FileSource`)."""


def url_of(id: str) -> str:
    return PATH + id


def id_of(url: str) -> str | None:
    """The file that a URL names; None if it is none of this server's."""
    found = _FILE_URL.match(url)
    return found[1] if found else None


# --- parts of messages --------------------------------------------------------------------------------------------


def attachments(content: object) -> list[Attachment]:
    """What a message's content (text, or AG-UI content parts) brings along, in its order. Parts that make no sense are
    skipped: `checked` has refused them before they came into a log."""
    if not isinstance(content, Sequence) or isinstance(content, str | bytes):
        return []
    return [found for part in cast(Sequence[Any], content) if (found := attachment(part)) is not None]


def attachment(part: object) -> Attachment | None:
    """What one content part brings along; None for text and for what is not known here."""
    if not isinstance(part, Mapping):
        return None
    fields = modern(cast(Mapping[str, Any], part))
    kind, source = fields.get("type"), fields.get("source")
    if kind not in KINDS or not isinstance(source, Mapping):
        return None
    known = cast(Mapping[str, Any], source)
    value = known.get("value")
    if not isinstance(value, str):
        return None
    more = _object(fields.get("metadata"))
    name, size, mime_type = more.get("name"), more.get("size"), known.get("mimeType")
    where: dict[str, Any]
    match known.get("type"):
        case "data":
            try:
                where = {"data": base64.b64decode(value, validate=True)}
            except (binascii.Error, ValueError):
                return None
        case "url":
            id = id_of(value)
            where = {"url": value} if id is None else {"file": id}
        case "file":
            where = {"handle": value}
        case _:
            return None
    return Attachment(
        kind=cast(MediaKind, kind),
        name=name if isinstance(name, str) else "",
        mime_type=mime_type if isinstance(mime_type, str) else "",
        size=len(where["data"]) if "data" in where else size if isinstance(size, int) else None,
        **where,
    )


def modern(part: Mapping[str, Any]) -> dict[str, Any]:
    """The part as AG-UI 1.0 has it: a legacy `binary` part (until 0.x) becomes a media part, any other is left as it is."""
    if part.get("type") != "binary":
        return dict(part)
    mime_type = part.get("mimeType") or part.get("mime_type") or ""
    id, url, data = part.get("id"), part.get("url"), part.get("data")
    if isinstance(data, str) and data:
        source = {"type": "data", "value": data, "mimeType": mime_type}
    elif isinstance(url, str) and url:
        source = {"type": "url", "value": url, "mimeType": mime_type}
    else:
        source = {"type": "url", "value": url_of(str(id)), "mimeType": mime_type}
    upgraded: dict[str, Any] = {"type": kind_of(str(mime_type)), "source": source}
    if isinstance(name := part.get("filename"), str) and name:
        upgraded["metadata"] = {"name": name}
    return upgraded


def kind_of(mime_type: str) -> MediaKind:
    """Which content part carries a file of this type."""
    kind = mime_type.partition("/")[0]
    return cast(MediaKind, kind) if kind in ("image", "audio", "video") else "document"


def checked(content: str | Sequence[Mapping[str, Any]]) -> list[str]:
    """The ids of the files that a message names, each once.

    Raises:
        InvalidRequest: a part whose source cannot be used.
        TooLarge: more bytes inline than a message should carry.
        UnknownFile: a URL that names no file of this server and no other site.
    """
    ids: dict[str, None] = {}
    for given in () if isinstance(content, str) else content:
        part = modern(given)
        if part.get("type") not in KINDS:
            continue
        fields = _object(part.get("source"))
        value, where = fields.get("value"), fields.get("type")
        if not isinstance(value, str) or not value or where not in ("data", "url", "file"):
            raise InvalidRequest(
                f"The {part['type']} part has no usable `source`: it needs a `type` (data, url or file) and a `value`."
            )
        if where == "data":
            if len(value) > INLINE_BYTES:
                raise TooLarge(
                    f"A part carries {len(value)} characters inline; at most {INLINE_BYTES} are taken. "
                    "Upload it with POST /v1/files and name it by its url."
                )
            if attachment(part) is None:
                raise InvalidRequest(f"The {part['type']} part's `source.value` is not base64.")
        elif where == "url" and (id := id_of(value)) is not None:
            ids[id] = None
        elif where == "url":
            _check_elsewhere(value)
    return list(ids)


def _check_elsewhere(url: str) -> None:
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        host = None
        parts = urlsplit("")
    if parts.scheme in ("http", "https") and host:
        return
    raise UnknownFile(
        f"{url[:80]!r} names no file: use the `url` that POST /v1/files answered, or an http(s) address of another site."
    )


def completed(
    content: str | Sequence[Mapping[str, Any]], known: Mapping[str, StoredFile]
) -> str | list[dict[str, Any]]:
    """The content as the log gets it: legacy parts upgraded, and of each named file the type, name and size that this server
    knows, in place of whatever the sender said. `known` has every id that `checked` gave."""
    if isinstance(content, str):
        return content
    return [_completed(modern(part), known) for part in content]


def _completed(part: dict[str, Any], known: Mapping[str, StoredFile]) -> dict[str, Any]:
    found = attachment(part)
    if found is None or found.file is None:
        return part
    file = known[found.file]
    return part | {
        "source": {"type": "url", "value": file.url, "mimeType": file.mime_type},
        "metadata": {**_object(part.get("metadata")), "name": file.name, "size": file.size},
    }


def _object(value: object) -> Mapping[str, Any]:
    return cast(Mapping[str, Any], value) if isinstance(value, Mapping) else {}


# --- names and types ----------------------------------------------------------------------------------------------


def clean_name(name: str) -> str:
    """A name that can be shown and saved anywhere: no directory, no control or direction-changing character, at most
    `NAME_BYTES` long (the suffix is kept). Never empty."""
    name = unicodedata.normalize("NFC", name.encode("utf-8", "replace").decode("utf-8"))
    name = re.split(r"[/\\]", name)[-1]
    # Cc control, Cf format (bidirectional overrides hide a suffix), Cs surrogate, Zl and Zp line breaks
    name = "".join("" if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") else c for c in name)
    name = re.sub(r'[<>:"|?*]', "_", " ".join(name.split())).strip(". ")
    stem, dot, suffix = name.rpartition(".")
    tail = f".{suffix}" if dot and stem and len(suffix.encode()) <= 16 else ""
    head = name[: len(name) - len(tail)] if tail else name
    room = NAME_BYTES - len(tail.encode())
    head = head.encode()[:room].decode("utf-8", "ignore").rstrip(". ")
    return (head + tail) or "file"


def type_of(declared: str, name: str, head: bytes) -> str:
    """A file's media type without parameters, lower case: what was declared; where that says nothing, by its name, then by
    whether it looks like text. `head`: its first `HEAD_BYTES`.

    Raises:
        InvalidRequest: what was declared is no media type.
    """
    given = declared.partition(";")[0].strip().lower()
    if given and not _TYPE.match(given):
        raise InvalidRequest(f"{given[:80]!r} is no media type; send for example `Content-Type: image/png`.")
    if given and given != "application/octet-stream":
        return "image/jpeg" if given in ("image/jpg", "image/pjpeg") else given
    suffix = "." + name.rpartition(".")[2].lower() if "." in name else ""
    guessed = _OWN_TYPES.get(suffix) or _TYPES.guess_type("x" + suffix)[0]
    if guessed:
        return guessed
    for known in _MAGIC:
        if is_of_type(known, head):
            return known
    return "text/plain" if _looks_like_text(head) else "application/octet-stream"


def is_of_type(mime_type: str, head: bytes) -> bool:
    """Whether a file that begins with `head` can be what it says; types whose beginning is not known are believed."""
    magic = _MAGIC.get(mime_type)
    if magic is None:
        return True
    if mime_type == "application/pdf":
        return magic[0] in head[:1024]  # readers take one that comes a little later
    if mime_type == "image/webp":
        return head[:4] == magic[0] and head[8:12] == b"WEBP"
    return head.startswith(magic)


def is_allowed(mime_type: str, allowed: Iterable[str]) -> bool:
    """Whether a type is in a list of types: `image/*` stands for all images, `*/*` for everything, and an asterisk at the
    end of any for whatever follows."""
    return any(
        pattern in ("*/*", mime_type) or (pattern.endswith("*") and mime_type.startswith(pattern[:-1]))
        for pattern in allowed
    )


def _looks_like_text(head: bytes) -> bool:
    if b"\0" in head:
        return False
    try:
        head.decode()
    except UnicodeDecodeError as error:
        return error.start >= HEAD_BYTES - 3 and len(head) >= HEAD_BYTES  # cut in the middle of a character
    return True
