"""Every variant of pcap and pcapng, cut into blocks at every point, cut off anywhere and damaged anyhow."""

import struct
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirror_audit.capture.pcap import MAX_PACKET
from mirror_audit.capture.pcapng import MAX_BLOCK, MAX_TIME
from tests.capture import build
from tests.capture.build import (
    Seen,
    block,
    enhanced,
    interface,
    obsolete,
    option,
    read_capture,
    section,
    simple,
)

T = 1_764_000_000_123_456
FRAMES: list[Seen] = [
    (b"first", 5, 1, T),
    (b"", 0, 1, T + 1),
    (b"cut by the snap length", 1500, 1, T + 999_999),
    (bytes(range(64)), 64, 1, 0xFFFFFFFF * 1_000_000 + 999_999),
    (b"last", 4, 1, 0),
]
BLOCK_SIZES = [1, 2, 3, 5, 16, 17, 31, 100, 1 << 16]


def retyped(link_type: int) -> list[Seen]:
    return [(data, wire, link_type, time) for data, wire, _, time in FRAMES]


def mixed(order: str = "<") -> bytes:
    """A pcapng file with everything in it that is read, and much that is not."""
    other = ">" if order == "<" else "<"
    return b"".join(
        [
            section(order),
            block(5, bytes(20), order),
            build.secrets(0x544C534B, b"CLIENT_RANDOM a b", order),
            interface(1, order),
            interface(113, order, resolution=9, snap_length=96),
            enhanced(b"one", T, 3, 0, order, option(1, b"comment", order) + option(0, b"", order)),
            block(4, b"names", order),
            enhanced(b"two", T * 1000 + 1999, 30, 1, order),
            obsolete(b"three", T + 2, 5, 0, order),
            simple(b"four!", 5, order),
            block(0x80000001, bytes(100), order),
            section(other),
            interface(101, other, resolution=0x80 | 20, offset=1_700_000_000, snap_length=4),
            build.secrets(1, b"", other),
            enhanced(b"five", 3 << 19, 4, 0, other),
            simple(b"cut!", 9, other),
            section(other),
        ]
    )


MIXED: list[Seen] = [
    (b"one", 3, 1, T),
    (b"two", 30, 113, T + 1),
    (b"three", 5, 1, T + 2),
    (b"four!", 5, 1, T + 2),
    (b"five", 4, 101, 1_700_000_001_500_000),
    (b"cut!", 9, 101, 1_700_000_001_500_000),
]

VARIANTS = [
    *(
        pytest.param(build.pcap(FRAMES, order, magic), FRAMES, id=f"pcap {magic:x} {order}")
        for order in "<>"
        for magic in (build.MICROSECONDS, build.NANOSECONDS, build.MODIFIED)
    ),
    pytest.param(build.pcap([], "<"), [], id="pcap without packets"),
    pytest.param(build.pcap(FRAMES, ">", link_type=0x24000065), retyped(101), id="pcap with FCS length"),
    pytest.param(build.pcapng(FRAMES, "<"), FRAMES, id="pcapng <"),
    pytest.param(build.pcapng(retyped(276), ">"), retyped(276), id="pcapng >"),
    pytest.param(section(), [], id="pcapng without interfaces"),
    pytest.param(mixed("<"), MIXED, id="mixed <"),
    pytest.param(mixed(">"), MIXED, id="mixed >"),
]


@pytest.mark.parametrize("block_size", BLOCK_SIZES)
@pytest.mark.parametrize(("data", "frames"), VARIANTS)
def test_variant(data: bytes, frames: Sequence[Seen], block_size: int) -> None:
    assert read_capture(data, block_size) == (frames, None)


@pytest.mark.parametrize(("data", "frames"), VARIANTS)
def test_every_cut_into_two_blocks(data: bytes, frames: Sequence[Seen]) -> None:
    for cut in range(1, len(data)):
        assert read_capture(data, cut) == (frames, None)


