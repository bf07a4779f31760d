"""What an AG-UI client's `RunAgentInput` asks for: the run that it starts, or the one that it means.

The client sends its whole history each time; the thread's log is what counts. `histories.place` finds what is new in it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta, Struct

from runcast.commands import Edit, Resolve, Retry, Return, Send
from runcast.dialects.ag_ui_events import text_of
from runcast.dialects.ag_ui_history import run_shown
from runcast.dialects.json_texts import too_deep
from runcast.dialects.native import fault_of_message
from runcast.errors import AlreadyDecided, Expired, InvalidRequest, NotFound
from runcast.histories import MAX_MESSAGES, Placed, place
from runcast.runs import (
    ClientContext,
    ClientInput,
    ClientTool,
    Message,
    OnBusy,
    OnDisconnect,
    Principal,
    Thread,
    ToolMessage,
)
from runcast.service import Service
from runcast.transcript import InterruptPart, ToolPart, Transcript, load
from runcast.transports.enclosed import filed
from runcast.transports.problems import HttpError


class ResumeEntry(Struct, frozen=True, kw_only=True, rename="camel"):
    """The answer to one interrupt (AG-UI 1.0, ResumeEntry)."""

    interrupt_id: str
    status: Literal["resolved", "cancelled"]
    payload: Any = None


class RunAgentInput(Struct, frozen=True, kw_only=True, rename="camel"):
    """The body of a POST (AG-UI 1.0, RunAgentInput). Only the two ids are needed; what is null counts as absent."""

    thread_id: str
    run_id: str
    messages: Annotated[list[dict[str, Any]], Meta(max_length=MAX_MESSAGES)] | None = None
    protocol_version: str | None = None
    state: Any = None
    tools: tuple[ClientTool, ...] | None = None
    context: tuple[ClientContext, ...] | None = None
    forwarded_props: Any = None
    resume: tuple[ResumeEntry, ...] | None = None


def check_first(given: RunAgentInput) -> None:
    """Whether a conversation may begin with this: what is refused here leaves none behind.

    Raises:
        ClientError: what would be raised in an empty conversation.
    """
    if given.resume:
        raise NotFound("There is no such question in this conversation.")
    placed = place(Transcript(), given.messages or [])
    if not placed.new:
        raise InvalidRequest("There is no message to answer.")
    if isinstance(placed.new[-1].get("content"), str) and (fault := fault_of_message(_convert(placed.new[-1]))):
        raise InvalidRequest(fault)


class Asked(NamedTuple):
    run: str
    """The run that is meant: our id."""
    is_new: bool
    """It was started by this; else the client may have seen some of it."""
    calls: frozenset[str] = frozenset()
    """Calls of the run that it goes on with, which wait for their results."""
    is_settled: bool = False
    """It answered what is not asked any more: the client has to hear that nothing is."""


class Asking:
    """One input, of one principal, for one thread."""

    def __init__(
        self,
        service: Service,
        principal: Principal,
        thread: Thread,
        agent: str,
        given: RunAgentInput,
        on_disconnect: OnDisconnect | None,
    ) -> None:
        self._service = service
        self._principal = principal
        self._thread = thread
        self._agent = agent
        self._given = given
        self._on_disconnect: OnDisconnect | None = on_disconnect

    async def ask(self) -> Asked:
        """
        Raises:
            ClientError: it was not taken; nothing was started.
        """
        known = await self._service.find_run(self._principal, self._thread.id, self._given.run_id)
        if known is not None:
            return Asked(known.id, is_new=False)
        view = await self._service.view(self._principal, self._thread.id)
        transcript = load(view.transcript)
        messages = self._given.messages or []
        placed = place(transcript, messages)
        if self._given.resume:
            return await self._resume(transcript, placed, self._given.resume)
        waiting = open_interrupts(transcript)
        if placed.action == "resolve":
            answers = [
                ResumeEntry(interrupt_id=id, status="resolved", payload=_parsed(message))
                for id, message in placed.answers
            ]
            return await self._resume(transcript, placed, answers)
        if placed.action == "nothing":
            if placed.run is None:
                raise InvalidRequest("There is no message to answer.")
            return Asked(placed.run, is_new=False)
        if waiting:
            raise interrupts_open(waiting)
        return await self._say(placed)

    async def _say(self, placed: Placed, on_busy: OnBusy = "enqueue") -> Asked:
        service, id = self._service, self._command_id("say")
        common: dict[str, Any] = {
            "run_alias": self._given.run_id,
            "on_disconnect": self._on_disconnect,
            "client": self._client(placed),
        }
        match placed.action:
            case "retry":
                sent = await service.retry(self._principal, Retry(id=id, run=_run_of(placed), **common))
            case "return":
                results = tuple(_tool_message(one) for one in placed.tool_results)
                said = await self._message(placed.new[-1]) if placed.new else None
                command = Return(id=id, run=_run_of(placed), results=results, message=said, **common)
                sent = await service.return_results(self._principal, command)
            case _ if placed.edited is not None and placed.parent_run is None:
                said = await self._message(placed.new[-1])
                sent = await service.edit(self._principal, Edit(id=id, run=placed.edited, message=said, **common))
            case _:
                send = Send(
                    id=id,
                    thread=self._thread.id,
                    agent=self._agent,
                    message=await self._message(placed.new[-1]),
                    parent_run_id=placed.parent_run,
                    on_busy=on_busy,
                    **common,
                )
                sent = await service.send(self._principal, send)
        return Asked(sent.run, is_new=not sent.replayed)

    async def _message(self, given: dict[str, Any]) -> Message:
        """A user's message as it is sent; what it carries inline is uploaded first."""
        message = _convert(given)
        if not isinstance(message.content, str):
            key = f"{self._thread.id}:{message.id}"
            content = await filed(self._service.uploads, self._principal, message.content, key=key)
            message = msgspec.structs.replace(message, content=content)
        if fault := fault_of_message(message):
            raise InvalidRequest(fault)
        return message

    async def _resume(self, transcript: Transcript, placed: Placed, answers: Sequence[ResumeEntry]) -> Asked:
        """Answer what the thread's waiting run asks: all of it, or nothing."""
        waiting = open_interrupts(transcript)
        if placed.new and all(one.status == "cancelled" for one in answers):
            if left := set(waiting) - {one.interrupt_id for one in answers}:
                raise interrupts_open(sorted(left))
            # Something else is said instead: it takes back what is still asked.
            return await self._say(placed, on_busy="interrupt" if waiting else "enqueue")
        if placed.new:
            raise InvalidRequest("Answers come without a new message: send it when the run that goes on has ended.")
        given = {one.interrupt_id: one for one in answers}
        if waiting and (left := [id for id in waiting if id not in given]):
            raise interrupts_open(left)
        # One that was answered before (elsewhere, or by a request that failed half way) is not asked any more. If all were,
        # the core says what became of the last.
        due = [given[id] for id in waiting] or list(given.values())[-1:]
        if not {one.interrupt_id for one in due} <= asked_in(transcript):
            raise NotFound("There is no such question in this conversation.")  # it may be one of another
        for one in due:
            is_last = one is due[-1]
            command = Resolve(
                id=self._command_id(one.interrupt_id),
                interrupt=one.interrupt_id,
                status=one.status,
                payload=one.payload,
                run_alias=self._given.run_id if is_last else None,
                on_disconnect=self._on_disconnect,
                client=self._client(placed),
            )
            try:
                result = await self._service.resolve(self._principal, command)
            except (AlreadyDecided, Expired):
                # Answered elsewhere, or before a run that failed. A client keeps its questions until a RUN_FINISHED, and
                # takes no message before they are answered: it is told how the conversation stands, and that this is all.
                now = await self._transcript()
                shown = run_shown(now, None)
                if open_interrupts(now) or shown is None:
                    raise
                return Asked(shown.id, is_new=False, is_settled=True)
            if is_last and result.run is not None:
                return Asked(result.run, not result.replayed, open_calls(transcript))
        raise interrupts_open(list(open_interrupts(await self._transcript())))

    async def _transcript(self) -> Transcript:
        return load((await self._service.view(self._principal, self._thread.id)).transcript)

    def _client(self, placed: Placed) -> ClientInput:
        given = self._given
        return ClientInput(
            tools=given.tools or (),
            state=given.state,
            context=given.context or (),
            forwarded_props=given.forwarded_props,
            protocol_version=given.protocol_version,
            history=(*placed.unknown, *placed.new[:-1]),
        )

    def _command_id(self, purpose: str) -> str:
        """The same for the same purpose of the same run: a retry has one effect."""
        name = msgspec.json.encode([self._thread.id, self._given.run_id, purpose])
        return f"ag-ui:{hashlib.sha256(name).hexdigest()}"


