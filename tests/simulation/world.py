"""One world: a store, processes over it, people and readers, and whatever goes wrong between them.

result = play(seed)
result.problems      what the judge found: empty, or there is a bug
result.digest        of everything that happened, in order: equal for equal seeds, on every machine
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from contextlib import contextmanager
from random import Random
from typing import Any, NamedTuple, TypeVar

import anyio

from runcast.auth import Credentials, Identity
from runcast.errors import AgentError, StoreError
from runcast.running.limits import Limits
from runcast.runs import Principal
from runcast.service import Service, open_service
from runcast.transports.gateway import Gateway

from .faults import Faults, LoggedStore, LossyHub, StoreLine
from .history import History, Work
from .judge_world import judge
from .loop import Livelock, Stalled, VirtualLoop, deterministic
from .player import AGENTS, players

T = TypeVar("T")

START_MS = 1_800_000_000_000
POLL_S = 0.5
USERS = (Principal(user="ann"), Principal(user="bob"))


class Lost(Exception):
    """No answer came; whether the command was carried out is not known."""


def done(coro: Coroutine[Any, Any, T]) -> T:
    """What a coroutine that does not wait returns."""
    try:
        coro.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waited")


class NodeClock:
    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self.offset_ms = 0

    def now_ms(self) -> int:
        return START_MS + int(self._loop.time() * 1000) + self.offset_ms

    def monotonic(self) -> float:
        return self._loop.time()


class Trusting:
    """The token is the user's name."""

    is_open = True

    async def authenticate(self, credentials: Credentials) -> Identity:
        return Identity(Principal(user=credentials.token or "ann"))


