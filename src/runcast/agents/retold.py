"""What an agent says again after a crash, against what the log shows of it: what stands there is not written a second time.

Texts and thoughts are compared piece by piece under their ids. One that goes on gets only what is new, in the message that the
reader saw break off. One that comes out otherwise is taken back and said again as another, unless it had come before something
that is recorded: then the agent is not the one that began this run. No I/O.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

from runcast import events as e
from runcast.agents.recorded import Recorded, Step, words
from runcast.errors import Nondeterministic
from runcast.events import Event
from runcast.parts import ReasoningPart, TextPart, TranscriptRun

Kind = Literal["text", "reasoning"]

_REASONING = (
    e.ReasoningStart,
    e.ReasoningMessageStart,
    e.ReasoningMessageContent,
    e.ReasoningMessageEnd,
    e.ReasoningEnd,
)
_TEXT = (e.TextMessageStart, e.TextMessageContent, e.TextMessageEnd)
WORDS = (*_TEXT, *_REASONING)


class _Item:
    """One text or thought as it is said now."""

    def __init__(self, key: str, id: str, shown: TextPart | ReasoningPart | None, step: Step | None) -> None:
        self.key = key
        """What it is called if nothing of it was ever taken back."""
        self.id = id
        """Its id in the log."""
        self.shown = shown
        """What the log has of it, while it is not known to differ; None: it is new."""
        self.step = step
        """The step that opened it."""
        self.length = 0
        """Code points that were said now."""
        self.opening: list[Event] = []
        self.ended = False


class Retold:
    """The words of one attempt. `take` gives what of an event is to be written."""

    def __init__(
        self,
        recorded: Recorded,
        run: TranscriptRun | None,
        fail: Callable[[str], Nondeterministic],
        keep: Callable[[], None],
    ) -> None:
        self._recorded = recorded
        self._fail = fail
        self._keep = keep
        settled = {id for step in recorded.steps.values() if step.ended for id in step.words}
        self._left: dict[tuple[Kind, str], TextPart | ReasoningPart] = {}
        """What the log shows and was not said again yet, without what steps said that are not done again."""
        for part in words(run) if run is not None else ():
            if part.id in settled:
                continue
            self._left["text" if isinstance(part, TextPart) else "reasoning", part.id] = part
        self._must = {id: length for id, length in recorded.said.items() if any(id == one for _, one in self._left)}
        """Of these, how far it must be the same."""
        self._items: dict[tuple[Kind, str], _Item] = {}
        """By the agent's own ids, the newest of each."""
        self._opened: set[str] = set()

    def take(self, event: Event, step: Step | None) -> list[Event]:
        """`step`: the one whose work says it. What is said outside of steps must be the same the next time.

        Raises:
            Nondeterministic: something else was said here, and what followed is recorded.
        """
        assert isinstance(event, WORDS)
        kind: Kind = "text" if isinstance(event, _TEXT) else "reasoning"
        item = self._items.get((kind, event.message_id))
        opens = isinstance(event, e.TextMessageStart | e.ReasoningStart | e.ReasoningMessageStart)
        out: list[Event] = []
        if item is None or (item.ended and not isinstance(event, e.ReasoningEnd)):
            if isinstance(event, e.TextMessageEnd | e.ReasoningMessageEnd | e.ReasoningEnd):
                return []  # of nothing
            item = self._items[kind, event.message_id] = self._open(kind, event.message_id, step, out)
        if opens:
            item.opening.append(event)
        if item.shown is None:
            out += self._new(item, event)
        elif isinstance(event, e.TextMessageContent | e.ReasoningMessageContent):
            out += self._compared(kind, item, event)
        elif isinstance(event, e.TextMessageEnd | e.ReasoningMessageEnd | e.ReasoningEnd):
            out += self._ended(kind, item, event)
        if item.step is not None:
            if item.id not in item.step.words:
                item.step.words.append(item.id)
        elif step is None:
            said = self._recorded.said
            said[item.id] = max(said.get(item.id, 0), item.length)
        elif isinstance(event, e.TextMessageContent | e.ReasoningMessageContent):
            step.into[item.id] = step.into.get(item.id, 0) + len(event.delta)
        item.ended = item.ended or isinstance(event, e.TextMessageEnd | e.ReasoningMessageEnd)
        return out

    def skip(self, step: Step) -> None:
        """What this step said is not said again, because the step is not done again."""
        for item in self._items.values():
            if item.shown is not None:
                item.length = min(item.length + step.into.get(item.id, 0), len(item.shown.text))

    def finish(self) -> list[Event]:
        """The function has ended: what it did not say again is taken back.

        Raises:
            Nondeterministic: it had come before something that is recorded.
        """
        less = any(item.length < self._must.get(item.id, 0) for item in self._items.values())
        if less or any(id in self._must for _, id in self._left):
            raise self._fail("it said less")
        return self._take_back([])

    def _open(self, kind: Kind, given: str, step: Step | None, out: list[Event]) -> _Item:
        number, id = 1, given
        while id in self._opened:
            number += 1
            id = f"{given}.{number}"
        self._opened.add(id)
        key, id = id, self._recorded.renamed.get(id, id)
        self._opened.add(id)
        shown = self._left.pop((kind, id), None)
        if shown is None:
            out += self._take_back([])
        return _Item(key, id, shown, step)

    def _new(self, item: _Item, event: Event) -> list[Event]:
        if isinstance(event, e.TextMessageContent | e.ReasoningMessageContent):
            item.length += len(event.delta)
        return [_named(event, item.id)]

    def _compared(
        self, kind: Kind, item: _Item, event: e.TextMessageContent | e.ReasoningMessageContent
    ) -> list[Event]:
        assert item.shown is not None
        shown, delta, at = item.shown.text, event.delta, item.length
        if shown.startswith(delta, at):
            item.length += len(delta)
            return []
        rest = shown[at:]
        if item.shown.open and delta.startswith(rest):  # it goes on where it broke off
            item.shown = None
            item.length += len(delta)
            return [_named(msgspec.structs.replace(event, delta=delta[len(rest) :]), item.id)]
        same = next(
            (n for n, (a, b) in enumerate(zip(rest, delta, strict=False)) if a != b), min(len(rest), len(delta))
        )
        out = self._differs(kind, item, at + same)
        item.length += len(delta)
        return [*out, _named(event, item.id)]

    def _ended(self, kind: Kind, item: _Item, event: Event) -> list[Event]:
        assert item.shown is not None
        if item.length < len(item.shown.text):
            return [*self._differs(kind, item, item.length), _named(event, item.id)]
        return [_named(event, item.id)] if item.shown.open else []

    def _differs(self, kind: Kind, item: _Item, at: int) -> list[Event]:
        """Take back what the log shows of it, and say it again as far as it was said now."""
        assert item.shown is not None
        if at < self._must.get(item.id, 0):
            raise self._fail("it said something else")
        text, before, item.shown = item.shown.text[: item.length], item.id, None
        number = 2
        while f"{item.key}.{number}" in self._opened or any(id == f"{item.key}.{number}" for _, id in self._left):
            number += 1
        item.id = self._recorded.renamed[item.key] = f"{item.key}.{number}"
        self._opened.add(item.id)
        length = self._recorded.said.pop(before, None)
        self._must.pop(before, None)
        if length is not None:
            self._recorded.said[item.id] = item.length
        out = [*self._take_back([before]), *(_named(event, item.id) for event in item.opening)]
        if text and kind == "text":
            out.append(e.TextMessageContent(message_id=item.id, delta=text))
        elif text:
            out.append(e.ReasoningMessageContent(message_id=item.id, delta=text))
        self._keep()
        return out

    def _take_back(self, ids: list[str]) -> list[Event]:
        """What was shown of these, and of all that the agent has not said again and need not: it goes another way now."""
        for kind, id in tuple(self._left):
            if id not in self._must:
                del self._left[kind, id]
                ids.append(id)
                self._opened.add(id)
        return [e.MessageRetracted(message_ids=ids, reason="The run was restarted.")] if ids else []


def _named(event: Event, id: str) -> Event:
    assert isinstance(event, WORDS)
    return event if event.message_id == id else msgspec.structs.replace(event, message_id=id)
