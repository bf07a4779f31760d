"""What the cumulative dialect costs, beside one that sends the whole text with every token: bytes and CPU of the frames.

`python cumulative.py [--rounds 5] [--rate 100]`. Tokens of 5 characters come at `--rate` a second by the log's times (0: all at
once); nothing waits. The naive one encodes the same JSON, so that only how often it does differs. No sockets.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import msgspec
from rounds import spread

from runcast import events as e
from runcast.dialects.base import Start
from runcast.dialects.partials import Partials
from runcast.events import Record

TOKEN = "word "
SIZES = (500, 4000)
LIMIT = 30.0
"""Bytes sent at most, as a multiple of a text of 20 000 characters: the longest of `SIZES`."""


def log(tokens: int, rate: float) -> list[Record]:
    step_ms = 1000 / rate if rate else 0
    events: list[tuple[float, e.Event]] = [(0, e.RunStarted(thread_id="t")), (0, e.TextMessageStart(message_id="m"))]
    events += [(n * step_ms, e.TextMessageContent(message_id="m", delta=TOKEN)) for n in range(1, tokens + 1)]
    last = tokens * step_ms
    events += [(last, e.TextMessageEnd(message_id="m")), (last, e.RunFinished(thread_id="t"))]
    stamped = [e.stamp(e.of_run(event, "r"), seq, int(ms)) for seq, (ms, event) in enumerate(events, 1)]
    return [Record(event, e.encode(event)) for event in stamped]


def ours(records: list[Record]) -> int:
    encoder = Partials().encoder(Start("t", "e"))
    return sum([len(frame.data) for record in records for frame in encoder.encode(record)])


def naive(records: list[Record]) -> int:
    encode = msgspec.json.Encoder().encode
    text, size = "", 0
    for record in records:
        if isinstance(record.event, e.TextMessageContent):
            text += record.event.delta
            size += len(encode({"type": "agent_partial", "content": text}))
    return size + len(encode({"type": "agent", "content": text}))


KINDS: dict[str, Callable[[list[Record]], int]] = {"naive": naive, "ours": ours}


def measure(rounds: int = 3, rate: float = 100) -> dict[str, dict[str, list[float]]]:
    """By `kind tokens`: CPU in µs per token, and bytes per character of the text."""
    found: dict[str, dict[str, list[float]]] = {}
    for tokens in SIZES:
        records = log(tokens, rate)
        for kind in KINDS.values():
            kind(records)
        for _ in range(rounds):
            for name, kind in KINDS.items():
                began = time.process_time()
                size = kind(records)
                used = time.process_time() - began
                row = found.setdefault(f"{name} {tokens}", {"us": [], "times": []})
                row["us"].append(used / tokens * 1e6)
                row["times"].append(size / (tokens * len(TOKEN)))
    return found


def text(found: dict[str, dict[str, list[float]]]) -> str:
    lines = ["| kind, tokens | CPU, µs per token | bytes, times the text |", "|---|---|---|"]
    lines += [f"| {name} | {spread(row['us'])} | {row['times'][0]:.1f} |" for name, row in found.items()]
    return "\n".join(lines)


def main(arguments: Any = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rate", type=float, default=100)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    found = measure(given.rounds, given.rate)
    print(json.dumps(found) if given.json else text(found))


if __name__ == "__main__":
    main()
