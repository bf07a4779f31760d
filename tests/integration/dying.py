"""Agents under the kills whose runs are taken up again; what they did is counted in files, which survive the kills."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import anyio

import runcast
from runcast.agents.context import RunContext

HERE = Path(os.environ.get("RUNCAST_TEST_DIRECTORY", "."))
TEXT = "".join(f"{number} " for number in range(200))
PAUSE_S = 0.005
STEPS = 6


def did(name: str) -> None:
    """One more line: somebody really did it."""
    with open(HERE / name, "ab") as file:
        file.write(b"x\n")


def count(name: str, directory: Path = HERE) -> int:
    file = directory / name
    return len(file.read_bytes().splitlines()) if file.exists() else 0


async def numbers() -> AsyncIterator[str]:
    for number in range(200):
        yield f"{number} "
        await anyio.sleep(PAUSE_S)


@runcast.agent(on_crash="restart")
async def speaker(prompt: str, run: RunContext) -> AsyncIterator[str]:
    """Counts; looks something up first, which may be done twice."""
    did("speaker")
    async with run.tool("look", idempotent=True) as call:
        did("look")
        call.result = 1
    async for word in numbers():
        yield word


@runcast.agent(on_crash="restart")
async def payer(prompt: str, run: RunContext) -> AsyncIterator[str]:
    """Pays first, which must not be done twice."""
    yield "I pay. "
    async with run.tool("pay") as call:
        did("pay")
        await anyio.sleep(float(prompt))
        call.result = "paid"
    async for word in numbers():
        yield word


@runcast.agent(on_crash="restart")
async def killer(prompt: str) -> AsyncIterator[str]:
    """Takes its process with it whenever it runs."""
    did("killer")
    yield "Here I go"
    await anyio.sleep(0.2)
    os._exit(9)


@runcast.agent(resumable=True, on_crash="resume")
async def keeper(prompt: str, run: RunContext) -> AsyncIterator[str]:
    """Does a step of each kind and a tool, and counts slowly before, between and after them."""
    for number in range(STEPS):
        for word in range(20):
            yield f"{number}.{word} "
            await anyio.sleep(PAUSE_S)
        await run.step(f"once {number}", did, f"once {number}")
        await run.step(f"again {number}", did, f"again {number}", idempotent=True)
        async with run.tool("pay", key=f"pay {number}", number=number) as call:
            if not call.recorded:
                did(f"pay {number}")
                call.result = number


@runcast.agent(resumable=True, on_crash="resume")
async def charger(prompt: str, run: RunContext) -> AsyncIterator[str]:
    """Charges in a step that must not be done twice, and stays in it."""

    async def charge() -> None:
        did("charge")
        await anyio.sleep(float(prompt))

    yield "I charge. "
    await run.step("charge", charge)
    yield "Charged."


agents = [speaker, payer, killer, keeper, charger]
