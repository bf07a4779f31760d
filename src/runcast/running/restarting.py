"""What becomes of a run whose process is gone: it ends, or the same run goes on under its new owner.

An agent says by `on_crash` what may be done with its runs: `never` (they end), `restart` (from the beginning) or `resume`
(from where it said it stood). What was done before decides whether that is safe: a tool whose effect is unknown runs a
second time only if it was declared idempotent, and a run is taken up at most `ATTEMPTS` times. Everything is judged by the
log alone, so that every owner judges alike.
"""

from __future__ import annotations

import copy
from typing import Any, NamedTuple, cast

import msgspec
from msgspec import UNSET

from runcast import events as e
from runcast.agents.base import Agent, Kept, OnCrash, Turn
from runcast.events import Event, Record
from runcast.hub import Hub
from runcast.running.opening import brief_of
from runcast.running.recorder import Recorder
from runcast.runs import Brief, Message, Run, Thread
from runcast.stores.base import LONG_BYTES, LONG_EVENTS, Store
from runcast.transcript import ReasoningPart, TextPart, ToolPart, Transcript, TranscriptRun, fold

ATTEMPTS = 3
"""How often a run may begin, the first time included."""

RESTARTED = "The server was restarted while this run was under way."


class GoesOn(NamedTuple):
    """The run is taken up again: what to write first, and what its agent is given."""

    attempt: int
    events: list[Event]
    brief: Brief
    resumes: bool
    """It goes on from the checkpoint, and from what the log shows once `events` are in it; else from its beginning."""


class Over(NamedTuple):
    """The run ends."""

    sentence: str
    """For the person in the chat."""
    cancelled: bool = False
    """Somebody had stopped it."""
    reason: str | None = None


class _Seen(NamedTuple):
    """What the log says of one run."""

    run: TranscriptRun
    state: Any
    attempt: int
    began: dict[str, str]
    """Calls whose tool may have begun to work, by id: the tool's name."""
    idempotent: frozenset[str]
    brief: Brief
    changed_state: bool


