"""The test of the test: every planted bug is seen, soon, and called by its invariant."""

from __future__ import annotations

import pytest

from .hunt import hunt
from .mutants import MUTANTS

MOST_SEEDS = 200


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_bug_is_seen(name: str) -> None:
    caught = hunt(name, MOST_SEEDS)
    assert caught is not None, f"{name} lived through {MOST_SEEDS} seeds: {MUTANTS[name].why}"


@pytest.mark.parametrize("name", ["drop_on_overflow", "deliver_before_commit", "two_terminals", "stale_wake_up"])
def test_the_judge_is_not_asleep(name: str) -> None:
    """A few of them in the fast tests too."""
    assert hunt(name, 40) is not None
