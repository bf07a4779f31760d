"""Items of a response, and what stands in them (OpenAI API, "Responses": the output items). Pure.

message, reasoning      what was said and thought
function_call           a call that is left to the client
function_call_output    what came of one that ran here all the same, because the agent has a tool of the same name
mcp_call                a call of a tool that runs here: call, arguments and result in one item
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import UNSET

from runcast import events as e
from runcast.dialects.openai_ids import OUTPUT
from runcast.events import encode_value as to_bytes

Json = dict[str, Any]


def filled(kind: str, value: Json, text: str, status: str, citations: Sequence[Json] = ()) -> Json:
    """An item with its text or arguments."""
    match kind:
        case "text":
            part: Json = {"type": "output_text", "text": text, "annotations": list(citations), "logprobs": []}
            return {**value, "status": status, "content": [part]}
        case "reasoning":
            return {**value, "status": status, "content": [{"type": "reasoning_text", "text": text}]}
        case _:
            return {**value, "status": status, "arguments": text}


def outcome_of(event: e.ToolCallResult) -> Json:
    """What came of a call, as fields of its `mcp_call`: `status`, `output`, `error`."""
    output = _text(event)
    if event.status in (UNSET, "success"):
        return {"status": "completed", "output": output, "error": None}
    said = (event.error if event.error is not UNSET else "") or output or "It failed."
    error = {"type": "mcp_tool_execution_error", "content": [{"type": "text", "text": said}]}
    return {"status": "failed", "output": None, "error": error}


def given_output(event: e.ToolCallResult, call: str) -> Json:
    """What came of a call that was told as one of the client's."""
    done = event.status in (UNSET, "success")
    error = event.error if event.error is not UNSET else ""
    return {
        "id": OUTPUT + event.tool_call_id,
        "type": "function_call_output",
        "call_id": call,
        "output": _text(event) if done else _text(event) or error,
        "status": "completed" if done else "incomplete",
    }


def citation_of(event: e.Source) -> Json | None:
    """A source as a citation without a place; None if it has no address."""
    if event.url is UNSET:
        return None
    title = event.title if event.title is not UNSET and event.title else event.url
    return {"type": "url_citation", "url": event.url, "title": title}


def tool_of(tool: Mapping[str, Any]) -> Json:
    """A tool of the client, as a response names it."""
    return {
        "type": "function",
        "name": tool.get("name"),
        "description": tool.get("description"),
        "parameters": tool.get("parameters"),
        "strict": False,
    }


def _text(event: e.ToolCallResult) -> str:
    return event.content if isinstance(event.content, str) else to_bytes(event.content).decode()
