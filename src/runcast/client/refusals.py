"""What a client raises beside the common errors, and how a server's error becomes an exception here."""

from __future__ import annotations

from runcast import errors
from runcast.errors import RuncastError


class Unreachable(RuncastError):
    """No connection could be made, or the server does not want this client."""

    code = "unreachable"
    status = 503
    retryable = True


class Refusal(RuncastError):
    """The server refused with a code that this version has no class for: see `refused_code`."""

    code = "refused"

    def __init__(self, message: str, *, refused_code: str, retry_after_ms: int | None = None) -> None:
        super().__init__(message, retry_after_ms=retry_after_ms)
        self.refused_code = refused_code


class LogChanged(RuncastError):
    """The server's log is not the one that was being read (it was restored, or trimmed): read again from the start."""

    code = "log_changed"
    status = 409


_BY_CODE: dict[str, type[RuncastError]] = {
    kind.code: kind
    for kind in (
        errors.InvalidRequest,
        errors.UnknownFile,
        errors.EmptyFile,
        errors.FileTypeMismatch,
        errors.Unauthenticated,
        errors.Forbidden,
        errors.NotFound,
        errors.IdempotencyConflict,
        errors.RunActive,
        errors.RunEnded,
        errors.AlreadyDecided,
        errors.Expired,
        errors.TooLarge,
        errors.UnsupportedType,
        errors.RateLimited,
        errors.QueueFull,
        errors.TooManyConnections,
        errors.TooManyFiles,
        errors.TooManySubscriptions,
        errors.StoreError,
        errors.StorageFull,
        errors.Unavailable,
        Unreachable,
    )
}


def error_of(code: str, message: str, retry_after_ms: int | None = None, at: str | None = None) -> RuncastError:
    """The exception for an error that a server sent."""
    kind = _BY_CODE.get(code)
    if kind is errors.InvalidRequest:
        return errors.InvalidRequest(message, at=at, retry_after_ms=retry_after_ms)
    if kind is None:
        return Refusal(message, refused_code=code, retry_after_ms=retry_after_ms)
    return kind(message, retry_after_ms=retry_after_ms)
