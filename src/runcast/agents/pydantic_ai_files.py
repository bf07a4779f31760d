"""Attachments for pydantic-ai: bytes for the model, references for what is saved.

The model gets the bytes of a file (`BinaryContent`), another site's address as it is (`ImageUrl` and its like: pydantic-ai or the
provider fetches it, under pydantic-ai's own rules against addresses inside), a provider's handle as an `UploadedFile`. In saved
messages a file of this server stands as a URL below `/v1/files/`: its bytes are in the store already, once.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast

from pydantic_ai import messages as pai
from pydantic_ai.messages import (
    AudioUrl,
    BinaryContent,
    DocumentUrl,
    FileUrl,
    ImageUrl,
    ModelMessage,
    ModelRequest,
    UserContent,
    UserPromptPart,
    VideoUrl,
)

from runcast.agents.context import RunContext
from runcast.errors import AgentError
from runcast.files import Attachment, MediaKind, attachment, id_of, url_of
from runcast.runs import Message, RunInput

_URLS: Mapping[str, Callable[..., UserContent]] = {
    "image": ImageUrl,
    "audio": AudioUrl,
    "video": VideoUrl,
    "document": DocumentUrl,
}


class Sent(NamedTuple):
    """A file of this server whose bytes a prompt holds."""

    kind: MediaKind
    file: str


class Prompt(NamedTuple):
    content: str | list[UserContent] | None
    sent: dict[str, Sent]
    """By the SHA-256 of their bytes."""


async def prompt_of(input: RunInput, context: RunContext) -> Prompt:
    """What the person said, for the model: text alone as text, else text and files in their order."""
    if not input.attachments:
        return Prompt(input.text or None, {})
    content: list[UserContent] = []
    sent: dict[str, Sent] = {}
    for message in input.messages:
        content += await said_in(message, context, sent)
    return Prompt(content or None, sent)


async def said_in(message: Message, context: RunContext, sent: dict[str, Sent]) -> list[UserContent]:
    """One message, text and files in their order; what it sends is noted in `sent`."""
    parts = [{"type": "text", "text": message.content}] if isinstance(message.content, str) else message.content
    return [piece for part in parts for piece in await content_of(part, context, sent)]


async def content_of(
    part: Mapping[str, Any], context: RunContext, sent: dict[str, Sent] | None = None
) -> list[UserContent]:
    """One content part (AG-UI 1.0) for the model; what it sends is noted in `sent`. A file that is gone is said to be gone:
    the rest still makes sense."""
    if part.get("type") == "text":
        text = part.get("text")
        return [text] if isinstance(text, str) and text else []
    named = attachment(part)
    if named is None:
        return []
    if named.url is not None:
        return [_url(named.kind, named.url, named.mime_type)]
    if named.handle is not None:
        return [_uploaded(named.handle, named.mime_type, part)]
    return [await _bytes(named, context, {} if sent is None else sent)]


async def _bytes(named: Attachment, context: RunContext, sent: dict[str, Sent]) -> UserContent:
    try:
        file = await context.file(named)
        data = await file.read()
    except AgentError:
        return f"[The attached file {named.name!r} is no longer there.]"
    if file.stored is not None:
        sent[file.stored.sha256] = Sent(named.kind, file.stored.id)
    return BinaryContent(data, media_type=file.mime_type or "application/octet-stream")


def _url(kind: str, url: str, mime_type: str) -> UserContent:
    make = _URLS[kind]
    return make(url, media_type=mime_type or None)


def _uploaded(handle: str, mime_type: str, part: Mapping[str, Any]) -> UserContent:
    source = part.get("source")
    provider = cast(Mapping[str, Any], source).get("provider") if isinstance(source, Mapping) else None
    make = cast("Callable[..., UserContent] | None", getattr(pai, "UploadedFile", None))
    if make is None or not isinstance(provider, str):
        return "[An attached file that only its provider can read.]"
    return make(handle, provider, media_type=mime_type or None)


# --- what is saved ------------------------------------------------------------------------------------------------


def referenced(messages: Sequence[ModelMessage], sent: Mapping[str, Sent]) -> list[ModelMessage]:
    """The messages with a reference in place of the bytes of each file that was sent."""

    def replaced(item: UserContent) -> UserContent:
        if not sent or not isinstance(item, BinaryContent):
            return item
        known = sent.get(hashlib.sha256(item.data).hexdigest())
        return item if known is None else _url(known.kind, url_of(known.file), item.media_type)

    return [_with_content(message, replaced) for message in messages]


async def rehydrated(messages: Sequence[ModelMessage], context: RunContext) -> list[ModelMessage]:
    """The messages with the bytes of each file of this server that they refer to."""
    known: dict[str, UserContent] = {}
    for message in messages:
        for item in _items(message):
            if isinstance(item, FileUrl) and item.url not in known and (id := id_of(item.url)) is not None:
                known[item.url] = await _bytes(Attachment(kind="document", file=id), context, {})

    def replaced(item: UserContent) -> UserContent:
        return known.get(item.url, item) if isinstance(item, FileUrl) else item

    return [_with_content(message, replaced) for message in messages] if known else list(messages)


def _items(message: ModelMessage) -> list[UserContent]:
    if not isinstance(message, ModelRequest):
        return []
    return [
        item
        for part in message.parts
        if isinstance(part, UserPromptPart) and not isinstance(part.content, str)
        for item in part.content
    ]


def _with_content(message: ModelMessage, replaced: Callable[[UserContent], UserContent]) -> ModelMessage:
    if not isinstance(message, ModelRequest) or not _items(message):
        return message
    parts = [
        dataclasses.replace(part, content=[replaced(item) for item in part.content])
        if isinstance(part, UserPromptPart) and not isinstance(part.content, str)
        else part
        for part in message.parts
    ]
    return dataclasses.replace(message, parts=parts)
