"""The Authenticator seam: who is behind a connection.

An authenticator looks at what the client presented and names the principal, or refuses. It decides nothing about threads
and runs: those belong to the principal who made them. It is asked once per HTTP request, once per WebSocket (after its
`hello`) and again when a client presents a new token.

Who reads a cookie must look at the Origin too: `carriers.token_of` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple, Protocol

from runcast.runs import Principal

LEEWAY_S: Final = 30
"""How far clocks may differ, in seconds: an identity is believed for so long after its `expires_at`."""

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class Credentials(NamedTuple):
    """What a client presented. Header names are lower case; of a repeated header the last value counts, and `authorization`
    comes at most once."""

    kind: Literal["http", "websocket"]
    headers: Mapping[str, str]
    cookies: Mapping[str, str] = {}
    """A name that came twice with different values is left out: nobody knows which of the two is this server's own."""
    subprotocols: tuple[str, ...] = ()
    """As offered, with the items that hold a token: see `carriers.read_offer`."""
    token: str | None = None
    """From the `hello` or `auth` frame."""
    query_token: str | None = None
    """`?token=` of the URL, only where that is switched on."""
    method: str = "GET"
    """The HTTP method."""

    @property
    def changes(self) -> bool:
        """Whether a page of another site could do harm by making its visitor's browser send this: a WebSocket, or a request
        that is not safe (RFC 9110, section 9.2.1)."""
        return self.kind == "websocket" or self.method not in SAFE_METHODS


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
            Unauthenticated: no, wrong or expired credentials. Its `reason` is for the server's log.
            Forbidden: known, but not allowed in.
        """
        ...


class NoAuth:
    """Everybody is the user `local`. Only for connections from this machine; the transports see to that."""

    is_open = True

    async def authenticate(self, credentials: Credentials) -> Identity:
        del credentials
        return Identity(Principal())
