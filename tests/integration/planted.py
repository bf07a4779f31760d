"""Defects to plant in the server under test, one for each promise: the test of the promise must notice them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from runcast import updates
from runcast.agents import asking, recorded, replaying
from runcast.ids import SystemClock
from runcast.running import interrupts, parking, restarting
from runcast.running.executions import Executions
from runcast.running.interrupts import Interrupts
from runcast.running.lanes import Lanes
from runcast.running.restarting import Restarting
from runcast.runs import Run
from runcast.server import Server
from runcast.service import Service
from runcast.stores.contents import Contents
from runcast.stores.sqlite import SqliteStore
from runcast.stores.sqlite_files import SqliteFiles
from runcast.stores.sqlite_leases import Lease, Leases
from runcast.stores.sqlite_ledger import stamped
from runcast.subscription import Subscription
from runcast.transports import line

PLANTS: dict[str, Callable[[Server], None]] = {}


def plant(function: Callable[[Server], None]) -> Callable[[Server], None]:
    PLANTS[function.__name__] = function
    return function


@plant
def gives_up_when_late(server: Server) -> None:
    """Overdue leases are taken for lost, although nobody else has the threads."""
    renew = Lanes.renew

    async def late(self: Any) -> Any:
        if self._clock.monotonic() - self._renewed > self._ttl_s:
            for lane in self.all():
                self.lose(lane)
        return await renew(self)

    Lanes.renew = late  # type: ignore[method-assign]


@plant
def forgets_commands(server: Server) -> None:
    """A command that is sent again is carried out again."""

    async def never(*_: object) -> None:
        return None

    Service._replayed = never  # type: ignore[method-assign]


def _shifted(by: int) -> None:
    subscribe = Service.subscribe

    async def shifted(self: Any, principal: Any, command: Any, **options: Any) -> Any:
        if command.id and command.after:  # pages, by which the tests read the log, have no id
            thread = await self.get_thread(principal, command.thread)
            command = msgspec.structs.replace(command, after=max(0, min(command.after + by, thread.head)))
        return await subscribe(self, principal, command, **options)

    Service.subscribe = shifted  # type: ignore[method-assign]


@plant
def resumes_too_late(server: Server) -> None:
    """Who comes back is given what follows the event after the last one they had."""
    _shifted(1)


@plant
def resumes_too_early(server: Server) -> None:
    """Who comes back is given the last event again."""
    _shifted(-1)


@plant
def joins_too_much(server: Server) -> None:
    """Joined deltas are cut at the first kilobyte."""
    encode = updates.encode

    def cut(event: Any) -> bytes:
        return encode(msgspec.structs.replace(event, delta=event.delta[:40]) if hasattr(event, "delta") else event)

    updates.encode = cut  # type: ignore[assignment]


@plant
def buffers_without_end(server: Server) -> None:
    """Nobody waits for a reader: what it does not take piles up."""
    line.WRITE_BUFFER = 64 * 1024 * 1024


@plant
def keeps_subscriptions(server: Server) -> None:
    """A subscription is not closed when its connection ends."""
    Subscription.close = lambda self: None  # type: ignore[method-assign]


@plant
def tells_before_it_writes(server: Server) -> None:
    """Readers are given events before they are in the log."""
    append, append_now = SqliteStore.append, SqliteStore.append_now

    def tell(write: Any, now: int) -> None:
        if server.gateway.is_started:
            server.gateway.service._hub.push(write.thread, stamped(write.events, write.expected_seq, now))

    async def early(self: Any, write: Any, *, now: int) -> Any:
        tell(write, now)
        return await append(self, write, now=now)

    def early_now(self: Any, writes: Any, *, now: int) -> Any:
        for write in writes:
            tell(write, now)
        return append_now(self, writes, now=now)

    SqliteStore.append = early  # type: ignore[method-assign]
    SqliteStore.append_now = early_now  # type: ignore[method-assign]


@plant
def calls_itself_well(server: Server) -> None:
    """The store refuses everything, and the server says that it is ready."""
    Service.ready = True  # type: ignore[method-assign, assignment]


@plant
def measures_by_the_wall_clock(server: Server) -> None:
    """Durations are differences of the time of day."""
    SystemClock.monotonic = lambda self: self.now_ms() / 1000  # type: ignore[method-assign]


@plant
def ends_before_it_begins(server: Server) -> None:
    """A run's end is dated by a clock that was set back meanwhile."""
    Run.not_before = lambda self, now: now  # type: ignore[method-assign]


