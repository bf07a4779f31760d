"""Durable Streams: the log as it is, at offsets that sort."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialects.cases import Case, cases_of, check
from runcast.dialects.durable_streams import DurableStreams, offset_of, position_of
from runcast.testing import DialectSuite
from runcast.testing.dialect_logs import LOGS

SEQS = st.integers(0, 2**53 - 1)


class TestDurableStreams(DialectSuite):
    def make(self) -> DurableStreams:
        return DurableStreams()

    @pytest.mark.parametrize("name", LOGS)
    def test_nothing_is_lost(self, name: str) -> None:
        """Message for message the log's own JSON."""
        said = [msgspec.json.decode(frame.data) for frame in self.of(LOGS[name])]
        assert said == [[msgspec.json.decode(record.data)] for record in LOGS[name]]


@pytest.mark.parametrize("case", cases_of("durable-streams"))
def test_case(case: Case) -> None:
    check(DurableStreams(), case)


def test_there_is_a_case_for_every_kind_of_run() -> None:
    assert {case.values[0].name for case in cases_of("durable-streams")} >= set(LOGS)


@given(SEQS, SEQS)
def test_offsets_sort_as_their_events(one: int, other: int) -> None:
    """Section 6: lexicographic order is the order in the stream; no character that a URL reserves."""
    first, second = offset_of(one, "abc"), offset_of(other, "abc")
    assert (first < second) == (one < other)
    assert position_of(first) == (one, "abc")
    assert not set(first) & set(",&=?/")


@pytest.mark.parametrize("text", ["", "x", "-2", "1.5", "1_", "1_ABC", "1" * 17, "1_abc_2", "٣", "1\n"])
def test_what_is_no_offset(text: str) -> None:
    assert position_of(text) is None
