"""What is too big for the log: split, left out, or kept beside it; nothing of it is lost."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import DEADLINE_S, ME, OTHER, Reader, Told, core, ended, log, resolve, said, send
from runcast import events as e
from runcast.agents.base import RunContext
from runcast.errors import AgentError, NotFound, StorageFull, TooLarge
from runcast.events import MAX_EVENT_BYTES, Event
from runcast.running.bulk import PIECE, PREVIEW_BYTES, bulk_of, check, is_bulky, pieces, preview, without
from runcast.running.recorder import Recorder
from runcast.runs import RunInput
from runcast.service import Service
from runcast.stores.sqlite import SqliteStore
from runcast.transcript import ArtifactPart, TextPart, ToolPart, Transcript, fold, load

BIG = "üx👩‍👩‍👧‍👦 " * 60_000
ROWS = [{"id": number, "name": f"row {number} " + "x" * 40} for number in range(9_000)]


def result(content: Any, **fields: Any) -> e.ToolCallResult:
    return e.ToolCallResult(message_id="m", tool_call_id="c", content=content, **fields)


async def whole_of(service: Service, blob: Any) -> bytes:
    file = await service.uploads.get(ME, blob.url.rpartition("/")[2])
    assert (file.size, file.sha256, file.mime_type) == (blob.size, blob.sha256, blob.mime_type)
    async with service.uploads.content(file) as content:
        data = await content.read(0, file.size + 1)
    assert hashlib.sha256(data).hexdigest() == blob.sha256
    return data


def left_of(path: Path) -> list[Path]:
    return [file for file in Path(f"{path}.files").rglob("*") if file.is_file()]


def short_enough(events: list[Event]) -> bool:
    return all(len(e.encode(event)) <= MAX_EVENT_BYTES for event in events)


# --- pure ---------------------------------------------------------------------------------------------------------


@given(st.text(min_size=0, max_size=50), st.integers(1, 3000))
def test_pieces_of_a_delta_are_the_delta(text: str, times: int) -> None:
    """I12."""
    delta = e.TextMessageContent(message_id="m", delta=text * times, metadata={"a": 1})
    parts = pieces(delta)
    assert "".join(part.delta for part in parts if isinstance(part, e.TextMessageContent)) == text * times
    assert all(len(e.encode(part)) < MAX_EVENT_BYTES for part in parts)
    assert [part.metadata for part in parts] == [{"a": 1}] + [part.metadata for part in parts[1:]]
    assert len(parts) == max(1, -(-len(text * times) // PIECE))


def test_a_preview_ends_between_two_characters() -> None:
    for text in ("x" * 10_000, "ü" * 10_000, "x" + "👩" * 10_000):
        assert text.startswith(preview(text)) and PREVIEW_BYTES - 4 < len(preview(text).encode()) <= PREVIEW_BYTES
    assert preview({"a": 1}) == '{"a":1}'


BLOB = e.Blob(url="/v1/files/f", mime_type="text/plain", size=1, sha256="0" * 64)


@pytest.mark.parametrize(
    ("event", "fields", "mime_types"),
    [
        (result(BIG), ["content"], ["text/plain"]),
        (result(BIG, result=BIG), ["content"], ["text/plain"]),
        (result(json.dumps(ROWS), result=ROWS), ["content"], ["application/json"]),
        (result("short", result=ROWS), ["result"], ["application/json"]),
        (result(BIG, result={"n": 1}), ["content"], ["text/plain"]),
        (result(BIG, result=ROWS), ["content", "result"], ["text/plain", "application/json"]),
        (result([{"type": "text", "text": BIG}]), ["content"], ["application/json"]),
        (
            e.ArtifactSnapshot(artifact_id="a", kind="table", content=BIG, mime_type="text/csv"),
            ["content"],
            ["text/csv"],
        ),
        (e.ArtifactSnapshot(artifact_id="a", kind="table", content=ROWS), ["content"], ["application/json"]),
    ],
)
def test_what_goes_into_blobs_and_what_stays(event: Event, fields: list[str], mime_types: list[str]) -> None:
    check(event, len(e.encode(event)))
    assert is_bulky(event)
    bulks = bulk_of(event)
    assert [bulk.field for bulk in bulks] == fields
    assert [bulk.mime_type for bulk in bulks] == mime_types
    left = without(event, dict.fromkeys([bulk.field for bulk in bulks], BLOB))
    assert not is_bulky(left) and len(e.encode(left)) < 3 * PREVIEW_BYTES
    assert e.decode(e.encode(left)) == left
    if isinstance(left, e.ToolCallResult) and isinstance(event, e.ToolCallResult):
        kept_whole = left.result == event.result
        assert kept_whole or left.result == left.content or "result" in fields, "how a reader tells a preview"


@pytest.mark.parametrize(
    "event",
    [
        e.StateSnapshot(snapshot=BIG),
        e.Custom(name="x", value=BIG),
        e.Raw(event=BIG),
        result("x", summary=BIG),
        result(BIG, raw_event={"x": BIG}),
        e.TextMessageContent(message_id="m", delta="x", raw_event={"x": BIG}),
        e.RunFinished(thread_id="t", result=ROWS),
        e.ArtifactDelta(artifact_id="a", append=BIG),
    ],
)
def test_what_cannot_be_kept_is_refused_with_a_code(event: Event) -> None:
    recorder = Recorder("r")
    if isinstance(event, e.RunFinished):
        with pytest.raises(AgentError) as caught:
            check(event, len(e.encode(event)))
    else:
        with pytest.raises(AgentError) as caught:
            recorder.take(event, 0.0)
    assert caught.value.agent_code == "event_too_large"


def test_long_ends_leave_the_whole_out_and_the_fold_has_it_all_the_same() -> None:
    """I12, I14: from the beginning, and from a snapshot in the middle."""
    recorder = Recorder("r")
    given: list[Event] = [
        e.TextMessageContent(message_id="m", delta=BIG),
        e.TextMessageContent(message_id="m", delta="end"),
        e.TextMessageEnd(message_id="m"),
        e.ToolCallStart(tool_call_id="c", tool_call_name="write"),
        e.ToolCallArgs(tool_call_id="c", delta=json.dumps({"text": BIG})),
        e.ToolCallEnd(tool_call_id="c"),
    ]
    taken = [one for event in given for one in recorder.take(event, 0.0)]
    out = [e.stamp(one, seq, 0) for seq, one in enumerate(taken, 1)]
    assert short_enough(out) and len(out) > 20
    assert [one.text for one in out if isinstance(one, e.TextMessageEnd)] == [e.UNSET]
    for split in range(0, len(out) + 1, 5):
        transcript = Transcript()
        fold(transcript, out[:split])
        fold(transcript, out[split:])
        text, tool = transcript.runs[0].messages[0].parts
        assert isinstance(text, TextPart) and text.text == BIG + "end" and not text.open
        assert isinstance(tool, ToolPart) and json.loads(tool.args) == {"text": BIG}


# --- in the log ---------------------------------------------------------------------------------------------------


async def hand_over(input: RunInput, context: RunContext) -> AsyncIterator[Event]:
    async with context.tool("list_all") as call:
        call.result = ROWS
    await context.artifact("table", BIG, name="All of it", mime_type="text/csv")
    yield e.TextMessageContent(message_id="t", delta=BIG)


@pytest.mark.anyio
async def test_no_event_of_the_log_is_too_long_and_nothing_is_lost(tmp_path: Path) -> None:
    """I3, I14: the log, a reader of it and the thread's view agree, before and after a restart."""
    path = tmp_path / "a.db"
    async with core(Told(hand_over), path=path) as service:
        sent = await service.send(ME, send("go"))
        assert await ended(service, sent) == "done"
        events = await log(service, sent.thread)
        assert short_enough(events)
        assert said(events) == BIG
        (answer,) = [one for one in events if isinstance(one, e.ToolCallResult)]
        (artifact,) = [one for one in events if isinstance(one, e.ArtifactSnapshot)]
        assert isinstance(answer.blob, e.Blob) and isinstance(artifact.blob, e.Blob)
        assert json.loads(await whole_of(service, answer.blob)) == ROWS
        assert answer.content == answer.result == preview(ROWS)
        assert (await whole_of(service, artifact.blob)).decode() == BIG
        assert artifact.url == artifact.blob.url and artifact.content == preview(BIG)
        with pytest.raises(NotFound):
            await service.uploads.get(OTHER, answer.blob.url.rpartition("/")[2])
        view = load((await service.view(ME, sent.thread)).transcript)
    async with core(Told(hand_over), path=path) as service:
        again = load((await service.view(ME, sent.thread)).transcript)
        parts = {type(part): part for part in again.runs[0].messages[-1].parts}
        assert again == view
        tool, table, text = parts[ToolPart], parts[ArtifactPart], parts[TextPart]
        assert isinstance(tool, ToolPart) and tool.blob == answer.blob and tool.has_result
        assert isinstance(table, ArtifactPart) and table.blob == artifact.blob and table.url == artifact.url
        assert isinstance(text, TextPart) and text.text == BIG
        assert json.loads(await whole_of(service, tool.blob)) == ROWS, "the sweep at the start left it alone"
        await service.delete_thread(ME, sent.thread)
        with pytest.raises(NotFound):
            await whole_of(service, tool.blob)
    assert left_of(path) == []


