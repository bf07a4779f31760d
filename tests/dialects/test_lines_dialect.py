"""The dialect of `examples/lines_dialect.py`, held to what every dialect guarantees."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

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
