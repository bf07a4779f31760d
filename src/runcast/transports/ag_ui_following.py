"""A thread's updates for an AG-UI stream: where something that was said does not count any more, the conversation is told anew.

These clients append, and can take nothing back: only a snapshot of all messages does.
"""

from __future__ import annotations

from runcast import events as e
from runcast.commands import Subscribe
from runcast.runs import Principal, Thread
from runcast.service import Service
from runcast.subscription import Subscription
from runcast.transcript import Transcript, dump
from runcast.updates import Events, ThreadSnapshot, Update


class Following:
    """A subscription that becomes one with a snapshot first, each time when `run` (any, if None) takes something back."""

    def __init__(self, service: Service, principal: Principal, inner: Subscription, run: str | None) -> None:
        self._service = service
        self._principal = principal
        self._inner = inner
        self._run = run
        self._took_back = False

    @property
    def thread(self) -> Thread:
        return self._inner.thread

    @property
    def epoch(self) -> str:
        return self._inner.epoch

    @property
    def ended(self) -> bool:
        return self._inner.ended

    async def next(self, timeout_s: float | None = None) -> Update | None:
        if self._took_back:
            before = self._inner
            self._inner = await self._service.subscribe(self._principal, Subscribe(id="", thread=before.thread.id))
            before.close()  # after the new one: somebody watches all the time
            self._took_back = False
        update = await self._inner.next(timeout_s)
        if isinstance(update, Events):
            for place, record in enumerate(update.records, 1):
                if self._takes_back(record.event):
                    self._took_back = True
                    return Events(update.records[:place])  # the snapshot has the rest, perhaps with the run's end
        return update

    def close(self) -> None:
        self._inner.close()

    def _takes_back(self, event: e.Event) -> bool:
        is_ours = self._run is None or event.run_id == self._run
        return is_ours and (
            isinstance(event, e.MessageRetracted) or (isinstance(event, e.RunRestarted) and event.anew is True)
        )


def nothing_yet() -> ThreadSnapshot:
    """What there is of a conversation that nobody has begun."""
    row = Thread(id="", user="", epoch="", created_at=0, updated_at=0)
    return ThreadSnapshot(0, "", row, dump(Transcript()))
