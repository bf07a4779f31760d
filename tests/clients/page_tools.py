"""An agent that asks the page: for the clients whose protocols have tools on their side."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import runcast
from runcast.agents.context import RunContext


@runcast.agent
async def agent(prompt: str, run: RunContext) -> AsyncGenerator[str]:
    """Looks something up itself, then asks the page where it is."""
    if run.tool_results:
        yield f"You are in {run.tool_results[0].content}."
        return
    async with run.tool("look", at="the map") as call:
        call.result = "a map"
    yield "Where are you? "
    await run.call_client_tool("place", precise=True)
