"""SQL for a question, composed from what the tools have told: found columns and described tables, nothing else.

It works on any schema whose names say what they are: a measure is a number that is no key, a table's label is the text
column that names its rows, time is a date dimension behind a reference or a date column beside the measure.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from runcast.scenes.explorer.catalogue import Column, readable
from runcast.scenes.explorer.names import singular, words
from runcast.scenes.explorer.questions import Late, Total
from runcast.scenes.explorer.results import ColumnHit, ColumnSearch, ReferenceEntry, TableDetails

_Join = Callable[[TableDetails, ReferenceEntry | None], str]
"""Joins a table by a reference of the base table and gives its alias."""

TIME_WORDS = ("day", "week", "month", "quarter", "year")


@dataclass(frozen=True)
class Composed:
    sql: str
    purpose: str
    """One sentence for the person who is asked."""
    subject: str = ""
    """The table that the answer is about."""


class NotComposable(Exception):
    """The schema does not give what the question needs. The message says what is missing."""


def is_number(declared: str) -> bool:
    return (
        Column("", declared).affinity in ("INTEGER", "REAL", "NUMERIC")
        and not is_date(declared)
        and "BOOL" not in declared.upper()
    )


def is_date(declared: str) -> bool:
    return declared.upper().startswith(("DATE", "TIME"))


def measures(search: ColumnSearch) -> list[ColumnHit]:
    """Hits that can be added up: numbers that are neither keys nor references nor ordinals. Best first; of equal ones facts
    before other tables before views."""
    found = [hit for hit in search["hits"] if _is_measure(hit)]
    return sorted(found, key=lambda hit: (-hit["match"], hit["role"] == "view", hit["role"] != "fact"))


def flags(search: ColumnSearch) -> list[ColumnHit]:
    """Hits that are yes or no."""
    return [
        hit
        for hit in search["hits"]
        if "BOOL" in hit["type"].upper() or words(hit["column"])[:1] in (("is",), ("has",), ("was",))
    ]


def _is_measure(hit: ColumnHit) -> bool:
    parts = words(hit["column"])
    return (
        is_number(hit["type"])
        and "key" not in hit
        and "references" not in hit
        and parts[-1] not in ("key", "id", "no", "number", "code", "year", "month", "week", "day", "quarter")
        and parts[0] not in ("is", "has")
    )


def label(table: TableDetails) -> str:
    """The column that names a row to people: `…name`, `…title`, `…description`; else the first text; else the key."""
    texts = [
        column
        for column in table["columns"]
        if Column("", column["type"]).affinity == "TEXT" and "references" not in column
    ]
    for ending in ("name", "title", "label", "description", "text", "number", "code"):
        for column in texts:
            if words(column["column"])[-1:] == (ending,):
                return column["column"]
    if texts:
        return texts[0]["column"]
    return table["primary_key"][0] if table["primary_key"] else table["columns"][0]["column"]


def link(table: TableDetails, target: str) -> ReferenceEntry | None:
    """The first reference of `table` to `target`; a declared one before an inferred one."""
    found = [one for one in table["references"] if one["target"] == target]
    return next(iter(sorted(found, key=lambda one: one["inferred"])), None)


def date_link(table: TableDetails) -> ReferenceEntry | None:
    """The reference to a table of dates that says when a row happened: an order's date before its due date."""
    found = [
        one
        for one in table["references"]
        if set(words(one["target"])) & {"date", "dates", "calendar", "time", "day", "days"}
    ]
    own = {singular(word) for word in words(table["table"])}
    return next(iter(sorted(found, key=lambda one: -len(own & {singular(w) for w in words(one["columns"][0])}))), None)


def date_column(table: TableDetails) -> str | None:
    """A date beside the measure, for schemas without a table of dates."""
    dated = [column for column in table["columns"] if is_date(column["type"])]
    named = [column for column in table["columns"] if "date" in words(column["column"]) and "references" not in column]
    found = dated or named
    return found[0]["column"] if found else None


