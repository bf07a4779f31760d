"""How far a run of a pydantic-ai agent is, kept after each of its steps, and how the next attempt goes on from there.

A checkpoint has the run's messages up to the last complete answer of the model, or up to the results of its tools, and the
ids under which the log shows them. It is written with the events of that step, never ahead of them. The results of tools
that ended after it are taken from the log; a tool without a result there is told as one of which nobody knows whether it had
its effect, unless it may be run again.

Each checkpoint holds all messages of the run so far: a run of 20 steps with 20 KB each writes about 4 MB in all.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec
from pydantic_ai.messages import ModelMessage, ModelMessagesTypeAdapter, ModelRequest, ModelResponse, ToolReturnPart
from pydantic_ai.tools import DeferredToolResults, ToolApproved

from runcast.agents.base import Kept, Turn
from runcast.agents.context import RunContext
from runcast.agents.pydantic_ai_files import Sent, referenced, rehydrated
from runcast.agents.pydantic_ai_history import OUTCOMES, result_of
from runcast.runs import Message
from runcast.transcript import ActivityPart, ToolPart

logger = logging.getLogger("runcast.agents")

ADAPTER = "pydantic_ai.checkpoint"
VERSION = 1

UNKNOWN = "The server was restarted while this tool ran. Nobody knows whether it had its effect; do not assume either."
"""What the model reads of a tool whose result was lost."""


class Checkpoint(NamedTuple):
    messages: list[ModelMessage]
    texts: list[str]
    """Ids of the texts and thoughts that show these messages."""
    calls: list[str]
    """The same of calls, as the model named them, in order; one id may come several times."""
    steered: list[str] | None
    """Ids of the messages that were handed to the run and are among these; None: an earlier version did not note them."""


class Recovered(NamedTuple):
    """With what the next attempt begins."""

    messages: list[ModelMessage]
    """What the run had before; comes after the history of the runs before it, and without a new prompt."""
    results: DeferredToolResults | None
    """The calls that are run again, if only some are."""
    again: frozenset[str]
    checkpoint: Checkpoint


class _Wire(msgspec.Struct):
    messages: msgspec.Raw
    texts: list[str]
    calls: list[str]
    steered: list[str] | None = None


def write(context: RunContext, checkpoint: Checkpoint, sent: Mapping[str, Sent]) -> None:
    """Keep it, without the bytes of the files that were `sent`; if its messages cannot be written (a tool's odd result), the one
    before stays."""
    try:
        messages = ModelMessagesTypeAdapter.dump_json(referenced(checkpoint.messages, sent))
    except Exception:
        logger.warning("a checkpoint of run %s cannot be written", context.run_id, exc_info=True)
        return
    wire = _Wire(msgspec.Raw(messages), checkpoint.texts, checkpoint.calls, checkpoint.steered)
    context.checkpoint(ADAPTER, VERSION, msgspec.json.encode(wire))


def read(turn: Turn) -> Checkpoint | None:
    """The checkpoint that an attempt left; None if there is none that can be read."""
    state = turn.state
    if state is None or state.adapter != ADAPTER or state.version != VERSION:
        return None
    try:
        wire = msgspec.json.decode(state.data, type=_Wire)
        messages = ModelMessagesTypeAdapter.validate_json(bytes(wire.messages))
        return Checkpoint(messages, wire.texts, wire.calls, wire.steered)
    except ValueError:
        logger.warning("the checkpoint of run %s cannot be read", turn.run.id, exc_info=True)
        return None


def kept(turn: Turn) -> Kept | None:
    """What of an attempt stays if the next one goes on from its checkpoint; None if a tool began that it knows nothing of."""
    checkpoint = read(turn)
    if checkpoint is None:
        return None
    calls = frozenset(name for _, name in _named(checkpoint.calls))
    if any(tool.status != "preparing" and id not in calls for id, tool in _tools(turn).items()):
        return None
    return Kept(frozenset(checkpoint.texts), calls)


async def recover(turn: Turn, context: RunContext) -> Recovered | None:
    """How to go on from what an attempt left; None if there is nothing to go on from."""
    checkpoint = read(turn)
    if checkpoint is None:
        return None
    messages = await rehydrated(checkpoint.messages, context)
    last = messages[-1]
    if not isinstance(last, ModelResponse):
        return Recovered(messages, None, frozenset(), checkpoint)
    seen = _tools(turn)
    names = dict(_named(checkpoint.calls))  # of an id that came again the newest
    again: list[str] = []
    returned: list[ToolReturnPart] = []
    for call in last.tool_calls:
        tool = seen.get(names.get(call.tool_call_id, call.tool_call_id))
        if tool is None or tool.status in ("preparing", "running"):
            again.append(call.tool_call_id)
        else:
            lost = tool.status == "interrupted"
            part = ToolReturnPart(
                tool_name=call.tool_name,
                content=UNKNOWN if lost else await result_of(tool, context),
                tool_call_id=call.tool_call_id,
                outcome=OUTCOMES.get(tool.status, "interrupted"),
            )
            returned.append(part)
    if not returned:  # as it stands: the calls of the last answer are made
        return Recovered(messages, None, frozenset(again), checkpoint)
    messages.append(ModelRequest(parts=returned))
    results = DeferredToolResults(approvals={call: ToolApproved() for call in again}) if again else None
    return Recovered(messages, results, frozenset(again), checkpoint)


def unheard(left: Turn, checkpoint: Checkpoint, messages: Sequence[Message]) -> list[Message]:
    """Of the run's `messages` those that its log says were read while it ran, and that came after the checkpoint: the model is
    asked as if it had never had them, unless it gets them again."""
    if checkpoint.steered is None:
        return []
    parts = [part for message in left.run.messages for part in message.parts]
    shown = {part.id for part in parts if isinstance(part, ActivityPart) and part.activity_type == "steer"}
    return [message for message in messages if message.id in shown and message.id not in checkpoint.steered]


class Steps:
    """Writes a run's checkpoints: one whenever its messages have grown by an answer or by results."""

    def __init__(self, context: RunContext, recovered: Recovered | None, sent: Mapping[str, Sent]) -> None:
        self._context = context
        self._sent = sent
        self._before: Sequence[ModelMessage] = recovered.messages if recovered else ()
        self._texts: Sequence[str] = recovered.checkpoint.texts if recovered else ()
        self._calls: Sequence[str] = recovered.checkpoint.calls if recovered else ()
        self._steered: Sequence[str] = (recovered.checkpoint.steered or ()) if recovered else ()
        self._written = len(self._before)

    def take(
        self, new: Sequence[ModelMessage], texts: Sequence[str], calls: Sequence[str], steered: Sequence[str]
    ) -> None:
        """`new`: the messages that this attempt has made so far; `texts`, `calls`: what it has shown of them; `steered`: what of
        them was handed to it."""
        messages = [*self._before, *new]
        if len(messages) > self._written and any(map(_is_done, messages)):
            self._written = len(messages)
            checkpoint = Checkpoint(
                messages, [*self._texts, *texts], [*self._calls, *calls], [*self._steered, *steered]
            )
            write(self._context, checkpoint, self._sent)


def _is_done(message: ModelMessage) -> bool:
    """Whether it stands for work: an answer of the model, or results with which the run began that an answer started."""
    return isinstance(message, ModelResponse) or any(isinstance(part, ToolReturnPart) for part in message.parts)


def _tools(turn: Turn) -> Mapping[str, ToolPart]:
    return {part.id: part for message in turn.run.messages for part in message.parts if isinstance(part, ToolPart)}


def _named(calls: Sequence[str]) -> list[tuple[str, str]]:
    """Each call with its id in the log: an id that comes again is `call_0.2` there."""
    counts: dict[str, int] = {}
    names: list[tuple[str, str]] = []
    for call in calls:
        counts[call] = counts.get(call, 0) + 1
        names.append((call, call if counts[call] == 1 else f"{call}.{counts[call]}"))
    return names
