"""The Agent seam: anything that turns an input into an async iterator of events.

What the runner does, so that no adapter has to: RUN_STARTED with the input and exactly one terminal event; `runId`, `seq`
and `timestamp`; the whole text of END events; closing what is open when a run ends in any way; `*_CHUNK` shorthands;
collapsing floods of progress; turning an exception into RUN_ERROR (an `AgentError` keeps its code and sentence, any other
exception becomes `agent_error` with a request id and without its text).

What an adapter does: map one framework's events to the vocabulary with one `match`; close the framework's objects when it
is cancelled (`asyncio.CancelledError` is raised where it awaits: let it pass, the model call and the tools must stop); end,
if it wants to say more than "success", with one `RunFinished` of its own (result, usage, or outcome `interrupt` with the
interrupts it has announced by INTERRUPT_REQUESTED: the run then ends as *waiting*, and the answers start a run with
`resumes` and `answers`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from runcast.events import Event
from runcast.ids import IdSource
from runcast.runs import AgentState, Principal, RunInput
from runcast.transcript import TranscriptRun


class Turn(NamedTuple):
    """One earlier run on the path that leads to this one: what was seen of it, and the state its adapter saved."""

    run: TranscriptRun
    state: AgentState | None


class RunContext:
    """What a run can see and do beside yielding events. One per run; valid until the run ends."""

    def __init__(
        self,
        *,
        input: RunInput,
        principal: Principal,
        new_id: IdSource,
        emit: Callable[[Event], Awaitable[None]],
        history: Callable[[], Awaitable[Sequence[Turn]]],
        app: Mapping[str, Any] | None = None,
        state: Any = None,
    ) -> None:
        self.input = input
        self.principal = principal
        """Who asked."""
        self.new_id = new_id
        """Ids for messages, tool calls and artifacts."""
        self.app = app if app is not None else {}
        """What the application's lifespan made (connections, clients): the same object for every run."""
        self.state = state
        """The thread's shared state as it stands; change it by STATE_SNAPSHOT or STATE_DELTA."""
        self.saved: AgentState | None = None
        self._emit = emit
        self._history = history

    @property
    def run_id(self) -> str:
        return self.input.run

    @property
    def thread_id(self) -> str:
        return self.input.thread

    async def emit(self, event: Event) -> None:
        """Put an event into the log, in order with what the agent yields. Returns when there is room for more."""
        await self._emit(event)

    async def history(self) -> Sequence[Turn]:
        """The runs on the path to this one, oldest first, without this one."""
        return await self._history()

    def save(self, adapter: str, version: int, data: bytes) -> None:
        """Keep what this run adds to the framework's history; written with the run's terminal event, whatever that is."""
        self.saved = AgentState(run=self.input.run, adapter=adapter, version=version, data=data)


@runtime_checkable
class Agent(Protocol):
    """What can be served. `name` is how clients ask for it: 1-64 characters of `A-Za-z0-9_-`."""

    @property
    def name(self) -> str: ...

    @property
    def description(self) -> str: ...

    def run(self, input: RunInput, context: RunContext) -> AsyncIterator[Event]:
        """Run once. The iterator is closed (`aclose`) when the run is over; it is never restarted."""
        ...
