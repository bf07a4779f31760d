"""A chat in the terminal, with somebody who types and somebody who presses Ctrl-C."""

from __future__ import annotations

import io
import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from client.served import served
from runcast import events as e
from runcast.agents.base import RunContext
from runcast.agents.function import agent
from runcast.client import Client, connect
from runcast.errors import Declined
from runcast.events import Event
from runcast.runs import RunInput
from runcast.ui.screen import Screen
from runcast.ui.terminal import EXIT_FAILED, EXIT_LEFT, EXIT_OK, EXIT_WAITING, Keyboard, ReadLine, chat

pytestmark = pytest.mark.anyio


class Asking:
    """Asks before it does something."""

    name = "asking"
    description = "Asks first."

    async def run(self, input: RunInput, context: RunContext) -> AsyncIterator[Event]:
        if input.resumes is None:
            interrupt = e.Interrupt(id=f"{input.run}.1", reason="tool_call", message="Delete everything?")
            yield e.InterruptRequested(interrupt=interrupt)
            yield e.RunFinished(thread_id=input.thread, outcome=e.Outcome(type="interrupt", interrupts=[interrupt]))
            return
        approved = [bool((answer.payload or {}).get("approved")) for answer in input.answers]
        yield e.TextMessageStart(message_id="m")
        yield e.TextMessageContent(message_id="m", delta=f"approved: {approved}")
        yield e.TextMessageEnd(message_id="m")


async def echo(prompt: str) -> AsyncIterator[str]:
    """Says it again."""
    yield prompt.upper()


def typing(*lines: str | None) -> ReadLine:
    rest = iter(lines)

    async def read_line() -> str | None:
        return next(rest, None)

    return read_line


async def never() -> AsyncGenerator[None, None]:
    await anyio.sleep_forever()
    yield


async def talk(
    client: Client, read_line: ReadLine | None, message: str | None = None, thread: str | None = None
) -> tuple[int, str, str]:
    answer, aside = io.StringIO(), io.StringIO()
    screen = Screen(answer, aside, colours=False)
    with anyio.fail_after(20):
        code = await chat(client, screen, read_line=read_line, message=message, thread=thread, on_interrupt=never)
    return code, answer.getvalue(), aside.getvalue()


async def test_a_conversation_until_somebody_leaves(tmp_path: Path) -> None:
    async with served(echo, database=tmp_path / "log.db") as url, connect(url) as client:
        code, answer, _ = await talk(client, typing("one", "", "  ", "two", "/quit"))
        assert (code, answer) == (EXIT_OK, "ONE\nTWO\n")
        assert len(await client.threads()) == 1


async def test_the_last_message_is_asked_again_or_changed(tmp_path: Path) -> None:
    async with served(echo, database=tmp_path / "log.db") as url, connect(url) as client:
        lines = typing("/retry", "one", "/retry", "/edit", "/edit two", "three", None)
        code, answer, aside = await talk(client, lines)
        assert (code, answer) == (EXIT_OK, "ONE\nONE\nTWO\nTHREE\n")
        assert "Nothing has been asked yet." in aside and "/edit <message>" in aside
        [thread] = await client.threads()
        async with aclosing(client.watch(thread["id"])) as watched:
            transcript = await anext(watched)
        one, again, two, three = transcript.runs
        assert [run.parent for run in transcript.runs] == [None, None, None, two.id]
        assert one.messages[0].id == again.messages[0].id != two.messages[0].id
        assert transcript.head_run == three.id


@pytest.mark.parametrize(("typed", "said"), [("y", "[True]"), ("n", "[False]")])
async def test_an_approval_is_asked_for_and_given(tmp_path: Path, typed: str, said: str) -> None:
    """I20: nothing but a clear yes or no counts."""
    async with served(Asking(), database=tmp_path / "log.db") as url, connect(url) as client:
        code, answer, aside = await talk(client, typing("go", "what?", typed, None))
    assert (code, answer) == (EXIT_OK, f"approved: {said}\n")
    assert aside.count("Allow it? [y/n]") == 2
    assert "Delete everything?" in aside


async def test_with_nobody_to_ask_it_stays_open(tmp_path: Path) -> None:
    async with served(Asking(), database=tmp_path / "log.db") as url, connect(url) as client:
        code, answer, aside = await talk(client, None, message="go")
        assert (code, answer) == (EXIT_WAITING, "")
        assert "waits for an answer" in aside
        assert [thread["status"] for thread in await client.threads()] == ["waiting"]


async def test_who_opens_a_conversation_is_asked_what_is_open_in_it(tmp_path: Path) -> None:
    async with served(Asking(), database=tmp_path / "log.db") as url, connect(url) as client:
        _, _, aside = await talk(client, None, message="go")
        (thread,) = [item["id"] for item in await client.threads()]
        assert f"runcast chat --thread {thread}" in aside
        await client.send("and then", thread=thread)  # it waits behind the question
        code, answer, aside = await talk(client, typing("y", "n", "/quit"), thread=thread)
        assert code == EXIT_OK
        assert answer == "approved: [True]\napproved: [False]\n"
        assert aside.count("Delete everything?") == 2


async def test_quit_leaves_a_question_open(tmp_path: Path) -> None:
    async with served(Asking(), database=tmp_path / "log.db") as url, connect(url) as client:
        code, _, aside = await talk(client, typing("go", "/quit", "never read"))
        assert (code, aside.count("> ")) == (EXIT_OK, 1)
        assert [thread["status"] for thread in await client.threads()] == ["waiting"]


