"""The command line, as a person uses it: in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from auth.tokens import SECRET, token
from runcast import __version__
from runcast.client.sync import connect
from runcast.events import decode
from runcast.markdown import render
from runcast.runs import Thread
from runcast.transcript import Transcript, fold

RUNCAST = [sys.executable, "-m", "runcast.cli"]
SOURCES = os.pathsep.join(filter(None, [str(Path(__file__).parent.parent / "src"), os.environ.get("PYTHONPATH")]))
ENV = {**os.environ, "PYTHONPATH": SOURCES, "PYTHONUNBUFFERED": "1"}
DEADLINE_S = 40


def runcast(*arguments: str, cwd: Path, input: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*RUNCAST, *arguments],
        cwd=cwd,
        env=ENV,
        input=input,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


@contextlib.contextmanager
def running(*arguments: str, cwd: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server, and its address as it printed it."""
    with subprocess.Popen(
        [*RUNCAST, *arguments], cwd=cwd, env=ENV, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.search(r"http://\S+", line)
            assert found, f"it said {line!r}"
            yield process, found[0]
        finally:
            process.kill()


AGENT = """
import asyncio
from runcast import AgentError

async def agent(prompt: str):
    "Says it again, or does what it is told."
    if prompt == "fail":
        raise AgentError("I was told to.", code="told")
    yield prompt.upper()
    if prompt == "wait":
        await asyncio.Event().wait()

not_an_agent = 3
"""


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(AGENT)
    return tmp_path


def test_version(tmp_path: Path) -> None:
    result = subprocess.run(
        [Path(sys.executable).with_name("runcast"), "--version"], capture_output=True, text=True, check=True
    )
    assert result.stdout == f"runcast, version {__version__}\n"


def test_all_agents_that_cannot_be_served_are_named_at_once(here: Path) -> None:
    result = runcast("serve", "mine:agnet", "nothere:agent", "mine:not_an_agent", cwd=here)
    assert result.returncode == 2
    problems = result.stderr.splitlines()
    assert len(problems) == 3
    assert all(problem.startswith("runcast: ") for problem in problems)
    assert "did you mean 'agent'" in problems[0]
    assert "nothere" in problems[1]
    assert "Traceback" not in result.stderr


def test_agents_address_and_settings_are_judged_together(here: Path) -> None:
    result = runcast("serve", "mine:agnet", "--host", "0.0.0.0", cwd=here)
    assert result.returncode == 2
    assert "Refusing to listen on 0.0.0.0" in result.stderr and "did you mean 'agent'" in result.stderr


def test_debug_shows_where_it_happened(here: Path) -> None:
    result = runcast("--debug", "serve", "nothere:agent", cwd=here)
    assert result.returncode != 0
    assert "Traceback" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["serve"], "MODULE:ATTR"),
        (["serve", "mine:agent", "--host", "0.0.0.0"], "Refusing to listen on 0.0.0.0"),
        (["serve", "mine:agent", "--port", "99999"], "99999"),
        (["demo", "nosuchscene"], "nosuchscene"),
        (["demo", "thoughts", "--database", "mine.py"], "explorer scene"),
        (["export", "t"], "no database 'runcast.db'"),
        (["threads", "--database", "else.db"], "no database 'else.db'"),
        (["chat"], "Standard input is empty"),
    ],
)
def test_what_must_be_changed_first_exits_with_2(here: Path, arguments: list[str], words: str) -> None:
    result = runcast(*arguments, cwd=here)
    assert result.returncode == 2, result.stderr
    assert words in result.stderr
    assert "Traceback" not in result.stderr


