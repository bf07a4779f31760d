"""Files of people: taken in, given out, named by messages, and collected when nobody names them.

Every method takes the principal first; another's file is answered exactly like one that does not exist.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import AsyncIterable
from contextlib import AbstractAsyncContextManager

import anyio
import msgspec

from runcast import files
from runcast.errors import (
    EmptyFile,
    FileTypeMismatch,
    IdempotencyConflict,
    InvalidRequest,
    NotFound,
    RuncastError,
    SequenceConflict,
    TooLarge,
    TooManyFiles,
    UnknownFile,
    UnsupportedType,
)
from runcast.files import HEAD_BYTES, StoredFile
from runcast.ids import CLIENT_ID, Clock, IdSource
from runcast.runs import Message, Principal
from runcast.stores.base import Receipt, Store
from runcast.stores.files import Content, Staging

logger = logging.getLogger("runcast.files")

KEPT_UNBOUND_MS = 24 * 60 * 60 * 1000
"""How long a file waits for a message that names it."""
SWEEP_S = 60 * 60
PENDING_FILES = 20
"""How many of the largest files one user may have uploaded without sending them, and may be uploading."""
UPLOADS_AT_ONCE = 64
"""How many files one user may be uploading."""


class FileLimits(msgspec.Struct, frozen=True, kw_only=True):
    max_bytes: int = 25 * 1024 * 1024
    types: tuple[str, ...] = ("*/*",)
    """Media types; `image/*` stands for all images."""


class Uploaded(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """The answer to an upload. `url` is what a message names the file by: a path below the server's address."""

    id: str
    name: str
    mime_type: str
    size: int
    sha256: str
    url: str
    replayed: bool = False


