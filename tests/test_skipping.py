"""Where nothing may be left out, what is skipped fails: a test, and a whole file that is skipped while it is read."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
FILE = 'import pytest\n\npytest.importorskip("a_package_that_there_is_not")\n\ndef test_never() -> None: ...\n'
TEST = 'import pytest\n\ndef test_skipped() -> None:\n    pytest.skip("no reason")\n'


@pytest.mark.parametrize("text", [FILE, TEST], ids=["file", "test"])
@pytest.mark.parametrize("required", [True, False])
def test_a_skip_fails_where_nothing_may_be_left_out(text: str, required: bool, tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(text)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    environment = {key: value for key, value in os.environ.items() if key != "RUNCAST_REQUIRE_ALL"}
    done = subprocess.run(
        [sys.executable, "-B", "-m", "pytest", "-p", "conftest", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(HERE), **({"RUNCAST_REQUIRE_ALL": "1"} if required else {})},
        capture_output=True,
        text=True,
        timeout=50,
    )
    failed = done.returncode not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
    assert failed is required, done.stdout
    assert ("RUNCAST_REQUIRE_ALL forbids" in done.stdout) is required, done.stdout
