"""From what a client of the AI SDK sends to the assistant message that answers: over HTTP and over its WebSocket alike.

The client sends its whole history each time. `histories.place` says what of it is new; answers to approvals stand in the parts
of its newest assistant message. Whatever was carried out before (a repeated POST) is not done again: its message is told again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal, NamedTuple, cast

import msgspec
from msgspec import UNSET, Meta

from runcast.commands import Edit, Resolve, Retry, Return, Send
from runcast.dialects.base import Start
from runcast.dialects.json_texts import too_deep
from runcast.dialects.ui_messages import Approval, approvals_of, as_ag_ui, chain_of, newest_of
from runcast.errors import AlreadyDecided, Expired, InvalidRequest
from runcast.events import TERMINAL, Record
from runcast.histories import MAX_MESSAGES, Placed, place
from runcast.parts import InterruptPart, Transcript
from runcast.runs import ClientInput, ClientTool, Message, OnBusy, OnDisconnect, Principal, Run, Thread, ToolMessage
from runcast.subscription import RunSubscription, Sink, Subscription
from runcast.transcript import load
from runcast.transports.enclosed import filed
from runcast.transports.gateway import Gateway
from runcast.updates import Events, Update

ENVELOPE_BYTES: Final = 4 * 1024 * 1024
"""What a request may have beside the files in its messages."""


class Asked(msgspec.Struct, rename="camel"):
    """What one request says. Unknown fields are the application's own."""

    id: str
    messages: Annotated[list[dict[str, Any]], Meta(max_length=MAX_MESSAGES)] = []
    message: dict[str, Any] | None = None
    """In place of `messages`, from clients that send only the newest one."""
    trigger: Literal["submit-message", "regenerate-message"] = "submit-message"
    message_id: str | None = None
    agent: str | None = None
    tools: Any = None
    """Tools that the client runs: a list, or an object by name; `parameters` or `inputSchema` is a JSON Schema."""
    on_disconnect: OnDisconnect | None = None


class Told(NamedTuple):
    """The assistant message that answers: `runs`, oldest first; the last one is told to its end. The client has what stands up
    to `shown_after` already."""

    thread: Thread
    runs: list[Run]
    conversation: str
    shown_after: int = 0

    @property
    def start(self) -> Start:
        """What its encoder is made with."""
        first, last = self.runs[0], self.runs[-1]
        return Start(self.thread.id, self.thread.epoch, first.first_seq - 1, last.id, self.conversation)


class MessageSubscription(RunSubscription):
    """The events of all runs of one assistant message, and of the thread meanwhile; ends behind the last run's terminal event."""

    def __init__(self, told: Told, inner: Subscription) -> None:
        super().__init__(told.runs[-1], inner)
        self._runs = {run.id for run in told.runs}

    async def __anext__(self) -> Update:
        while not self._over:
            update = await anext(self.inner)
            if not isinstance(update, Events):
                return update
            mine: list[Record] = []
            for record in update.records:
                event = record.event
                if event.run_id is UNSET or event.run_id in self._runs:
                    mine.append(record)
                if event.run_id == self.run.id and isinstance(event, TERMINAL):
                    self._over = True
                    break
            if mine:
                return Events(mine)
        self.close()
        raise StopAsyncIteration

    def deliver_to(self, sink: Sink) -> None:
        """Its reader is woken for everything."""


def body_limit(gateway: Gateway) -> int:
    """The longest request, in bytes: files come as data URLs in base64, four characters for three bytes."""
    return gateway.service.uploads.limits.max_bytes * 4 // 3 + ENVELOPE_BYTES


async def subscribed(gateway: Gateway, principal: Principal, told: Told) -> MessageSubscription:
    after = told.runs[0].first_seq - 1
    return MessageSubscription(told, await gateway.service.follow(principal, told.thread.id, after=after))


async def active(gateway: Gateway, principal: Principal, chat: str, *, ended: bool = False) -> Told | None:
    """The message that is being written in a chat; with `ended` also the newest one that is complete. None: there is none."""
    thread = await gateway.service.find_thread(principal, chat)
    if thread is None:
        return None
    running = await gateway.service.running_run(principal, thread.id)
    run = running.id if running is not None else thread.head_run if ended else None
    if run is None:
        return None
    return await _Asking(gateway, principal, thread, chat).message(run)


