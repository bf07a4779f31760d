"""How much and how long: what bounds a run and a thread."""

from __future__ import annotations

import msgspec


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Times are seconds."""

    run_timeout_s: float = 300.0
    """Wall-clock limit of a run whose agent does not say otherwise (`timeout_s`)."""
    queue_limit: int = 8
    """Messages that may wait in one thread."""
    cancel_deadline_s: float = 10.0
    """After this a cancelled run is over, even if its agent does not stop."""
    lease_ttl_s: float = 15.0
    renew_s: float = 5.0
    idle_s: float = 30.0
    """A thread without work is given up after this."""
    answer_timeout_s: float = 86_400.0
    """A question that nobody answered for so long counts as a no, if its agent does not say otherwise."""
    parked_limit: int = 1000
    """Agents that may wait in memory for an answer, on this node."""
