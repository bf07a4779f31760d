"""Planted bugs: the test of the test. Each is a mistake that somebody could make, and that the judge must see.

Those of reading, writing, commands and running are here; `mutants_asking` has those of branches, steering and files,
`mutants_lasting` those of runs that outlive their process or their watchers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Sequence
from typing import Any
from unittest.mock import patch

import anyio
import msgspec

import runcast.client.connection
import runcast.subscription
import runcast.testing.memory_store as memory_store
from runcast import events as e
from runcast.dialects.native import NativeEncoder, _slim
from runcast.errors import StoreError
from runcast.events import Record, encode, stamp
from runcast.feed import Feed
from runcast.hub import Hub
from runcast.running import lanes
from runcast.running.appender import Appender
from runcast.running.execution import Execution
from runcast.running.executions import Executions
from runcast.running.interrupts import Interrupts
from runcast.running.lane import Lane, WaitingRun
from runcast.running.lanes import Lanes
from runcast.running.opening import started
from runcast.running.recorder import Recorder
from runcast.running.runner import Runner
from runcast.running.takeover import Takeover
from runcast.runs import Brief, Run
from runcast.subscription import Subscription
from runcast.testing import MemoryStore
from runcast.transcript import Transcript
from runcast.updates import Events, join

from . import mutants_asking, mutants_lasting
from .mutant import MUTANTS, Mutant, mutant, planted


def _stamped(lane: Lane, events: Sequence[e.Event], now: int) -> list[Record]:
    stamped = [stamp(event, seq, now) for seq, event in enumerate(events, lane.head + 1)]
    return [Record(event, encode(event)) for event in stamped]


class _Patient:
    """anyio without time limits."""

    def __getattr__(self, name: str) -> Any:
        return getattr(anyio, name)

    def move_on_after(self, delay: float) -> anyio.CancelScope:
        return anyio.CancelScope()


# --- reading ------------------------------------------------------------------------------------------------------


@mutant("I7", "I9")
def subscribe_after_replay() -> Generator[None]:
    """History first, then live from the head: what comes between the two is in neither."""
    original = Subscription._read
    live: dict[int, Subscription] = {}

    async def read(self: Subscription) -> Any:
        if live.get(id(self)) is not self and not self._wants_snapshot and self._resync is None:
            records = await self._store.read(self.thread.id, self.cursor)
            if records:
                self.cursor = records[-1].seq
                return Events(records)
            live[id(self)] = self
            self.cursor = max(self.cursor, self._feed.head)
        return await original(self)

    with patch.object(Subscription, "_read", read):
        yield


@mutant("I7", only=["wakes"])
def no_dedup_at_the_feed() -> Generator[None]:
    """A doubled or late notice is taken for new records."""

    def push(self: Feed, records: Sequence[Record]) -> None:
        if records:
            self._records.extend(records)
            self._bytes += sum(len(record.data) for record in records)
            self.head = max(self.head, records[-1].seq)
            self._trim()
            self.wake()

    with patch.object(Feed, "push", push):
        yield


@mutant("I7", only=["slow"])
def drop_on_overflow() -> Generator[None]:
    """A slow reader's queue is full: the oldest are dropped."""
    original = Subscription._read

    async def read(self: Subscription) -> Any:
        if self._caught_up and self._feed.head - self.cursor > 20:
            self.cursor = self._feed.head - 20
        return await original(self)

    with patch.object(Subscription, "_read", read):
        yield


@mutant("I7", "I9")
def stale_wake_up() -> Generator[None]:
    """The wake-up is cleared after reading, and reading takes a moment: what came meanwhile wakes nobody."""

    async def anext(self: Subscription) -> Any:
        while True:
            if self._closed:
                raise StopAsyncIteration
            update = await self._read()
            await asyncio.sleep(0.003)
            self._wake.clear()
            if update is not None:
                return update
            await self._wake.wait()

    with patch.object(Subscription, "__anext__", anext):
        yield


@mutant("I9", only=["wakes"])
def no_poll() -> Generator[None]:
    """Wake-ups are relied upon: nobody looks whether one was lost."""

    async def run(self: Hub) -> None:
        await anyio.sleep_forever()

    with patch.object(Hub, "run", run):
        yield


@mutant("I7")
def a_sink_whose_reader_reads_it_again() -> Generator[None]:
    """What was handed over inside the commit is read once more: the cursor did not move."""
    original = Subscription._takes

    def takes(self: Subscription, sink: Any, pushed: Sequence[Record]) -> bool:
        cursor = self.cursor
        taken = original(self, sink, pushed)
        self.cursor = cursor
        return taken

    with patch.object(Subscription, "_takes", takes):
        yield


