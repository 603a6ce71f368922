"""Frames that are cut, damaged or made up: nothing raises, and each is counted exactly once."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.packet.frames import CLIENT, CLIENT6, SERVER, SERVER6, Probe, linked
from tests.support.packets import (
    ACK,
    ethernet,
    fragment_ipv4,
    geneve_wrap,
    ipv4,
    ipv6,
    tcp,
    tcp_frame,
    vxlan,
    vxlan_wrap,
)

LINK_TYPES = [0, 1, 12, 101, 108, 113, 228, 229, 276]
SEGMENT = tcp(b"payload!", CLIENT, SERVER, 1000, 2000, ACK, options=b"\x01\x01\x08\x0a" + bytes(8))
SEGMENT6 = tcp(b"payload!", CLIENT6, SERVER6, 1000, 2000, ACK)
V4 = ipv4(SEGMENT, CLIENT[0], SERVER[0], options=b"\x94\x04\0\0")
EXTENSIONS = [(0, b"\0" + bytes(6)), (60, b"\x01" + bytes(14)), (51, b"\x04" + bytes(22)), (44, bytes(7))]
V6 = ipv6(SEGMENT6, CLIENT6[0], SERVER6[0], extensions=EXTENSIONS)
INNER = tcp_frame(b"payload!", CLIENT, SERVER, 1000, 2000, ACK, vlans=[1, 2])
FRAMES: dict[str, tuple[bytes, int]] = {
    **{f"ipv4_on_{link}": (linked(V4, link), link) for link in LINK_TYPES},
    **{f"ipv6_on_{link}": (linked(V6, link), link) for link in LINK_TYPES},
    "vlan": (INNER, 1),
    "vxlan": (vxlan_wrap(INNER, 7), 1),
    "vxlan6": (vxlan_wrap(INNER, 7, outer_src="fd00::1", outer_dst="fd00::2"), 1),
    "vxlan_twice": (vxlan_wrap(vxlan_wrap(INNER, 7), 8), 1),
    "geneve": (geneve_wrap(vxlan_wrap(INNER, 7)[14:], options=bytes(12)), 1),
    "geneve_ip": (geneve_wrap(V4), 1),
    "geneve_ethernet": (geneve_wrap(INNER, protocol=0x6558), 1),
    "fragment": (fragment_ipv4(ethernet(V4), 16)[1], 1),
    "fragment6": (ethernet(ipv6(SEGMENT6, CLIENT6[0], SERVER6[0], extensions=[(44, b"\0\0\1abcd")])), 1),
}


def used(probe: Probe) -> int:
    """Frames that became a segment or were kept as a fragment."""
    return probe.count("tcp_segments") + probe.count("ip_fragments")


def check(probe: Probe, frames: int) -> None:
    """Each frame was used or dropped, for one reason. Segments can be dropped after they were read."""
    dropped = sum(n for name, n in probe.drops().items() if "fragments" not in name)
    assert used(probe) + dropped >= frames
    assert dropped <= frames


@pytest.mark.parametrize("name", FRAMES)
def test_cut_at_every_byte(name: str) -> None:
    whole, link_type = FRAMES[name]
    for length in range(len(whole)):
        probe = Probe()
        probe.frame(whole[:length], link_type, wire_length=len(whole))
        check(probe, 1)
        assert probe.count("truncated_packets") == 1
        seen = [event for recorder in probe.factory.recorders for event in recorder.events]
        assert all(event[0] != "data" or b"payload!".startswith(event[3]) for event in seen)
    probe = Probe()
    probe.frame(whole, link_type)
    assert (used(probe), probe.drops()) == (1, {})


@pytest.mark.parametrize("name", FRAMES)
def test_every_byte_damaged(name: str) -> None:
    whole, link_type = FRAMES[name]
    for damage in (0x00, 0xFF, 0x80, 0x01):
        probe = Probe()
        for index in range(len(whole)):
            # A fragment that waits is no failure: where it is one depends on what else comes.
            changed = bytearray(whole)
            changed[index] = damage
            probe.frame(bytes(changed), link_type)
        assert probe.count("packets") == len(whole)
        check(probe, len(whole))


@settings(max_examples=200)
@given(data=st.data())
def test_many_bytes_damaged(data: st.DataObject) -> None:
    whole, link_type = data.draw(st.sampled_from(list(FRAMES.values())))
    probe = Probe(max_networks=4, max_flows=4, max_fragments=4)
    for _ in range(8):
        changed = bytearray(whole)
        for index in data.draw(st.lists(st.integers(0, len(whole) - 1), max_size=6)):
            changed[index] = data.draw(st.integers(0, 255))
        cut = data.draw(st.integers(0, len(whole)))
        probe.frame(bytes(changed[:cut]), link_type, time=data.draw(st.integers(0, 10**9)))
    check(probe, 8)
    bounded(probe)


@pytest.mark.parametrize("link_type", LINK_TYPES)
@given(frames=st.lists(st.tuples(st.binary(max_size=120), st.integers(0, 10**9)), max_size=20))
@example(frames=[(b"", 0), (b"\0", 1)])
def test_random_bytes(link_type: int, frames: list[tuple[bytes, int]]) -> None:
    probe = Probe(max_networks=4, max_flows=4, max_fragments=4)
    for one, time in frames:
        probe.frame(one, link_type, time=time)
    check(probe, len(frames))
    bounded(probe)


@pytest.mark.parametrize("header", ["ipv4_tcp", "ipv4_udp", "ipv6_tcp", "vxlan", "geneve"])
@given(frames=st.lists(st.tuples(st.binary(max_size=120), st.integers(0, 10**9)), max_size=20))
def test_random_bytes_behind_a_good_beginning(header: str, frames: list[tuple[bytes, int]]) -> None:
    """Pure noise does not get past the first header; this does."""
    probe = Probe(max_networks=4, max_flows=4, max_fragments=4)
    ports = CLIENT[1].to_bytes(2, "big") + SERVER[1].to_bytes(2, "big")
    for noise, time in frames:
        one = {
            "ipv4_tcp": ethernet(ipv4(ports + noise, CLIENT[0], SERVER[0])),
            "ipv4_udp": ethernet(ipv4(ports[:2] + b"\x12\xb5" + noise, CLIENT[0], SERVER[0], 17)),
            "ipv6_tcp": ethernet(ipv6(noise, CLIENT6[0], SERVER6[0], noise[0] if noise else 6)),
            "vxlan": vxlan_wrap(b"", 7) + noise,
            "geneve": geneve_wrap(noise, options=b"", protocol=0x6558),
        }[header]
        if header == "vxlan":
            one = ethernet(ipv4(b"\xff\xff\x12\xb5\0\0\0\0" + vxlan(noise, 7), "10.0.0.1", "10.0.0.2", 17))
        probe.frame(one, time=time)
    check(probe, len(frames))
    bounded(probe)


def bounded(probe: Probe) -> None:
    """Every table is within its limit, and all is told at the end."""
    assert len(probe.decap.by_name) <= 4
    assert len(probe.decap.fragments.table) <= 4
    assert probe.table.count <= 4
    probe.table.close()
    assert probe.table.count == 0
    assert all(recorder.over for recorder in probe.factory.recorders)
