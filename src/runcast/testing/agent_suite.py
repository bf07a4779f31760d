"""Conformance of agents: what the runner and every reader rely on.

class TestMyAgent(AgentSuite):
    def make_agent(self) -> Agent:
        return my_agent
    prompt = "Show me all tables"
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import anyio
import msgspec
import pytest

from runcast import events as e
from runcast.agents.base import Agent, RunContext
from runcast.events import Event
from runcast.runs import RunInput
from runcast.testing.scripted import collect

PAIRS: dict[type[Event], tuple[type[Event], str]] = {
    e.TextMessageStart: (e.TextMessageEnd, "message_id"),
    e.ReasoningStart: (e.ReasoningEnd, "message_id"),
    e.ReasoningMessageStart: (e.ReasoningMessageEnd, "message_id"),
    e.ToolCallStart: (e.ToolCallEnd, "tool_call_id"),
    e.StepStarted: (e.StepFinished, "step_name"),
}


def check(events: Sequence[Event], *, ended: bool = True) -> None:
    """Assert that a run's own events are well formed. `ended` false: it was stopped, open items are the runner's to close.

    Raises:
        AssertionError: with the event that is wrong.
    """
    ends = {end: (start, name) for start, (end, name) in PAIRS.items()}
    open_items: set[tuple[type[Event], str]] = set()
    used: set[tuple[type[Event], str]] = set()
    calls: set[str] = set()
    for place, event in enumerate(events):
        at = f"event {place}, {event!r}"
        assert not isinstance(event, e.RunStarted | e.RunError | e.RunQueued | e.RunDequeued), f"the runner's own: {at}"
        assert not isinstance(event, e.RunFinished) or place == len(events) - 1, f"something follows the end: {at}"
        assert msgspec.UNSET is event.seq and msgspec.UNSET is event.timestamp, f"the envelope is the runner's: {at}"
        data = e.encode(event)
        again = msgspec.json.decode(e.encode(e.decode(data)))
        assert again == msgspec.json.decode(data), f"does not survive its JSON: {at}"
        kind = type(event)
        if kind in PAIRS:
            key = (kind, str(getattr(event, PAIRS[kind][1])))
            assert key[1], f"an empty id: {at}"
            assert key not in open_items, f"opened twice: {at}"
            assert kind is e.StepStarted or key not in used, f"an id used twice: {at}"
            open_items.add(key)
            used.add(key)
        elif kind in ends:
            start, name = ends[kind]
            key = (start, str(getattr(event, name)))
            assert key in open_items, f"ends what is not open: {at}"
            open_items.remove(key)
        elif isinstance(event, e.TextMessageContent | e.ReasoningMessageContent):
            start = e.TextMessageStart if isinstance(event, e.TextMessageContent) else e.ReasoningMessageStart
            assert (start, event.message_id) in open_items, f"a piece of what is not open: {at}"
            assert event.delta, f"an empty piece: {at}"
        elif isinstance(event, e.ToolCallArgs):
            assert (e.ToolCallStart, event.tool_call_id) in open_items, f"arguments of a call that is not open: {at}"
        elif isinstance(event, e.ToolCallResult):
            assert event.tool_call_id not in calls, f"a second result: {at}"
            assert (e.ToolCallStart, event.tool_call_id) not in open_items, f"a result before the arguments' end: {at}"
            calls.add(event.tool_call_id)
    assert not ended or not open_items, f"left open: {sorted((kind.__name__, id) for kind, id in open_items)}"


class AgentSuite:
    """Subclass it, give it an agent and a prompt that makes it say at least two things."""

    prompt = "Hello"

    def make_agent(self) -> Agent:
        raise NotImplementedError("Return the agent to test, a new one or one that can run several times.")

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    def test_has_a_name_and_a_description(self) -> None:
        agent = self.make_agent()
        assert isinstance(agent, Agent)
        assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", agent.name)
        assert isinstance(agent.description, str)

    @pytest.mark.anyio
    async def test_events_are_balanced_and_ids_unique(self) -> None:
        check(await collect(self.make_agent(), self.prompt))

    @pytest.mark.anyio
    async def test_says_something(self) -> None:
        assert await collect(self.make_agent(), self.prompt)

    @pytest.mark.anyio
    async def test_runs_again_and_beside_itself(self) -> None:
        agent = self.make_agent()
        async with anyio.create_task_group() as tasks:

            async def one() -> None:
                check(await collect(agent, self.prompt))

            for _ in range(3):
                tasks.start_soon(one)

    @pytest.mark.anyio
    async def test_cancel_passes_through(self) -> None:
        """Stopped after its first event it ends at once, and swallows nothing (I19)."""
        events = await collect(self.make_agent(), self.prompt, cancel_after=lambda event: True)
        assert events.cancelled or len(events) == 1 or isinstance(events[-1], e.RunFinished)
        assert events.error is None
        check(events, ended=False)

    @pytest.mark.anyio
    async def test_closing_early_is_quiet(self) -> None:
        """`aclose` after the first event ends the run without an exception and without leaving tasks behind."""
        agent = self.make_agent()
        seen = await collect(_FirstOnly(agent), self.prompt)
        assert len(seen) <= 1


class _FirstOnly:
    """An agent that takes one event of another and closes it."""

    def __init__(self, agent: Agent) -> None:
        self.name = agent.name
        self.description = agent.description
        self._agent = agent

    async def run(self, input: RunInput, context: RunContext) -> AsyncIterator[Event]:
        items = self._agent.run(input, context)
        try:
            async for event in items:
                yield event
                break
        finally:
            await cast(Any, items).aclose()
