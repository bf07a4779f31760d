"""A question of a waiting run, as its lane has to know it: what it is about, what an answer must be, when it expires."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, NamedTuple

from runcast.errors import AgentError
from runcast.events import Interrupt
from runcast.forms import BadForm, check_form
from runcast.transcript import InterruptPart


class Question(NamedTuple):
    tool_call: str | None
    schema: dict[str, Any] | None
    expires_at: int | None
    """Unix milliseconds."""


def question_of(asked: Interrupt | InterruptPart) -> Question:
    """What an interrupt says, in the log or in its fold."""
    expires_at = asked.expires_at
    return Question(
        asked.tool_call_id if isinstance(asked.tool_call_id, str) else None,
        asked.response_schema if isinstance(asked.response_schema, dict) else None,
        moment(expires_at) if isinstance(expires_at, str) else None,
    )


def check_answerable(asked: Interrupt) -> None:
    """
    Raises:
        AgentError: code `invalid_question`: no answer could be held against its form.
    """
    if not isinstance(asked.response_schema, dict):
        return
    try:
        check_form(asked.response_schema)
    except BadForm as error:
        text = asked.message if isinstance(asked.message, str) else asked.id
        raise AgentError(
            f"The agent asked {text!r} in a way that cannot be answered: {error}.", code="invalid_question"
        ) from error


def date(ms: int) -> str:
    """ISO 8601 in UTC, to the millisecond: `Interrupt.expiresAt` of AG-UI 1.0."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def moment(text: str) -> int | None:
    """Unix milliseconds of an ISO 8601 date and time (without a zone: UTC); None if it is none."""
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        return None
    return int((read if read.tzinfo is not None else read.replace(tzinfo=UTC)).timestamp() * 1000)
