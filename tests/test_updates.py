"""`join`: what a reader that lags gets."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runcast.events import Event, Record, TextMessageContent, ToolCallArgs, decode, encode, of_run, stamp
from runcast.updates import join

CASES = sorted((Path(__file__).parents[1] / "spec" / "cases" / "join").glob("*.json"))


def record(event: Event) -> Record:
    return Record(event, encode(event))


def delta(seq: int, text: str, item: str = "x", run: str = "r") -> Record:
    return record(stamp(of_run(TextMessageContent(message_id=item, delta=text), run), seq, seq * 10))


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_case(path: Path) -> None:
    case = json.loads(path.read_text(encoding="utf-8"))
    joined = join([record(decode(json.dumps(event))) for event in case["events"]], case.get("limit"))
    assert [json.loads(each.data) for each in joined] == case["joined"]


def test_there_are_cases() -> None:
    assert len(CASES) >= 8


def test_a_single_record_is_passed_on_as_the_same_object() -> None:
    records = [delta(1, "a"), delta(2, "b", item="y"), delta(3, "c")]
    assert all(left is right for left, right in zip(join(records), records, strict=True))


def test_the_data_is_that_of_the_event() -> None:
    (whole,) = join([delta(1, "a"), delta(2, "b")])
    assert decode(whole.data) == whole.event
    assert whole.seq == 2


def test_a_gap_is_not_joined_over() -> None:
    assert len(join([delta(1, "a"), delta(3, "b")])) == 2


def test_arguments_and_text_of_one_id_are_different_items() -> None:
    args = record(stamp(of_run(ToolCallArgs(tool_call_id="x", delta="b"), "r"), 2, 20))
    assert len(join([delta(1, "a"), args])) == 2


texts = st.text(alphabet=st.sampled_from("ab 👩‍👧🇨🇭é\u0301𝒳"), max_size=4)


@given(
    pieces=st.lists(st.tuples(texts, st.sampled_from("xy")), max_size=12),
    cuts=st.lists(st.integers(0, 12)),
    limit=st.none() | st.integers(0, 9),
)
def test_nothing_is_lost_however_the_log_is_cut(
    pieces: list[tuple[str, str]], cuts: list[int], limit: int | None
) -> None:
    """I12: joined text is the concatenation of the deltas, and joining what was joined in pieces is joining the whole."""
    records = [delta(number, text, item) for number, (text, item) in enumerate(pieces, 1)]
    whole = join(records)
    for item in "xy":
        assert said(whole, item) == "".join(text for text, owner in pieces if owner == item)
    covered: list[int] = []
    for each in join(records, limit):
        first: Any = each.event.from_ if isinstance(each.event.from_, int) else each.event.seq
        covered.extend(range(first, each.seq + 1))
    assert covered == list(range(1, len(records) + 1))

    edges = sorted({0, len(records), *(cut for cut in cuts if cut < len(records))})
    in_pieces = [each for start, end in itertools.pairwise(edges) for each in join(records[start:end])]
    assert [each.data for each in join(in_pieces)] == [each.data for each in whole]


def said(records: list[Record], item: str) -> str:
    return "".join(
        each.event.delta
        for each in records
        if isinstance(each.event, TextMessageContent) and each.event.message_id == item
    )
