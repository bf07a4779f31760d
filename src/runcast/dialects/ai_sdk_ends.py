"""How a run's end is told in the AI SDK's stream: its status, what it cost, and the chunks that end its message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal

from msgspec import UNSET

from runcast import events as e
from runcast.dialects.ai_sdk_data import Chunk

Version = Literal[5, 6, 7]
"""Of the package `ai`, on the client's side."""

FAILED: Final = "The tool failed."
UNFINISHED: Final = "It did not come to an end."
"""What is said of a call without a result, if its run says nothing."""

_COUNTS: Final = (
    ("input_tokens", "inputTokens"),
    ("output_tokens", "outputTokens"),
    ("total_tokens", "totalTokens"),
    ("reasoning_tokens", "reasoningTokens"),
    ("cached_input_tokens", "cachedInputTokens"),
)
"""A run's usage, and what `LanguageModelUsage` of the AI SDK calls it."""


def status_of(event: e.RunFinished | e.RunError | e.RunDequeued) -> Chunk:
    """What `data-run-status` says of a run that has ended: `{runId, status}`, and why."""
    status: Chunk = {"runId": event.run_id if event.run_id is not UNSET else "", "status": "done"}
    if isinstance(event, e.RunError):
        code = event.code if event.code is not UNSET else "agent_error"
        status["status"] = "interrupted" if code == "interrupted" else "failed"
        return {**status, "code": code, "message": event.message, "retryable": event.retryable is True}
    if isinstance(event, e.RunFinished):
        if event.outcome is UNSET or event.outcome.type == "success":
            return status
        if event.outcome.type == "interrupt":
            return {**status, "status": "waiting"}
    status["status"] = "cancelled"
    return {**status, "reason": event.reason} if event.reason is not UNSET and event.reason else status


def last_chunks(status: Chunk, version: Version, *, waits: bool, usage: Mapping[str, int]) -> list[Chunk]:
    """The chunks that end a message whose last run stands so. `waits`: calls in it have no result yet."""
    metadata = {"messageMetadata": {"usage": dict(usage)}} if usage else {}
    match status["status"]:
        case "done" | "waiting":
            reason = "tool-calls" if waits or status["status"] == "waiting" else "stop"
            return [{"type": "finish", "finishReason": reason, **metadata}]
        case "cancelled":
            chunks: list[Chunk] = [{"type": "message-metadata", **metadata}] if metadata else []
            why = {"reason": status["reason"]} if version >= 6 and "reason" in status else {}
            return [*chunks, {"type": "abort", **why}]
        case how:  # `error` ends the message for the client: what it must know stands before
            chunks = [{"type": "message-metadata", **metadata}] if metadata else []
            reason = "interrupted" if how == "interrupted" and version >= 7 else "error"
            error = {"type": "error", "errorText": status["message"]}
            return [*chunks, error, {"type": "finish", "finishReason": reason}]


def add_usage(counts: dict[str, int], usage: Sequence[e.TokenUsage]) -> None:
    """Add what model calls cost to `counts`."""
    for one in usage:
        for name, wire in _COUNTS:
            if (number := getattr(one, name)) is not UNSET:
                counts[wire] = counts.get(wire, 0) + number
