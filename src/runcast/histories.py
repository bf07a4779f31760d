"""Histories that clients bring: where what they send belongs in a thread that the server keeps itself. Pure.

Clients of AG-UI, the AI SDK and OpenAI's Chat Completions send the whole conversation with each request. `place` finds how much
of it the thread's log has, and what the rest asks for. `rendered` is the opposite: a path of runs as such a client has it.

Messages are in AG-UI 1.0's shape, `{id, role, content, toolCalls?, toolCallId?, error?}`. A user message is known by its id and
text; an assistant message by the id of one of its texts, of a tool call in it, or of its run; a tool message by its `toolCallId`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple, cast

import msgspec

from runcast.errors import InvalidRequest
from runcast.parts import (
    ActivityPart,
    InterruptPart,
    ReasoningPart,
    TextPart,
    ToolPart,
    Transcript,
    TranscriptMessage,
    TranscriptRun,
)
from runcast.paths import path_to

AgUiMessage = Mapping[str, Any]

MAX_MESSAGES: Final = 10_000
"""Longest history that is taken."""
MAX_STEPS: Final = 500_000
"""From run to run, while a history is placed: some for each message and for each run, if it is one of this thread."""

Action = Literal["send", "return", "resolve", "retry", "nothing"]


class Placed(NamedTuple):
    """What a client's history asks for.

    - `send`: `new` was said. It follows `parent_run`; None with `known` 0: nothing is known, so it follows whatever the thread
      follows; None otherwise: it is another root, to be made by editing `edited`.
    - `return`: `tool_results` came of calls that `run` left to the client, and `new` was said with them, if anything.
    - `resolve`: `answers` answer open interrupts of `run`, which asked for what came of its calls.
    - `retry`: the history ends where `run` began: it is asked again.
    - `nothing`: the log has it all.
    """

    action: Action
    parent_run: str | None
    """The end of what is known: the newest run below it that has no message of a person is where it ends."""
    run: str | None = None
    edited: str | None = None
    """Of a `send`: the run that stands where this one would: the history goes on otherwise than the log. The newest that the
    head run's path has, else the newest."""
    new: tuple[dict[str, Any], ...] = ()
    """User messages, oldest first. One that has the id of another message of the thread gets one of its own (`edited_id`)."""
    tool_results: tuple[dict[str, Any], ...] = ()
    answers: tuple[tuple[str, dict[str, Any]], ...] = ()
    """Interrupts by id, and the tool message that answers each."""
    unknown: tuple[dict[str, Any], ...] = ()
    """What the log never saw and nobody says now: for the agent, as `ClientInput.history`. Oldest first."""
    known: int = 0
    """How many of the messages the log has."""


def place(transcript: Transcript, messages: Sequence[AgUiMessage]) -> Placed:
    """Where a client's history belongs in the thread.

    Of runs that a message could belong to (a retry asks the same under the same id) the one on the way to what follows
    counts, then one on the path to the head run, then the newest. Messages that clients make up for themselves (errors,
    greetings) may stand anywhere among the known ones. Linear in the history, if it is one of this thread.

    Raises:
        InvalidRequest: it jumps to and fro in a long thread: more than `MAX_STEPS` for nobody's conversation.
    """
    return _Placing(transcript).place(messages)


def edited_id(message: AgUiMessage) -> str:
    """The id in the log of a user message that has a known one's id and another text: the same for the same text."""
    digest = hashlib.sha256(msgspec.json.encode(message.get("content"), order="sorted")).hexdigest()[:12]
    return f"{str(message.get('id'))[:100]}:{digest}"


def newest(messages: Sequence[AgUiMessage], max_bytes: int) -> tuple[dict[str, Any], ...]:
    """The newest messages that fit in `max_bytes` of JSON, in their order."""
    kept: list[dict[str, Any]] = []
    for message in reversed(messages):
        max_bytes -= len(msgspec.json.encode(message)) + 1
        if max_bytes < 0:
            break
        kept.append(dict(message))
    return tuple(reversed(kept))


def rendered(runs: Iterable[TranscriptRun]) -> list[dict[str, Any]]:
    """Runs of one path as a client of AG-UI has them: an assistant message for each text and for tool calls in a row, tool
    messages behind those. Thoughts, artifacts and the like are left out, and so are results that are not there."""
    messages: list[dict[str, Any]] = []
    for run in runs:
        for message in run.messages:
            if message.id == run.id and message.role == "assistant":
                messages += _answer(message)
            elif message.parts:
                messages.append({"id": message.id, "role": message.role, "content": _content(message)})
    return messages


