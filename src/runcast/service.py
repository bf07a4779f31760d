"""The use-cases, authorised: what every transport and dialect asks of the core, and nothing else.

Every method takes the principal first; a thread, run or question that is not theirs is answered exactly like one that
does not exist.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, NamedTuple, TypeVar

import anyio
import msgspec

from runcast.agents.base import Agent
from runcast.allowance import Allowance
from runcast.commands import Cancel, Edit, Resolve, Retry, Return, Send, Starting, Steer, Subscribe
from runcast.errors import (
    ClientError,
    ConfigError,
    IdempotencyConflict,
    InvalidRequest,
    NotFound,
    SequenceConflict,
    TooLarge,
    Unavailable,
)
from runcast.events import Record
from runcast.export import everything, zipped
from runcast.forms import PAYLOAD_BYTES
from runcast.histories import newest
from runcast.hub import Hub
from runcast.ids import CLIENT_ID, EXTERNAL_ID, Clock, IdSource, SystemClock, Uuid7Source
from runcast.jsonvalue import is_portable
from runcast.paths import along, path_of
from runcast.running import Limits, Runner
from runcast.runs import Answer, Brief, Message, Principal, Run, RunStatus, Thread, ThreadKind, ToolMessage
from runcast.stores.base import MAX_EVENTS, Page, Receipt, Store
from runcast.subscription import RunSubscription, Subscription
from runcast.transcript import dump, load
from runcast.updates import Events, ThreadSnapshot
from runcast.upkeep import Keep, Upkeep
from runcast.uploads import FileLimits, Uploads

MESSAGE_BYTES = 32 * 1024
"""The longest message, UTF-8."""
TITLE_LENGTH = 200
CLIENT_BYTES = 64 * 1024
"""What a client may bring along beside its messages, and how much all results of its tools may have: JSON, UTF-8."""
HISTORY_BYTES = 64 * 1024
"""How much of what was said elsewhere is taken: JSON, UTF-8, the newest of it."""
MAX_WAIT_S = 60.0
HEAD = "head"
"""In place of a run: the head run of the thread."""
DELETE_ROUNDS = 5

Answered = TypeVar("Answered", bound="Sent | CancelResult | ResolveResult | Thread")


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a send: the run exists, its message is in the log at `seq`."""

    thread: str
    run: str
    seq: int
    status: RunStatus
    replayed: bool = False
    """The same command had been carried out before; nothing was done again."""


class CancelResult(msgspec.Struct, frozen=True, kw_only=True):
    run: str
    status: RunStatus
    """`running` while it is being stopped; an ended run's status if there was nothing to stop."""
    replayed: bool = False


class ResolveResult(msgspec.Struct, frozen=True, kw_only=True):
    interrupt: str
    status: str
    run: str | None = None
    """The run that goes on with the answer; None while other interrupts of the waiting run are open."""
    seq: int
    replayed: bool = False


