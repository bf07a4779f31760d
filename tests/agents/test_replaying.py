"""A resumable function is called again after a restart, and nothing it had done is done or said twice."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from msgspec import UNSET

from core import DEADLINE_S, ME, core, ended, log, resolve, said, send, types
from runcast import events as e
from runcast.agents.asking import Question
from runcast.agents.context import RunContext
from runcast.agents.function import FunctionAgent, agent
from runcast.service import Service

pytestmark = pytest.mark.anyio


class Doer:
    """A resumable agent that counts what it really does."""

    def __init__(self, change: Callable[[str], str] = lambda word: word) -> None:
        self.done: list[str] = []
        self.calls = 0

        @agent(name="doer", resumable=True)
        async def doer(prompt: str, run: RunContext) -> AsyncIterator[Any]:
            self.calls += 1
            yield change("Hello. ")
            first = await run.step(change("fetch"), self.work, "fetch")
            async with run.tool("count", key="count", n=3) as call:
                if not call.recorded:
                    self.done.append("count")
                    call.result = 3
            city = await run.ask(change("Which city?"))
            await run.text(f"{prompt}: {first} {call.result} {city}. ")
            async with run.tool("book", city=city) as call:
                await call.approve()
                self.done.append("book")
                call.result = "booked"
            yield "Done."

        self.agent: FunctionAgent = doer

    async def work(self, what: str) -> str:
        self.done.append(what)
        return what.upper()


async def settled(service: Service, run: str) -> str:
    with anyio.fail_after(DEADLINE_S):
        return (await service.wait_run(ME, run, timeout_s=DEADLINE_S)).status


async def answer(service: Service, run: str, payload: Any) -> tuple[str, str]:
    result = await service.resolve(ME, resolve(f"{run}.1", payload))
    return result.run or "", await settled(service, result.run or "")


async def play(path: Path, restarts: tuple[bool, bool]) -> tuple[list[str], list[e.Event], int]:
    """The same conversation, with restarts of the server before its answers."""
    done: list[str] = []
    calls = 0
    first, second = restarts
    doer = Doer()
    async with core(doer.agent, path=path) as service:
        sent = await service.send(ME, send("Trip"))
        assert await ended(service, sent) == "waiting"
        if not first:
            run, status = await answer(service, sent.run, "Rome")
            assert status == "waiting"
    done += doer.done
    calls += doer.calls
    doer = Doer()
    async with core(doer.agent, path=path) as service:
        if first:
            run, status = await answer(service, sent.run, "Rome")
            assert status == "waiting"
        if not second:
            _, status = await answer(service, run, {"approved": True})
            assert status == "done"
    done += doer.done
    calls += doer.calls
    doer = Doer()
    async with core(doer.agent, path=path) as service:
        if second:
            _, status = await answer(service, run, {"approved": True})
            assert status == "done"
        events = await log(service, sent.thread)
    return done + doer.done, events, calls + doer.calls


@pytest.mark.parametrize("restarts", [(True, False), (True, True)])
async def test_it_goes_on_after_restarts_as_if_there_had_been_none(tmp_path: Path, restarts: tuple[bool, bool]) -> None:
    done, events, calls = await play(tmp_path / "store.db", restarts)
    assert done == ["fetch", "count", "book"]  # I20: each once
    assert calls == 1 + sum(restarts)
    assert said(events) == "Hello. Trip: FETCH 3 Rome. Done."
    assert types(events).count("TOOL_CALL_START") == 2
    results = [event for event in events if isinstance(event, e.ToolCallResult)]
    starts = [event for event in events if isinstance(event, e.ToolCallStart)]
    assert [event.tool_call_id for event in results] == [event.tool_call_id for event in starts]


async def test_without_a_place_to_wait_in_it_is_called_again_as_after_a_restart() -> None:
    doer, cleaned = Doer(), list[str]()

    @agent
    async def taking(prompt: str, run: RunContext) -> AsyncIterator[Any]:
        yield await run.ask("Which place?")

    @agent(resumable=True)
    async def careful(prompt: str, run: RunContext) -> AsyncIterator[Any]:
        """Asks in a tool that must not be cut off, beside a task, and cleans up."""
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(anyio.sleep_forever)
                async with run.tool("pay", on_cancel="finish") as call:
                    await call.approve()
                    call.result = "paid"
                tasks.cancel_scope.cancel()
            yield "Paid."
        finally:
            cleaned.append(run.run_id)

    async with core(doer.agent, taking, careful, parked_limit=1) as service:
        assert await ended(service, await service.send(ME, send("go", agent="taking"))) == "waiting"  # the only place
        sent = await service.send(ME, send("Trip", agent="doer"))
        assert await ended(service, sent) == "waiting"
        assert service.runner.unstoppable == 0
        run, status = await answer(service, sent.run, "Rome")
        assert status == "waiting"
        assert (await answer(service, run, {"approved": True}))[1] == "done"
        events = await log(service, sent.thread)
        paying = await service.send(ME, send("pay", agent="careful"))
        assert await ended(service, paying) == "waiting"
        assert cleaned == [paying.run]
        result, status = await answer(service, paying.run, {"approved": True})
        assert status == "done" and cleaned == [paying.run, result]
        paid = await log(service, paying.thread)
    assert doer.done == ["fetch", "count", "book"] and doer.calls == 3  # I20: each once
    assert said(events) == "Hello. Trip: FETCH 3 Rome. Done."
    results = [event for event in paid if isinstance(event, e.ToolCallResult)]
    assert [(one.result, one.status) for one in results] == [("paid", UNSET)]


async def test_in_one_process_the_parked_task_goes_on() -> None:
    doer = Doer()
    async with core(doer.agent) as service:
        sent = await service.send(ME, send("Trip"))
        await ended(service, sent)
        run, _ = await answer(service, sent.run, "Rome")
        assert (await answer(service, run, {"approved": True}))[1] == "done"
    assert doer.calls == 1 and doer.done == ["fetch", "count", "book"]


@pytest.mark.parametrize("changed", ["Hello. ", "fetch", "Which city?"])
async def test_doing_something_else_the_second_time_fails_the_run(tmp_path: Path, changed: str) -> None:
    path = tmp_path / "store.db"
    async with core(Doer().agent, path=path) as service:
        sent = await service.send(ME, send("Trip"))
        await ended(service, sent)
    other = Doer(lambda word: word + "!" if word == changed else word)
    async with core(other.agent, path=path) as service:
        run, status = await answer(service, sent.run, "Rome")
        assert status == "failed"
        assert (await service.get_run(ME, run)).code == "nondeterministic"
        assert "book" not in other.done  # nothing went on with the answer
        assert said(await log(service, sent.thread)) == "Hello. "


@pytest.mark.parametrize("less", ["nothing", "no step"])
async def test_doing_less_fails_the_run_too(tmp_path: Path, less: str) -> None:
    def made(short: bool) -> FunctionAgent:
        @agent(name="doer", resumable=True)
        async def doer(prompt: str, run: RunContext) -> None:
            if not short:
                await run.step("one", lambda: 1)
            if less != "nothing" or not short:
                await run.ask("Well?")

        return doer

    path = tmp_path / "store.db"
    async with core(made(short=False), path=path) as service:
        sent = await service.send(ME, send("go"))
        await ended(service, sent)
    async with core(made(short=True), path=path) as service:
        run, status = await answer(service, sent.run, "yes")
        assert status == "failed"
        assert (await service.get_run(ME, run)).code == "nondeterministic"


async def test_a_typed_answer_and_its_no_are_the_same_after_a_restart(tmp_path: Path) -> None:
    from runcast.errors import Declined

    seen: list[Any] = []

    @agent(resumable=True)
    async def typed(prompt: str, run: RunContext) -> None:
        seen.append(await run.ask_all([Question("How many?", schema=int), Question("Which?", options=["a", "b"])]))
        try:
            await run.approve("go", {"n": 1})
        except Declined as no:
            seen.append((no.status, no.reason))

    path = tmp_path / "store.db"
    async with core(typed, path=path) as service:
        sent = await service.send(ME, send("go"))
        await ended(service, sent)
    async with core(typed, path=path) as service:
        await service.resolve(ME, resolve(f"{sent.run}.2", "b"))
    async with core(typed, path=path) as service:
        run, status = await answer(service, sent.run, 3)
        assert status == "waiting"
    async with core(typed, path=path) as service:
        assert (await answer(service, run, {"approved": False, "reason": "no"}))[1] == "done"
    assert seen == [[3, "b"], [3, "b"], ("denied", "no")]


async def test_the_history_is_that_of_the_first_call(tmp_path: Path) -> None:
    lengths: list[int] = []

    @agent(resumable=True)
    async def remembering(prompt: str, run: RunContext) -> AsyncIterator[str]:
        lengths.append(len(await run.history()))
        if prompt == "ask":
            await run.ask("Well?")
            await run.ask("Really?")
        yield "yes"

    path = tmp_path / "store.db"
    async with core(remembering, path=path) as service:
        first = await service.send(ME, send("hi"))
        await ended(service, first)
        sent = await service.send(ME, send("ask", first.thread))
        assert await ended(service, sent) == "waiting"
    async with core(remembering, path=path) as service:
        run, _ = await answer(service, sent.run, "yes")
    async with core(remembering, path=path) as service:
        assert (await answer(service, run, "yes"))[1] == "done"
    assert lengths == [0, 1, 1, 1]


async def test_a_key_is_used_once(caplog: pytest.LogCaptureFixture) -> None:
    @agent(resumable=True)
    async def twice(prompt: str, run: RunContext) -> None:
        await run.step("a", lambda: 1)
        await run.step("a", lambda: 2)

    async with core(twice) as service:
        assert await ended(service, await service.send(ME, send("go"))) == "failed"
    assert any("used twice" in (record.exc_text or "") for record in caplog.records)
