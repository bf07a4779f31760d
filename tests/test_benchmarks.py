"""The benchmarks still run (at sizes that say nothing), and the page of results is what the figures say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HERE = ROOT / "benchmarks"

pytest.importorskip("picows", reason="the clients of the benchmarks: pip install runcast[bench]")


def python(*arguments: str) -> str:
    path = os.pathsep.join([str(ROOT / "src"), str(HERE)])
    done = subprocess.run(
        [sys.executable, "-B", *arguments],
        cwd=HERE,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_page_is_what_the_figures_say() -> None:
    program = "import json, results; print(results.render(json.load(open('results.json'))['rows']), end='')"
    assert python("-c", program) == (HERE / "RESULTS.md").read_text(), "run: python benchmarks/run.py --render"


@pytest.mark.slow
def test_a_row_measures_ours_and_a_peer() -> None:
    sizes = ("--runs", "2", "--readers", "2", "--tokens", "10", "--rate", "0", "--rounds", "1")
    found = json.loads(python("delivery.py", *sizes, "--json"))
    for kind in ("naive", "ours"):
        (row,) = found[kind]["rounds"]
        assert row["cpu_us_per_token"] > 0
        assert row["p99_ms"] >= row["p50_ms"] > 0


@pytest.mark.slow
def test_what_cannot_be_measured_stands_in_the_table_with_the_reason() -> None:
    program = (
        "import rounds, servers, sys\n"
        "servers.KINDS['broken'] = servers.Kind('Broken', lambda port, place: [sys.executable, '-c', 'raise SystemExit(\"no luck\")'])\n"
        "measured = rounds.alternate(['broken'], 2, lambda kind: rounds.started(kind).__enter__())\n"
        "print(rounds.table(measured, {'cpu_us_per_token': 'CPU'}))"
    )
    assert "| Broken | not measured: Broken did not start: no luck |" in python("-c", program)


@pytest.mark.slow
def test_every_stage_of_the_path_can_be_measured() -> None:
    assert "everything but the socket" in python("path.py", "--events", "400", "--rounds", "1")


def test_every_dialect_has_its_price() -> None:
    found = json.loads(python("encoders.py", "--events", "200", "--rounds", "1", "--json"))
    assert set(found) == {"1", "100"}
    assert {"native", "text", "durable-streams"} <= set(found["1"]) == set(found["100"])
    assert all(cost > 0 for costs in found.values() for (cost,) in costs.values())


def test_the_cumulative_dialect_sends_a_bounded_multiple_of_the_text() -> None:
    found = json.loads(python("cumulative.py", "--rounds", "1", "--json"))
    assert found["ours 4000"]["times"][0] <= 30 < found["naive 4000"]["times"][0]