def total(
    question: Total,
    measure: str | None,
    base: TableDetails,
    group: TableDetails | None,
    dates: TableDetails | None,
    column: str | None = None,
) -> Composed:
    """The query of a `Total`: `measure` of `base` (None counts rows) for each row of `group`, each `column` of it, or each time.

    Raises:
        NotComposable: `base` and `group` are not connected, or there is no date.
    """
    base_alias = _alias(base["table"])
    joins: list[str] = []
    aliases = {base["table"]: base_alias}
    where: list[str] = []
    time_columns: list[str] = []

    def join(target: TableDetails, reference: ReferenceEntry | None) -> str:
        if target["table"] in aliases:
            return aliases[target["table"]]
        if reference is None:
            raise NotComposable(
                f"`{base['table']}` has no reference to `{target['table']}`, so the two cannot be joined directly."
            )
        alias = _alias(target["table"], aliases.values())
        aliases[target["table"]] = alias
        on = " AND ".join(
            f"{alias}.{readable(far)} = {base_alias}.{readable(near)}"
            for near, far in zip(reference["columns"], reference["target_columns"], strict=False)
        )
        joins.append(f"JOIN {readable(target['table'])} AS {alias} ON {on}")
        return alias

    value, name = _value(question, measure, base, base_alias)
    select: list[str] = []
    group_by: list[str] = []
    order = ""
    if question.per in TIME_WORDS:
        time_columns = _time(question.per, base, base_alias, dates, join)
        select = time_columns
        group_by = [str(number) for number in range(1, len(time_columns) + 1)]
        order = ", ".join(group_by)
    elif group is not None:
        shown = column or label(group)
        alias = base_alias if group["table"] == base["table"] else join(group, link(base, group["table"]))
        select = [f"{alias}.{readable(shown)}"]
        if group["table"] == base["table"] and column is None and measure is not None:
            # One row per subject already: nothing to add up.
            value = f"{base_alias}.{readable(measure)}"
            name = measure
        elif column is None and group["primary_key"]:
            group_by = [f"{alias}.{readable(part)}" for part in group["primary_key"]]  # two of one name stay two
        else:
            group_by = ["1"]
        order = f"{readable(name)} {'ASC' if question.ascending else 'DESC'}, 1"
    if question.year is not None:
        where.append(_in_year(question.year, base, base_alias, dates, join))
    expression = value if value == f"{base_alias}.{readable(name)}" else f"{value} AS {readable(name)}"
    lines = [f"SELECT {', '.join([*select, expression])}", f"FROM {readable(base['table'])} AS {base_alias}", *joins]
    if where:
        lines.append(f"WHERE {' AND '.join(where)}")
    if group_by:
        lines.append(f"GROUP BY {', '.join(group_by)}")
    if order:
        lines.append(f"ORDER BY {order}")
    if question.limit is not None and select:
        lines.append(f"LIMIT {question.limit}")
    return Composed("\n".join(lines), _purpose(question, measure, base, group, column), (group or base)["table"])


def late(
    question: Late,
    flag: str | None,
    amount: str | None,
    base: TableDetails,
    group: TableDetails | None,
    dates: TableDetails | None,
) -> Composed:
    """How much of `base` came late, for each row of `group`."""
    base_alias = _alias(base["table"])
    what = plural(words(base["table"])[-1])
    is_late = f"{base_alias}.{readable(flag)}" if flag else f"({base_alias}.{readable(amount or '')} > 0)"
    select = [
        f"COUNT(*) AS {readable(what)}",
        f"SUM({is_late}) AS late",
        f"ROUND(100.0 * SUM({is_late}) / COUNT(*), 1) AS late_percent",
    ]
    if amount:
        select.append(
            f"ROUND(AVG(CASE WHEN {is_late} THEN {base_alias}.{readable(amount)} END), 1) AS average_{amount.lower()}"
        )
    lines = [f"FROM {readable(base['table'])} AS {base_alias}"]
    tail: list[str] = []
    if group is not None:
        reference = link(base, group["table"])
        if reference is None:
            raise NotComposable(
                f"`{base['table']}` has no reference to `{group['table']}`, so the two cannot be joined directly."
            )
        alias = _alias(group["table"], [base_alias])
        select.insert(0, f"{alias}.{readable(label(group))}")
        lines.append(_join(group, reference, alias, base_alias))
        keys = group["primary_key"] or [label(group)]
        tail = [
            f"GROUP BY {', '.join(f'{alias}.{readable(key)}' for key in keys)}",
            "ORDER BY late DESC, 1",
            "LIMIT 10",
        ]
    if question.year is not None:
        extra: list[str] = []
        taken = [base_alias, _alias(group["table"], [base_alias])] if group is not None else [base_alias]

        def join(target: TableDetails, reference: ReferenceEntry | None) -> str:
            alias = _alias(target["table"], taken)
            if reference is not None:
                extra.append(_join(target, reference, alias, base_alias))
            return alias

        condition = _in_year(question.year, base, base_alias, dates, join)
        lines.extend(extra)
        lines.append(f"WHERE {condition}")
    separator = ",\n       "
    sql = "\n".join([f"SELECT {separator.join(select)}", *lines, *tail])
    about = f" per {_thing(group['table'])}" if group is not None else ""
    return Composed(sql, f"Count late {what}{about}", (group or base)["table"])


def preview(table: TableDetails, rows: int) -> Composed:
    return Composed(
        f"SELECT *\nFROM {readable(table['table'])}\nLIMIT {rows}",
        f"Show the first {rows} rows of {table['table']}",
        table["table"],
    )


def plural(word: str) -> str:
    if word.endswith("y") and word[-2:-1] not in tuple("aeiou"):
        return word[:-1] + "ies"
    return word if word.endswith("s") else word + "s"


def _join(target: TableDetails, reference: ReferenceEntry, alias: str, base_alias: str) -> str:
    on = " AND ".join(
        f"{alias}.{readable(far)} = {base_alias}.{readable(near)}"
        for near, far in zip(reference["columns"], reference["target_columns"], strict=False)
    )
    return f"JOIN {readable(target['table'])} AS {alias} ON {on}"


