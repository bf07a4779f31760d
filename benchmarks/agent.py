"""The same scripted agent for every server: `count` tokens at `rate` per second, each holding the time of its making."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import anyio
import anyio.lowlevel


async def tokens(*phases: float) -> AsyncIterator[str]:
    """Phases of `count, rate`, one after the other: `"~<CLOCK_MONOTONIC in ns> "` each time, paced against a schedule so
    that a late token does not delay the next. A rate of 0: no pace."""
    for count, rate in zip(phases[::2], phases[1::2], strict=True):
        start = time.monotonic()
        for number in range(int(count)):
            if rate:
                delay = start + number / rate - time.monotonic()
                if delay > 0:
                    await anyio.sleep(delay)
            elif number % 16 == 0:
                await anyio.lowlevel.checkpoint()
            yield f"~{time.monotonic_ns()} "


def parse(prompt: str) -> list[float]:
    """`"500 100"`: 500 tokens at 100 per second; more phases may follow."""
    return [float(word) for word in prompt.split()]
