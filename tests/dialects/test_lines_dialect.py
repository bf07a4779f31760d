"""The dialect of `examples/lines_dialect.py`, held to what every dialect guarantees."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from runcast.dialects.base import Frame, RecordEncoder, Start
from runcast.events import Record
from runcast.testing import DialectSuite
from runcast.testing.dialect_logs import LOGS

EXAMPLE = Path(__file__).parents[2] / "examples" / "lines_dialect.py"


class TestLines(DialectSuite):
    deltas = ("say",)

    def make(self) -> Any:
        spec = importlib.util.spec_from_file_location("lines_dialect_under_test", EXAMPLE)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.Lines({})

    def test_what_is_said(self) -> None:
        said = [frame.data.decode() for frame in self.of(LOGS["tools"])]
        assert said == [
            '{"say": "I look."}',
            '{"tool": "search", "with": {"q": "a"}}',
            '{"say": "\\n\\nThree."}',
            '{"end": "done"}',
        ]


class Broken:
    """A dialect with a line break at the end of each frame."""

    def __init__(self, dialect: Any) -> None:
        self._dialect = dialect

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dialect, name)

    def encoder(self, start: Start) -> RecordEncoder:
        return BrokenEncoder(self._dialect.encoder(start))

    def error(self, code: str, message: str, *, request_id: str) -> list[Frame]:
        return _broken(self._dialect.error(code, message, request_id=request_id))


class BrokenEncoder(RecordEncoder):
    def __init__(self, encoder: RecordEncoder) -> None:
        self._encoder = encoder

    def encode(self, record: Record) -> list[Frame]:
        return _broken(self._encoder.encode(record))


def _broken(frames: Sequence[Frame]) -> list[Frame]:
    return [frame._replace(data=frame.data + b"\n") for frame in frames]


class TestLinesWithBreaks(TestLines):
    """As clients want them that split what comes at line breaks, whatever brings it."""

    lines = True

    def make(self) -> Any:
        return Broken(super().make())

    def test_what_is_said(self) -> None:
        assert all(frame.data.endswith(b"}\n") for frame in self.of(LOGS["tools"]))

    def test_a_suite_that_was_not_told_says_how(self) -> None:
        with pytest.raises(AssertionError, match="say `lines = True`"):
            TestLines().check_fits(self.of(LOGS["tools"]))
        with pytest.raises(AssertionError, match="a frame is no line"):
            self.check_fits(TestLines().of(LOGS["tools"]))
