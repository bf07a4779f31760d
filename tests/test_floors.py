"""The floors hold: imports go downward only, pure modules do no I/O, the client never imports the server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def lint(config: str = "pyproject.toml") -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("lint-imports")
    if not program.exists():
        pytest.skip("import-linter is not installed beside this Python")
    return subprocess.run(
        [program, "--no-cache", "--config", config],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_every_contract_is_kept() -> None:
    result = lint()
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_contracts_can_be_broken(tmp_path: Path) -> None:
    """The same tool, told the opposite of what is true, says so: a contract that sees nothing would pass everything."""
    config = tmp_path / "upside-down.toml"
    config.write_text(
        '[tool.importlinter]\nroot_package = "runcast"\n'
        '[[tool.importlinter.contracts]]\nname = "upside down"\ntype = "layers"\ncontainers = ["runcast"]\n'
        'layers = ["errors", "events", "running", "service"]\n'
    )
    result = lint(str(config))
    assert result.returncode != 0
    assert "runcast.service -> runcast.running" in result.stdout


def test_a_bare_install_is_enough_to_import_everything_but_adapters() -> None:
    """Frameworks are imported lazily: with none of the extras importable, core, server, client and cli still are."""
    script = (
        "import sys\n"
        "for name in ('pydantic_ai', 'httpx', 'pytest', 'ag_ui', 'google', 'openai', 'langgraph'):\n"
        "    sys.modules[name] = None\n"
        "import runcast.cli, runcast.server, runcast.client.sync, runcast.ui.terminal\n"
        "import runcast.agents.loader, runcast.scenes.thoughts, runcast.stores.sqlite\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr


def test_help_does_not_load_the_server() -> None:
    """`runcast --help` is instant: commands import what they need when they run."""
    script = (
        "import sys, runcast.cli\n"
        "heavy = [name for name in ('fastapi', 'uvicorn', 'pydantic', 'websockets', 'sqlite3') if name in sys.modules]\n"
        "assert not heavy, heavy\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
