"""The Store seam: the durable logs of the threads and the rows beside them.

The store is the truth. Everything a `Write` holds commits in one transaction: events, run rows, the agent's state, the
command's receipt and the notices to the owner's inbox; otherwise I5, I6 and I16 could not hold. A store knows nothing of
agents, runs' life cycles or clients: the runner decides, the store checks the decision is still true (`expected_seq`,
`fence`) and makes it durable.

Every implementation passes `runcast.testing.StoreSuite`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from runcast.errors import StoreError
from runcast.events import Event, Record
from runcast.runs import AgentState, Principal, Run, RunStatus, Thread, ThreadKind

if TYPE_CHECKING:
    from runcast.stores.files import Files

MAX_BYTES = 64 * 1024
MAX_EVENTS = 500
LONG_BYTES = 1 << 20
LONG_EVENTS = 10_000
"""One read of those inside the server that want a whole log, not a batch for a client."""
"""Defaults of `read`: one batch of a subscription."""


class Receipt(NamedTuple):
    """What a command did, kept under the client's key, so that a retry gets the same answer (I5)."""

    key: str
    body_hash: str
    """SHA-256, hex, of the command's canonical JSON without its id."""
    result: bytes
    """JSON of the answer."""


class Write(msgspec.Struct, frozen=True, kw_only=True):
    """One atomic change of one thread."""

    thread: str
    begin: Thread | None = None
    """The thread's row, if this write makes the thread: then it exists with its first event, or not at all. Only `id`,
    `tenant`, `user`, `kind` and `agent` count; its epoch is the store's to give."""
    fence: int
    expected_seq: int
    """The log's head before it. The events become `expected_seq + 1 …`."""
    events: Sequence[Event] = ()
    """Each with the `runId` of its run, or without one if it is the thread's own; the append stamps `seq` and `timestamp`."""
    runs: Sequence[Run] = ()
    """Run rows to insert or to replace, whole."""
    title: str | None = None
    pinned: bool | None = None
    head_run: str | None = None
    agent_state: AgentState | None = None
    receipt: Receipt | None = None
    notices: Sequence[Event] = ()
    """Events for the inbox of the thread's owner: the same transaction, the inbox's own seqs."""
    files: Sequence[str] = ()
    """Files and blobs that the events name: from now on the thread holds them."""


class Written(NamedTuple):
    """What an append made durable: the stamped records, and those of the inbox, in order."""

    records: list[Record]
    inbox: str | None
    notices: list[Record]


class Page(NamedTuple):
    threads: list[Thread]
    cursor: str | None
    """Give it back to get the next page; None at the end. Opaque."""


class Snapshot(NamedTuple):
    seq: int
    schema: int
    data: bytes


class Orphan(NamedTuple):
    """A thread with a run that its owner can no longer drive."""

    thread: Thread
    runs: list[Run]
    """Its running and queued runs, in the order accepted."""


class Pruning(NamedTuple):
    """What need not be kept for ever. Times are Unix milliseconds."""

    receipts_before: int
    """Receipts made before it go: a command that comes again after that is a new one."""
    tombstones_before: int
    """Ids of threads deleted before it are forgotten."""
    inbox_events: int
    """At least so many of the newest events of each inbox stay."""


