"""What a resumable agent's journal holds, as bytes and back, and what of it says that a run must not go on. No I/O.

It is the state of a run that waits for an answer (`asking.ASKED`), and with `on_crash="resume"` the checkpoint of one under way
(`JOURNAL`). Each is the whole journal, so a run of n steps writes it n times; `MAX_BYTES` bounds what that can cost.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from runcast.agents.base import Kept, Turn
from runcast.errors import AgentError
from runcast.parts import ReasoningPart, TextPart, ToolPart, TranscriptRun
from runcast.runs import Answer, Message

JOURNAL = "runcast.journal"
"""The adapter of the checkpoint that a resumable agent's run keeps while it is under way."""
VERSION = 1

MAX_BYTES = 1 << 20
"""Of a journal that is kept against a crash, as JSON."""


class Failure(msgspec.Struct):
    """How a step or a tool failed: it fails in the same way when the function is called again."""

    message: str
    code: str | None = None
    retryable: bool = False
    retry_after_ms: int | None = None

    @classmethod
    def of(cls, sentence: str, error: Exception) -> Failure:
        """Of an error that people may read its own words, of any other only the sentence."""
        if not isinstance(error, AgentError):
            return cls(sentence)
        return cls(error.message, error.agent_code, error.agent_retryable, error.retry_after_ms)

    def error(self) -> AgentError:
        return AgentError(self.message, code=self.code, retryable=self.retryable, retry_after_ms=self.retry_after_ms)


class Ask(msgspec.Struct):
    questions: list[str]
    text: str
    """Length and SHA-256 of all that was said before it, outside of steps."""
    answers: list[Answer] | None = None


class Step(msgspec.Struct, omit_defaults=True):
    done: bool = False
    value: Any = None
    failure: Failure | None = None
    idempotent: bool = False
    words: list[str] = []
    """The log's ids of the texts and thoughts that it said itself: they are not said again."""
    into: dict[str, int] = {}
    """How many code points it said into which others."""
    asks: int = 0
    """How many questions had been answered when it began."""
    inside: str | None = None
    """The step whose work began it."""

    @property
    def ended(self) -> bool:
        return self.done or self.failure is not None


class Call(msgspec.Struct, omit_defaults=True):
    id: str
    name: str
    arguments: str
    key: str | None = None
    done: bool = False
    value: Any = None
    failure: Failure | None = None
    idempotent: bool = False
    denied: bool = False
    """A person did not allow it: nothing was done, and nothing will be the next time."""
    shown: bool = False
    """Its result is in the log."""
    asks: int = 0
    inside: str | None = None

    @property
    def ended(self) -> bool:
        return self.key is not None and (self.done or self.failure is not None)


class Recorded(msgspec.Struct, omit_defaults=True):
    messages: list[Message] = []
    asks: list[Ask] = []
    steps: dict[str, Step] = {}
    calls: list[Call] = []
    origin: str = ""
    """The run in which the function was called first: its ids are made of it, the same ones each time."""
    said: dict[str, int] = {}
    """Code points of each text and thought of this run, by its id in the log, that must be the same when it is said again."""
    renamed: dict[str, str] = {}
    """The log's id of what was taken back and said again under another one."""
    beside: int = 0
    """How many events of this run are in the log that are neither words nor of a tool."""
    heard: dict[int, Message] = {}
    """What was read of what somebody said meanwhile, by how often the function had looked before."""
    state: Any = msgspec.UNSET
    """The thread's shared state as it was when the function was called first; absent as long as it did not change it."""


def encode(recorded: Recorded) -> bytes:
    return msgspec.json.encode(recorded)


def decode(data: bytes) -> Recorded:
    """
    Raises:
        msgspec.DecodeError: it is no journal.
    """
    return msgspec.json.decode(data, type=Recorded)


def kept(turn: Turn) -> Kept | None:
    """What of an attempt stays when the function is called again; None if it had begun and left no journal.

    Without a journal nothing was done that must not be done twice: that waits for the first one, after an answer too. Words stay, and open texts stay open: what is said again is compared with them. Calls stay that are recorded.
    """
    state = turn.state
    if state is None:
        if turn.run.resumes is not None and _has_begun(turn.run):
            return None
        recorded = (
            Recorded()
        )  # of a run that goes on from an answer, the journal of the one that asked is its beginning
    elif (state.adapter, state.version) != (JOURNAL, VERSION):
        return Kept(over="what it had done was recorded by another version")
    else:
        try:
            recorded = decode(state.data)
        except msgspec.DecodeError:
            return Kept(over="what it had done can no longer be read")
    parts = list(words(turn.run))
    return Kept(
        messages=frozenset(part.id for part in parts if isinstance(part, TextPart) or not part.open),
        calls=frozenset(call.id for call in recorded.calls),
        open=frozenset(part.id for part in parts if isinstance(part, TextPart) and part.open),
        over=unknown(recorded),
    )


def unknown(recorded: Recorded) -> str | None:
    """Why the function must not be called again: something had begun that must not be done twice and has no result."""
    for key, step in recorded.steps.items():
        if not (step.ended or step.idempotent or _is_covered(recorded, step)):
            return f"the step {key} must not run twice"
    for call in recorded.calls:
        if not (call.ended or call.idempotent or call.denied or _is_covered(recorded, call)):
            return f"the tool {call.name} must not run twice"
    return None


def words(run: TranscriptRun) -> Iterator[TextPart | ReasoningPart]:
    """The texts and thoughts that the run's agent made, in order."""
    made = False
    for message in run.messages:
        made = made or (message.id == run.id and message.role == "assistant")
        for part in message.parts if made else ():
            if isinstance(part, TextPart | ReasoningPart):
                yield part


def _has_begun(run: TranscriptRun) -> bool:
    """Whether its agent has said or called anything."""
    calls = (part for message in run.messages for part in message.parts if isinstance(part, ToolPart))
    return any(True for _ in words(run)) or any(True for _ in calls)


def _is_covered(recorded: Recorded, entry: Step | Call) -> bool:
    """Whether it belongs to a step that is not done again."""
    outer = None if entry.inside is None else recorded.steps.get(entry.inside)
    return outer is not None and outer.ended
