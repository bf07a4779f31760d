"""What people yield, as events: strings, events, AG-UI events, and the small dicts and objects people already write.

    "…"                                        a piece of the answer
    {"type": "thinking", "content": "…"}       one whole thought ("delta" instead of "content": a piece of one)
    {"type": "action", "name": …, "arguments": {…}}  a tool call begins; {"type": "observation", "content": …} ends it
    {"type": "diagram", "content": "graph TD…"}      an artifact
    {"type": "TEXT_MESSAGE_CONTENT", …}        an AG-UI event as JSON; pydantic models of one as well
    AgentThought(type="answer", content="…")   any object with the same attributes

A call is matched with its result by id, else by name, else it is the oldest one open. What `type` may be: `WORDS`.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, cast

import msgspec
from msgspec import UNSET

from runcast import events as e
from runcast.agents.context import RunContext, json_text
from runcast.errors import AgentError
from runcast.events import Event
from runcast.jsonvalue import to_json

_ENVELOPE = ("seq", "from", "timestamp")
_JSON_FIELDS = ("snapshot", "delta", "patch", "value", "event", "content", "result", "rawEvent", "metadata")
"""Fields of AG-UI's events that hold any JSON."""
_NULLABLE = ("snapshot", "value", "event")
"""Fields in which null is a value: they are required."""
_MISSING: Any = object()


