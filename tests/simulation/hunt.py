"""How many seeds it takes to see a planted bug."""

from __future__ import annotations

from typing import Any, NamedTuple

from .mutants import MUTANTS, planted
from .world import play


class Caught(NamedTuple):
    seed: int
    problem: str


def stuck_readers_move_the_log(seed: int) -> list[str]:
    """I8: the commits of a world are the same, at the same times, whether its readers read or not."""
    timelines: list[list[Any]] = []
    for stuck in (False, True):
        world = play(seed, only=(), stuck_readers=stuck, in_process_only=True).world
        timelines.append([(commit.time, commit.thread, len(commit.records)) for commit in world.history.commits])
    for free, held in zip(*timelines, strict=False):
        if (round(free[0], 3), *free[1:]) != (round(held[0], 3), *held[1:]):
            return [f"I8: with readers that do not read, {held} came instead of {free}"]
    return [] if len(timelines[0]) == len(timelines[1]) else ["I8: with readers that do not read, commits are missing"]


def hunt(name: str, most: int, *, first: int = 0) -> Caught | None:
    """The first seed whose judge names one of the invariants that the mutant breaks; None after `most` seeds."""
    with planted(name) as mutant:
        for seed in range(first, first + most):
            problems = (
                stuck_readers_move_the_log(seed)
                if MUTANTS[name].check == "stuck"
                else play(seed, only=mutant.only).problems
            )
            for problem in problems:
                words = problem.replace(",", " ").replace(":", " ").split()
                if any(one in words for one in mutant.breaks):
                    return Caught(seed, problem)
    return None