class Restarting:
    """Judges runs. It writes nothing and starts nothing."""

    def __init__(self, store: Store, hub: Hub) -> None:
        self._store = store
        self._hub = hub

    async def judge(self, thread: Thread, run: Run, agent: Agent | None, sentence: str = RESTARTED) -> GoesOn | Over:
        """What becomes of `run`, a running one that nobody drives any more; `sentence` says why nobody does."""
        seen = await self._seen(thread, run)
        if seen.run.cancelling:
            return Over(sentence, cancelled=True, reason=seen.run.reason)
        policy = policy_of(agent)
        if agent is None or policy == "never":
            return Over(sentence)
        if seen.attempt >= ATTEMPTS:
            return Over(f"{sentence} It had begun {seen.attempt} times and was not begun again.")
        if policy == "resume":
            turn = Turn(seen.run, next(iter(await self._store.agent_states([run.id])), None))
            kept = kept_by(agent, turn)
            if kept is not None:
                over = kept.over or _unknown(seen, kept)
                return (
                    Over(f"{sentence} It was not begun again, because {over}.") if over else self._resumed(seen, kept)
                )
        if run.resumes is not None:
            return Over(f"{sentence} It was going on from an answer, which counts only once; please ask again.")
        for call, name in seen.began.items():
            if call not in seen.idempotent:
                return Over(f"{sentence} It was not begun again, because the tool {name} must not run twice.")
        return await self._anew(thread, run, seen)

    async def _anew(self, thread: Thread, run: Run, seen: _Seen) -> GoesOn:
        """From the beginning: nothing that was made counts any more."""
        attempt = seen.attempt + 1
        events = [
            *Recorder.of_transcript(seen.run).close("interrupted"),
            e.RunRestarted(attempt=attempt, anew=True),
            *_retracted(seen.run, Kept()),
        ]
        if seen.changed_state:
            before = await self._state_before(thread, run)
            if before != seen.state:
                events.append(e.StateSnapshot(snapshot=before))
        return GoesOn(attempt, [e.of_run(one, run.id) for one in events], seen.brief, resumes=False)

    def _resumed(self, seen: _Seen, kept: Kept) -> GoesOn:
        """From where the agent said it stood: what came later does not count; a tool of unknown effect is told as that."""
        attempt = seen.attempt + 1
        again = frozenset(call for call in seen.idempotent if call in kept.calls)
        events = [
            *Recorder.of_transcript(seen.run).close("interrupted", unanswered=again, open=kept.open),
            e.RunRestarted(attempt=attempt),
            *_retracted(seen.run, kept),
        ]
        return GoesOn(attempt, [e.of_run(one, seen.run.id) for one in events], seen.brief, resumes=True)

    # --- what the log says ----------------------------------------------------------------------------------------

    async def _seen(self, thread: Thread, run: Run) -> _Seen:
        async with self._hub.transcript(thread) as transcript:
            found = next((one for one in transcript.runs if one.id == run.id), None)
            shown = TranscriptRun(id=run.id, status="running") if found is None else copy.deepcopy(found)
            state: Any = copy.deepcopy(transcript.state)
        attempt = 1
        named: dict[str, str] = {}
        began: dict[str, str] = {}
        idempotent: set[str] = set()
        given: dict[str, Any] = {}
        steered: list[dict[str, Any]] = []
        changed_state = False
        after = run.first_seq - 1
        while records := await self._read(thread, after):
            after = records[-1].seq
            for event in (record.event for record in records if record.event.run_id == run.id):
                match event:
                    case e.RunQueued() | e.RunStarted():
                        given = given if event.input is UNSET else event.input
                    case e.RunSteered(consumed=True):
                        steered.append(event.message)
                    case e.RunRestarted():
                        attempt = max(attempt, event.attempt)
                    case e.ToolCallStart():
                        named[event.tool_call_id] = event.tool_call_name
                        if event.idempotent is True:
                            idempotent.add(event.tool_call_id)
                    case e.ToolCallEnd() if event.incomplete is UNSET:
                        began[event.tool_call_id] = named.get(event.tool_call_id, "tool")
                    case e.StateSnapshot() | e.StateDelta():
                        changed_state = True
                    case _:
                        pass
        brief = brief_of(given)
        said = tuple(msgspec.convert(one, Message) for one in steered)
        return _Seen(
            run=shown,
            state=state,
            attempt=attempt,
            began=began,
            idempotent=frozenset(idempotent),
            brief=msgspec.structs.replace(brief, messages=(*brief.messages, *said)),
            changed_state=changed_state,
        )

    async def _state_before(self, thread: Thread, run: Run) -> Any:
        """The thread's shared state as it stood when the run began."""
        transcript = Transcript()
        while transcript.seq < run.first_seq - 1:
            records = await self._read(thread, transcript.seq)
            before = [record.event for record in records if record.seq < run.first_seq]
            if not before:
                break
            fold(transcript, before)
        return transcript.state

    async def _read(self, thread: Thread, after: int) -> list[Record]:
        return await self._store.read(thread.id, after, max_bytes=LONG_BYTES, max_events=LONG_EVENTS)


def policy_of(agent: Agent | None) -> OnCrash:
    """What an agent says of its runs; one that says nothing wants nothing done again."""
    policy = getattr(agent, "on_crash", "never")
    return policy if policy in ("restart", "resume") else "never"


def kept_by(agent: Agent, turn: Turn) -> Kept | None:
    """What stays of an attempt if the agent goes on from what it left; None if it cannot."""
    kept_of = getattr(agent, "kept", None)
    return None if kept_of is None else cast("Kept | None", kept_of(turn))


def _unknown(seen: _Seen, kept: Kept) -> str | None:
    """A tool that began, that the agent knows nothing of and that must not run twice."""
    for call, name in seen.began.items():
        if call not in kept.calls and call not in seen.idempotent:
            return f"the tool {name} must not run twice"
    return None


def _retracted(run: TranscriptRun, kept: Kept) -> list[Event]:
    """What the attempt before showed and the next one writes again."""
    messages: dict[str, None] = {}
    calls: dict[str, None] = {}
    made = False
    for message in run.messages:
        made = made or (message.id == run.id and message.role == "assistant")
        for part in message.parts if made else ():
            if isinstance(part, TextPart | ReasoningPart) and part.id not in kept.messages:
                messages[part.id] = None
            elif isinstance(part, ToolPart) and part.id not in kept.calls:
                calls[part.id] = None
    if not messages and not calls:
        return []
    return [
        e.MessageRetracted(
            message_ids=list(messages) or UNSET, tool_call_ids=list(calls) or UNSET, reason="The run was restarted."
        )
    ]
