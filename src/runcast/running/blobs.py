"""Puts the whole of what is too big for the log into the store, before the event that says where it is.

A blob is a file of the thread's owner: read by the same route, held by the thread from the write on that names it. A crash
before that write leaves a file that nobody names; it is collected like any other.
"""

from __future__ import annotations

from collections.abc import Sequence

from runcast import files
from runcast.events import Blob, Event
from runcast.files import StoredFile
from runcast.ids import Clock, IdSource
from runcast.running.bulk import Bulk, Field, bulk_of, is_bulky, without
from runcast.runs import Principal
from runcast.stores.base import Store

PIECE = 1024 * 1024


class Blobs:
    def __init__(self, store: Store, *, clock: Clock, new_id: IdSource) -> None:
        self._store = store
        self._clock = clock
        self._new_id = new_id

    async def taken_out(self, owner: Principal, events: Sequence[Event]) -> tuple[list[Event], list[str]]:
        """The events as the log gets them, and the files that they name; these are durable when it returns. It waits only if one
        of the events is too big.

        Raises:
            StoreError: one could not be kept.
        """
        logged: list[Event] = []
        kept: list[str] = []
        for event in events:
            if not is_bulky(event):
                logged.append(event)
                continue
            blobs: dict[Field, Blob] = {}
            for bulk in bulk_of(event):
                file = await self._keep(owner, bulk)
                kept.append(file.id)
                blobs[bulk.field] = Blob(url=file.url, mime_type=file.mime_type, size=file.size, sha256=file.sha256)
            logged.append(without(event, blobs))
        return logged, kept

    async def _keep(self, owner: Principal, bulk: Bulk) -> StoredFile:
        staging = await self._store.files.stage()
        try:
            for start in range(0, len(bulk.data), PIECE):
                await staging.write(bulk.data[start : start + PIECE])
            digest = await staging.finish()
            now = self._clock.now_ms()
            file = StoredFile(
                id=self._new_id(),
                tenant=owner.tenant,
                user=owner.user,
                name=files.clean_name(bulk.name),
                mime_type=bulk.mime_type,
                size=staging.size,
                sha256=digest,
                created_at=now,
            )
            await self._store.files.put(owner, staging, file, now=now)
            return file
        finally:
            await staging.discard()
