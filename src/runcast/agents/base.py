"""The Agent seam: anything that turns an input into an async iterator of events.

What the runner does, so that no adapter has to: RUN_STARTED with the input and exactly one terminal event; `runId`, `seq`
and `timestamp`; the whole text of END events; closing what is open when a run ends in any way; `*_CHUNK` shorthands;
collapsing floods of progress; turning an exception into RUN_ERROR (an `AgentError` keeps its code and sentence, any other
exception becomes `agent_error` with a request id and without its text).

What an adapter does: map one framework's events to the vocabulary with one `match`; close the framework's objects when it
is cancelled (`asyncio.CancelledError` is raised where it awaits: let it pass, the model call and the tools must stop); end,
if it wants to say more than "success", with one `RunFinished` of its own (result, usage, or outcome `interrupt` with the
interrupts it has announced by INTERRUPT_REQUESTED, each with an id of the form `<run id>.<n>`: the run then ends as *waiting*, and the
answers start a run with `resumes` and `answers`. What an answer must be stands in the interrupt's `response_schema`, and is
checked before it is accepted; a form that nothing could be checked against ends the run as `invalid_question`; a question without `expires_at` gets the server's). `context.ask` does all this for an agent that
may wait in memory.

Optional attributes that the runner looks for: `timeout_s`; `on_crash` (`OnCrash`); for `resume` also `kept(turn)`, which says
what of an attempt stays if the agent goes on from it, or None if it cannot; `on_disconnect` (`continue` or `cancel`).
What an adapter may do: say `steerable = True` and read what is said while it runs, by `context.steered()`, or from
`context.handed.unread`, each confirmed by `context.read(message)`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Literal, NamedTuple, Protocol, runtime_checkable

from runcast.agents.context import RunContext
from runcast.events import Event
from runcast.runs import AgentState, RunInput
from runcast.transcript import TranscriptRun

__all__ = ["Agent", "Kept", "OnCrash", "RunContext", "Turn"]

OnCrash = Literal["never", "restart", "resume"]
"""What may be done with a run whose process is gone. never: it ends as *interrupted* · restart: the agent runs again from the
beginning, unless a tool that is not idempotent has begun · resume: the agent goes on from what it kept (`RunContext.checkpoint`)."""


class Kept(NamedTuple):
    """What stays of an attempt when the next one goes on from where it stood: ids as the transcript has them. Everything
    else that it showed is retracted."""

    messages: frozenset[str] = frozenset()
    """Texts and thoughts."""
    calls: frozenset[str] = frozenset()
    """Tool calls, also those without a result."""
    open: frozenset[str] = frozenset()
    """Of the messages, texts that the agent goes on with where they broke off."""
    over: str | None = None
    """Why the run must not go on, as the end of a sentence: it ends then."""


class Turn(NamedTuple):
    """One earlier run on the path that leads to this one: what was seen of it, and the state its adapter saved."""

    run: TranscriptRun
    state: AgentState | None


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
