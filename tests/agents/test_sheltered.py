"""Tools that Stop does not stop at once: `cooperative`, `finish`, `detach`, and the deadline for all of them."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

import anyio
import pytest
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

from core import DEADLINE_S, ME, Told, cancel, core, ended, log, send
from runcast import events as e
from runcast.agents.base import RunContext
from runcast.agents.pydantic_ai import PydanticAIAgent, ToolText
from runcast.agents.sheltered import Sheltered
from runcast.errors import RunEnded
from runcast.events import Event
from runcast.runs import RunInput

pytestmark = pytest.mark.anyio


class Working:
    """A tool at work, in a function agent or a pydantic-ai one."""

    def __init__(self, policy: str) -> None:
        self.policy = policy
        self.began, self.gate, self.ended = anyio.Event(), anyio.Event(), anyio.Event()
        self.after = False
        self.finished = False

    async def work(self) -> str:
        self.began.set()
        try:
            await self.gate.wait()
            self.finished = True
            return "paid"
        finally:
            self.ended.set()

    async def script(self, input: RunInput, context: RunContext) -> AsyncIterator[Event]:
        async with context.tool("pay", on_cancel=self.policy) as call:  # type: ignore[arg-type]
            call.result = await self.work()
            await call.progress(1, message="nearly")
        self.after = True
        yield e.TextMessageContent(message_id="m", delta="after")

    async def _say(self, messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[object]:
        if any(getattr(part, "content", "") == "paid" for part in messages[-1].parts):  # the result came back
            self.after = True
            yield "after"
        else:
            yield {0: DeltaToolCall(name="pay", json_args="{}", tool_call_id="c1")}

    def agent(self, kind: str) -> Told | PydanticAIAgent:
        if kind == "function":
            return Told(self.script)
        agent = Agent(FunctionModel(stream_function=self._say), name="told")  # type: ignore[arg-type]
        agent.tool_plain(self.work, name="pay")
        return PydanticAIAgent(agent, tools={"pay": ToolText(on_cancel=self.policy)})  # type: ignore[arg-type]


KINDS = pytest.mark.parametrize("kind", ["function", "pydantic-ai"])


def result_of(events: list[Event]) -> e.ToolCallResult:
    return next(event for event in events if isinstance(event, e.ToolCallResult))


@KINDS
async def test_cooperative_is_cancelled_where_it_awaits(kind: str) -> None:
    tool = Working("cooperative")
    async with core(tool.agent(kind)) as service:
        sent = await service.send(ME, send("go"))
        await tool.began.wait()
        await service.cancel(ME, cancel(sent.run))
        assert await ended(service, sent) == "cancelled"
        assert tool.ended.is_set() and not tool.finished
        assert result_of(await log(service, sent.thread)).status == "cancelled"


@KINDS
async def test_finish_ends_and_its_result_is_recorded_before_the_run_ends(kind: str) -> None:
    tool = Working("finish")
    async with core(tool.agent(kind)) as service:
        sent = await service.send(ME, send("go"))
        await tool.began.wait()
        await service.cancel(ME, cancel(sent.run))
        await anyio.sleep(0.05)
        assert (await service.get_run(ME, sent.run)).status == "running"
        tool.gate.set()
        assert await ended(service, sent) == "cancelled"
        events = await log(service, sent.thread)
    assert result_of(events).content == "paid" and result_of(events).status is not None
    assert not tool.after, "and nothing comes after it (I19)"


@KINDS
async def test_detach_ends_the_run_at_once_and_drops_the_result(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "runcast.agents")
    tool = Working("detach")
    async with core(tool.agent(kind)) as service:
        sent = await service.send(ME, send("go"))
        await tool.began.wait()
        await service.cancel(ME, cancel(sent.run))
        assert await ended(service, sent) == "cancelled"
        assert not tool.ended.is_set()
        again = await service.send(ME, send("next", sent.thread))
        assert again.status == "running", "the next one need not wait for it"
        await service.cancel(ME, cancel(again.run))
        tool.gate.set()
        with anyio.fail_after(DEADLINE_S):
            await tool.ended.wait()
            while service.runner.unstoppable:
                await anyio.sleep(0.01)
        events = await log(service, sent.thread)
    assert tool.finished and not tool.after
    assert result_of(events).status == "cancelled"
    assert any("dropped" in record.message for record in caplog.records)


@KINDS
@pytest.mark.parametrize("policy", ["finish", "detach"])
async def test_the_deadline_holds_for_all(kind: str, policy: str) -> None:
    tool = Working(policy)
    async with core(tool.agent(kind), cancel_deadline_s=0.05) as service:
        sent = await service.send(ME, send("go"))
        await tool.began.wait()
        await service.cancel(ME, cancel(sent.run))
        assert await ended(service, sent) == "cancelled"
        with anyio.fail_after(DEADLINE_S):
            await tool.ended.wait()
            while service.runner.unstoppable:
                await anyio.sleep(0.01)
        assert not tool.finished and not tool.after
        assert result_of(await log(service, sent.thread)).status == "cancelled"


@KINDS
async def test_a_run_that_nobody_stops_is_as_ever(kind: str) -> None:
    for policy in ("finish", "detach"):
        tool = Working(policy)
        tool.gate.set()
        async with core(tool.agent(kind)) as service:
            sent = await service.send(ME, send("go"))
            assert await ended(service, sent) == "done"
            assert result_of(await log(service, sent.thread)).content == "paid"
        assert tool.after


async def test_an_unknown_policy_is_told_at_once() -> None:
    with pytest.raises(ValueError, match="'never'"):
        ToolText(on_cancel="never")  # type: ignore[arg-type]


async def test_only_what_declared_it_is_counted() -> None:
    sheltered = Sheltered()
    with sheltered.during("cooperative"):
        assert not sheltered.has("cooperative")
    with sheltered.during("finish"):
        assert sheltered.has("finish") and not sheltered.has("detach")
    await sheltered.wait()


async def test_only_a_detached_tool_may_talk_to_nobody() -> None:
    async def over(event: Event) -> None:
        raise RunEnded("over")

    event = e.ToolCallProgress(tool_call_id="c")
    await Sheltered.emitter(over, "detach")(event)
    with pytest.raises(RunEnded):
        await Sheltered.emitter(over, "finish")(event)
