"""The frames of the record that was encoded last, for all who read it.

Those who follow one thread are given the same record object, one after the other, and most get the same bytes of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from runcast.dialects.base import Frame
from runcast.events import Record


class SharedFrames:
    """`shared(record, text)` is what `make(text, seq)` gave for the same record and text, made once. The record is held
    with them, so that no other can be taken for it."""

    __slots__ = ("_frames", "_make", "_of", "_text")

    def __init__(self, make: Callable[[str, int], Sequence[Frame]]) -> None:
        self._make = make
        self._of: Record | None = None
        self._text = ""
        self._frames: Sequence[Frame] = ()

    def __call__(self, record: Record, text: str) -> Sequence[Frame]:
        if record is not self._of or text != self._text:
            self._frames = self._make(text, record.seq)
            self._of, self._text = record, text
        return self._frames


def numbered(texts: Sequence[bytes], seq: int, *, ends: bool = False) -> Sequence[Frame]:
    """The frames of one event, in order; with `ends` the last one ends its run."""
    last = len(texts) - 1
    return [Frame(text, seq, k, k == last, ends=ends and k == last) for k, text in enumerate(texts)]
