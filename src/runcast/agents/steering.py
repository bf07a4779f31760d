"""Messages handed to a run that goes on, and not read by its agent yet."""

from __future__ import annotations

import anyio

from runcast.runs import Message


class Steering:
    """One per run. What is `unread` when the run ends becomes a queued message: nothing handed over is lost."""

    def __init__(self) -> None:
        self._unread: dict[str, Message] = {}
        self._news = anyio.Event()

    @property
    def unread(self) -> tuple[Message, ...]:
        """In the order handed over."""
        return tuple(self._unread.values())

    def hand(self, message: Message) -> None:
        self._unread[message.id] = message
        self._news.set()

    def take(self, message: Message) -> bool:
        """The agent reads it now; false if it has before."""
        return self._unread.pop(message.id, None) is not None

    async def wait(self) -> None:
        """Until there is something unread."""
        while not self._unread:
            self._news = anyio.Event()
            await self._news.wait()
