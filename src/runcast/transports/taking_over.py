"""What a new socket of a browser says of the runs that another one was lost with."""

from __future__ import annotations

from collections.abc import Sequence

from runcast.dialects.base import Encoder, Frame, Start, TalkDialect
from runcast.events import TERMINAL, Record
from runcast.service import Service
from runcast.transports.deliveries import LostRun, Mark, reaches
from runcast.transports.speech import Speech, newest
from runcast.transports.whole import whole
from runcast.updates import Events, Update


class From:
    """An encoder that says nothing before a mark."""

    def __init__(self, encoder: Encoder, mark: Mark) -> None:
        self._encoder = encoder
        self._mark = mark

    def encode(self, record: Record) -> Sequence[Frame]:
        return [frame for frame in self._encoder.encode(record) if reaches(frame, self._mark)]

    def update(self, update: Update) -> Sequence[Frame]:
        return [frame for frame in self._encoder.update(update) if reaches(frame, self._mark)]


async def tell_rest(service: Service, dialect: TalkDialect, speech: Speech, lost: LostRun) -> bool:
    """Say what did not reach the lost socket, then go on live; whether the run's end was said: false if it was deleted."""
    subscription = await service.subscribe_run(speech.principal, lost.run)
    start, cursor = subscription.start, subscription.start
    first = Start(lost.thread, subscription.epoch, start, lost.run, lost.conversation, lost.options)
    encoder = From(dialect.encoder(first), lost.mark)
    try:
        # Up to the mark page by page, because pages are not joined: a delta over the mark would be said twice.
        while cursor < lost.mark.seq:
            records = (await service.read_run(speech.principal, lost.run, after=cursor)).records
            if not records:
                break
            update: Update = Events(records)
            if dialect.whole_results:
                update = await whole(service, speech.principal, update)
            await speech.say(newest(encoder.update(update)))
            cursor = records[-1].seq
            if isinstance(records[-1].event, TERMINAL):
                return True
    finally:
        subscription.close()
    subscription = await service.subscribe_run(speech.principal, lost.run, after=cursor)
    try:
        return await speech.tell(subscription, encoder, until_run=lost.run)
    finally:
        subscription.close()


async def tell_ends(service: Service, dialect: TalkDialect, speech: Speech, runs: Sequence[LostRun]) -> None:
    """Say how these runs ended, when all of them are over: nobody knows which of them is this client's."""
    ends: list[Frame] = []
    for run in runs:
        encoder = dialect.encoder(Start(run.thread, "", 0, run.run, run.conversation, run.options))
        subscription = await service.subscribe_run(speech.principal, run.run)
        try:
            async for update in subscription:
                if dialect.whole_results:
                    update = await whole(service, speech.principal, update)
                # Not said of a place in the log: it tells nothing of what the client has.
                ends += [frame._replace(seq=None) for frame in encoder.update(update) if frame.ends]
        finally:
            subscription.close()
    await speech.say(ends)
