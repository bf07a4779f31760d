"""The virtual loop keeps asyncio's and anyio's promises, and halts a process between two of its steps."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator

import anyio
import pytest

from .loop import Livelock, Stalled, VirtualLoop


@pytest.fixture
def loop() -> Generator[VirtualLoop]:
    loop = VirtualLoop()
    yield loop
    loop.bury()
    loop.close()


def test_hours_cost_nothing(loop: VirtualLoop) -> None:
    began = time.monotonic()

    async def main() -> list[str]:
        seen: list[str] = []

        async def after(seconds: float, word: str) -> None:
            await anyio.sleep(seconds)
            seen.append(word)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(after, 3600, "late")
            tasks.start_soon(after, 60, "early")
        return seen

    assert loop.run_until_complete(main()) == ["early", "late"]
    assert 3600 <= loop.time() < 3601 and time.monotonic() - began < 5


def test_timeouts_and_cancellation(loop: VirtualLoop) -> None:
    async def main() -> None:
        with anyio.move_on_after(5) as scope:
            await anyio.sleep(10)
        assert scope.cancelled_caught and 5 <= loop.time() < 5.1
        with pytest.raises(TimeoutError):
            with anyio.fail_after(1):
                await anyio.Event().wait()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.sleep_forever)
            tasks.cancel_scope.cancel()
        with anyio.move_on_after(1):
            with anyio.CancelScope(shield=True):
                await anyio.sleep(2)
        assert loop.time() > 8

    loop.run_until_complete(main())


def test_who_waits_for_nothing_is_told(loop: VirtualLoop) -> None:
    with pytest.raises(Stalled):
        loop.run_until_complete(asyncio.Event().wait())


def test_who_goes_round_and_round_is_told(loop: VirtualLoop) -> None:
    async def spin() -> None:
        while True:
            await asyncio.sleep(0)

    loop.steps = 390_000
    with pytest.raises(Livelock):
        loop.run_until_complete(spin())


def test_a_halted_process_does_nothing_and_goes_on_where_it_stood(loop: VirtualLoop) -> None:
    ticks: list[float] = []
    cleaned: list[bool] = []

    async def work() -> None:
        try:
            while True:
                await anyio.sleep(1)
                ticks.append(loop.time())
        finally:
            cleaned.append(True)

    async def main() -> None:
        process = loop.process("p")
        loop.spawn(process, work())
        await asyncio.sleep(3.5)
        loop.halt(process)
        await asyncio.sleep(10)
        assert [round(tick) for tick in ticks] == [1, 2, 3] and not cleaned
        loop.go_on(process)
        await asyncio.sleep(0.1)
        assert [round(tick) for tick in ticks] == [1, 2, 3, 14] or round(ticks[-1], 1) == 13.5
        loop.halt(process)

    loop.run_until_complete(main())
    assert not cleaned
