"""P1 and P5: what one delivered token costs the server, and how much later than its making the client has it.

`python delivery.py [--clients 100] [--tokens 500] [--rate 100] [--rounds 3]` runs ours and the peer in turn.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from servers import running

HERE = Path(__file__).parent
KINDS = ("naive", "ours")
PROCESSES = 2


def once(kind: str, clients: int, count: int, rate: float) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as directory, running(kind, Path(directory)) as server:
        load(kind, server.port, 4, 50, 0)  # imports, first connections, caches
        before = server.cpu_s
        results = load(kind, server.port, clients, count, rate)
        used = server.cpu_s - before
    tokens = sum(result["tokens"] for result in results)
    assert tokens == clients * count, f"{kind}: {tokens} of {clients * count} tokens arrived"
    return {
        "cpu_us_per_token": used / tokens * 1e6,
        "tokens_per_s": tokens / max(result["seconds"] for result in results),
        "bytes_per_token": sum(result["bytes"] for result in results) / tokens,
        "p50_ms": statistics.median(result["p50_ms"] for result in results),
        "p99_ms": max(result["p99_ms"] for result in results),
        "client_cpu_share": sum(result["cpu_s"] / result["seconds"] for result in results) / len(results),
    }


def load(kind: str, port: int, clients: int, count: int, rate: float) -> list[dict[str, float]]:
    share = max(1, clients // PROCESSES)
    command = [sys.executable, str(HERE / "load.py"), kind, str(port), str(share), str(count), str(rate)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(min(PROCESSES, clients))]
    return [json.loads(process.communicate(timeout=300)[0]) for process in started]


def measure(clients: int, count: int, rate: float, rounds: int) -> dict[str, Any]:
    rows: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
    for _ in range(rounds):
        for kind in KINDS:
            rows[kind].append(once(kind, clients, count, rate))
    return {kind: {name: sorted(run[name] for run in runs) for name in runs[0]} for kind, runs in rows.items()}


def table(measured: dict[str, Any]) -> str:
    """Markdown: median (min-max) of each, and the ratio of the medians."""
    lines = ["| measure | naive FastAPI | Runcast | ratio |", "|---|---|---|---|"]
    for name in measured["ours"]:
        cells, medians = [], []
        for kind in KINDS:
            values = measured[kind][name]
            medians.append(statistics.median(values))
            cells.append(f"{medians[-1]:.2f} ({values[0]:.2f}-{values[-1]:.2f})")
        lines.append(f"| {name} | {cells[0]} | {cells[1]} | {medians[1] / medians[0]:.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--tokens", type=int, default=500)
    parser.add_argument("--rate", type=float, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found = measure(given.clients, given.tokens, given.rate, given.rounds)
    print(json.dumps(found) if given.json else table(found))
