"""Tokens for tests: made by hand, so that wrong ones can be made too."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any

SECRET = "k7Qv1xTz9bLw3Rj5Ys8Nd2Hf6Gc4Mp0A"


def encoded(value: dict[str, Any] | str | bytes) -> str:
    """One segment (RFC 7515, section 2: base64url without padding)."""
    text = json.dumps(value) if isinstance(value, dict) else value
    data = text.encode() if isinstance(text, str) else text
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(
    payload: dict[str, Any] | str | bytes,
    header: dict[str, Any] | str | None = None,
    *,
    secret: str | bytes = SECRET,
) -> str:
    """A token with HMAC-SHA256, whatever its header says."""
    head = encoded({"alg": "HS256", "typ": "JWT"} if header is None else header)
    start = f"{head}.{encoded(payload)}"
    key = secret.encode() if isinstance(secret, str) else secret
    return f"{start}.{encoded(hmac.new(key, start.encode(), hashlib.sha256).digest())}"


def token(user: Any = "ada", *, lives_s: float = 600, **claims: Any) -> str:
    """A good one, but for what is said otherwise."""
    return signed({"sub": user, "exp": int(time.time() + lives_s), **claims})
