"""How messages name files, and what names and types are taken for."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from runcast.errors import InvalidRequest, TooLarge, UnknownFile
from runcast.files import (
    INLINE_BYTES,
    NAME_BYTES,
    Attachment,
    StoredFile,
    attachments,
    checked,
    clean_name,
    completed,
    is_allowed,
    is_of_type,
    type_of,
)

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 20


def image(value: str, where: str = "url", **more: Any) -> dict[str, Any]:
    return {"type": "image", "source": {"type": where, "value": value, **more}}


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("a.png", "a.png"),
        ("../../etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("/", "file"),
        ("..", "file"),
        ("", "file"),
        ("a\0b\r\nc.txt", "abc.txt"),
        ("evil\u202egpj.exe", "evilgpj.exe"),
        ('<img src="x">.png', "_img src=_x__.png"),
        ("  .hidden. ", "hidden"),
        ("e\u0301.txt", "é.txt"),
        ("a\ud800.txt", "a_.txt"),
        ("con:stream", "con_stream"),
    ],
)
def test_a_name_is_one_that_can_be_shown_and_saved(given: str, name: str) -> None:
    assert clean_name(given) == name


def test_a_long_name_keeps_its_suffix() -> None:
    name = clean_name("ü" * 500 + ".tar")
    assert name.endswith("ü.tar") and len(name.encode()) <= NAME_BYTES
    assert len(clean_name("x." + "y" * 500).encode()) <= NAME_BYTES


@pytest.mark.parametrize(
    ("declared", "name", "head", "expected"),
    [
        ("image/png", "a", b"", "image/png"),
        ("Image/PNG; x=y", "a", b"", "image/png"),
        ("image/jpg", "a", b"", "image/jpeg"),
        ("", "a.md", b"# hi", "text/markdown"),
        ("application/octet-stream", "a.pdf", b"%PDF-", "application/pdf"),
        ("", "a", PNG, "image/png"),
        ("", "Makefile", b"all:\n\techo", "text/plain"),
        ("", "a", b"\0\1\2", "application/octet-stream"),
        ("", "a", b"x" * 4095 + "ü".encode()[:1], "text/plain"),
    ],
)
def test_a_type_is_the_declared_one_or_the_likely_one(declared: str, name: str, head: bytes, expected: str) -> None:
    assert type_of(declared, name, head) == expected


def test_what_is_no_type_is_refused() -> None:
    for wrong in ("png", "image/", "a/b/c", "image/<script>", "x" * 200 + "/y"):
        with pytest.raises(InvalidRequest):
            type_of(wrong, "a", b"")


def test_what_is_known_to_begin_otherwise_is_not_what_it_says() -> None:
    assert is_of_type("image/png", PNG) and not is_of_type("image/png", b"<svg onload=alert(1)>")
    assert is_of_type("image/webp", b"RIFF\0\0\0\0WEBPVP8 ") and not is_of_type("image/webp", b"RIFF\0\0\0\0WAVE")
    assert is_of_type("application/pdf", b"\n%PDF-1.7") and not is_of_type("application/pdf", b"<html>")
    assert is_of_type("audio/x-unheard-of", b"anything")


def test_types_are_allowed_by_pattern() -> None:
    allowed = ("image/*", "application/pdf", "application/vnd.*")
    assert is_allowed("image/png", allowed) and is_allowed("application/vnd.ms-excel", allowed)
    assert not is_allowed("text/html", allowed) and not is_allowed("application/pdfx", allowed)
    assert is_allowed("text/html", ("*/*",))


def test_all_kinds_of_sources_are_read() -> None:
    content = [
        {"type": "text", "text": "look"},
        image("/v1/files/f1", mimeType="image/png"),
        {"type": "document", "source": {"type": "data", "value": base64.b64encode(b"hi").decode(), "mimeType": "a/b"}},
        {"type": "audio", "source": {"type": "url", "value": "https://elsewhere.example/a.mp3"}},
        {"type": "video", "source": {"type": "file", "value": "file-123", "provider": "openai"}},
        {"type": "binary", "mimeType": "application/pdf", "id": "f2", "filename": "b.pdf"},
        {"type": "from the future", "source": 7},
        {"type": "image", "source": "nonsense"},
    ]
    assert attachments(content) == [
        Attachment(kind="image", mime_type="image/png", file="f1"),
        Attachment(kind="document", mime_type="a/b", size=2, data=b"hi"),
        Attachment(kind="audio", url="https://elsewhere.example/a.mp3"),
        Attachment(kind="video", handle="file-123"),
        Attachment(kind="document", mime_type="application/pdf", name="b.pdf", file="f2"),
    ]
    assert attachments("text") == []
    assert checked(content[:-1]) == ["f1", "f2"]


@pytest.mark.parametrize(
    ("part", "error"),
    [
        ({"type": "image"}, InvalidRequest),
        ({"type": "image", "source": {"type": "url"}}, InvalidRequest),
        (image("x", "elsewhere"), InvalidRequest),
        (image("not base64!", "data"), InvalidRequest),
        (image("A" * (INLINE_BYTES + 4), "data"), TooLarge),
        (image("file:///etc/passwd"), UnknownFile),
        (image("gopher://x"), UnknownFile),
        (image("javascript:alert(1)"), UnknownFile),
        (image("/etc/passwd"), UnknownFile),
        (image("/v1/files/../threads/t"), UnknownFile),
        (image("http://[half"), UnknownFile),
        (image("//elsewhere.example/x"), UnknownFile),
    ],
)
def test_sources_that_cannot_be_used_are_refused(part: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        checked([part])


def test_the_log_gets_what_the_server_knows_of_a_file() -> None:
    file = StoredFile(
        id="f1", user="me", name="real.png", mime_type="image/png", size=28, sha256="0" * 64, created_at=1
    )
    part = image("v1/files/f1", mimeType="text/html") | {"metadata": {"name": "<b>", "alt": "a cat"}}
    assert completed([{"type": "text", "text": "x"}, part], {"f1": file}) == [
        {"type": "text", "text": "x"},
        {
            "type": "image",
            "source": {"type": "url", "value": "/v1/files/f1", "mimeType": "image/png"},
            "metadata": {"name": "real.png", "alt": "a cat", "size": 28},
        },
    ]
