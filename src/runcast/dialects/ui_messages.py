"""What clients of the AI SDK send: UI messages, read as messages in AG-UI 1.0's shape. Pure.

An assistant message of theirs has steps, and in them texts, calls of tools and what came of these. Here each step is a message
of its own, followed by a tool message for each result: `runcast.histories.place` knows where those belong.

Source: `UIMessage` of `ai` 5 to 7.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, cast
from urllib.parse import unquote, unquote_to_bytes

from runcast.dialects.run_fold import to_bytes
from runcast.files import kind_of
from runcast.parts import Transcript, TranscriptRun

_DATA_URL: Final = re.compile(r"data:([^,]*),(.*)\Z", re.DOTALL)
"""RFC 2397, section 3."""
MAX_ESCAPES: Final = 10_000
"""Of a data URL: each is decoded for itself."""
_ENDED: Final = ("output-available", "output-error", "output-denied")

Part = Mapping[str, Any]


class Approval(NamedTuple):
    """A person's answer to a `tool-approval-request`."""

    interrupt: str
    approved: bool
    reason: str | None

    @property
    def payload(self) -> dict[str, Any]:
        payload: dict[str, Any] = {"approved": self.approved}
        return payload if self.reason is None else {**payload, "reason": self.reason}


def as_ag_ui(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The same history in AG-UI's shape; parts that say nothing to an agent (data, sources, thoughts) are left out."""
    found: list[dict[str, Any]] = []
    for message in messages:
        id, role = str(message.get("id") or ""), message.get("role")
        if role == "assistant":
            found += _answer(id, _parts(message))
        elif role in ("user", "system"):
            found.append({"id": id, "role": role, "content": _content(_parts(message))})
    return found


def approvals_of(messages: Sequence[Mapping[str, Any]]) -> list[Approval]:
    """What was answered in the newest assistant message and has no result yet."""
    newest = next((message for message in reversed(messages) if message.get("role") == "assistant"), None)
    found: list[Approval] = []
    for part in _parts(newest) if newest is not None else ():
        given = part.get("approval")
        if part.get("state") != "approval-responded" or not isinstance(given, Mapping):
            continue
        approval = cast("Mapping[str, Any]", given)
        id, why = approval.get("id"), approval.get("reason")
        if isinstance(id, str):
            said_why = why if isinstance(why, str) and why else None
            found.append(Approval(id, approval.get("approved") is True, said_why))
    return found


def chain_of(transcript: Transcript, run: str) -> list[TranscriptRun]:
    """The runs of the assistant message that ends with `run`, oldest first: each goes on with answers or results that the one
    before asked for. Empty if there is no such run."""
    runs = {one.id: one for one in transcript.runs}
    chain: list[TranscriptRun] = []
    id: str | None = run
    while id is not None and (one := runs.pop(id, None)) is not None:  # popped: a circle ends
        chain.append(one)
        id = one.resumes or (one.parent if goes_on(one) else None)
    chain.reverse()
    return chain


def newest_of(transcript: Transcript, run: str) -> str:
    """The newest run of the assistant message that `run` is part of."""
    for one in transcript.runs:  # in the order of their first events: what goes on stands behind
        if one.resumes == run or (one.parent == run and goes_on(one) and one.resumes is None):
            run = one.id
    return run


def goes_on(run: TranscriptRun) -> bool:
    """Whether a run goes on with the message of the one before it: nobody said anything that it answers."""
    return run.resumes is not None or not any(
        message.role == "user" and message.id != run.id for message in run.messages
    )


def inline(url: str) -> tuple[str, str] | None:
    """Media type and content of a data URL (RFC 2397), the content in base64: what says that it is that is not looked at. None if
    it is no such URL, or one with more than `MAX_ESCAPES` percent signs."""
    found = _DATA_URL.match(url)
    if found is None or found[2].count("%") > MAX_ESCAPES:
        return None
    head, _, encoding = found[1].rpartition(";")
    if encoding.strip().lower() == "base64":
        return head.partition(";")[0] or "text/plain", unquote(found[2], "latin-1")
    data = unquote_to_bytes(found[2])
    return found[1].partition(";")[0] or "text/plain", base64.b64encode(data).decode()


# --- parts ------------------------------------------------------------------------------------------------------------


def _parts(message: Mapping[str, Any]) -> list[Part]:
    given = message.get("parts")
    if not isinstance(given, list):
        content = message.get("content")  # as `ai` 4 had it
        return [{"type": "text", "text": content}] if isinstance(content, str) else []
    return [cast("Part", part) for part in cast("list[Any]", given) if isinstance(part, Mapping)]


def _content(parts: Sequence[Part]) -> str | list[dict[str, Any]]:
    content: list[dict[str, Any]] = []
    for part in parts:
        if part.get("type") == "text" and isinstance(part.get("text"), str):
            content.append({"type": "text", "text": part["text"]})
        elif part.get("type") == "file" and isinstance(part.get("url"), str):
            content.append(_file(part))
    if all(part["type"] == "text" for part in content) and len(content) <= 1:
        return content[0]["text"] if content else ""
    return content


def _file(part: Part) -> dict[str, Any]:
    media_type, name = part.get("mediaType"), part.get("filename")
    type = media_type if isinstance(media_type, str) else ""
    url: str = part["url"]
    within = inline(url) if url.startswith("data:") else None
    if within is None:
        source = {"type": "url", "value": url, "mimeType": type}
    else:
        type = type or within[0]
        source = {"type": "data", "value": within[1], "mimeType": type}
    found: dict[str, Any] = {"type": kind_of(type), "source": source}
    return {**found, "metadata": {"name": name}} if isinstance(name, str) and name else found


def _answer(id: str, parts: Sequence[Part]) -> list[dict[str, Any]]:
    steps: list[list[Part]] = [[]]
    for part in parts:
        if part.get("type") == "step-start":
            steps.append([])
        else:
            steps[-1].append(part)
    found: list[dict[str, Any]] = []
    for parts in steps:
        text = "".join(str(part.get("text") or "") for part in parts if part.get("type") == "text")
        calls = [part for part in parts if isinstance(part.get("toolCallId"), str)]
        if not text and not calls and (found or parts is not steps[-1]):
            continue
        # The first message has the whole one's id; of others the calls tell whose they are.
        name = id if not found else str(calls[0]["toolCallId"]) if calls else f"{id}.{len(found)}"
        message: dict[str, Any] = {"id": name, "role": "assistant"}
        if text:
            message["content"] = text
        if calls:
            message["toolCalls"] = [_call(part) for part in calls]
        found += [message, *(result for part in calls if (result := _result(part)) is not None)]
    return found


def _call(part: Part) -> dict[str, Any]:
    type = str(part.get("type"))
    name = str(part.get("toolName")) if type == "dynamic-tool" else type.removeprefix("tool-")
    arguments = to_bytes(part.get("input") or {}).decode()
    return {"id": part["toolCallId"], "type": "function", "function": {"name": name, "arguments": arguments}}


def _result(part: Part) -> dict[str, Any] | None:
    """The tool message of a call that has come to its end; of a denied one the server knows itself."""
    state = part.get("state")
    if state not in _ENDED or state == "output-denied" or part.get("preliminary") is True:
        return None
    call = str(part["toolCallId"])
    message: dict[str, Any] = {"id": f"{call[:120]}.result", "role": "tool", "toolCallId": call}
    if state == "output-error":
        said = str(part.get("errorText") or "The tool failed.")
        return {**message, "content": said, "error": said}
    output = part.get("output")
    return {**message, "content": output if isinstance(output, str) else to_bytes(output).decode()}
