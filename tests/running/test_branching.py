"""Edit and retry: a thread is a tree of runs, and what the rows say of it is what the fold says."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from core import DEADLINE_S, ME, OTHER, Gated, Told, cancel, core, ended, log, resolve, said, send, types
from runcast import events as e
from runcast.agents.base import RunContext
from runcast.errors import IdempotencyConflict, InvalidRequest, NotFound, QueueFull, RunActive, Unavailable
from runcast.events import Event
from runcast.paths import path_of
from runcast.runs import RunInput
from runcast.service import Sent, Service
from runcast.stores.base import Store
from runcast.stores.sqlite import SqliteStore
from runcast.transcript import load
from tree import edit, retry, said_to, tree

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def held(store: Store | None = None) -> AsyncGenerator[tuple[Service, Gated, list[Sent]]]:
    """Three messages of one thread, "1" to "3": the agent stands still in the first, the others are queued."""
    agent = Gated()
    async with core(agent, store=store) as service:
        first = await service.send(ME, send("1"))
        queued = [await service.send(ME, send(text, first.thread)) for text in ("2", "3")]
        await agent.reached.wait()
        yield service, agent, [first, *queued]


async def said_and_done(service: Service, *texts: str) -> list[Sent]:
    """These messages in a new thread, each after the end of the one before."""
    sent: list[Sent] = []
    for text in texts:
        sent.append(await service.send(ME, send(text, sent[0].thread if sent else None)))
        await ended(service, sent[-1])
    return sent


async def test_an_edit_starts_a_run_beside_the_edited_one() -> None:
    async with core() as service:
        first, second = await said_and_done(service, "one", "two")
        command = edit(second.run, "zwei")
        edited = await service.edit(ME, command)
        assert await ended(service, edited) == "done"
        assert (edited.thread, edited.status) == (first.thread, "running")
        again = await service.edit(ME, command)
        assert again.replayed and (again.run, again.seq) == (edited.run, edited.seq)  # I5
        with pytest.raises(IdempotencyConflict):
            await service.edit(ME, edit(second.run, "drei", id=command.id))
        third = await service.send(ME, send("three", first.thread))
        await ended(service, third)
        assert await said_to(service, first.thread) == [
            ("one", None),
            ("two", "one"),
            ("zwei", "one"),
            ("three", "zwei"),
        ]


async def test_the_root_may_be_edited_and_retried() -> None:
    async with core() as service:
        first = await service.send(ME, send("one"))
        await ended(service, first)
        edited = await service.edit(ME, edit(first.run, "eins"))
        await ended(service, edited)
        command = retry(first.run)
        retried = await service.retry(ME, command)
        await ended(service, retried)
        assert (await service.retry(ME, command)).run == retried.run  # I5
        transcript = await tree(service, first.thread)
    assert [run.parent for run in transcript.runs] == [None, None, None]
    assert transcript.head_run == retried.run
    messages = [run.messages[0].id for run in transcript.runs]
    assert messages[2] == messages[0] != messages[1]  # the same message, under its id
    assert transcript.runs[2].messages[0].parts == transcript.runs[0].messages[0].parts  # I6


async def test_a_branch_sees_nothing_of_its_sibling() -> None:
    seen: dict[str, tuple[list[str], list[bytes], Any]] = {}

    async def remembering(input: RunInput, context: RunContext) -> AsyncIterator[Event]:
        turns = await context.history()
        words = [part.text for turn in turns for message in turn.run.messages for part in message.parts]  # type: ignore[union-attr]
        states = [turn.state.data for turn in turns if turn.state]
        seen[input.text] = (words, states, context.state)
        context.save("test", 1, input.text.encode())
        await context.set_state({"said": input.text})
        yield e.TextMessageContent(message_id=context.new_id(), delta=f"heard {input.text}")

    async with core(Told(remembering)) as service:
        first = await service.send(ME, send("a"))
        await ended(service, first)
        secret = await service.send(ME, send("secret", first.thread))
        await ended(service, secret)
        edited = await service.edit(ME, edit(secret.run, "b"))
        await ended(service, edited)
        after = await service.send(ME, send("c", first.thread))
        await ended(service, after)
    assert seen["secret"] == (["a", "heard a"], [b"a"], {"said": "a"})
    assert seen["b"] == seen["secret"]
    assert seen["c"] == (["a", "heard a", "b", "heard b"], [b"a", b"b"], {"said": "b"})


async def test_editing_the_run_under_way_stops_it_and_runs_next() -> None:
    async with held() as (service, agent, (first, second, third)):
        edited = await service.edit(ME, edit(first.run, "1b"))
        assert edited.status == "queued"
        assert await ended(service, first) == "cancelled"
        assert await said_to(service, first.thread) == [("1", None), ("2", "1b"), ("3", "2"), ("1b", None)]
        assert (await tree(service, first.thread)).head_run == third.run
        agent.gate.set()
        for sent in (edited, second, third):
            assert await ended(service, sent) == "done"
        events = await log(service, first.thread)
        transcript = await tree(service, first.thread)
        assert [run.id for run in path_of(transcript)] == [edited.run, second.run, third.run]
    assert [input.text for input in agent.inputs] == ["1", "1b", "2", "3"]  # I18: what was queued goes on behind it
    running = 0
    for event in events:  # I17
        running += isinstance(event, e.RunStarted)
        running -= isinstance(event, e.TERMINAL) and not isinstance(event, e.RunDequeued)
        assert running <= 1


async def test_editing_a_queued_run_takes_its_place() -> None:
    async with held() as (service, agent, (first, second, third)):
        edited = await service.edit(ME, edit(second.run, "2b"))
        assert (await service.get_run(ME, second.run)).status == "cancelled"
        transcript = await tree(service, first.thread)
        assert [run.id for run in path_of(transcript)] == [first.run, edited.run, third.run]
        agent.gate.set()
        for sent in (first, edited, third):
            assert await ended(service, sent) == "done"
        await tree(service, first.thread)
    assert [input.text for input in agent.inputs] == ["1", "2b", "3"]


async def test_a_run_taken_back_is_nobodys_parent() -> None:
    async with held() as (service, agent, (first, second, third)):
        await service.cancel(ME, cancel(second.run))
        assert await said_to(service, first.thread) == [("1", None), ("2", "1"), ("3", "1")]
        await service.cancel(ME, cancel(third.run))
        assert (await tree(service, first.thread)).head_run == first.run
        fourth = await service.send(ME, send("4", first.thread))
        with pytest.raises(InvalidRequest, match="taken back"):
            await service.send(ME, send("5", first.thread, parent_run_id=second.run))
        agent.gate.set()
        assert await ended(service, fourth) == "done"
        assert (await said_to(service, first.thread))[-1] == ("4", "1")


async def test_what_is_asked_again_follows_nothing_that_was_taken_back() -> None:
    """A queued run was taken back, and then the one that it was to follow: a branch of it follows what is left (I6)."""
    agent = Gated()
    async with core(agent) as service:
        first = await service.send(ME, send("one"))
        second = await service.send(ME, send("two", first.thread))
        third = await service.send(ME, send("three", first.thread))
        await service.cancel(ME, cancel(third.run))
        await service.cancel(ME, cancel(second.run))
        retried = await service.retry(ME, retry(third.run))
        edited = await service.edit(ME, edit(third.run, "drei"))
        agent.gate.set()
        await ended(service, retried)
        await ended(service, edited)
        parents = {run.id: run.parent for run in (await tree(service, first.thread)).runs}
    assert parents[retried.run] == parents[edited.run] == first.run


async def test_taking_an_edit_back_leaves_the_rest_where_it_was() -> None:
    reached, over = anyio.Event(), anyio.Event()

    async def slow_to_stop(input: RunInput, context: RunContext) -> AsyncIterator[Event]:
        yield e.TextMessageContent(message_id=context.new_id(), delta=input.text)
        reached.set()
        if input.text == "1":
            try:
                await anyio.sleep_forever()
            finally:
                with anyio.CancelScope(shield=True):
                    await over.wait()

    async with core(Told(slow_to_stop)) as service:
        first = await service.send(ME, send("1"))
        second = await service.send(ME, send("2", first.thread))
        await reached.wait()
        edited = await service.edit(ME, edit(first.run, "1b"))
        assert (await said_to(service, first.thread))[1:] == [("2", "1b"), ("1b", None)]
        assert (await service.cancel(ME, cancel(edited.run))).status == "cancelled"
        assert (await said_to(service, first.thread))[1:] == [("2", "1"), ("1b", None)]
        assert (await tree(service, first.thread)).head_run == second.run
        over.set()
        assert await ended(service, second) == "done"
        await tree(service, first.thread)


async def asking(input: RunInput, context: RunContext) -> AsyncIterator[Event]:
    if input.answers:
        yield e.TextMessageContent(message_id=context.new_id(), delta=f"You said {input.answers[0].payload}.")
        return
    if input.text.startswith("ask"):
        interrupt = e.Interrupt(id=f"{context.run_id}.1", reason="confirmation", message="Shall I?")
        yield e.InterruptRequested(interrupt=interrupt)
        yield e.RunFinished(thread_id="", outcome=e.Outcome(type="interrupt", interrupts=[interrupt]))


async def test_what_is_queued_behind_a_question_follows_its_answer() -> None:
    async with core(Told(asking)) as service:
        first = await service.send(ME, send("ask"))
        assert await ended(service, first) == "waiting"
        second = await service.send(ME, send("later", first.thread))
        third = await service.send(ME, send("last", first.thread))
        result = await service.resolve(ME, resolve(f"{first.run}.1", "yes"))
        assert await ended(service, third) == "done"
        transcript = await tree(service, first.thread)
    assert [run.id for run in path_of(transcript)] == [first.run, result.run, second.run, third.run]


async def test_editing_a_waiting_run_withdraws_its_question() -> None:
    async with core(Told(asking)) as service:
        first = await service.send(ME, send("ask"))
        assert await ended(service, first) == "waiting"
        behind = await service.send(ME, send("later", first.thread))
        edited = await service.edit(ME, edit(first.run, "tell"))
        assert edited.status == "running"
        assert await ended(service, behind) == "done"
        assert (await service.get_run(ME, first.run)).status == "cancelled"
        assert await said_to(service, first.thread) == [("ask", None), ("later", "tell"), ("tell", None)]


async def test_retrying_a_run_that_went_on_asks_its_first_question_again() -> None:
    async with core(Told(asking)) as service:
        before = await service.send(ME, send("hello"))
        await ended(service, before)
        first = await service.send(ME, send("ask me", before.thread))
        assert await ended(service, first) == "waiting"
        result = await service.resolve(ME, resolve(f"{first.run}.1", "yes"))
        assert result.run is not None
        await service.wait_run(ME, result.run, timeout_s=DEADLINE_S)
        retried = await service.retry(ME, retry(result.run))
        assert await ended(service, retried) == "waiting"
        transcript = await tree(service, before.thread)
    assert transcript.runs[-1].parent == before.run
    assert transcript.runs[-1].messages[0].id == transcript.runs[1].messages[0].id


async def test_while_another_run_goes_on_it_is_queued_refused_or_stops_that_one() -> None:
    agent = Gated()
    async with core(agent, queue_limit=1) as service:
        agent.gate.set()
        first = await service.send(ME, send("1"))
        await ended(service, first)
        agent.gate, agent.reached = anyio.Event(), anyio.Event()
        second = await service.send(ME, send("2", first.thread))
        await agent.reached.wait()
        with pytest.raises(RunActive):
            await service.retry(ME, retry(first.run, on_busy="reject"))
        queued = await service.retry(ME, retry(first.run))
        assert queued.status == "queued"
        with pytest.raises(QueueFull):
            await service.edit(ME, edit(first.run, "1b"))
        await service.cancel(ME, cancel(queued.run))
        assert (await tree(service, first.thread)).head_run == second.run
        last = await service.edit(ME, edit(first.run, "1c", on_busy="interrupt"))
        assert await ended(service, second) == "cancelled"
        agent.gate.set()
        assert await ended(service, last) == "done"
        assert (await said_to(service, first.thread))[-1] == ("1c", None)


async def test_refusals() -> None:
    async with core() as service:
        first = await service.send(ME, send("one", key="m-1"))
        await ended(service, first)
        for principal, run in ((ME, "no-such-run"), (OTHER, first.run)):
            with pytest.raises(NotFound):
                await service.edit(principal, edit(run, "x"))
            with pytest.raises(NotFound):
                await service.retry(principal, retry(run))
        with pytest.raises(InvalidRequest, match="another message's"):
            await service.edit(ME, edit(first.run, "x", message="m-1"))
        with pytest.raises(InvalidRequest, match="required"):
            await service.edit(ME, edit(first.run, " "))
        await service.runner.drain(0)
        with pytest.raises(Unavailable):
            await service.retry(ME, retry(first.run))


async def test_places_in_the_queue_survive_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    store = await SqliteStore.open(path)
    with anyio.CancelScope() as scope:
        async with held(store) as (service, agent, (first, second, third)):
            second_edited = await service.edit(ME, edit(second.run, "2b"))
            again = await service.edit(ME, edit(second_edited.run, "2c"))
            await store.close()  # the process dies
            scope.cancel()
    agent = Gated()
    agent.gate.set()
    async with core(agent, path=path) as service:
        assert await ended(service, first) == "interrupted"
        assert await ended(service, third) == "done"
        transcript = await tree(service, first.thread)
        assert [run.id for run in path_of(transcript)] == [first.run, again.run, third.run]
    assert [input.text for input in agent.inputs] == ["2c", "3"]


async def test_the_view_of_one_path() -> None:
    async with core() as service:
        first, second = await said_and_done(service, "one", "two")
        edited = await service.edit(ME, edit(first.run, "eins"))
        await ended(service, edited)

        async def seen(run: str | None) -> list[str]:
            return [one.id for one in load((await service.view(ME, first.thread, run=run)).transcript).runs]

        assert await seen(None) == [first.run, second.run, edited.run]
        assert await seen("head") == await seen(edited.run) == [edited.run]
        assert await seen(first.run) == await seen(second.run) == [first.run, second.run]
        with pytest.raises(NotFound):
            await service.view(ME, first.thread, run="no-such-run")
        assert "two" in said(await log(service, first.thread))
        assert types(await log(service, first.thread))[0] == "RUN_STARTED"
