"""How a write lies in the journal."""

from __future__ import annotations

import pytest

from runcast.events import Record, TextMessageContent, encode
from runcast.stores.sqlite_ledger import ROW_BYTES, rows_of


def records(*sizes: int) -> list[Record]:
    events = [TextMessageContent(message_id="m", delta="x" * size) for size in sizes]
    return [Record(event, encode(event)) for event in events]


@pytest.mark.parametrize(
    "sizes",
    [
        (),
        (10,),
        (10,) * 500,
        (ROW_BYTES * 3,),
        (4096,) * 300,
        (10, ROW_BYTES * 2, 10),
        (ROW_BYTES * 2, 10),
        (10, 70_000),
    ],
)
def test_a_large_write_is_several_rows_that_are_each_read_as_a_whole(sizes: tuple[int, ...]) -> None:
    written = records(*sizes)
    rows = rows_of(written)
    assert b"\n".join(blob for _, blob in rows) == b"\n".join(record.data for record in written)
    for count, blob in rows:
        assert count == blob.count(b"\n") + 1
        assert count == 1 or len(blob) <= ROW_BYTES + count
    if sum(len(record.data) for record in written) <= ROW_BYTES:
        assert len(rows) <= 1  # a token costs one row
