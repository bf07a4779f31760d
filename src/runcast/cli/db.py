"""`runcast db …`: look after the database file: check, backup, vacuum, migrate, and one user's data."""

from __future__ import annotations

import datetime
import os
import shutil
import sys
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

import click

from runcast.cli.export import database_option, with_store
from runcast.errors import ConfigError, NotFound

if TYPE_CHECKING:
    from runcast.export import Entry
    from runcast.runs import Principal
    from runcast.stores.base import Store
    from runcast.stores.sqlite_check import Report

Command = TypeVar("Command", bound=Callable[..., Any])


@click.group()
def db() -> None:
    """Look after the database file."""


@db.command()
@database_option
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def check(database: str, as_json: bool) -> None:
    """Look whether the file is whole; a server may be running meanwhile.

    Every page, every event of every log, the rows of the runs and the search's index are looked at. Exit code 1 if
    something is damaged, with what it is.
    """
    import msgspec

    from runcast.stores.sqlite_check import check as look

    _must_exist(database)
    report = look(database)
    if as_json:
        whole = {"ok": report.is_whole, **msgspec.to_builtins(report)}
        click.echo(msgspec.json.format(msgspec.json.encode(whole), indent=2))
    else:
        _print(report)
    sys.exit(0 if report.is_whole else 1)


def _print(report: Report) -> None:
    click.echo(
        f"{report.threads} conversations of {report.owners} users, {report.runs} runs, {report.events} events; "
        f"{_bytes(report.bytes)}, format {report.format}"
    )
    for finding in report.findings:
        where = f" (conversation {finding.thread})" if finding.thread else ""
        click.echo(f"DAMAGED {finding.what}: {finding.message}{where}")
    if report.stopped:
        click.echo("… and more.")
    click.echo(
        "Everything is whole." if report.is_whole else "Restore the database from a backup, or save what is left."
    )


@db.command()
@click.argument("target", metavar="FILE", type=click.Path(dir_okay=False))
@database_option
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
def backup(target: str, database: str, force: bool) -> None:
    """Copy the database to FILE, also while a server writes to it.

    The copy is one state of the database, readable by its owner alone; the files go to FILE.files. To go back to it: stop the server, put FILE in the
    database's place and remove what else begins with the database's name.
    """
    from runcast.stores.sqlite_backup import back_up

    _must_exist(database)
    size = back_up(database, target, force=force)
    click.echo(f"Wrote {target} ({_bytes(size)})")


@db.command()
@database_option
def vacuum(database: str) -> None:
    """Give back the room of what was deleted, and remove its last traces.

    Not while a server runs. For a while it needs as much free room as the database has.
    """
    from runcast.stores.sqlite_backup import vacuum as work

    _must_exist(database)
    before, after = work(database)
    click.echo(f"{database}: {_bytes(before)} before, {_bytes(after)} now")


@db.command()
@database_option
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option(
    "--backup", "target", type=click.Path(dir_okay=False), help="Where the copy goes.  [default: FILE.format-N]"
)
def migrate(database: str, dry_run: bool, target: str | None) -> None:
    """Bring the database to this version's format, a copy first.

    A server does it by itself when it starts, without the copy.
    """
    from runcast.stores.sqlite_backup import formats
    from runcast.stores.sqlite_backup import migrate as work

    _must_exist(database)
    have, newest = formats(database)
    if have == newest:
        click.echo(f"{database} is up to date (format {newest}).")
        return
    target = target or f"{database}.format-{have}"
    if dry_run:
        click.echo(f"{database} would go from format {have} to {newest}, a copy to {target} first.")
        return
    work(database, target)
    click.echo(f"{database} went from format {have} to {newest}; as it was it is in {target}.")


def _user(command: Command) -> Command:
    command = database_option(command)
    command = click.option("--tenant", default="", help="The user's tenant, if there are tenants.")(command)
    return click.argument("user")(command)


