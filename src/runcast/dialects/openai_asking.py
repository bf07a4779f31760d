"""What OpenAI's clients ask: the bodies of `POST chat/completions` and `POST responses`, read into one form. Pure.

Messages and items become messages in AG-UI's shape (`runcast.histories`). What stands behind the last word of the assistant is
said now; what is before it was said elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import msgspec

from runcast.dialects.openai_ids import APPROVAL, MCP_CALL, SERVER_LABEL
from runcast.errors import InvalidRequest
from runcast.files import url_of
from runcast.histories import MAX_MESSAGES
from runcast.runs import ClientTool

Json = dict[str, Any]

_DATA_URL = re.compile(r"data:([\w.+/-]*)(?:;[\w=.+-]+)*;base64,", re.ASCII)


class Approval(NamedTuple):
    """The answer to a question."""

    interrupt: str
    approve: bool
    reason: str | None


class Result(NamedTuple):
    """What came of a call that was left to the client. `call` as the client calls it."""

    call: str
    content: str


class Asked(NamedTuple):
    """`content`: what is said now, text or AG-UI content parts; None if nothing is. `history`: what was said before, oldest
    first. `props`: all else in the body, for the agent. `whole`: all messages, with a question behind what came of its calls,
    for an agent that has to begin anew."""

    model: str
    stream: bool
    content: str | list[Json] | None
    history: tuple[Json, ...]
    results: tuple[Result, ...]
    approvals: tuple[Approval, ...]
    tools: tuple[ClientTool, ...]
    props: Json

    def anew(self) -> Asked:
        """The same with the results as something said before and the last question asked again: for when nobody knows any
        longer which run left the calls."""
        history = [*self.history, *(_tool_message(at, one) for at, one in enumerate(self.results))]
        if self.content is not None:
            return self._replace(results=(), history=tuple(history))
        at = next((at for at in range(len(history) - 1, -1, -1) if history[at]["role"] == "user"), None)
        if at is None:
            raise InvalidRequest("There is no message of a user in it.", at="/messages")
        question = history.pop(at)
        return self._replace(results=(), history=tuple(history), content=question["content"])


def asked_in_chat(body: Json) -> Asked:
    """
    Raises:
        InvalidRequest: with `at`, what is wrong where.
    """
    messages = _list(body, "messages")
    if body.get("n") not in (None, 1):
        raise InvalidRequest("Only one choice is made: leave `n` out.", at="/n")
    said = [_chat_message(one, at) for at, one in enumerate(messages)]
    known = {"messages", "model", "stream", "stream_options", "tools", "n"}
    tools = [_chat_tool(one, at) for at, one in enumerate(_list(body, "tools", empty=True))]
    return _asked(body, said, tools, known, "/messages")


def asked_of_responses(body: Json) -> Asked:
    """
    Raises:
        InvalidRequest: with `at`, what is wrong where.
    """
    given = body.get("input")
    items: list[Any] = [{"role": "user", "content": given}] if isinstance(given, str) else _list(body, "input")
    said: list[Json] = []
    approvals: list[Approval] = []
    asked_before = 0
    for at, item in enumerate(items):
        _item(item, at, said, approvals)
        if cast(Json, item).get("type") == "mcp_approval_request":
            asked_before = len(said)  # what stands before it was answered by it, if by nothing else
    known = {"input", "model", "stream", "tools", "previous_response_id", "stream_options"}
    given_tools = _list(body, "tools", empty=True)
    tools = [_tool(one, f"/tools/{at}") for at, one in enumerate(given_tools) if not _is_ours(one)]
    instructions = body.get("instructions")
    if isinstance(instructions, str) and instructions:
        said.insert(0, {"id": "instructions", "role": "system", "content": instructions})
        asked_before += 1
    asked = _asked(body, said, tools, known, "/input", needs=not approvals, begin=asked_before)
    return asked._replace(approvals=tuple(approvals))


def _asked(
    body: Json,
    said: list[Json],
    tools: list[ClientTool],
    known: set[str],
    at: str,
    *,
    needs: bool = True,
    begin: int = 0,
) -> Asked:
    """`begin`: how many of `said` were said before, at least."""
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise InvalidRequest("`model` must name an agent.", at="/model")
    cut = next((i + 1 for i in range(len(said) - 1, -1, -1) if said[i]["role"] == "assistant"), 0)
    cut = max(cut, begin)
    now = said[cut:]
    users = [one for one in now if one["role"] == "user"]
    ran = {one["toolCallId"] for one in said if one["role"] == "tool" and one["toolCallId"].startswith(MCP_CALL)}
    results = [
        Result(one["toolCallId"], one["content"])
        for one in now
        if one["role"] == "tool" and one["toolCallId"] not in ran
    ]
    if needs and not users and not results:
        raise InvalidRequest(
            "There is nothing to answer: end with a message of the user or the results of tools.", at=at
        )
    told = [one for one in now if one["role"] not in ("user", "tool") or one.get("toolCallId") in ran]
    history = [*said[:cut], *told]
    return Asked(
        model=model,
        stream=body.get("stream") is True,
        content=_together([one["content"] for one in users]) if users else None,
        history=tuple(history),
        results=tuple(results),
        approvals=(),
        tools=() if body.get("tool_choice") == "none" else tuple(tools),
        props={name: value for name, value in body.items() if name not in known},
    )


def _together(contents: Sequence[str | list[Json]]) -> str | list[Json]:
    if all(isinstance(content, str) for content in contents):
        return "\n\n".join(cast("Sequence[str]", contents))
    parts: list[Json] = []
    for content in contents:
        parts += [{"type": "text", "text": content}] if isinstance(content, str) else content
    return parts


# --- Chat Completions -------------------------------------------------------------------------------------------------


def _chat_message(given: Any, index: int) -> Json:
    at = f"/messages/{index}"
    message = _object(given, at)
    id = f"h{index}"
    role, content = message.get("role"), message.get("content")
    match role:
        case "user":
            return {"id": id, "role": "user", "content": _content(content, at)}
        case "system" | "developer":
            return {"id": id, "role": role, "content": _text(content, at)}
        case "assistant":
            calls = [_chat_call(one, f"{at}/tool_calls/{i}") for i, one in enumerate(message.get("tool_calls") or [])]
            text = "" if content is None else _text(content, at)
            return {"id": id, "role": "assistant", "content": text} | ({"toolCalls": calls} if calls else {})
        case "tool":
            call = message.get("tool_call_id")
            if not isinstance(call, str) or not call:
                raise InvalidRequest("A tool message needs its `tool_call_id`.", at=f"{at}/tool_call_id")
            return {"id": id, "role": "tool", "toolCallId": call, "content": _text(content, at)}
        case _:
            raise InvalidRequest(
                "A message's `role` is one of system, developer, user, assistant, tool.", at=f"{at}/role"
            )


def _chat_call(given: Any, at: str) -> Json:
    call = _object(given, at)
    return _call(call.get("id"), _object(call.get("function"), f"{at}/function"), at)


def _chat_tool(given: Any, index: int) -> ClientTool:
    tool = _object(given, f"/tools/{index}")
    if tool.get("type") != "function":
        return _tool(tool, f"/tools/{index}")
    inner = _object(tool.get("function"), f"/tools/{index}/function")
    return _tool({**inner, "type": "function"}, f"/tools/{index}/function")


# --- Responses --------------------------------------------------------------------------------------------------------


def _item(given: Any, index: int, said: list[Json], approvals: list[Approval]) -> None:
    at = f"/input/{index}"
    item = _object(given, at)
    id = f"h{index}"
    match item.get("type", "message"):
        case "message":
            role, content = item.get("role"), item.get("content")
            if role not in ("user", "system", "developer", "assistant"):
                raise InvalidRequest(
                    "A message's `role` is one of user, system, developer, assistant.", at=f"{at}/role"
                )
            said.append(
                {"id": id, "role": role, "content": _content(content, at) if role == "user" else _text(content, at)}
            )
        case "function_call":
            said.append(
                {"id": id, "role": "assistant", "content": "", "toolCalls": [_call(item.get("call_id"), item, at)]}
            )
        case "mcp_call":
            _ran_here(item, id, at, said)
        case "function_call_output":
            call = item.get("call_id")
            if not isinstance(call, str) or not call:
                raise InvalidRequest("A function_call_output needs its `call_id`.", at=f"{at}/call_id")
            content = _text(item.get("output"), f"{at}/output")
            said.append({"id": id, "role": "tool", "toolCallId": call, "content": content})
        case "mcp_approval_response":
            request, reason = item.get("approval_request_id"), item.get("reason")
            if not isinstance(request, str) or not request.startswith(APPROVAL):
                raise InvalidRequest(
                    "`approval_request_id` must be the id of an mcp_approval_request.", at=f"{at}/approval_request_id"
                )
            if not isinstance(item.get("approve"), bool):
                raise InvalidRequest("`approve` must be true or false.", at=f"{at}/approve")
            approvals.append(
                Approval(request.removeprefix(APPROVAL), item["approve"], reason if isinstance(reason, str) else None)
            )
        case "reasoning" | "mcp_approval_request" | "mcp_list_tools":
            pass  # what a client gives back of an answer, and no model of ours reads
        case kind:
            raise InvalidRequest(f"Items of the type {str(kind)[:64]!r} are not understood.", at=f"{at}/type")


def _ran_here(item: Json, id: str, at: str, said: list[Json]) -> None:
    """A call of the agent's own tool and what came of it, which a client gives back with an answer. One of which nothing has
    come yet is left out: it waits for a person, or was cut short."""
    name = item.get("id")
    call = MCP_CALL + (name if isinstance(name, str) else str(id)).removeprefix(MCP_CALL)
    called = {"id": id, "role": "assistant", "content": "", "toolCalls": [_call(call, item, at)]}
    output, error = item.get("output"), item.get("error")
    if not isinstance(output, str) and error is None:
        return
    if not isinstance(output, str):
        content = cast(Json, error).get("content") if isinstance(error, dict) else None
        output = _text(error if content is None else content, f"{at}/error")
    said += [called, {"id": f"{id}o", "role": "tool", "toolCallId": call, "content": output}]


def _is_ours(tool: Any) -> bool:
    """Whether a tool of the request is the server that our own tools and questions name: some clients must list it to be
    allowed to answer."""
    given = cast(Json, tool) if isinstance(tool, dict) else {}
    return given.get("type") == "mcp" and given.get("server_label") == SERVER_LABEL


def _tool(given: Any, at: str) -> ClientTool:
    tool = _object(given, at)
    if tool.get("type") != "function":
        raise InvalidRequest("Only tools of the type `function` can be brought along.", at=f"{at}/type")
    name, description = tool.get("name"), tool.get("description")
    if not isinstance(name, str) or not name:
        raise InvalidRequest("A tool needs a `name`.", at=f"{at}/name")
    return ClientTool(
        name=name,
        description=description if isinstance(description, str) else "",
        parameters=tool.get("parameters"),
    )


# --- both -------------------------------------------------------------------------------------------------------------


def _call(id: Any, function: Json, at: str) -> Json:
    name, arguments = function.get("name"), function.get("arguments")
    if not isinstance(id, str) or not isinstance(name, str):
        raise InvalidRequest("A call needs its id and the name of its function.", at=at)
    text = arguments if isinstance(arguments, str) else "{}"
    return {"id": id, "type": "function", "function": {"name": name, "arguments": text}}


def _tool_message(index: int, result: Result) -> Json:
    return {"id": f"r{index}", "role": "tool", "toolCallId": result.call, "content": result.content}


def _content(content: Any, at: str) -> str | list[Json]:
    """What a user said: text, or AG-UI content parts."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise InvalidRequest("`content` must be a text or a list of parts.", at=f"{at}/content")
    parts = [_part(part, f"{at}/content/{i}") for i, part in enumerate(cast("list[Any]", content))]
    if all(part["type"] == "text" for part in parts):
        return "\n".join(part["text"] for part in parts)
    return parts


