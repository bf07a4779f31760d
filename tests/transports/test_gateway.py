"""How all connections are told that the server stops (I24)."""

from __future__ import annotations

import itertools

import anyio
import anyio.lowlevel
import pytest

from runcast.auth import NoAuth
from runcast.ids import SystemClock, Uuid7Source
from runcast.runs import Principal
from runcast.transports import gateway as gateways
from runcast.transports.gateway import Gateway

pytestmark = pytest.mark.anyio


class Noted:
    def __init__(self, order: list[float]) -> None:
        self.order = order
        self.told = anyio.Event()

    def drain(self) -> None: ...

    def stop(self) -> None:
        self.order.append(anyio.current_time())
        self.told.set()

    def revoke(self, principal: Principal) -> None: ...


@pytest.mark.parametrize(("connections", "rounds"), [(1, 1), (25, 1), (26, 2), (100, 4), (1000, 20)])
async def test_connections_are_stopped_in_rounds(
    connections: int, rounds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateways, "ROUND_S", 0.03)
    gateway = Gateway(authenticator=NoAuth(), clock=SystemClock(), new_id=Uuid7Source(SystemClock()))
    order: list[float] = []

    async def stay() -> None:
        connection = Noted(order)
        with gateway.join(connection):
            await connection.told.wait()

    async with anyio.create_task_group() as tasks:
        for _ in range(connections):
            tasks.start_soon(stay)
        while gateway.connections < connections:
            await anyio.lowlevel.checkpoint()
        await gateway.stop(timeout_s=10)
        assert gateway.connections == 0
    gaps = sum(later - earlier > 0.02 for earlier, later in itertools.pairwise(order))
    assert len(order) == connections
    assert gaps == rounds - 1


async def test_who_comes_while_it_stops_is_stopped_too() -> None:
    gateway = Gateway(authenticator=NoAuth(), clock=SystemClock(), new_id=Uuid7Source(SystemClock()))
    await gateway.stop(timeout_s=10)
    late = Noted([])
    with gateway.join(late):
        assert late.told.is_set()


async def test_who_comes_in_leaves_others_their_turns() -> None:
    """One step in each turn of the event loop, in the order of coming; also behind one who gives up."""
    gateway = Gateway(authenticator=NoAuth(), clock=SystemClock(), new_id=Uuid7Source(SystemClock()))
    turns: list[int] = []
    turn = 0

    async def come() -> None:
        async with gateway.entrance():
            turns.append(turn)

    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(come)
        with anyio.CancelScope() as gives_up:
            gives_up.cancel()
            await come()
        while len(turns) < 10:
            turn += 1
            await anyio.lowlevel.checkpoint()
    assert sorted(set(turns)) == turns
