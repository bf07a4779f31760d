"""How a run ended: its status, its terminal event, and the questions it leaves open."""

from __future__ import annotations

import contextlib
import logging
import math
from typing import NamedTuple, cast

import msgspec
from msgspec import UNSET, UnsetType

from runcast import events as e
from runcast.errors import AgentError, ConfigError, Declined, StoreError, describe
from runcast.events import Event
from runcast.ids import IdSource
from runcast.running.execution import Execution, reported
from runcast.running.question import Question, question_of
from runcast.running.recorder import Ending, storable
from runcast.runs import Run

logger = logging.getLogger("runcast.runner")

MAX_WAIT_MS = 86_400_000
"""A day: who says more is told as that. Nobody waits for it, and clocks count no further than they must."""


class End(NamedTuple):
    status: Ending
    terminal: Event
    interrupts: dict[str, Question]
    """For a run that waits: its questions in order, by id."""

    @property
    def pending(self) -> list[str]:
        """Calls that the client is to run."""
        outcome = self.terminal.outcome if isinstance(self.terminal, e.RunFinished) else UNSET
        return [] if outcome is UNSET else outcome.pending_tool_call_ids or []

    @property
    def expires_at(self) -> int | None:
        """When the first of its questions expires, in Unix milliseconds."""
        return min((one.expires_at for one in self.interrupts.values() if one.expires_at is not None), default=None)


def end_of(run: Run, execution: Execution, new_id: IdSource) -> End:
    """What the log says of how `execution` ended. Whoever asked it to stop wins over what the agent says."""
    finish = execution.finish
    usage = finish.usage if finish is not None and finish.usage is not UNSET else execution.context.usage or UNSET
    error = execution.error
    if isinstance(error, StoreError):
        logger.error(
            "run %s could not be written", run.id, exc_info=error, extra={"action": "run_failed", "run": run.id}
        )
        message = "The answer could not be saved, so the run was stopped."
        return End("failed", e.RunError(message=message, code="storage_unavailable", retryable=True), {})
    if execution.cancelling:
        reason = UNSET if execution.cancel_reason is None else execution.cancel_reason
        outcome = e.Outcome(type="cancelled")
        return End("cancelled", e.RunFinished(thread_id=run.thread, outcome=outcome, usage=usage, reason=reason), {})
    if execution.interrupted is not None:
        return End("interrupted", interrupted(execution.interrupted, usage), {})
    if execution.timed_out:
        message = f"The run took longer than {execution.limit_s:g} s and was stopped."
        failure = e.RunError(
            message=message, code="timeout", retryable=True, limit_s=float(execution.limit_s), usage=usage
        )
        return End("failed", failure, {})
    if error is not None and (no := _declined(error)) is not None:  # a person's no is no failure
        outcome = e.Outcome(type="cancelled")
        terminal = e.RunFinished(thread_id=run.thread, outcome=outcome, usage=usage, reason=no.message)
        return End("cancelled", terminal, {})
    if error is not None:
        failure = _failed(run, error, new_id)
        if not failure.usage:
            failure = msgspec.structs.replace(failure, usage=usage)
        return End("interrupted" if failure.code == "interrupted" else "failed", failure, {})
    if finish is None:
        finish = e.RunFinished(thread_id=run.thread, outcome=e.Outcome(type="success"))
    terminal = msgspec.structs.replace(finish, thread_id=run.thread, usage=usage)
    if finish.outcome is not UNSET and finish.outcome.type == "cancelled":
        return End("cancelled", terminal, {})
    if finish.outcome is not UNSET and finish.outcome.type == "interrupt" and finish.outcome.interrupts:
        try:
            asked = [execution.recorder.dated(one) for one in finish.outcome.interrupts]
        except AgentError as bad:
            return End("failed", _failed(run, bad, new_id), {})
        if foreign := [one.id for one in asked if one.id.rpartition(".")[0] != run.id]:
            # An answer finds its run by the interrupt's id: one that it cannot find would leave the run waiting for ever.
            problem = f"an interrupt's id must be `<run id>.<n>`, {foreign[0]!r} of run {run.id} is not"
            return End("failed", _failed(run, ConfigError(problem), new_id), {})
        outcome = msgspec.structs.replace(finish.outcome, interrupts=asked)
        terminal = msgspec.structs.replace(terminal, outcome=outcome)
        return End("waiting", terminal, {one.id: question_of(one) for one in asked})
    pending = left_to_client(execution)
    if pending or (finish.outcome is not UNSET and finish.outcome.pending_tool_call_ids is not UNSET):
        outcome = e.Outcome(type="success", pending_tool_call_ids=pending or UNSET)
        terminal = msgspec.structs.replace(terminal, outcome=outcome)
    return End("done", terminal, {})


def left_to_client(execution: Execution) -> list[str]:
    """The calls without a result that the client is to run: those of its tools, and those that the agent itself names. Ids
    as in the log, in the order of the calls."""
    client = execution.input.client
    finish = execution.finish
    outcome = UNSET if finish is None else finish.outcome
    named = [] if outcome is UNSET else outcome.pending_tool_call_ids or []
    named = {execution.recorder.called(one) for one in named}
    return [
        call for call, name in execution.recorder.unanswered.items() if call in named or client.tool(name) is not None
    ]


def interrupted(sentence: str, usage: list[e.TokenUsage] | UnsetType = UNSET) -> e.RunError:
    """The terminal event of a run that the server, not its agent or a person, brought to an end."""
    return e.RunError(message=sentence, code="interrupted", retryable=True, usage=usage)


def _declined(error: BaseException) -> Declined | None:
    """The person's no that ended the agent, also if it came out of a task group."""
    if isinstance(error, BaseExceptionGroup):
        found = [_declined(one) for one in cast(BaseExceptionGroup[BaseException], error).exceptions]
        return found[0] if all(found) else None
    return error if isinstance(error, Declined) else None


def _failed(run: Run, error: BaseException, new_id: IdSource) -> e.RunError:
    own = reported(error)
    if own is not None:
        return own
    request = new_id()
    logger.error(
        "run %s of agent %s failed, request id %s",
        run.id,
        run.agent,
        request,
        exc_info=error,
        extra={"action": "run_failed", "run": run.id, "request_id": request},
    )
    if isinstance(error, AgentError):
        code, message = describe(error)
        with contextlib.suppress(AgentError):  # a message or a code that is no text
            return storable(
                e.RunError(
                    message=message,
                    code=code,
                    retryable=error.agent_retryable,
                    retry_after_ms=_wait_ms(error.retry_after_ms),
                    request_id=request,
                )
            )
    message = "The agent failed. The operator can find out why by the request id."
    return e.RunError(message=message, code="agent_error", retryable=True, request_id=request)


def _wait_ms(given: object) -> int | UnsetType:
    """How long to wait, if an agent or its model's provider said something of which one can."""
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 <= given < math.inf:
        return UNSET
    return min(math.ceil(given), MAX_WAIT_MS)
