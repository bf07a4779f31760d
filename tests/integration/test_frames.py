"""What our real endpoint does with frames as such (RFC 6455): the echo that scripts/autobahn.py tests has no protocol of its own.

The frames are made by hand, for no client library sends what is wrong on purpose.
"""

from __future__ import annotations

import json
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import anyio.abc
import pytest
from websockets import frames

from runcast import server, session
from runcast.transports import line
from serving import DEADLINE_S, serving

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
HELLO = b'{"op":"hello"}'


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, masked: bool = True) -> bytes:
    """One frame of a client, section 5.2; the mask is 1 2 3 4."""
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    bit = 0x80 if masked else 0
    size = len(payload)
    if size < 126:
        head += bytes([bit | size])
    elif size < 65536:
        head += bytes([bit | 126]) + struct.pack("!H", size)
    else:
        head += bytes([bit | 127]) + struct.pack("!Q", size)
    if not masked:
        return head + payload
    mask = (bytes([1, 2, 3, 4]) * (size // 4 + 1))[:size]
    return (
        head
        + bytes([1, 2, 3, 4])
        + (int.from_bytes(payload, "big") ^ int.from_bytes(mask, "big")).to_bytes(size, "big")
    )


class Wire:
    """A TCP connection after its handshake."""

    def __init__(self, stream: anyio.abc.SocketStream) -> None:
        self.stream = stream
        self._data = b""

    async def say(self, *frames: bytes) -> None:
        await self.stream.send(b"".join(frames))

    async def hear(self) -> tuple[int, bytes]:
        """The next frame: opcode and payload."""
        head = await self._take(2)
        assert head[0] & 0x70 == 0, "a server without extensions sets no reserved bit"
        assert head[1] & 0x80 == 0, "a server masks nothing"
        size = head[1]
        if size == 126:
            (size,) = struct.unpack("!H", await self._take(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", await self._take(8))
        return head[0] & 0x0F, await self._take(size)

    async def closed(self) -> int:
        """The code of the close frame that comes; what comes before it is not looked at. It is answered, and the connection
        ends."""
        while True:
            opcode, payload = await self.hear()
            if opcode == CLOSE:
                code = struct.unpack("!H", payload[:2])[0] if payload else 1005
                try:
                    await self.say(frame(CLOSE, payload[:2]))
                except anyio.BrokenResourceError:
                    pass  # after an error the server does not wait for it
                await self.ended()
                return code

    async def ended(self) -> None:
        with anyio.fail_after(DEADLINE_S):
            try:
                while await self.stream.receive():
                    pass
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                pass

    async def _take(self, size: int) -> bytes:
        with anyio.fail_after(DEADLINE_S):
            while len(self._data) < size:
                self._data += await self.stream.receive()
        taken, self._data = self._data[:size], self._data[size:]
        return taken

    async def handshake(self, port: int) -> None:
        await self.stream.send(
            f"GET /v1/ws HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Protocol: runcast.v1\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n".encode()
        )
        while b"\r\n\r\n" not in self._data:
            self._data += await self.stream.receive()
        head, self._data = self._data.split(b"\r\n\r\n", 1)
        assert head.startswith(b"HTTP/1.1 101")
        assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head  # section 1.3
        assert b"permessage-deflate" not in head.lower(), "compression is off"


@asynccontextmanager
async def wire(*, greeted: bool = True) -> AsyncGenerator[Wire]:
    async with serving() as running, await anyio.connect_tcp("127.0.0.1", running.port) as stream:
        client = Wire(stream)
        await client.handshake(running.port)
        if greeted:
            await client.say(frame(TEXT, HELLO))
            assert await op(client) == "welcome"
        yield client


async def op(client: Wire) -> str:
    opcode, payload = await client.hear()
    assert opcode == TEXT
    return json.loads(payload)["op"]


@pytest.mark.anyio
async def test_a_fragmented_frame_with_pings_in_between_is_one_frame() -> None:
    async with wire(greeted=False) as client:
        await client.say(
            frame(TEXT, HELLO[:3], fin=False),
            frame(PING, b"are you there?"),
            frame(CONT, HELLO[3:7], fin=False),
            frame(CONT, b"", fin=False),
            frame(PONG, b"nobody asked"),
            frame(CONT, HELLO[7:]),
        )
        assert await client.hear() == (PONG, b"are you there?")
        assert await op(client) == "welcome"


@pytest.mark.anyio
async def test_bytes_may_come_one_by_one() -> None:
    async with wire(greeted=False) as client:
        for byte in frame(TEXT, HELLO):
            await client.say(bytes([byte]))
        assert await op(client) == "welcome"


@pytest.mark.anyio
async def test_a_character_may_be_cut_by_a_fragment() -> None:
    data = '{"op":"ping","t":"Grüße"}'.encode()
    cut = data.index("ü".encode()) + 1
    async with wire() as client:
        await client.say(frame(TEXT, data[:cut], fin=False), frame(CONT, data[cut:]))
        opcode, payload = await client.hear()
        assert (opcode, json.loads(payload)) == (TEXT, {"op": "pong", "t": "Grüße"})


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        pytest.param([frame(TEXT, b'{"op":"\xff"}')], 1007, id="invalid UTF-8"),
        pytest.param([frame(TEXT, b'{"op":"\xc3', fin=False), frame(CONT, b'("}')], 1007, id="invalid across fragments"),
        pytest.param([frame(TEXT, b"\xed\xa0\x80")], 1007, id="a surrogate as UTF-8"),
        pytest.param([frame(TEXT, HELLO, rsv=4)], 1002, id="RSV1 without compression"),
        pytest.param([frame(TEXT, HELLO, rsv=1)], 1002, id="RSV3"),
        pytest.param([frame(0x3, b"")], 1002, id="a reserved data opcode"),
        pytest.param([frame(0xB, b"")], 1002, id="a reserved control opcode"),
        pytest.param([frame(TEXT, HELLO, masked=False)], 1002, id="not masked"),
        pytest.param([frame(PING, b"x", fin=False)], 1002, id="a fragmented ping"),
        pytest.param([frame(PING, b"x" * 126)], 1002, id="a long ping"),
        pytest.param([frame(CONT, b"x")], 1002, id="a continuation of nothing"),
        pytest.param([frame(TEXT, b"{", fin=False), frame(TEXT, b"}")], 1002, id="a frame within a fragmented one"),
        pytest.param([frame(CLOSE, b"\x03")], 1002, id="half a close code"),
        pytest.param([frame(CLOSE, struct.pack("!H", 1005))], 1002, id="a close code that is never sent"),
        pytest.param([frame(CLOSE, struct.pack("!H", 999))], 1002, id="a close code that there is not"),
        pytest.param([frame(CLOSE, struct.pack("!H", 1000) + b"\xff")], 1007, id="a close reason that is no text"),
        pytest.param([frame(CLOSE, struct.pack("!H", 1000) + b"bye")], 1000, id="close"),
        pytest.param([frame(CLOSE)], 1005, id="close without a code"),
        pytest.param([frame(CLOSE, struct.pack("!H", 4321))], 4321, id="close with a code of the client's own"),
        pytest.param([frame(TEXT, b" " * (64 * 1024 + 1))], 1009, id="more than a frame may have"),
        pytest.param([frame(TEXT, b" " * 600_000, fin=False), frame(CONT, b" " * 600_000)], 1009, id="more than a message, in parts"),
        pytest.param([frame(TEXT, b" " * (1024 * 1024 + 1))], 1009, id="more than is even taken in"),
    ],
)  # fmt: skip
async def test_what_is_wrong_ends_the_connection_with_the_code_that_says_why(
    wrong: list[bytes], code: int, caplog: pytest.LogCaptureFixture
) -> None:
    assert await code_for(wrong) == code
    assert [record for record in caplog.records if record.levelname in ("ERROR", "WARNING")] == []


async def code_for(wrong: list[bytes]) -> int:
    """How the server ends a connection that says this."""
    async with wire() as client:
        try:
            await client.say(*wrong)
        except anyio.BrokenResourceError:
            pass  # it need not read all of it
        return await client.closed()


@pytest.mark.anyio
async def test_before_hello_a_frame_is_small() -> None:
    async with wire(greeted=False) as client:
        await client.say(frame(TEXT, b" " * 4097))
        assert await client.closed() == 1009


@pytest.mark.anyio
async def test_bytes_that_are_no_json_count_as_frames_that_cannot_be_read() -> None:
    async with wire() as client:
        await client.say(*[frame(BINARY, b"\x00\xff\xfe")] * 3)
        assert await client.closed() == 4000


# --- planted defects: in the parser below us, in the line and in the session -----------------------------------------


@pytest.mark.anyio
async def test_planted_a_parser_that_takes_control_frames_as_they_come_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(frames.Frame, "check", lambda self: None)
    monkeypatch.setitem(globals(), "DEADLINE_S", 1.0)
    with pytest.raises(ExceptionGroup) as noticed:
        await code_for([frame(PING, b"x" * 126)])
    assert noticed.group_contains(TimeoutError), "it answers, and goes on"


@pytest.mark.anyio
async def test_planted_a_line_that_agrees_to_compression_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    made = server.configuration

    def compressing(*arguments: Any, **more: Any) -> Any:
        config = made(*arguments, **more)
        config.ws_per_message_deflate = True
        return config

    monkeypatch.setattr(server, "configuration", compressing)
    with pytest.raises(ExceptionGroup) as noticed:
        await test_bytes_that_are_no_json_count_as_frames_that_cannot_be_read()
    assert noticed.group_contains(AssertionError, match="compression is off")


@pytest.mark.anyio
async def test_planted_fragments_that_are_lost_over_a_ping_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    handle_ping = line.SocketProtocol.handle_ping

    def forgetful(self: Any) -> None:
        self.frames.clear()
        handle_ping(self)

    monkeypatch.setattr(line.SocketProtocol, "handle_ping", forgetful)
    with pytest.raises(ExceptionGroup) as noticed:
        await test_a_fragmented_frame_with_pings_in_between_is_one_frame()
    assert noticed.group_contains(AssertionError), "the pieces are no message any more"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("limits", "told"),
    [
        ({"max_hello_bytes": 64 * 1024}, test_before_hello_a_frame_is_small),
        ({"max_bad_frames": 1000}, test_bytes_that_are_no_json_count_as_frames_that_cannot_be_read),
    ],
    ids=["before hello", "frames that cannot be read"],
)
async def test_planted_limits_that_are_none_are_noticed(
    limits: dict[str, Any], told: Callable[[], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "SessionLimits", partial(session.SessionLimits, **limits))
    monkeypatch.setitem(globals(), "DEADLINE_S", 1.0)
    with pytest.raises(ExceptionGroup) as noticed:
        await told()
    assert noticed.group_contains((AssertionError, TimeoutError))


@pytest.mark.anyio
async def test_planted_a_size_that_nobody_looks_at_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "SessionLimits", partial(session.SessionLimits, max_frame_bytes=1 << 30))
    assert await code_for([frame(TEXT, b" " * (64 * 1024 + 1))] * 3) != 1009
