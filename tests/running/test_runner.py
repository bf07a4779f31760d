"""The life of runs: exactly one end each, in every way a run can end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from msgspec import UNSET

from core import (
    DEADLINE_S,
    ME,
    Gated,
    Reader,
    Told,
    cancel,
    core,
    ended,
    log,
    resolve,
    said,
    send,
    types,
)
from runcast import events as e
from runcast.agents.base import RunContext, Turn
from runcast.agents.function import agent
from runcast.commands import Cancel
from runcast.errors import AgentError, AlreadyDecided, NotFound, QueueFull, RunActive, Unavailable
from runcast.events import Event
from runcast.ids import SystemClock, Uuid7Source
from runcast.running.execution import SHUTDOWN, Execution
from runcast.runs import RunInput
from runcast.stores.sqlite import SqliteStore
from runcast.transcript import load

pytestmark = pytest.mark.anyio


def assert_one_end(events: list[Event], run: str) -> Event:
    """I16: exactly one terminal event of the run, and it is its last; I23: nothing stays open."""
    mine = [event for event in events if event.run_id == run]
    ends = [event for event in mine if isinstance(event, e.TERMINAL)]
    assert len(ends) == 1, types(mine)
    assert mine[-1] is ends[0], types(mine)
    open_texts = {event.message_id for event in mine if isinstance(event, e.TextMessageStart)}
    open_texts -= {event.message_id for event in mine if isinstance(event, e.TextMessageEnd)}
    assert not open_texts
    return ends[0]


async def test_a_run_is_its_message_its_answer_and_one_end() -> None:
    async with core() as service:
        sent = await service.send(ME, send("one two"))
        assert await ended(service, sent) == "done"
        events = await log(service, sent.thread)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))  # I1
    started = events[0]
    assert isinstance(started, e.RunStarted) and started.run_id == sent.run and started.seq == sent.seq
    assert started.input == {
        "threadId": sent.thread,
        "runId": sent.run,
        "messages": [{"id": started.input["messages"][0]["id"], "role": "user", "content": "one two"}],
    }
    assert said(events) == "one two "
    end = assert_one_end(events, sent.run)
    assert isinstance(end, e.RunFinished) and end.outcome == e.Outcome(type="success")
    closed = next(event for event in events if isinstance(event, e.TextMessageEnd))
    assert closed.text == "one two "


async def test_an_exception_is_told_by_code_and_request_id_and_never_by_its_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def broken(input: RunInput, context: RunContext) -> AsyncIterator[Event]:
        yield e.TextMessageContent(message_id="m", delta="half")
        raise ValueError("secret-4711 in /etc/passwd")

    async with core(Told(broken)) as service:
        sent = await service.send(ME, send("go"))
        assert await ended(service, sent) == "failed"
        events = await log(service, sent.thread)
    end = assert_one_end(events, sent.run)
    assert isinstance(end, e.RunError) and end.code == "agent_error" and end.request_id
    assert "4711" not in b"".join(e.encode(event) for event in events).decode()
    assert any("4711" in (record.exc_text or "") and str(end.request_id) in record.message for record in caplog.records)
    text = next(event for event in events if isinstance(event, e.TextMessageEnd))
    assert text.text == "half" and text.incomplete == "failed"


@pytest.mark.parametrize(
    ("given", "told"),
    [(1500, 1500), (0, 0), (20.2, 21), (10**9, 86_400_000), (-1, None), (float("inf"), None), ("soon", None)],
)
async def test_an_agents_error_says_when_it_may_be_tried_again(given: Any, told: int | None) -> None:
    async def busy(input: RunInput, context: RunContext) -> AsyncIterator[Event]:
        raise AgentError("The library is full.", code="full", retry_after_ms=given)
        yield

    async with core(Told(busy)) as service:
        sent = await service.send(ME, send("go"))
        assert await ended(service, sent) == "failed"
        end = (await log(service, sent.thread))[-1]
        failure = load((await service.view(ME, sent.thread)).transcript).runs[0].failure
    assert isinstance(end, e.RunError) and failure is not None
    assert (end.code, end.message, end.retryable) == ("full", "The library is full.", True)
    assert (None if end.retry_after_ms is UNSET else end.retry_after_ms) == failure.retry_after_ms == told


async def test_an_agent_error_keeps_its_code_and_sentence() -> None:
    async def refusing(input: RunInput, context: RunContext) -> AsyncIterator[Event]:
        raise AgentError("The library is closed on Sundays.", code="closed")
        yield

    async with core(Told(refusing)) as service:
        sent = await service.send(ME, send("go"))
        await ended(service, sent)
        end = assert_one_end(await log(service, sent.thread), sent.run)
    assert isinstance(end, e.RunError)
    assert (end.code, end.message) == ("closed", "The library is closed on Sundays.")


@pytest.mark.parametrize("error", [SystemExit(3), __import__("asyncio").CancelledError()])
async def test_nothing_an_agent_raises_hurts_the_server(error: BaseException) -> None:
    async def rude(input: RunInput, context: RunContext) -> AsyncIterator[Event]:
        raise error
        yield

    async with core(Told(rude, "rude"), Gated()) as service:
        sent = await service.send(ME, send("go"))
        assert await ended(service, sent) == "failed"
        assert_one_end(await log(service, sent.thread), sent.run)


async def test_cancel_is_durable_stops_the_agent_and_keeps_the_partial() -> None:
    agent = Gated()
    async with core(agent) as service:
        sent = await service.send(ME, send("go"))
        await agent.reached.wait()
        assert (await service.cancel(ME, cancel(sent.run))).status == "running"
        assert await ended(service, sent) == "cancelled"
        events = await log(service, sent.thread)
        again = await service.cancel(ME, cancel(sent.run))
    assert agent.cancelled
    assert again.status == "cancelled"
    end = assert_one_end(events, sent.run)
    assert isinstance(end, e.RunFinished) and end.outcome == e.Outcome(type="cancelled")
    assert types(events).index("RUN_CANCEL_REQUESTED") < len(events) - 1
    text = next(event for event in events if isinstance(event, e.TextMessageEnd))
    assert text.text == "before " and text.incomplete == "cancelled"


async def test_an_agent_that_ignores_cancel_is_over_after_the_deadline() -> None:
    entered, leave, refused = anyio.Event(), anyio.Event(), anyio.Event()

    async def stubborn(input: RunInput, context: RunContext) -> AsyncIterator[Event]:
        yield e.TextMessageContent(message_id="m", delta="I stay")
        entered.set()
        with anyio.CancelScope(shield=True):
            await leave.wait()
            try:
                await context.emit(e.TextMessageContent(message_id="m", delta="too late"))
            except Exception:
                refused.set()

    async with core(Told(stubborn), cancel_deadline_s=0.05) as service:
        sent = await service.send(ME, send("go"))
        await entered.wait()
        await service.cancel(ME, cancel(sent.run))
        assert await ended(service, sent) == "cancelled"
        following = await service.send(ME, send("next", sent.thread))
        assert following.status == "running"
        leave.set()
        with anyio.fail_after(DEADLINE_S):
            await refused.wait()
        assert_one_end(await log(service, sent.thread), sent.run)
        assert said(await log(service, sent.thread)).count("too late") <= 1  # of the second run at most
        await service.cancel(ME, cancel(following.run))


class Panic(BaseException):
    """What extensions written in Rust raise: no Exception."""


@pytest.mark.parametrize(
    "error",
    [Panic("secret"), KeyboardInterrupt("secret"), GeneratorExit(), BaseExceptionGroup("secret", [Panic("secret")])],
    ids=lambda error: type(error).__name__,
)
async def test_no_exception_of_an_agent_ends_more_than_its_run(error: BaseException) -> None:
    async def broken(input: RunInput, context: RunContext) -> AsyncIterator[Event]:
        if input.text == "go":
            raise error
        yield e.TextMessageContent(message_id="m", delta="well")

    async with core(Told(broken)) as service:
        sent = await service.send(ME, send("go"))
        assert await ended(service, sent) == "failed"
        end = assert_one_end(await log(service, sent.thread), sent.run)
        assert isinstance(end, e.RunError) and "secret" not in end.message
        assert await ended(service, await service.send(ME, send("again"))) == "done"


@pytest.mark.parametrize(
    "event",
    [
        e.TextMessageContent(message_id="m", delta=5),  # type: ignore[arg-type]
        e.TextMessageContent(message_id=["m"], delta="x"),  # type: ignore[arg-type]
        e.ToolCallStart(tool_call_id="c", tool_call_name=None),  # type: ignore[arg-type]
        e.MessageRetracted(message_ids=5),  # type: ignore[arg-type]
        e.RunFinished(thread_id="t", outcome="secret"),  # type: ignore[arg-type]
        e.RunFinished(thread_id="t", usage=object()),  # type: ignore[arg-type]
        e.RunError(message=5),  # type: ignore[arg-type]
    ],
    ids=lambda event: f"{event.type}",
)
async def test_an_event_that_no_reader_could_read_fails_its_run_and_nothing_else(event: Event) -> None:
    async def wrong(input: RunInput, context: RunContext) -> AsyncIterator[Event]:
        yield event if input.text == "go" else e.TextMessageContent(message_id="m", delta="well")

    async with core(Told(wrong)) as service:
        sent = await service.send(ME, send("go"))
        assert await ended(service, sent) == "failed"
        end = assert_one_end(await log(service, sent.thread), sent.run)
        assert isinstance(end, e.RunError) and end.code == "invalid_yield" and "secret" not in end.message
        await service.view(ME, sent.thread)
        assert await ended(service, await service.send(ME, send("again"))) == "done"


async def test_a_lone_surrogate_is_replaced_and_fails_nothing() -> None:
    async def odd(input: RunInput, context: RunContext) -> AsyncIterator[Event]:
        yield e.TextMessageContent(message_id="m", delta="half \ud83d")

    async with core(Told(odd)) as service:
        sent = await service.send(ME, send("go"))
        assert await ended(service, sent) == "done"
        events = await log(service, sent.thread)
        assert said(events) == "half \ufffd"
        assert service.runner.healthy


async def test_an_agents_error_that_is_no_text_fails_its_run_and_nothing_else() -> None:
    async def odd(input: RunInput, context: RunContext) -> AsyncIterator[Event]:
        raise AgentError(5, code="\ud800" if input.text == "code" else object())  # type: ignore[arg-type]
        yield e.TextMessageContent(message_id="m", delta="")

    async with core(Told(odd)) as service:
        for text in ("go", "code", "again"):
            sent = await service.send(ME, send(text))
            assert await ended(service, sent) == "failed"
            assert_one_end(await log(service, sent.thread), sent.run)


async def test_a_result_that_is_no_json_is_converted() -> None:
    async def odd(input: RunInput, context: RunContext) -> AsyncIterator[Event]:
        yield e.RunFinished(thread_id="t", result={"seen": {1}})

    async with core(Told(odd)) as service:
        sent = await service.send(ME, send("go"))
        assert await ended(service, sent) == "done"
        end = assert_one_end(await log(service, sent.thread), sent.run)
        assert isinstance(end, e.RunFinished) and end.result == {"seen": [1]}


async def test_an_agent_that_ignores_its_time_limit_is_over_after_the_deadline_and_holds_up_no_stop() -> None:
    leave = anyio.Event()

    async def stubborn(input: RunInput, context: RunContext) -> AsyncIterator[Event]:
        yield e.TextMessageContent(message_id="m", delta="I stay")
        with anyio.CancelScope(shield=True):
            await leave.wait()

    with anyio.fail_after(DEADLINE_S):
        async with core(Told(stubborn), run_timeout_s=0.05, cancel_deadline_s=0.05) as service:
            sent = await service.send(ME, send("go"))
            assert await ended(service, sent) == "failed"
            end = assert_one_end(await log(service, sent.thread), sent.run)
            assert isinstance(end, e.RunError) and (end.code, end.limit_s) == ("timeout", 0.05)
            assert service.runner.unstoppable == 1
    leave.set()


@pytest.mark.parametrize(
    "dropped", ["", e.TextMessageContent(message_id="m", delta=""), e.TextMessageEnd(message_id="n")]
)
async def test_an_agent_that_gives_nothing_lets_others_have_their_turn(dropped: Any) -> None:
    @agent
    async def busy(prompt: str) -> AsyncIterator[Any]:
        if prompt == "go":
            while True:
                yield dropped
        yield "well"

    with anyio.fail_after(DEADLINE_S):
        async with core(busy) as service:
            sent = await service.send(ME, send("go"))
            assert await ended(service, await service.send(ME, send("again"))) == "done"
            await service.cancel(ME, cancel(sent.run))
            assert await ended(service, sent) == "cancelled"


async def test_the_wall_clock_limit_ends_a_run() -> None:
    agent = Gated()
    async with core(agent, run_timeout_s=0.05) as service:
        sent = await service.send(ME, send("go"))
        assert await ended(service, sent) == "failed"
        end = assert_one_end(await log(service, sent.thread), sent.run)
    assert agent.cancelled
    assert isinstance(end, e.RunError) and end.code == "timeout"


async def test_messages_queue_in_the_order_accepted() -> None:
    agent = Gated()
    async with core(agent) as service:
        first = await service.send(ME, send("1"))
        rest = [await service.send(ME, send(str(number), first.thread)) for number in range(2, 6)]
        assert [sent.status for sent in rest] == ["queued"] * 4
        agent.gate.set()
        for sent in [first, *rest]:
            assert await ended(service, sent) == "done"
        events = await log(service, first.thread)
    assert [input.text for input in agent.inputs] == ["1", "2", "3", "4", "5"]  # I18
    running = 0
    for event in events:  # I17
        running += isinstance(event, e.RunStarted)
        running -= isinstance(event, e.TERMINAL)
        assert running <= 1
    for sent in [first, *rest]:
        assert_one_end(events, sent.run)
    parents = [event.parent_run_id for event in events if isinstance(event, e.RunStarted)]
    assert parents[1:] == [sent.run for sent in [first, *rest][:-1]]


async def test_a_queued_run_can_be_taken_back_and_the_queue_has_a_cap() -> None:
    agent = Gated()
    async with core(agent, queue_limit=2) as service:
        first = await service.send(ME, send("1"))
        second = await service.send(ME, send("2", first.thread))
        third = await service.send(ME, send("3", first.thread))
        with pytest.raises(QueueFull):
            await service.send(ME, send("4", first.thread))
        with pytest.raises(RunActive):
            await service.send(ME, send("4", first.thread, on_busy="reject"))
        assert (await service.cancel(ME, cancel(second.run))).status == "cancelled"
        agent.gate.set()
        assert await ended(service, third) == "done"
        events = await log(service, first.thread)
    assert isinstance(assert_one_end(events, second.run), e.RunDequeued)
    assert [input.text for input in agent.inputs] == ["1", "3"]


async def test_interrupting_cancels_and_then_runs() -> None:
    agent = Gated()
    async with core(agent) as service:
        first = await service.send(ME, send("1"))
        await agent.reached.wait()
        second = await service.send(ME, send("2", first.thread, on_busy="interrupt"))
        assert await ended(service, first) == "cancelled"
        agent.gate.set()
        assert await ended(service, second) == "done"


BAD_FORMS = [
    {"type": "strin"},
    {"type": "string", "pattern": "^(a+)+\\1$"},
    {"$ref": "https://example.org/form.json"},
]


@pytest.mark.parametrize("form", BAD_FORMS, ids=["no schema", "pattern", "foreign"])
@pytest.mark.parametrize("announced", [True, False])
async def test_a_form_that_nobody_could_answer_fails_the_run(form: dict[str, Any], announced: bool) -> None:
    """Whoever asks, also by events of its own: else any answer would be taken."""

    async def asks(input: RunInput, context: RunContext) -> AsyncIterator[Event]:
        asked = e.Interrupt(id=f"{input.run}.1", reason="input_required", message="Which?", response_schema=form)
        if announced:
            yield e.InterruptRequested(interrupt=asked)
        yield e.RunFinished(thread_id=input.thread, outcome=e.Outcome(type="interrupt", interrupts=[asked]))

    async with core(Told(asks)) as service:
        sent = await service.send(ME, send("go"))
        assert await ended(service, sent) == "failed"
        end = (await log(service, sent.thread))[-1]
        assert isinstance(end, e.RunError) and end.code == "invalid_question" and "'Which?'" in end.message


async def asking(input: RunInput, context: RunContext) -> AsyncIterator[Event]:
    if input.answers:
        yield e.TextMessageContent(message_id=context.new_id(), delta=f"You said {input.answers[0].payload}.")
        return
    interrupt = e.Interrupt(id=f"{context.run_id}.1", reason="confirmation", message="Shall I?")
    yield e.InterruptRequested(interrupt=interrupt)
    yield e.RunFinished(thread_id="", outcome=e.Outcome(type="interrupt", interrupts=[interrupt]))


async def test_a_waiting_run_is_resumed_by_its_answer_once() -> None:
    async with core(Told(asking)) as service:
        sent = await service.send(ME, send("go"))
        assert await ended(service, sent) == "waiting"
        behind = await service.send(ME, send("later", sent.thread))
        assert behind.status == "queued"  # a thread with an open question is busy
        answer = resolve(f"{sent.run}.1", "yes")
        result = await service.resolve(ME, answer)
        assert result.run is not None
        assert (await service.resolve(ME, answer)).replayed  # I5
        with pytest.raises(AlreadyDecided):
            await service.resolve(ME, resolve(f"{sent.run}.1", "no"))
        with pytest.raises(NotFound):
            await service.resolve(ME, resolve(f"{sent.run}.2", "no"))
        resumed = await service.wait_run(ME, result.run, timeout_s=DEADLINE_S)
        assert (resumed.status, resumed.resumes, resumed.parent) == ("done", sent.run, sent.run)
        events = await log(service, sent.thread)
        assert (await service.get_run(ME, sent.run)).status == "done"
    assert "You said yes." in said(events)
    order = types(events)
    assert order.index("INTERRUPT_RESOLVED") < order.index("RUN_STARTED", 1)
    assert_one_end(events, sent.run)


async def test_a_waiting_run_survives_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    async with core(Told(asking), path=path) as service:
        sent = await service.send(ME, send("go"))
        assert await ended(service, sent) == "waiting"
    async with core(Told(asking), path=path) as service:
        result = await service.resolve(ME, resolve(f"{sent.run}.1", "yes"))
        assert (await service.wait_run(ME, result.run or "", timeout_s=DEADLINE_S)).status == "done"


async def test_stop_on_a_waiting_run_withdraws_its_question() -> None:
    async with core(Told(asking)) as service:
        sent = await service.send(ME, send("go"))
        assert await ended(service, sent) == "waiting"
        behind = await service.send(ME, send("later", sent.thread))
        assert (await service.cancel(ME, Cancel(id="c-1", thread=sent.thread))).status == "cancelled"
        assert await ended(service, behind) == "waiting"
        with pytest.raises(AlreadyDecided):
            await service.resolve(ME, resolve(f"{sent.run}.1", "yes"))


async def test_runs_of_a_dead_process_end_interrupted_and_the_queue_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    store = await SqliteStore.open(path)
    agent = Gated()
    with anyio.CancelScope() as scope:
        async with core(agent, store=store) as service:
            sent = await service.send(ME, send("1"))
            queued = await service.send(ME, send("2", sent.thread))
            await agent.reached.wait()
            reader = Reader()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(reader.follow, service, sent.thread)
                await reader.until(lambda: reader.text == "before ")
                tasks.cancel_scope.cancel()
            # The process "dies": the store takes nothing more, as a killed process writes nothing more.
            await store.close()
            scope.cancel()
    second = Gated()
    second.gate.set()
    async with core(second, path=path) as service:
        assert await ended(service, sent) == "interrupted"
        assert await ended(service, queued) == "done"
        events = await log(service, sent.thread)
    end = assert_one_end(events, sent.run)
    assert isinstance(end, e.RunError) and end.code == "interrupted" and end.retryable
    text = next(event for event in events if isinstance(event, e.TextMessageEnd))
    assert text.text == "before " and text.incomplete == "interrupted"
    assert [input.text for input in second.inputs] == ["2"]


async def test_a_clean_stop_ends_runs_as_interrupted(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    agent = Gated()
    async with core(agent, path=path) as service:
        sent = await service.send(ME, send("1"))
        await agent.reached.wait()
        await service.runner.drain(0)
        with pytest.raises(Unavailable):
            await service.send(ME, send("2"))
    assert agent.cancelled
    async with core(path=path) as service:
        assert await ended(service, sent) == "interrupted"
        assert_one_end(await log(service, sent.thread), sent.run)


async def test_an_agent_that_floods_waits_for_the_log_and_loses_nothing() -> None:
    async def flood(input: RunInput, context: RunContext) -> AsyncIterator[Event]:
        for number in range(5_000):
            yield e.TextMessageContent(message_id="m", delta=f"{number} ")

    async with core(Told(flood)) as service:
        sent = await service.send(ME, send("go"))
        assert await ended(service, sent) == "done"
        assert said(await log(service, sent.thread)) == "".join(f"{number} " for number in range(5_000))


async def test_history_is_the_path_of_parents_with_saved_states() -> None:
    seen: list[list[tuple[str, bytes | None]]] = []

    async def remembering(input: RunInput, context: RunContext) -> AsyncIterator[Event]:
        turns = await context.history()
        seen.append([(turn.run.messages[0].parts[0].text, turn.state and turn.state.data) for turn in turns])  # type: ignore[union-attr]
        context.save("test", 1, input.text.encode())
        yield e.TextMessageContent(message_id=context.new_id(), delta="ok")

    async with core(Told(remembering)) as service:
        first = await service.send(ME, send("a"))
        await ended(service, first)
        second = await service.send(ME, send("b", first.thread))
        await ended(service, second)
        branch = await service.send(ME, send("c", first.thread, parent_run_id=first.run))
        await ended(service, branch)
    assert seen == [[], [("a", b"a")], [("a", b"a")]]


async def test_an_agent_that_is_cancelled_from_outside_was_interrupted() -> None:
    """As at a second Ctrl-C: the loop cancels every task, the agent's perhaps before the runner's."""
    began = anyio.Event()

    async def slow(input: RunInput, context: RunContext) -> AsyncIterator[Event]:
        began.set()
        await anyio.sleep_forever()
        yield e.TextMessageStart(message_id="a")

    async def history() -> list[Turn]:
        return []

    input = RunInput(thread="t", run="r", agent="told")
    clock = SystemClock()
    execution = Execution(
        Told(slow), input, ME, clock=clock, new_id=Uuid7Source(clock), history=history, app={}, limit_s=60
    )
    task = asyncio.create_task(execution.drive())  # noqa: TID251 — cancelled as no task group would
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert execution.stopped.is_set()
    assert execution.interrupted == SHUTDOWN


async def test_an_agent_that_writes_nothing_for_ever_leaves_the_loop_to_others() -> None:
    async def empty(input: RunInput, context: RunContext) -> AsyncIterator[Event]:
        while True:
            await context.text("")
        yield

    async with core(Told(empty)) as service:
        sent = await service.send(ME, send("go"))
        await service.cancel(ME, cancel(sent.run))
        assert await ended(service, sent) == "cancelled"


@pytest.mark.parametrize("status", ["done", "failed", "cancelled"])
async def test_what_a_run_cost_is_told_however_it_ends(status: str) -> None:
    spent = anyio.Event()

    async def costly(input: RunInput, context: RunContext) -> AsyncIterator[Event]:
        context.usage.append(e.TokenUsage(model="small", input_tokens=7))
        yield e.TextMessageContent(message_id="m", delta="a")
        spent.set()
        if status == "cancelled":
            await anyio.sleep_forever()
        if status == "failed":
            raise AgentError("No.", code="no")

    async with core(Told(costly)) as service:
        sent = await service.send(ME, send("go"))
        await spent.wait()
        if status == "cancelled":
            await service.cancel(ME, cancel(sent.run))
        assert await ended(service, sent) == status
        end = (await log(service, sent.thread))[-1]
    assert isinstance(end, e.RunFinished | e.RunError)
    assert end.usage == [e.TokenUsage(model="small", input_tokens=7)]
