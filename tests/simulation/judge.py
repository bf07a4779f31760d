"""The one judge: what is wrong with a log and with what a reader saw of it, by the invariants of the specification. Pure.

`judge_log` and `judge_view` take events as the wire has them, so that tests against real servers use them too; `judge_world`
is for a whole simulated world.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass

DELTAS = {"TEXT_MESSAGE_CONTENT", "REASONING_MESSAGE_CONTENT", "TOOL_CALL_ARGS"}
TERMINAL = {"RUN_FINISHED", "RUN_ERROR", "RUN_DEQUEUED"}
ENDS = {"TEXT_MESSAGE_END", "REASONING_MESSAGE_END", "TOOL_CALL_END"}
NEWER = "A newer message took its place."
VERSION = "Another version took its place."
NOBODY = "Nobody was watching any more."
ATTEMPTS = 3
"""How often a run may begin."""
SLACK_S = 1.5
"""What a few operations on a slow store may take."""
LATE_S = 0.5
"""What a commit may take while several commands are carried out before it."""

Json = dict[str, Any]


def judge_view(seen: Iterable[Json], log: Sequence[Json], *, after: int = 0, exact: bool = False) -> list[str]:
    """What is wrong with what a reader saw after `after`, given the whole log: gaps, doubles, phantoms, altered events."""
    problems: list[str] = []
    by_seq = {event["seq"]: event for event in log}
    last = after
    for event in seen:
        first = event.get("from", event["seq"])
        if first != last + 1:
            problems.append(f"I7: after {last} came {first}")
        last = event["seq"]
        span = [by_seq.get(seq) for seq in range(first, last + 1)]
        logged = [one for one in span if one is not None]
        if len(logged) != len(span) or not logged:
            problems.append(f"I2, I4: phantom: seq {first}..{last} was seen and is not in the log")
        elif event["type"] in DELTAS:
            if event["delta"] != "".join(one.get("delta", "") for one in logged):
                problems.append(f"I12: altered: {event}")
            same = {key: event[key] for key in event if key not in ("delta", "from", "seq", "timestamp")}
            if any({**one, **same} != one for one in logged):
                problems.append(f"I12: joined what does not belong together: {event}")
        elif len(logged) > 1:
            problems.append(f"I12: joined what is never joined: {event}")
        elif event != logged[0] if exact or event["type"] not in ENDS else {**logged[0], **event} != logged[0]:
            problems.append(f"I3: altered: {event} is {logged[0]}")
    return problems


def judge_log(log: Sequence[Json], *, ended: bool = True, queue_limit: int = 8) -> list[str]:
    """What is wrong with a thread's log itself: I1, I5, I16, I17, I18, I20, I21, I23; with `ended`, that nothing is lost."""
    problems: list[str] = []
    if [event["seq"] for event in log] != list(range(1, len(log) + 1)):
        problems.append("I1: the seqs have a hole")
    most = 0
    running: str | None = None
    over: dict[str, str] = {}
    queue: list[str] = []
    opened: dict[str, str] = {}
    resumed: dict[str, str] = {}
    answered: dict[str, str] = {}
    asked: dict[str, str] = {}
    items: dict[str, dict[str, None]] = {}
    attempts: dict[str, int] = {}
    handed: dict[str, str] = {}
    """What was said to a run that went on, by message: the run; what was not read by its end is queued."""
    heard: dict[str, None] = {}
    left: dict[str, list[str]] = {}
    for event in log:
        kind = event["type"]
        if kind == "INTERRUPT_RESOLVED":
            one = event["interruptId"]
            if one in answered:
                problems.append(f"I20: {one} was answered twice")
            if one not in asked:
                problems.append(f"I20: {one} was answered and never asked")
            answered[one] = event["status"]
        run = event.get("runId")
        if run is None:
            continue
        if run in over:
            problems.append(f"I16: {kind} of {run} after {over[run]}")
        open_items = items.setdefault(run, {})
        item = event.get("messageId") or event.get("toolCallId")
        if kind not in ("RUN_STARTED", "RUN_QUEUED") and run not in opened:
            problems.append(f"I6: {kind} of {run}, which nobody began")
        match kind:
            case "RUN_QUEUED":
                if run in opened:
                    problems.append(f"I5: {run} was accepted twice")
                opened[run] = kind
                message = next((one["id"] for one in event["input"]["messages"]), "") if "input" in event else ""
                if "replaces" in event:  # it takes that one's place, in the queue or before it
                    queue.insert(queue.index(event["replaces"]) if event["replaces"] in queue else 0, run)
                elif message in handed and message not in left.get(handed[message], ()):
                    left.setdefault(handed[message], []).append(message)
                    queue.append(run)
                else:
                    queue.append(run)
                    most = max(most, len(queue))
            case "RUN_STARTED":
                if running is not None:
                    problems.append(f"I17: {run} started while {running} was running")
                if opened.get(run) == "RUN_STARTED":
                    problems.append(f"I16: {run} started twice")
                running = run
                if run in queue:
                    if queue[0] != run:
                        problems.append(f"I18: {run} started before {queue[0]}, which was accepted earlier")
                    queue.remove(run)
                opened[run] = kind
                if "resumes" in event:
                    if event["resumes"] in resumed:
                        problems.append(f"I20: {event['resumes']} was resumed by {resumed[event['resumes']]} and {run}")
                    resumed[event["resumes"]] = run
            case "TEXT_MESSAGE_START" | "TOOL_CALL_START" | "REASONING_MESSAGE_START":
                open_items[kind[:4] + item] = None
            case "TEXT_MESSAGE_END" | "TOOL_CALL_END" | "REASONING_MESSAGE_END":
                open_items.pop(kind[:4] + item, None)
            case "INTERRUPT_REQUESTED":
                asked[event["interrupt"]["id"]] = run
            case "RUN_STEERED":
                message = event["message"]["id"]
                if event["consumed"]:
                    if message in heard:
                        problems.append(f"I5: {message} was read twice")
                    if handed.get(message) != run:
                        problems.append(f"I5, I6: {run} read {message}, which it was not handed")
                    heard[message] = None
                elif message in handed:
                    problems.append(f"I5: {message} was handed over twice")
                else:
                    handed[message] = run
            case "RUN_RESTARTED":
                before = attempts.get(run, 1)
                if event["attempt"] != before + 1 or event["attempt"] > ATTEMPTS:
                    problems.append(f"I21: {run} began for the time {event['attempt']} after {before}")
                attempts[run] = event["attempt"]
                # A text may go on where it broke off; at the run's end it must be closed like all others.
                still = [one for one in open_items if event.get("anew") or not one.startswith("TEXT")]
                if still:
                    problems.append(f"I16, I23: {still} were open when {run} began again")
            case _ if kind in TERMINAL:
                over[run] = kind
                running = None if running == run else running
                if run in queue:
                    queue.remove(run)
                if open_items:
                    problems.append(f"I16, I23: {list(open_items)} were open at the end of {run}")
            case _:
                pass
    if most > queue_limit:
        problems.append(f"{most} messages were waiting, and {queue_limit} are allowed")
    for run, messages in left.items():
        if any(one in heard for one in messages):
            problems.append(f"I5: of {messages} some were read by {run}, and queued too")
        if messages != [one for one in handed if handed[one] == run and one in messages]:
            problems.append(f"I18: {messages} were not queued in the order in which {run} was handed them")
    if ended:
        lost = [one for one in handed if one not in heard and one not in left.get(handed[one], ())]
        if lost:
            problems.append(f"I18: {lost} were said to a run, and neither read nor queued")
        waits = any(one not in answered for one in asked)
        for run in opened:
            if run not in over and not (waits and opened[run] == "RUN_QUEUED"):
                problems.append(f"I18: {run} was lost" if run in queue else f"I21: {run} has no end")
    return problems
