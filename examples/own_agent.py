"""An agent of one's own: thinking, a tool with progress, and an answer. Serve it: runcast serve examples/own_agent.py:agent"""

from collections.abc import AsyncIterator
from pathlib import Path

import anyio

from runcast import AgentError, RunContext


async def agent(prompt: str, run: RunContext) -> AsyncIterator[str]:
    """Counts the lines of files beside it."""
    pattern = prompt.strip() or "*.py"
    await run.think(f"I look for {pattern!r} in this directory.")
    counted: dict[str, int] = {}
    async with run.tool("count_lines", pattern=pattern, title=f"Counting {pattern}…") as call:
        files = sorted(file for file in Path(__file__).parent.glob("*.py") if file.match(pattern))
        if not files:
            raise AgentError(f"There is no {pattern!r} here. Try *.py", code="nothing_found")
        for number, file in enumerate(files, start=1):
            counted[file.name] = len((await anyio.Path(file).read_text("utf-8")).splitlines())
            await call.progress(number, total=len(files), message=file.name)
        call.result = counted
        call.summary = f"Counted {len(files)} files"
    yield "| file | lines |\n|---|---|\n"
    for name, lines in counted.items():
        yield f"| {name} | {lines} |\n"
