"""P3: one run, 1 to 1000 readers that keep up: CPU per delivered event. The floor is C (or picows) sending a frame each.

`python fanout.py [--rounds 3] [--seconds 4] [--most 1000] [--kinds floor,picows,ours,naive]`
"""

from __future__ import annotations

from collections.abc import Sequence

from rounds import Measured, Row, alternate, deliver, median, number, options, show, started
from servers import KINDS

ALL = ("floor", "picows", "naive", "ours")
READERS = (1, 10, 100, 1000)
EVENTS_PER_S = 10_000
"""Delivered, at most: what a server without a log does with a third of a core, so that readers keep up."""


def pace(readers: int) -> float:
    """Tokens per second of the one run: 100, fewer where that would be more than `EVENTS_PER_S`."""
    return min(100.0, EVENTS_PER_S / readers)


def measure(
    kinds: Sequence[str] = ALL, *, readers: Sequence[int] = READERS, seconds: float = 4.0, rounds: int = 3
) -> dict[str, Measured]:
    """By number of readers."""

    def once(kind: str, count: int) -> Row:
        with started(kind) as server:
            rate = pace(count)
            return deliver(kind, server, runs=1, readers=count, tokens=max(1, int(seconds * rate)), rate=rate)

    return {str(count): alternate(kinds, rounds, lambda kind, count=count: once(kind, count)) for count in readers}


def text(found: dict[str, Measured], base: str = "floor") -> str:
    """Numbers of readers are columns: `µs (× floor); p99`, and how many events shared a frame where readers did not keep up."""
    kinds = list(next(iter(found.values())))
    lines = [
        "| CPU per delivered event, µs (× floor); p99, ms | " + " | ".join(f"{n} readers" for n in found) + " |",
        "|---" * (len(found) + 1) + "|",
    ]
    for kind in kinds:
        cells = []
        for measured in found.values():
            cost = median(measured, kind, "cpu_us_per_token")
            if cost is None:
                cells.append(f"not measured: {measured[kind].get('missing', '')}")
                continue
            floor = median(measured, base, "cpu_us_per_token")
            times = f" ({cost / floor:.1f} ×)" if floor else ""
            joined = median(measured, kind, "tokens_per_frame") or 0
            lagged = f", {joined:.2f} a frame" if joined > 1.02 else ""
            cells.append(f"{number(cost)}{times}; {number(median(measured, kind, 'p99_ms') or 0)}{lagged}")
        lines.append(f"| {KINDS[kind].title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    given = options(__doc__, rounds=3, seconds=4.0, most=1000)
    kinds = given.kinds.split(",") if given.kinds else ALL
    readers = [count for count in READERS if count <= given.most]
    found = measure(kinds, readers=readers, seconds=given.seconds, rounds=given.rounds)
    show(given, found, text(found))
