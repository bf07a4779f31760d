"""The server under the faults: the product as it is, in a process of its own, and a window through which a test sees how it
stands. The environment variable RUNCAST_UNDER_TEST holds JSON:

    settings   fields of `Settings`
    limits     fields of the runner's `Limits`: shorter leases
    session    fields of `SessionLimits`: shorter heartbeats
    patches    `module:name` → value: constants of the product that no setting reaches
    ping_s     interval and time limit of the WebSocket's pings
    plant      the name of a defect in `planted.py`: proof that a test can fail
    agents     what to serve, as the command line takes it; else `agents.Playing`

`GET /_state` answers at once, whatever the guard thinks of it.
"""

from __future__ import annotations

import asyncio
import ctypes
import functools
import gc
import importlib
import json
import logging
import os
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).parent))

import planted

import agents
from runcast import server as servers
from runcast.agents.loader import load
from runcast.server import Server, serve
from runcast.session import SessionLimits
from runcast.transports.websocket import NativeSocket


class Watched(Server):
    """Answers `/_state` itself."""

    process: servers.Process

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"] == "/_state":
            body = json.dumps(state(self, scope["query_string"].decode())).encode()
            await send({"type": "http.response.start", "status": 200, "headers": [(b"connection", b"close")]})
            await send({"type": "http.response.body", "body": body})
            return
        await super().__call__(scope, receive, send)


def state(server: Watched, query: str) -> dict[str, Any]:
    """What is held right now; `?gc` lets go first of what only waits to be collected."""
    if "gc" in query:
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
    answer: dict[str, Any] = {"memory": psutil.Process().memory_info().rss, "connections": server.gateway.connections}
    answer["tasks"] = len(asyncio.all_tasks())
    if server.gateway.is_started:
        runner = server.gateway.service.runner
        places = runner._hub._places.values()
        answer["users"] = sum(place.users for place in places)
        answer["watchers"] = sum(place.feed.watchers for place in places)
        answer["runs"] = runner.active
    answer["sockets"] = sum(
        1 for one in psutil.Process().net_connections("tcp") if one.status not in ("LISTEN", "NONE", "CLOSE")
    )
    if tracemalloc.is_tracing():
        top = tracemalloc.take_snapshot().statistics("lineno")[:15]
        answer["top"] = [f"{one.size >> 10} KiB {one.count}: {one.traceback}" for one in top]
    return answer


def main() -> None:
    given = json.loads(os.environ.get("RUNCAST_UNDER_TEST", "{}"))
    if given.get("trace"):
        tracemalloc.start(given["trace"])
    for name, value in given.get("patches", {}).items():
        module, _, attribute = name.partition(":")
        holder = importlib.import_module(module)
        assert hasattr(holder, attribute), name
        setattr(holder, attribute, tuple(value) if isinstance(value, list) else value)
    if limits := given.get("limits"):
        servers.Limits = functools.partial(servers.Limits, **limits)  # type: ignore[assignment, misc]
    settings = {"web": False, "log_level": "warning", **given.get("settings", {})}
    logging.basicConfig(level=settings["log_level"].upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    target = given.get("agents")
    server = Watched([agents.Playing()] if target is None else load(target), **settings)
    if session := given.get("session"):
        server._native = NativeSocket(server.gateway, SessionLimits(**session))
    if ping_s := given.get("ping_s"):
        configuration = servers.configuration

        def often(*arguments: Any, **more: Any) -> Any:
            config = configuration(*arguments, **more)
            config.ws_ping_interval = config.ws_ping_timeout = ping_s
            return config

        servers.configuration = often
    if plant := given.get("plant"):
        planted.PLANTS[plant](server)
    serve(server)


if __name__ == "__main__":
    main()
