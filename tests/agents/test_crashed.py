"""A resumable function goes on after its process died: what is recorded is not done twice, and readers see everything once."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from core import DEADLINE_S, ME, core, die, ended, log, resolve, said, send, types
from runcast import events as e
from runcast.agents import recorded
from runcast.agents.context import RunContext
from runcast.agents.function import FunctionAgent, agent
from runcast.commands import Steer
from runcast.errors import AgentError, ConfigError, Declined
from runcast.runs import Message
from runcast.service import Sent, Service
from runcast.stores.base import Write, Written
from runcast.stores.sqlite import SqliteStore
from runcast.transcript import TextPart, ToolPart, Transcript, TranscriptRun, dump, fold, load

pytestmark = pytest.mark.anyio

Body = Callable[[RunContext, "Stage"], AsyncIterator[Any]]


class Stage:
    """What is really done, over all the lives of a process, and where the process dies."""

    def __init__(self, *deaths: str) -> None:
        self.deaths = list(deaths)
        self.done: Counter[str] = Counter()
        self.calls = 0
        self.reached = anyio.Event()

    async def at(self, place: str) -> None:
        """The process dies here, if it is the next place to die at."""
        if self.deaths and self.deaths[0] == place:
            self.deaths.pop(0)
            self.reached.set()
            await anyio.sleep_forever()

    async def do(self, what: str, value: Any = None) -> Any:
        await self.at(f"before {what}")
        self.done[what] += 1
        await self.at(f"after {what}")
        return what.upper() if value is None else value

    def serve(self, body: Body, **options: Any) -> FunctionAgent:
        self.reached = anyio.Event()

        @agent(name="dying", resumable=True, on_crash="resume", **options)
        async def dying(prompt: str, run: RunContext) -> AsyncIterator[Any]:
            self.calls += 1
            async for item in body(run, self):
                yield item

        return dying


async def seen(service: Service, thread: str) -> tuple[Transcript, list[e.Event]]:
    """The conversation as people see it: live, replayed and from any snapshot the same (I14); one end per run (I16)."""
    view = await service.view(ME, thread)
    events = await log(service, thread)
    replayed = dump(fold(Transcript(), events))
    assert json.loads(view.transcript) == json.loads(replayed)
    for cut in range(len(events)):
        snapshot = load(dump(fold(Transcript(), events[:cut])))
        assert json.loads(dump(fold(snapshot, events[cut:]))) == json.loads(replayed), f"cut after {cut}"
    ends = Counter(event.run_id for event in events if isinstance(event, e.TERMINAL))
    assert set(ends.values()) == {1}
    return load(view.transcript), events


def shape(run: TranscriptRun) -> list[Any]:
    """What a person sees of the answer, without ids and times."""
    shown: list[Any] = []
    for message in run.messages:
        if message.role == "assistant":
            for part in message.parts:
                fields = json.loads(json.dumps({n: getattr(part, n, None) for n in _FIELDS}, default=str))
                shown.append([type(part).__name__, *fields.values()])
    return shown


_FIELDS = ("text", "name", "status", "args", "result", "content", "version", "url", "title", "incomplete", "open")


def texts(run: TranscriptRun) -> list[str]:
    return [part.text for message in run.messages[1:] for part in message.parts if isinstance(part, TextPart)]


async def played(path: Path, stage: Stage, body: Body, **options: Any) -> tuple[str, Transcript, list[e.Event]]:
    """One run, with all the deaths of the stage; how it ended."""
    sent: Sent | None = None
    while stage.deaths:
        made = stage.serve(body, **options)
        sent = await die(path, made, stage.reached, sent)
    async with core(stage.serve(body, **options), path=path) as service:
        sent = sent or await service.send(ME, send("go"))
        status = await ended(service, sent)
        return status, *(await seen(service, sent.thread))


async def everything(run: RunContext, stage: Stage) -> AsyncIterator[Any]:
    """All that an agent can do, with places to die in between."""
    yield "Hello, "
    await stage.at("a")
    yield "world. "
    first = await run.step("one", stage.do, "one")
    await run.text(f"Then {first}. ")
    await stage.at("b")
    await run.think("Hm, let me see.")
    await stage.at("c")
    async with run.tool("look", idempotent=True, where="here") as call:
        call.result = await stage.do("look", {"found": 3})
    await run.set_state({"list": [1]})
    await run.patch_state([{"op": "add", "path": "/list/-", "value": len(run.state["list"]) + 1}])
    await stage.at("d")
    picture = await run.artifact("diagram", "graph TD")
    await run.source("https://example.org", title="There")
    await run.custom("mark", 7)
    await stage.at("e")
    async with run.tool("pay", key="pay", amount=5) as call:
        if not call.recorded:
            call.result = await stage.do("pay")
    yield f"Paid: {call.result}. "
    await run.artifact("diagram", "graph LR", id=picture)
    await stage.at("f")
    async with run.message() as one, run.message(name="other") as other:
        await one.write("left ")
        await other.write("right ")
        await stage.at("g")
        await one.write("more")
    await run.step("two", stage.do, "two", idempotent=True)
    await stage.at("h")
    yield "Done."
    await stage.at("i")


PLACES = [*"abcdefghi", "after look", "before look", "before two", "after two"]


@pytest.mark.parametrize("first", PLACES)
async def test_wherever_it_dies_readers_see_the_same_in_the_end(tmp_path: Path, first: str) -> None:
    _, whole, _ = await played(tmp_path / "whole.db", Stage(), everything)
    stage = Stage(first, "i")
    status, transcript, events = await played(tmp_path / "log.db", stage, everything)
    assert status == "done"
    assert shape(transcript.runs[0]) == shape(whole.runs[0])
    assert transcript.state == whole.state == {"list": [1, 2]}
    assert types(events).count("CUSTOM") == 1
    assert "MESSAGE_RETRACTED" not in types(events), "it said the same again"
    assert stage.done["one"] == stage.done["pay"] == 1
    assert stage.calls == 3 and transcript.runs[0].attempt == 3


async def test_an_open_text_goes_on_where_it_broke_off(tmp_path: Path) -> None:
    async def counting(run: RunContext, stage: Stage) -> AsyncIterator[Any]:
        for number in range(10):
            if number == 5:
                await stage.at("here")
            yield f"{number} " if not stage.deaths and stage.calls > 1 else f"{number}"
            if not (not stage.deaths and stage.calls > 1):
                yield " "  # it comes in other pieces the second time

    status, transcript, events = await played(tmp_path / "log.db", Stage("here"), counting)
    assert status == "done"
    assert texts(transcript.runs[0]) == ["0 1 2 3 4 5 6 7 8 9 "]
    assert types(events).count("TEXT_MESSAGE_START") == types(events).count("TEXT_MESSAGE_END") == 1
    assert said(events) == "0 1 2 3 4 5 6 7 8 9 "


async def test_what_comes_out_otherwise_is_taken_back(tmp_path: Path) -> None:
    async def model(run: RunContext, stage: Stage) -> AsyncIterator[Any]:
        yield "Let me see. "
        await run.step("look", stage.do, "look")
        yield f"I say {stage.calls}"
        await run.think(f"thought {stage.calls}")
        yield "and more"
        await stage.at(str(stage.calls))
        yield "!"

    stage = Stage("1", "2")
    status, transcript, _ = await played(tmp_path / "log.db", stage, model)
    assert status == "done"
    assert texts(transcript.runs[0]) == ["Let me see. I say 3", "and more!"]
    assert [part[1] for part in shape(transcript.runs[0])] == ["Let me see. I say 3", "thought 3", "and more!"]
    assert stage.done == {"look": 1}


@pytest.mark.parametrize("what", ["text", "less text", "step", "no step", "tool", "end"])
async def test_something_else_before_what_is_recorded_fails_the_run(tmp_path: Path, what: str) -> None:
    async def fickle(run: RunContext, stage: Stage) -> AsyncIterator[Any]:
        again = stage.calls > 1
        if what == "end" and again:
            return
        if not (what == "less text" and again):
            yield "Good evening. " if what == "text" and again else "Good morning. "
        if not (what == "no step" and again):
            await run.step("other" if what == "step" and again else "one", stage.do, "one")
        async with run.tool("pay", key="pay", amount=6 if what == "tool" and again else 5) as call:
            if not call.recorded:
                call.result = await stage.do("pay")
        await stage.at("here")
        yield "Done."

    stage = Stage("here")
    path = tmp_path / "log.db"
    status, transcript, _ = await played(path, stage, fickle)
    failure = transcript.runs[0].failure
    assert status == "failed" and failure is not None and failure.code == "nondeterministic"
    assert stage.done == {"one": 1, "pay": 1}


@pytest.mark.parametrize(
    ("kind", "place", "status", "times"),
    [
        ("step", "before work", "interrupted", 0),
        ("step", "after work", "interrupted", 1),
        ("step", "later", "done", 1),
        ("idempotent step", "before work", "done", 1),
        ("idempotent step", "after work", "done", 2),
        ("idempotent step", "later", "done", 1),
        ("tool", "before work", "interrupted", 0),
        ("tool", "after work", "interrupted", 1),
        ("tool", "later", "interrupted", 1),
        ("keyed tool", "after work", "interrupted", 1),
        ("keyed tool", "later", "done", 1),
        ("idempotent tool", "after work", "done", 2),
        ("idempotent tool", "later", "done", 2),
        ("idempotent keyed tool", "after work", "done", 2),
        ("idempotent keyed tool", "later", "done", 1),
        ("shown tool", "later", "interrupted", 1),
    ],
)
async def test_nothing_is_done_twice_unless_it_says_that_it_may(
    tmp_path: Path, kind: str, place: str, status: str, times: int
) -> None:
    async def body(run: RunContext, stage: Stage) -> AsyncIterator[Any]:
        idempotent = "idempotent" in kind
        yield "I work. "
        if "step" in kind:
            await run.step("work", stage.do, "work", idempotent=idempotent)
        elif kind == "shown tool":
            yield {"type": "action", "name": "work"}
            await stage.do("work")
            yield {"type": "observation", "content": "ok"}
        else:
            async with run.tool("work", key="work" if "keyed" in kind else None, idempotent=idempotent) as call:
                if not call.recorded:
                    call.result = await stage.do("work")
        await stage.at("later")
        yield "Done."

    stage = Stage(place)
    ended, transcript, _ = await played(tmp_path / "log.db", stage, body)
    assert (ended, stage.done["work"]) == (status, times)
    failure = transcript.runs[0].failure
    if status == "interrupted":
        assert failure is not None and failure.code == "interrupted" and "work must not run twice" in failure.message
        assert texts(transcript.runs[0]) == ["I work. "], "the partial stays"
        assert stage.calls == 1
    else:
        tools = [
            part.status
            for message in transcript.runs[0].messages
            for part in message.parts
            if isinstance(part, ToolPart)
        ]
        assert tools == ([] if "step" in kind else ["done"])


async def test_a_step_that_speaks_is_not_said_again_and_half_of_one_is_taken_back(tmp_path: Path) -> None:
    async def loop(run: RunContext, stage: Stage) -> AsyncIterator[Any]:
        async def model(step: str) -> str:
            await run.text(f"{step} said in call {stage.calls}")
            await stage.at(f"in {step}")
            return step

        await run.text("So: ")
        for step in ("one", "two"):
            await run.step(step, model, step, idempotent=True)
            yield f"({step}) "
            await stage.at(f"after {step}")

    status, transcript, _ = await played(tmp_path / "log.db", Stage("in one", "after one", "in two"), loop)
    assert status == "interrupted", "a run begins three times"
    status, transcript, _ = await played(tmp_path / "other.db", Stage("in one", "in two"), loop)
    assert status == "done"
    assert texts(transcript.runs[0]) == ["So: ", "one said in call 2", "(one) ", "two said in call 3", "(two) "]


async def test_a_step_may_speak_into_a_message_that_was_open(tmp_path: Path) -> None:
    async def loop(run: RunContext, stage: Stage) -> AsyncIterator[Any]:
        async with run.message() as message:

            async def model(step: str) -> str:
                await message.write(f"{step} {stage.calls} ")
                await stage.at(f"in {step}")
                return step

            await message.write("So: ")
            for step in ("one", "two"):
                await run.step(step, model, step, idempotent=True)
                await message.write("and ")
                await stage.at(f"after {step}")
        yield "Done."

    status, transcript, _ = await played(tmp_path / "log.db", Stage("after one", "after two"), loop)
    assert status == "done"
    assert texts(transcript.runs[0]) == ["So: one 1 and two 2 and ", "Done."]


async def test_what_failed_fails_again(tmp_path: Path) -> None:
    async def failing(run: RunContext, stage: Stage) -> AsyncIterator[Any]:
        async def work(error: Exception) -> None:
            await stage.do("work")
            raise error

        for key, error in (("a", AgentError("No luck.", code="luck")), ("b", ValueError("secret"))):
            try:
                await run.step(key, work, error)
            except Exception as known:
                yield (
                    f"{'AgentError' if stage.calls > 1 else 'any'}: {known if key == 'a' else ''} "
                    if False
                    else "failed "
                )
                stage.done[f"{key}:{type(known).__name__}"] += 1
        try:
            async with run.tool("work", key="c"):
                await work(AgentError("No.", code="no"))
        except AgentError as known:
            yield f"{known.agent_code}: {known}"
        await stage.at("here")

    stage = Stage("here")
    status, transcript, _ = await played(tmp_path / "log.db", stage, failing)
    assert status == "done" and stage.done["work"] == 3
    assert stage.done["a:AgentError"] == 2 and stage.done["b:ValueError"] == stage.done["b:AgentError"] == 1
    assert texts(transcript.runs[0]) == ["failed failed ", "no: No."]


@pytest.mark.parametrize(
    ("parked", "limit"),
    [(True, 10), (True, 0), (False, 10)],
    ids=["in the process that asked", "called again in it", "after a restart"],
)
async def test_an_answer_counts_after_a_crash_too(tmp_path: Path, parked: bool, limit: int) -> None:
    async def asking(run: RunContext, stage: Stage) -> AsyncIterator[Any]:
        picture = await run.artifact("diagram", "one")
        yield "Before. "
        await run.step("one", stage.do, "one")
        city = await run.ask("Which city?")
        yield f"To {city}, "
        await run.step("two", stage.do, "two")
        await run.artifact("diagram", city, id=picture)
        await stage.at("here")
        yield "then."

    stage, path = Stage("here"), tmp_path / "log.db"
    made = stage.serve(asking)
    if not parked:
        async with core(made, path=path) as service:
            sent = await service.send(ME, send("go"))
            assert await ended(service, sent) == "waiting"
    store = await SqliteStore.open(path)
    with anyio.CancelScope() as scope:
        async with core(made, store=store, parked_limit=limit) as service:
            if parked:
                sent = await service.send(ME, send("go"))
                assert await ended(service, sent) == "waiting"
            run = (await service.resolve(ME, resolve(f"{sent.run}.1", "Rome"))).run or ""
            with anyio.fail_after(DEADLINE_S):
                await stage.reached.wait()
                await service.runner._executions.get(run).flush()  # type: ignore[union-attr]
            await store.close()
            scope.cancel()
    async with core(stage.serve(asking), path=path) as service:
        with anyio.fail_after(DEADLINE_S):
            assert (await service.wait_run(ME, run, timeout_s=DEADLINE_S)).status == "done"
        transcript, events = await seen(service, sent.thread)
    assert said(events) == "Before. To Rome, then."
    assert stage.done == {"one": 1, "two": 1}
    assert next(part for run in transcript.runs for part in shape(run) if part[0] == "ArtifactPart")[6:8] == ["Rome", 2]


async def test_a_tool_runs_once_per_approval(tmp_path: Path) -> None:
    """I20: also if the process dies right after the yes."""

    async def booking(run: RunContext, stage: Stage) -> AsyncIterator[Any]:
        async with run.tool("book") as call:
            await call.approve()
            call.result = await stage.do("book")
        yield "Booked."

    stage, path = Stage("after book"), tmp_path / "log.db"
    store = await SqliteStore.open(path)
    with anyio.CancelScope() as scope:
        async with core(stage.serve(booking), store=store) as service:
            sent = await service.send(ME, send("go"))
            assert await ended(service, sent) == "waiting"
            run = (await service.resolve(ME, resolve(f"{sent.run}.1", {"approved": True}))).run or ""
            with anyio.fail_after(DEADLINE_S):
                await stage.reached.wait()
                await service.runner._executions.get(run).flush()  # type: ignore[union-attr]
            await store.close()
            scope.cancel()
    async with core(stage.serve(booking), path=path) as service:
        assert (await service.wait_run(ME, run, timeout_s=DEADLINE_S)).status == "interrupted"
        await seen(service, sent.thread)
    assert stage.done == {"book": 1}


class Unwritten(SqliteStore):
    """Takes an answer, and nothing after it: its process dies in the moment in which the answer is acknowledged."""

    answered = False

    async def append(self, write: Write, *, now: int) -> Written:
        if self.answered:
            self.asked.set()
            await self.gone.wait()
        written = await super().append(write, now=now)
        if any(isinstance(event, e.InterruptResolved) for event in write.events):
            self.answered, self.asked, self.gone = True, anyio.Event(), anyio.Event()
        return written

    def append_now(self, writes: Sequence[Write], *, now: int) -> list[Written | None]:
        return [None for _ in writes] if self.answered else super().append_now(writes, now=now)


@pytest.mark.parametrize(
    ("parked", "limit"),
    [(True, 10), (True, 0), (False, 10)],
    ids=["in the process that asked", "called again in it", "after a restart"],
)
@pytest.mark.parametrize("what", ["tool", "step", "words"])
async def test_an_answer_counts_although_nothing_after_it_was_written(
    tmp_path: Path, parked: bool, limit: int, what: str
) -> None:
    """Between the answer and the run's first checkpoint nothing is done that must not be done twice (I20)."""

    async def booking(run: RunContext, stage: Stage) -> AsyncIterator[Any]:
        await run.step("one", stage.do, "one")
        if what == "tool":
            async with run.tool("book") as call:
                await call.approve()
                call.result = await stage.do("book")
        else:
            yield "So: "
            await run.approve("book", {})
            if what == "step":
                await run.step("book", stage.do, "book")
        yield "Booked."

    stage, path = Stage(), tmp_path / "log.db"
    made = stage.serve(booking)
    if not parked:
        async with core(made, path=path) as service:
            sent = await service.send(ME, send("go"))
            assert await ended(service, sent) == "waiting"
    store = await Unwritten.open(path)
    with anyio.CancelScope() as scope:
        async with core(made, store=store, parked_limit=limit) as service:
            if parked:
                sent = await service.send(ME, send("go"))
                assert await ended(service, sent) == "waiting"
            run = (await service.resolve(ME, resolve(f"{sent.run}.1", {"approved": True}))).run or ""
            with anyio.fail_after(DEADLINE_S):
                await store.asked.wait()
            for _ in range(100):  # what does not wait for the store goes on
                await anyio.lowlevel.checkpoint()
            await store.close()
            store.gone.set()
            scope.cancel()
    assert stage.done == {"one": 1}
    async with core(stage.serve(booking), path=path) as service:
        with anyio.fail_after(DEADLINE_S):
            assert (await service.wait_run(ME, run, timeout_s=DEADLINE_S)).status == "done"
        transcript, events = await seen(service, sent.thread)
    assert said(events) == ("Booked." if what == "tool" else "So: Booked.")
    assert transcript.runs[-1].attempt == 2
    assert stage.done == ({"one": 1} if what == "words" else {"one": 1, "book": 1})


