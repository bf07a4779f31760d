"""Ids and time, injected wherever behaviour depends on them, so that a simulation can own both.

Ids are UUIDv7 (RFC 9562, section 5.7): 48 bits of Unix milliseconds, then random bits; text order is time order to
the millisecond.
"""

from __future__ import annotations

import os
import re
import time
from typing import Protocol

CLIENT_ID = re.compile(r"[A-Za-z0-9._:@-]{1,128}\Z")
"""What a client may choose as an id of a message, a command or a thread: 1-128 of these characters."""


EXTERNAL_ID = re.compile(r"[^/\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,128}\Z")
"""What another protocol's client may call a thread or a run: 1-128 characters of any text, without `/` and control characters."""


class Clock(Protocol):
    """Time as the core sees it."""

    def now_ms(self) -> int:
        """Unix milliseconds: for timestamps and leases, never for order."""
        ...

    def monotonic(self) -> float:
        """Seconds that never jump: for durations and deadlines."""
        ...


class SystemClock:
    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()


class IdSource(Protocol):
    def __call__(self) -> str:
        """A new id, unique for ever."""
        ...


class Uuid7Source:
    """New UUIDv7s from a clock and a source of random bytes."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def __call__(self) -> str:
        value = (self._clock.now_ms() & ((1 << 48) - 1)) << 80 | int.from_bytes(os.urandom(10), "big")
        value = (value & ~(0xF << 76)) | (0x7 << 76)  # version 7
        value = (value & ~(0x3 << 62)) | (0x2 << 62)  # variant 10
        text = f"{value:032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def new_epoch() -> str:
    """Identity of a log: 16 characters of RFC 4648 base32, lower case, 80 random bits."""
    alphabet = "abcdefghijklmnopqrstuvwxyz234567"
    number = int.from_bytes(os.urandom(10), "big")
    return "".join(alphabet[(number >> (5 * i)) & 31] for i in range(16))
