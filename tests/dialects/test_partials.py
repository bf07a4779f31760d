"""The `partials` dialect: the whole text again and again, and not quadratic."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialects.cases import Case, cases_of, check
from runcast import events as e
from runcast.dialects.base import BadFrame, Frame, Start
from runcast.dialects.diagrams import mermaid_of
from runcast.dialects.partials import EVERY, Partials, canvas_trigger_of, metrics_of
from runcast.events import Event, Record
from runcast.testing import DialectSuite
from runcast.testing.dialect_logs import LOGS, THREAD


class TestPartials(DialectSuite):
    cumulative = ("content",)

    def make(self) -> Partials:
        return Partials()

    def said(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(frame.data) for frame in self.of(LOGS[name])]

    @pytest.mark.parametrize("name", LOGS)
    def test_every_frame_is_one_of_the_protocols(self, name: str) -> None:
        shapes = {
            "user": {"type", "content"},
            "agent_partial": {"type", "content"},
            "tool": {"type", "content", "tool_name"},
            "agent": {"type", "content", "diagram", "canvas_trigger", "metrics", "timestamp"},
            "error": {"type", "content", "timestamp"},
        }
        for frame in self.said(name):
            assert set(frame) == shapes[frame["type"]]
            assert isinstance(frame["content"], str)

    @pytest.mark.parametrize("name", LOGS)
    def test_the_answer_is_the_last_partial(self, name: str) -> None:
        partial = ""
        for frame in self.said(name):
            if frame["type"] == "user":
                partial = ""
            elif frame["type"] == "agent_partial":
                partial = frame["content"]
            elif frame["type"] == "agent":
                assert frame["content"] == partial
                partial = ""

    @pytest.mark.parametrize("name", LOGS)
    def test_behind_every_tool_the_partial_comes_again(self, name: str) -> None:
        frames = self.of(LOGS[name])
        before = ""
        for place, frame in enumerate(frames):
            said = json.loads(frame.data)
            if said["type"] in ("user", "agent", "error"):
                before = ""
            elif said["type"] == "agent_partial":
                before = said["content"]
            elif said["type"] == "tool":
                assert json.loads(frames[place + 1].data) == {"type": "agent_partial", "content": before}
                assert not frames[place + 1].supersedes  # a slow client gets it too


@pytest.mark.parametrize("case", cases_of("partials"))
def test_frames(case: Case) -> None:
    check(Partials(), case)


def stream(pieces: list[str], step_ms: int) -> list[Record]:
    """A run that says these pieces, `step_ms` apart."""
    events: list[Event] = [
        e.RunStarted(thread_id=THREAD),
        e.TextMessageStart(message_id="m"),
        *[e.TextMessageContent(message_id="m", delta=piece) for piece in pieces],
        e.TextMessageEnd(message_id="m"),
        e.RunFinished(thread_id=THREAD),
    ]
    stamped = [e.stamp(e.of_run(event, "r1"), seq, seq * step_ms) for seq, event in enumerate(events, 1)]
    return [Record(event, e.encode(event)) for event in stamped]


def frames_of(records: list[Record]) -> list[Frame]:
    encoder = Partials().encoder(Start(THREAD, "e"))
    return [frame for record in records for frame in encoder.encode(record)]


@pytest.mark.parametrize(("size", "step_ms"), [(1, 0), (4, 0), (4, 10), (80, 100), (7, 17)])
def test_a_text_of_20_000_characters_costs_less_than_30_times_itself(size: int, step_ms: int) -> None:
    pieces = ["x" * size] * (20_000 // size)
    sent = sum(len(frame.data) for frame in frames_of(stream(pieces, step_ms)))
    assert sent <= 30 * size * len(pieces)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=120), st.integers(0, 700))
def test_short_texts_piece_by_piece_and_long_ones_at_least_every_second(sizes: list[int], step_ms: int) -> None:
    records = stream(["x" * size for size in sizes], step_ms)
    encoder = Partials().encoder(Start(THREAD, "e"))
    length, unsaid_since = 0, None
    for record in records:
        frames = encoder.encode(record)
        if not isinstance(record.event, e.TextMessageContent):
            continue
        length += len(record.event.delta)
        now = record.event.timestamp
        assert isinstance(now, int)
        if length <= EVERY:
            assert [json.loads(frame.data)["content"] for frame in frames] == ["x" * length]
        if frames:
            unsaid_since = now
        assert unsaid_since is not None
        assert now - unsaid_since < 1000


def test_a_slow_reader_needs_only_the_newest_partial() -> None:
    assert all(frame.supersedes for frame in frames_of(stream(["a", "b"], 1)) if b"agent_partial" in frame.data)


def test_time_limit_and_failure_in_their_words() -> None:
    def end(event: Event) -> str:
        stamped = e.stamp(e.of_run(event, "r1"), 1, 0)
        (frame,) = Partials().encoder(Start(THREAD, "e")).encode(Record(stamped, e.encode(stamped)))
        return json.loads(frame.data)["content"]

    timeout = e.RunError(message="Too long.", code="timeout", limit_s=45.0)
    assert end(timeout) == "Request timeout (45s). Please try a simpler query."
    assert end(e.RunError(message="No model.", code="x")) == "Agent error: No model."


def test_messages() -> None:
    assert Partials().decode('{"content":"Hi","x":1}').text == "Hi"
    for data in ("{}", '{"content":""}', '{"content":" "}'):
        with pytest.raises(BadFrame, match="^Empty message$"):
            Partials().decode(data)
    (frame,) = Partials().error("invalid_request", "Empty message", request_id="q")
    assert frame.data == b'{"type":"error","content":"Empty message"}'


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("erDiagram\n A", "erDiagram\n A"),
        ("```mermaid\ngraph TD;\n A-->B\n```", "graph TD;\n A-->B"),
        ("```\r\npie title Pets\r\n```\n", "pie title Pets"),
        ("%% note\n%%{init: {\n}}%%\nflowchart LR", "%% note\n%%{init: {\n}}%%\nflowchart LR"),
        ("---\ntitle: x\n---\nstateDiagram-v2\n a", "---\ntitle: x\n---\nstateDiagram-v2\n a"),
        ("gitGraph:\n commit", "gitGraph:\n commit"),
        ("Here is your diagram:\nerDiagram", None),
        ("graphic novel", None),
        ("erDiagrams", None),
        ("```mermaid\nnothing\n```", None),
        ("", None),
        ("%% only a comment", None),
    ],
)
def test_diagrams(text: str, wanted: str | None) -> None:
    assert mermaid_of(text) == wanted


@pytest.mark.timeout(20)
@pytest.mark.parametrize("open", ["```\n", "~~~\n", "---\n"])
@pytest.mark.parametrize("rest", [" " * 250_000 + "x", "\n```x" * 50_000 + "x", "\n--- x" * 40_000])
def test_a_text_that_is_no_diagram_is_refused_in_linear_time(open: str, rest: str) -> None:
    """A quarter of a megabyte, which took minutes."""
    assert mermaid_of(open + rest) is None


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ({"action": "switch_view", "reason": "r"}, {"action": "switch_view", "reason": "r", "confidence": 1.0}),
        (
            {"action": "switch_view", "view_type": "er_diagram", "reason": "r", "confidence": 0.3, "x": 1},
            {"action": "switch_view", "view_type": "er_diagram", "reason": "r", "confidence": 0.3},
        ),
        ({"action": "none"}, {"action": "none", "reason": ""}),
        (
            {"action": "new_analysis", "view_type": "pie", "query": "q", "entity_name": None, "confidence": 7},
            {"action": "new_analysis", "query": "q", "reason": "", "confidence": 1},
        ),
        ({"action": "explode"}, None),
        ("switch_view", None),
        (None, None),
    ],
)
def test_canvas_triggers(content: Any, wanted: Any) -> None:
    assert canvas_trigger_of(content) == wanted


def test_metrics() -> None:
    counts = {"total_tables": 1, "total_columns": 2, "facts_count": 3, "dimensions_count": 4}
    assert metrics_of({**counts, "quality_score": 0.5, "is_stale": False, "schema_name": 3, "x": 1}) == {
        **counts,
        "quality_score": 0.5,
        "is_stale": False,
    }
    assert metrics_of({"total_tables": 1}) is None
    assert metrics_of([]) is None
