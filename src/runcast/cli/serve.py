"""`runcast serve` and `runcast demo`: agents, in front of people."""

from __future__ import annotations

import importlib.util
import webbrowser
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from runcast.errors import ConfigError

if TYPE_CHECKING:
    from runcast.agents.base import Agent
    from runcast.config import Settings

Command = TypeVar("Command", bound=Callable[..., Any])

SCENES = ("explorer", "thoughts")


def _dialects(context: click.Context, option: click.Parameter, given: tuple[str, ...]) -> dict[str, str] | None:
    from runcast.config import parse_paths

    try:
        pairs = [parse_paths(one) for one in given]
    except ValueError as error:
        raise click.BadParameter(f"{error}.", context, option) from None
    return {path: name for pair in pairs for path, name in pair.items()} or None


def server_options(command: Command) -> Command:
    """The options that are settings; one that is not given leaves its `RUNCAST_*` variable or default in force."""
    options = [
        click.option("--host", help="Address to listen on.  [default: 127.0.0.1]"),
        click.option("--port", type=click.IntRange(0, 65535), help="Port; 0 takes a free one.  [default: 8000]"),
        click.option(
            "--durability",
            type=click.Choice(["process", "power"]),
            help="What an acknowledged event survives: the end of the process, or also a power cut.  [default: process]",
        ),
        click.option("--title", help="Name shown in the page.  [default: the agent's name]"),
        click.option(
            "--dialect",
            "dialects",
            multiple=True,
            metavar="PATH=NAME",
            callback=_dialects,
            help="Serve a dialect at another path than its own, or `off`; again for more. For example /ws/chat=text.",
        ),
        click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"])),
        click.option("--open/--no-open", "open_page", default=False, help="Open the page in a browser."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.command()
@click.argument("agents", nargs=-1, required=True, metavar="MODULE:ATTR...")
@click.option("--database", type=click.Path(dir_okay=False), help="The SQLite file of the logs.  [default: runcast.db]")
@click.option(
    "--auth",
    type=click.Choice(["none", "jwt"]),
    help="Who is let in: this machine, or who has a token signed with RUNCAST_JWT_SECRET.  [default: none]",
)
@server_options
def serve(agents: tuple[str, ...], open_page: bool, **given: Any) -> None:
    """Serve one or more agents; the first is the default one.

    MODULE:ATTR names an agent in a Python module, for example my_agent:agent: a Pydantic AI agent, an async generator
    function, or anything with a run method.
    """
    from runcast.agents import loader
    from runcast.auth.configured import configured
    from runcast.server import check_open_host

    problems: list[str] = []
    settings: Settings | None = None
    loaded: list[Agent] = []
    try:
        settings = _settings(given)
        if configured(settings).is_open:
            check_open_host(settings.host)
    except ConfigError as error:
        problems.extend(error.problems)
    try:
        loaded = loader.load(*agents)
    except ConfigError as error:
        problems.extend(error.problems)
    if settings is None or problems:
        raise ConfigError("\n".join(problems), problems)
    _run(loaded, settings, open_page)


@click.command()
@click.argument("scene", required=False, type=click.Choice(SCENES))
@click.option("--database", type=click.Path(dir_okay=False, exists=True), help="Explorer: the SQLite file to explore.")
@click.option("--store", type=click.Path(dir_okay=False), help="Where the logs are kept.  [default: runcast-demo.db]")
@server_options
def demo(scene: str | None, database: str | None, store: str | None, open_page: bool, **given: Any) -> None:
    """Play a demo agent, offline and without a key.

    explorer answers questions about a real database and draws it (needs runcast[demo]); thoughts thinks aloud and needs
    nothing. Default: explorer if it can be played.
    """
    settings = _settings({**given, "database": store or "runcast-demo.db"})
    can_explore = importlib.util.find_spec("pydantic_ai") is not None
    if scene is None:
        scene = "explorer" if can_explore else "thoughts"
        if not can_explore:
            click.echo("Playing thoughts. For explorer, which shows a real database: pip install 'runcast[demo]'")
    if scene == "explorer" and not can_explore:
        raise ConfigError("The explorer scene needs Pydantic AI: pip install 'runcast[demo]'")
    if database is not None and scene != "explorer":
        raise ConfigError("--database is for the explorer scene; --store says where the logs are kept.")
    _run([_scene(scene, database)], settings, open_page)


def _scene(name: str, database: str | None) -> Agent:
    if name == "thoughts":
        from runcast.scenes import thoughts

        return thoughts.make()
    from runcast.scenes import explorer

    return explorer.runcast_agent(database=database)


def _settings(given: dict[str, Any]) -> Settings:
    from runcast.config import Settings

    return Settings(**{name: value for name, value in given.items() if value is not None})


def _run(agents: list[Agent], settings: Settings, open_page: bool) -> None:
    import logging

    from runcast.server import Server
    from runcast.server import serve as run

    def started(url: str) -> None:
        click.echo(f"Runcast serves {', '.join(agent.name for agent in agents)} on {url}   (Ctrl-C stops)")
        click.echo(f"The log is {settings.database}")
        if open_page:
            webbrowser.open(url)

    # uvicorn tells of its own start and stop; one line of ours says the same.
    logging.getLogger("uvicorn.error").addFilter(lambda record: record.levelno > logging.INFO)
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    run(Server(agents, settings=settings), on_started=started)
