"""What a client brings along, for a pydantic-ai agent: its tools as external ones, their results, its state, what was said
elsewhere. See `runcast.runs.ClientInput`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence, Set
from typing import Any, cast

import pydantic
from pydantic_ai import exceptions as pai
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    SystemPromptPart,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.tools import DeferredToolResults, ToolDefinition
from pydantic_ai.toolsets import ExternalToolset

from runcast.agents.context import RunContext
from runcast.agents.pydantic_ai_files import said_in
from runcast.agents.pydantic_ai_history import arguments
from runcast.errors import AgentError
from runcast.runs import ClientInput, Message, ToolMessage

NO_RESULT = "The app gave no result."
"""What the model reads of a call of the client's tool that it does not hear of."""


def client_toolset(client: ClientInput, taken: Set[str]) -> ExternalToolset[Any] | None:
    """The client's tools for a run, without those that the agent has itself (`taken`); None if there are none."""
    tools = [
        ToolDefinition(
            name=tool.name,
            description=tool.description,
            parameters_json_schema=_parameters(tool.parameters),
        )
        for tool in client.tools
        if tool.name not in taken
    ]
    return ExternalToolset(tools) if tools else None


def _parameters(schema: Any) -> dict[str, Any]:
    given = cast(dict[str, Any], schema) if isinstance(schema, dict) else {}
    return given if given.get("type") == "object" else {"type": "object", "properties": {}}


def results(given: Sequence[ToolMessage], open_calls: Set[str]) -> DeferredToolResults | None:
    """What came of the calls that the answer before left to the client; None if none of them is open in the messages: then
    the results stand in the history already."""
    found = DeferredToolResults()
    by_call = {_model_id(one.tool_call_id, open_calls): one for one in given}
    if not set(by_call) & set(open_calls):
        return None
    for call in open_calls:
        result = by_call.get(call)
        if result is None:
            found.calls[call] = pai.ToolFailed(NO_RESULT)
        elif result.error is not None:
            found.calls[call] = pai.ToolFailed(_text(result.content) or result.error)
        else:
            found.calls[call] = _text(result.content)
    return found


def _model_id(call: str, open_calls: Set[str]) -> str:
    """The model's id of a call: in the log one that was used before in its run has a number behind it."""
    base, _, number = call.rpartition(".")
    return base if call not in open_calls and number.isdecimal() and base in open_calls else call


def with_state(deps: Any, context: RunContext) -> Any:
    """The dependencies with the shared state, if they have a place for it as pydantic-ai's `StateHandler` means it: a dataclass
    with a field `state`. Others, and those of other runs, are left as they are.

    Raises:
        AgentError: code `invalid_state`, it is not of the form that they ask for.
    """
    if context.state is None or not dataclasses.is_dataclass(deps) or isinstance(deps, type):
        return deps
    if not any(field.name == "state" for field in dataclasses.fields(deps)):
        return deps
    before: Any = getattr(deps, "state", None)
    state = context.state
    if isinstance(before, pydantic.BaseModel):
        try:
            state = type(before).model_validate(state)
        except pydantic.ValidationError as error:
            raise AgentError(
                "The shared state does not have the form that the agent needs.", code="invalid_state"
            ) from error
    return dataclasses.replace(deps, state=state)


async def elsewhere(history: Sequence[Mapping[str, Any]], context: RunContext) -> list[ModelMessage]:
    """What was said elsewhere, as model messages: AG-UI's shape, oldest first. What has no meaning for a model is left out."""
    messages: list[ModelMessage] = []
    names: dict[str, str] = {}
    for message in history:
        content: Any = message.get("content")
        match message.get("role"):
            case "system" | "developer" if isinstance(content, str):
                messages.append(ModelRequest(parts=[SystemPromptPart(content=content)]))
            case "user" if content:
                said = await said_in(Message(id=str(message.get("id")), content=content), context, {})
                messages.append(ModelRequest(parts=[UserPromptPart(content=said)]))
            case "assistant":
                parts: list[TextPart | ToolCallPart] = (
                    [TextPart(content=content)] if isinstance(content, str) and content else []
                )
                calls: Any = message.get("toolCalls")
                for call in cast(list[Any], calls) if isinstance(calls, list) else []:
                    function: Any = call.get("function") if isinstance(call, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
                    if isinstance(function, dict):
                        id = str(cast(dict[str, Any], call).get("id"))
                        named = cast(dict[str, Any], function)
                        names[id] = str(named.get("name"))
                        args = arguments(str(named.get("arguments") or "{}"))
                        parts.append(ToolCallPart(tool_name=names[id], args=args, tool_call_id=id))
                if parts:
                    messages.append(ModelResponse(parts=parts))
            case "tool" if str(message.get("toolCallId")) in names:
                id = str(message.get("toolCallId"))
                part = ToolReturnPart(tool_name=names.pop(id), content=_text(content), tool_call_id=id)
                messages.append(ModelRequest(parts=[part]))
            case _:
                pass
    return messages


def _text(content: Any) -> str:
    return content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
