"""Logs of threads as the runner writes them, for judging dialects: every kind of run there is, small enough to be cut anywhere.

    for name, records in LOGS.items(): …

Each is one thread's log from seq 1, without a hole; times are Unix milliseconds and grow by 100 from event to event.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import UNSET

from runcast import events as e
from runcast.events import Event, Record

THREAD: Final = "t1"
BEGAN_MS: Final = 1_767_225_600_000
STEP_MS: Final = 100


class RunLog:
    """The events of one run, in short words."""

    def __init__(self, id: str, asked: str = "Hi", *, resumes: str | None = None, queued: bool = False) -> None:
        self.id = id
        self.events: list[Event] = []
        messages = [{"id": f"{id}-in", "role": "user", "content": asked}] if asked else []
        self._input: dict[str, Any] = {
            "threadId": THREAD, "runId": id, "messages": messages, "tools": [], "context": [], "state": None,
            "forwardedProps": {},
        }  # fmt: skip
        if queued:
            self.add(e.RunQueued(thread_id=THREAD, input=self._input, agent="helper"))
        else:
            self.start(resumes=resumes)

    def add(self, *events: Event) -> RunLog:
        self.events += [e.of_run(event, self.id) for event in events]
        return self

    def start(self, *, resumes: str | None = None) -> RunLog:
        return self.add(
            e.RunStarted(
                thread_id=THREAD, input=self._input, agent="helper", resumes=UNSET if resumes is None else resumes
            )
        )

    def say(self, *pieces: str, id: str = "", incomplete: str | None = None) -> RunLog:
        id = id or f"{self.id}-m{len(self.events)}"
        self.add(e.TextMessageStart(message_id=id))
        self.add(*[e.TextMessageContent(message_id=id, delta=piece) for piece in pieces])
        ends = UNSET if incomplete is None else incomplete
        return self.add(e.TextMessageEnd(message_id=id, text="".join(pieces), incomplete=ends))

    def think(self, *pieces: str) -> RunLog:
        span, id = f"{self.id}-s{len(self.events)}", f"{self.id}-r{len(self.events)}"
        self.add(e.ReasoningStart(message_id=span), e.ReasoningMessageStart(message_id=id, role="reasoning"))
        self.add(*[e.ReasoningMessageContent(message_id=id, delta=piece) for piece in pieces])
        return self.add(e.ReasoningMessageEnd(message_id=id, text="".join(pieces)), e.ReasoningEnd(message_id=span))

    def call(self, id: str, name: str, *args: str, title: str | None = None) -> RunLog:
        self.add(
            e.ToolCallStart(tool_call_id=id, tool_call_name=name, title=UNSET if title is None else title),
            *[e.ToolCallArgs(tool_call_id=id, delta=piece) for piece in args],
        )
        return self.add(e.ToolCallEnd(tool_call_id=id, args="".join(args) or "{}"))

    def result(self, id: str, result: Any, **fields: Any) -> RunLog:
        content = result if isinstance(result, str) else msgspec.json.encode(result).decode()
        return self.add(
            e.ToolCallResult(message_id=f"{id}-out", tool_call_id=id, content=content, result=result, **fields)
        )

    def done(self) -> list[Event]:
        return self.add(e.RunFinished(thread_id=THREAD, outcome=e.Outcome(type="success"))).events

    def wait(self, interrupt: e.Interrupt) -> list[Event]:
        self.add(e.InterruptRequested(interrupt=interrupt))
        outcome = e.Outcome(type="interrupt", interrupts=[interrupt])
        return self.add(e.RunFinished(thread_id=THREAD, outcome=outcome)).events

    def cancelled(self, reason: str = "Enough.") -> list[Event]:
        self.add(e.RunCancelRequested(by="me", reason=reason))
        outcome = e.Outcome(type="cancelled")
        return self.add(e.RunFinished(thread_id=THREAD, outcome=outcome, reason=reason)).events

    def failed(self, message: str = "The model cannot be reached.", code: str = "model_unavailable") -> list[Event]:
        return self.add(e.RunError(message=message, code=code, retryable=True)).events


def log_of(*runs: Sequence[Event]) -> list[Record]:
    """The log with these events in it, one after the other."""
    records: list[Record] = []
    for run in runs:
        for event in run:
            seq = len(records) + 1
            stamped = e.stamp(event, seq, BEGAN_MS + seq * STEP_MS)
            records.append(Record(stamped, e.encode(stamped)))
    return records


def _approval() -> Sequence[Sequence[Event]]:
    asked = e.Interrupt(
        id="r1.1", reason="tool_call", message="Delete a.txt?", tool_call_id="c1", response_schema={"type": "object"}
    )
    waiting = RunLog("r1", "Delete it").say("One moment.").call("c1", "delete", '{"path":', '"a.txt"}').wait(asked)
    answered = [e.InterruptResolved(interrupt_id="r1.1", status="resolved", payload={"approved": True}, by="me")]
    going_on = RunLog("r2", "", resumes="r1").result("c1", {"deleted": 1}).say("Deleted", ".").done()
    return waiting, answered, going_on


def _logs() -> Mapping[str, list[Record]]:
    long = "Ein langer Satz über Käse. " * 40
    artifact = e.ArtifactSnapshot(artifact_id="a1", kind="diagram", content="erDiagram\n  A ||--o{ B : has", version=1)
    return {
        "plain": log_of(RunLog("r1").say("Hel", "lo", " you", ".").done()),
        "nothing said": log_of(RunLog("r1").done()),
        "two messages": log_of(RunLog("r1").say("First", ".").say("Second", ".").done()),
        "two runs": log_of(RunLog("r1").say("One.").done(), RunLog("r2", "And?").say("Two", ".").done()),
        "reasoning": log_of(
            RunLog("r1").think("Let me ", "see.\nAnd ", "then.").say("42").think("Sure?").say(".").done()
        ),
        "tools": log_of(
            RunLog("r1")
            .say("I look.")
            .call("c1", "search", '{"q":', '"a"}', title="Searching…")
            .add(e.ToolCallProgress(tool_call_id="c1", progress=1, total=2, message="Found 1"))
            .result("c1", {"found": 3}, summary="Found 3")
            .say("Three.")
            .done()
        ),
        "parallel tools": log_of(
            RunLog("r1")
            .call("c1", "add", '{"a":1}')
            .call("c2", "add", '{"a":2}')
            .result("c2", 2)
            .result("c1", None)
            .say("Added.")
            .done()
        ),
        "tool error": log_of(
            RunLog("r1")
            .call("c1", "read", '{"path":"x"}')
            .result("c1", "No such file", status="error", error="There is no file x.")
            .say("It is not there.")
            .done()
        ),
        "no arguments": log_of(RunLog("r1").call("c1", "now").result("c1", "12:00").say("Noon.").done()),
        "artifacts": log_of(
            RunLog("r1")
            .say("Here")
            .add(artifact, e.ArtifactDelta(artifact_id="a1", append="\n  B ||--o{ C : has"))
            .add(e.Source(source_id="s1", url="https://example.com/", title="An example"))
            .say(" it is.")
            .done()
        ),
        "state": log_of(
            RunLog("r1")
            .add(e.StateSnapshot(snapshot={"n": 1}))
            .add(e.StateDelta(delta=[{"op": "replace", "path": "/n", "value": 2}]))
            .add(e.StepStarted(step_name="plan"))
            .say("Two.")
            .add(e.StepFinished(step_name="plan"), e.Custom(name="mood", value="fine"))
            .done()
        ),
        "approval": log_of(*_approval()),
        "cancelled": log_of(RunLog("r1").say("I was ab", incomplete="cancelled").cancelled()),
        "cancelled in a tool": log_of(
            RunLog("r1").call("c1", "dig", "{}").result("c1", "Stopped.", status="cancelled").cancelled()
        ),
        "failed": log_of(RunLog("r1").say("I was ab", incomplete="failed").failed()),
        "failed at once": log_of(RunLog("r1").failed("The run took longer than 30 s and was stopped.", "timeout")),
        "queued": log_of(
            RunLog("r1").say("One.").events,
            RunLog("r2", "Two?", queued=True).events,
            [e.of_run(e.RunFinished(thread_id=THREAD, outcome=e.Outcome(type="success")), "r1")],
            RunLog("r2", "Two?").say("Two.").done(),
        ),
        "dequeued": log_of(
            RunLog("r2", "Two?", queued=True).events, [e.of_run(e.RunDequeued(reason="Not needed."), "r2")]
        ),
        "retracted": log_of(
            RunLog("r1").say("Wrong", id="m1").add(e.MessageRetracted(message_ids=["m1"])).say("Right.").done()
        ),
        "restarted": log_of(
            RunLog("r1")
            .say("Wro", id="m1", incomplete="interrupted")
            .add(e.RunRestarted(attempt=2, anew=True), e.MessageRetracted(message_ids=["m1"]))
            .say("Right.")
            .done()
        ),
        "interrupted": log_of(
            RunLog("r1").say("I w", incomplete="interrupted").failed("The server was restarted.", "interrupted")
        ),
        "unicode": log_of(
            RunLog("r1", "Grüß mich 👋").say("Grüß", " Gott ", "👩‍👩‍👧", "\u2028", "\r\n", "\x00").done()
        ),
        "long": log_of(RunLog("r1").say(*[long[at : at + 9] for at in range(0, len(long), 9)]).done()),
        "subagent": log_of(
            RunLog("r1")
            .add(e.SubagentStarted(subagent_run_id="sub1", name="digger"))
            .add(e.TextMessageStart(message_id="sm", subagent_run_id="sub1"))
            .add(e.TextMessageContent(message_id="sm", delta="inside", subagent_run_id="sub1"))
            .add(e.TextMessageEnd(message_id="sm", text="inside", subagent_run_id="sub1"))
            .add(e.SubagentFinished(subagent_run_id="sub1"))
            .say("Outside.")
            .done()
        ),
        "posted": log_of(
            [e.MessagePosted(message={"id": "p1", "role": "assistant", "content": "By the way."})],
            RunLog("r1").say("Yes.").done(),
            [e.ThreadUpdated(title="A title"), e.Feedback(target_run_id="r1", value=1)],
        ),
        "unknown": log_of(
            RunLog("r1").add(e.UnknownEvent(raw={"type": "FROM_THE_FUTURE", "x": 1})).say("Still here.").done()
        ),
    }


LOGS: Final = _logs()
"""By name."""
