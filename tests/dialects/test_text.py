"""The `text` dialect: plain text, one end."""

from __future__ import annotations

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
