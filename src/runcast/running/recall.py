"""What a run or its new owner must know and only the log remembers: read from its fold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from runcast import events as e
from runcast.agents.base import Turn
from runcast.errors import AlreadyDecided, Expired, NotFound, StoreError
from runcast.hub import Hub
from runcast.running.lane import WaitingRun
from runcast.running.question import question_of
from runcast.running.recorder import Recorder
from runcast.runs import Answer, Message, Run, Thread
from runcast.stores.base import Store
from runcast.transcript import InterruptPart, TranscriptRun


class Recall:
    def __init__(self, store: Store, hub: Hub) -> None:
        self._store = store
        self._hub = hub

    async def history(self, thread: Thread, run: Run) -> Sequence[Turn]:
        async with self._hub.transcript(thread) as transcript:
            by_id = {one.id: one for one in transcript.runs}
            path: list[TranscriptRun] = []
            parent = run.parent
            while parent is not None and parent in by_id:
                path.append(by_id[parent])
                parent = path[-1].parent
        path.reverse()
        states = {state.run: state for state in await self._store.agent_states([one.id for one in path])}
        return [Turn(one, states.get(one.id)) for one in path]

    async def state(self, thread: Thread, run: Run) -> Any:
        if run.parent is None:
            return None
        try:
            async with self._hub.transcript(thread) as transcript:
                return transcript.state
        except StoreError:
            return None  # the run's first write will say what is wrong with the store

    async def recorder(self, thread: Thread, run: Run) -> Recorder:
        """A recorder of what the log says is open in this run."""
        async with self._hub.transcript(thread) as transcript:
            seen = next((one for one in transcript.runs if one.id == run.id), None)
            return Recorder(run.id) if seen is None else Recorder.of_transcript(seen)

    async def waiting(self, thread: Thread, run: Run) -> WaitingRun | None:
        async with self._hub.transcript(thread) as transcript:
            seen = next((one for one in transcript.runs if one.id == run.id), None)
            parts = [p for m in (seen.messages if seen else []) for p in m.parts if isinstance(p, InterruptPart)]
            waiting = WaitingRun(run, {part.id: question_of(part) for part in parts})
            for part in parts:
                if part.status != "open":
                    waiting.answers[part.id] = Answer(
                        interrupt_id=part.id,
                        status="resolved" if part.status == "resolved" else "cancelled",
                        payload=part.payload,
                        by=part.by or "",
                        expired=part.status == "expired",
                    )
        return waiting if parts else None

    async def messages(self, run: Run) -> tuple[Message, ...]:
        """A queued run's message, from the log (I18)."""
        records = await self._store.read(run.thread, run.first_seq - 1, max_events=1)
        event = records[0].event if records else None
        given: list[Any] = event.input.get("messages", []) if isinstance(event, e.RunQueued) else []
        return tuple(msgspec.convert(message, Message) for message in given)

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
