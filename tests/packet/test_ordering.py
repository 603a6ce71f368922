"""Segments to streams: order, causality, and gaps on evidence only."""

from itertools import permutations
from typing import Any

import pytest

from mirror_audit.packet import ordering
from tests.packet.wire import GRACE, START, Seg, Wire, client, server

MS = 1000
HOLE = 5_000_000

# A request in two segments, the reply in two, the next request; each says what its sender had seen.
TALK = [
    client(0, b"ask"),
    client(3, b"ing"),
    server(0, b"ans", ack=6),
    server(3, b"wer", ack=6),
    client(6, b"more", ack=6),
]
TALK_STORY = ["C asking", "S answer", "C more"]


def story(*segments: Seg) -> list[str]:
    wire = Wire()
    wire.send(*segments)
    return wire.story()


# --- order ---


@pytest.mark.parametrize("order", list(permutations(range(len(TALK)))))
def test_every_order_of_a_talk_tells_the_same(order: tuple[int, ...]) -> None:
    wire = Wire()
    wire.send(*(TALK[index] for index in order))
    assert wire.story() == TALK_STORY
    assert wire.held() == (0, 0)
    assert wire.count("gaps") == 0


@pytest.mark.parametrize(
    ("segments", "expected"),
    [
        # sent again: as it was, cut in other places, with bytes before and behind
        ([client(0, b"abc"), client(0, b"abc")], ["C abc"]),
        ([client(0, b"abc"), client(0, b"ab"), client(2, b"cde")], ["C abcde"]),
        ([client(0, b"abc"), client(0, b"abcdef")], ["C abcdef"]),
        ([client(0, b"abc"), client(6, b"ghi"), client(2, b"cdefgh")], ["C abcdefghi"]),
        # what was told stays told
        ([client(0, b"abc"), client(0, b"XYZdef")], ["C abcdef"]),
        ([client(6, b"ghi"), client(3, b"defXXX"), client(0, b"abc")], ["C abcdefghi"]),
        # keep-alives: an old byte, or none
        ([client(0, b"abc"), client(2, b"\0"), client(2), client(3, b"def")], ["C abcdef"]),
        # a zero window probe carries the next byte, which comes again when the window opens
        ([client(0, b"abc"), client(3, b"d"), client(3, b"d"), client(3, b"defg")], ["C abcdefg"]),
        # one large segment, as segmentation offload makes them
        (
            [client(0, b"x" * 65483), server(0, b"y" * 65483, ack=65483)],
            ["C " + "x" * 65483, "S " + "y" * 65483],
        ),
    ],
)
def test_retransmissions_and_probes(segments: list[Seg], expected: list[str]) -> None:
    assert story(*segments) == expected
    twice = [copy for segment in segments for copy in (segment, segment)]
    assert story(*twice) == expected


def test_what_is_seen_again_is_counted_by_its_kind() -> None:
    wire = Wire()
    wire.send(client(0, b"abc"), client(0, b"abc"), client(2, b"?"), client(2), client(2, b"cd"))
    wire.send(client(9, b"jk"), client(8, b"iX"), client(8, b"ijk"))
    expected = {
        "retransmitted_segments": 1,
        "keep_alives": 2,
        "reordered_segments": 3,
        "overlapping_segments": 4,
        "differing_overlaps": 1,
        "payload_bytes": 3 + 3 + 1 + 2 + 2 + 2 + 3,
    }
    assert {name: wire.count(name) for name in expected} == expected


@pytest.mark.parametrize("before", [0, 1, 2, 3, 5, 8])
def test_sequence_numbers_wrap(before: int) -> None:
    isn: dict[str, Any] = {"isn": (1 << 32) - 1 - before, "peer_isn": (1 << 32) - 3}
    other: dict[str, Any] = {"isn": (1 << 32) - 3, "peer_isn": (1 << 32) - 1 - before}
    wire = Wire(opened=False)
    wire.send(
        client(-1, ack=None, flags=2, **isn),
        server(-1, flags=2, **other),
        client(0, b"abc", **isn),
        client(6, b"ghi", **isn),
        server(0, b"answer", ack=9, **other),
        client(3, b"def", **isn),
        client(9, b"jkl", ack=6, **isn),
    )
    assert wire.story() == ["C abcdefghi", "S answer", "C jkl"]


# --- gaps ---


