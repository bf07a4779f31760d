"""kill -9 under runs that are taken up again (`on_crash`): readers end with the whole text once, tools ran as often as they may.

And the stops of a real process: what a signal does to runs that end in time, that do not, and that wait.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import anyio
import anyio.to_thread
import httpx
import pytest

from runcast.events import decode
from runcast.transcript import TextPart, ToolPart, Transcript, TranscriptRun, dump, fold
from simulation.judge import judge_log

from .dying import STEPS, TEXT, count
from .following import Follower, judge
from .process import HERE, ServerProcess
from .test_kill import whole_log

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(180)]

DEADLINE_S = 60.0


@pytest.fixture
def server(tmp_path: Path, request: pytest.FixtureRequest) -> Any:
    agents = HERE / getattr(request, "param", "dying.py:agents")
    server = ServerProcess(tmp_path, str(agents), environment={"RUNCAST_TEST_DIRECTORY": str(tmp_path)})
    yield server
    server.kill()


@contextmanager
def planted(tmp_path: Path, plant: str, **under_test: Any) -> Generator[ServerProcess]:
    """The same server with a defect."""
    environment = {"RUNCAST_TEST_DIRECTORY": str(tmp_path)}
    agents = f"{HERE / 'dying.py'}:agents"
    server = ServerProcess(tmp_path, environment=environment, agents=agents, plant=plant, **under_test)
    try:
        yield server
    finally:
        server.kill()


async def say(server: ServerProcess, agent: str, text: str = "go", thread: str | None = None) -> dict[str, Any]:
    path = "/v1/messages" if thread is None else f"/v1/threads/{thread}/messages"
    async with httpx.AsyncClient(base_url=server.http, timeout=DEADLINE_S) as http:
        answer = await http.post(path, json={"message": text, "agent": agent})
        assert answer.status_code == 202, answer.text
        return answer.json()


async def text_reaches(server: ServerProcess, run: str, length: int) -> None:
    async with httpx.AsyncClient(base_url=server.http, timeout=DEADLINE_S) as http:
        with anyio.fail_after(DEADLINE_S):
            while len((await http.get(f"/v1/runs/{run}")).json()["text"]) < length:
                await anyio.sleep(0.01)


async def ended(server: ServerProcess, run: str) -> dict[str, Any]:
    async with httpx.AsyncClient(base_url=server.http, timeout=DEADLINE_S) as http:
        with anyio.fail_after(DEADLINE_S):
            while (answer := (await http.get(f"/v1/runs/{run}", params={"wait": 20})).json())["status"] == "running":
                pass
    return answer


async def judged(server: ServerProcess, sent: dict[str, Any]) -> TranscriptRun:
    """The run as a snapshot shows it, after the log was judged: one end, nothing open, and snapshot = replay (I14, I16)."""
    events = await whole_log(server.http, sent["thread"])
    assert judge_log(events) == []
    async with httpx.AsyncClient(base_url=server.http, timeout=DEADLINE_S) as http:
        view = (await http.get(f"/v1/threads/{sent['thread']}")).json()
    replayed = fold(Transcript(), [decode(json.dumps(event)) for event in events])
    assert view["transcript"] == json.loads(dump(replayed))
    return next(run for run in replayed.runs if run.id == sent["run"])


def shown(run: TranscriptRun) -> tuple[str, dict[str, str]]:
    parts = [part for message in run.messages[1:] for part in message.parts]
    text = "".join(part.text for part in parts if isinstance(part, TextPart))
    return text, {part.name: part.status for part in parts if isinstance(part, ToolPart)}


async def test_a_run_that_is_killed_again_and_again_says_everything_once(server: Any, tmp_path: Path) -> None:
    await says_everything_once(server, tmp_path)


async def test_planted_an_attempt_that_is_not_taken_back_is_noticed(tmp_path: Path) -> None:
    with planted(tmp_path, "says_it_all_again") as server, pytest.raises(AssertionError):
        await says_everything_once(server, tmp_path)


async def says_everything_once(server: ServerProcess, tmp_path: Path) -> None:
    await server.start()
    sent = await say(server, "speaker")
    reader = Follower(server.ws, sent["thread"])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(reader.follow)
        for _ in range(2):
            await text_reaches(server, sent["run"], 40)
            server.kill()
            await server.start()
        answer = await ended(server, sent["run"])
        log = await whole_log(server.http, sent["thread"])
        with anyio.fail_after(DEADLINE_S):
            while reader.last < log[-1]["seq"]:
                await anyio.sleep(0.02)
        tasks.cancel_scope.cancel()
    assert judge(reader, log) == []
    assert (answer["status"], answer["text"]) == ("done", TEXT)
    run = await judged(server, sent)
    assert (run.attempt, shown(run)) == (3, (TEXT, {"look": "done"}))
    assert (count("speaker", tmp_path), count("look", tmp_path)) == (3, 3)


@pytest.mark.parametrize("tool_s", ["60", "0"], ids=["in the tool", "after the tool"])
async def test_a_tool_that_must_not_run_twice_does_not(server: Any, tmp_path: Path, tool_s: str) -> None:
    await pays_once(server, tmp_path, tool_s)


async def test_planted_a_run_that_begins_again_whatever_it_did_is_noticed(tmp_path: Path) -> None:
    with planted(tmp_path, "forgets_which_tools_began") as server, pytest.raises(AssertionError, match="done"):
        await pays_once(server, tmp_path, "0")
    assert count("pay", tmp_path) == 2, "the defect is what it says"


async def pays_once(server: ServerProcess, tmp_path: Path, tool_s: str) -> None:
    await server.start()
    sent = await say(server, "payer", tool_s)
    with anyio.fail_after(DEADLINE_S):
        while count("pay", tmp_path) == 0:
            await anyio.sleep(0.01)
    if tool_s == "0":
        await text_reaches(server, sent["run"], 40)
    server.kill()
    await server.start()
    answer = await ended(server, sent["run"])
    assert answer["status"] == "interrupted" and "pay" in answer["error"]
    run = await judged(server, sent)
    text, tools = shown(run)
    assert text.startswith("I pay. ")
    assert tools == {"pay": "interrupted" if tool_s == "60" else "done"}
    assert count("pay", tmp_path) == 1


async def test_a_run_that_kills_its_process_is_not_begun_for_ever(server: Any, tmp_path: Path) -> None:
    await begins_three_times(server, tmp_path)


async def test_planted_attempts_that_nobody_counts_are_noticed(tmp_path: Path) -> None:
    with planted(tmp_path, "begins_for_ever") as server, pytest.raises((AssertionError, httpx.TransportError)):
        await begins_three_times(server, tmp_path)
    assert count("killer", tmp_path) > 3, "the defect is what it says"


async def begins_three_times(server: ServerProcess, tmp_path: Path) -> None:
    await server.start()
    sent = await say(server, "killer")
    for _ in range(2):
        await anyio.to_thread.run_sync(server.wait)
        await server.start()
    await anyio.to_thread.run_sync(server.wait)
    await server.start()
    assert (await ended(server, sent["run"]))["status"] == "interrupted"
    assert count("killer", tmp_path) == 3


@pytest.mark.parametrize("server", ["resuming.py:resumer"], indirect=True)
async def test_a_pydantic_ai_run_goes_on_after_its_last_step(server: Any, tmp_path: Path) -> None:
    await server.start()
    sent = await say(server, "resumer")
    await text_reaches(server, sent["run"], 40)
    server.kill()
    await server.start()
    answer = await ended(server, sent["run"])
    assert answer["status"] == "done"
    run = await judged(server, sent)
    assert (run.attempt, shown(run)) == (2, ("I pay. " + TEXT, {"pay": "done"}))
    assert (count("pay", tmp_path), count("asked", tmp_path)) == (1, 2)


async def test_a_function_goes_on_and_does_nothing_twice(server: Any, tmp_path: Path) -> None:
    """Killed wherever it is. What must not be done twice was done at most once, and where it is not known the run has ended."""
    whole = "".join(f"{number}.{word} " for number in range(STEPS) for word in range(20))
    random, ends = Random(7), list[str]()
    await server.start()
    for _ in range(4):
        for file in tmp_path.glob("* [0-9]"):
            file.unlink()
        sent = await say(server, "keeper")
        reader = Follower(server.ws, sent["thread"])
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reader.follow)
            for share in (0.3, 0.6):
                await text_reaches(server, sent["run"], int(len(whole) * (share + random.uniform(0, 0.2))))
                server.kill()
                await server.start()
            answer = await ended(server, sent["run"])
            log = await whole_log(server.http, sent["thread"])
            with anyio.fail_after(DEADLINE_S):
                while reader.last < log[-1]["seq"]:
                    await anyio.sleep(0.02)
            tasks.cancel_scope.cancel()
        assert judge(reader, log) == []
        run = await judged(server, sent)
        ends.append(answer["status"])
        for number in range(STEPS):
            for what in ("once", "pay"):
                assert count(f"{what} {number}", tmp_path) <= 1
        text, _ = shown(run)
        assert whole.startswith(text)
        if answer["status"] == "done":
            assert (run.attempt, text) == (3, whole)
            for number in range(STEPS):
                assert count(f"once {number}", tmp_path) == count(f"pay {number}", tmp_path) == 1
                assert 1 <= count(f"again {number}", tmp_path) <= 3
        else:
            assert answer["status"] == "interrupted" and "must not run twice" in answer["error"]
    assert "done" in ends


async def test_a_function_that_dies_in_a_step_does_not_do_it_again(server: Any, tmp_path: Path) -> None:
    await charges_once(server, tmp_path, "60")


async def test_planted_a_step_that_is_done_again_is_noticed(tmp_path: Path) -> None:
    with planted(tmp_path, "forgets_which_steps_began") as server, pytest.raises(AssertionError, match="done"):
        await charges_once(server, tmp_path, "2")
    assert count("charge", tmp_path) == 2, "the defect is what it says"


async def charges_once(server: ServerProcess, tmp_path: Path, step_s: str) -> None:
    await server.start()
    sent = await say(server, "charger", step_s)
    with anyio.fail_after(DEADLINE_S):
        while count("charge", tmp_path) == 0:
            await anyio.sleep(0.01)
    server.kill()
    await server.start()
    answer = await ended(server, sent["run"])
    assert answer["status"] == "interrupted" and "the step charge" in answer["error"]
    assert shown(await judged(server, sent)) == ("I charge. ", {})
    assert count("charge", tmp_path) == 1


# --- stopping ---------------------------------------------------------------------------------------------------------


async def test_a_stop_past_the_drain_leaves_such_a_run_to_the_next_process(server: Any, tmp_path: Path) -> None:
    await is_left_to_the_next(server)


async def test_planted_a_stop_that_ends_what_may_go_on_is_noticed(tmp_path: Path) -> None:
    with planted(tmp_path, "ends_what_may_go_on") as server, pytest.raises(AssertionError):
        await is_left_to_the_next(server)


async def is_left_to_the_next(server: ServerProcess) -> None:
    server.environment["RUNCAST_DRAIN_TIMEOUT_S"] = "0.1"
    await server.start()
    sent = await say(server, "speaker")
    queued = await say(server, "speaker", thread=sent["thread"])
    await text_reaches(server, sent["run"], 40)
    server.send_signal(signal.SIGTERM)
    await anyio.to_thread.run_sync(server.wait)
    await server.start()
    assert (await ended(server, sent["run"]))["text"] == TEXT
    with anyio.fail_after(DEADLINE_S):
        while (answer := await ended(server, queued["run"]))["status"] != "done":
            await anyio.sleep(0.02)
    assert answer["text"] == TEXT
    assert (await judged(server, sent)).attempt == 2
    assert (await judged(server, queued)).attempt == 1, "what was queued stayed queued (I18)"


async def test_a_stop_past_the_drain_ends_what_cannot_go_on(server: Any, tmp_path: Path) -> None:
    server.environment["RUNCAST_DRAIN_TIMEOUT_S"] = "0.1"
    await server.start()
    sent = await say(server, "payer", "60")
    with anyio.fail_after(DEADLINE_S):
        while count("pay", tmp_path) == 0:
            await anyio.sleep(0.01)
    server.send_signal(signal.SIGTERM)
    await anyio.to_thread.run_sync(server.wait)
    await server.start()
    answer = await ended(server, sent["run"])
    assert answer["status"] == "interrupted" and "shut down" in answer["error"]


async def test_ctrl_c_in_a_terminal_lets_a_run_end(server: Any, tmp_path: Path) -> None:
    """The signal goes to the whole group of processes, as a terminal sends it."""
    await server.start()
    sent = await say(server, "speaker")
    queued = await say(server, "speaker", thread=sent["thread"])
    await text_reaches(server, sent["run"], 40)
    os.killpg(server.pid, signal.SIGINT)
    async with httpx.AsyncClient(base_url=server.http, timeout=DEADLINE_S) as http:
        with anyio.fail_after(DEADLINE_S):
            while (ready := await http.get("/readyz")).status_code != 503:
                await anyio.sleep(0.005)
        assert ready.json() == {"status": "draining"}
        assert (await http.get(f"/v1/runs/{sent['run']}")).json()["status"] == "running", "readyz was first"
        refused = await http.post("/v1/messages", json={"message": "more"})
        assert refused.status_code == 503
    await anyio.to_thread.run_sync(server.wait)
    await server.start()
    answer = await ended(server, sent["run"])
    assert (answer["status"], answer["text"]) == ("done", TEXT)
    with anyio.fail_after(DEADLINE_S):
        while (await ended(server, queued["run"]))["status"] != "done":
            await anyio.sleep(0.02)
    assert (await judged(server, sent)).attempt == 1
    assert "Traceback" not in server.log()
