"""Pydantic AI agents, driven by the real package with its own scripted models."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import anyio.to_thread
import pytest
from pydantic import BaseModel
from pydantic_ai import Agent, ModelRetry, RunContext, Tool
from pydantic_ai import exceptions as pai
from pydantic_ai.exceptions import CallDeferred, ModelHTTPError, ToolFailed
from pydantic_ai.messages import (
    CustomEvent,
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models.function import AgentInfo, DeltaThinkingPart, DeltaToolCall, FunctionModel
from pydantic_ai.models.test import TestModel
from pydantic_ai.output import NativeOutput
from pydantic_ai.tools import DeferredToolRequests, ToolDefinition
from pydantic_ai.toolsets import ExternalToolset
from pydantic_ai.usage import UsageLimits

from runcast import events as e
from runcast.agents.base import Agent as Served
from runcast.agents.base import RunContext as Context
from runcast.agents.base import Turn
from runcast.agents.pydantic_ai import Artifact, PydanticAIAgent, ToolProgress, ToolText, args_hash, explained
from runcast.errors import AgentError, ConfigError
from runcast.forms import fault_of
from runcast.runs import AgentState, Answer
from runcast.testing import AgentSuite, Collected, collect
from runcast.testing.agent_suite import check

Script = Any


def model(*answers: Any) -> FunctionModel:
    """A model that gives the n-th of `answers` (pieces of a stream) to the n-th request of a run, by what it is told."""

    async def stream(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        last = max(
            (place for place, one in enumerate(messages) if any(isinstance(p, UserPromptPart) for p in one.parts)),
            default=0,
        )
        turn = sum(isinstance(message, ModelResponse) for message in messages[last:])
        for piece in answers[min(turn, len(answers) - 1)]:
            yield piece

    return FunctionModel(stream_function=stream)


def call(name: str, args: object, id: str = "call-1", index: int = 0) -> dict[int, DeltaToolCall]:
    return {index: DeltaToolCall(name=name, json_args=json.dumps(args), tool_call_id=id)}


def of(events: Collected, kind: type[e.Event]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def messages(events: Collected) -> list[ModelMessage]:
    assert events.saved is not None and events.saved.adapter == "pydantic_ai"
    return ModelMessagesTypeAdapter.validate_json(events.saved.data)


def prompts(history: list[ModelMessage]) -> list[str]:
    return [str(part.content) for one in history for part in one.parts if isinstance(part, UserPromptPart)]


class TestConformance(AgentSuite):
    def make_agent(self) -> Served:
        agent = Agent(
            model([{0: DeltaThinkingPart(content="Hm")}, call("look", {"at": "x"}, index=1)], ["Found", " it"])
        )

        @agent.tool_plain
        def look(at: str) -> str:
            return f"{at} is there"

        return PydanticAIAgent(agent, name="looker")


# --- words ------------------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_text_is_streamed_with_its_first_piece() -> None:
    events = await collect(PydanticAIAgent(Agent(model(["Hel", "lo"]), name="t")), "Hi")
    assert events.types == [
        "TEXT_MESSAGE_START",
        "TEXT_MESSAGE_CONTENT",
        "TEXT_MESSAGE_CONTENT",
        "TEXT_MESSAGE_END",
        "RUN_FINISHED",
    ]
    assert events.text == "Hello"
    check(events)


@pytest.mark.anyio
async def test_thinking_is_a_span_with_its_signature() -> None:
    pieces = [{0: DeltaThinkingPart(content="Let me ")}, {0: DeltaThinkingPart(content="see", signature="sig")}, "Yes"]
    events = await collect(PydanticAIAgent(Agent(model(pieces))), "Hi")
    assert events.types[:6] == [
        "REASONING_START",
        "REASONING_MESSAGE_START",
        "REASONING_MESSAGE_CONTENT",
        "REASONING_MESSAGE_CONTENT",
        "REASONING_MESSAGE_END",
        "REASONING_ENCRYPTED_VALUE",
    ]
    assert "".join(event.delta for event in of(events, e.ReasoningMessageContent)) == "Let me see"
    assert of(events, e.ReasoningEncryptedValue)[0].encrypted_value == "sig"
    check(events)


@pytest.mark.anyio
async def test_an_empty_answer_opens_nothing() -> None:
    events = await collect(PydanticAIAgent(Agent(TestModel(custom_output_text=""))), "Hi", catch=True)
    assert "TEXT_MESSAGE_START" not in events.types


# --- tools ------------------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_arguments_arrive_as_text_piece_by_piece() -> None:
    pieces = [
        {0: DeltaToolCall(name="add", json_args='{"a": 1,', tool_call_id="c")},
        {0: DeltaToolCall(json_args=' "b": 2}')},
    ]
    agent = Agent(model(pieces, ["3"]))

    @agent.tool_plain
    def add(a: int, b: int) -> dict[str, int]:
        return {"sum": a + b}

    events = await collect(PydanticAIAgent(agent), "1 + 2?")
    assert [event.delta for event in of(events, e.ToolCallArgs)] == ['{"a": 1,', ' "b": 2}']
    (result,) = of(events, e.ToolCallResult)
    assert (result.tool_call_id, result.content, result.result) == ("c", '{"sum":3}', {"sum": 3})
    assert result.status is e.UNSET
    assert events.types.index("TOOL_CALL_END") < events.types.index("TOOL_CALL_RESULT")
    check(events)


@pytest.mark.anyio
async def test_arguments_that_come_as_an_object_are_told_once() -> None:
    agent = Agent(TestModel())

    @agent.tool_plain
    def greet(name: str) -> str:
        return f"Hello {name}"

    events = await collect(PydanticAIAgent(agent), "Hi")
    assert [json.loads(event.delta) for event in of(events, e.ToolCallArgs)] == [{"name": "a"}]
    check(events)


@pytest.mark.anyio
async def test_a_call_without_arguments_has_an_empty_object() -> None:
    agent = Agent(model([{0: DeltaToolCall(name="now", json_args="", tool_call_id="c")}], ["noon"]))

    @agent.tool_plain
    def now() -> str:
        return "12:00"

    events = await collect(PydanticAIAgent(agent), "When?")
    assert "".join(event.delta for event in of(events, e.ToolCallArgs)) == "{}"


@pytest.mark.anyio
async def test_parallel_tools_end_in_the_order_of_their_work() -> None:
    agent = Agent(model([call("work", {"id": "a"}, "a", 0), call("work", {"id": "b"}, "b", 1)], ["done"]))
    b_is_done = anyio.Event()

    @agent.tool_plain
    async def work(id: str) -> str:
        if id == "a":
            await b_is_done.wait()  # would wait for ever if they ran one after the other
        else:
            b_is_done.set()
        return id

    events = await collect(PydanticAIAgent(agent), "Go")
    assert [event.tool_call_id for event in of(events, e.ToolCallStart)] == ["a", "b"]
    assert sorted(event.tool_call_id for event in of(events, e.ToolCallResult)) == ["a", "b"]
    check(events)


@pytest.mark.anyio
async def test_progress_and_artifacts_come_in_order_with_their_call() -> None:
    @dataclass(kw_only=True)
    class Moved(CustomEvent, name="test_moved"):
        done: int
        message: str = ""

    @dataclass(kw_only=True)
    class Noted(CustomEvent, name="test_noted"):
        what: str

    @dataclass(kw_only=True)
    class Hidden(CustomEvent, name="test_hidden", ui=False):
        what: str

    agent = Agent(model([call("work", {}, "c")], ["done"]))

    @agent.tool
    async def work(ctx: RunContext[None]) -> str:
        await ctx.emit(ToolProgress(progress=1, total=2, message="half", details={"x": 1}))
        await ctx.emit(Moved(done=5, message="moved"))
        await ctx.emit(Noted(what="this"))
        await ctx.emit(Hidden(what="secret"))
        await ctx.emit(Artifact(kind="diagram", content="graph TD", title="Tables", id="d"))
        return "ok"

    events = await collect(PydanticAIAgent(agent), "Go")
    start, end = events.types.index("TOOL_CALL_END"), events.types.index("TOOL_CALL_RESULT")
    assert list(events[start + 1 : end]) == [
        e.ToolCallProgress(tool_call_id="c", progress=1.0, total=2.0, message="half", data={"x": 1}),
        e.ToolCallProgress(tool_call_id="c", message="moved", data={"done": 5}),
        e.Custom(name="test_noted", value={"what": "this", "toolCallId": "c"}),
        e.ArtifactSnapshot(artifact_id="d", kind="diagram", content="graph TD", name="Tables", tool_call_id="c"),
    ]


@pytest.mark.anyio
async def test_tools_have_sentences_for_people() -> None:
    async def search(query: str) -> list[str]:
        return [query, query]

    tool = Tool(search, metadata={"runcast": {"title": "Searching your tasks…", "summary": "Found {n} for {query}"}})
    agent = Agent(model([call("search", {"query": "milk"})], ["2"]), tools=[tool])
    events = await collect(PydanticAIAgent(agent), "Go")
    assert of(events, e.ToolCallStart)[0].title == "Searching your tasks…"
    assert of(events, e.ToolCallResult)[0].summary == "Found 2 for milk"

    own = {"search": ToolText(title="Searching {query}…", summary="Found {nothing}")}
    events = await collect(PydanticAIAgent(agent, tools=own), "Go")
    assert of(events, e.ToolCallStart)[0].title is e.UNSET
    assert of(events, e.ToolCallProgress)[0].message == "Searching milk…"
    assert of(events, e.ToolCallResult)[0].summary is e.UNSET


@pytest.mark.anyio
async def test_a_tools_sentences_may_be_made_by_functions() -> None:
    async def search(query: str) -> dict[str, int]:
        return {query: 3}

    def title(arguments: Mapping[str, Any]) -> str:
        return f"Searching {arguments['query'].upper()}…"

    def summary(arguments: Mapping[str, Any], result: Any) -> str:
        return f"Found {result[arguments['query']]}"

    tool = Tool(search, metadata={"runcast": {"title": title, "summary": summary}})
    agent = Agent(model([call("search", {"query": "milk"})], ["3"]), tools=[tool])
    events = await collect(PydanticAIAgent(agent), "Go")
    assert of(events, e.ToolCallStart)[0].title is e.UNSET
    assert of(events, e.ToolCallProgress)[0].message == "Searching MILK…"
    assert of(events, e.ToolCallResult)[0].summary == "Found 3"

    def broken(*_: Any) -> str:
        raise LookupError("nothing of this is told")

    own = {"search": ToolText(title=broken, summary=lambda *_: None)}
    events = await collect(PydanticAIAgent(agent, tools=own), "Go")
    assert not of(events, e.ToolCallProgress)
    assert of(events, e.ToolCallResult)[0].summary is e.UNSET
    assert of(events, e.RunFinished)


@pytest.mark.anyio
async def test_a_tool_may_fail_ask_again_or_not_exist() -> None:
    agent = Agent(
        model(
            [call("work", {"n": 1}, "one")],
            [call("work", {"n": 2}, "two")],
            [call("work", {"n": "no number"}, "three")],
            [call("missing", {}, "four")],
            ["I give up"],
        ),
        retries=5,
    )

    @agent.tool_plain
    def work(n: int) -> str:
        if n == 1:
            raise ModelRetry("Use two.")
        raise ToolFailed("There is no such table.")

    events = await collect(PydanticAIAgent(agent), "Go")
    results = {result.tool_call_id: result for result in of(events, e.ToolCallResult)}
    assert [(id, result.status) for id, result in results.items()] == [
        ("one", "error"),
        ("two", "error"),
        ("three", "error"),
        ("four", "error"),
    ]
    assert results["two"].error == "There is no such table."
    assert events.text == "I give up"
    assert "\n" not in "".join(result.error for result in results.values())
    check(events)


@pytest.mark.anyio
async def test_an_exception_in_a_tool_is_the_runners_and_its_text_is_in_no_event() -> None:
    agent = Agent(model([call("work", {})]))

    @agent.tool_plain
    def work() -> str:
        raise RuntimeError("password=hunter2")

    events = await collect(PydanticAIAgent(agent), "Go", catch=True)
    assert isinstance(events.error, RuntimeError)
    assert not any(b"hunter2" in e.encode(event) for event in events)
    assert prompts(messages(events)) == ["Go"]  # what was asked is kept for the next run


# --- approvals --------------------------------------------------------------------------------------------------------


def approving(*calls: dict[int, DeltaToolCall]) -> tuple[PydanticAIAgent, list[str]]:
    deleted: list[str] = []
    agent = Agent(model(list(calls), ["Done."]), name="approving")

    @agent.tool_plain(requires_approval=True)
    def delete(name: str, force: bool = False) -> str:
        deleted.append(name)
        return f"{name} is gone"

    return PydanticAIAgent(agent), deleted


@pytest.mark.anyio
async def test_a_tool_that_needs_approval_makes_the_run_wait() -> None:
    agent, deleted = approving(call("delete", {"name": "b", "force": True}, "c1"))
    events = await collect(agent, "Delete b", run="r1")
    asked = of(events, e.InterruptRequested)[0]
    canonical = json.dumps({"force": True, "name": "b"}, separators=(",", ":"), sort_keys=True)
    assert asked.args_hash == hashlib.sha256(canonical.encode()).hexdigest() == args_hash({"name": "b", "force": True})
    assert (asked.interrupt.id, asked.interrupt.reason, asked.interrupt.tool_call_id) == ("r1.1", "tool_call", "c1")
    assert asked.interrupt.response_schema["required"] == ["approved"]
    finished = events[-1]
    assert isinstance(finished, e.RunFinished) and finished.outcome is not e.UNSET
    assert finished.outcome.type == "interrupt" and finished.outcome.interrupts == [asked.interrupt]
    assert deleted == [] and not of(events, e.ToolCallResult)
    check(events)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("payload", "ran", "status"),
    [
        ({"approved": True}, ["b"], None),
        ({"approved": True, "editedArgs": {"name": "c"}}, ["c"], None),
        ({"approved": False, "reason": "Not that one."}, [], "denied"),
        ({"approved": "true"}, [], "denied"),
        ({}, [], "denied"),
        (None, [], "denied"),
    ],
)
async def test_the_answer_decides_and_the_tool_runs_at_most_once(
    payload: Any, ran: list[str], status: str | None
) -> None:
    """I20."""
    agent, deleted = approving(call("delete", {"name": "b"}, "c1"))
    waiting = await collect(agent, "Delete b")
    resumed = await collect(agent, resume=waiting, answers={waiting.interrupts[0].id: payload})
    assert deleted == ran
    (result,) = of(resumed, e.ToolCallResult)
    assert result.tool_call_id == "c1"
    assert result.status == (status or e.UNSET)
    assert "TOOL_CALL_START" not in resumed.types  # the waiting run has shown it
    assert resumed.text == "Done."
    if isinstance(payload, dict) and "reason" in payload:
        assert result.error == "Not that one."
    check(resumed)
    again = await collect(agent, "And now?", history=[waiting, resumed])
    assert deleted == ran
    assert again.interrupts


@pytest.mark.anyio
async def test_cancelled_means_denied() -> None:
    agent, deleted = approving(call("delete", {"name": "b"}, "c1"))
    waiting = await collect(agent, "Delete b")
    answer = Answer(interrupt_id=waiting.interrupts[0].id, status="cancelled", payload={"approved": True})
    resumed = await collect(agent, resume=waiting, answers=[answer])
    assert deleted == [] and of(resumed, e.ToolCallResult)[0].status == "denied"


@pytest.mark.anyio
async def test_two_questions_at_once_are_answered_one_by_one() -> None:
    agent, deleted = approving(call("delete", {"name": "a"}, "c1", 0), call("delete", {"name": "b"}, "c2", 1))
    waiting = await collect(agent, "Delete both", run="r1")
    assert [one.id for one in waiting.interrupts] == ["r1.1", "r1.2"]
    resumed = await collect(agent, resume=waiting, answers={"r1.1": {"approved": False}, "r1.2": {"approved": True}})
    assert deleted == ["b"]
    assert {r.tool_call_id: r.status for r in of(resumed, e.ToolCallResult)} == {"c1": "denied", "c2": e.UNSET}


@pytest.mark.anyio
async def test_the_answer_may_come_to_another_process() -> None:
    """Nothing but the saved bytes is needed: a new agent goes on where another one asked."""
    first, _ = approving(call("delete", {"name": "b"}, "c1"))
    waiting = await collect(first, "Delete b")
    state = waiting.saved
    assert state is not None
    copy = AgentState(run=state.run, adapter=state.adapter, version=state.version, data=bytes(state.data))
    second, deleted = approving(call("delete", {"name": "b"}, "c1"))
    turn = Turn(waiting.turn.run, copy)
    elsewhere = Collected()
    elsewhere.input = waiting.input
    resumed = await collect(
        second, resume=_as_turn(elsewhere, turn), answers={waiting.interrupts[0].id: {"approved": True}}
    )
    assert deleted == ["b"] and resumed.text == "Done."


class _Elsewhere(Collected):
    kept: Turn

    @property
    def turn(self) -> Turn:
        return self.kept


def _as_turn(events: Collected, turn: Turn) -> Collected:
    made = _Elsewhere()
    made.input, made.kept = events.input, turn
    return made


@pytest.mark.anyio
async def test_an_answer_whose_messages_are_lost_runs_no_tool() -> None:
    agent, deleted = approving(call("delete", {"name": "b"}, "c1"))
    waiting = await collect(agent, "Delete b")
    waiting.saved = None  # the transcript closes the dangling call: there is nothing to approve any more
    with pytest.raises(AgentError) as caught:
        await collect(agent, resume=waiting, answers={waiting.interrupts[0].id: {"approved": True}})
    assert caught.value.agent_code == "stale_answer"
    assert deleted == []


@pytest.mark.anyio
async def test_what_was_not_approved_does_not_run() -> None:
    """I20: the saved messages hold other arguments than those that the person saw."""
    agent, deleted = approving(call("delete", {"name": "b"}, "c1"))
    waiting = await collect(agent, "Delete b")
    assert waiting.saved is not None
    changed = waiting.saved.data.replace(b'\\"name\\": \\"b\\"', b'\\"name\\": \\"z\\"')
    assert changed != waiting.saved.data
    waiting.saved = AgentState(
        run=waiting.saved.run, adapter=waiting.saved.adapter, version=waiting.saved.version, data=changed
    )
    resumed = await collect(agent, resume=waiting, answers={waiting.interrupts[0].id: {"approved": True}})
    assert deleted == []
    result = of(resumed, e.ToolCallResult)[0]
    assert result.status == "denied" and "arguments_changed" in str(result.error)


@pytest.mark.anyio
async def test_edited_arguments_have_the_form_of_the_tool() -> None:
    agent, _ = approving(call("delete", {"name": "b"}, "c1"))
    waiting = await collect(agent, "Delete b")
    schema = waiting.interrupts[0].response_schema
    assert isinstance(schema, dict)
    assert fault_of(schema, {"approved": True, "editedArgs": {"name": "c"}}) is None
    wrong = fault_of(schema, {"approved": True, "editedArgs": {"name": 5}})
    assert wrong is not None and wrong.at == "/editedArgs/name"


@pytest.mark.anyio
async def test_a_call_whose_result_a_person_brings_is_a_question() -> None:
    agent = Agent(
        model([call("which_city", {"question": "Which city?"}, "c1"), call("size", {}, "c2", 1)], ["Done."]),
        name="asking",
        toolsets=[
            ExternalToolset(
                [
                    ToolDefinition(
                        name="which_city",
                        parameters_json_schema={"type": "object", "properties": {"question": {"type": "string"}}},
                        return_schema={"type": "string", "enum": ["Rome", "Oslo"]},
                    )
                ]
            )
        ],
    )

    @agent.tool_plain
    def size() -> int:
        raise CallDeferred

    served = PydanticAIAgent(agent)
    waiting = await collect(served, "Go", run="r1")
    asked = {one.tool_call_id: one for one in waiting.interrupts}
    city = asked["c1"]
    assert (city.reason, city.message) == ("input_required", "Which city?")
    assert city.response_schema == {"type": "string", "enum": ["Rome", "Oslo"]}
    assert isinstance(city.metadata, dict) and city.metadata["arguments"] == {"question": "Which city?"}
    assert city.metadata["parameters"]["properties"] == {"question": {"type": "string"}}
    given = [
        Answer(interrupt_id=city.id, status="resolved", payload="Rome"),
        Answer(interrupt_id=asked["c2"].id, status="cancelled", expired=True),
    ]
    resumed = await collect(served, resume=waiting, answers=given)
    assert resumed.text == "Done."
    results = {one.tool_call_id: one for one in of(resumed, e.ToolCallResult)}
    assert results["c1"].result == "Rome"
    assert results["c2"].status == "error" and "in time" in str(results["c2"].content)


@pytest.mark.anyio
async def test_approval_can_follow_approval() -> None:
    steps: list[str] = []
    agent = Agent(model([call("step", {"n": 1}, "c1")], [call("step", {"n": 2}, "c2")], ["Both done."]))

    @agent.tool_plain(requires_approval=True)
    def step(n: int) -> str:
        steps.append(str(n))
        return "ok"

    served = PydanticAIAgent(agent)
    first = await collect(served, "Go")
    second = await collect(served, resume=first, answers={first.interrupts[0].id: {"approved": True}})
    third = await collect(served, history=[first], resume=second, answers={second.interrupts[0].id: {"approved": True}})
    assert steps == ["1", "2"] and third.text == "Both done."
    assert [type(one).__name__ for one in (*messages(first), *messages(second), *messages(third))] == [
        "ModelRequest",
        "ModelResponse",
        "ModelRequest",
        "ModelResponse",
        "ModelRequest",
        "ModelResponse",
    ]


def test_an_agent_that_cannot_ask_is_refused_when_it_must() -> None:
    agent = Agent(TestModel(), name="strict")

    @agent.tool_plain(requires_approval=True)
    def delete() -> str:
        return "gone"

    @agent.output_validator
    def valid(text: str) -> str:
        return text

    with pytest.raises(ConfigError, match="DeferredToolRequests"):
        PydanticAIAgent(agent)
    PydanticAIAgent(Agent(TestModel(), output_type=[str, DeferredToolRequests], name="able"))


# --- history ----------------------------------------------------------------------------------------------------------


def remembering() -> tuple[PydanticAIAgent, list[list[str]]]:
    seen: list[list[str]] = []

    async def stream(history: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        seen.append(prompts(history))
        yield f"Answer {len(seen)}"

    return PydanticAIAgent(Agent(FunctionModel(stream_function=stream), name="remembering")), seen


@pytest.mark.anyio
async def test_each_run_keeps_only_what_it_added() -> None:
    agent, seen = remembering()
    first = await collect(agent, "One")
    second = await collect(agent, "Two", history=[first])
    third = await collect(agent, "Three", history=[first, second])
    assert seen == [["One"], ["One", "Two"], ["One", "Two", "Three"]]
    assert [prompts(messages(run)) for run in (first, second, third)] == [["One"], ["Two"], ["Three"]]


@pytest.mark.anyio
async def test_a_branch_knows_only_its_own_path() -> None:
    agent, seen = remembering()
    first = await collect(agent, "One")
    await collect(agent, "Two", history=[first])
    await collect(agent, "Other two", history=[first])
    assert seen[-1] == ["One", "Other two"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    "state",
    [
        None,
        AgentState(run="r", adapter="another", version=1, data=b"[]"),
        AgentState(run="r", adapter="pydantic_ai", version=99, data=b"[]"),
        AgentState(run="r", adapter="pydantic_ai", version=1, data=b"{broken"),
    ],
)
async def test_history_without_a_readable_state_is_rebuilt_from_what_was_seen(state: AgentState | None) -> None:
    seen: list[ModelMessage] = []

    async def stream(history: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        seen[:] = history
        if len(history) == 1:
            yield "Let me look. "
            yield call("look", {"at": "x"}, "c1", 1)
        else:
            yield "It is there."

    pai = Agent(FunctionModel(stream_function=stream))

    @pai.tool_plain
    def look(at: str) -> list[str]:
        return [at]

    agent = PydanticAIAgent(pai)
    first = await collect(agent, "Where is x?")
    await collect(agent, "Sure?", history=[Turn(first.turn.run, state)])
    assert [type(message) for message in seen] == [
        ModelRequest,
        ModelResponse,
        ModelRequest,
        ModelResponse,
        ModelRequest,
    ]
    assert [part.part_kind for message in seen for part in message.parts] == [
        "user-prompt",
        "text",
        "tool-call",
        "tool-return",
        "text",
        "user-prompt",
    ]
    (returned,) = [part for message in seen for part in message.parts if isinstance(part, ToolReturnPart)]
    assert (returned.content, returned.outcome) == ('["x"]', "success")


@pytest.mark.anyio
async def test_a_rebuilt_history_closes_dangling_calls() -> None:
    agent, _ = approving(call("delete", {"name": "b"}, "c1"))
    waiting = await collect(agent, "Delete b")
    remembers, _ = remembering()
    waiting.saved = None
    events = await collect(remembers, "Never mind", history=[waiting])
    assert events.text == "Answer 1"  # pydantic-ai refuses a history with an open call


@pytest.mark.anyio
async def test_an_unanswered_question_does_not_block_the_next_message() -> None:
    agent, deleted = approving(call("delete", {"name": "b"}, "c1"))
    waiting = await collect(agent, "Delete b")
    events = await collect(agent, "Never mind", history=[waiting])
    assert deleted == [] and events.error is None


# --- stopping ---------------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_cancel_in_the_middle_of_a_token_closes_the_model_and_keeps_the_partial() -> None:
    """I19."""
    open_streams = 0
    waits = anyio.Event()

    async def stream(history: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        nonlocal open_streams
        open_streams += 1
        try:
            yield "Once upon"
            yield " a time"
            waits.set()
            await anyio.sleep_forever()
        finally:
            open_streams -= 1

    agent = PydanticAIAgent(Agent(FunctionModel(stream_function=stream), name="slow"))
    events = await collect(agent, "Tell me", cancel_when=waits)
    assert events.cancelled and open_streams == 0
    assert events.text == "Once upon a time"
    kept = messages(events)
    assert prompts(kept) == ["Tell me"]
    assert isinstance(kept[-1], ModelResponse) and kept[-1].text == "Once upon a time"
    remembers, seen = remembering()
    await collect(remembers, "Go on", history=[events])
    assert seen == [["Tell me", "Go on"]]


@pytest.mark.anyio
async def test_the_end_waits_until_the_model_has_closed_its_stream() -> None:
    """I19: the HTTP body is closed by awaiting; a run that is over has waited for that."""
    closed = False
    waits = anyio.Event()

    async def stream(history: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        nonlocal closed
        try:
            yield "Once"
            waits.set()
            await anyio.sleep_forever()
        finally:
            for _ in range(20):
                await asyncio.sleep(0)
            closed = True

    agent = PydanticAIAgent(Agent(FunctionModel(stream_function=stream), name="slow"))
    events = await collect(agent, "Tell me", cancel_when=waits)
    assert events.cancelled and closed


@pytest.mark.anyio
async def test_closing_between_two_events_stops_the_model_too() -> None:
    open_streams = 0

    async def stream(history: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        nonlocal open_streams
        open_streams += 1
        try:
            for number in range(1000):
                yield f"{number} "
        finally:
            open_streams -= 1

    agent = PydanticAIAgent(Agent(FunctionModel(stream_function=stream), name="long"))
    events = await collect(agent, "Count", cancel_after=lambda event: isinstance(event, e.TextMessageContent))
    assert events.cancelled and open_streams == 0
    assert prompts(messages(events)) == ["Count"]


@pytest.mark.anyio
async def test_cancel_in_the_middle_of_a_tool_stops_the_tool() -> None:
    """I19."""
    inside, left = anyio.Event(), anyio.Event()
    agent = Agent(model([call("work", {}, "c1")], ["never said"]))

    @agent.tool_plain
    async def work() -> str:
        inside.set()
        try:
            await anyio.sleep_forever()
        finally:
            left.set()
        return "never"

    events = await collect(PydanticAIAgent(agent), "Go", cancel_when=inside)
    assert events.cancelled and left.is_set()
    assert "TOOL_CALL_RESULT" not in events.types and events.text == ""
    again, seen = remembering()
    await collect(again, "Go on", history=[events])
    assert seen == [["Go", "Go on"]]


@pytest.mark.anyio
async def test_a_tool_may_stop_the_run_itself() -> None:
    agent = Agent(model([call("work", {}, "c1")], ["never said"]))

    @agent.tool
    async def work(ctx: RunContext[None]) -> str:
        ctx.cancel()
        await anyio.sleep_forever()
        return "never"

    events = await collect(PydanticAIAgent(agent), "Go")
    finished = events[-1]
    assert isinstance(finished, e.RunFinished) and finished.outcome is not e.UNSET
    assert finished.outcome.type == "cancelled"
    assert events.saved is not None


# --- structured output ------------------------------------------------------------------------------------------------


class Reply(BaseModel):
    response: str
    diagram: str | None = None
    metrics: dict[str, int] | None = None
    confidence: float = 1.0


ARGS = {"confidence": 0.5, "response": 'Two "tables" \\ € 😀\nfound', "diagram": "erDiagram", "metrics": {"rows": 2}}


@pytest.mark.anyio
async def test_structured_output_streams_its_text_and_shows_its_artifacts() -> None:
    text = json.dumps(ARGS)
    pieces = [{0: DeltaToolCall(name="final_result", json_args=text[:1], tool_call_id="o")}]
    pieces += [{0: DeltaToolCall(json_args=letter)} for letter in text[1:]]
    events = await collect(PydanticAIAgent(Agent(model(pieces), output_type=Reply)), "Show them")
    assert events.text == ARGS["response"]
    assert len(of(events, e.TextMessageContent)) == len(str(ARGS["response"]))
    assert [(a.kind, a.content) for a in of(events, e.ArtifactSnapshot)] == [
        ("diagram", "erDiagram"),
        ("metrics", {"rows": 2}),
    ]
    assert "TOOL_CALL_START" not in events.types
    finished = events[-1]
    assert isinstance(finished, e.RunFinished) and finished.result == ARGS
    check(events)


@pytest.mark.anyio
async def test_tools_beside_structured_output_are_still_shown() -> None:
    agent = Agent(
        model([call("look", {}, "c1")], [call("final_result", {"response": "Found"}, "o")]), output_type=Reply
    )

    @agent.tool_plain
    def look() -> int:
        return 3

    events = await collect(PydanticAIAgent(agent), "Look")
    assert [event.tool_call_name for event in of(events, e.ToolCallStart)] == ["look"]
    assert of(events, e.ToolCallResult)[0].result == 3
    assert events.text == "Found"
    check(events)


@pytest.mark.anyio
async def test_structured_output_as_an_object_or_as_json_text() -> None:
    as_object = Agent(TestModel(custom_output_args=ARGS), output_type=Reply)
    assert (await collect(PydanticAIAgent(as_object), "Go")).text == ARGS["response"]
    text = json.dumps(ARGS)
    native = model([text[:20], text[20:33], text[33:]])
    native._profile = {"supports_json_schema_output": True}  # type: ignore[assignment]
    as_text = Agent(native, output_type=NativeOutput(Reply))
    events = await collect(PydanticAIAgent(as_text), "Go")
    assert events.text == ARGS["response"]
    check(events)


@pytest.mark.anyio
async def test_another_field_can_be_the_text() -> None:
    class Page(BaseModel):
        title: str
        body: str

    agent = Agent(model([call("final_result", {"title": "T", "body": "B"}, "o")]), output_type=Page)
    assert (await collect(PydanticAIAgent(agent, text_field="body"), "Go")).text == "B"


class City(BaseModel):
    name: str
    rivers: list[str]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("kind", "given"), [(City, {"name": "Köln", "rivers": ["Rhein"]}), (list[int], [1, 2]), (bool, False)]
)
async def test_an_output_of_which_nothing_would_be_seen_is_shown_whole(kind: type, given: Any) -> None:
    arguments = given if isinstance(given, dict) else {"response": given}
    agent = Agent(model([call("final_result", arguments, "o")]), output_type=kind)
    events = await collect(PydanticAIAgent(agent), "Go")
    assert events.text == f"```json\n{json.dumps(given, indent=2, ensure_ascii=False)}\n```"
    finished = events[-1]
    assert isinstance(finished, e.RunFinished) and finished.result == given
    check(events)


@pytest.mark.anyio
async def test_an_answer_that_has_to_be_given_again_is_retracted() -> None:
    first = call("final_result", {"response": "Wrong", "confidence": "high"}, "o1")
    second = call("final_result", {"response": "Right"}, "o2")
    events = await collect(PydanticAIAgent(Agent(model([first], [second]), output_type=Reply, retries=2)), "Go")
    started = [event.message_id for event in of(events, e.TextMessageStart)]
    assert [event.message_ids for event in of(events, e.MessageRetracted)] == [started[:1]]
    assert len(started) == 2
    run = events.turn.run
    assert [
        part.text for message in run.messages[1:] for part in message.parts if part.__struct_config__.tag == "text"
    ] == ["Right"]


# --- dependencies, usage, failures -----------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_dependencies_are_made_per_run_and_left_with_it() -> None:
    open_now: list[str] = []
    agent = Agent(model([call("who", {})], ["ok"]), deps_type=str)

    @agent.tool
    def who(ctx: RunContext[str]) -> str:
        return ctx.deps

    @asynccontextmanager
    async def managed(context: Context) -> AsyncIterator[str]:
        open_now.append(context.run_id)
        try:
            yield f"for {context.principal.user}"
        finally:
            open_now.remove(context.run_id)

    async def awaited(context: Context) -> str:
        return "awaited"

    results = []
    for options in ({"deps": "fixed"}, {"deps_factory": managed}, {"deps_factory": awaited}):
        events = await collect(PydanticAIAgent(agent, **options), "Who?")  # type: ignore[arg-type]
        results.append(of(events, e.ToolCallResult)[0].result)
    assert results == ["fixed", "for local", "awaited"]
    assert open_now == []
    with pytest.raises(ConfigError, match="deps_factory"):
        PydanticAIAgent(agent, deps="x", deps_factory=awaited)


@pytest.mark.anyio
async def test_usage_is_summed_by_model() -> None:
    agent = Agent(model([call("look", {})], ["ok then"]))

    @agent.tool_plain
    def look() -> str:
        return "x"

    finished = (await collect(PydanticAIAgent(agent), "Go"))[-1]
    assert isinstance(finished, e.RunFinished) and finished.usage is not e.UNSET
    (usage,) = finished.usage
    assert usage.model == "function::stream"
    assert usage.input_tokens > 0 and usage.output_tokens > 0  # type: ignore[operator]
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens  # type: ignore[operator]


@pytest.mark.anyio
async def test_a_model_that_fails_is_explained_without_its_text() -> None:
    async def stream(history: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        yield "So far"
        raise ModelHTTPError(status_code=503, model_name="secret-model", body={"key": "sk-secret"})

    agent = PydanticAIAgent(Agent(FunctionModel(stream_function=stream), name="broken"))
    events = await collect(agent, "Go", catch=True)
    assert isinstance(events.error, AgentError)
    assert events.error.agent_code == "model_unavailable" and events.error.agent_retryable
    assert "secret" not in events.error.message
    assert prompts(messages(events)) == ["Go"]


@pytest.mark.anyio
async def test_the_limit_of_usage_has_a_code() -> None:
    agent = Agent(model([call("look", {})], ["never"]))

    @agent.tool_plain
    def look() -> str:
        return "x"

    served = PydanticAIAgent(agent, usage_limits=UsageLimits(request_limit=1))
    events = await collect(served, "Go", catch=True)
    assert isinstance(events.error, AgentError) and events.error.agent_code == "usage_limit"


@pytest.mark.parametrize(
    ("status", "code"),
    [(429, "model_rate_limited"), (500, "model_unavailable"), (401, "model_error"), (400, "model_error")],
)
def test_http_errors_of_models(status: int, code: str) -> None:
    known = explained(ModelHTTPError(status_code=status, model_name="m", body="sk-secret"))
    assert known is not None and known.agent_code == code and "sk-" not in known.message


class _Answer:
    def __init__(self, headers: dict[str, str]) -> None:
        self.headers = headers


class _OldError(pai.ModelHTTPError):
    """As it was before pydantic-ai read the headers: only the cause, the provider's own exception, has the answer."""

    def __init__(self, status: int, headers: dict[str, str]) -> None:
        super().__init__(status, "m")
        del self.headers, self.retry_after
        self.__cause__ = RuntimeError("sk-secret")
        self.__cause__.response = _Answer(headers)  # type: ignore[attr-defined]


