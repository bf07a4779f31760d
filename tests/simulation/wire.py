"""WebSockets without sockets: the real server connection on one side, the real client machine on the other, and a line
between them that is slow, has little room, breaks, or goes dead without telling anybody.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

from runcast.client.connection import WATCHDOG_S, Connection
from runcast.client.effects import (
    Answered,
    Batch,
    CaughtUp,
    Connect,
    Disconnect,
    Ended,
    Refused,
    Rewound,
    SnapshotTaken,
    StateChanged,
    Stopped,
    Transmit,
)
from runcast.commands import Send
from runcast.events import Record, encode
from runcast.runs import Message, Principal, Thread
from runcast.transports.straight import EXTENSION
from runcast.transports.websocket import NativeConnection
from runcast.updates import ThreadSnapshot

from .history import Item, View
from .player import script
from .world import Node

if TYPE_CHECKING:
    from .world import World

ROOM_BYTES = 4096
"""What a line takes before the sender must wait."""


class Line:
    """One connection: the server's end speaks ASGI, the client's end is the methods `client_*`."""

    def __init__(self, world: World, node: Node, name: str, token: str) -> None:
        self.world = world
        self.node = node
        self.name = name
        self.dice = world.dice("line", name)
        self.latency = self.dice.choice((0.0002, 0.005, 0.05))
        self.broken = False
        """Both ends know, or will soon."""
        self.dead = False
        """Nothing comes through, and neither end is told."""
        self._inbound: deque[dict[str, Any]] = deque([{"type": "websocket.connect"}])
        self._asked: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._in_flight = 0
        self.arrived: deque[str] = deque()
        self.code: int | None = None
        self.news = asyncio.Event()
        self.accepted = False
        self._token = token
        self.task = node.run(self._serve())

    async def _serve(self) -> None:
        scope: dict[str, Any] = {"type": "websocket", "headers": [], "subprotocols": ["runcast.v1"], "path": "/v1/ws"}
        if self.dice.random() < 0.5:
            scope["extensions"] = {EXTENSION: self}  # as our own server offers it
        try:
            await NativeConnection(self.node.gateway, scope, self._receive, self._send).run()
        finally:
            self._break_soon(None)

    # --- the server's end -----------------------------------------------------------------------------------------

    async def _receive(self) -> dict[str, Any]:
        while not self._inbound:
            if self.broken:
                return {"type": "websocket.disconnect", "code": 1006}
            self._asked = asyncio.get_running_loop().create_future()
            await self._asked
        return self._inbound.popleft()

    async def _send(self, message: Any) -> None:
        match message["type"]:
            case "websocket.accept":
                self._after(self._accept)
            case "websocket.send":
                while self._in_flight > ROOM_BYTES and not self.broken:
                    self._room = asyncio.get_running_loop().create_future()
                    await self._room
                if self.broken:
                    raise OSError("the peer has gone")
                self._put(message["text"])
            case "websocket.close":
                self._break_soon(message["code"])
            case _:
                raise AssertionError(message)

    @property
    def has_room(self) -> bool:
        return self.accepted and not self.broken and self._in_flight <= ROOM_BYTES

    def write_text(self, text: bytes) -> None:
        self._put(text.decode())

    def _put(self, text: str) -> None:
        self._in_flight += len(text)
        if not self.dead:
            self._after(lambda: self._arrive(text))

    def _after(self, callback: Any) -> None:
        self.world.later(self.latency, callback)

    def _accept(self) -> None:
        self.accepted = True
        self.news.set()

    def _arrive(self, text: str) -> None:
        if not self.broken and not self.dead:
            self.arrived.append(text)
            self.news.set()

    def _break_soon(self, code: int | None) -> None:
        def tell() -> None:
            if not self.dead:
                self._break(code)

        self._after(tell)

    def _break(self, code: int | None) -> None:
        if not self.broken:
            self.broken = True
            self.code = code
            self.news.set()
            for waiting in (self._asked, self._room):
                if waiting is not None and not waiting.done():
                    waiting.set_result(None)

    # --- the client's end -----------------------------------------------------------------------------------------

    def client_read(self) -> str:
        text = self.arrived.popleft()
        self._in_flight -= len(text)
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        return text

    def client_send(self, text: str) -> None:
        def arrive() -> None:
            if not self.broken and not self.dead:
                self._inbound.append({"type": "websocket.receive", "text": text})
                if self._asked is not None and not self._asked.done():
                    self._asked.set_result(None)

        if not self.broken:
            self._after(arrive)

    def cut(self) -> None:
        """RST: both ends are told at once, what was on its way is lost."""
        self._break(None)


class Wired:
    """A browser tab: follows one thread over the real protocol, and says something now and then."""

    def __init__(self, world: World, name: str, principal: Principal, thread: str) -> None:
        self.world = world
        self.name = name
        self.principal = principal
        self.thread = thread
        self.dice = world.dice("wired", name)
        self.machine = Connection(new_id=world.ids(f"{name}-k"), random=self.dice.random)
        self.line: Line | None = None
        self.lines = 0
        self.key = 0
        self.view: View | None = None
        self.ended = False
        self.slow = world.faults["slow"] and self.dice.random() < 0.5
        self.unanswered: dict[str, int] = {}

    def __str__(self) -> str:
        return f"{self.name} of {self.thread} ({self.machine.state})"

    @property
    def has_everything(self) -> bool:
        if self.ended:
            return True
        log = self.world.store._logs.get(self.thread)
        if self.line is not None and self.line.dead:
            return False
        if log is None:
            return True
        return (0 if self.view is None else self.view.cursor) >= len(log.records) and not self.unanswered

    async def live(self) -> None:
        world, dice, machine = self.world, self.dice, self.machine
        self.key = machine.subscribe(self.thread, after=0 if dice.random() < 0.5 else None)
        machine.start(world.loop.time())
        world.go(self._talk())
        world.go(self._trouble())
        while not world.over:
            for effect in machine.effects():
                self._carry_out(effect)
            if self.ended:
                return
            await self._wait()
            now = world.loop.time()
            line = self.line
            if line is not None:
                line.news.clear()
                if line.accepted and machine.state == "connecting":
                    machine.opened(now, token=self.principal.user)
                while line.arrived and not self.ended:
                    text = line.client_read()
                    machine.received(text, world.loop.time())
                    for effect in machine.effects():
                        self._carry_out(effect)
                    if self.slow and not world.faults.healed:
                        await asyncio.sleep(dice.choice((0, 0.02, 0.4)))
                    if self.line is not line:
                        break
                if line.broken and self.line is line:
                    self.line = None
                    machine.disconnected(world.loop.time(), line.code)
            machine.tick(world.loop.time())

    async def _wait(self) -> None:
        now = self.world.loop.time()
        deadline = self.machine.deadline()
        timeout = 5.0 if deadline is None else min(5.0, max(0.001, deadline - now))
        line = self.line
        if line is None:
            await asyncio.sleep(min(timeout, 0.5))
            return
        try:
            async with asyncio.timeout(timeout):
                await line.news.wait()
        except TimeoutError:
            pass

    def _carry_out(self, effect: Any) -> None:
        world = self.world
        match effect:
            case Connect():
                nodes = world.up()
                if not nodes:
                    self.machine.disconnected(world.loop.time())
                    return
                self.lines += 1
                node = self.dice.choice(nodes)
                self.line = line = Line(world, node, f"{self.name}.{self.lines}", self.principal.user)
                world.note(f"{self.name} connects to {node.name}")
                world.go(self._watch(line))
            case Transmit(text):
                if self.line is not None:
                    self.line.client_send(text)
            case Disconnect():
                if self.line is not None:
                    line, self.line = self.line, None
                    line._break_soon(1000)
            case Batch(_, events):
                order = world.note(f"{self.name} {self.thread} gets {[event.seq for event in events]}")
                if self.view is None:
                    self._new_view(next(iter(self.machine._subs.values())).epoch or "", 0)
                assert self.view is not None
                self.view.items += [Item(order, world.loop.time(), Record(event, encode(event))) for event in events]
            case SnapshotTaken(_, seq, epoch, thread, transcript):
                world.note(f"{self.name} {self.thread} snapshot at {seq}")
                view = self._new_view(epoch, seq)
                row = Thread(id=self.thread, user="", epoch=epoch, created_at=0, updated_at=0)
                view.snapshot = ThreadSnapshot(seq, epoch, row, transcript)
                del thread
            case Rewound(_, reason) if reason == "epoch" and world.store.restored:
                world.note(f"{self.name} {self.thread} rewound")
            case Rewound(_, reason):
                world.history.problems.append(f"I27: {self.name} was told {reason} though nothing was lost")
            case Ended(_, code, _):
                world.note(f"{self.name} {self.thread} ends: {code}")
                self.ended = True
                if self.view is not None:
                    self.view.over = True
                if code != "not_found" and self.machine.state != "stopped":
                    # Five refusals in a row: the page offers to try again.
                    self.ended = False
                    if self.view is not None:
                        self.key = self.machine.subscribe(self.thread, after=self.view.cursor, epoch=None)
                        self.view.over = False
                    else:
                        self.key = self.machine.subscribe(self.thread, after=0)
            case Answered(id, result):
                world.note(f"{self.name} {id} answered {result.get('run')}")
                self._answered(id, result, None)
            case Refused(id, code, _, _):
                world.note(f"{self.name} {id} refused {code}")
                self._answered(id, None, code)
            case CaughtUp() | StateChanged():
                pass
            case Stopped(code, message):
                world.history.problems.append(f"{self.name} gave up: {code} {message}")
                self.ended = True

    def _answered(self, id: str, result: Any, code: str | None) -> None:
        self.unanswered.pop(id, None)

    def _new_view(self, epoch: str, after: int) -> View:
        if self.view is not None:
            self.view.over = True
        self.view = View(self.name, self.thread, epoch, after)
        self.view.exact = False
        self.world.history.views.append(self.view)
        return self.view

    async def _watch(self, line: Line) -> None:
        """When its process dies, the line breaks: the kernel says so."""
        await line.node.gone.wait()
        line._break_soon(None)

    async def _talk(self) -> None:
        for number in range(self.dice.randint(0, 2)):
            await asyncio.sleep(self.dice.uniform(0, 3))
            if self.ended or self.world.faults.healed:
                return
            message = Message(id=f"{self.name}-m{number}", content=script(self.dice))
            command = Send(id=f"{self.name}-s{number}", thread=self.thread, message=message)
            self.unanswered[command.id] = number
            self.machine.command(command.id, command)
            if self.line is not None:
                self.line.news.set()

    async def _trouble(self) -> None:
        world, dice = self.world, self.dice
        while not world.over and not self.ended:
            await asyncio.sleep(dice.uniform(0.5, 4))
            if world.faults["lines"] and self.line is not None and dice.random() < 0.5:
                if dice.random() < 0.15:
                    world.note(f"{self.name}: the line is dead")
                    line = self.line
                    line.dead = True

                    def noticed(line: Line = line) -> None:
                        if self.line is line and not world.over:
                            world.history.problems.append(f"I15: {self.name} did not notice a dead line")

                    world.later(WATCHDOG_S + 5, noticed)
                else:
                    world.note(f"{self.name}: the line breaks")
                    self.line.cut()
