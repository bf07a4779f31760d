"""The fold: its cases, which TypeScript runs too, and its laws (I12, I14, I16, I23)."""

from __future__ import annotations

import copy
import itertools
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runcast import events as e
from runcast.events import Event, Record, decode, encode, of_run, stamp
from runcast.transcript import (
    SCHEMA,
    AnyPart,
    InterruptPart,
    ReasoningPart,
    StepPart,
    SubagentPart,
    TextPart,
    ToolPart,
    Transcript,
    TranscriptRun,
    dump,
    fold,
    load,
)
from runcast.updates import join

CASES = sorted((Path(__file__).parents[1] / "spec" / "cases" / "transcript").glob("*.json"))


def read(path: Path) -> tuple[list[Event], dict[str, Any]]:
    case = json.loads(path.read_text(encoding="utf-8"))
    assert case["name"] == path.stem
    return [decode(json.dumps(event)) for event in case["events"]], case["transcript"]


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_case(path: Path) -> None:
    events, expected = read(path)
    assert json.loads(dump(fold(Transcript(), events))) == expected


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_snapshot_at_every_prefix_and_the_tail_is_the_whole(path: Path) -> None:
    """I14."""
    events, expected = read(path)
    for cut in range(len(events) + 1):
        snapshot = dump(fold(Transcript(), events[:cut]))
        assert json.loads(dump(load(snapshot))) == json.loads(snapshot)
        assert json.loads(dump(fold(load(snapshot), events[cut:]))) == expected, f"cut after {cut}"


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_events_are_left_as_they_are(path: Path) -> None:
    """They are shared with every other reader."""
    events, _ = read(path)
    before = copy.deepcopy(events)
    fold(fold(Transcript(), events), events)
    assert events == before


def test_the_cases_cover_every_event_type() -> None:
    seen = {event.type for path in CASES for event in read(path)[0]}
    never = {str(kind.__struct_config__.tag) for kind in e.NEVER_LOGGED}
    assert {str(kind.__struct_config__.tag) for kind in (*e.AGUI, *e.OWN)} - never <= seen


def test_the_cases_cover_every_part_and_status() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in CASES)
    for kind in get_args(AnyPart):
        assert f'"type": "{kind.__struct_config__.tag}"' in text
    for word in (
        "queued",
        "running",
        "waiting",
        "done",
        "failed",
        "cancelled",
        "interrupted",
        "denied",
        "preparing",
        "expired",
    ):
        prefixes = {
            f'"status": "{word}"'
            for path in CASES
            for cut in range(len(read(path)[0]) + 1)
            if f'"status":"{word}"' in dump(fold(Transcript(), read(path)[0][:cut])).decode()
        }
        assert prefixes, word


# --- laws, on random logs ---

RUNS = st.sampled_from(["r1", "r2", "r3"])
IDS = st.sampled_from(["a", "b", "r1", "r1.1", "r2.1"])
TEXTS = st.text(alphabet=st.sampled_from("ab👩\u200d👧🇨🇭e\u0301𝒳"), max_size=3)
JSONS = st.sampled_from([None, 1, "x", [], {"a": [1]}, {"approved": False}, {"approved": True}])
PATCHES = st.lists(
    st.sampled_from([
        {"op": "add", "path": "/a", "value": 1}, {"op": "remove", "path": "/a/0"}, {"op": "replace", "path": "", "value": {"a": []}},
        {"op": "test", "path": "/a", "value": 1}, {"op": "bad"}, {"op": "add", "path": "/a/-", "value": "🇨🇭"},
    ]),
    max_size=2,
)  # fmt: skip
INTERRUPTS = st.builds(
    e.Interrupt,
    id=IDS,
    reason=st.sampled_from(["tool_call", "input_required"]),
    tool_call_id=IDS | st.just(msgspec.UNSET),
)
INPUTS = st.fixed_dictionaries(
    {},
    optional={
        "messages": st.lists(
            st.fixed_dictionaries(
                {"id": IDS, "role": st.just("user"), "content": TEXTS | st.just([{"type": "image"}])}
            ),
            max_size=2,
        )
    },
)
OUTCOMES = st.one_of(
    st.just(msgspec.UNSET),
    st.builds(e.Outcome, type=st.sampled_from(["success", "cancelled"])),
    st.builds(e.Outcome, type=st.just("interrupt"), interrupts=st.lists(INTERRUPTS, max_size=2)),
)
OPTIONAL_TEXT = TEXTS | st.just(msgspec.UNSET)


