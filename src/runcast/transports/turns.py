"""Whose turn it is on a socket that answers one message after the other, and which runs have ended.

A message that comes while the one before is being answered waits; so does one that cannot be read, because its error would
be taken for the end of the answer under way.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import anyio

from runcast.dialects.base import Ask, BadFrame
from runcast.transports.deliveries import Lost

Turn = Ask | BadFrame | Lost

MAX_WAITING: Final = 16
"""Messages of one socket that wait for the answer to the one before."""
ENDED_RUNS: Final = 64
"""So many of the runs that ended last are remembered, for messages whose run is over before they learn its name."""


class Turns:
    """What waits, in the order of its coming; one task takes from it."""

    def __init__(self) -> None:
        self._waiting: deque[Turn] = deque()
        self._added = anyio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, turn: Ask | BadFrame) -> bool:
        """False if as many wait as may."""
        if len(self._waiting) >= MAX_WAITING:
            return False
        self._waiting.append(turn)
        self._added.set()
        return True

    def put_first(self, lost: Lost) -> None:
        """What another socket was lost with goes on before all else."""
        self._waiting.appendleft(lost)
        self._added.set()

    async def take(self) -> Turn:
        """The next one, once there is one."""
        while not self._waiting:
            self._added = anyio.Event()
            await self._added.wait()
        return self._waiting.popleft()

    def rest(self) -> list[Ask]:
        """The messages that nobody will come back to hear the answer to; they no longer wait."""
        asks = [turn for turn in self._waiting if isinstance(turn, Ask)]
        self._waiting.clear()
        return asks


class EndedRuns:
    """The runs whose last frame was sent on this socket."""

    def __init__(self) -> None:
        self._runs: deque[str] = deque(maxlen=ENDED_RUNS)
        self._added = anyio.Event()

    def __contains__(self, run: str) -> bool:
        return run in self._runs

    def add(self, run: str) -> None:
        self._runs.append(run)
        self._added.set()
        self._added = anyio.Event()

    async def until(self, run: str) -> None:
        while run not in self._runs:
            await self._added.wait()
