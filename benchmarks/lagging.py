"""P4: one run as fast as it can, many readers, who lag: deltas are joined, and an event costs next to nothing.

`python lagging.py [--readers 100] [--tokens 20000] [--rounds 3] [--kinds floor-10,naive,ours]`
"""

from __future__ import annotations

from collections.abc import Sequence

from rounds import Measured, Row, alternate, deliver, options, show, started, table

ALL = ("floor-10", "naive", "ours")
COLUMNS = {
    "cpu_us_per_token": "server CPU, µs/event",
    "tokens_per_s": "events/s",
    "bytes_per_token": "bytes/event",
    "tokens_per_frame": "tokens/frame",
    "server_cpu_share": "server, cores",
    "client_cpu_share": "busiest client, cores",
}


def measure(kinds: Sequence[str] = ALL, *, readers: int = 100, tokens: int = 20_000, rounds: int = 3) -> Measured:
    def once(kind: str) -> Row:
        # The naive server writes every frame to everybody: a tenth of the run says as much.
        count = tokens if kind == "ours" else tokens // 10
        with started(kind) as server:
            return deliver(kind, server, runs=1, readers=readers, tokens=count, rate=0, with_latency=False)

    return alternate(kinds, rounds, once)


def text(measured: Measured) -> str:
    return table(measured, COLUMNS, base="floor-10")


if __name__ == "__main__":
    given = options(__doc__, readers=100, tokens=20_000, rounds=3)
    kinds = given.kinds.split(",") if given.kinds else ALL
    found = measure(kinds, readers=given.readers, tokens=given.tokens, rounds=given.rounds)
    show(given, found, text(found))
