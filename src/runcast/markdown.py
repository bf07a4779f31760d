"""A conversation as Markdown: what a person saw, in order. Pure."""

from __future__ import annotations

import datetime
import json
import re
from typing import Any

from runcast.events import Blob
from runcast.files import attachment, url_of
from runcast.runs import Thread
from runcast.transcript import (
    ActivityPart,
    ArtifactPart,
    InterruptPart,
    ReasoningPart,
    SourcePart,
    TextPart,
    ToolPart,
    Transcript,
    TranscriptMessage,
    TranscriptRun,
)


def render(thread: Thread, transcript: Transcript) -> str:
    lines = [
        f"# {transcript.title or thread.title or 'Conversation'}",
        "",
        f"Thread `{thread.id}`, {_when(thread.created_at)}",
        "",
    ]
    for run in transcript.runs:
        for message in run.messages:
            lines += _message(run, message)
        lines += _ending(run)
    for message in transcript.posted:
        lines += [f"## {message.role}", "", *_parts(message)]
    return "\n".join(lines).rstrip() + "\n"


def _message(run: TranscriptRun, message: TranscriptMessage) -> list[str]:
    parts = _parts(message)
    if not parts:
        return []
    who = message.name or ("You" if message.role == "user" else run.agent or message.role)
    return [f"## {who}", "", *parts]


def _parts(message: TranscriptMessage) -> list[str]:
    lines: list[str] = []
    for part in message.parts:
        match part:
            case TextPart(text=text) if text.strip():
                lines += [text.strip(), ""]
            case ReasoningPart(text=text) if text.strip():
                lines += [*(f"> {line}".rstrip() for line in text.strip().splitlines()), ""]
            case ToolPart():
                lines += _tool(part)
            case ArtifactPart():
                lines += _artifact(part)
            case SourcePart():
                lines += [f"Source: {part.title or ''} {f'<{part.url}>' if part.url else ''}".rstrip(), ""]
            case InterruptPart():
                by = f" by {part.by}" if part.by else ""
                lines += [f"**{part.message or part.reason}** ({part.status}{by})", ""]
            case ActivityPart(activity_type="steer", content={"content": str(text)}) if text.strip():
                lines += [f"**You**, meanwhile: {text.strip()}", ""]
            case ActivityPart(activity_type="attachment", content=content):
                lines += _attached(content)
            case _:
                pass
    return lines


def _attached(content: dict[str, Any]) -> list[str]:
    found = attachment(content)
    if found is None:
        return []
    where = url_of(found.file) if found.file is not None else found.url or found.handle
    return [f"Attached: {found.name or found.kind} {f'<{where}>' if where else ''}".rstrip(), ""]


def _beginning(blob: Blob | None) -> list[str]:
    return [] if blob is None else [f"*This is the beginning of {blob.size} bytes: <{blob.url}>*", ""]


def _tool(part: ToolPart) -> list[str]:
    said = part.summary or part.error or ("waiting for the app" if part.status == "pending" else part.status)
    lines = [f"**{part.title or part.name}**: {said}", ""]
    if part.args and part.args != "{}":
        lines += _fenced(part.args, "json")
    if part.content is not None:
        lines += _fenced(
            part.content if isinstance(part.content, str) else json.dumps(part.content, ensure_ascii=False)
        )
    return lines + _beginning(part.blob)


def _artifact(part: ArtifactPart) -> list[str]:
    lines = [f"**{part.name or part.kind}**", ""]
    if part.url:
        lines += [f"<{part.url}>", ""]
    if isinstance(part.content, str):
        lines += _fenced(part.content, "mermaid" if part.kind == "diagram" else "")
    elif part.content is not None:
        lines += _fenced(json.dumps(part.content, ensure_ascii=False, indent=2), "json")
    return lines + _beginning(part.blob)


def _ending(run: TranscriptRun) -> list[str]:
    if run.failure is not None:
        return [f"*{run.status.capitalize()}: {run.failure.message}*", ""]
    if run.status in ("cancelled", "waiting"):
        return ["*Stopped*" if run.status == "cancelled" else "*Waiting for an answer*", ""]
    return []


def _fenced(text: str, language: str = "") -> list[str]:
    """A code block whose fence is longer than any run of backticks inside."""
    fence = "`" * max(3, *(len(ticks) + 1 for ticks in re.findall("`+", text)), 3)
    return [f"{fence}{language}", text.rstrip("\n"), fence, ""]


def _when(ms: int) -> str:
    return datetime.datetime.fromtimestamp(ms / 1000, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