class Store(ABC):
    """The durable logs and their index. All methods may be called from one event loop, concurrently.

    Errors common to all: `StoreError` when the file or server cannot be read or written; nothing was changed then.
    """

    @property
    def files(self) -> Files:
        """Where files and blobs are. A store that keeps none need not say so: uploads and big events are refused then."""
        raise StoreError("This server's store keeps no files.")

    @abstractmethod
    async def create_thread(
        self,
        owner: Principal,
        thread: str,
        *,
        kind: ThreadKind = "chat",
        title: str = "",
        agent: str = "",
        now: int,
        receipt: Receipt | None = None,
    ) -> Thread:
        """Make a thread with the id `thread` and an empty log of a new epoch.

        The same id of the same owner again gives the thread that is there. A deleted thread's id is never used again.

        Raises:
            NotFound: the id is another owner's, or a deleted thread's.
        """

    @abstractmethod
    async def get_thread(self, thread: str) -> Thread | None:
        """The row, with the current head; None if there is none or it was deleted. Authorisation is the caller's."""

    @abstractmethod
    async def heads(self, threads: Sequence[str]) -> dict[str, int]:
        """The current head of each of these threads; one that is not there, or was deleted, is not in it."""

    @abstractmethod
    async def inbox(self, owner: Principal, *, now: int) -> Thread:
        """The owner's inbox: a thread of kind `inbox`, made on first use."""

    @abstractmethod
    async def list_threads(
        self, owner: Principal, *, query: str = "", cursor: str | None = None, limit: int = 50
    ) -> Page:
        """The owner's chat threads: pinned ones first, then newest `updated_at`, ties by id descending.

        `query` filters by words (each a prefix, all must occur, case and accents folded) in titles and in what was said;
        any text is a valid query, no character has a meaning. `limit` is capped at 100.

        Raises:
            InvalidRequest: a cursor that this store did not make.
        """

    @abstractmethod
    async def delete_thread(self, thread: str, *, fence: int, now: int, notices: Sequence[Event] = ()) -> Written:
        """Delete log, runs, snapshots, agent states, aliases and index entries; a tombstone keeps the id from being used
        again, until it is pruned."""

    @abstractmethod
    async def delete_owner(self, owner: Principal) -> bool:
        """Forget an owner without conversations: inbox, files, receipts, aliases and all else that is kept under the name.

        False, and nothing was done: there are conversations; delete them first."""

    @abstractmethod
    async def resolve_alias(
        self, owner: Principal, external_id: str, *, new_thread: str, agent: str = "", now: int
    ) -> Thread:
        """The thread that `external_id` names for this owner; on first use a thread with the id `new_thread` is made, of
        `agent`.

        One namespace per owner. An alias of a deleted thread names a new one.
        """

    @abstractmethod
    async def find_alias(self, owner: Principal, external_id: str) -> Thread | None:
        """The thread that `external_id` names for this owner, if it names one. Nothing is made."""

    @abstractmethod
    async def receipt(self, owner: Principal, key: str) -> Receipt | None:
        """What the command with this key did, if it was carried out."""

    @abstractmethod
    async def append(self, write: Write, *, now: int) -> Written:
        """Make a write durable. On return it is committed and readable by everyone; nothing was published.

        Appends are grouped into one commit as they arrive while the commit before runs; each succeeds or fails alone.

        Raises:
            LeaseLost: `fence` is not the thread's current one.
            SequenceConflict: the head is not `expected_seq`.
            IdempotencyConflict: the receipt's key exists with another body hash. (With the same hash: `SequenceConflict`,
                the caller then finds the receipt.)
            NotFound: no such thread, or deleted.
            UnknownFile: one of `files` is not there, or not the thread's owner's.
        """

    def append_now(self, writes: Sequence[Write], *, now: int) -> list[Written | None]:
        """Make those of `writes` durable that can be at once, in one commit, without waiting and without a thread between.

        For each: what `append` would have returned, or None if nothing was written and the caller should `append` it: always
        allowed, and what happens to a write that the store would refuse, that changes more than the log, or when the store
        is busy or slow. Never raises. The promise of what is returned is that of `append`.
        """
        del now
        return [None] * len(writes)

    @abstractmethod
    async def read(
        self, thread: str, after: int, *, max_bytes: int = MAX_BYTES, max_events: int = MAX_EVENTS
    ) -> list[Record]:
        """The records after seq `after`, oldest first, without a hole: at least one if there is one, then as many as fit
        in both limits. Byte for byte what the append made (I3).

        Raises:
            Trimmed: what follows `after` is no longer kept; the log begins at the thread's `first_seq`.
        """

    @abstractmethod
    async def runs(
        self, *, thread: str | None = None, status: Sequence[RunStatus] = (), ids: Sequence[str] = ()
    ) -> list[Run]:
        """Run rows by thread, by status, by id; given filters are combined. In the order accepted (`first_seq`) per thread."""

    @abstractmethod
    async def active_runs(self, owner: Principal) -> list[Run]:
        """The queued and running runs of all the owner's conversations; per thread in the order accepted (`first_seq`)."""

    @abstractmethod
    async def expired(self, *, now: int) -> list[Run]:
        """Waiting runs whose `expires_at` is `now` or before, of all threads; the longest overdue first."""

    @abstractmethod
    async def agent_states(self, runs: Sequence[str]) -> list[AgentState]:
        """The states of these runs that have one, in the order asked."""

    @abstractmethod
    async def snapshot(self, thread: str) -> Snapshot | None:
        """The newest snapshot of the thread's transcript, if any."""

    @abstractmethod
    async def put_snapshot(self, thread: str, snapshot: Snapshot) -> None:
        """Keep a snapshot; an older one is replaced, a newer one stays."""

    @abstractmethod
    async def acquire(self, thread: str, owner: str, *, now: int, ttl_ms: int, new: bool = False) -> int:
        """Become the thread's owner until `now + ttl_ms`: the new fence, greater than every one before.

        The same owner again: a new fence as well, the old one is void. With `new` the thread need not exist: the caller
        is about to begin it (`Write.begin`).

        Raises:
            LeaseLost: another owner holds it and its lease has not run out.
            NotFound: no such thread.
        """

    @abstractmethod
    async def renew(self, owner: str, *, now: int, ttl_ms: int) -> set[str]:
        """Extend all leases of `owner` that have not been taken by others: the threads it still holds."""

    @abstractmethod
    async def release(self, thread: str, *, fence: int) -> None:
        """Give the lease up. An old fence is no error: somebody else holds it then."""

    @abstractmethod
    async def orphans(self, *, now: int) -> list[Orphan]:
        """Threads with running or queued runs and no valid lease."""

    # --- upkeep ---------------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def healthy(self) -> bool:
        """How the last write went: False once one failed for the store's own reasons (no room, no permission, a disk that
        fails), until one works."""

    @abstractmethod
    async def probe(self) -> None:
        """Write something small that changes nothing, so that `healthy` is up to date also when nobody writes.

        Raises:
            StoreError: it did not work.
        """

    @abstractmethod
    async def size(self) -> int:
        """How many bytes the store uses, files included, without room that is free to be used again."""

    @abstractmethod
    async def idle_threads(self, *, before: int, but: Sequence[str] = (), limit: int = 50) -> list[Thread]:
        """Conversations of all owners with `updated_at < before` in which no run is queued, running or waiting, without
        pinned ones and those in `but`: the longest unchanged first."""

    @abstractmethod
    async def hidden_threads(self, *, before: int, owner: Principal | None = None, limit: int = 50) -> list[Thread]:
        """Hidden threads with `updated_at < before`, of all owners or of one: the longest unchanged first."""

    @abstractmethod
    async def prune(self, pruning: Pruning) -> bool:
        """Do a bounded part of it, and give room back if there is much; whether there is more to do."""

    @abstractmethod
    async def close(self) -> None:
        """Finish what was accepted, then let go of file or server. Idempotent."""
