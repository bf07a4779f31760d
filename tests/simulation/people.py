"""People who talk to agents: send, edit, ask again, steer, stop, answer, send files, rename, delete; who try again with the
same id when no answer came."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

import msgspec

from runcast import events as e
from runcast.commands import Cancel, Edit, Resolve, Retry, Send, Steer
from runcast.errors import ClientError, LeaseLost, RuncastError
from runcast.runs import Message, Principal
from runcast.service import Service
from runcast.uploads import Uploaded

from .history import Delivery
from .player import AGENTS, script
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
            (
                self._send,
                self._edit,
                self._retry,
                self._steer,
                self._cancel_run,
                self._cancel_thread,
                self._resolve,
                self._rename,
                self._delete,
                self._crowd,
            ),
            (10, 1.5, 1.5, 2.5, 2.5, 2, 5, 0.8, 0.6, 0.7),
        )[0]
        await act()

    def _key(self, what: str) -> str:
        self.count += 1
        return f"{self.name}-{what}{self.count}"

    # --- acts -----------------------------------------------------------------------------------------------------

    async def _send(self) -> None:
        dice = self.dice
        message = await self._message()
        parents = self._runs() if dice.random() < 0.1 else []
        command = Send(
            id=self._key("s"),
            thread=self.thread if dice.random() < 0.95 else None,
            agent=dice.choices((None, *AGENTS[1:], self.world.favourite), (2, 1, 1, 1, 1, 8))[0],
            message=message,
            on_busy=dice.choices(("enqueue", "reject", "interrupt", "steer"), (6, 1, 3, 2))[0],
        )
        if parents and command.thread is not None:
            command = msgspec.structs.replace(command, parent_run_id=dice.choice(parents))
        self.world.history.commands[message.id] = command
        await self._deliver("send", message.id, lambda service: service.send(self.principal, command))

    async def _message(self) -> Message:
        """What to say; sometimes with a file that is uploaded first."""
        text = script(self.dice)
        id = self._key("m")
        if self.dice.random() > 0.08:
            return Message(id=id, content=text)
        parts: list[dict[str, Any]] = [{"type": "text", "text": text}]
        for _ in range(self.dice.randint(1, 2)):
            if (url := await self._upload()) is not None:
                parts.append({"type": "document", "source": {"type": "url", "value": url}})
        return Message(id=id, content=parts)

    async def _upload(self) -> str | None:
        """Its address, if it was taken."""
        key = self._key("f")
        data = f"{self.name} {key}".encode() * self.dice.choice((1, 50))

        async def pieces() -> AsyncIterator[bytes]:
            yield data[:7]
            await asyncio.sleep(0.001)
            yield data[7:]

        answer = await self._deliver(
            "upload",
            key,
            lambda service: service.uploads.upload(self.principal, pieces(), name=f"{key}.txt", key=key),
            tries=4,
        )
        if not isinstance(answer, Uploaded):
            return None
        self.world.history.files[answer.id] = data
        return answer.url

    async def _edit(self) -> None:
        if (run := self._some_run()) is not None:
            message = await self._message()
            command = Edit(id=self._key("e"), run=run, message=message, on_busy=self._on_busy())
            self.world.history.commands[command.id] = command
            await self._deliver("edit", command.id, lambda service: service.edit(self.principal, command))

    async def _retry(self) -> None:
        if (run := self._some_run()) is not None:
            command = Retry(id=self._key("r"), run=run, on_busy=self._on_busy())
            self.world.history.commands[command.id] = command
            await self._deliver("retry", command.id, lambda service: service.retry(self.principal, command))

    async def _steer(self) -> None:
        """Say something to what goes on; waits a little for that."""
        for _ in range(4):
            if running := self._runs(running=True):
                break
            await asyncio.sleep(0.2)
        run = running[-1] if running and self.dice.random() < 0.9 else self._some_run()
        if run is not None:
            command = Steer(id=self._key("x"), run=run, message=await self._message())
            self.world.history.commands[command.id] = command
            await self._deliver("steer", command.id, lambda service: service.steer(self.principal, command))

    def _on_busy(self) -> Any:
        return self.dice.choices(("enqueue", "reject", "interrupt"), (3, 1, 2))[0]

    def _some_run(self) -> str | None:
        """One of the newest runs of the thread."""
        runs = self._runs()[-5:]
        return self.dice.choice(runs) if runs else None

    def _runs(self, *, running: bool = False) -> list[str]:
        """The runs of the thread in the order begun."""
        rows = {
            run.id: run for commit in self.world.history.commits if commit.thread == self.thread for run in commit.runs
        }
        return [run.id for run in rows.values() if not running or run.status == "running"]

    async def _crowd(self) -> None:
        """More messages at once than the queue takes."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self.world.limits.queue_limit + 2):
                tasks.create_task(self._send())

    async def _cancel_run(self) -> None:
        run = self._some_run()
        if run is None:
            return
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
        if dice.random() < (0.35 if op == "cancel" else 0.15) and op not in ("rename", "delete"):
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
