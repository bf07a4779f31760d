"""The judge sees what is wrong: each planted fault in a history is found, and a good history is let pass."""

from __future__ import annotations

from typing import Any

import pytest

from .judge import judge_log, judge_view

R = {"runId": "r"}
LOG: list[dict[str, Any]] = [
    {"seq": 1, "type": "RUN_STARTED", **R},
    {"seq": 2, "type": "TEXT_MESSAGE_START", **R, "messageId": "m"},
    {"seq": 3, "type": "TEXT_MESSAGE_CONTENT", **R, "messageId": "m", "delta": "a"},
    {"seq": 4, "type": "TEXT_MESSAGE_CONTENT", **R, "messageId": "m", "delta": "b"},
    {"seq": 5, "type": "TEXT_MESSAGE_END", **R, "messageId": "m", "text": "ab"},
    {"seq": 6, "type": "RUN_FINISHED", **R},
]
JOINED = {"from": 3, "seq": 4, "type": "TEXT_MESSAGE_CONTENT", **R, "messageId": "m", "delta": "ab"}
SLIM = {key: value for key, value in LOG[4].items() if key != "text"}


def test_what_is_right_is_let_pass() -> None:
    assert judge_log(LOG) == []
    assert judge_view(LOG, LOG) == []
    assert judge_view([*LOG[:2], JOINED, SLIM, LOG[5]], LOG) == []
    assert judge_view(LOG[3:], LOG, after=3, exact=True) == []


@pytest.mark.parametrize(
    ("number", "seen"),
    [
        ("I7", [*LOG[:3], *LOG[4:]]),
        ("I7", [*LOG[:3], LOG[2], *LOG[3:]]),
        ("I4", [*LOG, {"seq": 7, "type": "RUN_FINISHED", **R}]),
        ("I12", [*LOG[:2], {**JOINED, "delta": "aa"}, *LOG[4:]]),
        ("I12", [*LOG[:2], {**JOINED, "messageId": "n"}, *LOG[4:]]),
        ("I12", [*LOG[:4], {**LOG[5], "from": 5}]),
        ("I3", [LOG[0], {**LOG[1], "messageId": "n"}, *LOG[2:]]),
    ],
)
def test_what_a_reader_should_not_have_seen(number: str, seen: list[dict[str, Any]]) -> None:
    assert any(number in problem for problem in judge_view(seen, LOG))


def numbered(*events: dict[str, Any]) -> list[dict[str, Any]]:
    return [{**event, "seq": seq} for seq, event in enumerate(events, 1)]


ASKED = {"type": "INTERRUPT_REQUESTED", **R, "interrupt": {"id": "r.0"}}
ANSWERED = {"type": "INTERRUPT_RESOLVED", "interruptId": "r.0", "status": "resolved"}
QUEUED = [{"type": "RUN_QUEUED", "runId": run} for run in ("a", "b")]
STARTED = [{"type": "RUN_STARTED", "runId": run} for run in ("a", "b")]
ENDED = [{"type": "RUN_FINISHED", "runId": run} for run in ("a", "b")]
SAID = {"message": {"id": "m", "content": ""}}
HANDED = {"type": "RUN_STEERED", **R, **SAID, "consumed": False}
HEARD = {"type": "RUN_STEERED", **R, **SAID, "consumed": True}
LEFT = {"type": "RUN_QUEUED", "runId": "q", "input": {"messages": [SAID["message"]]}}
LATER = [{"type": "RUN_STARTED", "runId": "q"}, {"type": "RUN_FINISHED", "runId": "q"}]
AGAIN = [{"type": "RUN_RESTARTED", **R, "attempt": attempt} for attempt in (2, 3, 4)]


def test_what_is_steered_replaced_and_begun_again_is_let_pass() -> None:
    assert judge_log(numbered(LOG[0], HANDED, HEARD, LOG[5])) == []
    assert judge_log(numbered(LOG[0], HANDED, LOG[5], LEFT, *LATER)) == []
    assert judge_log(numbered(LOG[0], *AGAIN[:2], LOG[5])) == []
    new = {"type": "RUN_QUEUED", "runId": "c", "replaces": "a"}
    taken_back = {"type": "RUN_DEQUEUED", "runId": "a"}
    begins = [{"type": "RUN_STARTED", "runId": "c"}, {"type": "RUN_FINISHED", "runId": "c"}]
    assert judge_log(numbered(*QUEUED, new, taken_back, *begins, STARTED[1], ENDED[1])) == []


@pytest.mark.parametrize(
    ("number", "log"),
    [
        ("I1", [LOG[0], *LOG[2:]]),
        ("I5", numbered(LOG[0], {"type": "RUN_QUEUED", **R}, LOG[5])),
        ("I6", numbered(LOG[1], LOG[5])),
        ("I16", [*LOG, {**LOG[5], "seq": 7}]),
        ("I16", numbered(LOG[0], LOG[0], LOG[5])),
        ("I17", numbered(STARTED[0], STARTED[1], *ENDED)),
        ("I18", numbered(*QUEUED, STARTED[1], ENDED[1], STARTED[0], ENDED[0])),
        ("I18", numbered(*QUEUED, STARTED[0], ENDED[0])),
        ("I20", numbered(LOG[0], ASKED, LOG[5], ANSWERED, ANSWERED)),
        ("I20", numbered(LOG[0], LOG[5], ANSWERED)),
        ("I21", LOG[:-1]),
        ("I23", numbered(*LOG[:4], LOG[5])),
        ("I18", numbered(LOG[0], HANDED, LOG[5])),
        ("I5", numbered(LOG[0], HANDED, HEARD, HEARD, LOG[5])),
        ("I5", numbered(LOG[0], HANDED, HANDED, HEARD, LOG[5])),
        ("I5", numbered(LOG[0], HANDED, HEARD, LOG[5], LEFT, *LATER)),
        ("I6", numbered(LOG[0], HEARD, LOG[5])),
        ("I21", numbered(LOG[0], *AGAIN, LOG[5])),
        ("I21", numbered(LOG[0], AGAIN[1], LOG[5])),
        ("I23", numbered(*LOG[:2], AGAIN[0], LOG[5])),
    ],
)
def test_what_a_log_should_not_hold(number: str, log: list[dict[str, Any]]) -> None:
    assert any(number in problem for problem in judge_log(log)), judge_log(log)
