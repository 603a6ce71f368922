"""What waits behind a hole: sorted, without overlaps, the first copy of each byte."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror_audit.counters import Counters
from mirror_audit.packet.reassembly import COMPACT_AT, HalfStream

Piece = tuple[int, bytes]


def holding(half: HalfStream) -> list[Piece]:
    return [(item.offset, bytes(item.data)) for item in half.held[half.first :]]


class Half:
    """A half stream and its counters."""

    def __init__(self) -> None:
        self.counters = Counters()
        self.half = HalfStream()

    def hold(self, offset: int, data: bytes, claimed: int | None = None, boundary: int = 0) -> None:
        end = offset + (len(data) if claimed is None else claimed)
        self.half.hold(b"[" + data + b"]", 1, 1 + len(data), offset, end, 0, 7, boundary, self.counters)

    def overlaps(self) -> tuple[int, int]:
        return self.counters.overlapping_segments, self.counters.differing_overlaps


@pytest.mark.parametrize(
    ("pieces", "expected", "overlaps"),
    [
        ([(5, b"ab"), (9, b"cd")], [(5, b"ab"), (9, b"cd")], (0, 0)),
        ([(9, b"cd"), (5, b"ab")], [(5, b"ab"), (9, b"cd")], (0, 0)),
        ([(5, b"ab"), (7, b"cd")], [(5, b"ab"), (7, b"cd")], (0, 0)),
        # the same again, and a part of it
        ([(5, b"abcd"), (5, b"abcd")], [(5, b"abcd")], (1, 0)),
        ([(5, b"abcd"), (6, b"bc")], [(5, b"abcd")], (1, 0)),
        # longer at the end, at the beginning, at both
        ([(5, b"abcd"), (7, b"cdEF")], [(5, b"abcd"), (9, b"EF")], (1, 0)),
        ([(5, b"abcd"), (3, b"XYab")], [(3, b"XY"), (5, b"abcd")], (1, 0)),
        ([(5, b"abcd"), (3, b"XYabcdEF")], [(3, b"XY"), (5, b"abcd"), (9, b"EF")], (1, 0)),
        # across several, with holes between them
        (
            [(5, b"bb"), (9, b"dd"), (3, b"aabbccddee")],
            [(3, b"aa"), (5, b"bb"), (7, b"cc"), (9, b"dd"), (11, b"ee")],
            (2, 0),
        ),
        # other bytes: the first copy stays, the overlap is counted as a lie
        ([(5, b"abcd"), (5, b"abXd")], [(5, b"abcd")], (1, 1)),
        ([(5, b"abcd"), (7, b"XXEF")], [(5, b"abcd"), (9, b"EF")], (1, 1)),
        ([(5, b"abcd"), (3, b"..XXXX")], [(3, b".."), (5, b"abcd")], (1, 1)),
        ([(5, b"bb"), (9, b"dd"), (5, b"bbccXX")], [(5, b"bb"), (7, b"cc"), (9, b"dd")], (2, 1)),
    ],
)
def test_hold(pieces: list[Piece], expected: list[Piece], overlaps: tuple[int, int]) -> None:
    half = Half()
    for offset, data in pieces:
        half.hold(offset, data)
    assert holding(half.half) == expected
    assert half.overlaps() == overlaps
    assert half.half.held_bytes == sum(len(data) for _, data in expected)


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        # (offset, captured bytes, claimed length) -> (offset, captured, claimed end)
        ([(5, b"ab", 10)], [(5, b"ab", 15)]),
        ([(5, b"", 10)], [(5, b"", 15)]),
        # the retransmission was captured whole
        ([(5, b"ab", 4), (5, b"abcd", 4)], [(5, b"ab", 9), (7, b"cd", 9)]),
        ([(5, b"", 4), (5, b"abcd", 4)], [(5, b"", 9), (5, b"abcd", 9)]),
        ([(5, b"", 4), (3, b"XYabcd", 6)], [(3, b"XY", 5), (5, b"", 9), (5, b"abcd", 9)]),
        # the other way round: nothing new
        ([(5, b"abcd", 4), (5, b"", 4)], [(5, b"abcd", 9)]),
        ([(5, b"abcd", 4), (6, b"b", 3)], [(5, b"abcd", 9)]),
        ([(5, b"abcd", 4), (7, b"c", 6)], [(5, b"abcd", 9), (9, b"", 13)]),
        # a cut tail claims no byte that is there
        ([(9, b"ef", 2), (5, b"a", 6)], [(5, b"a", 9), (9, b"ef", 11)]),
    ],
)
def test_cut_tails(pieces: list[tuple[int, bytes, int]], expected: list[tuple[int, bytes, int]]) -> None:
    half = Half()
    for offset, data, claimed in pieces:
        half.hold(offset, data, claimed)
    assert [(i.offset, bytes(i.data), i.claimed_end) for i in half.half.held[half.half.first :]] == expected


def test_only_the_beginning_of_a_segment_keeps_its_boundary() -> None:
    half = Half()
    half.hold(5, b"bb")
    half.hold(3, b"aabbcc", boundary=1)
    half.hold(8, b"cdd", boundary=1)
    assert [item.boundary for item in half.half.held] == [1, 0, 0, 0]


def test_highest_is_what_is_claimed() -> None:
    half = Half()
    half.hold(5, b"ab", 100)
    assert half.half.highest == 105
    half.half.advance(3)
    assert half.half.highest == 105
    half.half.advance(200)
    assert (half.half.next, half.half.highest) == (203, 203)


def test_sequence_number_of_the_next_byte_wraps() -> None:
    half = HalfStream()
    half.set_base(0xFFFFFFFF + 5)
    assert half.base == 4
    half.set_base(0xFFFFFFF0)
    half.advance(0x20)
    assert (half.next, half.next_sequence) == (0x20, 0x10)


def test_popping_is_linear_and_gives_the_order() -> None:
    half = Half()
    count = 40 * COMPACT_AT
    for number in reversed(range(count)):
        half.hold(number * 2, b"%c" % (number % 251))
    moved = 0
    for number in range(count):
        before = half.half.held
        assert half.half.head().offset == number * 2
        assert half.half.holding() == count - number
        item = half.half.pop()
        assert (item.offset, item.data) == (number * 2, b"%c" % (number % 251))
        if half.half.held is not before:
            moved += len(half.half.held)
    # Entries that were copied because the list was made shorter: at most about one for each that left.
    assert moved <= 2 * count
    assert (half.half.holding(), half.half.held_bytes, half.half.held) == (0, 0, [])


@pytest.mark.parametrize(
    ("advanced", "held", "fin", "accepted"),
    [
        (10, None, 10, 10),
        (10, None, 25, 25),
        (10, None, 9, 10),  # its sequence number had been taken for a lost byte
        (10, None, 8, None),
        (10, (20, b"abc"), 23, 23),
        (10, (20, b"abc"), 22, None),
    ],
)
def test_end(advanced: int, held: Piece | None, fin: int, accepted: int | None) -> None:
    half = Half()
    half.half.advance(advanced)
    if held:
        half.hold(*held)
    assert half.half.end_at(fin) == (accepted is not None)
    assert half.half.fin == (-1 if accepted is None else accepted)


def test_end_is_no_byte() -> None:
    half = HalfStream()
    half.advance(10)
    half.acknowledged = half.proof_end = half.highest = 11
    assert half.end_at(10)
    assert (half.acknowledged, half.proof_end, half.highest) == (10, 10, 10)
    # A copy of it changes nothing, one that comes before it does: that one cannot be later forged.
    assert not half.end_at(10)
    assert not half.end_at(400)
    assert half.fin == 10


@given(
    st.lists(
        st.tuples(st.integers(0, 60), st.binary(min_size=1, max_size=20)),
        max_size=30,
    )
)
def test_first_copy_of_each_byte_stays(pieces: list[Piece]) -> None:
    half = Half()
    model: dict[int, int] = {}
    lies = 0
    for offset, data in pieces:
        before = half.overlaps()
        half.hold(offset, data)
        lied = False
        for at, byte in enumerate(data, offset):
            lied |= model.setdefault(at, byte) != byte
        lies += lied
        assert (half.overlaps()[1] > before[1]) == lied
    seen = {at: byte for offset, data in holding(half.half) for at, byte in enumerate(data, offset)}
    assert seen == model
    assert half.half.held_bytes == len(model)
    starts = [offset for offset, _ in holding(half.half)]
    assert starts == sorted(starts)
    assert (half.overlaps()[1] > 0) == (lies > 0)


@given(
    st.lists(
        st.tuples(st.integers(0, 40), st.binary(max_size=10), st.integers(0, 10)),
        max_size=30,
    )
)
def test_cut_tails_never_hide_bytes(pieces: list[tuple[int, bytes, int]]) -> None:
    half = Half()
    model: dict[int, int] = {}
    for offset, data, more in pieces:
        half.hold(offset, data, len(data) + more)
        for at, byte in enumerate(data, offset):
            model.setdefault(at, byte)
    items = half.half.held[half.half.first :]
    assert {at: byte for i in items for at, byte in enumerate(bytes(i.data), i.offset)} == model
    assert [i.offset for i in items] == sorted(i.offset for i in items)
    assert len(items) <= 3 * len(pieces) + 1
