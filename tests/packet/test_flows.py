"""The life of connections: how they are found, opened, closed, replaced and forgotten."""

from itertools import permutations
from typing import Any

import pytest

from mirror_audit.packet import flows
from mirror_audit.packet.flow import Network
from tests.packet.wire import (
    FIN,
    GRACE,
    RST,
    START,
    SYN,
    Seg,
    Wire,
    client,
    conversation,
    handshake,
    server,
)

SECOND = 1_000_000
HOUR = 3600 * SECOND

# --- the beginning ---


@pytest.mark.parametrize(
    ("lost", "mid_stream"),
    [
        ((), False),
        ((0,), False),
        ((1,), False),
        ((2,), False),
        ((0, 2), False),
        ((0, 1), True),
        ((0, 1, 2), True),
    ],
)
def test_handshake_with_losses(lost: tuple[int, ...], mid_stream: bool) -> None:
    segments = [seg for index, seg in enumerate(conversation()) if index not in lost]
    wire = Wire(opened=False)
    wire.send(*segments)
    assert wire.stories() == [["C ask", "S reply", "closed client"]]
    assert wire.factory.recorders[0].flow.mid_stream == mid_stream


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_handshake_in_any_order(order: tuple[int, ...]) -> None:
    segments = conversation()
    wire = Wire(opened=False)
    wire.send(*(segments[index] for index in order), *segments[3:])
    assert wire.stories() == [["C ask", "S reply", "closed client"]]


def test_handshake_sent_again_is_the_same_connection() -> None:
    wire = Wire(opened=False)
    wire.send(*(copy for seg in conversation()[:3] for copy in (seg, seg)), *conversation()[:3])
    wire.send(*conversation()[3:])
    assert wire.stories() == [["C ask", "S reply", "closed client"]]


def test_answer_to_the_syn_may_come_late() -> None:
    """After an ACK of the server's first bytes: until then these were taken to begin behind them."""
    wire = Wire(opened=False)
    syn, syn_ack, ack = handshake()
    wire.send(syn, client(0, ack=5), syn_ack, server(0, b"hello"), ack, client(0, b"ask", ack=5))
    assert wire.stories() == [["S hello", "C ask"]]
    assert wire.count("gaps") == 0


def test_data_in_the_syn() -> None:
    wire = Wire(opened=False)
    wire.send(client(-1, b"fast", ack=None, flags=SYN), server(-1, ack=4, flags=SYN), client(4, b"er"))
    assert wire.story() == ["C faster"]


@pytest.mark.parametrize(
    ("segments", "expected"),
    [
        ([client(50, b"ask", ack=70), server(70, b"reply", ack=53)], ["C ask", "S reply"]),
        ([client(50, ack=70), client(50, b"ask", ack=70)], ["C ask"]),
        (
            [server(70, ack=50), client(50, b"ask", ack=70), server(70, b"reply", ack=53)],
            ["C ask", "S reply"],
        ),
        ([server(70, b"reply", ack=53), client(53, b"more", ack=75)], ["S reply", "C more"]),
        # a keep-alive without data, its answer, then data
        (
            [
                client(49, ack=70),
                server(70, ack=50),
                client(50, b"ask", ack=70),
                server(70, b"reply", ack=53),
            ],
            ["C ask", "S reply"],
        ),
        (
            [
                server(69, ack=50),
                client(50, ack=70),
                client(50, b"ask", ack=70),
                server(70, b"reply", ack=53),
            ],
            ["C ask", "S reply"],
        ),
        # a keep-alive with its old byte: it cannot be told from data
        ([client(49, b"?", ack=70), server(70, ack=50), client(50, b"ask", ack=70)], ["C ?ask"]),
        # keep-alives of both, again and again
        (
            [seg for _ in range(3) for seg in (client(49, ack=70), server(70, ack=50))]
            + [seg for _ in range(3) for seg in (server(69, ack=50), client(50, ack=70))]
            + [client(50, b"ask", ack=70)],
            ["C ask"],
        ),
    ],
)
def test_joined_in_the_middle(segments: list[Seg], expected: list[str]) -> None:
    wire = Wire(opened=False)
    wire.send(*segments)
    wire.advance(10 * GRACE)
    assert wire.story() == expected
    assert wire.factory.recorders[0].flow.mid_stream
    assert wire.count("gaps") == 0