@db.command("export-user")
@_user
@click.option(
    "--output", "-o", type=click.Path(), required=True, help="A file NAME.zip, or a directory that is not there yet."
)
def export_user(user: str, tenant: str, database: str, output: str) -> None:
    """Write everything that is kept of USER: conversations as JSON and Markdown, runs, files, the inbox.

    A server may be running meanwhile. Without authentication everybody is the user `local`.
    """
    from runcast.export import everything
    from runcast.runs import Principal

    _must_exist(database)
    target = Path(output)
    if target.exists():
        raise ConfigError(f"{output!r} is there already; name another one.")
    owner = Principal(user=user, tenant=tenant)

    count = 0

    async def entries(store: Store) -> AsyncGenerator[Entry]:
        nonlocal count
        now = int(datetime.datetime.now(datetime.UTC).timestamp() * 1000)
        is_empty = True
        async for entry in everything(store, owner, now=now):
            if is_empty and entry.name == "manifest.json":
                raise NotFound(f"There is nothing of the user {user!r} in this database.")
            is_empty = False
            count += entry.name.startswith("threads/") and entry.name.endswith(".json")
            yield entry

    if target.suffix.lower() == ".zip":
        with _new_file(target) as file:
            with_store(database, lambda store: _write_zip(entries(store), file))
    else:
        with _new_directory(target) as write:
            with_store(database, lambda store: _write_entries(entries(store), write))
    click.echo(f"Wrote {output} ({count} conversations)")


async def _write_zip(entries: AsyncGenerator[Entry], file: IO[bytes]) -> None:
    from runcast.export import zipped

    async for chunk in zipped(entries):
        file.write(chunk)


async def _write_entries(entries: AsyncGenerator[Entry], write: Callable[[str, bytes], None]) -> None:
    async for entry in entries:
        async for chunk in entry.chunks:
            write(entry.name, chunk)


@contextmanager
def _new_file(path: Path) -> Generator[IO[bytes]]:
    """A file for the owner alone; gone again if it cannot be finished."""
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            yield file
    except BaseException:
        path.unlink(missing_ok=True)
        raise


@contextmanager
def _new_directory(path: Path) -> Generator[Callable[[str, bytes], None]]:
    """What writes into files of a new directory, for the owner alone; gone again if it cannot be finished."""
    path.mkdir(mode=0o700)

    def write(name: str, chunk: bytes) -> None:
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("ab") as to:
            to.write(chunk)

    try:
        yield write
    except BaseException:
        shutil.rmtree(path)
        raise


@db.command("delete-user")
@_user
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete_user(user: str, tenant: str, database: str, yes: bool) -> None:
    """Delete everything that is kept of USER, for good, and rewrite the file so that no trace is left.

    Not while a server runs: there is DELETE /v1/me/data. Copies made before still have it.
    """
    import anyio

    from runcast.runs import Principal
    from runcast.stores.sqlite_backup import vacuum as rewrite

    _must_exist(database)
    owner = Principal(user=user, tenant=tenant)
    if not yes:
        click.confirm(f"Delete everything of the user {user!r} in {database}?", abort=True)
    count = anyio.run(_delete_user, database, owner)
    rewrite(database)
    click.echo(f"Deleted {count} conversations and all else of {user!r}.")


async def _delete_user(database: str, owner: Principal) -> int:
    from runcast.ids import SystemClock
    from runcast.stores.sqlite import SqliteStore

    clock = SystemClock()
    store = await SqliteStore.open(database)
    try:
        count = 0
        while threads := (
            (await store.list_threads(owner, limit=100)).threads
            or await store.hidden_threads(before=clock.now_ms() + 1, owner=owner)
        ):
            for thread in threads:
                now = clock.now_ms()
                fence = await store.acquire(thread.id, "runcast db", now=now, ttl_ms=60_000)
                await store.delete_thread(thread.id, fence=fence, now=now)
                count += 1
        await store.delete_owner(owner)
        return count
    finally:
        await store.close()


def _must_exist(database: str) -> None:
    if not Path(database).is_file():
        raise ConfigError(f"There is no database {database!r}. Name the server's file: --database FILE")


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