def _answer(message: TranscriptMessage) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    calls: dict[str, Any] | None = None
    results: list[dict[str, Any]] = []
    for part in message.parts:
        if isinstance(part, ToolPart):
            if calls is None:
                calls = {"id": part.id, "role": "assistant", "toolCalls": []}
                messages.append(calls)
            function = {"name": part.name, "arguments": part.args or "{}"}
            calls["toolCalls"].append({"id": part.id, "type": "function", "function": function})
            if part.content is not None:
                result = {"id": f"{part.id}.result", "role": "tool", "toolCallId": part.id, "content": part.content}
                results.append(result if part.error is None else {**result, "error": part.error})
        elif isinstance(part, TextPart):
            messages += results
            calls, results = None, []
            if part.text:
                messages.append({"id": part.id, "role": "assistant", "content": part.text})
        elif isinstance(part, ActivityPart) and part.activity_type == "steer":
            messages += results
            calls, results = None, []
            messages.append({**part.content, "id": part.id, "role": "user"})
    return [*messages, *results]


def _content(message: TranscriptMessage) -> str | list[dict[str, Any]]:
    if len(message.parts) == 1 and isinstance(message.parts[0], TextPart):
        return message.parts[0].text
    return [
        {"type": "text", "text": part.text} if isinstance(part, TextPart) else part.content
        for part in message.parts
        if isinstance(part, TextPart | ActivityPart)
    ]


# --- placing ----------------------------------------------------------------------------------------------------------


