"""The agent behind the published clients: the first word of a message says what it plays, and what it says is known.

Served by `server.ts` for the TypeScript clients and by `tests/serving.py` for the Python ones; the file `gate` in the working
directory lets `hold` go on.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path

import anyio

import runcast
from runcast.agents.context import RunContext
from runcast.errors import AgentError

GATE = Path("gate")

DIAGRAM = "erDiagram\n  A ||--o{ B : has"


async def plain(rest: str, run: RunContext) -> AsyncIterator[str]:
    """`plain`: "Hello you." in three pieces."""
    for piece in ("Hel", "lo ", "you."):
        yield piece


async def reason(rest: str, run: RunContext) -> AsyncIterator[str]:
    """`reason`: one thought, then "42."."""
    await run.think("Let me see. ")
    yield "42."


async def parallel(rest: str, run: RunContext) -> AsyncIterator[str]:
    """`parallel`: two calls of one tool, open at the same time, ended in the other order; the second one reports progress."""
    async with run.tool("add", a=1, b=2) as one:
        async with run.tool("add", a=3, b=4) as two:
            await two.progress(1, total=2, message="Half way")
            two.result = 7
        one.result = 3
    yield "3 and 7."


async def broken(rest: str, run: RunContext) -> AsyncIterator[str]:
    """`broken`: a tool that fails; the answer goes on."""
    try:
        async with run.tool("read", path="x"):
            raise AgentError("There is no file x.")
    except AgentError:
        pass
    yield "It is not there."


async def approve(rest: str, run: RunContext) -> AsyncIterator[str]:
    """`approve`: a tool that a person must allow. "Deleted." or, after a no, "Kept."."""
    yield "One moment. "
    try:
        async with run.tool("delete", path="a.txt") as call:
            await call.approve()
            call.result = {"deleted": 1}
    except runcast.Declined:
        yield "Kept."
    else:
        yield "Deleted."


async def draw(rest: str, run: RunContext) -> AsyncIterator[str]:
    """`draw`: a diagram, a source and shared state beside the text."""
    await run.artifact("diagram", DIAGRAM, name="Tables")
    await run.source("https://example.com/", title="An example")
    yield "Here it is."


async def fail(rest: str, run: RunContext) -> AsyncIterator[str]:
    """`fail`: some text, then an error that people may read."""
    yield "I try. "
    raise AgentError("The library is closed on Sundays.", code="closed")


async def count(rest: str, run: RunContext) -> AsyncIterator[str]:
    """`count N`: "1 2 3 … N ", one number each hundredth of a second."""
    for number in range(1, int(rest or "100") + 1):
        yield f"{number} "
        await anyio.sleep(0.01)


async def hold(rest: str, run: RunContext) -> AsyncIterator[str]:
    """`hold`: "before ", then nothing until the file `gate` is there, then "after."."""
    yield "before "
    while not GATE.exists():
        await anyio.sleep(0.02)
    yield "after."


async def client(rest: str, run: RunContext) -> AsyncIterator[str]:
    """`client`: asks the front end's tool `where`; the run that brings its result says "You are in …"."""
    await run.call_client_tool("where")
    return
    yield


async def state(rest: str, run: RunContext) -> AsyncIterator[str]:
    """`state`: adds one to `n` of the shared state, then marks it as seen."""
    await run.set_state({"n": (run.state or {}).get("n", 0) + 1})
    await run.patch_state([{"op": "add", "path": "/seen", "value": True}])
    yield "Counted."


async def echo(rest: str, run: RunContext) -> AsyncIterator[str]:
    yield f"You said {run.input.text!r}."


SCENES: dict[str, Callable[[str, RunContext], AsyncIterator[str]]] = {
    scene.__name__: scene
    for scene in (plain, reason, parallel, broken, approve, draw, fail, count, hold, client, state)
}


@runcast.agent
async def agent(prompt: str, run: RunContext) -> AsyncGenerator[str]:
    """Plays what the first word says; else it repeats what it was told."""
    if run.tool_results:
        yield f"You are in {run.tool_results[0].content}."
        return
    scene, _, rest = prompt.partition(" ")
    async for piece in SCENES.get(scene, echo)(rest, run):
        yield piece
