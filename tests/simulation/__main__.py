"""Play seeds and say what is wrong.

python -m tests.simulation 17                      one seed; with --trace, all that happened in it
python -m tests.simulation 0:2000                  many; the first failure's seed is the one to look at
python -m tests.simulation --seconds 3600          for an hour, from a random seed on
python -m tests.simulation 17 --without crash,doubt   is it still there without these faults?
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2] / "src")]

from .faults import KINDS  # noqa: E402
from .world import play  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__.splitlines()[0])
    parser.add_argument("seeds", nargs="?", default=None, help="a seed, or FIRST:END")
    parser.add_argument("--seconds", type=float, help="so long, from a random seed on")
    parser.add_argument("--trace", action="store_true", help="print everything that happened")
    parser.add_argument("--without", default="", help=f"kinds of faults to leave out, of: {', '.join(KINDS)}")
    parser.add_argument("--only", help="exactly these kinds of faults")
    parser.add_argument("--mutant", help="with this planted bug")
    parser.add_argument("--keep-going", action="store_true", help="after a failure too")
    given = parser.parse_args()
    options = {
        "without": [kind for kind in given.without.split(",") if kind],
        "only": None if given.only is None else [kind for kind in given.only.split(",") if kind],
        "keep_trace": given.trace,
    }
    if given.seconds is not None:
        first = random.randrange(1 << 40)
        end = first + (1 << 40)
    else:
        start, _, stop = (given.seeds or "0:200").partition(":")
        first = int(start)
        end = int(stop) if stop else first + 1
    began = time.monotonic()
    played = failed = 0
    for seed in range(first, end):
        if given.mutant:
            from .mutants import planted

            with planted(given.mutant):
                result = play(seed, **options)
        else:
            result = play(seed, **options)
        played += 1
        if given.trace:
            print("\n".join(result.trace))
        if end - first == 1:
            print(
                f"seed {seed}: faults {result.faults}; {result.virtual_s:.1f} s in {result.steps} steps; {result.digest[:16]}"
            )
        if result.problems:
            failed += 1
            print(f"FAILED: python -m tests.simulation {seed}   # faults: {result.faults}")
            for problem in result.problems[:10]:
                print(f"    {problem[:600]}")
            if not given.keep_going:
                break
        if given.seconds is not None and time.monotonic() - began > given.seconds:
            break
    took = time.monotonic() - began
    print(f"{played} seeds from {first}, {failed} failed, {took:.1f} s ({took / played * 1000:.0f} ms each)")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
