"""The errors of Runcast: one tree, stable codes, the same on the wire, in TypeScript and in the docs.

    RuncastError
    ├── ClientError                the caller asked for something that cannot be given
    │   ├── InvalidRequest         invalid_request        422
    │   │   ├── UnknownFile          unknown_file         422   a message names a file that is not the sender's
    │   │   ├── EmptyFile            empty_file           422
    │   │   └── FileTypeMismatch     file_type_mismatch   422   it is not what it says it is
    │   ├── Unauthenticated        unauthenticated        401
    │   ├── Forbidden              forbidden              403
    │   ├── NotFound               not_found              404   also for what is not yours: no oracle
    │   ├── Conflict
    │   │   ├── IdempotencyConflict  idempotency_conflict 409   same key, other body
    │   │   ├── RunActive            run_active           409   on_busy="reject"
    │   │   ├── RunEnded             run_ended            409   the run can no longer be changed
    │   │   └── AlreadyDecided       already_decided      409   an interrupt is answered once
    │   ├── Expired                expired                410   an interrupt that nobody answered in time
    │   ├── TooLarge               payload_too_large      413
    │   ├── UnsupportedType        unsupported_media_type 415
    │   └── RateLimited
    │       ├── QueueFull          queue_full             429
    │       ├── TooManyConnections  too_many_connections  429   of one user, WebSockets, streams and long polls
    │       ├── TooManyFiles       too_many_files         429   uploaded, and no message names them
    │       └── TooManySubscriptions  too_many_subscriptions 429
    ├── AgentError                 agent_error            502   the run failed; becomes its RUN_ERROR
    │   ├── RunTimeout             timeout                504
    │   ├── Declined               declined               502   a person said no, or nobody answered
    │   └── Nondeterministic       nondeterministic       502   a resumable agent did something else than before
    ├── StoreError                 storage_unavailable    503   ours: the log could not be read or written
    │   ├── SequenceConflict       sequence_conflict      409   another append came first
    │   ├── LeaseLost              lease_lost             409   another node owns the thread now
    │   ├── Trimmed                trimmed                410   the log is no longer kept from there on
    │   ├── StoreLocked            store_locked           503   another process writes to this file
    │   ├── StorageFull            storage_full           507   no room for the file
    │   └── StoreCorrupt           store_corrupt          503
    ├── Unavailable                unavailable            503   draining or not started
    └── ConfigError                config                 -     settings or agents that cannot be served

A message says what happened, names the offending value and says what to do. It may be shown to a client; exception text,
paths and secrets never are: see `describe`.
"""

from __future__ import annotations

from typing import ClassVar, Literal


class RuncastError(Exception):
    """The root. `code` is stable; `status` is the HTTP status; `retryable` says whether the same request may succeed later."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, retry_after_ms: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_ms = retry_after_ms


class ClientError(RuncastError):
    code = "invalid_request"
    status = 400


class InvalidRequest(ClientError):
    """`at`: where in the answer or body it is wrong, as a JSON Pointer (RFC 6901), if one place can be named."""

    status = 422

    def __init__(self, message: str, *, at: str | None = None, retry_after_ms: int | None = None) -> None:
        super().__init__(message, retry_after_ms=retry_after_ms)
        self.at = at


class UnknownFile(InvalidRequest):
    """A message names a file that is not there, or not its sender's: the same answer for both."""

    code = "unknown_file"


class EmptyFile(InvalidRequest):
    code = "empty_file"


class FileTypeMismatch(InvalidRequest):
    code = "file_type_mismatch"


