"""The use-cases: whose is it, is it well formed, and what happens when it is asked twice."""

from __future__ import annotations

import io
import threading
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import msgspec
import pytest

import runcast
from core import DEADLINE_S, ME, OTHER, Gated, Told, cancel, core, echo, ended, log, new_id, resolve, send, types
from runcast import events as e
from runcast.agents.base import RunContext
from runcast.agents.loader import adapt
from runcast.commands import Cancel, Retry, Send, Subscribe
from runcast.errors import ConfigError, IdempotencyConflict, InvalidRequest, NotFound, StoreError, TooLarge, Unavailable
from runcast.forms import fault_of
from runcast.running import interrupts
from runcast.runs import Message, OnBusy, RunInput
from runcast.service import Sent, open_service
from runcast.stores.sqlite import SqliteStore
from runcast.stores.sqlite_backup import vacuum
from runcast.stores.sqlite_check import check
from runcast.testing.store_suite import keep_file
from runcast.transcript import load
from runcast.updates import Events, Resync

pytestmark = pytest.mark.anyio


async def test_k_deliveries_of_a_send_have_one_effect_and_one_answer() -> None:
    async with core() as service:
        command = send("hello")
        answers: list[Sent] = []

        async def deliver() -> None:
            answers.append(await service.send(ME, command))

        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(deliver)
        assert {(sent.thread, sent.run, sent.seq) for sent in answers} == {
            (answers[0].thread, answers[0].run, answers[0].seq)
        }
        assert sum(not sent.replayed for sent in answers) == 1  # I5
        await ended(service, answers[0])
        assert types(await log(service, answers[0].thread)).count("RUN_STARTED") == 1
        page = await service.list_threads(ME)
        assert [thread.id for thread in page.threads] == [answers[0].thread]
        with pytest.raises(IdempotencyConflict):
            await service.send(ME, send("something else", key=command.message.id))
        assert not (await service.send(OTHER, command)).replayed  # keys are the owner's


async def test_a_send_whose_answer_was_lost_is_answered_whatever_would_refuse_it_now() -> None:
    async with core() as service:
        command = send("hello")
        sent = await service.send(ME, command)
        await ended(service, sent)
        inside = send("more", sent.thread)
        more = await service.send(ME, inside)
        await ended(service, more)
        await service.delete_thread(ME, sent.thread)
        with pytest.raises(NotFound):
            await service.send(ME, send("even more", sent.thread))
        await service.runner.drain(0)
        with pytest.raises(Unavailable):
            await service.send(ME, send("another"))
        for again, answer in ((command, sent), (inside, more)):  # I5
            assert await service.send(ME, again) == msgspec.structs.replace(answer, replayed=True)


async def test_a_cancel_that_is_repeated_stops_nothing_newer() -> None:
    agent = Gated()
    async with core(agent) as service:
        first = await service.send(ME, send("1"))
        await agent.reached.wait()
        stop = Cancel(id=new_id(), thread=first.thread)
        answer = await service.cancel(ME, stop)
        assert await ended(service, first) == "cancelled"
        newer = await service.send(ME, send("2", first.thread))
        again = await service.cancel(ME, stop)  # its answer had been lost, say
        assert (again.run, again.status, again.replayed) == (answer.run, answer.status, True)  # I5
        with pytest.raises(IdempotencyConflict):
            await service.cancel(ME, Cancel(id=stop.id, run=newer.run))
        agent.gate.set()
        assert await ended(service, newer) == "done"


async def test_a_cancel_that_found_nothing_stops_nothing_newer_either() -> None:
    """I5: the run had just ended, the answer was lost, a newer run began, and the cancel is sent again."""
    agent = Gated()
    async with core(agent) as service:
        first = await service.send(ME, send("1"))
        agent.gate.set()
        assert await ended(service, first) == "done"
        stop = Cancel(id=new_id(), thread=first.thread)
        assert (await service.cancel(ME, stop)).status == "done"
        agent.gate = anyio.Event()
        newer = await service.send(ME, send("2", first.thread))
        again = await service.cancel(ME, stop)
        assert (again.run, again.status, again.replayed) == (first.run, "done", True)
        agent.gate.set()
        assert await ended(service, newer) == "done"


