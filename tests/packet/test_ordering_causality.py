"""What reordering, loss and a missing direction do to causality, to turns and to the end of a connection."""

from itertools import permutations

import pytest

from tests.packet.wire import GRACE, RST, START, Seg, Wire, client, merged, server, told

MS = 1000


def story(*segments: Seg) -> list[str]:
    wire = Wire()
    wire.send(*segments)
    return wire.story()


@pytest.mark.parametrize(
    ("segments", "expected"),
    [
        ([server(0, b"reply", ack=3), client(0, b"ask")], ["C ask", "S reply"]),
        # a chain the wrong way round
        (
            [server(2, b"4", ack=2), client(1, b"3", ack=2), server(0, b"22", ack=1), client(0, b"1")],
            ["C 1", "S 22", "C 3", "S 4"],
        ),
        # what its sender had not seen yet goes first, even if it comes later
        (
            [client(0, b"ask"), server(0, b"notice", ack=0), server(6, b"reply", ack=3)],
            ["C ask", "S noticereply"],
        ),
    ],
)
def test_reply_waits_for_its_request(segments: list[Seg], expected: list[str]) -> None:
    assert story(*segments) == expected


def test_reply_waits_only_for_what_it_answers() -> None:
    wire = Wire()
    wire.send(client(4, b"late"), server(0, b"reply", ack=2), client(0, b"ab"))
    assert wire.story() == ["C ab", "S reply"]


def test_gap_of_requests_stops_where_the_reply_was() -> None:
    """Two requests lost, two replies seen: each reply comes after what it answers."""
    wire = Wire()
    wire.send(server(0, b"one", ack=10), server(3, b"two", ack=30))
    wire.advance(GRACE + MS)
    assert wire.story() == ["C -10 not_captured", "S one"]
    wire.advance(2 * GRACE + 2 * MS)  # the evidence of the second is younger
    assert wire.story() == ["C -10 not_captured", "S one", "C -20 not_captured", "S two"]


def test_forged_acknowledgements_that_wait_for_each_other_do_not_hang() -> None:
    wire = Wire()
    wire.send(client(0, b"abc", ack=100), server(0, b"xyz", ack=100))
    for _ in range(20):
        wire.advance(wire.now + GRACE)
    assert wire.held() == (0, 0)
    kinds = [line for line in wire.story() if "-" not in line]
    assert sorted(kinds) == ["C abc", "S xyz"]


def test_forged_acknowledgements_do_not_hang_the_end_either() -> None:
    wire = Wire()
    for number in range(300):
        wire.send(
            client(number * 2, b"ab", ack=number * 2 + 50), server(number * 2, b"xy", ack=number * 2 + 50)
        )
    wire.close()
    assert sum(line.count("ab") for line in wire.story()) == 300
    assert sum(line.count("xy") for line in wire.story()) == 300
    assert wire.story()[-1] == "closed capture_end"


def test_acknowledgement_beyond_all_reason_is_not_believed() -> None:
    wire = Wire()
    wire.send(client(0, b"abc", ack=(1 << 30) + 1), client(0, b"abc"))
    wire.advance(2 * GRACE)
    assert wire.story() == ["C abc"]
    assert wire.count("dropped_malformed") == 1


# --- one direction only ---


def test_client_only() -> None:
    wire = Wire(opened=False)
    wire.send(client(-1, ack=None, flags=2), client(0), client(0, b"one"))
    wire.send(client(3, ack=10), client(3, b"two", ack=10), client(6, b"three", ack=40))
    wire.advance(2 * GRACE)
    # Once nothing of the server was seen in all that time there is nothing to wait for.
    wire.send(client(11, b"four", ack=60), client(15, b"five", ack=70))
    assert wire.story() == [
        "C one",
        "S -10 one_sided",
        "C two",
        "S -30 one_sided",
        "C three",
        "S -20 one_sided",
        "C four",
        "S -10 one_sided",
        "C five",
    ]
    wire.send(client(19, flags=1, ack=70))
    wire.advance(wire.now + GRACE)
    assert wire.story()[-1] == "closed client"


def test_client_only_out_of_order() -> None:
    wire = Wire(opened=False)
    wire.send(client(-1, ack=None, flags=2), client(0, b"a", ack=0), client(1, b"b", ack=10))
    wire.advance(2 * GRACE)
    wire.send(client(3, b"d", ack=30), client(4, ack=30), client(2, b"c", ack=20))
    expected = ["C a", "S -10 one_sided", "C b", "S -10 one_sided", "C c", "S -10 one_sided", "C d"]
    assert wire.story() == expected


def test_server_only() -> None:
    wire = Wire(opened=False)
    wire.send(server(-1, flags=2), server(0, b"hello", ack=20), server(5, b"again", ack=50))
    wire.advance(2 * GRACE)
    wire.send(server(10, b"end", ack=50), server(13, flags=1, ack=50))
    wire.advance(wire.now + GRACE)
    assert wire.story() == [
        "C -20 one_sided",
        "S hello",
        "C -30 one_sided",
        "S againend",
        "closed server",
    ]


def test_hole_of_the_only_direction() -> None:
    """Nobody can acknowledge what is missing: the reorder grace must do."""
    wire = Wire(opened=False)
    wire.send(client(-1, ack=None, flags=2), client(0, b"ab"), client(6, b"gh"))
    wire.advance(GRACE + 10)
    assert wire.story() == ["C ab", "C -4 not_captured", "C gh"]


