"""Planted bugs of runs that begin again after their process died, or end when nobody watches them any more."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any
from unittest.mock import patch

from runcast import events as e
from runcast.agents.context import RunContext
from runcast.running import restarting
from runcast.running.recall import Recall
from runcast.running.recorder import Recorder
from runcast.running.restarting import Restarting
from runcast.running.runner import Runner
from runcast.running.watching import Watching
from runcast.runs import Run

from .mutant import mutant

# --- beginning again ----------------------------------------------------------------------------------------------


@mutant("I11", only=["crash"])
def a_restart_without_retraction() -> Generator[None]:
    """A run begins again, and what it said before still stands."""
    with patch.object(restarting, "_retracted", lambda run, kept: []):
        yield


@mutant("I21", only=["crash"])
def a_fourth_attempt() -> Generator[None]:
    """A run that takes its process down with it is begun again and again."""
    with patch.object(restarting, "ATTEMPTS", 99):
        yield


@mutant("I20", only=["crash"])
def a_tool_that_begins_before_its_call_is_written() -> Generator[None]:
    """The log does not know yet that the tool works, and the process dies."""

    async def flush(self: RunContext) -> None:
        return None

    with patch.object(RunContext, "flush", flush):
        yield


@mutant("I20", only=["crash"])
def a_restart_that_does_not_ask_what_was_done() -> Generator[None]:
    """A tool that must not run twice had begun, and its run begins again."""
    original = Restarting._seen

    async def seen(self: Restarting, thread: Any, run: Run) -> Any:
        return (await original(self, thread, run))._replace(began={})

    with patch.object(Restarting, "_seen", seen):
        yield


@mutant("I11", only=["crash"])
def a_resumed_run_that_does_not_know_where_it_stood() -> Generator[None]:
    """What was kept stays, and the agent is not told of it."""

    async def left(self: Recall, thread: Any, run: Run) -> None:
        return None

    with patch.object(Recall, "left", left):
        yield


@mutant("I16", "I23", only=["crash"])
def a_restart_that_closes_nothing() -> Generator[None]:
    """What was open when the process died is open when the run begins again."""

    class Careless(Recorder):
        def close(self, ending: Any, **more: Any) -> list[e.Event]:
            return []

    with patch.object(restarting, "Recorder", Careless):
        yield


# --- watching -----------------------------------------------------------------------------------------------------


@mutant("I19", only=["slow"])
def a_grace_that_nobody_ends() -> Generator[None]:
    """Somebody is back, and the run is stopped all the same."""

    def told(self: Watching, thread: str, watched: bool) -> None:
        if not watched and thread not in self._graces:
            self._begin_grace(thread, self._runs_of(thread))

    with (
        patch.object(Watching, "_told", told),
        patch.object(Runner, "_stop_unwatched", _stop_all(Runner._stop_unwatched)),
    ):
        yield


def _stop_all(original: Any) -> Any:
    async def stop(self: Runner, thread: str, runs: Any) -> None:
        with patch.object(self._hub, "watchers", lambda thread: 0):
            await original(self, thread, runs)

    return stop


@mutant("I19", only=["slow"])
def watchers_whose_leaving_nobody_notices() -> Generator[None]:
    """Everybody is gone, and the run goes on."""
    with patch.object(Watching, "_begin_grace", lambda self, thread, runs: None):
        yield
