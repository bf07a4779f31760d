"""A function that asks a person waits in memory, and goes on where it stood."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import pytest

from core import DEADLINE_S, ME, Reader, cancel, core, ended, log, resolve, said, send, types
from runcast import events as e
from runcast.agents.asking import Question
from runcast.agents.context import RunContext
from runcast.agents.function import agent
from runcast.errors import AlreadyDecided, Declined, Expired, InvalidRequest, NotFound, RunEnded, TooLarge
from runcast.service import Service

pytestmark = pytest.mark.anyio


async def settled(service: Service, run: str) -> str:
    with anyio.fail_after(DEADLINE_S):
        return (await service.wait_run(ME, run, timeout_s=DEADLINE_S)).status


def asked(events: list[e.Event]) -> list[e.Interrupt]:
    return [event.interrupt for event in events if isinstance(event, e.InterruptRequested)]


@agent
async def traveller(prompt: str, run: RunContext) -> AsyncIterator[str]:
    before = run.run_id
    yield "Let me see. "
    city = await run.ask("Which city?")
    yield f"Off to {city}."
    assert run.run_id != before and run.input.resumes == before and run.input.run == run.run_id


async def test_the_answer_goes_on_in_the_same_task_in_a_run_of_its_own() -> None:
    async with core(traveller) as service:
        sent = await service.send(ME, send("go"))
        assert await ended(service, sent) == "waiting"
        [interrupt] = asked(await log(service, sent.thread))
        assert interrupt.id == f"{sent.run}.1" and interrupt.reason == "input_required"
        assert interrupt.response_schema == {"type": "string", "minLength": 1}
        assert service.runner.unstoppable == 0 and service.runner.active == 0
        result = await service.resolve(ME, resolve(interrupt.id, "Rome"))
        assert result.run and await settled(service, result.run) == "done"
        events = await log(service, sent.thread)
        row = await service.get_run(ME, result.run)
        assert (row.resumes, row.parent) == (sent.run, sent.run)
        assert (await service.get_run(ME, sent.run)).status == "done"
    first = [event for event in events if event.run_id == sent.run]
    assert types(first)[-3:] == ["TEXT_MESSAGE_END", "INTERRUPT_REQUESTED", "RUN_FINISHED"]
    end = first[-1]
    assert isinstance(end, e.RunFinished) and end.outcome and end.outcome.interrupts == [interrupt]
    second = [event for event in events if event.run_id == result.run]
    assert said(second) == "Off to Rome."
    assert types(second) == [
        "RUN_STARTED",
        "TEXT_MESSAGE_START",
        "TEXT_MESSAGE_CONTENT",
        "TEXT_MESSAGE_END",
        "RUN_FINISHED",
    ]


async def test_a_function_without_async_asks_from_its_thread() -> None:
    @agent
    def plain(prompt: str, run: RunContext) -> Iterator[str]:
        yield "Well: "
        yield anyio.from_thread.run(run.ask, "Which city?")

    async with core(plain) as service:
        sent = await service.send(ME, send("go"))
        assert await ended(service, sent) == "waiting"
        result = await service.resolve(ME, resolve(f"{sent.run}.1", "Rome"))
        assert await settled(service, result.run or "") == "done"
        assert said(await log(service, sent.thread)) == "Well: Rome"
        sent = await service.send(ME, send("go"))
        await ended(service, sent)
        await service.cancel(ME, cancel(sent.run))
        with anyio.fail_after(DEADLINE_S):
            while service.runner.unstoppable:
                await anyio.sleep(0.01)


async def test_one_answer_of_many_at_once_is_taken() -> None:
    async with core(traveller) as service:
        sent = await service.send(ME, send("go"))
        await ended(service, sent)
        runs: list[str] = []
        refused: list[str] = []

        async def answer(text: str) -> None:
            try:
                result = await service.resolve(ME, resolve(f"{sent.run}.1", text))
                runs.append(result.run or "")
            except AlreadyDecided as error:
                refused.append(error.message)

        async with anyio.create_task_group() as tasks:
            for city in ("Rome", "Oslo", "Bern"):
                tasks.start_soon(answer, city)
        assert len(runs) == 1 and len(refused) == 2 and "by me" in refused[0]
        assert await settled(service, runs[0]) == "done"
        command = resolve(f"{sent.run}.1", "Rome")
        with pytest.raises(AlreadyDecided):
            await service.resolve(ME, command)


async def test_a_repeated_answer_gets_the_same_answer() -> None:
    async with core(traveller) as service:
        sent = await service.send(ME, send("go"))
        await ended(service, sent)
        command = resolve(f"{sent.run}.1", "Rome")
        first = await service.resolve(ME, command)
        again = await service.resolve(ME, command)  # I5
        assert again.replayed and again.run == first.run


async def test_options_and_several_questions_and_a_type() -> None:
    import msgspec

    class Address(msgspec.Struct):
        street: str
        zip: int

    seen: list[Any] = []

    @agent
    async def many(prompt: str, run: RunContext) -> None:
        seen.append(await run.ask("Where to?", schema=Address))
        seen.append(await run.ask_all(["Which city?", Question("Size?", options=["small", "large"])]))

    async with core(many) as service:
        sent = await service.send(ME, send("go"))
        await ended(service, sent)
        with pytest.raises(InvalidRequest) as wrong:
            await service.resolve(ME, resolve(f"{sent.run}.1", {"street": "Main", "zip": "x"}))
        assert wrong.value.at == "/zip" and "whole number" in wrong.value.message
        with pytest.raises(InvalidRequest) as missing:
            await service.resolve(ME, resolve(f"{sent.run}.1", {"street": "Main"}))
        assert missing.value.at == "/zip" and missing.value.message == "zip is required."
        result = await service.resolve(ME, resolve(f"{sent.run}.1", {"street": "Main", "zip": 8000}))
        second = result.run or ""
        assert await settled(service, second) == "waiting"
        with pytest.raises(InvalidRequest):
            await service.resolve(ME, resolve(f"{second}.2", "medium"))
        assert (await service.resolve(ME, resolve(f"{second}.2", "large"))).run is None
        result = await service.resolve(ME, resolve(f"{second}.1", "Rome"))
        assert await settled(service, result.run or "") == "done"
    assert seen == [Address("Main", 8000), ["Rome", "large"]]


async def test_what_a_types_own_validator_rejects_is_not_accepted_either() -> None:
    from pydantic import BaseModel, field_validator

    class Trip(BaseModel):
        city: str

        @field_validator("city")
        @classmethod
        def known(cls, value: str) -> str:
            if value != "Rome":
                raise ValueError("we only fly to Rome")
            return value

    seen: list[Any] = []

    @agent
    async def flying(prompt: str, run: RunContext) -> None:
        seen.append(await run.ask("Where to?", schema=Trip))

    async with core(flying) as service:
        sent = await service.send(ME, send("go"))
        await ended(service, sent)
        with pytest.raises(InvalidRequest) as wrong:
            await service.resolve(ME, resolve(f"{sent.run}.1", {"city": "Oslo"}))
        assert wrong.value.at == "/city" and "we only fly to Rome" in wrong.value.message
        result = await service.resolve(ME, resolve(f"{sent.run}.1", {"city": "Rome"}))
        assert await settled(service, result.run or "") == "done"
    assert seen == [Trip(city="Rome")]


async def test_an_approved_tool_runs_once_with_what_was_approved() -> None:
    ran: list[dict[str, Any]] = []

    @agent
    async def cleaner(prompt: str, run: RunContext) -> AsyncIterator[str]:
        async with run.tool("delete_files", paths=["a", "b"]) as call:
            await call.approve(editable={"type": "object", "properties": {"paths": {"type": "array"}}})
            ran.append(call.arguments)
            call.result = len(call.arguments["paths"])
        yield "Deleted."

    async with core(cleaner) as service:
        sent = await service.send(ME, send("go"))
        assert await ended(service, sent) == "waiting"
        assert ran == []  # I20
        events = await log(service, sent.thread)
        [interrupt] = asked(events)
        call = next(event for event in events if isinstance(event, e.ToolCallStart)).tool_call_id
        assert interrupt.reason == "tool_call" and interrupt.tool_call_id == call
        assert "TOOL_CALL_RESULT" not in types(events)
        with pytest.raises(InvalidRequest):
            await service.resolve(ME, resolve(interrupt.id, {"approved": True, "editedArgs": {"paths": "all"}}))
        answer = {"approved": True, "editedArgs": {"paths": ["a"]}}
        result = await service.resolve(ME, resolve(interrupt.id, answer))
        assert await settled(service, result.run or "") == "done"
        events = await log(service, sent.thread)
        view = await service.view(ME, sent.thread)
    assert ran == [{"paths": ["a"]}]
    back = next(event for event in events if isinstance(event, e.ToolCallResult))
    assert (back.run_id, back.tool_call_id, back.result) == (result.run, call, 1)
    assert b'"status":"done"' in view.transcript


async def test_a_no_that_is_not_caught_ends_the_run_calmly() -> None:
    @agent
    async def cleaner(prompt: str, run: RunContext) -> None:
        async with run.tool("delete_files", paths=["a"]) as call:
            await call.approve()
            raise AssertionError("never without approval")  # I20

    async with core(cleaner) as service:
        sent = await service.send(ME, send("go"))
        await ended(service, sent)
        payload = {"approved": False, "reason": "not today"}
        result = await service.resolve(ME, resolve(f"{sent.run}.1", payload))
        assert await settled(service, result.run or "") == "cancelled"
        events = await log(service, sent.thread)
    end = events[-1]
    assert isinstance(end, e.RunFinished) and end.reason == "delete_files was not allowed: not today"
    back = next(event for event in events if isinstance(event, e.ToolCallResult))
    assert back.status == "denied"


async def test_a_no_can_be_caught() -> None:
    @agent
    async def careful(prompt: str, run: RunContext) -> AsyncIterator[str]:
        try:
            await run.approve("format_disk", {"disk": "c"})
        except Declined as no:
            yield f"{no.status}, {no.reason}, {no.by}"

    async with core(careful) as service:
        sent = await service.send(ME, send("go"))
        await ended(service, sent)
        [interrupt] = asked(await log(service, sent.thread))
        assert interrupt.reason == "confirmation" and interrupt.metadata == {
            "name": "format_disk",
            "arguments": {"disk": "c"},
        }
        result = await service.resolve(ME, resolve(interrupt.id, {"approved": False, "reason": "no"}))
        assert await settled(service, result.run or "") == "done"
        assert said(await log(service, sent.thread)) == "denied, no, me"


async def test_other_tasks_wait_while_one_asks_and_two_questions_come_one_after_the_other() -> None:
    order: list[str] = []

    @agent
    async def busy(prompt: str, run: RunContext) -> None:
        opened = anyio.Event()

        async def ask(name: str) -> None:
            order.append(await run.ask(name))

        async def write() -> None:
            await opened.wait()
            await run.text("meanwhile")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask, "first?")
            tasks.start_soon(ask, "second?")
            tasks.start_soon(write)
            opened.set()

    async with core(busy) as service:
        sent = await service.send(ME, send("go"))
        run = sent.run
        for name in ("first?", "second?"):
            assert await settled(service, run) == "waiting"
            [interrupt] = [one for one in asked(await log(service, sent.thread)) if one.id.startswith(run)]
            assert interrupt.message == name
            run = (await service.resolve(ME, resolve(interrupt.id, name[0]))).run or ""
        assert await settled(service, run) == "done"
        events = await log(service, sent.thread)
    assert order == ["f", "s"]
    assert said(events) == "meanwhile"
    running = 0
    for event in events:  # I16, I17
        running += isinstance(event, e.RunStarted)
        running -= isinstance(event, e.TERMINAL)
        assert 0 <= running <= 1


async def test_parked_time_does_not_count_and_each_run_has_its_own_limit() -> None:
    @agent(timeout_s=0.3)
    async def patient(prompt: str, run: RunContext) -> AsyncIterator[str]:
        yield await run.ask("Well?")
        if prompt == "hang":
            await anyio.sleep_forever()

    async with core(patient) as service:
        sent = await service.send(ME, send("go"))
        await ended(service, sent)
        await anyio.sleep(0.5)  # longer than the limit
        result = await service.resolve(ME, resolve(f"{sent.run}.1", "yes"))
        assert await settled(service, result.run or "") == "done"
        sent = await service.send(ME, send("hang"))
        await ended(service, sent)
        result = await service.resolve(ME, resolve(f"{sent.run}.1", "yes"))
        assert await settled(service, result.run or "") == "failed"
        assert (await service.get_run(ME, result.run or "")).code == "timeout"


class Left:
    """An agent that tells when it is cancelled where it waits."""

    def __init__(self) -> None:
        self.gone = anyio.Event()

        @agent(name="left")
        async def left(prompt: str, run: RunContext) -> None:
            if prompt == "again":
                return
            try:
                await run.ask("Still there?")
            finally:
                self.gone.set()
                with pytest.raises(RunEnded):
                    await run.text("too late")

        self.agent = left

    async def is_gone(self) -> None:
        with anyio.fail_after(DEADLINE_S):
            await self.gone.wait()


async def test_stop_withdraws_and_cancels_the_parked_task() -> None:
    one = Left()
    async with core(one.agent) as service:
        sent = await service.send(ME, send("go"))
        await ended(service, sent)
        await service.cancel(ME, cancel(sent.run))
        await one.is_gone()  # I19
        assert (await service.get_run(ME, sent.run)).status == "cancelled"
        assert service.runner.unstoppable == 0
        with pytest.raises(AlreadyDecided):
            await service.resolve(ME, resolve(f"{sent.run}.1", "yes"))


async def test_deleting_the_thread_cancels_it() -> None:
    one = Left()
    async with core(one.agent) as service:
        sent = await service.send(ME, send("go"))
        await ended(service, sent)
        await service.delete_thread(ME, sent.thread)
        await one.is_gone()
        with pytest.raises(NotFound):
            await service.resolve(ME, resolve(f"{sent.run}.1", "yes"))


async def test_a_newer_message_that_interrupts_says_so_in_words() -> None:
    one = Left()
    async with core(one.agent) as service:
        sent = await service.send(ME, send("go"))
        await ended(service, sent)
        queued = await service.send(ME, send("later", sent.thread))
        assert queued.status == "queued"
        await service.cancel(ME, cancel(queued.run))
        newer = await service.send(ME, send("again", sent.thread, on_busy="interrupt"))
        await one.is_gone()
        assert newer.status == "running" and await ended(service, newer) == "done"
        events = await log(service, sent.thread)
    resolved = next(event for event in events if isinstance(event, e.InterruptResolved))
    assert (resolved.status, resolved.ends_run, resolved.reason) == (
        "cancelled",
        True,
        "A newer message took its place.",
    )


async def test_stop_while_the_question_is_on_its_way_is_not_lost() -> None:
    """The agent has asked, its run's end is not written yet: Stop must win or withdraw, never nothing."""
    one = Left()
    async with core(one.agent) as service:
        reader = Reader()
        sent = await service.send(ME, send("go"))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reader.follow, service, sent.thread)
            await reader.until(lambda: "INTERRUPT_REQUESTED" in types(reader.events))
            await service.cancel(ME, cancel(sent.run))
            tasks.cancel_scope.cancel()
        await one.is_gone()
        assert await settled(service, sent.run) == "cancelled"


