"""`RESULTS.md`: what was measured, and what it says about each goal, met or not."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import cumulative
import delivery
import encoders
import fanout
import growth
import lagging
import memory
import path
import reload
import restart
import saturated
from rounds import Measured, median, number, ratio

Rows = dict[str, dict[str, Any]]

FLAT = 1.25
"""What counts as flat: where there is most to do a token costs at most this many times what it costs with the least."""


def met(goal: str, what: str, value: float | None, limit: float, unit: str, *, least: bool = False) -> str:
    """One line of the verdict; None: not measured."""
    sign = "≥" if least else "≤"
    if value is None:
        return f"| {goal} | {what} | {sign} {limit:g}{unit} | not measured | |"
    good = value >= limit if least else value <= limit
    return f"| {goal} | {what} | {sign} {limit:g}{unit} | {number(value)}{unit} | {'met' if good else '**not met**'} |"


def verdicts(rows: Rows) -> list[str]:
    lines: list[str] = []

    def of(name: str, say: Callable[[Any], list[str]]) -> None:
        if name in rows:
            lines.extend(say(rows[name]["measured"]))

    of("own", _own)
    of(
        "shared",
        lambda m: [
            met("P1", "CPU per token, 4 readers a run, to naive FastAPI" + _lagged(m), _cpu(m, "naive"), 1.0, " ×")
        ],
    )
    of("saturated", _saturated)
    of("fanout", _fanout)
    of("lagging", _lagging)
    of("own", _latency)
    of("reload", _reload)
    of("restart", _restart)
    of("memory", _memory)
    of("growth", _growth)
    of("encoders", _encoders)
    of("cumulative", _cumulative)
    return lines


def _lagged(measured: Measured) -> str:
    """A CPU figure is flattered where readers lagged, for then tokens shared frames."""
    joined = median(measured, "ours", "tokens_per_frame")
    return f" (readers lagged: {joined:.1f} tokens a frame)" if joined is not None and joined > 1.05 else ""


def _cpu(measured: Measured, peer: str) -> float | None:
    return ratio(measured, "ours", peer, "cpu_us_per_token")


def _own(m: Measured) -> list[str]:
    lines = [
        met("P1", "CPU per token to naive FastAPI, which keeps nothing" + _lagged(m), _cpu(m, "naive"), 1.5, " ×"),
        met("P1, later", "the same", _cpu(m, "naive"), 1.0, " ×"),
    ]
    for peer, title, limit in (
        ("chainlit", "Chainlit", 1 / 3),
        ("ag-ui", "pydantic-ai's AG-UI adapter", 1 / 5),
        ("vercel", "pydantic-ai's Vercel adapter", 1 / 5),
    ):
        lines.append(met("P1", f"CPU per token to {title}", _cpu(m, peer), round(limit, 2), " ×"))
    return lines


def _latency(m: Measured) -> list[str]:
    return [
        met("P5", "added latency, p50", median(m, "ours", "p50_ms"), 1, " ms"),
        met("P5", "added latency, p99", median(m, "ours", "p99_ms"), 10, " ms"),
    ]


def _saturated(m: Measured) -> list[str]:
    return [
        met("P2", f"tokens/s to {title}", ratio(m, "ours", peer, "tokens_per_s"), limit, " ×", least=True)
        for peer, title, limit in (("naive", "naive FastAPI", 3), ("chainlit", "Chainlit", 15))
    ]


def _fanout(found: dict[str, Measured]) -> list[str]:
    return [
        met(
            "P3",
            f"CPU per event to the C floor, {count} reader{'s' * (count != '1')}{_lagged(m)}",
            _cpu(m, "floor"),
            3,
            " ×",
        )
        for count, m in found.items()
    ]


def _lagging(m: Measured) -> list[str]:
    return [
        met("P4", "CPU per event, lagging readers", median(m, "ours", "cpu_us_per_token"), 1, " µs"),
        met("P4", "events/s, lagging readers", median(m, "ours", "tokens_per_s"), 500_000, "", least=True),
    ]


def _reload(found: list[dict[str, float]]) -> list[str]:
    shares = [row["bytes"] / row["text_bytes"] for row in found]
    return [
        met("P6", "reload in a run of 10 000 tokens", statistics.median(row["ms"] for row in found), 50, " ms"),
        met("P6", "bytes to the size of the text", statistics.median(shares), 2, " ×"),
    ]


def _restart(m: Measured) -> list[str]:
    quiet, storm = median(m, "ours", "quiet_p99_ms"), median(m, "ours", "storm_p99_ms")
    return [
        met("P7", "1000 clients back and caught up", median(m, "ours", "caught_up_s"), 3, " s"),
        met("P7", "others' p99 meanwhile to before", None if not quiet or storm is None else storm / quiet, 2, " ×"),
    ]


def _memory(m: Measured) -> list[str]:
    return [
        met("P8", "memory per idle connection", median(m, "ours", "idle_kib"), 32, " KiB"),
        met("P8", "memory per stuck connection", median(m, "ours", "stuck_kib"), 512, " KiB"),
    ]


def _growth(found: dict[str, Measured]) -> list[str]:
    at_once = [median(found["at_once"], "ours", name) for name in _names(found["at_once"], "ours", "_us")]
    among = [median(found["among"], count, "cost_us") for count in found["among"]]
    return [
        met("P9", "CPU per token, last tenth of a run of 10 000 to the first", median(found["along"], "ours", "last_to_first"), FLAT, " ×"),
        met("P9", "CPU per token, many runs at once, most to one", _growth_of(at_once), FLAT, " ×"),
        met("P9", f"CPU per token, 1 to {max(found['among'], key=int)} stored, most to fewest", _growth_of(among), FLAT, " ×"),
    ]  # fmt: skip


def _encoders(found: dict[str, dict[str, list[float]]]) -> list[str]:
    dearest = max(found["1"], key=lambda name: statistics.median(found["1"][name]))
    value = statistics.median(found["1"][dearest])
    return [met("dialects", f"CPU per text delta in the dearest dialect ({dearest})", value, encoders.LIMIT_US, " µs")]


def _cumulative(found: dict[str, dict[str, list[float]]]) -> list[str]:
    times = found[f"ours {max(cumulative.SIZES)}"]["times"][0]
    return [met("dialects", "bytes of the cumulative dialect to 20 000 characters", times, cumulative.LIMIT, " ×")]


def _names(measured: Measured, kind: str, end: str) -> list[str]:
    rows = measured.get(kind, {}).get("rounds") or [{}]
    return [name for name in rows[0] if name.endswith(end)]


def _growth_of(values: list[float | None]) -> float | None:
    first, last = (values[0], values[-1]) if len(values) > 1 else (None, None)
    return last / first if first and last else None


SECTIONS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "own": ("P1, P5: 100 clients, each with its own run, 100 tokens/s each", delivery.table),
    "shared": ("P1: 25 runs at 100 tokens/s, 4 readers each", delivery.table),
    "saturated": (
        "P2: 100 clients, each with its own run, as fast as it can (the ratio is of tokens/s)",
        saturated.text,
    ),
    "fanout": ("P3: one run, many readers who keep up", fanout.text),
    "lagging": ("P4: one run as fast as it can, 100 readers, who lag", lagging.text),
    "reload": ("P6: a reload in the middle of a run of 10 000 tokens", reload.text),
    "restart": ("P7: 1000 clients come back at once (the ratio is of the time)", restart.text),
    "memory": ("P8: memory per connection", memory.text),
    "growth": ("P9: as the work grows", growth.text),
    "encoders": ("A piece of text in each dialect, encoding alone", encoders.text),
    "cumulative": ("The cumulative dialect, beside one that sends the whole text with every token", cumulative.text),
    "path": ("The stages of a token's way, without sockets", path.text),
}


def render(rows: Rows) -> str:
    """The page. Rows that were measured on another day or machine than the first say so."""
    first = next(iter(rows.values()))
    packages = "; ".join(
        f"{peer}: " + ", ".join(f"{name} {version}" for name, version in found.items())
        for peer, found in _versions(rows).items()
    )
    load = first["load_average_before"]
    busy = (
        f"**The machine was busy with other work (load {load:.1f} on {first['cores']} cores): times, latencies above all, are "
        "worth little, ratios something.** "
        if load > first["cores"] / 4
        else ""
    )
    parts = [
        "# Results",
        "",
        f"{first['date']}, {first['system']}, {first['processor'] or 'processor unknown'}, {first['cores']} cores, "
        f"{first['memory_gib']} GiB, {first['python']}.",
        "",
        f"{packages}.",
        "",
        f"{busy}Durability `process`: every event is committed before anyone sees it; no peer writes a token anywhere. "
        "Median (min-max) of rounds in which the servers took turns. Absolute times mean nothing on another day; "
        "ratios do. The spread says how quiet the machine was; a client near 1.0 cores is measured itself. "
        "How each row is made, and what it does not say: [README.md](README.md).",
        "",
        "| goal | what | limit | measured | |",
        "|---|---|---|---|---|",
        *verdicts(rows),
    ]
    for name, (title, text) in SECTIONS.items():
        if name in rows:
            row = rows[name]
            parts += ["", f"## {title}", "", text(row["measured"]), ""]
            at = f", commit {row['commit']}" if row.get("commit") else ""
            other = (
                ""
                if (row["date"], row["system"]) == (first["date"], first["system"])
                else f", {row['date']}, {row['system']}"
            )
            parts.append(
                f"{row['set']} set, {row['seconds']:.0f} s, load before it {row['load_average_before']:.1f}{at}{other}."
            )
    return "\n".join(parts) + "\n"


def _versions(rows: Rows) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for row in rows.values():
        found.update(row["versions"])
    return found