def _part(given: Any, at: str) -> Json:
    part = _object(given, at)
    match part.get("type"):
        case "text" | "input_text" | "output_text" if isinstance(part.get("text"), str):
            return {"type": "text", "text": part["text"]}
        case "image_url" | "input_image":
            image: Any = part.get("image_url")
            url = cast(Json, image).get("url") if isinstance(image, dict) else image
            return _file("image", url, part.get("file_id"), None, at)
        case "input_audio":
            audio = _object(part.get("input_audio"), f"{at}/input_audio")
            source = {"type": "data", "value": audio.get("data"), "mimeType": f"audio/{audio.get('format')}"}
            return {"type": "audio", "source": source}
        case "file" | "input_file":
            file = _object(part.get("file"), f"{at}/file") if part.get("type") == "file" else part
            url = file.get("file_data") or file.get("file_url")
            return _file("document", url, file.get("file_id"), file.get("filename"), at)
        case kind:
            raise InvalidRequest(f"Parts of the type {str(kind)[:64]!r} are not understood.", at=f"{at}/type")


def _file(kind: str, url: Any, file: Any, name: Any, at: str) -> Json:
    more = {"metadata": {"name": name}} if isinstance(name, str) else {}
    if isinstance(file, str) and file:
        return {"type": kind, "source": {"type": "url", "value": url_of(file)}, **more}
    if not isinstance(url, str):
        raise InvalidRequest("A part that is no text needs a URL, a data URL or the id of a file.", at=at)
    found = _DATA_URL.match(url)
    if found is None:
        return {"type": kind, "source": {"type": "url", "value": url}, **more}
    source = {"type": "data", "value": url[found.end() :], "mimeType": found.group(1)}
    return {"type": kind, "source": source, **more}


def _text(content: Any, at: str) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = [cast(Json, part) for part in cast("list[Any]", content) if isinstance(part, dict)]
        texts = [str(part.get("text") or part.get("refusal") or "") for part in parts]
        return "\n".join(text for text in texts if text)
    if isinstance(content, Mapping):
        return msgspec.json.encode(content).decode()
    raise InvalidRequest("`content` must be a text or a list of parts.", at=at)


def _object(value: Any, at: str) -> Json:
    if not isinstance(value, dict):
        raise InvalidRequest("This must be an object.", at=at)
    return cast(Json, value)


def _list(body: Json, name: str, *, empty: bool = False) -> list[Any]:
    value = body.get(name)
    if value is None and empty:
        return []
    if not isinstance(value, list) or not (value or empty):
        raise InvalidRequest(f"`{name}` must be a list{'' if empty else ' that is not empty'}.", at=f"/{name}")
    if len(cast("list[Any]", value)) > MAX_MESSAGES:
        raise InvalidRequest(f"`{name}` has at most {MAX_MESSAGES} entries.", at=f"/{name}")
    return cast("list[Any]", value)
