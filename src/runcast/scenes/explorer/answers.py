"""Answers in Markdown, written from what the tools returned and from nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from runcast.scenes.explorer.questions import Late, Total
from runcast.scenes.explorer.results import (
    Cell,
    ColumnSearch,
    QueryRows,
    ReferenceEntry,
    Relationships,
    RowCounts,
    TableDetails,
    TableList,
    counted,
)

_ROLES = (
    ("fact", "Facts", "fact table", "fact tables"),
    ("dimension", "Dimensions", "dimension", "dimensions"),
    ("bridge", "Bridges", "bridge", "bridges"),
    ("table", "Tables", "table", "tables"),
    ("view", "Views", "view", "views"),
)
_SHOWN_ROWS = 25


def number(value: float) -> str:
    """12340 → `12,340`; 0.5 → `0.5`; money keeps its cents."""
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.2f}" if abs(value) >= 1000 or round(value, 1) != value else f"{value:,.1f}"


def code(name: str) -> str:
    """`name` as inline code, whatever is in it."""
    text = re.sub(r"\s+", " ", name)
    fence = "`" * (max((len(run) for run in re.findall(r"`+", text)), default=0) + 1)
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def listed(items: Sequence[str]) -> str:
    """`a, b and c`."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}" if items else ""


def grid(head: Sequence[str], rows: Iterable[Sequence[str]], right: Iterable[int] = ()) -> str:
    """A Markdown table. Cells are escaped; columns in `right` are aligned to the right."""
    align = set(right)
    lines = [_row(head), _row(["---:" if place in align else "---" for place in range(len(head))], raw=True)]
    lines.extend(_row(row) for row in rows)
    return "\n".join(lines)


def tables(result: TableList) -> str:
    found = result["tables"]
    if not found:
        what = {"all": "tables", "fact": "fact tables"}.get(result["kind"], f"{result['kind']}s")
        return f"{code(result['schema'])} has no {what}."
    parts = [
        counted(sum(one["role"] == role for one in found), singular, plural)
        for role, _, singular, plural in _ROLES
        if any(one["role"] == role for one in found)
    ]
    total = sum(one["rows"] or 0 for one in found if one["kind"] != "view")
    views_only = all(one["kind"] == "view" for one in found)
    lead = f"{code(result['schema'])} has **{listed(parts)}**"
    lead += "." if views_only else f", with {counted(total, 'row')} in all."
    sections = [lead]
    several = len(parts) > 1
    for role, title, _, _ in _ROLES:
        chosen = [one for one in found if one["role"] == role]
        if not chosen:
            continue
        rows = [
            [
                code(one["table"]),
                str(one["columns"]),
                "–" if "problem" in one else "…" if one["rows"] is None else number(one["rows"]),
            ]
            for one in chosen
        ]
        block = grid(("Table" if role != "view" else "View", "Columns", "Rows"), rows, right=(1, 2))
        sections.append(f"**{title}**\n\n{block}" if several else block)
    if "omitted" in result:
        sections.append(f"… and {result['omitted']:,} more that are not listed here.")
    broken = [f"{code(one['table'])} cannot be read: {one.get('problem')}." for one in found if "problem" in one]
    if broken:
        sections.append("\n".join(f"- {line}" for line in broken))
    if any(one["rows"] is None and "problem" not in one for one in found):
        sections.append("… means: not counted, as it would have taken too long. Ask me to count a table by name.")
    first = next((one["table"] for one in found if one["role"] == "fact"), found[0]["table"])
    sections.append(
        f"Ask me to describe one of them, for example *describe {_inline(first)}*, or for its relationships."
    )
    return "\n\n".join(sections)


def details(results: Sequence[TableDetails]) -> str:
    return "\n\n".join(_details(result, several=len(results) > 1) for result in results)


def _details(result: TableDetails, *, several: bool) -> str:
    name = code(result["table"])
    what = {
        "fact": "a fact table",
        "dimension": "a dimension",
        "bridge": "a bridge table",
        "view": "a view",
        "table": "a table",
    }[result["role"]]
    if "problem" in result:
        return f"{name} is {what} that cannot be read: {result['problem']}."
    lead = f"**{name}** is {what} with {counted(len(result['columns']), 'column')}"
    lead += f" and {counted(result['rows'], 'row')}." if result["rows"] is not None else "."
    sections = [f"### {name}\n\n{lead}" if several else lead]
    rows: list[list[str]] = []
    for column in result["columns"]:
        key = {"primary key": "PK", "foreign key": "FK", "primary and foreign key": "PK, FK"}.get(
            column.get("key", ""), ""
        )
        notes = f"→ {code(column['references'])}" if "references" in column else ""
        if column["nullable"] and not notes and result["kind"] == "table":
            notes = "may be empty"
        rows.append([code(column["column"]), column["type"] or "–", key, notes])
    sections.append(grid(("Column", "Type", "Key", "Notes"), rows))
    if result["referenced_by"]:
        by = [code(name) for name in dict.fromkeys(one["table"] for one in result["referenced_by"])]
        sections.append(f"Referenced by {listed(by)}.")
    if result["also"]:
        sections.append(
            f"If you meant something else: {listed([code(other) for other in result['also']])} fit as well."
        )
    return "\n\n".join(sections)