class _Placing:
    """One transcript, and who owns which id in it."""

    def __init__(self, transcript: Transcript) -> None:
        self.runs = {run.id: run for run in transcript.runs if not run.dequeued}
        self.order = {id: place for place, id in enumerate(self.runs)}
        self.head_path = {run.id for run in path_to(transcript)}
        self.children: dict[str | None, list[str]] = {}
        self.asked: dict[str, list[tuple[str, tuple[str, int]]]] = {}
        """Runs that were asked with a user message, by its id, and what it said."""
        self.made: dict[str, list[str]] = {}
        """Runs that made something with an id."""
        self.tools: dict[str, list[tuple[str, ToolPart]]] = {}
        self.silent: set[str] = set()
        """Runs that nobody said anything to: they go on with answers or results."""
        self._steps = MAX_STEPS
        for run in self.runs.values():
            parent = run.parent if run.parent in self.runs else None
            self.children.setdefault(parent, []).append(run.id)
            self._index(run)

    def _index(self, run: TranscriptRun) -> None:
        made = {run.id}
        said = False
        for message in run.messages:
            if message.role == "user" and message.id != run.id:
                said = True
                self.asked.setdefault(message.id, []).append((run.id, _said(_content(message))))
                continue
            made.add(message.id)
            for part in message.parts:
                if isinstance(part, ToolPart):
                    self.tools.setdefault(part.id, []).append((run.id, part))
                if isinstance(part, ActivityPart) and part.activity_type == "steer":
                    content = part.content.get("content") or ""
                    self.asked.setdefault(part.id, []).append((run.id, _said(content)))
                elif isinstance(part, TextPart | ReasoningPart | ToolPart | ActivityPart):
                    made.add(part.id)
        for id in made:
            self.made.setdefault(id, []).append(run.id)
        if not said:
            self.silent.add(run.id)

    def place(self, messages: Sequence[AgUiMessage]) -> Placed:
        begins = next((at for at, message in enumerate(messages) if self._owners(message)), None)
        if begins is None:
            return self._placed(messages, 0, 0, [], 0, None)
        ends: list[str] = []
        known, end = 0, begins
        passed: set[tuple[str, str]] = set()
        """Ids that were met already: met again, it is the same id in a later run."""
        last: AgUiMessage | None = None
        for at in range(begins, len(messages)):
            message = messages[at]
            role = message.get("role")
            name = str(message.get("id"))
            owners = [run for run in self._owners(message) if (run, name) not in passed]
            reached = self._reached(ends, owners, asks=role == "user")
            if role == "tool":
                part = self._call(ends, message)
                if part is not None and not _is_answered(part):
                    break
                reached = ends if part is not None else []
            if reached:
                known, end, last, ends = known + 1, at + 1, message, reached
                passed.update((run, id) for run in reached if role != "tool" for id in (name, *_called(message)))
            elif role == "user":
                break
        return self._placed(messages, begins, end, ends, known, last)

    def _placed(
        self,
        messages: Sequence[AgUiMessage],
        begins: int,
        end: int,
        ends: list[str],
        known: int,
        last: AgUiMessage | None,
    ) -> Placed:
        rest = [dict(message) for message in messages[end:]]
        cut = _spoken(rest)
        new = tuple(self._renamed(message) for message in rest[cut:] if message.get("role") == "user")
        at = self._best(ends)
        leaf = self._leaf(at)
        results: list[dict[str, Any]] = []
        answers: list[tuple[str, dict[str, Any]]] = []
        left: str | None = None
        for message in rest:
            part = self._call(ends, message) if message.get("role") == "tool" else None
            if part is None or _is_answered(part):
                continue
            owner = self._owner(ends, part)
            if part.client:
                results.append(message)
                left = self._end_of_chain(owner)
            elif (interrupt := self._asks(owner, part)) is not None:
                answers.append((interrupt, message))
                left = left or owner
        given = {id(message) for message in (*results, *(message for _, message in answers))}
        context = [dict(message) for message in messages[:begins]]
        context += [
            message
            for place, message in enumerate(rest)
            if not (id(message) in given or (place >= cut and message.get("role") == "user"))
        ]
        common: dict[str, Any] = {"new": new, "unknown": tuple(context), "known": known}
        if results:
            return Placed("return", left, run=left, tool_results=tuple(results), **common)
        if answers:
            return Placed("resolve", left, run=left, answers=tuple(answers), **common)
        if new:
            return Placed("send", leaf, edited=self._edited(leaf, known, rest[cut:]), **common)
        if last is not None and last.get("role") == "user" and at is not None:
            return Placed("retry", self.runs[at].parent, run=at, **common)
        if last is not None and last.get("role") == "tool":
            part = self._call(ends, last)
            again = None if part is None or not part.client else self._best(self._goes_on(self._owner(ends, part)))
            if again is not None:
                return Placed("retry", self.runs[again].parent, run=again, **common)
        return Placed("nothing", leaf, run=leaf, **common)

    # --- whose is it ----------------------------------------------------------------------------------------------

    def _owners(self, message: AgUiMessage) -> list[str]:
        id = message.get("id")
        match message.get("role"):
            case "user":
                said = _said(message.get("content"))
                found = [run for run, known in self.asked.get(str(id), []) if known == said]
                return found or [run for run, known in self.asked.get(edited_id(message), []) if known == said]
            case "tool":
                return [run for run, _ in self.tools.get(str(message.get("toolCallId")), [])]
            case _:
                by_calls = (run for call in _called(message) for run, _ in self.tools.get(call, []))
                return self.made.get(str(id), []) or list(by_calls)

    def _reached(self, ends: Sequence[str], owners: Sequence[str], *, asks: bool) -> list[str]:
        """The nearest of `owners` to which the history may have come from `ends`; directly, if there are such: no message of a
        person lies between, but with `asks` the one that began the run."""
        self._step(len(ends) + len(owners))
        starts = set(ends)
        found: dict[str, tuple[bool, int]] = {}
        for owner in dict.fromkeys(owners):
            run, direct = owner, True
            seen: set[str] = set()
            while run not in starts and run not in seen:
                self._step()
                seen.add(run)
                parent = self.runs[run].parent
                direct = direct and ((asks and run == owner) or run in self.silent)
                if parent is None or parent not in self.runs:
                    break
                run = parent
            if run in starts or not starts:
                found[owner] = (not direct, len(seen))
        nearest = min(found.values(), default=None)
        return [owner for owner, distance in found.items() if distance == nearest]

    def _call(self, ends: Sequence[str], message: AgUiMessage) -> ToolPart | None:
        """The tool call that a tool message answers: of the runs where the history may be, or of those before them."""
        found = self._calls(ends, str(message.get("toolCallId")))
        return found[1] if found is not None else None

    def _owner(self, ends: Sequence[str], part: ToolPart) -> str:
        found = self._calls(ends, part.id)
        assert found is not None
        return found[0]

    def _calls(self, ends: Sequence[str], call: str) -> tuple[str, ToolPart] | None:
        owners = dict(self.tools.get(call, []))
        if not owners:
            return None
        best: tuple[str, ToolPart] | None = None
        self._step(len(ends) + len(owners))
        for end in sorted(ends, key=self._rank):
            run: str | None = end
            seen: set[str] = set()
            while run is not None and run in self.runs and run not in seen:
                self._step()
                if run in owners:
                    best = (run, owners[run])
                    break
                seen.add(run)
                run = self.runs[run].parent
        if best is None and not ends:
            run = max(owners, key=self._rank)
            best = (run, owners[run])
        return best

    def _asks(self, run: str, part: ToolPart) -> str | None:
        """The open interrupt that asks for what comes of a call."""
        if self.runs[run].status != "waiting":
            return None
        for message in self.runs[run].messages:
            for one in message.parts:
                if isinstance(one, InterruptPart) and one.tool_call_id == part.id and one.status == "open":
                    return one.id if one.reason == "input_required" else None
        return None

    def _step(self, count: int = 1) -> None:
        self._steps -= count
        if self._steps < 0:
            raise InvalidRequest("This history does not fit the conversation; send only what is new.")

    # --- where does it end ----------------------------------------------------------------------------------------

    def _rank(self, run: str) -> tuple[bool, int]:
        return run in self.head_path, self.order[run]

    def _best(self, runs: Iterable[str]) -> str | None:
        return max(runs, key=self._rank, default=None)

    def _leaf(self, run: str | None) -> str | None:
        """The newest run to which nobody said anything more."""
        seen: set[str] = set()
        while run is not None and run not in seen:
            seen.add(run)
            below = self._best(one for one in self.children.get(run, []) if one in self.silent)
            if below is None:
                return run
            run = below
        return run

    def _end_of_chain(self, run: str) -> str:
        """The last of the runs that go on with each other's answers."""
        seen: set[str] = set()
        while run not in seen:
            seen.add(run)
            run = self._best(one for one in self.children.get(run, []) if self.runs[one].resumes == run) or run
        return run

    def _goes_on(self, run: str) -> list[str]:
        """The runs that went on with what came of a run's calls."""
        end = self._end_of_chain(run)
        return [one for one in self.children.get(end, []) if one in self.silent and self.runs[one].resumes is None]

    def _edited(self, parent: str | None, known: int, new: Sequence[AgUiMessage]) -> str | None:
        first = next((message for message in new if message.get("role") == "user"), None)
        same = [] if first is None else [run for run, _ in self.asked.get(str(first.get("id")), [])]
        if same and (parent is None or any(self.runs[run].parent == parent for run in same)):
            return self._best(run for run in same if parent is None or self.runs[run].parent == parent)
        if parent is None and not known:
            return None
        return self._best(one for one in self.children.get(parent, []) if one not in self.silent)

    def _renamed(self, message: dict[str, Any]) -> dict[str, Any]:
        return {**message, "id": edited_id(message)} if str(message.get("id")) in self.asked else message


