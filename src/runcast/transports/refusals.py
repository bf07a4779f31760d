"""How a WebSocket is refused, and how the log is told of those who are: pages come back every second, for ever."""

from __future__ import annotations

import ipaddress
import logging
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from runcast.auth import read_offer
from runcast.ids import Clock
from runcast.transports.wire import REFUSED, Receive, Scope, Send, printable, request_id_of

logger = logging.getLogger("runcast.refused")

EVERY_S: Final = 60.0
MOST: Final = 1000


class Refusals:
    """The log's view of refusals: one line a minute for each address. It remembers `most` addresses and forgets the one longest
    unheard of; an IPv6 network of 64 bits is one address, since whoever has one has all of it."""

    def __init__(self, clock: Clock, *, every_s: float = EVERY_S, most: int = MOST) -> None:
        self._clock = clock
        self._every_s = every_s
        self._most = most
        self._told: OrderedDict[str, tuple[float, int]] = OrderedDict()
        """Address → when it was last told of, and how many refusals of it were not told since."""

    def tell(self, scope: Scope, reason: str) -> None:
        """`reason` is ours: nothing that the client sent is in it."""
        address = _address(scope)
        now = self._clock.monotonic()
        told_at, untold = self._told.get(address, (None, 0))
        if told_at is not None and now < told_at + self._every_s:
            self._told[address] = (told_at, untold + 1)
            self._told.move_to_end(address)
            return
        self._told[address] = (now, 0)
        self._told.move_to_end(address)
        while len(self._told) > self._most:
            self._told.popitem(last=False)
        logger.info(
            "refused %s at %s: %s%s",
            address,
            printable(scope["path"]),
            reason,
            f" ({untold} more were not logged)" if untold else "",
            extra={"request_id": request_id_of(scope)},
        )


async def refuse_socket(
    scope: Scope, receive: Receive, send: Send, *, code: int, reason: str, frames: Sequence[str] = ()
) -> None:
    """Accept a WebSocket, say `frames`, and close it: a close before the accept would reach a browser as HTTP 403, without its
    code. Of what the client offered something is answered, for else a browser gives up before it sees the code.

    `reason` has at most 123 bytes. `receive` has not been called yet.
    """
    if (await receive())["type"] != "websocket.connect":
        return
    scope[REFUSED] = True
    subprotocol = read_offer(scope.get("subprotocols", ())).echo
    try:
        await send({"type": "websocket.accept", "subprotocol": subprotocol, "headers": []})
        for frame in frames:
            await send({"type": "websocket.send", "text": frame})
        await send({"type": "websocket.close", "code": code, "reason": reason})
    except (OSError, RuntimeError):  # the peer was faster: there is nobody left to be told
        return


def _address(scope: Scope) -> str:
    client = scope.get("client")
    if client is None:
        return "unknown"
    try:
        address = ipaddress.ip_address(str(client[0]).partition("%")[0])
    except ValueError:
        return printable(str(client[0]))
    if isinstance(address, ipaddress.IPv4Address) or address.is_loopback:
        return str(address)
    return str(address.ipv4_mapped or ipaddress.ip_network((address, 64), strict=False))