async def test_a_second_cancel_of_a_run_that_is_being_stopped_has_an_answer_of_its_own() -> None:
    """I5: and its retry does not stop what comes next."""
    agent = Gated()
    async with core(agent) as service:
        first = await service.send(ME, send("1"))
        await agent.reached.wait()
        stops = [Cancel(id=new_id(), thread=first.thread) for _ in range(2)]
        answers = [await service.cancel(ME, stop) for stop in stops]
        assert await ended(service, first) == "cancelled"
        newer = await service.send(ME, send("2", first.thread))
        for stop, answer in zip(stops, answers, strict=True):
            again = await service.cancel(ME, stop)
            assert (again.run, again.status, again.replayed) == (first.run, answer.status, True)
        agent.gate.set()
        assert await ended(service, newer) == "done"


@pytest.mark.parametrize("on_busy", ["interrupt", "reject"])
async def test_a_send_delivered_twice_at_once_is_not_in_its_own_way(on_busy: OnBusy) -> None:
    """I5: the second delivery neither stops the run that the first one started, nor is refused because of it."""
    agent = Gated()
    async with core(agent) as service:
        known = await service.create_thread(ME)
        command = send("hello", known.id, on_busy=on_busy)
        answers: list[Sent] = []

        async def deliver() -> None:
            answers.append(await service.send(ME, command))

        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(deliver)
        assert len({sent.run for sent in answers}) == 1
        agent.gate.set()
        assert await ended(service, answers[0]) == "done"


async def test_an_answer_delivered_twice_at_once_gets_one_answer() -> None:
    """I5: who sends an answer again because the line broke is not told that somebody was faster."""

    async def asks(input: RunInput, context: RunContext) -> AsyncIterator[e.Event]:
        if not input.answers:
            asked = [e.Interrupt(id=f"{input.run}.1", reason="confirmation")]
            yield e.InterruptRequested(interrupt=asked[0])
            yield e.RunFinished(thread_id=input.thread, outcome=e.Outcome(type="interrupt", interrupts=asked))

    async with core(Told(asks)) as service:
        sent = await service.send(ME, send("go"))
        assert await ended(service, sent) == "waiting"
        command = resolve(f"{sent.run}.1", {"approved": True})
        runs: list[str | None] = []

        async def deliver() -> None:
            runs.append((await service.resolve(ME, command)).run)

        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(deliver)
        assert len(runs) == 5 and len(set(runs)) == 1 and runs[0] is not None


@pytest.mark.parametrize("payload", [10**400, [{"a": -(10**400)}]])
async def test_an_answer_that_no_json_reader_can_hold_is_refused_and_the_question_stays_open(payload: Any) -> None:
    @runcast.agent
    async def asks(run: RunContext) -> AsyncIterator[str]:
        yield str(await run.ask("How much?", schema={"multipleOf": 0.01}))

    async with core(adapt(asks)) as service:
        sent = await service.send(ME, send("go"))
        assert await ended(service, sent) == "waiting"
        with pytest.raises(InvalidRequest):
            await service.resolve(ME, resolve(f"{sent.run}.1", payload))
        assert (await service.get_run(ME, sent.run)).status == "waiting"


