"""The cases in `spec/cases/dialects/NAME/*.json`: a log, and the frames that a reader of it gets, byte for byte.

    {"name", "description", "start"?: {"options"}, "events": […], "frames": […]}

A frame is a text, or an object where the dialect speaks JSON: then the bytes are the object's, members in their order.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from runcast import events as e
from runcast.dialects.base import Dialect, Start
from runcast.events import Record

DIRECTORY = Path(__file__).parents[2] / "spec" / "cases" / "dialects"


class Case(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    description: str
    events: list[dict[str, Any]]
    frames: list[Any]
    start: dict[str, Any] = {}

    @property
    def records(self) -> list[Record]:
        events = [e.decode(msgspec.json.encode(event)) for event in self.events]
        return [Record(event, e.encode(event)) for event in events]


def cases_of(dialect: str) -> Sequence[Any]:
    """All cases of a dialect, as parameters of a test."""
    paths = sorted((DIRECTORY / dialect).glob("*.json"))
    assert paths, f"no cases of {dialect}"
    return [pytest.param(msgspec.json.decode(path.read_bytes(), type=Case), id=path.stem) for path in paths]


def check(dialect: Dialect, case: Case) -> None:
    options: dict[str, str] = case.start.get("options", {})
    encoder = dialect.encoder(Start("t1", "epoch", 0, None, "mine", options))
    frames = [frame.data.decode() for record in case.records for frame in encoder.encode(record)]
    wanted = [frame if isinstance(frame, str) else msgspec.json.encode(frame).decode() for frame in case.frames]
    assert frames == wanted
