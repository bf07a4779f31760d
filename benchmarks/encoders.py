"""What a piece of text costs in each dialect: encoding alone, without sockets, for one reader and for a hundred of one run.

`python encoders.py [--events 20000] [--rounds 5]`. Figures are CPU of this process in µs per text delta and reader. All dialects
of `runcast.dialects` are measured; with 100 readers each record goes to all of them, one after the other, as in a room.
"""

from __future__ import annotations

import argparse
import importlib
import json
import pkgutil
import time
from typing import Any

from rounds import spread

from runcast import dialects
from runcast import events as e
from runcast.dialects.base import Dialect, Start
from runcast.dialects.registry import BUILTIN, dialect_named
from runcast.events import Event, Record

LIMIT_US = 3.0
"""What one reader's frame of one text delta may cost."""
READERS = 100
STEP_MS = 10


def spoken() -> dict[str, Dialect]:
    """Every dialect of ours by name, with its default options."""
    found: dict[str, Any] = {name: dialect_named(name) for name in BUILTIN}
    for module in pkgutil.iter_modules(dialects.__path__, f"{dialects.__name__}."):
        for kind in vars(importlib.import_module(module.name)).values():
            is_dialect = getattr(kind, "__module__", "") == module.name and isinstance(
                getattr(kind, "attach", None), str
            )
            if is_dialect and kind.name not in found:
                found[kind.name] = kind()
    return dict(sorted(found.items()))


def log(deltas: int) -> tuple[list[Record], list[Record]]:
    """A run up to its text, and the text: a delta each 10 ms, a sentence each ten."""
    asked = {"threadId": "t1", "runId": "r1", "messages": [{"id": "u", "role": "user", "content": "Hi"}]}
    events: list[Event] = [
        e.RunStarted(thread_id="t1", input=asked, agent="helper"),
        e.TextMessageStart(message_id="m1"),
    ]
    events += [e.TextMessageContent(message_id="m1", delta="word. " if n % 10 == 9 else "word ") for n in range(deltas)]
    records: list[Record] = []
    for seq, event in enumerate(events, start=1):
        stamped = e.stamp(e.of_run(event, "r1"), seq, 1_767_225_600_000 + seq * STEP_MS)
        records.append(Record(stamped, e.encode(stamped)))
    return records[:2], records[2:]


def cost(dialect: Dialect, deltas: int, readers: int) -> float:
    """CPU in µs per delta and reader."""
    opening, text = log(deltas)
    encoders = [dialect.encoder(Start("t1", "epoch", 0, "r1", "mine")) for _ in range(readers)]
    for encoder in encoders:
        for record in opening:
            encoder.encode(record)
    began = time.process_time()
    for record in text:
        for encoder in encoders:
            encoder.encode(record)
    return (time.process_time() - began) * 1e6 / (deltas * readers)


def measure(events: int = 20_000, rounds: int = 3) -> dict[str, dict[str, list[float]]]:
    """By number of readers, then by dialect; the dialects take turns."""
    found: dict[str, dict[str, list[float]]] = {"1": {}, str(READERS): {}}
    for _ in range(rounds):
        for name, dialect in spoken().items():
            found["1"].setdefault(name, []).append(cost(dialect, events, 1))
            found[str(READERS)].setdefault(name, []).append(cost(dialect, max(1, events // READERS), READERS))
    return found


def text(found: dict[str, dict[str, list[float]]]) -> str:
    lines = ["| dialect | " + " | ".join(f"µs per delta, {n} reader{'s' * (n != '1')}" for n in found) + " |"]
    lines.append("|---" * (len(found) + 1) + "|")
    for name in found["1"]:
        lines.append(f"| {name} | " + " | ".join(spread(costs[name]) for costs in found.values()) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    measured = measure(given.events, given.rounds)
    print(json.dumps(measured) if given.json else text(measured))
