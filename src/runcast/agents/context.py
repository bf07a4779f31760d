"""What a run can see and do beside yielding: its input, its history, and verbs that write to the log.

    async with run.tool("search", query=prompt, title="Searching…") as call:
        call.result = await search(prompt)
    await run.text(f"Found {len(call.result)}.")

Everything goes through the runner's `emit`, in order with what the agent yields. `run.text` and a yielded string write into
the same open message; it is closed when a tool, a thought or another message begins.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import msgspec
from msgspec import UNSET

from runcast import events as e
from runcast import jsonpatch
from runcast.agents.asking import Approval, Asked, Question, approval, approved, marker
from runcast.agents.attached import AttachedFile, attached
from runcast.agents.draft import Draft
from runcast.agents.sheltered import OnCancel, Sheltered, check_on_cancel
from runcast.agents.steering import Steering
from runcast.errors import AgentError, Declined, RunEnded
from runcast.events import Event
from runcast.files import Attachment
from runcast.ids import IdSource
from runcast.jsonvalue import to_json
from runcast.runs import AgentState, Answer, ClientTool, Message, Principal, RunInput, ToolMessage

if TYPE_CHECKING:
    from runcast.agents.base import Turn
    from runcast.agents.recorded import Failure
    from runcast.agents.replaying import Journal
    from runcast.stores.files import Files

Park = Callable[[Sequence[Asked], Callable[[str], AgentState]], Awaitable[Sequence[Answer]]]
"""Ends the run as *waiting* with these questions and gives the answers when a run goes on with them. The function makes the
state to keep, of the run's id."""


