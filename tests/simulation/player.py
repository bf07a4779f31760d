"""The agent of a simulation: does what the message says, step by step, and leaves a trace of its work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from random import Random
from typing import TYPE_CHECKING, Any

import anyio

from runcast import events as e
from runcast.agents.base import RunContext
from runcast.errors import AgentError, RunEnded
from runcast.events import Event
from runcast.runs import RunInput

if TYPE_CHECKING:
    from .world import Node, World

PIECES = ("Hello ", "wor", "ld ", "👩‍👩‍👧‍👦", "😀", "é", "e\u0301 ", "\n", "中文")


def script(dice: Random) -> str:
    """What a person asks: steps, each a word and a number."""
    steps = dice.choices(
        (
            "say",
            "burst",
            "think",
            "tool",
            "flood",
            "open",
            "ask",
            "pair",
            "fail",
            "hang",
            "stubborn",
            "linger",
            "quiet",
        ),
        (10, 3, 2, 3, 1, 1, 3, 1, 1, 0.7, 1, 1, 1),
        k=dice.randint(1, 3),
    )
    return " ".join(f"{step}:{dice.randint(1, 6)}" for step in steps)


class Player:
    """`player` does as told. What it yields and what it does is noted; `stubborn` ones do not stop when they are told to."""

    name = "player"
    description = "Does what the message says."

    def __init__(self, world: World, node: Node) -> None:
        self._world = world
        self._node = node

    def _note(self, run: str, what: str, detail: str = "") -> None:
        self._world.note_work(self._node, run, what, detail)

    async def run(self, input: RunInput, context: RunContext) -> AsyncIterator[Event]:
        run = input.run
        dice = Random(f"{self._world.seed}:{input.messages[0].id if input.messages else input.answers[0].interrupt_id}")
        self._note(run, "begin")
        try:
            for answer in input.answers:
                payload: Any = answer.payload
                if answer.status == "resolved" and isinstance(payload, dict) and payload.get("approved"):
                    self._note(run, "tool", answer.interrupt_id)
                    yield e.ToolCallResult(
                        message_id=context.new_id(), tool_call_id=f"call-{answer.interrupt_id}", content="done"
                    )
                async for event in self._say(run, context, dice, 2, pause=True):
                    yield event
            for step in input.text.split():
                word, _, number = step.partition(":")
                async for event in self._step(word, int(number or 1), input, context, dice):
                    yield event
        finally:
            self._note(run, "end")

    async def _step(
        self, word: str, number: int, input: RunInput, context: RunContext, dice: Random
    ) -> AsyncIterator[Event]:
        run = input.run
        match word:
            case "say":
                async for event in self._say(run, context, dice, number, pause=True):
                    yield event
            case "burst":
                async for event in self._say(run, context, dice, number * 20, pause=False):
                    yield event
            case "think":
                item = context.new_id()
                yield e.ReasoningStart(message_id=item)
                for piece in range(number):
                    yield e.ReasoningMessageContent(message_id=item, delta=f"{piece} ")
                    await self._pause(run, dice)
                yield e.ReasoningMessageEnd(message_id=item)
                yield e.ReasoningEnd(message_id=item)
            case "tool" | "flood":
                async with context.tool("look", at=number) as call:
                    for step in range(number * (40 if word == "flood" else 1)):
                        await call.progress(step, total=number)
                        if word == "tool":
                            await self._pause(run, dice)
                    call.result = number
            case "open":
                yield e.TextMessageContent(message_id=context.new_id(), delta="left open")
                self._world.note_said(run, "left open")
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
                yield e.RunFinished(thread_id=input.thread, outcome=e.Outcome(type="interrupt", interrupts=asked))
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
                self._note(run, "stubborn")
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

    async def _say(
        self, run: str, context: RunContext, dice: Random, count: int, *, pause: bool
    ) -> AsyncIterator[Event]:
        item = context.new_id()
        yield e.TextMessageStart(message_id=item)
        for _ in range(count):
            piece = dice.choice(PIECES)
            yield e.TextMessageContent(message_id=item, delta=piece)
            self._world.note_said(run, piece)
            if pause:
                await self._pause(run, dice)
        yield e.TextMessageEnd(message_id=item)

    async def _pause(self, run: str, dice: Random) -> None:
        await anyio.sleep(dice.choice((0, 0.001, 0.02, 0.2)))
        self._note(run, "step")
