"""What can be asked about a database, answered from it: the work of the tools without the agent around them.

Every function here takes a connection and returns plain JSON objects (`results`). What cannot be answered raises
`CannotAnswer` with a sentence that a model or a person can act on: what was asked, what there is instead.
"""

from __future__ import annotations

import itertools
import re
import sqlite3
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from runcast.scenes.explorer import catalogue as catalogues
from runcast.scenes.explorer import diagram as diagrams
from runcast.scenes.explorer import names, relationships
from runcast.scenes.explorer.catalogue import Catalogue, Column, Reference, Table
from runcast.scenes.explorer.database import Database, guarded
from runcast.scenes.explorer.results import (
    Cell,
    ColumnEntry,
    ColumnHit,
    ColumnSearch,
    Kind,
    Metrics,
    QueryRows,
    ReferenceEntry,
    Relationships,
    TableDetails,
    TableEntry,
    as_cell,
    counted,
)

MAX_ROWS = 200
MAX_TABLES = 500
MAX_HITS = 60
SAMPLE_ROWS = 3


class CannotAnswer(Exception):
    """The question has no answer here. The message says why and what would have one."""


@dataclass(frozen=True)
class Schema:
    """A catalogue with what follows from it."""

    catalogue: Catalogue
    references: tuple[Reference, ...]

    @property
    def names(self) -> list[str]:
        return [table.name for table in self.catalogue.tables]

    def resolve(self, asked: str) -> tuple[Table, list[str]]:
        """The table that `asked` means, and other names that fit nearly as well.

        Raises:
            CannotAnswer: nothing is near enough; the message names what is closest.
        """
        exact = self.catalogue.get(asked.strip().strip("\"'`[]"))
        if exact is not None:
            return exact, []
        # Of two equally good names the stored table goes before the view made from it, the fact before the rest.
        preferred = {"fact": 0.02, "dimension": 0.02, "view": -0.03}
        ranked = sorted(
            (
                (match.score + preferred.get(self.catalogue.by_name[match.name.lower()].role, 0.0), match.name)
                for match in names.rank(asked, self.names)
            ),
            key=lambda scored: (-scored[0], len(scored[1]), scored[1].lower()),
        )
        if not ranked or ranked[0][0] < 0.6:
            raise CannotAnswer(self._unknown(asked, [name for _, name in ranked]))
        score, found = ranked[0]
        also = [name for other, name in ranked[1:] if other >= score - 0.1 and other >= 0.6]
        return self.catalogue.by_name[found.lower()], also[:4]

    def _unknown(self, asked: str, close: Sequence[str]) -> str:
        if not self.names:
            return f"{self.catalogue.name} has no tables at all."
        if close:
            return f"There is no table like {asked!r} in {self.catalogue.name}. The closest: {', '.join(close[:5])}."
        some = ", ".join(self.names[:12]) + (" …" if len(self.names) > 12 else "")
        return f"There is no table like {asked!r} in {self.catalogue.name}. It has: {some}."


