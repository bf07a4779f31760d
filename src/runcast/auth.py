"""The Authenticator seam: who is behind a connection.

An authenticator looks at what the client presented and names the principal, or refuses. It decides nothing about threads
and runs: those belong to the principal who made them. It is asked once per HTTP request, once per WebSocket (after its
`hello`) and again when a client presents a new token.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple, Protocol

from runcast.runs import Principal


class Credentials(NamedTuple):
    """What a client presented. Header names are lower case; of a repeated header the last value counts."""

    kind: Literal["http", "websocket"]
    headers: Mapping[str, str]
    cookies: Mapping[str, str] = {}
    subprotocols: tuple[str, ...] = ()
    """As offered, `bearer.<token>` included."""
    token: str | None = None
    """From the `hello` or `auth` frame."""


class Identity(NamedTuple):
    principal: Principal
    expires_at: int | None = None
    """Unix milliseconds after which the connection must present new credentials."""


class Authenticator(Protocol):
    @property
    def is_open(self) -> bool:
        """True if everybody who can connect is let in: such a server serves this machine only."""
        ...

    async def authenticate(self, credentials: Credentials) -> Identity:
        """Who this is.

        Raises:
            Unauthenticated: no, wrong or expired credentials.
            Forbidden: known, but not allowed in.
        """
        ...


class NoAuth:
    """Everybody is the user `local`. Only for connections from this machine; the transports see to that."""

    is_open = True

    async def authenticate(self, credentials: Credentials) -> Identity:
        del credentials
        return Identity(Principal())
