"""UI messages of the AI SDK, read as messages in AG-UI's shape."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runcast.dialects.ui_messages import approvals_of, as_ag_ui, chain_of, inline, newest_of
from runcast.histories import place
from runcast.parts import Transcript, TranscriptMessage, TranscriptRun

ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
PART = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["text", "file", "step-start", "dynamic-tool", "tool-x", "data-y", "reasoning"]) | ANY,
        "text": ANY,
        "url": st.sampled_from(["data:,x", "data:a;base64,%%", "https://a.example/b"]) | ANY,
        "mediaType": ANY,
        "filename": ANY,
        "toolCallId": st.sampled_from(["c1", "c2"]) | ANY,
        "state": st.sampled_from(["output-available", "output-error", "approval-responded"]) | ANY,
        "input": ANY,
        "output": ANY,
        "errorText": ANY,
        "approval": st.dictionaries(st.sampled_from(["id", "approved", "reason"]), ANY) | ANY,
    },
)
MESSAGE = st.fixed_dictionaries(
    {},
    optional={
        "id": st.sampled_from(["a", "b"]) | ANY,
        "role": st.sampled_from(["user", "assistant", "system"]) | ANY,
        "parts": st.lists(PART | ANY, max_size=5) | ANY,
        "content": ANY,
    },
)


@given(st.lists(MESSAGE, max_size=5))
def test_whatever_a_client_sends_can_be_placed(messages: list[dict[str, Any]]) -> None:
    history = as_ag_ui(messages)
    assert {message["role"] for message in history} <= {"user", "assistant", "system", "tool"}
    place(Transcript(), history)
    for approval in approvals_of(messages):
        assert isinstance(approval.payload["approved"], bool)


def test_each_step_is_a_message_and_each_result_one_behind_it() -> None:
    call = {"type": "tool-add", "toolCallId": "c1", "state": "output-available", "input": {"a": 1}, "output": 3}
    failed = {
        "type": "dynamic-tool",
        "toolName": "read",
        "toolCallId": "c2",
        "state": "output-error",
        "errorText": "No.",
    }
    parts = [
        {"type": "step-start"}, {"type": "text", "text": "I add."}, call, {"type": "data-x", "data": 1},
        {"type": "step-start"}, failed, {"type": "step-start"}, {"type": "text", "text": "Done."},
    ]  # fmt: skip
    assert as_ag_ui([{"id": "m", "role": "assistant", "parts": parts}]) == [
        {
            "id": "m",
            "role": "assistant",
            "content": "I add.",
            "toolCalls": [{"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a":1}'}}],
        },
        {"id": "c1.result", "role": "tool", "toolCallId": "c1", "content": "3"},
        {
            "id": "c2",
            "role": "assistant",
            "toolCalls": [{"id": "c2", "type": "function", "function": {"name": "read", "arguments": "{}"}}],
        },
        {"id": "c2.result", "role": "tool", "toolCallId": "c2", "content": "No.", "error": "No."},
        {"id": "m.4", "role": "assistant", "content": "Done."},
    ]


@given(st.binary())
def test_data_urls_give_their_bytes(data: bytes) -> None:
    text = base64.b64encode(data).decode()
    assert inline(f"data:image/png;base64,{text}") == ("image/png", text)
    escaped = "".join(f"%{byte:02x}" for byte in data)
    assert inline(f"data:image/png,{escaped}") == ("image/png", text)


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("data:,A%20file", ("text/plain", "QSBmaWxl")),
        ("data:text/html;charset=utf-8,<b>", ("text/html", "PGI+")),
        ("data:;base64,QQ%3D%3d", ("text/plain", "QQ==")),
        ("data:text/plain;base64,***", ("text/plain", "***")),
        ("data:," + "%41" * 20_000, None),
        ("https://example.com/", None),
        ("data:text/plain", None),
    ],
)
def test_data_urls(url: str, found: tuple[str, str] | None) -> None:
    assert inline(url) == found


def test_a_chain_begins_where_somebody_said_something() -> None:
    def run(id: str, *, said: bool = False, **fields: Any) -> TranscriptRun:
        return TranscriptRun(id=id, messages=[TranscriptMessage(id=f"{id}-in", role="user")] if said else [], **fields)

    transcript = Transcript(
        runs=[
            run("r0", said=True),
            run("r1", said=True, parent="r0"),
            run("r2", parent="r1", resumes="r1"),
            run("r3", parent="r2"),
            run("r4", said=True, parent="r3"),
        ]
    )
    assert [one.id for one in chain_of(transcript, "r3")] == ["r1", "r2", "r3"]
    assert [one.id for one in chain_of(transcript, "r4")] == ["r4"]
    assert chain_of(transcript, "none") == []
    assert [newest_of(transcript, id) for id in ("r0", "r1", "r2", "r4")] == ["r0", "r3", "r3", "r4"]