class Uploads:
    def __init__(self, store: Store, *, clock: Clock, new_id: IdSource, limits: FileLimits) -> None:
        self.limits = limits
        self._store = store
        self._clock = clock
        self._new_id = new_id
        self._under_way: dict[Principal, list[Staging]] = {}

    async def upload(
        self,
        principal: Principal,
        chunks: AsyncIterable[bytes],
        *,
        name: str,
        mime_type: str = "",
        key: str | None = None,
    ) -> Uploaded:
        """Take a file in, piece by piece. With a `key` a retry (the same bytes again) gives the same file.

        Raises:
            InvalidRequest, EmptyFile, FileTypeMismatch, UnsupportedType, TooLarge, TooManyFiles, IdempotencyConflict,
            StorageFull, StoreError. Whatever `chunks` raises; nothing is kept then.
        """
        if key is not None and CLIENT_ID.match(key) is None:
            raise InvalidRequest("A command's id must be 1-128 of the characters A-Z a-z 0-9 . _ : @ -.")
        name = files.clean_name(name)
        if len(self._under_way.get(principal, ())) >= UPLOADS_AT_ONCE:
            raise TooManyFiles(f"You are uploading {UPLOADS_AT_ONCE} files already; wait until one is through.")
        staging = await self._store.files.stage()
        self._under_way.setdefault(principal, []).append(staging)
        try:
            mime_type = await self._take(principal, staging, chunks, name, mime_type)
            digest = await staging.finish()
            now = self._clock.now_ms()
            id = self._new_id()
            file = StoredFile(
                id=id,
                tenant=principal.tenant,
                user=principal.user,
                name=name,
                mime_type=mime_type,
                size=staging.size,
                sha256=digest,
                created_at=now,
            )
            return await self._keep(principal, staging, file, key)
        finally:
            self._let_go(principal, staging)
            await staging.discard()

    def _let_go(self, principal: Principal, staging: Staging) -> None:
        under_way = self._under_way[principal]
        under_way.remove(staging)
        if not under_way:
            del self._under_way[principal]

    async def _take(
        self, principal: Principal, staging: Staging, chunks: AsyncIterable[bytes], name: str, declared: str
    ) -> str:
        """Stage the bytes; the file's type. Judged as soon as its beginning is there."""
        head = b""
        mime_type = None
        async for chunk in chunks:
            if staging.size + len(chunk) > self.limits.max_bytes:
                raise TooLarge(f"The file is larger than {self.limits.max_bytes} bytes, the most that is taken.")
            if mime_type is None:
                head += chunk[: HEAD_BYTES - len(head)]
                if len(head) >= HEAD_BYTES:
                    mime_type = self._judge(declared, name, head)
            # Half a file is on the disk too: many that never end must not be worth more than those that are whole.
            if sum(one.size for one in self._under_way[principal]) + len(chunk) > PENDING_FILES * self.limits.max_bytes:
                raise TooManyFiles(
                    "You are uploading more at once than may wait to be sent; try again when less is under way."
                )
            await staging.write(chunk)
        if staging.size == 0:
            raise EmptyFile(f"The file {name!r} is empty.")
        return mime_type or self._judge(declared, name, head)

    def _judge(self, declared: str, name: str, head: bytes) -> str:
        mime_type = files.type_of(declared, name, head)
        if not files.is_allowed(mime_type, self.limits.types):
            raise UnsupportedType(
                f"Files of the type {mime_type} are not taken; this server takes {', '.join(self.limits.types)}."
            )
        if not files.is_of_type(mime_type, head):
            raise FileTypeMismatch(f"The file {name!r} says it is {mime_type}, but its content is something else.")
        return mime_type

    async def _keep(self, principal: Principal, staging: Staging, file: StoredFile, key: str | None) -> Uploaded:
        answer = Uploaded(
            id=file.id, name=file.name, mime_type=file.mime_type, size=file.size, sha256=file.sha256, url=file.url
        )
        receipt = None
        if key is not None:
            body = {"op": "upload", "name": file.name, "mimeType": file.mime_type, "sha256": file.sha256}
            canonical = msgspec.json.encode(body, order="deterministic")
            receipt = Receipt(key, hashlib.sha256(canonical).hexdigest(), msgspec.json.encode(answer))
            if (known := await self._replayed(principal, receipt)) is not None:
                return known
        pending = PENDING_FILES * self.limits.max_bytes
        try:
            with anyio.CancelScope(shield=True):  # a write that was begun is waited for: its staging must not go
                await self._store.files.put(
                    principal, staging, file, now=file.created_at, receipt=receipt, pending_bytes=pending
                )
        except SequenceConflict:
            if receipt is None or (known := await self._replayed(principal, receipt)) is None:
                raise
            return known
        return answer

    async def _replayed(self, principal: Principal, receipt: Receipt) -> Uploaded | None:
        known = await self._store.receipt(principal, receipt.key)
        if known is None:
            return None
        if known.body_hash != receipt.body_hash:
            raise IdempotencyConflict(f"The id {receipt.key!r} was used for another command; make a new one.")
        return msgspec.structs.replace(msgspec.json.decode(known.result, type=Uploaded), replayed=True)

    async def get(self, principal: Principal, id: str) -> StoredFile:
        """
        Raises:
            NotFound: no such file, or not theirs.
        """
        found = await self._mine(principal, [id])
        if not found:
            raise NotFound("There is no such file.")
        return found[0]

    def content(self, file: StoredFile) -> AbstractAsyncContextManager[Content]:
        """Its bytes.

        Raises:
            NotFound: it was deleted a moment ago. StoreError.
        """
        return self._store.files.open(file)

    async def completed(self, principal: Principal, message: Message) -> Message:
        """The message as the log gets it: see `runcast.files.completed`.

        Raises:
            InvalidRequest, TooLarge. UnknownFile: it names a file that is not there, or not the sender's.
        """
        ids = files.checked(message.content)
        found = {file.id: file for file in await self._mine(principal, ids)}
        for id in ids:
            if id not in found:
                raise UnknownFile(f"The message names a file that is not there: {files.url_of(id)}. Upload it again.")
        return msgspec.structs.replace(message, content=files.completed(message.content, found))

    async def sweep(self) -> None:
        """At once and every hour: remove what was uploaded and never sent, and what a crash left behind."""
        orphans = True
        while True:
            try:
                before = self._clock.now_ms() - KEPT_UNBOUND_MS
                count = await self._store.files.collect(unbound_before=before, orphans=orphans)
                orphans = False
                if count:
                    logger.info("%d files that no message named were removed", count)
            except RuncastError as error:  # the next round tries again
                logger.warning("files could not be swept", exc_info=error, extra={"action": "sweep_failed"})
            await anyio.sleep(SWEEP_S)

    async def _mine(self, principal: Principal, ids: list[str]) -> list[StoredFile]:
        if not ids:
            return []
        owner = (principal.tenant, principal.user)
        return [file for file in await self._store.files.get(ids) if (file.tenant, file.user) == owner]
