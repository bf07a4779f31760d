"""How many messages one user may send in a minute, in whatever protocol and conversation.

In memory, exact and bounded: of each user who said something in the last minute the times of at most `limit` messages.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Final

from runcast.errors import RateLimited
from runcast.ids import Clock
from runcast.runs import Principal

WINDOW_S: Final = 60.0


class Allowance:
    """`limit`: so many messages in any `WINDOW_S`; 0: any number."""

    def __init__(self, limit: int, clock: Clock) -> None:
        self._limit = limit
        self._clock = clock
        self._sent: OrderedDict[Principal, deque[float]] = OrderedDict()
        """When each user's messages came, oldest first; who said something last is last."""

    def take(self, principal: Principal) -> None:
        """One more message.

        Raises:
            RateLimited: there were `limit` already; `retry_after_ms` says when there is room for one.
        """
        if not self._limit:
            return
        now = self._clock.monotonic()
        self._forget(now - WINDOW_S)
        sent = self._sent.setdefault(principal, deque())
        while sent and sent[0] <= now - WINDOW_S:
            sent.popleft()
        if len(sent) >= self._limit:
            wait_ms = max(1, round((sent[0] + WINDOW_S - now) * 1000))
            raise RateLimited(
                f"You have sent {self._limit} messages in a minute; wait a moment.", retry_after_ms=wait_ms
            )
        sent.append(now)
        self._sent.move_to_end(principal)

    def _forget(self, before: float) -> None:
        """Those who said nothing since then."""
        while self._sent:
            principal, sent = next(iter(self._sent.items()))
            if sent and sent[-1] > before:
                return
            del self._sent[principal]