class AgentInfo(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    title: str = ""
    """What people see instead of the name."""
    description: str = ""
    starters: list[str] = []
    default: bool = False
    steerable: bool = False
    """It reads what is said while it runs."""


class EventPage(NamedTuple):
    records: list[Record]
    next: int
    """Give it back as `after`."""
    head: int
    epoch: str
    first_seq: int = 1
    """The oldest seq that is kept."""


class Service:
    """Made by `open_service`."""

    def __init__(
        self,
        store: Store,
        hub: Hub,
        runner: Runner,
        uploads: Uploads,
        agents: Sequence[Agent],
        *,
        clock: Clock,
        new_id: IdSource,
        allowance: Allowance,
    ) -> None:
        self.runner = runner
        self._allowance = allowance
        self.uploads = uploads
        self._store = store
        self._hub = hub
        self._agents = {agent.name: agent for agent in agents}
        self._default = agents[0].name
        self._clock = clock
        self._new_id = new_id

    @property
    def ready(self) -> bool:
        """Whether new work is welcome: the store takes writes and the server is not about to stop."""
        return self.runner.healthy and self._store.healthy and not self.runner.draining

    def agents(self, principal: Principal) -> list[AgentInfo]:
        """The agents this principal may ask, the default first."""
        del principal
        return [
            AgentInfo(
                name=agent.name,
                title=getattr(agent, "title", None) or "",
                description=agent.description,
                starters=list(getattr(agent, "starters", ())),
                default=agent.name == self._default,
                steerable=bool(getattr(agent, "steerable", False)),
            )
            for agent in self._agents.values()
        ]

    # --- threads --------------------------------------------------------------------------------------------------

    async def create_thread(
        self, principal: Principal, *, title: str = "", agent: str = "", key: str | None = None
    ) -> Thread:
        """An empty conversation. With a `key` a retry gives the same one."""
        body = {"op": "create_thread", "title": title, "agent": agent}
        title = self._title(title)
        self._agent(agent or self._default)
        if key is None:
            row = await self._store.create_thread(
                principal, self._new_id(), title=title, agent=agent, now=self._clock.now_ms()
            )
            return row
        receipt = _receipt(key, body)
        known = await self._replayed(principal, receipt, Thread)
        if known is not None:
            return await self._mine(principal, known.id)
        thread = self._new_id()
        now = self._clock.now_ms()
        receipt = receipt._replace(
            result=msgspec.json.encode(Thread(id=thread, user=principal.user, epoch="", created_at=now, updated_at=now))
        )
        try:
            return await self._store.create_thread(
                principal, thread, title=title, agent=agent, now=now, receipt=receipt
            )
        except SequenceConflict:
            known = await self._replayed(principal, receipt, Thread)
            if known is None:
                raise
            return await self._mine(principal, known.id)

    async def open_thread(self, principal: Principal, external_id: str, *, agent: str = "") -> Thread:
        """The conversation that a client of another protocol calls `external_id`; on first use it is made, for `agent`.

        One namespace per user: another user's id makes one's own, and so does that of a deleted conversation. The id of a
        conversation of one's own names that.

        Raises:
            InvalidRequest: not 1-128 characters without `/` and control characters; or there is no such agent.
        """
        if not EXTERNAL_ID.match(external_id):
            raise InvalidRequest("A conversation's id must be 1-128 characters, without `/` and control characters.")
        if agent:
            self._agent(agent)
        return await self._native(principal, external_id) or await self._store.resolve_alias(
            principal, external_id, new_thread=self._new_id(), agent=agent, now=self._clock.now_ms()
        )

    async def find_thread(self, principal: Principal, external_id: str) -> Thread | None:
        """The conversation that `open_thread` would give, if it is there. Nothing is made."""
        if not EXTERNAL_ID.match(external_id):
            return None
        return await self._native(principal, external_id) or await self._store.find_alias(principal, external_id)

    async def _native(self, principal: Principal, thread: str) -> Thread | None:
        try:
            return await self._mine(principal, thread)
        except NotFound:
            return None

    async def list_threads(
        self, principal: Principal, *, query: str = "", cursor: str | None = None, limit: int = 50
    ) -> Page:
        """Pinned ones first, then newest first; `query` searches titles and what was said."""
        return await self._store.list_threads(
            principal, query=query[:500], cursor=cursor, limit=max(1, min(limit, 100))
        )

    async def get_thread(self, principal: Principal, thread: str) -> Thread:
        return await self._mine(principal, thread)

    async def view(self, principal: Principal, thread: str, *, run: str | None = None) -> ThreadSnapshot:
        """The conversation as a person sees it, and the seq it was folded to: all its runs, or with `run` only those on the
        path over that run (`head`: the head run) to the newest end below it.

        Raises:
            NotFound: no such thread, or no such run in it.
        """
        whole = await self._hub.snapshot(await self._mine(principal, thread))
        if run is None:
            return whole
        transcript = load(whole.transcript)
        path = path_of(transcript, None if run == HEAD else run)
        if not path and run != HEAD:
            raise NotFound("There is no such run in this conversation.")
        return whole._replace(transcript=dump(along(transcript, path)))

    async def update_thread(
        self, principal: Principal, thread: str, *, title: str | None = None, pinned: bool | None = None
    ) -> Thread:
        row = await self._mine(principal, thread)
        if title is not None or pinned is not None:
            title = None if title is None else self._title(title)
            await self.runner.update(row, title=title, pinned=pinned)
        return await self._mine(principal, thread)

    async def delete_thread(self, principal: Principal, thread: str) -> None:
        """Stop what runs in it, then remove it for good. A second time: `NotFound`."""
        await self.runner.delete(await self._mine(principal, thread))

    # --- one's own data -------------------------------------------------------------------------------------------

    async def export_user_data(self, principal: Principal) -> AsyncGenerator[bytes]:
        """Everything that is kept of the principal, as a ZIP, in pieces (`runcast.export`)."""
        async with aclosing(zipped(everything(self._store, principal, now=self._clock.now_ms()))) as chunks:
            async for chunk in chunks:
                yield chunk

    async def delete_user_data(self, principal: Principal) -> int:
        """Stop all that runs for the principal, then delete everything that is kept of them; how many conversations.

        What they begin anew meanwhile may stay. Their open tabs are told that it is gone.
        """
        count = 0
        inbox = await self._store.inbox(principal, now=self._clock.now_ms())
        for _ in range(DELETE_ROUNDS):
            while threads := await self._all_of(principal):
                for thread in threads:
                    try:
                        await self.runner.delete(thread)
                        count += 1
                    except NotFound:
                        pass  # deleted in another tab at the same time
            if await self._store.delete_owner(principal):
                self._hub.deleted(inbox.id)
                return count
        raise Unavailable("New conversations began all the while; stop them and try again.", retry_after_ms=1_000)

    async def _all_of(self, principal: Principal) -> list[Thread]:
        """Conversations of the principal, hidden ones too, a hundred at most."""
        listed = (await self._store.list_threads(principal, limit=100)).threads
        return listed or await self._store.hidden_threads(before=self._clock.now_ms() + 1, owner=principal, limit=100)

    # --- runs -----------------------------------------------------------------------------------------------------

    async def send(self, principal: Principal, command: Send, *, hidden: bool = False) -> Sent:
        """Say something: the message is in the log when this returns, and its run started or queued.

        The message's id is the key of idempotency: sent again, it has no second effect and gets the same answer. With
        `run_alias` that is the key, within the thread, whatever the message. With `hidden` the thread that it
        makes is in no list; whoever asked deletes it after the answer, else the upkeep does.

        Raises:
            InvalidRequest, UnknownFile, TooLarge, NotFound, RunActive, RateLimited, QueueFull, IdempotencyConflict,
            Unavailable.
        """
        message = self._message(command.message)
        if command.run_alias is not None and command.thread is None:
            raise InvalidRequest("A run has a name of the client's only within a thread: say which.")
        receipt = _receipt_of(message.id, command, command.thread)
        try:
            return await self._send(principal, command, message, receipt, "hidden" if hidden else "chat")
        except (ClientError, Unavailable):
            # Nearly no message comes twice. What is refused may have been taken when it came first.
            known = await self._replayed(principal, receipt, Sent)
            if known is None:
                raise
            return known

    async def _send(
        self, principal: Principal, command: Send, message: Message, receipt: Receipt, kind: ThreadKind
    ) -> Sent:
        self._allowance.take(principal)
        if command.agent:
            self._agent(command.agent)
        message = await self.uploads.completed(principal, message)
        if command.thread is None:
            thread = self._unborn(principal, command.agent or "", kind)
        else:
            thread = await self._mine(principal, command.thread)
        agent = command.agent or thread.agent or self._default
        return await self._sent(
            principal,
            receipt,
            self.runner.send(
                principal,
                thread,
                self._brief(command, message),
                agent=agent,
                on_busy=command.on_busy,
                parent=command.parent_run_id,
                receipt=receipt,
                new=command.thread is None,
            ),
        )

    async def steer(self, principal: Principal, command: Steer) -> Sent:
        """Hand a message to the agent of `run` while that goes on. If it cannot take one, or the run is over, it is sent:
        `run` in the answer is then another. A question that the thread waits on is withdrawn first.

        Raises:
            InvalidRequest, UnknownFile, TooLarge, NotFound, QueueFull, IdempotencyConflict, Unavailable.
        """
        message = self._message(command.message)
        receipt = _receipt_of(command.id, command)
        known = await self._replayed(principal, receipt, Sent)
        if known is not None:
            return known
        self._allowance.take(principal)
        message = await self.uploads.completed(principal, message)
        run = await self._my_run(principal, command.run)
        thread = await self._mine(principal, run.thread)
        self._agent(run.agent)
        sending = self.runner.send(
            principal,
            thread,
            Brief(messages=(message,)),
            agent=run.agent,
            on_busy="steer",
            parent=None,
            receipt=receipt,
            steer=run.id,
        )
        return await self._sent(principal, receipt, sending)

    async def edit(self, principal: Principal, command: Edit) -> Sent:
        """Say something else in place of what a run was asked: a run beside it, with its parent.

        Raises:
            InvalidRequest, UnknownFile, TooLarge, NotFound, RunActive, QueueFull, IdempotencyConflict, Unavailable.
        """
        message = self._message(command.message)
        return await self._branch(principal, command, message)

    async def retry(self, principal: Principal, command: Retry) -> Sent:
        """Ask a run's message again, under its id: a run beside it, with its parent. Raises as `edit`."""
        return await self._branch(principal, command, None)

    async def return_results(self, principal: Principal, command: Return) -> Sent:
        """Give what came of tool calls that a run left to its client (`pendingToolCallIds`): starts the run that follows it
        and goes on with that. A call without a result counts as one that nobody will answer.

        Results may be given again, under another key: the answer to them is then made once more, in a run beside the first.

        Raises:
            InvalidRequest: among others, the run left no such call. TooLarge, NotFound, RunActive, QueueFull,
                IdempotencyConflict, Unavailable.
        """
        message = None if command.message is None else self._message(command.message)
        self._check_results(command.results)
        run = None if command.run_alias is None else await self._my_run(principal, command.run)
        receipt = _receipt_of(command.id, command, None if run is None else run.thread)
        known = await self._replayed(principal, receipt, Sent)
        if known is not None:
            return known
        run = run or await self._my_run(principal, command.run)
        self._agent(run.agent)
        thread = await self._mine(principal, run.thread)
        left = await self.runner.left_to_client(thread, run)
        for result in command.results:
            if result.tool_call_id not in left:
                raise InvalidRequest(f"The run {run.id!r} left no call {result.tool_call_id[:64]!r} to its client.")
        message = None if message is None else await self.uploads.completed(principal, message)
        brief = msgspec.structs.replace(self._brief(command, message), tool_results=command.results)
        returning = self.runner.send(
            principal, thread, brief, agent=run.agent, on_busy=command.on_busy, parent=run.id, receipt=receipt
        )
        return await self._sent(principal, receipt, returning)

    async def _branch(self, principal: Principal, command: Edit | Retry, message: Message | None) -> Sent:
        run = None if command.run_alias is None else await self._my_run(principal, command.run)
        receipt = _receipt_of(command.id, command, None if run is None else run.thread)
        known = await self._replayed(principal, receipt, Sent)
        if known is not None:
            return known
        self._allowance.take(principal)
        if message is not None:
            message = await self.uploads.completed(principal, message)
        run = run or await self._my_run(principal, command.run)
        self._agent(run.agent)
        thread = await self._mine(principal, run.thread)
        brief = self._brief(command, message)
        branching = self.runner.branch(principal, thread, run, brief, on_busy=command.on_busy, receipt=receipt)
        return await self._sent(principal, receipt, branching)

    async def _sent(self, principal: Principal, receipt: Receipt, sending: Awaitable[tuple[Run, int]]) -> Sent:
        """What came of a command that says something; if it was carried out meanwhile, what came of it then."""
        try:
            run, seq = await sending
        except SequenceConflict:
            known = await self._replayed(principal, receipt, Sent)
            if known is None:
                raise
            return known
        return Sent(thread=run.thread, run=run.id, seq=seq, status=run.status)

    async def cancel(self, principal: Principal, command: Cancel) -> CancelResult:
        """Stop a run, or whatever runs or waits in a thread. What has ended already answers with its status."""
        if (command.run is None) == (command.thread is None):
            raise InvalidRequest("Say either which run or which thread to stop.")
        receipt = _receipt_of(command.id, command)
        known = await self._replayed(principal, receipt, CancelResult)
        if known is not None:
            return known
        if command.run is not None:
            run = await self._my_run(principal, command.run)
        else:
            thread = await self._mine(principal, command.thread or "")
            runs = await self._store.runs(thread=thread.id, status=["running", "waiting", "queued"])
            if not runs:
                runs = (await self._store.runs(thread=thread.id))[-1:]
            if not runs:
                raise NotFound("Nothing has run in this conversation.")
            run = runs[0]
        thread = await self._mine(principal, run.thread)
        try:
            status = await self.runner.cancel(principal, thread, run, reason=command.reason or None, receipt=receipt)
        except SequenceConflict:
            known = await self._replayed(principal, receipt, CancelResult)
            if known is None:
                raise
            return known
        return CancelResult(run=run.id, status=status)

    async def resolve(self, principal: Principal, command: Resolve) -> ResolveResult:
        """Answer an interrupt, once; the last answer starts the run that goes on with it.

        Raises:
            NotFound, AlreadyDecided, Expired, Unavailable. InvalidRequest, TooLarge: nothing was written, the question
                stays open.
        """
        size = len(msgspec.json.encode(command.payload))
        if size > PAYLOAD_BYTES:
            raise TooLarge(f"An answer has at most {PAYLOAD_BYTES} bytes, this one {size}.")
        if not is_portable(command.payload):
            raise InvalidRequest("The answer holds a number that is too large; send it as text.")
        asked = command.interrupt.rpartition(".")[0]
        run = None if command.run_alias is None else await self._my_run(principal, asked, "There is no such question.")
        receipt = _receipt_of(command.id, command, None if run is None else run.thread)
        known = await self._replayed(principal, receipt, ResolveResult)
        if known is not None:
            return known
        run = run or await self._my_run(principal, asked, "There is no such question.")
        thread = await self._mine(principal, run.thread)
        answer = Answer(
            interrupt_id=command.interrupt, status=command.status, payload=command.payload, by=principal.user
        )
        try:
            resuming, seq = await self.runner.resolve(
                principal, thread, run, answer, receipt=receipt, brief=self._brief(command)
            )
        except SequenceConflict:
            known = await self._replayed(principal, receipt, ResolveResult)
            if known is None:
                raise
            return known
        return ResolveResult(interrupt=command.interrupt, status=command.status, run=resuming, seq=seq)

    async def get_run(self, principal: Principal, run: str) -> Run:
        return await self._my_run(principal, run)

    async def running_run(self, principal: Principal, thread: str) -> Run | None:
        """The run that goes on in a thread now, if any."""
        await self._mine(principal, thread)
        runs = await self._store.runs(thread=thread, status=["running"])
        return runs[0] if runs else None

    async def active_runs(self, principal: Principal) -> list[Run]:
        """What runs now or is queued in all of one's conversations; per thread in the order accepted."""
        return await self._store.active_runs(principal)

    async def runs_from(self, principal: Principal, thread: str, seq: int) -> list[Run]:
        """The runs of a thread that had not ended before `seq`, in the order accepted."""
        await self._mine(principal, thread)
        return [run for run in await self._store.runs(thread=thread) if run.last_seq is None or run.last_seq >= seq]

    async def find_run(self, principal: Principal, thread: str, external_run: str) -> Run | None:
        """The run of one's own thread that a command started under `run_alias`, or whose id this is; None if there is none.

        A name is known as long as receipts are kept.
        """
        await self._mine(principal, thread)
        if not EXTERNAL_ID.match(external_run):
            return None
        known = await self._store.receipt(principal, _alias_key(thread, external_run))
        id = external_run if known is None else msgspec.json.decode(known.result, type=_Begun).run
        rows = [] if id is None else await self._store.runs(thread=thread, ids=[id])
        return rows[0] if rows else None

    async def wait_run(self, principal: Principal, run: str, *, timeout_s: float) -> Run:
        """The run as soon as it has ended or waits; as it stands when the time is over."""
        row = await self._my_run(principal, run)
        with anyio.move_on_after(min(timeout_s, MAX_WAIT_S)):
            subscription = await self.subscribe_run(principal, run, after=row.first_seq, watches=False)
            try:
                async for _ in subscription:
                    pass
            finally:
                subscription.close()
        return await self._my_run(principal, run)

    # --- reading --------------------------------------------------------------------------------------------------

    async def sender_gone(self, principal: Principal, run: str) -> None:
        """Whoever sent this run's message and waited for its end has hung up: no reader may be left."""
        self.runner.sender_gone(await self._my_run(principal, run))

    async def subscribe(
        self, principal: Principal, command: Subscribe, *, watches: bool = True, joins: bool = True
    ) -> Subscription:
        """A cursor over a thread, or over one's own inbox. Whoever asked closes it; until then they watch, as `Hub.subscribe`
        means it.

        Raises:
            InvalidRequest, NotFound.
        """
        if command.inbox == (command.thread is not None):
            raise InvalidRequest("Subscribe either to a thread or to the inbox.")
        if command.after is not None and not 0 <= command.after < 1 << 53:
            raise InvalidRequest(f"`after` must be a seq from 0 to 2^53 - 1, not {command.after}.")
        if command.inbox:
            thread = await self._store.inbox(principal, now=self._clock.now_ms())
        else:
            thread = await self._mine(principal, command.thread or "")
        return self._hub.subscribe(thread, after=command.after, epoch=command.epoch, watches=watches, joins=joins)

    async def follow(self, principal: Principal, thread: str, *, after: int) -> Subscription:
        """A cursor over a thread after `after`. Whoever asked closes it."""
        return await self.subscribe(principal, Subscribe(id="", thread=thread, after=after))

    async def follow_inbox(self, principal: Principal) -> Subscription:
        """A cursor over one's own inbox behind all that it holds now. Whoever asked closes it."""
        inbox = await self._store.inbox(principal, now=self._clock.now_ms())
        return self._hub.subscribe(inbox, after=inbox.head)

    async def subscribe_run(
        self, principal: Principal, run: str, *, after: int = 0, watches: bool = True, joins: bool = True
    ) -> RunSubscription:
        """One run's own events after `after`; the iteration ends behind its terminal event."""
        row = await self._my_run(principal, run)
        thread = await self._mine(principal, row.thread)
        first = max(after, row.first_seq - 1)
        return RunSubscription(row, self._hub.subscribe(thread, after=first, watches=watches, joins=joins))

    async def read(
        self, principal: Principal, thread: str, *, after: int = 0, limit: int = MAX_EVENTS, wait_s: float = 0
    ) -> EventPage:
        """One page; with `wait_s` (at most 60) it waits for the first event when there is none."""
        command = Subscribe(id="", thread=thread, after=after)
        subscription = await self.subscribe(principal, command, watches=wait_s > 0)
        return await self._page(subscription, limit, wait_s)

    async def read_inbox(
        self, principal: Principal, *, after: int = 0, limit: int = MAX_EVENTS, wait_s: float = 0
    ) -> EventPage:
        subscription = await self.subscribe(principal, Subscribe(id="", inbox=True, after=after))
        return await self._page(subscription, limit, wait_s)

    async def read_run(
        self, principal: Principal, run: str, *, after: int = 0, limit: int = MAX_EVENTS, wait_s: float = 0
    ) -> EventPage:
        subscription = await self.subscribe_run(principal, run, after=after, watches=wait_s > 0)
        return await self._page(subscription, limit, wait_s)

    async def _page(self, subscription: Subscription | RunSubscription, limit: int, wait_s: float) -> EventPage:
        """Pages are not joined: the same `after` and `limit` give the same events whenever they are asked."""
        try:
            thread = subscription.thread
            after = max(subscription.start, thread.first_seq - 1)
            run = subscription.run if isinstance(subscription, RunSubscription) else None
            records = await self._records(thread.id, after, run, limit)
            if not records and wait_s > 0 and not subscription.ended:
                with anyio.move_on_after(min(wait_s, MAX_WAIT_S)):
                    async for update in subscription:
                        if isinstance(update, Events):
                            break
                records = await self._records(thread.id, after, run, limit)
            row = await self._store.get_thread(thread.id) if thread.kind != "inbox" else thread
            if row is None:
                raise NotFound("There is no such conversation.")
            head = max(row.head, records[-1].seq if records else 0, subscription.cursor)
            return EventPage(records, records[-1].seq if records else after, head, thread.epoch, thread.first_seq)
        finally:
            subscription.close()

    async def _records(self, thread: str, after: int, run: Run | None, limit: int) -> list[Record]:
        limit = max(1, min(limit, MAX_EVENTS))
        found: list[Record] = []
        while len(found) < limit:
            records = await self._store.read(thread, after, max_events=limit - len(found))
            if not records:
                break
            after = records[-1].seq
            found.extend(record for record in records if run is None or record.event.run_id == run.id)
            if run is None or (run.last_seq is not None and after >= run.last_seq):
                break
        return found

    def _unborn(self, principal: Principal, agent: str, kind: ThreadKind) -> Thread:
        """A thread that comes to be with its first message, and is with the agent that this one names."""
        now = self._clock.now_ms()
        return Thread(
            id=self._new_id(),
            tenant=principal.tenant,
            user=principal.user,
            kind=kind,
            epoch="",
            agent=agent,
            created_at=now,
            updated_at=now,
        )

    # --- whose is it, and is it well formed -----------------------------------------------------------------------

    async def _mine(self, principal: Principal, thread: str) -> Thread:
        row = await self._store.get_thread(thread)
        if row is None or row.kind == "inbox" or (row.tenant, row.user) != (principal.tenant, principal.user):
            raise NotFound("There is no such conversation.")
        return row

    async def _my_run(self, principal: Principal, run: str, otherwise: str = "There is no such run.") -> Run:
        rows = await self._store.runs(ids=[run])
        if rows:
            try:
                await self._mine(principal, rows[0].thread)
            except NotFound:
                pass
            else:
                return rows[0]
        raise NotFound(otherwise)

    def _agent(self, name: str) -> Agent:
        agent = self._agents.get(name)
        if agent is None:
            known = ", ".join(sorted(self._agents))
            raise InvalidRequest(f"There is no agent {name[:64]!r}; this server has: {known}.")
        return agent

    def _title(self, title: str) -> str:
        title = " ".join(title.split())
        if len(title) > TITLE_LENGTH:
            raise InvalidRequest(f"A title has at most {TITLE_LENGTH} characters, this one {len(title)}.")
        return title

    def _message(self, message: Message) -> Message:
        if not CLIENT_ID.match(message.id):
            raise InvalidRequest("A message's id must be 1-128 of the characters A-Z a-z 0-9 . _ : @ -.")
        size = len(msgspec.json.encode(message.content))
        if size > MESSAGE_BYTES:
            raise TooLarge(
                f"A message has at most {MESSAGE_BYTES} bytes, this one {size}. Files are uploaded with POST /v1/files."
            )
        if not isinstance(message.content, str) and not all(is_portable(part) for part in message.content):
            raise InvalidRequest("The message holds a number that is too large; send it as text.")
        if not message.text.strip() and isinstance(message.content, str):
            raise InvalidRequest("Message is required.")
        if not message.content:
            raise InvalidRequest("Message is required.")
        return message

    def _check_results(self, results: Sequence[ToolMessage]) -> None:
        if not results:
            raise InvalidRequest("Give at least one result.")
        size = len(msgspec.json.encode(results))
        if size > CLIENT_BYTES:
            raise TooLarge(f"The results of tools have at most {CLIENT_BYTES} bytes in all, these {size}.")
        calls: set[str] = set()
        for result in results:
            if not CLIENT_ID.match(result.id):
                raise InvalidRequest("A message's id must be 1-128 of the characters A-Z a-z 0-9 . _ : @ -.")
            if result.tool_call_id in calls:
                raise InvalidRequest(f"There are two results of the call {result.tool_call_id[:64]!r}.")
            calls.add(result.tool_call_id)

    def _brief(self, command: Starting, *messages: Message | None) -> Brief:
        """What the run begins with that `command` starts.

        Raises:
            InvalidRequest, TooLarge: what the client brings along cannot be taken.
        """
        client = command.client
        if client is not None:
            names: set[str] = set()
            for tool in client.tools:
                if not 0 < len(tool.name) <= 128 or tool.name in names:
                    message = f"The client's tools need different names of 1-128 characters: {tool.name[:64]!r}."
                    raise InvalidRequest(message)
                names.add(tool.name)
            history = newest(client.history, HISTORY_BYTES)
            client = msgspec.structs.replace(client, history=())
            size = len(msgspec.json.encode(client))
            if size > CLIENT_BYTES:
                raise TooLarge(
                    f"What a client brings along (tools, state, context, forwardedProps) has at most {CLIENT_BYTES} bytes, "
                    f"this {size}."
                )
            client = msgspec.structs.replace(client, history=history)
        return Brief(
            messages=tuple(one for one in messages if one is not None),
            client=client,
            on_disconnect=command.on_disconnect,
        )

    async def _replayed(self, principal: Principal, receipt: Receipt, kind: type[Answered]) -> Answered | None:
        """What this command did when it was carried out before; None if it was not.

        Raises:
            IdempotencyConflict: the key was used for something else.
        """
        if not receipt.key.startswith(_ALIASED) and not CLIENT_ID.match(receipt.key):
            raise InvalidRequest("A command's id must be 1-128 of the characters A-Z a-z 0-9 . _ : @ -.")
        known = await self._store.receipt(principal, receipt.key)
        if known is None:
            return None
        if known.body_hash != receipt.body_hash:
            raise IdempotencyConflict(f"The id {receipt.key!r} was used for another command; make a new one.")
        answer = msgspec.json.decode(known.result, type=kind)
        return answer if isinstance(answer, Thread) else msgspec.structs.replace(answer, replayed=True)


class _Begun(msgspec.Struct):
    """What every answer says that tells of a run."""

    run: str | None = None


_ALIASED = "run/"
"""No command's id begins so: `/` is none of its characters."""


def _alias_key(thread: str, alias: str) -> str:
    return f"{_ALIASED}{thread}/{alias}"


def _receipt_of(key: str, command: Starting | Cancel | Steer, thread: str | None = None) -> Receipt:
    """The receipt of a command under its key, or under the name that the client gave to the run it starts in `thread`.
    Its own `id` does not count: a retry may carry a new one.

    Raises:
        InvalidRequest: no client may call a run so.
    """
    alias = command.run_alias if isinstance(command, Starting) else None
    if alias is not None and thread is not None:
        if not EXTERNAL_ID.match(alias):
            raise InvalidRequest("A run's name must be 1-128 characters, without `/` and control characters.")
        return _receipt(_alias_key(thread, alias), {"op": "resolve"} if isinstance(command, Resolve) else {})
    body: dict[str, Any] = msgspec.to_builtins(command)
    body.pop("id")
    return _receipt(key, body)


def _receipt(key: str, body: Mapping[str, Any]) -> Receipt:
    canonical = msgspec.json.encode(body, order="deterministic")
    return Receipt(key, hashlib.sha256(canonical).hexdigest(), b"")


@asynccontextmanager
async def open_service(
    *,
    store: Store,
    agents: Sequence[Agent],
    clock: Clock | None = None,
    new_id: IdSource | None = None,
    limits: Limits | None = None,
    file_limits: FileLimits | None = None,
    app: Mapping[str, Any] | None = None,
    keep: Keep | None = None,
    messages_per_minute: int = 0,
    poll_s: float = 2.0,
    make_hub: Callable[..., Hub] = Hub,
) -> AsyncGenerator[Service]:
    """The core, running: orphans of a dead process are taken over before this yields; at the end what still runs is
    ended as *interrupted*. The store stays open: it is the caller's. `make_hub` is for simulations that lose wake-ups.

    Raises:
        ConfigError: no agents, or two of one name.
    """
    names = [agent.name for agent in agents]
    if not names:
        raise ConfigError("There is no agent to serve.")
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise ConfigError(f"Agents need different names; more than one is called {', '.join(doubled)}.")
    clock = clock or SystemClock()
    new_id = new_id or Uuid7Source(clock)
    hub = make_hub(store, poll_s=poll_s)
    runner = Runner(store, hub, agents, clock=clock, new_id=new_id, limits=limits or Limits(), app=app or {})
    uploads = Uploads(store, clock=clock, new_id=new_id, limits=file_limits or FileLimits())
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hub.run)
            tasks.start_soon(uploads.sweep)
            await runner.start(tasks)
            tasks.start_soon(Upkeep(store, hub, runner, clock=clock, keep=keep or Keep()).run)
            try:
                allowance = Allowance(messages_per_minute, clock)
                yield Service(store, hub, runner, uploads, agents, clock=clock, new_id=new_id, allowance=allowance)
            finally:
                with anyio.CancelScope(shield=True):
                    await runner.stop()
                tasks.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        if len(group.exceptions) == 1:  # the caller's own error, not a bundle around it
            raise group.exceptions[0] from None
        raise
