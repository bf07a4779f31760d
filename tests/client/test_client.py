"""The Python client against the real server, over real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import anyio
import httpx
import pytest
from anyio.abc import TaskStatus

from client.served import DEADLINE_S, Relay, free_socket, served
from runcast import events as e
from runcast.agents.base import RunContext
from runcast.agents.function import agent
from runcast.client import Client, Unreachable, connect, sync
from runcast.client import client as module
from runcast.client.effects import Batch, CaughtUp, SnapshotTaken, StateChanged
from runcast.errors import AgentError, IdempotencyConflict, InvalidRequest, NotFound

pytestmark = pytest.mark.anyio


async def echo(prompt: str) -> AsyncIterator[str]:
    """Says it again, word by word."""
    for word in prompt.split():
        yield word + " "


async def failing(prompt: str) -> AsyncIterator[str]:
    """Fails."""
    yield "well "
    raise AgentError(f"I cannot {prompt}.", code="unable")


class Gate:
    """An agent that goes on when it is let."""

    def __init__(self) -> None:
        self.open = anyio.Event()
        self.stopped = anyio.Event()

    def agent(self):  # type: ignore[no-untyped-def]
        async def gated(prompt: str) -> AsyncIterator[str]:
            """Waits in the middle."""
            yield "before "
            try:
                await self.open.wait()
            except BaseException:
                self.stopped.set()
                raise
            yield "after"

        return gated


def seqs(events: list[e.Event]) -> list[int]:
    return [seq for event in events for seq in range(first(event), event.seq + 1)]  # type: ignore[operator]


def first(event: e.Event) -> int:
    seq = event.from_ if isinstance(event.from_, int) else event.seq
    assert isinstance(seq, int)
    return seq


async def collect(client: Client, thread: str, *, until: type[e.Event], after: int = 0) -> list[e.Event]:
    got: list[e.Event] = []
    with anyio.fail_after(DEADLINE_S):
        async with aclosing(client.follow(thread, after=after)) as followed:
            async for event in followed:
                got.append(event)
                if isinstance(event, until):
                    return got
    return got


async def test_send_and_read_the_run(tmp_path: Path) -> None:
    async with served(echo, database=tmp_path / "log.db") as url, connect(url) as client:
        run = await client.send("one two three")
        events = [event async for event in run.events()]
        assert isinstance(events[0], e.RunStarted)
        assert isinstance(events[-1], e.RunFinished)
        assert {event.run_id for event in events} == {run.id}
        assert await run.text() == "one two three "


async def test_the_same_id_again_has_one_effect(tmp_path: Path) -> None:
    """I5"""
    async with served(echo, database=tmp_path / "log.db") as url, connect(url) as client:
        run = await client.send("hi", id="message-1")
        again = await client.send("hi", id="message-1")
        assert (again.id, again.thread, again.seq) == (run.id, run.thread, run.seq)
        assert again.replayed
        assert not run.replayed
        with pytest.raises(IdempotencyConflict):
            await client.send("something else", id="message-1")


async def test_follow_from_anywhere(tmp_path: Path) -> None:
    """I7"""
    async with served(echo, database=tmp_path / "log.db") as url, connect(url) as client:
        run = await client.send("a b c d e")
        await run.text()
        whole = await collect(client, run.thread, until=e.RunFinished)
        head = whole[-1].seq
        assert isinstance(head, int)
        assert seqs(whole) == list(range(1, head + 1))
        for after in range(head):
            assert seqs(await collect(client, run.thread, until=e.RunFinished, after=after)) == list(
                range(after + 1, head + 1)
            )


async def test_watch_gives_the_conversation_as_it_grows(tmp_path: Path) -> None:
    gate = Gate()
    async with served(gate.agent(), database=tmp_path / "log.db") as url, connect(url) as client:
        run = await client.send("go")
        texts: list[str] = []
        with anyio.fail_after(DEADLINE_S):
            async with aclosing(client.watch(run.thread)) as watched:
                async for transcript in watched:
                    said = [part for message in transcript.runs[0].messages[1:] for part in message.parts]
                    texts.append("".join(getattr(part, "text", "") for part in said))
                    if texts[-1] == "before ":
                        gate.open.set()
                    if transcript.runs[0].status == "done":
                        break
        assert texts[-1] == "before after"
        assert texts == sorted(texts, key=len)


async def test_cancel_reaches_the_agent(tmp_path: Path) -> None:
    gate = Gate()
    async with served(gate.agent(), database=tmp_path / "log.db") as url, connect(url) as client:
        run = await client.send("go")
        await collect(client, run.thread, until=e.TextMessageContent)
        await run.cancel("enough")
        events = await collect(client, run.thread, until=e.RunFinished)
        (end,) = [event for event in events if isinstance(event, e.RunFinished)]
        assert isinstance(end.outcome, e.Outcome)
        assert end.outcome.type == "cancelled"
        with anyio.fail_after(DEADLINE_S):
            await gate.stopped.wait()


async def test_a_failed_run_raises_its_own_sentence(tmp_path: Path) -> None:
    async with served(failing, database=tmp_path / "log.db") as url, connect(url) as client:
        run = await client.send("fly")
        with pytest.raises(AgentError, match=r"I cannot fly\.") as caught:
            await run.text()
        assert caught.value.agent_code == "unable"


async def test_what_is_not_there_is_not_found(tmp_path: Path) -> None:
    async with served(echo, database=tmp_path / "log.db") as url, connect(url) as client:
        with pytest.raises(InvalidRequest, match="nobody"):
            await client.send("hi", agent="nobody")
        with pytest.raises(NotFound):
            await collect(client, "01890000-0000-7000-8000-000000000000", until=e.RunFinished)


async def test_agents_and_threads_over_http(tmp_path: Path) -> None:
    async with served(echo, failing, database=tmp_path / "log.db") as url, connect(url) as client:
        assert [agent["name"] for agent in await client.agents()] == ["echo", "failing"]
        run = await client.send("find me")
        await run.text()
        assert [thread["id"] for thread in await client.threads()] == [run.thread]


async def test_a_broken_line_in_the_middle_of_a_run_costs_nothing(tmp_path: Path) -> None:
    """I7: cut again and again, at any byte: every event once, in order."""
    gates = [anyio.Event() for _ in range(5)]

    async def slow(prompt: str) -> AsyncIterator[str]:
        """Waits for the next cut."""
        for number, gate in enumerate(gates):
            yield f"{number} "
            await gate.wait()

    got: list[e.Event] = []
    async with served(slow, database=tmp_path / "log.db") as url, Relay(url) as relay, connect(relay.url) as client:
        run = await client.send("go")
        with anyio.fail_after(30):
            async with aclosing(run.events()) as events:
                async for event in events:
                    got.append(event)
                    if isinstance(event, e.TextMessageContent):
                        relay.cut()
                        gates[int(event.delta.split()[-1])].set()
    assert seqs(got) == list(range(1, len(seqs(got)) + 1))
    assert "".join(event.delta for event in got if isinstance(event, e.TextMessageContent)) == "0 1 2 3 4 "
    assert relay.lines > 1


async def test_a_restarted_server_is_found_again_and_nothing_is_missing_or_doubled(tmp_path: Path) -> None:
    """I2, I7, I24: the connection breaks in the middle, another process serves the same log on the same port."""
    gate = Gate()
    states: list[str] = []
    got: list[e.Event] = []
    told = anyio.Event()
    ended = anyio.Event()

    async def read(client: Client, thread: str) -> None:
        async with aclosing(client.follow(thread)) as followed:
            async for event in followed:
                got.append(event)
                if isinstance(event, e.TextMessageContent):
                    told.set()
                if isinstance(event, e.TERMINAL):
                    ended.set()
                    return

    def on_state(change: StateChanged) -> None:
        states.append(change.state)

    stop = anyio.Event()

    async def first_server(*, task_status: TaskStatus[str]) -> None:
        async with served(gate.agent(), database=tmp_path / "log.db") as url:
            task_status.started(url)
            await stop.wait()
        stopped.set()

    stopped = anyio.Event()
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            url: str = await tasks.start(first_server)
            async with connect(url, on_state=on_state) as client:
                run = await client.send("go")
                tasks.start_soon(read, client, run.thread)
                await told.wait()
                stop.set()
                await stopped.wait()
                async with served(gate.agent(), database=tmp_path / "log.db", port=int(url.rpartition(":")[2])):
                    await ended.wait()
                    assert (await client.send("hello again", thread=run.thread)).thread == run.thread
                    assert states.count("open") == 2
    assert seqs(got) == list(range(1, len(seqs(got)) + 1))
    end = got[-1]
    assert isinstance(end, e.RunError)
    assert end.code == "interrupted"


async def test_a_command_sent_while_disconnected_is_carried_out_later(tmp_path: Path) -> None:
    """I5: it is kept, and sent as soon as there is a server."""
    with anyio.fail_after(30):
        listener = free_socket()
        port = listener.getsockname()[1]
        listener.close()
        texts: list[str] = []

        async with anyio.create_task_group() as tasks:

            async def late() -> None:
                async with connect(f"http://127.0.0.1:{port}", patient=True) as client:
                    texts.append(await (await client.send("at last")).text())
                tasks.cancel_scope.cancel()

            tasks.start_soon(late)
            async with served(echo, database=tmp_path / "log.db", port=port):
                await anyio.sleep_forever()
        assert texts == ["at last "]


async def test_a_reader_that_is_behind_costs_bounded_memory_and_misses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I11: its subscription is left and taken again; commands go on meanwhile."""
    monkeypatch.setattr(module, "MAX_WAITING_EVENTS", 5)

    async def many(prompt: str, run: RunContext) -> AsyncIterator[str]:
        """Says a lot."""
        for number in range(300):
            await run.custom("tick", number)
        yield "done"

    async with served(many, echo, database=tmp_path / "log.db") as url, connect(url) as client:
        run = await client.send("go")
        got: list[e.Event] = []
        with anyio.fail_after(30):
            async with aclosing(client.follow(run.thread)) as followed:
                async for event in followed:
                    got.append(event)
                    if len(got) in (1, 100):
                        await (await client.send("meanwhile", agent="echo")).text()
                    if isinstance(event, e.RunFinished):
                        break
        assert seqs(got) == list(range(1, len(seqs(got)) + 1))
        assert [event.value for event in got if isinstance(event, e.Custom)] == list(range(300))


