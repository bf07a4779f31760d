"""What a person sees: the pure fold of a thread's log into runs, messages and parts.

    transcript = fold(Transcript(), events)

The same fold stands in TypeScript (`packages/client/src/transcript.ts`); both run the cases in `spec/cases/transcript`.
Rules: no I/O, no clock, no ids of its own: everything comes from the events, so that a snapshot plus the events after
its `seq` equals the fold of the whole log (I14), and any split or joining of deltas folds to the same transcript (I12).
Everything the fold needs is in the shape; what makes it fast (`_Folding`) is rebuilt from it. It never raises: an event
that makes no sense where it stands changes nothing but `seq`.
The fold advances the transcript it is given, in place; whoever made the transcript owns it.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from msgspec import UNSET

from runcast.events import Event, encode_value
from runcast.folding import Folding
from runcast.parts import (
    SCHEMA,
    ActivityPart,
    AnyPart,
    ArtifactPart,
    Failure,
    Incomplete,
    InterruptPart,
    InterruptStatus,
    Part,
    Progress,
    ReasoningPart,
    RunFeedback,
    SourcePart,
    StepPart,
    SubagentPart,
    SubagentStatus,
    TextPart,
    ToolPart,
    ToolStatus,
    Transcript,
    TranscriptMessage,
    TranscriptRun,
)

__all__ = [
    "SCHEMA",
    "ActivityPart",
    "AnyPart",
    "ArtifactPart",
    "Failure",
    "Incomplete",
    "InterruptPart",
    "InterruptStatus",
    "Part",
    "Progress",
    "ReasoningPart",
    "RunFeedback",
    "SourcePart",
    "StepPart",
    "SubagentPart",
    "SubagentStatus",
    "TextPart",
    "ToolPart",
    "ToolStatus",
    "Transcript",
    "TranscriptMessage",
    "TranscriptRun",
    "dump",
    "fold",
    "load",
]


def fold(transcript: Transcript, events: Iterable[Event]) -> Transcript:
    """Advance `transcript` by `events`, in the order of the log, and give it back.

    An event whose `seq` the transcript has already is skipped, so giving events twice does no harm; a joined delta that
    reaches back before the transcript's `seq` is skipped too (subscribe again after `seq`). Events without `seq` are
    taken as they come. Linear in the events, whatever the length of the transcript.
    """
    attributes = vars(transcript)  # beside the fields: not in the JSON, not in a copy
    folding = attributes.get("folding")
    if not isinstance(folding, Folding):
        folding = attributes["folding"] = Folding(transcript)
    for event in events:
        first = event.seq if event.from_ is UNSET else event.from_
        if first is not UNSET and first <= transcript.seq:
            continue
        folding.apply(event)
        if event.seq is not UNSET:
            transcript.seq = event.seq
    folding.flush()
    return transcript


def dump(transcript: Transcript) -> bytes:
    """The transcript as JSON: what a snapshot holds."""
    return encode_value(transcript)


def load(data: bytes | str) -> Transcript:
    """The transcript in a snapshot.

    Raises:
        msgspec.ValidationError: another `schema`, or not a transcript: fold the log anew.
        msgspec.DecodeError: not JSON, or not UTF-8.
    """
    try:
        transcript = _decoder.decode(data)
    except UnicodeError as error:
        raise msgspec.DecodeError("The snapshot is not valid UTF-8.") from error
    if transcript.schema != SCHEMA:
        raise msgspec.ValidationError(f"a transcript of schema {transcript.schema}; this version reads {SCHEMA}")
    return transcript


_decoder = msgspec.json.Decoder(Transcript)
