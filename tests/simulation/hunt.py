"""How many seeds it takes to see a planted bug."""

from __future__ import annotations

from typing import NamedTuple

from .mutants import planted
from .world import play


class Caught(NamedTuple):
    seed: int
    problem: str


def hunt(name: str, most: int, *, first: int = 0) -> Caught | None:
    """The first seed whose judge names one of the invariants that the mutant breaks; None after `most` seeds."""
    with planted(name) as mutant:
        for seed in range(first, first + most):
            for problem in play(seed, only=mutant.only).problems:
                words = problem.replace(",", " ").replace(":", " ").split()
                if any(one in words for one in mutant.breaks):
                    return Caught(seed, problem)
    return None
