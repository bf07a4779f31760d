"""The catalogue of a SQLite database: tables, views, columns, keys and references, as they are.

Pure introspection by the `pragma_*` table functions; names are passed as parameters or quoted, never pasted. Internal
tables (`sqlite_*`) and the shadow tables of full-text and R-tree indexes are left out. A view that no longer works is
listed with its `problem` instead of breaking the rest.

Source: SQLite documentation, "PRAGMA Statements" (table_list, table_xinfo, foreign_key_list, index_list, index_info).
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from runcast.scenes.explorer.names import words

Role = Literal["fact", "dimension", "bridge", "view", "table"]

_FACT = frozenset({"fact", "facts", "factv", "fct", "f"})
_DIMENSION = frozenset({"dim", "dims", "dimv", "dimension", "d"})
_BRIDGE = frozenset({"bridge", "brg", "link", "xref"})


@dataclass(frozen=True)
class Column:
    name: str
    type: str
    """As declared; `""` if it was not (SQLite asks for none, and a view's expressions have none)."""
    nullable: bool = True
    key: int = 0
    """Its place in the primary key, from 1; 0 if it is not in it."""
    default: str | None = None
    generated: bool = False

    @property
    def affinity(self) -> str:
        """SQLite, "Datatypes In SQLite", 3.1: the type that values of this column prefer."""
        declared = self.type.upper()
        if "INT" in declared:
            return "INTEGER"
        if any(word in declared for word in ("CHAR", "CLOB", "TEXT")):
            return "TEXT"
        if not declared or "BLOB" in declared:
            return "BLOB"
        if any(word in declared for word in ("REAL", "FLOA", "DOUB")):
            return "REAL"
        return "NUMERIC"


@dataclass(frozen=True)
class Reference:
    """`table.columns` point at `target.target_columns`. Inferred ones follow from names and are not in the schema."""

    table: str
    columns: tuple[str, ...]
    target: str
    target_columns: tuple[str, ...]
    inferred: bool = False
    unique: bool = False
    """At most one row of `table` per row of `target`."""
    optional: bool = False
    """A row of `table` may point at nothing."""


@dataclass(frozen=True)
class Index:
    name: str
    columns: tuple[str, ...]
    unique: bool


@dataclass(frozen=True)
class Table:
    name: str
    is_view: bool = False
    is_virtual: bool = False
    columns: tuple[Column, ...] = ()
    references: tuple[Reference, ...] = ()
    indexes: tuple[Index, ...] = ()
    problem: str = ""

    @cached_property
    def by_name(self) -> Mapping[str, Column]:
        return {column.name.lower(): column for column in self.columns}

    @property
    def primary_key(self) -> tuple[str, ...]:
        return tuple(column.name for column in sorted(self.columns, key=lambda column: column.key) if column.key)

    @property
    def role(self) -> Role:
        """What its name says it is in a data mart; otherwise what it is in SQLite."""
        parts = words(self.name)
        ends = {parts[0], parts[-1]} if len(parts) > 1 else set[str]()
        if ends & _FACT:
            return "fact"
        if ends & _DIMENSION:
            return "dimension"
        if self.is_view:
            return "view"
        return "bridge" if ends & _BRIDGE else "table"

    def is_unique(self, columns: Iterable[str]) -> bool:
        """No two rows have the same values there: the primary key, or a unique index, lies within `columns`."""
        given = {name.lower() for name in columns}
        keys = [self.primary_key, *(index.columns for index in self.indexes if index.unique)]
        return any(key and {name.lower() for name in key} <= given for key in keys)


@dataclass(frozen=True)
class Catalogue:
    """All tables and views of one database, in the order of their names."""

    name: str
    as_of: str
    tables: tuple[Table, ...] = field(default=())

    @cached_property
    def by_name(self) -> Mapping[str, Table]:
        return {table.name.lower(): table for table in self.tables}

    def get(self, name: str) -> Table | None:
        """The table of exactly this name; SQLite compares names without regard to case."""
        return self.by_name.get(name.lower())


def read(connection: sqlite3.Connection, name: str, as_of: str) -> Catalogue:
    """The catalogue of the main database behind `connection`, with declared references only."""
    listed = connection.execute(
        "SELECT name, type FROM pragma_table_list WHERE schema = 'main' AND type <> 'shadow' "
        "AND lower(name) NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY lower(name)"
    ).fetchall()
    tables = [_read_table(connection, table, kind) for table, kind in listed]
    return Catalogue(name, as_of, tuple(_with_targets(table, tables) for table in tables))


def quoted(name: str) -> str:
    """`name` as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_KEYWORDS = frozenset(
    [
        "add",
        "all",
        "alter",
        "and",
        "as",
        "asc",
        "attach",
        "between",
        "by",
        "case",
        "check",
        "column",
        "commit",
        "constraint",
        "create",
        "cross",
        "current",
        "database",
        "default",
        "delete",
        "desc",
        "distinct",
        "drop",
        "each",
        "else",
        "end",
        "escape",
        "except",
        "exists",
        "filter",
        "for",
        "foreign",
        "from",
        "full",
        "group",
        "having",
        "if",
        "in",
        "index",
        "inner",
        "insert",
        "intersect",
        "into",
        "is",
        "isnull",
        "join",
        "key",
        "left",
        "like",
        "limit",
        "match",
        "natural",
        "no",
        "not",
        "notnull",
        "null",
        "of",
        "offset",
        "on",
        "or",
        "order",
        "outer",
        "over",
        "partition",
        "plan",
        "pragma",
        "primary",
        "range",
        "references",
        "replace",
        "right",
        "rollback",
        "row",
        "rows",
        "select",
        "set",
        "table",
        "temp",
        "then",
        "to",
        "transaction",
        "trigger",
        "union",
        "unique",
        "update",
        "using",
        "vacuum",
        "values",
        "view",
        "when",
        "where",
        "window",
        "with",
    ]
)


def readable(name: str) -> str:
    """`name` as an SQL identifier, quoted only if it must be."""
    return name if _PLAIN.match(name) and name.lower() not in _KEYWORDS else quoted(name)


def _read_table(connection: sqlite3.Connection, name: str, kind: str) -> Table:
    is_view, is_virtual = kind == "view", kind == "virtual"
    try:
        columns = tuple(
            Column(column, declared or "", nullable=not required, key=key, default=default, generated=hidden in (2, 3))
            for column, declared, required, default, key, hidden in connection.execute(
                'SELECT name, type, "notnull", dflt_value, pk, hidden FROM pragma_table_xinfo(?) ORDER BY cid', (name,)
            )
            if hidden != 1
        )
    except sqlite3.OperationalError as error:
        return Table(name, is_view=is_view, is_virtual=is_virtual, problem=str(error))
    if is_view or is_virtual:
        return Table(name, is_view=is_view, is_virtual=is_virtual, columns=columns)
    keys: dict[int, list[tuple[str, str, str | None]]] = {}
    for number, target, column, target_column in connection.execute(
        'SELECT id, "table", "from", "to" FROM pragma_foreign_key_list(?) ORDER BY id, seq', (name,)
    ):
        keys.setdefault(number, []).append((target, column, target_column))
    references = tuple(
        Reference(
            table=name,
            columns=tuple(column for _, column, _ in parts),
            target=parts[0][0],
            # No column named means the primary key of the target (SQLite, "Foreign Key Support", 3).
            target_columns=tuple(column for _, _, column in parts if column is not None),
        )
        for _, parts in sorted(keys.items(), reverse=True)  # SQLite numbers them backwards
    )
    indexes = tuple(
        Index(
            index,
            tuple(
                column
                for (column,) in connection.execute("SELECT name FROM pragma_index_info(?) ORDER BY seqno", (index,))
                if column is not None
            ),
            bool(unique),
        )
        for index, unique, partial in connection.execute(
            'SELECT name, "unique", partial FROM pragma_index_list(?) ORDER BY seq', (name,)
        ).fetchall()
        if not partial
    )
    return Table(name, columns=columns, references=references, indexes=indexes)


def _with_targets(table: Table, tables: list[Table]) -> Table:
    """`table` with what its references can only know from the others: the target's real name and key."""
    by_name = {other.name.lower(): other for other in tables}
    known: list[Reference] = []
    for reference in table.references:
        target = by_name.get(reference.target.lower())
        if target is None:
            continue  # a reference to a table that does not exist leads nowhere
        columns = tuple(column for column in (_real(table, name) for name in reference.columns))
        known.append(
            Reference(
                table=table.name,
                columns=columns,
                target=target.name,
                target_columns=tuple(_real(target, name) for name in reference.target_columns) or target.primary_key,
                unique=table.is_unique(columns),
                optional=any(table.by_name[name.lower()].nullable for name in columns if name.lower() in table.by_name),
            )
        )
    return Table(
        table.name, table.is_view, table.is_virtual, table.columns, tuple(known), table.indexes, table.problem
    )  # fmt: skip


def _real(table: Table, column: str) -> str:
    found = table.by_name.get(column.lower())
    return found.name if found is not None else column