def built(struct: Any, /, **fields: Any) -> Any:
    return st.builds(struct, **fields)


EVENTS = st.one_of(
    built(e.RunQueued, thread_id=st.just("t"), input=INPUTS, agent=st.just("a"), parent_run_id=RUNS),
    built(e.RunStarted, thread_id=st.just("t"), input=INPUTS, parent_run_id=RUNS | st.just(msgspec.UNSET), resumes=RUNS | st.just(msgspec.UNSET)),
    built(e.RunStarted, thread_id=st.just("t")),
    built(e.RunFinished, thread_id=st.just("t"), outcome=OUTCOMES),
    built(e.RunError, message=TEXTS, code=st.sampled_from(["interrupted", "x"])),
    built(e.RunDequeued),
    built(e.RunCancelRequested),
    built(e.RunRestarted, attempt=st.integers(2, 3)),
    built(e.RunSteered, message=st.fixed_dictionaries({"id": IDS}), consumed=st.booleans()),
    built(e.StepStarted, step_name=IDS),
    built(e.StepFinished, step_name=IDS),
    built(e.TextMessageStart, message_id=IDS, role=st.sampled_from([msgspec.UNSET, "assistant", "user"])),
    built(e.TextMessageContent, message_id=IDS, delta=TEXTS),
    built(e.TextMessageContent, message_id=IDS, delta=TEXTS),
    built(e.TextMessageEnd, message_id=IDS, text=OPTIONAL_TEXT, incomplete=st.sampled_from([msgspec.UNSET, "cancelled", "odd"])),
    built(e.ReasoningStart, message_id=IDS),
    built(e.ReasoningMessageStart, message_id=IDS, role=st.just("reasoning")),
    built(e.ReasoningMessageContent, message_id=IDS, delta=TEXTS),
    built(e.ReasoningMessageEnd, message_id=IDS, text=OPTIONAL_TEXT),
    built(e.ReasoningEnd, message_id=IDS),
    built(e.ToolCallStart, tool_call_id=IDS, tool_call_name=st.just("f")),
    built(e.ToolCallArgs, tool_call_id=IDS, delta=TEXTS),
    built(e.ToolCallEnd, tool_call_id=IDS, args=OPTIONAL_TEXT),
    built(e.ToolCallProgress, tool_call_id=IDS, message=OPTIONAL_TEXT),
    built(e.ToolCallResult, message_id=IDS, tool_call_id=IDS, content=TEXTS, status=st.sampled_from([msgspec.UNSET, "success", "error", "denied"]), result=JSONS),
    built(e.InterruptRequested, interrupt=INTERRUPTS),
    built(e.InterruptResolved, interrupt_id=IDS, status=st.sampled_from(["resolved", "cancelled", "expired"]), payload=JSONS, ends_run=st.booleans()),
    built(e.ArtifactSnapshot, artifact_id=IDS, kind=st.just("diagram"), content=JSONS),
    built(e.ArtifactDelta, artifact_id=IDS, append=OPTIONAL_TEXT, patch=PATCHES),
    built(e.Source, source_id=IDS),
    built(e.ActivitySnapshot, message_id=IDS, activity_type=st.just("plan"), content=st.sampled_from([{}, {"a": [1]}]), replace=st.booleans()),
    built(e.ActivityDelta, message_id=IDS, activity_type=st.just("plan"), patch=PATCHES),
    built(e.StateSnapshot, snapshot=JSONS),
    built(e.StateDelta, delta=PATCHES),
    built(e.SubagentStarted, subagent_run_id=IDS, name=IDS),
    built(e.SubagentFinished, subagent_run_id=IDS, outcome=st.sampled_from([msgspec.UNSET, e.SubagentOutcome(type="suspended")])),
    built(e.SubagentError, subagent_run_id=IDS, message=TEXTS),
    built(e.MessageRetracted, message_ids=st.lists(IDS, max_size=2), tool_call_ids=st.lists(IDS, max_size=2)),
    built(e.MessagePosted, message=st.fixed_dictionaries({}, optional={"id": IDS, "role": st.just("user"), "content": TEXTS})),
    built(e.ThreadUpdated, title=OPTIONAL_TEXT, head_run=RUNS | st.just(msgspec.UNSET)),
    built(e.Feedback, target_run_id=RUNS, value=st.sampled_from([-1, 0, 1])),
    built(e.Custom, name=IDS, value=JSONS),
    built(e.TextMessageChunk),
    built(e.MessagesSnapshot, messages=st.just([])),
)  # fmt: skip


