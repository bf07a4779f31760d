"""kill -9 while a person is asked: the answer is taken by the next process, and nothing is done twice or without it (I20)."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from .process import HERE, ServerProcess

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(180)]


AGENTS = f"{HERE / 'asking.py'}:agents"


@pytest.fixture
async def server(tmp_path: Path) -> Any:
    process = ServerProcess(tmp_path, AGENTS)
    await process.start()
    try:
        yield process
    finally:
        process.kill()


@asynccontextmanager
async def planted(tmp_path: Path, plant: str) -> AsyncGenerator[ServerProcess]:
    """The same server with a defect."""
    process = ServerProcess(tmp_path, agents=AGENTS, plant=plant)
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
    await survives(server, tmp_path, agent)


@pytest.mark.parametrize(
    ("plant", "noticed"),
    [("takes_any_answer", "422"), ("forgets_commands", "409")],
)
async def test_planted_answers_that_count_otherwise_are_noticed(tmp_path: Path, plant: str, noticed: str) -> None:
    async with planted(tmp_path, plant) as server:
        with pytest.raises(AssertionError, match=noticed):
            await survives(server, tmp_path, "durable")


async def survives(server: ServerProcess, tmp_path: Path, agent: str) -> None:
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
async def test_a_no_survives_a_kill_and_the_tool_does_not_run(
    server: ServerProcess, tmp_path: Path, agent: str
) -> None:
    await does_not_run(server, tmp_path, agent)


@pytest.mark.parametrize("agent", ["durable", "framework"])
async def test_planted_a_no_that_is_taken_for_a_yes_is_noticed(tmp_path: Path, agent: str) -> None:
    async with planted(tmp_path, "takes_a_no_for_a_yes") as server:
        with pytest.raises(AssertionError, match="launch Ada"):
            await does_not_run(server, tmp_path, agent)


async def does_not_run(server: ServerProcess, tmp_path: Path, agent: str) -> None:
    run = await start(server.http, agent, "Ada")
    server.kill()
    await server.start()
    result = await answer(server.http, run["interrupts"][0]["id"], {"approved": False, "reason": "not today"})
    row = await ended(server.http, result.json()["run"])
    assert row["status"] in ("done", "cancelled"), row
    done = tmp_path / "done.txt"
    assert "launch Ada" not in (done.read_text() if done.exists() else "")


@pytest.mark.parametrize("agent", ["durable", "framework"])
async def test_after_a_restart_the_approved_tool_runs(server: ServerProcess, tmp_path: Path, agent: str) -> None:
    await runs_after_a_restart(server, tmp_path, agent)


async def test_planted_what_was_done_before_the_question_is_done_again(tmp_path: Path) -> None:
    async with planted(tmp_path, "forgets_what_was_done") as server:
        with pytest.raises(AssertionError):
            await runs_after_a_restart(server, tmp_path, "durable")
    assert (tmp_path / "done.txt").read_text().count("prepare") == 2, "the defect is what it says"


async def runs_after_a_restart(server: ServerProcess, tmp_path: Path, agent: str) -> None:
    run = await start(server.http, agent, "Ada")
    server.kill()
    await server.start()
    result = await answer(server.http, run["interrupts"][0]["id"], {"approved": True})
    row = await ended(server.http, result.json()["run"])
    assert row["status"] == "done" and "Launched." in row["text"], row
    lines = (tmp_path / "done.txt").read_text().split("\n")[:-1]
    assert lines.count("launch Ada") == 1 and lines.count("prepare") == (agent == "durable")


async def test_a_parked_agent_that_died_says_so(server: ServerProcess) -> None:
    await says_so(server)


async def test_planted_an_agent_that_is_called_although_it_cannot_go_on_is_noticed(tmp_path: Path) -> None:
    async with planted(tmp_path, "calls_again_what_cannot_be") as server:
        with pytest.raises(AssertionError, match="waiting"):
            await says_so(server)


async def says_so(server: ServerProcess) -> None:
    run = await start(server.http, "parked", "go")
    server.kill()
    await server.start()
    result = await answer(server.http, run["interrupts"][0]["id"], "Rome")
    row = await ended(server.http, result.json()["run"])
    assert (row["status"], row.get("code")) == ("interrupted", "interrupted")
    assert "restarted" in row["error"]
