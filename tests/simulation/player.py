"""The agents of a simulation: each does what the message says, step by step, and leaves a trace of its work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from random import Random
from typing import TYPE_CHECKING, Any, Literal

import anyio
import msgspec

from runcast import events as e
from runcast.agents.base import Kept, OnCrash, RunContext, Turn
from runcast.errors import AgentError, RunEnded
from runcast.events import Event
from runcast.runs import Message, RunInput
from runcast.transcript import ToolPart

if TYPE_CHECKING:
    from .world import Node, World

PIECES = ("Hello ", "wor", "ld ", "👩‍👩‍👧‍👦", "😀", "é", "e\u0301 ", "\n", "中文")
HUGE = 265_000
"""Characters of a result that is too big for the log."""
AGENTS = ("player", "steered", "again", "further", "watched")


def script(dice: Random) -> str:
    """What a person asks: steps, each a word and a number."""
    steps = dice.choices(
        (
            "say",
            "burst",
            "think",
            "tool",
            "flood",
            "huge",
            "open",
            "ask",
            "pair",
            "fail",
            "hang",
            "stubborn",
            "linger",
            "quiet",
        ),
        (10, 3, 2, 3, 1, 1, 1, 3, 1, 1, 0.7, 1, 1, 1),
        k=dice.randint(1, 3),
    )
    return " ".join(f"{step}:{dice.randint(1, 6)}" for step in steps)


def players(world: World, node: Node) -> list[Player]:
    """One for each way in which an agent may be treated; the first is the default one."""
    return [
        Player(world, node, "player"),
        Player(world, node, "steered", steerable=True),
        Player(world, node, "again", on_crash="restart", steerable=True),
        Player(world, node, "further", on_crash="resume", steerable=True),
        Player(world, node, "watched", on_disconnect="cancel"),
    ]


class Stand(msgspec.Struct):
    """How far a run is, for one that goes on after its process died."""

    done: list[tuple[str, int]] = []
    """Steps: the message that asks for them, and which."""
    texts: list[str] = []
    """What it has said, whole: ids of messages."""
    calls: list[str] = []


class Player:
    """Does as told. What it yields and what it does is noted; `stubborn` ones do not stop when they are told to."""

    description = "Does what the message says."

    def __init__(
        self,
        world: World,
        node: Node,
        name: str,
        *,
        on_crash: OnCrash = "never",
        on_disconnect: Literal["cancel"] | None = None,
        steerable: bool = False,
    ) -> None:
        self.name = name
        self.on_crash: OnCrash = on_crash
        self.on_disconnect = on_disconnect
        self.steerable = steerable
        self._world = world
        self._node = node

    def kept(self, turn: Turn) -> Kept | None:
        """A tool that may have begun and is not told again stays in sight; so does what was whole at the checkpoint."""
        if turn.state is None or turn.run.resumes is not None:
            return None
        stand = msgspec.json.decode(turn.state.data, type=Stand)
        looked = [
            part.id
            for message in turn.run.messages
            for part in message.parts
            if isinstance(part, ToolPart) and part.name == "look" and part.status != "preparing"
        ]
        return Kept(frozenset(stand.texts), frozenset([*stand.calls, *looked]))

    async def run(self, input: RunInput, context: RunContext) -> AsyncIterator[Event]:
        act = Act(self, self._world, self._node, input, context)
        async for event in act.play():
            yield event


class Act:
    """One attempt of one run."""

    def __init__(self, player: Player, world: World, node: Node, input: RunInput, context: RunContext) -> None:
        self.player = player
        self.input = input
        self.context = context
        self.run = input.run
        self.attempt = context.attempt
        self._world = world
        self._node = node
        self._stand = Stand()
        if context.left is not None and context.left.state is not None:
            self._stand = msgspec.json.decode(context.left.state.data, type=Stand)

    def _note(self, what: str, detail: str = "") -> None:
        self._world.note_work(self._node, self.run, what, detail)

    def _said(self, piece: str) -> None:
        self._world.note_said(self.run, self.attempt, piece)

    def _dice(self, *more: object) -> Random:
        """The same chance in every attempt."""
        return Random(":".join(map(str, (self._world.seed, *more))))

    async def play(self) -> AsyncIterator[Event]:
        self._note("begin", str(self.attempt))
        try:
            for answer in self.input.answers:
                payload: Any = answer.payload
                if answer.status == "resolved" and isinstance(payload, dict) and payload.get("approved"):
                    self._note("tool", answer.interrupt_id)
                    yield e.ToolCallResult(
                        message_id=self.context.new_id(), tool_call_id=f"call-{answer.interrupt_id}", content="done"
                    )
                async for event in self._say(self._dice(answer.interrupt_id), 2, pause=True):
                    yield event
            asked = list(self.input.messages)
            while asked:
                message = asked.pop(0)
                await self._read_files(message)
                for number, step in enumerate(message.text.split()):
                    if (message.id, number) not in self._stand.done:
                        word, _, count = step.partition(":")
                        async for event in self._step(word, int(count or 1), (message.id, number)):
                            yield event
                        self._keep((message.id, number))
                    asked += await self._heard()
            self._world.history.shown[self.run, self.attempt] = list(self._stand.texts)
        finally:
            self._note("end")

    async def _heard(self) -> Sequence[Message]:
        """What was said to this run meanwhile: it is done behind what it was asked first."""
        heard: list[Message] = []
        while self.player.steerable and len(heard) < 9 and (message := await self.context.steered()) is not None:
            self._note("read", message.id)
            heard.append(message)
        return heard

    async def _read_files(self, message: Message) -> None:
        for one in message.attachments:
            data = await (await self.context.file(one)).read()
            if self._world.history.files.get(one.file or "", data) != data:
                self._world.history.problems.append(f"I3: {self.run} reads other bytes in {one.file} than were sent")

    def _keep(self, step: tuple[str, int]) -> None:
        self._stand.done.append(step)
        if self.player.on_crash == "resume":
            self.context.checkpoint("player", 1, msgspec.json.encode(self._stand))

    async def _step(self, word: str, number: int, step: tuple[str, int]) -> AsyncIterator[Event]:
        context, run, dice = self.context, self.run, self._dice(*step)
        match word:
            case "say":
                async for event in self._say(dice, number, pause=True):
                    yield event
            case "burst":
                async for event in self._say(dice, number * 20, pause=False):
                    yield event
            case "think":
                item = context.new_id()
                yield e.ReasoningStart(message_id=item)
                for piece in range(number):
                    yield e.ReasoningMessageContent(message_id=item, delta=f"{piece} ")
                    await self._pause(dice)
                yield e.ReasoningMessageEnd(message_id=item)
                yield e.ReasoningEnd(message_id=item)
            case "tool" if number % 2:
                # Done once or not at all: whoever goes on after a crash does not know whether it was.
                self._keep(step)
                async with context.tool("look", at=number) as call:
                    self._note("use", f"{step[0]}.{step[1]}")
                    for done in range(number):
                        await call.progress(done, total=number)
                        await self._pause(dice)
                    call.result = number
            case "tool" | "flood":
                async with context.tool("glance", at=number, idempotent=True) as call:
                    for done in range(number * (40 if word == "flood" else 1)):
                        await call.progress(done, total=number)
                        if word == "tool":
                            await self._pause(dice)
                    call.result = number
                self._stand.calls.append(call.id)
            case "huge":
                async with context.tool("glance", at=number, idempotent=True) as call:
                    call.result = str(number) * HUGE
                self._stand.calls.append(call.id)
            case "open":
                item = context.new_id()
                self._stand.texts.append(item)
                yield e.TextMessageContent(message_id=item, delta="left open")
                self._said("left open")
                yield e.ToolCallStart(tool_call_id=context.new_id(), tool_call_name="never")
            case "ask" | "pair":
                asked = [
                    e.Interrupt(id=f"{run}.{k}", reason="tool_call", tool_call_id=f"call-{run}.{k}")
                    for k in range(1 + (word == "pair"))
                ]
                for one in asked:
                    yield e.ToolCallStart(tool_call_id=f"call-{one.id}", tool_call_name="dangerous")
                    yield e.ToolCallEnd(tool_call_id=f"call-{one.id}")
                    yield e.InterruptRequested(interrupt=one)
                yield e.RunFinished(thread_id=self.input.thread, outcome=e.Outcome(type="interrupt", interrupts=asked))
            case "fail":
                if number % 2:
                    raise AgentError("The moon is in the wrong house.")
                raise RuntimeError("secret")
            case "hang":
                await anyio.sleep(1000)
            case "quiet":
                await anyio.sleep(number / 4)
            case "stubborn":
                # Goes on for a while after it was told to stop, and still talks; `number` 6: beyond the deadline.
                self._note("stubborn")
                try:
                    await anyio.sleep(number / 3)
                except asyncio.CancelledError:
                    with anyio.CancelScope(shield=True):
                        await anyio.sleep(number * 0.7)
                        try:
                            await context.emit(e.Custom(name="late", value=None))
                        except RunEnded:
                            pass
                    raise
            case "linger":
                try:
                    await anyio.sleep(number / 3)
                finally:
                    with anyio.CancelScope(shield=True):
                        await anyio.sleep(0.05)
            case _:
                raise AssertionError(word)

    async def _say(self, dice: Random, count: int, *, pause: bool) -> AsyncIterator[Event]:
        item = self.context.new_id()
        yield e.TextMessageStart(message_id=item)
        for _ in range(count):
            piece = dice.choice(PIECES)
            yield e.TextMessageContent(message_id=item, delta=piece)
            self._said(piece)
            if pause:
                await self._pause(dice)
        yield e.TextMessageEnd(message_id=item)
        self._stand.texts.append(item)

    async def _pause(self, dice: Random) -> None:
        await anyio.sleep(dice.choice((0, 0.001, 0.02, 0.2)))
        self._note("step")