async def test_a_no_is_no_again(tmp_path: Path) -> None:
    async def booking(run: RunContext, stage: Stage) -> AsyncIterator[Any]:
        try:
            async with run.tool("book") as call:
                await call.approve()
                await stage.do("book")
        except Declined:
            yield "Then not. "
        await stage.at("here")
        yield "Bye."

    stage, path = Stage("here"), tmp_path / "log.db"
    store = await SqliteStore.open(path)
    with anyio.CancelScope() as scope:
        async with core(stage.serve(booking), store=store) as service:
            sent = await service.send(ME, send("go"))
            assert await ended(service, sent) == "waiting"
            run = (await service.resolve(ME, resolve(f"{sent.run}.1", {"approved": False}))).run or ""
            with anyio.fail_after(DEADLINE_S):
                await stage.reached.wait()
                await service.runner._executions.get(run).flush()  # type: ignore[union-attr]
            await store.close()
            scope.cancel()
    async with core(stage.serve(booking), path=path) as service:
        assert (await service.wait_run(ME, run, timeout_s=DEADLINE_S)).status == "done"
        _, events = await seen(service, sent.thread)
    assert said(events) == "Then not. Bye." and not stage.done
    assert types(events).count("TOOL_CALL_RESULT") == 1


async def test_what_was_heard_is_heard_at_the_same_place(tmp_path: Path) -> None:
    heard: list[str | None] = []

    async def listening(run: RunContext, stage: Stage) -> AsyncIterator[Any]:
        for _ in range(3):
            message = await run.steered(timeout_s=DEADLINE_S if stage.calls == 1 and len(heard) == 1 else 0)
            heard.append(message.text if message else None)
            yield f"{heard[-1]} "
            told.set()
        await stage.at("here")

    told = anyio.Event()
    stage, path = Stage("here"), tmp_path / "log.db"
    store = await SqliteStore.open(path)
    with anyio.CancelScope() as scope:
        async with core(stage.serve(listening, steerable=True), store=store) as service:
            sent = await service.send(ME, send("go"))
            with anyio.fail_after(DEADLINE_S):
                await told.wait()
                await service.steer(ME, Steer(id="s", run=sent.run, message=Message(id="m", content="quick")))
                await stage.reached.wait()
                await service.runner._executions.get(sent.run).flush()  # type: ignore[union-attr]
            await store.close()
            scope.cancel()
    async with core(stage.serve(listening, steerable=True), path=path) as service:
        assert await ended(service, sent) == "done"
        _, events = await seen(service, sent.thread)
    assert heard == [None, "quick", None] * 2
    assert said(events) == "None quick None "
    assert types(events).count("RUN_STEERED") == 2


