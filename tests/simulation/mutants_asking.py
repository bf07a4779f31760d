"""Planted bugs of branches, steering and files."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from unittest.mock import patch

from runcast import events as e
from runcast.agents.context import RunContext
from runcast.agents.steering import Steering
from runcast.running import accepting, executions, stopping
from runcast.running.accepting import Acceptance
from runcast.running.appender import Appender
from runcast.running.branching import Branching
from runcast.running.lane import Lane
from runcast.running.recall import Recall
from runcast.running.stopping import Stopping
from runcast.runs import Run
from runcast.testing.memory_files import MemoryFiles
from runcast.uploads import Uploads

from .mutant import mutant
from .player import HUGE

# --- branching ----------------------------------------------------------------------------------------------------


_branching: ContextVar[bool] = ContextVar("branching", default=False)


@contextmanager
def _marked() -> Generator[None]:
    """While an edit or a retry is carried out, `_branching` says so."""
    original = Branching.branch

    async def branch(self: Branching, *args: Any, **kwargs: Any) -> Run:
        token = _branching.set(True)
        try:
            return await original(self, *args, **kwargs)
        finally:
            _branching.reset(token)

    with patch.object(Branching, "branch", branch):
        yield


@mutant("I6")
def a_branch_below_what_was_last() -> Generator[None]:
    """An edit follows whatever came last, as a new message would."""
    original = Acceptance.accept

    async def accept(self: Acceptance, lane: Lane, *args: Any, **kwargs: Any) -> Run:
        if _branching.get():
            kwargs["parent"] = lane.tip
        return await original(self, lane, *args, **kwargs)

    with _marked(), patch.object(Acceptance, "accept", accept):
        yield


@mutant("I6")
def a_retry_that_keeps_the_old_head() -> Generator[None]:
    """The new version is made, and the old one stays in sight."""
    original = Appender.write

    async def write(self: Appender, lane: Lane, events: Sequence[e.Event], **rows: Any) -> None:
        if _branching.get() and rows.get("head_run") is not None:
            rows["head_run"] = lane.tip
        await original(self, lane, events, **rows)

    with _marked(), patch.object(Appender, "write", write):
        yield


@mutant("I6")
def a_queue_behind_what_is_not_there() -> Generator[None]:
    """Another version takes a run's place, and what waited behind that still does."""
    with (
        patch.object(accepting, "moves", lambda lane, place, follows: {}),
        patch.object(stopping, "moves", lambda lane, place, follows: {}),
    ):
        yield


@mutant("I19")
def an_edit_that_lets_the_old_run_go_on() -> Generator[None]:
    """The new version is in the log, and the agent still works on the old one."""
    original = Stopping.request_cancel

    async def request_cancel(self: Stopping, *args: Any, **kwargs: Any) -> None:
        if not _branching.get():
            await original(self, *args, **kwargs)

    with _marked(), patch.object(Stopping, "request_cancel", request_cancel):
        yield


@mutant("I5", only=["lines"])
def a_retry_that_is_retried() -> Generator[None]:
    """An edit or a retry that is sent again makes one more version."""
    original = Acceptance.accept

    async def accept(self: Acceptance, lane: Lane, *args: Any, receipt: Any, **kwargs: Any) -> Run:
        if _branching.get():
            receipt = receipt._replace(key=f"{receipt.key}-{lane.head}")
        return await original(self, lane, *args, receipt=receipt, **kwargs)

    with _marked(), patch.object(Acceptance, "accept", accept):
        yield


# --- steering -----------------------------------------------------------------------------------------------------


@mutant("I18")
def a_steered_message_that_ends_with_the_run() -> Generator[None]:
    """What the agent had not read when its run ended is forgotten."""
    with patch.object(executions, "requeued", lambda *args, **kwargs: []):
        yield


@mutant("I18", only=["crash"])
def a_steered_message_that_dies_with_its_process() -> Generator[None]:
    """Whoever takes a thread over does not look for what was said and not read."""

    async def unread(self: Recall, thread: Any, run: str) -> tuple[Any, ...]:
        return ()

    with patch.object(Recall, "unread", unread):
        yield


@mutant("I5")
def a_steered_message_that_is_read_twice() -> Generator[None]:
    """What was read stays where it was, until it is read once more."""
    original = Steering.take
    read: set[str] = set()

    def take(self: Steering, message: Any) -> bool:
        if message.id in read:
            return original(self, message)
        read.add(message.id)
        return True

    with patch.object(Steering, "take", take):
        yield


@mutant("I5", "I6")
def a_steered_message_that_is_queued_too() -> Generator[None]:
    """What the agent has read comes once more when its run ends."""
    original = executions.requeued

    def requeued(lane: Any, run: Any, unread: Any, *args: Any, **kwargs: Any) -> Any:
        return original(lane, run, (*_read.pop(run.id, ()), *unread), *args, **kwargs)

    _read: dict[str, list[Any]] = {}
    context = RunContext.read

    async def read(self: RunContext, message: Any) -> None:
        _read.setdefault(self.input.run, []).append(message)
        await context(self, message)

    with patch.object(executions, "requeued", requeued), patch.object(RunContext, "read", read):
        yield


# --- files --------------------------------------------------------------------------------------------------------


@mutant("I6")
def a_file_that_no_conversation_holds() -> Generator[None]:
    """A message names a file, and it goes like one that nobody sent."""
    original = Appender.write

    async def write(self: Appender, lane: Lane, events: Sequence[e.Event], **rows: Any) -> None:
        await original(self, lane, events, **{**rows, "files": ()})

    with patch.object(Appender, "write", write):
        yield


@mutant("I6")
def a_file_that_outlives_its_conversation() -> Generator[None]:
    """A conversation is deleted, and what was sent in it stays."""
    with patch.object(MemoryFiles, "let_go", lambda self, thread: None):
        yield


@mutant("I3")
def a_blob_that_no_conversation_holds() -> Generator[None]:
    """The log says where the whole is, and it goes like a file that nobody sent."""
    original = MemoryFiles.bind

    def bind(self: MemoryFiles, thread: str, files: Sequence[str]) -> None:
        original(self, thread, [id for id in files if self._kept[id].file.size < HUGE])

    with patch.object(MemoryFiles, "bind", bind):
        yield


@mutant("I5", only=["lines", "doubt"])
def an_upload_that_is_kept_twice() -> Generator[None]:
    """A file that is sent again is another file."""
    original = Uploads._keep

    async def keep(self: Uploads, principal: Any, staging: Any, file: Any, key: str | None) -> Any:
        return await original(self, principal, staging, file, None)

    with patch.object(Uploads, "_keep", keep):
        yield