@pytest.mark.parametrize("block_size", [1, 40, 1 << 16])
@pytest.mark.parametrize(("data", "frames"), VARIANTS)
def test_every_prefix(data: bytes, frames: Sequence[Seen], block_size: int) -> None:
    for cut in range(len(data)):
        seen, error = read_capture(data[:cut], block_size)
        assert seen == frames[: len(seen)]
        if error is not None:
            assert error.offset <= cut


@pytest.mark.parametrize(
    ("cut", "reason", "offset", "packet"),
    [
        (1, "ends in the middle of packet 5", -20, 4),
        (19, "ends in the middle of packet 5", -20, 4),
        (21, "ends in the middle of packet 4", -100, 3),
    ],
)
def test_truncated_pcap(cut: int, reason: str, offset: int, packet: int) -> None:
    data = build.pcap(FRAMES)
    seen, error = read_capture(data[:-cut])
    assert seen == FRAMES[:packet]
    assert error is not None
    assert (error.reason, error.offset, error.packet) == (reason, len(data) + offset, packet)


@pytest.mark.parametrize("packet", [enhanced(b"data", T, 4), obsolete(b"data", T, 4), simple(b"data", 4)])
def test_truncated_pcapng(packet: bytes) -> None:
    start = section() + interface() + packet
    for tail, reason in [
        (packet, "ends in the middle of packet 2"),
        (block(5, bytes(80)), "ends in the middle of a block"),
        (interface(), "ends in the middle of a block"),
    ]:
        for cut in range(4, len(tail)):
            seen, error = read_capture(start + tail[:cut])
            assert len(seen) == 1
            assert error is not None
            assert error.reason == reason


@pytest.mark.parametrize(
    ("resolution", "offset", "ticks", "time"),
    [
        (None, None, T, T),
        (6, 0, T, T),
        (6, -1, T, T - 1_000_000),
        (6, 5, T, T + 5_000_000),
        (9, None, T * 1000 + 999, T),
        (0, None, 1_764_000_000, 1_764_000_000_000_000),
        (3, None, 1_764_000_000_123, 1_764_000_000_123_000),
        (7, None, T * 10 + 9, T),
        (10, None, T * 10_000 + 9_999, T),  # needs the 64th bit
        (18, 1_764_000_000, 123_456 * 10**12 + 10**12 - 1, T),
        (19, 1_764_000_000, 123_456 * 10**13, T),
        (127, 1_764_000_000, 2**64 - 1, 1_764_000_000_000_000),
        (0x80, None, 1_764_000_000, 1_764_000_000_000_000),
        (0x80 | 10, None, 1_764_000_000 << 10 | 512, 1_764_000_000_500_000),
        (0x80 | 32, None, 1_764_000_000 << 32 | 0xFFFFFFFF, 1_764_000_000_999_999),
        (0x80 | 127, 7, 2**64 - 1, 7_000_000),
        (6, -2_000_000_000, T, 0),
        (6, 2**63 - 1, T, MAX_TIME),
        (6, -(2**63), 2**64 - 1, 0),
        (6, None, 2**62 - 1, MAX_TIME),
        (6, None, 2**64 - 1, MAX_TIME),
        (0, None, 2**64 - 1, MAX_TIME),
        (9, 2**40 - 1, 2**62 - 1, MAX_TIME),
        (6, -(2**40) + 1, 2**62 - 1, MAX_TIME),
    ],
)
def test_clock(resolution: int | None, offset: int | None, ticks: int, time: int) -> None:
    data = section() + interface(resolution=resolution, offset=offset) + enhanced(b"x", ticks, 1)
    assert read_capture(data) == ([(b"x", 1, 1, time)], None)


@given(
    resolution=st.integers(0, 255),
    offset=st.integers(-(2**63), 2**63 - 1) | st.integers(-(10**10), 10**10),
    ticks=st.integers(0, 2**64 - 1),
)
@settings(max_examples=200, deadline=None)
def test_any_clock(resolution: int, offset: int, ticks: int) -> None:
    data = section() + interface(resolution=resolution, offset=offset) + enhanced(b"x", ticks, 1)
    exponent = resolution & 127
    per_second = 2**exponent if resolution & 128 else 10**exponent
    time = ticks * 1_000_000 // per_second + offset * 1_000_000
    assert read_capture(data) == ([(b"x", 1, 1, max(0, min(time, MAX_TIME)))], None)