async def test_nobody_there_is_said_at_once() -> None:
    listener = free_socket()
    port = listener.getsockname()[1]
    listener.close()
    with pytest.raises(Unreachable, match=rf"127\.0\.0\.1:{port}.*is the server running"):
        async with connect(f"http://127.0.0.1:{port}"):
            pytest.fail("there is no server")


@pytest.mark.parametrize("url", ["ftp://x", "http://", "nonsense://127.0.0.1"])
async def test_what_is_no_address_is_said(url: str) -> None:
    with pytest.raises(InvalidRequest, match="not the address of a server"):
        async with connect(url):
            pytest.fail("that is no address")


async def test_an_error_in_the_block_comes_out_as_it_is(tmp_path: Path) -> None:
    async with served(echo, database=tmp_path / "log.db") as url:
        with pytest.raises(ZeroDivisionError):
            async with connect(url):
                raise ZeroDivisionError


async def test_the_blocking_client_does_the_same(tmp_path: Path) -> None:
    def blocking(url: str) -> tuple[str, int, list[str], str]:
        with sync.connect(url) as client:
            run = client.send("one two")
            events = list(run.events())
            for transcript in client.watch(run.thread):
                status = transcript.runs[0].status
                break
            return run.text(), len(events), [agent["name"] for agent in client.agents()], status

    async with served(echo, database=tmp_path / "log.db") as url:
        text, count, names, status = await anyio.to_thread.run_sync(blocking, url)
    assert text == "one two "
    assert count > 3
    assert names == ["echo"]
    assert status == "done"


