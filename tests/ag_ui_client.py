"""What `@ag-ui/client` does with frames, in Python: it refuses those out of order, and keeps a list of messages and a state.

Every frame is held to the models of `ag-ui-protocol`, without a field that they do not know.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable
from typing import Any

from ag_ui.core import Event
from pydantic import TypeAdapter

from runcast.dialects.base import Frame
from runcast.jsonpatch import apply

MODEL: TypeAdapter[Any] = TypeAdapter(Event)

OPENS = {
    "TEXT_MESSAGE_START": "messageId",
    "REASONING_MESSAGE_START": "messageId",
    "REASONING_START": "messageId",
    "TOOL_CALL_START": "toolCallId",
    "STEP_STARTED": "stepName",
    "SUBAGENT_STARTED": "subagentRunId",
}
GOES_ON = {
    "TEXT_MESSAGE_CONTENT": "TEXT_MESSAGE_START",
    "REASONING_MESSAGE_CONTENT": "REASONING_MESSAGE_START",
    "TOOL_CALL_ARGS": "TOOL_CALL_START",
}
CLOSES = {
    "TEXT_MESSAGE_END": "TEXT_MESSAGE_START",
    "REASONING_MESSAGE_END": "REASONING_MESSAGE_START",
    "REASONING_END": "REASONING_START",
    "TOOL_CALL_END": "TOOL_CALL_START",
    "STEP_FINISHED": "STEP_STARTED",
    "SUBAGENT_FINISHED": "SUBAGENT_STARTED",
    "SUBAGENT_ERROR": "SUBAGENT_STARTED",
}


class Client:
    """What `@ag-ui/client` does with frames: refuses those out of order, and keeps a list of messages and a state."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.state: Any = {}
        self.last = ""
        self.open: dict[str, list[str]] = {}

    def take(self, frames: Iterable[Frame]) -> Client:
        for frame in frames:
            event = json.loads(frame.data)
            self.verify(event)
            self.apply(event)
        return self

    def verify(self, event: dict[str, Any]) -> None:
        MODEL.validate_python(event)
        extra = set(event) - {
            field.alias or name for name, field in type(MODEL.validate_python(event)).model_fields.items()
        }
        assert not extra, (event["type"], extra)
        kind, going = event["type"], self.last not in ("", "RUN_FINISHED", "RUN_ERROR")
        if kind == "RUN_STARTED":
            assert not going, "nested runs"
            self.open = {}
        elif kind == "RUN_ERROR":
            pass
        else:
            assert going, f"{kind} outside of a run"
        if kind in OPENS:
            assert event[OPENS[kind]] not in self.open.get(kind, []), f"{kind} twice"
            self.open.setdefault(kind, []).append(event[OPENS[kind]])
        for table in (GOES_ON, CLOSES):
            if kind in table:
                opener = table[kind]
                assert event[OPENS[opener]] in self.open.get(opener, []), f"{kind} without {opener}"
        if kind in CLOSES:
            self.open[CLOSES[kind]].remove(event[OPENS[CLOSES[kind]]])
        if kind == "RUN_FINISHED":
            assert not any(self.open.values()), self.open
        if event.get("subagentRunId") and kind not in ("SUBAGENT_FINISHED", "SUBAGENT_ERROR"):
            assert event["subagentRunId"] in self.open.get("SUBAGENT_STARTED", [])
        if kind == "TEXT_MESSAGE_CONTENT":
            assert event["delta"]
        self.last = kind

    def apply(self, event: dict[str, Any]) -> None:
        by_id = {message["id"]: message for message in self.messages}
        match event["type"]:
            case "RUN_STARTED":
                for message in event.get("input", {}).get("messages", []):
                    if message["id"] not in by_id:
                        self.messages.append(message)
            case "TEXT_MESSAGE_START" if event["messageId"] not in by_id:
                self.messages.append({"id": event["messageId"], "role": event.get("role", "assistant"), "content": ""})
            case "REASONING_MESSAGE_START" if event["messageId"] not in by_id:
                self.messages.append({"id": event["messageId"], "role": "reasoning", "content": ""})
            case "TEXT_MESSAGE_CONTENT" | "REASONING_MESSAGE_CONTENT":
                by_id[event["messageId"]]["content"] += event["delta"]
            case "TOOL_CALL_START" if self.call(event["toolCallId"]) is None:
                home = event.get("parentMessageId") or event["toolCallId"]
                if home not in by_id:
                    self.messages.append({"id": home, "role": "assistant"})
                call = {
                    "id": event["toolCallId"],
                    "type": "function",
                    "function": {"name": event["toolCallName"], "arguments": ""},
                }
                next(one for one in self.messages if one["id"] == home).setdefault("toolCalls", []).append(call)
            case "TOOL_CALL_ARGS":
                call = self.call(event["toolCallId"])
                assert call is not None
                call["function"]["arguments"] += event["delta"]
            case "TOOL_CALL_RESULT":
                message = {key: event[key] for key in ("toolCallId", "content")}
                place = len(self.messages)
                for at, one in enumerate(self.messages):
                    if any(call["id"] == event["toolCallId"] for call in one.get("toolCalls", [])):
                        place = at + 1
                        while place < len(self.messages) and self.messages[place]["role"] == "tool":
                            place += 1
                self.messages.insert(place, {"id": event["messageId"], "role": "tool", **message})
            case "ACTIVITY_SNAPSHOT":
                message = {"id": event["messageId"], "role": "activity", "activityType": event["activityType"]}
                message["content"] = event["content"]
                if event["messageId"] in by_id:
                    self.messages[self.messages.index(by_id[event["messageId"]])] = message
                else:
                    self.messages.append(message)
            case "ACTIVITY_DELTA":
                known = by_id[event["messageId"]]
                known["content"] = apply(known["content"], event["patch"])
            case "STATE_SNAPSHOT":
                self.state = event["snapshot"]
            case "STATE_DELTA":
                self.state = apply(self.state, event["delta"])
            case "MESSAGES_SNAPSHOT":
                given = {message["id"]: message for message in copy.deepcopy(event["messages"])}
                roles = {message["role"] for message in given.values()}
                kept = [
                    given.get(one["id"], one)
                    for one in self.messages
                    if one["id"] in given or (one["role"] in ("activity", "reasoning") and one["role"] not in roles)
                ]
                have = {one["id"] for one in kept}
                self.messages = kept + [message for id, message in given.items() if id not in have]
            case _:
                pass

    def call(self, id: str) -> dict[str, Any] | None:
        calls = [call for message in self.messages for call in message.get("toolCalls", [])]
        return next((call for call in calls if call["id"] == id), None)

    @property
    def said(self) -> list[dict[str, Any]]:
        """The messages, without what only a snapshot or only an event says of one."""
        shown = ("id", "role", "content", "toolCalls", "toolCallId", "activityType")
        return [{name: one[name] for name in shown if one.get(name) not in (None, "")} for one in self.messages]