def test_simple_packet_without_any_time() -> None:
    assert read_capture(section() + interface() + simple(b"x", 1)) == ([(b"x", 1, 1, 0)], None)


@pytest.mark.parametrize("wire_length", [0, 3])
def test_wire_length_below_the_captured_length(wire_length: int) -> None:
    frame = (b"four", wire_length, 1, T)
    for data in (build.pcap([frame]), build.pcapng([frame])):
        assert read_capture(data) == ([(b"four", 4, 1, T)], None)


def test_longest_packet() -> None:
    frame = (bytes(MAX_PACKET), MAX_PACKET, 1, T)
    for data in (build.pcap([frame] * 2), build.pcapng([frame] * 2)):
        assert read_capture(data) == ([frame] * 2, None)


PCAP = build.pcap(FRAMES[:1])
HEAD = section() + interface() + enhanced(b"good", T, 4)
# What is good and holds one packet, what is not, and a part of the reason.
DAMAGED = {
    "pcap length": (
        PCAP,
        struct.pack("<IIII", 0, 0, MAX_PACKET + 1, 0) + bytes(64),
        "packet 2 claims 1048577 bytes, more than 1048576",
    ),
    "pcap negative length": (
        PCAP,
        struct.pack("<IIIi", 0, 0, 0xFFFFFFFF, -1) + bytes(64),
        "packet 2 claims 4294967295 bytes, more than 1048576",
    ),
    "block too short": (HEAD, struct.pack("<II", 99, 8) + bytes(20), "claims to be 8 bytes"),
    "block of no length": (HEAD, bytes(32), "claims to be 0 bytes"),
    "packet block too short": (HEAD, block(6, bytes(16)), "claims to be 28 bytes"),
    "block not of whole words": (HEAD, struct.pack("<II", 99, 33) + bytes(64), "claims to be 33 bytes"),
    "packet block too long": (HEAD, struct.pack("<II", 6, MAX_BLOCK + 4) + bytes(64), "16777220 bytes"),
    "section too long": (
        HEAD,
        section()[:4] + struct.pack("<II", 0xFFFFFFFC, 0x1A2B3C4D) + bytes(9),
        "claims to be 4294967292 bytes",
    ),
    "interface too long": (HEAD, struct.pack("<II", 1, MAX_BLOCK + 4) + bytes(64), "16777220 bytes"),
    "two lengths": (HEAD, enhanced(b"x", T, 1)[:-4] + bytes(4), "two different lengths"),
    "two lengths, skipped": (HEAD + block(99, bytes(80))[:-4], bytes(4), "two different lengths"),
    "no interface": (HEAD, enhanced(b"x", T, 1, number=1), "packet 2 is of an interface that was not"),
    "no interface, largest number": (HEAD, enhanced(b"x", T, 1, number=0xFFFFFFFF), "packet 2 is of an"),
    "no interface, obsolete": (HEAD, obsolete(b"x", T, 1, number=0xFFFF), "packet 2 is of an interface"),
    "interfaces end with their section": (HEAD + section(">"), enhanced(b"x", T, 1, 0, ">"), "packet 2 is"),
    "no interface, simple": (HEAD + section(), simple(b"x", 1), "packet 2 is of an interface"),
    "captured beyond the block": (
        HEAD,
        block(6, struct.pack("<IIIII", 0, 0, 0, 5, 5) + bytes(4)),
        "packet 2 claims 5 bytes",
    ),
    "captured too long": (
        HEAD,
        block(6, struct.pack("<IIIII", 0, 0, 0, MAX_PACKET + 1, 5) + bytes(MAX_PACKET + 4)),
        "packet 2 claims 1048577 bytes",
    ),
    "simple packet too long": (HEAD, simple(bytes(MAX_PACKET + 1), 1 << 30), "packet 2 claims 1048580 bytes"),
    "no byte-order magic": (HEAD, block(0x0A0D0D0A, bytes(16)), "without a byte-order magic"),
    "version": (HEAD, section(version=2), "pcapng version 2"),
    "option too long": (
        HEAD,
        block(1, struct.pack("<HHIHHI", 1, 0, 0, 2, 5, 0)),
        "an option of an interface",
    ),
    "resolution too long": (HEAD, block(1, bytes(8) + option(9, b"\6\6")), "in a wrong length"),
    "offset too short": (HEAD, block(1, bytes(8) + option(14, bytes(4))), "in a wrong length"),
    "secrets too long": (HEAD, block(10, struct.pack("<III", 1, 5, 0)), "secrets are longer"),
}


