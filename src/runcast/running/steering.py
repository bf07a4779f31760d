"""Steering: a message for the run that goes on. Its agent gets it if it can take one; else it waits its turn like any other.

What was handed over stands in the log before it is acknowledged (`RUN_STEERED`, not consumed), and again once the agent has
read it (consumed). What was not read when the run ends is queued by the write that ends it, or by whoever takes the thread
over from a dead process: nothing is lost.
"""

from __future__ import annotations

import msgspec

from runcast import events as e
from runcast.errors import InvalidRequest, QueueFull
from runcast.running.appender import Appender
from runcast.running.execution import Execution
from runcast.running.executions import Executions
from runcast.running.lane import Lane
from runcast.running.recall import Recall
from runcast.runs import Message
from runcast.stores.base import Receipt


class Steered:
    def __init__(self, appender: Appender, executions: Executions, recall: Recall, *, limit: int) -> None:
        self._appender = appender
        self._executions = executions
        self._recall = recall
        self._limit = limit

    def takes(self, lane: Lane, run: str | None) -> Execution | None:
        """The run under way, if it is `run` (None: whichever) and its agent can be handed a message."""
        execution = self._executions.get(lane.running)
        if execution is None or execution.has_ending or (run is not None and execution.input.run != run):
            return None
        return execution if getattr(execution.agent, "steerable", False) else None

    async def hand(self, lane: Lane, execution: Execution, message: Message, *, receipt: Receipt) -> int:
        """Hand a message to the agent: the seq of the event that says so. The lane's lock is held.

        Raises:
            InvalidRequest: the thread has a message with this id. QueueFull: the agent has not read what was handed before.
        """
        run = execution.input.run
        if await self._recall.has_message(lane.thread, message.id):
            raise InvalidRequest(f"The id {message.id!r} is another message's in this thread: give each its own.")
        unread = len(execution.handed.unread)
        if unread >= self._limit:
            raise QueueFull(f"The agent has not read the {unread} messages before this one; try again later.")
        seq = lane.head + 1
        answer = {"thread": lane.thread.id, "run": run, "seq": seq, "status": "running"}
        event = e.of_run(e.RunSteered(message=message.as_input(), consumed=False), run)
        receipt = receipt._replace(result=msgspec.json.encode(answer))
        await self._appender.write(lane, [event], receipt=receipt, files=message.files)
        execution.handed.hand(message)
        return seq
