"""The `text` dialect: plain text, one end."""

from __future__ import annotations

import pytest

from dialects.cases import Case, cases_of, check
from runcast.dialects.base import Start
from runcast.dialects.text import Text
from runcast.testing import DialectSuite
from runcast.testing.dialect_logs import LOGS


class TestText(DialectSuite):
    plain = True

    def make(self) -> Text:
        return Text()

    def said(self, name: str) -> list[str]:
        return [frame.data.decode() for frame in self.of(LOGS[name])]

    def test_how_runs_end(self) -> None:
        assert self.said("plain") == ["Hel", "lo", " you", ".", "[DONE]"]
        assert self.said("nothing said") == ["[DONE]"]
        assert self.said("two messages") == ["First", ".", "\n\nSecond", ".", "[DONE]"]
        assert self.said("failed") == ["I was ab", "[ERROR] The model cannot be reached."]
        assert self.said("cancelled") == ["I was ab", "[ERROR] Enough."]
        assert self.said("dequeued") == ["[ERROR] Not needed."]

    def test_a_question_is_part_of_the_answer(self) -> None:
        assert self.said("approval") == ["One moment.", "\n\nDelete a.txt?", "[DONE]", "Deleted", ".", "[DONE]"]


@pytest.mark.parametrize("case", cases_of("text"))
def test_frames(case: Case) -> None:
    check(Text(), case)


def test_the_end_marker_is_an_option() -> None:
    encoder = Text({"end": "\n[DONE]"}).encoder(Start("t1", "epoch"))
    frames = [frame.data.decode() for record in LOGS["plain"] for frame in encoder.encode(record)]
    assert frames[-1] == "\n[DONE]"


@pytest.mark.parametrize("options", [{"end": ""}, {"end": "."}, {"end": "[ERROR] x"}, {"done": "x"}])
def test_options_that_cannot_be(options: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"option|marker"):
        Text(options)


def test_a_push_is_never_a_marker() -> None:
    assert [frame.data for frame in Text().pushed("[DONE]")] == [b"[", b"DONE]"]
