"""What the hub keeps of threads that nobody uses."""

from __future__ import annotations

from typing import Any

import pytest

from runcast import events as e
from runcast.hub import Hub
from runcast.runs import Principal, Thread
from runcast.stores.base import Write
from runcast.testing.memory_store import MemoryStore

pytestmark = pytest.mark.anyio


class Counting(MemoryStore):
    """Counts how often a log is read."""

    reads = 0

    async def read(self, *args: Any, **options: Any) -> Any:
        self.reads += 1
        return await super().read(*args, **options)


async def said(store: MemoryStore, id: str, *, characters: int) -> Thread:
    thread = await store.create_thread(Principal(), id, now=1)
    fence = await store.acquire(id, "node", now=1, ttl_ms=10_000)
    events = [e.MessagePosted(message={"id": "m", "role": "assistant", "content": "x" * characters})]
    await store.append(Write(thread=id, fence=fence, expected_seq=0, events=events), now=1)
    return thread


async def test_threads_stay_warm_up_to_a_size_in_all() -> None:
    store = Counting()
    hub = Hub(store, idle_bytes=50_000)
    threads = [await said(store, f"t{number}", characters=20_000) for number in range(3)]
    for thread in threads[:2]:
        await hub.snapshot(thread)
    read = store.reads
    for thread in threads[:2]:
        await hub.snapshot(thread)
    assert store.reads == read, "both are warm"
    await hub.snapshot(threads[2])
    read = store.reads
    await hub.snapshot(threads[1])
    assert store.reads == read, "the ones used last stay"
    await hub.snapshot(threads[0])
    assert store.reads > read, "the one used longest ago was let go"


async def test_a_thread_that_is_used_is_kept_whatever_its_size() -> None:
    store = Counting()
    hub = Hub(store, idle_bytes=1_000)
    thread = await said(store, "t", characters=20_000)
    hub.hold(thread.id)
    await hub.snapshot(thread)
    read = store.reads
    await hub.snapshot(thread)
    assert store.reads == read
    hub.let_go(thread.id)
    await hub.snapshot(thread)
    assert store.reads > read
