"""What the tools return: plain JSON objects, typed here once for the tools that make them and the model that reads them."""

from __future__ import annotations

import math
from typing import (
    Any,
    Literal,
    NotRequired,  # pydantic reads TypedDicts of Python < 3.12 only from here
)

from typing_extensions import TypedDict

from runcast.scenes.explorer.catalogue import Role

Kind = Literal["table", "view", "virtual table"]
Cell = str | int | float | bool | None


def counted(amount: int, one: str, many: str = "") -> str:
    """`1 table`, `1,200 tables`."""
    return f"{amount:,} {one if amount == 1 else many or one + 's'}"


class TableEntry(TypedDict):
    table: str
    role: Role
    kind: Kind
    columns: int
    rows: int | None
    """None if it was not counted, as it would have taken too long, or if it cannot be read."""
    problem: NotRequired[str]
    """Why it cannot be read."""


class TableList(TypedDict):
    summary: str
    """One sentence for people; every result has one."""
    schema: str
    kind: str
    tables: list[TableEntry]
    omitted: NotRequired[int]
    """How many more there are than are listed."""


class ColumnEntry(TypedDict):
    column: str
    type: str
    nullable: bool
    key: NotRequired[Literal["primary key", "foreign key", "primary and foreign key"]]
    references: NotRequired[str]
    """`table.column`; with ` (inferred)` behind it if only the names say so."""


class ReferenceEntry(TypedDict):
    table: str
    columns: list[str]
    target: str
    target_columns: list[str]
    inferred: bool
    cardinality: Literal["many to one", "one to one"]


class TableDetails(TypedDict):
    summary: str
    asked: str
    table: str
    also: list[str]
    """Other names that fit what was asked about as well."""
    role: Role
    kind: Kind
    rows: int | None
    primary_key: list[str]
    columns: list[ColumnEntry]
    references: list[ReferenceEntry]
    referenced_by: list[ReferenceEntry]
    indexes: list[str]
    sample_rows: list[list[Cell]]
    problem: NotRequired[str]


class Relationships(TypedDict):
    summary: str
    schema: str
    tables: list[str]
    """The tables in the diagram."""
    asked: list[str]
    matched: list[str]
    relationships: list[ReferenceEntry]
    path: NotRequired[list[ReferenceEntry]]
    """Between two tables: the shortest way, one reference a step. Empty if there is none."""
    diagram: str
    """Mermaid."""
    note: NotRequired[str]


class ColumnHit(TypedDict):
    match: float
    """How well the name fits, 0 to 1."""
    table: str
    role: Role
    column: str
    type: str
    key: NotRequired[Literal["primary key", "foreign key", "primary and foreign key"]]
    references: NotRequired[str]


class ColumnSearch(TypedDict):
    summary: str
    query: str
    hits: list[ColumnHit]
    omitted: NotRequired[int]


class RowCount(TypedDict):
    table: str
    rows: int | None
    problem: NotRequired[str]


class RowCounts(TypedDict):
    summary: str
    counts: list[RowCount]
    total: int


class QueryRows(TypedDict):
    summary: str
    sql: str
    columns: list[str]
    rows: list[list[Cell]]
    truncated: bool
    """There were more rows than are given."""


class Metrics(TypedDict):
    """The `metrics` artifact; the names are the front ends'."""

    total_tables: int
    total_columns: int
    facts_count: int
    dimensions_count: int
    relationships_count: int
    schema_name: str
    as_of: str
    is_stale: bool


class CanvasTrigger(TypedDict):
    """The `canvas_trigger` artifact: which view the front end should open beside the chat."""

    action: Literal["switch_view", "new_analysis", "none"]
    view_type: Literal["er_diagram", "table_list", "relationship_graph"]
    query: str
    reason: str
    confidence: float
    entity_name: NotRequired[str]


def as_cell(value: Any, limit: int = 500) -> Cell:
    """A SQLite value as JSON: bytes become a note of their length, a very long text is cut."""
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, str) and len(value) > limit:
        return value[: limit - 1] + "…"
    return value
