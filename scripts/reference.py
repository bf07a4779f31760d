"""Writes the generated tables of docs/reference: settings, events, errors, command line, dialects.

    python scripts/reference.py            rewrites them
    python scripts/reference.py --check    exit code 1 and their names if one is stale

A table stands between `<!-- begin: name -->` and `<!-- end: name -->`; what is around it is written by hand.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import msgspec

from runcast import dialects, errors, events
from runcast.cli import main as command_line
from runcast.client import refusals

WHEN = {
    "internal": "Something went wrong on the server; the operator finds it by the request id.",
    "invalid_request": "The request is not understood: the message names the field. (400 or 422)",
    "unknown_file": "A message names a file that is not there, or not its sender's: the same answer for both.",
    "empty_file": "An uploaded file has no bytes.",
    "file_type_mismatch": "An uploaded file says it is something else than it is.",
    "unauthenticated": "No token, or one that is not valid (any more).",
    "forbidden": "This user or origin may not do that.",
    "not_found": "It is not there, or not yours: the same answer for both.",
    "conflict": "It does not fit what is there now.",
    "idempotency_conflict": "The same id was used before, for something else.",
    "run_active": "A run goes on in this thread, and the message was sent with `onBusy: reject`.",
    "run_ended": "The run has ended and can no longer be changed.",
    "already_decided": "The question was answered by somebody else.",
    "expired": "Nobody answered the question in time.",
    "payload_too_large": "A message or body is larger than allowed.",
    "unsupported_media_type": "A body, or an uploaded file, is of a type that is not taken.",
    "too_many_connections": "This user has as many WebSockets, event streams and long polls open as they may.",
    "too_many_files": "More was uploaded than sent; files that no message names go after a day.",
    "rate_limited": "Too much in too short a time; `retryAfterMs` says when again.",
    "queue_full": "Too many messages wait in this thread already.",
    "too_many_subscriptions": "This connection follows as many threads as it may.",
    "agent_error": "The agent failed. The sentence is its own, or says only that it failed and under which request id.",
    "timeout": "The run took longer than its limit.",
    "declined": "Inside an agent: a person said no, withdrew, or did not answer in time. Not caught, it ends the run as cancelled.",
    "nondeterministic": "A resumable agent was called again after a restart and did not do what it had done before.",
    "storage_unavailable": "The log could not be read or written; nothing was changed.",
    "sequence_conflict": "Inside the server: another append came first.",
    "lease_lost": "Inside the server: another owner has the thread now.",
    "trimmed": "What was asked for is no longer kept: an inbox's oldest part, or what follows an offset of a Durable Stream. Other readers of a stream get a `resync` instead.",
    "store_locked": "Another process writes to this database file.",
    "storage_full": "There is no room on the server's disk for a file; nothing of it was kept.",
    "store_corrupt": "The database file is damaged or not one of Runcast's.",
    "unavailable": "The server starts, stops, or is overloaded.",
    "config": "At the start: settings or agents that cannot be served. Never sent to a client.",
    "unreachable": "In the Python client: no connection could be made.",
    "refused": "In the Python client: the server refused with a code that this version does not know.",
    "log_changed": "In the Python client: the log that was being read has been replaced; read it anew.",
}
"""When each code is met. A code that is missing here fails the script, and so the tests."""

REFERENCE = Path(__file__).parent.parent / "docs" / "reference"


def settings() -> str:
    from runcast.config import describe_settings

    rows = ["| setting | variable | default | what it is |", "|---|---|---|---|"]
    rows += [f"| `{s.name}` | `{s.variable}` | `{s.default}` | {_cell(s.description)} |" for s in describe_settings()]
    return "\n".join(rows)


def agui() -> str:
    return "\n\n".join(_event(kind) for kind in events.AGUI)


def own() -> str:
    return "\n\n".join(_event(kind) for kind in events.OWN)


def codes() -> str:
    rows = ["| code | HTTP | again? | when |", "|---|---|---|---|"]
    seen: set[str] = set()
    for kind in _tree(errors.RuncastError):
        if kind.__module__ not in (errors.__name__, refusals.__name__) or kind.code in seen:
            continue
        seen.add(kind.code)
        again = "yes" if kind.retryable else "no"
        rows.append(f"| `{kind.code}` | {kind.status} | {again} | {_cell(WHEN[kind.code])} |")
    return "\n".join(rows)


def commands() -> str:
    context = click.Context(command_line, info_name="runcast", terminal_width=100, max_content_width=100)
    return "\n\n".join(_commands(command_line, context, "runcast"))


def _commands(group: click.Group, context: click.Context, path: str) -> Iterator[str]:
    for name in group.list_commands(context):
        command = group.commands[name]
        within = click.Context(command, parent=context, info_name=name, terminal_width=100, max_content_width=100)
        yield f"## {path} {name}\n\n```text\n{command.get_help(within).rstrip()}\n```"
        if isinstance(command, click.Group):
            yield from _commands(command, within, f"{path} {name}")


def loses() -> str:
    """Every dialect of ours, by the class that speaks it."""
    rows = ["| dialect | attach | lagging readers | what it has no word for |", "|---|---|---|---|"]
    found: dict[str, Any] = {}
    for module in pkgutil.iter_modules(dialects.__path__, f"{dialects.__name__}."):
        for kind in vars(importlib.import_module(module.name)).values():
            if getattr(kind, "__module__", "") == module.name and isinstance(getattr(kind, "attach", None), str):
                found.setdefault(kind.name, kind)
    for name, kind in sorted(found.items()):
        lost = getattr(kind, "loses", None)
        words = "not said" if lost is None else ", ".join(lost) or "nothing"
        lagging = "get text joined" if kind.joins else "get every event"
        rows.append(f"| `{name}` | {kind.attach} | {lagging} | {_cell(words)} |")
    return "\n".join(rows)


TABLES: dict[str, dict[str, Callable[[], str]]] = {
    "settings.md": {"settings": settings},
    "events.md": {"agui": agui, "own": own},
    "errors.md": {"codes": codes},
    "cli.md": {"commands": commands},
    "dialects.md": {"loses": loses},
}


def rendered(name: str) -> tuple[str, str]:
    """A page as it stands, and as it should."""
    stands = (REFERENCE / name).read_text("utf-8")
    should = stands
    for table, make in TABLES[name].items():
        begin, end = f"<!-- begin: {table} -->", f"<!-- end: {table} -->"
        before, _, rest = should.partition(begin)
        _, found, after = rest.partition(end)
        if not found:
            raise SystemExit(f"{name} has no place for {table!r}: it needs the lines {begin} and {end}")
        should = f"{before}{begin}\n\n{make()}\n\n{end}{after}"
    return stands, should


def _event(kind: type[events.Event]) -> str:
    name = str(kind.__struct_config__.tag)
    text = [f"### {name}"]
    if "__doc__" in vars(kind) and kind.__doc__:
        text.append(" ".join(inspect.cleandoc(kind.__doc__).split()))
    base = {field.name for field in msgspec.structs.fields(events.Event)}
    notes = _attribute_notes(kind)
    fields = [field for field in msgspec.structs.fields(kind) if field.name not in base]
    lines = [
        f"- `{field.encode_name}`{'' if field.required else ' (optional)'}"
        + (f": {notes[field.name]}" if field.name in notes else "")
        for field in fields
    ]
    return "\n\n".join([*text, "\n".join(lines)] if lines else text)


def _attribute_notes(kind: type[Any]) -> dict[str, str]:
    """The strings under the fields of a class."""
    (tree,) = ast.parse(inspect.cleandoc("\n" + inspect.getsource(kind))).body
    assert isinstance(tree, ast.ClassDef)
    notes: dict[str, str] = {}
    for field, after in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            match after:
                case ast.Expr(value=ast.Constant(value=str(note))):
                    notes[field.target.id] = " ".join(note.split())
                case _:
                    pass
    return notes


def _tree(kind: type[errors.RuncastError]) -> Iterator[type[errors.RuncastError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _tree(below)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def run(arguments: list[str]) -> int:
    stale = 0
    for name in TABLES:
        stands, should = rendered(name)
        if stands == should:
            continue
        stale += 1
        if "--check" in arguments:
            print(f"docs/reference/{name} is stale: run python scripts/reference.py")
        else:
            (REFERENCE / name).write_text(should, "utf-8")
            print(f"wrote docs/reference/{name}")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