def asked_in(transcript: Transcript) -> set[str]:
    """The ids of all questions that were asked in the thread, answered or not."""
    return {
        part.id
        for run in transcript.runs
        for message in run.messages
        for part in message.parts
        if isinstance(part, InterruptPart)
    }


def open_interrupts(transcript: Transcript) -> list[str]:
    """The ids of the questions that the thread waits on, in the order in which they were asked."""
    return [
        part.id
        for run in transcript.runs
        if run.status == "waiting"
        for message in run.messages
        for part in message.parts
        if isinstance(part, InterruptPart) and part.status == "open"
    ]


def open_calls(transcript: Transcript) -> frozenset[str]:
    """The calls without a result in the runs that wait."""
    return frozenset(
        part.id
        for run in transcript.runs
        if run.status == "waiting"
        for message in run.messages
        for part in message.parts
        if isinstance(part, ToolPart) and part.content is None
    )


def interrupts_open(ids: Sequence[str]) -> HttpError:
    named = ", ".join(ids[:8])
    return HttpError(422, "interrupts_open", f"The conversation waits for answers; `resume` must cover all: {named}.")


def _run_of(placed: Placed) -> str:
    assert placed.run is not None  # whatever is returned or asked again belongs to a run
    return placed.run


def _convert(given: dict[str, Any]) -> Message:
    try:
        return msgspec.convert({"id": given.get("id"), "content": given.get("content")}, Message)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"The newest message cannot be read: {error}.") from None


def _tool_message(given: dict[str, Any]) -> ToolMessage:
    try:
        return msgspec.convert({"error": None, **given, "role": "tool"}, ToolMessage)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"A tool's result cannot be read: {error}.") from None


def _parsed(message: dict[str, Any]) -> Any:
    """What a tool message answers to a question: JSON if it is, else its text."""
    text = text_of(message.get("content"))
    if too_deep(text):
        return text
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return text
