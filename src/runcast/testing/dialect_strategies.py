"""Hypothesis strategies for logs of threads, as the runner writes them: what nobody thought of writing down by hand.

@given(logs())
def test_…(records: list[Record]) -> None: …
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from runcast import events as e
from runcast.events import Event, Record
from runcast.testing.dialect_logs import RunLog, log_of

TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12) | st.sampled_from(
    ["[DONE]", "[ERROR] x", "\n\n", "\r\n", "data: x\n\n", "\u2028", "```mermaid\n", "👩‍👩‍👧", " ", '"', "\\", "null"]
)
PIECES = st.lists(TEXT, min_size=1, max_size=4)
VALUES: SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
NAMES = st.sampled_from(["search", "add", "read_file"])
STEPS = st.sampled_from(
    [
        "say",
        "think",
        "call",
        "failed call",
        "two calls",
        "artifact",
        "state",
        "source",
        "progress",
        "retract",
        "unknown",
    ]
)
ENDS = st.sampled_from(["done", "done", "failed", "cancelled", "wait"])


@st.composite
def runs(draw: DrawFn, id: str) -> list[Event]:
    """The events of one run, from its start to its end."""
    run = RunLog(id, draw(TEXT))
    for number, step in enumerate(draw(st.lists(STEPS, max_size=5))):
        call, other = f"{id}-c{number}", f"{id}-d{number}"
        match step:
            case "say":
                run.say(*draw(PIECES))
            case "think":
                run.think(*draw(PIECES))
            case "call":
                title = draw(st.none() | TEXT)
                run.call(call, draw(NAMES), '{"q":', "1}", title=title).result(call, draw(VALUES))
            case "failed call":
                run.call(call, draw(NAMES), "{}").result(call, "No.", status="error", error=draw(TEXT))
            case "two calls":
                run.call(call, "add", '{"a":1}').call(other, "add", '{"a":2}')
                run.result(other, draw(VALUES)).result(call, draw(VALUES))
            case "progress":
                run.call(call, draw(NAMES), "{}")
                run.add(e.ToolCallProgress(tool_call_id=call, progress=1, total=2, message=draw(TEXT)))
                run.result(call, draw(VALUES), summary=draw(TEXT))
            case "artifact":
                kind = draw(st.sampled_from(["diagram", "table", "metrics"]))
                run.add(e.ArtifactSnapshot(artifact_id=call, kind=kind, content=draw(VALUES), version=1))
            case "state":
                run.add(e.StateSnapshot(snapshot=draw(VALUES)))
            case "source":
                run.add(e.Source(source_id=call, url="https://example.com/", title=draw(TEXT)))
            case "retract":
                run.say(*draw(PIECES), id=call).add(e.MessageRetracted(message_ids=[call]))
            case _:
                run.add(e.UnknownEvent(raw={"type": "FROM_THE_FUTURE", "x": draw(VALUES)}))
    match draw(ENDS):
        case "failed":
            return run.failed(draw(TEXT))
        case "cancelled":
            return run.cancelled(draw(TEXT))
        case "wait":
            asked = e.Interrupt(id=f"{id}.1", reason="confirmation", message=draw(TEXT))
            return run.wait(asked)
        case _:
            return run.done()


@st.composite
def logs(draw: DrawFn, most: int = 2) -> list[Record]:
    """A thread's log from seq 1, of 1 to `most` runs one after the other."""
    return log_of(*[draw(runs(f"r{number + 1}")) for number in range(draw(st.integers(1, most)))])