async def test_the_server_stops_and_the_question_stays_but_its_agent_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    one = Left()
    async with core(one.agent, path=path) as service:
        sent = await service.send(ME, send("go"))
        await ended(service, sent)
    await one.is_gone()
    async with core(Left().agent, path=path) as service:
        assert (await service.get_run(ME, sent.run)).status == "waiting"
        result = await service.resolve(ME, resolve(f"{sent.run}.1", "yes"))
        assert await settled(service, result.run or "") == "interrupted"
        row = await service.get_run(ME, result.run or "")
        assert row.code == "interrupted"
        end = (await log(service, sent.thread))[-1]
        assert isinstance(end, e.RunError) and end.retryable and "restarted" in end.message
        assert await ended(service, await service.send(ME, send("again", sent.thread))) == "done"


async def test_too_many_parked_agents_are_refused_in_words() -> None:
    async with core(traveller, parked_limit=1) as service:
        first = await service.send(ME, send("go"))
        assert await ended(service, first) == "waiting"
        second = await service.send(ME, send("go"))
        assert await ended(service, second) == "failed"
        assert (await service.get_run(ME, second.run)).code == "too_many_waiting"
        result = await service.resolve(ME, resolve(f"{first.run}.1", "Rome"))
        await settled(service, result.run or "")
        assert await ended(service, await service.send(ME, send("go"))) == "waiting"


