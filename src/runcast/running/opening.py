"""How a run begins: its first event, which holds what was asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import msgspec
from msgspec import UNSET

from runcast import events as e
from runcast.events import Event
from runcast.runs import Answer, Brief, ClientInput, Message, Run, ToolMessage

TITLE_CHARACTERS = 80

_OF_CLIENT = tuple(field.encode_name for field in msgspec.structs.fields(ClientInput))


def opened(run: Run, brief: Brief) -> list[Event]:
    """Its first events: RUN_STARTED, then the results that it brings of calls that the run before it left to the client."""
    return [started(run, brief), *(_result(run, one) for one in brief.tool_results)]


def started(run: Run, brief: Brief) -> Event:
    return e.RunStarted(
        run_id=run.id,
        thread_id=run.thread,
        protocol_version="1.0",
        parent_run_id=run.parent or UNSET,
        input=_input(run, brief),
        agent=run.agent,
        resumes=run.resumes or UNSET,
        replaces=run.replaces or UNSET,
    )


def queued(run: Run, brief: Brief) -> Event:
    return e.RunQueued(
        run_id=run.id,
        thread_id=run.thread,
        input=_input(run, brief),
        agent=run.agent,
        parent_run_id=run.parent or UNSET,
        replaces=run.replaces or UNSET,
    )


def title_of(message: Message) -> str:
    """A conversation's first name: the first line of what was said, else the name of what was sent along."""
    lines = message.text.strip().splitlines() or [one.name for one in message.attachments if one.name]
    first = " ".join(lines[0].split()) if lines else ""
    return first if len(first) <= TITLE_CHARACTERS else first[: TITLE_CHARACTERS - 1].rstrip() + "…"


def _input(run: Run, brief: Brief) -> dict[str, Any]:
    """A minimal valid RunAgentInput (AG-UI 1.0) that holds only what is new."""
    given: dict[str, Any] = {
        "threadId": run.thread,
        "runId": run.id,
        "messages": [message.as_input() for message in (*brief.tool_results, *brief.messages)],
    }
    if brief.client is not None:
        given |= msgspec.to_builtins(brief.client)
    if brief.answers:
        given["resume"] = [msgspec.to_builtins(answer) for answer in brief.answers]
    return given


def _result(run: Run, message: ToolMessage) -> Event:
    return e.ToolCallResult(
        run_id=run.id,
        message_id=message.id,
        tool_call_id=message.tool_call_id,
        content=message.content,
        role="tool",
        status="success" if message.error is None else "error",
        error=UNSET if message.error is None else message.error,
    )


def brief_of(input: Mapping[str, Any]) -> Brief:
    """The brief in the input of a run's first event: the opposite of what `started` and `queued` write."""
    messages = cast(list[dict[str, Any]], input.get("messages") or [])
    client = {name: input[name] for name in _OF_CLIENT if input.get(name) is not None}
    return Brief(
        messages=tuple(msgspec.convert(one, Message) for one in messages if one.get("role") != "tool"),
        tool_results=tuple(msgspec.convert(one, ToolMessage) for one in messages if one.get("role") == "tool"),
        client=msgspec.convert(client, ClientInput) if client else None,
        answers=tuple(msgspec.convert(one, Answer) for one in input.get("resume") or ()),
    )