def segment(wire: Wire, source: tuple[str, int], destination: tuple[str, int], flags: int) -> None:
    """An empty segment between any two ends (IPv4 addresses as hex)."""
    addresses = bytes.fromhex(source[0] + destination[0])
    ports = source[1].to_bytes(2, "big") + destination[1].to_bytes(2, "big")
    buf = addresses + ports + bytes(8) + bytes([0x50, flags]) + bytes(6)
    wire.now += 1
    wire.table.segment(wire.network, -1, buf, 0, False, 8, len(buf), len(buf), START + wire.now)


A, B = "0a000001", "0a000002"


@pytest.mark.parametrize(
    ("source", "destination", "flags", "options", "opened"),
    [
        # (client port, server port), None: not followed
        (40000, 5432, SYN, {}, (40000, 5432)),
        (5432, 40000, SYN | 16, {}, (40000, 5432)),
        (40000, 5432, 16, {}, (40000, 5432)),
        (5432, 40000, 16, {}, (40000, 5432)),
        (40000, 5433, SYN, {}, None),
        (40000, 5433, 16, {}, None),
        (40000, 6432, SYN, {"ports": (5432, 6432)}, (40000, 6432)),
        # both are ports of servers: the one that asks is the client
        (5432, 6432, SYN, {"ports": (5432, 6432)}, (5432, 6432)),
        (5432, 6432, SYN | 16, {"ports": (5432, 6432)}, (6432, 5432)),
        # any port, if the beginning is seen
        (40000, 7777, SYN, {"auto": True}, (40000, 7777)),
        (7777, 40000, SYN | 16, {"auto": True}, (40000, 7777)),
        (40000, 7777, 16, {"auto": True}, None),
        (40000, 5432, 16, {"auto": True}, (40000, 5432)),
        # a reset of what is not known is no beginning
        (40000, 5432, RST, {}, None),
        (40000, 5432, RST | 16, {}, None),
    ],
)
def test_who_is_the_server(
    source: int, destination: int, flags: int, options: dict[str, Any], opened: tuple[int, int] | None
) -> None:
    wire = Wire(opened=False, **options)
    segment(wire, (A, source), (B, destination), flags)
    found = [(r.flow.client_port, r.flow.server_port) for r in wire.factory.recorders]
    assert found == ([] if opened is None else [opened])
    if opened is None:
        reason = "dropped_after_close" if flags & RST else "dropped_other_port"
        assert wire.count(reason) == 1
    else:
        flow = wire.factory.recorders[0].flow
        addresses = (A, B) if opened == (source, destination) else (B, A)
        assert (flow.client_address.hex(), flow.server_address.hex()) == addresses
        assert flow.on_trial == ("auto" in options and 5432 not in (source, destination))


def test_networks_and_addresses_and_ports_are_told_apart() -> None:
    wire = Wire(opened=False)
    others = [((A, 1), (B, 5432)), ((A, 2), (B, 5432)), ((B, 1), (A, 5432)), ((A, 1), ("0a000003", 5432))]
    for network in (Network("one"), Network("two")):
        wire.network = network
        for source, destination in others:
            segment(wire, source, destination, SYN)
            segment(wire, destination, source, SYN | 16)
    assert len(wire.factory.recorders) == 8
    assert wire.table.count == 8


# --- the end ---