async def test_a_journal_has_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded, "MAX_BYTES", 2000)

    async def big(run: RunContext, stage: Stage) -> AsyncIterator[Any]:
        await run.step("one", stage.do, "one", "x" * 1000)
        yield "half "
        await run.step("two", stage.do, "two", "x" * 1000)

    status, transcript, _ = await played(tmp_path / "log.db", Stage(), big)
    failure = transcript.runs[0].failure
    assert status == "failed" and failure is not None and failure.code == "journal_too_large"


async def test_the_journal_of_a_run_that_is_over_is_not_kept(tmp_path: Path) -> None:
    async def short(run: RunContext, stage: Stage) -> AsyncIterator[Any]:
        yield await run.step("one", stage.do, "one")

    path = tmp_path / "log.db"
    _, transcript, _ = await played(path, Stage(), short)
    store = await SqliteStore.open(path)
    [state] = await store.agent_states([transcript.runs[0].id])
    await store.close()
    assert state.data == b""


async def test_a_step_begins_when_the_store_knows(tmp_path: Path) -> None:
    """Or a crash in between would let it run twice. One that is idempotent need not wait."""
    known: list[bool] = []

    async def looking(run: RunContext, stage: Stage) -> AsyncIterator[Any]:
        async def look(key: str) -> None:
            states = await store.agent_states([run.run_id])
            known.append(bool(states) and key in recorded.decode(states[0].data).steps)

        await run.step("one", look, "one")
        yield "x"

    store = await SqliteStore.open(tmp_path / "log.db")
    async with core(Stage().serve(looking), store=store) as service:
        assert await ended(service, await service.send(ME, send("go"))) == "done"
    await store.close()
    assert known == [True]


async def test_a_stop_past_the_drain_leaves_it_to_the_next_process(tmp_path: Path) -> None:
    stage = Stage("g")
    async with core(stage.serve(everything), path=tmp_path / "log.db") as service:
        sent = await service.send(ME, send("go"))
        await stage.reached.wait()
    async with core(stage.serve(everything), path=tmp_path / "log.db") as service:
        assert await ended(service, sent) == "done"
        transcript, _ = await seen(service, sent.thread)
    assert texts(transcript.runs[0])[-1] == "Done." and stage.done["pay"] == stage.done["one"] == 1


def test_it_needs_a_journal() -> None:
    with pytest.raises(ConfigError, match="needs resumable=True"):

        @agent(on_crash="resume")
        def plain(prompt: str) -> str:
            return prompt
