"""Handing messages to a pydantic-ai agent that runs: before its next request to the model, or instead of its end.

pydantic-ai's own queue does it (`RunContext.enqueue`): what is enqueued becomes part of the next request, or leads to one
more when the agent would have ended, and an `EnqueuedMessagesEvent` says when the model gets it. Then it counts as read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, cast

from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.messages import EnqueuedMessagesEvent
from pydantic_ai.tools import DeferredToolRequests
from pydantic_ai.tools import RunContext as PydanticContext
from pydantic_graph import End

from runcast.agents.context import RunContext
from runcast.agents.pydantic_ai_files import Sent, said_in
from runcast.runs import Message

_GOES_ON: Final = object()


class Steerer(AbstractCapability[Any]):
    """One per run: enqueues what was handed over, each message once. `again`: what an attempt before this one had read, and what
    the messages that this one goes on from lack; it comes first."""

    def __init__(self, context: RunContext, sent: dict[str, Sent], again: Sequence[Message] = ()) -> None:
        self._context = context
        self._sent = sent
        self._again = again
        self.heard: list[str] = []
        """Ids of the messages that a request to the model has had, in order."""
        self._enqueued: dict[str, Message] = {}
        """By pydantic-ai's id of the queued message."""
        self._given: set[str] = set()

    async def before_model_request(self, ctx: PydanticContext[Any], request_context: Any) -> Any:
        await self._enqueue(ctx)
        return request_context

    async def after_node_run(self, ctx: PydanticContext[Any], *, node: Any, result: Any) -> Any:
        # A run that is about to ask a person is left to ask: what it was told meanwhile is queued behind the answer.
        output: object = cast(Any, result).data.output if isinstance(result, End) else _GOES_ON
        if output is not _GOES_ON and not isinstance(output, DeferredToolRequests):
            await self._enqueue(ctx)
        return cast(Any, result)

    async def read(self, event: EnqueuedMessagesEvent) -> None:
        """The model gets it with the request that begins now."""
        message = self._enqueued.pop(event.enqueue_id, None)
        if message is not None:
            self.heard.append(message.id)
            await self._context.read(message)  # of one that was read before nothing more is said

    async def _enqueue(self, ctx: PydanticContext[Any]) -> None:
        for message in (*self._again, *self._context.handed.unread):
            if message.id in self._given:
                continue
            self._given.add(message.id)
            content = await said_in(message, self._context, self._sent)
            if content and (id := ctx.enqueue(*content)) is not None:
                self._enqueued[id] = message
