"""The judge of what agents did: when they worked, what they said, and what became of their runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from runcast.events import TextMessageContent

if TYPE_CHECKING:
    from .world import World


from .judge import LATE_S, NOBODY, SLACK_S, TERMINAL, Json


def judge_work(world: World, logs: Mapping[tuple[str, str], Sequence[Json]]) -> list[str]:
    """I19: nothing goes on after the end; I20: a tool runs once per approval and never without; I11: nothing said is lost."""
    problems: list[str] = []
    history = world.history
    ends: dict[str, tuple[int, float]] = {}
    fences: dict[str, list[tuple[float, str]]] = {}
    approved: dict[str, int] = {}
    told: dict[str, float] = {}
    status: dict[str, str] = {}
    threads: dict[str, str] = {}
    for commit in history.commits:
        for run in commit.runs:
            status[run.id] = run.status
            threads[run.id] = run.thread
        if commit.node:
            writers = fences.setdefault(commit.thread, [])
            if commit.fence and (not writers or writers[-1][1] != commit.node):
                writers.append((commit.time, commit.node))
        for record in commit.records:
            event = json.loads(record.data)
            if event["type"] in TERMINAL:
                ends[event["runId"]] = (commit.order, commit.time)
            if event["type"] == "RUN_CANCEL_REQUESTED":
                told.setdefault(event["runId"], commit.time)
            if event.get("replaces") and event["type"] in ("RUN_QUEUED", "RUN_STARTED"):
                told.setdefault(event["replaces"], commit.time)
            if (
                event["type"] == "INTERRUPT_RESOLVED"
                and event["status"] == "resolved"
                and isinstance(event.get("payload"), dict)
                and event["payload"].get("approved")
            ):
                approved.setdefault(event["interruptId"], commit.order)
    stubborn = {work.run for work in history.work if work.what == "stubborn"}
    tools: dict[str, int] = {}
    sure = not any(world.faults.on[kind] for kind in ("freeze", "doubt", "outage", "leases"))
    for work in history.work:
        if sure and work.run in told and work.time - told[work.run] > SLACK_S / 3 and work.run not in stubborn:
            problems.append(
                f"I19: {work.run} still did {work.what} {work.time - told[work.run]:.3f} s after it was told to stop"
            )
        if work.what == "tool":
            tools[work.detail] = tools.get(work.detail, 0) + 1
            if work.order < approved.get(work.detail, 1 << 60):
                problems.append(f"I20: {work.detail} was carried out without an approval")
        if work.what in ("step", "tool", "begin") and work.run in ends and work.run not in stubborn:
            order, time = ends[work.run]
            if work.order > order and work.time - time > 0.3:
                late = _writer_at(fences.get(threads.get(work.run, ""), []), work.time)
                if late == work.node or late is None:
                    problems.append(f"I19: {work.run} still worked {work.time - time:.3f} s after its end")
                    continue
                awake = max(
                    (thaw for thaw, node in history.thaws if node == work.node and thaw <= work.time), default=0
                )
                if work.time - max(time, awake) > world.limits.lease_ttl_s + SLACK_S:
                    problems.append(
                        f"I19: {work.node} worked on {work.run} {work.time - time:.3f} s after {late} had taken it"
                    )
    problems += _without_lease(world, stubborn)
    on = world.faults.on
    if not any(on[kind] for kind in on if kind not in ("slow", "lines", "wakes", "reads", "split")):
        for run, time in told.items():
            late_s = ends[run][1] - time if run in ends else 0
            if late_s > world.limits.cancel_deadline_s + SLACK_S / 3:
                problems.append(f"I19: {run} ended {late_s:.3f} s after it was told to stop")
    for tool, count in tools.items():
        if count > 1:
            problems.append(f"I20: {tool} was carried out {count} times")
    texts: dict[tuple[str, int], str] = {}
    last: dict[str, int] = {}
    for log in logs.values():
        for event in log:
            if event["type"] == "RUN_RESTARTED":
                last[event["runId"]] = event["attempt"]
            if event["type"] == "TEXT_MESSAGE_CONTENT":
                run = event["runId"], last.get(event["runId"], 1)
                texts[run] = texts.get(run, "") + event["delta"]
    for (run, attempt), text in texts.items():
        said = history.said.get((run, attempt), "")
        over = attempt == last.get(run, 1) and status.get(run) in ("done", "waiting")
        if (over and text != said) or not (text.startswith(said) or said.startswith(text)):
            problems.append(f"I11: {run} said {said!r} at the time {attempt}, and in the log is {text!r}")
    return problems


def _without_lease(world: World, stubborn: set[str]) -> list[str]:
    """I19, I22: who cannot renew its leases stops its work before they run out."""
    history = world.history
    if world.faults.on["freeze"] or world.faults.on["doubt"]:
        return []
    until: dict[tuple[str, str], float] = {}
    threads = {run.id: run.thread for commit in history.commits for run in commit.runs}
    renewals = iter([*history.renewals, (float("inf"), "", "")])
    following = next(renewals)
    problems: list[str] = []
    for work in history.work:
        while following[0] <= work.time:
            until[following[1:]] = following[0] + world.limits.lease_ttl_s
            following = next(renewals)
        lease = until.get((work.node, threads[work.run]), work.time)
        if work.what == "step" and work.run not in stubborn and work.time > lease + SLACK_S / 3:
            problems.append(f"I19, I22: {work.node} worked on {work.run} {work.time - lease:.3f} s after its lease")
    return problems


def judge_attempts(world: World, logs: Mapping[tuple[str, str], Sequence[Json]]) -> list[str]:
    """I11, I20: a run that was taken up again shows what its last attempt stands by, each thing once, and did nothing twice
    that must not be."""
    problems: list[str] = []
    history = world.history
    uses: dict[tuple[str, str], int] = {}
    for work in history.work:
        if work.what == "use":
            uses[work.run, work.detail] = uses.get((work.run, work.detail), 0) + 1
    for (run, tool), count in uses.items():
        if count > 1:
            problems.append(f"I20: {run} used the tool of {tool} {count} times")
    status = {run.id: run.status for commit in history.commits for run in commit.runs}
    for log in logs.values():
        visible: dict[str, dict[str, None]] = {}
        attempts: dict[str, int] = {}
        for event in log:
            run = event.get("runId", "")
            match event["type"]:
                case "TEXT_MESSAGE_START":
                    visible.setdefault(run, {})[event["messageId"]] = None
                case "MESSAGE_RETRACTED":
                    for message in event.get("messageIds", ()):
                        visible.get(run, {}).pop(message, None)
                case "RUN_RESTARTED":
                    attempts[run] = event["attempt"]
                case _:
                    pass
        for run, attempt in attempts.items():
            shown = history.shown.get((run, attempt))
            if status.get(run) in ("done", "waiting") and shown is not None and shown != list(visible.get(run, ())):
                problems.append(f"I11: {run} shows {list(visible.get(run, ()))}, and stands by {shown}")
    return problems


def judge_watched(world: World) -> list[str]:
    """I19: a run that is to end with its watchers does, and only when the last one was away for the whole grace."""
    on = world.faults.on
    if any(on[kind] for kind in ("refuse", "doubt", "leases", "outage", "freeze")):
        return []
    history = world.history
    problems: list[str] = []
    grace = world.limits.disconnect_grace_s
    away: dict[tuple[str, str], list[tuple[float, float]]] = {}
    """At a process, of a thread: from when until when the last watcher was gone."""
    gone: dict[tuple[str, str], float] = {}
    for time, node, thread, count in history.watchers:
        if count == 0:
            gone[node, thread] = time
        elif (since := gone.pop((node, thread), None)) is not None:
            away.setdefault((node, thread), []).append((since, time))
    for place, since in gone.items():
        away.setdefault(place, []).append((since, float("inf")))
    ends: dict[str, float] = {}
    for commit in history.commits:
        for record in commit.records:
            event = record.event
            kind = event.type
            run = str(event.run_id)
            if kind == "RUN_CANCEL_REQUESTED" or kind in TERMINAL:
                ends.setdefault(run, commit.time)
            if getattr(event, "reason", None) == NOBODY and kind in ("RUN_CANCEL_REQUESTED", "RUN_DEQUEUED"):
                missed = away.get((commit.node, commit.thread), [])
                if not any(
                    since + grace <= commit.time and until >= max(since + grace, commit.time - SLACK_S)
                    for since, until in missed
                ):
                    problems.append(f"I19: {run} was stopped at {commit.time:.3f} though it was watched: {missed}")
    if any(on[kind] for kind in on if kind not in ("slow", "lines", "wakes")):
        return problems
    begun = {
        run.id: (commit.node, commit.thread, commit.time)
        for commit in history.commits
        for run in commit.runs
        if run.agent == "watched" and run.status == "running"
    }
    for run, (node, thread, time) in begun.items():
        for since, until in away.get((node, thread), []):
            late = since + grace + SLACK_S / 3
            if time < since and late < min(until, ends.get(run, history.over)):
                problems.append(f"I19: {run} goes on at {late:.3f}, and nobody watches since {since:.3f}")
    return problems


def judge_latency(world: World) -> list[str]:
    """I8: where store and processes are well, what an agent says is in the log at once, however slow the readers are."""
    on = world.faults.on
    if any(on[kind] for kind in on if kind not in ("slow", "lines", "wakes")):
        return []
    history = world.history
    given = {run: iter(times) for run, times in history.said_at.items()}
    for commit in history.commits:
        for record in commit.records:
            if isinstance(record.event, TextMessageContent):
                said = next(given[str(record.event.run_id)], commit.time)
                if commit.time - said > LATE_S:
                    return [
                        f"I8: seq {record.seq} of {commit.thread} was written {commit.time - said:.3f} s after it was said"
                    ]
    return []


def _writer_at(writers: Sequence[tuple[float, str]], time: float) -> str | None:
    found = None
    for since, node in writers:
        if since <= time:
            found = node
    return found


def judge_deaths(world: World) -> list[str]:
    """I21: within TTL and a sweep of its owner's death a run has ended or waits: where nothing else was in the way."""
    on = world.faults.on
    if any(on[kind] for kind in ("outage", "clock", "leases", "freeze", "reads", "doubt", "refuse")):
        return []
    problems: list[str] = []
    history = world.history
    limits = world.limits
    deaths = [time for time, _ in history.deaths]
    for time, name in history.deaths:
        if any(time < other < time + 2 * limits.lease_ttl_s for other in deaths):
            continue
        most = time + limits.lease_ttl_s + limits.renew_s + SLACK_S + 4.0  # a process may take 4 s to be started again
        running: dict[str, str] = {}
        for commit in history.commits:
            for record in commit.records:
                if record.event.type == "RUN_RESTARTED" and (taken := str(record.event.run_id)) in running:
                    if commit.time > most and running[taken] == name:
                        problems.append(f"I21: {taken} of {name}, dead at {time:.2f}, began again at {commit.time:.2f}")
                    running[taken] = commit.node
            for run in commit.runs:
                if commit.time <= time:
                    if run.status == "running":
                        running[run.id] = commit.node
                    else:
                        running.pop(run.id, None)
                elif (
                    run.id in running and run.status != "running" and running.pop(run.id) == name and commit.time > most
                ):
                    problems.append(f"I21: {run.id} of {name}, dead at {time:.2f}, ended at {commit.time:.2f}")
    return problems