def relationships(result: Relationships) -> str:
    matched = result["matched"]
    if not result["tables"]:
        return f"{code(result['schema'])} has no tables, so there is nothing to relate."
    if len(matched) >= 2:
        text = _between(result)
    elif matched:
        text = _around(result)
    else:
        text = _whole(result)
    if result.get("note"):
        text += f"\n\n{result.get('note')}"
    return text


def _between(result: Relationships) -> str:
    matched = result["matched"]
    path = result.get("path", [])
    renamed = [
        f"*{asked}* is {code(name)}"
        for asked, name in zip(result["asked"], matched, strict=False)
        if asked.lower() != name.lower()
    ]
    names = listed([code(name) for name in matched])
    if not path:
        return f"I found no way from {listed([code(name) for name in matched])}: no foreign key, declared or suggested by names, connects them, directly or over other tables."
    direct = len(path) == 1
    lead = (
        f"{names} are **directly related**."
        if direct and len(matched) == 2
        else f"{names} are connected over **{counted(len(path), 'step')}**."
    )
    sections = [f"{lead} {_sentence(renamed)}".strip()]
    sections.append("\n".join(f"- {_edge(one)}" for one in result["relationships"]))
    sections.append(f"To join them:\n\n```sql\n{join_sql(path)}\n```")
    sections.append("The diagram beside this chat shows the tables with their columns and keys.")
    return "\n\n".join(sections)


def _around(result: Relationships) -> str:
    name = result["matched"][0]
    out = [one for one in result["relationships"] if one["table"] == name]
    back = [one for one in result["relationships"] if one["target"] == name and one["table"] != name]
    if not out and not back:
        return f"{code(name)} stands alone: it refers to no table and no table refers to it, as far as keys and names tell."
    others = {one["target"] for one in out} | {one["table"] for one in back}
    whom = [f"**{counted(len(others - {name}), 'table')}**"] if others - {name} else []
    if name in others:
        whom.append("itself")
    sections = [f"{code(name)} is connected to {listed(whom)}."]
    if out:
        sections.append("**It refers to**\n\n" + "\n".join(f"- {_edge(one)}" for one in out))
    if back:
        sections.append("**It is referred to by**\n\n" + "\n".join(f"- {_edge(one)}" for one in back))
    sections.append("The diagram beside this chat shows all of them.")
    return "\n\n".join(sections)


def _whole(result: Relationships) -> str:
    known = result["relationships"]
    if not known:
        return f"{code(result['schema'])} has {counted(len(result['tables']), 'table')} and no relationships: no foreign keys are declared and no names suggest any."
    inferred = sum(one["inferred"] for one in known)
    lead = f"{code(result['schema'])} has **{counted(len(known), 'relationship')}** between its tables"
    lead += f", {inferred} of them inferred from column names." if inferred else ", all declared as foreign keys."
    by_table: dict[str, list[ReferenceEntry]] = {}
    for one in known:
        by_table.setdefault(one["table"], []).append(one)
    lines: list[str] = []
    for table, edges in list(by_table.items())[:30]:
        goals = [
            code(goal) + (" (inferred)" if guessed else "")
            for goal, guessed in dict.fromkeys((edge["target"], edge["inferred"]) for edge in edges)
        ]
        lines.append(f"- {code(table)} → {listed(goals)}")
    if len(by_table) > 30:
        lines.append(f"- … and {len(by_table) - 30} more tables")
    hub = max(sorted({one["target"] for one in known}), key=lambda name: sum(one["target"] == name for one in known))
    uses = sum(one["target"] == hub for one in known)
    most = f"{code(hub)} is referred to most, {uses} times. " if uses > 1 else ""
    closing = "" if "note" in result else "The diagram beside this chat shows the whole picture."
    return "\n\n".join(filter(None, [lead, "\n".join(lines), (most + closing).strip()]))