@pytest.mark.parametrize(
    ("segments", "expected"),
    [
        ([client(0, flags=FIN), server(0, ack=1, flags=FIN)], "closed client"),
        ([server(0, flags=FIN), client(0, ack=1, flags=FIN)], "closed server"),
        ([client(0, flags=FIN), server(0, flags=FIN)], "closed client"),  # both at once
        ([client(0, b"bye", flags=FIN), server(0, ack=4, flags=FIN)], "closed client"),
        ([client(0, b"bye"), client(0, b"bye", flags=FIN), server(0, ack=4, flags=FIN)], "closed client"),
        ([client(0, flags=FIN), client(0, flags=FIN), server(0, ack=1, flags=FIN)], "closed client"),
        ([server(0, ack=1, flags=FIN), client(0, flags=FIN)], "closed server"),
        ([client(0, flags=RST)], "closed reset"),
        ([server(0, flags=RST)], "closed reset"),
        ([client(0, flags=FIN), server(0, ack=1, flags=RST)], "closed reset"),
        ([client(0, flags=RST | FIN)], "closed reset"),
        ([client(5, flags=RST)], "closed reset"),  # some of what came before was lost
        ([client(0, ack=None, flags=RST)], "closed reset"),
    ],
)
def test_ends(segments: list[Seg], expected: str) -> None:
    wire = Wire()
    wire.send(*segments)
    wire.advance(wire.now + 2 * GRACE)
    assert wire.story()[-1] == expected
    last = [seg for seg in segments if seg.flags][-1]
    assert wire.events()[-1][2] == START + 3 + len(segments) - (0 if last is segments[-1] else 1)


def test_end_waits_for_what_comes_before_it() -> None:
    wire = Wire()
    wire.send(client(3, flags=FIN), server(0, ack=4, flags=FIN), client(4, ack=1))
    assert wire.story() == []
    wire.send(client(0, b"bye"))
    assert wire.story() == ["C bye", "closed client"]


def test_connection_refused() -> None:
    wire = Wire(opened=False)
    wire.send(client(-1, ack=None, flags=SYN), server(-1, flags=RST))
    wire.advance(wire.now + GRACE)
    assert wire.story() == ["closed reset"]


@pytest.mark.parametrize("offset", [-2, -1000, flows.RESET_WINDOW + 1, 1 << 30])
def test_reset_from_nowhere_is_not_believed(offset: int) -> None:
    wire = Wire()
    wire.send(client(0, b"a"), client(1 + offset, flags=RST), client(1, b"b"))
    wire.advance(10 * GRACE)
    assert wire.story() == ["C ab"]
    assert wire.count("dropped_bad_reset") == 1


def test_end_that_was_not_the_senders_own() -> None:
    """A forged FIN: the observer reads on, and sees the true end."""
    wire = Wire()
    wire.send(client(0, b"a"), client(1, flags=FIN), client(500, flags=FIN), client(1, b"b"))
    wire.send(server(0, b"x", ack=2), client(2, b"c", ack=1), client(3, ack=1, flags=FIN))
    wire.send(server(1, ack=4, flags=FIN))
    assert wire.story() == ["C ab", "S x", "C c", "closed client"]


def test_reset_that_was_not_heeded() -> None:
    """What goes on behind it is another session, joined in its middle."""
    wire = Wire()
    wire.send(client(0, b"a"), client(1, flags=RST))
    wire.advance(wire.now + 2 * GRACE)
    wire.send(server(0, b"x", ack=1), client(1, b"b", ack=1), server(1, b"y", ack=2))
    assert wire.stories() == [["C a", "closed reset"], ["S x", "C b", "S y"]]


def test_end_of_the_capture_closes_all() -> None:
    wire = Wire(opened=False)
    for port in (1, 2, 3):
        wire.send(client(0, b"x", port=port))
    wire.send(client(1, b"y", port=1))
    wire.close()
    assert wire.stories() == [["C xy", "closed capture_end"], *[["C x", "closed capture_end"]] * 2]
    assert (wire.table.count, wire.table.oldest, wire.table.newest, wire.network.halves) == (
        0,
        None,
        None,
        {},
    )
    # At the time of each one's last packet.
    assert [recorder.events[-1][2] - START for recorder in wire.factory.recorders] == [4, 2, 3]
    wire.send(client(0, b"again", port=1))
    assert wire.story(3) == ["C again"]


