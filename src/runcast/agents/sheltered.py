"""What goes on for a while although its run was told to stop: tools that declared so by `on_cancel`.

    cooperative   cancelled where it awaits (the default)
    finish        ends, and its result is recorded before the run's end
    detach        goes on without the run, which ends at once; its result is dropped

For all of them the runner's deadline holds (10 s): what has not ended by then is cancelled.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Literal, get_args

import anyio

from runcast.errors import RunEnded
from runcast.events import Event, ToolCallResult

logger = logging.getLogger("runcast.agents")

OnCancel = Literal["cooperative", "detach", "finish"]

Emit = Callable[[Event], Awaitable[None]]


class Sheltered:
    """The tools of one run that Stop does not stop at once."""

    def __init__(self) -> None:
        self._scopes: dict[anyio.CancelScope, OnCancel] = {}
        self._changed = anyio.Event()

    @contextmanager
    def during(self, policy: OnCancel) -> Generator[None]:
        """A tool of this policy is at work in the block. On `end` it is cancelled whatever its policy."""
        if policy == "cooperative":
            yield
            return
        with anyio.CancelScope(shield=True) as scope, self.tracked(scope, policy):
            yield

    @contextmanager
    def tracked(self, scope: anyio.CancelScope, policy: OnCancel) -> Generator[None]:
        """The same for a tool whose task nobody cancels as long as it is counted here."""
        self._scopes[scope] = policy
        try:
            yield
        finally:
            del self._scopes[scope]
            self._changed.set()
            self._changed = anyio.Event()

    def has(self, policy: OnCancel) -> bool:
        """Whether a tool of this policy is at work."""
        return policy in self._scopes.values()

    async def wait(self) -> None:
        """Until none is at work."""
        while self._scopes:
            await self._changed.wait()

    def end(self) -> None:
        """The time is over: cancel them."""
        for scope in tuple(self._scopes):
            scope.cancel()

    @staticmethod
    def emitter(emit: Emit, policy: OnCancel) -> Emit:
        """`emit` for a tool of this policy: what a detached one says once its run is over is dropped."""
        if policy != "detach":
            return emit

        async def drop(event: Event) -> None:
            try:
                await emit(event)
            except RunEnded:
                if isinstance(event, ToolCallResult):
                    fields = {"action": "tool_result_dropped", "call": event.tool_call_id}
                    logger.info("a detached tool ended after its run; its result was dropped", extra=fields)

        return drop


def check_on_cancel(policy: str) -> None:
    """
    Raises:
        ValueError: there is no such policy.
    """
    if policy not in get_args(OnCancel):
        raise ValueError(f"on_cancel is cooperative, detach or finish, not {policy!r}.")
