"""The agent under the kills: counts aloud, calls a tool now and then; its text is known, so a client can be judged."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio

import runcast
from runcast.agents.context import RunContext


def expected(count: int) -> str:
    return "".join(f"{number} " for number in range(count))


@runcast.agent
async def counting(prompt: str, run: RunContext) -> AsyncIterator[str]:
    """Count to the number in the prompt, a few milliseconds a step."""
    count = int(prompt.split()[-1])
    for number in range(count):
        if number % 40 == 20:
            async with run.tool("look", at=number) as call:
                await call.progress(number, total=count, message=f"At {number}")
                call.result = {"number": number}
        yield f"{number} "
        await anyio.sleep(0.002)
