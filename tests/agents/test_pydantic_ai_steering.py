"""Steering a pydantic-ai agent, with the real package and a scripted model: the message is in its next request."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelRequest, ToolReturnPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

from core import ME, cancel, core, die, ended, log, new_id, said, send
from runcast import events as e
from runcast.agents.context import RunContext as Context
from runcast.agents.pydantic_ai import PydanticAIAgent
from runcast.agents.pydantic_ai_history import rebuilt
from runcast.parts import TextPart
from runcast.runs import RunInput
from runcast.service import Sent, Service
from tree import said_to, steer, tree

pytestmark = pytest.mark.anyio


class Held:
    """A model that calls `work`, then answers; the tool and the answer wait for their gates. `asked`: the prompts of each request."""

    def __init__(self) -> None:
        self.working, self.work = anyio.Event(), anyio.Event()
        self.answering, self.answer = anyio.Event(), anyio.Event()
        self.asked: list[list[str]] = []

    def agent(self) -> PydanticAIAgent:
        agent = Agent(FunctionModel(stream_function=self._stream), name="held")

        @agent.tool_plain
        async def work() -> str:
            self.working.set()
            await self.work.wait()
            return "worked"

        return PydanticAIAgent(agent)

    async def _stream(self, history: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        parts = [part for one in history if isinstance(one, ModelRequest) for part in one.parts]
        self.asked.append([str(part.content) for part in parts if isinstance(part, UserPromptPart)])
        if not any(isinstance(part, ToolReturnPart) for part in parts):
            yield {0: DeltaToolCall(name="work", json_args="{}", tool_call_id="c")}
            return
        yield f"Heard {self.asked[-1][-1]}."
        self.answering.set()
        await self.answer.wait()


async def test_a_message_during_a_tool_is_in_the_next_request() -> None:
    held = Held()
    held.answer.set()
    async with core(held.agent()) as service:
        assert service.agents(ME)[0].steerable
        sent = await service.send(ME, send("go"))
        await held.working.wait()
        await service.steer(ME, steer(sent.run, "left"))
        held.work.set()
        assert await ended(service, sent) == "done"
        events = await log(service, sent.thread)
        [run] = (await tree(service, sent.thread)).runs
        after = await service.send(ME, send("and now", sent.thread))
        await ended(service, after)
    assert held.asked == [["go"], ["go", "left"], ["go", "left", "and now"]]
    consumed = [event.seq for event in events if isinstance(event, e.RunSteered) and event.consumed]
    answer = next(event.seq for event in events if isinstance(event, e.TextMessageStart))
    result = next(event.seq for event in events if isinstance(event, e.ToolCallResult))
    assert len(consumed) == 1 and result < consumed[0] < answer  # where it was read
    context = Context(
        input=RunInput(thread=sent.thread, run="r", agent="held"),
        principal=ME,
        new_id=new_id,
        emit=anyio.sleep,  # type: ignore[arg-type]
        history=list,  # type: ignore[arg-type]
    )
    again = [p.content for one in await rebuilt(run, context) for p in one.parts if isinstance(p, UserPromptPart)]
    assert again == ["go", "left"]  # also when the saved messages are lost


async def test_a_message_during_the_answer_leads_to_another_request() -> None:
    held = Held()
    held.work.set()
    async with core(held.agent()) as service:
        sent = await service.send(ME, send("go"))
        await held.answering.wait()
        await service.steer(ME, steer(sent.run, "left"))
        held.answer.set()
        assert await ended(service, sent) == "done"
        assert said(await log(service, sent.thread)) == "Heard go.Heard left."
        await tree(service, sent.thread)


class Dying:
    """A model that calls `work`, then dies where `stuck_in` says, on its first attempt: before or in the middle of the answer
    that follows. `asked`: the prompts of each request."""

    def __init__(self, stuck_in: str) -> None:
        self.stuck_in = stuck_in
        self.working, self.work, self.reached = anyio.Event(), anyio.Event(), anyio.Event()
        self.asked: list[list[str]] = []

    def agent(self) -> PydanticAIAgent:
        agent = Agent(FunctionModel(stream_function=self._stream), name="dying")

        @agent.tool_plain
        async def work() -> str:
            self.working.set()
            await self.work.wait()
            return "worked"

        return PydanticAIAgent(agent, on_crash="resume")

    async def _stick(self, place: str) -> None:
        if place == self.stuck_in and not self.reached.is_set():
            self.reached.set()
            await anyio.sleep_forever()

    async def _stream(self, history: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        parts = [part for one in history if isinstance(one, ModelRequest) for part in one.parts]
        self.asked.append([str(part.content) for part in parts if isinstance(part, UserPromptPart)])
        if not any(isinstance(part, ToolReturnPart) for part in parts):
            yield {0: DeltaToolCall(name="work", json_args="{}", tool_call_id="c")}
            return
        await self._stick("request")
        yield "Heard"
        await self._stick("answer")
        yield f" {self.asked[-1][-1]}."


@pytest.mark.parametrize("stuck_in", ["request", "answer"])
async def test_a_message_that_was_read_before_a_crash_is_known_after_it(stuck_in: str, tmp_path: Path) -> None:
    """Before the answer begins there is no checkpoint that has the message: the log alone says that it was read."""
    dying = Dying(stuck_in)
    path = tmp_path / "log.db"

    async def steered(service: Service, sent: Sent) -> None:
        await dying.working.wait()
        await service.steer(ME, steer(sent.run, "left"))
        dying.work.set()

    sent = await die(path, dying.agent(), dying.reached, meanwhile=steered)
    async with core(dying.agent(), path=path) as service:
        assert await ended(service, sent) == "done"
        events = await log(service, sent.thread)
        [run] = (await tree(service, sent.thread)).runs
        after = await service.send(ME, send("and now", sent.thread))
        await ended(service, after)
    assert dying.asked[2:] == [["go", "left"], ["go", "left", "and now"]]
    assert [part.text for part in run.messages[-1].parts if isinstance(part, TextPart)] == ["Heard left."]
    assert [event.consumed for event in events if isinstance(event, e.RunSteered)] == [False, True], "read once"


async def test_a_message_that_no_request_got_runs_by_itself() -> None:
    held = Held()
    async with core(held.agent()) as service:
        sent = await service.send(ME, send("go"))
        await held.working.wait()
        await service.steer(ME, steer(sent.run, "left"))
        await service.cancel(ME, cancel(sent.run))
        assert await ended(service, sent) == "cancelled"
        assert await said_to(service, sent.thread) == [("go", None), ("left", "go")]
