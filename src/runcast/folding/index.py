"""Where everything is in a transcript, so that no event needs a scan, and the text being gathered."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from msgspec import UNSET

from runcast.events import (
    Event,
)
from runcast.parts import (
    ActivityPart,
    AnyPart,
    ArtifactPart,
    InterruptPart,
    ReasoningPart,
    SourcePart,
    StepPart,
    SubagentPart,
    TextPart,
    ToolPart,
    Transcript,
    TranscriptMessage,
    TranscriptRun,
)
from runcast.runs import RunStatus


class Index:
    """Indexes into one transcript, rebuilt from its shape: they hold nothing that the shape does not."""

    def __init__(self, transcript: Transcript) -> None:
        self.transcript = transcript
        self.runs: dict[str, TranscriptRun] = {}
        self.answers: dict[str, TranscriptMessage] = {}
        self.texts: dict[tuple[str, str], TextPart] = {}
        self.reasoning: dict[tuple[str, str], ReasoningPart] = {}
        self.tools: dict[tuple[str, str], ToolPart] = {}
        self.sources: dict[tuple[str, str], SourcePart] = {}
        self.subagents: dict[tuple[str, str], SubagentPart] = {}
        self.artifacts: dict[str, ArtifactPart] = {}
        self.activities: dict[str, ActivityPart] = {}
        self.interrupts: dict[str, tuple[TranscriptRun, InterruptPart]] = {}
        self.growing: TextPart | ReasoningPart | ToolPart | None = None
        self.pieces: list[str] = []
        self.head_before: str | None = None
        """While the event is applied that a run appeared with: the head run before it."""
        for run in transcript.runs:
            self.runs[run.id] = run
            made = False
            for message in run.messages:
                if message.id == run.id and message.role == "assistant":
                    self.answers[run.id] = message
                    made = True  # input messages stand before it, what the run made from there on
                if made:
                    for part in message.parts:
                        self.index(run, part)

    def index(self, run: TranscriptRun, part: AnyPart) -> None:
        match part:
            case TextPart():
                self.texts[run.id, part.id] = part
            case ReasoningPart():
                self.reasoning[run.id, part.id] = part
            case ToolPart():
                self.tools[run.id, part.id] = part
            case SourcePart():
                self.sources[run.id, part.id] = part
            case SubagentPart():
                self.subagents[run.id, part.id] = part
            case ArtifactPart():
                self.artifacts[part.id] = part
            case ActivityPart():
                self.activities[part.id] = part
            case InterruptPart():
                self.interrupts[part.id] = (run, part)
            case StepPart():
                pass

    def forget(self, run: TranscriptRun, part: AnyPart) -> None:
        """The opposite of `index`."""
        match part:
            case TextPart():
                self.texts.pop((run.id, part.id), None)
            case ReasoningPart():
                self.reasoning.pop((run.id, part.id), None)
            case ToolPart():
                self.tools.pop((run.id, part.id), None)
            case SourcePart():
                self.sources.pop((run.id, part.id), None)
            case SubagentPart():
                self.subagents.pop((run.id, part.id), None)
            case ArtifactPart():
                self.artifacts.pop(part.id, None)
            case ActivityPart():
                self.activities.pop(part.id, None)
            case InterruptPart():
                self.interrupts.pop(part.id, None)
            case StepPart():
                pass

    def run(self, event: Event) -> TranscriptRun | None:
        """The run of an event while it may still change. One that is not known yet is taken for running: the reader came late."""
        if not isinstance(event.run_id, str):
            return None
        run = self.runs.get(event.run_id)
        if run is None:
            return self.add_run(event.run_id, "running")
        return None if run.ended else run

    def add_run(self, id: str, status: RunStatus) -> TranscriptRun:
        run = self.runs[id] = TranscriptRun(id=id, status=status)
        self.transcript.runs.append(run)
        self.head_before, self.transcript.head_run = self.transcript.head_run, id
        return run

    def answer(self, run: TranscriptRun, event: Event) -> TranscriptMessage:
        message = self.answers.get(run.id)
        if message is None:
            message = TranscriptMessage(id=run.id, role="assistant", created_at=given(event.timestamp))
            self.answers[run.id] = message
            run.messages.append(message)
        return message

    def add(self, run: TranscriptRun, event: Event, part: AnyPart) -> None:
        """Put a new part at the end of the run's answer."""
        part.subagent_run_id = given(event.subagent_run_id)
        self.answer(run, event).parts.append(part)
        self.index(run, part)

    def chain(self, run: TranscriptRun) -> Iterator[TranscriptRun]:
        """The run, the waiting run that it goes on with, the one before that …"""
        seen: set[str] = set()
        link: TranscriptRun | None = run
        while link is not None and link.id not in seen:
            yield link
            seen.add(link.id)
            link = self.runs.get(link.resumes) if link.resumes else None

    def tool(self, run: TranscriptRun, id: str) -> ToolPart | None:
        """A tool call of the run, or of a waiting run that it goes on with."""
        for link in self.chain(run):
            if (part := self.tools.get((link.id, id))) is not None:
                return part
        return None

    def left_to_client(self, run: TranscriptRun, id: str) -> ToolPart | None:
        """A tool call that the run before this one left to the client and that has no result yet."""
        parent = self.runs.get(run.parent) if run.parent else None
        part = self.tool(parent, id) if parent is not None else None
        return part if part is not None and part.client and part.content is None else None

    def grow(self, part: TextPart | ReasoningPart | ToolPart, delta: str) -> None:
        if self.growing is not part:
            self.flush()
            self.growing = part
        self.pieces.append(delta)

    def flush(self) -> None:
        if self.growing is None:
            return
        whole = "".join(self.pieces)
        if isinstance(self.growing, ToolPart):
            self.growing.args += whole
        else:
            self.growing.text += whole
        self.growing = None
        self.pieces.clear()


def given(value: Any) -> Any:
    """An optional field of an event as the transcript has it."""
    return None if value is UNSET else value
