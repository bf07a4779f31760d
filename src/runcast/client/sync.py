"""The client for programs without an event loop: the same methods, blocking.

    with connect("http://127.0.0.1:8000") as client:
        run = client.send("Show me all tables")
        for event in run.events():
            print(event)

A façade: one event loop in a thread of its own does the work of `runcast.client.Client`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Any, TypeVar

import anyio.from_thread

from runcast.client import client as asynchronous
from runcast.client.effects import StateChanged
from runcast.client.upload import Source, UploadedFile
from runcast.events import Event
from runcast.runs import OnBranch, OnBusy
from runcast.transcript import Transcript

Item = TypeVar("Item")


class SentRun:
    """As `runcast.client.SentRun`."""

    def __init__(self, portal: anyio.from_thread.BlockingPortal, run: asynchronous.SentRun) -> None:
        self._portal = portal
        self._run = run
        self.thread = run.thread
        self.id = run.id
        self.seq = run.seq
        self.replayed = run.replayed

    def __repr__(self) -> str:
        return repr(self._run)

    def events(self) -> Generator[Event, None, None]:
        return _iterate(self._portal, self._run.events())

    def text(self) -> str:
        return self._portal.call(self._run.text)

    def cancel(self, reason: str | None = None) -> str:
        return self._portal.call(self._run.cancel, reason)


class Client:
    """As `runcast.client.Client`; its methods may be called from any thread."""

    def __init__(self, portal: anyio.from_thread.BlockingPortal, client: asynchronous.Client) -> None:
        self._portal = portal
        self._client = client

    def send(
        self,
        content: str | list[dict[str, Any]],
        *,
        thread: str | None = None,
        agent: str | None = None,
        on_busy: OnBusy = "enqueue",
        parent_run_id: str | None = None,
        id: str | None = None,
    ) -> SentRun:
        async def call() -> asynchronous.SentRun:
            return await self._client.send(
                content, thread=thread, agent=agent, on_busy=on_busy, parent_run_id=parent_run_id, id=id
            )

        return SentRun(self._portal, self._portal.call(call))

    def cancel(self, *, run: str | None = None, thread: str | None = None, reason: str | None = None) -> str:
        return self._call(lambda: self._client.cancel(run=run, thread=thread, reason=reason))

    def resolve(self, interrupt: str, *, approved: bool | None = None, payload: Any = None) -> str | None:
        return self._call(lambda: self._client.resolve(interrupt, approved=approved, payload=payload))

    def steer(self, run: str, content: str | list[dict[str, Any]], *, id: str | None = None) -> SentRun:
        return SentRun(self._portal, self._call(lambda: self._client.steer(run, content, id=id)))

    def edit(
        self, run: str, content: str | list[dict[str, Any]], *, on_busy: OnBranch = "enqueue", id: str | None = None
    ) -> SentRun:
        return SentRun(self._portal, self._call(lambda: self._client.edit(run, content, on_busy=on_busy, id=id)))

    def retry(self, run: str, *, on_busy: OnBranch = "enqueue", id: str | None = None) -> SentRun:
        return SentRun(self._portal, self._call(lambda: self._client.retry(run, on_busy=on_busy, id=id)))

    def follow(self, thread: str, *, after: int = 0, epoch: str | None = None) -> Generator[Event, None, None]:
        return _iterate(self._portal, self._client.follow(thread, after=after, epoch=epoch))

    def watch(self, thread: str) -> Generator[Transcript, None, None]:
        return _iterate(self._portal, self._client.watch(thread))

    def upload_file(
        self, source: Source, *, name: str | None = None, mime_type: str | None = None, id: str | None = None
    ) -> UploadedFile:
        return self._call(lambda: self._client.upload_file(source, name=name, mime_type=mime_type, id=id))

    def agents(self) -> list[dict[str, Any]]:
        return self._portal.call(self._client.agents)

    def threads(self, query: str = "") -> list[dict[str, Any]]:
        return self._portal.call(self._client.threads, query)

    def _call(self, make: Callable[[], Awaitable[Item]]) -> Item:
        async def call() -> Item:
            return await make()

        return self._portal.call(call)


@contextmanager
def connect(
    url: str = "http://127.0.0.1:8000",
    *,
    token: asynchronous.Token | None = None,
    patient: bool = False,
    on_state: Callable[[StateChanged], None] | None = None,
) -> Generator[Client, None, None]:
    """As `runcast.client.connect`. `on_state` is called in the client's own thread."""
    connecting = asynchronous.connect(url, token=token, patient=patient, on_state=on_state)
    with anyio.from_thread.start_blocking_portal() as portal, portal.wrap_async_context_manager(connecting) as client:
        yield Client(portal, client)


def _iterate(
    portal: anyio.from_thread.BlockingPortal, items: AsyncGenerator[Item, None]
) -> Generator[Item, None, None]:
    try:
        while True:
            try:
                item = portal.call(items.__anext__)
            except StopAsyncIteration:
                return
            yield item
    finally:
        portal.call(items.aclose)
