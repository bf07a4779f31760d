"""The `progress` dialect over real sockets: tabs, users, what goes on already, failures, the POST beside it."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import anyio
import httpx
import pytest
import websockets
from websockets.asyncio.client import ClientConnection

from auth.tokens import SECRET, token
from core import DEADLINE_S, Gated, Told, cancel, resolve, send
from rawclient import raw_client
from runcast import events as e
from runcast.agents.context import RunContext
from runcast.dialects.run_fold import asked_of
from runcast.errors import AgentError
from runcast.events import Event
from runcast.runs import Principal, RunInput
from runcast.server import Server
from runcast.stores.base import Pruning
from runcast.stores.sqlite import SqliteStore
from runcast.transports.wire import Message, Receive, Scope, Send
from serving import Running, serving, serving_app

pytestmark = pytest.mark.anyio

ANA = Principal(user="ana")


class Tab:
    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def hear(self) -> dict[str, Any]:
        with anyio.fail_after(DEADLINE_S):
            return json.loads(await self.socket.recv())

    async def run(self, runs: int = 1) -> list[dict[str, Any]]:
        """Everything up to the end of a run, or of several."""
        frames: list[dict[str, Any]] = []
        while [frame["event_type"] for frame in frames].count("agent_done") < runs:
            frames.append(await self.hear())
        return frames

    async def said(self, runs: int = 1) -> list[tuple[str, str | None, str]]:
        return [(frame["event_type"], frame["tool"], frame["message"]) for frame in await self.run(runs)]

    async def closed(self) -> int:
        with anyio.fail_after(DEADLINE_S):
            await self.socket.wait_closed()
        return self.socket.close_code or 0


@asynccontextmanager
async def tab(running: Running, user: str = "ana", path: str = "/ws/{}/chat") -> AsyncGenerator[Tab]:
    async with running.socket(path.format(user), subprotocols=None) as socket:
        tab = Tab(socket)
        assert await tab.hear() == {
            "event_type": "connection_established",
            "message": "Connected to real-time updates",
            "user_id": user,
        }
        yield tab


async def post(running: Running, message: object, conversation: object = None, user: str = "ana") -> httpx.Response:
    async with running.http() as http:
        body = {"message": message, "conversation_id": conversation}
        return await http.post(f"/api/{user}/chat", json=body)


async def tasks(input: RunInput, run: RunContext) -> AsyncIterator[Event]:
    """Adds a task; fails, if it is asked to."""
    del input
    async with run.tool("add_task", title="Creating buy milk…", name="buy milk") as call:
        await call.progress(1, total=1, message="Found 1 list")
        call.result = {"task": {"id": 1, "title": "buy milk", "completed": False}}
        call.summary = "Created: buy milk"
    async with run.tool("count") as call:
        call.result = [1, 2]
    await run.text("I added it.")
    for _ in ():
        yield _


ADDED = [
    ("agent_thinking", None, "Processing your request..."),
    ("tool_starting", "add_task", "Creating buy milk…"),
    ("tool_progress", "add_task", "Found 1 list"),
    ("tool_complete", "add_task", "Created: buy milk"),
    ("tool_starting", "count", "Running count..."),
    ("tool_complete", "count", "Completed count"),
    ("agent_done", None, "Done!"),
]


async def test_all_tabs_of_a_user_hear_the_run_and_nobody_else() -> None:
    async with (
        serving(Told(tasks)) as running,
        tab(running) as one,
        tab(running, path="/api/ws/{}/chat") as two,
        tab(running, "bob") as stranger,
    ):
        answer = await post(running, "  Add milk \n")
        assert answer.status_code == 200
        body = answer.json()
        thread = body.pop("conversation_id")
        assert body == {"response": "I added it.", "tasks": [{"id": 1, "title": "buy milk", "completed": False}]}
        assert await one.said() == await two.said() == ADDED
        again = await post(running, "And again", thread, "bob")
        assert again.json()["conversation_id"] != thread  # another user's: a new one
        assert await stranger.said() == ADDED
        again = await post(running, "And again", thread)
        assert again.json()["conversation_id"] == thread
        assert await one.said() == await two.said() == ADDED
        log = await running.server.gateway.service.read(ANA, thread)
        asked = [asked_of(record.event) for record in log.records if isinstance(record.event, e.RunStarted)]
        assert asked == ["Add milk", "And again"]


async def test_the_end_is_on_every_socket_before_the_post_is_answered() -> None:
    """In the order in which the server gives them to the network."""
    server = Server([Told(tasks)], store=":memory:", drain_timeout_s=0)
    order: list[str] = []

    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        async def note(message: Message) -> None:
            if message["type"] == "http.response.start":
                order.append("answer")
            elif '"agent_done"' in message.get("text", ""):
                order.append("done")
            await send(message)

        await server(scope, receive, note)

    async with serving_app(server, watched) as running, tab(running) as one, tab(running) as two:
        for _ in range(10):
            await post(running, "Add milk")
            assert await one.said() == await two.said() == ADDED
        assert order == ["done", "done", "answer"] * 10


async def test_a_tab_that_comes_in_the_middle_hears_only_what_follows() -> None:
    began, gate = anyio.Event(), anyio.Event()

    async def dig(input: RunInput, run: RunContext) -> AsyncIterator[Event]:
        async with run.tool("dig", title="Digging…") as call:
            began.set()
            await gate.wait()
            call.result = {"count": 2}
        for _ in ():
            yield _

    async with serving(Told(dig)) as running, anyio.create_task_group() as posts:
        posts.start_soon(post, running, "go")
        with anyio.fail_after(DEADLINE_S):
            await began.wait()
            service = running.server.gateway.service
            [run] = await service.active_runs(ANA)
            while not any(isinstance(r.event, e.ToolCallEnd) for r in (await service.read(ANA, run.thread)).records):
                await anyio.lowlevel.checkpoint()
        async with tab(running) as late:
            gate.set()
            frames = await late.run()
            assert [(one["event_type"], one["tool"]) for one in frames] == [
                ("tool_complete", "dig"),
                ("agent_done", None),
            ]
            assert frames[0]["count"] == 2
            assert (await post(running, "again")).status_code == 200
            assert len(await late.run()) == 4


async def test_parallel_tools_and_one_that_fails() -> None:
    async def both(input: RunInput, run: RunContext) -> AsyncIterator[Event]:
        async def bad() -> None:
            try:
                async with run.tool("bad"):
                    raise AgentError("There is no such task.")
            except AgentError:
                pass

        async def good() -> None:
            async with run.tool("good") as call:
                call.result = 1

        async with anyio.create_task_group() as tools:
            tools.start_soon(bad)
            tools.start_soon(good)
        for _ in ():
            yield _

    async with serving(Told(both)) as running, tab(running) as one:
        assert (await post(running, "go")).status_code == 200
        said = await one.said()
        assert sorted(said[1:-1]) == [
            ("tool_complete", "good", "Completed good"),
            ("tool_error", "bad", "Error in bad: There is no such task."),
            ("tool_starting", "bad", "Running bad..."),
            ("tool_starting", "good", "Running good..."),
        ]
        assert said[-1] == ("agent_done", None, "Done!")


def holding(began: anyio.Event, *, idempotent: bool = False) -> Told:
    async def hold(input: RunInput, run: RunContext) -> AsyncIterator[Event]:
        async with run.tool("dig", idempotent=idempotent):
            began.set()
            await anyio.sleep_forever()
        for _ in ():
            yield _

    return Told(hold)


class HoldsOn(Told):
    """One that begins again after a restart."""

    on_crash = "restart"

    def __init__(self, began: anyio.Event) -> None:
        super().__init__(holding(began, idempotent=True).run)


async def test_stop_ends_the_tool_and_then_the_run() -> None:
    began = anyio.Event()
    answers: list[httpx.Response] = []

    async def ask(running: Running) -> None:
        answers.append(await post(running, "go"))

    async with serving(holding(began)) as running, tab(running) as one:
        async with anyio.create_task_group() as posts:
            posts.start_soon(ask, running)
            with anyio.fail_after(DEADLINE_S):
                await began.wait()
            service = running.server.gateway.service
            [run] = await service.active_runs(ANA)
            await service.cancel(ANA, cancel(run.id))
        frames = await one.run()
        assert [frame["event_type"] for frame in frames] == [
            "agent_thinking",
            "tool_starting",
            "tool_error",
            "agent_done",
        ]
        assert frames[-1]["message"] == "Stopped: Stopped."
        assert (frames[-1]["result"], frames[-1]["error"]) == (None, "Stopped.")
        assert answers[0].status_code == 409
        assert isinstance(answers[0].json()["detail"], str)


async def test_a_deleted_thread_ends_its_runs() -> None:
    """The running one, and the one that waits its turn."""
    began = anyio.Event()
    async with serving(holding(began)) as running, tab(running) as one:
        service = running.server.gateway.service
        sent = await service.send(ANA, send("go"))
        await service.send(ANA, send("and then", sent.thread))
        with anyio.fail_after(DEADLINE_S):
            await began.wait()
        assert (await one.hear())["event_type"] == "agent_thinking"
        await service.delete_thread(ANA, sent.thread)
        frames = await one.run(2)
        assert sorted(frame["event_type"] for frame in frames) == [
            "agent_done",
            "agent_done",
            "tool_error",
            "tool_starting",
        ]
        assert all(frame["error"] for frame in frames if frame["event_type"] == "agent_done")


async def test_a_server_that_stops_ends_the_runs_and_then_the_socket() -> None:
    began = anyio.Event()
    async with serving(holding(began)) as running, tab(running) as one:
        await running.server.gateway.service.send(ANA, send("go"))
        with anyio.fail_after(DEADLINE_S):
            await began.wait()
        running.process.should_exit = True
        frames = await one.run()
        assert [frame["event_type"] for frame in frames][-2:] == ["tool_error", "agent_done"]
        assert frames[-1]["message"].startswith("Stopped: ")
        assert await one.closed() == 1012


async def test_a_run_that_goes_on_after_the_restart_ends_for_this_socket() -> None:
    began = anyio.Event()
    async with serving(HoldsOn(began)) as running, tab(running) as one:
        await running.server.gateway.service.send(ANA, send("go"))
        with anyio.fail_after(DEADLINE_S):
            await began.wait()
        running.process.should_exit = True
        frames = await one.run()
        assert frames[-1]["message"] == "Stopped: The server is restarting."
        assert await one.closed() == 1012


async def test_a_post_that_waits_when_the_server_stops_gets_503() -> None:
    began = anyio.Event()
    answers: list[httpx.Response] = []

    async def ask(running: Running) -> None:
        answers.append(await post(running, "go"))

    async with serving(holding(began)) as running, anyio.create_task_group() as posts:
        posts.start_soon(ask, running)
        with anyio.fail_after(DEADLINE_S):
            await began.wait()
        running.process.should_exit = True
    assert answers[0].status_code == 503
    assert isinstance(answers[0].json()["detail"], str)


async def test_runs_that_wait_their_turn_are_told_one_after_the_other() -> None:
    agent = Gated("a", "b")
    async with serving(agent) as running, tab(running) as one:
        service = running.server.gateway.service
        sent = await service.send(ANA, send("one"))
        for word in ("two", "three"):
            await service.send(ANA, send(word, sent.thread))
        agent.gate.set()
        assert [event for event, _, _ in await one.said(3)] == ["agent_thinking", "agent_done"] * 3


async def test_a_user_of_a_thousand_runs() -> None:
    """In two threads, told each once; the socket keeps nothing of them but a cursor each."""
    async with serving() as running, tab(running) as one:
        service = running.server.gateway.service
        first = await service.send(ANA, send("0"))
        second = await service.send(ANA, send("0"))
        heard = await one.run(2)
        for number in range(499):
            for thread in (first.thread, second.thread):
                await service.send(ANA, send(str(number), thread))
            heard += await one.run(2)
        assert [frame["event_type"] for frame in heard].count("agent_thinking") == 1000
        assert len(heard) == 2000


async def test_an_inbox_whose_older_part_is_gone() -> None:
    store = await SqliteStore.open(":memory:")
    async with serving(store=store) as running:
        service = running.server.gateway.service
        sent = await service.send(ANA, send("hi"))
        for number in range(300):
            await service.update_thread(ANA, sent.thread, title=f"Title {number}")
        with anyio.fail_after(DEADLINE_S):
            while (await store.inbox(ANA, now=0)).first_seq == 1:
                await store.prune(Pruning(receipts_before=0, tombstones_before=0, inbox_events=1))
        async with tab(running) as one:
            assert (await post(running, "hello", sent.thread)).status_code == 200
            assert len(await one.run()) == 2
    await store.close()


async def test_a_user_whose_data_is_deleted_may_go_on() -> None:
    async with serving() as running, tab(running) as one:
        await post(running, "hi")
        assert len(await one.run()) == 2
        await running.server.gateway.service.delete_user_data(ANA)
        assert (await post(running, "hello")).status_code == 200
        assert len(await one.run()) == 2


async def test_what_the_client_says_is_ignored() -> None:
    async with serving() as running, tab(running) as one:
        for word in ("hello", "", "{", b"\x00\xff"):
            await one.socket.send(word)
        assert (await post(running, "hi")).status_code == 200
        assert len(await one.run()) == 2
        await one.socket.send("x" * 70_000)
        assert await one.closed() == 1009


async def test_a_socket_that_breaks_does_not_hurt_the_post() -> None:
    agent = Gated("a", "b")
    answers: list[httpx.Response] = []

    async def ask(running: Running) -> None:
        answers.append(await post(running, "go"))

    async with serving(agent) as running:
        async with anyio.create_task_group() as posts:
            async with tab(running) as one:
                posts.start_soon(ask, running)
                with anyio.fail_after(DEADLINE_S):
                    await agent.reached.wait()
                one.socket.transport.abort()
            agent.gate.set()
        assert answers[0].json()["response"] == "ab"


async def test_a_tab_that_takes_nothing_neither_hurts_the_post_nor_stays() -> None:
    async def flood(input: RunInput, run: RunContext) -> AsyncIterator[Event]:
        for _ in range(60):
            async with run.tool("flood") as call:
                call.result = {"data": "x" * 200_000}
        await run.text("Done.")
        for _ in ():
            yield _

    async with (
        serving(Told(flood), send_timeout_s=0.5) as running,
        tab(running) as one,
        raw_client(running.port, buffer=4096) as stuck,
    ):
        await stuck.upgrade("/ws/ana/chat")
        with anyio.fail_after(DEADLINE_S * 3):
            while running.server.gateway.connections < 2:
                await anyio.sleep(0.01)
            async with anyio.create_task_group() as readers:
                readers.start_soon(one.run)
                assert (await post(running, "go")).json()["response"] == "Done."
            while running.server.gateway.connections > 1:
                await anyio.sleep(0.01)


async def test_a_result_that_is_too_long_for_the_log_comes_whole() -> None:
    many = [{"id": number, "title": "x" * 1000, "completed": False} for number in range(500)]

    async def listing(input: RunInput, run: RunContext) -> AsyncIterator[Event]:
        async with run.tool("list") as call:
            call.result = {"tasks": many}
        for _ in ():
            yield _

    async with serving(Told(listing)) as running, tab(running) as one:
        assert (await post(running, "go")).json()["tasks"] == many
        assert (await one.run())[2]["result"] == {"tasks": many}


async def test_a_conversation_that_is_deleted_meanwhile_is_409() -> None:
    began = anyio.Event()
    answers: list[httpx.Response] = []

    async def ask(running: Running) -> None:
        answers.append(await post(running, "go"))

    async with serving(holding(began)) as running, anyio.create_task_group() as posts:
        posts.start_soon(ask, running)
        with anyio.fail_after(DEADLINE_S):
            await began.wait()
        service = running.server.gateway.service
        [run] = await service.active_runs(ANA)
        await service.delete_thread(ANA, run.thread)
        with anyio.fail_after(DEADLINE_S):
            while not answers:
                await anyio.sleep(0.01)
        assert answers[0].status_code == 409


async def approving(input: RunInput, run: RunContext) -> AsyncIterator[Event]:
    if input.text == "remove":
        async with run.tool("remove") as call:
            await call.approve("Remove it?")
            await run.text("Removing. ")
            call.result = {"task_id": 5}
    yield e.TextMessageChunk(message_id=run.new_id(), delta=f"Said {input.text or 'yes'}.")


async def test_a_question_ends_the_run_and_the_answer_is_told_by_the_tools_name() -> None:
    """Also to a tab that came in between."""
    async with serving(Told(approving)) as running, tab(running) as one:
        answer = await post(running, "remove")
        assert answer.json()["response"] == "Remove it?"
        assert [event for event, _, _ in await one.said()] == ["agent_thinking", "tool_starting", "agent_done"]
        service = running.server.gateway.service
        thread = await service.find_thread(ANA, answer.json()["conversation_id"])
        assert thread is not None
        assert thread.head_run is not None
        async with tab(running) as late:
            await service.resolve(ANA, resolve(f"{thread.head_run}.1", {"approved": True}))
            said = await one.said()
            assert said == await late.said()
            assert [(event, tool) for event, tool, _ in said] == [
                ("agent_thinking", None),
                ("tool_complete", "remove"),
                ("agent_done", None),
            ]


async def test_a_message_withdraws_the_question_before_it() -> None:
    async with serving(Told(approving)) as running, tab(running) as one:
        conversation = (await post(running, "remove")).json()["conversation_id"]
        answer = await post(running, "never mind", conversation)
        assert answer.json()["conversation_id"] == conversation
        assert answer.json()["response"] == "Said never mind."
        frames = await one.run(2)
        assert [frame["result"]["response"] for frame in frames if frame["event_type"] == "agent_done"] == [
            "Remove it?",
            "Said never mind.",
        ]


async def test_what_began_is_told_although_the_notice_is_no_longer_kept() -> None:
    """The inbox is trimmed while the socket is behind: wake-ups are lost until the notice has gone."""
    store = await SqliteStore.open(":memory:")
    agent = Gated("a", "b")
    async with serving(agent, store=store) as running:
        service = running.server.gateway.service
        other = await service.create_thread(ANA, title="Other")
        hub = service._hub  # pyright: ignore[reportPrivateUsage]
        push, inbox = hub.push, (await store.inbox(ANA, now=0)).id
        async with tab(running) as one:
            hub.push = lambda thread, records: None if thread == inbox else push(thread, records)
            sent = await service.send(ANA, send("go"))
            for number in range(300):
                await service.update_thread(ANA, other.id, title=f"Title {number}")
            with anyio.fail_after(DEADLINE_S):
                while (await store.inbox(ANA, now=0)).first_seq < 10:
                    await store.prune(Pruning(receipts_before=0, tombstones_before=0, inbox_events=1))
            hub.push = push
            hub.note_head(inbox, (await store.inbox(ANA, now=0)).head)
            assert (await one.hear())["event_type"] == "agent_thinking"
            agent.gate.set()
            assert (await one.run())[-1]["result"] == {"response": "ab"}
            await post(running, "again", sent.thread)
            assert len(await one.run()) == 2
    await store.close()


async def test_what_was_told_is_not_told_again_when_a_notice_comes_late() -> None:
    """A run was queued behind another and nobody heard of it before that one ended."""
    store = await SqliteStore.open(":memory:")
    agent = Gated("a", "b")
    async with serving(agent, store=store) as running, tab(running) as one:
        service = running.server.gateway.service
        hub = service._hub  # pyright: ignore[reportPrivateUsage]
        push, inbox = hub.push, (await store.inbox(ANA, now=0)).id
        sent = await service.send(ANA, send("one"))
        assert (await one.hear())["event_type"] == "agent_thinking"
        hub.push = lambda thread, records: None if thread == inbox else push(thread, records)
        await service.send(ANA, send("two", sent.thread))
        agent.gate.set()
        assert (await one.hear())["event_type"] == "agent_done"
        hub.push = push
        hub.note_head(inbox, (await store.inbox(ANA, now=0)).head)
        assert len(await one.run()) == 2
        await post(running, "three")
        assert len(await one.run()) == 2
    await store.close()


async def test_what_ended_before_a_tab_came_is_not_told_when_it_changes() -> None:
    """A run that waited for a person is stopped."""
    async with serving(Told(approving)) as running:
        await post(running, "remove")
        async with tab(running) as one:
            service = running.server.gateway.service
            [thread] = (await service.list_threads(ANA)).threads
            assert thread.head_run is not None
            assert (await service.cancel(ANA, cancel(thread.head_run))).status == "cancelled"
            assert (await post(running, "hi")).json()["response"] == "Said hi."
            assert [event for event, _, _ in await one.said()] == ["agent_thinking", "agent_done"]


async def test_tokens_that_run_out_close_the_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runcast.transports.connection.LEEWAY_S", 0)
    async with serving(auth="jwt", jwt_secret=SECRET) as running:
        headers = {"authorization": f"Bearer {token('ana', lives_s=1)}"}
        async with running.socket("/ws/ana/chat", subprotocols=None, additional_headers=headers) as socket:
            one = Tab(socket)
            await one.hear()
            assert await one.closed() == 4001


async def test_an_aborted_post_leaves_the_run_alone() -> None:
    agent = Gated("a", "b")
    async with serving(agent) as running, tab(running) as one:
        async with anyio.create_task_group() as posts:
            posts.start_soon(post, running, "go")
            with anyio.fail_after(DEADLINE_S):
                await agent.reached.wait()
            posts.cancel_scope.cancel()
        agent.gate.set()
        frames = await one.run()
        assert frames[-1]["result"] == {"response": "ab"}


@pytest.mark.parametrize("message", ["", " \n", None, 7, "x" * 10_001])
async def test_messages_that_are_refused(message: object) -> None:
    async with serving() as running:
        answer = await post(running, message)
        assert answer.status_code == 422
        assert isinstance(answer.json()["detail"], str)


@pytest.mark.parametrize("conversation", ["unknown", "a/b", "x" * 500, 7, {}, "", None, "\u0000"])
async def test_conversations_that_are_not_there_are_new(conversation: object) -> None:
    async with serving() as running:
        one, two = await post(running, "hi", conversation), await post(running, "hi", conversation)
        assert (one.status_code, two.status_code) == (200, 200)
        ids = [one.json()["conversation_id"], two.json()["conversation_id"]]
        assert ids[0] != ids[1]
        assert conversation not in ids


async def test_a_deleted_conversation_is_new() -> None:
    async with serving() as running:
        first = (await post(running, "hi")).json()["conversation_id"]
        await running.server.gateway.service.delete_thread(ANA, first)
        assert (await post(running, "hi", first)).json()["conversation_id"] != first


def failing(error: Exception) -> Told:
    async def fail(input: RunInput, run: RunContext) -> AsyncIterator[Event]:
        raise error
        yield

    return Told(fail)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (AgentError("The model cannot be reached.", code="model_unavailable"), 503),
        (AgentError("The model took too long.", code="timeout"), 504),
        (AgentError("Slowly.", code="rate_limited", retry_after_ms=20_000), 429),
        (RuntimeError("secret"), 502),
    ],
)
async def test_how_failures_are_answered(error: Exception, status: int) -> None:
    async with serving(failing(error)) as running, tab(running) as one:
        answer = await post(running, "go")
        assert answer.status_code == status
        assert "secret" not in answer.text
        detail = answer.json()["detail"]
        assert (await one.run())[-1]["message"] == f"Stopped: {detail}"
        assert ("resets_at" in answer.json()) == (status == 429)
        if status == 429:
            assert answer.headers["retry-after"] == "20"
            assert answer.json()["resets_at"].endswith("+00:00")


async def test_a_full_queue_is_429() -> None:
    agent = Gated()
    async with serving(agent, queue_limit=1) as running:
        service = running.server.gateway.service
        sent = await service.send(ANA, send("one"))
        await service.send(ANA, send("two", sent.thread))
        answer = await post(running, "three", sent.thread)
        assert answer.status_code == 429
        assert isinstance(answer.json()["detail"], str)
        assert answer.json()["resets_at"].endswith("+00:00")


async def test_other_methods_are_refused_and_preflights_answered() -> None:
    async with serving() as running, running.http() as http:
        for path in ("/api/ana/chat", "/api/auth/session"):
            assert (await http.put(path)).status_code == 405
        headers = {"origin": running.url, "access-control-request-method": "POST"}
        answer = await http.options("/api/ana/chat", headers=headers)
        assert answer.status_code == 204
        assert answer.headers["access-control-allow-origin"] == running.url
        answer = await http.post("/api/ana/chat", json={}, headers={"origin": "https://elsewhere.example"})
        assert answer.status_code == 403
        assert isinstance(answer.json()["detail"], str)


async def test_the_session_without_authentication() -> None:
    async with serving() as running, running.http() as http:
        body = (await http.get("/api/auth/session")).json()
        assert body["authenticated"] is True
        assert body["user"]["id"] == "local"
        assert set(body["user"]) == {"id", "email", "created_at", "updated_at"}
        assert body["expires_at"].endswith("+00:00")


# --- signed in ----------------------------------------------------------------------------------------------------


async def test_with_tokens_the_address_must_be_the_users() -> None:
    async with serving(auth="jwt", jwt_secret=SECRET) as running:
        mine = {"cookie": f"auth_token={token('ana')}", "origin": running.url}
        for headers, path, code in (
            ({}, "/ws/ana/chat", 4001),
            (mine, "/ws/bob/chat", 4003),
            ({**mine, "origin": "https://elsewhere.example"}, "/ws/ana/chat", 4003),
        ):
            async with running.socket(path, subprotocols=None, additional_headers=headers) as socket:
                with anyio.fail_after(DEADLINE_S), pytest.raises(websockets.ConnectionClosed):
                    await socket.recv()
                assert socket.close_code == code
        async with (
            running.socket("/ws/ana/chat", subprotocols=None, additional_headers=mine) as socket,
            running.http() as http,
        ):
            assert (await Tab(socket).hear())["user_id"] == "ana"
            body = {"message": "hi", "conversation_id": None}
            assert (await http.post("/api/ana/chat", json=body)).status_code == 401
            assert (await http.post("/api/bob/chat", json=body, headers=mine)).status_code == 403
            answer = await http.post("/api/ana/chat", json=body, headers=mine)
            assert answer.json()["response"] == "hi "
            assert len(await Tab(socket).run()) == 2
            assert (await http.get("/api/auth/session")).status_code == 401
            session = (await http.get("/api/auth/session", headers=mine)).json()
            assert session["user"]["id"] == "ana"


async def test_it_can_be_elsewhere_or_nowhere() -> None:
    async with serving(dialects={"/live": "progress", "/ws/{user_id}/chat": "off"}) as running:
        async with running.socket("/live", subprotocols=None) as socket:
            assert (await Tab(socket).hear())["user_id"] == "local"
        with pytest.raises(websockets.InvalidStatus) as refused:
            async with running.socket("/ws/ana/chat", subprotocols=None):
                pass
        assert refused.value.response.status_code == 404


async def test_too_many_messages_in_a_minute_and_when_to_try_again() -> None:
    async with serving(Told(tasks), auth="jwt", jwt_secret=SECRET, messages_per_minute=2) as running:
        headers = {"authorization": f"Bearer {token('ana')}"}
        async with running.http(headers=headers) as http:
            for _ in range(2):
                assert (await http.post("/api/ana/chat", json={"message": "Add milk"})).status_code == 200
            refused = await http.post("/api/ana/chat", json={"message": "Add milk"})
            assert refused.status_code == 429
            body = refused.json()
            assert body["detail"] == "You have sent 2 messages in a minute; wait a moment."
            now = running.server.gateway.clock.now_ms() / 1000
            assert now < datetime.fromisoformat(body["resets_at"]).timestamp() <= now + 60
            assert 1 <= int(refused.headers["retry-after"]) <= 60
            body = {"message": {"id": "m", "content": "hi"}}
            thread = (await http.post("/v1/threads")).json()["id"]
            native = await http.post(f"/v1/threads/{thread}/messages", json=body)  # whatever it is said in
            assert (native.status_code, native.json()["code"]) == (429, "rate_limited")
        async with running.http(headers={"authorization": f"Bearer {token('bob')}"}) as http:
            assert (await http.post("/api/bob/chat", json={"message": "Add milk"})).status_code == 200


async def test_without_authentication_there_is_no_limit_to_messages() -> None:
    async with serving(Told(tasks), messages_per_minute=1) as running:
        for _ in range(3):
            assert (await post(running, "Add milk")).status_code == 200
