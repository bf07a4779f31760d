"""What a user gets: the wheel, in an empty environment, without Node and outside of the sources."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import tarfile
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "src" / "runcast" / "web" / "dist" / "index.html"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with wheel and sdist."""
    if not PAGE.is_file():
        if os.environ.get("RUNCAST_REQUIRE_ALL"):
            pytest.fail("the page is not built: make web")
        pytest.skip("the page is not built: make web")
    out = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", out, ROOT],
        check=True,
        capture_output=True,
        timeout=300,
    )
    return out


@pytest.fixture(scope="module")
def bare(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `runcast` of an environment with the wheel and nothing else."""
    return install(built, tmp_path_factory.mktemp("bare"), "")


def install(built: Path, place: Path, extra: str) -> Path:
    subprocess.run([sys.executable, "-m", "venv", place], check=True, timeout=120)
    (wheel,) = built.glob("*.whl")
    subprocess.run(
        [place / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", f"{wheel}{extra}", "-c", ROOT / "constraints.txt"],
        check=True, capture_output=True, timeout=400,
    )  # fmt: skip
    return place / "bin" / "runcast"


@contextlib.contextmanager
def demo(program: Path, cwd: Path) -> Iterator[tuple[str, str]]:
    """What `runcast demo` says first, and its address; with no Node and no Python but its own on PATH."""
    with subprocess.Popen(
        [program, "demo", "--port", "0"], cwd=cwd, env={"PATH": str(program.parent), "HOME": str(cwd), "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            said = ""
            while not (found := re.search(r"http://\S+", said)):
                line = process.stdout.readline()
                assert line, f"it ended, saying: {said}"
                said += line
            yield said, found[0].rstrip("/")
        finally:
            process.kill()


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=20) as answer:
        return answer.read().decode()


def test_wheel_and_sdist_hold_page_and_types(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"runcast/web/dist/index.html", "runcast/py.typed", "runcast/cli/__init__.py"} <= names
    assert any(name.startswith("runcast/web/dist/assets/") and name.endswith(".js") for name in names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if name.startswith("tests/") or "__pycache__" in name or name.endswith(".db")]
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    assert {"src/runcast/web/dist/index.html", "LICENSE", "README.md", "pyproject.toml"} <= packed
    assert not [name for name in packed if "node_modules" in name or name.startswith(".venv")]


def test_a_bare_install_plays_thoughts(bare: Path, tmp_path: Path) -> None:
    with demo(bare, tmp_path) as (said, url):
        assert "runcast[demo]" in said
        assert "<html" in get(f"{url}/").lower()
        assert [agent["name"] for agent in json.loads(get(f"{url}/v1/agents"))["agents"]] == ["thoughts"]
        chat = subprocess.run(
            [bare, "chat", url, "-m", "what does json do?"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert "json" in chat.stdout
    assert [file.name for file in tmp_path.iterdir() if not file.name.startswith("runcast-demo.db")] == []


def test_the_page_asks_nobody_else(bare: Path, tmp_path: Path) -> None:
    """What the page loads is there, from the same server."""
    with demo(bare, tmp_path) as (_, url):
        page = get(f"{url}/")
        parts = [part for part in re.findall(r'(?:src|href)="([^"]+)"', page) if not part.startswith(("data:", "#"))]
        assert [part for part in parts if "://" in part or part.startswith("//")] == []
        files = [part.removeprefix("./").removeprefix("/") for part in parts if "." in part.rpartition("/")[2]]
        assert files
        for file in files:
            assert get(f"{url}/{file}")


def test_the_demo_install_plays_explorer(built: Path, tmp_path: Path) -> None:
    program = install(built, tmp_path / "env", "[demo]")
    (tmp_path / "cwd").mkdir()
    with demo(program, tmp_path / "cwd") as (_, url):
        assert [agent["name"] for agent in json.loads(get(f"{url}/v1/agents"))["agents"]] == ["explorer"]
        chat = subprocess.run(
            [program, "chat", url, "-m", "Show me all tables"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        assert "fact_bs_purchase" in chat.stdout