async def test_a_long_answer_is_checked_beside_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a form makes of it may take long, and others are to be served meanwhile."""
    threads: list[threading.Thread] = []

    def noted(schema: dict[str, Any], value: Any) -> Any:
        threads.append(threading.current_thread())
        return fault_of(schema, value)

    @runcast.agent
    async def asks(run: RunContext) -> AsyncIterator[str]:
        yield str(len(await run.ask("Which?", schema={"items": {"type": "integer"}})))

    monkeypatch.setattr(interrupts, "fault_of", noted)
    async with core(adapt(asks)) as service:
        sent = await service.send(ME, send("go"))
        assert await ended(service, sent) == "waiting"
        with pytest.raises(InvalidRequest):
            await service.resolve(ME, resolve(f"{sent.run}.1", ["x"] * 10_000))
        with pytest.raises(InvalidRequest):
            await service.resolve(ME, resolve(f"{sent.run}.1", ["x"]))
        await service.resolve(ME, resolve(f"{sent.run}.1", [1] * 10_000))
    assert [thread is threading.main_thread() for thread in threads] == [False, True, False]


async def test_what_is_not_yours_does_not_exist() -> None:
    agent = Gated()
    async with core(agent) as service:
        sent = await service.send(ME, send("go"))

        async def refused(call: object) -> str:
            with pytest.raises(NotFound) as caught:
                await call  # type: ignore[misc]
            return str(caught.value)

        for ask in (
            lambda who, t, r: service.get_thread(who, t),
            lambda who, t, r: service.view(who, t),
            lambda who, t, r: service.update_thread(who, t, title="x"),
            lambda who, t, r: service.delete_thread(who, t),
            lambda who, t, r: service.send(who, send("x", t)),
            lambda who, t, r: service.cancel(who, cancel(r)),
            lambda who, t, r: service.cancel(who, Cancel(id=new_id(), thread=t)),
            lambda who, t, r: service.resolve(who, resolve(f"{r}.1")),
            lambda who, t, r: service.get_run(who, r),
            lambda who, t, r: service.wait_run(who, r, timeout_s=0),
            lambda who, t, r: service.subscribe(who, Subscribe(id="1", thread=t, after=0)),
            lambda who, t, r: service.subscribe_run(who, r),
            lambda who, t, r: service.read(who, t),
            lambda who, t, r: service.read_run(who, r),
        ):
            foreign = await refused(ask(OTHER, sent.thread, sent.run))
            missing = await refused(ask(OTHER, new_id(), new_id()))
            assert foreign == missing
        assert (await service.list_threads(OTHER)).threads == []
        agent.gate.set()
        assert await ended(service, sent) == "done"


@pytest.mark.parametrize(
    ("command", "error"),
    [
        (Send(id="1", message=Message(id="m", content="")), InvalidRequest),
        (Send(id="1", message=Message(id="m", content="  \n")), InvalidRequest),
        (Send(id="1", message=Message(id="m", content=[])), InvalidRequest),
        (Send(id="1", message=Message(id="", content="x")), InvalidRequest),
        (Send(id="1", message=Message(id="a b", content="x")), InvalidRequest),
        (Send(id="1", message=Message(id="m" * 129, content="x")), InvalidRequest),
        (Send(id="1", message=Message(id="m", content="x" * 40_000)), TooLarge),
        (Send(id="1", message=Message(id="m", content=[{"type": "text", "text": "x", "n": 10**400}])), InvalidRequest),
        (Send(id="1", message=Message(id="m", content="x"), agent="nobody"), InvalidRequest),
        (Send(id="1", message=Message(id="m", content="x"), thread="nowhere"), NotFound),
    ],
)
async def test_a_bad_send_is_refused_and_leaves_nothing(command: Send, error: type[Exception]) -> None:
    async with core() as service:
        with pytest.raises(error):
            await service.send(ME, command)
        assert (await service.list_threads(ME)).threads == []


async def test_a_parent_of_another_thread_is_refused() -> None:
    async with core() as service:
        one, two = await service.send(ME, send("1")), await service.send(ME, send("2"))
        await ended(service, one)
        await ended(service, two)
        with pytest.raises(InvalidRequest):
            await service.send(ME, send("x", one.thread, parent_run_id=two.run))


async def test_a_thread_keeps_the_agent_that_its_first_message_named() -> None:
    async with core(Told(echo, "first"), Told(echo, "second")) as service:
        begun = await service.send(ME, send("hello", agent="second"))
        assert (await service.get_thread(ME, begun.thread)).agent == "second"
        more = await service.send(ME, send("and more", begun.thread))
        aside = await service.send(ME, send("you, once", begun.thread, agent="first"))
        after = await service.send(ME, send("and again", begun.thread))
        agents = [(await service.get_run(ME, one.run)).agent for one in (begun, more, aside, after)]
        assert agents == ["second", "second", "first", "second"]
        plain = await service.send(ME, send("hello"))
        assert (await service.get_thread(ME, plain.thread)).agent == "", "the default one, whichever that will be"


async def test_a_send_that_is_refused_leaves_no_thread(tmp_path: Path) -> None:
    """I6: a conversation comes to be with its first message, or not at all."""
    store = await SqliteStore.open(tmp_path / "a.db")
    try:
        async with open_service(store=store, agents=[Told(echo)]) as service:
            other = await service.send(ME, send("hello"))
            await ended(service, other)
            lanes = len(service.runner._lanes.all())
            with pytest.raises(InvalidRequest):
                await service.send(ME, send("x", parent_run_id=other.run))
            assert store._ledger is not None
            database = store._ledger.connection
            database.execute("PRAGMA query_only = ON")
            command = send("not now")
            with pytest.raises(StoreError):
                await service.send(ME, command)
            assert not service.ready
            database.execute("PRAGMA query_only = OFF")
            assert [thread.id for thread in (await service.list_threads(ME)).threads] == [other.thread]
            assert len(service.runner._lanes.all()) == lanes, "no lane of a thread that does not exist"
            again = await service.send(ME, command)
            assert service.ready and await ended(service, again) == "done"
            assert (await service.send(ME, command)).thread == again.thread
            assert len((await service.list_threads(ME)).threads) == 2
    finally:
        await store.close()


async def test_all_of_a_users_data_goes_and_nobody_elses(tmp_path: Path) -> None:
    marker = "Zinnober4711"
    gated = Gated()
    path = tmp_path / "a.db"
    async with core(Told(echo, "echo"), gated, path=path) as service:
        kept = await service.send(OTHER, send("stays here"))
        assert await ended(service, kept, OTHER) == "done"
        for text in (marker, f"{marker} and more"):
            assert await ended(service, await service.send(ME, send(text))) == "done"
        mine, theirs = (
            await keep_file(service._store, b"mine " + marker.encode(), ME),
            await keep_file(service._store, b"1", OTHER),
        )
        running = await service.send(ME, send(f"{marker} goes on", agent=gated.name))
        await gated.reached.wait()
        tab = await service.subscribe(ME, Subscribe(id="1", thread=running.thread, after=0))
        inbox = await service.subscribe(ME, Subscribe(id="2", inbox=True))
        assert await service.delete_user_data(ME) == 3
        for subscription in (tab, inbox):
            with anyio.fail_after(DEADLINE_S):
                while not subscription.ended:
                    update = await subscription.next(DEADLINE_S)
            assert update == Resync("deleted")
        assert (await service.list_threads(ME)).threads == [] and (await service.read_inbox(ME)).records == []
        assert len((await service.list_threads(OTHER)).threads) == 1
        fresh = await service.send(ME, send("hello again"))
        assert await ended(service, fresh) == "done"
        assert [t.id for t in (await service.list_threads(ME)).threads] == [fresh.thread]
    report = check(str(path))
    assert report.findings == [] and report.files == 1
    left = [file.name for file in path.with_name("a.db.files").rglob("*") if file.is_file()]
    assert left == [theirs.sha256] != [mine.sha256]
    vacuum(str(path))
    data = path.read_bytes()
    assert marker.encode() not in data and marker.lower().encode() not in data
    assert b"stays here" in data or b"stays" in data


async def test_an_export_that_nobody_reads_to_its_end_is_let_go() -> None:
    async with core() as service:
        for number in range(3):
            assert await ended(service, await service.send(ME, send(f"number {number}"))) == "done"
        file = await keep_file(service._store, b"bytes" * 100_000, ME)
        await keep_file(service._store, b"theirs", OTHER)
        chunks = service.export_user_data(ME)
        assert (await anext(chunks)).startswith(b"PK")
        await chunks.aclose()
        whole = b"".join([chunk async for chunk in service.export_user_data(ME)])
        with zipfile.ZipFile(io.BytesIO(whole)) as archive:
            assert archive.testzip() is None and len(archive.namelist()) == 3 * 2 + 2 + 1
            assert archive.read(f"files/{file.id}-a.txt") == b"bytes" * 100_000


async def test_creating_a_thread_with_a_key_happens_once() -> None:
    async with core() as service:
        first = await service.create_thread(ME, title="Plans", key="k-1")
        again = await service.create_thread(ME, title="Plans", key="k-1")
        assert first.id == again.id and again.title == "Plans"
        with pytest.raises(IdempotencyConflict):
            await service.create_thread(ME, title="Other plans", key="k-1")


async def test_a_thread_is_named_after_its_first_message_and_can_be_renamed_and_found() -> None:
    async with core() as service:
        sent = await service.send(ME, send("Tell me about\tzebras, please\nand more"))
        await ended(service, sent)
        assert (await service.get_thread(ME, sent.thread)).title == "Tell me about zebras, please"
        assert (await service.update_thread(ME, sent.thread, title="  Striped   animals ")).title == "Striped animals"
        assert [t.id for t in (await service.list_threads(ME, query="zebras")).threads] == [sent.thread]
        assert [t.id for t in (await service.list_threads(ME, query="striped")).threads] == [sent.thread]
        assert (await service.list_threads(ME, query="unicorns")).threads == []
        view = await service.view(ME, sent.thread)
        assert load(view.transcript).title == "Striped animals"
        with pytest.raises(InvalidRequest):
            await service.update_thread(ME, sent.thread, title="x" * 201)


async def test_the_inbox_tells_how_every_thread_stands() -> None:
    async with core() as service:
        sent = await service.send(ME, send("go"))
        await ended(service, sent)
        await service.update_thread(ME, sent.thread, title="Renamed")
        await service.delete_thread(ME, sent.thread)
        subscription = await service.subscribe(ME, Subscribe(id="1", inbox=True, after=0))
        update = await subscription.next(1)
        subscription.close()
        assert isinstance(update, Events)
        told = [record.event for record in update.records]
        assert all(isinstance(event, e.ThreadUpdated) and event.thread_id == sent.thread for event in told)
        assert [event.run.status for event in told if isinstance(event, e.ThreadUpdated) and event.run] == [
            "running",
            "done",
        ]
        last = told[-1]
        assert isinstance(last, e.ThreadUpdated) and last.deleted is True
        page = await service.read_inbox(OTHER)
        assert page.records == []


async def test_pages_are_the_log_cut_anywhere() -> None:
    async with core() as service:
        sent = await service.send(ME, send("a b c d e"))
        await ended(service, sent)
        whole = await log(service, sent.thread)
        one_by_one, after = [], 0
        while (page := await service.read(ME, sent.thread, after=after, limit=1)).records:
            assert len(page.records) == 1 and page.head == len(whole)
            one_by_one.append(page.records[0].event)
            after = page.next
        assert one_by_one == whole
        of_run = await service.read_run(ME, sent.run)
        assert [r.event for r in of_run.records] == [event for event in whole if event.run_id == sent.run]


async def test_a_page_waits_for_the_first_event() -> None:
    agent = Gated()
    async with core(agent) as service:
        sent = await service.send(ME, send("go"))
        await agent.reached.wait()
        head = 0
        while (page := await service.read(ME, sent.thread, after=head, wait_s=0.01)).records:
            head = page.next
        pages: list[int] = []

        async def wait() -> None:
            pages.append((await service.read(ME, sent.thread, after=head, wait_s=10)).next)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await anyio.lowlevel.checkpoint()
            agent.gate.set()
        assert pages[0] > head


async def test_agents_need_names_of_their_own() -> None:
    store = await SqliteStore.open(":memory:")
    for agents in ([], [Gated(), Gated()]):
        with pytest.raises(ConfigError):
            async with open_service(store=store, agents=agents):
                pass
    await store.close()


async def test_cancel_says_which_of_the_two_it_needs() -> None:
    async with core() as service:
        for command in (Cancel(id="1"), Cancel(id="1", run="r", thread="t")):
            with pytest.raises(InvalidRequest):
                await service.cancel(ME, command)


async def test_answers_are_json() -> None:
    assert msgspec.json.decode(msgspec.json.encode(Sent(thread="t", run="r", seq=1, status="running"))) == {
        "thread": "t",
        "run": "r",
        "seq": 1,
        "status": "running",
        "replayed": False,
    }


async def test_a_client_of_another_protocol_names_its_own_conversations() -> None:
    async with core(Told(echo, "poet"), Told(echo, "cook")) as service:
        for name in ("session 1", "ü-🦊", "x" * 128, "a.b:c"):
            assert await service.find_thread(ME, name) is None
            opened = await service.open_thread(ME, name, agent="cook")
            assert opened.agent == "cook"
            assert (await service.open_thread(ME, name)).id == opened.id
            assert (await service.find_thread(ME, name) or opened).id == opened.id
            theirs = await service.open_thread(OTHER, name)
            assert theirs.id != opened.id, "one's own: nobody learns of another's"
            assert await service.find_thread(OTHER, opened.id) is None
            assert (await service.open_thread(ME, opened.id)).id == opened.id
            assert (await service.find_thread(ME, opened.id) or theirs).id == opened.id
            await service.delete_thread(ME, opened.id)
            assert await service.find_thread(ME, name) is None
            assert (await service.open_thread(ME, name)).id != opened.id
        for bad in ("", "a/b", "x" * 129, "a\nb", "\x00", "\x7f", "\ud800"):
            assert await service.find_thread(ME, bad) is None
            with pytest.raises(InvalidRequest):
                await service.open_thread(ME, bad)
        with pytest.raises(InvalidRequest):
            await service.open_thread(ME, "new", agent="nobody")
        assert await service.find_thread(ME, "new") is None


async def test_a_run_that_the_client_named_is_begun_once_whatever_is_sent() -> None:
    agent = Gated()
    async with core(agent) as service:
        one, two = await service.open_thread(ME, "one"), await service.open_thread(ME, "two")
        answers: list[Sent] = []

        async def deliver(text: str) -> None:
            answers.append(await service.send(ME, send(text, one.id, run_alias="run 1")))

        async with anyio.create_task_group() as tasks:
            for text in "abcde":
                tasks.start_soon(deliver, text)
        assert len({(sent.run, sent.seq) for sent in answers}) == 1
        assert sorted(sent.replayed for sent in answers) == [False, True, True, True, True]  # I5
        other = await service.send(ME, send("a", two.id, run_alias="run 1"))
        assert other.run != answers[0].run and not other.replayed, "a name counts in its thread"
        found = await service.find_run(ME, one.id, "run 1")
        assert found is not None and (found.id, found.status) == (answers[0].run, "running")
        assert await service.find_run(ME, one.id, answers[0].run) == found
        assert await service.find_run(ME, one.id, other.run) is None
        assert await service.find_run(ME, one.id, "run 2") is None
        assert await service.find_run(ME, one.id, "a/b") is None
        with pytest.raises(NotFound):
            await service.find_run(OTHER, one.id, "run 1")
        agent.gate.set()
        assert await ended(service, answers[0]) == "done"
        again = Retry(id=new_id(), run=answers[0].run, run_alias="run 2")
        retried = await service.retry(ME, again)
        assert (await service.retry(ME, msgspec.structs.replace(again, id=new_id()))).run == retried.run
        named = await service.find_run(ME, one.id, "run 2")
        assert named is not None and named.id == retried.run != answers[0].run
        for bad in (send("x", one.id, run_alias="a/b"), send("x", None, run_alias="run")):
            with pytest.raises(InvalidRequest):
                await service.send(ME, bad)


async def test_the_run_that_goes_on_with_an_answer_can_be_named() -> None:
    async def asks(input: RunInput, context: RunContext) -> AsyncIterator[e.Event]:
        if not input.answers:
            asked = [e.Interrupt(id=f"{input.run}.{n}", reason="confirmation") for n in (1, 2)]
            for one in asked:
                yield e.InterruptRequested(interrupt=one)
            yield e.RunFinished(thread_id=input.thread, outcome=e.Outcome(type="interrupt", interrupts=asked))

    async with core(Told(asks)) as service:
        sent = await service.send(ME, send("go"))
        assert await ended(service, sent) == "waiting"
        await service.resolve(ME, resolve(f"{sent.run}.1", {"approved": True}))
        answer = resolve(f"{sent.run}.2", {"approved": True}, run_alias="second")
        resuming = await service.resolve(ME, answer)
        assert (await service.resolve(ME, msgspec.structs.replace(answer, id=new_id()))).run == resuming.run
        named = await service.find_run(ME, sent.thread, "second")
        assert named is not None and (named.id, named.resumes) == (resuming.run, sent.run)
        with pytest.raises(IdempotencyConflict):
            await service.send(ME, send("x", sent.thread, run_alias="second"))
