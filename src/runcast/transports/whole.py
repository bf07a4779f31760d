"""Tool results as they were, for readers that cannot fetch a blob: the log has only the beginning of a long one."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec import UNSET

from runcast import events as e
from runcast import files
from runcast.errors import RuncastError
from runcast.events import Blob, Record
from runcast.runs import Principal
from runcast.service import Service
from runcast.transcript import ToolPart, Transcript
from runcast.updates import Events, Update

logger = logging.getLogger("runcast.whole")

MAX_BYTES: Final = 4 * 1024 * 1024
"""A longer result stays a preview: no client of a message dialect expects a file."""
PIECE: Final = 1024 * 1024


def is_cut(update: Events) -> bool:
    """Whether a tool result in it is only a preview."""
    return any(_is_cut(record) for record in update.records)


async def whole(service: Service, principal: Principal, update: Update) -> Update:
    """`update` with the whole of each tool result in it, of at most `MAX_BYTES`. What cannot be read stays a preview."""
    if not isinstance(update, Events) or not is_cut(update):
        return update
    return Events(await whole_records(service, principal, update.records))


async def whole_records(service: Service, principal: Principal, records: Sequence[Record]) -> list[Record]:
    """The same with the whole of each tool result."""
    return [await _whole(service, principal, record) if _is_cut(record) else record for record in records]


async def whole_transcript(service: Service, principal: Principal, transcript: Transcript) -> None:
    """Put the whole of each tool result into `transcript`, newest first, up to `MAX_BYTES` of them. The others stay previews."""
    left = MAX_BYTES
    parts = [part for run in transcript.runs for message in run.messages for part in message.parts]
    for part in reversed(parts):
        if not isinstance(part, ToolPart):
            continue
        blobs = {blob.url: blob for blob in (part.blob, part.result_blob) if blob is not None}
        if not blobs or (size := sum(blob.size for blob in blobs.values())) > left:
            continue
        try:
            read = {url: (blob, await _read(service, principal, blob)) for url, blob in blobs.items()}
        except RuncastError as error:
            logger.warning("a tool's result could not be read back and stays a preview: %s", type(error).__name__)
            continue
        left -= size
        if part.blob is not None:
            blob, data = read[part.blob.url]
            is_both = part.result_blob is None and part.has_result and part.result == part.content
            part.content = data.decode() if is_both else _value(data, blob)
            if is_both:
                part.result = _value(data, blob)
        if part.result_blob is not None:
            blob, data = read[part.result_blob.url]
            part.result = _value(data, blob)


def _is_cut(record: Record) -> bool:
    event = record.event
    return isinstance(event, e.ToolCallResult) and (event.blob is not UNSET or event.result_blob is not UNSET)


async def _whole(service: Service, principal: Principal, record: Record) -> Record:
    event = record.event
    assert isinstance(event, e.ToolCallResult)
    changes: dict[str, Any] = {}
    try:
        if isinstance(event.blob, Blob) and event.blob.size <= MAX_BYTES:
            data = await _read(service, principal, event.blob)
            value = _value(data, event.blob)
            # Two equal previews: the model reads what the tool returned, as text, and the blob is of both.
            is_both = event.result_blob is UNSET and event.result == event.content
            changes |= {"content": data.decode(), "result": value} if is_both else {"content": value}
            changes["blob"] = UNSET
        if isinstance(event.result_blob, Blob) and event.result_blob.size <= MAX_BYTES:
            data = await _read(service, principal, event.result_blob)
            changes |= {"result": _value(data, event.result_blob), "result_blob": UNSET}
    except (RuncastError, ValueError) as error:
        logger.warning("a tool's result could not be read back and stays a preview: %s", type(error).__name__)
        return record
    if not changes:
        return record
    complete = msgspec.structs.replace(event, **changes)
    return Record(complete, e.encode(complete))


async def _read(service: Service, principal: Principal, blob: Blob) -> bytes:
    file = await service.uploads.get(principal, files.id_of(blob.url) or "")
    pieces: list[bytes] = []
    async with service.uploads.content(file) as content:
        for start in range(0, blob.size, PIECE):
            pieces.append(await content.read(start, min(PIECE, blob.size - start)))
    return b"".join(pieces)


def _value(data: bytes, blob: Blob) -> Any:
    return msgspec.json.decode(data) if blob.mime_type == "application/json" else data.decode()
