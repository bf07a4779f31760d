"""How a run begins: its first event, which holds what was asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import UNSET

from runcast import events as e
from runcast.events import Event
from runcast.runs import Answer, Brief, Message, Run

TITLE_CHARACTERS = 80


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
        "messages": [message.as_input() for message in brief.messages],
    }
    if brief.answers:
        given["resume"] = [msgspec.to_builtins(answer) for answer in brief.answers]
    return given


def brief_of(input: Mapping[str, Any]) -> Brief:
    """The brief in the input of a run's first event: the opposite of what `started` and `queued` write."""
    return Brief(
        messages=tuple(msgspec.convert(one, Message) for one in input.get("messages") or ()),
        answers=tuple(msgspec.convert(one, Answer) for one in input.get("resume") or ()),
    )
