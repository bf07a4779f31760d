"""The journal of a resumable agent: what it did so far, so that it can be called again after a restart.

It is kept by a run that waits for an answer, and with `on_crash="resume"` by one under way, each time something is recorded.
What earlier runs of it said is in the log and is not written again; what this run said before it was taken up is compared
(`agents.retold`). Recorded answers, steps and keyed tool results are returned without executing. A run that does something
else than the first time fails with the code `nondeterministic`; it must not go on with results of something else.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import anyio.lowlevel
import msgspec

from runcast import events as e
from runcast.agents import recorded as r
from runcast.agents.asking import ASKED, VERSION, Question, marker
from runcast.agents.base import Turn
from runcast.agents.retold import WORDS, Retold
from runcast.errors import AgentError, Nondeterministic
from runcast.events import Event
from runcast.ids import IdSource
from runcast.runs import AgentState, Answer, Message

NOTHING: Any = object()
"""No result is recorded."""

_step: ContextVar[str | None] = ContextVar("runcast_step", default=None)
"""The step whose work this is."""

_OF_CALL = (e.ToolCallStart, e.ToolCallArgs, e.ToolCallEnd, e.ToolCallProgress, e.ToolCallResult)
_ENDS = (e.RunFinished, e.RunError, e.InterruptRequested)


class Journal:
    """One call of the function: replays what was kept, then records."""

    def __init__(self, recorded: r.Recorded, *, keep: Callable[[bytes], None] | None = None, left: Turn | None = None):
        """`keep` takes the whole journal whenever something was recorded that must survive the process; None: nothing must.
        `left`: what the log shows of this run, if it is taken up again."""
        self._recorded = recorded
        self._keep = keep
        self._replayed = 0
        """How many of the asks were reached again."""
        self._asked = len(recorded.asks)
        """How many of the asks there were when the function was called."""
        self._said = hashlib.sha256()
        self._length = 0
        self._steps: set[str] = set()
        self._calls = list(recorded.calls)
        """Recorded calls that were not made again yet."""
        self._due = {key for key, step in recorded.steps.items() if step.ended and step.inside is None}
        """Recorded steps that were not reached again yet."""
        self._again: dict[str, bool] = {}
        """Calls that are in the log: whether their result is, too."""
        self._beside = 0
        self._looked = 0
        self._counts: dict[str | None, int] = {}
        self._state: Any = None
        self._failure: Nondeterministic | None = None
        self._retold = Retold(recorded, left.run if left is not None else None, self._fail, self.keep)

    @classmethod
    def of_messages(
        cls,
        messages: Sequence[Message],
        run: str,
        *,
        keep: Callable[[bytes], None] | None = None,
        left: Turn | None = None,
    ) -> Journal:
        """The journal of a function that is called for the first time, or of which nothing was recorded."""
        return cls(r.Recorded(messages=list(messages), origin=run), keep=keep, left=left)

    @classmethod
    def of_state(
        cls, state: AgentState, answers: Sequence[Answer], *, keep: Callable[[bytes], None] | None = None
    ) -> Journal:
        """The journal that a waiting run kept, with the answers to what it asked last.

        Raises:
            Nondeterministic: it was kept by another version, or cannot be read.
        """
        recorded = _read(state, ASKED, VERSION)
        if not recorded.asks:
            raise _unreadable("recorded by another version")
        recorded.asks[-1].answers = list(answers)
        recorded.said, recorded.beside = {}, 0  # of the run that is over
        journal = cls(recorded, keep=keep)
        journal.keep()
        return journal

    @classmethod
    def of_checkpoint(cls, left: Turn, *, keep: Callable[[bytes], None]) -> Journal:
        """The journal of a run whose process died.

        Raises:
            Nondeterministic: it was kept by another version, or cannot be read.
        """
        assert left.state is not None
        return cls(_read(left.state, r.JOURNAL, r.VERSION), keep=keep, left=left)

    @property
    def messages(self) -> tuple[Message, ...]:
        """What the agent was asked at first."""
        return tuple(self._recorded.messages)

    @property
    def replaying(self) -> bool:
        """It says and does what an earlier run has in the log."""
        return self._replayed < self._asked

    @property
    def durable(self) -> bool:
        """It is kept against a crash."""
        return self._keep is not None

    def keep(self) -> None:
        """Keep the journal as it stands, with what was emitted so far and what is emitted before anything is awaited.

        Raises:
            AgentError: code `journal_too_large`.
        """
        if self._keep is None:
            return
        data = r.encode(self._recorded)
        if len(data) > r.MAX_BYTES:
            raise AgentError(
                f"The steps of this run have results of more than {r.MAX_BYTES} bytes together, which cannot be kept.",
                code="journal_too_large",
            )
        self._keep(data)

    def state(self, run: str, questions: Sequence[Question]) -> AgentState:
        """What a run keeps that waits for the answers to `questions`."""
        asks = [*self._recorded.asks, r.Ask([one.identity for one in questions], self._mark())]
        return marker(run, r.encode(msgspec.structs.replace(self._recorded, asks=asks)))

    # --- the same from call to call -------------------------------------------------------------------------------

    def ids(self, new_id: IdSource) -> IdSource:
        """Ids that are the same whenever the function is called: of the run in which it was called first, and how many there
        were before, in the same step."""

        def made() -> str:
            if not self._recorded.origin:  # kept by a version that did not know
                return new_id()
            step = _step.get()
            count = self._counts[step] = self._counts.get(step, 0) + 1
            return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{self._recorded.origin}/{step or ''}/{count}"))

        return made

    def state_before(self, state: Any) -> Any:
        """The thread's shared state as the function is to find it; `state` is as it stands."""
        before = self._recorded.state
        self._state = state if before is msgspec.UNSET else before
        return self._state

    def look(self) -> Message | None:
        """The function looks for what was said meanwhile: what it found at this place the first time."""
        if _step.get() is not None:
            return None
        self._looked += 1
        return self._recorded.heard.get(self._looked)

    def hear(self, message: Message) -> None:
        """It found this, just now."""
        if _step.get() is None:
            self._recorded.heard[self._looked] = message

    # --- what is said ---------------------------------------------------------------------------------------------

    def admitted(self, event: Event) -> list[Event]:
        """What of an event is new, under the ids of the log. It must be emitted before anything is awaited."""
        if self._failure is not None:
            raise self._failure
        key = _step.get()
        if isinstance(event, e.TextMessageContent) and key is None:
            self._said.update(event.delta.encode("utf-8", "replace"))
            self._length += len(event.delta)
        if self.replaying:
            return []
        if self._keep is None or isinstance(event, _ENDS):
            return [event]
        if isinstance(event, WORDS):
            return self._retold.take(event, None if key is None else self._recorded.steps.get(key))
        if isinstance(event, _OF_CALL):
            return self._of_call(event)
        return [event] if key is not None or self._is_new(event) else []

    def _of_call(self, event: Event) -> list[Event]:
        assert isinstance(event, _OF_CALL)
        has_result = self._again.get(event.tool_call_id)
        if has_result is None:
            return [event]
        return [event] if isinstance(event, e.ToolCallProgress | e.ToolCallResult) and not has_result else []

    def _is_new(self, event: Event) -> bool:
        """Of what is neither words nor of a tool: it is kept with each how many there were."""
        self._beside += 1
        if self._beside <= self._recorded.beside:
            return False
        self._recorded.beside = self._beside
        if isinstance(event, e.StateSnapshot | e.StateDelta) and self._recorded.state is msgspec.UNSET:
            self._recorded.state = self._state
        self.keep()
        return True

    def through(self, emit: Callable[[Event], Awaitable[None]]) -> Callable[[Event], Awaitable[None]]:
        """`emit` for what is new only."""

        async def passed(event: Event) -> None:
            events = self.admitted(event)
            for one in events:
                await emit(one)
            if not events:
                await anyio.lowlevel.checkpoint()

        return passed

    def _mark(self) -> str:
        return f"{self._length}:{self._said.hexdigest()}"

    # --- asks -----------------------------------------------------------------------------------------------------

    def answers(self, questions: Sequence[Question]) -> tuple[Answer, ...] | None:
        """The recorded answers to these questions; None if they are new.

        Raises:
            Nondeterministic: something else was asked, said or done at this place the first time.
        """
        if not self.replaying:
            self._check_new("it asked something else")
            return None
        known = self._recorded.asks[self._replayed]
        if known.questions != [one.identity for one in questions]:
            raise self._fail("it asked something else")
        if known.text != self._mark():
            raise self._fail("it said something else before it asked")
        self._replayed += 1
        if not self.replaying:
            left = [key for key in self._due if self._recorded.steps[key].asks < self._replayed]
            left += [
                call.key or call.name for call in self._calls if call.inside is None and call.asks < self._replayed
            ]
            if left:
                raise self._fail(f"it did not do {left[0]!r}")
        return tuple(known.answers or ())

    def answered(self, questions: Sequence[Question], answers: Sequence[Answer]) -> None:
        """A run goes on with the answers to what was asked just now."""
        mark = self._mark()
        self._recorded.asks.append(r.Ask([one.identity for one in questions], mark, list(answers)))
        self._asked = self._replayed = len(self._recorded.asks)
        self._recorded.said, self._recorded.beside, self._beside = {}, 0, 0
        self._retold = Retold(self._recorded, None, self._fail, self.keep)
        self.keep()

    # --- steps and tools ------------------------------------------------------------------------------------------

    def step(self, key: str, *, idempotent: bool = False) -> Any:
        """The recorded result of the step, or NOTHING: then it has to be done, and, if it is not idempotent, not before the
        journal is in the store.

        Raises:
            ValueError: the key was used in this call already.
            Nondeterministic: there was no such step the first time.
            AgentError: the step had failed.
        """
        if key in self._steps:
            raise ValueError(f"The key {key!r} is used twice in one run: each step needs its own.")
        self._steps.add(key)
        known = self._recorded.steps.get(key)
        if known is not None and known.ended:
            self._due.discard(key)
            self._retold.skip(known)
            if known.failure is not None:
                raise known.failure.error()
            return known.value
        if known is None:
            self._check_new(f"it did {key!r}")
        asks = self._replayed if known is None else known.asks
        self._recorded.steps[key] = r.Step(idempotent=idempotent, asks=asks, inside=_step.get())
        return NOTHING

    def speaker(self) -> str | None:
        """The step whose work is done here; None: outside of steps."""
        return _step.get()

    def spoke(self, key: str) -> bool:
        """Whether the step said something that the log shows."""
        step = self._recorded.steps.get(key)
        return step is not None and bool(step.words)

    @contextmanager
    def inside(self, key: str) -> Generator[None]:
        """The work of this step is done in the block."""
        token = _step.set(key)
        self._counts.pop(key, None)
        try:
            yield
        finally:
            _step.reset(token)

    def stepped(self, key: str, value: Any = None, failure: r.Failure | None = None) -> None:
        """The step has ended."""
        step = self._recorded.steps[key]
        step.done, step.value, step.failure = failure is None, value, failure
        self.keep()

    def call(self, id: str, name: str, arguments: str, key: str | None, *, idempotent: bool = False) -> tuple[str, Any]:
        """A tool call begins: the id it has in the log, and its recorded result or NOTHING.

        Raises:
            Nondeterministic: there was no such call the first time.
        """
        if key is not None:
            if f"tool:{key}" in self._steps:
                raise ValueError(f"The key {key!r} is used twice in one run: each tool needs its own.")
            self._steps.add(f"tool:{key}")
        for known in self._calls:
            if (known.name, known.arguments, known.key) == (name, arguments, key):
                self._calls.remove(known)
                self._again[known.id] = known.shown
                return known.id, known.value if known.done and key is not None else NOTHING
        self._check_new(f"it called {name!r} with other arguments, or did not call it")
        call = r.Call(id, name, arguments, key, idempotent=idempotent, asks=self._replayed, inside=_step.get())
        self._recorded.calls.append(call)
        return id, NOTHING

    def failure(self, id: str) -> r.Failure | None:
        """How a keyed call failed the first time."""
        return next((call.failure for call in self._recorded.calls if call.id == id and call.key is not None), None)

    def returned(self, id: str, value: Any = None, *, failure: r.Failure | None = None, denied: bool = False) -> None:
        """A tool call has its result; it is emitted before anything is awaited."""
        for call in self._recorded.calls:
            if call.id == id and not (call.ended and call.shown):
                call.shown, call.denied = True, denied
                if call.key is not None and not denied:
                    call.done, call.value, call.failure = failure is None, value, failure
                self.keep()

    def finish(self) -> list[Event]:
        """The function has ended: what has still to be written.

        Raises:
            Nondeterministic: before it came to what was done the first time.
        """
        if self._failure is not None:
            raise self._failure
        if self.replaying:
            raise self._fail("it ended before it asked")
        self._check_new("it ended")
        return self._retold.finish() if self.durable else []

    def _check_new(self, what: str) -> None:
        """Something is done that is not recorded: then nothing may be left that is, outside of steps."""
        if self.replaying:
            raise self._fail(what)
        if _step.get() is None and (self._due or any(call.ended and call.inside is None for call in self._calls)):
            raise self._fail(what)

    def _fail(self, what: str) -> Nondeterministic:
        self._failure = Nondeterministic(
            f"The agent was called again after a restart and did not do what it had done before: this time {what}. "
            "Please ask again."
        )
        return self._failure


def _read(state: AgentState, adapter: str, version: int) -> r.Recorded:
    if (state.adapter, state.version) != (adapter, version):
        raise _unreadable("recorded by another version")
    try:
        return r.decode(state.data)
    except msgspec.DecodeError as error:
        raise _unreadable("recorded in another form") from error


def _unreadable(why: str) -> Nondeterministic:
    return Nondeterministic(f"What this agent did before the restart cannot be read: it was {why}.")
