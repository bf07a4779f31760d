"""The message history of a pydantic-ai agent: from what earlier runs saved, else from what people saw of them.

A run saves only its own new messages (`ADAPTER`, `VERSION`); the history of a run is the states along its path. A state
that is missing, foreign or no longer readable is rebuilt from the transcript: user texts and files, answers, and tool calls
with their results, dangling ones closed. Files are read anew from the store: saved messages only refer to them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

import msgspec
from pydantic_ai.messages import (
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserContent,
    UserPromptPart,
)

from runcast.agents.asking import ASKED
from runcast.agents.base import Turn
from runcast.agents.context import RunContext
from runcast.agents.pydantic_ai_files import Sent, content_of, referenced, rehydrated, said_in
from runcast.errors import AgentError
from runcast.parts import ActivityPart
from runcast.runs import Message
from runcast.transcript import TextPart as SeenText
from runcast.transcript import ToolPart as SeenTool
from runcast.transcript import TranscriptMessage, TranscriptRun

logger = logging.getLogger("runcast.agents")

ADAPTER = "pydantic_ai"
VERSION = 1

OUTCOMES: dict[str, Literal["success", "failed", "denied", "interrupted"]] = {
    "done": "success",
    "failed": "failed",
    "denied": "denied",
}


async def messages_of(turns: Sequence[Turn], context: RunContext) -> list[ModelMessage]:
    """What the model has to know of the runs before, oldest first."""
    messages: list[ModelMessage] = []
    for at, turn in enumerate(turns):
        if turn.state is not None and turn.state.adapter == ASKED:
            # A tool asked by `run.ask`: the run that went on with the answer saved the messages of both.
            after = turns[at + 1] if at + 1 < len(turns) else None
            if after is not None and after.run.resumes == turn.run.id and _saved(after) is not None:
                continue
        saved = _saved(turn)
        messages += await rebuilt(turn.run, context) if saved is None else await rehydrated(saved, context)
    return messages


def save(context: RunContext, messages: Sequence[ModelMessage], sent: Mapping[str, Sent]) -> None:
    """Keep this run's new messages, without the bytes of the files that were `sent`; what cannot be written (a tool's odd result) is rebuilt from the transcript later."""
    try:
        data = ModelMessagesTypeAdapter.dump_json(referenced(messages, sent))
    except Exception:
        logger.warning("the messages of run %s cannot be saved", context.run_id, exc_info=True)
        return
    context.save(ADAPTER, VERSION, data)


def _saved(turn: Turn) -> list[ModelMessage] | None:
    state = turn.state
    if state is None or state.adapter != ADAPTER or state.version != VERSION:
        return None
    try:
        return ModelMessagesTypeAdapter.validate_json(state.data)
    except ValueError:
        logger.warning("the saved messages of run %s cannot be read; using its transcript", turn.run.id, exc_info=True)
        return None


async def rebuilt(run: TranscriptRun, context: RunContext) -> list[ModelMessage]:
    """One run as model messages, from what was seen of it."""
    messages: list[ModelMessage] = []
    for message in run.messages:
        if message.role == "user":
            if content := await _said(message, context):
                messages.append(ModelRequest(parts=[UserPromptPart(content=content)]))
        elif message.role == "assistant":
            messages += await _assistant(message, context)
    return messages


async def _said(message: TranscriptMessage, context: RunContext) -> str | list[UserContent]:
    files = [part for part in message.parts if isinstance(part, ActivityPart) and part.activity_type == "attachment"]
    if not files:
        return "\n".join(part.text for part in message.parts if isinstance(part, SeenText))
    content: list[UserContent] = []
    for part in message.parts:
        if isinstance(part, SeenText) and part.text:
            content.append(part.text)
        elif isinstance(part, ActivityPart) and part in files:
            content += await content_of(part.content, context)
    return content


async def _assistant(message: TranscriptMessage, context: RunContext) -> list[ModelMessage]:
    messages: list[ModelMessage] = []
    said: list[TextPart | ToolCallPart] = []
    returned: list[ToolReturnPart] = []

    def flush() -> None:
        if said:
            messages.append(ModelResponse(parts=list(said)))
        if returned:
            messages.append(ModelRequest(parts=list(returned)))
        said.clear()
        returned.clear()

    for part in message.parts:
        if isinstance(part, SeenText) and part.text:
            if returned:
                flush()
            said.append(TextPart(content=part.text))
        elif isinstance(part, SeenTool):
            said.append(ToolCallPart(tool_name=part.name, args=arguments(part.args), tool_call_id=part.id))
            returned.append(
                ToolReturnPart(
                    tool_name=part.name,
                    content=await result_of(part, context),
                    tool_call_id=part.id,
                    outcome=OUTCOMES.get(part.status, "interrupted"),
                )
            )
        elif isinstance(part, ActivityPart) and part.activity_type == "steer":
            content = await said_in(Message(id=part.id, content=part.content.get("content") or ""), context, {})
            if content:
                flush()
                first = content[0]
                only = first if len(content) == 1 and isinstance(first, str) else content
                messages.append(ModelRequest(parts=[UserPromptPart(content=only)]))
    flush()
    return messages


def arguments(text: str) -> dict[str, Any]:
    """A call's arguments from their JSON text; what is no whole object (it was cut off) counts as none."""
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return cast(dict[str, Any], value) if isinstance(value, dict) else {}


async def result_of(part: SeenTool, context: RunContext) -> str:
    """What the model reads of a call's result."""
    if part.blob is not None:  # what is here is only the beginning
        try:
            return (await (await context.file(part.blob.url)).read()).decode("utf-8", "replace")
        except AgentError:
            logger.warning("the whole result of call %s is no longer there", part.id)
    if isinstance(part.content, str) and part.content:
        return part.content
    if part.content:
        return msgspec.json.encode(part.content).decode()
    if part.has_result:
        return msgspec.json.encode(part.result).decode()
    return part.error or "The tool did not finish."
