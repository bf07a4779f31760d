"""An agent that does exactly what a test says, and a harness that runs one agent without a server.

agent = ScriptedAgent(["Hello ", "world"])
events = await collect(agent, "Hi")
again = await collect(agent, "And now?", history=[events])
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, cast

import anyio
import anyio.lowlevel
import msgspec
from msgspec import UNSET

from runcast import events as e
from runcast.agents.asking import Asked
from runcast.agents.base import Agent, Turn
from runcast.agents.context import RunContext
from runcast.agents.yields import Yields
from runcast.errors import AgentError, describe
from runcast.events import Event
from runcast.runs import AgentState, Answer, Message, Principal, RunInput
from runcast.transcript import Transcript, TranscriptRun, fold


@dataclass(frozen=True)
class Pause:
    """A step that waits, on the sleep that the agent was given."""

    seconds: float


Step = str | Event | Mapping[str, Any] | anyio.Event | Pause | BaseException
"""A piece of text, an event, a small dict; an `anyio.Event` to wait for; a pause; an exception to raise."""

Script = Callable[[RunInput, RunContext], AsyncIterator[Event]] | Sequence[Step]


def tokens(count: int, size: int = 5) -> list[str]:
    """`count` different pieces of text of `size` characters each, the same every time; size ≥ 2."""
    return [f"{number:0{size - 1}d}"[-(size - 1) :] + " " for number in range(count)]


class ScriptedAgent:
    """Plays a script, the same in each run: a list of steps, or a function that yields events.

    `inputs` holds what each run was asked, `open` how many are running (0 after a cancel, or something leaks), `reached`
    the number of steps begun in all.
    """

    def __init__(
        self,
        script: Script,
        name: str = "scripted",
        description: str = "Plays a script.",
        *,
        sleep: Callable[[float], Awaitable[object]] = anyio.sleep,
    ) -> None:
        self.name = name
        self.description = description
        self.inputs: list[RunInput] = []
        self.open = 0
        self.reached = 0
        self._script = script
        self._sleep = sleep
        self._moved = anyio.Event()

    async def run(self, input: RunInput, context: RunContext) -> AsyncIterator[Event]:
        self.inputs.append(input)
        self.open += 1
        try:
            script = self._script
            if callable(script):
                async with aclosing(cast(Any, script(input, context))) as items:
                    async for event in items:
                        self._reach()
                        yield event
                return
            yields = Yields(context)
            for step in script:
                self._reach()
                match step:
                    case anyio.Event():
                        await step.wait()
                    case Pause(seconds):
                        await self._sleep(seconds)
                    case BaseException():
                        raise step
                    case _:
                        for event in yields.events(step):
                            yield event
            for event in yields.finish():
                yield event
        finally:
            self.open -= 1

    async def wait_reached(self, steps: int) -> None:
        """Until `steps` steps have begun, counted over all runs."""
        while self.reached < steps:
            await self._moved.wait()

    def _reach(self) -> None:
        self.reached += 1
        moved, self._moved = self._moved, anyio.Event()
        moved.set()


class Collected(list[Event]):
    """The events of one run, in the order in which they would be in the log, and how the run left off."""

    input: RunInput
    saved: AgentState | None
    error: Exception | None
    cancelled: bool
    state: Any

    @property
    def text(self) -> str:
        """What a person reads as the answer."""
        return "".join(event.delta for event in self if isinstance(event, e.TextMessageContent))

    @property
    def types(self) -> list[str]:
        return [event.type for event in self]

    @property
    def interrupts(self) -> list[e.Interrupt]:
        return [event.interrupt for event in self if isinstance(event, e.InterruptRequested)]

    @property
    def turn(self) -> Turn:
        """This run as a later one finds it in its history."""
        return Turn(self._folded(), self.saved)

    def _folded(self) -> TranscriptRun:
        input = self.input
        started = e.RunStarted(
            thread_id=input.thread,
            agent=input.agent,
            input={
                "threadId": input.thread,
                "runId": input.run,
                "messages": [msgspec.to_builtins(message) for message in input.messages],
            },
        )
        ended: list[Event] = []
        if self.error is not None:
            code, message = describe(self.error)
            ended = [e.RunError(message=message, code=code)]
        elif self.cancelled:
            ended = [e.RunFinished(thread_id=input.thread, outcome=e.Outcome(type="cancelled"))]
        elif not self or not isinstance(self[-1], e.RunFinished):
            ended = [e.RunFinished(thread_id=input.thread)]
        log = [e.stamp(e.of_run(event, input.run), seq, seq) for seq, event in enumerate([started, *self, *ended], 1)]
        return fold(Transcript(), log).runs[0]


_numbers = itertools.count(1)


async def collect(
    agent: Agent,
    text: str | None = None,
    *,
    history: Sequence[Collected | Turn] = (),
    resume: Collected | None = None,
    answers: Sequence[Answer] | Mapping[str, Any] = (),
    catch: bool = False,
    cancel_after: Callable[[Event], bool] | None = None,
    cancel_when: anyio.Event | None = None,
    app: Mapping[str, Any] | None = None,
    state: Any = None,
    principal: Principal | None = None,
    run: str | None = None,
    ask: Callable[[e.Interrupt], Any] | None = None,
    timeout_s: float = 10.0,
) -> Collected:
    """Run `agent` once, as the runner would, and collect its events (its own: no RUN_STARTED, nothing closed for it).

    Args:
        text: the message; None when only answers are given.
        history: the runs on the path to this one, oldest first. With `resume` that run is added at the end.
        resume: the waiting run to go on with; `answers` answers it, as `Answer`s or as payloads by interrupt id.
        catch: keep the agent's exception in `.error` instead of raising it.
        cancel_after: stop the run once an event satisfies this.
        cancel_when: stop the run once this is set, wherever the agent stands.
        ask: who answers `run.ask` and its like, at once and in the same run: gives a payload, or an `Answer` for a no.

    Raises:
        TimeoutError: the agent took longer than `timeout_s`.
    """
    if not isinstance(answers, Mapping):
        given = tuple(answers)
    else:
        given = tuple(Answer(interrupt_id=id, status="resolved", payload=payload) for id, payload in answers.items())
    number = next(_numbers)
    path = [*history, *([resume] if resume is not None and not any(item is resume for item in history) else [])]
    input = RunInput(
        thread="thread-1",
        run=run or f"run-{number}",
        agent=agent.name,
        messages=() if text is None else (Message(id=f"message-{number}", content=text),),
        resumes=resume.input.run if resume is not None else None,
        answers=given,
    )
    collected = Collected()
    ids = itertools.count(1)
    scope = anyio.CancelScope()

    async def emit(event: Event) -> None:
        collected.append(event)
        if cancel_after is not None and cancel_after(event):
            scope.cancel()
        await anyio.lowlevel.checkpoint()

    async def answered(questions: Sequence[Asked], state: Callable[[str], AgentState]) -> Sequence[Answer]:
        if ask is None:
            raise AgentError("Nobody can be asked here: give `ask` to collect().", code="cannot_ask")
        given: list[Answer] = []
        for question in questions:
            asked = sum(isinstance(event, e.InterruptRequested) for event in collected)
            interrupt = msgspec.structs.replace(question.interrupt, id=f"{input.run}.{asked + 1}")
            hashed = UNSET if question.args_hash is None else question.args_hash
            await emit(e.InterruptRequested(interrupt=interrupt, args_hash=hashed))
            answer = ask(interrupt)
            if not isinstance(answer, Answer):
                answer = Answer(interrupt_id=interrupt.id, status="resolved", payload=answer)
            given.append(answer)
        return given

    async def past() -> Sequence[Turn]:
        return [item.turn if isinstance(item, Collected) else item for item in path]

    context = RunContext(
        input=input,
        principal=principal or Principal(),
        new_id=lambda: f"{input.run}-{next(ids)}",
        emit=emit,
        history=past,
        app=app,
        state=state,
        park=answered,
    )
    collected.input, collected.error, collected.cancelled = input, None, False

    async def watch(wanted: anyio.Event) -> None:
        await wanted.wait()
        scope.cancel()

    with anyio.fail_after(timeout_s):
        async with anyio.create_task_group() as tasks:
            with scope:
                if cancel_when is not None:
                    tasks.start_soon(watch, cancel_when)
                try:
                    async with aclosing(cast(Any, agent.run(input, context))) as items:
                        async for event in items:
                            await emit(event)
                except Exception as error:
                    collected.error = error
            tasks.cancel_scope.cancel()
    collected.cancelled = scope.cancelled_caught
    collected.saved, collected.state = context.saved, context.state
    if collected.error is not None and not catch:
        raise collected.error
    return collected
