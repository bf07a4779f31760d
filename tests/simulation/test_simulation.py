"""Thousands of small worlds, each with its own faults, judged by every invariant that concerns one node.

A failure names its seed: `python -m tests.simulation SEED --trace` plays it again; `--without KIND,…` leaves faults out.
RUNCAST_SEED=N plays one here; RUNCAST_SIMULATION_SEEDS=FIRST:END more or others; `--seconds` of the command is for a night.
"""

from __future__ import annotations

import os

import pytest

from .world import play

CHUNK = 50
SEEDS = 2_000


def _chunks() -> list[tuple[int, int]]:
    if seed := os.environ.get("RUNCAST_SEED"):
        return [(int(seed), int(seed) + 1)]
    first, _, end = os.environ.get("RUNCAST_SIMULATION_SEEDS", f"0:{SEEDS}").partition(":")
    return [(start, min(start + CHUNK, int(end))) for start in range(int(first), int(end), CHUNK)]


def judged(first: int, end: int) -> None:
    for seed in range(first, end):
        result = play(seed)
        if result.problems:
            problems = "\n  ".join(problem[:1000] for problem in result.problems[:10])
            pytest.fail(
                f"seed {seed} (faults: {result.faults}):\n  {problems}\n"
                f"again: python -m tests.simulation {seed} --trace",
                pytrace=False,
            )


def test_some_worlds() -> None:
    """What everyone runs before a commit."""
    judged(0, 20)


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize(("first", "end"), _chunks())
def test_worlds(first: int, end: int) -> None:
    judged(first, end)
