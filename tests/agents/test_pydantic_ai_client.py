"""What a client brings along for a Pydantic AI agent: its tools, their results, its state, what was said elsewhere."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai import RunContext as PaiContext
from pydantic_ai.messages import ModelMessage, ModelResponse, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

from core import ME, core, ended, log, new_id, send, types
from runcast import events as e
from runcast.agents.pydantic_ai import PydanticAIAgent
from runcast.commands import Return
from runcast.runs import ClientInput, ClientTool, Message, ToolMessage
from runcast.service import Sent, Service

pytestmark = pytest.mark.anyio

WHERE = ClientTool(
    name="where",
    description="Where the person is.",
    parameters={"type": "object", "properties": {"exact": {"type": "boolean"}}},
)
CLIENT = ClientInput(tools=(WHERE, ClientTool(name="own", description="The agent's own wins.")))


class Asked:
    """A scripted model that keeps what it was asked: pieces of its n-th answer."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.messages: list[list[ModelMessage]] = []
        self.tools: list[list[str]] = []

    async def _stream(self, messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        self.messages.append(list(messages))
        self.tools.append([tool.name for tool in info.function_tools])
        for piece in self.answers[min(len(self.messages), len(self.answers)) - 1]:
            yield piece

    @property
    def agent(self) -> Agent[Any, Any]:
        agent: Agent[Any, Any] = Agent(FunctionModel(stream_function=self._stream), name="guide")

        @agent.tool_plain
        def own() -> str:
            return "mine"

        return agent

    def returns(self, at: int) -> list[ToolReturnPart]:
        return [part for one in self.messages[at] for part in one.parts if isinstance(part, ToolReturnPart)]


def call(name: str, args: object, id: str, index: int = 0) -> dict[int, DeltaToolCall]:
    return {index: DeltaToolCall(name=name, json_args=json.dumps(args), tool_call_id=id)}


async def asked(service: Service, **fields: Any) -> tuple[Sent, list[str]]:
    sent = await service.send(ME, send("Where am I?", client=CLIENT, **fields))
    assert await ended(service, sent) == "done"
    end = (await log(service, sent.thread))[-1]
    assert isinstance(end, e.RunFinished) and isinstance(end.outcome, e.Outcome)
    assert isinstance(end.outcome.pending_tool_call_ids, list)
    return sent, end.outcome.pending_tool_call_ids


def result(call: str, content: str = "Lisbon", error: str | None = None) -> ToolMessage:
    return ToolMessage(id=f"{call}.r", tool_call_id=call, content=content, error=error)


def returned(run: str, *results: ToolMessage, **fields: Any) -> Return:
    return Return(id=new_id(), run=run, results=results, client=CLIENT, **fields)


async def test_the_clients_tools_are_the_models_and_left_to_the_client() -> None:
    model = Asked([call("where", {"exact": True}, "c1"), call("own", {}, "c2", 1)], ["In Lisbon."])
    async with core(PydanticAIAgent(model.agent)) as service:
        sent, pending = await asked(service)
        assert pending == ["c1"] and sorted(model.tools[0]) == ["own", "where"]
        going = await service.return_results(ME, returned(sent.run, result("c1")))
        assert await ended(service, going) == "done"
        given = [(part.tool_call_id, part.content) for part in model.returns(1)]
        assert sorted(given) == [("c1", "Lisbon"), ("c2", "mine")]
        events = [event for event in await log(service, sent.thread) if event.run_id == going.run]
        assert types(events) == [
            "RUN_STARTED",
            "TOOL_CALL_RESULT",
            "TEXT_MESSAGE_START",
            "TEXT_MESSAGE_CONTENT",
            "TEXT_MESSAGE_END",
            "RUN_FINISHED",
        ], "each result once, no call told again"
        more = await service.send(ME, send("Thanks", sent.thread))
        assert await ended(service, more) == "done"
        assert len([one for one in model.messages[2] if isinstance(one, ModelResponse)]) == 2


async def test_results_that_failed_or_are_missing_are_told_to_the_model() -> None:
    calls = [call("where", {}, "c1"), call("where", {"exact": True}, "c2", 1)]
    model = Asked(calls, ["Nobody knows."])
    async with core(PydanticAIAgent(model.agent)) as service:
        sent, pending = await asked(service)
        assert pending == ["c1", "c2"]
        said = Message(id="m2", content="Never mind.")
        going = await service.return_results(ME, returned(sent.run, result("c1", "", "No GPS."), message=said))
        assert await ended(service, going) == "done"
        assert {part.tool_call_id: (str(part.content), part.outcome) for part in model.returns(1)} == {
            "c1": ("No GPS.", "failed"),
            "c2": ("The app gave no result.", "failed"),
        }
        assert "Never mind." in str(model.messages[1][-1])


async def test_who_says_something_else_instead_is_answered() -> None:
    model = Asked([call("where", {}, "c1")], ["All right."])
    async with core(PydanticAIAgent(model.agent)) as service:
        sent, _ = await asked(service)
        other = await service.send(ME, send("Never mind.", sent.thread))
        assert await ended(service, other) == "done"
        assert "Never mind." in str(model.messages[1][-1])


async def test_results_go_on_where_the_saved_messages_are_gone() -> None:
    model = Asked([call("where", {}, "c1")], ["In Lisbon."])
    async with core(PydanticAIAgent(model.agent)) as service:
        sent, _ = await asked(service)

        async def gone(runs: object) -> list[Any]:
            return []

        service._store.agent_states = gone  # type: ignore[method-assign]
        going = await service.return_results(ME, returned(sent.run, result("c1")))
        assert await ended(service, going) == "done"
        assert [(part.tool_call_id, part.content) for part in model.returns(1)] == [("c1", "Lisbon")]


async def test_a_call_beside_an_approval_is_asked_for_with_it() -> None:
    """One outcome can only be one thing: the run waits, and both are questions."""
    model = Asked([call("where", {}, "c1"), call("delete", {}, "c2", 1)], ["Done."])
    agent = model.agent

    @agent.tool_plain(requires_approval=True)
    def delete() -> str:
        return "deleted"

    async with core(PydanticAIAgent(agent)) as service:
        sent = await service.send(ME, send("go", client=CLIENT))
        assert await ended(service, sent) == "waiting"
        end = (await log(service, sent.thread))[-1]
        assert isinstance(end, e.RunFinished) and isinstance(end.outcome, e.Outcome)
        assert isinstance(end.outcome.interrupts, list)
        asked = {one.tool_call_id: one.reason for one in end.outcome.interrupts}
        assert asked == {"c1": "input_required", "c2": "tool_call"}


class Cart(BaseModel):
    items: list[str] = []


@dataclass
class Deps:
    shop: str
    state: Cart = field(default_factory=Cart)


async def test_the_clients_state_is_in_the_dependencies() -> None:
    deps = Deps("corner")
    seen: list[Any] = []
    model = Asked([call("look", {}, "c1")], ["ok"])
    agent = model.agent

    @agent.tool
    def look(ctx: PaiContext[Any]) -> str:
        seen.append(ctx.deps)
        return "ok"

    async with core(PydanticAIAgent(agent, deps=deps)) as service:
        sent = await service.send(ME, send("go", client=ClientInput(state={"items": ["milk"]})))
        assert await ended(service, sent) == "done"
        assert seen == [Deps("corner", Cart(items=["milk"]))] and deps == Deps("corner"), "not the others'"
        bad = await service.send(ME, send("go", client=ClientInput(state={"items": 1})))
        assert await ended(service, bad) == "failed"
        assert (await service.get_run(ME, bad.run)).code == "invalid_state"


async def test_what_was_said_elsewhere_comes_before() -> None:
    history: tuple[dict[str, Any], ...] = (
        {"id": "s", "role": "system", "content": "Be brief."},
        {"id": "x1", "role": "user", "content": "I am Ana."},
        {"id": "x2", "role": "assistant", "content": "Hello Ana.", "toolCalls": [
            {"id": "k1", "type": "function", "function": {"name": "greet", "arguments": '{"to":"Ana"}'}},
            {"id": "k2", "type": "function", "function": {"name": "greet", "arguments": "{}"}},
        ]},
        {"id": "x3", "role": "tool", "toolCallId": "k1", "content": "greeted"},
        {"id": "x4", "role": "tool", "toolCallId": "nothing", "content": "odd"},
        {"id": "x5", "role": "activity", "activityType": "chart", "content": {}},
        {"role": "assistant", "content": None, "toolCalls": [None, {"function": 1}]},
    )  # fmt: skip
    model = Asked(["Ana."])
    async with core(PydanticAIAgent(model.agent)) as service:
        sent = await service.send(ME, send("Who am I?", client=ClientInput(history=history)))
        assert await ended(service, sent) == "done"
    told = model.messages[0]
    text = str(told)
    assert text.index("Be brief.") < text.index("I am Ana.") < text.index("greeted") < text.index("Who am I?")
    assert {part.tool_call_id for part in model.returns(0)} == {"k1", "k2"}, "a dangling call is closed"
