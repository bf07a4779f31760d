"""What a client may ask, decoded: the frames of the native WebSocket and the bodies behind the HTTP routes.

Every command carries a client-made `id`. For those that change something (`send`, `return`, `cancel`, `resolve`, `steer`, `edit`, `retry`) one
that comes again with the same id has one effect and gets the same answer (I5).
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from runcast.runs import ClientInput, Message, OnBranch, OnBusy, OnDisconnect, ToolMessage


class Command(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", rename="camel", omit_defaults=True):
    """The root of all client frames; `op` tells them apart. Unknown fields are ignored."""


class Hello(Command, frozen=True, kw_only=True, tag="hello"):
    """The first frame of a connection."""

    token: str | None = None
    client: str | None = None


class Subscribe(Command, frozen=True, kw_only=True, tag="subscribe"):
    """Follow one thread (or, with `inbox`, one's own inbox) after `after`; without `after`: snapshot, then tail."""

    id: str
    thread: str | None = None
    inbox: bool = False
    after: int | None = None
    epoch: str | None = None


class Unsubscribe(Command, frozen=True, kw_only=True, tag="unsubscribe"):
    id: str
    sub: int


class Starting(Command, frozen=True, kw_only=True):
    """What every command may say that starts a run."""

    run_alias: str | None = None
    """What the client calls the run, in its thread: then this, not the message's or the command's id, is the key of
    idempotency, and the body does not matter."""
    on_disconnect: OnDisconnect | None = None
    """What happens to the run when its last watcher is gone; None: its agent's setting, else the server's. Kept in memory."""
    client: ClientInput | None = None
    """Tools that the client runs, its state and context. A retry, or an answer, without it: what the run before was given."""


class Send(Starting, frozen=True, kw_only=True, tag="send"):
    """Say something to an agent: starts a run, or queues it. Without `thread` a new one is made."""

    id: str
    thread: str | None = None
    agent: str | None = None
    message: Message
    on_busy: OnBusy = "enqueue"
    parent_run_id: str | None = None


class Return(Starting, frozen=True, kw_only=True, tag="return"):
    """Give what came of tool calls that `run` left to the client: starts a run that follows it and goes on with that."""

    id: str
    run: str
    results: tuple[ToolMessage, ...]
    message: Message | None = None
    """What the person said meanwhile, if anything."""
    on_busy: OnBranch = "enqueue"


class Cancel(Command, frozen=True, kw_only=True, tag="cancel"):
    """Stop one run, or whatever runs and waits in one thread."""

    id: str
    run: str | None = None
    thread: str | None = None
    reason: str | None = None


class Resolve(Starting, frozen=True, kw_only=True, tag="resolve"):
    """Answer an interrupt. What it says of the run that goes on counts in the last answer to a waiting run. For an approval the payload is `{"approved": bool, "reason"?: str, "editedArgs"?: object}`."""

    id: str
    interrupt: str
    status: Literal["resolved", "cancelled"] = "resolved"
    payload: Any = None


class Steer(Command, frozen=True, kw_only=True, tag="steer"):
    """Hand a message to the running agent, or queue it if it cannot take one."""

    id: str
    run: str
    message: Message


class Edit(Starting, frozen=True, kw_only=True, tag="edit"):
    """Say something else in place of what `run` was asked: starts a run beside it, with its parent. If `run` goes on, waits or
    is queued, it is stopped first; while another run of the thread goes on, `on_busy` says what happens."""

    id: str
    run: str
    message: Message
    on_busy: OnBranch = "enqueue"


class Retry(Starting, frozen=True, kw_only=True, tag="retry"):
    """Ask the same again: as `edit`, with the message that `run` was asked, under the same message id."""

    id: str
    run: str
    on_busy: OnBranch = "enqueue"


class Auth(Command, frozen=True, kw_only=True, tag="auth"):
    id: str
    token: str


class Ping(Command, frozen=True, kw_only=True, tag="ping"):
    t: int | float | str | None = None


AnyCommand = Hello | Subscribe | Unsubscribe | Send | Return | Cancel | Resolve | Steer | Edit | Retry | Auth | Ping
