"""How every row is measured: kinds in turn, several rounds, min / median / max; and the load that is put on them."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from installing import Missing
from load import Job, Report, Seat
from servers import KINDS, Running, running

HERE = Path(__file__).parent
PROCESSES = 2
"""Of clients. Their CPU is reported: near 1.0 they are what is measured."""

Row = dict[str, float]
Measured = dict[str, Any]
"""`{kind: {"rounds": [Row, …]} | {"missing": why}}`."""


# --- load -------------------------------------------------------------------------------------------------------------


class Load:
    """Processes of clients that have joined. `go` starts the runs and waits for the last token."""

    def __init__(self, jobs: Sequence[Job], rooms: Sequence[str]) -> None:
        self.rooms = rooms
        command = [sys.executable, str(HERE / "load.py")]
        self._timeout_s = max(job.timeout_s for job in jobs) + 30
        self._started = [
            subprocess.Popen(
                [*command, msgspec.json.encode(job).decode()],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            for job in jobs
        ]

    def wait_until_ready(self) -> None:
        for process in self._started:
            assert process.stdout is not None
            if process.stdout.readline().strip() != b"ready":
                raise self._failed(process)

    def go(self) -> list[Report]:
        for process in self._started:
            assert process.stdin is not None
            process.stdin.write(b"go\n")
            process.stdin.flush()
        reports: list[Report] = []
        for process in self._started:
            out, err = process.communicate(timeout=self._timeout_s)
            if process.returncode:
                raise Missing(f"the clients failed: {err.decode().strip().splitlines()[-1][:300]}")
            reports.append(msgspec.json.decode(out, type=Report))
        return reports

    def close(self) -> None:
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.communicate()

    def _failed(self, process: subprocess.Popen[bytes]) -> Missing:
        _, err = process.communicate(timeout=30)
        lines = err.decode().strip().splitlines() or ["they said nothing"]
        return Missing(f"the clients could not join: {lines[-1][:300]}")


@contextmanager
def clients(
    kind: str, server: Running, *, runs: int, readers: int, tokens: int, rate: float, with_latency: bool = True
) -> Iterator[Load]:
    """`readers` clients of each of `runs` runs, spread over processes: those of one run sit in different ones."""
    rooms = [new_room(kind, server.port, readers) for _ in range(runs)]
    seats = [Seat(room, asks=reader == 0) for reader in range(readers) for room in rooms]
    hands = min(PROCESSES, len(seats))
    limit_s = 60 + 3 * tokens / rate if rate else 300
    jobs = [
        Job(kind, server.port, seats[hand::hands], f"{tokens} {rate:g}", tokens, with_latency, limit_s)
        for hand in range(hands)
    ]
    load = Load(jobs, rooms)
    try:
        load.wait_until_ready()
        yield load
    finally:
        load.close()


def new_room(kind: str, port: int, readers: int) -> str:
    """Where the readers of one run meet: for ours a thread; without one each socket is its own room."""
    if kind == "ours":
        return str(post(port, "/v1/threads")["id"])
    return f"room-{time.monotonic_ns()}" if readers > 1 or kind in ("picows", "floor", "floor-10") else ""


def post(port: int, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}",
        data=json.dumps(body or {}).encode(),
        headers={"Content-Type": "application/json"},
        method="POST",
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def get(port: int, path: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
        return json.load(answer)


def deliver(
    kind: str, server: Running, *, runs: int, readers: int, tokens: int, rate: float, with_latency: bool = True
) -> Row:
    """What it costs to deliver `tokens` tokens of each run to each of its readers: one `Row`."""
    with clients(kind, server, runs=runs, readers=readers, tokens=tokens, rate=rate, with_latency=with_latency) as load:
        before, started = server.cpu_s, time.monotonic()
        reports = load.go()
        used, elapsed = server.cpu_s - before, time.monotonic() - started
    delivered = sum(report.tokens for report in reports)
    expected = runs * readers * tokens
    if delivered != expected:
        raise Missing(f"{delivered} of {expected} tokens arrived")
    seconds = max(report.ended for report in reports) - min(report.started for report in reports)
    row = {
        "cpu_us_per_token": used / delivered * 1e6,
        "tokens_per_s": delivered / seconds,
        "bytes_per_token": sum(report.bytes for report in reports) / delivered,
        "tokens_per_frame": delivered / sum(report.frames for report in reports),
        "server_cpu_share": used / elapsed,
        "client_cpu_share": max(report.cpu_s / (report.ended - report.started) for report in reports),
    }
    if with_latency:
        latencies = sorted(latency for report in reports for latency in report.latencies)
        row["p50_ms"] = latencies[len(latencies) // 2]
        row["p99_ms"] = latencies[int(len(latencies) * 0.99)]
        row["max_ms"] = latencies[-1]
    return row


@contextmanager
def started(kind: str, *, warm: bool = True) -> Iterator[Running]:
    """The server of `kind` on an empty database, with its imports and caches warm."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory, running(kind, Path(directory)) as server:
        if warm:
            readers = 2 if KINDS[kind].rooms else 1
            deliver(kind, server, runs=1 if readers == 2 else 2, readers=readers, tokens=50, rate=0)
        yield server


