"""Mermaid source as a page draws it: bare, and only if it is Mermaid."""

from __future__ import annotations

import re
from typing import Final

TYPES: Final = frozenset(
    {
        "architecture",
        "architecture-beta",
        "block",
        "block-beta",
        "C4Component",
        "C4Container",
        "C4Context",
        "C4Deployment",
        "C4Dynamic",
        "classDiagram",
        "classDiagram-v2",
        "erDiagram",
        "flowchart",
        "flowchart-elk",
        "gantt",
        "gitGraph",
        "graph",
        "journey",
        "kanban",
        "mindmap",
        "packet",
        "packet-beta",
        "pie",
        "quadrantChart",
        "radar",
        "radar-beta",
        "requirement",
        "requirementDiagram",
        "sankey",
        "sankey-beta",
        "sequenceDiagram",
        "stateDiagram",
        "stateDiagram-v2",
        "timeline",
        "treemap",
        "treemap-beta",
        "xychart",
        "xychart-beta",
        "zenuml",
    }
)
"""The words that a diagram begins with (Mermaid's documentation, "Diagram Syntax")."""

_FENCE = re.compile(r"(`{3,}|~{3,})[^\n`]*\n")
_FRONT_MATTER = re.compile(r"\s*---[ \t]*\n.*?\n---[ \t]*(\n|$)", re.DOTALL)
_COMMENT = re.compile(r"\s*(%%\{.*?\}%%|%%[^\n]*(\n|$))", re.DOTALL)
_TYPE = re.compile(r"\s*([A-Za-z][\w-]*)(?=[\s:;{]|$)")


def mermaid_of(text: str) -> str | None:
    """The diagram in `text`, without a Markdown fence around it; None if it does not begin with a diagram's type. Comments,
    directives and front matter may stand before that, and stay."""
    source = text.replace("\r\n", "\n").strip()
    if (fence := _FENCE.match(source)) is not None:
        end = source.find(fence[1], max(fence.end(), len(source.rstrip("`~"))))
        if end >= 0:
            source = source[fence.end() : end].strip()
    at = found.end() if (found := _FRONT_MATTER.match(source)) else 0
    while (found := _COMMENT.match(source, at)) is not None:
        at = found.end()
    found = _TYPE.match(source, at)
    return source if found is not None and found[1] in TYPES else None
