"""kill -9 while a person is asked: the answer is taken by the next process, and nothing is done twice or without it (I20)."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from .process import HERE, ServerProcess

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture
async def server(tmp_path: Path) -> Any:
    process = ServerProcess(tmp_path, f"{HERE / 'asking.py'}:agents")
    await process.start()
    try:
        yield process
    finally:
        process.kill()


def key() -> dict[str, str]:
    return {"Idempotency-Key": str(uuid.uuid4())}


async def start(http: str, agent: str, text: str) -> dict[str, Any]:
    """Ask the agent, and wait until it asks back."""
    async with httpx.AsyncClient(base_url=http, timeout=30) as client:
        thread = (await client.post("/v1/threads", json={}, headers=key())).json()["id"]
        answer = await client.post(
            f"/v1/threads/{thread}/messages?wait=20", json={"message": text, "agent": agent}, headers=key()
        )
        run: dict[str, Any] = answer.json()
        assert run["status"] == "waiting", run
        return run


async def answer(http: str, interrupt: str, payload: Any, headers: dict[str, str] | None = None) -> httpx.Response:
    async with httpx.AsyncClient(base_url=http, timeout=30) as client:
        return await client.post(f"/v1/interrupts/{interrupt}", json={"payload": payload}, headers=headers or key())


async def ended(http: str, run: str) -> dict[str, Any]:
    async with httpx.AsyncClient(base_url=http, timeout=30) as client:
        with anyio.fail_after(30):
            while True:
                row: dict[str, Any] = (await client.get(f"/v1/runs/{run}")).json()
                if row["status"] != "running":
                    return row
                await anyio.sleep(0.02)


@pytest.mark.parametrize("agent", ["durable", "framework"])
async def test_an_approval_survives_a_kill_and_the_tool_runs_once(
    server: ServerProcess, tmp_path: Path, agent: str
) -> None:
    done = tmp_path / "done.txt"
    before = ["prepare"] if agent == "durable" else []
    run = await start(server.http, agent, "Ada")
    [interrupt] = run["interrupts"]
    assert interrupt["reason"] == "tool_call" and interrupt["expiresAt"]
    assert (done.read_text().split("\n")[:-1] if done.exists() else []) == before
    server.kill()
    await server.start()
    wrong = await answer(server.http, interrupt["id"], {"approved": "yes"})
    assert wrong.status_code == 422 and wrong.json()["at"] == "/approved"
    headers = key()
    first = await answer(server.http, interrupt["id"], {"approved": True}, headers)
    assert first.status_code == 200, first.text
    server.kill()  # as early as it gets: the answer is in the log, the tool has perhaps begun
    await server.start()
    again = await answer(server.http, interrupt["id"], {"approved": True}, headers)
    assert again.status_code == 200 and again.json()["run"] == first.json()["run"]  # I5
    row = await ended(server.http, first.json()["run"])
    assert row["status"] in ("done", "interrupted"), row
    lines = done.read_text().split("\n")[:-1] if done.exists() else []
    assert lines.count("launch Ada") <= 1 and lines.count("prepare") == len(before)
    if row["status"] == "done":
        assert lines.count("launch Ada") == 1
    late = await answer(server.http, interrupt["id"], {"approved": True})
    assert late.status_code == 409


@pytest.mark.parametrize("agent", ["durable", "framework"])
async def test_after_a_restart_the_approved_tool_runs(server: ServerProcess, tmp_path: Path, agent: str) -> None:
    run = await start(server.http, agent, "Ada")
    server.kill()
    await server.start()
    result = await answer(server.http, run["interrupts"][0]["id"], {"approved": True})
    row = await ended(server.http, result.json()["run"])
    assert row["status"] == "done" and "Launched." in row["text"], row
    lines = (tmp_path / "done.txt").read_text().split("\n")[:-1]
    assert lines.count("launch Ada") == 1 and lines.count("prepare") == (agent == "durable")


async def test_a_parked_agent_that_died_says_so(server: ServerProcess) -> None:
    run = await start(server.http, "parked", "go")
    server.kill()
    await server.start()
    result = await answer(server.http, run["interrupts"][0]["id"], "Rome")
    row = await ended(server.http, result.json()["run"])
    assert (row["status"], row["code"]) == ("interrupted", "interrupted")
    assert "restarted" in row["error"]
