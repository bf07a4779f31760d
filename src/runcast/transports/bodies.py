"""What HTTP clients send and get, as structs: the OpenAPI document is made from these."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from runcast.events import Interrupt
from runcast.runs import OnBranch, OnBusy, Run, Thread
from runcast.service import AgentInfo
from runcast.transcript import Transcript
from runcast.updates import ResyncReason

Title = Annotated[str, Meta(max_length=200)]
Id = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9._:@-]+$")]


class NewThread(Struct, frozen=True, kw_only=True, rename="camel"):
    title: Title = ""
    agent: str = ""
    """The agent of the thread's messages; empty means the default agent."""


class ThreadChange(Struct, frozen=True, kw_only=True, rename="camel"):
    """Only what is there changes; at least one of them."""

    title: Title | UnsetType = UNSET
    pinned: bool | UnsetType = UNSET


class NewMessage(Struct, frozen=True, kw_only=True, rename="camel"):
    """A person's message: AG-UI 1.0 `UserMessage`; without an id the server makes one."""

    id: Id | None = None
    role: Literal["user"] = "user"
    content: str | list[dict[str, Any]]


class MessageToSend(Struct, frozen=True, kw_only=True, rename="camel"):
    """`message` may be just its text."""

    message: NewMessage | str
    agent: str | None = None
    on_busy: OnBusy = "enqueue"
    """What to do while another run of the thread goes on."""
    parent_run_id: str | None = None
    """The run that this message follows; without it the newest."""


class EditedMessage(Struct, frozen=True, kw_only=True, rename="camel"):
    """What is said in place of what the run was asked. `message` may be just its text."""

    message: NewMessage | str
    on_busy: OnBranch = "enqueue"
    """What to do while another run of the thread goes on. The edited one itself is stopped."""


class Again(Struct, frozen=True, kw_only=True, rename="camel"):
    on_busy: OnBranch = "enqueue"
    """What to do while another run of the thread goes on. The one that is tried again is stopped."""


class SteeringMessage(Struct, frozen=True, kw_only=True, rename="camel"):
    """`message` may be just its text."""

    message: NewMessage | str


class Stop(Struct, frozen=True, kw_only=True, rename="camel"):
    reason: Annotated[str, Meta(max_length=1000)] | None = None


class Decision(Struct, frozen=True, kw_only=True, rename="camel"):
    """The answer to an interrupt. For an approval the payload is `{"approved": bool, "reason"?: str, "editedArgs"?: object}`."""

    status: Literal["resolved", "cancelled"] = "resolved"
    payload: Any = None


class Forget(Struct, frozen=True, kw_only=True, rename="camel"):
    confirm: str
    """Must be `delete all my data`: there is no way back."""


class Forgotten(Struct, frozen=True, kw_only=True, rename="camel"):
    threads: int
    """How many conversations were deleted."""


class ThreadList(Struct, frozen=True, kw_only=True, rename="camel"):
    threads: list[Thread]
    cursor: str | None
    """Give it back to get the next page; null at the end."""


class ThreadView(Struct, frozen=True, kw_only=True, rename="camel"):
    """A thread as a person sees it, folded up to `seq`: subscribe after that."""

    thread: Thread
    transcript: Transcript
    seq: int
    epoch: str


class EventList(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One page of the log. With `resync` the cursor was not of this log: start anew, from the thread's view or from 0."""

    events: list[dict[str, Any]]
    next: int
    head: int
    epoch: str
    resync: ResyncReason | None = None


class RunAnswer(Run, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A run and what came of it so far."""

    text: str = ""
    """What the agent said: its text messages, with an empty line between them."""
    error: str | None = None
    """Why it failed, in a sentence; `code` says it for programs."""
    retry_after_ms: int | None = None
    """It may succeed this long after `endedAt`."""
    interrupts: list[Interrupt] = field(default_factory=list[Interrupt])
    """What it waits for."""
    result: Any = None
    replayed: bool = False


class AgentList(Struct, frozen=True, kw_only=True, rename="camel"):
    agents: list[AgentInfo]


class Health(Struct, frozen=True, kw_only=True, rename="camel"):
    status: Literal["ok", "draining", "starting", "failing"]
