"""What every dialect guarantees, as tests. Subclass it and say what yours is:

    class TestMyDialect(DialectSuite):
        def make(self) -> Dialect:
            return MyDialect()
        deltas = ("delta",)         # where in a frame the text stands of which there may be more or fewer frames

The suite folds logs of every kind of run (`runcast.testing.dialect_logs`), cut and joined in every way that a reader may meet.
A dialect whose frames hold no pieces of text leaves `deltas` empty; one of plain text sets `plain`.
"""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, cast

import msgspec
import pytest

from runcast import events as e
from runcast.dialects.base import Ask, BadFrame, Dialect, Frame, Start, TalkDialect
from runcast.events import TERMINAL, Record
from runcast.testing.dialect_logs import LOGS, THREAD
from runcast.updates import Events, join

JUNK: Sequence[str | bytes] = (
    "", " ", "null", "7", "[]", "{}", '"text"', "{", "nonsense", "[" * 100_000, '{"a":' * 50_000, b"\x00\xff", b"",
    '{"message":null}', '{"message":7}', '{"message":""}', '{"message":[]}', '{"content":{}}', '{"a":NaN}', "\ud800",
)  # fmt: skip
"""What clients send that is no message, or may be none."""


class DialectSuite:
    deltas: ClassVar[tuple[str, ...]] = ()
    """Dotted paths of the texts in a frame that are pieces: two frames that differ only there may be one."""
    plain: ClassVar[bool] = False
    """Frames are text, not JSON; all that do not end a run are pieces."""
    cumulative: ClassVar[tuple[str, ...]] = ()
    """Dotted paths of texts that are whole each time: of consecutive frames that differ only there the last one counts."""

    @abstractmethod
    def make(self) -> Dialect: ...

    def start(self, after: int = 0, run: str | None = None) -> Start:
        return Start(THREAD, "epoch", after, run, "mine")

    def of(self, records: Sequence[Record]) -> list[Frame]:
        """All frames of a log, as one reader gets them."""
        encoder = self.make().encoder(self.start())
        return [frame for record in records for frame in encoder.encode(record)]

    def merged(self, frames: Iterable[Frame]) -> list[Any]:
        """What frames say, however the pieces of text in them were joined."""
        said: list[Any] = []
        shape: Any = None
        for frame in frames:
            text = frame.data.decode()
            if self.plain:
                if said and not frame.ends and shape == "piece":
                    said[-1] += text
                else:
                    said.append(text)
                shape = None if frame.ends else "piece"
                continue
            value = msgspec.json.decode(text) if text.startswith(("{", "[")) else text
            path = next((one for one in self.deltas if isinstance(_at(value, one), str)), None)
            whole = next((one for one in self.cumulative if isinstance(_at(value, one), str)), None)
            if path is not None and shape == (path, _without(value, path)):
                said[-1] = _with(said[-1], path, _at(said[-1], path) + _at(value, path))
            elif whole is not None and shape == (whole, _without(value, whole)):
                said[-1] = value
            else:
                said.append(value)
                shape = None if (of := path or whole) is None else (of, _without(value, of))
        return said

    @pytest.mark.parametrize("name", LOGS)
    def test_the_same_log_gives_the_same_frames(self, name: str) -> None:
        assert self.of(LOGS[name]) == self.of(LOGS[name])

    @pytest.mark.parametrize("name", LOGS)
    def test_frames_say_where_they_stand(self, name: str) -> None:
        """`seq` and `k` of a record's frames: its seq, and 0, 1, 2 … with exactly the last one flagged."""
        encoder = self.make().encoder(self.start())
        for record in LOGS[name]:
            frames = encoder.encode(record)
            assert [frame.seq for frame in frames] == [record.seq] * len(frames)
            assert [frame.k for frame in frames] == list(range(len(frames)))
            assert [frame.last for frame in frames] == [place == len(frames) - 1 for place in range(len(frames))]

    @pytest.mark.parametrize("name", LOGS)
    def test_every_run_ends_once_and_nothing_follows(self, name: str) -> None:
        """I16. Terminal events end a stream, and no other does; each run is judged by a stream of its own."""
        records = LOGS[name]
        for run in dict.fromkeys(record.event.run_id for record in records if isinstance(record.event.run_id, str)):
            mine = [record for record in records if record.event.run_id == run]
            encoder = self.make().encoder(self.start(mine[0].seq - 1, run))
            ends: list[bool] = []
            for record in mine:
                frames = encoder.encode(record)
                ends += [frame.ends for frame in frames]
                assert any(frame.ends for frame in frames) == isinstance(record.event, TERMINAL), record.event
            assert ends.count(True) == 1
            assert ends[-1]

    @pytest.mark.parametrize("name", LOGS)
    def test_a_resumed_stream_equals_the_continued_one(self, name: str) -> None:
        """I12: an encoder made anew, given everything up to any cut and then the rest, says what the old one said."""
        records = LOGS[name]
        continued = self.of(records)
        for cut in range(len(records) + 1):
            encoder = self.make().encoder(self.start())
            for record in records[:cut]:
                encoder.encode(record)
            rest = [frame for record in records[cut:] for frame in encoder.encode(record)]
            assert rest == [frame for frame in continued if (frame.seq or 0) > cut], f"cut after {cut}"

    @pytest.mark.parametrize("name", LOGS)
    def test_joined_deltas_say_the_same(self, name: str) -> None:
        """I12: a reader that lags gets the same, in fewer frames."""
        dialect = self.make()
        if not dialect.joins:
            pytest.skip("deltas are never joined in this dialect")
        records = LOGS[name]
        unjoined = self.merged(self.of(records))
        dice = random.Random(name)  # noqa: S311  # the same cuts every time
        for _ in range(20):
            encoder = dialect.encoder(self.start())
            frames: list[Frame] = []
            at = 0
            while at < len(records):
                size = dice.randint(1, len(records))
                frames += encoder.update(Events(join(records[at : at + size])))
                at += size
            assert self.merged(frames) == unjoined

    @pytest.mark.parametrize("name", LOGS)
    def test_frames_fit_their_transport(self, name: str) -> None:
        """UTF-8; over server-sent events one line; JSON where it is JSON."""
        for frame in self.of(LOGS[name]):
            text = frame.data.decode()
            if not self.plain:
                assert "\n" not in text
                assert "\r" not in text
                if text.startswith(("{", "[")):
                    msgspec.json.decode(text)

    def test_no_frame_is_empty(self) -> None:
        for records in LOGS.values():
            assert all(frame.data for frame in self.of(records))

    def test_junk_is_refused_and_nothing_else_happens(self) -> None:
        dialect = self.make()
        if not isinstance(dialect, TalkDialect):
            pytest.skip("no message of a client is decoded by this dialect")
        for junk in JUNK:
            try:
                asked = dialect.decode(junk)
            except BadFrame as bad:
                frames = dialect.error("invalid_request", bad.message, request_id="q")
                assert frames
                assert all(frame.data.decode() and frame.seq is None for frame in frames)
            else:
                assert asked is None or (isinstance(asked, Ask) and asked.text.strip())

    def test_an_event_that_nobody_knows_is_no_error(self) -> None:
        encoder = self.make().encoder(self.start())
        for event in (
            e.TextMessageContent(message_id="never opened", delta="x"),
            e.TextMessageEnd(message_id="never opened", text="x"),
            e.ToolCallArgs(tool_call_id="never opened", delta="x"),
            e.ToolCallEnd(tool_call_id="never opened", args="{}"),
            e.ToolCallResult(message_id="m", tool_call_id="never opened", content="x"),
            e.ArtifactDelta(artifact_id="never", append="x"),
            e.UnknownEvent(raw={"type": "X"}),
        ):
            stamped = e.stamp(e.of_run(event, "r1"), 1, 0)
            encoder.encode(Record(stamped, e.encode(stamped)))


def _at(value: Any, path: str) -> Any:
    for name in path.split("."):
        value = cast("dict[str, Any]", value).get(name) if isinstance(value, dict) else None
    return value


def _without(value: Any, path: str) -> Any:
    return _with(value, path, None)


def _with(value: Any, path: str, text: Any) -> Any:
    name, _, rest = path.partition(".")
    return {**value, name: _with(value[name], rest, text) if rest else text}