async def ask(gateway: Gateway, principal: Principal, asked: Asked) -> Told:
    """Carry out what a request asks; the message that answers it exists when this returns, started or queued.

    Raises:
        ClientError: it was not taken.
    """
    gateway.refuse_while_draining()
    if asked.message is not None and not asked.messages:
        asked.messages = [asked.message]
    thread = await gateway.service.find_thread(principal, asked.id)
    if thread is None:
        # What is refused here leaves no empty conversation behind.
        placed = place(Transcript(), as_ag_ui(asked.messages))
        if not placed.new or not placed.new[-1].get("content"):
            raise InvalidRequest("There is no message in it.")
        thread = await gateway.service.open_thread(principal, asked.id, agent=asked.agent or "")
    return await _Asking(gateway, principal, thread, asked.id).ask(asked)


class _Asking:
    def __init__(self, gateway: Gateway, principal: Principal, thread: Thread, chat: str) -> None:
        self._gateway = gateway
        self._service = gateway.service
        self._principal = principal
        self._thread = thread
        self._chat = chat

    async def message(self, run: str, *, shown_to: str | None = None) -> Told:
        """The message that ends with `run`; the client has it up to the end of the run `shown_to`."""
        chain = chain_of(await self._transcript(), run)
        runs = [await self._service.get_run(self._principal, one.id) for one in chain]
        if not runs:
            runs = [await self._service.get_run(self._principal, run)]
        shown_after = next((one.last_seq or 0 for one in runs[:-1] if one.id == shown_to), 0)
        if shown_to == run:
            shown_after = (runs[-1].last_seq or 1) - 1  # all but how it ended
        return Told(self._thread, runs, self._chat, shown_after)

    async def ask(self, asked: Asked) -> Told:
        transcript = await self._transcript()
        again = asked.trigger == "regenerate-message"
        ends_with_user = bool(asked.messages) and asked.messages[-1].get("role") == "user"
        answers = [] if again else approvals_of(asked.messages)
        if answers and (told := await self._approve(transcript, answers)) is not None:
            if not ends_with_user:
                return told
            transcript = await self._transcript()
        placed = place(transcript, as_ag_ui(asked.messages))
        client = _client(asked, placed)
        match placed.action:
            case "send" if placed.new:
                waits = any(run.status == "waiting" for run in transcript.runs)
                return await self._send(placed, client, asked.on_disconnect, "interrupt" if waits else "enqueue")
            case "return" if placed.run is not None:
                return await self._return(placed, placed.run, client, asked.on_disconnect)
            case "resolve" if placed.run is not None:
                for interrupt, message in placed.answers:
                    await self._resolve(interrupt, _value(message.get("content")))
                return await self._goes_on(placed.run)
            case _:
                pass
        run = placed.run
        if again:
            run = self._regenerated(transcript, asked, placed)
        if run is None:
            raise InvalidRequest("There is no message in it.")
        if again:
            command = Retry(id=self._gateway.new_id(), run=run, client=client, on_disconnect=asked.on_disconnect)
            return await self.message((await self._service.retry(self._principal, command)).run)
        if placed.action == "retry":
            before = chain_of(transcript, run)[
                :-1
            ]  # results that were given before: the client has what asked for them
            return await self.message(newest_of(transcript, run), shown_to=before[-1].id if before else None)
        leaf = newest_of(transcript, run)
        ended = any(one.id == leaf and one.ended for one in transcript.runs)
        return await self.message(leaf, shown_to=leaf if ended else None)

    async def _transcript(self) -> Transcript:
        return load((await self._service.view(self._principal, self._thread.id)).transcript)

    def _regenerated(self, transcript: Transcript, asked: Asked, placed: Placed) -> str | None:
        """The run whose message is asked again: where the history ends, else the one that the client names."""
        run = placed.run if placed.action == "retry" else asked.message_id or placed.run or transcript.head_run
        chain = [] if run is None else chain_of(transcript, run)
        return chain[0].id if chain else None

    # --- saying something -----------------------------------------------------------------------------------------

    async def _send(
        self, placed: Placed, client: ClientInput | None, on_disconnect: OnDisconnect | None, on_busy: OnBusy
    ) -> Told:
        """`on_busy`: whoever says something instead of an answer takes the question back; waiting behind it, the message would
        keep the page from answering."""
        message = await self._message(placed.new[-1])
        alias = f"say:{message.id}"[:128]
        common: dict[str, Any] = {"id": message.id, "message": message, "run_alias": alias, "client": client}
        common["on_disconnect"] = on_disconnect
        if placed.parent_run is None and placed.edited is not None:
            sent = await self._service.edit(self._principal, Edit(run=placed.edited, **common))
        else:
            send = Send(thread=self._thread.id, parent_run_id=placed.parent_run, on_busy=on_busy, **common)
            sent = await self._service.send(self._principal, send)
        return await self.message(sent.run)

    async def _return(
        self, placed: Placed, run: str, client: ClientInput | None, on_disconnect: OnDisconnect | None
    ) -> Told:
        results = tuple(_returned(message) for message in placed.tool_results)
        message = await self._message(placed.new[-1]) if placed.new else None
        digest = hashlib.sha256(msgspec.json.encode((results, message))).hexdigest()[:16]
        command = Return(
            id=f"return:{digest}",
            run_alias=f"return:{run}:{digest}",
            run=run,
            results=results,
            message=message,
            client=client,
            on_disconnect=on_disconnect,
        )
        sent = await self._service.return_results(self._principal, command)
        return await self.message(sent.run, shown_to=None if message is not None else run)

    async def _message(self, given: Mapping[str, Any]) -> Message:
        """A user's message as it is sent; what it carries inline is uploaded first."""
        content: Any = given.get("content")
        id = str(given.get("id") or self._gateway.new_id())
        if isinstance(content, list):
            parts = cast("list[dict[str, Any]]", content)
            key = f"{self._thread.id}:{id}"
            content = await filed(self._service.uploads, self._principal, parts, key=key)
        return Message(id=id, content=content)

    # --- answering ------------------------------------------------------------------------------------------------

    async def _approve(self, transcript: Transcript, answers: Sequence[Approval]) -> Told | None:
        """What goes on with a person's answers; None if none of the questions is known here."""
        known = {
            part.id: (run.id, part)
            for run in transcript.runs
            for message in run.messages
            for part in message.parts
            if isinstance(part, InterruptPart)
        }
        answered = [(known[answer.interrupt], answer) for answer in answers if answer.interrupt in known]
        for (_, part), answer in answered:
            if part.status == "open":
                await self._resolve(part.id, answer.payload)
        return await self._goes_on(answered[0][0][0]) if answered else None

    async def _resolve(self, interrupt: str, payload: Any) -> None:
        command = Resolve(id=f"answer:{interrupt}"[:128], interrupt=interrupt, payload=payload)
        try:
            await self._service.resolve(self._principal, command)
        except (AlreadyDecided, Expired):
            pass  # somebody was faster: the message tells how it went on

    async def _goes_on(self, run: str) -> Told:
        """The message of a run that waited, behind what the client has of it."""
        return await self.message(newest_of(await self._transcript(), run), shown_to=run)