# --- rounds -----------------------------------------------------------------------------------------------------------


def alternate(kinds: Sequence[str], rounds: int, once: Callable[[str], Row]) -> Measured:
    """`once(kind)` for every kind in turn, `rounds` times. A kind that cannot be measured is kept with the reason."""
    measured: Measured = {kind: {"rounds": []} for kind in kinds}
    for number in range(rounds):
        for kind in kinds:
            if "missing" in measured[kind]:
                continue
            note(f"round {number + 1} of {rounds}: {KINDS[kind].title if kind in KINDS else kind}")
            try:
                measured[kind]["rounds"].append({**once(kind), "load_average": os.getloadavg()[0]})
            except (Missing, OSError, subprocess.SubprocessError) as error:
                measured[kind] = {"missing": str(error) or type(error).__name__}
                note(f"  {error}")
    return measured


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def median(measured: Measured, kind: str, name: str) -> float | None:
    """The median of the rounds; None if the kind was not measured."""
    rows = measured.get(kind, {}).get("rounds")
    return statistics.median(row[name] for row in rows) if rows and name in rows[0] else None


def ratio(measured: Measured, kind: str, to: str, name: str) -> float | None:
    mine, theirs = median(measured, kind, name), median(measured, to, name)
    return None if mine is None or not theirs else mine / theirs


def spread(values: Sequence[float]) -> str:
    """`median (min-max)`."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{number(middle)} ({number(low)}-{number(high)})"


def number(value: float) -> str:
    """Three significant digits, whole above a hundred."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def table(measured: Measured, columns: dict[str, str], *, base: str = "naive", by: str = "cpu_us_per_token") -> str:
    """Markdown: one line per kind, `median (min-max)` of each column, and the ratio of `by` to `base`."""
    titles = [*columns.values()]
    has_ratio = base in measured and len(measured) > 1
    if has_ratio:
        titles.append(f"× {KINDS[base].title if base in KINDS else base}")
    lines = ["| | " + " | ".join(titles) + " |", "|---" * (len(titles) + 1) + "|"]
    for kind, found in measured.items():
        title = KINDS[kind].title if kind in KINDS else kind
        if "missing" in found:
            lines.append(f"| {title} | not measured: {found['missing']} |" + " |" * (len(titles) - 1))
            continue
        # A figure that an older `results.json` does not have yet is left empty.
        cells = [
            spread([row[name] for row in found["rounds"]]) if name in found["rounds"][0] else "" for name in columns
        ]
        if has_ratio:
            value = ratio(measured, kind, base, by)
            cells.append("" if value is None else f"{value:.2f}")
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def options(description: str | None, **defaults: float) -> argparse.Namespace:
    """The command line of a row: `--rounds 3 --json`, one option per default, `--kinds a,b` to choose."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in defaults.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    parser.add_argument("--kinds", default="", help=f"comma-separated, of {', '.join(KINDS)}")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def show(given: argparse.Namespace, measured: Any, text: str) -> None:
    print(json.dumps(measured, indent=1) if given.json else text)