@mutant("I7")
def a_sink_for_who_is_behind() -> Generator[None]:
    """What is pushed is handed to readers who have not read what came before."""

    def takes(self: Subscription, sink: Any, pushed: Sequence[Record]) -> bool:
        if self._closed or not sink(Events(list(pushed))):
            return False
        self.cursor = pushed[-1].seq
        return True

    def on_wake(self: Subscription, pushed: Sequence[Record]) -> None:
        if self._sink is not None and pushed and self._takes(self._sink, pushed):
            return
        self._wake.set()

    with patch.object(Subscription, "_takes", takes), patch.object(Subscription, "_on_wake", on_wake):
        yield


@mutant("I12", "I11", only=["slow"])
def a_join_that_loses() -> Generator[None]:
    """Joining many deltas forgets one."""

    def careless(records: Sequence[Record], limit: int | None = None) -> list[Record]:
        joined: list[Record] = []
        for record in join(records, limit):
            event = record.event
            if isinstance(event, e.TextMessageContent) and isinstance(event.from_, int) and event.seq > event.from_ + 1:
                event = msgspec.structs.replace(event, delta=event.delta[:-1])
                record = Record(event, encode(event))
            joined.append(record)
        return joined

    with patch.object(runcast.subscription, "join", careless):
        yield


@mutant("I13", only=["crash", "stop"])
def a_snapshot_that_is_behind_its_seq() -> Generator[None]:
    """The stored fold says that it reaches one event further than it does."""
    original = Hub._stored

    async def stored(self: Hub, thread: str, place: Any) -> Transcript:
        found = await original(self, thread, place)
        if found.seq:
            found.seq += 1
        return found

    with patch.object(Hub, "_stored", stored):
        yield


@mutant("I14")
def a_live_end_without_what_no_delta_said() -> Generator[None]:
    """Who follows live folds other arguments than who reads the log again."""
    original = NativeEncoder.payload

    def payload(self: NativeEncoder, record: Record) -> bytes:
        data = original(self, record)
        event = record.event
        return _slim(event) if isinstance(event, e.ToolCallEnd) and event.args == "{}" else data

    with patch.object(NativeEncoder, "payload", payload):
        yield


@mutant("I15", only=["lines"])
def no_watchdog() -> Generator[None]:
    """The client waits for a line to say that it is dead."""
    with patch.object(runcast.client.connection, "WATCHDOG_S", 1e9):
        yield


# --- writing ------------------------------------------------------------------------------------------------------


@mutant("I1")
def a_seq_that_is_left_out() -> Generator[None]:
    """The store numbers a group of many events with a hole."""
    original = memory_store._stamped

    def stamped(events: Any, head: int, now: int) -> list[Record]:
        events = list(events)
        return original(events, head + (len(events) > 3), now)

    with patch.object(memory_store, "_stamped", stamped):
        yield


@mutant("I2")
def deliver_before_commit() -> Generator[None]:
    """Told first, written then."""
    original = Appender._append

    async def append(self: Appender, lane: Lane, write: Any) -> None:
        self._hub.push(lane.thread.id, _stamped(lane, write.events, self._clock.now_ms()))
        await original(self, lane, write)

    with patch.object(Appender, "_append", append):
        yield


@mutant("I3")
def a_replay_that_differs() -> Generator[None]:
    """What is read back was encoded anew, a little otherwise."""
    original = MemoryStore.read

    async def read(self: MemoryStore, *args: Any, **kwargs: Any) -> list[Record]:
        found: list[Record] = []
        for record in await original(self, *args, **kwargs):
            event = msgspec.structs.replace(record.event, timestamp=0)
            found.append(Record(event, encode(event)))
        return found

    with patch.object(MemoryStore, "read", read):
        yield


@mutant("I4", only=["refuse"])
def told_although_it_failed() -> Generator[None]:
    """The write failed, and readers get its events all the same."""
    original = Appender._append

    async def append(self: Appender, lane: Lane, write: Any) -> None:
        try:
            await original(self, lane, write)
        except StoreError:
            self._hub.push(lane.thread.id, _stamped(lane, write.events, self._clock.now_ms()))
            raise

    with patch.object(Appender, "_append", append):
        yield


