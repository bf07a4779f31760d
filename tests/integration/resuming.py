"""The same with pydantic-ai, in a file of its own: importing it takes a while."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

from runcast.agents.pydantic_ai import PydanticAIAgent

sys.path.append(str(Path(__file__).parent))

from dying import did, numbers


async def _say(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
    if not any(isinstance(message, ModelResponse) for message in messages):
        yield "I pay. "
        yield {1: DeltaToolCall(name="pay", json_args="{}", tool_call_id="c1")}
        return
    did("asked")
    async for word in numbers():
        yield word


_model = Agent(FunctionModel(stream_function=_say), name="resumer")


@_model.tool_plain
async def pay() -> str:
    did("pay")
    return "paid"


resumer = PydanticAIAgent(_model, on_crash="resume")