class Node:
    """One server process, from its start to its death."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.name = f"n{number}"
        self.process = world.loop.process(self.name)
        self.clock = NodeClock(world.loop)
        self.gateway = Gateway(
            authenticator=Trusting(), clock=self.clock, new_id=world.ids(f"{self.name}-c"), send_timeout_s=20
        )
        self.service: Service | None = None
        self.dead = False
        """Killed, or ended by itself."""
        self.frozen = False
        self.gone = asyncio.Event()
        self._stop = asyncio.Event()
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._next_call = 0
        world.loop.spawn(self.process, self._main(), self.name)

    @property
    def up(self) -> bool:
        return self.service is not None and not self.dead and not self.frozen

    async def _main(self) -> None:
        world = self.world
        try:
            async with open_service(
                store=StoreLine(world, self),  # type: ignore[arg-type]
                agents=players(world, self),
                clock=self.clock,
                new_id=world.ids(self.name),
                limits=world.limits,
                poll_s=POLL_S,
                make_hub=lambda *args, **kwargs: LossyHub(world, self, *args, **kwargs),
            ) as service:
                self.gateway.start(service)
                self.service = service
                world.note(f"{self.name} is up")
                await self._stop.wait()
                self.gateway.drain()
                await service.runner.drain(1.0)
                with anyio.CancelScope(shield=True):
                    await self.gateway.stop(timeout_s=2)
                self.service = None
            self.gateway.end()
            world.note(f"{self.name} has stopped")
        except Exception as error:
            world.note(f"{self.name} ended: {type(error).__name__}")
            if self.service is not None:
                world.history.problems.append(f"{self.name} ended by itself: {error!r}")
        finally:
            if not self.dead and not world.buried:
                self._die()
                world.later(0, lambda: world.loop.halt(self.process))  # what its tasks still did ends with it

    def _die(self) -> None:
        self.dead = True
        self.service = None
        self.world.history.deaths.append((self.world.loop.time(), self.name))
        self.gone.set()
        for call in self._calls.values():
            if not call.done():
                call.set_exception(Lost())

    def kill(self) -> None:
        """SIGKILL: nothing of it runs any more."""
        if not self.dead:
            self.world.note(f"{self.name} is killed")
            self.world.loop.halt(self.process)
            self._die()

    def freeze(self) -> None:
        if self.up:
            self.world.note(f"{self.name} freezes")
            self.frozen = True
            self.world.loop.halt(self.process)

    def thaw(self) -> None:
        if self.frozen and not self.dead:
            self.world.note(f"{self.name} goes on")
            self.frozen = False
            self.world.history.thaws.append((self.world.loop.time(), self.name))
            self.world.loop.go_on(self.process)

    def stop(self) -> None:
        """SIGTERM: drain, then end."""
        self.world.note(f"{self.name} is to stop")
        self._stop.set()

    def run(self, coro: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        return self.world.loop.spawn(self.process, coro)

    async def call(self, work: Callable[[Service], Awaitable[T]], dice: Random, *, timeout_s: float = 8.0) -> T:
        """Ask the service, over a network that may lose the answer.

        Raises:
            Lost; what `work` raises.
        """
        world = self.world
        service = self.service
        if service is None:
            await asyncio.sleep(0.05)
            raise Lost
        answer: asyncio.Future[Any] = world.loop.create_future()
        scope = anyio.CancelScope()

        async def serve() -> None:
            await asyncio.sleep(dice.choice((0, 0.001, 0.02)))
            with scope:
                try:
                    result = await work(service)
                except Exception as error:
                    if not answer.done():
                        answer.set_exception(error)
                else:
                    if not answer.done():
                        answer.set_result(result)

        if world.faults["lines"] and dice.random() < 0.25:
            # The line breaks; some servers notice and cancel the request, most do not.
            def lose() -> None:
                if not answer.done():
                    answer.set_exception(Lost())

            def cancel() -> None:
                if not self.dead:
                    scope.cancel()

            after = dice.choice((0, 0.002, 0.01, 0.05))
            world.later(after, lose)
            if dice.random() < 0.4:
                world.loop.call_later(after, cancel, context=self.process.context)
        key = self._next_call = self._next_call + 1
        self._calls[key] = answer
        self.run(serve())
        try:
            async with asyncio.timeout(timeout_s):
                return await answer
        except TimeoutError:
            raise Lost from None
        finally:
            del self._calls[key]


class World:
    def __init__(
        self,
        seed: int,
        *,
        without: Sequence[str] = (),
        only: Sequence[str] | None = None,
        keep_trace: bool = False,
    ) -> None:
        self.seed = seed
        self.loop = VirtualLoop()
        self.history = History()
        self.history.keep_trace = keep_trace
        self.faults = Faults(seed, without, only)
        self.limits = Limits(
            run_timeout_s=6,
            queue_limit=3,
            cancel_deadline_s=2,
            lease_ttl_s=3,
            renew_s=1,
            idle_s=4,
            disconnect_grace_s=0.3,
        )
        self.wake_loss = Random(f"{seed}:loss").choice((0.3, 1.0))
        self.at_once = Random(f"{seed}:now").choice((0.0, 0.5, 0.9, 1.0))
        """How often the store appends at once what may go the short way."""
        self.favourite = Random(f"{seed}:favourite").choice(AGENTS)
        """The agent that is asked most."""
        self.lonely = self.favourite == "watched" and Random(f"{seed}:lonely").random() < 0.9
        """Whether there is one reader only, who comes and goes: runs end when nobody watches them."""
        self._dice: dict[tuple[str, ...], Random] = {}
        self._ids: dict[str, int] = {}
        self.store = LoggedStore(self.history, self.loop.time, new_id=self.ids("inbox"), epochs=self.ids("epoch"))
        self.nodes: list[Node] = []
        self.on_use: Callable[[Node], None] = lambda node: None
        """A tool that must not run twice begins at this process."""
        self.outage_until = 0.0
        self.healed = asyncio.Event()
        self.over = False
        self.buried = False
        self.threads: list[tuple[Principal, str]] = []

    # --- what everyone uses ---------------------------------------------------------------------------------------

    def dice(self, *names: str) -> Random:
        """Chance, one stream for each purpose, so that one does not shift the others."""
        found = self._dice.get(names)
        if found is None:
            found = self._dice[names] = Random(f"{self.seed}:{':'.join(names)}")
        return found

    def ids(self, prefix: str) -> Callable[[], str]:
        def new_id() -> str:
            self._ids[prefix] = number = self._ids.get(prefix, 0) + 1
            return f"{prefix}-{number:04d}"

        return new_id

    def note(self, line: str) -> int:
        return self.history.note(self.loop.time(), line)

    def note_work(self, node: Node, run: str, what: str, detail: str) -> None:
        order = self.note(f"{node.name} {run} {what} {detail}")
        self.history.work.append(Work(order, self.loop.time(), node.name, run, what, detail))
        if what == "use":
            self.on_use(node)

    def note_said(self, run: str, attempt: int, piece: str) -> None:
        said = self.history.said
        said[run, attempt] = said.get((run, attempt), "") + piece
        self.history.said_at.setdefault(run, []).append(self.loop.time())

    def later(self, delay_s: float, callback: Callable[[], None]) -> None:
        """Outside of every process: it happens even if the caller dies meanwhile."""
        self.loop.call_later(delay_s, callback, context=self._context)

    def go(self, coro: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """An actor. What it raises is a problem of the simulation."""

        async def guarded() -> None:
            try:
                await coro
            except asyncio.CancelledError:
                raise
            except BaseException as error:
                if not self.buried:
                    logging.getLogger("simulation").exception("an actor failed")
                    self.history.problems.append(f"simulation: {error!r}")

        return self.loop.create_task(guarded(), context=self._context.copy())

    @property
    def is_out(self) -> bool:
        return self.loop.time() < self.outage_until

    def start_node(self) -> Node:
        node = Node(self, len(self.nodes) + 1)
        self.nodes.append(node)
        return node

    def up(self) -> list[Node]:
        return [node for node in self.nodes if node.up]

    async def some_node(self, dice: Random) -> Node:
        """A process that is up, as soon as there is one."""
        while not (nodes := self.up()):
            await asyncio.sleep(0.1)
        return dice.choice(nodes)

    # --- the whole story ------------------------------------------------------------------------------------------

    def play(self) -> None:
        from .nemesis import Nemesis
        from .people import Person
        from .readers import Reader, RunReader
        from .wire import Wired

        self._context = contextvars.copy_context()
        self.note(f"seed {self.seed}, faults: {self.faults}")
        dice = self.dice("cast")
        self.start_node()
        users = USERS[: dice.choice((1, 1, 2))]
        for user in users:
            for _ in range(dice.choice((1, 1, 2))):
                self.threads.append((user, f"t{len(self.threads) + 1}"))
        for user, thread in self.threads:
            done(self.store.create_thread(user, thread, now=START_MS))
        people = [Person(self, f"p{k}", *dice.choice(self.threads)) for k in range(dice.randint(1, 3))]
        readers: list[Any] = [
            Reader(self, f"r{k}", *(self.threads[0] if k == 0 else dice.choice(self.threads)))
            for k in range(dice.randint(2, 4) if not self.lonely else 1)
        ]
        wired = [
            Wired(self, f"w{k}", *dice.choice(self.threads)) for k in range(dice.choice((0, 1, 1)) * (not self.lonely))
        ]
        if dice.random() < 0.3 and not self.lonely:
            readers.append(RunReader(self, "f0", *dice.choice(self.threads)))
        self.actors = [self.go(actor.live()) for actor in (*readers, *wired)]
        talking = [self.go(person.live()) for person in people]
        nemesis = Nemesis(self)
        evil = self.go(nemesis.live())

        async def story() -> None:
            await asyncio.wait(talking, timeout=150)
            for task in talking:
                if not task.done():
                    self.history.problems.append("somebody waits for an answer for ever")
                    task.cancel()
            await asyncio.sleep(dice.uniform(0, 3))
            evil.cancel()
            await nemesis.heal()
            self.note("all is well again")
            self.faults.healed = True
            self.healed.set()
            await self._quiet(readers, wired, nemesis)
            self.over = True
            self.history.over = self.loop.time()
            self.note("the end")

        self.loop.run_until_complete(story())
        self._final_rows = self._rows()

    async def _quiet(self, readers: Sequence[Any], wired: Sequence[Any], nemesis: Any) -> None:
        """Until every run has ended or waits and every reader has everything, or until that should long have been."""
        limits = self.limits
        most = limits.run_timeout_s + 2 * limits.cancel_deadline_s + 2 * limits.lease_ttl_s + limits.renew_s + 5
        # A command that was begun before may start one more run after another: the queue, and what was said to a run.
        most *= 1 + 2 * limits.queue_limit
        end = self.loop.time() + most
        while self.loop.time() < end:
            await asyncio.sleep(0.25)
            nemesis.keep_up()
            if self._unended() or not self.up():
                continue
            if all(actor.has_everything for actor in (*readers, *wired)):
                return
        for run in self._unended():
            self.history.problems.append(
                f"I18, I21, I23: {run} had not ended {most:g} s after everything was well again"
            )
        for actor in (*readers, *wired):
            if not actor.has_everything:
                self.history.problems.append(
                    f"I7, I9: {actor} had not been given everything {most:g} s after all was well"
                )

    def _rows(self) -> dict[str, list[Any]]:
        return {
            name: sorted(log.runs.values(), key=lambda run: run.first_seq) for name, log in self.store._logs.items()
        }

    def _unended(self) -> list[str]:
        return [
            f"{run.id} ({run.status})"
            for rows in self._rows().values()
            for run in rows
            if run.status in ("queued", "running")
            and not (run.status == "queued" and any(one.status == "waiting" for one in rows))
        ]

    def bury(self) -> None:
        self.buried = True
        self.outage_until = float("inf")
        self.loop.bury()
        self.loop.close()


class Result(NamedTuple):
    seed: int
    faults: str
    problems: list[str]
    digest: str
    trace: list[str]
    virtual_s: float
    steps: int
    world: World


class _Complaints(logging.Handler):
    """What the product logs as an error and nobody planted: a defect, whatever came of it."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        planted = isinstance(error, StoreError | AgentError) or (
            isinstance(error, RuntimeError) and error.args == ("secret",)
        )
        if not planted:
            self.found.append(f"an error was logged: {record.getMessage()}: {error!r}")