@mutant("I8", only=["slow"])
def an_append_that_waits_for_readers() -> Generator[None]:
    """The agent is held back until every reader has read."""
    init, append = Subscription.__init__, Appender._append
    readers: list[Subscription] = []

    def remember(self: Subscription, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        readers.append(self)

    async def patient(self: Appender, lane: Lane, write: Any) -> None:
        await append(self, lane, write)
        for _ in range(40):
            if all(one.cursor >= lane.head for one in readers if one.thread.id == lane.thread.id and not one.ended):
                return
            await anyio.sleep(0.05)

    with patch.object(Subscription, "__init__", remember), patch.object(Appender, "_append", patient):
        yield


@mutant("I11")
def a_full_buffer_that_drops() -> Generator[None]:
    """The agent is faster than the log: what does not fit is thrown away."""
    original = Execution.drain

    def drain(self: Execution) -> list[e.Event]:
        group = original(self)
        return group[:10] + [event for event in group[10:] if not isinstance(event, e.TextMessageContent)]

    with patch.object(Execution, "drain", drain):
        yield


@mutant("I16")
def two_terminals() -> Generator[None]:
    """A run ends twice."""
    original = Appender.write

    async def write(self: Appender, lane: Lane, events: Sequence[e.Event], **rows: Any) -> None:
        if events and isinstance(events[-1], e.RunFinished):
            events = [*events, events[-1]]
        await original(self, lane, events, **rows)

    with patch.object(Appender, "write", write):
        yield


@mutant("I23", "I16")
def nothing_is_closed() -> Generator[None]:
    """A run ends and leaves its caret blinking."""
    with patch.object(Recorder, "close", lambda self, ending: []):
        yield


@mutant("I22", only=["freeze", "split"])
def a_store_that_does_not_look_at_fences() -> Generator[None]:
    """A process that stood still goes on writing to a thread that is another's."""
    with patch.object(memory_store, "_check_fence", lambda log, fence: None):
        yield


@mutant("I21", "I18", only=["doubt"])
def a_failed_write_is_taken_for_none() -> Generator[None]:
    """The store said that it failed, so nothing was written: but it was."""

    async def append(self: Appender, lane: Lane, write: Any) -> None:
        written = await self._store.append(write, now=self._clock.now_ms())
        lane.head += len(write.events)
        self._hub.push(lane.thread.id, written.records)

    with patch.object(Appender, "_append", append):
        yield


@mutant("I11", "I16", "I1")
def a_short_way_that_overtakes() -> Generator[None]:
    """What goes the short way does not wait for what is on the long one."""

    def take_now(self: Execution) -> list[e.Event]:
        group, self._buffer = self._buffer[-1:], self._buffer[:-1]
        return group

    with patch.object(Execution, "take_now", take_now):
        yield


# --- commands -----------------------------------------------------------------------------------------------------


@mutant("I5", only=["lines"])
def no_receipts() -> Generator[None]:
    """A command that is sent again is carried out again."""
    original = Appender.write

    async def write(self: Appender, lane: Lane, events: Sequence[e.Event], **rows: Any) -> None:
        await original(self, lane, events, **{**rows, "receipt": None})

    with patch.object(Appender, "write", write):
        yield


@mutant("I5", only=["lines"])
def a_cancel_that_leaves_no_receipt() -> Generator[None]:
    """Sent again, it stops what came after."""
    original = Appender.write

    async def write(self: Appender, lane: Lane, events: Sequence[e.Event], **rows: Any) -> None:
        if events or rows.get("receipt") is None:
            await original(self, lane, events, **rows)

    with patch.object(Appender, "write", write):
        yield


@mutant("I5", only=["lines"])
def a_replay_that_acts_before_it_looks() -> Generator[None]:
    """A command that is delivered twice at once is in its own way: it stops the run that it has just started."""

    async def refuse_replay(self: Runner, principal: Any, receipt: Any) -> None:
        return None

    with patch.object(Runner, "_refuse_replay", refuse_replay):
        yield


@mutant("I6", only=["refuse", "crash"])
def rows_apart_from_events() -> Generator[None]:
    """The message is written in one transaction, its run in another."""
    original = Appender.write

    async def write(self: Appender, lane: Lane, events: Sequence[e.Event], **rows: Any) -> None:
        apart = {name: rows.pop(name) for name in ("runs", "agent_state") if rows.get(name)}
        await original(self, lane, events, **rows)
        if apart:
            await original(self, lane, [], **apart)

    with patch.object(Appender, "write", write):
        yield


@mutant("I24", only=["stop"])
def a_drain_that_takes_and_forgets() -> Generator[None]:
    """A server that is about to stop says yes to a message that it will not write."""
    original = Runner.send

    async def send(self: Runner, principal: Any, thread: Any, brief: Any, **more: Any) -> tuple[Run, int]:
        if self.draining:
            run = Run(
                id=f"{brief.messages[0].id}-run",
                thread=thread.id,
                agent=more["agent"],
                status="queued",
                created_at=0,
                first_seq=1,
            )
            return run, 1
        return await original(self, principal, thread, brief, **more)

    with patch.object(Runner, "send", send):
        yield


# --- running ------------------------------------------------------------------------------------------------------


@mutant("I17")
def a_thread_that_is_never_busy() -> Generator[None]:
    """A message starts its run whatever runs already."""
    with patch.object(Lane, "busy", property(lambda self: self.waiting is not None)):
        yield


@mutant("I18", only=["refuse"])
def a_queued_run_that_is_lost() -> Generator[None]:
    """It is taken out of the queue, and then its start is written: or not."""

    async def advance(self: Executions, lane: Lane) -> None:
        if lane.running is not None or lane.waiting is not None or not lane.queue or self.draining or lane.deleting:
            return
        entry = lane.queue.popleft()
        run = msgspec.structs.replace(entry.run, status="running", started_at=self._clock.now_ms())
        await self._appender.write(lane, [started(run, entry.brief)], runs=[run], head_run=run.id)
        self.launch(lane, run, entry.brief, entry.principal)

    with patch.object(Executions, "advance", advance):
        yield


@mutant("I18")
def a_queue_that_is_a_stack() -> Generator[None]:
    """The newest message is answered first."""
    original = Executions.advance

    async def advance(self: Executions, lane: Lane) -> None:
        lane.queue.rotate(1)
        await original(self, lane)
        if lane.running is None:
            lane.queue.rotate(-1)

    with patch.object(Executions, "advance", advance):
        yield


@mutant("I19")
def a_cancel_that_only_says_so() -> Generator[None]:
    """The run is called cancelled, and its agent works on."""
    with patch.object(Execution, "cancel", lambda self: None):
        yield


@mutant("I19")
def a_deadline_that_is_none() -> Generator[None]:
    """A stubborn agent ends its run when it likes."""

    async def enforce(self: Executions, execution: Execution) -> None:
        await execution.stopped.wait()

    with patch.object(Executions, "_enforce", enforce):
        yield


@mutant("I22", "I19", only=["leases"])
def a_renewal_that_is_waited_for() -> Generator[None]:
    """The store does not answer, and the work goes on until it does."""

    with patch.object(lanes, "anyio", _Patient()):
        yield


@mutant("I7", only=["restore"])
def a_cursor_of_another_log() -> Generator[None]:
    """The store was restored from a copy, and readers go on after the seq that they had."""
    original = Hub.subscribe

    def subscribe(self: Hub, thread: Any, *, after: int | None, epoch: str | None = None) -> Subscription:
        return original(self, thread, after=None if after is None else min(after, thread.head), epoch=None)

    with patch.object(Hub, "subscribe", subscribe):
        yield


@mutant("I20")
def an_approval_that_is_used_twice() -> Generator[None]:
    """The question stays open after its answer."""
    original = Interrupts.resolve

    async def resolve(self: Interrupts, lane: Lane, *args: Any, **kwargs: Any) -> Any:
        waiting = lane.waiting
        answer = await original(self, lane, *args, **kwargs)
        if lane.waiting is None and waiting is not None:
            lane.waiting = WaitingRun(waiting.run, waiting.interrupts, waiting.brief)
        return answer

    with patch.object(Interrupts, "resolve", resolve):
        yield


@mutant("I20")
def a_no_that_is_taken_for_a_yes() -> Generator[None]:
    """Whoever answers approves."""
    original = Executions.launch

    def launch(self: Executions, lane: Lane, run: Run, brief: Brief, principal: Any) -> None:
        yes = tuple(
            msgspec.structs.replace(answer, status="resolved", payload={"approved": True}) for answer in brief.answers
        )
        original(self, lane, run, msgspec.structs.replace(brief, answers=yes), principal)

    with patch.object(Executions, "launch", launch):
        yield


@mutant("I21", only=["crash"])
def nobody_looks_for_orphans() -> Generator[None]:
    """A run whose process died is still running, says the log."""

    async def adopt_orphans(self: Takeover) -> None:
        return None

    with patch.object(Takeover, "adopt_orphans", adopt_orphans):
        yield


@mutant("I21", "I18", only=["leases", "doubt"])
def a_lease_that_nobody_knows_of() -> Generator[None]:
    """A lease was given, the answer was lost, and it is renewed for ever."""
    original = Lanes.renew

    async def renew(self: Lanes) -> list[str]:
        await original(self)
        return []

    with patch.object(Lanes, "renew", renew):
        yield


@mutant("I18", "I21", only=["refuse", "outage"])
def a_queue_that_nobody_looks_at_again() -> Generator[None]:
    """The store refused the start of the next run, once."""

    async def restart_stalled(self: Takeover) -> None:
        return None

    with patch.object(Takeover, "restart_stalled", restart_stalled):
        yield


@mutant("I16", "I23", only=["refuse", "wakes"])
def an_end_by_what_the_feed_knows() -> Generator[None]:
    """What is open is looked up in a fold that may be behind the log."""
    with patch.object(Hub, "note_head", lambda self, thread, seq: None):
        yield


__all__ = ["MUTANTS", "Mutant", "mutants_asking", "mutants_lasting", "planted"]
