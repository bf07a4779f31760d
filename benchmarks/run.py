"""The short set: every row in one run, into `RESULTS.md` and `results.json`."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import platform
from pathlib import Path

import delivery
import psutil
import reload

HERE = Path(__file__).parent
PACKAGES = ("fastapi", "uvicorn", "websockets", "uvloop", "httptools", "msgspec", "picows")


def main() -> None:
    paced = delivery.measure(clients=100, count=500, rate=100, rounds=3)
    full = delivery.measure(clients=100, count=1000, rate=0, rounds=3)
    reloads = reload.run()
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    text = f"""# Results

{datetime.date.today()}, {platform.platform()}, {psutil.cpu_count()} cores, {platform.python_implementation()} {platform.python_version()}; {versions}.
Durability `process`: every event is committed before anyone sees it; the peer keeps nothing. Median (min-max) of 3 alternating rounds.

## P1, P5: 100 clients, each with its own run of 500 tokens at 100 tokens/s

{delivery.table(paced)}

Goal P1: first ≤ 1.5 × the peer's CPU per token. Goal P5: p50 ≤ 1 ms, p99 ≤ 10 ms.

## P2 (for orientation): 100 clients, 1000 tokens each, as fast as they can

{delivery.table(full)}

## P6: reload in the middle of a run of 10 000 tokens

{reload.table(reloads)}
"""
    (HERE / "RESULTS.md").write_text(text)
    (HERE / "results.json").write_text(json.dumps({"paced": paced, "full": full, "reload": reloads}, indent=1))
    print(text)


if __name__ == "__main__":
    main()
