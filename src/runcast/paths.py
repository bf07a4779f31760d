"""Reading a transcript as the tree that it is: which runs lead to one, and which stand beside it. Pure.

A run that was taken back before it began is on no path and beside none. The same stands in TypeScript
(`packages/client/src/path.ts`); both run the cases in `spec/cases/paths`.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from runcast.transcript import Transcript, TranscriptRun


def path_of(transcript: Transcript, run: str | None = None) -> list[TranscriptRun]:
    """The runs that a reader sees who looks at `run`: from the root over it to the newest end below it, oldest first.

    Without `run` the path that ends in the head run. Empty if there is no such run.
    """
    return path_to(transcript, newest_below(transcript, run) if run is not None else None)


def path_to(transcript: Transcript, run: str | None = None) -> list[TranscriptRun]:
    """The runs from the root to exactly `run` (default: the head run), oldest first. Empty if there is no such run."""
    runs = {one.id: one for one in transcript.runs}
    path: list[TranscriptRun] = []
    id = run if run is not None else transcript.head_run
    while id is not None and (one := runs.pop(id, None)) is not None:  # popped: a circle ends
        path.append(one)
        id = one.parent
    path.reverse()
    return path


def siblings_of(transcript: Transcript, run: str) -> list[TranscriptRun]:
    """The runs that have the parent of `run`, itself included, in the order in which they appeared: its versions."""
    found = next((one for one in transcript.runs if one.id == run), None)
    if found is None:
        return []
    return [one for one in transcript.runs if one.id == run or (one.parent == found.parent and not one.dequeued)]


def newest_below(transcript: Transcript, run: str) -> str:
    """The end of the path over `run`: of the runs below it that nothing follows the newest; `run` itself if nothing does."""
    children: dict[str, list[TranscriptRun]] = {}
    place: dict[str, int] = {}
    for index, one in enumerate(transcript.runs):
        place[one.id] = index
        if one.parent is not None and not one.dequeued:
            children.setdefault(one.parent, []).append(one)
    ends: list[str] = []
    seen, open = {run}, [run]
    while open:
        id = open.pop()
        below = [one.id for one in children.get(id, ()) if one.id not in seen]
        if not below:
            ends.append(id)
        seen.update(below)
        open.extend(below)
    return max(ends, key=lambda id: place.get(id, -1))


def along(transcript: Transcript, path: Sequence[TranscriptRun]) -> Transcript:
    """The transcript as who looks at `path` sees it: those runs, and what was posted beside them or before all runs."""
    ids = {run.id for run in path}
    return msgspec.structs.replace(
        transcript,
        head_run=path[-1].id if path else None,
        runs=list(path),
        posted=[message for message in transcript.posted if message.after is None or message.after in ids],
    )
