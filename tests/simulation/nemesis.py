"""Whoever breaks things: processes, the store, clocks. What it broke it also repairs in the end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .world import Node, World


class Nemesis:
    def __init__(self, world: World) -> None:
        self.world = world
        self.dice = world.dice("nemesis")
        if world.faults.on["freeze"]:
            world.store.on_acquire = self._wake_the_dead
        if world.faults.on["crash"]:
            world.on_use = self._kill_at_work

    async def live(self) -> None:
        world, dice, faults = self.world, self.dice, self.world.faults
        if faults["split"]:
            world.start_node()
        deeds = [kind for kind in ("crash", "freeze", "outage", "clock", "stop", "restore") if faults[kind]]
        while True:
            await asyncio.sleep(dice.uniform(0.1, 3))
            self.keep_up()
            if not deeds:
                continue
            nodes = world.up()
            if not nodes:
                continue
            node = dice.choice(nodes)
            match dice.choice(deeds):
                case "crash":
                    node.kill()
                    if dice.random() < 0.5:
                        await asyncio.sleep(dice.uniform(0, 4))
                    self._boot()
                case "freeze":
                    node.freeze()
                    if not world.up():
                        world.start_node()
                    world.later(dice.choice((0.5, world.limits.lease_ttl_s * 1.5, 6)), node.thaw)
                case "outage":
                    world.outage_until = world.loop.time() + dice.choice((0.1, 1, 4))
                    world.note(f"the store is out until {world.outage_until:.3f}")
                case "clock":
                    node.clock.offset_ms += dice.choice((-1000, -100, 100, 1000, 2500))
                    world.note(f"{node.name} has another time: {node.clock.offset_ms} ms")
                case "stop":
                    if dice.random() < 0.5:
                        self._boot()
                    node.stop()
                case "restore" if world.store.copy is None:
                    world.store.checkpoint()
                case "restore":
                    for node in world.nodes:
                        node.kill()
                    world.store.restore()
                    self._boot()
                case _:
                    raise AssertionError

    def _wake_the_dead(self) -> None:
        """The worst moment for a process that stood still: another has its thread, and has not written yet."""
        for node in self.world.nodes:
            if node.frozen and self.dice.random() < 0.5:
                self.world.later(0.0001, node.thaw)

    def _kill_at_work(self, node: Node) -> None:
        """The worst moment to die: a tool has begun that must not run twice."""
        if self.world.faults["crash"] and self.dice.random() < 0.15:
            self.world.later(0.0001, node.kill)

    def _boot(self) -> None:
        """A new process; on the same machine, as SQLite's, it knows that the leases of the dead one are void."""
        world = self.world
        if not world.faults["split"] and self.dice.random() < 0.5 and not any(not node.dead for node in world.nodes):
            for log in world.store._logs.values():
                log.lease = None
        world.start_node()

    def keep_up(self) -> None:
        """Somebody looks after the processes: one is always there, or being started."""
        if all(node.dead for node in self.world.nodes):
            self._boot()

    async def heal(self) -> None:
        world = self.world
        world.outage_until = 0.0
        world.faults.healed = True
        for node in world.nodes:
            node.thaw()
            node.clock.offset_ms = 0
        for _ in range(100):
            if world.up():
                return
            self.keep_up()
            await asyncio.sleep(0.25)
        world.history.problems.append("no process comes up although everything is well")
