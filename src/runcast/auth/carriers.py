"""Where a token travels, and which of several counts.

In this order, the first that is there: `Authorization: Bearer`; an item of `Sec-WebSocket-Protocol`; a cookie; the `hello` or
`auth` frame; `?token=`, where that is switched on. A bad token in an earlier place is not made good by one in a later.

A cookie is sent by the browser, whichever page asked: where harm could be done it counts only beside an `Origin`, which the
guard has checked (cross-site WebSocket hijacking; cross-site request forgery).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from runcast.auth.base import Credentials
from runcast.errors import Forbidden

MARKER: Final = "bearer"
PREFIX: Final = "bearer."


class Offer(NamedTuple):
    """What a client offered as WebSocket subprotocols (RFC 6455, section 11.3.4), without the token.

    Browsers can set no other header on a WebSocket, so tokens come here: `chat.v1, bearer.<token>`, or the pair
    `bearer, <token>`.
    """

    protocols: tuple[str, ...]
    """In the client's order, without what carries the token."""
    token: str | None
    marker: str | None
    """`bearer` as the client wrote it, if the token came as a pair."""

    @property
    def echo(self) -> str | None:
        """What a server that speaks whatever was offered answers with: never a token. A browser gives a connection up if it
        offered something and nothing is answered."""
        return self.protocols[0] if self.protocols else self.marker


def read_offer(offered: Sequence[str]) -> Offer:
    """Of several tokens the first counts; all are left out of `protocols`, and so is what looks like a token in a wrong place."""
    protocols: list[str] = []
    tokens: list[str] = []
    marker: str | None = None
    items = iter(offered)
    for item in items:
        if item.lower() == MARKER:
            following = next((item for item in items if item.lower() != MARKER), None)
            if following is not None:
                marker = marker or item
                tokens.append(following)
        elif item.lower().startswith(PREFIX):
            tokens.append(item[len(PREFIX) :])
        elif item and not (item.startswith("eyJ") and item.count(".") > 1):  # `{"`, as every JWT begins
            protocols.append(item)
    protocols = [item for item in protocols if item not in tokens]
    return Offer(tuple(protocols), tokens[0] if tokens else None, marker)


def token_of(credentials: Credentials, *, cookie_name: str) -> str | None:
    """The token that counts; None if none was presented.

    Raises:
        Forbidden: it is in a cookie, the request may do harm, and nothing says which page made it.
    """
    scheme, _, value = credentials.headers.get("authorization", "").partition(" ")
    if scheme.lower() == MARKER:
        return value.strip(" ")
    if (token := read_offer(credentials.subprotocols).token) is not None:
        return token
    if (token := credentials.cookies.get(cookie_name)) is not None:
        if credentials.changes and "origin" not in credentials.headers:
            raise Forbidden(
                "With a cookie a request must say its Origin; others send the token as `Authorization: Bearer`."
            )
        return token
    return credentials.token if credentials.token is not None else credentials.query_token
