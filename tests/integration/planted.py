"""Defects to plant in the server under test, one for each promise: the test of the promise must notice them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from runcast import updates
from runcast.hub import Hub
from runcast.running.lanes import Lanes
from runcast.server import Server
from runcast.service import Service
from runcast.transports import line

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


def _shifted(by: int) -> None:
    subscribe = Hub.subscribe

    def shifted(self: Any, thread: Any, *, after: int | None, **more: Any) -> Any:
        return subscribe(self, thread, after=after if not after else max(0, min(after + by, thread.head)), **more)

    Hub.subscribe = shifted  # type: ignore[method-assign]


@plant
def resumes_too_late(server: Server) -> None:
    """Who comes back is given what follows the event after the last one they had."""
    _shifted(1)


@plant
def resumes_too_early(server: Server) -> None:
    """Who comes back is given the last event again."""
    _shifted(-1)


@plant
def joins_too_much(server: Server) -> None:
    """Joined deltas are cut at the first kilobyte."""
    encode = updates.encode

    def cut(event: Any) -> bytes:
        return encode(msgspec.structs.replace(event, delta=event.delta[:40]) if hasattr(event, "delta") else event)

    updates.encode = cut  # type: ignore[assignment]


@plant
def buffers_without_end(server: Server) -> None:
    """Nobody waits for a reader: what it does not take piles up."""
    line.WRITE_BUFFER = 64 * 1024 * 1024