def _edge(one: ReferenceEntry) -> str:
    left = f"{code(one['table'])}.{listed([code(name) for name in one['columns']])}"
    right = f"{code(one['target'])}.{listed([code(name) for name in one['target_columns']])}"
    how = "many to one" if one["cardinality"] == "many to one" else "one to one"
    return f"{left} → {right} ({how}{', inferred from the name' if one['inferred'] else ''})"


def join_sql(path: Sequence[ReferenceEntry]) -> str:
    """FROM and JOINs along a path."""
    from runcast.scenes.explorer.catalogue import readable

    first = path[0]
    start = first["table"]
    if (
        len(path) > 1
        and start in (path[1]["table"], path[1]["target"])
        and first["target"] not in (path[1]["table"], path[1]["target"])
    ):
        start = first["target"]
    seen = {start}
    lines = [f"FROM {readable(start)}"]
    for one in path:
        new = one["target"] if one["table"] in seen else one["table"]
        seen.add(new)
        on = " AND ".join(
            f"{readable(one['table'])}.{readable(near)} = {readable(one['target'])}.{readable(far)}"
            for near, far in zip(one["columns"], one["target_columns"], strict=False)
        )
        lines.append(f"JOIN {readable(new)} ON {on}")
    return "\n".join(lines)


def columns(result: ColumnSearch) -> str:
    hits = result["hits"]
    if not hits:
        return f"No column has *{_inline(result['query'])}* in its name. Try a shorter or another word."
    where = len({hit["table"] for hit in hits})
    lead = f"**{counted(len(hits), 'column')}** in {counted(where, 'table')} match *{_inline(result['query'])}*."
    if len(hits) == 1:
        lead = lead.replace("match", "matches")
    rows = [
        [
            code(hit["table"]),
            code(hit["column"]),
            hit["type"] or "–",
            f"→ {code(hit['references'])}" if "references" in hit else hit.get("key", ""),
        ]
        for hit in hits
    ]
    text = f"{lead}\n\n{grid(('Table', 'Column', 'Type', 'Notes'), rows)}"
    if "omitted" in result:
        text += f"\n\n… and {result['omitted']:,} more."
    return text


def counts(result: RowCounts) -> str:
    found = result["counts"]
    if not found:
        return "There are no tables to count."
    if len(found) == 1:
        one = found[0]
        if one["rows"] is None:
            return f"{code(one['table'])} could not be counted: {one.get('problem', 'it took too long')}."
        return f"{code(one['table'])} has **{counted(one['rows'], 'row')}**."
    ordered = sorted(found, key=lambda one: (one["rows"] is None, -(one["rows"] or 0)))
    top = ordered[0]
    lead = f"The {len(found)} tables and views have **{counted(result['total'], 'row')}** in all; the largest is {code(top['table'])}."
    rows = [[code(one["table"]), "–" if one["rows"] is None else number(one["rows"])] for one in ordered]
    text = f"{lead}\n\n{grid(('Table', 'Rows'), rows, right=(1,))}"
    failed = [one for one in found if one["rows"] is None]
    if failed:
        text += "\n\n" + "\n".join(f"- {code(one['table'])}: {one.get('problem', 'not counted')}" for one in failed)
    return text


def rows(result: QueryRows, question: object = None) -> str:
    """The rows of a query with one sentence about them."""
    found, head = result["rows"], result["columns"]
    if not found:
        return "The query ran and found no rows."
    if len(found) == 1 and len(head) == 1:
        return f"{_title(head[0])}: **{_cell(found[0][0], head[0])}**"
    lead = _lead(result, question)
    composed = isinstance(question, (Total, Late))
    columns = [[row[place] for row in found[:_SHOWN_ROWS]] for place in range(len(head))]
    shown = zip(*(_column(values, name) for values, name in zip(columns, head, strict=True)), strict=True)
    right = [place for place, values in enumerate(columns) if _is_quantity(values)]
    body = grid([_title(name) if composed else name for name in head], [list(row) for row in shown], right)
    text = f"{lead}\n\n{body}"
    if len(found) > _SHOWN_ROWS:
        more = " (there are still more; I read 200 at most)" if result["truncated"] else ""
        text += f"\n\nThese are the first {_SHOWN_ROWS} of {counted(len(found), 'row')}{more}."
    return text


