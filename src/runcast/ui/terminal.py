"""A chat in the terminal: sends what is typed, shows the run as it happens, asks when the agent asks. `/retry` asks the last
message again, `/edit <message>` another one in its place; `/quit` leaves.

Ctrl-C stops the run; a second one, or one at the prompt, leaves. A lost connection is mended underneath; the run goes on
either way. Imports the client only.
"""

from __future__ import annotations

import asyncio
import codecs
import os
import signal
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from datetime import datetime
from typing import Any, Literal, NamedTuple, TypeVar

import anyio
import anyio.abc
import msgspec
from msgspec import UNSET

from runcast import events as e
from runcast.client.client import Client
from runcast.client.effects import SnapshotTaken
from runcast.errors import AlreadyDecided, Expired, InvalidRequest, RuncastError
from runcast.events import Event, Interrupt
from runcast.paths import along, path_of
from runcast.runs import RunStatus
from runcast.transcript import InterruptPart, TranscriptRun, load
from runcast.ui.questions import MISSING, Line, Unclear, answer_of, lines_of, value_of
from runcast.ui.screen import BOLD, DIM, RED, YELLOW, Screen, harmless, how_it_ended

EXIT_OK, EXIT_FAILED, EXIT_WAITING, EXIT_LEFT = 0, 1, 3, 130
"""What `runcast chat` exits with: done · failed or interrupted · waits for an answer nobody can give here · left by Ctrl-C."""

LEAVE = ("/quit", "/exit")

Verb = Literal["send", "edit", "retry"]

Shown = TypeVar("Shown")

ReadLine = Callable[[], Awaitable[str | None]]
"""The next line without its end; None when there will be none."""


class Opened(NamedTuple):
    """A conversation that was there before."""

    seq: int
    """As far as it was shown."""
    epoch: str
    last: str | None
    """The last run of its path."""
    active: list[TranscriptRun]
    """Those of the path that run, wait or are queued, in their order."""


class Keyboard:
    """Lines from a file descriptor, read by a thread of its own only when one is asked for.

    `os.read` and not `sys.stdin`: a thread that waits inside the latter's lock would hang the interpreter's exit.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._asked = threading.Semaphore(0)
        self._pending: asyncio.Future[str | None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def line(self) -> str | None:
        """The next line. If the wait is cancelled, the line that was being typed is the next call's."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            threading.Thread(target=self._read, name="runcast keyboard", daemon=True).start()
        if self._pending is None:
            self._pending = self._loop.create_future()
            self._asked.release()
        line = await asyncio.shield(self._pending)
        self._pending = None
        return line

    def _read(self) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        text = ""
        while True:
            self._asked.acquire()
            ended = False
            while "\n" not in text and not ended:
                data = os.read(self._descriptor, 65536)
                text += decoder.decode(data, final=not data)
                ended = not data
            line, _, text = text.partition("\n")
            self._give(None if ended and not line else line.removesuffix("\r"))

    def _give(self, line: str | None) -> None:
        def arrive() -> None:
            if self._pending is not None and not self._pending.done():
                self._pending.set_result(line)

        assert self._loop is not None  # `line` set it before it asked
        try:
            self._loop.call_soon_threadsafe(arrive)
        except RuntimeError:
            pass  # the loop is closed: the program is ending


