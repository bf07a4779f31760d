"""Questions of an agent and what it makes of the answers, without a server."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from pydantic import BaseModel

from runcast import events as e
from runcast.agents.asking import Question, approval, approved, args_hash
from runcast.agents.context import RunContext
from runcast.agents.function import agent
from runcast.errors import AgentError, Declined
from runcast.runs import Answer
from runcast.testing import collect

pytestmark = pytest.mark.anyio


class Place(BaseModel):
    city: str


class Trip(BaseModel):
    to: Place
    back: Place | None = None


@dataclasses.dataclass
class Size:
    width: int


def answer(payload: Any, **more: Any) -> Answer:
    return Answer(interrupt_id="r.1", status="resolved", payload=payload, **more)


@pytest.mark.parametrize(
    ("question", "payload", "value"),
    [
        (Question("?"), "text", "text"),
        (Question("?", options=["a"]), "a", "a"),
        (Question("?", schema={"type": "object"}), {"a": 1}, {"a": 1}),
        (Question("?", schema=Trip), {"to": {"city": "Rome"}}, Trip(to=Place(city="Rome"))),
        (Question("?", schema=Size), {"width": 3}, Size(3)),
        (Question("?", schema=list[int]), [1, 2], [1, 2]),
    ],
)
def test_an_answer_becomes_what_the_question_asked_for(question: Question, payload: Any, value: Any) -> None:
    assert question.value(answer(payload)) == value


def test_a_models_references_are_written_out() -> None:
    form = Question("?", schema=Trip).asked().interrupt.response_schema
    assert isinstance(form, dict)
    assert "$defs" not in form and form["properties"]["to"]["properties"]["city"]["type"] == "string"
    assert form["properties"]["to"]["required"] == ["city"]


@pytest.mark.parametrize(
    "question",
    [
        Question("?", options=[]),
        Question("?", options=["a"], schema=int),
        Question("?", schema={"type": "no such"}),
        Question("?", schema={"$ref": "https://elsewhere.example/s"}),
        Question("?", schema=type("Odd", (), {})),
    ],
)
def test_a_question_that_cannot_be_asked_is_an_error_of_the_agent(question: Question) -> None:
    with pytest.raises(AgentError) as error:
        question.asked()
    assert error.value.agent_code == "invalid_question"


@pytest.mark.parametrize(
    ("given", "status"),
    [
        (Answer(interrupt_id="r.1", status="cancelled"), "cancelled"),
        (Answer(interrupt_id="r.1", status="cancelled", expired=True), "expired"),
    ],
)
def test_no_answer_is_declined(given: Answer, status: str) -> None:
    with pytest.raises(Declined) as no:
        Question("?").value(given)
    assert no.value.status == status


@pytest.mark.parametrize("payload", [None, True, {}, {"approved": "true"}, {"approved": False}, "yes"])
def test_only_an_explicit_yes_approves(payload: Any) -> None:
    """I20."""
    with pytest.raises(Declined):
        approved(approval("x", {}), answer(payload))


def test_what_was_approved_is_what_the_agent_gets() -> None:
    question = approval("x", {"a": 1}, editable=True)
    assert approved(question, answer({"approved": True}, by="me")).arguments == {"a": 1}
    assert approved(question, answer({"approved": True, "editedArgs": {"a": 2}})).arguments == {"a": 2}
    assert question.asked().args_hash == args_hash({"a": 1})


async def test_an_agent_is_tested_with_answers_at_once() -> None:
    @agent
    async def asking(prompt: str, run: RunContext) -> Any:
        yield f"{await run.ask('Which city?')} "
        try:
            async with run.tool("book") as call:
                await call.approve()
        except Declined:
            yield "not booked"

    payloads = {"Which city?": "Rome", "Allow book?": {"approved": False}}
    events = await collect(asking, "go", ask=lambda interrupt: payloads[str(interrupt.message)])
    assert events.text == "Rome not booked"
    assert [one.id.rpartition(".")[2] for one in events.interrupts] == ["1", "2"]
    [result] = [event for event in events if isinstance(event, e.ToolCallResult)]
    assert result.status == "denied"


async def test_where_nobody_can_be_asked_the_agent_fails_in_words() -> None:
    @agent
    async def asking(prompt: str, run: RunContext) -> None:
        await run.ask("Which city?")

    events = await collect(asking, "go", catch=True)
    assert isinstance(events.error, AgentError) and events.error.agent_code == "cannot_ask"


async def test_a_step_is_just_done_where_nothing_is_recorded() -> None:
    @agent
    async def stepping(prompt: str, run: RunContext) -> Any:
        async def twice(value: int) -> int:
            return value * 2

        yield f"{await run.step('a', twice, 2)} {await run.step('b', lambda: 3)}"

    assert (await collect(stepping, "go")).text == "4 3"
