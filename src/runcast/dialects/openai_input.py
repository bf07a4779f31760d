"""What a run was asked, as the items of a response's input (OpenAI API, "Responses": list input items). Pure.

The log has what was said in AG-UI's shape: the history that the client gave, the messages of now, and answers to questions.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from msgspec import UNSET

from runcast import events as e
from runcast.dialects.openai_ids import APPROVAL, CALL, MESSAGE, OUTPUT, call_name
from runcast.events import encode_value as to_bytes
from runcast.files import id_of

Json = dict[str, Any]


def input_items(event: e.Event) -> list[Json]:
    """The items of the request that the first event of a run holds, in their order; each has an id of its own."""
    if not isinstance(event, e.RunStarted | e.RunQueued) or event.input is UNSET:
        return []
    given: Json = event.input
    parent = (
        event.parent_run_id
    )  # left the calls whose results are in `messages`; the history has them as the client does
    said = [*_list(given, "history"), *(_named(one, parent) for one in _list(given, "messages"))]
    items = [item for message in said if message.get("id") != "instructions" for item in _items(message)]
    return [*items, *(_approval(answer) for answer in _list(given, "resume"))]


def _named(message: Json, parent: Any) -> Json:
    call = message.get("toolCallId")
    return (
        message if parent is UNSET or not isinstance(call, str) else {**message, "toolCallId": call_name(parent, call)}
    )


def _list(given: Json, name: str) -> Iterable[Json]:
    return cast(list[Json], given.get(name) or [])


def _items(message: Json) -> Iterable[Json]:
    id, role, content = str(message.get("id")), message.get("role"), message.get("content")
    if role == "tool":
        call = message.get("toolCallId")
        yield {"id": OUTPUT + id, "type": "function_call_output", "call_id": call, "output": _text(content), **_DONE}
        return
    if role != "assistant" or content:
        given: list[Any] = cast("list[Any]", content) if isinstance(content, list) else [_text(content)]
        parts = [_part(part, str(role)) for part in given]
        yield {"id": MESSAGE + id, "type": "message", "role": role, "content": parts, **_DONE}
    for at, call in enumerate(_list(message, "toolCalls")):
        function = cast(Json, call.get("function") or {})
        named = {"name": function.get("name"), "arguments": function.get("arguments")}
        yield {"id": f"{CALL}{id}_{at}", "type": "function_call", "call_id": call.get("id"), **named, **_DONE}


_DONE = {"status": "completed"}


def _part(part: Any, role: str) -> Json:
    given = cast(Json, part) if isinstance(part, dict) else {"type": "text", "text": part}
    if given.get("type") == "text":
        if role == "assistant":
            return {"type": "output_text", "text": given.get("text"), "annotations": [], "logprobs": []}
        return {"type": "input_text", "text": given.get("text")}
    url = str(cast(Json, given.get("source") or {}).get("value") or "")
    file = id_of(url)
    if given.get("type") == "image":
        where = {"image_url": url} if file is None else {"file_id": file}
        return {"type": "input_image", "detail": "auto", **where}
    name = cast(Json, given.get("metadata") or {}).get("name")
    where = {"file_url": url} if file is None else {"file_id": file}
    return {"type": "input_file", **where, **({} if name is None else {"filename": name})}


def _approval(answer: Json) -> Json:
    """The answer to a question. What it says beyond yes or no is its `reason`."""
    payload: Any = answer.get("payload")
    fields = cast(Json, payload) if isinstance(payload, dict) else {}
    said = fields.get("approved", payload is not False)
    reason = fields.get("reason", payload if isinstance(payload, str) else None)
    return {
        "id": f"{APPROVAL}{answer.get('interruptId')}_answer",
        "type": "mcp_approval_response",
        "approval_request_id": f"{APPROVAL}{answer.get('interruptId')}",
        "approve": answer.get("status") == "resolved" and said is True,
        "reason": reason,
    }


def _text(content: Any) -> str:
    return content if isinstance(content, str) else to_bytes(content).decode()
