"""Defects to plant in the server under test, one for each promise: the test of the promise must notice them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from runcast.running.lanes import Lanes
from runcast.server import Server
from runcast.service import Service

PLANTS: dict[str, Callable[[Server], None]] = {}


def plant(function: Callable[[Server], None]) -> Callable[[Server], None]:
    PLANTS[function.__name__] = function
    return function


@plant
def gives_up_when_late(server: Server) -> None:
    """Overdue leases are taken for lost, although nobody else has the threads."""
    renew = Lanes.renew

    async def late(self: Any) -> None:
        if self._clock.monotonic() - self._renewed > self._ttl_s:
            for lane in self.all():
                self.lose(lane)
        await renew(self)

    Lanes.renew = late  # type: ignore[method-assign]


@plant
def forgets_commands(server: Server) -> None:
    """A command that is sent again is carried out again."""

    async def never(*_: object) -> None:
        return None

    Service._replayed = never  # type: ignore[method-assign]
