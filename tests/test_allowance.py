"""How many messages a user may send: by hand, and against the plain definition with Hypothesis."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runcast.allowance import WINDOW_S, Allowance
from runcast.errors import RateLimited
from runcast.ids import SystemClock
from runcast.runs import Principal

ANA, BOB = Principal(user="ana"), Principal(user="bob")


class Clock(SystemClock):
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


def is_taken(allowance: Allowance, principal: Principal = ANA) -> bool:
    try:
        allowance.take(principal)
    except RateLimited:
        return False
    return True


def test_so_many_in_a_minute_and_each_user_has_their_own() -> None:
    clock = Clock()
    allowance = Allowance(2, clock)
    allowance.take(ANA)
    clock.now += 20
    allowance.take(ANA)
    with pytest.raises(RateLimited) as refused:
        allowance.take(ANA)
    assert refused.value.retry_after_ms == 40_000
    assert is_taken(allowance, BOB)
    assert is_taken(allowance, Principal(user="ana", tenant="elsewhere"))
    clock.now += 40
    assert is_taken(allowance)
    assert not is_taken(allowance)


def test_none_is_no_limit() -> None:
    allowance = Allowance(0, Clock())
    assert all(is_taken(allowance) for _ in range(1000))


@given(st.integers(1, 4), st.lists(st.tuples(st.floats(0, 40), st.sampled_from([ANA, BOB]))))
def test_never_more_than_the_limit_in_any_minute_and_never_fewer(
    limit: int, steps: list[tuple[float, Principal]]
) -> None:
    clock = Clock()
    allowance = Allowance(limit, clock)
    taken: dict[Principal, list[float]] = {ANA: [], BOB: []}
    for wait, principal in steps:
        clock.now += wait
        recent = [at for at in taken[principal] if at > clock.now - WINDOW_S]
        assert is_taken(allowance, principal) == (len(recent) < limit)
        if len(recent) < limit:
            taken[principal].append(clock.now)
