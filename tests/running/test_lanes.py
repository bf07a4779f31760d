"""Lanes that were lost: what is left undone in them is found again."""

from __future__ import annotations

import anyio
import pytest

from core import DEADLINE_S, ME, Gated, core, ended, log, send, types

pytestmark = pytest.mark.anyio


async def test_a_run_whose_lane_was_lost_ends_within_the_lease_and_the_sweep() -> None:
    """I21: also when the store takes this node for the owner still."""
    agent = Gated()
    async with core(agent, lease_ttl_s=0.3, renew_s=0.1) as service:
        sent = await service.send(ME, send("go"))
        with anyio.fail_after(DEADLINE_S):
            await agent.reached.wait()
        lanes = service.runner._lanes  # pyright: ignore[reportPrivateUsage]
        (lane,) = lanes.all()
        lanes.lose(lane)
        assert await ended(service, sent) == "interrupted"
        assert agent.cancelled
        agent.gate.set()
        again = await service.send(ME, send("go", sent.thread))
        assert await ended(service, again) == "done"
        assert types(await log(service, sent.thread)).count("RUN_ERROR") == 1