@pytest.mark.parametrize("block_size", [1, 33, 1 << 16])
@pytest.mark.parametrize(("good", "bad", "reason"), DAMAGED.values(), ids=DAMAGED.keys())
def test_damage(good: bytes, bad: bytes, reason: str, block_size: int) -> None:
    if len(bad) > 1 << 16:
        block_size *= 4099
    seen, error = read_capture(good + bad, block_size)
    assert len(seen) == 1
    assert error is not None
    assert reason in error.reason
    assert (error.offset, error.packet) == (len(good), 1)


def test_too_many_interfaces() -> None:
    seen, error = read_capture(section() + interface() * 65_536 + enhanced(b"x", T, 1, 65_535))
    assert (len(seen), error) == (1, None)
    seen, error = read_capture(section() + interface() * 65_537)
    assert error is not None
    assert error.reason == "has a section with more than 65536 interfaces"


WHOLE_FILES = [*(build.pcap(FRAMES, order) for order in "<>"), build.pcapng(FRAMES), mixed("<"), mixed(">")]


@st.composite
def frame_lists(draw: st.DrawFn) -> list[Seen]:
    """Frames as both formats can hold them."""
    datas = draw(st.lists(st.binary(max_size=70), max_size=6))
    wire_length = st.integers(70, 2**32 - 1)
    time = st.integers(0, 2**32 * 10**6 - 1)
    return [(data, draw(wire_length), 1, draw(time)) for data in datas]


@given(
    frames=frame_lists(),
    make=st.sampled_from([build.pcap, build.pcapng]),
    order=st.sampled_from("<>"),
    block_size=st.sampled_from(BLOCK_SIZES),
    data=st.data(),
)
@settings(max_examples=150, deadline=None)
def test_truncation_yields_a_prefix(
    frames: list[Seen], make: Callable[..., bytes], order: str, block_size: int, data: st.DataObject
) -> None:
    whole = make(frames, order)
    cut = data.draw(st.integers(0, len(whole)))
    seen, error = read_capture(whole[:cut], block_size)
    ends = [len(make(frames[:i], order)) for i in range(len(frames) + 1)]
    assert seen == frames[: sum(end <= cut for end in ends[1:])]
    # A cut between two records or blocks cannot be told from the end of a shorter capture.
    if make is build.pcapng:
        ends.append(len(section(order)))
    assert (error is None) == (cut in ends)


@given(
    data=st.sampled_from(WHOLE_FILES),
    changes=st.lists(st.tuples(st.integers(0), st.binary(min_size=1, max_size=4)), min_size=1, max_size=6),
    block_size=st.sampled_from(BLOCK_SIZES),
)
@settings(max_examples=400, deadline=None)
def test_any_damage_raises_capture_error_only(
    data: bytes, changes: list[tuple[int, bytes]], block_size: int
) -> None:
    damaged = bytearray(data)
    for position, value in changes:
        start = position % len(data)
        damaged[start : start + len(value)] = value
    frames, error = read_capture(bytes(damaged))
    frames_by_parts, error_by_parts = read_capture(bytes(damaged), block_size)
    assert frames_by_parts == frames
    assert str(error_by_parts) == str(error)


@given(start=st.sampled_from(WHOLE_FILES), noise=st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_noise_after_a_good_start(start: bytes, noise: bytes) -> None:
    frames, _ = read_capture(start)
    seen, _ = read_capture(start + noise)
    assert seen[: len(frames)] == frames
