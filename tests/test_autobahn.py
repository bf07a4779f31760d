"""`scripts/autobahn.py` where it cannot run: it says why, with a code of its own, and leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_without_python_2_7_it_says_so(tmp_path: Path) -> None:
    nowhere, temporary = tmp_path / "nowhere", tmp_path / "temporary"
    temporary.mkdir()
    done = subprocess.run(
        [sys.executable, "-B", str(ROOT / "scripts" / "autobahn.py")],
        env={
            "PATH": str(nowhere),
            "PYENV_ROOT": str(nowhere),
            "TMPDIR": str(temporary),
            "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), *sys.path]),
        },
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 3, done.stderr
    assert "Not run. The Autobahn|Testsuite needs Python 2.7" in done.stderr
    assert list(temporary.iterdir()) == []
