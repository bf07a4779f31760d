"""Threads and runs as the store keeps them: the rows beside the log.

A thread is a conversation: one ordered, durable log of events. A run is one execution of an agent on one input: a span
of that log that ends exactly once. Both are values; the store hands out new ones, nobody changes them in place.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from runcast.files import Attachment, attachments

RunStatus = Literal["queued", "running", "waiting", "done", "failed", "cancelled", "interrupted"]
"""How a run stands; the words of the table in `spec/PROTOCOL.md`."""

ENDED: frozenset[RunStatus] = frozenset({"done", "failed", "cancelled", "interrupted"})
"""No event of the run follows. (`waiting` has its terminal event too: its answer starts a new run.)"""

OnBusy = Literal["enqueue", "reject", "interrupt", "steer"]
"""What happens to a message while another run of the thread goes on or waits."""

OnBranch = Literal["enqueue", "reject", "interrupt"]
"""The same for an edit or a retry: a run of its own in any case."""

OnDisconnect = Literal["continue", "cancel"]
"""What happens to a run when its last watcher is gone."""

ThreadKind = Literal["chat", "inbox", "hidden"]
"""chat: a conversation · inbox: what happens to all of a user's · hidden: the conversation of one request, which nobody comes
back to. It is in no list and no inbox, and is deleted after its answer, or an hour later."""


class Principal(msgspec.Struct, frozen=True):
    """Who asks. All keys of the store are in (tenant, user)."""

    user: str = "local"
    tenant: str = ""


class Thread(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A conversation's row. Times are Unix milliseconds."""

    id: str
    tenant: str = ""
    user: str
    kind: ThreadKind = "chat"
    epoch: str
    title: str = ""
    agent: str = ""
    """The agent of its first run; new messages go to it unless they name another."""
    created_at: int
    updated_at: int
    head: int = 0
    """The last seq at the time this row was read."""
    head_run: str | None = None
    status: RunStatus | None = None
    """How its newest run stands: the live dot in the thread list."""
    pinned: bool = False
    first_seq: int = 1
    """The oldest seq that is kept: more than 1 only in an inbox, whose oldest part goes."""


class Run(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One run's row. `first_seq`..`last_seq` is its span of the thread's log, inclusive."""

    id: str
    thread: str
    agent: str
    status: RunStatus
    parent: str | None = None
    resumes: str | None = None
    replaces: str | None = None
    """The run that was stopped for this one: an edit or a retry of it."""
    message_id: str | None = None
    created_at: int
    started_at: int | None = None
    ended_at: int | None = None
    first_seq: int
    last_seq: int | None = None
    code: str | None = None
    """The code of its RUN_ERROR, if it failed or was interrupted."""
    expires_at: int | None = None
    """Of a waiting run: when the first of its open questions expires."""

    def not_before(self, now: int) -> int:
        """`now`, but not before what happened to the run already: the wall clock may have been set back meanwhile."""
        return max(now, self.created_at, self.started_at or 0)


class Message(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A message that someone sends: AG-UI 1.0 `UserMessage`. `content` is text or a list of AG-UI content parts."""

    id: str
    role: Literal["user"] = "user"
    content: str | list[dict[str, Any]]

    @property
    def text(self) -> str:
        """Its text parts, joined by line breaks."""
        if isinstance(self.content, str):
            return self.content
        return "\n".join(str(part.get("text", "")) for part in self.content if part.get("type") == "text")

    @property
    def attachments(self) -> list[Attachment]:
        """What it brings along beside its text, in order."""
        return attachments(self.content)

    @property
    def files(self) -> list[str]:
        """The ids of the uploaded files among them."""
        return [one.file for one in self.attachments if one.file is not None]

    def as_input(self) -> dict[str, Any]:
        """As events hold it: AG-UI 1.0 `UserMessage`."""
        return {"id": self.id, "role": self.role, "content": msgspec.to_builtins(self.content)}


class ToolMessage(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What came of a tool call that the client runs: AG-UI 1.0 `ToolMessage`. `content` is what the model reads."""

    id: str
    role: Literal["tool"] = "tool"
    tool_call_id: str
    content: str | list[dict[str, Any]]
    error: str | None = None
    """A sentence, if it failed."""

    def as_input(self) -> dict[str, Any]:
        """As events hold it."""
        return {"role": self.role, **msgspec.to_builtins(self)}


class ClientTool(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A tool that the client runs: AG-UI 1.0 `Tool`."""

    name: str
    description: str = ""
    parameters: Any = None
    """The JSON Schema of its arguments."""
    metadata: dict[str, Any] | None = None


class ClientContext(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Something about the client that the agent may want to know: AG-UI 1.0 `Context`."""

    description: str
    value: str


class ClientInput(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What a client brings along beside its messages: the fields of AG-UI 1.0 `RunAgentInput`, and `history`."""

    tools: tuple[ClientTool, ...] = ()
    state: Any = None
    """The shared state as the client has it. None and `{}` say nothing: the thread's own counts."""
    context: tuple[ClientContext, ...] = ()
    forwarded_props: Any = None
    protocol_version: str | None = None
    history: tuple[dict[str, Any], ...] = ()
    """What was said before, elsewhere: messages in AG-UI's shape, oldest first, that the thread's log does not have."""

    def tool(self, name: str) -> ClientTool | None:
        return next((tool for tool in self.tools if tool.name == name), None)


class Answer(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A person's answer to one interrupt: AG-UI 1.0 `ResumeEntry`, and who gave it."""

    interrupt_id: str
    status: Literal["resolved", "cancelled"]
    payload: Any = None
    by: str = ""
    expired: bool = False
    """Nobody answered in time (`status` is then `cancelled`: AG-UI's entry knows no third)."""


class AgentState(msgspec.Struct, frozen=True, kw_only=True):
    """What one run adds to its framework's history, written with the run's terminal event; before that, a checkpoint."""

    run: str
    adapter: str
    version: int
    data: bytes


class Brief(msgspec.Struct, frozen=True, kw_only=True):
    """All that a run begins with: what it is asked, and what its client says about it."""

    messages: tuple[Message, ...] = ()
    answers: tuple[Answer, ...] = ()
    tool_results: tuple[ToolMessage, ...] = ()
    """What came of calls that the parent run left to the client."""
    client: ClientInput | None = None
    on_disconnect: OnDisconnect | None = None
    """Of this run; None: its agent's, else the server's. Not in the log: after a restart it is None."""

    @property
    def files(self) -> list[str]:
        """The ids of the files that its messages name."""
        return [file for message in self.messages for file in message.files]


class RunInput(msgspec.Struct, frozen=True, kw_only=True):
    """What one run is asked: the new message(s) only; what came before is in the context."""

    thread: str
    run: str
    agent: str
    messages: tuple[Message, ...] = ()
    parent: str | None = None
    resumes: str | None = None
    """The waiting run whose interrupts `answers` answers."""
    answers: tuple[Answer, ...] = ()
    tool_results: tuple[ToolMessage, ...] = ()
    """What came of tool calls that the run `parent` left to the client, by `tool_call_id`."""
    client: ClientInput = ClientInput()
    """What the client brought along: its tools, its state and context."""
    attempt: int = 1
    """More than 1: the same run goes on after its process died."""

    @property
    def text(self) -> str:
        return "\n".join(message.text for message in self.messages)

    @property
    def attachments(self) -> list[Attachment]:
        """Images, sounds, videos and documents that came with the message(s), in order. `RunContext.file` reads one."""
        return [attachment for message in self.messages for attachment in message.attachments]