class _Chat:
    def __init__(self, client: Client, screen: Screen, read_line: ReadLine | None, tasks: anyio.abc.TaskGroup) -> None:
        self._client = client
        self._screen = screen
        self._read_line = read_line
        self._tasks = tasks
        self._runs: set[str] = set()
        """The run that was sent, and those that go on with its answers."""
        self._current: str | None = None
        self._last: str | None = None
        """The run that was asked last: what `/retry` and `/edit` are about."""
        self._busy = False
        self._stopping = False
        self._open: dict[str, Interrupt] = {}
        self._asking: anyio.CancelScope | None = None
        self._playing = anyio.CancelScope()
        self.left = False
        """The person left instead of answering: the question stays open."""

    async def play(
        self, text: str, *, thread: str | None, agent: str | None, verb: Verb = "send"
    ) -> tuple[str, RunStatus]:
        """Send and show until the run has ended for good: the thread, and how it ended. With another verb the last run is asked
        again, or asked `text` instead."""
        self._busy, self._stopping = True, False
        self._open.clear()
        self._playing = anyio.CancelScope()
        try:
            if verb == "send" or self._last is None:
                sent = await self._client.send(text, thread=thread, agent=agent)
            elif verb == "edit":
                sent = await self._client.edit(self._last, text)
            else:
                sent = await self._client.retry(self._last)
            self._last = sent.id
            self._runs, self._current = {sent.id}, sent.id
            if self._stopping:  # Ctrl-C came before the run was known
                self._tasks.start_soon(self._cancel, sent.id)
            with self._playing:
                return sent.thread, await self._follow(sent.thread, sent.seq - 1)
        finally:
            self._busy, self._current = False, None
            self._stop_asking()
        return sent.thread, "waiting"  # nobody is there to answer

    async def take_up(self, thread: str, opened: Opened) -> None:
        """Show what goes on in a conversation that was opened, and ask what is open in it, until nothing goes on any more."""
        for run in opened.active:
            self._busy, self._stopping = True, False
            self._runs, self._current = {run.id}, run.id
            self._open = {part.id: _asked(part) for part in _parts(run, InterruptPart) if part.status == "open"}
            self._playing = anyio.CancelScope()
            try:
                if self._open:
                    self._tasks.start_soon(self._answer_all)
                with self._playing:
                    await self._follow(thread, opened.seq, opened.epoch)
                if self._playing.cancelled_caught:
                    return  # nobody is there to answer
            finally:
                self._busy, self._current = False, None
                self._stop_asking()

    async def _follow(self, thread: str, after: int, epoch: str | None = None) -> RunStatus:
        async with aclosing(self._client.follow(thread, after=after, epoch=epoch)) as followed:
            async for event in followed:
                status = self._take(event)
                if status == "waiting":
                    if self._read_line is None:
                        self._screen.line(
                            f"The agent waits for an answer. To give it: runcast chat --thread {thread}", YELLOW
                        )
                        return status
                    self._tasks.start_soon(self._answer_all)
                elif status is not None:
                    return status
        raise RuncastError("The connection was closed before the run had ended.")

    def opened(self, run: str | None) -> None:
        """A conversation that was there: `run` is the last of it."""
        self._last = run

    def understood(self, line: str) -> tuple[Verb, str] | None:
        """What a line asks for: a message, or a command about the last one. None if it cannot be done; it was said why."""
        word, _, rest = line.strip().partition(" ")
        if word not in ("/retry", "/edit"):
            return "send", line
        if self._last is None:
            self._screen.line("Nothing has been asked yet.", YELLOW)
        elif word == "/retry":
            return "retry", ""
        elif rest.strip():
            return "edit", rest.strip()
        else:
            self._screen.line("Say what to ask instead: /edit <message>", YELLOW)
        return None

    @property
    def busy(self) -> bool:
        """A message was sent and its run has not ended."""
        return self._busy

    def interrupt(self) -> bool:
        """Ctrl-C: stop the run. False when there is nothing (more) to stop."""
        if not self._busy or self._stopping:
            return False
        self._stopping = True
        self._stop_asking()
        self._screen.line("Stopping… (Ctrl-C again leaves; the run is stopped all the same)", DIM)
        if self._current is not None:
            self._tasks.start_soon(self._cancel, self._current)
        return True

    async def _cancel(self, run: str) -> None:
        try:
            await self._client.cancel(run=run, reason="Ctrl-C")
        except RuncastError as error:
            self._screen.line(error.message, RED)

    def _take(self, event: Event) -> RunStatus | None:
        """Show one event of ours; the status if it ended the run."""
        match event:
            case e.RunStarted(resumes=str(resumed)) if resumed in self._runs and isinstance(event.run_id, str):
                self._runs.add(event.run_id)
                self._current = event.run_id
                self._stop_asking()
            case e.InterruptResolved():
                if self._open.pop(event.interrupt_id, None) is not None:
                    who = f" by {event.by}" if isinstance(event.by, str) and event.by else ""
                    if event.ends_run is True and event.status == "cancelled":
                        self._screen.line(f"■ Stopped{who}: the question was withdrawn.", YELLOW)
                    else:
                        self._screen.line(f"Answered{who}: {event.status}.", DIM)
                    if not self._open:
                        self._stop_asking()
                return "cancelled" if event.ends_run is True else None
            case e.InterruptRequested() if event.run_id in self._runs:
                self._open[event.interrupt.id] = event.interrupt
            case _:
                pass
        if event.run_id not in self._runs:
            return None
        self._screen.show(event)
        if isinstance(event, (e.RunFinished, e.RunError, e.RunDequeued)) and event.run_id == self._current:
            return how_it_ended(event)
        return None

    def _stop_asking(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
            self._asking = None

    async def _answer_all(self) -> None:
        with anyio.CancelScope() as scope:
            self._asking = scope
            for interrupt in list(self._open.values()):
                if interrupt.id in self._open:
                    await self._answer(interrupt)

    async def _answer(self, interrupt: Interrupt) -> None:
        """Ask until the server has taken an answer, or it is no longer ours to give."""
        question = interrupt.message if isinstance(interrupt.message, str) else "The agent asks for your decision."
        self._screen.line(question, YELLOW)
        approval = interrupt.reason in ("tool_call", "confirmation")
        metadata = interrupt.metadata if isinstance(interrupt.metadata, dict) else {}
        if approval and interrupt.tool_call_id is UNSET and "arguments" in metadata:
            self._screen.line(msgspec.json.encode(metadata["arguments"]).decode(), DIM)
        if isinstance(interrupt.expires_at, str):
            self._screen.line(f"Open until {_local(interrupt.expires_at)}.", DIM)
        while True:
            payload = await (self._decision() if approval else self._form(interrupt))
            if payload is MISSING:
                self._playing.cancel()  # nobody is there; it stays open for another client to answer
                return
            self._open.pop(interrupt.id, None)  # ours: what comes back over the log need not be told again
            try:
                await self._client.resolve(interrupt.id, payload=payload)
            except InvalidRequest as error:
                self._open[interrupt.id] = interrupt
                self._screen.line(error.message, RED)  # the question is still open
                continue
            except (AlreadyDecided, Expired) as error:
                self._screen.line(error.message, YELLOW)  # what was decided comes over the log
            except RuncastError as error:
                self._screen.line(error.message, RED)
                self._playing.cancel()  # it waits on; another client may answer
            return

    async def _decision(self) -> Any:
        """Yes or no, and in one's own words why not: `n too risky`."""
        while True:
            line = await self._typed("Allow it? [y/n] ")
            if line is None:
                return MISSING
            word, _, reason = line.strip().partition(" ")
            if word.lower() in ("y", "yes") and not reason:
                return {"approved": True}
            if word.lower() in ("n", "no"):
                return {"approved": False, "reason": reason.strip()} if reason.strip() else {"approved": False}

    async def _form(self, interrupt: Interrupt) -> Any:
        schema = interrupt.response_schema if isinstance(interrupt.response_schema, dict) else {}
        values: list[tuple[Line, Any]] = []
        for line in lines_of(schema):
            if line.hint:
                self._screen.line(line.hint, DIM)
            more = "; ".join(word for word in (line.words, "" if line.required else "may be left empty") if word)
            while True:
                typed = await self._typed(f"{harmless(line.label)}{f' [{harmless(more)}]' if more else ''}: ")
                if typed is None:
                    return MISSING
                try:
                    values.append((line, value_of(line, typed)))
                    break
                except Unclear as error:
                    self._screen.line(str(error), RED)
        return answer_of(values)

    async def _typed(self, prompt: str) -> str | None:
        assert self._read_line is not None
        self._screen.prompt(prompt)
        line = await self._read_line()
        self._screen.entered()
        if line is not None and line.strip() in LEAVE:
            self.left = True
            return None
        return line


def _local(date: str) -> str:
    """An ISO date in this machine's time, to the minute."""
    try:
        return datetime.fromisoformat(date).astimezone().strftime("%Y-%m-%d %H:%M")
    except ValueError:
        return date


async def chat(
    client: Client,
    screen: Screen,
    *,
    read_line: ReadLine | None,
    thread: str | None = None,
    agent: str | None = None,
    message: str | None = None,
    on_interrupt: Callable[[], AsyncGenerator[None, None]] | None = None,
) -> int:
    """Chat until the person leaves, or, with `message`, until that one is answered: the exit code.

    `read_line` None: nobody can be asked. `on_interrupt`: one item for each Ctrl-C; default: SIGINT of this process.
    """
    code = EXIT_OK
    opened = None if thread is None or message is not None else await _show_history(client, screen, thread)
    async with anyio.create_task_group() as tasks:
        talk = _Chat(client, screen, read_line, tasks)
        talk.opened(opened.last if opened is not None else None)

        async def watch_interrupts() -> None:
            nonlocal code
            async with aclosing((on_interrupt or _sigint)()) as presses:
                async for _ in presses:
                    if not talk.interrupt():
                        code = EXIT_LEFT if talk.busy else EXIT_OK
                        screen.line("")
                        tasks.cancel_scope.cancel()
                        return

        tasks.start_soon(watch_interrupts)
        if thread is not None and opened is not None:
            try:
                await talk.take_up(thread, opened)
            except RuncastError as error:
                screen.line(error.message, RED)
        while not talk.left:
            text = message if message is not None else await _next_message(screen, read_line)
            if text is None:
                break
            asked = ("send", text) if message is not None else talk.understood(text)
            if asked is None:
                continue
            try:
                verb, text = asked
                thread, status = await talk.play(text, thread=thread, agent=agent, verb=verb)
            except RuncastError as error:
                screen.line(error.message, RED)
                status = "failed"
            code = {"done": EXIT_OK, "cancelled": EXIT_LEFT, "waiting": EXIT_WAITING}.get(status, EXIT_FAILED)
            if message is not None:
                break
            code = EXIT_OK
        tasks.cancel_scope.cancel()
    return code


async def _next_message(screen: Screen, read_line: ReadLine | None) -> str | None:
    if read_line is None:
        return None
    while True:
        screen.prompt("> ")
        line = await read_line()
        screen.entered()
        if line is None or line.strip() in LEAVE:
            return None
        if line.strip():
            return line


async def _show_history(client: Client, screen: Screen, thread: str) -> Opened | None:
    """Show the conversation as its head run has it, and say how it stands."""
    async with aclosing(client.updates(thread)) as updates:
        async for update in updates:
            if isinstance(update, SnapshotTaken):
                transcript = load(update.transcript)
                path = path_of(transcript)
                screen.history(along(transcript, path))
                screen.line("─" * 20, BOLD)
                active = [run for run in path if run.status in ("queued", "running", "waiting")]
                return Opened(update.seq, update.epoch, path[-1].id if path else None, active)
    return None


def _parts(run: TranscriptRun, kind: type[Shown]) -> list[Shown]:
    return [part for message in run.messages for part in message.parts if isinstance(part, kind)]


def _asked(part: InterruptPart) -> Interrupt:
    """The question as the log had it."""
    return Interrupt(
        id=part.id,
        reason=part.reason,
        message=UNSET if part.message is None else part.message,
        tool_call_id=UNSET if part.tool_call_id is None else part.tool_call_id,
        response_schema=UNSET if part.response_schema is None else part.response_schema,
        expires_at=UNSET if part.expires_at is None else part.expires_at,
        metadata=UNSET if part.metadata is None else part.metadata,
    )


async def _sigint() -> AsyncGenerator[None, None]:
    with anyio.open_signal_receiver(signal.SIGINT) as signals:
        async for _ in signals:
            yield
