"""Peers are installed from their published packages, pinned, each into a virtual environment of its own under `.bench/`.

`python installing.py [NAME …]` installs them ahead; a row that needs one installs it by itself.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).parent
PLACE = HERE.parent / ".bench"
PEER_OF = {"ag-ui": "pydantic-ai", "vercel": "pydantic-ai", "chainlit": "chainlit", "langgraph": "langgraph"}
"""The environment that a kind of server runs in; the others run in ours."""


class Missing(Exception):
    """A peer that cannot be measured here, and why: the tables say so."""


def interpreter(peer: str) -> Path:
    """The Python of the peer's environment, which is made at the first call.

    Raises:
        Missing: it could not be installed.
    """
    place = PLACE / peer
    pins = HERE / "peers" / f"{peer}.txt"
    stamp = place / "installed.txt"
    python = place / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if stamp.exists() and stamp.read_text() == pins.read_text():
        return python
    print(f"installing {peer} into {place.relative_to(PLACE.parent)}", file=sys.stderr)
    try:
        venv.create(place, with_pip=True, clear=True)
        command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(pins)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    except (OSError, subprocess.SubprocessError) as error:
        raise Missing(f"{peer} could not be installed: {error}") from error
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        raise Missing(f"{peer} could not be installed: {' '.join(errors[-2:])[:300] or 'pip says nothing'}")
    stamp.write_text(pins.read_text())
    return python


def library() -> Path:
    """floor.c, compiled.

    Raises:
        Missing: there is no C compiler, or not Linux.
    """
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise Missing("the C floor needs a C compiler: no cc, gcc or clang on PATH")
    if not sys.platform.startswith("linux"):
        raise Missing("the C floor needs epoll, so Linux")
    source, target = HERE / "peers" / "floor.c", PLACE / "floor.so"
    if not target.exists() or target.stat().st_mtime < source.stat().st_mtime:
        PLACE.mkdir(exist_ok=True)
        command = [compiler, "-O2", "-shared", "-fPIC", "-o", str(target), str(source)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        if done.returncode:
            raise Missing(f"the C floor does not compile: {done.stderr[:300]}")
    return target


if __name__ == "__main__":
    for name in sys.argv[1:] or sorted({*PEER_OF.values()}):
        try:
            print(name, interpreter(name))
        except Missing as missing:
            print(name, missing)
