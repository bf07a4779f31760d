"""People who talk to an agent: send, stop, answer, rename, delete; who try again with the same id when no answer came."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import msgspec

from runcast import events as e
from runcast.commands import Cancel, Resolve, Send
from runcast.errors import ClientError, LeaseLost, RuncastError
from runcast.runs import Message, Principal
from runcast.service import Service

from .history import Delivery
from .player import script
from .world import Lost

if TYPE_CHECKING:
    from .world import World

Work = Callable[[Service], Awaitable[Any]]


class Person:
    def __init__(self, world: World, name: str, principal: Principal, thread: str) -> None:
        self.world = world
        self.name = name
        self.principal = principal
        self.thread = thread
        self.dice = world.dice("person", name)
        self.count = 0

    async def live(self) -> None:
        dice = self.dice
        await asyncio.sleep(dice.uniform(0, 1))
        for _ in range(dice.randint(2, 6)):
            await self._act()
            await asyncio.sleep(dice.choice((0, 0, 0.01, 0.3, 1.5)))

    async def _act(self) -> None:
        dice = self.dice
        act = dice.choices(
            (self._send, self._cancel_run, self._cancel_thread, self._resolve, self._rename, self._delete, self._crowd),
            (10, 2.5, 1.5, 5, 1, 0.6, 0.7),
        )[0]
        await act()

    def _key(self, what: str) -> str:
        self.count += 1
        return f"{self.name}-{what}{self.count}"

    # --- acts -----------------------------------------------------------------------------------------------------

    async def _send(self) -> None:
        dice = self.dice
        message = Message(id=self._key("m"), content=script(dice))
        command = Send(
            id=self._key("s"),
            thread=self.thread if dice.random() < 0.95 else None,
            message=message,
            on_busy=dice.choices(("enqueue", "reject", "interrupt"), (6, 1, 3))[0],
        )
        await self._deliver("send", message.id, lambda service: service.send(self.principal, command))

    async def _crowd(self) -> None:
        """More messages at once than the queue takes."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self.world.limits.queue_limit + 2):
                tasks.create_task(self._send())

    async def _cancel_run(self) -> None:
        runs = [
            commit.runs[-1] for commit in self.world.history.commits if commit.runs and commit.thread == self.thread
        ]
        if not runs:
            return
        run = self.dice.choice(runs[-4:]).id
        command = Cancel(id=self._key("c"), run=run)
        await self._deliver("cancel", command.id, lambda service: service.cancel(self.principal, command))

    async def _cancel_thread(self) -> None:
        command = Cancel(id=self._key("c"), thread=self.thread, reason="enough")
        await self._deliver("cancel", command.id, lambda service: service.cancel(self.principal, command))

    async def _resolve(self) -> None:
        """Answer what is asked; waits a little for a question."""
        for _ in range(6):
            asked = self._open_questions()
            if asked:
                break
            await asyncio.sleep(0.2)
        else:
            return
        if self.dice.random() < 0.3:  # another tab answers as well
            async with asyncio.TaskGroup() as tasks:
                for _ in range(2):
                    tasks.create_task(self._answer(self.dice.choice(asked)))
        else:
            await self._answer(self.dice.choice(asked))

    async def _answer(self, interrupt: str) -> None:
        approved = self.dice.random() < 0.7
        command = Resolve(
            id=self._key("a"),
            interrupt=interrupt,
            status="resolved" if self.dice.random() < 0.8 else "cancelled",
            payload={"approved": approved},
        )
        await self._deliver("resolve", command.id, lambda service: service.resolve(self.principal, command))

    def _open_questions(self) -> list[str]:
        asked: dict[str, None] = {}
        for (thread, _), records in self.world.history.logs.items():
            if thread == self.thread:
                for record in records:
                    match record.event:
                        case e.InterruptRequested(interrupt=one):
                            asked[one.id] = None
                        case e.InterruptResolved(interrupt_id=one):
                            asked.pop(one, None)
                        case _:
                            pass
        return list(asked)

    async def _rename(self) -> None:
        title = f"title {self._key('t')}"
        await self._deliver(
            "rename",
            self._key("u"),
            lambda service: service.update_thread(self.principal, self.thread, title=title),
            tries=2,
        )

    async def _delete(self) -> None:
        await self._deliver(
            "delete", self._key("d"), lambda service: service.delete_thread(self.principal, self.thread), tries=3
        )

    # --- delivering -----------------------------------------------------------------------------------------------

    async def _deliver(self, op: str, key: str, work: Work, *, tries: int = 40) -> Any:
        """Until it is answered; sometimes once more, and sometimes twice at once."""
        dice = self.dice
        if dice.random() < 0.15:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._try(op, key, work, tries))
                answer = await self._try(op, key, work, tries)
        else:
            answer = await self._try(op, key, work, tries)
        if dice.random() < 0.15 and op in ("send", "cancel", "resolve"):
            await asyncio.sleep(dice.choice((0, 0.5, 2)))
            await self._try(op, key, work, tries)
        return answer

    async def _try(self, op: str, key: str, work: Work, tries: int) -> Any:
        world, dice = self.world, self.dice
        for _ in range(tries):
            node = await world.some_node(dice)
            world.note(f"{self.name} {op} {key} at {node.name}")
            answer: Any = None
            error: str | None = None
            try:
                answer = await node.call(work, dice)
            except Lost:
                error = None
            except ClientError as refused:
                error, answer = refused.code, refused
            except RuncastError as failed:
                error = failed.code
                if isinstance(failed, LeaseLost):
                    error = "lease_lost"
            said = msgspec.json.encode(answer).decode() if isinstance(answer, msgspec.Struct) else ""
            order = world.note(f"{self.name} {op} {key} -> {error or said or 'nothing'}")
            world.history.deliveries.append(
                Delivery(
                    order, world.loop.time(), key, op, self.principal,
                    answer if isinstance(answer, msgspec.Struct) else None, error,
                )
            )  # fmt: skip
            if answer is not None or (error is None and op in ("delete",) and answer is None and node.up):
                return answer
            await asyncio.sleep(dice.choice((0.01, 0.2, 0.8)))
        return None
