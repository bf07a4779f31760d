"""The one judge: what is wrong with a history, by the invariants of the specification. Pure; it asks nobody.

`judge_log` and `judge_view` take events as the wire has them, so that tests against real servers use them too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from runcast import transcript
from runcast.events import Record, TextMessageContent, decode

if TYPE_CHECKING:
    from .history import History, View
    from .world import World

DELTAS = {"TEXT_MESSAGE_CONTENT", "REASONING_MESSAGE_CONTENT", "TOOL_CALL_ARGS"}
TERMINAL = {"RUN_FINISHED", "RUN_ERROR", "RUN_DEQUEUED"}
ENDS = {"TEXT_MESSAGE_END", "REASONING_MESSAGE_END", "TOOL_CALL_END"}
NEWER = "A newer message took its place."
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
    """What is wrong with a thread's log itself: I1, I16, I17, I18, I20, I23; with `ended`, I21 too."""
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
    if ended:
        waits = any(one not in answered for one in asked)
        for run in opened:
            if run not in over and not (waits and opened[run] == "RUN_QUEUED"):
                problems.append(f"I18: {run} was lost" if run in queue else f"I21: {run} has no end")
    return problems


# --- a whole world ------------------------------------------------------------------------------------------------


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
    problems += _commits(history)
    for view in history.views:
        problems += [f"{view.reader} of {view.thread}: {one}" for one in _view(view, history, logs)]
    if not world.store.restored:
        problems += _commands(world, logs)
        problems += _work(world, logs)
        problems += _latency(world)
        problems += _deaths(world)
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


def _commands(world: World, logs: Mapping[tuple[str, str], Sequence[Json]]) -> list[str]:
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
                    event.get("reason") == NEWER
                    and event["type"] == "RUN_CANCEL_REQUESTED"
                    and following["type"] != "RUN_QUEUED"
                ):
                    problems.append(f"I5: {event['runId']} was stopped for a newer message, and none came")
    for message, runs in effects.items():
        if len(runs) > 1:
            problems.append(f"I5: {message} started {runs}")
    for key, found in answers.items():
        first = found[0].answer
        match tried[key]:
            case "send":
                if any(
                    (one.answer.run, one.answer.seq, one.answer.thread) != (first.run, first.seq, first.thread)
                    for one in found
                ):
                    problems.append(f"I5: {key} was answered {[one.answer for one in found]}")
                if effects.get(key) != [first.run]:
                    problems.append(
                        f"{lost}: {key} was accepted as {first.run} and is in the log as {effects.get(key)}"
                    )
            case "resolve":
                if any((one.answer.run, one.answer.seq) != (first.run, first.seq) for one in found):
                    problems.append(f"I5: {key} was answered {[one.answer for one in found]}")
            case "cancel":
                if any(one.answer.run != first.run for one in found):
                    problems.append(f"I5: {key} stopped {[one.answer.run for one in found]}")
            case _:
                pass
    return problems


def _work(world: World, logs: Mapping[tuple[str, str], Sequence[Json]]) -> list[str]:
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
    texts: dict[str, str] = {}
    for log in logs.values():
        for event in log:
            if event["type"] == "TEXT_MESSAGE_CONTENT":
                texts[event["runId"]] = texts.get(event["runId"], "") + event["delta"]
    for run, text in texts.items():
        said = history.said.get(run, "")
        if (status.get(run) in ("done", "waiting") and text != said) or not (
            text.startswith(said) or said.startswith(text)
        ):
            problems.append(f"I11: {run} said {said!r}, and in the log is {text!r}")
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


def _latency(world: World) -> list[str]:
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


def _deaths(world: World) -> list[str]:
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
