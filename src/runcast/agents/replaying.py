"""The journal of a resumable agent: what it did up to its last question, so that it can be called again after a restart.

While the journal is replayed nothing enters the log: it is there already. Recorded answers, steps and keyed tool results are
returned without executing; what was said is compared. A run that does something else than the first time fails with the
code `nondeterministic`; it must not go on with answers to other questions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio.lowlevel
import msgspec

from runcast import events as e
from runcast.agents.asking import ASKED, VERSION, Question, marker
from runcast.errors import Nondeterministic
from runcast.events import Event
from runcast.runs import AgentState, Answer, Message

NOTHING: Any = object()
"""No result is recorded."""


class _Ask(msgspec.Struct):
    questions: list[str]
    text: str
    """Length and SHA-256 of all that was said before it."""
    answers: list[Answer] | None = None


class _Call(msgspec.Struct):
    id: str
    name: str
    arguments: str
    key: str | None = None
    done: bool = False
    value: Any = None


class _Step(msgspec.Struct):
    done: bool = False
    value: Any = None


class _Kept(msgspec.Struct):
    messages: list[Message] = []
    asks: list[_Ask] = []
    steps: dict[str, _Step] = {}
    calls: list[_Call] = []


class Journal:
    """One call of the function: replays what was kept, then records."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self._kept = _Kept(list(messages), [], {}, [])
        self._replayed = 0
        """How many of the asks were reached again."""
        self._recorded = 0
        """How many of the asks there were when the function was called."""
        self._said = hashlib.sha256()
        self._length = 0
        self._steps: set[str] = set()
        self._calls: list[_Call] = []
        """Recorded calls that were not made again yet."""
        self._failure: Nondeterministic | None = None

    @classmethod
    def of_state(cls, state: AgentState, answers: Sequence[Answer]) -> Journal:
        """The journal that a waiting run kept, with the answers to what it asked last.

        Raises:
            Nondeterministic: it was kept by another version, or cannot be read.
        """
        journal = cls(())
        try:
            kept = msgspec.json.decode(state.data, type=_Kept)
        except msgspec.DecodeError as error:
            raise Nondeterministic("What this agent did before it asked can no longer be read.") from error
        if (state.adapter, state.version) != (ASKED, VERSION) or not kept.asks:
            raise Nondeterministic("What this agent did before it asked was recorded by another version.")
        kept.asks[-1].answers = list(answers)
        journal._kept = kept
        journal._recorded = len(kept.asks)
        journal._calls = list(kept.calls)
        return journal

    @property
    def messages(self) -> tuple[Message, ...]:
        """What the agent was asked at first."""
        return tuple(self._kept.messages)

    @property
    def replaying(self) -> bool:
        return self._replayed < self._recorded

    def state(self, run: str, questions: Sequence[Question]) -> AgentState:
        """What a run keeps that waits for the answers to `questions`."""
        asks = [*self._kept.asks, _Ask([one.identity for one in questions], self._mark())]
        return marker(run, msgspec.json.encode(msgspec.structs.replace(self._kept, asks=asks)))

    # --- what is said ---------------------------------------------------------------------------------------------

    def passes(self, event: Event) -> bool:
        """Whether the event is new; one that is replayed is in the log already."""
        if self._failure is not None:
            raise self._failure
        if isinstance(event, e.TextMessageContent):
            self._said.update(event.delta.encode("utf-8", "replace"))
            self._length += len(event.delta)
        return not self.replaying

    def through(self, emit: Callable[[Event], Awaitable[None]]) -> Callable[[Event], Awaitable[None]]:
        """`emit` for what is new only."""

        async def passed(event: Event) -> None:
            if self.passes(event):
                await emit(event)
            else:
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
            return None
        known = self._kept.asks[self._replayed]
        if known.questions != [one.identity for one in questions]:
            raise self._fail("it asked something else")
        if known.text != self._mark():
            raise self._fail("it said something else before it asked")
        self._replayed += 1
        if not self.replaying:
            left = [key for key, step in self._kept.steps.items() if step.done and key not in self._steps]
            left += [call.key or call.name for call in self._calls]
            if left:
                raise self._fail(f"it did not do {left[0]!r}")
        return tuple(known.answers or ())

    def answered(self, questions: Sequence[Question], answers: Sequence[Answer]) -> None:
        mark = self._mark()
        self._kept.asks.append(_Ask([one.identity for one in questions], mark, list(answers)))
        self._recorded = self._replayed = len(self._kept.asks)

    # --- steps and tools ------------------------------------------------------------------------------------------

    def step(self, key: str) -> Any:
        """The recorded result of the step, or NOTHING: then it has to be done.

        Raises:
            ValueError: the key was used in this call already.
            Nondeterministic: there was no such step the first time.
        """
        if key in self._steps:
            raise ValueError(f"The key {key!r} is used twice in one run: each step needs its own.")
        self._steps.add(key)
        known = self._kept.steps.get(key)
        if known is not None and known.done:
            return known.value
        if known is None and self.replaying:
            raise self._fail(f"it did {key!r}")
        self._kept.steps[key] = _Step()
        return NOTHING

    def stepped(self, key: str, value: Any) -> None:
        self._kept.steps[key] = _Step(True, value)

    def call(self, id: str, name: str, arguments: str, key: str | None) -> tuple[str, Any]:
        """A tool call begins: the id it has in the log, and its recorded result or NOTHING.

        Raises:
            Nondeterministic: there was no such call the first time.
        """
        if key is not None:
            self.step(f"tool:{key}")
            self.stepped(f"tool:{key}", None)
        if self.replaying:
            for known in self._calls:
                if (known.name, known.arguments, known.key) == (name, arguments, key):
                    self._calls.remove(known)
                    return known.id, known.value if known.done and key is not None else NOTHING
            raise self._fail(f"it called {name!r} with other arguments, or did not call it")
        self._kept.calls.append(_Call(id, name, arguments, key))
        return id, NOTHING

    def returned(self, id: str, value: Any) -> None:
        """A keyed tool call has its result."""
        for call in self._kept.calls:
            if call.id == id and call.key is not None:
                call.done, call.value = True, value

    def finish(self) -> None:
        """The function has ended.

        Raises:
            Nondeterministic: before it came to what was asked the first time.
        """
        if self._failure is not None:
            raise self._failure
        if self.replaying:
            raise self._fail("it ended before it asked")

    def _fail(self, what: str) -> Nondeterministic:
        self._failure = Nondeterministic(
            f"The agent was called again after a restart and did not do what it had done before: this time {what}. "
            "Please ask again."
        )
        return self._failure
