"""One run under way: the agent on one side, the log on the other, a short bounded buffer between them.

The first event is written at once; what the agent gives while that commit runs is the next group. When the buffer is
full the agent waits: the log's speed is the agent's limit, never the slowest reader's (I8).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any

import anyio

from runcast.agents.base import Agent, RunContext, Turn
from runcast.agents.steering import Steering
from runcast.errors import RunEnded
from runcast.events import Event, Outcome, RunError, RunFinished, StateSnapshot
from runcast.ids import Clock, IdSource
from runcast.running.parking import Asking, Parking
from runcast.running.question import date
from runcast.running.recorder import Recorder, storable
from runcast.running.restarting import policy_of
from runcast.running.watchdog import DRIVEN, Driven
from runcast.runs import AgentState, Brief, OnDisconnect, Principal, RunInput
from runcast.stores.files import Files

BUFFER_EVENTS = 256
SHUTDOWN = "The server was shut down while this run was under way."


class Execution:
    """Drives one agent once. `drive` runs it to its end; `next_group` gives what is to be written."""

    def __init__(
        self,
        agent: Agent,
        input: RunInput,
        principal: Principal,
        *,
        clock: Clock,
        new_id: IdSource,
        history: Callable[[], Awaitable[Sequence[Turn]]],
        app: Mapping[str, Any],
        limit_s: float,
        recorder: Recorder | None = None,
        left: Turn | None = None,
        files: Callable[[], Files] | None = None,
        parking: Parking | None = None,
        answer_timeout_s: float = 86_400.0,
        goes_on: Execution | None = None,
        on_disconnect: OnDisconnect | None = None,
    ) -> None:
        """`goes_on`: the parked execution whose agent continues in this run. `on_disconnect`: what was said of this run."""
        self.agent = agent
        self.input = input
        self.principal = principal
        self.limit_s = limit_s
        self._on_disconnect: OnDisconnect | None = on_disconnect
        self.recorder = recorder or Recorder(input.run)
        self.recorder.date_by(lambda: date(clock.now_ms() + int(answer_timeout_s * 1000)))
        self.handed = Steering() if goes_on is None else goes_on.handed
        """What was said to the agent while it runs, and not read by it."""
        self.driver: Execution = self if goes_on is None else goes_on.driver
        """The execution whose task runs the agent: the first of those in which it goes on."""
        self.now: Execution = self
        """Of a driver: the execution that takes what the agent gives now."""
        self.clock_limit: anyio.CancelScope | None = None
        self.done = anyio.Event()
        """Of a driver: its task has ended."""
        self.parked = False
        """The run is over as *waiting*; its agent waits in memory for the answer."""
        self.leaves = False
        """The run is over as *waiting*; its agent ends, and is called again with the answer."""
        self.asked_state: AgentState | None = None
        if goes_on is None:
            self.asking = Asking(self, Parking(0) if parking is None else parking, clock)
            self.context = RunContext(
                input=input,
                principal=principal,
                new_id=new_id,
                emit=self.emit,
                history=history,
                app=app,
                files=files,
                park=self.asking.ask,
                # What must survive the process is waited for; the others need not wait for the disk.
                flush=None if policy_of(agent) == "never" else self._flush_now,
                left=left,
                on_checkpoint=lambda: self.now.checkpointed(),
                handed=self.handed,
            )
        else:
            self.asking, self.context = goes_on.asking, goes_on.context
            self.recorder.follow(goes_on.recorder)
        self.finish: RunFinished | None = None
        """What the agent itself said at its end: outcome, result, usage."""
        self.error: BaseException | None = None
        self.timed_out = False
        self.cancel_reason: str | None = None
        self.cancelling = False
        self.interrupted: str | None = None
        """A sentence: the server, not a person, stops the run."""
        self.stopped = anyio.Event()
        """The agent has ended; nothing more will come."""
        self.ended = anyio.Event()
        """The run's terminal event is in the log, or its lane is lost."""
        self._clock = clock
        self._scope = anyio.CancelScope()
        self._buffer: list[Event] = []
        self._checkpoint_due = False
        self._settled: asyncio.Event | None = None
        self._sealed = False
        self._offer: Callable[[], None] | None = None
        self._long_way = False
        """`next_group` has given events that may not be in the log yet."""
        self._refused = False
        self._more = asyncio.Event()
        self._room = asyncio.Event()
        if goes_on is not None:
            self.driver.now = self
            self.context.go_on(input)

    @property
    def brief(self) -> Brief:
        """What the run began with."""
        return Brief(
            messages=self.input.messages,
            answers=self.input.answers,
            tool_results=self.input.tool_results,
            client=self.input.client,
            on_disconnect=self._on_disconnect,
        )

    async def emit(self, event: Event) -> None:
        """Take one event of the agent; waits while the buffer is full.

        Raises:
            RunEnded: the run has its terminal event already (a tool that could not be stopped still talks).
        """
        if self._sealed:
            if self.parked or self.driver.now is not self:
                return await self.asking.later(event)
            raise RunEnded("The run has ended; nothing can be added to it.")
        if isinstance(event, RunFinished):
            self.finish = storable(event)
            return
        if isinstance(event, RunError):
            self.finish = None
            self.error = _Reported(storable(event))
            return
        events = self.recorder.take(event, self._clock.monotonic())
        if not events:
            await asyncio.sleep(0)  # who gives only what the log does not need must not keep the event loop to himself
            return
        self._buffer.extend(events)
        if self._offer is not None and not self._long_way:
            self._offer()
        else:
            self._more.set()
        while len(self._buffer) >= BUFFER_EVENTS and not self._sealed:
            self._room.clear()
            await self._room.wait()

    async def take_clients_state(self) -> None:
        """Begin with the shared state as the client has it, if it says one: it may have changed it."""
        state = self.input.client.state
        context = self.context
        if (
            state is None
            or state == {}
            or state == context.state
            or context.left is not None
            or self.driver is not self
        ):
            return
        await self.emit(StateSnapshot(snapshot=state))
        context.state = state

    async def flush(self) -> None:
        """Wait until everything that was emitted so far is in the log.

        Raises:
            RunEnded: it will never be.
        """
        while True:
            if self._sealed:
                raise RunEnded("The run has ended; nothing can be added to it.")
            if not (self._buffer or self._checkpoint_due or self._long_way):
                return
            self._settled = self._settled or asyncio.Event()
            await self._settled.wait()

    async def _flush_now(self) -> None:
        await self.asking.unparked()
        await self.now.flush()

    def _settle(self) -> None:
        if self._settled is not None:
            self._settled.set()
            self._settled = None

    async def drive(self) -> None:
        """Run the agent to its end, its cancellation or its time limit. Never raises for what the agent does."""
        DRIVEN.set(Driven(self.input.run, self.agent.name))
        try:
            with self._scope:
                with anyio.move_on_after(self.limit_s) as limit:
                    self.clock_limit = limit
                    try:
                        async with aclosing(_closable(self.agent.run(self.input, self.context))) as stream:
                            async for event in stream:
                                await self.emit(event)
                    except asyncio.CancelledError as error:
                        task = asyncio.current_task()
                        if task is not None and task.cancelling():
                            raise
                        self.now.error = error  # nobody cancelled us: something inside the agent cancelled itself
                self.now.timed_out = self.now.timed_out or limit.cancelled_caught
        except asyncio.CancelledError:  # not by us: the whole loop is being stopped, or the tasks around this one
            if self.now.interrupted is None and not self.now.cancelling:
                self.now.interrupted = SHUTDOWN
            raise
        except BaseException as error:  # sys.exit() in a tool or a panic in Rust end their run, not the server
            if not self.now.leaves:
                self.now.error = error
        finally:
            self.done.set()
            self.now.stop()

    def stop(self) -> None:
        """Nothing more will come from the agent."""
        self.stopped.set()
        self._more.set()

    def park(self, finish: RunFinished, state: AgentState, *, leaves: bool = False) -> None:
        """The agent asked: its run ends as *waiting*, its task waits for the one that goes on with the answer. With `leaves` it
        ends, and whatever it does on the way out is of no account."""
        self.finish, self.asked_state, self.parked, self.leaves = finish, state, not leaves, leaves
        self.seal()
        self.stop()

    def go_on(self) -> None:
        """The agent that was parked continues in this run."""
        before, task_done = self.driver, self.driver.done.is_set()
        self.asking.go_on(self)
        if task_done:  # it ended without waiting for its own question
            self.error = before.error
            self.stop()

    @property
    def has_ending(self) -> bool:
        """Whether it is known how the run ends: its agent has stopped, or somebody told it to."""
        return self.stopped.is_set() or self.cancelling or self.timed_out or self.interrupted is not None

    @property
    def sealed(self) -> bool:
        """Nothing more is accepted."""
        return self._sealed

    @property
    def asks(self) -> bool:
        """The agent has ended with a question."""
        outcome = None if self.finish is None else self.finish.outcome
        return isinstance(outcome, Outcome) and outcome.type == "interrupt"

    def cancel(self) -> None:
        """Stop the agent where it awaits; not one that is parked. If only detached tools keep it, the run goes without them
        at once."""
        if not self.parked and self.driver.now is self:
            if not self.driver.done.is_set():
                self.driver._scope.cancel()
            if self.context.sheltered.has("detach") and not self.context.sheltered.has("finish"):
                self.seal()

    def give_up(self) -> None:
        """The time limit is over and the agent did not stop: the run ends without it."""
        if not self.stopped.is_set() and not self._sealed:
            self.timed_out = True
            self.abandon()

    def checkpointed(self) -> None:
        """The agent has said how far it is."""
        self._checkpoint_due = True
        self._more.set()

    def offer_by(self, offer: Callable[[], None]) -> None:
        """Call `offer` when there is something to write: whoever it tells may then use `take_now`."""
        self._offer = offer

    def take_now(self) -> list[Event]:
        """What came since the last group; nothing while `next_group` has the word."""
        if self._long_way or self._sealed or self._checkpoint_due:
            return []
        self._settle()
        return self.drain()

    def go_the_long_way(self, events: list[Event]) -> None:
        """`events`, which `take_now` gave, and what follows are to be had from `next_group`."""
        self._buffer[:0] = events
        self._refused = True
        self._more.set()

    async def next_group(self) -> list[Event] | None:
        """What came and was not taken otherwise; None once the agent has stopped and all was given. A checkpoint goes this way
        only, also without events.

        Until the next call nothing can be taken: what this gave may not be in the log yet.
        """
        self._long_way = self._refused = False
        self._settle()
        if self._buffer and self._offer is not None and not self._is_over:
            self._offer()
        while not (self._is_over or self._checkpoint_due or (self._buffer and (self._refused or self._offer is None))):
            self._more.clear()
            await self._more.wait()
        self._long_way = bool(self._buffer) or self._checkpoint_due
        return self.drain() if self._long_way else None

    @property
    def _is_over(self) -> bool:
        return self._sealed or self.stopped.is_set()

    def drain(self) -> list[Event]:
        """What came since the last group, possibly nothing."""
        group, self._buffer = self._buffer, []
        self._checkpoint_due = False
        self._room.set()
        return group

    def seal(self) -> None:
        """Nothing more is accepted: whoever still emits gets `RunEnded`."""
        self._sealed = True
        self._room.set()
        self._more.set()
        self._settle()

    def abandon(self) -> None:
        """The deadline is over: whatever of the run still works is on its own, and its tools are cancelled."""
        self.seal()
        self.context.sheltered.end()


class _Reported(Exception):
    """The agent ended with a RUN_ERROR of its own: its words are meant for the person in the chat."""

    def __init__(self, event: RunError) -> None:
        super().__init__(event.message)
        self.event = event


def reported(error: BaseException) -> RunError | None:
    """The agent's own RUN_ERROR, if that is how it ended."""
    return error.event if isinstance(error, _Reported) else None


def _closable(stream: Any) -> Any:
    """The agent's iterator as something `aclosing` can close; an iterator without `aclose` has nothing to close."""
    if hasattr(stream, "aclose"):
        return stream
    return _Wrapped(stream)


class _Wrapped:
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __aiter__(self) -> Any:
        return self._stream.__aiter__()

    async def aclose(self) -> None:
        return None
