"""The judge of a whole world: what is wrong with its history, by the invariants of the specification. Pure; it asks nobody."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from runcast import transcript
from runcast.events import Record, decode

if TYPE_CHECKING:
    from .history import History, View
    from .world import World


from .judge import TERMINAL, Json, judge_log, judge_view
from .judge_commands import judge_branches, judge_commands, judge_files
from .judge_runs import judge_attempts, judge_deaths, judge_latency, judge_watched, judge_work


def judge(world: World) -> list[str]:
    history = world.history
    problems = list(history.problems)
    logs = {key: [json.loads(record.data) for record in records] for key, records in history.logs.items()}
    inboxes = set(world.store._inboxes.values())
    for (thread, epoch), log in logs.items():
        stored = world.store._logs.get(thread)
        is_there = stored is not None and stored.thread.epoch == epoch
        if thread not in inboxes:
            problems += [
                f"{thread}: {one}" for one in judge_log(log, ended=is_there, queue_limit=world.limits.queue_limit)
            ]
        if stored is not None and is_there:
            if [r.data for r in stored.records] != [record.data for record in history.logs[thread, epoch]]:
                problems.append(f"I3: {thread} is not what was committed")
            problems += _rows(thread, log, world)
            if thread not in inboxes:
                problems += _tree(thread, world)
    problems += _commits(history)
    for view in history.views:
        problems += [f"{view.reader} of {view.thread}: {one}" for one in _view(view, history, logs)]
    if not world.store.restored:
        problems += judge_commands(world, logs)
        problems += judge_work(world, logs)
        problems += judge_branches(history)
        problems += judge_attempts(world, logs)
        problems += judge_watched(world)
        problems += judge_files(world, logs)
        problems += judge_latency(world)
        problems += judge_deaths(world)
    return list(dict.fromkeys(problems))


def _commits(history: History) -> list[str]:
    """I22: fences only grow, and what is visible was written under the fence of its moment."""
    problems: list[str] = []
    fences: dict[str, int] = {}
    for commit in history.commits:
        if commit.fence < fences.get(commit.thread, 0):
            problems.append(f"I22: {commit.thread}: {commit.records} under the old fence {commit.fence}")
        if commit.fence != commit.current_fence:
            problems.append(
                f"I22: {commit.thread}: written with {commit.fence} while the fence was {commit.current_fence}"
            )
        fences[commit.thread] = max(commit.fence, fences.get(commit.thread, 0))
    return problems


def _rows(thread: str, log: Sequence[Json], world: World) -> list[str]:
    """I6: run rows and log say the same."""
    problems: list[str] = []
    rows = {run.id: run for run in world.store._logs[thread].runs.values()}
    begun = {event["runId"]: event for event in log if event["type"] in ("RUN_STARTED", "RUN_QUEUED")}
    if set(rows) != set(begun):
        problems.append(f"I6: {thread} has rows {sorted(rows)} and in the log {sorted(begun)}")
    for event in log:
        row = rows.get(event.get("runId", ""))
        if row is None or event["type"] not in TERMINAL:
            continue
        expected = {
            "RUN_DEQUEUED": {"cancelled"},
            "RUN_ERROR": {"failed", "interrupted"},
            "RUN_FINISHED": {"done", "cancelled", "waiting"},
        }[event["type"]]
        if row.status not in expected or row.last_seq != event["seq"]:
            problems.append(f"I6: {row} and {event}")
    return problems


def _tree(thread: str, world: World) -> list[str]:
    """I6: who follows whom, and what is shown by default, is the same in the rows and in the fold of the log."""
    stored = world.store._logs[thread]
    folded = transcript.Transcript()
    transcript.fold(folded, (record.event for record in stored.records))
    problems: list[str] = []
    for run in folded.runs:
        row = stored.runs.get(run.id)
        if row is not None and row.parent != run.parent:
            problems.append(f"I6: {run.id} follows {row.parent}, and by the log {run.parent}")
    if stored.thread.head_run != folded.head_run:
        problems.append(f"I6: {thread} shows {stored.thread.head_run}, and by the log {folded.head_run}")
    return problems


def _view(view: View, history: History, logs: Mapping[tuple[str, str], Sequence[Json]]) -> list[str]:
    epoch = view.epoch or next((epoch for thread, epoch in logs if thread == view.thread), "")
    log = logs.get((view.thread, epoch), ())
    records = history.logs.get((view.thread, epoch), [])
    seen = [json.loads(item.record.data) for item in view.items]
    problems = (
        judge_run_view(seen, log, view) if view.run else judge_view(seen, log, after=view.after, exact=view.exact)
    )
    when: list[tuple[int, float]] = [(0, 0.0)] * (len(records) + 1)
    for commit in history.commits:
        if commit.thread == view.thread and commit.epoch == epoch:
            for record in commit.records:
                when[record.seq] = (commit.order, commit.time)
    for item in view.items:
        if item.record.seq > len(records):
            continue  # a phantom, and named so above
        order, time = when[item.record.seq]
        if item.order < order:
            problems.append(f"I2: seq {item.record.seq} was seen before its commit")
        if view.exact and item.record.event.from_ is not None and len(records) >= item.record.seq:
            committed = records[item.record.seq - 1]
            if not isinstance(item.record.event.from_, int) and item.record.data != committed.data:
                problems.append(f"I3: {item.record.data!r} is {committed.data!r}")
        if view.prompt is not None and item.time - time > view.prompt and item is not view.items[0]:
            problems.append(
                f"I9: seq {item.record.seq} came {item.time - time:.3f} s after its commit to a reader who waited"
            )
    if not problems and not view.run and (view.snapshot is not None or view.after == 0):
        problems += _folded(view, records)
    return problems


def judge_run_view(seen: Sequence[Json], log: Sequence[Json], view: View) -> list[str]:
    """Who followed one run: all its events, those only, once and in order; all of them, if it was told the end."""
    problems: list[str] = []
    own = [event["seq"] for event in log if event.get("runId") == view.run]
    got = [seq for event in seen for seq in range(event.get("from", event["seq"]), event["seq"] + 1)]
    if got != own[: len(got)]:
        problems.append(f"I7: of {own} came {got}")
    ended = any(event["type"] in TERMINAL for event in seen)
    if ended and got != own:
        problems.append(f"I7, I16: the end came after {got}, of {own}")
    if (
        not view.over
        and not ended
        and any(event["type"] in TERMINAL for event in log if event.get("runId") == view.run)
    ):
        problems.append(f"I7: {view.reader} was never told the end of {view.run}")
    return problems


def _folded(view: View, records: Sequence[Record]) -> list[str]:
    """I13, I14: what a reader folds is the replay from 0, whether it began with a snapshot or at 0."""
    snapshot = view.snapshot
    whole, tail = transcript.Transcript(), transcript.Transcript()
    if snapshot is not None:
        if snapshot.seq > len(records):
            return [f"I4: a snapshot at {snapshot.seq} of a log with {len(records)}"]
        transcript.fold(whole, (decode(record.data) for record in records[: snapshot.seq]))
        if _plain(transcript.dump(whole)) != _plain(snapshot.transcript):
            return [f"I13: the snapshot at {snapshot.seq} is not the fold of the log to there"]
        tail = transcript.load(snapshot.transcript)
    transcript.fold(tail, (item.record.event for item in view.items))
    transcript.fold(whole, (decode(record.data) for record in records[view.after : view.cursor]))
    if transcript.dump(tail) != transcript.dump(whole):
        return [f"I14: what was seen from {view.after} to {view.cursor} does not fold to the replay"]
    return []


def _plain(data: bytes) -> Any:
    return json.loads(data)
