"""An entity-relationship diagram in Mermaid's `erDiagram` language.

Every name is made safe: an entity whose name Mermaid could not read gets a plain id and its real name as a label, a column
gets underscores for what is not a letter or digit. A diagram stays readable: beyond `MAX_ENTITIES` tables, `MAX_COLUMNS`
columns of a table and `MAX_SOURCE` characters it leaves out, and says what.

Source: Mermaid documentation, "Entity Relationship Diagrams" (entities, attributes, cardinality).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from runcast.scenes.explorer.catalogue import Column, Reference, Table

MAX_ENTITIES = 40
MAX_COLUMNS = 14
MAX_SOURCE = 40_000
"""Characters. Viewers refuse more than 50 kB."""

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_]*\Z")
_UNSAFE = re.compile(r"[^A-Za-z0-9_]+")
_KEYS = frozenset({"pk", "fk", "uk"})
_RESERVED = frozenset(
    [
        "erdiagram",
        "title",
        "acctitle",
        "accdescr",
        "direction",
        "tb",
        "bt",
        "lr",
        "rl",
        "style",
        "classdef",
        "class",
        "click",
        "href",
        "one",
        "many",
        "only",
        "zero",
        "to",
        "or",
        "more",
        "optionally",
        "u",
        "o",
        "pk",
        "fk",
        "uk",
        "end",
        "default",
        "subgraph",
        "graph",
    ]
)


@dataclass(frozen=True)
class Diagram:
    source: str
    tables: tuple[str, ...]
    """Those that are in it."""
    note: str = ""
    """What was left out, one sentence; empty if nothing."""


def draw(
    tables: Sequence[Table], references: Iterable[Reference], *, title: str = "", focus: Sequence[str] = ()
) -> Diagram:
    """A diagram of `tables` and the references among them. `focus` tables come first and stay when it must be cut."""
    order = sorted(tables, key=lambda table: table.name not in focus)
    known = list(references)
    if len(order) > MAX_ENTITIES:
        # Keep what the diagram is about, then what hangs together most.
        weight = {table.name: 0 for table in order}
        for reference in known:
            for name in (reference.table, reference.target):
                weight[name] = weight.get(name, 0) + 1
        order.sort(key=lambda table: (table.name not in focus, -weight[table.name]))
    kept = order[:MAX_ENTITIES]
    columns = MAX_COLUMNS
    while True:
        source = _source(kept, known, columns, title)
        if len(source) <= MAX_SOURCE or columns == 0:
            break
        columns = columns // 2
    left_out = len(order) - len(kept)
    note = (
        f"The diagram shows {len(kept)} of {len(order)} tables: those with the most relationships." if left_out else ""
    )
    return Diagram(source, tuple(table.name for table in kept), note)


def _source(tables: Sequence[Table], references: Sequence[Reference], columns: int, title: str) -> str:
    ids = _ids(tables)
    lines = ["erDiagram"]
    if title:
        lines.append(f"    accTitle: {_label(title)}")  # read by screen readers, not drawn
    among = [reference for reference in references if reference.table in ids and reference.target in ids]
    for reference in among:
        lines.append(f'    {ids[reference.target]} {_line(reference)} {ids[reference.table]} : "{_words(reference)}"')
    for table in tables:
        linked = {column for reference in among for column in _ends(reference, table.name)}
        shown = _shown(table, linked, columns)
        head = ids[table.name] if ids[table.name] == table.name else f'{ids[table.name]}["{_label(table.name)}"]'
        if not shown:
            lines.append(f"    {head}")
            continue
        lines.append(f"    {head} {{")
        lines.extend(f"        {_attribute(table, column)}" for column in shown)
        more = len(table.columns) - len(shown)
        if more:
            lines.append(f'        etc more_columns "and {more} more"')
        lines.append("    }")
    return "\n".join(lines) + "\n"


def _ids(tables: Sequence[Table]) -> dict[str, str]:
    ids: dict[str, str] = {}
    taken: set[str] = set()
    for number, table in enumerate(tables, 1):
        plain = _PLAIN.match(table.name) is not None and table.name.lower() not in _RESERVED
        name = table.name if plain else f"t{number}_{_ascii(table.name)}".rstrip("_")
        while name in taken:
            name += "_"
        taken.add(name)
        ids[table.name] = name
    return ids


def _ends(reference: Reference, table: str) -> list[str]:
    ends: list[str] = []
    if reference.table == table:
        ends.extend(reference.columns)
    if reference.target == table:
        ends.extend(reference.target_columns)
    return ends


def _shown(table: Table, linked: set[str], limit: int) -> list[Column]:
    """The columns that fit, in the table's order: keys first to stay."""
    if len(table.columns) <= limit:
        return list(table.columns)
    ranked = sorted(table.columns, key=lambda column: (column.name not in linked, not column.key))
    kept = {column.name for column in ranked[:limit]}
    return [column for column in table.columns if column.name in kept]


def _attribute(table: Table, column: Column) -> str:
    keys: list[str] = []
    if column.key:
        keys.append("PK")
    if any(column.name in reference.columns for reference in table.references):
        keys.append("FK")
    if not column.key and table.is_unique((column.name,)):
        keys.append("UK")
    name = _ascii(column.name) or f"column_{table.columns.index(column) + 1}"
    name = name if name[0].isalpha() and name.lower() not in _KEYS else f"c_{name}"
    text = f"{_type(column)} {name}"
    if keys:
        text += " " + ", ".join(keys)
    if name != column.name:
        text += f' "{_label(column.name)}"'
    return text


def _ascii(name: str) -> str:
    """The letters and digits of a name, accents taken off, the rest as underscores."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return _UNSAFE.sub("_", plain).strip("_")


def _type(column: Column) -> str:
    base = _ascii(column.type.split("(")[0]).lower()
    return base if base and base[0].isalpha() and base not in _KEYS else "any"


def _line(reference: Reference) -> str:
    """Target on the left: one (or none) of it has many (or at most one) rows of the table on the right."""
    left = "|o" if reference.optional else "||"
    right = "o|" if reference.unique else "o{"
    return f"{left}{'..' if reference.inferred else '--'}{right}"


def _words(reference: Reference) -> str:
    text = ", ".join(_label(column) for column in reference.columns)
    return f"{text} (inferred)" if reference.inferred else text


def _label(text: str) -> str:
    """Text as it may stand between Mermaid's quotes."""
    return re.sub(r"\s+", " ", re.sub(r'["\\%\[\]{}<>`;#]', "_", text)).strip()[:80] or "_"
