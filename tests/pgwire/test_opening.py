"""The first bytes of a connection: PROXY headers, encryption requests, startup packets, and what is none."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror_audit.pgwire.opening import AUTHENTICATION, ENCRYPTED, FINISHED, READY, STARTUP, UNDECODABLE
from mirror_audit.pgwire.startup import PROXY_V2, key_digest
from tests.pgwire.recording import CLIENT, FEEDS, SERVER, Call, Feed, Wire
from tests.pgwire.tls import client_hello, server_hello
from tests.support import pgmsg

NEGOTIATED: Any = {"_pq_.test_protocol_negotiation": ""}
USER: Call = ("startup_message", 3, 0, [b"user", b"app", b"database", b"shop"])
PROXY_1 = b"PROXY TCP4 192.0.2.7 10.0.2.20 51000 5432\r\n"
PROXY_2 = PROXY_V2 + b"\x21\x11\0\x0c\xc0\0\2\7\x0a\0\2\x14\xc7\x38\x15\x38"
PROXY: Call = ("proxy_header", b"\xc0\0\2\7", 51000)
REQUESTED: Call = ("encryption_requested", False)
REFUSED: Call = ("encryption_answered", False)
ACCEPTED: Call = ("encryption_answered", True)
HELLO = client_hello(b"db", b"postgresql")
CLIENT_HELLO: Call = ("tls_client_hello", b"db", b"postgresql")
ANSWER = server_hello(0x0304, 0x1301, b"postgresql")
SERVER_HELLO: Call = ("tls_server_hello", 0x0304, 0x1301, b"postgresql")
REFUSAL = pgmsg.error("no", "53300", "FATAL")

Steps = list[tuple[int, bytes]]
C, S = CLIENT, SERVER

OPENINGS = [
    pytest.param([(C, pgmsg.startup())], [USER], AUTHENTICATION, id="startup"),
    pytest.param(
        [(C, pgmsg.startup(minor=2))],
        [("startup_message", 3, 2, USER[3])],
        AUTHENTICATION,
        id="protocol 3.2",
    ),
    pytest.param(
        [(C, pgmsg.startup(minor=9999, **NEGOTIATED))],
        [("startup_message", 3, 9999, [*USER[3], b"_pq_.test_protocol_negotiation", b""])],  # type: ignore[misc]
        AUTHENTICATION,
        id="grease",
    ),
    pytest.param(
        [(C, b"\0\0\0\x20\0\3\0\0database\0shop\0user\0app\0\0")],
        [("startup_message", 3, 0, [b"database", b"shop", b"user", b"app"])],
        AUTHENTICATION,
        id="user is not first",
    ),
    pytest.param(
        [(C, pgmsg.startup("", "", application_name=""))],
        [("startup_message", 3, 0, [b"user", b"", b"database", b"", b"application_name", b""])],
        AUTHENTICATION,
        id="empty values",
    ),
    pytest.param(
        [(C, pgmsg.startup(None, None))],
        [("startup_message", 3, 0, [])],
        AUTHENTICATION,
        id="nothing in it",
    ),
    pytest.param(
        [(C, pgmsg.ssl_request()), (S, b"N"), (C, pgmsg.startup())],
        [REQUESTED, REFUSED, USER],
        AUTHENTICATION,
        id="TLS refused",
    ),
    pytest.param(
        [(C, pgmsg.ssl_request()), (S, b"S"), (C, HELLO), (S, ANSWER), (C, b"\x17\3\3\0\1x" * 9)],
        [REQUESTED, ACCEPTED, ("encrypted", False), CLIENT_HELLO, SERVER_HELLO],
        ENCRYPTED,
        id="TLS accepted",
    ),
    pytest.param(
        [(C, pgmsg.ssl_request()), (S, REFUSAL)],
        [REQUESTED, ("error_response", REFUSAL[5:])],
        AUTHENTICATION,
        id="TLS answered by an error",
    ),
    pytest.param(
        [(C, pgmsg.gssenc_request()), (S, b"N"), (C, pgmsg.ssl_request()), (S, b"S"), (C, HELLO)],
        [("encryption_requested", True), REFUSED, REQUESTED, ACCEPTED, ("encrypted", False), CLIENT_HELLO],
        ENCRYPTED,
        id="GSSAPI refused, then TLS",
    ),
    pytest.param(
        [(C, pgmsg.ssl_request()), (S, b"N"), (C, pgmsg.gssenc_request()), (S, b"N"), (C, pgmsg.startup())],
        [REQUESTED, REFUSED, ("encryption_requested", True), REFUSED, USER],
        AUTHENTICATION,
        id="both refused",
    ),
    pytest.param(
        [(C, pgmsg.gssenc_request()), (S, b"G"), (C, b"\0\0\2\0token"), (S, b"\0\0\1\0token")],
        [("encryption_requested", True), ACCEPTED, ("encrypted", False)],
        ENCRYPTED,
        id="GSSAPI accepted",
    ),
    pytest.param(
        [(C, HELLO), (S, ANSWER)],
        [("encrypted", True), CLIENT_HELLO, SERVER_HELLO],
        ENCRYPTED,
        id="direct TLS",
    ),
    pytest.param(
        [(C, pgmsg.ssl_request() + pgmsg.startup()), (S, b"N" + pgmsg.auth_ok())],
        [REQUESTED, USER, REFUSED, ("authentication_ok",)],
        AUTHENTICATION,
        id="startup without waiting for the answer",
    ),
    pytest.param(
        [(C, pgmsg.ssl_request() + pgmsg.startup()), (S, b"S"), (S, REFUSAL)],
        [REQUESTED, USER, ACCEPTED, ("encrypted", False)],
        ENCRYPTED,
        id="startup without waiting, but TLS it is",
    ),
    pytest.param(
        [(C, pgmsg.ssl_request() + pgmsg.startup()), (S, REFUSAL)],
        [REQUESTED, USER, ("error_response", REFUSAL[5:])],
        AUTHENTICATION,
        id="startup without waiting, and an error",
    ),
    pytest.param(
        [(C, pgmsg.cancel_request(4711, 12345))],
        [("cancel_request", 4711, key_digest(4711, b"\0\0\x30\x39"))],
        FINISHED,
        id="cancel",
    ),
    *[
        pytest.param(
            [(C, pgmsg.cancel_request(4711, b"k" * size))],
            [("cancel_request", 4711, key_digest(4711, b"k" * size))],
            FINISHED,
            id=f"cancel with a key of {size} bytes",
        )
        for size in (0, 1, 32, 256)
    ],
    pytest.param(
        [(C, pgmsg.ssl_request()), (S, b"N"), (C, pgmsg.cancel_request(1, 2))],
        [REQUESTED, REFUSED, ("cancel_request", 1, key_digest(1, b"\0\0\0\2"))],
        FINISHED,
        id="cancel after TLS was refused",
    ),
    *[
        pytest.param([(C, header + pgmsg.startup())], [PROXY, USER], AUTHENTICATION, id=f"PROXY v{version}")
        for version, header in ((1, PROXY_1), (2, PROXY_2))
    ],
    pytest.param(
        [(C, PROXY_1), (C, pgmsg.ssl_request()), (S, b"N"), (C, pgmsg.startup())],
        [PROXY, REQUESTED, REFUSED, USER],
        AUTHENTICATION,
        id="PROXY header of its own",
    ),
    pytest.param(
        [(C, PROXY_2 + HELLO)], [PROXY, ("encrypted", True), CLIENT_HELLO], ENCRYPTED, id="PROXY and TLS"
    ),
    pytest.param(
        [(C, PROXY_1 + pgmsg.cancel_request(1, 2))],
        [PROXY, ("cancel_request", 1, key_digest(1, b"\0\0\0\2"))],
        FINISHED,
        id="PROXY and cancel",
    ),
    pytest.param(
        [(C, b"PROXY UNKNOWN\r\n" + pgmsg.startup())], [USER], AUTHENTICATION, id="PROXY, unknown client"
    ),
    pytest.param(
        [(C, PROXY_1 + PROXY_1)],
        [PROXY, ("undecodable", C, b"not_postgresql")],
        UNDECODABLE,
        id="PROXY twice",
    ),
    pytest.param([(S, REFUSAL)], [("error_response", REFUSAL[5:])], AUTHENTICATION, id="refused at once"),
    pytest.param(
        [(C, pgmsg.startup(major=2))],
        [("undecodable", C, b"protocol_2")],
        UNDECODABLE,
        id="protocol 2.0",
    ),
    pytest.param(
        [(C, b"GET / HTTP/1.1\r\nHost: db\r\n\r\n"), (S, b"HTTP/1.1 400 Bad Request\r\n")],
        [("undecodable", C, b"not_postgresql")],
        UNDECODABLE,
        id="HTTP",
    ),
    pytest.param(
        [(S, b"SSH-2.0-OpenSSH_9.6\r\n"), (C, b"SSH-2.0-x\r\n")],
        [("undecodable", S, b"server_spoke_first")],
        UNDECODABLE,
        id="the server speaks first",
    ),
    pytest.param(
        [(C, pgmsg.ssl_request()), (S, b"X")],
        [REQUESTED, ("undecodable", S, b"not_postgresql")],
        UNDECODABLE,
        id="no answer to SSLRequest",
    ),
    pytest.param(
        [(C, b"\0\0\0\x0b\x04\xd2\x16\x2eabc")],
        [("undecodable", C, b"malformed_cancel_request")],
        UNDECODABLE,
        id="a cancel request without a process",
    ),
    pytest.param(
        [(C, b"\0\0\0\x0c\0\3\0\0user")],
        [("undecodable", C, b"malformed_startup")],
        UNDECODABLE,
        id="a startup without zero bytes",
    ),
    pytest.param(
        [(C, b"\0\0\0\x08\x04\xd2\x16\x99")],
        [("undecodable", C, b"not_postgresql")],
        UNDECODABLE,
        id="a request of tomorrow",
    ),
    pytest.param(
        [(C, b"\0\0\0\x07\0\3\0")], [("undecodable", C, b"not_postgresql")], UNDECODABLE, id="too short"
    ),
    pytest.param(
        [(C, b"\x7f\xff\xff\xff\0\3\0\0")],
        [("undecodable", C, b"not_postgresql")],
        UNDECODABLE,
        id="too long",
    ),
    pytest.param([(C, b"\0\0\1\0\0\3\0\0user\0")], [], STARTUP, id="not all there yet"),
]


@pytest.mark.parametrize("feed", FEEDS)
@pytest.mark.parametrize(("steps", "calls", "phase"), OPENINGS)
def test_opening(steps: Steps, calls: list[Call], phase: int, feed: Feed) -> None:
    wire = Wire(feed=feed)
    for direction, data in steps:
        wire.send(direction, data)
    assert wire.done() == calls
    assert wire.connection.phase == phase


@pytest.mark.parametrize("header", [PROXY_1, PROXY_2])
def test_proxy_header_split_anywhere(header: bytes) -> None:
    stream = header + pgmsg.startup()
    for cut in range(1, len(stream)):
        wire = Wire()
        wire.client(stream[:cut])
        wire.client(stream[cut:])
        assert wire.calls == [PROXY, USER]
        # The startup packet begins behind the header, wherever that was cut.
        assert wire.listener.offsets[1][1:] == (len(header), len(stream))


def test_offsets_and_times_of_the_packets() -> None:
    wire = Wire()
    wire.client(pgmsg.ssl_request())
    wire.server(b"N")
    wire.client(pgmsg.startup()[:10])
    wire.client(pgmsg.startup()[10:])
    assert wire.listener.offsets == [
        ("encryption_requested", 0, 8),
        ("encryption_answered", 0, 8),
        ("startup_message", 8, 8 + len(pgmsg.startup())),
    ]
    assert wire.listener.times[2] == ("startup_message", 3, 4)


def test_the_session_may_follow_in_the_same_segment() -> None:
    wire = Wire()
    wire.client(pgmsg.startup() + pgmsg.query("SELECT 1"))
    wire.server(pgmsg.auth_ok() + pgmsg.ready())
    assert wire.calls == [USER, ("query", b"SELECT 1", 0), ("authentication_ok",), ("ready_for_query", "I")]
    assert wire.connection.phase == READY


def test_nothing_more_is_told_of_what_is_undecodable_or_encrypted() -> None:
    for first in (b"GET / HTTP/1.1\r\n", HELLO, pgmsg.cancel_request(1, 2)):
        wire = Wire()
        wire.client(first)
        before = len(wire.calls)
        wire.server(pgmsg.ready() * 3)
        wire.client(pgmsg.startup() + pgmsg.query("SELECT 1"))
        wire.gap(CLIENT, 10)
        wire.gap(SERVER, 10)
        assert len(wire.calls) == before


def test_bytes_that_are_not_decoded_are_counted() -> None:
    wire = Wire()
    wire.client(HELLO)
    wire.server(ANSWER)
    wire.client(b"x" * 100)
    assert wire.connection.client_undecoded == len(HELLO) + 100
    assert wire.connection.server_undecoded == len(ANSWER)


# -- gaps --


def test_lost_ssl_request() -> None:
    wire = Wire()
    wire.gap(CLIENT, 8)
    wire.server(b"N")
    wire.client(pgmsg.startup())
    assert wire.calls == [REFUSED, USER]


def test_lost_ssl_request_and_accepted() -> None:
    wire = Wire()
    wire.gap(CLIENT, 8)
    wire.server(b"S")
    wire.client(HELLO)
    assert wire.calls == [ACCEPTED, ("encrypted", False), CLIENT_HELLO]


def test_lost_gssenc_request_and_accepted() -> None:
    wire = Wire()
    wire.gap(CLIENT, 8)
    wire.server(b"G")
    wire.client(b"\0\0\2\0token")
    assert wire.calls == [("encryption_requested", True), ACCEPTED, ("encrypted", False)]


@pytest.mark.parametrize(
    ("behind", "calls"),
    [(pgmsg.startup(), [USER]), (HELLO, [("encrypted", False), CLIENT_HELLO])],
)
def test_lost_answer(behind: bytes, calls: list[Call]) -> None:
    wire = Wire()
    wire.client(pgmsg.ssl_request())
    wire.gap(SERVER, 1)
    wire.client(behind)
    assert wire.calls == [REQUESTED, *calls]


def test_lost_startup() -> None:
    wire = Wire()
    wire.gap(CLIENT, 40)
    wire.server(pgmsg.auth_ok() + pgmsg.parameter_status("a", "b") + pgmsg.ready())
    assert wire.calls == [
        ("lost", CLIENT, b"bytes_lost"),
        ("authentication_ok",),
        ("parameter_status", b"a", b"b"),
        ("ready_for_query", "I"),
    ]


@pytest.mark.parametrize("cut", [1, 7, 8, 20])
def test_startup_that_lost_its_end(cut: int) -> None:
    wire = Wire()
    wire.client(pgmsg.startup()[:cut])
    wire.gap(CLIENT, len(pgmsg.startup()) - cut)
    wire.server(pgmsg.auth_ok() + pgmsg.ready())
    assert wire.names() == ["lost", "authentication_ok", "ready_for_query"]
    assert wire.connection.client_undecoded == cut


def test_lost_handshake() -> None:
    wire = Wire()
    wire.client(HELLO[:50])
    wire.gap(CLIENT, 20)
    wire.client(HELLO[70:])
    wire.server(ANSWER)
    assert wire.calls == [("encrypted", True), SERVER_HELLO]


# -- capture that joins in the middle --


def test_join_at_the_startup_packet() -> None:
    wire = Wire(mid_stream=True)
    wire.client(pgmsg.startup())
    wire.server(pgmsg.auth_ok() + pgmsg.ready())
    assert wire.calls == [USER, ("authentication_ok",), ("ready_for_query", "I")]


def test_join_at_an_ssl_request() -> None:
    wire = Wire(mid_stream=True)
    wire.client(pgmsg.ssl_request())
    wire.server(b"N")
    wire.client(pgmsg.startup())
    assert wire.calls == [REQUESTED, REFUSED, USER]


JOINED: list[Call] = [("lost", CLIENT, b"joined_mid_stream"), ("lost", SERVER, b"joined_mid_stream")]


@pytest.mark.parametrize(
    ("direction", "data"),
    [
        (CLIENT, pgmsg.query("SELECT 1")),
        (CLIENT, pgmsg.startup()[:-1]),
        (CLIENT, pgmsg.startup() + b"x"),
        (CLIENT, HELLO),
        (SERVER, pgmsg.ready()),
        (SERVER, REFUSAL),
    ],
)
def test_join_elsewhere(direction: int, data: bytes) -> None:
    wire = Wire(mid_stream=True)
    wire.send(direction, data)
    assert wire.calls == JOINED
    undecoded = (wire.connection.client_undecoded, wire.connection.server_undecoded)
    assert undecoded == ((len(data), 0) if direction == CLIENT else (0, len(data)))


@pytest.mark.parametrize("direction", [CLIENT, SERVER])
def test_join_at_a_gap(direction: int) -> None:
    wire = Wire(mid_stream=True)
    wire.gap(direction, 10)
    assert wire.calls == JOINED


@given(
    st.lists(
        st.tuples(
            st.sampled_from([CLIENT, SERVER]),
            st.one_of(
                st.binary(min_size=1, max_size=40),
                st.sampled_from(
                    [PROXY_1, PROXY_2, HELLO, ANSWER, pgmsg.startup(), pgmsg.ssl_request(), b"S", b"N", b"G"]
                ),
                st.integers(1, 20),
            ),
        ),
        max_size=8,
    ),
    st.booleans(),
)
def test_anything_is_taken(steps: list[tuple[int, bytes | int]], mid_stream: bool) -> None:
    wire = Wire(mid_stream=mid_stream, max_message_bytes=64, budget=200)
    for direction, part in steps:
        if isinstance(part, int):
            wire.gap(direction, part)
        else:
            wire.send(direction, part)
    wire.connection.finish()
    assert wire.budget.used == 0
