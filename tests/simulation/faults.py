"""What may go wrong in a world, and the store as one process sees it over a line that fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from copy import copy
from random import Random
from typing import TYPE_CHECKING, Any

import msgspec

from runcast.errors import StoreError
from runcast.events import Record
from runcast.files import StoredFile
from runcast.hub import Hub
from runcast.stores.base import Written
from runcast.testing import MemoryStore

from .history import Commit, History

if TYPE_CHECKING:
    from .world import Node, World

KINDS = (
    "refuse",  # the store fails before it commits
    "doubt",  # it commits, at once or a little later, and the caller is told that it failed
    "reads",  # reads fail
    "leases",  # renewals fail or hang
    "outage",  # the store refuses everything for a while
    "crash",  # a process is killed and started again
    "split",  # two processes work on one store
    "freeze",  # a process stands still for longer than its leases, and goes on
    "clock",  # the wall clock of a process jumps
    "wakes",  # wake-ups are lost, doubled, late or out of order
    "lines",  # connections break, acks are lost
    "slow",  # readers are slow, or stop reading
    "stop",  # a process drains, stops and is started again
    "restore",  # the store is put back to what it was a while ago, as from a copy of its file
)
_RARE = {"restore": 0.06}
"""After it what was acknowledged may be gone, so that some of the rules cannot be judged."""


class Faults:
    """The kinds that a seed has. A seed with all of them would show little of each."""

    def __init__(self, seed: int, without: Sequence[str] = (), only: Sequence[str] | None = None) -> None:
        dice = Random(f"{seed}:faults")
        drawn = {kind: dice.random() < _RARE.get(kind, 0.3) for kind in KINDS}
        self.on = {kind: (drawn[kind] if only is None else kind in only) and kind not in without for kind in KINDS}
        self.healed = False

    def __getitem__(self, kind: str) -> bool:
        return self.on[kind] and not self.healed

    def __str__(self) -> str:
        return " ".join(kind for kind in KINDS if self.on[kind]) or "none"


class LoggedStore(MemoryStore):
    """The truth, and the history of how it came to be."""

    def __init__(self, history: History, now: Callable[[], float], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.history = history
        self.now = now
        self.caller = ""
        """The process whose operation is being carried out."""
        self.copy: dict[str, Any] | None = None
        self.copied_files: dict[str, Any] = {}
        self.restores = 0
        self.on_acquire: Callable[[], None] = lambda: None

    async def append(self, write: Any, *, now: int) -> Written:
        written = await super().append(write, now=now)
        log = self._logs[write.thread]
        current = log.lease.fence if log.lease is not None else 0
        self._log_commit(write.thread, write.fence, current, written.records, tuple(write.runs), write.receipt)
        self._log_inbox(written)
        return written

    @property
    def restored(self) -> bool:
        return self.restores > 0

    def checkpoint(self) -> None:
        """Keep a copy of everything, to go back to."""
        self.history.note(self.now(), "a copy of the store is made")
        logs: dict[str, Any] = {}
        for name, log in self._logs.items():
            logs[name] = kept = copy(log)
            kept.records, kept.runs, kept.said, kept.lease = list(log.records), dict(log.runs), list(log.said), None
        names = ("_tombstones", "_inboxes", "_aliases", "_receipts", "_threads_of_runs", "_states")
        self.copy = {"_logs": logs, **{name: dict(getattr(self, name)) for name in names}}
        self.copied_files = {id: (kept, dict(kept.threads)) for id, kept in self.files._kept.items()}

    def restore(self) -> None:
        """Go back to the copy: every log is another one now."""
        assert self.copy is not None
        self.history.note(self.now(), "the store is as it was when the copy was made")
        self.restores += 1
        for name, value in self.copy.items():
            setattr(self, name, value)
        self.copy = None
        self.files._kept = {id: kept for id, (kept, _) in self.copied_files.items()}
        for kept, threads in self.copied_files.values():
            kept.threads = threads
        for name, log in self._logs.items():
            epoch = self._epochs()
            log.thread = msgspec.structs.replace(log.thread, epoch=epoch)
            self.history.logs[name, epoch] = list(log.records)

    def _append_now(self, write: Any, now: int) -> Written | None:
        written = super()._append_now(write, now)
        if written is not None:
            self._log_commit(write.thread, write.fence, self._logs[write.thread].lease.fence, written.records, (), None)
        return written

    async def acquire(self, thread: str, *args: Any, **kwargs: Any) -> int:
        fence = await super().acquire(thread, *args, **kwargs)
        self.history.note(self.now(), f"{self.caller} acquires {thread}: fence {fence}")
        self.history.renewals.append((self.now(), self.caller, thread))
        self.on_acquire()
        return fence

    async def renew(self, owner: str, **kwargs: Any) -> set[str]:
        held = await super().renew(owner, **kwargs)
        self.history.renewals += [(self.now(), self.caller, thread) for thread in sorted(held)]
        return held

    async def delete_thread(self, thread: str, **kwargs: Any) -> Written:
        written = await super().delete_thread(thread, **kwargs)
        self.history.deleted[thread] = self.history.note(self.now(), f"{self.caller} deleted {thread}")
        self._log_inbox(written)
        return written

    def _log_inbox(self, written: Written) -> None:
        if written.inbox is not None:
            self._log_commit(written.inbox, 0, 0, written.notices, (), None)

    def _log_commit(
        self, thread: str, fence: int, current: int, records: list[Record], runs: tuple[Any, ...], receipt: Any
    ) -> None:
        epoch = self._logs[thread].thread.epoch
        words = " ".join(f"{record.seq}:{record.event.type}" for record in records)
        rows = " ".join(f"{run.id}={run.status}" for run in runs)
        time = self.now()
        order = self.history.note(time, f"{self.caller} commits {thread} fence {fence} [{words}] {rows}")
        self.history.commits.append(
            Commit(order, time, self.caller, thread, epoch, fence, current, records, runs, receipt)
        )
        self.history.logs.setdefault((thread, epoch), []).extend(records)


_WRITES = (
    "append",
    "create_thread",
    "delete_thread",
    "resolve_alias",
    "put_snapshot",
    "delete_owner",
    "prune",
    "probe",
    "put",
    "delete_all",
    "collect",
)
_LEASES = ("acquire", "renew", "release")


class StoreLine:
    """The store over one process's connection to it. Operations take time; what is under way when the process dies may
    still land. Every stream of operations has its own dice, so that readers do not shift what writers draw."""

    healthy = True

    def __init__(self, world: World, node: Node) -> None:
        self._world = world
        self._node = node

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        if name not in (
            "get_thread", "find_alias", "inbox", "list_threads", "receipt", "read", "runs", "agent_states", "snapshot", "orphans",
            "close", "heads", "expired", "probe", "size", "idle_threads", "prune", *_WRITES, *_LEASES,
        ):  # fmt: skip
            raise AttributeError(name)

        async def operation(*args: Any, **kwargs: Any) -> Any:
            return await self._carry_out(name, args, kwargs)

        self.__dict__[name] = operation
        return operation

    @property
    def files(self) -> FilesLine:
        return FilesLine(self)

    def append_now(self, writes: Sequence[Any], *, now: int) -> list[Written | None]:
        """At once, or not: as the store feels."""
        world, node = self._world, self._node
        done: list[Written | None] = []
        for write in writes:
            dice = world.dice("now", node.name, write.thread)
            willing = dice.random() < world.at_once and not world.is_out
            world.store.caller = node.name
            done.append(world.store.append_now([write], now=now)[0] if willing else None)
        return done

    async def _carry_out(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], *, files: bool = False) -> Any:
        world, node, faults = self._world, self._node, self._world.faults
        thread = args[0].thread if name == "append" else args[0] if args and isinstance(args[0], str) else ""
        dice = world.dice("store", node.name, name, thread)
        delay = dice.choice((0.0005, 0.001, 0.003, 0.01)) * (0.5 + dice.random())
        lands, restores = dice.random() < 0.5, world.store.restores
        back = dice.choice((0.001, 0.004, 0.015)) if dice.random() < 0.4 else 0.0
        fate = "ok"
        chance = dice.random()
        if name in _WRITES:
            if faults["refuse"] and chance < 0.06:
                fate = "refuse"
            elif faults["doubt"] and chance > 0.94:
                fate = "doubt" if chance > 0.965 else "late"
        elif name in _LEASES:
            if faults["leases"] and chance < 0.25:
                fate = "refuse"
            elif faults["leases"] and chance > 0.95:
                delay += world.limits.lease_ttl_s * 1.2
            elif faults["doubt"] and chance > 0.94:
                fate = "doubt"
        elif faults["reads"] and chance < 0.05:
            fate = "refuse"
        elif faults["reads"] and chance > 0.97:
            delay += 0.3
        loop = world.loop
        answer: asyncio.Future[Any] = loop.create_future()

        def commit() -> None:
            if node.dead and (not lands or world.store.restores != restores):
                return
            error: BaseException | None = None
            result: Any = None
            if fate == "refuse" or world.is_out:
                error = StoreError("The store does not answer.")
                world.history.note(loop.time(), f"{node.name} {name} {thread} refused")
            else:
                store = world.store
                store.caller = node.name
                try:
                    getattr(store.files if files else store, name)(*args, **kwargs).send(None)
                except StopIteration as done:
                    result = done.value
                except Exception as raised:
                    error = raised
                else:
                    raise AssertionError(f"{name} of the store in memory waited")
                if fate == "doubt" and error is None:
                    error = StoreError("The connection to the store broke.")
                    world.history.note(loop.time(), f"{node.name} {name} {thread} done and called failed")

            def reply() -> None:
                if answer.done():
                    return
                if error is not None:
                    answer.set_exception(error)
                else:
                    answer.set_result(result)

            if back:
                world.later(back, reply)
            else:
                reply()

        if fate == "late":
            # The caller has stopped waiting, and it happens all the same.
            answer.set_exception(StoreError("The store did not answer in time."))
            delay += dice.choice((0.005, 0.02, 0.1))
            world.history.note(loop.time(), f"{node.name} {name} {thread} called failed, and on its way")
        world.later(delay, commit)
        return await answer


class FilesLine:
    """The files over the same line. Bytes that are only staged are the process's own, and gone with it."""

    def __init__(self, line: StoreLine) -> None:
        self._line = line

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        if name not in ("put", "get", "of_owner", "delete_all", "collect"):
            raise AttributeError(name)

        async def operation(*args: Any, **kwargs: Any) -> Any:
            return await self._line._carry_out(name, args, kwargs, files=True)

        return operation

    async def stage(self) -> Any:
        return await self._line._world.store.files.stage()

    @asynccontextmanager
    async def open(self, file: StoredFile) -> AsyncGenerator[Any]:
        await self._line._carry_out("get", ([file.id],), {}, files=True)
        async with self._line._world.store.files.open(file) as content:
            yield content


class LossyHub(Hub):
    """A hub whose wake-ups are lost, doubled, late or out of order, if the seed has that."""

    def __init__(self, world: World, node: Node, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._world = world
        self._node = node

    def _watch(self, thread: str, change: int) -> None:
        super()._watch(thread, change)
        world = self._world
        world.history.watchers.append((world.loop.time(), self._node.name, thread, self.watchers(thread)))

    def push(self, thread: str, records: Sequence[Record]) -> None:
        world = self._world
        if not world.faults["wakes"]:
            super().push(thread, records)
            return
        dice = world.dice("wakes", self._node.name, thread)
        chance = dice.random()
        if chance < world.wake_loss:
            return
        if chance < world.wake_loss + 0.2:
            world.loop.call_later(dice.uniform(0.001, 1.0), super().push, thread, records)
            return
        super().push(thread, records)
        if chance > 0.9:
            super().push(thread, records)