def _value(question: Total, measure: str | None, base: TableDetails, alias: str) -> tuple[str, str]:
    """The expression, and what it is called in the result."""
    if measure is None or question.function == "COUNT":
        return "COUNT(*)", plural(
            "_".join(words(base["table"])[-2:]) if len(words(base["table"])) > 2 else base["table"]
        )
    number = f"{question.function}({alias}.{readable(measure)})"
    if question.function == "AVG" or (question.function == "SUM" and not _is_integer(base, measure)):
        number = f"ROUND({number}, 2)"
    prefix = {"SUM": "total", "AVG": "average", "MIN": "lowest", "MAX": "highest"}[question.function]
    parts = words(measure)
    return number, "_".join(parts if parts[0] == prefix else (prefix, *parts))


def _is_integer(table: TableDetails, column: str) -> bool:
    return any(one["column"] == column and Column("", one["type"]).affinity == "INTEGER" for one in table["columns"])


def _time(per: str, base: TableDetails, alias: str, dates: TableDetails | None, join: _Join) -> list[str]:
    if dates is not None:
        there = join(dates, date_link(base))
        names = {column["column"].lower(): column["column"] for column in dates["columns"]}
        chosen: Sequence[str] = ()
        for wanted in _CALENDAR[per]:
            if all(name in names for name in wanted):
                chosen = wanted
                break
        if chosen:
            return [f"{there}.{readable(names[name])}" for name in chosen]
        dated = date_column(dates)
        if dated is not None:
            return [f"strftime('{_FORMATS[per]}', {there}.{readable(dated)}) AS {per}"]
    column = date_column(base)
    if column is None:
        raise NotComposable(f"`{base['table']}` has no date, so it cannot be shown per {per}.")
    if per == "quarter":
        month = f"CAST(strftime('%m', {alias}.{readable(column)}) AS INTEGER)"
        return [f"strftime('%Y', {alias}.{readable(column)}) AS year", f"({month} + 2) / 3 AS quarter"]
    return [f"strftime('{_FORMATS[per]}', {alias}.{readable(column)}) AS {per}"]


def _in_year(year: int, base: TableDetails, alias: str, dates: TableDetails | None, join: _Join) -> str:
    if dates is not None:
        there = join(dates, date_link(base))
        for column in dates["columns"]:
            if column["column"].lower() in ("year", "calendar_year", "year_number"):
                return f"{there}.{readable(column['column'])} = {year}"
    column = date_column(base)
    if column is None:
        raise NotComposable(f"`{base['table']}` has no date, so it cannot be limited to {year}.")
    return f"strftime('%Y', {alias}.{readable(column)}) = '{year}'"


_FORMATS: Mapping[str, str] = {"day": "%Y-%m-%d", "week": "%Y-W%W", "month": "%Y-%m", "quarter": "%Y-%m", "year": "%Y"}
_CALENDAR: Mapping[str, Sequence[Sequence[str]]] = {
    "day": (("calendar_date",), ("date",), ("full_date",), ("day",)),
    "week": (("year_week",), ("year", "iso_week"), ("year", "week")),
    "month": (("year_month",), ("year", "month"), ("month",)),
    "quarter": (("year_quarter",), ("year", "quarter")),
    "year": (("year",), ("calendar_year",)),
}


def _alias(table: str, taken: Iterable[str] = ()) -> str:
    """A letter for a table in SQL: that of what it is about, `s` for `dimv_bs_supplier`."""
    parts = words(table)
    core = (
        [part for part in parts if part not in ("fact", "dim", "dimv", "bs", "v", "bridge", "tbl")]
        or list(parts)
        or ["t"]
    )
    name = core[0] if re.fullmatch(r"[a-z][a-z0-9]*", core[0]) else "t"
    used = set(taken)
    short = [name[:length] for length in range(1, len(name) + 1)]
    return next(
        alias
        for alias in itertools.chain(short, (f"{name[0]}{number}" for number in itertools.count(2)))
        if alias not in used and readable(alias) == alias
    )


def _thing(table: str) -> str:
    parts = [part for part in words(table) if part not in ("fact", "dim", "dimv", "bs", "v", "bridge", "tbl")]
    return " ".join(parts) or table


def _purpose(
    question: Total, measure: str | None, base: TableDetails, group: TableDetails | None, column: str | None
) -> str:
    of = " ".join(words(measure)) if measure else plural(_thing(base["table"]))
    how = {"SUM": "Add up", "AVG": "Average", "MIN": "Find the lowest", "MAX": "Find the highest", "COUNT": "Count"}[
        question.function if measure else "COUNT"
    ]
    if question.per in TIME_WORDS:
        per = f" per {question.per}"
    elif column is not None:
        per = f" per {' '.join(words(column))}"
    elif group is not None:
        per = f" per {_thing(group['table'])}"
    else:
        per = ""
    when = f" in {question.year}" if question.year else ""
    if question.limit is not None and group is not None:
        high, low = ("most", "fewest") if measure is None else ("highest", "lowest")
        which = low if question.ascending else high
        return f"Find the {question.limit} {plural(_thing(group['table']))} with the {which} {of}{when}"
    return f"{how} {of}{per}{when}"