class SchemaCache:
    """The schema of one database, read again only when SQLite says that it has changed."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._known: tuple[int, Schema] | None = None

    def read(self, connection: sqlite3.Connection) -> Schema:
        version = int(connection.execute("PRAGMA schema_version").fetchone()[0])
        with self._lock:
            if self._known is None or self._known[0] != version:
                catalogue = catalogues.read(connection, self._database.name, self._database.as_of)
                self._known = (version, Schema(catalogue, relationships.references(catalogue)))
            schema = self._known[1]
        for table in schema.catalogue.tables:
            if table.is_virtual:
                # A connection sets a virtual table up at its first use, which the authorizer would take for writing.
                with suppress(sqlite3.Error):
                    connection.execute(f"SELECT 1 FROM {catalogues.quoted(table.name)} LIMIT 0").close()
        return schema


def count(connection: sqlite3.Connection, table: Table) -> int:
    """How many rows it has, counted."""
    with guarded(connection):
        return int(connection.execute(f"SELECT COUNT(*) FROM {catalogues.quoted(table.name)}").fetchone()[0])


def entry(table: Table, rows: int | None, problem: str) -> TableEntry:
    result: TableEntry = {
        "table": table.name,
        "role": table.role,
        "kind": kind(table),
        "columns": len(table.columns),
        "rows": rows,
    }
    if problem:
        result["problem"] = problem
    return result


def kind(table: Table) -> Kind:
    return "view" if table.is_view else "virtual table" if table.is_virtual else "table"


def metrics(schema: Schema) -> Metrics:
    tables = schema.catalogue.tables
    return {
        "total_tables": len(tables),
        "total_columns": sum(len(table.columns) for table in tables),
        "facts_count": sum(table.role == "fact" for table in tables),
        "dimensions_count": sum(table.role == "dimension" for table in tables),
        "relationships_count": len(schema.references),
        "schema_name": schema.catalogue.name,
        "as_of": schema.catalogue.as_of,
        "is_stale": False,
    }


def details(connection: sqlite3.Connection, schema: Schema, asked: str) -> TableDetails:
    """Everything about one table, except how many rows it has: counting may take its time."""
    table, also = schema.resolve(asked)
    known = [reference for reference in schema.references if reference.table == table.name]
    result: TableDetails = {
        "summary": f"Read {table.name}: {counted(len(table.columns), 'column')}",
        "asked": asked,
        "table": table.name,
        "also": also,
        "role": table.role,
        "kind": kind(table),
        "rows": None,
        "primary_key": list(table.primary_key),
        "columns": [column_entry(schema, table, column) for column in table.columns],
        "references": [reference_entry(reference) for reference in known],
        "referenced_by": [
            reference_entry(reference)
            for reference in schema.references
            if reference.target == table.name and reference.table != table.name
        ],
        "indexes": [
            f"{index.name} ({', '.join(index.columns)}){' unique' if index.unique else ''}"
            for index in table.indexes
            if not index.name.startswith("sqlite_autoindex")
        ],
        "sample_rows": [],
    }
    if table.problem:
        result["problem"] = table.problem
        return result
    try:
        with guarded(connection):
            cursor = connection.execute(f"SELECT * FROM {catalogues.quoted(table.name)} LIMIT {SAMPLE_ROWS}")
            result["sample_rows"] = [[as_cell(value, 80) for value in row] for row in cursor]
    except sqlite3.OperationalError as error:
        result["problem"] = str(error)
    return result


def column_entry(schema: Schema, table: Table, column: Column) -> ColumnEntry:
    result: ColumnEntry = {"column": column.name, "type": column.type, "nullable": column.nullable and not column.key}
    target = next(
        (
            reference
            for reference in schema.references
            if reference.table == table.name and column.name in reference.columns
        ),
        None,
    )
    if target is not None:
        position = target.columns.index(column.name)
        far = target.target_columns[position] if position < len(target.target_columns) else "?"
        result["references"] = f"{target.target}.{far}" + (" (inferred)" if target.inferred else "")
    is_foreign = target is not None and not target.inferred
    if column.key and is_foreign:
        result["key"] = "primary and foreign key"
    elif column.key:
        result["key"] = "primary key"
    elif is_foreign:
        result["key"] = "foreign key"
    return result


def reference_entry(reference: Reference) -> ReferenceEntry:
    return {
        "table": reference.table,
        "columns": list(reference.columns),
        "target": reference.target,
        "target_columns": list(reference.target_columns),
        "inferred": reference.inferred,
        "cardinality": "one to one" if reference.unique else "many to one",
    }


def related(schema: Schema, asked: Sequence[str]) -> Relationships:
    """Relationships of the whole schema (nothing asked), around one table, or among several with the ways between them."""
    matched: list[str] = []
    for name in asked:
        table, _ = schema.resolve(name)
        if table.name not in matched:
            matched.append(table.name)
    known = schema.references
    result: Relationships = {
        "summary": "",
        "schema": schema.catalogue.name,
        "tables": [],
        "asked": list(asked),
        "matched": matched,
        "relationships": [],
        "diagram": "",
    }
    shown: list[Reference]
    if not matched:
        shown = list(known)
        involved = schema.names
        title = f"Relationships in {schema.catalogue.name}"
    elif len(matched) == 1:
        shown = relationships.touching(known, matched[0])
        involved = [*matched, *(name for one in shown for name in (one.table, one.target))]
        title = f"Relationships of {matched[0]}"
    else:
        shown, involved = [], list(matched)
        steps: list[Reference] = []
        for left, right in itertools.pairwise(matched):
            for step in relationships.path(known, left, right) or ():
                if step not in steps:
                    steps.append(step)
        for step in steps:
            involved.extend((step.table, step.target))
            shown.extend(one for one in relationships.between(known, step.table, step.target) if one not in shown)
        result["path"] = [reference_entry(step) for step in steps]
        title = f"Relationships between {' and '.join(matched)}"
    order = list(dict.fromkeys(involved))
    tables = [schema.catalogue.by_name[name.lower()] for name in order]
    drawn = diagrams.draw(tables, shown, title=title, focus=matched)
    result["tables"] = list(drawn.tables)
    result["relationships"] = [reference_entry(reference) for reference in shown]
    result["diagram"] = drawn.source
    result["summary"] = f"Found {counted(len(shown), 'relationship')} between {counted(len(tables), 'table')}"
    if drawn.note:
        result["note"] = drawn.note
    return result


def search(schema: Schema, query: str) -> ColumnSearch:
    """Columns whose name has the words of `query`, best first; tables' names count a little."""
    wanted = [names.singular(word) for word in names.words(query)]
    if not wanted:
        raise CannotAnswer("Say which word to look for in the names of columns, for example 'price'.")
    scored: list[tuple[float, int, ColumnHit]] = []
    for table in schema.catalogue.tables:
        for position, column in enumerate(table.columns):
            score = _fit(wanted, column.name, table)
            if score < 0.5:
                continue
            found = column_entry(schema, table, column)
            hit: ColumnHit = {
                "match": round(min(score, 1.1) / 1.1, 2),
                "table": table.name,
                "role": table.role,
                "column": column.name,
                "type": column.type,
            }
            if "key" in found:
                hit["key"] = found["key"]
            if "references" in found:
                hit["references"] = found["references"]
            scored.append((score, position, hit))
    scored.sort(key=lambda one: (-one[0], one[2]["table"].lower(), one[1]))
    hits = [hit for _, _, hit in scored]
    summary = f"Found {counted(len(hits), 'column')}" if hits else "Found no column"
    result: ColumnSearch = {"summary": summary, "query": query, "hits": hits[:MAX_HITS]}
    if len(hits) > MAX_HITS:
        result["omitted"] = len(hits) - MAX_HITS
    return result