def test_gap_needs_an_acknowledgement_and_the_grace() -> None:
    wire = Wire()
    wire.send(client(3, b"def", time=10), server(0, ack=6, time=20))
    # Not a microsecond before, whoever lets time pass.
    wire.send(client(6, b"ghi", time=20 + GRACE - 1))
    wire.advance(20 + GRACE - 1)
    assert wire.story() == []
    wire.advance(20 + 2 * GRACE)
    assert wire.story() == ["C -3 not_captured", "C defghi"]
    assert wire.count("bytes_lost") == 3
    # It lies where it was noticed, not when: at the packet that showed it.
    assert wire.events()[0][5] == START + 10


def test_late_copy_in_time_is_no_loss() -> None:
    wire = Wire()
    wire.send(client(3, b"def"), server(0, b"answer", ack=6), client(0, b"abc", time=GRACE - 1))
    wire.advance(20 * GRACE)
    assert wire.story() == ["C abcdef", "S answer"]


def test_late_copy_after_the_gap_is_old() -> None:
    wire = Wire()
    wire.send(client(3, b"def"), server(0, ack=6))
    wire.advance(2 * GRACE)
    wire.send(client(0, b"abc"), client(6, b"ghi"))
    assert wire.story() == ["C -3 not_captured", "C defghi"]


