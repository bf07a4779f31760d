"""What every dialect guarantees, as tests. Subclass it and say what yours is:

    class TestMyDialect(DialectSuite):
        def make(self) -> Dialect:
            return MyDialect()
        deltas = ("delta",)         # where in a frame the text stands of which there may be more or fewer frames

The suite folds logs of every kind of run (`runcast.testing.dialect_logs`) and logs that Hypothesis makes up
(`dialect_strategies`), cut and joined in every way that a reader may meet. A dialect whose frames hold no pieces of text leaves
`deltas` empty; one of plain text sets `plain`; one whose frames hold the whole text each time names it in `cumulative`; one of lines
of JSON, with the line breaks, sets `lines`.

It needs pytest and hypothesis. What a dialect guarantees, and here is held to: `runcast.dialects.base`.
"""

from __future__ import annotations

import random
import re
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Final, cast, get_args

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runcast import events as e
from runcast.dialects.base import AnswerDialect, Ask, Attach, BadFrame, Dialect, Frame, OnClose, Start, TalkDialect
from runcast.dialects.run_fold import failure_of
from runcast.events import TERMINAL, Record
from runcast.runs import Thread
from runcast.testing.dialect_logs import LOGS, THREAD
from runcast.testing.dialect_strategies import logs
from runcast.updates import CaughtUp, Events, Resync, ResyncReason, ThreadSnapshot, join

NAME: Final = re.compile(r"[a-z][a-z0-9_]*([-.][a-z0-9_]+)*")
"""Of a dialect, or of the `event:` of its frames."""
PATH: Final = re.compile(r"(/([A-Za-z0-9._~-]+|\{[a-z_]+\}))+")

