"""What happened in one world, in order: the only thing the judge looks at."""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

from runcast.commands import Edit, Retry, Send, Steer
from runcast.events import Record
from runcast.runs import Principal, Run
from runcast.stores.base import Receipt
from runcast.updates import ThreadSnapshot


class Commit(NamedTuple):
    order: int
    time: float
    node: str
    thread: str
    epoch: str
    fence: int
    """Of the write; 0 for an inbox, which has no owner."""
    current_fence: int
    """Of the lease at that moment."""
    records: list[Record]
    runs: tuple[Run, ...]
    receipt: Receipt | None


class Work(NamedTuple):
    """Something an agent did."""

    order: int
    time: float
    node: str
    run: str
    what: str
    detail: str


class Delivery(NamedTuple):
    """One try of one command, and what came back; None: no answer came."""

    order: int
    time: float
    key: str
    op: str
    principal: Principal
    answer: Any
    error: str | None


class Item(NamedTuple):
    order: int
    time: float
    record: Record


class View:
    """What one reader was given of one log, from a cursor or a snapshot on, over any number of connections."""

    def __init__(self, reader: str, thread: str, epoch: str, after: int, *, run: str | None = None) -> None:
        self.reader = reader
        self.thread = thread
        self.epoch = epoch
        self.run = run
        self.after = after
        self.snapshot: ThreadSnapshot | None = None
        self.items: list[Item] = []
        self.exact = True
        """The bytes are those of the log; through the wire, END events come without their whole text."""
        self.over = False
        """Nothing more is expected: deleted, unsubscribed, or another view took its place."""
        self.prompt: float | None = None
        """How late an event may be, at most, if that is known of this reader."""

    @property
    def cursor(self) -> int:
        return self.items[-1].record.seq if self.items else self.after


class History:
    def __init__(self) -> None:
        self.order = 0
        self.trace: list[str] = []
        self.keep_trace = False
        self._digest = hashlib.sha256()
        self.commits: list[Commit] = []
        self.logs: dict[tuple[str, str], list[Record]] = {}
        """By thread and epoch; a deleted thread's too."""
        self.deleted: dict[str, int] = {}
        self.work: list[Work] = []
        self.said: dict[tuple[str, int], str] = {}
        """By run and attempt: what its agent said and the runner took."""
        self.said_at: dict[str, list[float]] = {}
        """When each piece of it was taken."""
        self.shown: dict[tuple[str, int], list[str]] = {}
        """By run and attempt: the messages that stand when its agent has come to its end."""
        self.commands: dict[str, Send | Steer | Edit | Retry] = {}
        """What was asked under a key."""
        self.files: dict[str, bytes] = {}
        """What was acknowledged as uploaded, by id."""
        self.watchers: list[tuple[float, str, str, int]] = []
        """When, at which process, of which thread how many watchers there were from then on."""
        self.deliveries: list[Delivery] = []
        self.views: list[View] = []
        self.deaths: list[tuple[float, str]] = []
        self.renewals: list[tuple[float, str, str]] = []
        """When which process got or extended its lease of which thread."""
        self.thaws: list[tuple[float, str]] = []
        self.over = 0.0
        """When the end came."""
        self.problems: list[str] = []
        """What went wrong in a way that needs no judge."""

    def note(self, time: float, line: str) -> int:
        """One line of the trace; its number orders everything."""
        self.order += 1
        text = f"{self.order} {time:.6f} {line}"
        self._digest.update(text.encode("utf-8", "surrogatepass"))
        if self.keep_trace:
            self.trace.append(text)
        return self.order

    @property
    def digest(self) -> str:
        return self._digest.hexdigest()
