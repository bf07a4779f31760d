"""The explorer: an agent that explores a real database catalogue, with tools, progress, approval and diagrams.

    runcast serve runcast.scenes.explorer:agent

Works over the shipped sample, a purchasing data mart, or over any SQLite file (`build(database="my.db")`), always read only.
Offline a scripted model stands behind Pydantic AI's model interface; `RUNCAST_MODEL=provider:model` puts a real one there,
with the same tools and nothing else changed. Needs the extra `runcast[demo]` (pydantic-ai); importing this package alone
imports no framework.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runcast.errors import ConfigError

if TYPE_CHECKING:
    from pydantic_ai import Agent, DeferredToolRequests
    from pydantic_ai.models import Model

    from runcast.scenes.explorer.serving import ExplorerAgent

    agent: ExplorerAgent
    """The sample's explorer, made when it is first asked for."""

__all__ = ["DESCRIPTION", "STARTERS", "agent", "build", "runcast_agent"]

DESCRIPTION = "Explores a database: tables, columns, relationships as diagrams, counts, and read-only queries after your approval."
STARTERS = (
    "Show me all tables",
    "Show relationships between fact_bs_purchase and suppliers",
    "How many rows are in each table?",
    "Top 10 suppliers by order value",
)

INSTRUCTIONS = """\
You explore one SQLite database together with the person in the chat. It is read only. Everything you say about it comes from
your tools; never guess a table, a column or a number.

- Tables, columns, keys: list_tables, get_table_details, search_columns. Call tools in parallel where one does not need the other.
- How tables hang together: find_relationships. It draws a diagram beside the chat by itself: refer to it, do not repeat its source.
- How many rows: count_rows.
- Everything that needs the data: run_query with one SELECT in SQLite's dialect. Read the tables' details first, join by their
  references, name the columns in plain words, limit the rows, and say in `purpose` what it finds out: a person has to approve
  it. If they decline, accept it and ask what to change. If a query is refused, mend it once, then explain.
- Names may be said loosely ("suppliers" is dimv_bs_supplier); the tools find what is meant and say what it was.
- References marked as inferred follow from names only: say so.

Answer in Markdown: one sentence with the answer first, then a table or a short list, numbers with thousands separators, SQL in
fenced blocks. Be brief. If the database cannot answer, say what is missing."""


def build(
    database: str | Path | None = None,
    model: Model | str | None = None,
    *,
    pace: float = 1.0,
    sleep: Callable[[float], Awaitable[object]] | None = None,
) -> Agent[None, str | DeferredToolRequests]:
    """The explorer as a Pydantic AI agent.

    `database` is the path of any SQLite file; None is the sample. `model` is what Pydantic AI takes; None is what
    `RUNCAST_MODEL` says, else the scripted one, whose time `pace` stretches (0: it does not wait).

    Raises:
        ConfigError: no such database, a model that cannot be had (no key, package or such name), or pydantic-ai is missing.
    """
    try:
        import anyio
        from pydantic_ai import Agent, DeferredToolRequests
        from pydantic_ai.exceptions import UserError
    except ImportError as error:
        raise ConfigError("The explorer needs pydantic-ai. Install it with: pip install 'runcast[demo]'") from error
    from runcast.scenes.explorer import scripted
    from runcast.scenes.explorer.database import Database
    from runcast.scenes.explorer.tools import toolset

    wait = sleep or anyio.sleep
    chosen = model or os.environ.get("RUNCAST_MODEL") or scripted.model(pace, sleep=wait)
    tools = toolset(Database(database), pace=pace, sleep=wait)
    try:
        return Agent(
            chosen,
            name="explorer",
            description=DESCRIPTION,
            instructions=INSTRUCTIONS,
            deps_type=type(None),
            output_type=[str, DeferredToolRequests],
            toolsets=[tools],
        )
    except (UserError, ImportError, ValueError) as error:
        raise ConfigError(
            f"The model {chosen!r} cannot be used: set its provider's key and install its package, or unset RUNCAST_MODEL "
            "to use the scripted one."
        ) from error


def runcast_agent(
    database: str | Path | None = None, model: Model | str | None = None, *, pace: float = 1.0
) -> ExplorerAgent:
    """The explorer as a Runcast agent, named `explorer`, with `starters`. Arguments and errors are those of `build`."""
    built = build(database, model, pace=pace)
    from runcast.scenes.explorer.serving import ExplorerAgent

    return ExplorerAgent(built)


def __getattr__(name: str) -> Any:
    if name == "agent":
        value = globals()["agent"] = runcast_agent()
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
