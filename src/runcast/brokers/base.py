"""The Broker seam: tells other nodes that something was appended or asked for.

At most once, unordered, possibly doubled: callers must not rely on delivery. What a lost message costs is one poll
interval, never an event, because the store is the truth.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from typing import NamedTuple


class Notice(NamedTuple):
    """`topic` is `thread:<id>` (its log grew) or `control:<id>` (a command row waits for its owner)."""

    topic: str
    payload: bytes


class Broker(ABC):
    @abstractmethod
    async def publish(self, notice: Notice) -> None:
        """Tell every node that subscribes to the topic, this one excepted. Never waits for a slow one."""

    @abstractmethod
    async def subscribe(self, topic: str) -> None: ...

    @abstractmethod
    async def unsubscribe(self, topic: str) -> None: ...

    @abstractmethod
    def messages(self) -> AsyncIterator[Notice]:
        """What other nodes published on the subscribed topics."""

    @abstractmethod
    async def close(self) -> None: ...
