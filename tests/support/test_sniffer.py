"""Sniffer and proxy record what a TCP client and server said, byte by byte."""

import socket
import threading

import pytest

from tests.require import require
from tests.support.proxy import RecordingProxy, synthesise
from tests.support.sniffer import Sniffer, as_network, available
from tests.support.wrap import Direction, Frame, parse_tcp

ASKED, ANSWERED = b"question" * 5000, b"answer" * 30000


def _serve(listener: socket.socket) -> None:
    peer, _ = listener.accept()
    with peer:
        left = len(ASKED)
        while left:
            left -= len(peer.recv(65536))
        peer.sendall(ANSWERED)


def _ask(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(ASKED)
        while client.recv(65536):
            pass


def _stream(frames: list[Frame], who: Direction) -> bytes:
    """The payload of one direction, put together by sequence numbers."""
    data = bytearray()
    base: int | None = None
    for frame in frames:
        segment = parse_tcp(frame.bytes)
        assert segment is not None
        assert len(segment.payload) <= 1448
        if frame.direction != who or not segment.payload:
            continue
        base = segment.seq if base is None else base
        at = (segment.seq - base) & 0xFFFFFFFF
        data[at : at + len(segment.payload)] = segment.payload
    return bytes(data)


@pytest.mark.parametrize("way", ["sniffer", "proxy"])
def test_streams_are_whole(way: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        thread = threading.Thread(target=_serve, args=(listener,))
        thread.start()
        if way == "proxy":
            with RecordingProxy("127.0.0.1", port) as proxy:
                _ask(proxy.port)
            frames = synthesise(proxy.conversations(), start=5_000_000)
            thread.join()
        else:
            reason = available()
            if reason:
                _ask(port)
                thread.join()
            require(not reason, str(reason))
            with Sniffer(port) as sniffer:
                _ask(port)
                thread.join()
            assert sniffer.dropped == 0
            frames = as_network(sniffer.frames, start=5_000_000)
    assert _stream(frames, "client") == ASKED
    assert _stream(frames, "server") == ANSWERED
    assert frames[0].time == 5_000_000
    assert all(5_000_000 <= frame.time < 25_000_000 for frame in frames)
    assert [frame.time for frame in frames] == sorted(frame.time for frame in frames)
