"""The use-cases, authorised: what every transport and dialect asks of the core, and nothing else."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from runcast.commands import Cancel, Resolve, Send, Subscribe
from runcast.events import Record
from runcast.runs import Principal, Run, RunStatus, Thread
from runcast.stores.base import Page
from runcast.subscription import Subscription
from runcast.updates import ThreadSnapshot


class Sent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answer to a send: the run exists, its message is in the log at `seq`."""

    thread: str
    run: str
    seq: int
    status: RunStatus
    replayed: bool = False
    """The same command had been carried out before; nothing was done again."""


class CancelResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    run: str
    status: RunStatus
    """`running` while it is being stopped; an ended run's status if there was nothing to stop."""
    replayed: bool = False


class ResolveResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    interrupt: str
    status: str
    run: str | None = None
    """The run that goes on with the answer; None while other interrupts of the waiting run are open."""
    seq: int
    replayed: bool = False


class AgentInfo(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    name: str
    description: str = ""
    default: bool = False


class EventPage(NamedTuple):
    records: list[Record]
    next: int
    """Give it back as `after`."""
    head: int
    epoch: str


class Service:
    async def create_thread(self, principal: Principal, *, title: str = "", agent: str = "", key: str | None = None) -> Thread: ...
    async def list_threads(self, principal: Principal, *, query: str = "", cursor: str | None = None, limit: int = 50) -> Page: ...
    async def get_thread(self, principal: Principal, thread: str) -> Thread: ...
    async def view(self, principal: Principal, thread: str) -> ThreadSnapshot: ...
    async def update_thread(self, principal: Principal, thread: str, *, title: str | None = None, pinned: bool | None = None) -> Thread: ...
    async def delete_thread(self, principal: Principal, thread: str) -> None: ...
    def agents(self, principal: Principal) -> list[AgentInfo]: ...
    async def send(self, principal: Principal, command: Send) -> Sent: ...
    async def cancel(self, principal: Principal, command: Cancel) -> CancelResult: ...
    async def resolve(self, principal: Principal, command: Resolve) -> ResolveResult: ...
    async def get_run(self, principal: Principal, run: str) -> Run: ...
    async def wait_run(self, principal: Principal, run: str, *, timeout_s: float) -> Run:
        """The run as soon as it has ended or waits; as it stands when the time is over."""
        ...
    async def subscribe(self, principal: Principal, command: Subscribe) -> Subscription: ...
    async def subscribe_run(self, principal: Principal, run: str, *, after: int = 0) -> Subscription:
        """The run's own events only; the iteration ends after its terminal event."""
        ...
    async def read(self, principal: Principal, thread: str, *, after: int = 0, limit: int = 500, wait_s: float = 0) -> EventPage:
        """One page; with `wait_s` (at most 60) it waits for the first event when there is none."""
        ...
    async def read_run(self, principal: Principal, run: str, *, after: int = 0, limit: int = 500, wait_s: float = 0) -> EventPage: ...