@contextmanager
def _complaints() -> Generator[list[str]]:
    logger = logging.getLogger("runcast")
    before = logger.level, logger.propagate
    handler = _Complaints()
    logger.addHandler(handler)
    logger.setLevel(logging.ERROR)
    logger.propagate = False
    try:
        yield handler.found
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]


@contextmanager
def _no_collection() -> Generator[None]:
    """Objects in cycles are collected between seeds, not at some moment of one: what that runs would be no part of the seed."""
    _played[0] += 1
    if _played[0] % 16 == 0:
        gc.collect()
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


_played = [0]


def play(seed: int, **options: Any) -> Result:
    """Play one seed to its end and judge it. Never raises for what the product does."""
    asyncio.set_event_loop(None)
    with deterministic(), _no_collection(), _complaints() as complaints:
        world = World(seed, **options)
        problems: list[str] = []
        try:
            world.play()
        except (Stalled, Livelock) as error:
            problems.append(f"{type(error).__name__}: {error}")
        finally:
            virtual_s, steps, digest = world.loop.time(), world.loop.steps, world.history.digest
            if not problems:
                problems = [*judge(world), *complaints]
            try:
                world.bury()
            except (Stalled, Livelock, AssertionError) as error:
                problems.append(f"after the end: {error!r}")
        problems += world.loop.unhandled
    return Result(seed, str(world.faults), problems, digest, world.history.trace, virtual_s, steps, world)