class RunContext:
    """What a run can see and do beside yielding events. One per run; valid until the run ends."""

    def __init__(
        self,
        *,
        input: RunInput,
        principal: Principal,
        new_id: IdSource,
        emit: Callable[[Event], Awaitable[None]],
        history: Callable[[], Awaitable[Sequence[Turn]]],
        app: Mapping[str, Any] | None = None,
        state: Any = None,
        handed: Steering | None = None,
        park: Park | None = None,
        flush: Callable[[], Awaitable[None]] | None = None,
        left: Turn | None = None,
        on_checkpoint: Callable[[], None] = lambda: None,
        files: Callable[[], Files] | None = None,
    ) -> None:
        self.input = input
        self.principal = principal
        """Who asked."""
        self.new_id = new_id
        """Ids for messages, tool calls and artifacts."""
        self.app: Mapping[str, Any] = app if app is not None else {}
        """What the application's lifespan made (connections, clients): the same object for every run."""
        self.state = state
        """The thread's shared state as it stands; change it by `set_state` or `patch_state`."""
        self.saved: AgentState | None = None
        self.usage: list[e.TokenUsage] = []
        """What the run has cost so far, as far as the adapter knows; told also if the run fails or is stopped."""
        self.left = left
        """What the attempt before left, if this one goes on from there. For adapters."""
        self.sheltered = Sheltered()
        self.draft = Draft(new_id)
        """The open message that `text`, `think` and yielded strings share. For adapters."""
        self.handed = handed if handed is not None else Steering()
        """What was handed to the run and not read yet. For adapters; see `steered` and `steering`."""
        self._emit = emit
        self._history = history
        self._park = park
        self._journal: Journal | None = None
        self._flush = flush
        self._on_checkpoint = on_checkpoint
        self._files = files
        self._checkpoint: AgentState | None = None

    @property
    def attempt(self) -> int:
        """1; more if the run was taken up again after its process died (`on_crash`)."""
        return self.input.attempt

    @property
    def run_id(self) -> str:
        return self.input.run

    @property
    def thread_id(self) -> str:
        return self.input.thread

    @property
    def client_tools(self) -> Sequence[ClientTool]:
        """Tools that the client runs: `call_client_tool` calls one."""
        return self.input.client.tools

    @property
    def tool_results(self) -> Sequence[ToolMessage]:
        """What came of the calls that the run before left to the client; empty if this run is not about that."""
        return self.input.tool_results

    async def emit(self, event: Event) -> None:
        """Put an event into the log, in order with what the agent yields. Returns when there is room for more."""
        await self._write([*self.draft.before(event), event])

    async def history(self) -> Sequence[Turn]:
        """The runs on the path to this one, oldest first, without this one and without those it goes on with."""
        return await self._history()

    async def file(self, what: str | Attachment | Mapping[str, Any]) -> AttachedFile:
        """A file of the person who asked, to be read: one of `input.attachments`, a content part, an id, a URL, or the `url` of
        a blob.

        Raises:
            AgentError: `unknown_file`: it is not there (any more). `file_elsewhere`: it is not on this server.
        """

        def files() -> Files:
            if self._files is None:
                raise AgentError("There are no files here.", code="unknown_file")
            return self._files()

        return await attached(what, files, self.principal)

    def save(self, adapter: str, version: int, data: bytes) -> None:
        """Keep what this run adds to the framework's history; written with the run's terminal event, whatever that is."""
        self.saved = AgentState(run=self.input.run, adapter=adapter, version=version, data=data)

    # --- being steered --------------------------------------------------------------------------------------------

    async def steered(self, timeout_s: float = 0) -> Message | None:
        """The next message that somebody handed to this run while it goes on; None if none came within `timeout_s` seconds.

        Only an agent that says so (`@runcast.agent(steerable=True)`) is handed any. What is not read before the run ends
        becomes a message of its own, queued behind it.
        """
        if (known := await self._heard_before()) is not None:
            return known
        if timeout_s > 0:
            with anyio.move_on_after(timeout_s):
                await self.handed.wait()
        else:
            await anyio.lowlevel.checkpoint()
        for message in self.handed.unread:
            await self.read(message)
            return message
        return None

    async def _heard_before(self) -> Message | None:
        if self._journal is None or (known := self._journal.look()) is None:
            return None
        await self._write(self.draft.before(e.RunSteered(message=known.as_input(), consumed=True)))  # as the first time
        return known

    async def steering(self) -> AsyncGenerator[Message]:
        """The messages handed to this run, as they come, until whoever iterates stops or the run ends."""
        while True:
            if (known := await self._heard_before()) is not None:
                yield known
                continue
            await self.handed.wait()
            for message in self.handed.unread[:1]:
                await self.read(message)
                yield message

    async def read(self, message: Message) -> None:
        """Put into the log that the agent has read a message that was handed to it. For adapters."""
        if self.handed.take(message):
            if self._journal is not None:
                self._journal.hear(message)
            try:
                await self.emit(e.RunSteered(message=message.as_input(), consumed=True))
            except RunEnded:
                self.handed.hand(message)
                raise

    # --- asking a person ------------------------------------------------------------------------------------------

    async def ask(
        self,
        question: str,
        *,
        options: Sequence[str] | None = None,
        schema: Any = None,
        expires_in: float | None = None,
    ) -> Any:
        """Ask a person and wait for the answer, however long that takes: text, one of `options`, or what `schema` says.

        The run ends as *waiting*; the answer starts another one, and the function goes on in it (`run_id` changes). What it
        writes meanwhile, in other tasks, waits until then. Several that ask at the same time are asked one after the other;
        `ask_all` asks several questions at once.

        Args:
            options: the answer is one of these strings.
            schema: a JSON Schema (2020-12) gives JSON of that form; a pydantic model, a dataclass, a `msgspec.Struct` or
                another type gives an instance of it.
            expires_in: seconds after which no answer is a no; None: the server's `answer_timeout_s`.

        Raises:
            Declined: the question was withdrawn or expired. Not caught, it ends the run as *cancelled*.
            AgentError: `invalid_question`, it cannot be asked so; `too_many_waiting`, too many agents wait already.
        """
        [answer] = await self.ask_all([Question(question, options, schema, expires_in)])
        return answer

    async def ask_all(self, questions: Sequence[Question | str]) -> list[Any]:
        """Ask several things at once: the answers in the order of the questions, when all are answered.

        Raises:
            Declined: one of them was withdrawn or expired. As `ask` otherwise.
        """
        asked = [Question(one) if isinstance(one, str) else one for one in questions]
        answers = await self._asked(asked) if asked else ()
        return [one.value(answer) for one, answer in zip(asked, answers, strict=True)]

    async def approve(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        message: str | None = None,
        editable: Any = False,
        expires_in: float | None = None,
    ) -> Approval:
        """Ask whether `name` may be done with exactly these arguments; returns only if a person says yes.

        `editable`: True, or the form (as `ask`'s `schema`) of the arguments the person may give instead: use those of the
        approval, not your own.

        Raises:
            Declined: no, withdrawn, or expired; `reason` holds the person's words. Not caught, it ends the run as *cancelled*.
        """
        question = approval(name, arguments or {}, text=message, editable=editable, expires_in=expires_in)
        [answer] = await self._asked([question])
        return approved(question, answer)

    async def _asked(self, questions: Sequence[Question]) -> Sequence[Answer]:
        if self._park is None:
            raise AgentError("Nobody can be asked here.", code="cannot_ask")
        await self._write(self.draft.close())
        journal = self._journal
        if journal is not None and (known := journal.answers(questions)) is not None:
            await self._kept(journal)
            return known

        def state(run: str) -> AgentState:
            return marker(run) if journal is None else journal.state(run, questions)

        answers = await self._park([one.asked() for one in questions], state)
        if journal is not None:
            journal.answered(questions, answers)
            await self._kept(journal)
        return answers

    async def _kept(self, journal: Journal) -> None:
        """Who got an answer may do at once what it allows: not before the store knows that this run has it."""
        if journal.durable:
            await self.flush()

    async def step(
        self, key: str, work: Callable[..., Any], /, *args: Any, idempotent: bool = False, **kwargs: Any
    ) -> Any:
        """Do `work(*args, **kwargs)`, async or not (then in a thread), and give its result as JSON.

        In a resumable agent the result is recorded under `key`: when the function is called again after a restart it is
        returned without doing the work a second time, and what the work had said is not said again. One that failed fails
        again, with an `AgentError`. Elsewhere it is just done.

        With `on_crash="resume"` the work begins when the journal says so in the store (one commit); a process that dies in it
        ends the run. `idempotent`: doing it twice does no more than doing it once. Then it is not waited for, and the work is
        done again after a crash.

        Raises:
            AgentError: code `journal_too_large`: with this result the journal has more than 1 MiB.
        """
        journal = self._journal
        if journal is None:
            return to_json(await _done(work, args, kwargs))
        from runcast.agents.recorded import Failure
        from runcast.agents.replaying import NOTHING

        try:
            known = journal.step(key, idempotent=idempotent)
        finally:
            if journal.spoke(key):  # what comes now is no part of what was said before it
                await self._write(self.draft.close())
        if known is not NOTHING:
            return known
        if journal.durable and not idempotent:
            journal.keep()
            await self.flush()
        try:
            with journal.inside(key):
                value: Any = to_json(await _done(work, args, kwargs))
        except (Declined, RunEnded):
            raise
        except Exception as error:
            journal.stepped(key, failure=Failure.of(f"The step {key} failed.", error))
            raise
        journal.stepped(key, value)
        return value

    def go_on(self, input: RunInput) -> None:
        """From now on this is the context of the run that goes on with the answers. For the runner."""
        self.input = input
        if self.saved is not None:
            self.saved = msgspec.structs.replace(self.saved, run=input.run)
        if self._checkpoint is not None:
            self._checkpoint = msgspec.structs.replace(self._checkpoint, run=input.run)
            self._on_checkpoint()

    def replay(self, journal: Journal, input: RunInput) -> None:
        """Record, or replay, what the function does. For the adapter of functions."""
        self.input = input
        self.state = journal.state_before(self.state)
        self.new_id = journal.ids(self.new_id)
        self.draft = Draft(self.new_id, journal.speaker)
        self._journal = journal
        self._emit = journal.through(self._emit)
        history = self._history

        async def before() -> Sequence[Turn]:
            turns = list(await history())
            gone_on = input.resumes
            while turns and turns[-1].run.id == gone_on:
                gone_on = turns.pop().run.resumes
            return turns

        self._history = before

    def checkpoint(self, adapter: str, version: int, data: bytes) -> None:
        """Keep how far the run is, in case its process dies (`on_crash="resume"`): written together with the events that were
        emitted before, or with later ones, never before them. `save` replaces it."""
        self._checkpoint = AgentState(run=self.input.run, adapter=adapter, version=version, data=data)
        self._on_checkpoint()

    def take_checkpoint(self) -> AgentState | None:
        """For the runner: the newest checkpoint, once."""
        state, self._checkpoint = self._checkpoint, None
        return state

    async def flush(self) -> None:
        """For an agent whose runs may be taken up again: wait until what it said is in the log. What is not there did not
        happen, so a tool must not begin before its call is.

        Raises:
            RunEnded: it will never be in the log, the run is over.
        """
        if self._flush is not None:
            await self._flush()

    # --- words ----------------------------------------------------------------------------------------------------

    async def text(self, delta: str) -> None:
        """Write a piece of the answer into the open message; opens one if none is."""
        await self._write(self.draft.text(delta))

    async def think(self, text: str) -> None:
        """Write one whole thought. For a thought that arrives in pieces: `reasoning`."""
        if text:
            await self._write([*self.draft.close(), *self.draft.thought(text), *self.draft.close()])

    @asynccontextmanager
    async def message(self, *, role: str = "assistant", name: str | None = None) -> AsyncGenerator[Writer]:
        """A text message of its own, whatever else is written meanwhile: `async with run.message() as m: await m.write("…")`.

        An exception inside ends it as incomplete and goes on; on cancellation the runner closes it.
        """
        if role not in ("assistant", "system", "developer", "user"):
            raise ValueError(f"A message's role is assistant, system, developer or user, not {role!r}.")
        id = self.new_id()
        await self.emit(
            e.TextMessageStart(message_id=id, role=UNSET if role == "assistant" else role, name=_given(name))
        )
        try:
            yield Writer(id, lambda delta: self._emit(e.TextMessageContent(message_id=id, delta=delta)))
        except Exception:
            await self._emit(e.TextMessageEnd(message_id=id, incomplete="failed"))
            raise
        await self._emit(e.TextMessageEnd(message_id=id))

    @asynccontextmanager
    async def reasoning(self) -> AsyncGenerator[Writer]:
        """A span of thinking, written in pieces; ends like `message`."""
        id = self.new_id()
        await self.emit(e.ReasoningStart(message_id=id))
        await self._emit(e.ReasoningMessageStart(message_id=id, role="reasoning"))
        try:
            yield Writer(id, lambda delta: self._emit(e.ReasoningMessageContent(message_id=id, delta=delta)))
        except Exception:
            await self._emit(e.ReasoningMessageEnd(message_id=id, incomplete="failed"))
            await self._emit(e.ReasoningEnd(message_id=id))
            raise
        await self._emit(e.ReasoningMessageEnd(message_id=id))
        await self._emit(e.ReasoningEnd(message_id=id))

    # --- tools ----------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def tool(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        /,
        *,
        title: str | None = None,
        key: str | None = None,
        idempotent: bool = False,
        on_cancel: OnCancel = "cooperative",
        **more: Any,
    ) -> AsyncGenerator[ToolCall]:
        """A tool call, from its arguments to its result: set `call.result` (and `call.summary`) inside.

        `idempotent`: running it twice does no more than running it once, so a run in which it began may be restarted.
        `on_cancel`: what Stop does to it, for at most 10 s: `cooperative` cancels it where it awaits; `finish` lets it end and
        records its result before the run ends; `detach` ends the run at once and lets the tool go on without it.

        Arguments are keywords; those that are called like a parameter here go into the mapping. An exception inside
        becomes a result with status `error` (an `AgentError` says its sentence, any other only that the tool failed) and
        goes on; `Declined` becomes one with status `denied`. On cancellation nothing is written: the runner ends the call
        as cancelled.

        With `key`, in a resumable agent, the result is recorded: called again after a restart, `call.recorded` is true and
        `call.result` is there: `if not call.recorded: call.result = await work()`.
        """
        check_on_cancel(on_cancel)
        given = {**(arguments or {}), **more}
        text = json_text(given)
        emit = self.sheltered.emitter(self._emit, on_cancel)
        call = ToolCall(self.new_id(), name, emit, arguments=given, ask=self._asked)
        journal = self._journal
        if journal is not None:
            from runcast.agents.replaying import NOTHING

            call.id, known = journal.call(call.id, name, text, key, idempotent=idempotent)
            if known is not NOTHING:
                call.recorded, call.result = True, known
        await self.emit(
            e.ToolCallStart(
                tool_call_id=call.id,
                tool_call_name=name,
                title=_given(title),
                idempotent=True if idempotent else UNSET,
            )
        )
        await self._emit(e.ToolCallArgs(tool_call_id=call.id, delta=text))
        await self._emit(e.ToolCallEnd(tool_call_id=call.id))
        if journal is not None:
            if (failed := journal.failure(call.id)) is not None:
                raise failed.error()
            if not call.recorded:
                journal.keep()
        await self.flush()
        with self.sheltered.during(on_cancel):
            try:
                yield call
            except Declined as error:
                if journal is not None:
                    journal.returned(call.id, denied=True)
                await self._end_tool(call, status="denied", content=error.message, error=error.message)
                raise
            except Exception as error:
                sentence = error.message if isinstance(error, AgentError) else f"The tool {name} failed."
                if journal is not None:
                    journal.returned(call.id, failure=_failure(sentence, error))
                await self._end_tool(call, status="error", content=sentence, error=sentence)
                raise
            await self._end_tool(call, **self._outcome(call))
        if on_cancel != "cooperative":
            await anyio.lowlevel.checkpoint()  # a Stop that came meanwhile takes effect here

    async def call_client_tool(self, name: str, arguments: Mapping[str, Any] | None = None, /, **more: Any) -> str:
        """Leave a tool call to the client: one of `client_tools`. Returns the call's id.

        The result comes with another run, as `tool_results` there: end this one when all is called. Arguments are keywords,
        or a mapping.

        Raises:
            AgentError: code `unknown_tool`, the client has no such tool.
        """
        if self.input.client.tool(name) is None:
            raise AgentError(f"The app that asked has no tool {name!r}.", code="unknown_tool")
        id = self.new_id()
        await self.emit(e.ToolCallStart(tool_call_id=id, tool_call_name=name))
        await self._emit(e.ToolCallArgs(tool_call_id=id, delta=json_text({**(arguments or {}), **more})))
        await self._emit(e.ToolCallEnd(tool_call_id=id))
        return id

    def _outcome(self, call: ToolCall) -> dict[str, Any]:
        """The fields of the result of a call whose block ended well."""
        journal = self._journal
        if call.declined is not None and call.result is None:  # the agent took the no and went on
            if journal is not None:
                journal.returned(call.id, denied=True)
            sentence = call.content or call.declined.message
            return {"status": "denied", "content": sentence, "error": call.declined.message}
        result = to_json(call.result)
        if journal is not None:
            journal.returned(call.id, result)
        content = call.content if call.content is not None else result if isinstance(result, str) else json_text(result)
        return {"content": content, "result": result, "summary": _given(call.summary)}

    async def _end_tool(self, call: ToolCall, **fields: Any) -> None:
        for event in self._result(call, **fields):
            await call.emit(event)

    def _result(self, call: ToolCall, **fields: Any) -> list[Event]:
        return [e.ToolCallResult(message_id=self.new_id(), tool_call_id=call.id, **fields)]

    # --- things beside the text -----------------------------------------------------------------------------------

    async def artifact(
        self,
        kind: str,
        content: Any,
        *,
        name: str | None = None,
        id: str | None = None,
        mime_type: str | None = None,
        version: int | None = None,
    ) -> str:
        """Show a thing beside the text; returns its id, under which a later call replaces it."""
        artifact = id or self.new_id()
        await self.emit(
            e.ArtifactSnapshot(
                artifact_id=artifact,
                kind=kind,
                content=to_json(content),
                name=_given(name),
                mime_type=_given(mime_type),
                version=_given(version),
            )
        )
        return artifact

    async def source(self, url: str, *, title: str | None = None, id: str | None = None) -> str:
        """Say where something in the answer comes from; returns the source's id."""
        source = id or self.new_id()
        await self.emit(e.Source(source_id=source, url=url, title=_given(title)))
        return source

    async def set_state(self, value: Any) -> None:
        """Replace the thread's shared state."""
        value = to_json(value)
        await self.emit(e.StateSnapshot(snapshot=value))
        self.state = value

    async def patch_state(self, operations: Sequence[Mapping[str, Any]]) -> None:
        """Change the thread's shared state by a JSON Patch (RFC 6902).

        Raises:
            AgentError: code `invalid_patch`, the patch does not fit the state; nothing was changed or written.
        """
        patch = to_json([dict(operation) for operation in operations])
        try:
            state = jsonpatch.apply(self.state, patch)
        except jsonpatch.PatchError as error:
            raise AgentError(
                "The agent tried to change the shared state in a way that does not fit it.", code="invalid_patch"
            ) from error
        await self.emit(e.StateDelta(delta=patch))
        self.state = state

    async def custom(self, name: str, value: Any) -> None:
        """An event of your own kind; clients that do not know `name` ignore it."""
        await self.emit(e.Custom(name=name, value=to_json(value)))

    async def _write(self, events: Sequence[Event]) -> None:
        if not events:
            await (
                anyio.lowlevel.checkpoint()
            )  # an agent that writes nothing in a loop must not keep the event loop to itself
        for event in events:
            await self._emit(event)


