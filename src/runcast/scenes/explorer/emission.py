"""What a tool says while it runs: stand-ins of the events that the Pydantic AI adapter maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic_ai import CustomEvent


@dataclass(kw_only=True)
class ToolProgress(CustomEvent):
    progress: float | None = None
    total: float | None = None
    message: str | None = None
    detail: Any = None


@dataclass(kw_only=True)
class Artifact(CustomEvent):
    kind: str
    content: Any = None
    title: str | None = None
    id: str | None = None
