"""Readers of one thread, one run or an inbox, at the service: fast, slow, stuck, coming and going."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from runcast.commands import Subscribe
from runcast.errors import NotFound, RuncastError
from runcast.runs import Principal
from runcast.updates import CaughtUp, Events, Resync, ThreadSnapshot

from .history import Item, View
from .world import POLL_S, Node

if TYPE_CHECKING:
    from .world import World


class Reader:
    def __init__(self, world: World, name: str, principal: Principal, thread: str) -> None:
        self.world = world
        self.name = name
        self.principal = principal
        self.dice = dice = world.dice("reader", name)
        self.inbox = dice.random() < 0.15 and not world.lonely
        self.thread = thread
        self.kind = "fast"
        if world.faults["slow"]:
            self.kind = dice.choice(("fast", "slow", "stuck"))
        self.leaves = dice.random() < 0.5 or world.lonely
        """Whether it goes away now and then."""
        self.stays_s = dice.choice((0.1, 1, 5) if not world.lonely else (0.1, 0.3, 1))
        self.forgets = dice.random() < 0.3
        """Whether it comes back without its cursor."""
        self.sinks = self.kind == "fast" and dice.random() < 0.5
        """Whether it takes what is pushed inside the step that commits, as a socket with room does; not always."""
        self.view: View | None = None
        self.ended = False
        self.connection = 0
        """What comes on an older one is not read any more: its process stood still while the reader went elsewhere."""
        self.caught_up = False

    def __str__(self) -> str:
        return f"{self.name} of {'the inbox' if self.inbox else self.thread}"

    @property
    def has_everything(self) -> bool:
        if self.ended:
            return True
        view = self.view
        if view is None:
            # Never connected: is there anything to follow?
            return self.thread not in self.world.store._logs and not self.inbox
        log = self.world.store._logs.get(view.thread)
        return log is not None and view.cursor >= len(log.records)  # who follows a deleted thread must be told

    async def live(self) -> None:
        world, dice = self.world, self.dice
        while not world.over and not self.ended:
            node = await world.some_node(dice)
            self.connection += 1
            task = node.run(self._serve(node, self.connection))
            gone = world.loop.create_task(node.gone.wait())
            stay = dice.uniform(0.01, self.stays_s) if self.leaves and not world.faults.healed else None
            await asyncio.wait([task, gone], timeout=stay, return_when=asyncio.FIRST_COMPLETED)
            gone.cancel()
            if not task.done() and not node.dead:
                task.cancel()
                await asyncio.wait([task], timeout=0.1)
            if not self.ended:
                await asyncio.sleep(dice.choice((0.01, 0.1, 0.5, 2)))

    async def _serve(self, node: Node, connection: int) -> None:
        """In the node's process: what a transport does. It stops where the node dies."""
        world = self.world
        service = node.service
        if service is None:
            return
        after: int | None = None
        epoch: str | None = None
        view = self.view
        if view is not None and not (self.forgets and self.dice.random() < 0.5):
            after, epoch = view.cursor, view.epoch
        elif view is None and self.dice.random() < 0.5:
            after = 0
        try:
            subscription = await service.subscribe(
                self.principal,
                Subscribe(
                    id="", thread=None if self.inbox else self.thread, inbox=self.inbox, after=after, epoch=epoch
                ),
            )
        except NotFound:
            if self.view is not None or self.thread in world.history.deleted:
                self._end(f"{self.thread} is not there")
            return
        except RuncastError:
            return
        if connection != self.connection:
            subscription.close()
            return
        world.note(f"{self.name} subscribes to {subscription.thread.id} after {after} at {node.name}")
        resumed = after is not None and view is not None and subscription.epoch == view.epoch
        if not resumed:
            self._new_view(subscription.thread.id, subscription.epoch, after or 0)
        if self.sinks:
            subscription.deliver_to(lambda events: connection == self.connection and self._sink(events))
        try:
            async for update in subscription:
                if connection != self.connection:
                    return
                self._take(update)
                if self.kind != "fast":
                    await self._dawdle()
                if self.ended:
                    return
        except RuncastError as error:
            world.note(f"{self.name} is told {error.code}")
        finally:
            subscription.close()

    def _sink(self, events: Events) -> bool:
        chance = self.dice.random()
        if chance < 0.1:
            raise OSError("the socket is closed")
        if chance < 0.3:
            return False
        self._take(events)
        return True

    @property
    def prompt(self) -> bool:
        """Whether events must reach it much faster than by the poll: the wake-ups work, nobody is slow."""
        on = self.world.faults.on
        troubled = ("wakes", "reads", "outage", "crash", "split", "freeze", "stop", "lines", "doubt")
        return self.kind == "fast" and not self.leaves and not any(on[kind] for kind in troubled)

    def _new_view(self, thread: str, epoch: str, after: int) -> None:
        if self.view is not None:
            self.view.over = True
        self.view = View(self.name, thread, epoch, after)
        if self.prompt:
            self.view.prompt = POLL_S / 4
        self.world.history.views.append(self.view)

    def _take(self, update: Any) -> None:
        world, view = self.world, self.view
        assert view is not None
        match update:
            case Events(records):
                order = world.note(f"{self.name} {view.thread} sees {[record.seq for record in records]}")
                view.items.extend(Item(order, world.loop.time(), record) for record in records)
            case ThreadSnapshot():
                world.note(f"{self.name} {view.thread} snapshot at {update.seq}")
                if view.items or view.snapshot is not None:
                    self._new_view(view.thread, update.epoch, 0)
                    view = self.view
                    assert view is not None
                view.snapshot = update
                view.after = update.seq
                view.epoch = update.epoch
            case CaughtUp(seq):
                world.note(f"{self.name} {view.thread} caught up at {seq}")
                if seq != view.cursor:
                    world.history.problems.append(
                        f"I7: {self.name} is called caught up at {seq}, and is at {view.cursor}"
                    )
            case Resync(reason):
                world.note(f"{self.name} {view.thread} resync {reason}")
                if reason == "deleted":
                    self._end("deleted")
                else:
                    if reason != "epoch" or not world.store.restored:
                        world.history.problems.append(f"I27: {self.name} was told {reason} though nothing was lost")
                    self._new_view(view.thread, view.epoch, 0)
            case _:
                raise AssertionError(update)

    def _end(self, why: str) -> None:
        self.world.note(f"{self.name} ends: {why}")
        self.ended = True
        if self.view is not None:
            self.view.over = True

    async def _dawdle(self) -> None:
        if self.world.faults.healed:
            return
        if self.kind == "stuck" and self.dice.random() < 0.2:
            await self.world.healed.wait()
        else:
            await asyncio.sleep(self.dice.choice((0, 0.05, 0.5)))