# --- bounds ---


def test_oldest_leaves_when_the_table_is_full() -> None:
    wire = Wire(opened=False, max_flows=3)
    for port in (1, 2, 3):
        wire.send(client(0, b"x", port=port))
    wire.send(client(1, b"y", port=1), client(0, b"x", port=4), client(0, b"x", port=5))
    ends = [story[-1] for story in wire.stories()]
    assert ends == ["C xy", "closed evicted", "closed evicted", "C x", "C x"]
    assert (wire.table.count, len(wire.network.halves)) == (3, 6)
    assert wire.count("flows_evicted") == 2
    wire.send(client(1, b"z", port=2))
    assert wire.story(5) == ["C z"]
    assert wire.story(0)[-1] == "closed evicted"


def test_closed_ones_leave_without_a_word() -> None:
    wire = Wire(opened=False, max_flows=2)
    for port in range(1, 20):
        first, second, *_ = handshake(port=port)
        wire.send(first, second, client(0, flags=FIN, port=port), server(0, ack=1, flags=FIN, port=port))
        assert wire.table.count <= 2
    assert wire.count("flows_evicted") == 0
    assert all(story == ["closed client"] for story in wire.stories())


def test_idle_connections_are_closed() -> None:
    wire = Wire(opened=False, idle_timeout_us=HOUR)
    wire.send(client(0, b"x", port=1), client(0, b"x", port=2))
    wire.send(client(1, b"y", port=2, time=HOUR))
    assert wire.stories() == [["C x"], ["C xy"]]
    wire.advance(HOUR + 2 * SECOND)
    assert wire.stories() == [["C x", "closed idle"], ["C xy"]]
    assert (wire.table.count, wire.count("flows_idle_timeout")) == (1, 1)
    wire.advance(3 * HOUR)
    assert wire.table.count == 0


