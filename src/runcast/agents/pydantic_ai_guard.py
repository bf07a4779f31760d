"""What happens around each tool and each request of a pydantic-ai run that Runcast serves.

A tool of a run that may be taken up again begins only when its call is in the log. Tools that declared `finish` or `detach`
are counted, so that Stop leaves them their time; meanwhile nothing new begins: no other tool, no request to the model.
"""

from __future__ import annotations

from typing import Any

import anyio
from pydantic_ai.capabilities import AbstractCapability

from runcast.agents.context import RunContext
from runcast.agents.sheltered import OnCancel
from runcast.errors import RunEnded

ANNOUNCED_S = 2.0
"""A call is announced before its tool begins; one that never is does not wait longer than this."""


class Guard(AbstractCapability[Any]):
    """One per run. `policy` says of a tool what Stop does to it."""

    def __init__(self, context: RunContext, policies: dict[str, OnCancel]) -> None:
        self.stopped = False
        """Somebody stopped the run: nothing new begins."""
        self._context = context
        self._policies = policies
        self._announced: set[str] = set()
        self._more = anyio.Event()

    def policy(self, tool: str) -> OnCancel:
        return self._policies.get(tool, "cooperative")

    def announce(self, call: str) -> None:
        """The call was given to the log."""
        self._announced.add(call)
        self._more.set()
        self._more = anyio.Event()

    async def wrap_tool_execute(self, ctx: Any, *, call: Any, tool_def: Any, args: Any, handler: Any) -> Any:
        del ctx, tool_def
        with anyio.move_on_after(ANNOUNCED_S):
            while call.tool_call_id not in self._announced:
                await self._more.wait()
        await self._context.flush()
        if self.stopped:
            await anyio.sleep_forever()
        policy = self.policy(call.tool_name)
        if policy == "cooperative":
            return await handler(args)
        with anyio.CancelScope() as scope, self._context.sheltered.tracked(scope, policy):
            return await handler(args)
        raise RunEnded(f"The tool {call.tool_name} was stopped at the run's deadline.")

    async def before_model_request(self, ctx: Any, request_context: Any) -> Any:
        del ctx
        if self.stopped:
            await anyio.sleep_forever()
        return request_context