async def test_a_form_that_nobody_can_fill_in_fails_the_run() -> None:
    @agent
    async def odd(prompt: str, run: RunContext) -> None:
        await run.ask("?", schema={"$ref": "http://elsewhere.example/schema"})

    async with core(odd) as service:
        sent = await service.send(ME, send("go"))
        assert await ended(service, sent) == "failed"
        assert (await service.get_run(ME, sent.run)).code == "invalid_question"


async def test_an_expired_question_is_a_no_that_the_agent_hears() -> None:
    @agent
    async def hasty(prompt: str, run: RunContext) -> AsyncIterator[str]:
        try:
            await run.ask("Quick?", expires_in=0.05)
        except Declined as no:
            yield no.status

    async with core(hasty, renew_s=0.05) as service:
        reader = Reader()
        sent = await service.send(ME, send("go"))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reader.follow, service, sent.thread)
            await reader.until(lambda: reader.text == "expired")
            tasks.cancel_scope.cancel()
        resolved = next(event for event in reader.events if isinstance(event, e.InterruptResolved))
        assert resolved.status == "expired" and resolved.by is e.UNSET and resolved.ends_run is e.UNSET
        with pytest.raises(Expired):
            await service.resolve(ME, resolve(f"{sent.run}.1", "late"))


async def test_an_answer_after_the_date_is_too_late_also_before_anybody_noticed() -> None:
    async with core(traveller, answer_timeout_s=0.05) as service:
        sent = await service.send(ME, send("go"))
        await ended(service, sent)
        await anyio.sleep(0.06)
        with pytest.raises(Expired):
            await service.resolve(ME, resolve(f"{sent.run}.1", "Rome"))
        assert (await service.get_run(ME, sent.run)).status == "done"  # a run went on with the no
        rows = [event.run_id for event in await log(service, sent.thread) if isinstance(event, e.RunStarted)]
        assert await settled(service, rows[-1] or "") == "cancelled"