@pytest.mark.anyio
async def test_a_reader_that_joins_in_the_middle_of_a_long_text_ends_with_all_of_it() -> None:
    """I7, I11, I14."""
    half, reached = anyio.Event(), anyio.Event()

    async def write(input: RunInput, context: RunContext) -> AsyncIterator[Event]:
        yield e.TextMessageContent(message_id="t", delta=BIG)
        reached.set()
        await half.wait()
        yield e.TextMessageContent(message_id="t", delta=BIG)

    async with core(Told(write)) as service, anyio.create_task_group() as tasks:
        sent = await service.send(ME, send("go"))
        with anyio.fail_after(DEADLINE_S):
            await reached.wait()
        reader = Reader()
        tasks.start_soon(lambda: reader.follow(service, sent.thread, after=None))
        await reader.until(lambda: bool(reader.snapshots) and reader.caught_up is not None)
        half.set()
        assert await ended(service, sent) == "done"
        await reader.until(lambda: any(isinstance(one, e.RunFinished) for one in reader.events))
        transcript = load(reader.snapshots[0].transcript)
        fold(transcript, reader.events)
        (part,) = transcript.runs[0].messages[-1].parts
        assert isinstance(part, TextPart) and part.text == BIG * 2
        tasks.cancel_scope.cancel()


