"""The AG-UI dialect: held to the protocol's own models, to what its clients enforce, and to what they make of the frames."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ag_ui_client import Client
from runcast import events as e
from runcast.dialects.ag_ui import AgUi
from runcast.dialects.base import Start
from runcast.events import TERMINAL, Record, decode, encode
from runcast.runs import Thread
from runcast.testing import DialectSuite
from runcast.testing.dialect_logs import LOGS, THREAD
from runcast.transcript import Transcript, dump, fold
from runcast.updates import Events, ThreadSnapshot, join

CASES = sorted((Path(__file__).parents[2] / "spec" / "cases" / "dialects" / "ag-ui").glob("*.json"))
MODERN = {"protocolVersion": "1.0"}


def linked(records: Sequence[Record]) -> list[Record]:
    """Each run follows the one before, as the runner writes it."""
    made: list[Record] = []
    runs: list[str] = []
    for record in records:
        event = record.event
        if isinstance(event, (e.RunStarted, e.RunQueued)) and isinstance(event.run_id, str):
            if event.run_id not in runs:
                runs.append(event.run_id)
            parent = runs.index(event.run_id) - 1
            if parent >= 0:
                event = msgspec.structs.replace(event, parent_run_id=runs[parent])
                record = Record(event, encode(event))
        made.append(record)
    return made


LINKED = {name: linked(records) for name, records in LOGS.items()}


def snapshot(records: Sequence[Record]) -> ThreadSnapshot:
    transcript = Transcript()
    fold(transcript, [decode(record.data) for record in records])
    row = Thread(id=THREAD, user="u", epoch="epoch", created_at=0, updated_at=0)
    return ThreadSnapshot(transcript.seq, "epoch", row, dump(transcript))


def logged(*events: e.Event, run: str = "r1") -> list[Record]:
    stamped = [e.stamp(e.of_run(event, run), seq, 0) for seq, event in enumerate(events, 1)]
    return [Record(event, encode(event)) for event in stamped]


def encoder(run: str | None = None, **options: str) -> Any:
    return AgUi().encoder(Start(THREAD, "epoch", 0, run, "mine", options))


def by_snapshot_only(records: list[Record]) -> bool:
    """Whether the log holds what no event of the protocol says."""
    return any(isinstance(one.event, (e.MessageRetracted, e.MessagePosted, e.RunDequeued)) for one in records)


class TestAgUi(DialectSuite):
    deltas = ("delta",)

    def make(self) -> AgUi:
        return AgUi()

    @pytest.mark.parametrize("version", ["1.0", ""])
    @pytest.mark.parametrize("name", LOGS)
    def test_clients_take_every_frame(self, name: str, version: str) -> None:
        frames = encoder(protocolVersion=version).update(Events(LOGS[name]))
        client = Client().take(frames)
        assert client.last in ("", "RUN_FINISHED", "RUN_ERROR")

    @pytest.mark.parametrize("name", LOGS)
    def test_whoever_attaches_has_the_same_in_the_end(self, name: str) -> None:
        """At any place, with or without what was shown before, once or again: no text is doubled or lost."""
        records = LINKED[name]
        runs = list(dict.fromkeys(one.event.run_id for one in records if isinstance(one.event.run_id, str)))
        whole = Client().take(encoder(runs[-1], **MODERN).update(snapshot(records)))
        for cut in range(1, len(records) + 1):
            here = [one.event.run_id for one in records[:cut] if isinstance(one.event.run_id, str)]
            if not here:
                continue
            for before in (0, cut - 1):
                client = Client()
                if before:  # a connection that broke
                    client.take(encoder(**MODERN).update(snapshot(records[:before])))
                    client.last = ""
                attached = encoder(here[-1], **MODERN)
                client.take(attached.update(snapshot(records[:cut])))
                rest = records[cut:]
                if any(isinstance(one.event, (e.MessageRetracted, e.RunRestarted)) for one in rest):
                    continue  # told anew by the transport
                client.take(attached.update(Events(join(rest))) if rest else [])
                assert client.last in ("RUN_FINISHED", "RUN_ERROR"), cut
                if here[-1] == runs[-1]:
                    # What it has it keeps where it stands, so a result may come behind an activity.
                    mine, all = (sorted(told.said, key=lambda one: one["id"]) for told in (client, whole))
                    assert mine == all, (cut, before)
                    assert before or client.said == whole.said, cut
                    assert client.state == whole.state

    @pytest.mark.parametrize("name", [name for name in LOGS if not by_snapshot_only(LINKED[name])])
    def test_the_messages_are_those_that_the_events_make(self, name: str) -> None:
        records = LINKED[name]
        live = Client().take(encoder(**MODERN).update(Events(records)))
        told = Client().take(encoder(**MODERN).update(snapshot(records)))
        assert [one for one in live.said if one["role"] == "activity"] == [
            one for one in told.said if one["role"] == "activity"
        ]
        assert live.said == told.said

    def test_what_was_taken_back_is_gone_once_the_snapshot_is_told(self) -> None:
        records = LOGS["retracted"]
        at = next(place for place, one in enumerate(records) if isinstance(one.event, e.MessageRetracted)) + 1
        stream = encoder("r1", **MODERN)
        client = Client().take(stream.update(Events(records[:at])))
        assert "Wrong" in str(client.said)
        client.take(stream.update(snapshot(records[:at])))
        client.take(stream.update(Events(records[at:])))
        assert [one["content"] for one in client.said if one["role"] == "assistant"] == ["Right."]

    def test_a_snapshot_in_the_middle_of_a_run_closes_and_opens_what_is_open(self) -> None:
        records = LOGS["plain"]
        stream = encoder("r1", **MODERN)
        client = Client()
        client.messages.append({"id": "r1-in", "role": "user", "content": "Hi"})
        client.take(stream.update(Events(records[:3])))
        client.take(stream.update(snapshot(records[:4])))
        client.take(stream.update(Events(records[4:])))
        assert client.said[-1]["content"] == "Hello you."

    def test_ids_are_the_clients(self) -> None:
        stream = AgUi().encoder(Start("t1", "epoch", 0, "r1", "my thread", {"run": "my run", **MODERN}))
        said = [json.loads(frame.data) for frame in stream.update(Events(LOGS["plain"]))]
        for event in (said[0], said[-1]):
            assert (event["threadId"], event["runId"]) == ("my thread", "my run")
        assert said[0]["metadata"] == {"runcast": {"thread": "t1", "run": "r1"}}
        assert "input" not in said[0], "it sent that itself"

    def test_a_stop_is_told_to_older_clients_in_their_words(self) -> None:
        def ends(dialect: AgUi, **options: str) -> list[dict[str, Any]]:
            stream = dialect.encoder(Start(THREAD, "epoch", 0, "r1", "mine", options))
            return [json.loads(frame.data) for frame in stream.update(Events(LOGS["cancelled"]))][-2:]

        assert ends(AgUi(), **MODERN)[-1]["outcome"] == {"type": "cancelled"}
        custom, finished = ends(AgUi())
        assert (custom["name"], custom["value"]) == ("run_cancelled", {"reason": "Enough."})
        assert "outcome" not in finished
        error = ends(AgUi({"cancelled": "error"}))[-1]
        assert (error["type"], error["code"], error["message"]) == ("RUN_ERROR", "cancelled", "Enough.")
        with pytest.raises(ValueError, match="cancelled"):
            AgUi({"cancelled": "never"})

    def test_a_run_that_goes_on_tells_old_calls_no_second_time(self) -> None:
        records = LOGS["approval"]
        again = list(records)
        place = next(at for at, one in enumerate(records) if isinstance(one.event, e.RunStarted) and at)
        retold = [
            e.ToolCallStart(tool_call_id="c1", tool_call_name="delete"),
            e.ToolCallArgs(tool_call_id="c1", delta="{}"),
            e.ToolCallEnd(tool_call_id="c1", args="{}"),
        ]
        for event in reversed(retold):
            stamped = e.stamp(e.of_run(event, "r2"), 1, 0)
            again.insert(place + 1, Record(stamped, encode(stamped)))
        client = Client().take(encoder(**MODERN).update(Events(again)))
        call = client.call("c1")
        assert call is not None
        assert json.loads(call["function"]["arguments"]) == {"path": "a.txt"}
        assert sum(one["role"] == "tool" for one in client.messages) == 1

        stream = encoder("r2")
        stream.knows(["c1"])
        alone = [json.loads(frame.data)["type"] for frame in stream.update(Events(again))]
        assert [kind for kind in alone if kind.startswith("TOOL")] == ["TOOL_CALL_RESULT"], "a stream of its own"

    def test_what_a_person_says_into_a_run_is_their_message(self) -> None:
        message = {"id": "s1", "role": "user", "content": "Shorter!"}
        frames = encoder(**MODERN).update(
            Events(
                logged(
                    e.RunStarted(thread_id=THREAD),
                    e.RunSteered(message=message, consumed=False),
                    e.RunSteered(message=message, consumed=True),
                    e.RunFinished(thread_id=THREAD),
                )
            )
        )
        assert Client().take(frames).said == [message]

    def test_what_the_log_leaves_open_is_closed(self) -> None:
        records = logged(
            e.RunStarted(thread_id=THREAD),
            e.StepStarted(step_name="plan"),
            e.SubagentStarted(subagent_run_id="s", name="digger"),
            e.StepStarted(step_name="dig", subagent_run_id="s"),
            e.ReasoningStart(message_id="span", subagent_run_id="s"),
            e.TextMessageStart(message_id="m"),
            e.ToolCallStart(tool_call_id="c", tool_call_name="add"),
            e.RunFinished(thread_id=THREAD),
        )
        assert Client().take(encoder(**MODERN).update(Events(records))).last == "RUN_FINISHED"

    def test_a_subagent_that_goes_on_in_another_run_is_introduced(self) -> None:
        records = logged(
            e.RunStarted(thread_id=THREAD, resumes="r0"),
            e.TextMessageStart(message_id="m", subagent_run_id="s"),
            e.TextMessageContent(message_id="m", delta="On.", subagent_run_id="s"),
            e.TextMessageEnd(message_id="m", subagent_run_id="s"),
            e.SubagentFinished(subagent_run_id="s"),
            e.RunFinished(thread_id=THREAD),
        )
        client = Client().take(encoder("r1", **MODERN).update(Events(records)))
        assert client.said[-1]["content"] == "On."

    def test_results_that_the_client_brought_are_not_told_to_it(self) -> None:
        given = {
            "threadId": THREAD,
            "runId": "r2",
            "messages": [{"id": "x", "role": "tool", "toolCallId": "c1", "content": "1"}],
        }
        records = logged(
            e.RunStarted(thread_id=THREAD, input=given),
            e.ToolCallResult(message_id="x", tool_call_id="c1", content="1"),
            e.RunFinished(thread_id=THREAD),
            run="r2",
        )
        own = [json.loads(frame.data)["type"] for frame in encoder("r2").update(Events(records))]
        watching = [json.loads(frame.data)["type"] for frame in encoder().update(Events(records))]
        assert own == ["RUN_STARTED", "RUN_FINISHED"]
        assert watching == ["RUN_STARTED", "TOOL_CALL_RESULT", "RUN_FINISHED"]

    def test_a_piece_of_text_is_encoded_once_for_all_readers(self) -> None:
        record = next(one for one in LOGS["plain"] if isinstance(one.event, e.TextMessageContent))
        start = [one for one in LOGS["plain"] if one.seq < record.seq]
        pieces: list[bytes] = []
        for _ in range(3):
            stream = encoder("r1")
            stream.update(Events(start))
            pieces.append(stream.encode(record)[0].data)
        assert pieces[0] is pieces[1] is pieces[2]

    def test_every_log_is_a_case(self) -> None:
        assert {json.loads(case.read_text())["name"] for case in CASES} == set(LOGS)

    @pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
    def test_case(self, case: Path) -> None:
        given = json.loads(case.read_text())
        options = given.get("start", {}).get("options", {})
        start = Start(THREAD, "epoch", 0, given.get("start", {}).get("run"), "mine", options)
        records = [Record(event, encode(event)) for event in (decode(json.dumps(one)) for one in given["events"])]
        frames = AgUi().encoder(start).update(Events(records))
        assert [json.loads(frame.data) for frame in frames] == given["frames"]
        assert sum(frame.ends for frame in frames) == sum(isinstance(one.event, TERMINAL) for one in records)