async def test_an_answer_that_is_too_long_is_refused_and_the_question_stays() -> None:
    async with core(traveller) as service:
        sent = await service.send(ME, send("go"))
        await ended(service, sent)
        before = len(await log(service, sent.thread))
        with pytest.raises(TooLarge):
            await service.resolve(ME, resolve(f"{sent.run}.1", "x" * 65_536))
        with pytest.raises(InvalidRequest) as wrong:
            await service.resolve(ME, resolve(f"{sent.run}.1", ""))
        assert wrong.value.at == "" and "empty" in wrong.value.message
        assert len(await log(service, sent.thread)) == before
        result = await service.resolve(ME, resolve(f"{sent.run}.1", "Rome"))
        assert await settled(service, result.run or "") == "done"


async def test_a_thread_that_nobody_works_on_expires_too(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with core(traveller, path=path, answer_timeout_s=0.05) as service:
        sent = await service.send(ME, send("go"))
        await ended(service, sent)
    async with core(traveller, path=path, renew_s=0.05) as service:
        reader = Reader()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reader.follow, service, sent.thread)
            await reader.until(lambda: isinstance(reader.events[-1], e.InterruptResolved) if reader.events else False)
            tasks.cancel_scope.cancel()
        row = await service.get_run(ME, sent.run)
        assert (row.status, row.expires_at) == ("cancelled", None)


async def test_an_expired_question_whose_agent_is_gone_ends_its_run(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with core(traveller, path=path, answer_timeout_s=0.05) as service:
        sent = await service.send(ME, send("go"))
        await ended(service, sent)
        queued = await service.send(ME, send("next", sent.thread))
    await anyio.sleep(0.06)
    async with core(
        traveller, path=path, renew_s=0.05
    ) as service:  # the lane is loaded for the queued run or the sweep
        with anyio.fail_after(DEADLINE_S):
            while (await service.get_run(ME, sent.run)).status == "waiting":
                await anyio.sleep(0.02)
        row = await service.get_run(ME, sent.run)
        assert (row.status, row.expires_at) == ("cancelled", None)
        resolved = next(event for event in await log(service, sent.thread) if isinstance(event, e.InterruptResolved))
        assert (resolved.status, resolved.ends_run) == ("expired", True)
        assert await ended(service, queued) == "waiting"  # what was queued behind it went on
