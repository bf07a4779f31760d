"""Conversations as files that can be kept and read without Runcast: one, or everything of one user.

A conversation is written twice: as JSON, whole (its row, its runs, every event of its log), and as Markdown, as it was
read. Everything of a user is these, the inbox, the files and a list of what is there, in one ZIP (PKWARE APPNOTE 6.3, section 4.3.9:
sizes follow the data, so that it can be sent while it is made).
"""

from __future__ import annotations

import importlib.metadata
import io
import re
import zipfile
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, NamedTuple

import msgspec

from runcast import markdown
from runcast.errors import NotFound, StoreError, Trimmed
from runcast.files import StoredFile
from runcast.paths import along, path_of
from runcast.runs import Principal, Thread
from runcast.stores.base import Store
from runcast.transcript import Transcript, dump, fold

EXPORT_VERSION = 1
HEAD = "head"
"""In place of a run: the newest."""
CHUNK_BYTES = 256 * 1024


class Entry(NamedTuple):
    """One file of an export; its chunks must be read before the next entry is asked for."""

    name: str
    chunks: AsyncIterator[bytes]


class Conversation:
    """One thread on its way out. With `run` what is read of it is one path only: the one over that run, or `HEAD`."""

    def __init__(self, store: Store, thread: Thread, *, run: str | None = None) -> None:
        self._store = store
        self._thread = thread
        self._run = run
        self._transcript: Transcript | None = None

    async def json(self) -> AsyncGenerator[bytes]:
        """All of it, every event byte for byte as in the log."""
        head: dict[str, Any] = {
            "format": "runcast-thread",
            "version": EXPORT_VERSION,
            "runcast": version(),
            "thread": self._thread,
            "runs": await self._store.runs(thread=self._thread.id),
        }
        yield msgspec.json.encode(head)[:-1] + b',"events":['
        self._transcript = Transcript()
        comma = b""
        async for events in _events(self._store, self._thread, self._transcript):
            yield comma + b",".join(events)
            comma = b","
        yield b'],"transcript":%b}\n' % dump(self._seen(self._transcript))

    async def markdown(self) -> bytes:
        """What a person saw."""
        if self._transcript is None:
            self._transcript = Transcript()
            async for _ in _events(self._store, self._thread, self._transcript):
                pass
        return markdown.render(self._thread, self._seen(self._transcript)).encode()

    def _seen(self, transcript: Transcript) -> Transcript:
        """
        Raises:
            NotFound: the thread has no such run.
        """
        if self._run is None:
            return transcript
        path = path_of(transcript, None if self._run == HEAD else self._run)
        if not path and self._run != HEAD:
            raise NotFound(f"There is no run {self._run!r} in this conversation.")
        return along(transcript, path)


async def everything(store: Store, owner: Principal, *, now: int) -> AsyncGenerator[Entry]:
    """All that is kept of the owner, as files. What is said meanwhile may or may not be in it."""
    done: set[str] = set()
    while new := [thread for thread in await _threads(store, owner) if thread.id not in done]:
        for thread in new:  # a thread may change its place in the list meanwhile: look until nothing is new
            done.add(thread.id)
            conversation = Conversation(store, thread)
            yield Entry(f"threads/{thread.id}.json", conversation.json())
            yield Entry(f"threads/{thread.id}.md", _whole(conversation.markdown))
    try:
        inbox = await store.inbox(owner, now=now)
    except NotFound:
        pass  # none yet, in a store that is only read
    else:
        yield Entry("inbox.json", Conversation(store, inbox).json())
    for file in await _files(store, owner):
        yield Entry(f"files/{_safe(file.id)}-{_safe(file.name)}", _content(store, file))
    manifest: dict[str, Any] = {
        "format": "runcast-user",
        "version": EXPORT_VERSION,
        "runcast": version(),
        "tenant": owner.tenant,
        "user": owner.user,
        "madeAt": now,
        "threads": sorted(done),
    }

    async def listed() -> bytes:
        return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"

    yield Entry("manifest.json", _whole(listed))


async def zipped(entries: AsyncIterator[Entry]) -> AsyncGenerator[bytes]:
    """The entries as one ZIP, in pieces as they are made."""
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        async for entry in entries:
            info = zipfile.ZipInfo(entry.name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o600 << 16
            with archive.open(info, "w", force_zip64=True) as file:
                async for chunk in entry.chunks:
                    file.write(chunk)
                    if len(sink) > 0:
                        yield sink.take()
    yield sink.take()


def version() -> str:
    try:
        return importlib.metadata.version("runcast")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"  # run from its sources, without being installed


class _Sink(io.RawIOBase):
    """What was written and not taken yet; it cannot be sought in."""

    def __init__(self) -> None:
        self._data = bytearray()

    def __len__(self) -> int:
        return len(self._data)

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._data += data
        return len(data)

    def take(self) -> bytes:
        data = bytes(self._data)
        self._data.clear()
        return data


async def _events(store: Store, thread: Thread, transcript: Transcript) -> AsyncGenerator[list[bytes]]:
    """The log's events as JSON, in pieces, folded into `transcript` on the way."""
    after = thread.first_seq - 1
    while True:
        try:
            records = await store.read(thread.id, after)
        except Trimmed:  # an inbox, cut meanwhile
            row = await store.inbox(Principal(user=thread.user, tenant=thread.tenant), now=thread.created_at)
            after = max(after, row.first_seq - 1)
            continue
        if not records:
            return
        fold(transcript, (record.event for record in records))
        yield [record.data for record in records]
        after = records[-1].seq


async def _threads(store: Store, owner: Principal) -> list[Thread]:
    found: list[Thread] = []
    cursor: str | None = None
    while True:
        page = await store.list_threads(owner, cursor=cursor, limit=100)
        found += page.threads
        cursor = page.cursor
        if cursor is None:
            return found


async def _files(store: Store, owner: Principal) -> list[StoredFile]:
    try:
        files = store.files
    except StoreError:
        return []  # a store that keeps none
    return await files.of_owner(owner)


async def _content(store: Store, file: StoredFile) -> AsyncGenerator[bytes]:
    try:
        async with store.files.open(file) as content:
            offset = 0
            while data := await content.read(offset, CHUNK_BYTES):
                yield data
                offset += len(data)
    except NotFound:
        return  # deleted a moment ago


def _safe(name: str) -> str:
    """A name that is one name in every file system and in a ZIP."""
    return re.sub(r"[^\w.@ -]", "_", name).lstrip(".")


async def _whole(make: Any) -> AsyncGenerator[bytes]:
    yield await make()
