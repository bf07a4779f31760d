"""How tables hang together: declared references, those that names give away, and the shortest way between two tables.

An inferred reference is a guess and is marked as one. It is made only where a name leaves little doubt: a column that
bears the name of another table's single-column key (not a bare `id`), or `<stem>_id`, `<stem>_key` … where `<stem>` is the
other table's name without its prefix. Columns that have a declared reference, and a table's own key, get no guess.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from runcast.scenes.explorer.catalogue import Catalogue, Column, Reference, Table
from runcast.scenes.explorer.names import singular, words

_SUFFIXES = frozenset({"id", "key", "sk", "fk", "code", "no", "nr", "number", "uuid"})
_BARE = frozenset({"id", "key", "code", "name", "uuid", "rowid", "guid", "pk"})


def references(catalogue: Catalogue) -> tuple[Reference, ...]:
    """Every declared reference, then every inferred one, in the order of tables and columns."""
    declared = [reference for table in catalogue.tables for reference in table.references]
    return (*declared, *_inferred(catalogue))


def touching(known: Iterable[Reference], table: str) -> list[Reference]:
    """Those that start or end at `table`."""
    return [reference for reference in known if table in (reference.table, reference.target)]


def path(known: Sequence[Reference], start: str, goal: str) -> list[Reference] | None:
    """The shortest chain of references that joins two tables, in either direction, or None.

    Among equally short ones a declared reference goes before an inferred one, then the order of `known` decides.
    """
    if start == goal:
        return [reference for reference in known if reference.table == start and reference.target == start][:1] or None
    ways: dict[str, list[tuple[str, Reference]]] = {}
    for reference in sorted(known, key=lambda one: one.inferred):
        ways.setdefault(reference.table, []).append((reference.target, reference))
        ways.setdefault(reference.target, []).append((reference.table, reference))
    came: dict[str, tuple[str, Reference]] = {}
    waiting = deque([start])
    while waiting:
        here = waiting.popleft()
        for there, reference in ways.get(here, ()):
            if there == start or there in came:
                continue
            came[there] = (here, reference)
            if there == goal:
                return _walk_back(came, start, goal)
            waiting.append(there)
    return None


def between(known: Sequence[Reference], left: str, right: str) -> list[Reference]:
    """Every direct reference between two tables: an order knows two dates."""
    return [reference for reference in known if {reference.table, reference.target} == {left, right}]


def _walk_back(came: dict[str, tuple[str, Reference]], start: str, goal: str) -> list[Reference]:
    steps: list[Reference] = []
    while goal != start:
        goal, reference = came[goal]
        steps.append(reference)
    return steps[::-1]


def _inferred(catalogue: Catalogue) -> Iterable[Reference]:
    keys: dict[str, list[tuple[Table, Column]]] = {}
    stems: dict[tuple[str, ...], list[tuple[Table, Column]]] = {}
    for table in catalogue.tables:
        if table.is_view or len(table.primary_key) != 1:
            continue
        key = table.by_name[table.primary_key[0].lower()]
        if key.name.lower() not in _BARE:
            keys.setdefault(key.name.lower(), []).append((table, key))
        stems.setdefault(_stem(table), []).append((table, key))
    for table in catalogue.tables:
        taken = {name.lower() for reference in table.references for name in reference.columns}
        for column in table.columns:
            name = column.name.lower()
            if name in taken or (column.key and len(table.primary_key) == 1):
                continue
            parts = words(column.name)
            found = keys.get(name, [])
            if not found and len(parts) > 1 and parts[-1] in _SUFFIXES:
                found = stems.get(tuple(parts[:-1]), [])
            found = [(target, key) for target, key in found if target.name != table.name or name != key.name.lower()]
            if len(found) != 1:
                continue  # none, or several: too much doubt
            target, key = found[0]
            if column.type and key.type and column.affinity != key.affinity:
                continue
            yield Reference(
                table=table.name,
                columns=(column.name,),
                target=target.name,
                target_columns=(key.name,),
                inferred=True,
                unique=table.is_unique((column.name,)),
                optional=column.nullable,
            )


def _stem(table: Table) -> tuple[str, ...]:
    """The words of a table's name without prefixes like `dimv_bs_`: `("material", "group")`."""
    parts = words(table.name)
    if parts and parts[0] in {"fact", "fct", "dim", "dimv", "tbl", "t", "d", "f", "v"}:
        parts = parts[1:]
        if len(parts) > 1 and len(parts[0]) <= 3:
            parts = parts[1:]
    return tuple(singular(part) for part in parts)
