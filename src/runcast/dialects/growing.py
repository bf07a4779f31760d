"""A text that grows, for protocols that can only say it whole again: when it is worth it. Pure.

Saying it with every piece would cost the square of its length. It is said while it is short, then when a quarter of it is new or a
second of log time has passed, and before whatever else follows, so that the last word is always whole. What was said because of
time or order, and not of growth, is at most `SHARE` times the text: the sum stays linear, whatever an agent does.
"""

from __future__ import annotations

from typing import Final

SHORT: Final = 400
"""Characters up to which it is said with every piece."""
GROWTH: Final = 1.25
PAUSE_MS: Final = 1000
SHARE: Final = 20


class Growing:
    """What was said of one text. Lengths in characters, times in the log's milliseconds."""

    __slots__ = ("_at", "_said", "_spent")

    def __init__(self, length: int = 0) -> None:
        """`length`: of what the reader has already."""
        self._said = length
        self._at = 0
        self._spent = 0

    def is_due(self, length: int, now: int) -> bool:
        """Whether it is to be said when a piece has made it `length` long."""
        if length <= SHORT or length >= self._said * GROWTH:
            return True
        return now >= self._at + PAUSE_MS and self.is_affordable(length)

    def is_affordable(self, length: int) -> bool:
        """Whether it may be said although little of it is new: something else follows."""
        return length <= SHORT or self._spent + length <= SHARE * length

    def say(self, length: int, now: int | None = None) -> None:
        """It is said. `now`: with a piece of it."""
        if length > SHORT and length < self._said * GROWTH:
            self._spent += length
        self._said = length
        if now is not None:
            self._at = now
