"""The scripted agent and the harness themselves: what other tests lean on."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest

from runcast import events as e
from runcast.agents.base import Agent, RunContext
from runcast.agents.function import FunctionAgent
from runcast.events import Event
from runcast.runs import RunInput
from runcast.testing import AgentSuite, Pause, ScriptedAgent, collect, tokens
from runcast.testing.agent_suite import check


class TestConformance(AgentSuite):
    def make_agent(self) -> Agent:
        return ScriptedAgent(["Hello ", {"type": "action", "name": "look"}, "world"])


def test_tokens_are_different_and_of_one_size() -> None:
    assert tokens(3, 4) == ["000 ", "001 ", "002 "]
    assert len(set(tokens(200, 5))) == 200 and {len(token) for token in tokens(200, 5)} == {5}


@pytest.mark.anyio
async def test_steps_are_played_in_order() -> None:
    gate, slept = anyio.Event(), list[float]()

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    agent = ScriptedAgent(["a", Pause(2.5), gate, "b", e.Custom(name="n", value=1), ValueError("x")], sleep=sleep)

    async def open_gate() -> None:
        await agent.wait_reached(3)
        assert agent.open == 1 and slept == [2.5]
        gate.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(open_gate)
        events = await collect(agent, "Hi", catch=True)
    assert events.text == "ab" and isinstance(events.error, ValueError)
    assert agent.open == 0 and [input.text for input in agent.inputs] == ["Hi"]


@pytest.mark.anyio
async def test_a_script_may_be_a_function() -> None:
    async def script(input: RunInput, context: RunContext) -> AsyncIterator[Event]:
        yield e.Custom(name=input.text, value=context.run_id)

    events = await collect(ScriptedAgent(script), "Hi", run="r")
    assert list(events) == [e.Custom(name="Hi", value="r")]


@pytest.mark.anyio
async def test_the_harness_cancels_where_the_agent_stands() -> None:
    agent = ScriptedAgent(["a", anyio.Event(), "b"])
    events = await collect(agent, "Hi", cancel_after=lambda event: isinstance(event, e.TextMessageContent))
    assert events.cancelled and events.text == "a" and agent.open == 0
    assert events.turn.run.status == "cancelled"


@pytest.mark.anyio
async def test_the_harness_has_a_time_limit() -> None:
    with pytest.raises(TimeoutError):
        await collect(ScriptedAgent([anyio.Event()]), "Hi", timeout_s=0.05)


@pytest.mark.anyio
async def test_a_run_is_history_for_the_next_one() -> None:
    async def recall(run: RunContext) -> str:
        return " / ".join(part.text for turn in await run.history() for m in turn.run.messages for part in m.parts)  # type: ignore[union-attr]

    first = await collect(ScriptedAgent(["Hello"]), "Hi")
    assert (await collect(FunctionAgent(recall), "And?", history=[first])).text == "Hi / Hello"
    assert first.turn.run.status == "done"


@pytest.mark.parametrize(
    ("events", "wrong"),
    [
        ([e.TextMessageStart(message_id="m")], "left open"),
        ([e.TextMessageEnd(message_id="m")], "not open"),
        ([e.TextMessageContent(message_id="m", delta="x")], "not open"),
        ([e.TextMessageStart(message_id="m"), e.TextMessageEnd(message_id="m")] * 2, "used twice"),
        ([e.TextMessageStart(message_id="m"), e.TextMessageStart(message_id="m")], "opened twice"),
        ([e.RunFinished(thread_id="t"), e.Custom(name="n", value=1)], "follows the end"),
        ([e.Custom(name="n", value=1, seq=1)], "envelope"),
        ([e.RunStarted(thread_id="t")], "runner's own"),
        ([e.ToolCallResult(message_id="m", tool_call_id="c", content="")] * 2, "second result"),
    ],
)
def test_the_check_can_fail(events: list[Event], wrong: str) -> None:
    with pytest.raises(AssertionError, match=wrong):
        check(events)
