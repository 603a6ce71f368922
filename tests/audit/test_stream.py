"""Streams of ports that nobody named: PostgreSQL is found there, all else is passed over in silence."""

import pytest

from tests.audit.conversation import SELECTED, opened, records
from tests.support.pgmsg import query, ready
from tests.support.wrap import TcpTrace, data_indices

HTTP = (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
# A TLS ClientHello without ALPN, as far as its record header and version.
HELLO = b"\x03\x03" + bytes(32) + b"\x00" + b"\x00\x02\x13\x01" + b"\x01\x00" + b"\x00\x00"
HTTPS = (
    b"\x16\x03\x01"
    + (len(HELLO) + 4).to_bytes(2, "big")
    + b"\x01\x00"
    + len(HELLO).to_bytes(2, "big")
    + HELLO,
    b"\x16\x03\x03\x00\x04" + bytes(4),
)
OTHERS = {
    "http": HTTP,
    "https": HTTPS,
    "redis": (b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n"),
    "ssh": (b"SSH-2.0-OpenSSH_9.6\r\n", b"SSH-2.0-OpenSSH_9.6\r\n"),
    "zeros": (bytes(64), bytes(64)),
    "bytes": (bytes(range(256)), bytes(range(255, -1, -1))),
}


def other(turns: tuple[bytes, bytes], port: int) -> TcpTrace:
    trace = TcpTrace(client=("10.0.1.10", 40010), server=("10.0.2.20", port))
    trace.open()
    for _ in range(3):
        trace.client(turns[0])
        trace.server(turns[1])
    trace.close()
    return trace


@pytest.mark.parametrize("turns", OTHERS.values(), ids=OTHERS)
def test_other_protocols_are_silent(turns: tuple[bytes, bytes]) -> None:
    assert records(other(turns, 8080), auto_ports=True) == []


@pytest.mark.parametrize("turns", OTHERS.values(), ids=OTHERS)
def test_other_protocols_on_a_port_of_postgresql_are_told(turns: tuple[bytes, bytes]) -> None:
    found = records(other(turns, 5432))

    kinds = {one["kind"] for one in found}
    assert kinds & {"undecodable", "encrypted_session"}
    assert not found.statements


@pytest.mark.parametrize("port", [1, 80, 443, 5432, 6543, 65535])
def test_postgresql_on_any_port(port: int) -> None:
    trace = opened(server_port=port)
    trace.client(query("select 1"))
    trace.server(SELECTED + ready())
    trace.close()
    found = records(trace, auto_ports=True)

    assert [one["kind"] for one in found] == ["session_start", "statement", "session_end"]
    assert {one["server_port"] for one in found} == {port}
    assert bool(records(trace)) == (port == 5432)


def test_both_at_once() -> None:
    trace = opened(server_port=6000)
    trace.client(query("select 1"))
    trace.server(SELECTED + ready())
    found = records([*trace.frames, *other(HTTP, 6000).frames], auto_ports=True)

    assert {one["client_port"] for one in found} == {40000}


def test_a_connection_without_data_is_counted_only() -> None:
    trace = TcpTrace()
    trace.open()
    trace.close()
    found = records(trace)

    assert found == []
    assert found.counters["connections_without_data"] == 1


def test_first_segment_trusted() -> None:
    """With the promise that a message begins there, what was joined midway is read from its first byte."""
    trace = opened()
    trace.client(query("select 1"))
    trace.server(SELECTED + ready())
    start = data_indices(trace.frames, "client")[1]
    found = records(trace.frames[start:], trust_first_segment=True)

    assert found.columns("text", "outcome") == [("select 1", "ok")]
    assert found.statements[0]["coverage"]["reasons"] == ["first_segment_trusted"]