@pytest.mark.anyio
async def test_an_agent_that_says_too_much_at_once_fails_with_a_code() -> None:
    async def shout(input: RunInput, context: RunContext) -> AsyncIterator[Event]:
        await context.set_state({"all": BIG})
        yield e.TextMessageContent(message_id="t", delta="never")

    async def boast(input: RunInput, context: RunContext) -> AsyncIterator[Event]:
        yield e.RunFinished(thread_id=input.thread, result=ROWS)

    for script in (shout, boast):
        async with core(Told(script)) as service:
            sent = await service.send(ME, send("go"))
            assert await ended(service, sent) == "failed"
            events = await log(service, sent.thread)
            end = events[-1]
            assert isinstance(end, e.RunError) and end.code == "event_too_large" and "256" not in end.message[:10]
            assert short_enough(events) and said(events) == ""


@pytest.mark.anyio
async def test_an_answer_to_a_question_is_bounded() -> None:
    async with core() as service:
        with pytest.raises(TooLarge):
            await service.resolve(ME, resolve("r.1", {"approved": True, "editedArgs": {"x": "y" * 70_000}}))


@pytest.mark.anyio
async def test_a_blob_that_cannot_be_kept_fails_the_run_and_nobody_sees_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I4."""
    store = await SqliteStore.open(tmp_path / "a.db")

    async def full(*arguments: Any, **fields: Any) -> Any:
        raise StorageFull("There is no room.")

    try:
        async with core(Told(hand_over), store=store) as service:
            monkeypatch.setattr(store.files, "put", full)
            sent = await service.send(ME, send("go"))
            assert await ended(service, sent) == "failed"
            events = await log(service, sent.thread)
            end = events[-1]
            assert isinstance(end, e.RunError) and end.code == "storage_unavailable"
            assert not any(isinstance(one, e.ToolCallResult) and one.result == ROWS for one in events)
            assert short_enough(events)
    finally:
        await store.close()