NOON = {"Date": "Sat, 21 Nov 2026 12:00:00 GMT"}


@pytest.mark.parametrize(
    ("headers", "ms"),
    [
        ({"Retry-After": "20"}, 20_000),
        ({"Retry-After-Ms": "1500", "Retry-After": "20"}, 1_500),
        ({"Retry-After": "Sat, 21 Nov 2026 12:01:00 GMT", **NOON}, 60_000),
        ({"Retry-After": "Sat, 21 Nov 2026 11:00:00 GMT", **NOON}, 0),
        ({"Retry-After": "soon", **NOON}, None),
        ({"Retry-After": "-5"}, None),
        ({"Retry-After": "inf"}, None),
        ({}, None),
    ],
)
def test_a_provider_says_when_to_try_again(headers: dict[str, str], ms: int | None) -> None:
    known = explained(_OldError(429, headers))
    assert known is not None and known.retry_after_ms == ms
    if "Date" not in headers and headers.get("Retry-After") != "inf":
        new = explained(ModelHTTPError(429, "m", headers=headers))
        assert new is not None and new.retry_after_ms == ms


def test_what_will_not_get_better_says_no_time() -> None:
    known = explained(ModelHTTPError(401, "m", headers={"Retry-After": "20"}))
    assert known is not None and known.retry_after_ms is None and not known.agent_retryable


def test_other_exceptions_stay_what_they_are() -> None:
    assert explained(KeyError("x")) is None
    assert explained(ExceptionGroup("all", [KeyError("x"), ModelHTTPError(503, "m")])) is not None


def test_names_come_from_the_agent() -> None:
    agent = Agent(TestModel(), name="own", description="Does it.")
    assert (PydanticAIAgent(agent).name, PydanticAIAgent(agent).description) == ("own", "Does it.")
    assert PydanticAIAgent(agent, name="other").name == "other"
    with pytest.raises(ConfigError, match="no name"):
        PydanticAIAgent(Agent(TestModel(), name="with spaces"))
