"""The command line. (Being written.)"""

from __future__ import annotations

import click


@click.group()
@click.version_option(package_name="runcast")
def main() -> None:
    """Put any Python AI agent live in front of people, and never lose a run."""
