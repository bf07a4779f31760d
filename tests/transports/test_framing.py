"""What our writer's bytes are to the parsers of published clients, and which of their traps it stays out of."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from openai._streaming import ServerSentEvent, SSEDecoder

from runcast.dialects.base import Frame
from runcast.transports.sse import NATIVE, Framing, comment

PLAIN = Framing(ids=False)
FRAMINGS = {
    "native": NATIVE,
    "plain": PLAIN,
    "done": Framing(ids=False, tail=b"[DONE]"),
    "worded": Framing(ids=False, opening="stream-open", ping="keep-alive"),
    "coming again": Framing(ids=False, lasts_s=60),
}
FRAMES = [
    Frame(b'{"n":1}', 1),
    Frame('{"n":2,"text":"Käse\\n\\ndata: 👋 \u2028\u2029\x85"}'.encode(), 2, 0, last=False),
    Frame(b'{"n":3}', 2, 1),
    Frame(b'{"n":4}', name="named"),
    Frame(b'{"n":5}', 3, ends=True),
]
CHUNKS = (1, 7, 10_000)


def body(framing: Framing) -> bytes:
    """A whole stream: the first comment, frames with silences between them, the end."""
    written = comment(framing.opening)
    for frame in FRAMES:
        written += framing.text([frame], "epoch") + comment(framing.ping)
    return written


def in_chunks(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def numbers(events: list[ServerSentEvent]) -> list[int]:
    return [json.loads(event.data)["n"] for event in events if event.data and event.data != "[DONE]"]


@pytest.mark.parametrize("framing", FRAMINGS.values(), ids=FRAMINGS)
def test_the_bytes_that_every_client_reads(framing: Framing) -> None:
    """LF only, one `data:` line and a blank line for each event, comments as silence, no `retry:`, nothing without data."""
    text = body(framing).decode()
    assert "\r" not in text
    assert "\ufeff" not in text
    assert text.startswith(f": {framing.opening}\n\n")
    for block in text.split("\n\n")[:-1]:
        lines = block.split("\n")
        if lines[0].startswith(": "):
            assert len(lines) == 1
            continue
        fields = [line.split(": ", 1)[0] for line in lines]
        assert fields.count("data") == 1
        assert fields[-1] == "data"
        assert set(fields) <= {"data", "event"} | ({"id"} if framing.ids else set())


def test_ids_stand_where_a_reader_may_come_again() -> None:
    lines = NATIVE.text(FRAMES, "e").decode().split("\n")
    assert [line for line in lines if line.startswith("id")] == ["id: e:1", "id: e:2", "id: e:3"]
    assert lines.index("id: e:2") > lines.index('data: {"n":2,"text":"Käse\\n\\ndata: 👋 \\u2028\\u2029\\u0085"}')


def test_the_tail_comes_once_behind_the_end() -> None:
    assert FRAMINGS["done"].text(FRAMES, "e").endswith(b'data: {"n":5}\n\ndata: [DONE]\n\n')
    assert FRAMINGS["done"].text(FRAMES[:4], "e").count(b"[DONE]") == 0


@pytest.mark.parametrize("size", CHUNKS)
@pytest.mark.parametrize("name", [name for name, framing in FRAMINGS.items() if not framing.ids])
def test_openai_reads_it(name: str, size: int) -> None:
    """The strictest reader: for it a blank line behind a comment is an event without data, if there ever was an id."""
    framing = FRAMINGS[name]
    events = list(SSEDecoder().iter_bytes(in_chunks(body(framing), size)))
    assert numbers(events) == [1, 2, 3, 4, 5]
    assert all(event.data for event in events)
    assert [event.event for event in events if event.event] == ["named"]
    assert (events[-1].data == "[DONE]") == bool(framing.tail)


async def chunked(data: bytes, size: int) -> AsyncIterator[bytes]:
    for chunk in in_chunks(data, size):
        yield chunk


@pytest.mark.anyio
@pytest.mark.parametrize("size", CHUNKS)
async def test_openai_reads_it_async(size: int) -> None:
    events = [event async for event in SSEDecoder().aiter_bytes(chunked(body(PLAIN), size))]
    assert numbers(events) == [1, 2, 3, 4, 5]


def test_why_there_are_no_ids_for_openai() -> None:
    """The trap itself: with ids and comments that client meets events without data. When it no longer does, `ids=False` is
    not needed any more."""
    events = list(SSEDecoder().iter_bytes(in_chunks(body(NATIVE), 7)))
    assert any(not event.data for event in events)


@pytest.mark.anyio
@pytest.mark.parametrize("name", FRAMINGS)
async def test_httpx_reads_its_lines(name: str) -> None:
    """Many Python clients read lines by httpx, which also breaks at other characters than LF: none of them is ever written bare."""
    framing = FRAMINGS[name]
    response = httpx.Response(200, content=chunked(body(framing), 5))
    lines = [line async for line in response.aiter_lines()]
    read = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    assert [json.loads(line)["n"] for line in read if line != "[DONE]"] == [1, 2, 3, 4, 5]
    assert json.loads(read[1])["text"] == "Käse\n\ndata: 👋 \u2028\u2029\x85"
