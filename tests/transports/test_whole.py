"""Tool results as they were: what a reader gets that cannot fetch a blob."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from core import ME, OTHER, Told, core, ended, send
from runcast import events as e
from runcast.agents.context import RunContext
from runcast.events import MAX_EVENT_BYTES, Event
from runcast.runs import RunInput
from runcast.transports import whole as module
from runcast.transports.whole import is_cut, whole
from runcast.updates import Events

pytestmark = pytest.mark.anyio

TEXT = "ü\n" * MAX_EVENT_BYTES
VALUE: dict[str, Any] = {"lines": ["x" * 1000] * 400, "n": None}
PARTS: list[dict[str, Any]] = [{"type": "text", "text": "p" * 2 * MAX_EVENT_BYTES}]


def result(**fields: Any) -> e.ToolCallResult:
    return e.ToolCallResult(message_id="m", tool_call_id="c", **fields)


RESULTS = {
    "text": result(content=TEXT, result=TEXT),
    "a value": result(content=e.encode_value(VALUE).decode(), result=VALUE),
    "text beside a value": result(content="Short.", result=VALUE),
    "a value beside text": result(content=TEXT, result={"n": 1}),
    "both, and not the same": result(content=TEXT, result=VALUE),
    "content only": result(content=TEXT),
    "parts": result(content=PARTS, result={"n": 1}),
    "short": result(content="x", result="x"),
}


def calling(event: e.ToolCallResult) -> Told:
    async def script(input: RunInput, context: RunContext) -> AsyncIterator[Event]:
        yield e.ToolCallStart(tool_call_id="c", tool_call_name="read")
        yield e.ToolCallEnd(tool_call_id="c")
        yield event

    return Told(script)


async def logged(service: Any, thread: str) -> Events:
    """The tool's result as the log has it."""
    records = (await service.read(ME, thread)).records
    return Events([record for record in records if isinstance(record.event, e.ToolCallResult)])


@pytest.mark.parametrize("name", RESULTS)
async def test_it_is_what_the_tool_returned(name: str) -> None:
    given = RESULTS[name]
    async with core(calling(given)) as service:
        sent = await service.send(ME, send("go"))
        assert await ended(service, sent) == "done"
        update = await logged(service, sent.thread)
        assert is_cut(update) == (name != "short")
        complete = await whole(service, ME, update)
        assert isinstance(complete, Events)
        event = complete.records[0].event
        assert isinstance(event, e.ToolCallResult)
        assert (event.content, event.result) == (given.content, given.result)
        assert not is_cut(complete)
        assert e.decode(complete.records[0].data) == event
        assert complete.records[0].seq == update.records[0].seq


async def test_what_is_too_long_or_gone_or_anothers_stays_a_preview(monkeypatch: pytest.MonkeyPatch) -> None:
    async with core(calling(RESULTS["text"])) as service:
        sent = await service.send(ME, send("go"))
        assert await ended(service, sent) == "done"
        update = await logged(service, sent.thread)
        assert await whole(service, OTHER, update) == update
        with monkeypatch.context() as patch:
            patch.setattr(module, "MAX_BYTES", 1000)
            assert await whole(service, ME, update) == update
        await service.delete_thread(ME, sent.thread)
        assert await whole(service, ME, update) == update
