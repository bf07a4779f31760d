"""The store's SQL, kept as SQL: named statements with a sentence each, and numbered migrations.

A statement in `statements.sql` is a line `-- name: word`, lines of comment that describe it, then the SQL up to `;` at
the end of a line. A migration is a file `0001_word.sql`; its number is the file version (`PRAGMA user_version`) that it
leads to. Migrations only go forward and a published one never changes.
"""

from __future__ import annotations

import re
from importlib.resources import files
from typing import NamedTuple

_STATEMENT = re.compile(r"^-- name: (\w+)\n((?:--[^\n]*\n)+)(.+?;)$", re.MULTILINE | re.DOTALL)
_MIGRATION = re.compile(r"(\d{4})_\w+\.sql\Z")


class Statement(NamedTuple):
    description: str
    sql: str


class Migration(NamedTuple):
    version: int
    script: str


def load_statements() -> dict[str, Statement]:
    """All statements of `statements.sql` by name."""
    text = files(__name__).joinpath("statements.sql").read_text("utf-8")
    return {
        name: Statement(" ".join(line.removeprefix("--").strip() for line in comment.splitlines()), sql)
        for name, comment, sql in _STATEMENT.findall(text)
    }


def load_migrations() -> list[Migration]:
    """All migrations, by number."""
    found = [(match, file) for file in files(__name__).iterdir() if (match := _MIGRATION.match(file.name))]
    return sorted(Migration(int(match[1]), file.read_text("utf-8")) for match, file in found)


STATEMENTS = load_statements()
SQL: dict[str, str] = {name: statement.sql for name, statement in STATEMENTS.items()}
