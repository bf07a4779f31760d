"""Runs of a pydantic-ai agent that go on after a crash: what is kept, what is made again, what the model is told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from pydantic_ai import Agent, Tool
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

from core import DEADLINE_S, ME, core, die, ended, new_id, resolve, send
from runcast.agents.base import RunContext, Turn
from runcast.agents.pydantic_ai import PydanticAIAgent, ToolText
from runcast.agents.pydantic_ai_checkpoint import ADAPTER, UNKNOWN, VERSION, kept, recover
from runcast.agents.pydantic_ai_history import messages_of
from runcast.errors import ConfigError
from runcast.runs import AgentState, RunInput
from runcast.service import Sent
from runcast.stores.sqlite import SqliteStore
from runcast.transcript import TextPart, ToolPart, TranscriptRun, load

pytestmark = pytest.mark.anyio


class World:
    """An agent with three tools; it is held still where `stuck_in` says, on its first attempt."""

    def __init__(self, stuck_in: str, ids: tuple[str, str, str] = ("c1", "c2", "c3")) -> None:
        self.stuck_in = stuck_in
        self.ids = ids
        self.reached = anyio.Event()
        self.ran: list[str] = []
        self.asked: list[list[ModelMessage]] = []

    async def _may_stick(self, place: str) -> None:
        if place == self.stuck_in and not self.reached.is_set():
            await anyio.sleep(0.05)  # tools beside it end
            self.reached.set()
            await anyio.sleep_forever()

    async def _say(self, messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        self.asked.append(list(messages))
        step = sum(isinstance(message, ModelResponse) for message in messages)
        if step == 0:
            yield "I look. "
            await self._may_stick("first answer")
            for place, (name, id) in enumerate(zip(("look", "pay", "count"), self.ids, strict=True), 1):
                yield {place: DeltaToolCall(name=name, json_args="{}", tool_call_id=id)}
        elif step == 1 and self.stuck_in == "second round":
            yield {0: DeltaToolCall(name="look", json_args="{}", tool_call_id=self.ids[0])}
        else:
            yield "It is"
            await self._may_stick("last answer")
            yield " done."

    def agent(self, **options: Any) -> PydanticAIAgent:
        agent = Agent(FunctionModel(stream_function=self._say), name="dying")

        @agent.tool_plain
        async def look() -> str:
            self.ran.append("look")
            if self.ran.count("look") == 2:
                await self._may_stick("second round")
            return "found"

        @agent.tool_plain
        async def pay() -> str:
            self.ran.append("pay")
            await self._may_stick("pay")
            return "paid"

        @agent.tool_plain
        async def count() -> int:
            self.ran.append("count")
            await self._may_stick("count")
            return 3

        options = {"on_crash": "resume", "tools": {"count": ToolText(idempotent=True)}, **options}
        return PydanticAIAgent(agent, **options)


async def after_a_crash(path: Path, world: World, **options: Any) -> tuple[TranscriptRun, list[ModelMessage]]:
    """The run after the process died in it and another one took it up, and what a later run would know of it."""
    sent = await die(path, world.agent(**options), world.reached)
    async with core(world.agent(**options), path=path) as service:
        assert await ended(service, sent) == "done"
        run = load((await service.view(ME, sent.thread)).transcript).runs[0]
        later = await service.send(ME, send("and?", sent.thread))
        await ended(service, later)
    store = await SqliteStore.open(path)
    states = await store.agent_states([sent.run])
    await store.close()
    context = RunContext(
        input=RunInput(thread="t", run="r", agent="a"), principal=ME, new_id=new_id, emit=nothing, history=nothing
    )
    return run, await messages_of([Turn(run, states[0])], context)


async def nothing(*_: Any) -> Any:
    return []


def shown(run: TranscriptRun) -> list[str]:
    """Texts, and tools with their status."""
    parts = [part for message in run.messages[1:] for part in message.parts]
    return [
        part.text if isinstance(part, TextPart) else f"{part.id}:{part.status}"
        for part in parts
        if isinstance(part, TextPart | ToolPart)
    ]


def kinds(messages: list[ModelMessage]) -> list[str]:
    return [type(part).__name__ for message in messages for part in message.parts]


WHOLE = ["UserPromptPart", "TextPart", *["ToolCallPart"] * 3, *["ToolReturnPart"] * 3, "TextPart"]


async def test_a_crash_in_the_first_answer_begins_it_again(tmp_path: Path) -> None:
    world = World("first answer")
    run, messages = await after_a_crash(tmp_path / "log.db", world)
    assert shown(run) == ["I look. ", "c1:done", "c2:done", "c3:done", "It is done."]
    assert (run.attempt, world.ran) == (2, ["look", "pay", "count"])
    assert kinds(messages) == WHOLE


async def test_a_crash_in_the_last_answer_makes_only_that_again(tmp_path: Path) -> None:
    world = World("last answer")
    run, messages = await after_a_crash(tmp_path / "log.db", world)
    assert shown(run) == ["I look. ", "c1:done", "c2:done", "c3:done", "It is done."]
    assert world.ran == ["look", "pay", "count"], "no tool ran twice"
    assert kinds(messages) == WHOLE
    assert kinds(world.asked[1]) == kinds(world.asked[2]), "the model is asked the same again"


async def test_a_tool_whose_result_was_lost_is_told_as_that(tmp_path: Path) -> None:
    world = World("pay")
    run, messages = await after_a_crash(tmp_path / "log.db", world)
    assert shown(run) == ["I look. ", "c1:done", "c2:interrupted", "c3:done", "It is done."]
    assert world.ran == ["look", "pay", "count"]
    assert kinds(messages) == WHOLE
    returned = {
        part.tool_call_id: (part.content, part.outcome)
        for message in world.asked[1]
        if isinstance(message, ModelRequest)
        for part in message.parts
        if isinstance(part, ToolReturnPart)
    }
    assert returned["c2"] == (UNKNOWN, "interrupted")
    assert returned["c1"] == ("found", "success")


async def test_an_idempotent_tool_is_run_again_and_the_others_are_not(tmp_path: Path) -> None:
    world = World("count")
    run, messages = await after_a_crash(tmp_path / "log.db", world)
    assert shown(run) == ["I look. ", "c1:done", "c2:done", "c3:done", "It is done."]
    assert sorted(world.ran) == ["count", "count", "look", "pay"]
    assert sorted(kinds(messages)) == sorted(WHOLE)


async def test_a_model_that_numbers_its_calls_anew_confuses_nobody(tmp_path: Path) -> None:
    world = World("second round", ids=("call_0", "call_1", "call_2"))
    run, _ = await after_a_crash(tmp_path / "log.db", world)
    assert shown(run) == [
        "I look. ",
        "call_0:done",
        "call_1:done",
        "call_2:done",
        "call_0.2:interrupted",
        "It is done.",
    ]
    assert world.ran == ["look", "pay", "count", "look"]


async def test_restart_does_not_run_a_tool_twice(tmp_path: Path) -> None:
    world = World("last answer")
    path = tmp_path / "log.db"
    sent = await die(path, world.agent(on_crash="restart"), world.reached)
    async with core(world.agent(on_crash="restart"), path=path) as service:
        assert await ended(service, sent) == "interrupted"
    assert world.ran == ["look", "pay", "count"]


async def test_restart_begins_again_if_all_tools_are_idempotent(tmp_path: Path) -> None:
    world = World("last answer")
    again = {name: ToolText(idempotent=True) for name in ("look", "pay", "count")}
    run, messages = await after_a_crash(tmp_path / "log.db", world, on_crash="restart", tools=again)
    assert shown(run) == ["I look. ", "c1:done", "c2:done", "c3:done", "It is done."]
    assert sorted(world.ran) == ["count", "count", "look", "look", "pay", "pay"]
    assert kinds(messages) == WHOLE


class Asking:
    """An agent whose first tool has to be approved; held still where `stuck_in` says."""

    def __init__(self, stuck_in: str) -> None:
        self.stuck_in = stuck_in
        self.reached = anyio.Event()
        self.ran: list[str] = []
        self.asked: list[list[ModelMessage]] = []

    async def _may_stick(self, place: str) -> None:
        if place == self.stuck_in and not self.reached.is_set():
            self.reached.set()
            await anyio.sleep_forever()

    async def _say(self, messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        self.asked.append(list(messages))
        step = sum(isinstance(message, ModelResponse) for message in messages)
        if step == 0:
            yield {0: DeltaToolCall(name="pay", json_args="{}", tool_call_id="c1")}
        elif step == 1:
            yield "Paid. "
            await self._may_stick("first answer")
            yield {1: DeltaToolCall(name="look", json_args="{}", tool_call_id="c2")}
        else:
            yield "It is"
            await self._may_stick("last answer")
            yield " done."

    def agent(self) -> PydanticAIAgent:
        agent = Agent(FunctionModel(stream_function=self._say), name="asking")

        @agent.tool_plain(requires_approval=True)
        async def pay() -> str:
            self.ran.append("pay")
            await self._may_stick("pay")
            return "paid"

        @agent.tool_plain
        async def look() -> str:
            self.ran.append("look")
            return "found"

        return PydanticAIAgent(agent, on_crash="resume")


@pytest.mark.parametrize("place", ["first answer", "last answer"])
async def test_what_an_answer_began_goes_on_after_the_approved_tool(tmp_path: Path, place: str) -> None:
    """I20: the tool ran once, and the model is told what it gave."""
    world, path = Asking(place), tmp_path / "log.db"
    run = await approved(path, world)
    async with core(world.agent(), path=path) as service:
        with anyio.fail_after(DEADLINE_S):
            assert (await service.wait_run(ME, run.run, timeout_s=DEADLINE_S)).status == "done"
        transcript = load((await service.view(ME, run.thread)).transcript)
    assert world.ran == ["pay", "look"]
    texts = [
        part.text for message in transcript.runs[-1].messages for part in message.parts if isinstance(part, TextPart)
    ]
    assert texts == ["Paid. ", "It is done."] and transcript.runs[-1].attempt == 2
    at = 1 if place == "first answer" else 2
    assert kinds(world.asked[at]) == kinds(world.asked[at + 1]), "the model is asked the same again"
    assert [
        part.content for message in world.asked[-1] for part in message.parts if isinstance(part, ToolReturnPart)
    ] == [
        "paid",
        "found",
    ]


async def test_an_approved_tool_of_which_nothing_is_known_ends_the_run(tmp_path: Path) -> None:
    world, path = Asking("pay"), tmp_path / "log.db"
    run = await approved(path, world)
    async with core(world.agent(), path=path) as service:
        with anyio.fail_after(DEADLINE_S):
            assert (await service.wait_run(ME, run.run, timeout_s=DEADLINE_S)).status == "interrupted"
    assert world.ran == ["pay"]


async def approved(path: Path, world: Asking) -> Sent:
    """The run that goes on with the yes, after its process died in it."""
    store = await SqliteStore.open(path)
    with anyio.CancelScope() as scope:
        async with core(world.agent(), store=store) as service:
            sent = await service.send(ME, send("go"))
            assert await ended(service, sent) == "waiting"
            run = (await service.resolve(ME, resolve(f"{sent.run}.1", {"approved": True}))).run or ""
            with anyio.fail_after(DEADLINE_S):
                await world.reached.wait()
                await service.runner._executions.get(run).flush()  # type: ignore[union-attr]
            await store.close()
            scope.cancel()
    return msgspec.structs.replace(sent, run=run)


async def test_what_cannot_be_read_keeps_nothing() -> None:
    run = TranscriptRun(id="r", status="running")
    for state in (
        None,
        AgentState(run="r", adapter="other", version=1, data=b"{}"),
        AgentState(run="r", adapter=ADAPTER, version=VERSION + 1, data=b"{}"),
        AgentState(run="r", adapter=ADAPTER, version=VERSION, data=b"not JSON"),
        AgentState(
            run="r", adapter=ADAPTER, version=VERSION, data=b'{"messages":[{"kind":"?"}],"texts":[],"calls":[]}'
        ),
    ):
        assert kept(Turn(run, state)) is None
        assert await recover(Turn(run, state), None) is None  # type: ignore[arg-type]


def test_policies_are_checked_and_a_tool_may_carry_its_own() -> None:
    def pay() -> str:
        return "paid"

    own = {"runcast": {"title": "Paying…", "idempotent": True, "on_cancel": "finish"}}
    agent = Agent(FunctionModel(stream_function=World("")._say), name="a", tools=[Tool(pay, metadata=own)])
    served = PydanticAIAgent(agent, on_disconnect="cancel")
    assert served._tools["pay"] == ToolText(title="Paying…", idempotent=True, on_cancel="finish")
    assert (served.on_crash, served.on_disconnect) == ("never", "cancel")
    with pytest.raises(ConfigError) as caught:
        PydanticAIAgent(agent, on_crash="always", on_disconnect="stop")  # type: ignore[arg-type]
    assert len(caught.value.problems) == 2
