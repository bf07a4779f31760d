"""The listening socket, with the options that accepted connections inherit. What a platform lacks is left out.

TCP_NODELAY          an event leaves at once, it does not wait for an acknowledgement
TCP_NOTSENT_LOWAT    little lies unsent in the kernel, so that `await send()` notices a slow reader early
TCP_DEFER_ACCEPT     who connects is taken in when the request is there: one at a time then means one handshake at a time
                     (`acceptor`); who says nothing for a second is taken in as well, and let go by `line`
TCP_USER_TIMEOUT     a peer that acknowledges nothing for 90 s is gone (RFC 5482); pings cannot free a socket whose
                     buffer is full. Much shorter would kill readers that are merely slow.
"""

from __future__ import annotations

import errno
import os
import socket

from runcast.errors import ConfigError

NOTSENT_LOWAT = 128 * 1024
USER_TIMEOUT_MS = 90_000
DEFER_S = 1
BACKLOG = 2048


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on `host` and `port` (0: a free one).

    Raises:
        ConfigError: the address cannot be had; the message says why and what to do.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError:
        raise ConfigError(f"The host {host!r} is no address of this machine; try 127.0.0.1.") from None
    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":  # on Windows it would let two servers share the port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for option, value in (
            ("TCP_NODELAY", 1),
            ("TCP_NOTSENT_LOWAT", NOTSENT_LOWAT),
            ("TCP_DEFER_ACCEPT", DEFER_S),
            ("TCP_USER_TIMEOUT", USER_TIMEOUT_MS),
        ):
            _set(listener, option, value)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise ConfigError(_why(error, host, port)) from None
    listener.setblocking(False)
    return listener


def _set(listener: socket.socket, option: str, value: int) -> None:
    number = getattr(socket, option, None)
    if number is None:
        return
    try:
        listener.setsockopt(socket.IPPROTO_TCP, number, value)
    except OSError:  # known to Python, not to this kernel
        pass


def _why(error: OSError, host: str, port: int) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return f"Port {port} on {host} is in use. Stop what uses it, or choose another: --port {port + 1}, or 0 for a free one."
        case errno.EACCES:
            return f"Port {port} may not be used by this user; choose one above 1023."
        case errno.EADDRNOTAVAIL:
            return f"{host} is no address of this machine; try 127.0.0.1."
        case _:
            return f"Cannot listen on {host}:{port}: {error.strerror}."