class Yields:
    """Maps what one run yields; holds which tool calls are open. `finish` closes what is open when the run ends well."""

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._draft = context.draft
        self._calls: dict[str, str] = {}
        """Open tool calls that came as small dicts: id → name, oldest first."""

    def events(self, value: object) -> list[Event]:
        """The events that `value` stands for.

        Raises:
            AgentError: code `invalid_yield` when it stands for nothing; the agent's own error when it is one.
        """
        if isinstance(value, str):
            return self._draft.text(value)
        if isinstance(value, Event):
            return self._event(value)
        fields = _fields(value)
        kind = fields.get("type") if fields is not None else None
        if isinstance(kind, Enum):
            kind = kind.value
        if fields is None or not isinstance(kind, str):
            raise _invalid(f"a value of type {type(value).__name__}" if fields is None else "a dict without a `type`")
        if kind.isupper():
            return self._event(_wire_event(kind, fields))
        word = kind.lower().replace("-", "_")
        if word not in WORDS:
            near = difflib.get_close_matches(word, WORDS, n=1)
            raise _invalid(f"a {kind!r}" + (f" (did you mean {near[0]!r}?)" if near else ""))
        nested = fields.get("data")
        if isinstance(nested, Mapping):
            fields = {**cast(Mapping[str, Any], nested), **fields}
        return WORDS[word](self, fields)

    def finish(self) -> list[Event]:
        """End the open message, and the small dicts' tool calls that never got a result, but for those of the client's tools."""
        events = self._draft.close()
        client = self._context.input.client
        for call in [call for call, name in self._calls.items() if client.tool(name) is None]:
            events += self._result(call, content="")
        return events

    # --- one method per meaning -----------------------------------------------------------------------------------

    def _event(self, event: Event) -> list[Event]:
        match event:
            case e.RunStarted():
                return []  # the runner has written it
            case e.RunError():
                raise AgentError(
                    event.message,
                    code=event.code or None,
                    retryable=event.retryable is True,
                    retry_after_ms=event.retry_after_ms or None,
                )
            case e.RunFinished():
                return [*self._draft.close(), msgspec.structs.replace(event, thread_id=self._context.thread_id)]
            case e.StateSnapshot():
                self._context.state = event.snapshot
            case _:
                pass
        return [*self._draft.before(event), event]

    def text(self, fields: Mapping[str, Any]) -> list[Event]:
        return self._draft.text(_words(fields))

    def thinking(self, fields: Mapping[str, Any]) -> list[Event]:
        if "delta" in fields and "content" not in fields:
            return self._draft.thought(_words(fields))
        return [*self._draft.close(), *self._draft.thought(_words(fields)), *self._draft.close()]

    def tool_start(self, fields: Mapping[str, Any]) -> list[Event]:
        name = _first(fields, "name", "tool_name", "tool", "tool_call_name", "toolName")
        words = _first(fields, "content", "message", "title")
        title = _first(fields, "title", default=words)
        if name is _MISSING or not isinstance(name, str) or not name:
            name = "action"  # `{"type": "action", "content": "Searching…"}` says only what it does
        call = self._id(fields) or self._context.new_id()
        self._calls[call] = name
        arguments = _first(fields, "arguments", "args", "input", "tool_input", "parameters", default={})
        text = arguments if isinstance(arguments, str) else json_text(arguments)
        start = e.ToolCallStart(
            tool_call_id=call, tool_call_name=name, title=title if isinstance(title, str) and title else UNSET
        )
        return [
            *self._draft.before(start),
            start,
            *([e.ToolCallArgs(tool_call_id=call, delta=text)] if text else []),
            e.ToolCallEnd(tool_call_id=call),
        ]

    def tool_end(self, fields: Mapping[str, Any]) -> list[Event]:
        before: list[Event] = []
        call = self._open_call(fields)
        if call is None:
            before = self.tool_start(
                {
                    key: fields[key]
                    for key in ("id", "tool_call_id", "tool_id", "name", "tool_name", "tool")
                    if key in fields
                }
                or {"name": "observation"}
            )
            call = next(reversed(self._calls))
        result = to_json(
            _first(fields, "result", "output", "observation", "content", "text", "message", "value", default=None)
        )
        error = _first(fields, "error", default=None)
        failed = bool(error) or fields.get("status") in ("error", "failed") or fields.get("is_error") is True
        content = result if isinstance(result, str) else "" if result is None else json_text(result)
        if not failed:
            summary = fields.get("summary")
            return before + self._result(
                call, content=content, result=result, summary=summary if isinstance(summary, str) else UNSET
            )
        sentence = error if isinstance(error, str) and error else content or f"The tool {self._calls[call]} failed."
        return before + self._result(call, content=content or sentence, status="error", error=sentence)

    def _result(self, call: str, **fields: Any) -> list[Event]:
        self._calls.pop(call, None)
        return [e.ToolCallResult(message_id=self._context.new_id(), tool_call_id=call, **fields)]

    def progress(self, fields: Mapping[str, Any]) -> list[Event]:
        call = self._open_call(fields) or self._id(fields)
        message = _first(fields, "message", "content", "text", default=None)
        progress = _first(fields, "progress", "current", "count", default=None)
        total = fields.get("total")
        if call is None:
            value = {key: item for key, item in fields.items() if key != "type"}
            return [e.Custom(name="progress", value=to_json(value))]
        return [
            e.ToolCallProgress(
                tool_call_id=call,
                progress=float(progress) if isinstance(progress, int | float) else UNSET,
                total=float(total) if isinstance(total, int | float) else UNSET,
                message=message if isinstance(message, str) else UNSET,
            )
        ]

    def artifact(self, fields: Mapping[str, Any]) -> list[Event]:
        return self._thing(fields, _text_or(fields, "kind", "artifact_type", default="file"))

    def diagram(self, fields: Mapping[str, Any]) -> list[Event]:
        return self._thing(fields, "diagram")

    def _thing(self, fields: Mapping[str, Any], kind: str) -> list[Event]:
        content = _first(fields, "content", "source", "diagram", "data", "value", "text", default=_MISSING)
        url = fields.get("url")
        if content is _MISSING and not isinstance(url, str):
            raise _invalid("an artifact without `content` or `url`")
        return [
            e.ArtifactSnapshot(
                artifact_id=_text_or(fields, "id", "artifact_id", default=None) or self._context.new_id(),
                kind=kind,
                name=_text_or(fields, "name", "title", default=UNSET),
                mime_type=_text_or(fields, "mime_type", "mimeType", default=UNSET),
                content=UNSET if content is _MISSING else to_json(content),
                url=url if isinstance(url, str) else UNSET,
            )
        ]

    def source(self, fields: Mapping[str, Any]) -> list[Event]:
        url = _first(fields, "url", "content", "href", default=_MISSING)
        if not isinstance(url, str):
            raise _invalid("a source without a `url`")
        return [
            e.Source(
                source_id=_text_or(fields, "id", "source_id", default=None) or self._context.new_id(),
                url=url,
                title=_text_or(fields, "title", "name", default=UNSET),
            )
        ]

    def state(self, fields: Mapping[str, Any]) -> list[Event]:
        value = _first(fields, "state", "snapshot", "value", "content", "data", default=_MISSING)
        if value is _MISSING:
            raise _invalid("a state without a `state`")
        return self._event(e.StateSnapshot(snapshot=to_json(value)))

    def error(self, fields: Mapping[str, Any]) -> list[Event]:
        message = _first(fields, "message", "error", "content", "text", default=None)
        code = fields.get("code")
        raise AgentError(
            message if isinstance(message, str) and message else "The agent reported an error without saying which.",
            code=code if isinstance(code, str) and code else None,
            retry_after_ms=_first(fields, "retry_after_ms", "retryAfterMs", default=None),
        )

    def done(self, fields: Mapping[str, Any]) -> list[Event]:
        return self._draft.close()

    # --- matching -------------------------------------------------------------------------------------------------

    def _id(self, fields: Mapping[str, Any]) -> str | None:
        value = _first(fields, "id", "tool_call_id", "tool_id", "call_id", "toolCallId", default=None)
        return None if value is None else str(value)

    def _open_call(self, fields: Mapping[str, Any]) -> str | None:
        id = self._id(fields)
        if id is not None:
            return id if id in self._calls else None
        name = _first(fields, "name", "tool_name", "tool", "toolName", default=None)
        if isinstance(name, str):
            return next((call for call, known in self._calls.items() if known == name), None)
        return next(iter(self._calls), None)