def _lead(result: QueryRows, question: object) -> str:
    found, head = result["rows"], result["columns"]
    words = _title(head[-1]).lower()
    match question:
        case Total(limit=None, per="day" | "week" | "month" | "quarter" | "year" as per) if len(found) > 1:
            values = [_amount(row[-1]) for row in found]
            best = found[values.index(max(values))]
            text = f"The highest {words} of a {per} is **{_cell(best[-1], head[-1])}**, in {_when(best[:-1], per)}."
            if question.function in ("SUM", "COUNT"):
                text += f" Over {counted(len(found), per)} it comes to {number(_rounded(sum(values), found))}."
            return text
        case Total() if len(head) == 2 and len(found) > 1:
            first, second = found[0], found[1]
            rank = "lowest" if question.ascending else "highest"
            if question.function == "COUNT" or not words.startswith(("total", "average", "lowest", "highest")):
                rank = {"lowest": "fewest", "highest": "most"}[rank] if question.function == "COUNT" else rank
            elif words.startswith(("lowest", "highest")):
                rank = f"{rank} of all with a {words.split()[0]}"
                words = words.split(" ", 1)[-1]
            return (
                f"**{_inline(str(first[0]))}** has the {rank} {words}: {_cell(first[1], head[1])}, "
                f"before {_inline(str(second[0]))} with {_cell(second[1], head[1])}."
            )
        case Late() if len(found) > 1 and "late_percent" in head:
            percent = head.index("late_percent")
            first = found[0]
            worst = max(found, key=lambda row: _amount(row[percent]))
            text = f"**{_inline(str(first[0]))}** has the most late {_title(head[1]).lower()}: "
            text += f"{_cell(first[2], '')} of {_cell(first[1], '')} ({first[percent]} %)."
            if worst is not first:
                text += f" Of these {len(found)}, {_inline(str(worst[0]))} has the highest share, {worst[percent]} %."
            return text
        case Late() if len(found) == 1 and len(head) >= 3:
            first = found[0]
            return f"**{_cell(first[1], '')} of {_cell(first[0], '')}** {_title(head[0]).lower()} were late ({first[2]} %)."
        case _:
            more = "More than " if result["truncated"] else ""
            return f"{more}**{counted(len(found), 'row')}**{':' if not more else ', of which I read these:'}"


def _amount(value: Cell) -> float:
    return value if isinstance(value, (int, float)) else float("-inf") if value is None else 0.0


def _rounded(total: float, rows: Sequence[Sequence[Cell]]) -> float:
    """A sum of whole numbers is whole, one of cents has cents."""
    return round(total, 2) if any(isinstance(row[-1], float) for row in rows) else int(total)


def _when(parts: Sequence[Cell], per: str) -> str:
    if per == "quarter" and len(parts) == 2:
        return f"{parts[0]} Q{parts[1]}"
    if per == "week" and len(parts) == 2:
        return f"week {parts[1]} of {parts[0]}"
    return "-".join(f"{part:02d}" if isinstance(part, int) else str(part) for part in parts)


def sql_block(sql: str) -> str:
    return f"```sql\n{sql}\n```"


def _row(cells: Sequence[str], *, raw: bool = False) -> str:
    return "| " + " | ".join(cell if raw else cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _title(name: str) -> str:
    """A column of a result as a heading: `total_order_value` → `Total order value`."""
    text = name.replace("_", " ").strip()
    return text[:1].upper() + text[1:] if text.islower() else text or "–"


def _is_quantity(values: Sequence[Cell]) -> bool:
    known = [value for value in values if value is not None]
    return bool(known) and all(isinstance(value, (int, float)) for value in known)


_ORDINAL = re.compile(r"(^|_)(year|key|id|code|no|nr|week|month|quarter|day|number)$", re.IGNORECASE)


def _column(values: Sequence[Cell], name: str) -> list[str]:
    """Cells of one column, alike in their decimals."""
    if not any(isinstance(value, float) for value in values):
        return [_cell(value, name) for value in values]
    places = 1 if all(round(value, 1) == value for value in values if isinstance(value, float)) else 2
    return [f"{value:,.{places}f}" if isinstance(value, (int, float)) else _cell(value, name) for value in values]


def _cell(value: Cell, name: str) -> str:
    if value is None:
        return "–"
    if isinstance(value, int):
        return str(value) if _ORDINAL.search(name) else f"{value:,}"
    if isinstance(value, float):
        return number(value)
    return _inline(value[:200])


def _inline(text: str) -> str:
    """Text from a database as Markdown shows it: nothing in it becomes markup."""
    return re.sub(r"([\\`*_\[\]<>#])", r"\\\1", re.sub(r"\s+", " ", text))


def _sentence(parts: Sequence[str]) -> str:
    text = listed(parts)
    return f"({text}.)" if text else ""
