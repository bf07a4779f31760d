"""The way out of one WebSocket: frames one after the other, and what to do about a peer that does not read.

All sends of a connection go through one fair lock, so that frames never interleave. A reader that is slow holds its own
senders back; one that takes nothing at all for `send_timeout_s` is stuck (`is_stuck`) and is let go.
"""

from __future__ import annotations

import anyio

from runcast.transports.gateway import Gateway
from runcast.transports.line import line_of
from runcast.transports.straight import straight_of
from runcast.transports.wire import Scope, Send


class Outlet:
    def __init__(self, gateway: Gateway, scope: Scope, send: Send) -> None:
        self._send = send
        self._clock = gateway.clock
        self._timeout_s = gateway.send_timeout_s
        self._straight = straight_of(scope)
        self._line = line_of(scope)
        self._lock = anyio.Lock(fast_acquire=True)
        self._waiting_since: float | None = None
        self._pending_then = 0
        """What the peer had not taken when it was last looked whether it takes anything."""
        self.last_sent = gateway.clock.monotonic()

    @property
    def is_busy(self) -> bool:
        return self._lock.locked()

    @property
    def is_full(self) -> bool:
        """Whether who sends should wait for `room` first."""
        return self._line is not None and self._line.is_full

    @property
    def has_room(self) -> bool:
        """Whether `write` may be called, in the same step: nothing is being sent, and the socket takes more at once."""
        return self._straight is not None and not self._lock.locked() and self._straight.has_room

    def write(self, frame: bytes) -> None:
        """Write a frame without waiting. Only after `has_room`; what the socket does not take at once is kept for it."""
        assert self._straight is not None
        self._straight.write_text(frame)
        self.last_sent = self._clock.monotonic()

    async def send(self, frame: bytes) -> None:
        """
        Raises:
            OSError: the peer is gone.
        """
        async with self._lock:
            self._begin()
            try:
                await self._send({"type": "websocket.send", "text": frame.decode()})
            finally:
                self._waiting_since = None
                self.last_sent = self._clock.monotonic()

    async def room(self) -> None:
        """Wait until the peer takes more."""
        if self._line is None:
            return
        async with self._lock:
            self._begin()
            try:
                await self._line.room()
            finally:
                self._waiting_since = None

    def _begin(self) -> None:
        self._waiting_since = self._clock.monotonic()
        if self._line is not None and self._line.is_full:
            self._pending_then = self._line.pending()

    def stuck_at(self) -> float:
        """When to look again whether the peer is stuck, in seconds of the clock's `monotonic`."""
        since = self._waiting_since
        return (self._clock.monotonic() if since is None else since) + self._timeout_s

    def is_stuck(self) -> bool:
        """Whether a frame waits for a peer that has taken nothing since it was last looked, at least `send_timeout_s` ago."""
        if self._waiting_since is None or self._clock.monotonic() < self._waiting_since + self._timeout_s:
            return False
        if self._line is not None:
            before, self._pending_then = self._pending_then, self._line.pending()
            if self._pending_then < before:
                self._waiting_since = self._clock.monotonic()
                return False
        return True

    def abort(self) -> None:
        """End the connection without sending what is left."""
        if self._line is not None:
            self._line.abort()
