"""P1 and P5: what one delivered token costs the server, and how much later than its making the client has it.

`python delivery.py [--runs 100] [--readers 1] [--tokens 500] [--rate 100] [--rounds 3] [--kinds ours,naive,…]`
"""

from __future__ import annotations

from collections.abc import Sequence

from rounds import Measured, Row, alternate, deliver, options, show, started
from rounds import table as table_of

SHORT = ("naive", "ours")
FULL = ("naive", "ours", "sse", "ag-ui", "vercel", "chainlit", "langgraph")
COLUMNS = {
    "cpu_us_per_token": "server CPU, µs/token",
    "tokens_per_s": "tokens/s",
    "bytes_per_token": "bytes/token",
    "tokens_per_frame": "tokens/frame",
    "p50_ms": "p50, ms",
    "p99_ms": "p99, ms",
    "server_cpu_share": "server, cores",
    "client_cpu_share": "busiest client, cores",
}


def measure(
    kinds: Sequence[str] = SHORT,
    *,
    runs: int = 100,
    readers: int = 1,
    tokens: int = 500,
    rate: float = 100.0,
    rounds: int = 3,
) -> Measured:
    def once(kind: str) -> Row:
        with started(kind) as server:
            return deliver(kind, server, runs=runs, readers=readers, tokens=tokens, rate=rate)

    return alternate(kinds, rounds, once)


def table(measured: Measured) -> str:
    return table_of(measured, COLUMNS)


if __name__ == "__main__":
    given = options(__doc__, runs=100, readers=1, tokens=500, rate=100.0, rounds=3)
    kinds = given.kinds.split(",") if given.kinds else SHORT
    found = measure(
        kinds, runs=given.runs, readers=given.readers, tokens=given.tokens, rate=given.rate, rounds=given.rounds
    )
    show(given, found, table(found))
