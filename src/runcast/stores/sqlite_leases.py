"""Who owns which thread, in the memory of the one process that writes to the file. No I/O.

Only one process can write, so a lease need not survive it: when the file is opened all leases of the dead process are
void. What must survive is the order of fences: they begin above `boot << 32`, and `boot` is counted in the file.
"""

from __future__ import annotations

from typing import NamedTuple

from runcast.errors import LeaseLost


class Lease(NamedTuple):
    owner: str
    fence: int
    until: int
    """Unix milliseconds. After it another owner may take the thread; until one does, the fence stays good."""


class Leases:
    def __init__(self, boot: int) -> None:
        self._fence = boot << 32
        self._by_thread: dict[str, Lease] = {}

    def __contains__(self, thread: str) -> bool:
        return thread in self._by_thread

    def check(self, thread: str, fence: int) -> None:
        """Raises: LeaseLost: `fence` is not the thread's current one."""
        lease = self._by_thread.get(thread)
        if lease is None or lease.fence != fence:
            raise LeaseLost("Another owner has this conversation now; nothing was written.")

    def acquire(self, thread: str, owner: str, *, now: int, ttl_ms: int) -> int:
        held = self._by_thread.get(thread)
        if held is not None and held.owner != owner and held.until > now:
            raise LeaseLost("Another owner has this conversation; its lease has not run out.")
        self._fence += 1
        self._by_thread[thread] = Lease(owner, self._fence, now + ttl_ms)
        return self._fence

    def renew(self, owner: str, *, now: int, ttl_ms: int) -> set[str]:
        held = {thread: lease for thread, lease in self._by_thread.items() if lease.owner == owner}
        for thread, lease in held.items():
            self._by_thread[thread] = lease._replace(until=now + ttl_ms)
        return set(held)

    def release(self, thread: str, fence: int) -> None:
        held = self._by_thread.get(thread)
        if held is not None and held.fence == fence:
            del self._by_thread[thread]

    def forget(self, thread: str) -> None:
        self._by_thread.pop(thread, None)

    def is_valid(self, thread: str, now: int) -> bool:
        held = self._by_thread.get(thread)
        return held is not None and held.until > now
