"""The clients that are connected in a message dialect, for the server's own code: say something to one, or to all.

    server.clients.send("ada", "Your report is ready.")
    server.clients.broadcast("We restart in five minutes.")

A client is known by the `{client_id}` in the path of its socket (`dialects = {"/ws/{client_id}": "thoughts"}`). What is
said so is no part of a conversation: it is not in the log, and who is not connected does not get it.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Protocol

from runcast.runs import Principal


class Client(Protocol):
    """One connected socket."""

    def push(self, text: str) -> bool:
        """Send `text` as soon as it can be; false if that will not be: the client has gone, or takes nothing."""
        ...


class Clients:
    """To be used in the server's event loop. One client may be connected several times."""

    def __init__(self) -> None:
        self._clients: dict[Client, tuple[str | None, Principal]] = {}

    @contextmanager
    def join(self, client: Client, client_id: str | None, principal: Principal) -> Generator[None]:
        """It can be reached while the context lasts; without an id by `broadcast` only."""
        self._clients[client] = (client_id, principal)
        try:
            yield
        finally:
            self._clients.pop(client, None)

    def __len__(self) -> int:
        """How many sockets are connected."""
        return len(self._clients)

    @property
    def ids(self) -> list[str]:
        """The ids that are connected, in the order of their coming, each once."""
        return list(dict.fromkeys(id for id, _ in self._clients.values() if id is not None))

    def send(self, client_id: str, text: str, *, user: str | None = None) -> int:
        """Say `text` to every socket of this client; how many it goes to, which may be none.

        An id is what the client calls itself. Where people sign in, name the `user` too: the sockets of others who call
        themselves the same are left out.
        """
        return self._push(
            text, [c for c, (id, who) in self._clients.items() if id == client_id and user in (None, who.user)]
        )

    def broadcast(self, text: str) -> int:
        """Say `text` to all sockets; how many it goes to."""
        return self._push(text, list(self._clients))

    def _push(self, text: str, clients: list[Client]) -> int:
        return sum([client.push(text) for client in clients]) if text else 0
