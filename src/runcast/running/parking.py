"""Agents that wait in memory for a person: a plain function that asked goes on where it stood.

The run that asked ends as *waiting* on the log; its agent's task stays, and the run that the answer starts continues it.
Nothing is promised to an agent that is parked: when the process ends, or nobody wants the answer any more, it is cancelled.
One that can be called again with the answer (a resumable function) needs no place: when all are taken it ends where it asked.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import msgspec
from msgspec import UNSET

from runcast import events as e
from runcast.agents.asking import ASKED, Asked
from runcast.agents.base import Agent
from runcast.agents.context import RunContext
from runcast.errors import AgentError, RunEnded
from runcast.events import Event
from runcast.forms import Fault
from runcast.ids import Clock
from runcast.running.question import date
from runcast.running.recorder import storable
from runcast.runs import AgentState, Answer, RunInput

if TYPE_CHECKING:
    from runcast.running.execution import Execution


class Parking:
    """The parked agents of this node, by the run that asked."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._by_run: dict[str, Execution] = {}

    def __len__(self) -> int:
        return len(self._by_run)

    def __contains__(self, run: str) -> bool:
        return run in self._by_run

    @property
    def is_full(self) -> bool:
        return len(self._by_run) >= self._limit

    def put(self, execution: Execution) -> None:
        """
        Raises:
            AgentError: code `too_many_waiting`.
        """
        if self.is_full:
            raise AgentError(
                f"{len(self._by_run)} agents wait for answers on this server already; try again later.",
                code="too_many_waiting",
                retryable=True,
            )
        self._by_run[execution.input.run] = execution

    def take(self, run: str | None) -> Execution | None:
        """The execution of this run, to go on with; it is parked no longer."""
        return self._by_run.pop(run or "", None)

    def fault(self, run: str, interrupt: str, payload: Any) -> Fault | None:
        """What the parked agent itself has against an answer."""
        execution = self._by_run.get(run)
        return None if execution is None else execution.asking.fault(interrupt, payload)

    def discard(self, run: str) -> None:
        """Nobody wants its answer any more: the agent is cancelled where it waits."""
        execution = self._by_run.pop(run, None)
        if execution is not None:
            execution.asking.leave(execution)

    async def clear(self, deadline_s: float) -> None:
        """Cancel all and wait for their clean-up. Their runs stay *waiting* on the log."""
        left = list(self._by_run.values())
        for run in tuple(self._by_run):
            self.discard(run)
        with anyio.move_on_after(deadline_s):
            for execution in left:
                await execution.driver.done.wait()


class Asking:
    """How one agent asks, over all the runs in which it goes on. `driver` is the execution whose task it is."""

    def __init__(self, driver: Execution, parking: Parking, clock: Clock) -> None:
        self._driver = driver
        self._parking = parking
        self._clock = clock
        self._turn = anyio.Lock()
        """Who asks while another question is open waits until that is answered."""
        self._gone_on = anyio.Event()
        self._answers: Sequence[Answer] = ()
        self._checks: dict[str, Callable[[Any], Fault | None]] = {}

    async def ask(self, questions: Sequence[Asked], state: Callable[[str], AgentState]) -> Sequence[Answer]:
        """End the run as *waiting* with these questions; the answers, in their order, once a run goes on with them."""
        async with self._turn:
            await anyio.lowlevel.checkpoint()
            execution = self._driver.now
            run = execution.input.run
            asked: list[e.Interrupt] = []
            self._checks = {}
            for number, one in enumerate(questions, 1):
                interrupt = msgspec.structs.replace(one.interrupt, id=f"{run}.{number}")
                if one.expires_in_s is not None:
                    expires_at = self._clock.now_ms() + max(1, int(one.expires_in_s * 1000))
                    interrupt = msgspec.structs.replace(interrupt, expires_at=date(expires_at))
                self._checks[interrupt.id] = one.check
                asked.append(interrupt)
            kept = state(run)
            leaves = bool(kept.data) and self._parking.is_full
            if not leaves:
                self._parking.put(execution)
            try:
                for one, interrupt in zip(questions, asked, strict=True):
                    hashed = UNSET if one.args_hash is None else one.args_hash
                    await execution.emit(e.InterruptRequested(interrupt=interrupt, args_hash=hashed))
                await anyio.lowlevel.checkpoint()  # a cancellation that came meanwhile
                if execution.sealed:
                    raise RunEnded("The run has ended; nobody can be asked any more.")
            except BaseException:
                self._parking.take(run)
                raise
            self._gone_on = anyio.Event()
            if self._driver.clock_limit is not None:
                self._driver.clock_limit.deadline = math.inf
            outcome = e.Outcome(type="interrupt", interrupts=asked)
            finish = storable(e.RunFinished(thread_id=execution.input.thread, outcome=outcome))
            execution.park(finish, kept, leaves=leaves)
            if leaves:
                raise _Left
            await self._gone_on.wait()
            return self._answers

    async def later(self, event: Event) -> None:
        """What the agent gives while it is parked: it waits until the run goes on."""
        await self.unparked()
        await self._driver.now.emit(event)

    async def unparked(self) -> None:
        """Until no question is open."""
        while self._driver.now.parked:
            await self._gone_on.wait()
            await anyio.lowlevel.checkpoint()

    def go_on(self, execution: Execution) -> None:
        """The agent continues in this run."""
        if self._driver.clock_limit is not None:
            self._driver.clock_limit.deadline = anyio.current_time() + execution.limit_s
        self._answers = execution.input.answers
        self._gone_on.set()

    def leave(self, execution: Execution) -> None:
        execution.parked = False
        self._gone_on.set()
        execution.cancel()

    def fault(self, interrupt: str, payload: Any) -> Fault | None:
        check = self._checks.get(interrupt)
        return None if check is None else check(payload)


class _Left(BaseException):
    """Unwinds an agent that asked and does not stay, also out of a tool that a cancellation would not reach."""


class Unparked:
    """Stands before an agent whose waiting run is answered and which is not parked here: the process that held it is gone."""

    def __init__(self, agent: Agent) -> None:
        self.name = agent.name
        self.description = agent.description
        self._agent = agent

    def __getattr__(self, name: str) -> Any:
        """What else it says of itself, such as `on_crash`, is the agent's."""
        return getattr(self._agent, name)

    async def run(self, input: RunInput, context: RunContext) -> AsyncIterator[Event]:
        turns = await context.history()
        state = turns[-1].state if turns and turns[-1].run.id == input.resumes else None
        if needs_memory(self._agent, state):
            raise AgentError(
                "The server was restarted while this question was open, and the agent could not go on from where it stood.",
                code="interrupted",
                retryable=True,
            )
        stream: Any = self._agent.run(input, context)
        if not hasattr(stream, "aclose"):
            async for event in stream:
                yield event
            return
        async with aclosing(stream) as events:
            async for event in events:
                yield event


def needs_memory(agent: Agent | None, state: AgentState | None) -> bool:
    """Whether a waiting run with this state can only go on with the agent that is parked in memory."""
    return state is not None and state.adapter == ASKED and not getattr(agent, "resumable", False)
