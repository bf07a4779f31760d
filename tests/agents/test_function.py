"""Functions as agents: signatures, kinds of functions, threads, stopping."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import anyio
import pytest

from runcast import events as e
from runcast.agents.base import Agent, RunContext
from runcast.agents.function import FunctionAgent, agent
from runcast.errors import AgentError, ConfigError
from runcast.runs import Principal, RunInput
from runcast.testing import AgentSuite, collect


class TestAsyncGenerator(AgentSuite):
    def make_agent(self) -> Agent:
        @agent
        async def echo(prompt: str, run: RunContext) -> AsyncIterator[object]:
            """Says it back."""
            yield "You said "
            async with run.tool("count", words=prompt) as call:
                await call.progress(1, total=2, message="Counting…")
                call.result = len(prompt.split())
            yield {"type": "thinking", "content": "Done."}
            yield prompt

        return echo


class TestPlainGenerator(AgentSuite):
    def make_agent(self) -> Agent:
        @agent(name="plain")
        def plain(prompt: str) -> Iterator[object]:
            yield "a"
            yield {"type": "action", "name": "look", "arguments": {"at": prompt}}
            yield {"type": "observation", "content": "nothing"}
            yield "b"

        return plain


def test_is_named_and_described_by_the_function() -> None:
    @agent
    async def greeter(prompt: str) -> str:
        """Greets people
        warmly.

        More about it.
        """
        return prompt

    assert (greeter.name, greeter.description) == ("greeter", "Greets people warmly.")
    assert isinstance(greeter, Agent)


@pytest.mark.anyio
async def test_can_still_be_called_like_the_function() -> None:
    @agent(name="other", description="Says it.", title="The other", timeout_s=5)
    async def greeter(prompt: str) -> str:
        return prompt

    assert await greeter("Hi") == "Hi"
    assert (greeter.name, greeter.description, greeter.title, greeter.timeout_s) == (
        "other",
        "Says it.",
        "The other",
        5,
    )
    assert greeter.on_crash == "never"


def test_policies_are_kept_under_another_name_and_checked() -> None:
    @agent(on_crash="restart", on_disconnect="cancel", starters=["Hello"])
    async def greeter(prompt: str) -> str:
        return prompt

    other = greeter.renamed("other")
    assert (other.on_crash, other.on_disconnect, other.starters) == ("restart", "cancel", ("Hello",))
    with pytest.raises(ConfigError) as caught:
        FunctionAgent(greeter.function, on_crash="resume", on_disconnect="stop")  # type: ignore[arg-type]
    assert len(caught.value.problems) == 2


@pytest.mark.anyio
async def test_parameters_are_filled_by_annotation_and_by_name() -> None:
    async def f(
        question, /, context, who: Principal, given: RunInput, *, limit: int = 3, model: str = "big", **rest: int
    ):  # type: ignore[no-untyped-def]
        return f"{question} {context.run_id == given.run} {who.user} {limit} {model}"

    events = await collect(FunctionAgent(f), "Hi", principal=Principal(user="ann"))
    assert events.text == "Hi True ann 3 big"


@pytest.mark.anyio
async def test_the_only_required_str_gets_the_text_whatever_its_name() -> None:
    assert (await collect(FunctionAgent(_only), "Hi")).text == "Hi!"


async def _only(words: str, style: str = "!") -> str:
    return words + style


@pytest.mark.anyio
async def test_a_function_may_take_nothing() -> None:
    async def constant() -> str:
        return "always"

    assert (await collect(FunctionAgent(constant), "Hi")).text == "always"


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:

        @agent(name="no spaces", timeout_s=0, starters="Hello")
        async def bad(first: str, second: str, db: dict[str, str]) -> None:
            pass

    problems = "\n".join(caught.value.problems)
    assert len(caught.value.problems) == 6
    for word in ("'no spaces'", "timeout_s", "starters=['Hello']", "'first'", "'second'", "'db'"):
        assert word in problems


@pytest.mark.anyio
async def test_returns_become_text_or_result() -> None:
    @dataclass
    class Answer:
        city: str
        people: int

    async def text() -> str:
        return "Berne"

    def structured() -> Answer:
        return Answer("Berne", 134_000)

    async def nothing() -> None:
        return None

    assert (await collect(FunctionAgent(text), "?")).text == "Berne"
    assert list(await collect(FunctionAgent(structured), "?")) == [
        e.RunFinished(thread_id="thread-1", result={"city": "Berne", "people": 134_000})
    ]
    assert list(await collect(FunctionAgent(nothing), "?")) == []


@pytest.mark.anyio
async def test_a_function_may_return_an_iterator() -> None:
    async def inner() -> AsyncIterator[str]:
        yield "from inside"

    assert (await collect(FunctionAgent(lambda: inner(), name="outer"), "?")).text == "from inside"


@pytest.mark.anyio
async def test_plain_functions_leave_the_loop_free() -> None:
    entered, release = threading.Event(), threading.Event()

    def slow(prompt: str) -> str:
        entered.set()
        assert release.wait(10)
        return threading.current_thread().name

    async def free_the_thread() -> None:
        while not entered.is_set():
            await anyio.lowlevel.checkpoint()
        release.set()  # the loop would never get here if the function blocked it

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(free_the_thread)
        events = await collect(FunctionAgent(slow), "Hi")
    assert events.text != threading.main_thread().name


@pytest.mark.anyio
async def test_steps_of_a_plain_generator_share_context_variables() -> None:
    variable = contextvars.ContextVar("variable", default="unset")

    def steps() -> Iterator[str]:
        yield variable.get() + " "
        variable.set("set inside")
        yield ""
        yield variable.get()

    variable.set("set outside")
    assert (await collect(FunctionAgent(steps), "?")).text == "set outside set inside"
    assert variable.get() == "set outside"


@pytest.mark.anyio
async def test_cancel_closes_an_async_generator_where_it_waits() -> None:
    closed: list[type[BaseException]] = []

    async def waits() -> AsyncIterator[str]:
        yield "a"
        try:
            await anyio.sleep_forever()
        except BaseException as error:
            closed.append(type(error))
            raise

    waiting = anyio.Event()
    async with anyio.create_task_group() as tasks:

        async def stop() -> None:
            await anyio.wait_all_tasks_blocked()
            waiting.set()

        tasks.start_soon(stop)
        events = await collect(FunctionAgent(waits), "?", cancel_when=waiting)
    assert events.cancelled
    assert closed == [anyio.get_cancelled_exc_class()]
    assert events.text == "a"


@pytest.mark.anyio
async def test_cancel_lets_a_thread_finish_its_step_and_closes_the_generator() -> None:
    """A thread cannot be stopped in the middle: the run ends at once, the generator after the step that is going on."""
    entered, release, closed = threading.Event(), threading.Event(), threading.Event()
    steps: list[int] = []

    def slow() -> Iterator[str]:
        try:
            for number in range(3):
                steps.append(number)
                if number == 1:
                    entered.set()
                    release.wait(10)
                yield str(number)
        finally:
            closed.set()

    stop = anyio.Event()

    async def stop_inside() -> None:
        while not entered.is_set():
            await anyio.sleep(0.001)
        stop.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stop_inside)
        generator = slow()  # held, so that it is not closed by being forgotten
        events = await collect(FunctionAgent(lambda: generator, name="slow"), "?", cancel_when=stop)
    assert events.cancelled
    assert not closed.is_set()
    release.set()
    assert await anyio.to_thread.run_sync(closed.wait, 10)
    assert steps == [0, 1]


@pytest.mark.anyio
async def test_closing_between_steps_closes_a_plain_generator() -> None:
    closed = threading.Event()

    def steps() -> Iterator[str]:
        try:
            yield "a"
            yield "b"
        finally:
            closed.set()

    events = await collect(FunctionAgent(steps), "?", cancel_after=lambda event: True)
    assert events.cancelled and closed.is_set()


@pytest.mark.anyio
async def test_exceptions_go_to_the_runner_as_they_are() -> None:
    async def broken() -> AsyncIterator[str]:
        yield "a"
        raise KeyError("secret")

    events = await collect(FunctionAgent(broken), "?", catch=True)
    assert isinstance(events.error, KeyError)
    assert events.types == ["TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT"]  # the runner ends it as incomplete

    def told() -> str:
        raise AgentError("The weather service is closed.", code="closed")

    with pytest.raises(AgentError, match="weather"):
        await collect(FunctionAgent(told), "?")


@pytest.mark.anyio
async def test_an_object_that_can_be_called_is_a_function_too() -> None:
    class Greeter:
        """Greets."""

        async def __call__(self, prompt: str, run: RunContext) -> AsyncIterator[str]:
            yield f"Hello {prompt}"

    greeter = FunctionAgent(Greeter())
    assert (greeter.name, greeter.description) == ("Greeter", "Greets.")
    assert (await collect(greeter, "Ann")).text == "Hello Ann"