def _fit(wanted: Sequence[str], column: str, table: Table) -> float:
    there = [names.singular(word) for word in names.words(column)]
    if not there:
        return 0.0
    around = {names.singular(word) for word in names.words(table.name)}
    total = 0.0
    for word in wanted:
        if word in there:
            total += 1.0
        elif len(word) >= 3 and any(
            other.startswith(word) or (len(other) >= 4 and word.startswith(other)) for other in there
        ):
            total += 0.85
        elif len(word) >= 3 and any(word in other for other in there):
            total += 0.7
        elif word in around:
            total += 0.35
    score = total / len(wanted)
    return score + (0.1 if len(there) == len(wanted) and score >= 1 else 0.0)


_COMMENT = re.compile(r"\s+|--[^\n]*(?:\n|\Z)|/\*.*?(?:\*/|\Z)", re.DOTALL)
_FIRST_WORD = re.compile(r"[A-Za-z]+")


def checked(sql: str) -> str:
    """`sql` without leading comments and the last semicolon, if it begins like a query.

    Raises:
        CannotAnswer: it is empty, or not a SELECT or WITH.
    """
    text = sql.strip()
    while (skipped := _COMMENT.match(text)) is not None:
        text = text[skipped.end() :]
    text = text.rstrip().rstrip(";").rstrip()
    if not text:
        raise CannotAnswer("There is no statement to run. Write one SELECT.")
    word = _FIRST_WORD.match(text)
    if word is None or word.group().upper() not in {"SELECT", "WITH"}:
        first = word.group().upper() if word else text[:10]
        raise CannotAnswer(
            f"Only one SELECT (or WITH … SELECT) is run here, {first!r} is not: this database is read only."
        )
    return text


def check_query(connection: sqlite3.Connection, sql: str) -> None:
    """Compile `sql` without running it, under the authorizer: what is refused is refused before anybody is asked.

    Raises:
        CannotAnswer: with SQLite's reason.
    """
    with guarded(connection):
        _execute(connection, f"EXPLAIN {checked(sql)}").close()


def query(connection: sqlite3.Connection, sql: str, limit: int = MAX_ROWS) -> QueryRows:
    """The first `limit` rows of one SELECT.

    Raises:
        CannotAnswer: it is not one reading statement, or SQLite refuses it.
    """
    text = checked(sql)
    with guarded(connection):
        cursor = _execute(connection, text)
        columns = [name for name, *_ in cursor.description or ()]
        try:
            found = cursor.fetchmany(limit + 1)
        except sqlite3.DataError as error:
            raise CannotAnswer(f"The query cannot be run: {error}.") from error
        cursor.close()
    rows: list[list[Cell]] = [[as_cell(value) for value in row] for row in found[:limit]]
    summary = f"Found {counted(len(rows), 'row')}{' and more' if len(found) > limit else ''}"
    return {"summary": summary, "sql": text, "columns": columns, "rows": rows, "truncated": len(found) > limit}


def _execute(connection: sqlite3.Connection, sql: str) -> sqlite3.Cursor:
    try:
        return connection.execute(sql)
    except (sqlite3.Warning, sqlite3.ProgrammingError) as error:
        # Python 3.11 warns, 3.12 raises ProgrammingError: more than one statement, or parameters without values.
        if "one statement" in str(error):
            raise CannotAnswer("Only one statement is run at a time; leave out what follows the first ';'.") from error
        raise CannotAnswer(f"The query cannot be run: {error}.") from error
    except sqlite3.OperationalError as error:
        if "interrupted" in str(error):
            raise
        raise CannotAnswer(f"The query cannot be run: {error}.") from error
    except sqlite3.DatabaseError as error:
        reason = (
            "it does something else than reading"
            if "not authorized" in str(error) or "prohibited" in str(error)
            else str(error)
        )
        raise CannotAnswer(
            f"The query was refused: {reason}. Only one SELECT over this database's tables is run."
        ) from error
