"""An agent that blocks the event loop is named, with the line at which it stands, once."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator

import anyio
import anyio.lowlevel
import pytest

from core import DEADLINE_S, ME, Told, core, ended, send
from runcast import events as e
from runcast.agents.base import RunContext
from runcast.events import Event
from runcast.running.watchdog import Driven, Watchdog
from runcast.runs import RunInput
from serving import serving

pytestmark = pytest.mark.anyio


class Log(logging.Handler):
    """Told from the watchdog's thread; the block ends when it was."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "action", "") == "loop_blocked":
            self.records.append(record)


@pytest.fixture
def told() -> object:
    handler = Log()
    logger = logging.getLogger("runcast.runner")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


def block(told: Log, count: int = 1) -> None:
    end = time.monotonic() + DEADLINE_S
    while len(told.records) < count and time.monotonic() < end:
        time.sleep(0.01)  # here it stands


def blocking(told: Log, times: int = 1) -> Told:
    async def script(input: RunInput, context: RunContext) -> AsyncIterator[Event]:
        block(told)
        for _ in range(times - 1):
            await anyio.sleep(0.05)
            time.sleep(0.15)  # noqa: ASYNC251 — that is the point
        yield e.TextMessageContent(message_id="m", delta="done")

    return Told(script, "rude")


async def test_who_blocks_is_named_with_its_line_and_only_once(told: Log) -> None:
    async with core(blocking(told, times=3)) as service:
        with Watchdog(lambda: service.runner._executions.driven, limit_s=0.05).watching():
            sent = await service.send(ME, send("go"))
            assert await ended(service, sent) == "done"
    assert len(told.records) == 1
    message = told.records[0].getMessage()
    assert "rude" in message and sent.run in message
    assert f"{__file__}:" in message and "here it stands" in message and "in block" in message


async def test_a_loop_that_only_waits_blocks_nobody(told: Log) -> None:
    with Watchdog(list, limit_s=0.05).watching():
        for _ in range(30):
            await anyio.sleep(0.01)
    assert not told.records


async def test_of_several_runs_none_is_blamed(told: Log) -> None:
    with Watchdog(lambda: [Driven("r1", "a"), Driven("r2", "b")], limit_s=0.05).watching():
        block(told)
        await anyio.lowlevel.checkpoint()
    assert "an agent blocks" in told.records[0].getMessage()


async def test_the_server_runs_one(told: Log) -> None:
    async with serving(blocking(told)) as running, running.http() as http:
        answer = await http.post("/v1/messages", params={"wait": 10}, json={"message": {"id": "m", "content": "go"}})
    assert answer.json()["status"] == "done"
    assert "rude" in told.records[0].getMessage()
