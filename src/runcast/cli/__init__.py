"""The command line: `runcast serve | demo | chat | export | threads | db`.

One clear message per problem, all of them at once; exit code 2 for what the caller must change, 1 for what went wrong; a
traceback only with `--debug`. Commands import what they need when they run, so that `--help` is instant.
"""

from __future__ import annotations

import sys
from typing import Any

import click

from runcast.cli.chat import chat
from runcast.cli.db import db
from runcast.cli.export import export, threads
from runcast.cli.serve import demo, serve
from runcast.errors import ConfigError, RuncastError


class _Main(click.Group):
    """Turns our errors into messages, for every command alike."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            if ctx.params.get("debug"):
                raise
            for problem in error.problems:
                click.echo(f"runcast: {problem}", err=True)
            sys.exit(2)
        except RuncastError as error:
            if ctx.params.get("debug"):
                raise
            click.echo(f"runcast: {error.message}", err=True)
            sys.exit(1)
        except OSError as error:
            if ctx.params.get("debug"):
                raise
            click.echo(f"runcast: {error}", err=True)
            sys.exit(1)


@click.group(cls=_Main, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(None, "-V", "--version", package_name="runcast", prog_name="runcast")
def main(debug: bool) -> None:
    """Put any Python AI agent live in front of people, and never lose a run."""
    del debug  # read from the context where an error is shown


main.add_command(serve)
main.add_command(demo)
main.add_command(chat)
main.add_command(threads)
main.add_command(export)
main.add_command(db)
