"""Durable Streams: the log as it is, at offsets that sort."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runcast import events as e
from runcast.dialects.base import Start
from runcast.dialects.durable_streams import DurableStreams, offset_of, position_of
from runcast.events import Record
from runcast.testing import DialectSuite
from runcast.testing.dialect_logs import LOGS

CASES = sorted((Path(__file__).parent.parent.parent / "spec/cases/dialects/durable-streams").glob("*.json"))
SEQS = st.integers(0, 2**53 - 1)


class TestDurableStreams(DialectSuite):
    def make(self) -> DurableStreams:
        return DurableStreams()

    @pytest.mark.parametrize("name", LOGS)
    def test_nothing_is_lost(self, name: str) -> None:
        """Message for message the log's own JSON."""
        said = [msgspec.json.decode(frame.data) for frame in self.of(LOGS[name])]
        assert said == [[msgspec.json.decode(record.data)] for record in LOGS[name]]


def said_to(case: dict[str, Any]) -> list[dict[str, Any]]:
    """The frames of a case's events: `data` as JSON, and of the rest what is set."""
    encoder = DurableStreams().encoder(Start("t1", "epoch", **case.get("start", {})))
    said: list[dict[str, Any]] = []
    for given_event in case["events"]:
        event = e.decode(json.dumps(given_event))
        for frame in encoder.encode(Record(event, e.encode(event))):
            told = {"event": frame.name, "data": json.loads(frame.data), "seq": frame.seq, "ends": frame.ends or None}
            said.append({name: value for name, value in told.items() if value is not None})
    return said


@pytest.mark.parametrize("file", CASES, ids=lambda file: file.stem)
def test_case(file: Path) -> None:
    case = json.loads(file.read_text("utf-8"))
    assert said_to(case) == case["frames"]


def test_there_is_a_case_for_every_kind_of_run() -> None:
    assert {json.loads(file.read_text("utf-8"))["name"] for file in CASES} >= set(LOGS)


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
