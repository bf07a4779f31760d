"""The floor of fan-out: Python accepts and shakes hands, then C sends (floor.c), compiled here with the machine's own
compiler. `python floor.py PORT LIBRARY [PER_WRITE]`; one room, whoever sends a message starts the run."""

from __future__ import annotations

import base64
import ctypes
import hashlib
import json
import select
import socket
import sys

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3


def shake_hands(peer: socket.socket) -> bool:
    """Whether it wants a WebSocket; who only looked whether somebody listens sends nothing."""
    request = b""
    while b"\r\n\r\n" not in request:
        data = peer.recv(4096)
        if not data:
            return False
        request += data
    fields = dict(line.split(": ", 1) for line in request.decode().split("\r\n")[1:] if ": " in line)
    key = next(value for name, value in fields.items() if name.lower() == "sec-websocket-key")
    accept = base64.b64encode(hashlib.sha1(f"{key}{GUID}".encode()).digest()).decode()
    peer.sendall(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()
    )
    return True


def received(peer: socket.socket) -> dict[str, str] | None:
    """One short masked text frame; None when the peer closes."""
    head = peer.recv(2, socket.MSG_WAITALL)
    if len(head) < 2 or head[0] != 0x81:
        return None
    size = head[1] & 0x7F
    assert size < 126, "a short frame was expected"
    data = peer.recv(4 + size, socket.MSG_WAITALL)
    return json.loads(bytes(byte ^ data[i % 4] for i, byte in enumerate(data[4:])))


def serve(port: int, library: str, per_write: int) -> None:
    broadcast = ctypes.CDLL(library).broadcast
    broadcast.restype = ctypes.c_longlong
    broadcast.argtypes = [
        ctypes.POINTER(ctypes.c_int),
        ctypes.c_int,
        ctypes.c_longlong,
        ctypes.c_double,
        ctypes.c_int,
    ]
    listener = socket.create_server(("127.0.0.1", port), backlog=2048)
    poller = select.epoll()
    poller.register(listener, select.EPOLLIN)
    peers: dict[int, socket.socket] = {}
    readers: list[int] = []
    while True:
        for number, _ in poller.poll():
            if number == listener.fileno():
                peer, _address = listener.accept()
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if not shake_hands(peer):
                    peer.close()
                    continue
                peers[peer.fileno()] = peer
                poller.register(peer, select.EPOLLIN)
                continue
            peer = peers[number]
            said = received(peer)
            if said is None:
                poller.unregister(peer)
                peers.pop(number).close()
                if number in readers:
                    readers.remove(number)
            elif "join" in said:
                readers.append(number)
                answer = b'{"type":"joined"}'
                peer.sendall(bytes([0x81, len(answer)]) + answer)
            else:
                count, rate = said["message"].split()
                fds = (ctypes.c_int * len(readers))(*readers)
                sent = broadcast(fds, len(readers), int(count), float(rate), per_write)
                if sent < 0:
                    raise SystemExit(f"broadcast failed: errno {-sent}")


if __name__ == "__main__":
    serve(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 1)
