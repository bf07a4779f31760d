"""The store in memory keeps what every store promises."""

from __future__ import annotations

from pathlib import Path

from runcast.stores.base import Store
from runcast.testing import MemoryStore, StoreSuite


class TestMemoryStore(StoreSuite):
    async def open_store(self, tmp_path: Path) -> Store:
        return MemoryStore()
