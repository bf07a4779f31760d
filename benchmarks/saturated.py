"""P2: as fast as it can. 100 clients, each with its own run without a pace; the readers lag, so tokens share frames.

`python saturated.py [--runs 100] [--tokens 1000] [--rounds 3] [--kinds ours,naive,chainlit,…]`
"""

from __future__ import annotations

from collections.abc import Sequence

import delivery
from rounds import Measured, options, show, table

SHORT = ("naive", "ours")
FULL = ("naive", "ours", "sse", "ag-ui", "vercel", "chainlit")
COLUMNS = {
    "tokens_per_s": "tokens/s",
    "cpu_us_per_token": "server CPU, µs/token",
    "bytes_per_token": "bytes/token",
    "tokens_per_frame": "tokens/frame",
    "p50_ms": "p50, ms",
    "server_cpu_share": "server, cores",
    "client_cpu_share": "busiest client, cores",
}


def measure(kinds: Sequence[str] = SHORT, *, runs: int = 100, tokens: int = 1000, rounds: int = 3) -> Measured:
    return delivery.measure(kinds, runs=runs, tokens=tokens, rate=0, rounds=rounds)


def text(measured: Measured) -> str:
    return table(measured, COLUMNS, by="tokens_per_s")


if __name__ == "__main__":
    given = options(__doc__, runs=100, tokens=1000, rounds=3)
    kinds = given.kinds.split(",") if given.kinds else SHORT
    found = measure(kinds, runs=given.runs, tokens=given.tokens, rounds=given.rounds)
    show(given, found, text(found))
