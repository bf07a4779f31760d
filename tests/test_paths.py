"""Paths and versions: the cases that TypeScript runs too, and their laws."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runcast.paths import along, newest_below, path_of, path_to, siblings_of
from runcast.transcript import Transcript, TranscriptMessage, TranscriptRun, load

CASES = sorted((Path(__file__).parents[1] / "spec" / "cases" / "paths").glob("*.json"))


def ids(runs: list[TranscriptRun]) -> list[str]:
    return [run.id for run in runs]


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_case(path: Path) -> None:
    case: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    assert case["name"] == path.stem
    transcript = load(json.dumps(case["transcript"]))
    assert ids(path_of(transcript)) == case["head"]
    for run, expected in case["paths"].items():
        assert ids(path_of(transcript, run)) == expected
        if expected:
            assert newest_below(transcript, run) == expected[-1]
    for run, expected in case["siblings"].items():
        assert ids(siblings_of(transcript, run)) == expected


@st.composite
def trees(draw: st.DrawFn) -> Transcript:
    """Runs whose parents are earlier ones or, while they are queued, any (an edit puts itself before what is queued)."""
    runs: list[TranscriptRun] = []
    for number in range(draw(st.integers(1, 12))):
        parent = draw(st.none() | st.integers(0, number - 1)) if number else None
        if parent is not None and runs[parent].dequeued:
            parent = None
        status = draw(st.sampled_from(("done", "failed", "cancelled", "queued", "dequeued")))
        id = str(number)
        answer = [] if status in ("queued", "dequeued") else [TranscriptMessage(id=id, role="assistant")]
        runs.append(
            TranscriptRun(
                id=id,
                status="cancelled" if status == "dequeued" else status,  # type: ignore[arg-type]
                parent=None if parent is None else str(parent),
                messages=[TranscriptMessage(id=f"m{id}", role="user"), *answer],
            )
        )
    order = draw(st.permutations(runs))
    kept = [run.id for run in order if not run.dequeued]
    return Transcript(runs=list(order), head_run=draw(st.sampled_from(kept)) if kept else None)


@given(trees())
def test_laws(transcript: Transcript) -> None:
    for run in transcript.runs:
        path = path_of(transcript, run.id)
        assert run.id in ids(path)  # who looks at a run sees it
        assert path[0].parent is None
        for before, after in itertools.pairwise(path):
            assert after.parent == before.id  # an unbroken line
        assert len(set(ids(path))) == len(path)
        assert all(not one.dequeued for one in path if one is not run)
        assert ids(path_of(transcript, path[-1].id)) == ids(path)  # choosing the end of what is shown changes nothing
        assert not [one for one in transcript.runs if one.parent == path[-1].id and not one.dequeued]  # it is an end
        versions = siblings_of(transcript, run.id)
        assert run in versions and {one.parent for one in versions} == {run.parent}
        if not run.dequeued:
            for other in versions:
                if not other.dequeued:
                    assert siblings_of(transcript, other.id) == versions  # versions agree about who they are
    head = path_of(transcript)
    assert ids(head) == ids(path_to(transcript, transcript.head_run) if transcript.head_run else [])
    shown = along(transcript, head)
    assert ids(path_of(shown)) == ids(head) == ids(shown.runs)


def test_what_was_posted_beside_other_runs_is_not_along_a_path() -> None:
    run = TranscriptRun(id="a", messages=[])
    other = TranscriptRun(id="b", messages=[])
    posted = [TranscriptMessage(id=str(n), role="assistant", after=after) for n, after in enumerate((None, "a", "b"))]
    shown = along(Transcript(runs=[run, other], head_run="b", posted=posted, title="t"), [run])
    assert ([message.id for message in shown.posted], shown.head_run, shown.title) == (["0", "1"], "a", "t")
    assert msgspec.json.encode(shown)