def numbered(pairs: Sequence[tuple[Event, str | None]]) -> list[Event]:
    made = [event if run is None else of_run(event, run) for event, run in pairs]
    return [stamp(event, number, 1000 + number) for number, event in enumerate(made, 1)]


THREAD = (e.InterruptResolved, e.ThreadUpdated, e.MessagePosted, e.Feedback)
LOGS = st.lists(
    EVENTS.flatmap(lambda event: st.tuples(st.just(event), st.none() if isinstance(event, THREAD) else RUNS)),
    max_size=40,
).map(numbered)


@given(log=LOGS, cut=st.integers(0, 40))
@settings(max_examples=300, deadline=None)
def test_any_log_folds_and_any_prefix_is_enough(log: list[Event], cut: int) -> None:
    """It never raises, and snapshot plus tail is the whole (I14), in memory and through JSON, also event by event."""
    whole = dump(fold(Transcript(), log))
    assert dump(fold(load(dump(fold(Transcript(), log[:cut]))), log[cut:])) == whole
    assert dump(fold(fold(Transcript(), log[:cut]), log)) == whole, "what it has already is skipped"
    single = Transcript()
    for event in log:
        fold(single, [decode(encode(event))])
    assert dump(single) == whole
    assert dump(load(whole)) == whole


@given(log=LOGS, cuts=st.sets(st.integers(0, 40)))
@settings(max_examples=200, deadline=None)
def test_joining_deltas_changes_nothing(log: list[Event], cuts: set[int]) -> None:
    """I12."""
    records = [Record(event, encode(event)) for event in log]
    edges = sorted({0, len(records), *(cut for cut in cuts if cut < len(records))})
    joined = [each.event for start, end in itertools.pairwise(edges) for each in join(records[start:end])]
    assert dump(fold(Transcript(), joined)) == dump(fold(Transcript(), log))


@given(text=st.text(max_size=12), cuts=st.sets(st.integers(0, 12)))
@settings(deadline=None)
def test_any_split_of_a_text_folds_to_the_text(text: str, cuts: set[int]) -> None:
    """I12, whatever the characters."""
    edges = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    deltas = [text[start:end] for start, end in itertools.pairwise(edges)]
    log = numbered(
        [
            (e.TextMessageStart(message_id="x"), "r"),
            *((e.TextMessageContent(message_id="x", delta=d), "r") for d in deltas),
        ]
    )
    (part,) = fold(Transcript(), log).runs[0].messages[0].parts
    assert isinstance(part, TextPart)
    assert part.text == text


def left_open(run: TranscriptRun) -> list[AnyPart]:
    left: list[AnyPart] = []
    for message in run.messages:
        for part in message.parts:
            match part:
                case TextPart() | ReasoningPart() | StepPart() if part.open:
                    left.append(part)
                case ToolPart() | SubagentPart() if part.status in ("preparing", "running", "waiting"):
                    left.append(part)
                case InterruptPart() if part.status == "open":
                    left.append(part)
                case _:
                    pass
    return left


def was_answered(run: TranscriptRun) -> bool:
    parts = [part for message in run.messages for part in message.parts]
    return any(isinstance(part, InterruptPart) and part.status == "resolved" for part in parts)


