"""The broker of a single node: nobody else is there to be told."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio

from runcast.brokers.base import Broker, Notice


class MemoryBroker(Broker):
    def __init__(self) -> None:
        self._closed = anyio.Event()

    async def publish(self, notice: Notice) -> None:
        del notice

    async def subscribe(self, topic: str) -> None:
        del topic

    async def unsubscribe(self, topic: str) -> None:
        del topic

    async def messages(self) -> AsyncIterator[Notice]:
        await self._closed.wait()
        return
        yield  # an empty async iterator

    async def close(self) -> None:
        self._closed.set()