def test_bad_settings_are_told_all_at_once(here: Path) -> None:
    bad = {**ENV, "RUNCAST_PORT": "many", "RUNCAST_DURABILITY": "hope"}
    result = subprocess.run(
        [*RUNCAST, "serve", "mine:agent"],
        cwd=here,
        env=bad,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert result.returncode == 2
    assert "RUNCAST_PORT" in result.stderr
    assert "RUNCAST_DURABILITY" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_server_that_asks_for_tokens(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond loopback, and told to a client in the terminal."""
    without = runcast("serve", "mine:agent", "--auth", "jwt", cwd=here)
    assert without.returncode == 2
    assert "RUNCAST_JWT_SECRET" in without.stderr
    monkeypatch.setitem(ENV, "RUNCAST_JWT_SECRET", "change-me-change-me-change-me-change-me")
    weak = runcast("serve", "mine:agent", "--auth", "jwt", "--host", "0.0.0.0", cwd=here)
    assert weak.returncode == 2
    assert "placeholder" in weak.stderr
    assert "change-me" not in weak.stderr
    monkeypatch.setitem(ENV, "RUNCAST_JWT_SECRET", SECRET)
    open_ = runcast("serve", "mine:agent", "--host", "0.0.0.0", cwd=here)
    assert open_.returncode == 2
    assert "without authentication" in open_.stderr
    with running("serve", "mine:agent", "--auth", "jwt", "--host", "0.0.0.0", "--port", "0", cwd=here) as (_, url):
        url = url.replace("0.0.0.0", "127.0.0.1")
        refused = runcast("chat", url, "-m", "hi", cwd=here)
        assert refused.returncode != 0
        assert "token" in refused.stderr
        said = runcast("chat", url, "-m", "hi", "--token", token("ana"), cwd=here)
        assert said.returncode == 0, said.stderr
        assert said.stdout.strip()


def test_a_chat_without_a_server_says_so(here: Path) -> None:
    result = runcast("chat", "http://127.0.0.1:9", "-m", "hi", cwd=here)
    assert result.returncode == 1
    assert "is the server running" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_port_that_is_taken_is_said(here: Path) -> None:
    with running("serve", "mine:agent", "--port", "0", cwd=here) as (_, url):
        port = re.findall(r":(\d+)", url)[0]
        result = runcast("serve", "mine:agent", "--port", port, "--database", "other.db", cwd=here)
    assert result.returncode == 2
    assert port in result.stderr
    assert "Traceback" not in result.stderr


def test_serve_chat_list_export_stop(here: Path) -> None:
    """The whole round, with a database that is read while the server writes to it."""
    with running("serve", "mine:agent", "--port", "0", cwd=here) as (process, url):
        chat = runcast("chat", url, cwd=here, input="hello there\n")
        assert (chat.returncode, chat.stdout) == (0, "HELLO THERE\n"), chat.stderr

        failed = runcast("chat", url, "-m", "fail", cwd=here)
        assert failed.returncode == 1
        assert "I was told to." in failed.stderr

        listed = runcast("threads", cwd=here)
        threads = [line.split()[0] for line in listed.stdout.splitlines()]
        assert len(threads) == 2, listed.stderr
        found = runcast("threads", "--query", "hello", cwd=here).stdout.splitlines()
        assert len(found) == 1
        thread = found[0].split()[0]

        markdown = runcast("export", thread, cwd=here)
        assert markdown.stdout.startswith("# hello there")
        assert "\nHELLO THERE\n" in markdown.stdout

        written = runcast("export", thread, "--format", "json", "-o", "out.json", cwd=here)
        assert written.returncode == 0, written.stderr
        whole = json.loads((here / "out.json").read_text())
        assert whole["format"] == "runcast-thread"
        assert [event["seq"] for event in whole["events"]] == list(range(1, whole["thread"]["head"] + 1))
        assert whole["transcript"]["runs"][0]["status"] == "done"

        first = whole["transcript"]["runs"][0]["id"]
        with connect(url) as client:
            assert client.edit(first, "salut").text() == "SALUT"
        newest = runcast("export", thread, cwd=here)
        assert "SALUT" in newest.stdout and "HELLO THERE" not in newest.stdout
        older = runcast("export", thread, "--run", first, cwd=here)
        assert "HELLO THERE" in older.stdout and "SALUT" not in older.stdout
        path = json.loads(runcast("export", thread, "--run", first, "--format", "json", cwd=here).stdout)
        assert [run["id"] for run in path["transcript"]["runs"]] == [first]
        assert len(path["events"]) > len(whole["events"])
        nowhere = runcast("export", thread, "--run", "nothing", cwd=here)
        assert nowhere.returncode == 1 and "no run 'nothing'" in nowhere.stderr

        missing = runcast("export", "nothing", cwd=here)
        assert missing.returncode == 1
        assert "no conversation 'nothing'" in missing.stderr

        again = runcast("chat", url, "--thread", thread, "-m", "more", cwd=here)
        assert again.stdout == "MORE\n"
        assert len(runcast("threads", cwd=here).stdout.splitlines()) == 2

        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_S) in (0, -signal.SIGTERM)  # closed in order, then ended by the signal, as asked


def test_ctrl_c_stops_the_run(here: Path) -> None:
    """Once: the run is cancelled, here and in the log."""
    with running("serve", "mine:agent", "--port", "0", cwd=here) as (_, url):
        with subprocess.Popen(
            [*RUNCAST, "chat", url, "-m", "wait"], cwd=here, env=ENV, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        ) as chat:  # fmt: skip
            assert chat.stdout is not None
            assert chat.stdout.read(4) == "WAIT"
            chat.send_signal(signal.SIGINT)
            _, aside = chat.communicate(timeout=DEADLINE_S)
        assert chat.returncode == 130
        assert "Stopping" in aside
        assert "Stopped" in aside
        assert "cancelled" in runcast("threads", cwd=here).stdout


def test_a_database_that_cannot_be_opened_is_said(here: Path) -> None:
    result = runcast("serve", "mine:agent", "--port", "0", "--database", "mine.py/x.db", cwd=here)
    assert result.returncode in (1, 2)
    assert "mine.py/x.db" in result.stderr
    assert "Traceback" not in result.stderr


def test_one_file_has_one_server(here: Path) -> None:
    with running("serve", "mine:agent", "--port", "0", cwd=here):
        second = runcast("serve", "mine:agent", "--port", "0", cwd=here)
    assert second.returncode == 1
    assert "runcast.db" in second.stderr or "another process" in second.stderr.lower()
    assert "Traceback" not in second.stderr


def test_demo_thoughts_plays(here: Path) -> None:
    with running("demo", "thoughts", "--port", "0", cwd=here) as (_, url):
        chat = runcast("chat", url, "-m", "what time is it in Lisbon?", cwd=here)
    assert chat.returncode == 0, chat.stderr
    assert "Lisbon" in chat.stdout
    assert (here / "runcast-demo.db").exists()


def test_markdown_names_what_came_along_and_where_the_rest_is() -> None:
    blob = {"url": "/v1/files/f2", "mimeType": "text/plain", "size": 300_000, "sha256": "0" * 64}
    content = [
        {"type": "text", "text": "Look"},
        {
            "type": "image",
            "source": {"type": "url", "value": "/v1/files/f1", "mimeType": "image/png"},
            "metadata": {"name": "cat.png", "size": 3},
        },
        {"type": "image", "source": {"type": "url", "value": "https://elsewhere.example/a.png"}},
    ]
    events = [
        {
            "type": "RUN_STARTED",
            "threadId": "t",
            "input": {"messages": [{"id": "m", "role": "user", "content": content}]},
        },
        {"type": "TOOL_CALL_START", "toolCallId": "c", "toolCallName": "read"},
        {"type": "TOOL_CALL_RESULT", "messageId": "r", "toolCallId": "c", "content": "Once upon", "blob": blob},
    ]
    transcript = Transcript()
    fold(transcript, [decode(json.dumps({"seq": n, "runId": "r", **one})) for n, one in enumerate(events, 1)])
    text = render(Thread(id="t", user="me", epoch="e", created_at=0, updated_at=0), transcript)
    assert "Attached: cat.png </v1/files/f1>" in text
    assert "Attached: image <https://elsewhere.example/a.png>" in text
    assert "Once upon" in text and "*This is the beginning of 300000 bytes: </v1/files/f2>*" in text
