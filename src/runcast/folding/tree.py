"""Where runs stand in the tree of their thread while some of them wait: what follows a run that another took the place of."""

from __future__ import annotations

from runcast.folding.index import Index
from runcast.parts import TranscriptRun


def take_place(at: Index, run: TranscriptRun) -> None:
    """A run that goes on with a waiting one, or was started in place of one, is followed by what was queued behind that.

    If the head run was one of those, or behind one, it stays the head run.
    """
    for place in (run.resumes, run.replaces):
        if place is None:
            continue
        for other in at.transcript.runs:
            if other.status == "queued" and other.parent == place and other is not run:
                other.parent = run.id
    head = at.head_before
    if at.transcript.head_run == run.id and head is not None and _is_behind(at, head, run.id):
        at.transcript.head_run = head


def step_aside(at: Index, run: TranscriptRun) -> None:
    """A queued run was taken back: what was queued behind it follows what it would have followed."""
    replaced = at.runs.get(run.replaces) if run.replaces else None
    follows = replaced.id if replaced is not None and not replaced.dequeued else run.parent
    for other in at.transcript.runs:
        if other.status == "queued" and other.parent == run.id:
            other.parent = follows
    if at.transcript.head_run == run.id:
        newest = next((other.id for other in reversed(at.transcript.runs) if not other.dequeued), run.id)
        at.transcript.head_run = follows if follows in at.runs else newest


def _is_behind(at: Index, id: str, ancestor: str) -> bool:
    """Whether the queued run `id` follows `ancestor`, at whatever distance."""
    seen: set[str] = set()
    run = at.runs.get(id)
    while run is not None and run.id not in seen and run.status == "queued" and run.parent is not None:
        if run.parent == ancestor:
            return True
        seen.add(run.id)
        run = at.runs.get(run.parent)
    return False