def test_hole_that_nobody_acknowledged_waits_for_the_sender() -> None:
    wire = Wire()
    wire.send(server(0, ack=0), client(3, b"def", time=100))
    for time in range(100, 100 + HOLE, GRACE // 2):
        wire.advance(time)
        assert wire.story() == []
    wire.advance(100 + HOLE + GRACE)
    assert wire.story() == ["C -3 not_captured", "C def"]


def test_each_hole_has_its_own_grace() -> None:
    """A hole that was filled long ago does not shorten the wait for the next one."""
    wire = Wire()
    wire.send(server(0, ack=3, time=0), client(0, b"abc", time=1 * MS))
    wire.send(server(0, ack=6, time=GRACE - 1 * MS), client(6, b"ghi", time=GRACE + 1 * MS))
    wire.send(client(3, b"def", time=GRACE + 4 * MS))
    assert wire.story() == ["C abcdefghi"]


def test_acknowledgement_at_the_last_moment_begins_a_grace() -> None:
    wire = Wire()
    wire.send(client(3, b"def", time=0), server(0, ack=6, time=GRACE - 1), client(6, b"g", time=GRACE + 1))
    assert wire.story() == []
    wire.send(client(0, b"abc", time=GRACE + 5 * MS))
    assert wire.story() == ["C abcdefg"]


def test_holes_that_come_and_go_for_long_are_no_loss() -> None:
    wire = Wire()
    for number in range(200):
        time = number * GRACE // 4
        wire.send(
            client(number * 2 + 1, b"b", time=time), client(number * 2, b"a", time=time + GRACE // 4 - 1)
        )
    wire.advance(100 * GRACE)
    assert wire.story() == ["C " + "ab" * 200]


def test_all_that_was_acknowledged_is_given_up_together() -> None:
    wire = Wire()
    wire.send(*(client(number * 4 + 2, b"cd") for number in range(50)), server(0, ack=200))
    wire.advance(2 * GRACE + MS)
    assert wire.story() == ["C -2 not_captured", "C cd"] * 50


def test_no_gap_beyond_the_evidence() -> None:
    wire = Wire()
    wire.send(server(0, ack=4), client(6, b"gh"))
    wire.advance(2 * GRACE)
    assert wire.story() == ["C -4 not_captured"]
    wire.send(client(4, b"ef"))
    assert wire.story() == ["C -4 not_captured", "C efgh"]


def test_end_of_capture_is_the_end_of_waiting() -> None:
    wire = Wire()
    wire.send(client(3, b"def"), client(9, b"jkl"), server(0, ack=15))
    wire.close()
    assert wire.story() == [
        "C -3 not_captured",
        "C def",
        "C -3 not_captured",
        "C jkl",
        "C -3 not_captured",
        "closed capture_end",
    ]


def test_only_another_packet_can_end_a_grace() -> None:
    """Packet time of all connections counts, also of those that are none of ours."""
    wire = Wire()
    wire.send(client(3, b"def"), server(0, ack=6))
    wire.send(client(0, b"x", port=50000, time=2 * GRACE))
    assert wire.story() == ["C -3 not_captured", "C def"]


def test_no_grace() -> None:
    wire = Wire(reorder_grace_us=0)
    wire.send(client(3, b"def"), server(0, ack=6), client(6, b"ghi"))
    assert wire.story() == ["C -3 not_captured", "C defghi"]


@pytest.mark.parametrize(
    ("segments", "expected"),
    [
        # the tail was never captured: a gap right there, no waiting
        ([client(0, b"abcdef", cut=2), client(6, b"ghi")], ["C ab", "C -4 truncated", "C ghi"]),
        ([client(0, b"abcdef", cut=0), client(6, b"ghi")], ["C -6 truncated", "C ghi"]),
        # also of one that waited
        ([client(3, b"def", cut=1), client(0, b"abc")], ["C abcd", "C -2 truncated"]),
        (
            [client(3, b"def", cut=1), client(6, b"ghi"), client(0, b"abc")],
            ["C abcd", "C -2 truncated", "C ghi"],
        ),
        # a whole copy came in time
        ([client(3, b"def", cut=1), client(3, b"def"), client(0, b"abc")], ["C abcdef"]),
        # only the rest of a cut copy is new
        ([client(0, b"abc"), client(0, b"abcdef", cut=4)], ["C abcd", "C -2 truncated"]),
        ([client(0, b"abc"), client(0, b"abcdef", cut=2)], ["C abc", "C -3 truncated"]),
        # causality holds across it
        ([server(0, b"no", ack=6), client(0, b"abcdef", cut=2)], ["C ab", "C -4 truncated", "S no"]),
    ],
)
def test_truncated_packets(segments: list[Seg], expected: list[str]) -> None:
    assert story(*segments) == expected


# --- limits ---


def test_too_many_segments_end_the_wait() -> None:
    wire = Wire(max_held_segments=4)
    wire.send(*(client(2 + number * 2, b"ab") for number in range(4)))
    assert (wire.story(), wire.held()) == ([], (4, 8))
    wire.send(client(20, b"yz"))
    assert wire.story() == ["C -2 limit", "C abababab"]
    assert wire.held() == (1, 2)
    assert wire.count("held_limit_hits") == 1


def test_too_many_bytes_end_the_wait() -> None:
    wire = Wire(max_held_bytes=1000)
    wire.send(client(10, b"a" * 500), client(510, b"b" * 500))
    assert wire.story() == []
    wire.send(client(1020, b"c"))
    assert wire.story() == ["C -10 limit", "C " + "a" * 500 + "b" * 500]


def test_all_connections_together_have_a_limit() -> None:
    total = ordering.MAX_HELD_TOTAL
    size = 60_000
    wire = Wire(opened=False, max_held_bytes=1 << 20)
    wire.send(*(client(-1, ack=None, flags=2, port=port) for port in range(1, 500)))
    wire.table.held_total = total - 5 * size  # as if others held that much
    for port in range(1, 500):
        wire.send(client(1, b"x" * size, port=port))
        assert wire.table.held_total <= total
    assert wire.held() == (5, 5 * size)
    assert wire.count("held_limit_hits") == 494
    wire.close()
    assert wire.table.held_total == total - 5 * size


def test_flood_of_tiny_segments_is_bounded() -> None:
    wire = Wire(max_held_segments=64)
    most = 0
    for number in range(5_000):
        wire.send(client(number * 2 + 1, b"x"))
        most = max(most, wire.held()[0])
    assert most <= 64
    assert wire.count("held_limit_hits") == 5_000 - 64
    assert len(wire.table.timers) - wire.table.timers_first <= 2


def test_many_tiny_gaps_are_linear() -> None:
    """Work is counted in calls to the listener and in entries of the timer list, both one for each gap."""
    wire = Wire(max_held_segments=1 << 20, max_held_bytes=1 << 30)
    count = 20_000
    wire.send(*(client(number * 2 + 1, b"x") for number in reversed(range(count))))
    assert wire.held() == (count, count)
    wire.send(server(0, ack=2 * count))
    wire.advance(3 * GRACE)
    assert wire.count("gaps") == count
    assert len(wire.events()) == 2 * count
    assert wire.held() == (0, 0)
    assert wire.table.held_total == 0


def test_one_segment_over_many_held_ones_stays_in_bounds() -> None:
    wire = Wire(max_held_segments=100)
    wire.send(*(client(10 + number * 2, b"x") for number in range(100)))
    wire.send(client(9, b"y" * 300))
    assert wire.held()[0] <= 101
    wire.send(client(0, b"z" * 9))
    assert wire.held() == (0, 0)
    assert wire.story()[-1].startswith("C ")
