"""Frames written straight to the socket are frames as any client reads them, and only written when they can be."""

from __future__ import annotations

import pytest
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from runcast.transports.straight import EXTENSION, StraightProtocol, straight_of, text_frame


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, 200_000])
def test_a_frame_is_read_by_an_independent_parser(size: int) -> None:
    client = ClientProtocol(parse_uri("ws://127.0.0.1/"), state=State.OPEN, max_size=None)
    text = ("é" * size).encode()[:size]
    client.receive_data(text_frame(text) + text_frame(b"next"))
    first, second = client.events_received()
    assert isinstance(first, Frame) and isinstance(second, Frame)
    assert (first.opcode, first.fin, bytes(first.data)) == (Opcode.TEXT, True, text)
    assert bytes(second.data) == b"next"


def test_other_servers_offer_nothing() -> None:
    assert straight_of({"type": "websocket"}) is None
    assert straight_of({"type": "websocket", "extensions": {"websocket.http.response": {}}}) is None
    offer = object.__new__(StraightProtocol)
    assert straight_of({"type": "websocket", "extensions": {EXTENSION: offer}}) is offer
