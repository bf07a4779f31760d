"""What a run can see and do beside yielding: its input, its history, and verbs that write to the log.

    async with run.tool("search", query=prompt, title="Searching…") as call:
        call.result = await search(prompt)
    await run.text(f"Found {len(call.result)}.")

Everything goes through the runner's `emit`, in order with what the agent yields. `run.text` and a yielded string write into
the same open message; it is closed when a tool, a thought or another message begins.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import msgspec
from msgspec import UNSET

from runcast import events as e
from runcast import jsonpatch
from runcast.agents.attached import AttachedFile, attached
from runcast.agents.draft import Draft
from runcast.agents.steering import Steering
from runcast.errors import AgentError, RunEnded
from runcast.events import Event
from runcast.files import Attachment
from runcast.ids import IdSource
from runcast.jsonvalue import to_json
from runcast.runs import AgentState, Message, Principal, RunInput

if TYPE_CHECKING:
    from runcast.agents.base import Turn
    from runcast.stores.files import Files


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
        self.draft = Draft(new_id)
        """The open message that `text`, `think` and yielded strings share. For adapters."""
        self.handed = handed if handed is not None else Steering()
        """What was handed to the run and not read yet. For adapters; see `steered` and `steering`."""
        self._emit = emit
        self._history = history
        self._files = files

    @property
    def run_id(self) -> str:
        return self.input.run

    @property
    def thread_id(self) -> str:
        return self.input.thread

    async def emit(self, event: Event) -> None:
        """Put an event into the log, in order with what the agent yields. Returns when there is room for more."""
        await self._write([*self.draft.before(event), event])

    async def history(self) -> Sequence[Turn]:
        """The runs on the path to this one, oldest first, without this one."""
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
        if timeout_s > 0:
            with anyio.move_on_after(timeout_s):
                await self.handed.wait()
        else:
            await anyio.lowlevel.checkpoint()
        for message in self.handed.unread:
            await self.read(message)
            return message
        return None

    async def steering(self) -> AsyncGenerator[Message]:
        """The messages handed to this run, as they come, until whoever iterates stops or the run ends."""
        while True:
            await self.handed.wait()
            for message in self.handed.unread:
                await self.read(message)
                yield message

    async def read(self, message: Message) -> None:
        """Put into the log that the agent has read a message that was handed to it. For adapters."""
        if self.handed.take(message):
            try:
                await self.emit(e.RunSteered(message=message.as_input(), consumed=True))
            except RunEnded:
                self.handed.hand(message)
                raise

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
        **more: Any,
    ) -> AsyncGenerator[ToolCall]:
        """A tool call, from its arguments to its result: set `call.result` (and `call.summary`) inside.

        Arguments are keywords; those that are called like a parameter here go into the mapping. An exception inside
        becomes a result with status `error` (an `AgentError` says its sentence, any other only that the tool failed) and
        goes on. On cancellation nothing is written: the runner ends the call as cancelled.
        """
        call = ToolCall(self.new_id(), name, self._emit)
        await self.emit(e.ToolCallStart(tool_call_id=call.id, tool_call_name=name, title=_given(title)))
        await self._emit(e.ToolCallArgs(tool_call_id=call.id, delta=json_text({**(arguments or {}), **more})))
        await self._emit(e.ToolCallEnd(tool_call_id=call.id))
        try:
            yield call
        except Exception as error:
            sentence = error.message if isinstance(error, AgentError) else f"The tool {name} failed."
            await self._write(self._result(call, status="error", content=sentence, error=sentence))
            raise
        result = to_json(call.result)
        content = call.content if call.content is not None else result if isinstance(result, str) else json_text(result)
        await self._write(self._result(call, content=content, result=result, summary=_given(call.summary)))

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

    def __init__(self, id: str, name: str, emit: Callable[[Event], Awaitable[None]]) -> None:
        self.id = id
        self.name = name
        self.result: Any = None
        """What the tool returned; made JSON when the block ends."""
        self.content: str | None = None
        """What the model reads, if that is not the result."""
        self.summary: str | None = None
        """One sentence for people, e.g. `Found 3 tasks`."""
        self._emit = emit

    async def progress(
        self, progress: float | None = None, *, total: float | None = None, message: str | None = None, data: Any = None
    ) -> None:
        """Say how far it is; `progress` counts towards `total`."""
        await self._emit(
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


def _given(value: Any) -> Any:
    return UNSET if value is None else value