@plant
def believes_old_leases(server: Server) -> None:
    """Leases are kept over the end of the process, and bind until the time of day that they say."""
    begin, acquire, kept = Leases.__init__, Leases.acquire, Path("leases.json")

    def remember(self: Any, boot: int) -> None:
        begin(self, boot)
        if kept.exists():
            self._by_thread = {thread: Lease(*lease) for thread, lease in json.loads(kept.read_text()).items()}

    def noted(self: Any, *args: Any, **kwargs: Any) -> int:
        fence = acquire(self, *args, **kwargs)
        kept.write_text(json.dumps(self._by_thread))
        return fence

    Leases.__init__, Leases.acquire = remember, noted  # type: ignore[method-assign]


# --- runs that are taken up again -------------------------------------------------------------------------------------


@plant
def begins_for_ever(server: Server) -> None:
    """Nobody counts how often a run began."""
    restarting.ATTEMPTS = 1000


@plant
def says_it_all_again(server: Server) -> None:
    """What the attempt before had said stays beside what the next one says."""
    restarting._retracted = lambda run, kept: []


@plant
def forgets_which_tools_began(server: Server) -> None:
    """A run begins again whatever it has done."""
    seen = Restarting._seen

    async def innocent(self: Any, *args: Any) -> Any:
        return (await seen(self, *args))._replace(began={})

    Restarting._seen = innocent  # type: ignore[method-assign]


@plant
def forgets_which_steps_began(server: Server) -> None:
    """A step that had begun is done again."""
    recorded.unknown = lambda journal: None


@plant
def ends_what_may_go_on(server: Server) -> None:
    """A stop ends the runs that the next process could take up."""

    async def never(*_: object) -> bool:
        return False

    Executions._leave = never  # type: ignore[method-assign]


# --- questions --------------------------------------------------------------------------------------------------------


@plant
def takes_any_answer(server: Server) -> None:
    """An answer is not held against what was asked for."""

    async def never(*_: object) -> None:
        return None

    Interrupts._check = never  # type: ignore[method-assign]


@plant
def takes_a_no_for_a_yes(server: Server) -> None:
    """Whatever is answered allows the tool."""
    from runcast.agents import context
    from runcast.agents import pydantic_ai as framework

    context.approved = lambda question, answer: asking.Approval(dict(question.arguments or {}))
    framework._decision = lambda answer: framework.ToolApproved()


@plant
def forgets_what_was_done(server: Server) -> None:
    """A step whose result is recorded is done again."""

    def anew(self: Any, key: str, *, idempotent: bool = False) -> Any:
        self._due.discard(key)
        self._recorded.steps[key] = recorded.Step(idempotent=idempotent)
        return replaying.NOTHING

    replaying.Journal.step = anew  # type: ignore[method-assign]


@plant
def calls_again_what_cannot_be(server: Server) -> None:
    """An agent that waited in memory, which is gone, is called as if it could go on."""
    parking.needs_memory = interrupts.needs_memory = lambda agent, state: False


# --- files ------------------------------------------------------------------------------------------------------------


@plant
def names_what_it_has_not_kept(server: Server) -> None:
    """A file's row is written, and its content comes a little later."""
    Contents.keep = lambda self, staged: None  # type: ignore[method-assign]


@plant
def deletes_only_the_rows(server: Server) -> None:
    """What no row names any more stays on the disk."""

    async def never(*_: object) -> None:
        return None

    SqliteFiles.drop = never  # type: ignore[method-assign]
