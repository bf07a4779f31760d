"""How each event changes a transcript: the engine under `runcast.transcript.fold`.

Everything the fold needs is in the transcript's shape; the indexes here only make it fast and are rebuilt from it. An
event that makes no sense where it stands changes nothing. No I/O, no clock, no ids of its own.
"""

from __future__ import annotations

from runcast.events import (
    ActivityDelta,
    ActivitySnapshot,
    ArtifactDelta,
    ArtifactSnapshot,
    Event,
    Feedback,
    InterruptRequested,
    InterruptResolved,
    MessagePosted,
    MessageRetracted,
    ReasoningEnd,
    ReasoningMessageContent,
    ReasoningMessageEnd,
    ReasoningMessageStart,
    ReasoningStart,
    RunCancelRequested,
    RunDequeued,
    RunError,
    RunFinished,
    RunQueued,
    RunRestarted,
    RunStarted,
    RunSteered,
    Source,
    StateDelta,
    StateSnapshot,
    StepFinished,
    StepStarted,
    SubagentError,
    SubagentFinished,
    SubagentStarted,
    TextMessageContent,
    TextMessageEnd,
    TextMessageStart,
    ThreadUpdated,
    ToolCallArgs,
    ToolCallEnd,
    ToolCallProgress,
    ToolCallResult,
    ToolCallStart,
)
from runcast.folding import items, lifecycle, tree
from runcast.folding.index import Index, given
from runcast.folding.items import patched
from runcast.parts import StepPart, TranscriptRun

__all__ = ["Folding"]


class Folding(Index):
    """One transcript being folded: each event goes to the function that knows it."""

    def apply(self, event: Event) -> None:
        match event:
            case TextMessageContent() | ReasoningMessageContent() | ToolCallArgs():
                items.delta(self, event)
                return
            case _:
                self.flush()
        self.head_before = None
        match event:
            case InterruptResolved():
                lifecycle.interrupt_resolved(self, event)
            case MessagePosted():
                lifecycle.message_posted(self, event)
            case StateSnapshot():
                self.transcript.state = event.snapshot
            case StateDelta():
                self.transcript.state = patched(self.transcript.state, event.delta)
            case ThreadUpdated():
                lifecycle.thread_updated(self, event)
            case Feedback():
                lifecycle.feedback(self, event)
            case _:
                run = self.run(event) if isinstance(event, _OF_A_RUN) else None
                if run is not None:
                    self.apply_to(run, event)

    def apply_to(self, run: TranscriptRun, event: Event) -> None:
        match event:
            case TextMessageStart():
                items.text_start(self, run, event)
            case TextMessageEnd() | ReasoningMessageEnd():
                items.text_end(self, run, event)
            case ReasoningStart() | ReasoningMessageStart():
                items.reasoning_start(self, run, event)
            case ReasoningEnd():
                items.reasoning_end(self, run, event)
            case ToolCallStart():
                items.tool_start(self, run, event)
            case ToolCallEnd():
                items.tool_end(self, run, event)
            case ToolCallProgress():
                items.tool_progress(self, run, event)
            case ToolCallResult():
                items.tool_result(self, run, event)
            case ActivitySnapshot() | ActivityDelta():
                items.activity(self, run, event)
            case ArtifactSnapshot():
                items.artifact_snapshot(self, run, event)
            case ArtifactDelta():
                items.artifact_delta(self, event)
            case Source():
                items.source(self, run, event)
            case StepStarted():
                self.add(run, event, StepPart(name=event.step_name, open=True))
            case StepFinished():
                items.step_finished(self, run, event)
            case SubagentStarted():
                items.subagent_started(self, run, event)
            case SubagentFinished() | SubagentError():
                items.subagent_ended(self, run, event)
            case InterruptRequested():
                lifecycle.interrupt_requested(self, run, event, event.interrupt)
            case MessageRetracted():
                items.message_retracted(self, run, event)
            case RunQueued():
                lifecycle.run_queued(self, run, event)
            case RunStarted():
                lifecycle.run_started(self, run, event)
            case RunSteered():
                lifecycle.run_steered(self, run, event)
            case RunRestarted():
                lifecycle.run_restarted(self, run, event)
            case RunCancelRequested():
                run.cancelling = True
                run.reason = given(event.reason)
            case RunDequeued():
                run.reason = given(event.reason) or run.reason
                lifecycle.end(self, run, event, "cancelled")
                tree.step_aside(self, run)
            case RunFinished():
                lifecycle.run_finished(self, run, event)
            case RunError():
                lifecycle.run_error(self, run, event)
            case _:
                pass


_OF_A_RUN: tuple[type[Event], ...] = (
    TextMessageStart, TextMessageEnd, ReasoningStart, ReasoningMessageStart, ReasoningMessageEnd, ReasoningEnd,
    ToolCallStart, ToolCallEnd, ToolCallProgress, ToolCallResult, ActivitySnapshot, ActivityDelta,
    ArtifactSnapshot, ArtifactDelta, Source, StepStarted, StepFinished, SubagentStarted, SubagentFinished, SubagentError,
    InterruptRequested, MessageRetracted, RunQueued, RunStarted, RunSteered, RunRestarted, RunCancelRequested,
    RunDequeued, RunFinished, RunError,
)  # fmt: skip
"""What changes a run. Others (RAW, CUSTOM, a type of a newer version …) show nothing, not even a run that is not known yet."""