def _said(content: Any) -> tuple[str, int]:
    """What tells two user messages of one id apart: the text, and how much came with it."""
    if isinstance(content, str):
        return content, 0
    given = cast(list[Any], content) if isinstance(content, list | tuple) else []
    parts = [cast(Mapping[str, Any], part) for part in given if isinstance(part, Mapping)]
    texts = [str(part.get("text", "")) for part in parts if part.get("type") == "text"]
    return "\n".join(texts), len(parts) - len(texts)


def _called(message: AgUiMessage) -> list[str]:
    """The ids of the tool calls in an assistant message."""
    calls: Any = message.get("toolCalls")
    given = cast(list[Any], calls) if isinstance(calls, list) else []
    return [str(cast(Mapping[str, Any], call).get("id")) for call in given if isinstance(call, Mapping)]


def _is_answered(part: ToolPart) -> bool:
    """Whether nothing can come of a call any more. One that was cut short (`cancelled`, `interrupted`) has no result, but
    protocols without a word for that tell it as failed, and their clients send it back as if it had."""
    if part.content is not None or part.status in ("done", "failed", "denied"):
        return True
    return part.status in ("cancelled", "interrupted") and not part.client


def _spoken(rest: Sequence[AgUiMessage]) -> int:
    """Where in `rest` that begins which is said now: behind the last message of an assistant or a tool."""
    return next(
        (at + 1 for at in range(len(rest) - 1, -1, -1) if rest[at].get("role") in ("assistant", "tool", "reasoning")), 0
    )
