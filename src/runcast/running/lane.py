"""What the runner knows of one thread that this node owns: its fence and head, the run under way, the queue behind it.

A lane exists from the first command on a thread until it has been idle for a while. Everything that depends on how the
thread stands (is it busy? what is next?) is decided and written under `lock`, so that a decision is still true when it
commits; the store checks it once more by fence and expected seq.
"""

from __future__ import annotations

from collections import deque

import anyio

from runcast.running.question import Question
from runcast.runs import Answer, Brief, Principal, Run, Thread


class QueuedRun:
    """A run whose message is in the log and which waits its turn."""

    def __init__(self, run: Run, brief: Brief, principal: Principal) -> None:
        self.run = run
        self.brief = brief
        self.principal = principal


class WaitingRun:
    """A run that ended with open interrupts, and the answers so far, by interrupt."""

    def __init__(self, run: Run, interrupts: dict[str, Question], brief: Brief) -> None:
        self.run = run
        self.brief = brief
        """What it began with; who goes on with it begins with the same where the answer says nothing else."""
        self.interrupts = interrupts
        """Its interrupts in order, all of them, by id."""
        self.answers: dict[str, Answer] = {}

    @property
    def open(self) -> dict[str, Question]:
        """Those that nobody has answered."""
        return {id: one for id, one in self.interrupts.items() if id not in self.answers}


class Lane:
    def __init__(self, thread: Thread, fence: int) -> None:
        self.thread = thread
        """The row as it was when the lane was made; of later changes only `title` and `pinned` are kept up."""
        self.title = thread.title
        self.fence = fence
        self.head = thread.head
        self.lock = anyio.Lock(fast_acquire=True)
        self.running: str | None = None
        """The id of the run under way."""
        self.waiting: WaitingRun | None = None
        self.queue: deque[QueuedRun] = deque()
        self.tip: str | None = thread.head_run
        """The parent of the next run: the one accepted last, unless it was taken back or took another's place in the queue."""
        self.lost = False
        """The lease is gone: nothing may be written under this lane any more."""
        self.doubtful = False
        """The store failed in a write and it is not known whether it landed: `head` may be behind the log."""
        self.deleting = False
        """The thread is being deleted: nothing new begins in it."""
        self.idle_since = 0.0
        self.users = 0

    @property
    def stalled(self) -> bool:
        """Something is queued, and nothing is in its way."""
        return bool(self.queue) and self.running is None and self.waiting is None and not self.deleting

    @property
    def busy(self) -> bool:
        return self.running is not None or self.waiting is not None or bool(self.queue)