async def test_edit_retry_and_steer(tmp_path: Path) -> None:
    heard = anyio.Event()

    @agent(steerable=True)
    async def listener(prompt: str, run: RunContext) -> AsyncIterator[str]:
        """Says it again; told to listen, what it is told too."""
        yield prompt
        if prompt == "listen":
            heard.set()
            async for message in run.steering():
                yield f" {message.text}"
                return

    async with served(listener, database=tmp_path / "log.db") as url, connect(url) as client:
        assert (await client.agents())[0]["steerable"] is True
        first = await client.send("one")
        assert await first.text() == "one"
        edited = await client.edit(first.id, "two", id="edit-1")
        assert await edited.text() == "two"
        assert (await client.edit(first.id, "two", id="edit-1")).replayed
        assert await (await client.retry(edited.id)).text() == "two"
        with pytest.raises(NotFound):
            await client.retry("no-such-run")
        run = await client.send("listen", thread=first.thread)
        await heard.wait()
        assert (await client.steer(run.id, "now")).id == run.id
        assert await run.text() == "listen now"
        idle = await client.steer(run.id, "later")
        assert idle.id != run.id and await idle.text() == "later"


async def test_edit_retry_and_steer_without_an_event_loop(tmp_path: Path) -> None:
    def blocking(url: str) -> list[str]:
        with sync.connect(url) as client:
            first = client.send("one")
            first.text()
            made = (client.edit(first.id, "two"), client.retry(first.id), client.steer(first.id, "three"))
            return [run.text() for run in made]

    async with served(echo, database=tmp_path / "log.db") as url:
        assert await anyio.to_thread.run_sync(blocking, url) == ["two ", "one ", "three "]


async def test_the_inbox_is_followed_on_after_all_data_was_deleted(tmp_path: Path) -> None:
    async with served(echo, database=tmp_path / "log.db") as url, connect(url) as client:
        first = await client.send("one")
        with anyio.fail_after(DEADLINE_S):
            async with aclosing(client.updates(None)) as updates:
                async for update in updates:
                    if isinstance(update, CaughtUp):
                        break
                async with httpx.AsyncClient() as http:
                    body = {"confirm": "delete all my data"}
                    assert (await http.request("DELETE", f"{url}/v1/me/data", json=body)).status_code == 200
                async for update in updates:
                    if isinstance(update, SnapshotTaken):
                        break
                second = await client.send("two")
                heard: set[object] = set()
                async for update in updates:
                    if isinstance(update, Batch):
                        heard |= {event.thread_id for event in update.events if isinstance(event, e.ThreadUpdated)}
                        if second.thread in heard:
                            break
    assert first.thread not in heard