class RunReader:
    """Follows one run, whichever it finds, from its beginning to its end."""

    def __init__(self, world: World, name: str, principal: Principal, thread: str) -> None:
        self.world = world
        self.name = name
        self.principal = principal
        self.thread = thread
        self.dice = world.dice("reader", name)
        self.view: View | None = None
        self.run: str | None = None
        self.ended = False

    def __str__(self) -> str:
        return f"{self.name} of {self.run}"

    @property
    def has_everything(self) -> bool:
        if self.run is None or self.ended or self.view is None:
            return True
        log = self.world.store._logs.get(self.thread)
        row = None if log is None else log.runs.get(self.run)
        return row is None or row.status == "queued"

    async def live(self) -> None:
        world, dice = self.world, self.dice
        while self.run is None:
            await asyncio.sleep(dice.uniform(0.1, 2))
            if world.over:
                return
            found = [
                commit.runs[-1].id for commit in world.history.commits if commit.runs and commit.thread == self.thread
            ]
            if found and dice.random() < 0.5:
                self.run = dice.choice(found[-3:])
        while not world.over and not self.ended:
            node = await world.some_node(dice)
            task = node.run(self._serve(node))
            gone = world.loop.create_task(node.gone.wait())
            stay = dice.uniform(0.05, 2) if not world.faults.healed and dice.random() < 0.5 else None
            await asyncio.wait([task, gone], timeout=stay, return_when=asyncio.FIRST_COMPLETED)
            gone.cancel()
            if not task.done():
                task.cancel()
                self.node = None
                if not node.dead:
                    await asyncio.wait([task], timeout=0.1)
            await asyncio.sleep(dice.choice((0.01, 0.3)))

    async def _serve(self, node: Node) -> None:
        world, service, run = self.world, node.service, self.run
        assert run is not None
        if service is None:
            return
        self.node: Node | None = node
        after = 0 if self.view is None else self.view.cursor
        try:
            subscription = await service.subscribe_run(self.principal, run, after=after)
        except NotFound:
            self.ended = True
            if self.view is not None:
                self.view.over = True
            return
        except RuncastError:
            return
        if self.view is None or self.view.epoch != subscription.epoch:
            if self.view is not None:
                self.view.over = True
                subscription.close()
                try:
                    subscription = await service.subscribe_run(self.principal, run)
                except RuncastError:
                    self.view = None
                    return
            self.view = View(self.name, self.thread, subscription.epoch, 0, run=run)
            world.history.views.append(self.view)
        try:
            async for update in subscription:
                if self.node is not node:
                    return
                match update:
                    case Events(records):
                        order = world.note(f"{self.name} {run} sees {[record.seq for record in records]}")
                        self.view.items.extend(Item(order, world.loop.time(), record) for record in records)
                    case Resync(reason):
                        world.note(f"{self.name} {run} resync {reason}")
                        self.ended = True
                        self.view.over = True
                        return
                    case _:
                        pass
                if dice_says_slow(self.dice, world):
                    await asyncio.sleep(0.2)
            self.ended = True
            world.note(f"{self.name} {run} is at its end")
        except RuncastError:
            pass
        finally:
            subscription.close()


def dice_says_slow(dice: Any, world: World) -> bool:
    return world.faults["slow"] and dice.random() < 0.3
