"""The scene *thoughts*, as it is played: offline, over the library of the Python that runs it."""

from __future__ import annotations

import datetime
import sys
import zoneinfo
from pathlib import Path
from typing import Any

import pytest

from runcast import events as e
from runcast.agents.base import Agent
from runcast.scenes import thoughts
from runcast.testing import AgentSuite, Collected, collect
from runcast.testing.agent_suite import check


class TestConformance(AgentSuite):
    prompt = "How do I compress a file?"

    def make_agent(self) -> Agent:
        return thoughts.make(tokens_per_s=0)


async def ask(question: str, **options: Any) -> Collected:
    events = await collect(thoughts.make(tokens_per_s=0, **options), question)
    check(events)
    return events


def results(events: Collected) -> list[Any]:
    return [event.result for event in events if isinstance(event, e.ToolCallResult)]


def actions(events: Collected) -> list[str]:
    return [event.tool_call_name for event in events if isinstance(event, e.ToolCallStart)]


@pytest.mark.anyio
async def test_thinking_action_observation_answer_one_by_one() -> None:
    events = await ask("How do I compress a file?")
    order = [type(event).__name__ for event in events if event.type in ("REASONING_START", "TOOL_CALL_START", "TOOL_CALL_RESULT", "TEXT_MESSAGE_START")]  # fmt: skip
    assert order[:3] == ["ReasoningStart", "ToolCallStart", "ToolCallResult"]
    assert order[-1] == "TextMessageStart"
    found = [one["module"] for one in results(events)[0]]
    assert {"bz2", "lzma", "zlib"} & set(found)
    assert f"**`{found[0]}`**" in events.text
    assert next(str(event.url) for event in events if isinstance(event, e.Source)).endswith(f"/{found[0]}.html")


@pytest.mark.anyio
async def test_it_reads_functions_and_modules() -> None:
    events = await ask("What does textwrap.shorten do?")
    assert "textwrap.shorten(text, width, **kwargs)" in events.text
    assert "Collapse and truncate" in events.text
    assert "Greatest" in (await ask("what does math.gcd do?")).text  # written in C: nothing to read but itself
    events = await ask("Tell me about graphlib")
    assert actions(events) == ["read_documentation", "list_members"]
    assert "TopologicalSorter" in events.text
    assert "ZoneInfo" in (await ask("zoneinfo")).text


@pytest.mark.anyio
async def test_it_tells_the_time_of_a_city() -> None:
    moment = datetime.datetime(2026, 1, 2, 3, 4, tzinfo=datetime.UTC)

    def now(zone: zoneinfo.ZoneInfo) -> datetime.datetime:
        return moment.astimezone(zone)

    if "Asia/Tokyo" not in zoneinfo.available_timezones():
        pytest.skip("this machine has no time zones")
    events = await ask("What time is it in tokyo?", now=now)
    assert events.text == "In Tokyo it is **12:04** on Friday, 2 January (JST, UTC+09:00)."
    assert "no time zone" in (await ask("What's the time in Narnia?", now=now)).text
    assert actions(await ask("How do I measure time in Python?")) == ["search_modules", "read_documentation"]


@pytest.mark.anyio
async def test_the_zen_is_read_and_not_imported(capsys: pytest.CaptureFixture[str]) -> None:
    sys.modules.pop("this", None)
    events = await ask("Show me the Zen of Python")
    assert "> Beautiful is better than ugly." in events.text
    assert "this" not in sys.modules and capsys.readouterr().out == ""


@pytest.mark.anyio
@pytest.mark.parametrize("question", ["", "hi", "Help!", "what can you do?", "?"])
async def test_it_says_what_it_can_do(question: str) -> None:
    events = await ask(question)
    assert "not a language model" in events.text and actions(events) == []


@pytest.mark.anyio
async def test_what_it_does_not_know_it_does_not_invent() -> None:
    events = await ask("Where do purple elephants live?")
    assert results(events) == [[]]
    assert events.text.startswith("No module of the standard library mentions")


@pytest.mark.anyio
async def test_every_example_it_gives_works() -> None:
    for line in (await ask("help")).text.splitlines():
        if line.startswith("- *"):
            events = await ask(line.strip("-* "))
            assert actions(events), line
            assert not events.text.startswith(("I found no", "No module")), line


@pytest.mark.anyio
async def test_a_file_beside_the_program_is_not_taken_for_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "colorsys.py").write_text('"""My secret colours."""')
    monkeypatch.syspath_prepend(tmp_path)
    thoughts._source.cache_clear()
    assert "secret" not in (await ask("colorsys")).text


@pytest.mark.anyio
async def test_it_speaks_at_the_pace_of_a_model() -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    events = await collect(thoughts.make(tokens_per_s=20, sleep=sleep), "hi")
    words = [event for event in events if isinstance(event, e.TextMessageContent | e.ReasoningMessageContent)]
    assert len(words) > 50 and len(slept) == len(words)
    assert set(slept) == {0.05}
    assert all(len(event.delta) < 40 for event in words)
