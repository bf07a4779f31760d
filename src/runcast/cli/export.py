"""`runcast export` and `runcast threads`: conversations out of a database file, also while a server writes to it."""

from __future__ import annotations

import datetime
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

import click

from runcast.errors import ConfigError, NotFound

if TYPE_CHECKING:
    from runcast.runs import Thread
    from runcast.stores.base import Store

Item = TypeVar("Item")

database_option = click.option(
    "--database",
    type=click.Path(dir_okay=False),
    default="runcast.db",
    show_default=True,
    envvar="RUNCAST_DATABASE",
    help="The SQLite file of the logs.",
)


@click.command()
@database_option
@click.option("--query", default="", help="Only those in which all these words occur.")
@click.option("--limit", type=click.IntRange(1, 100), default=20, show_default=True)
def threads(database: str, query: str, limit: int) -> None:
    """List the newest conversations."""

    async def work(store: Store) -> list[Thread]:
        from runcast.runs import Principal

        return (await store.list_threads(Principal(), query=query, limit=limit)).threads

    for thread in with_store(database, work):
        when = datetime.datetime.fromtimestamp(thread.updated_at / 1000, datetime.UTC).astimezone()
        status = thread.status or "-"
        click.echo(f"{thread.id}  {when:%Y-%m-%d %H:%M}  {status:<11}  {thread.title or '(no title)'}")


@click.command()
@click.argument("thread")
@click.option("--format", "form", type=click.Choice(["md", "json"]), default="md", show_default=True)
@click.option(
    "--run",
    metavar="ID",
    help="The version that this run is part of.  [default: the newest]",
)
@click.option(
    "--output", "-o", type=click.Path(dir_okay=False, writable=True), help="File to write.  [default: stdout]"
)
@database_option
def export(thread: str, form: Literal["md", "json"], run: str | None, output: str | None, database: str) -> None:
    """Write one conversation as Markdown, or whole (every event of its log) as JSON.

    Where messages were edited or tried again, Markdown has one version of it: the newest, or the one over --run. JSON has all of
    them in its events; with --run its transcript is that version's.
    """

    async def work(store: Store) -> bytes:
        return await _export(store, thread, form, run)

    data = with_store(database, work)
    if output is None:
        click.echo(data, nl=False)
    else:
        Path(output).write_bytes(data)
        click.echo(f"Wrote {output} ({len(data)} bytes)", err=True)


async def _export(store: Store, thread_id: str, form: Literal["md", "json"], run: str | None) -> bytes:
    from runcast.export import HEAD, Conversation

    thread = await store.get_thread(thread_id)
    if thread is None:
        raise NotFound(f"There is no conversation {thread_id!r} in this file. `runcast threads` lists them.")
    conversation = Conversation(store, thread, run=run or (HEAD if form == "md" else None))
    if form == "md":
        return await conversation.markdown()
    return b"".join([chunk async for chunk in conversation.json()])


def with_store(database: str, work: Callable[[Store], Awaitable[Item]]) -> Item:
    import anyio

    if not Path(database).is_file():
        raise ConfigError(f"There is no database {database!r}. Name the server's file: --database FILE")

    async def run() -> Item:
        async with _open(database) as store:
            return await work(store)

    return anyio.run(run)


@asynccontextmanager
async def _open(database: str) -> AsyncGenerator[Store, None]:
    from runcast.stores.sqlite import SqliteStore

    store = await SqliteStore.open(database, read_only=True)
    try:
        yield store
    finally:
        await store.close()
