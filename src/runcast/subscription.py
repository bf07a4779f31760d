"""A cursor over one thread, as an async iterator of updates. (Being written; the interface stands.)"""

from __future__ import annotations

from runcast.runs import Thread
from runcast.updates import Update


class Subscription:
    """`async for update in subscription`, or `await subscription.next(timeout_s)` (None when nothing came in time).

    `thread` is the row at the time of subscribing, `epoch` and `head` the log's then, `start` the seq after which the
    reader gets events (the `from` of the ack). `cursor` is the last seq given. `close()` wakes and ends the iteration.
    One reader at a time; it may take as long as it likes between two updates.
    """

    thread: Thread
    epoch: str
    head: int
    start: int
    cursor: int

    def __aiter__(self) -> Subscription: ...
    async def __anext__(self) -> Update: ...
    async def next(self, timeout_s: float | None = None) -> Update | None: ...
    def close(self) -> None: ...