async def test_who_opens_a_conversation_sees_what_goes_on_in_it(tmp_path: Path) -> None:
    gate = anyio.Event()

    async def slow(prompt: str) -> AsyncIterator[str]:
        yield "one "
        await gate.wait()
        yield "two"

    async with served(slow, database=tmp_path / "log.db") as url, connect(url) as client:
        run = await client.send("go")
        async with aclosing(run.events()) as events:
            async for event in events:
                if isinstance(event, e.TextMessageContent):
                    break
        answer = io.StringIO()
        screen = Screen(answer, answer, colours=False)

        async def leave() -> str:
            assert answer.getvalue().endswith("two\n> ")
            return "/quit"

        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(lambda: chat(client, screen, read_line=leave, thread=run.thread, on_interrupt=never))
                while "one" not in answer.getvalue():
                    await anyio.lowlevel.checkpoint()
                gate.set()


async def test_an_answer_given_elsewhere_ends_the_question(tmp_path: Path) -> None:
    """The first valid answer wins, and who was being asked is told."""
    asked = anyio.Event()

    def slow_hands() -> ReadLine:
        first = typing("go")
        done = False

        async def read_line() -> str | None:
            nonlocal done
            if not done:
                done = True
                return await first()
            if not answered.is_set():
                asked.set()
                await anyio.sleep_forever()
            return None

        return read_line

    answered = anyio.Event()
    async with served(Asking(), database=tmp_path / "log.db") as url, connect(url) as client, connect(url) as other:
        async with anyio.create_task_group() as tasks:

            async def answer_elsewhere() -> None:
                await asked.wait()
                (thread,) = await other.threads()
                questions: list[str] = []
                async with aclosing(other.follow(thread["id"])) as followed:
                    async for event in followed:
                        if isinstance(event, e.InterruptRequested):
                            questions.append(event.interrupt.id)
                        if isinstance(event, e.RunFinished):
                            break
                answered.set()
                await other.resolve(questions[0], approved=True)

            tasks.start_soon(answer_elsewhere)
            code, answer, aside = await talk(client, slow_hands())
    assert (code, answer) == (EXIT_OK, "approved: [True]\n")
    assert "Answered" in aside


async def test_ctrl_c_once_stops_twice_leaves(tmp_path: Path) -> None:
    started = anyio.Event()
    stubborn = anyio.Event()

    async def waiting(prompt: str) -> AsyncIterator[str]:
        """Does not stop at once."""
        yield "begun"
        started.set()
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await stubborn.wait()

    pressed = 0

    async def presses() -> AsyncGenerator[None, None]:
        nonlocal pressed
        await started.wait()
        for _ in range(2):
            pressed += 1
            yield

    async with served(waiting, database=tmp_path / "log.db") as url, connect(url) as client:
        answer, aside = io.StringIO(), io.StringIO()
        with anyio.fail_after(20):
            code = await chat(
                client, Screen(answer, aside, colours=False), read_line=None, message="go", on_interrupt=presses
            )
        stubborn.set()
    assert (code, pressed) == (EXIT_LEFT, 2)
    assert "Stopping" in aside.getvalue()


async def test_a_failure_is_the_exit_code(tmp_path: Path) -> None:
    async def broken(prompt: str) -> AsyncIterator[str]:
        """Breaks."""
        yield "x"
        raise RuntimeError("secret")

    async with served(broken, database=tmp_path / "log.db") as url, connect(url) as client:
        code, _, aside = await talk(client, None, message="go")
    assert code == EXIT_FAILED
    assert "Failed" in aside
    assert "secret" not in aside


async def test_the_keyboard_reads_lines_and_keeps_what_was_typed_for_the_next_question() -> None:
    reading, writing = os.pipe()
    try:
        keyboard = Keyboard(reading)
        os.write(writing, "één\ntwo\n".encode())
        assert await keyboard.line() == "één"
        assert await keyboard.line() == "two"
        with anyio.move_on_after(0.01):
            await keyboard.line()
        os.write(writing, b"three\r\n")
        with anyio.fail_after(10):
            assert await keyboard.line() == "three"
        os.close(writing)
        with anyio.fail_after(10):
            assert await keyboard.line() is None
    finally:
        os.close(reading)


@agent
async def travelling(prompt: str, run: RunContext) -> AsyncIterator[str]:
    """Asks for a form, then for a yes."""
    trip = await run.ask("Where to?", schema=TRIP)
    try:
        await run.approve("book", trip)
    except Declined as no:
        yield f"{no.message}"
    else:
        yield f"Booked {trip['city']} for {trip['people']}."


TRIP = {
    "type": "object",
    "required": ["city", "people"],
    "properties": {"city": {"enum": ["Rome", "Oslo"]}, "people": {"type": "integer", "maximum": 9}},
}


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (("1", "two", "12", "1", "2", "y"), "Booked Rome for 2.\n"),
        (("Oslo", "3", "n too far"), "book was not allowed: too far\n"),
    ],
)
async def test_a_form_is_asked_line_by_line_until_the_server_takes_it(
    tmp_path: Path, typed: tuple[str, ...], said: str
) -> None:
    async with served(travelling, database=tmp_path / "log.db") as url, connect(url) as client:
        code, answer, aside = await talk(client, typing(*typed), message="go")
    assert (code, answer) == (EXIT_OK, said)
    assert "Where to?" in aside and "Open until" in aside and '{"city":' in aside
    if "12" in typed:
        assert "must be a number" in aside and "people must be at most 9" in aside
