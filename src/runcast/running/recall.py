"""What a run or its new owner must know and only the log remembers: read from its fold."""

from __future__ import annotations

import copy
from collections.abc import Sequence, Set
from typing import Any

import msgspec
from msgspec import UNSET

from runcast import events as e
from runcast.agents.base import Turn
from runcast.errors import AlreadyDecided, Expired, NotFound, StoreError
from runcast.hub import Hub
from runcast.paths import path_to
from runcast.running.lane import WaitingRun
from runcast.running.opening import brief_of
from runcast.running.question import question_of
from runcast.running.recorder import Recorder
from runcast.runs import Answer, Brief, Message, Run, Thread
from runcast.stores.base import Store
from runcast.transcript import ActivityPart, InterruptPart, ToolPart, Transcript, fold


class Recall:
    def __init__(self, store: Store, hub: Hub) -> None:
        self._store = store
        self._hub = hub

    async def history(self, thread: Thread, run: Run) -> Sequence[Turn]:
        async with self._hub.transcript(thread) as transcript:
            path = [] if run.parent is None else path_to(transcript, run.parent)
        states = {state.run: state for state in await self._store.agent_states([one.id for one in path])}
        return [Turn(one, states.get(one.id)) for one in path]

    async def state(self, thread: Thread, run: Run) -> Any:
        """The shared state as the runs on the path to this one left it: what a sibling wrote is none of its business."""
        if run.parent is None:
            return None
        try:
            async with self._hub.transcript(thread) as transcript:
                if transcript.state is None:
                    return None
                path = {one.id for one in path_to(transcript, run.parent)}
                if all(one.id in path or one.id == run.id or one.status == "queued" for one in transcript.runs):
                    return transcript.state
            return await self._state_of(thread, path)
        except StoreError:
            return None  # the run's first write will say what is wrong with the store

    async def _state_of(self, thread: Thread, path: Set[str]) -> Any:
        """The state that the runs of a path made, from the log: the transcript has only that of all runs together."""
        made = Transcript()
        after = 0
        while records := await self._store.read(thread.id, after):
            after = records[-1].seq
            fold(
                made,
                (
                    record.event
                    for record in records
                    if isinstance(record.event, (e.StateSnapshot, e.StateDelta))
                    and (record.event.run_id is UNSET or record.event.run_id in path)
                ),
            )
        return made.state

    async def recorder(self, thread: Thread, run: Run) -> Recorder:
        """A recorder of what the log says is open in this run."""
        async with self._hub.transcript(thread) as transcript:
            seen = next((one for one in transcript.runs if one.id == run.id), None)
            return Recorder(run.id) if seen is None else Recorder.of_transcript(seen)

    async def left(self, thread: Thread, run: Run) -> Turn | None:
        """What the log shows of a run that is not over, and its checkpoint."""
        async with self._hub.transcript(thread) as transcript:
            seen = next((copy.deepcopy(one) for one in transcript.runs if one.id == run.id), None)
        states = await self._store.agent_states([run.id])
        return None if seen is None else Turn(seen, states[0] if states else None)

    async def waiting(self, thread: Thread, run: Run) -> WaitingRun | None:
        async with self._hub.transcript(thread) as transcript:
            seen = next((one for one in transcript.runs if one.id == run.id), None)
            parts = [p for m in (seen.messages if seen else []) for p in m.parts if isinstance(p, InterruptPart)]
            waiting = WaitingRun(run, {part.id: question_of(part) for part in parts}, Brief())
            for part in parts:
                if part.status != "open":
                    waiting.answers[part.id] = Answer(
                        interrupt_id=part.id,
                        status="resolved" if part.status == "resolved" else "cancelled",
                        payload=part.payload,
                        by=part.by or "",
                        expired=part.status == "expired",
                    )
        if parts:
            waiting.brief = await self.brief(run)
        return waiting if parts else None

    async def brief(self, run: Run) -> Brief:
        """What a run began with, from its first event (I6, I18)."""
        records = await self._store.read(run.thread, run.first_seq - 1, max_events=1)
        event = records[0].event if records else None
        input = event.input if isinstance(event, (e.RunQueued, e.RunStarted)) else UNSET
        return brief_of({} if input is UNSET else input)

    async def left_to_client(self, thread: Thread, run: Run) -> frozenset[str]:
        """The tool calls that the run left to its client, those with a result too."""
        async with self._hub.transcript(thread) as transcript:
            runs = {one.id: one for one in transcript.runs}
            calls: set[str] = set()
            link = runs.get(run.id)
            while link is not None:
                runs.pop(link.id)
                parts = [part for message in link.messages for part in message.parts]
                calls |= {part.id for part in parts if isinstance(part, ToolPart) and part.client}
                link = runs.get(link.resumes) if link.resumes else None
        return frozenset(calls)

    async def unread(self, thread: Thread, run: str) -> tuple[Message, ...]:
        """What was handed to the run's agent and, as far as the log knows, not read by it."""
        async with self._hub.transcript(thread) as transcript:
            seen = next((one for one in transcript.runs if one.id == run), None)
            ids = {message.id for message in seen.steering} if seen else set[str]()
        if not ids:
            return ()
        found: dict[str, Message] = {}
        after = (await self._rows([run]))[0].first_seq
        while len(found) < len(ids) and (records := await self._store.read(thread.id, after)):
            after = records[-1].seq
            for record in records:
                event = record.event
                if isinstance(event, e.RunSteered) and event.run_id == run and event.message.get("id") in ids:
                    message = msgspec.convert(event.message, Message)
                    found[message.id] = message
        return tuple(found.values())

    async def has_message(self, thread: Thread, id: str) -> bool:
        """Whether the thread has a message with this id."""
        async with self._hub.transcript(thread) as transcript:
            return any(
                message.id == id
                or any(isinstance(part, ActivityPart) and part.id == id for part in message.parts)  # a steered one
                for run in transcript.runs
                for message in (*run.messages, *run.steering)
            )

    # --- rows -----------------------------------------------------------------------------------------------------

    async def row(self, run: str) -> Run | None:
        return next(iter(await self._rows([run])), None)

    async def first_of(self, run: Run) -> Run:
        """The run that holds the question: of runs that go on with each other's answers the first."""
        seen = {run.id}
        while run.resumes is not None and run.resumes not in seen:
            rows = await self._rows([run.resumes])
            if not rows:
                break
            run = rows[0]
            seen.add(run.id)
        return run

    async def follows_instead(self, thread: Thread, run: Run) -> str | None:
        """What is before a queued run when it is taken back: the run it was to take the place of, else its parent."""
        if run.replaces is not None:
            replaced = await self.row(run.replaces)
            if replaced is not None and replaced.started_at is not None:
                return replaced.id
        return run.parent

    async def standing(self, thread: Thread, run: str | None) -> str | None:
        """`run`, or if it was taken back before it began the nearest before it that was not; None if there is none."""
        seen: set[str] = set()
        while run is not None and run not in seen:
            seen.add(run)
            row = await self.row(run)
            if row is None or row.status != "cancelled" or row.started_at is not None:
                break
            run = await self.follows_instead(thread, row)
        return run

    async def newest(self, thread: Thread, *, but: str) -> str | None:
        """The run of the thread accepted last of those that were not taken back."""
        rows = await self._store.runs(thread=thread.id)
        kept = [row.id for row in rows if row.id != but and (row.status != "cancelled" or row.started_at is not None)]
        return kept[-1] if kept else None

    async def in_order(self, queued: Sequence[Run]) -> list[Run]:
        """Queued runs in the order in which they will run: as accepted (I18), an edited one in the place of the one before."""
        places: dict[str, tuple[int, int]] = {}
        for run in queued:
            place, replaces = run, run.replaces
            while replaces is not None and (row := await self.row(replaces)) is not None and row.id != place.id:
                place, replaces = row, row.replaces
            places[run.id] = (place.first_seq, run.first_seq)
        return sorted(queued, key=lambda run: places[run.id])

    async def _rows(self, ids: Sequence[str]) -> list[Run]:
        return await self._store.runs(ids=ids)

    async def why_not(self, thread: Thread, run: Run, answer: Answer) -> Exception:
        async with self._hub.transcript(thread) as transcript:
            for one in transcript.runs:
                for message in one.messages:
                    for part in message.parts:
                        if isinstance(part, InterruptPart) and part.id == answer.interrupt_id and one.id == run.id:
                            return expired() if part.status == "expired" else decided(part.by or "")
        return NotFound("There is no such question.")


def expired() -> Expired:
    return Expired("Nobody answered this question in time; it can no longer be answered.")


def decided(by: str) -> AlreadyDecided:
    return AlreadyDecided(f"This question was answered already{f' by {by}' if by else ''}.")