def test_tick_comes_about_once_a_second_of_packet_time() -> None:
    wire = Wire()
    for time in range(0, 10 * SECOND, SECOND // 10):
        wire.send(client(0, time=time))
    wire.advance(100 * SECOND)
    ticks = wire.factory.ticks
    assert 10 <= len(ticks) <= 12
    assert ticks == sorted(ticks)
    assert ticks[-1] == START + 100 * SECOND


def test_where_time_stands_still_nothing_grows() -> None:
    wire = Wire(opened=False, max_flows=4)
    most_closed = most_timers = 0
    for number in range(3_000):
        port = 1 + number % 1000
        isn: dict[str, Any] = {"isn": number * 1000, "peer_isn": number * 1000}
        wire.send(
            client(-1, ack=None, flags=SYN, port=port, time=0, **isn),
            client(5, b"x", port=port, time=0, **isn),
            server(0, b"y", ack=9, port=port, time=0, **isn),
        )
        most_closed = max(most_closed, len(wire.table.closed_flows) - wire.table.closed_first)
        most_timers = max(most_timers, len(wire.table.timers) - wire.table.timers_first)
    assert wire.table.count == 4
    assert most_timers <= 4 * 4 + 1024 + 4
    assert most_closed <= flows.MAX_CLOSED + 1
    assert sum(recorder.over for recorder in wire.factory.recorders) == 3_000 - 4


def test_closed_connections_are_bounded_even_then() -> None:
    wire = Wire(opened=False, max_flows=1 << 20, reorder_grace_us=0)
    count = flows.MAX_CLOSED + 2_000
    for number in range(count):
        port, isn = 1 + number % 60_000, number // 60_000 * 10_000_000
        wire.send(
            client(-1, ack=None, flags=SYN, port=port, time=0, isn=isn),
            server(-1, flags=RST, port=port, time=0, peer_isn=isn),
        )
    assert all(recorder.over for recorder in wire.factory.recorders)
    assert len(wire.table.closed_flows) - wire.table.closed_first <= flows.MAX_CLOSED + 1


# --- clocks ---


def test_clock_set_back_ends_graces_no_later() -> None:
    wire = Wire()
    wire.send(client(3, b"def", time=10 * HOUR), server(0, ack=6, time=10 * HOUR))
    wire.send(client(6, b"g", time=HOUR), client(7, b"h", time=HOUR + GRACE))
    wire.send(client(8, b"i", time=HOUR + 2 * GRACE + 1))
    assert wire.count("clock_steps") == 1
    assert wire.story() == ["C -3 not_captured", "C defghi"]


def test_clock_set_back_with_a_hole_that_nobody_acknowledged() -> None:
    wire = Wire()
    wire.send(server(0, time=10 * HOUR), client(3, b"def", time=10 * HOUR), client(6, b"g", time=HOUR))
    wire.advance(HOUR + 2 * GRACE)
    assert wire.story() == ["C -3 not_captured", "C defg"]


def test_packets_a_little_out_of_time_are_no_clock_step() -> None:
    wire = Wire()
    wire.send(client(0, b"a", time=flows.CLOCK_STEP_US), client(1, b"b", time=0))
    wire.advance(1)
    assert wire.count("clock_steps") == 0
    assert wire.table.now == START + flows.CLOCK_STEP_US
    assert wire.story() == ["C ab"]


def test_clock_set_forward_is_a_long_silence() -> None:
    wire = Wire(idle_timeout_us=HOUR)
    wire.send(client(3, b"def"), server(0, ack=6), client(6, b"g", time=30 * SECOND))
    assert wire.story() == ["C -3 not_captured", "C defg"]
    wire.send(client(7, b"h", time=100 * HOUR))
    assert wire.stories() == [["C -3 not_captured", "C defg", "closed idle"], ["C h"]]


# --- the rest ---


@pytest.mark.parametrize(
    ("header", "captured", "claimed", "counted"),
    [
        (0x50, 19, 40, "dropped_malformed"),
        (0x40, 20, 40, "dropped_malformed"),
        (0x00, 20, 40, "dropped_malformed"),
        (0x60, 20, 23, "dropped_malformed"),
        (0x60, 20, 24, "tcp_segments"),  # the options were not captured
        (0x50, 20, 20, "tcp_segments"),
    ],
)
def test_header_lengths(header: int, captured: int, claimed: int, counted: str) -> None:
    wire = Wire(opened=False)
    buf = (
        bytes([10, 0, 0, 1, 10, 0, 0, 2]) + (40000).to_bytes(2, "big") + (5432).to_bytes(2, "big") + bytes(8)
    )
    buf = (buf + bytes([header, 16]) + bytes(20))[: 8 + captured]
    wire.table.segment(wire.network, -1, buf, 0, False, 8, 8 + captured, 8 + claimed, START)
    assert wire.count(counted) == 1
    assert wire.count("dropped_malformed") + wire.count("tcp_segments") == 1


def test_ignored_connections_are_not_told_and_leave_at_their_end() -> None:
    wire = Wire()
    wire.send(client(0, b"a"))
    wire.factory.recorders[0].flow.ignored = True
    wire.send(client(1, b"b"), server(0, b"x", ack=2), client(9, b"hole"))
    assert wire.story() == ["C a"]
    wire.send(
        client(2, flags=FIN),
        server(1, b"rest", ack=3),
        *conversation(isn=1_600_000_000, peer_isn=1_700_000_000),
    )
    assert wire.stories() == [["C a", "closed reset"], ["C ask", "S reply", "closed client"]]
    assert wire.count("dropped_after_close") == 0
