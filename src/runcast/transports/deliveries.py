"""What was delivered to whom: for clients that come back for what did not reach them, and cannot say how far they came.

A mark is the place of the first frame that did not reach the client: `(seq, k)`. Two ways of knowing a client again:

    by its conversation     how far anybody got in it; whoever comes next gets what follows, and nobody else meanwhile
    by its browser          the runs that a lost socket had asked for; the first new socket takes them all

In memory and bounded. What is forgotten, and what was before this server began, counts as delivered; but for the end of a run
that went on then, which nobody can have been told: by browser the log knows it (`transports.recalling`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from runcast.dialects.base import NO_OPTIONS, Frame, Options
from runcast.ids import Clock
from runcast.runs import Principal

MAX_CONVERSATIONS: Final = 10_000
CONVERSATION_TTL_S: Final = 24 * 3600.0
MAX_BROWSERS: Final = 10_000
MAX_LOST_RUNS: Final = 64
"""Of one browser; the oldest go."""
LOST_TTL_S: Final = 60.0
"""So long after its end a lost run can be taken."""


class Mark(NamedTuple):
    """All before it was delivered."""

    seq: int
    k: int = 0


BEGINNING: Final = Mark(0)


def behind(frame: Frame) -> Mark | None:
    """The mark of a client that has this frame; None if the frame stands for nothing in the log."""
    if frame.seq is None:
        return None
    return Mark(frame.seq + 1) if frame.last else Mark(frame.seq, frame.k + 1)


def reaches(frame: Frame, mark: Mark) -> bool:
    """Whether the frame is not before the mark."""
    return frame.seq is None or (frame.seq, frame.k) >= mark


class LostRun(NamedTuple):
    """A run whose end did not reach the socket that asked for it."""

    run: str
    thread: str
    conversation: str
    """What the client calls the thread."""
    options: Options = NO_OPTIONS
    mark: Mark = BEGINNING


class Lost(NamedTuple):
    """What a new socket of a browser takes over."""

    runs: Sequence[LostRun]
    whole: bool
    """Whether it says all that follows the marks, live; else only the ends, when all of them are over."""


@dataclass
class _Conversation:
    mark: Mark
    touched_ms: int
    promised: tuple[Hashable, Mark] | None = None
    """Who is being told what, up to where."""


@dataclass
class _Browser:
    lost: dict[str, LostRun] = field(default_factory=dict[str, LostRun])
    several: bool = False
    """More than one conversation was lost: nobody knows which socket is whose."""
    sockets: dict[Hashable, tuple[float, Callable[[Lost], None]]] = field(
        default_factory=dict[Hashable, tuple[float, Callable[[Lost], None]]]
    )
    """Those that are open: since when, and how they are given more."""


class Deliveries:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known_since_ms = self.began_ms = clock.now_ms()
        self._conversations: dict[tuple[Principal, str], _Conversation] = {}
        self._browsers: dict[tuple[Principal, str], _Browser] = {}
        self._recalled: dict[tuple[Principal, str], None] = {}
        """The browsers for which was looked what they waited for before this server began."""

    @property
    def known_since_ms(self) -> int:
        """What happened before it may have been delivered to somebody who is not known here."""
        return self._known_since_ms

    # --- by conversation ------------------------------------------------------------------------------------------

    def mark(self, principal: Principal, thread: str) -> Mark | None:
        """From where on somebody who comes now should be told; None for a conversation that is not known."""
        known = self._conversations.get((principal, thread))
        if known is None:
            return None
        if known.touched_ms + CONVERSATION_TTL_S * 1000 < self._clock.now_ms():
            del self._conversations[principal, thread]
            return None
        return known.mark if known.promised is None else max(known.mark, known.promised[1])

    def promise(self, principal: Principal, thread: str, to: Hashable, mark: Mark) -> None:
        """`to` is being told what is before `mark`; until it is lost, nobody else is."""
        known = self._conversation(principal, thread, mark)
        if known.mark < mark and (known.promised is None or known.promised[1] < mark):
            known.promised = (to, mark)

    def reached(self, principal: Principal, thread: str, mark: Mark) -> None:
        """Somebody has what is before `mark`."""
        known = self._conversation(principal, thread, mark)
        known.mark = max(known.mark, mark)
        if known.promised is not None and known.promised[1] <= known.mark:
            known.promised = None

    def begin(self, principal: Principal, thread: str, mark: Mark) -> None:
        """Somebody came in at `mark`, and what was before is none of theirs. Nothing happens if the conversation is known."""
        self._conversation(principal, thread, mark)

    def release(self, principal: Principal, thread: str, to: Hashable) -> None:
        """`to` is gone: what was promised to it and did not reach it is for the next."""
        known = self._conversations.get((principal, thread))
        if known is not None and known.promised is not None and known.promised[0] == to:
            known.promised = None

    def _conversation(self, principal: Principal, thread: str, mark: Mark) -> _Conversation:
        key, now = (principal, thread), self._clock.now_ms()
        known = self._conversations.pop(key, None) or _Conversation(mark, now)
        known.touched_ms = now
        self._conversations[key] = known  # the last one touched is the last one forgotten
        if len(self._conversations) > MAX_CONVERSATIONS:
            del self._conversations[next(iter(self._conversations))]
            self._known_since_ms = now
        return known

    # --- by browser -----------------------------------------------------------------------------------------------

    def join(self, principal: Principal, browser: str, socket: Hashable, give: Callable[[Lost], None]) -> None:
        """A new socket of a browser: it is given what was lost, now or as soon as it is known to be lost."""
        known = self._browsers.pop((principal, browser), None) or _Browser()
        self._browsers[principal, browser] = known
        known.sockets[socket] = (self._clock.monotonic(), give)
        self._forget_browsers()
        if known.lost:
            self._give(known, give)

    def leave(
        self, principal: Principal, browser: str, socket: Hashable, lost: Sequence[LostRun], *, last_heard: float
    ) -> None:
        """A socket is gone with these runs, and was heard last at `last_heard` (the clock's `monotonic`). One that the browser
        opened since then is its successor, even if it came before the loss was noticed."""
        known = self._browsers.get((principal, browser))
        if known is None:
            known = self._browsers[principal, browser] = _Browser()
        known.sockets.pop(socket, None)
        for run in lost:
            known.lost[run.run] = run
        while len(known.lost) > MAX_LOST_RUNS:
            del known.lost[next(iter(known.lost))]
        if lost:
            for since, give in list(known.sockets.values()):
                if since > last_heard and known.lost:
                    self._give(known, give)
        if not known.lost and not known.sockets:
            self._browsers.pop((principal, browser), None)

    def recalls(self, principal: Principal, browser: str) -> bool:
        """Whether it is to be looked up what this browser waited for before this server began: once."""
        key = (principal, browser)
        if key in self._recalled:
            return False
        self._recalled[key] = None
        if len(self._recalled) > MAX_BROWSERS:
            del self._recalled[next(iter(self._recalled))]
        return True

    def recalled(self, principal: Principal, browser: str, socket: Hashable, lost: Sequence[LostRun]) -> None:
        """It waited for these. `socket` gets them; if it is gone meanwhile, the next one."""
        if not lost:
            return
        known = self._browsers.setdefault((principal, browser), _Browser())
        for run in lost:
            known.lost[run.run] = run
        if (joined := known.sockets.get(socket)) is not None:
            self._give(known, joined[1])

    def expire(self, principal: Principal, browser: str, runs: Sequence[str]) -> None:
        """These runs are over for too long, or gone."""
        known = self._browsers.get((principal, browser))
        if known is None:
            return
        for run in runs:
            known.lost.pop(run, None)
        if not known.lost:
            known.several = False
            if not known.sockets:
                del self._browsers[principal, browser]

    def _give(self, known: _Browser, give: Callable[[Lost], None]) -> None:
        runs = tuple(known.lost.values())
        known.several = known.several or len({run.thread for run in runs}) > 1
        if not known.several:
            known.lost.clear()
        give(Lost(runs, not known.several))

    def _forget_browsers(self) -> None:
        if len(self._browsers) > MAX_BROWSERS:
            for key, known in self._browsers.items():
                if not known.sockets:
                    del self._browsers[key]
                    return
