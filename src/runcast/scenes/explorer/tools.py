"""The explorer's six tools: the work of `exploration` in worker threads, with progress, artifacts and approval.

A tool that cannot do what it was asked fails with a sentence for the model (`ToolFailed`), never with a traceback, a path
or SQL that nobody wrote. `run_query` is compiled before anybody is asked to approve it, and runs only after a yes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypeVar

import anyio
from pydantic_ai import FunctionToolset, RunContext
from pydantic_ai.exceptions import ToolFailed

from runcast.agents.pydantic_ai import Artifact, ToolProgress, ToolText
from runcast.scenes.explorer import exploration
from runcast.scenes.explorer.catalogue import Table
from runcast.scenes.explorer.database import Database, QueryStopped, Reader
from runcast.scenes.explorer.exploration import CannotAnswer, Schema, SchemaCache
from runcast.scenes.explorer.results import (
    CanvasTrigger,
    ColumnSearch,
    QueryRows,
    Relationships,
    RowCount,
    RowCounts,
    TableDetails,
    TableList,
    counted,
)

T = TypeVar("T")
Context = RunContext[None]
Kind = Literal["all", "fact", "dimension", "bridge", "table", "view"]

_COUNT_BUDGET_S = 0.5
"""How long listing tables may count rows; what was not counted by then has no number."""

_SAMPLE_COUNT_S = 0.08
"""Counting the small sample takes no time at all. So that its progress can be seen, each table takes this long × pace."""


def toolset(
    database: Database,
    *,
    pace: float = 1.0,
    sleep: Callable[[float], Awaitable[object]] = anyio.sleep,
) -> FunctionToolset[None]:
    """The six tools over `database`. `pace` slows `count_rows` on the sample only; 0 is as fast as it goes."""
    schemas = SchemaCache(database)
    tools: FunctionToolset[None] = FunctionToolset(id="explorer", require_parameter_descriptions=True)

    async def with_schema(reader: Reader, work: Callable[[sqlite3.Connection, Schema], T]) -> T:
        return await _answer(reader, lambda connection: work(connection, schemas.read(connection)))

    async def rows_of(reader: Reader, table: Table, time_limit_s: float | None = None) -> tuple[int | None, str]:
        """How many rows; or None and, if it cannot be read at all, why."""
        try:
            rows = await reader.run(lambda connection: exploration.count(connection, table), time_limit_s=time_limit_s)
        except QueryStopped as error:
            if error.timed_out:
                return None, ""
            raise
        except sqlite3.OperationalError as error:
            return None, table.problem or str(error)  # a view of what is gone, a table of a missing extension
        except sqlite3.DatabaseError as error:
            raise _unreadable() from error
        return rows, ""

    @tools.tool(metadata=_said("Listing the tables…"))
    async def list_tables(ctx: Context, kind: Kind = "all") -> TableList:
        """List the tables and views of the database with their role, number of columns and rows.

        Args:
            kind: Which ones: all of them, or only facts, dimensions, bridges, other tables, or views.
        """
        async with database.reader() as reader:
            schema = await with_schema(reader, lambda _, schema: schema)
            chosen = [table for table in schema.catalogue.tables if kind in ("all", table.role)]
            left = _COUNT_BUDGET_S
            result: TableList = {"summary": "", "schema": schema.catalogue.name, "kind": kind, "tables": []}
            for table in chosen[: exploration.MAX_TABLES]:
                begun = anyio.current_time()
                rows, problem = await rows_of(reader, table, left) if left > 0 else (None, "")
                left -= anyio.current_time() - begun
                result["tables"].append(exploration.entry(table, rows, problem))
        result["summary"] = f"Found {counted(len(chosen), 'table')}" if chosen else "Found no tables"
        if len(chosen) > exploration.MAX_TABLES:
            result["omitted"] = len(chosen) - exploration.MAX_TABLES
        await ctx.emit(Artifact(kind="metrics", content=exploration.metrics(schema)))
        trigger: CanvasTrigger = {
            "action": "switch_view",
            "view_type": "table_list",
            "query": _prompt(ctx),
            "reason": f"The tables of {schema.catalogue.name} were listed",
            "confidence": 0.9,
        }
        await ctx.emit(Artifact(kind="canvas_trigger", content=trigger))
        return result

    @tools.tool(metadata=_said("Reading {table}…"))
    async def get_table_details(ctx: Context, table: str) -> TableDetails:
        """Describe one table: columns, types, keys, references in and out, number of rows and a few sample rows.

        Args:
            table: The table's name, or what people call it: 'suppliers' finds dimv_bs_supplier.
        """
        async with database.reader() as reader:
            result = await with_schema(
                reader, lambda connection, schema: exploration.details(connection, schema, table)
            )
            schema = await with_schema(reader, lambda _, schema: schema)
            if "problem" not in result:
                result["rows"], _ = await rows_of(reader, schema.catalogue.by_name[result["table"].lower()], 2.0)
        return result

    @tools.tool(metadata=_said("Finding relationships…"))
    async def find_relationships(ctx: Context, tables: list[str] | None = None) -> Relationships:
        """Find how tables refer to each other and draw an entity-relationship diagram for the person.

        Args:
            tables: Two or more names: how these are connected, directly or over others. One name: everything around it.
                None: the whole database. Names may be what people call them.
        """
        async with database.reader() as reader:
            result, schema = await with_schema(
                reader, lambda _, schema: (exploration.related(schema, tables or []), schema)
            )
        if not result["tables"]:
            return result
        about = " and ".join(result["matched"]) or schema.catalogue.name
        await ctx.emit(Artifact(kind="diagram", content=result["diagram"], title=f"Relationships: {about}"))
        await ctx.emit(Artifact(kind="metrics", content=exploration.metrics(schema)))
        trigger: CanvasTrigger = {
            "action": "switch_view",
            "view_type": "er_diagram",
            "entity_name": result["matched"][0] if result["matched"] else schema.catalogue.name,
            "query": _prompt(ctx),
            "reason": f"A diagram shows the relationships of {about}",
            "confidence": 0.95,
        }
        await ctx.emit(Artifact(kind="canvas_trigger", content=trigger))
        return result

    @tools.tool(metadata=_said("Searching columns for {query}…"))
    async def search_columns(ctx: Context, query: str) -> ColumnSearch:
        """Find columns by the words in their names, in all tables, best first.

        Args:
            query: A word or two, for example 'price' or 'delivery date'.
        """
        async with database.reader() as reader:
            return await with_schema(reader, lambda _, schema: exploration.search(schema, query))

    @tools.tool(metadata=_said("Counting rows…"))
    async def count_rows(ctx: Context, tables: list[str] | None = None) -> RowCounts:
        """Count the rows of tables, one after the other, and report how far it is.

        Args:
            tables: Which ones, by name or by what people call them. None: every table and view.
        """
        async with database.reader() as reader:
            chosen = await with_schema(reader, lambda _, schema: _chosen(schema, tables))
            result: RowCounts = {"summary": "", "counts": [], "total": 0}
            total = len(chosen)
            await ctx.emit(ToolProgress(progress=0, total=total, message=f"Counting {counted(total, 'table')}"))
            for done, table in enumerate(chosen, 1):
                if database.path is None and pace > 0:
                    await sleep(_SAMPLE_COUNT_S * pace)
                rows, problem = await rows_of(reader, table)
                entry: RowCount = {"table": table.name, "rows": rows}
                message = f"Counted {table.name}: {counted(rows or 0, 'row')}"
                if rows is None:
                    entry["problem"] = problem or "counting took too long"
                    message = f"Could not count {table.name}: {entry['problem']}"
                result["counts"].append(entry)
                result["total"] += rows or 0
                await ctx.emit(ToolProgress(progress=done, total=total, message=message, details=entry))
            result["summary"] = f"Counted {counted(result['total'], 'row')} in {counted(total, 'table')}"
        return result

    async def compile_first(ctx: Context, sql: str, purpose: str = "") -> None:
        async with database.reader() as reader:
            await with_schema(reader, lambda connection, _: exploration.check_query(connection, sql))

    @tools.tool(requires_approval=True, args_validator=compile_first, metadata=_said("Running the query…"))
    async def run_query(ctx: Context, sql: str, purpose: str = "") -> QueryRows:
        """Run one SELECT statement (SQLite dialect) and return at most 200 rows. A person is asked first.

        Args:
            sql: One SELECT or WITH … SELECT over this database's tables. Nothing else is run.
            purpose: One short sentence for the person who approves: what the query finds out.
        """
        async with database.reader() as reader:
            return await with_schema(reader, lambda connection, _: exploration.query(connection, sql))

    return tools


def _said(title: str) -> dict[str, Any]:
    """What people read while the tool runs, and after it: the `summary` that every result has."""
    return {"runcast": ToolText(title=title, summary="{summary}")}


async def _answer(reader: Reader, work: Callable[[sqlite3.Connection], T]) -> T:
    """The work's result; what it cannot do becomes a failure that the model can read."""
    try:
        return await reader.run(work)
    except CannotAnswer as error:
        raise ToolFailed(str(error)) from error
    except QueryStopped as error:
        raise ToolFailed(
            "The query took too long and was stopped. Ask for less: fewer rows, one table, an indexed column."
        ) from error
    except sqlite3.DatabaseError as error:
        raise _unreadable() from error


def _unreadable() -> ToolFailed:
    return ToolFailed("The database could not be read: it is locked, damaged, or not a SQLite file.")


def _chosen(schema: Schema, asked: list[str] | None) -> list[Table]:
    if not asked:
        return list(schema.catalogue.tables)
    found = [schema.resolve(name)[0] for name in asked]
    return list({table.name: table for table in found}.values())


def _prompt(ctx: RunContext[Any]) -> str:
    return ctx.prompt if isinstance(ctx.prompt, str) else ""
