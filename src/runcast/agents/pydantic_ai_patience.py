"""How long a model's provider wants to be left alone: `Retry-After` of RFC 9110 (section 10.2.3), and `retry-after-ms`.

Newer versions of pydantic-ai read it themselves (`ModelAPIError.retry_after`, also from an answer's body); older ones leave it in
the headers of the error, or of the HTTP answer in the provider's own exception, which is the error's cause.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, cast


def retry_after_s(error: BaseException) -> float | None:
    """Seconds from now, finite and not negative; None if the provider did not say, or nothing of which one can wait."""
    known = _seconds(getattr(error, "retry_after", None))
    if known is not None:
        return known
    cause = error.__cause__
    for headers in (getattr(error, "headers", None), getattr(getattr(cause, "response", None), "headers", None)):
        if isinstance(headers, Mapping):
            given = {str(name).lower(): str(value) for name, value in cast(Mapping[Any, Any], headers).items()}
            if (known := _of_headers(given)) is not None:
                return known
    return None


def _of_headers(headers: Mapping[str, str]) -> float | None:
    ms = _seconds(headers.get("retry-after-ms"))
    if ms is not None:
        return ms / 1000
    raw = headers.get("retry-after", "").strip()
    seconds = _seconds(raw)
    if seconds is not None or not raw:
        return seconds
    try:
        until, now = _moment(raw), _moment(headers.get("date", ""))  # by the provider's own clock
    except (ValueError, TypeError):
        return None
    return max(0.0, (until - now).total_seconds())


def _moment(date: str) -> datetime:
    moment = parsedate_to_datetime(date)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _seconds(given: Any) -> float | None:
    if isinstance(given, bool) or not isinstance(given, int | float | str):
        return None
    try:
        number = float(given)
    except (ValueError, OverflowError):
        return None
    return number if 0 <= number < math.inf else None
