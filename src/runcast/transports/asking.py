"""From what a client of a message dialect says to a run: its thread by the client's own id, its message, its disconnect policy."""

from __future__ import annotations

from runcast.commands import Send
from runcast.dialects.base import Ask
from runcast.runs import Message, Principal, Thread
from runcast.service import Sent
from runcast.transports.gateway import Gateway


async def thread_of(gateway: Gateway, principal: Principal, conversation: str) -> Thread:
    """The thread that a client calls `conversation`; made on first use."""
    return await gateway.service.open_thread(principal, conversation)


async def ask_agent(
    gateway: Gateway,
    principal: Principal,
    ask: Ask,
    thread: Thread | None,
    *,
    comes_back: bool = True,
    agent: str | None = None,
    id: str | None = None,
) -> Sent:
    """Put the message into `thread`, or into a new one: its run exists when this returns, started or queued.

    A question that the thread waits on is withdrawn: these clients cannot answer it, and the message would wait behind it for
    as long as a question stays open. If nobody can come back to the conversation (`comes_back` false), the run ends with its
    reader, after the usual grace. `id` is the message's; without it, it gets a new one.

    Raises:
        ClientError: it was not taken; nothing happened.
    """
    gateway.refuse_while_draining()
    waits = thread is not None and (await gateway.service.get_thread(principal, thread.id)).status == "waiting"
    id = id or gateway.new_id()
    command = Send(
        id=id,
        thread=None if thread is None else thread.id,
        agent=agent,
        message=Message(id=id, content=ask.text),
        on_busy="interrupt" if waits else "enqueue",
        on_disconnect=None if comes_back else "cancel",
    )
    return await gateway.service.send(principal, command)
