"""Agents that ask before they do something, for a server that is killed while they wait. What they do is one line in a file."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

import runcast
from runcast.agents.context import RunContext
from runcast.agents.pydantic_ai import PydanticAIAgent

DONE = Path(os.environ.get("RUNCAST_TEST_DONE", "done.txt"))


def do(what: str) -> str:
    with DONE.open("a") as file:
        file.write(f"{what}\n")
    return f"{what} is done"


@runcast.agent(resumable=True)
async def durable(prompt: str, run: RunContext) -> AsyncIterator[str]:
    yield "One moment. "
    await run.step("prepare", do, "prepare")
    async with run.tool("launch", rocket=prompt) as call:
        await call.approve()
        call.result = do(f"launch {prompt}")
    yield "Launched."


@runcast.agent
async def parked(prompt: str, run: RunContext) -> AsyncIterator[str]:
    yield f"Off to {await run.ask('Which city?')}."


async def _stream(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
    if isinstance(messages[-1], ModelResponse) or len(messages) == 1:
        yield {0: DeltaToolCall(name="launch", json_args='{"rocket": "Ada"}', tool_call_id="c1")}
    else:
        yield "Launched."


_framework = Agent(FunctionModel(stream_function=_stream), name="framework")


@_framework.tool_plain(requires_approval=True)
def launch(rocket: str) -> str:
    return do(f"launch {rocket}")


agents = [durable, parked, PydanticAIAgent(_framework)]
