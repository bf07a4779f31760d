"""The open message of a run: turns loose pieces of text and thinking into balanced START, CONTENT and END events.

A run has at most one draft open, a text or a thought. Writing the other kind, or anything that stands beside messages
(a tool call, somebody else's message, the end), closes it first; later text opens a new message with a new id. So the
order of the events is the order in which a person reads them. No I/O: the caller puts the returned events into the log.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from runcast import events as e
from runcast.events import Event
from runcast.ids import IdSource

Incomplete = Literal["cancelled", "failed", "interrupted"]

BESIDE: tuple[type[Event], ...] = (
    e.TextMessageStart, e.TextMessageChunk, e.ReasoningStart, e.ReasoningMessageStart, e.ReasoningMessageChunk,
    e.ToolCallStart, e.ToolCallChunk, e.StepStarted, e.StepFinished, e.SubagentStarted, e.SubagentFinished,
    e.InterruptRequested, e.RunSteered, e.RunFinished, e.RunError,
)  # fmt: skip
"""What a draft must not be open across. State, sources, artifacts and progress may come in the middle of a text."""


class Draft:
    def __init__(self, new_id: IdSource, speaker: Callable[[], object] = lambda: None) -> None:
        """What another `speaker` says goes into a message of its own."""
        self._new_id = new_id
        self._speaker = speaker
        self._spoke: object = None
        self._text: str | None = None
        self._thought: str | None = None

    def text(self, delta: str) -> list[Event]:
        """A piece of the answer. An empty piece writes nothing and opens nothing."""
        if not delta:
            return []
        events = self._changed()
        if self._text is None:
            events += self.close()
            self._text = self._new_id()
            events.append(e.TextMessageStart(message_id=self._text))
        events.append(e.TextMessageContent(message_id=self._text, delta=delta))
        return events

    def thought(self, delta: str) -> list[Event]:
        """A piece of thinking, into the open thought if there is one."""
        if not delta:
            return []
        events = self._changed()
        if self._thought is None:
            events += self.close()
            self._thought = self._new_id()
            events.append(e.ReasoningStart(message_id=self._thought))
            events.append(e.ReasoningMessageStart(message_id=self._thought, role="reasoning"))
        events.append(e.ReasoningMessageContent(message_id=self._thought, delta=delta))
        return events

    def _changed(self) -> list[Event]:
        before, self._spoke = self._spoke, self._speaker()
        return [] if before == self._spoke else self.close()

    def close(self) -> list[Event]:
        """End what is open, if anything is."""
        if self._text is not None:
            message, self._text = self._text, None
            return [e.TextMessageEnd(message_id=message)]
        if self._thought is not None:
            message, self._thought = self._thought, None
            return [e.ReasoningMessageEnd(message_id=message), e.ReasoningEnd(message_id=message)]
        return []

    def before(self, event: Event) -> list[Event]:
        """What has to be in the log before `event`."""
        return self.close() if isinstance(event, BESIDE) else []
