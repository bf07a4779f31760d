"""The documentation is held to account: what there is, is described; what is shown, works; what is linked, is there."""

from __future__ import annotations

import ast
import builtins
import importlib.util
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest

from core import Told, echo
from runcast import errors, events
from runcast.agents import loader
from runcast.server import Server
from serving import serving_app

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "spec").glob("*.md")],
)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for number, (tongue, text) in enumerate(FENCE.findall(page.read_text("utf-8"))):
            if tongue == language:
                yield f"{page.relative_to(ROOT)}#{number}", text


def reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("runcast_reference", ROOT / "scripts" / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", ["settings.md", "events.md", "errors.md", "cli.md", "dialects.md"])
def test_the_reference_is_fresh(page: str) -> None:
    stands, should = reference().rendered(page)
    assert stands == should, "run: python scripts/reference.py"


def test_every_setting_is_documented() -> None:
    from runcast.config import Settings

    text = (ROOT / "docs/reference/settings.md").read_text("utf-8")
    assert [name for name in Settings.model_fields if f"`RUNCAST_{name.upper()}`" not in text] == []


def test_every_event_type_is_documented() -> None:
    text = (ROOT / "docs/reference/events.md").read_text("utf-8")
    kinds = [str(kind.__struct_config__.tag) for kind in (*events.AGUI, *events.OWN)]
    assert [kind for kind in kinds if f"### {kind}\n" not in text] == []


def test_every_error_code_is_documented() -> None:
    def tree(kind: type[errors.RuncastError]) -> Iterator[type[errors.RuncastError]]:
        yield kind
        for below in kind.__subclasses__():
            yield from tree(below)

    text = (ROOT / "docs/reference/errors.md").read_text("utf-8")
    ours = {kind.code for kind in tree(errors.RuncastError) if kind.__module__.startswith("runcast.")}
    assert sorted(code for code in ours if f"| `{code}` |" not in text) == []


def test_every_link_between_files_leads_somewhere() -> None:
    broken: list[str] = []
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text("utf-8")):
            if "://" not in target and not (page.parent / target).exists():
                broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert broken == []


def test_every_decision_is_listed_and_whole() -> None:
    index = (ROOT / "docs/decisions/README.md").read_text("utf-8")
    for decision in sorted((ROOT / "docs/decisions").glob("0*.md")):
        text = decision.read_text("utf-8")
        assert f"({decision.name})" in index
        for part in ("## Context", "## Decision", "## Consequences", "## What would change our mind"):
            assert part in text, decision.name


@pytest.mark.parametrize(("place", "text"), [pytest.param(*block, id=block[0]) for block in blocks("python")])
def test_python_in_the_documentation_is_python(place: str, text: str) -> None:
    compile(text, place, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.parametrize("text", [text for place, text in blocks("python") if place.startswith("README.md")])
def test_what_the_readme_prints_is_whole_programs(text: str) -> None:
    tree = ast.parse(text)
    compile(tree, "README.md", "exec")  # no `await` that only a notebook would take
    bound = {
        name.asname or name.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom | ast.Import)
        for name in node.names
    }
    bound |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    bound |= {node.id for node in names if isinstance(node.ctx, ast.Store)}
    bound |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)} | set(dir(builtins))
    assert {node.id for node in names} - bound == set()


@pytest.mark.parametrize(("place", "text"), [pytest.param(*block, id=block[0]) for block in blocks("json")])
def test_json_in_the_documentation_is_json(place: str, text: str) -> None:
    json.loads(text)


@pytest.mark.parametrize(("page", "name"), [("README.md", "agent"), ("docs/tutorial.md", "agent")])
def test_the_agents_that_are_shown_can_be_served(page: str, name: str, tmp_path: Path) -> None:
    text = (ROOT / page).read_text("utf-8")
    shown = next(block for tongue, block in FENCE.findall(text) if tongue == "python" and "async def agent" in block)
    module = tmp_path / f"shown_{Path(page).stem.lower()}.py"
    module.write_text(shown)
    (agent,) = loader.load(f"{module}:{name}")
    assert agent.name == name
    assert agent.description


@pytest.mark.anyio
async def test_what_the_readme_sends_is_accepted() -> None:
    readme = (ROOT / "README.md").read_text("utf-8").replace("\\\n", " ")
    line = next(line for line in readme.splitlines() if line.startswith("curl") and "/messages" in line)
    words = shlex.split(line, comments=True)
    headers = [word.split(": ", 1) for flag, word in pairwise(words) if flag == "-H"]
    body = next(word for flag, word in pairwise(words) if flag == "-d")
    server = Server([Told(echo, "echo")], store=":memory:", drain_timeout_s=0)
    async with serving_app(server) as running, running.http() as http:
        thread = (await http.post("/v1/threads")).json()["id"]
        url = f"/v1/threads/{thread}/messages"
        first, second = [await http.post(url, content=body, headers=dict(headers)) for _ in range(2)]
        assert (first.status_code, second.json()["replayed"]) == (202, True), first.text
        assert first.json()["run"] == second.json()["run"]


def test_every_make_command_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {word for page in PAGES for word in re.findall(r"`?make ([a-z][a-z-]*)`", page.read_text("utf-8"))}
    assert named - targets == set()


def test_every_core_dependency_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = set(re.findall(r"^([\w.-]+)==", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    wanted = [
        *project["dependencies"],
        *(item for extra in project["optional-dependencies"].values() for item in extra),
    ]
    names = {re.split(r"[\[><=; ]", item, maxsplit=1)[0] for item in wanted} - {"runcast"}
    assert names - pinned == set()


def test_no_lock_names_where_a_package_was_downloaded() -> None:
    lock = json.loads((ROOT / "package-lock.json").read_text())
    remote = [name for name, package in lock["packages"].items() if "://" in str(package.get("resolved", ""))]
    assert remote == []
    assert "://" not in (ROOT / "constraints.txt").read_text()
