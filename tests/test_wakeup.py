"""Sleeping and being woken: nothing that was said before or meanwhile is missed."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

from core import DEADLINE_S
from runcast.wakeup import Inbox, WakeUp

pytestmark = pytest.mark.anyio


async def test_an_inbox_gives_in_order_what_came_before_and_while_waiting() -> None:
    inbox = Inbox[int]()
    got: list[int] = []

    async def read() -> None:
        while len(got) < 6:
            got.append(await inbox.get())

    inbox.put_nowait(0)
    inbox.put_nowait(1)
    with anyio.fail_after(DEADLINE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            for number in (2, 3, 4, 5):
                while not inbox.empty():
                    await anyio.lowlevel.checkpoint()
                inbox.put_nowait(number)
    assert got == [0, 1, 2, 3, 4, 5]
    assert inbox.empty()


async def test_a_reader_that_is_cancelled_loses_nothing() -> None:
    inbox = Inbox[str]()
    with anyio.move_on_after(0) as scope:
        await inbox.get()
    assert scope.cancelled_caught
    inbox.put_nowait("kept")
    with anyio.fail_after(DEADLINE_S):
        assert await inbox.get() == "kept"


async def test_what_woke_before_the_sleep_is_not_slept_through() -> None:
    wake = WakeUp()
    wake.set()
    with anyio.fail_after(DEADLINE_S):
        await wake.wait()
        await wake.wait()
    wake.clear()
    assert not wake.is_set()
    with anyio.move_on_after(0.01) as scope:
        await wake.wait()
    assert scope.cancelled_caught
