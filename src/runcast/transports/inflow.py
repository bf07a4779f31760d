"""How much a client may say on one socket: the size of a frame, and how many in a while."""

from __future__ import annotations

from typing import Final

from runcast.session import Close, CloseCode

MAX_FRAME_BYTES: Final = 64 * 1024
MAX_FRAMES: Final = 1000
"""Per `FRAMES_WINDOW_S`."""
FRAMES_WINDOW_S: Final = 10.0


class Inflow:
    """Counts what came in. `now` is the clock's `monotonic`, in seconds."""

    def __init__(self, now: float, *, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self._max_frame_bytes = max_frame_bytes
        self.last_heard = now
        self._window_ends = now + FRAMES_WINDOW_S
        self._frames = 0

    def take(self, data: str | bytes, now: float) -> Close | None:
        """The close that follows if this frame is too much."""
        self.last_heard = now
        # A character has at most four bytes, so most messages need no second look.
        if len(data) * 4 > self._max_frame_bytes:
            size = len(data) if isinstance(data, bytes) else len(data.encode("utf-8", "replace"))
            if size > self._max_frame_bytes:
                return Close(CloseCode.TOO_BIG, f"A frame has at most {self._max_frame_bytes} bytes.")
        if now >= self._window_ends:
            self._window_ends = now + FRAMES_WINDOW_S
            self._frames = 0
        self._frames += 1
        if self._frames > MAX_FRAMES:
            return Close(CloseCode.RATE_LIMIT, f"More than {MAX_FRAMES} frames in {FRAMES_WINDOW_S:g} s.")
        return None
