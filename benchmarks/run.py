"""The short set: every row in one run, into `RESULTS.md` and `results.json`."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import platform
import statistics
import sys
from pathlib import Path
from typing import Any

import delivery
import psutil
import reload

HERE = Path(__file__).parent
PACKAGES = ("fastapi", "uvicorn", "websockets", "uvloop", "httptools", "msgspec", "picows")


def verdict(name: str, value: float, goal: float, unit: str = "") -> str:
    return f"- {name}: {value:.2f}{unit}, goal ≤ {goal:g}{unit}: {'met' if value <= goal else '**not met**'}"


def render(paced: dict[str, Any], full: dict[str, Any], reloads: list[dict[str, float]]) -> str:
    """`RESULTS.md`, with what each figure says about its goal."""
    median = statistics.median
    ours, naive = paced["ours"], paced["naive"]
    ratio = median(ours["cpu_us_per_token"]) / median(naive["cpu_us_per_token"])
    verdicts = "\n".join(
        [
            verdict("P1, CPU per delivered token against naive FastAPI", ratio, 1.5, " ×"),
            verdict("P5, added latency p50", median(ours["p50_ms"]), 1, " ms"),
            verdict("P5, added latency p99", median(ours["p99_ms"]), 10, " ms"),
            verdict("P6, reload to caught up", median(row["ms"] for row in reloads), 50, " ms"),
            verdict("P6, bytes against the text", median(r["bytes"] / r["text_bytes"] for r in reloads), 2, " ×"),
        ]
    )
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    machine = f"{platform.platform()}, {psutil.cpu_count()} cores"
    return f"""# Results

{datetime.date.today()}, {machine}, {platform.python_implementation()} {platform.python_version()}; {versions}.
Durability `process`: every event is committed before anyone sees it; the peer keeps nothing. Median (min-max) of 3
alternating rounds.

{verdicts}

## P1, P5: 100 clients, each with its own run of 500 tokens at 100 tokens/s

{delivery.table(paced)}

## P2 (for orientation): 100 clients, 1000 tokens each, as fast as they can

{delivery.table(full)}

## P6: reload in the middle of a run of 10 000 tokens

{reload.table(reloads)}
"""


def main() -> None:
    if "--render" in sys.argv:
        measured = json.loads((HERE / "results.json").read_text())
    else:
        measured = {
            "paced": delivery.measure(clients=100, count=500, rate=100, rounds=3),
            "full": delivery.measure(clients=100, count=1000, rate=0, rounds=3),
            "reloads": reload.run(),
        }
        (HERE / "results.json").write_text(json.dumps(measured, indent=1) + "\n")
    text = render(**measured)
    (HERE / "RESULTS.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