class Writer:
    """Writes the pieces of one open message."""

    def __init__(self, id: str, write: Callable[[str], Awaitable[None]]) -> None:
        self.id = id
        self._write = write

    async def write(self, delta: str) -> None:
        if delta:
            await self._write(delta)


class ToolCall:
    """A tool call that is running."""

    def __init__(
        self,
        id: str,
        name: str,
        emit: Callable[[Event], Awaitable[None]],
        *,
        arguments: Mapping[str, Any] | None = None,
        ask: Callable[[Sequence[Question]], Awaitable[Sequence[Answer]]] | None = None,
    ) -> None:
        self.id = id
        self.name = name
        self.arguments: dict[str, Any] = dict(arguments or {})
        """What the tool is called with; after `approve` what a person allowed."""
        self.recorded = False
        """The result is known from before a restart; the tool must not run again."""
        self.declined: Declined | None = None
        self.result: Any = None
        """What the tool returned; made JSON when the block ends."""
        self.content: str | None = None
        """What the model reads, if that is not the result."""
        self.summary: str | None = None
        """One sentence for people, e.g. `Found 3 tasks`."""
        self.emit = emit
        self._ask = ask

    async def approve(
        self, message: str | None = None, *, editable: Any = False, expires_in: float | None = None
    ) -> Approval:
        """Ask whether this call may run with exactly its arguments; returns only if a person says yes. See `RunContext.approve`.

        Raises:
            Declined: no, withdrawn, or expired.
        """
        if self._ask is None:
            raise AgentError("Nobody can be asked here.", code="cannot_ask")
        question = approval(
            self.name,
            self.arguments,
            text=message,
            tool_call_id=self.id,
            editable=editable,
            expires_in=expires_in,
        )
        [answer] = await self._ask([question])
        try:
            yes = approved(question, answer)
        except Declined as error:
            self.declined = error
            raise
        self.arguments = dict(yes.arguments)
        return yes

    async def progress(
        self, progress: float | None = None, *, total: float | None = None, message: str | None = None, data: Any = None
    ) -> None:
        """Say how far it is; `progress` counts towards `total`."""
        await self.emit(
            e.ToolCallProgress(
                tool_call_id=self.id,
                progress=UNSET if progress is None else float(progress),
                total=UNSET if total is None else float(total),
                message=_given(message),
                data=UNSET if data is None else to_json(data),
            )
        )


def json_text(value: Any) -> str:
    """JSON text of anything `to_json` takes."""
    return msgspec.json.encode(to_json(value)).decode()


async def _done(work: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    if inspect.iscoroutinefunction(work):
        made: Any = work(*args, **kwargs)
    else:
        made = await anyio.to_thread.run_sync(lambda: work(*args, **kwargs), abandon_on_cancel=True)
    return await made if inspect.isawaitable(made) else made


def _failure(sentence: str, error: Exception) -> Failure:
    from runcast.agents.recorded import Failure

    return Failure.of(sentence, error)


def _given(value: Any) -> Any:
    return UNSET if value is None else value
