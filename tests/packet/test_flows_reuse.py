"""The same addresses and ports again: late copies, another connection, or what wants to look so."""

from typing import Any

import pytest

from mirror_audit.packet import flows
from tests.packet.wire import (
    CLIENT_ISN,
    GRACE,
    RST,
    SERVER_ISN,
    START,
    SYN,
    Wire,
    client,
    conversation,
    server,
)

SECOND = 1_000_000
# Of another connection: for its client and its server.
NEW: dict[str, Any] = {"isn": 1_600_000_000, "peer_isn": 1_700_000_000}
NEW_SERVER: dict[str, Any] = {"isn": 1_700_000_000, "peer_isn": 1_600_000_000}


def test_late_copies_start_nothing() -> None:
    wire = Wire(opened=False)
    wire.send(*conversation(), *conversation(), *conversation())
    wire.send(*(seg.at(30 * SECOND) for seg in conversation()))
    assert wire.stories() == [["C ask", "S reply", "closed client"]]
    assert wire.count("dropped_after_close") == 2 * 3


def test_tombstone_is_forgotten_though_packets_keep_coming() -> None:
    """A connection whose beginning was lost must not be taken for copies of its predecessor for ever."""
    wire = Wire(opened=False)
    wire.send(*conversation())
    for second in range(1, 70):
        # Its sequence numbers happen to lie where copies would.
        wire.send(client(-1000 + second, b"x", ack=-5000, time=second * SECOND))
    assert len(wire.factory.recorders) == 2
    assert wire.factory.recorders[1].flow.mid_stream
    assert wire.factory.recorders[1].flow.start_time - START == pytest.approx(60 * SECOND, abs=2 * SECOND)


@pytest.mark.parametrize("end", ["fin", "reset", "lost"])
@pytest.mark.parametrize("lost", [(), (0,), (1,), (2,), (0, 1), (0, 1, 2)])
def test_port_used_again(end: str, lost: tuple[int, ...]) -> None:
    """By a connection whose handshake may be lost, after one whose end may be."""
    wire = Wire(opened=False)
    old = conversation()
    wire.send(*{"fin": old, "reset": [*old[:5], client(3, flags=RST)], "lost": old[:5]}[end])
    wire.advance(2 * SECOND)
    new = [seg for index, seg in enumerate(conversation(**NEW)) if index not in lost]
    more = [server(5 + at, b"%d" % at, ack=3, **NEW_SERVER) for at in range(8)]
    wire.send(*new[:-3], *more, client(3, b"end", ack=13, **NEW))
    first = {"fin": "closed client", "reset": "closed reset", "lost": "closed replaced"}[end]
    told = wire.stories()
    assert told[0] == ["C ask", "S reply", first]
    assert len(told) == 2
    if end != "lost" or 1 not in lost:
        assert told[1] == ["C ask", "S reply01234567", "C end"]
    else:
        # Without an end and without the server's SYN it is the server's next bytes that tell.
        assert told[1][0] in ("S reply01234567", "S 01234567", "S 1234567", "S 234567", "S 34567", "S 4567")
        assert told[1][1:] == ["C end"]
    if not lost:
        began = wire.factory.recorders[1].flow.start_time
        assert began == START + 2 * SECOND + 1, "it begins with its SYN, not when it is believed"


def test_answer_to_a_syn_is_known_by_what_it_acknowledges() -> None:
    """The clock of Linux's sequence numbers moves on 16 million a second: far, but not too far for a loss."""
    near: dict[str, Any] = {"isn": 77_000_000, "peer_isn": 99_000_000}
    near_server: dict[str, Any] = {"isn": 99_000_000, "peer_isn": 77_000_000}
    wire = Wire()
    wire.send(client(0, b"old"), server(0, b"told", ack=3))
    wire.send(client(-1, ack=None, flags=SYN, **near), client(0, b"new", **near))
    wire.send(server(0, b"reply", ack=3, **near_server), client(3, b"more", ack=5, **near))
    assert wire.stories() == [["C old", "S told", "closed replaced"], ["S reply", "C more"]]


def test_same_port_within_the_grace_of_a_reset() -> None:
    wire = Wire(opened=False)
    wire.send(*conversation()[:5], client(3, flags=RST), *conversation(**NEW))
    assert wire.stories() == [
        ["C ask", "S reply", "closed reset"],
        ["C ask", "S reply", "closed client"],
    ]


def test_syn_of_the_client_alone_replaces_nothing() -> None:
    """Somebody on the client's side sends it to blind the observer; the server does not heed it."""
    wire = Wire()
    wire.send(client(0, b"a"), server(0, b"x", ack=1))
    wire.send(client(-1, ack=None, flags=SYN, isn=500_000_000), client(1, b"b", ack=1))
    wire.send(server(-1, flags=16), server(1, b"y", ack=2))
    assert wire.stories() == [["C a", "S x", "C b", "S y"]]


def test_syn_is_believed_where_no_server_is_seen() -> None:
    wire = Wire(opened=False)
    wire.send(client(-1, ack=None, flags=SYN), client(0, b"one"))
    wire.send(client(-1, ack=None, flags=SYN, **NEW), client(0, b"two", **NEW))
    assert wire.stories() == [["C one", "closed replaced"], ["C two"]]


def test_segments_of_the_client_that_fit_nowhere_replace_nothing() -> None:
    wire = Wire()
    wire.send(client(0, b"a"), server(0, b"x", ack=1))
    wire.send(*(client(0, b"noise", isn=CLIENT_ISN + (1 << 31)) for _ in range(50)))
    wire.send(*(client(1, b"noise", ack=1 << 31) for _ in range(50)))
    wire.send(client(1, b"b", ack=1), server(1, b"y", ack=2))
    assert wire.stories() == [["C a", "S x", "C b", "S y"]]
    assert wire.count("dropped_malformed") == 100


def test_single_segments_of_the_server_that_fit_nowhere_replace_nothing() -> None:
    wire = Wire()
    for at in range(20):
        wire.send(*(server(0, b"noise", isn=SERVER_ISN + (1 << 31)) for _ in range(flows.MAX_STRAYS - 1)))
        wire.send(server(at, b"x"))
    assert wire.stories() == [["S " + "x" * 20]]


def test_blinded_by_a_forged_connection_the_observer_recovers() -> None:
    """A reset and a SYN that the server does not heed: its next segments show where the stream really is."""
    wire = Wire()
    wire.send(client(0, b"a"), server(0, b"x", ack=1), client(1, flags=RST))
    wire.advance(wire.now + 2 * GRACE)
    wire.send(client(-1, ack=None, flags=SYN, isn=CLIENT_ISN + (1 << 31)))
    for at in range(1, 9):
        wire.send(client(at, b"b", ack=at), server(at, b"y", ack=at + 1))
    assert wire.stories()[0] == ["C a", "S x", "closed reset"]
    assert wire.stories()[1] == ["closed replaced"]
    assert wire.stories()[2] == ["C b", "S y"] * 5