@given(log=LOGS)
@settings(max_examples=200, deadline=None)
def test_nothing_is_open_once_every_run_has_ended(log: list[Event]) -> None:
    """I23: whatever was left open, a run's terminal event closes it; a run that resumes another closes what waited there."""
    transcript = fold(Transcript(), log)
    for run in transcript.runs:
        if run.status == "waiting":
            assert any(isinstance(part, InterruptPart) for part in left_open(run))
    seq = transcript.seq
    for run in reversed(list(transcript.runs)):
        if not run.ended:
            seq += 1
            fold(transcript, [stamp(of_run(e.RunFinished(thread_id="t"), run.id), seq, seq)])
    for run in transcript.runs:
        assert run.ended
        assert not run.cancelling
        still = left_open(run)
        if run.status == "waiting":
            still = [part for part in still if isinstance(part, (TextPart, ReasoningPart, StepPart))]
        elif run.status == "done" and was_answered(run):
            # An answered run is done; its tools go on in a run that resumes it, which this log may not have.
            still = [part for part in still if not isinstance(part, (ToolPart, SubagentPart))]
        assert still == []


# --- what cases cannot say ---


def test_events_without_seq_are_taken_as_they_come() -> None:
    transcript = fold(Transcript(), [of_run(e.TextMessageContent(message_id="x", delta=delta), "r") for delta in "abc"])
    assert transcript.seq == 0
    assert transcript.runs[0].messages[0].parts == [TextPart(id="x", text="abc", open=True)]


def test_lone_surrogates_do_not_break_a_snapshot() -> None:
    """Half a character in one delta, half in the next: UTF-8 can hold neither."""
    log = numbered([(e.TextMessageContent(message_id="x", delta=delta), "r") for delta in ("a\ud83d", "\ude00b")])
    assert '"a\ufffd\ufffdb"' in dump(fold(Transcript(), log)).decode()


def test_a_snapshot_of_another_schema_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="schema 99"):
        load(dump(Transcript()).replace(b'"schema":%d' % SCHEMA, b'"schema":99'))
    with pytest.raises(msgspec.ValidationError):
        load(b"[]")
    with pytest.raises(msgspec.DecodeError):
        load(b"{")
    with pytest.raises(msgspec.DecodeError):
        load(dump(Transcript(title="x")).replace(b"x", b"\xff"))


def test_what_a_reader_needs_is_always_written() -> None:
    written = json.loads(dump(fold(Transcript(), numbered([(e.TextMessageStart(message_id="x"), "r")]))))
    assert written == {
        "schema": SCHEMA, "seq": 1, "title": "", "headRun": "r", "posted": [],
        "runs": [{
            "id": "r", "agent": "", "status": "running",
            "messages": [{"id": "r", "role": "assistant", "createdAt": 1001, "parts": [{"type": "text", "id": "x", "text": "", "open": True}]}],
        }],
    }  # fmt: skip


def test_progress_keeps_the_newest_hundred_sentences() -> None:
    log = numbered(
        [
            (e.ToolCallStart(tool_call_id="c", tool_call_name="f"), "r"),
            *((e.ToolCallProgress(tool_call_id="c", message=str(n)), "r") for n in range(150)),
        ]
    )
    (part,) = fold(Transcript(), log).runs[0].messages[0].parts
    assert isinstance(part, ToolPart)
    assert part.progress is not None
    assert part.progress.messages == [str(n) for n in range(50, 150)]


def test_a_long_run_costs_what_a_short_one_costs_per_token() -> None:
    """Twenty times the tokens may cost at most sixty times the time: linear, with room for a busy machine."""

    def seconds(tokens: int) -> float:
        log = numbered(
            [
                (e.TextMessageStart(message_id="x"), "r"),
                *((e.TextMessageContent(message_id="x", delta="token "), "r") for _ in range(tokens)),
            ]
        )
        best = 1e9
        for _ in range(3):
            begin = time.perf_counter()
            fold(Transcript(), log)
            best = min(best, time.perf_counter() - begin)
        return best

    assert seconds(100_000) < 60 * seconds(5_000)


def test_a_copy_folds_on_its_own() -> None:
    """The indexes are not shared: what is folded into a copy does not change the first."""
    first = fold(Transcript(), numbered([(e.TextMessageContent(message_id="x", delta="a"), "r")]))
    second = copy.deepcopy(first)
    fold(second, [stamp(of_run(e.TextMessageContent(message_id="x", delta="b"), "r"), 2, 2)])
    assert b'"text":"ab"' in dump(second)
    assert b'"text":"a"' in dump(first)
