"""What one reader sleeps on. asyncio's own keep a queue of sleepers, which takes 0.7 KiB each; every connection has some."""

from __future__ import annotations

import asyncio
from typing import Generic, TypeVar

T = TypeVar("T")


class WakeUp:
    """As `asyncio.Event`, for one sleeper at a time."""

    __slots__ = ("_is_set", "_sleeper")

    def __init__(self) -> None:
        self._is_set = False
        self._sleeper: asyncio.Future[None] | None = None

    def is_set(self) -> bool:
        return self._is_set

    def clear(self) -> None:
        self._is_set = False

    def set(self) -> None:
        self._is_set = True
        if self._sleeper is not None and not self._sleeper.done():
            self._sleeper.set_result(None)

    async def wait(self) -> None:
        if not self._is_set:
            self._sleeper = asyncio.get_running_loop().create_future()
            try:
                await self._sleeper
            finally:
                self._sleeper = None


class Inbox(Generic[T]):
    """As `asyncio.Queue`, for one reader; who fills it keeps it short."""

    __slots__ = ("_items", "_more")

    def __init__(self) -> None:
        self._items: list[T] = []
        self._more = WakeUp()

    def empty(self) -> bool:
        return not self._items

    def put_nowait(self, item: T) -> None:
        self._items.append(item)
        self._more.set()

    async def get(self) -> T:
        while not self._items:
            self._more.clear()
            await self._more.wait()
        return self._items.pop(0)