def test_other_direction_that_appears_is_waited_for_again() -> None:
    wire = Wire(opened=False)
    wire.send(client(-1, ack=None, flags=2), client(0, b"a", ack=0), client(1, b"b", ack=10))
    wire.advance(2 * GRACE)
    wire.send(server(10, b"yes", ack=2), client(2, b"c", ack=16), server(13, b"..."))
    assert wire.story() == ["C a", "S -10 one_sided", "C b", "S yes...", "C c"]


# --- where a turn can begin ---


def boundaries(wire: Wire) -> list[str]:
    names = ["none", "turn", "quiet"]
    return [f"{'CS'[e[1]]} {e[3].decode()} {names[e[4]]}" for e in wire.events() if e[0] == "data"]


def test_boundaries_of_a_talk() -> None:
    wire = Wire()
    wire.send(client(0, b"q1", time=10), server(0, b"r1", ack=2, time=20))
    wire.send(client(2, b"q2", ack=2, time=30), client(4, b"q3", ack=2, time=40))
    wire.send(server(2, b"r2", ack=6, time=50), server(4, b"r3", ack=6, time=60))
    wire.send(client(6, b"q4", ack=6, time=60 + GRACE), server(6, b"r4", ack=8, time=70 + 3 * GRACE))
    wire.send(client(8, b"q5", ack=8, time=80 + 4 * GRACE - 11))
    assert boundaries(wire) == [
        "C q1 none",  # nobody has spoken before
        "S r1 none",
        "C q2 turn",
        "C q3 none",  # goes on
        "S r2 turn",  # the first answer to q2's turn
        "S r3 none",
        "C q4 quiet",
        "S r4 quiet",
        "C q5 turn",
    ]


@pytest.mark.parametrize(
    ("segments", "expected"),
    [
        # the server has not acknowledged what came before
        ([client(0, b"a"), server(0, b"x", ack=0), client(1, b"b", ack=1)], "C b none"),
        # the client has not seen all of the answer
        ([client(0, b"a"), server(0, b"xyz", ack=1), client(1, b"b", ack=2)], "C b none"),
        # in the middle of what the client says, an ACK between
        ([client(0, b"a"), server(0, ack=1), client(1, b"b")], "C b none"),
        # both
        ([client(0, b"a"), server(0, b"xyz", ack=1), client(1, b"b", ack=3)], "C b turn"),
        # sent again: the bytes may have been cut in another place
        ([client(0, b"a"), server(0, b"x", ack=1), client(0, b"ab", ack=1)], "C b none"),
    ],
)
def test_boundary_needs_all_acknowledged(segments: list[Seg], expected: str) -> None:
    wire = Wire()
    wire.send(*segments)
    assert boundaries(wire)[-1] == expected


def test_boundary_after_a_loss() -> None:
    wire = Wire()
    wire.send(client(0, b"a"), server(0, b"x", ack=1))
    # A request is lost, its answer is seen; then a request, and its answer.
    wire.send(server(1, b"y", ack=9), client(9, b"b", ack=2), server(2, b"z", ack=10))
    wire.advance(2 * GRACE + MS)
    assert boundaries(wire) == ["C a none", "S x none", "S y none", "C b turn", "S z turn"]
    # The rest of a request whose beginning was lost is no turn, nor is the rest of an answer.
    wire.send(client(15, b"c", ack=3), server(3, b"!", ack=16))
    wire.advance(wire.now + 2 * GRACE + MS)
    assert boundaries(wire)[5:] == ["C c none", "S ! none"]


def test_mid_stream_begins_nowhere() -> None:
    wire = Wire(opened=False)
    wire.send(client(0, b"half", ack=0), server(0, b"x", ack=4), client(4, b"next", ack=1))
    assert boundaries(wire) == ["C half none", "S x none", "C next turn"]


# --- the end, and what looks like it ---


def test_lost_fin_is_no_lost_byte() -> None:
    wire = Wire()
    wire.send(client(0, b"bye"), server(0, ack=4), server(0, flags=1, ack=4))
    wire.advance(2 * GRACE + MS)
    assert wire.story() == ["C bye", "closed server"]
    assert wire.count("bytes_lost") == 0


def test_one_lost_byte_that_is_no_fin() -> None:
    """The server's single byte that refuses TLS: the startup that answers to it shows that it was one."""
    wire = Wire()
    wire.send(client(0, b"tls?"), client(4, b"startup", ack=1), server(1, b"ok", ack=11))
    wire.advance(2 * GRACE + MS)
    assert wire.story() == ["C tls?", "S -1 not_captured", "C startup", "S ok"]


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_half_closed_in_any_order(order: tuple[int, ...]) -> None:
    """The server goes on after the client's FIN, and acknowledges it as if it were a byte."""
    segments = [client(3, flags=1), server(0, b"still ", ack=4), server(6, b"here", ack=4)]
    wire = Wire()
    wire.send(client(0, b"bye"), *(segments[index] for index in order))
    wire.send(server(10, flags=1, ack=4), client(4, ack=11))
    assert wire.story() == ["C bye", "S still here", "closed client"]


def test_reset_gives_late_packets_their_grace() -> None:
    wire = Wire()
    wire.send(client(3, flags=RST, time=10), client(0, b"abc", time=20), client(0, b"abc", time=30))
    assert wire.story() == ["C abc"]
    wire.advance(10 + 2 * GRACE)
    assert wire.story() == ["C abc", "closed reset"]
    assert wire.events()[-1][2] == START + 10


def test_merged_lines() -> None:
    """The helper itself: gaps of one cause and data of one direction are one line."""
    events = [("gap", 0, 0, 2, 0, 1), ("gap", 0, 2, 1, 0, 2), ("data", 0, 3, b"a", 0, 3), ("closed", 2, 4)]
    assert told(merged(events)) == ["C -3 not_captured", "C a", "closed reset"]
