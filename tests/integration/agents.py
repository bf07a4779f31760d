"""The agents under the faults. What each says is known, so that a client can be judged."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import anyio

from runcast import events as e
from runcast.agents.base import RunContext
from runcast.events import Event
from runcast.runs import RunInput

PIECE = "Grüße, 👩‍👩‍👧 und 日本 {:09d}. "
"""A piece of text with more than one byte, code unit and code point per character."""


def counted(count: int) -> str:
    """What `Counting` says when it is asked to count to `count`."""
    return "".join(f"{number} " for number in range(count))


def flooded(events: int, size: int) -> str:
    """What `Flooding` says."""
    return "".join(piece(number, size) for number in range(events))


def piece(number: int, size: int) -> str:
    text = PIECE.format(number)
    return (text * (size // len(text) + 1))[:size]


class Counting:
    """`count to 150 [every 2 ms]`: counts aloud, and calls a tool now and then."""

    async def run(self, input: RunInput, context: RunContext) -> AsyncIterator[Event]:
        words = input.text.split()
        count = int(words[2])
        pause_s = int(words[4]) / 1000 if len(words) > 4 else 0.002
        message = None
        for number in range(count):
            if number % 40 == 20:
                if message is not None:
                    yield e.TextMessageEnd(message_id=message)
                    message = None
                async with context.tool("look", at=number) as call:
                    await call.progress(number, total=count, message=f"At {number}")
                    call.result = {"number": number}
            if message is None:
                message = context.new_id()
                yield e.TextMessageStart(message_id=message)
            yield e.TextMessageContent(message_id=message, delta=f"{number} ")
            await anyio.sleep(pause_s)


class Flooding:
    """`flood 1000 x 200`: so many pieces of so many characters, as fast as they are taken."""

    async def run(self, input: RunInput, context: RunContext) -> AsyncIterator[Event]:
        words = input.text.split()
        message = context.new_id()
        yield e.TextMessageStart(message_id=message)
        for number in range(int(words[1])):
            yield e.TextMessageContent(message_id=message, delta=piece(number, int(words[3])))


class Asking:
    """`pay <what>`: asks first, and pays only with a yes. Every payment is a line in the file `PAID`, on the disk before
    anything else happens: `<interrupt id>`."""

    async def run(self, input: RunInput, context: RunContext) -> AsyncIterator[Event]:
        if not input.answers:
            call = context.new_id()
            yield e.ToolCallStart(tool_call_id=call, tool_call_name="pay")
            yield e.ToolCallArgs(tool_call_id=call, delta='{"what":"rent"}')
            yield e.ToolCallEnd(tool_call_id=call)
            asked = e.Interrupt(id=f"{input.run}.1", reason="approval", message="Pay?", tool_call_id=call)
            yield e.InterruptRequested(interrupt=asked)
            yield e.RunFinished(thread_id=input.thread, outcome=e.Outcome(type="interrupt", interrupts=[asked]))
            return
        for answer in input.answers:
            if answer.status == "resolved":
                pay(answer.interrupt_id)
        message = context.new_id()
        yield e.TextMessageStart(message_id=message)
        yield e.TextMessageContent(message_id=message, delta="paid" if input.answers[0].status == "resolved" else "no")
        yield e.TextMessageEnd(message_id=message)


def pay(interrupt: str) -> None:
    descriptor = os.open(Path("PAID"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(descriptor, f"{interrupt}\n".encode())
    os.close(descriptor)


def paid(directory: Path) -> list[str]:
    """The questions whose yes was used, each as often as it was."""
    file = directory / "PAID"
    return file.read_text().split() if file.exists() else []


class Playing:
    """Does what the first word says: `count`, `flood` or `pay`."""

    name = "playing"
    description = ""

    def run(self, input: RunInput, context: RunContext) -> AsyncIterator[Event]:
        word = "pay" if input.answers else input.text.split()[0]
        agent = {"count": Counting, "flood": Flooding, "pay": Asking}[word]()
        return agent.run(input, context)
