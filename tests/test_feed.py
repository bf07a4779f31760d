"""The tail of a thread: gaps, doubles, bounds."""

from __future__ import annotations

import sys

from hypothesis import given
from hypothesis import strategies as st

from runcast import events as e
from runcast.events import Record
from runcast.feed import Feed


def records(first: int, last: int, size: int = 1) -> list[Record]:
    found: list[Record] = []
    for seq in range(first, last + 1):
        event = e.stamp(e.TextMessageContent(message_id="m", delta="x" * size), seq, 0)
        found.append(Record(event, e.encode(event)))
    return found


def seqs(found: list[Record] | None) -> list[int] | None:
    return None if found is None else [record.seq for record in found]


def test_a_feed_that_knows_nothing_sends_its_reader_to_the_store() -> None:
    feed = Feed("t")
    assert feed.after(0, 1000, 10) is None
    feed.note_head(7)
    assert feed.after(7, 1000, 10) == []
    assert feed.after(6, 1000, 10) is None


def test_what_was_pushed_is_read_from_memory() -> None:
    feed = Feed("t")
    feed.push(records(5, 9))
    assert seqs(feed.after(4, 10_000, 100)) == [5, 6, 7, 8, 9]
    assert seqs(feed.after(7, 10_000, 1)) == [8]
    assert feed.after(9, 10_000, 100) == []
    assert feed.after(3, 10_000, 100) is None


def test_what_the_log_has_and_the_feed_has_not_is_read_from_the_store() -> None:
    """I9: and who sleeps is told."""
    feed = Feed("t")
    feed.push(records(1, 4))
    woken: list[int] = []
    feed.on_wake(lambda pushed: woken.append(feed.head))
    feed.note_head(6)
    assert woken == [6]
    assert seqs(feed.after(2, 10_000, 100)) == [3, 4]
    assert feed.after(4, 10_000, 100) is None and feed.after(5, 10_000, 100) is None
    feed.push(records(7, 8))
    assert feed.after(4, 10_000, 100) is None
    assert seqs(feed.after(6, 10_000, 100)) == [7, 8]


def test_what_a_reader_has_read_is_there_for_the_next() -> None:
    feed = Feed("t")
    woken: list[int] = []
    feed.on_wake(lambda pushed: woken.append(feed.head))
    feed.fill(records(3, 6))
    assert seqs(feed.after(2, 10_000, 100)) == [3, 4, 5, 6]
    assert feed.after(6, 10_000, 100) is None and feed.after(1, 10_000, 100) is None  # what follows is not known
    assert feed.holds(3) and feed.holds(6) and not feed.holds(2) and not feed.holds(7)
    assert woken == []
    feed.push(records(5, 6))  # the reader was faster than whoever tells
    assert woken == [6] and feed.after(6, 10_000, 100) == []
    feed.push(records(6, 8))
    assert seqs(feed.after(2, 10_000, 100)) == [3, 4, 5, 6, 7, 8]
    feed.fill(records(1, 9))
    assert feed.after(0, 10_000, 100) is None  # only an empty one is filled
    feed.push(records(11, 12))
    assert feed.after(7, 10_000, 100) is None and seqs(feed.after(10, 10_000, 100)) == [11, 12]


def test_what_was_read_before_a_gap_does_not_fill_it() -> None:
    feed = Feed("t")
    feed.note_head(7)
    feed.fill(records(3, 6))
    assert feed.after(2, 10_000, 100) is None


def test_doubles_are_dropped_and_a_gap_empties_the_tail() -> None:
    feed = Feed("t")
    feed.push(records(1, 4))
    feed.push(records(3, 6))
    assert seqs(feed.after(0, 10_000, 100)) == [1, 2, 3, 4, 5, 6]
    feed.push(records(2, 3))
    assert feed.head == 6
    feed.push(records(9, 10))
    assert feed.head == 10
    assert feed.after(6, 10_000, 100) is None
    assert seqs(feed.after(8, 10_000, 100)) == [9, 10]


def test_it_is_bounded_and_gives_at_least_one() -> None:
    feed = Feed("t", max_events=10, max_bytes=100_000)
    feed.push(records(1, 1000))
    assert feed.after(980, 10_000, 100) is None
    assert seqs(feed.after(990, 10_000, 100)) == list(range(991, 1001))
    feed = Feed("t", max_events=1000, max_bytes=500)
    feed.push(records(1, 3, size=1000))
    assert seqs(feed.after(2, 10, 100)) == [3]
    assert feed.after(1, 10, 100) is None


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(0, 10)), max_size=40), st.integers(0, 70))
def test_it_never_gives_a_hole(pushes: list[tuple[int, int]], cursor: int) -> None:
    feed = Feed("t", max_events=12)
    for first, length in pushes:
        feed.push(records(first, first + length))
        found = seqs(feed.after(cursor, 1 << 20, 100))
        if found:
            assert found == list(range(cursor + 1, found[-1] + 1))
            assert found[-1] == feed.head


def test_what_fell_out_of_the_tail_is_let_go() -> None:
    """However few fit: records may be large."""
    feed = Feed("t", max_bytes=1000)
    pushed = records(1, 40, size=200)
    feed.push(pushed[:1])
    held = sys.getrefcount(pushed[0])
    for record in pushed[1:]:
        feed.push([record])
    left = sys.getrefcount(pushed[0])  # apart: pytest's own assert holds what it looks at
    assert left == held - 1