def _returned(message: Mapping[str, Any]) -> ToolMessage:
    return ToolMessage(
        id=str(message["id"]),
        tool_call_id=str(message["toolCallId"]),
        content=message["content"],
        error=message.get("error"),
    )


def _value(content: Any) -> Any:
    """What a client's tool gave: the JSON value in its text, or the text."""
    if not isinstance(content, str) or too_deep(content):
        return content
    try:
        return msgspec.json.decode(content)
    except (ValueError, RecursionError):
        return content


def _client(asked: Asked, placed: Placed) -> ClientInput | None:
    history = (*placed.unknown, *placed.new[:-1])
    tools = tuple(_tools(asked.tools))
    return ClientInput(tools=tools, history=history) if tools or history else None


def _tools(given: Any) -> list[ClientTool]:
    named: list[tuple[Any, Any]] = []
    if isinstance(given, dict):
        named = list(cast("dict[Any, Any]", given).items())
    elif isinstance(given, list):
        named = [
            (cast("dict[str, Any]", one).get("name"), one) for one in cast("list[Any]", given) if isinstance(one, dict)
        ]
    found: list[ClientTool] = []
    for name, one in named:
        if not isinstance(name, str) or not isinstance(one, dict):
            raise InvalidRequest("`tools` is a list of tools with a `name`, or an object with one tool per name.")
        tool = cast("dict[str, Any]", one)
        description = tool.get("description")
        found.append(
            ClientTool(
                name=name,
                description=description if isinstance(description, str) else "",
                parameters=tool.get("parameters", tool.get("inputSchema")),
            )
        )
    return found
