"""What a test asks of a server over the wire: commands that are sent until they are answered, and the log as it is."""

from __future__ import annotations

import uuid
from typing import Any

import anyio
import httpx

from .following import command

ENDED = {"done", "failed", "cancelled", "interrupted"}


def message(text: str, thread: str | None = None, **fields: Any) -> dict[str, Any]:
    """A `send` frame; the same one again is a retry."""
    frame = {"op": "send", "id": str(uuid.uuid4()), "message": {"id": str(uuid.uuid4()), "content": text}, **fields}
    if thread is not None:
        frame["thread"] = thread
    return frame


async def say(url: str, text: str, thread: str | None = None, **fields: Any) -> dict[str, Any]:
    """Say it until it is acknowledged: the ack."""
    answer = await command(url, message(text, thread, **fields))
    assert answer["op"] == "ack", answer
    return answer


async def whole_log(http: str, thread: str) -> list[dict[str, Any]]:
    log: list[dict[str, Any]] = []
    async with httpx.AsyncClient(base_url=http, timeout=30) as client:
        while True:
            answer = await client.get(f"/v1/threads/{thread}/events", params={"after": len(log)})
            answer.raise_for_status()
            page = answer.json()
            log += page["events"]
            if not page["events"]:
                return log


async def status_of(http: str, run: str) -> dict[str, Any]:
    """The run, asked until the server answers."""
    async with httpx.AsyncClient(base_url=http, timeout=30) as client:
        while True:
            try:
                answer = await client.get(f"/v1/runs/{run}")
                if answer.status_code == 200:
                    return answer.json()
            except httpx.HTTPError:
                pass
            await anyio.sleep(0.02)


async def all_ended(http: str, runs: list[str]) -> dict[str, str]:
    """How these runs ended (or that they wait for a person), once all have."""
    statuses: dict[str, str] = {}
    for run in runs:
        while statuses.get(run) in (None, "queued", "running"):
            statuses[run] = (await status_of(http, run))["status"]
            if statuses[run] in ("queued", "running"):
                await anyio.sleep(0.05)
    return statuses


async def ready(http: str) -> tuple[int, str]:
    """What `/readyz` says."""
    async with httpx.AsyncClient(base_url=http, timeout=30) as client:
        answer = await client.get("/readyz")
        return answer.status_code, answer.json()["status"]


def text_of(log: list[dict[str, Any]], run: str) -> str:
    return "".join(e["delta"] for e in log if e.get("runId") == run and e["type"] == "TEXT_MESSAGE_CONTENT")


def answer_of(run: str, *, status: str = "resolved", id: str | None = None) -> dict[str, Any]:
    """A frame that answers the one question a waiting run asked; the same one again is a retry."""
    return {"op": "resolve", "id": id or str(uuid.uuid4()), "interrupt": f"{run}.1", "status": status}


def cancel_of(run: str) -> dict[str, Any]:
    return {"op": "cancel", "id": str(uuid.uuid4()), "run": run}
