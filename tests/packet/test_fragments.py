"""IP fragments: any order, any copies, within bounds."""

from collections.abc import Sequence
from itertools import pairwise, permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror_audit.counters import Counters
from mirror_audit.packet.fragments import MAX_DATAGRAM, MAX_PARTS, MAX_RECEIVED, FragmentTable

Part = tuple[int, bytes, bool]  # offset, bytes, whether more follow
TIMEOUT = 30_000_000


class Parts:
    """A fragment table and the counters behind it."""

    def __init__(self, max_datagrams: int = 16) -> None:
        self.counters = Counters()
        self.table = FragmentTable(max_datagrams, TIMEOUT, self.counters)

    def add(self, *parts: Part, key: bytes = b"k", time: int = 0) -> list[bytes | None]:
        """Feed the parts from the middle of a buffer."""
        return [
            self.table.add(key, b"<<" + data + b">>", 2, 2 + len(data), offset, more, time)
            for offset, data, more in parts
        ]

    def held(self) -> int:
        return sum(len(part) for one in self.table.table.values() for part in one.parts)


ABC = [(0, b"aaaaaaaa", True), (8, b"bbbbbbbb", True), (16, b"cc", False)]
WHOLE = b"aaaaaaaabbbbbbbbcc"


@pytest.mark.parametrize("order", list(permutations(ABC)))
def test_complete_with_the_last_piece_in_any_order(order: Sequence[Part]) -> None:
    parts = Parts()
    assert parts.add(*order) == [None, None, WHOLE]
    assert parts.table.table == {}
    assert parts.counters.ip_fragments == 3


@pytest.mark.parametrize(
    ("fragments", "expected"),
    [
        # an exact copy of each
        ([ABC[0], ABC[0], ABC[1], ABC[1], ABC[2]], WHOLE),
        # the first copy wins, whichever lies lower
        ([(0, b"AAAAAAAA", True), (0, b"xxxxxxxx", True), (8, b"b", False)], b"AAAAAAAAb"),
        ([(8, b"BBBBBBBB", True), (0, b"x" * 16, True), (16, b"c", False)], b"x" * 8 + b"BBBBBBBBc"),
        ([(0, b"A" * 16, True), (8, b"y" * 16, True), (24, b"c", False)], b"A" * 16 + b"y" * 8 + b"c"),
        # the last piece first, and what reaches beyond it does not count
        ([(8, b"b", False), (0, b"x" * 24, True)], b"x" * 8 + b"b"),
        # empty pieces
        ([(0, b"", True), (0, b"aaaaaaaa", True), (8, b"", False)], b"aaaaaaaa"),
    ],
)
def test_overlaps(fragments: list[Part], expected: bytes) -> None:
    results = Parts().add(*fragments)
    assert results[-1] == expected
    assert results[:-1] == [None] * (len(fragments) - 1)


def test_hole_keeps_it_incomplete() -> None:
    parts = Parts()
    # As many bytes as the datagram has, but not the right ones.
    assert parts.add((16, b"c" * 8, False), (8, b"b" * 8, True), (8, b"b" * 8, True)) == [None] * 3
    assert parts.add((0, b"a" * 8, True)) == [b"a" * 8 + b"b" * 8 + b"c" * 8]


def test_datagrams_are_told_apart() -> None:
    parts = Parts()
    for key in (b"1", b"2"):
        assert parts.add(*ABC[:2], key=key) == [None, None]
    assert parts.add(ABC[2], key=b"2") == [WHOLE]
    assert list(parts.table.table) == [b"1"]


def test_full_table_gives_up_the_oldest() -> None:
    parts = Parts(max_datagrams=2)
    for number in range(4):
        parts.add(ABC[0], key=b"%d" % number, time=number)
        assert len(parts.table.table) <= 2
    assert list(parts.table.table) == [b"2", b"3"]
    assert parts.counters.dropped_fragments_limit == 2


def test_too_old_is_given_up() -> None:
    parts = Parts()
    parts.add(ABC[0], key=b"old", time=0)
    parts.add(ABC[0], key=b"new", time=TIMEOUT)
    assert list(parts.table.table) == [b"old", b"new"]
    parts.add(ABC[1], key=b"new", time=TIMEOUT + 1)
    assert list(parts.table.table) == [b"new"]
    assert parts.counters.dropped_fragments_timeout == 1
    # A clock that was set back does not bring the end of the datagram nearer.
    assert parts.add(ABC[2], key=b"new", time=0) == [WHOLE]


@pytest.mark.parametrize(
    "flood",
    [
        [(65528, b"x" * 8, True)],  # one byte too far
        [(8, b"x" * MAX_DATAGRAM, False)],
        [(8, b"", True)] * (MAX_PARTS + 1),
        [(8, b"x" * 9000, True)] * 20,
    ],
)
def test_flood_of_one_datagram_is_given_up(flood: list[Part]) -> None:
    parts = Parts()
    most = 0
    for part in flood:
        assert parts.add(part) == [None]
        most = max(most, parts.held())
    assert parts.counters.dropped_fragments_limit >= 1
    assert most <= MAX_RECEIVED


def test_largest_datagram_passes_though_each_piece_comes_twice() -> None:
    parts = Parts()
    payload = bytes(range(251)) * 262
    payload = payload[:MAX_DATAGRAM]
    pieces = [(at, payload[at : at + 8192], at + 8192 < len(payload)) for at in range(0, len(payload), 8192)]
    results = parts.add(*[piece for piece in pieces for _ in range(2)])
    assert payload in results


@given(data=st.data())
def test_random_cuts_copies_and_orders(data: st.DataObject) -> None:
    payload = data.draw(st.binary(min_size=1, max_size=200))
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, (len(payload) - 1) // 8)).map(lambda n: n * 8))))
    edges = [0, *(cut for cut in cuts if cut < len(payload)), len(payload)]
    pieces = [(start, payload[start:end], end < len(payload)) for start, end in pairwise(edges)]
    extra = data.draw(st.lists(st.sampled_from(pieces), max_size=5))
    order = data.draw(st.permutations(pieces + extra))
    results = [result for result in Parts().add(*order) if result is not None]
    assert results
    assert set(results) == {payload}


@given(
    st.lists(
        st.tuples(st.integers(0, 65535), st.binary(max_size=64), st.booleans(), st.integers(0, 3)),
        max_size=60,
    )
)
def test_anything_goes_and_stays_bounded(fragments: list[tuple[int, bytes, bool, int]]) -> None:
    parts = Parts(max_datagrams=2)
    for offset, piece, more, key in fragments:
        for whole in parts.add((offset, piece, more), key=b"%d" % key):
            assert whole is None or len(whole) <= MAX_DATAGRAM
        assert len(parts.table.table) <= 2