UNHURRIED: Final = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.differing_executors)
"""A suite is one test for many classes, and logs are large: Hypothesis warns of both."""

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
    lines: ClassVar[bool] = False
    """Each frame ends with a line break, for clients that read lines. Not over server-sent events: there it would end the event."""

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

    # --- of any log -----------------------------------------------------------------------------------------------

    def check_pure(self, records: Sequence[Record]) -> None:
        """The same records give the same frames, to readers one after the other and to readers side by side, one of whom is
        always late: what encoders share must not depend on whose turn it is."""
        alone = self.of(records)
        assert self.of(records) == alone
        one, other = self.make().encoder(self.start()), self.make().encoder(self.start())
        said: list[Frame] = []
        late: list[Frame] = []
        for place, record in enumerate(records):
            said += one.encode(record)
            if place:
                late += other.encode(records[place - 1])
        late += other.encode(records[-1])
        assert said == late == alone

    def check_places(self, records: Sequence[Record]) -> None:
        """`seq` and `k` of a record's frames: its seq, and 0, 1, 2 … with exactly the last one flagged."""
        encoder = self.make().encoder(self.start())
        for record in records:
            frames = encoder.encode(record)
            assert [frame.seq for frame in frames] == [record.seq] * len(frames)
            assert [frame.k for frame in frames] == list(range(len(frames)))
            assert [frame.last for frame in frames] == [place == len(frames) - 1 for place in range(len(frames))]

    def check_ends(self, records: Sequence[Record]) -> None:
        """I16. Terminal events end a stream, and no other does; each run is judged by a stream of its own."""
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

    def check_resumed(self, records: Sequence[Record], cuts: Iterable[int]) -> None:
        """I12: an encoder made anew, given everything up to a cut and then the rest, says what the old one said."""
        continued = self.of(records)
        for cut in cuts:
            encoder = self.make().encoder(self.start())
            for record in records[:cut]:
                encoder.encode(record)
            rest = [frame for record in records[cut:] for frame in encoder.encode(record)]
            assert rest == [frame for frame in continued if (frame.seq or 0) > cut], f"cut after {cut}"

    def check_joined(self, records: Sequence[Record], dice: random.Random, times: int) -> None:
        """I12: a reader that lags gets the same, in fewer frames."""
        dialect = self.make()
        unjoined = self.merged(self.of(records))
        for _ in range(times):
            encoder = dialect.encoder(self.start())
            frames: list[Frame] = []
            at = 0
            while at < len(records):
                size = dice.randint(1, len(records))
                batch = records[at : at + size]
                frames += encoder.update(Events(join(batch) if dialect.joins else list(batch)))
                at += size
            assert self.merged(frames) == unjoined

    def check_fits(self, frames: Iterable[Frame]) -> None:
        """UTF-8, not empty; over server-sent events one line and a name without one; JSON where it is JSON. What ends a stream
        is never passed over for a frame that says more."""
        for frame in frames:
            text = frame.data.decode()
            assert text, "a frame is empty"
            assert frame.name is None or NAME.fullmatch(frame.name), f"{frame.name!r} is no name of an event"
            assert not (frame.ends and frame.supersedes), "an end supersedes nothing"
            if self.lines:
                assert text.endswith("\n"), f"a frame is no line: {text!r}"
                text = text[:-1]
            if not self.plain:
                assert "\n" not in text, (
                    f"a line break in a frame (if clients read lines, say `lines = True`): {text!r}"
                )
                assert "\r" not in text, f"a carriage return in a frame: {text!r}"
                if text.startswith(("{", "[")):
                    msgspec.json.decode(text)

    @pytest.mark.parametrize("name", LOGS)
    def test_the_same_log_gives_the_same_frames(self, name: str) -> None:
        self.check_pure(LOGS[name])

    @pytest.mark.parametrize("name", LOGS)
    def test_frames_say_where_they_stand(self, name: str) -> None:
        self.check_places(LOGS[name])

    @pytest.mark.parametrize("name", LOGS)
    def test_every_run_ends_once_and_nothing_follows(self, name: str) -> None:
        self.check_ends(LOGS[name])

    @pytest.mark.parametrize("name", LOGS)
    def test_a_resumed_stream_equals_the_continued_one(self, name: str) -> None:
        self.check_resumed(LOGS[name], range(len(LOGS[name]) + 1))

    @pytest.mark.parametrize("name", LOGS)
    def test_joined_deltas_say_the_same(self, name: str) -> None:
        if not self.make().joins:
            return  # deltas are never joined in this dialect: nothing to hold it to
        self.check_joined(LOGS[name], random.Random(name), 20)  # noqa: S311  # the same cuts every time

    @pytest.mark.parametrize("name", LOGS)
    def test_frames_fit_their_transport(self, name: str) -> None:
        self.check_fits(self.of(LOGS[name]))

    @settings(max_examples=40, deadline=None, database=None, suppress_health_check=UNHURRIED)
    @given(records=logs(), seed=st.integers(0, 2**16))
    def test_all_of_that_holds_for_logs_that_nobody_wrote(self, records: list[Record], seed: int) -> None:
        dice = random.Random(seed)  # noqa: S311
        self.check_pure(records)
        self.check_places(records)
        self.check_ends(records)
        self.check_resumed(records, [dice.randint(0, len(records)) for _ in range(3)])
        self.check_fits(self.of(records))
        if self.make().joins:
            self.check_joined(records, dice, 3)

    # --- of the rest ----------------------------------------------------------------------------------------------

    def test_it_says_what_it_is(self) -> None:
        dialect = self.make()
        assert NAME.fullmatch(dialect.name)
        assert dialect.attach in get_args(Attach)
        assert dialect.joins in (True, False)

    def test_what_a_subscription_says_besides_events_is_no_error(self) -> None:
        """… and what a dialect makes of it fits its transport."""
        owner = Thread(id=THREAD, tenant="", user="", epoch="epoch", agent="helper", created_at=0, updated_at=0)
        for update in (
            CaughtUp(3),
            ThreadSnapshot(3, "epoch", owner, b"{}"),
            *[Resync(reason) for reason in get_args(ResyncReason)],
        ):
            self.check_fits(self.make().encoder(self.start()).update(update))

    def test_errors_fit_their_transport(self) -> None:
        for message in ("It failed.", 'Two\nlines, "quoted" \\', "Käse\u2028"):
            frames = self.make().error("internal", message, request_id="q")
            assert all(frame.seq is None for frame in frames)  # it is not in the log
            self.check_fits(frames)

    def test_how_it_is_talked_to(self) -> None:
        dialect = self.make()
        if not isinstance(dialect, TalkDialect):
            return  # nobody talks in this dialect: nothing to hold it to
        assert all(PATH.fullmatch(path) for path in dialect.sockets)
        assert dialect.asks is None or dialect.asks > 0
        assert dialect.keep_alive is None or (dialect.keep_alive.after_s > 0 and dialect.keep_alive.frame)
        assert {dialect.on_close(True), dialect.on_close(False)} <= set(get_args(OnClose))
        assert dialect.on_close(False) == "nothing"  # a line that broke is no wish

    @pytest.mark.parametrize("name", LOGS)
    def test_a_whole_run_is_answered_the_same_however_it_was_read(self, name: str) -> None:
        dialect = self.make()
        if not isinstance(dialect, AnswerDialect):
            return  # this dialect has no answer over HTTP: nothing to hold it to
        assert all(PATH.fullmatch(path) and how in ("answer", "stream") for path, how in dialect.posts.items())
        records = LOGS[name]
        for run in dict.fromkeys(record.event.run_id for record in records if isinstance(record.event.run_id, str)):
            mine = [record for record in records if record.event.run_id == run]
            if failure_of(mine[-1].event) is None:
                start = self.start(mine[0].seq - 1, run)
                answer = dialect.answer(start, mine)
                msgspec.json.decode(answer)
                assert dialect.answer(start, mine) == dialect.answer(start, join(mine)) == answer

    def test_junk_is_refused_and_nothing_else_happens(self) -> None:
        dialect = self.make()
        if not isinstance(dialect, TalkDialect):
            return  # no message of a client is decoded by this dialect: nothing to hold it to
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