WORDS: dict[str, Callable[[Yields, Mapping[str, Any]], list[Event]]] = {
    **dict.fromkeys(("text", "answer", "token", "content", "response", "message"), Yields.text),
    **dict.fromkeys(("thinking", "thought", "reasoning"), Yields.thinking),
    **dict.fromkeys(("tool_call", "tool_start", "tool_call_start", "tool_starting", "action"), Yields.tool_start),
    **dict.fromkeys(("tool_result", "tool_end", "tool_call_end", "tool_complete", "observation"), Yields.tool_end),
    **dict.fromkeys(("progress", "tool_progress"), Yields.progress),
    "artifact": Yields.artifact,
    "diagram": Yields.diagram,
    **dict.fromkeys(("source", "citation"), Yields.source),
    "state": Yields.state,
    "error": Yields.error,
    **dict.fromkeys(("done", "end"), Yields.done),
}
"""What `type` of a small dict may be (case and `-` or `_` do not matter), and what it means."""


def _fields(value: object) -> Mapping[str, Any] | None:
    """`value` as a mapping of its fields; None if it has no `type`d shape."""
    if isinstance(value, Mapping):
        return cast(Mapping[str, Any], value)
    if not hasattr(value, "type") or isinstance(value, type):
        return None
    dump = getattr(value, "model_dump", None)
    if callable(dump):  # pydantic, without importing it; AG-UI's models name their fields by alias
        whole = cast(dict[str, Any], dump(mode="json", by_alias=True))
        given = cast(dict[str, Any], dump(mode="json", by_alias=True, exclude_none=True))
        # A null in an optional field says nothing, a null in somebody's JSON is a value.
        return {**given, **{name: whole[name] for name in _JSON_FIELDS if name in whole}}
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, msgspec.Struct):
        return {name: getattr(value, name) for name in value.__struct_fields__}
    return dict(vars(value)) if hasattr(value, "__dict__") else None


def _wire_event(kind: str, fields: Mapping[str, Any]) -> Event:
    """An event from its JSON object: AG-UI's or ours, without the envelope that only the log may fill."""
    raw = to_json(
        {
            name: item
            for name, item in fields.items()
            if name not in _ENVELOPE and (item is not None or name in _NULLABLE)
        }
    )
    raw["type"] = kind
    try:
        event = e.decode(msgspec.json.encode(raw))
    except msgspec.ValidationError as error:
        raise _invalid(f"a {kind} whose fields do not fit ({error})") from error
    if isinstance(event, e.UnknownEvent):
        known = [str(item.__struct_config__.tag) for item in (*e.AGUI, *e.OWN)]
        near = difflib.get_close_matches(kind, known, n=1)
        raise _invalid(f"an event of the unknown type {kind}" + (f" (did you mean {near[0]}?)" if near else ""))
    return msgspec.structs.replace(event, run_id=UNSET)


def _words(fields: Mapping[str, Any]) -> str:
    value = _first(
        fields, "content", "delta", "text", "token", "answer", "thought", "thinking", "message", default=_MISSING
    )
    if isinstance(value, str):
        return value
    raise _invalid(f"a {fields.get('type')!r} without text in `content`")


def _first(fields: Mapping[str, Any], *names: str, default: Any = _MISSING) -> Any:
    return next((fields[name] for name in names if name in fields), default)


def _text_or(fields: Mapping[str, Any], *names: str, default: Any) -> Any:
    value = _first(fields, *names, default=default)
    return value if isinstance(value, str) and value else default


def _invalid(what: str) -> AgentError:
    return AgentError(
        f"The agent yielded {what}, which cannot be shown. Yield a string, an event, or a dict with a known `type`.",
        code="invalid_yield",
    )
