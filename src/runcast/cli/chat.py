"""`runcast chat`: talk to a running server from the terminal."""

from __future__ import annotations

import sys

import click


@click.command()
@click.argument("url", default="http://127.0.0.1:8000", envvar="RUNCAST_URL")
@click.option("--agent", help="Which agent to ask.  [default: the server's]")
@click.option("--thread", help="Go on with this conversation.")
@click.option("--message", "-m", help="Say this, show the answer, and leave.")
@click.option("--token", envvar="RUNCAST_TOKEN", help="Token of the server, if it asks for one.")
def chat(url: str, agent: str | None, thread: str | None, message: str | None, token: str | None) -> None:
    """Chat with the server at URL (default http://127.0.0.1:8000).

    Ctrl-C stops the run, twice leaves. Text on standard input is sent as one message; if standard output is no terminal,
    only the answer goes there. Exit code: 0 done, 1 failed, 3 it waits for an answer, 130 stopped.
    """
    import anyio

    from runcast.client import connect
    from runcast.ui.screen import Screen
    from runcast.ui.terminal import Keyboard
    from runcast.ui.terminal import chat as talk

    if message is None and not sys.stdin.isatty():
        message = sys.stdin.read().strip()
        if not message:
            raise click.UsageError("Standard input is empty: there is nothing to say.")
    is_terminal = sys.stdout.isatty()
    screen = Screen(sys.stdout, sys.stdout if is_terminal else sys.stderr, colours=is_terminal)
    read_line = Keyboard(sys.stdin.fileno()).line if sys.stdin.isatty() else None

    async def run() -> int:
        async with connect(url, token=token, on_state=screen.state) as client:
            if is_terminal and message is None:
                screen.line("Connected. Ctrl-C stops a run, twice leaves; /quit leaves.")
            return await talk(client, screen, read_line=read_line, thread=thread, agent=agent, message=message)

    sys.exit(anyio.run(run))
