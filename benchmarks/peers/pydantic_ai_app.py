"""pydantic-ai's own adapters, AG-UI and Vercel AI SDK, in front of the same scripted agent (as a FunctionModel)."""

from __future__ import annotations

from collections.abc import AsyncIterator

from agent import parse, tokens
from fastapi import FastAPI, Request, Response
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelRequest, UserPromptPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.ui.ag_ui import AGUIAdapter
from pydantic_ai.ui.vercel_ai import VercelAIAdapter


async def scripted(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
    last = messages[-1]
    assert isinstance(last, ModelRequest)
    prompt = next(part.content for part in last.parts if isinstance(part, UserPromptPart))
    async for token in tokens(*parse(prompt if isinstance(prompt, str) else str(prompt[0]))):
        yield token


agent = Agent(FunctionModel(stream_function=scripted))
app = FastAPI()


@app.post("/ag-ui")
async def ag_ui(request: Request) -> Response:
    return await AGUIAdapter.dispatch_request(request, agent=agent)


@app.post("/vercel")
async def vercel(request: Request) -> Response:
    return await VercelAIAdapter.dispatch_request(request, agent=agent)
