"""The `ai-sdk` dialect: the UI message stream of the AI SDK."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from runcast import events as e
from runcast.dialects.ai_sdk import AiSdk, AiSdkEncoder, Version
from runcast.dialects.base import Start
from runcast.events import Record, decode
from runcast.testing import DialectSuite
from runcast.testing.dialect_logs import LOGS, THREAD

CASES = sorted((Path(__file__).parents[2] / "spec/cases/dialects/ai-sdk").glob("*.json"))


class _Suite(DialectSuite):
    deltas = ("delta", "inputTextDelta")
    version = "6"

    def make(self) -> AiSdk:
        return AiSdk({"v": self.version})


class TestAiSdk5(_Suite):
    version = "5"


class TestAiSdk6(_Suite):
    pass


class TestAiSdk7(_Suite):
    version = "7"


def start_of(case: dict[str, Any]) -> Start:
    given: dict[str, Any] = case.get("start", {})
    return Start(THREAD, "epoch", given.get("after", 0), given.get("run"), "mine", given.get("options", {}))


def record_of(event: dict[str, Any]) -> Record:
    data = json.dumps(event).encode()
    return Record(decode(data), data)


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_cases(path: Path) -> None:
    case: dict[str, Any] = json.loads(path.read_text())
    encoder = AiSdk().encoder(start_of(case))
    frames = [frame for event in case["events"] for frame in encoder.encode(record_of(event))]
    assert [json.loads(frame.data) for frame in frames] == case["frames"]


def test_there_is_a_case_of_every_kind_of_run() -> None:
    names = {json.loads(path.read_text())["name"] for path in CASES}
    assert set(LOGS) <= names


def chunks_of(records: Sequence[Record], version: Version = 6, *, run: str | None = None, shown: int = 0) -> list[Any]:
    encoder = AiSdkEncoder(Start(THREAD, "epoch", 0, run), version=version, shown_after=shown)
    return [json.loads(frame.data) for record in records for frame in encoder.encode(record)]


KNOWN = {
    5: {
        "start", "finish", "abort", "error", "start-step", "finish-step", "message-metadata", "text-start", "text-delta",
        "text-end", "reasoning-start", "reasoning-delta", "reasoning-end", "tool-input-start", "tool-input-delta",
        "tool-input-available", "tool-input-error", "tool-output-available", "tool-output-error", "source-url",
        "source-document", "file",
    },
}  # fmt: skip
KNOWN[6] = KNOWN[5] | {"tool-approval-request", "tool-output-denied"}
KNOWN[7] = KNOWN[6] | {"tool-approval-response", "reset-step"}


@pytest.mark.parametrize("version", [5, 6, 7])
@pytest.mark.parametrize("name", LOGS)
def test_a_version_is_only_told_what_it_knows(name: str, version: Version) -> None:
    for run in (None, "r2"):
        types = {chunk["type"] for chunk in chunks_of(LOGS[name], version, run=run)}
        assert {one for one in types if not one.startswith("data-")} <= KNOWN[version]


@pytest.mark.parametrize("version", [5, 6, 7])
def test_who_has_the_first_part_of_a_message_gets_the_rest_of_it(version: Version) -> None:
    records = LOGS["approval"]
    waited = next(record.seq for record in records if record.event.type == "RUN_FINISHED")
    whole = chunks_of(records, version, run="r2")
    rest = chunks_of(records, version, run="r2", shown=waited)
    assert rest[0] == whole[0]
    assert rest[1:] == whole[len(whole) - len(rest) + 1 :]
    assert rest[0]["messageId"] == "r1"


def test_all_readers_share_a_piece_of_text() -> None:
    record = LOGS["plain"][2]
    one, two = (AiSdkEncoder(Start(THREAD, "e"), version=version) for version in (5, 7))
    for encoder in (one, two):
        for before in LOGS["plain"][:2]:
            encoder.encode(before)
    assert one.encode(record)[0] is two.encode(record)[0]


def test_a_client_may_run_a_tool_itself() -> None:
    records = records_of(
        e.RunStarted(thread_id=THREAD, input={"messages": [], "tools": [{"name": "ask_phone"}]}),
        *[
            event
            for id, name in (("c1", "ask_phone"), ("c2", "search"))
            for event in (
                e.ToolCallStart(tool_call_id=id, tool_call_name=name),
                e.ToolCallEnd(tool_call_id=id, args="{}"),
            )
        ],
        e.RunFinished(thread_id=THREAD, outcome=e.Outcome(type="success", pending_tool_call_ids=["c1"])),
    )
    chunks = chunks_of(records)
    inputs = {one["toolName"]: one for one in chunks if one["type"] == "tool-input-available"}
    assert "providerExecuted" not in inputs["ask_phone"]
    assert inputs["search"]["providerExecuted"] is True
    # What nobody is left to answer has come to an end.
    assert [one["toolCallId"] for one in chunks if one["type"] == "tool-output-error"] == ["c2"]
    assert chunks[-1] == {"type": "finish", "finishReason": "tool-calls"}


def test_usage_adds_up_over_the_message() -> None:
    usage = [e.TokenUsage(input_tokens=10, output_tokens=2), e.TokenUsage(input_tokens=1)]
    records = records_of(e.RunStarted(thread_id=THREAD), e.RunFinished(thread_id=THREAD, usage=usage))
    metadata = {"usage": {"inputTokens": 11, "outputTokens": 2}}
    assert chunks_of(records)[-1] == {"type": "finish", "finishReason": "stop", "messageMetadata": metadata}


def test_a_growing_artifact_is_not_told_with_every_piece() -> None:
    pieces = 2_000
    growing = [e.ArtifactDelta(artifact_id="a", append="0123456789") for _ in range(pieces)]
    records = records_of(
        e.RunStarted(thread_id=THREAD),
        e.ArtifactSnapshot(artifact_id="a", kind="file-text", content=""),
        *growing,
        e.RunFinished(thread_id=THREAD),
    )
    told = [one["data"]["content"] for one in chunks_of(records) if one["type"] == "data-file-text"]
    assert told[-1] == "0123456789" * pieces
    assert len(told) < 100
    assert told == sorted(told, key=len)


@pytest.mark.parametrize("options", [{"v": "4"}, {"version": "6"}])
def test_options_that_are_not_known(options: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="v"):
        AiSdk(options)


def records_of(*events: e.Event) -> list[Record]:
    """As one run's log, all at one moment."""
    records: list[Record] = []
    for seq, event in enumerate(events, 1):
        stamped = e.stamp(e.of_run(event, "r1"), seq, 1_767_225_600_000)
        records.append(Record(stamped, e.encode(stamped)))
    return records
