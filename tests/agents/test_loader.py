"""Agents by name."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from runcast.agents.base import Agent, RunContext
from runcast.agents.function import FunctionAgent, agent
from runcast.agents.loader import adapt, load
from runcast.errors import ConfigError
from runcast.events import Event
from runcast.runs import RunInput
from runcast.testing import ScriptedAgent

SOURCE = '''
from __future__ import annotations
import runcast.agents.function as f
from neighbour import NAME

@f.agent
async def greeter(prompt: str):
    """Greets."""
    yield "Hi"

async def plain(prompt: str):
    yield "Hi"

def bad(db: dict):
    return db

many = [greeter, plain]
named = {"one": greeter, "two": plain}
nested = type("Box", (), {"inner": plain})
number = 3
called = plain("x")
empty = []
agent = greeter
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "my_agents.py").write_text(SOURCE)
    (tmp_path / "neighbour.py").write_text("NAME = 'n'")
    (tmp_path / "broken_agents.py").write_text("import runcast\nraise RuntimeError('no database')")
    (tmp_path / "needs_more.py").write_text("import a_package_that_is_not_there")
    (tmp_path / "with-dash.py").write_text("async def agent(prompt: str):\n    yield prompt")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path  # type: ignore[misc]
    for name in set(sys.modules) - before:
        del sys.modules[name]


def names(*targets: str) -> list[str]:
    return [agent.name for agent in load(*targets)]


def problems(*targets: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(*targets)
    return caught.value.problems


def test_modules_files_lists_and_mappings(folder: Path) -> None:
    assert names("my_agents:greeter") == ["greeter"]
    assert names("my_agents") == ["greeter"]
    assert names("my_agents.py:plain") == ["plain"]
    assert names(f"{folder}/my_agents.py:many") == ["greeter", "plain"]
    assert names("my_agents:named") == ["one", "two"]
    assert names("my_agents:nested.inner") == ["plain"]
    assert names("./with-dash.py") == ["agent"]
    assert names("my_agents:greeter", "my_agents:plain") == ["greeter", "plain"]


def test_a_file_and_its_module_are_one(folder: Path) -> None:
    assert load("my_agents:greeter")[0] is load("my_agents.py:greeter")[0]


def test_all_problems_are_told_at_once(folder: Path) -> None:
    found = problems("my_agents:greter", "missing_module:agent", "mine.py:agent", "my_agents:number", "my_agents:bad")
    assert len(found) == 5
    for problem, word in zip(
        found, ("did you mean 'greeter'?", "no module 'missing_module'", "no file", "a int", "'db'"), strict=True
    ):
        assert word in problem


@pytest.mark.parametrize(
    ("target", "word"),
    [
        ("broken_agents:agent", "RuntimeError: no database"),
        ("broken_agents.py:agent", "broken_agents.py:2"),
        ("needs_more:agent", "a_package_that_is_not_there"),
        ("my_agent.py:agent", "did you mean my_agents.py?"),
        ("neighbour", "name the attribute"),
        ("my_agents:called", "called already"),
        ("my_agents:empty", "empty"),
        (":agent", "names no module"),
    ],
)
def test_each_problem_says_what_to_do(folder: Path, target: str, word: str) -> None:
    (problem,) = problems(target)
    assert word in problem


def test_two_agents_of_one_name_are_refused(folder: Path) -> None:
    (problem,) = problems("my_agents:greeter", "my_agents:agent")
    assert "'greeter'" in problem and "my_agents:agent" in problem


def test_nothing_named_is_a_problem() -> None:
    assert "no agent was named" in problems()[0]


class Own:
    name = "own"
    description = "Is its own agent."

    async def run(self, input: RunInput, context: RunContext) -> AsyncIterator[Event]:
        return
        yield


def test_what_can_be_an_agent() -> None:
    own = Own()
    assert adapt(own) is own
    renamed = adapt(own, "other")
    assert (renamed.name, renamed.description) == ("other", own.description) and isinstance(renamed, Agent)
    scripted = ScriptedAgent([])
    assert adapt(scripted, "again").inputs is scripted.inputs  # type: ignore[attr-defined]

    @agent(timeout_s=3)
    async def f(prompt: str) -> str:
        return prompt

    assert adapt(f) is f
    other = adapt(f, "g")
    assert isinstance(other, FunctionAgent) and (other.name, other.timeout_s) == ("g", 3)
    assert isinstance(adapt(lambda prompt: prompt, "named"), FunctionAgent)
    with pytest.raises(ConfigError, match="no name"):
        adapt(own, "with spaces")
    with pytest.raises(ConfigError, match="class Own"):
        adapt(Own)


def test_pydantic_ai_agents_are_recognised() -> None:
    from pydantic_ai import Agent as PydanticAgent
    from pydantic_ai.models.test import TestModel

    from runcast.agents.pydantic_ai import PydanticAIAgent

    assert isinstance(adapt(PydanticAgent(TestModel()), "mine"), PydanticAIAgent)
    assert adapt(PydanticAgent(TestModel(), name="own")).name == "own"


def test_no_framework_is_imported_to_load() -> None:
    code = (
        "import sys; sys.modules['pydantic_ai'] = None\n"
        "import runcast.agents.loader as l, runcast.agents.function, runcast.scenes.thoughts\n"
        "assert [a.name for a in l.load('runcast.scenes.thoughts:agent')] == ['thoughts']\n"
        "assert 'pydantic_ai.messages' not in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=30)
