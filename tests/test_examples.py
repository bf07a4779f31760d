"""The examples run, and are short."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import pytest

from client.served import served
from core import Told
from runcast import events as e
from runcast.agents import loader
from runcast.agents.base import RunContext
from runcast.client import connect
from runcast.dialects import registry
from runcast.dialects.text import Text
from runcast.errors import ConfigError, InvalidRequest
from runcast.runs import RunInput
from serving import serving

EXAMPLES = Path(__file__).parent.parent / "examples"
pytestmark = pytest.mark.anyio


def module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@pytest.mark.parametrize("example", sorted(file.name for file in EXAMPLES.iterdir() if file.is_file()))
def test_an_example_is_at_most_60_lines_and_tested_here(example: str) -> None:
    assert len((EXAMPLES / example).read_text("utf-8").splitlines()) <= 60
    assert Path(example).stem in Path(__file__).read_text("utf-8")


async def test_ask_a_person(tmp_path: Path) -> None:
    (agent,) = loader.load(f"{EXAMPLES / 'ask_a_person.py'}:agent")

    async def until_the_end_of(run: str) -> str:
        text = ""
        with anyio.fail_after(20):
            async with aclosing(client.follow(thread)) as events:
                async for event in events:
                    if isinstance(event, e.TextMessageContent):
                        text += event.delta
                    elif isinstance(event, e.RunFinished) and event.run_id == run:
                        break
        return text

    table = {"name": "Ada", "people": 2, "on": "2026-02-03", "room": "terrace"}
    async with served(agent, database=tmp_path / "log.db") as url, connect(url) as client:
        sent = await client.send("A table, please")
        thread = sent.thread
        await until_the_end_of(sent.id)
        with pytest.raises(InvalidRequest) as wrong:
            await client.resolve(f"{sent.id}.1", payload={**table, "people": 20})
        assert wrong.value.at == "/people"
        asks = str(await client.resolve(f"{sent.id}.1", payload=table))
    async with served(agent, database=tmp_path / "log.db") as url, connect(url) as client:
        await until_the_end_of(asks)
        books = await client.resolve(f"{asks}.1", approved=True, payload={"editedArgs": {**table, "people": 3}})
        text = await until_the_end_of(str(books))
    assert "There are 2 left terrace." in text
    assert text.endswith("Done: 3 people, terrace, in the name of Ada.")


async def test_own_agent(tmp_path: Path) -> None:
    (agent,) = loader.load(f"{EXAMPLES / 'own_agent.py'}:agent")
    async with served(agent, database=tmp_path / "log.db") as url, connect(url) as client:
        run = await client.send("own_*.py")
        with anyio.fail_after(20):
            events = [event async for event in run.events()]
            assert "| own_agent.py |" in await run.text()
        assert [event.summary for event in events if isinstance(event, e.ToolCallResult)] == ["Counted 1 files"]
        failed = await client.send("*.nothing")
        with anyio.fail_after(20):
            end = [event async for event in failed.events()][-1]
        assert isinstance(end, e.RunError)
        assert end.code == "nothing_found"


async def test_ask_and_print(tmp_path: Path) -> None:
    (agent,) = loader.load(f"{EXAMPLES / 'own_agent.py'}:agent")
    async with served(agent, database=tmp_path / "log.db") as url:
        with anyio.fail_after(30):
            done = await anyio.run_process([sys.executable, str(EXAMPLES / "ask_and_print.py"), "own_*.py", url])
    assert b"| own_agent.py |" in done.stdout
    assert done.stderr.decode().strip() == "[count_lines]"


async def test_mount_in_fastapi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mounted under a path: the page's API and the host's own routes, in another process, as a user starts it."""
    with anyio.fail_after(40):
        async with await anyio.open_process(
            [sys.executable, "-m", "uvicorn", "--app-dir", str(EXAMPLES), "mount_in_fastapi:app", "--port", "0"],
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
        ) as process:
            try:
                assert process.stderr is not None
                said = ""
                while not (found := re.search(r"running on (http://\S+)", said)):
                    said += (await process.stderr.receive()).decode()
                async with connect(f"{found[1]}/chat") as client:
                    assert await (await client.send("pretty bird")).text() == "pretty bird "
                    assert [agent["name"] for agent in await client.agents()] == ["parrot"]
            finally:
                process.terminate()


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The package that brings `lines_dialect`, installed: its module, and what an installer writes beside it."""
    shutil.copy(EXAMPLES / "lines_dialect.py", tmp_path)
    written = tmp_path / "lines_dialect-1.0.dist-info"
    written.mkdir()
    (written / "METADATA").write_text("Metadata-Version: 2.1\nName: lines-dialect\nVersion: 1.0\n")
    (written / "entry_points.txt").write_text("[runcast.dialects]\nlines = lines_dialect:Lines\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry.known.cache_clear()
    yield tmp_path
    registry.known.cache_clear()
    sys.modules.pop("lines_dialect", None)


async def test_lines_dialect(installed: Path) -> None:
    async def hello(input: RunInput, context: RunContext) -> AsyncIterator[e.Event]:
        yield e.ToolCallStart(tool_call_id="c", tool_call_name="look")
        yield e.ToolCallArgs(tool_call_id="c", delta='{"at":"x"}')
        yield e.ToolCallEnd(tool_call_id="c")
        yield e.ToolCallResult(message_id="r", tool_call_id="c", content="y", result="y")
        yield e.TextMessageContent(message_id="m", delta=f"You said {input.text}.")

    async with serving(Told(hello), dialects={"/ws/lines": "lines"}) as running:
        async with running.socket("/ws/lines", subprotocols=None) as socket:
            heard: list[Any] = []
            with anyio.fail_after(20):
                await socket.send("nonsense")
                heard.append(json.loads(await socket.recv()))
                await socket.send(json.dumps({"ask": "hello"}))
                while "end" not in heard[-1]:
                    heard.append(json.loads(await socket.recv()))
    assert heard[0]["error"] == 'Send {"ask": "…"}.'
    assert heard[1] == {"tool": "look", "with": {"at": "x"}}
    assert "".join(frame["say"] for frame in heard[2:-1]) == "You said hello."
    assert heard[-1] == {"end": "done"}


def test_the_package_of_lines_dialect(installed: Path) -> None:
    assert registry.dialect_named("lines").name == "lines"
    with pytest.raises(ConfigError, match="it has no options"):
        registry.dialect_named("lines?colour=red")
    points = installed / "lines_dialect-1.0.dist-info" / "entry_points.txt"
    points.write_text("[runcast.dialects]\ntext = lines_dialect:Lines\n")
    registry.known.cache_clear()
    assert isinstance(registry.dialect_named("text"), Text)  # our names are ours
    points.write_text("[runcast.dialects]\nlines = lines_dialect:Nothing\n")
    registry.known.cache_clear()
    with pytest.raises(ConfigError, match=r"'lines' \(lines_dialect:Nothing\) cannot be loaded"):
        registry.dialect_named("text")


def test_vanilla_page_uses_only_what_the_server_has() -> None:
    """Its paths are those of the reference; that they work is tested with the transports, over real sockets."""
    text = (EXAMPLES / "vanilla_page.html").read_text("utf-8")
    assert re.findall(r'[`"](?:\$\{base\})?(/v1/[^`"]*)[`"]', text) == [
        "/v1/threads",
        "/v1/threads/${thread}/events?after=0",
        "/v1/threads/${thread}/messages",
    ]
    assert "http" not in text.replace("http://127.0.0.1:8000", "").replace("http://localhost", "")


def test_the_pages_are_short_and_tested_in_a_browser() -> None:
    tested = (EXAMPLES.parent / "tests" / "e2e" / "pages.test.ts").read_text("utf-8")
    pages = sorted((EXAMPLES / "pages").iterdir())
    assert pages
    for page in pages:
        assert len(page.read_text("utf-8").splitlines()) <= 60
        assert f'open("{page.stem}"' in tested
