"""Startup packets and PROXY headers."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror_audit.pgwire.startup import (
    MAX_STARTUP_BYTES,
    NEED_MORE,
    NOT_STARTUP,
    PROXY_V2,
    key_digest,
    looks_like_startup,
    parse_proxy_header,
    split_strings,
    startup_length,
)
from tests.support import pgmsg


def word(value: int, size: int = 4) -> bytes:
    return value.to_bytes(size, "big")


@pytest.mark.parametrize(
    ("data", "length"),
    [
        (b"", NEED_MORE),
        (b"\0", NEED_MORE),
        (b"\0\0\0", NEED_MORE),
        (b"\0\0\0\x09", 9),
        (pgmsg.startup(), len(pgmsg.startup())),
        (pgmsg.startup(minor=2), len(pgmsg.startup())),
        (pgmsg.startup(minor=9999), len(pgmsg.startup())),
        (pgmsg.startup(major=2), len(pgmsg.startup())),
        (pgmsg.ssl_request(), 8),
        (pgmsg.gssenc_request(), 8),
        (pgmsg.cancel_request(1, 2), 16),
        (pgmsg.cancel_request(1, b"k" * 256), 268),
        (word(MAX_STARTUP_BYTES) + word(3, 2) + word(0, 2), MAX_STARTUP_BYTES),
        (word(MAX_STARTUP_BYTES + 1), NOT_STARTUP),
        (word(7), NOT_STARTUP),
        (word(0), NOT_STARTUP),
        (word(0xFFFFFFFF), NOT_STARTUP),
        (word(0x80000000), NOT_STARTUP),
        (word(20) + word(4, 2) + word(0, 2), NOT_STARTUP),
        (word(20) + word(1, 2) + word(0, 2), NOT_STARTUP),
        (b"GET / HTTP/1.1\r\n", NOT_STARTUP),
        (b"G", NOT_STARTUP),
        (b"\x16\x03\x01", NOT_STARTUP),
        (pgmsg.query("SELECT 1"), NOT_STARTUP),
    ],
)
def test_startup_length(data: bytes, length: int) -> None:
    assert startup_length(data) == length


def test_the_longest_packet_is_the_servers() -> None:
    # ProcessStartupPacket refuses more than 10,000 bytes behind the length field.
    assert MAX_STARTUP_BYTES - 4 == 10_000


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (pgmsg.startup(), True),
        (pgmsg.startup("u", None, application_name="x"), True),
        (pgmsg.ssl_request(), True),
        (pgmsg.cancel_request(1, 2), True),
        (pgmsg.startup() + b"x", False),
        (pgmsg.startup()[:-1], False),
        (pgmsg.startup(None, "shop"), False),
        (pgmsg.startup(major=2), False),
        (pgmsg.query("SELECT 1"), False),
        (b"", False),
    ],
)
def test_looks_like_startup(data: bytes, expected: bool) -> None:
    assert looks_like_startup(data) is expected


@pytest.mark.parametrize(
    ("data", "strings"),
    [
        (b"user\0app\0\0", [b"user", b"app"]),
        (b"user\0\0database\0shop\0\0", [b"user", b"", b"database", b"shop"]),
        (b"\0", []),
        (b"", []),
        (b"\0user\0app\0\0", []),  # an empty name ends the list
        (b"user\0app\0", [b"user", b"app"]),  # as the server, we can do without the terminator
        (b"user\0app\0\0rest", [b"user", b"app"]),
        (b"user\0", None),
        (b"user\0app", None),
        (b"user", None),
    ],
)
def test_split_strings(data: bytes, strings: list[bytes] | None) -> None:
    assert split_strings(data) == strings


def test_key_digest_tells_keys_and_processes_apart() -> None:
    keys = [b"", b"\0\0\0\1", b"\0\0\0\2", b"k" * 32, b"k" * 256]
    digests = {key_digest(process, key) for process in (-1, 1, 2, 0x7FFFFFFF) for key in keys}
    assert len(digests) == 4 * len(keys)
    assert {len(digest) for digest in digests} == {16}
    assert not any(key in digest for key in keys[1:] for digest in digests)


def v2(command: int, family: int, body: bytes, length: int | None = None, version: int = 2) -> bytes:
    size = len(body) if length is None else length
    return PROXY_V2 + bytes([version << 4 | command, family]) + word(size, 2) + body


V4 = ipaddress.ip_address("192.0.2.7").packed
V6 = ipaddress.ip_address("2001:db8::7").packed
TCP4 = V4 + b"\x0a\x00\x02\x14" + word(51000, 2) + word(5432, 2)
TCP6 = V6 + V6 + word(51000, 2) + word(5432, 2)

PROXY_HEADERS = [
    pytest.param(b"PROXY TCP4 192.0.2.7 10.0.2.20 51000 5432\r\n", V4, 51000, id="v1 tcp4"),
    pytest.param(b"PROXY TCP6 2001:db8::7 2001:db8::1 51000 5432\r\n", V6, 51000, id="v1 tcp6"),
    pytest.param(b"PROXY UNKNOWN\r\n", b"", 0, id="v1 unknown"),
    pytest.param(b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", b"", 0, id="v1 unknown with more"),
    pytest.param(b"PROXY TCP4 999.0.2.7 10.0.2.20 51000 5432\r\n", b"", 0, id="v1 no address"),
    pytest.param(b"PROXY TCP4 192.0.2.7 10.0.2.20 70000 5432\r\n", b"", 0, id="v1 no port"),
    pytest.param(b"PROXY TCP4 192.0.2.7 10.0.2.20 x 5432\r\n", b"", 0, id="v1 no number"),
    pytest.param(b"PROXY TCP4\r\n", b"", 0, id="v1 short"),
    pytest.param(v2(1, 0x11, TCP4), V4, 51000, id="v2 tcp4"),
    pytest.param(v2(1, 0x21, TCP6), V6, 51000, id="v2 tcp6"),
    pytest.param(v2(1, 0x11, TCP4 + b"\x03\x00\x04abcd"), V4, 51000, id="v2 with a TLV"),
    pytest.param(v2(0, 0x11, TCP4), b"", 0, id="v2 local"),
    pytest.param(v2(0, 0, b""), b"", 0, id="v2 local, nothing else"),
    pytest.param(v2(1, 0x31, b"/" * 216), b"", 0, id="v2 unix"),
    pytest.param(v2(1, 0x12, TCP4), b"", 0, id="v2 udp"),
    pytest.param(v2(1, 0x11, TCP4[:6]), b"", 0, id="v2 too short for an address"),
]


@pytest.mark.parametrize(("header", "address", "port"), PROXY_HEADERS)
def test_proxy_header_wherever_it_is_cut(header: bytes, address: bytes, port: int) -> None:
    for cut in range(1, len(header)):
        assert parse_proxy_header(header[:cut]) is None
    for behind in (b"", pgmsg.startup(), b"\r\n"):
        found = parse_proxy_header(header + behind)
        assert found is not None
        assert (found.length, found.address, found.port) == (len(header), address, port)


@pytest.mark.parametrize(
    "data",
    [
        pgmsg.startup(),
        b"\0",
        b"PROXX",
        b"PROXY " + b"x" * 120,  # no end within 107 bytes
        b"\r\n\r\n\0\r\nQUIX",
        v2(1, 0x11, TCP4, version=1),
        v2(1, 0x11, TCP4, length=5000),
        b"GET / HTTP/1.1",
    ],
)
def test_no_proxy_header(data: bytes) -> None:
    found = parse_proxy_header(data)
    assert found is not None
    assert found.length == 0


@given(st.one_of(st.binary(max_size=200), st.binary(max_size=60).map(lambda b: PROXY_V2 + b)))
def test_any_bytes_are_taken(data: bytes) -> None:
    found = parse_proxy_header(data)
    assert found is None or 0 <= found.length <= len(data)
    assert startup_length(data) >= NOT_STARTUP
    looks_like_startup(data)
    split_strings(data)
    parse_proxy_header(b"PROXY " + data)
