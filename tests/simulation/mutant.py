"""What a planted bug is, and how one is planted.

A mutant patches the product while it is planted; if a name that it patches is gone, it fails loudly, and whoever renamed it
plants the bug anew.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple


class Mutant(NamedTuple):
    """`breaks`: the invariants of which one must be named by the judge. `only`: the faults that bring it to light."""

    name: str
    breaks: tuple[str, ...]
    only: tuple[str, ...]
    plant: Callable[[], AbstractContextManager[Any]]
    why: str


MUTANTS: dict[str, Mutant] = {}


def mutant(
    *breaks: str, only: Sequence[str] = ()
) -> Callable[[Callable[[], Generator[None]]], Callable[[], Generator[None]]]:
    def register(plant: Callable[[], Generator[None]]) -> Callable[[], Generator[None]]:
        name = plant.__name__
        MUTANTS[name] = Mutant(name, breaks, tuple(only), contextmanager(plant), plant.__doc__ or "")
        return plant

    return register


@contextmanager
def planted(name: str) -> Generator[Mutant]:
    found = MUTANTS[name]
    with found.plant():
        yield found
