"""The rows in one run, into `results.json` and `RESULTS.md`.

`python run.py` is the short set, under 10 minutes. `--full` takes every peer and every size. `--only P3,P4` measures some rows
again and keeps the others as they are, `--render` only writes RESULTS.md anew. What was measured is kept row by row.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import importlib.metadata
import json
import os
import platform
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cumulative
import delivery
import encoders
import fanout
import growth
import lagging
import memory
import path
import psutil
import reload
import restart
import results
import saturated
from installing import PEER_OF, interpreter
from rounds import note

HERE = Path(__file__).parent
FILE = HERE / "results.json"
PACKAGES = ("fastapi", "starlette", "uvicorn", "websockets", "uvloop", "httptools", "msgspec", "anyio", "picows")


class Row(NamedTuple):
    goals: str
    short: Callable[[], Any]
    full: Callable[[], Any]


ROWS = {
    "own": Row("P1, P5", lambda: delivery.measure(), lambda: delivery.measure(delivery.FULL)),
    "shared": Row(
        "P1",
        lambda: delivery.measure(runs=25, readers=4, tokens=300),
        lambda: delivery.measure(runs=25, readers=4),
    ),
    "saturated": Row("P2", lambda: saturated.measure(), lambda: saturated.measure(saturated.FULL)),
    "fanout": Row("P3", lambda: fanout.measure(seconds=3, rounds=2), lambda: fanout.measure(seconds=5, rounds=3)),
    "lagging": Row("P4", lambda: lagging.measure(tokens=10_000), lambda: lagging.measure(tokens=50_000, rounds=5)),
    "reload": Row("P6", lambda: reload.run(), lambda: reload.run(30)),
    "restart": Row("P7", lambda: restart.measure(rounds=2), lambda: restart.measure(rounds=5)),
    "memory": Row("P8", lambda: memory.measure(rounds=1), lambda: memory.measure(rounds=3)),
    "growth": Row(
        "P9",
        lambda: growth.measure(rounds=1, runs=(1, 1000), stored=(1, 10_000)),
        lambda: growth.measure(rounds=3),
    ),
    "encoders": Row("dialects", lambda: encoders.measure(), lambda: encoders.measure(rounds=10)),
    "cumulative": Row("dialects", lambda: cumulative.measure(), lambda: cumulative.measure(rounds=10)),
    "path": Row(
        "stages", lambda: path.measure(list(path.STAGES), 20_000, 2), lambda: path.measure(list(path.STAGES), 50_000, 5)
    ),
}


def versions(measured: Any) -> dict[str, dict[str, str]]:
    """What ran: ours, and the environments of the peers that were measured."""
    kinds: set[str] = set(measured) if isinstance(measured, dict) else set()
    used = dict.fromkeys(PEER_OF[kind] for kind in PEER_OF if kind in kinds and "rounds" in measured[kind])
    return {"ours": {name: importlib.metadata.version(name) for name in PACKAGES}} | {
        peer: installed(peer) for peer in used
    }


@functools.cache
def installed(peer: str) -> dict[str, str]:
    """The versions of what is pinned in the peer's environment."""
    pinned = {line.split("==")[0].split("[")[0] for line in (HERE / "peers" / f"{peer}.txt").read_text().split()}
    command = [str(interpreter(peer)), "-m", "pip", "list", "--format", "json", "--disable-pip-version-check"]
    listed = subprocess.run(command, capture_output=True, check=True)
    return {one["name"]: one["version"] for one in json.loads(listed.stdout) if one["name"] in pinned}


def commit() -> str:
    """What was measured; with `+` if files were changed since. Empty outside of a repository."""
    git = ["git", "-C", str(HERE)]
    try:
        head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run(
            [*git, "status", "--porcelain", "--", "../src"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")


def machine(measured: Any) -> dict[str, Any]:
    model = ""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        model = next((ln.split(":")[1].strip() for ln in cpuinfo.read_text().splitlines() if "model name" in ln), "")
    return {
        "date": str(datetime.date.today()),
        "commit": commit(),
        "system": platform.platform(),
        "processor": model,
        "cores": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "versions": versions(measured),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--only", default="", help=", ".join(f"{name} ({row.goals})" for name, row in ROWS.items()))
    parser.add_argument("--render", action="store_true")
    given = parser.parse_args()
    kept: dict[str, Any] = json.loads(FILE.read_text()) if FILE.exists() else {}
    if not given.render:
        wanted = {word.strip() for word in given.only.split(",") if word.strip()}
        names = [
            name for name, row in ROWS.items() if not wanted or name in wanted or wanted & {*row.goals.split(", ")}
        ]
        if not names:
            parser.error(f"no such row: {given.only}")
        if "rows" not in kept or not wanted:
            kept = {"rows": {}}
        for name in names:
            began = time.monotonic()
            note(f"== {name} ({ROWS[name].goals})")
            row, before = ROWS[name], os.getloadavg()[0]
            measured = (row.full if given.full else row.short)()
            kept["rows"][name] = {
                "measured": measured,
                "seconds": round(time.monotonic() - began, 1),
                "set": "full" if given.full else "short",
                "load_average_before": before,
                **machine(measured),
            }
            FILE.write_text(json.dumps(kept, indent=1) + "\n")
    text = results.render(kept["rows"])
    (HERE / "RESULTS.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
