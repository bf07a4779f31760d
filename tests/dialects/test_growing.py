"""Texts that can only be said whole: whole in the end, and for a price that grows with the text and not with its square."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest

from runcast import events as e
from runcast.dialects.ag_ui import AgUi
from runcast.dialects.ai_sdk import AiSdk
from runcast.dialects.base import Dialect, Frame, Start
from runcast.events import Record, encode

PIECE = "A line of twenty or more.\n"
PIECES = 4000


def log(between: Callable[[], e.Event] | None, *, gap_ms: int) -> Iterator[Record]:
    """A run that writes a document, piece by piece, and something else between the pieces."""

    def events() -> Iterator[e.Event]:
        yield e.RunStarted(thread_id="t", run_id="r")
        yield e.TextMessageStart(message_id="m")
        yield e.ToolCallStart(tool_call_id="c", tool_call_name="write")
        yield e.ArtifactSnapshot(artifact_id="a", kind="document", content="")
        for _ in range(PIECES):
            yield e.ArtifactDelta(artifact_id="a", append=PIECE)
            if between is not None:
                yield between()
        yield e.ToolCallEnd(tool_call_id="c", args="{}")
        yield e.TextMessageEnd(message_id="m", text="")
        yield e.RunFinished(thread_id="t", run_id="r")

    for seq, event in enumerate(events(), 1):
        stamped = e.stamp(e.of_run(event, "r"), seq, seq * gap_ms)
        yield Record(stamped, encode(stamped))


def shown(frame: dict[str, Any]) -> str | None:
    """The document, as a frame of either dialect says it; None if it says nothing of it."""
    match frame:
        case {"type": "ACTIVITY_SNAPSHOT", "content": {"content": str(text)}}:
            return text
        case {"type": "ACTIVITY_DELTA", "patch": [{"op": "add", "path": "/content", "value": str(text)}]}:
            return text
        case {"type": "data-document", "data": {"content": str(text)}}:
            return text
        case _:
            return None


@pytest.mark.parametrize("dialect", [AgUi(), AiSdk()], ids=lambda dialect: dialect.name)
@pytest.mark.parametrize("gap_ms", [1, 400])
@pytest.mark.parametrize(
    "between",
    [
        None,
        lambda: e.TextMessageContent(message_id="m", delta="x"),
        lambda: e.ToolCallProgress(tool_call_id="c", message="On it"),
    ],
    ids=["alone", "text", "progress"],
)
def test_a_document_is_whole_in_the_end_and_not_dear(
    dialect: Dialect, gap_ms: int, between: Callable[[], e.Event] | None
) -> None:
    encoder = dialect.encoder(Start("t", "epoch", 0, "r", "mine", {"protocolVersion": "1.0"}))
    texts: list[str] = []
    for record in log(between, gap_ms=gap_ms):
        frames: list[Frame] = list(encoder.encode(record))
        texts += [text for frame in frames if (text := shown(json.loads(frame.data))) is not None]
        if isinstance(record.event, e.ToolCallEnd):
            assert texts[-1] == PIECE * PIECES, "before whatever else follows"
        assert [frame.k for frame in frames] == list(range(len(frames)))
    whole = len(PIECE) * PIECES
    assert texts[-1] == PIECE * PIECES
    assert all(later.startswith(earlier) for earlier, later in pairwise(texts))
    assert sum(map(len, texts)) < 30 * whole
    if gap_ms * PIECES > 100_000:
        assert len(texts) > 40, "and it is seen to grow"
