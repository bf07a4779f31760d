"""The judge of what people asked: one effect and one answer for each command, where branches stand, what becomes of files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from runcast.commands import Edit, Retry, Send
from runcast.files import checked, id_of

if TYPE_CHECKING:
    from runcast.runs import Run

    from .history import History
    from .world import World


from .judge import NEWER, VERSION, Json


def judge_commands(world: World, logs: Mapping[tuple[str, str], Sequence[Json]]) -> list[str]:
    """I5: one effect, one answer, whatever the number of deliveries; I6: what was accepted is in the log."""
    problems: list[str] = []
    history = world.history
    lost = "I6, I24" if world.faults.on["stop"] else "I6"
    answers: dict[str, list[Any]] = {}
    tried: dict[str, str] = {}
    for one in history.deliveries:
        tried[one.key] = one.op
        if one.answer is not None:
            answers.setdefault(one.key, []).append(one)
    effects: dict[str, list[str]] = {}
    for log in logs.values():
        for event in log:
            if event["type"] in ("RUN_QUEUED", "RUN_STARTED"):
                for message in event["input"]["messages"]:
                    runs = effects.setdefault(message["id"], [])
                    if event["runId"] not in runs:
                        runs.append(event["runId"])
    on = world.faults.on
    if not any(on[kind] for kind in on if kind not in ("slow", "lines", "wakes", "reads", "split")):
        for log in logs.values():
            for event, following in pairwise(log):
                if (
                    event.get("reason") in (NEWER, VERSION)
                    and event["type"] == "RUN_CANCEL_REQUESTED"
                    and following["type"] != "RUN_QUEUED"
                ):
                    problems.append(f"I5: {event['runId']} was stopped for a newer message, and none came")
    again: set[str] = set()
    """Runs that ask again what another was asked."""
    carried_out: dict[str, int] = {}
    for commit in history.commits:
        if commit.receipt is not None:
            key = commit.receipt.key
            if key in carried_out:
                problems.append(f"I5: {key} was carried out twice")
            carried_out[key] = commit.order
            if isinstance(history.commands.get(key), Retry):
                again.add(json.loads(commit.receipt.result)["run"])
    for message, runs in effects.items():
        if len([run for run in runs if run not in again]) > 1:
            problems.append(f"I5: {message} started {runs}")
    for key, found in answers.items():
        first = found[0].answer
        match tried[key]:
            case "send" | "steer" | "edit" | "retry":
                if any(
                    (one.answer.run, one.answer.seq, one.answer.thread) != (first.run, first.seq, first.thread)
                    for one in found
                ):
                    problems.append(f"I5: {key} was answered {[one.answer for one in found]}")
                if not _holds(history, logs, key, first):
                    problems.append(f"{lost}: {key} was accepted as {first}, and is not there in the log")
            case "resolve":
                if any((one.answer.run, one.answer.seq) != (first.run, first.seq) for one in found):
                    problems.append(f"I5: {key} was answered {[one.answer for one in found]}")
            case "cancel":
                if any(one.answer.run != first.run for one in found):
                    problems.append(f"I5: {key} stopped {[one.answer.run for one in found]}")
            case "upload":
                if any(one.answer.id != first.id for one in found):
                    problems.append(f"I5: {key} was answered {[one.answer.id for one in found]}")
            case _:
                pass
    return problems


def _holds(history: History, logs: Mapping[tuple[str, str], Sequence[Json]], key: str, answer: Any) -> bool:
    """I6: the event that a command was answered with holds what was said."""
    log = next((log for (thread, _), log in logs.items() if thread == answer.thread), ())
    event = next((one for one in log if one["seq"] == answer.seq), None)
    if event is None or event.get("runId") != answer.run:
        return False
    command = history.commands[key]
    if event["type"] == "RUN_STEERED":
        return not isinstance(command, Edit | Retry) and event["message"]["id"] == command.message.id
    if event["type"] not in ("RUN_QUEUED", "RUN_STARTED"):
        return False
    said = [message["id"] for message in event["input"]["messages"]]
    return bool(said) if isinstance(command, Retry) else said == [command.message.id]


def judge_branches(history: History) -> list[str]:
    """I6: a branch stands beside its run; what was queued behind a run that another took the place of follows that one."""
    problems: list[str] = []
    rows: dict[str, Run] = {}
    for commit in history.commits:
        command = history.commands.get(commit.receipt.key) if commit.receipt is not None else None
        if command is not None and commit.runs:
            made = commit.runs[-1]
            if isinstance(command, Edit | Retry):
                first = _first_of(rows, command.run)
                if made.parent not in (rows[first].parent, _standing(rows, rows[first].parent)):
                    problems.append(f"I6: {made.id} branches from {command.run}, and follows {made.parent}")
            elif isinstance(command, Send) and command.parent_run_id and made.parent != command.parent_run_id:
                problems.append(f"I6: {made.id} was to follow {command.parent_run_id}, and follows {made.parent}")
        rows.update((run.id, run) for run in commit.runs)
        for run in commit.runs:
            parent = rows.get(run.parent or "")
            if run.status == "queued" and parent is not None and _was_taken_back(parent):
                problems.append(f"I6: {run.id} waits behind {parent.id}, which was taken back")
    return problems


def _standing(rows: Mapping[str, Run], run: str | None) -> str | None:
    """The run, or the nearest before it that was not taken back."""
    while run is not None and _was_taken_back(rows[run]):
        before = rows[run].replaces
        run = before if before is not None and rows[before].started_at is not None else rows[run].parent
    return run


def _was_taken_back(run: Run) -> bool:
    return run.status == "cancelled" and run.started_at is None


def _first_of(rows: Mapping[str, Run], run: str) -> str:
    while (resumes := rows[run].resumes) is not None:
        run = resumes
    return run


def judge_files(world: World, logs: Mapping[tuple[str, str], Sequence[Json]]) -> list[str]:
    """I6, I3: a file that a conversation names is there, whole, as long as the conversation is, and goes with it."""
    problems: list[str] = []
    files = world.store.files
    before = {id: sorted(kept.threads) for id, kept in files._kept.items()}
    try:
        files.collect(unbound_before=1 << 60).send(None)
    except StopIteration:
        pass
    named: dict[str, None] = {}
    for (thread, _), log in logs.items():
        if thread in world.history.deleted:
            continue
        for event in log:
            said = [event["message"]] if event["type"] == "RUN_STEERED" else event.get("input", {}).get("messages", ())
            for message in said:
                for id in checked(message["content"]):
                    named[id] = None
                    kept = files._kept.get(id)
                    if kept is None or kept.data != world.history.files.get(id, kept.data):
                        problems.append(f"I6: {thread} names the file {id}, which is not there: {before.get(id)}")
            for blob in filter(None, (event.get("blob"), event.get("resultBlob"))):
                id = str(id_of(blob["url"]))
                named[id] = None
                kept = files._kept.get(id)
                if kept is None or hashlib.sha256(kept.data).hexdigest() != blob["sha256"]:
                    problems.append(f"I3: the whole of seq {event['seq']} of {thread} is not there")
    for id in files._kept:
        if id not in named:
            problems.append(f"I6: the file {id} is kept for {before[id]}, and no conversation names it")
    return problems