class Unauthenticated(ClientError):
    """`reason`: what is wrong with the credentials, for the server's log only; never the credentials themselves."""

    code = "unauthenticated"
    status = 401

    def __init__(self, message: str, *, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


class Forbidden(ClientError):
    code = "forbidden"
    status = 403


class NotFound(ClientError):
    """Not there, or not yours: the same answer for both, so that nobody learns of another's threads."""

    code = "not_found"
    status = 404


class Conflict(ClientError):
    code = "conflict"
    status = 409


class IdempotencyConflict(Conflict):
    code = "idempotency_conflict"


class RunActive(Conflict):
    code = "run_active"
    retryable = True


class RunEnded(Conflict):
    code = "run_ended"


class AlreadyDecided(Conflict):
    code = "already_decided"


class Expired(ClientError):
    code = "expired"
    status = 410


class TooLarge(ClientError):
    code = "payload_too_large"
    status = 413


class UnsupportedType(ClientError):
    code = "unsupported_media_type"
    status = 415


class RateLimited(ClientError):
    code = "rate_limited"
    status = 429
    retryable = True


class QueueFull(RateLimited):
    code = "queue_full"


class TooManyConnections(RateLimited):
    """Of one user, WebSockets, event streams and long polls together. A WebSocket is told by its close code."""

    code = "too_many_connections"


class TooManyFiles(RateLimited):
    code = "too_many_files"


class TooManySubscriptions(RateLimited):
    code = "too_many_subscriptions"
    retryable = False


class AgentError(RuncastError):
    """The agent failed in a way that the person in the chat may read: raise it from an agent or a tool with a human sentence.

    `retryable`: the same may succeed later; `retry_after_ms`: it may in so many milliseconds (a provider's `Retry-After`), which
    makes it retryable. Every other exception from an agent is told to clients as `agent_error` with a request id and without
    its text.
    """

    code = "agent_error"
    status = 502

    def __init__(
        self, message: str, *, code: str | None = None, retryable: bool = False, retry_after_ms: int | None = None
    ) -> None:
        super().__init__(message, retry_after_ms=retry_after_ms)
        self.agent_code = code or type(self).code
        self.agent_retryable = retryable or retry_after_ms is not None


class RunTimeout(AgentError):
    code = "timeout"
    status = 504


class Declined(AgentError):
    """A person did not allow it, withdrew from the question, or nobody answered in time. Raised where the agent asked.

    Nothing failed: an agent that does not catch it ends its run as *cancelled*, with this sentence.
    """

    code = "declined"

    def __init__(
        self,
        message: str,
        *,
        status: Literal["denied", "cancelled", "expired"] = "denied",
        reason: str | None = None,
        by: str = "",
    ) -> None:
        super().__init__(message)
        self.status: Literal["denied", "cancelled", "expired"] = status
        self.reason = reason
        """The person's own words, if there are any."""
        self.by = by


class Nondeterministic(AgentError):
    """A resumable agent was called again and did not do what it did the first time."""

    code = "nondeterministic"


class StoreError(RuncastError):
    code = "storage_unavailable"
    status = 503
    retryable = True


class SequenceConflict(StoreError):
    """The log's head is not `expected_seq`: another append came first. Nothing was written."""

    code = "sequence_conflict"
    status = 409


class LeaseLost(StoreError):
    """The fence is old: another owner has the thread. Nothing was written; stop all work on it."""

    code = "lease_lost"
    status = 409
    retryable = False


class Trimmed(StoreError):
    """What follows the cursor is no longer kept. Readers are told by a resync instead."""

    code = "trimmed"
    status = 410
    retryable = False


class StoreLocked(StoreError):
    code = "store_locked"
    retryable = False


class StorageFull(StoreError):
    """There is no room for a file's content. Nothing of it was kept."""

    code = "storage_full"
    status = 507


class StoreCorrupt(StoreError):
    code = "store_corrupt"
    retryable = False


class Unavailable(RuncastError):
    code = "unavailable"
    status = 503
    retryable = True


class ConfigError(RuncastError):
    """Settings or agents that cannot be served. `problems` lists all of them at once."""

    code = "config"

    def __init__(self, message: str, problems: list[str] | None = None) -> None:
        super().__init__(message)
        self.problems = problems or [message]


INTERNAL_MESSAGE = "Something went wrong on the server. The operator can find it by the request id."


def describe(error: BaseException) -> tuple[str, str]:
    """`(code, message)` of an error as a client may see it: never the text of a foreign exception."""
    if isinstance(error, AgentError):
        return error.agent_code, error.message
    if isinstance(error, RuncastError):
        return error.code, error.message
    return "internal", INTERNAL_MESSAGE
