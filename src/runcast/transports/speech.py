"""What is said on one socket in a message dialect: runs as subscriptions tell them, and what went wrong beside them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import anyio.lowlevel

from runcast.dialects.base import Encoder, Frame, TalkDialect
from runcast.errors import ClientError, NotFound, RuncastError, describe
from runcast.events import TERMINAL
from runcast.runs import Principal
from runcast.session import NOT_FOUND_MESSAGE
from runcast.subscription import RunSubscription, Subscription
from runcast.transports.gateway import Gateway
from runcast.transports.outlet import Outlet
from runcast.transports.turns import EndedRuns
from runcast.transports.whole import is_cut, whole
from runcast.updates import Events, Resync

logger = logging.getLogger("runcast.talk")


class Speech:
    """`principal` is whoever listens, to be set before anything is told; `on_said` learns of each frame that was written."""

    def __init__(
        self,
        gateway: Gateway,
        dialect: TalkDialect,
        outlet: Outlet,
        request_id: str,
        on_said: Callable[[Frame], None] = lambda _: None,
    ) -> None:
        self._gateway = gateway
        self._dialect = dialect
        self._outlet = outlet
        self._request_id = request_id
        self._on_said = on_said
        self.principal: Principal
        self.ended = EndedRuns()
        self.over = False
        """Whether the connection is: nothing more is told."""
        self._at_end = False
        """Whether the last frame was an end: of a run, or of what the client asked."""

    async def say(self, frames: Iterable[Frame]) -> None:
        for frame in frames:
            try:
                await self._outlet.send(frame.data)
            except OSError:  # uvicorn's ClientDisconnected is one
                self.over = True
                return
            self._at_end = frame.ends
            self._on_said(frame)

    async def refuse(self, code: str, message: str) -> None:
        """What the client asked comes to nothing."""
        await self.say(self._dialect.error(code, message, request_id=self._request_id))
        self._at_end = True

    async def say_error(self, error: BaseException) -> None:
        code, message = describe(error)
        if isinstance(error, NotFound):
            message = NOT_FOUND_MESSAGE
        if not isinstance(error, ClientError):
            level = logging.WARNING if isinstance(error, RuncastError) else logging.ERROR
            logger.log(level, "message failed", exc_info=error, extra={"request_id": self._request_id})
        await self.refuse(code, message)

    async def say_last(self, code: str, message: str) -> None:
        """The error before a close, for clients that have no word for a close; nothing right behind an end."""
        if not self._at_end:
            await self.refuse(code, message)

    async def tell(
        self, subscription: Subscription | RunSubscription, encoder: Encoder, *, until_run: str | None = None
    ) -> bool:
        """Say what a subscription says, in this dialect. With `until_run` it returns true behind that run's last frame; false
        when the subscription is over before."""
        subscription.deliver_to(partial(self._deliver, encoder))
        async for update in subscription:
            if self._dialect.whole_results:
                update = await whole(self._gateway.service, self.principal, update)
            frames = newest(encoder.update(update))
            await self.say(frames)
            if self.over:
                return False
            if isinstance(update, Events):
                for record in update.records:
                    if isinstance(record.event, TERMINAL) and isinstance(record.event.run_id, str):
                        self.ended.add(record.event.run_id)
                if until_run is not None and until_run in self.ended:
                    return True
            elif isinstance(update, Resync) and update.reason == "deleted":
                return False
            frames = update = ()  # while this reader is stuck it holds nothing but what is in its socket (I10)
            if self._outlet.is_full:
                await self._outlet.room()
            else:
                await anyio.lowlevel.checkpoint()  # a replay may never wait otherwise, and others want their turn
        return False

    def _deliver(self, encoder: Encoder, update: Events) -> bool:
        """What a reader that is caught up is given inside the step that commits; whether it could be. How runs end is left to
        the reader, and so is what must be read first."""
        if self.over or not self._outlet.has_room:
            return False
        if any(isinstance(record.event, TERMINAL) for record in update.records):
            return False
        if self._dialect.whole_results and is_cut(update):
            return False
        for frame in newest(encoder.update(update)):
            self._outlet.write(frame.data)
            self._at_end = False
            self._on_said(frame)
        return True


def newest(frames: Iterable[Frame]) -> Sequence[Frame]:
    """Without the frames that a later one of the same batch supersedes."""
    kept = list(frames)
    last = max((index for index, frame in enumerate(kept) if frame.supersedes), default=-1)
    return [frame for index, frame in enumerate(kept) if not frame.supersedes or index == last]
