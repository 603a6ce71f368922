"""Frames to segments: every link type, IP and encapsulation, and what is done with those that are none."""

from collections.abc import Sequence
from typing import Any

import pytest

from mirror_audit.packet import decap
from tests.packet.frames import CLIENT, CLIENT6, SERVER, SERVER6, Probe, at, linked
from tests.support.packets import (
    ACK,
    SYN,
    ethernet,
    fragment_ipv4,
    geneve,
    geneve_wrap,
    ip,
    ipv4,
    ipv6,
    tcp,
    tcp_frame,
    udp,
    udp_frame,
    vxlan,
    vxlan_wrap,
)

ETHERNET, NULL, RAW, LOOP, SLL, SLL2 = 1, 0, 101, 108, 113, 276
PAYLOAD = b"select 1"


def segment(payload: bytes = PAYLOAD, *, options: bytes = b"", v6: bool = False) -> bytes:
    """A TCP segment of the client."""
    ends = (CLIENT6, SERVER6) if v6 else (CLIENT, SERVER)
    return tcp(payload, *ends, 1000, 2000, ACK, options=options)


def packet(payload: bytes = PAYLOAD, *, v6: bool = False, **more: Any) -> bytes:
    """An IP packet of the client."""
    if v6:
        return ipv6(segment(payload, v6=True), CLIENT6[0], SERVER6[0], **more)
    return ipv4(segment(payload), CLIENT[0], SERVER[0], **more)


def frame(payload: bytes = PAYLOAD, **more: Any) -> bytes:
    return tcp_frame(payload, CLIENT, SERVER, 1000, 2000, ACK, **more)


def told(*frames: bytes, link_type: int = ETHERNET, **options: Any) -> list[tuple[Any, ...]]:
    probe = Probe(**options)
    for one in frames:
        probe.frame(one, link_type)
    return probe.told()


SEEN = at(PAYLOAD)
SEEN6 = at(PAYLOAD, client=CLIENT6, server=SERVER6)


# --- link layers ---


@pytest.mark.parametrize("v6", [False, True], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("link_type", [1, 0, 12, 14, 101, 108, 113, 228, 229, 276])
def test_link_types(link_type: int, v6: bool) -> None:
    probe = Probe()
    probe.frame(linked(packet(v6=v6), link_type), link_type)
    assert probe.told() == [SEEN6 if v6 else SEEN]
    assert (probe.count("packets"), probe.count("tcp_segments"), probe.drops()) == (1, 1, {})


@pytest.mark.parametrize("link_type", [2, 9, 105, 127, 147, 195, 65535, -1])
def test_link_types_that_nobody_reads(link_type: int) -> None:
    probe = Probe()
    probe.frame(frame(), link_type)
    assert (probe.told(), probe.drops()) == ([], {"dropped_link_type": 1})


def tagged(types: Sequence[int], payload: bytes) -> bytes:
    """A frame with VLAN tags of these types, outermost first."""
    tags = b"".join(one.to_bytes(2, "big") + b"\x20\x64" for one in types)
    return frame()[:12] + tags + b"\x08\x00" + payload


@pytest.mark.parametrize(
    ("types", "seen"),
    [
        ([0x8100], True),
        ([0x88A8, 0x8100], True),
        ([0x9100, 0x8100], True),
        ([0x8100] * decap.MAX_VLAN_TAGS, True),
        ([0x8100] * (decap.MAX_VLAN_TAGS + 1), False),
    ],
)
def test_vlan_tags(types: list[int], seen: bool) -> None:
    probe = Probe()
    probe.frame(tagged(types, packet()))
    assert probe.told() == ([SEEN] if seen else [])
    assert probe.drops() == ({} if seen else {"dropped_malformed": 1})
    # The same in cooked captures: where tags were not taken off, they follow the header.
    inner = tagged(types, packet())[12:]
    assert told(bytes(14) + inner, link_type=SLL) == ([SEEN] if seen else [])
    if seen:
        assert told(inner[:2] + bytes(18) + inner[2:], link_type=SLL2) == [SEEN]


@pytest.mark.parametrize("link_type", [SLL, SLL2])
@pytest.mark.parametrize("ethertype", [0x0001, 0x0806, 0x88CC])
def test_cooked_captures_of_other_things(link_type: int, ethertype: int) -> None:
    probe = Probe()
    word = ethertype.to_bytes(2, "big")
    probe.frame(bytes(14) + word + packet() if link_type == SLL else word + bytes(18) + packet(), link_type)
    assert (probe.told(), probe.drops()) == ([], {"dropped_not_ip": 1})


@pytest.mark.parametrize(
    "family", [b"\x02\0\0\0", b"\0\0\0\x02", b"\x1e\0\0\0", b"\0\0\0\x1c", b"\x18\0\0\0"]
)
def test_address_family_is_read_from_the_packet(family: bytes) -> None:
    for link_type in (NULL, LOOP):
        assert told(family + packet(), link_type=link_type) == [SEEN]
        assert told(family + packet(v6=True), link_type=link_type) == [SEEN6]


@pytest.mark.parametrize(
    ("one", "link_type", "counter"),
    [
        (ethernet(bytes(40), ethertype=0x0806), ETHERNET, "dropped_not_ip"),
        (ethernet(bytes(40), ethertype=0x05DC), ETHERNET, "dropped_not_ip"),  # a length: IEEE 802.3
        (ethernet(packet(v6=True), ethertype=0x0800), ETHERNET, "dropped_malformed"),
        (ethernet(packet(), ethertype=0x86DD), ETHERNET, "dropped_malformed"),
        (b"\x00" * 40, RAW, "dropped_not_ip"),
        (b"\xf0" * 40, RAW, "dropped_not_ip"),
        (ethernet(ip(b"\x08\0" + bytes(6), "10.0.0.1", "10.0.0.2", 1)), ETHERNET, "dropped_not_tcp"),
        (ethernet(ip(bytes(40), "10.0.0.1", "10.0.0.2", 132)), ETHERNET, "dropped_not_tcp"),
        (udp_frame(b"dns", ("10.0.0.1", 4000), ("10.0.0.2", 53)), ETHERNET, "dropped_not_tcp"),
        (tcp_frame(b"", CLIENT, (SERVER[0], 443), 1), ETHERNET, "dropped_other_port"),
    ],
)
def test_what_is_something_else_is_counted(one: bytes, link_type: int, counter: str) -> None:
    probe = Probe()
    probe.frame(one, link_type)
    assert (probe.told(), probe.drops()) == ([], {counter: 1})


# --- IP ---


@pytest.mark.parametrize("options", [b"\x01", b"\x07\x07\x04" + bytes(4), b"\x94\x04\0\0", bytes(40)])
def test_ipv4_options(options: bytes) -> None:
    assert told(ethernet(packet(options=options))) == [SEEN]


@pytest.mark.parametrize("link_type", [ETHERNET, RAW, NULL, SLL])
def test_padding_is_no_payload(link_type: int) -> None:
    for v6, seen in ((False, at(b"")), (True, at(b"", client=CLIENT6, server=SERVER6))):
        assert told(linked(packet(b"", v6=v6), link_type) + bytes(6), link_type=link_type) == [seen]
    assert told(linked(packet(), link_type) + b"trailer", link_type=link_type) == [SEEN]


def test_total_length_zero_is_a_segmentation_offload() -> None:
    payload = b"x" * 100_000
    probe = Probe()
    probe.frame(ethernet(packet(b"", total_length=0)) + payload)
    assert probe.told() == [at(payload)]
    # IPv6: payload length 0.
    whole = bytearray(packet(v6=True))
    whole[4:6] = b"\0\0"
    assert told(ethernet(bytes(whole))) == [SEEN6]


@pytest.mark.parametrize("total", [1, 19, 20, 39])
def test_total_length_too_small(total: int) -> None:
    probe = Probe()
    probe.frame(ethernet(packet(total_length=total)))
    assert (probe.told(), probe.drops()) == ([], {"dropped_malformed": 1})


@pytest.mark.parametrize("ihl", [0, 4])
def test_header_length_too_small(ihl: int) -> None:
    whole = bytearray(packet())
    whole[0] = 0x40 | ihl
    probe = Probe()
    probe.frame(ethernet(bytes(whole)))
    assert (probe.told(), probe.drops()) == ([], {"dropped_malformed": 1})


@pytest.mark.parametrize("cut", range(1, len(PAYLOAD) + 1))
@pytest.mark.parametrize("v6", [False, True])
def test_cut_payload_is_claimed(cut: int, v6: bool) -> None:
    """The tail that was not captured is a gap; whether the capture or the mirror cut it is all one."""
    seen = at(PAYLOAD[:-cut], lost=cut, client=CLIENT6 if v6 else CLIENT, server=SERVER6 if v6 else SERVER)
    whole = ethernet(packet(v6=v6))
    assert told(whole[:-cut]) == [seen]
    probe = Probe()
    probe.frame(whole[:-cut], wire_length=len(whole))
    assert probe.told() == [seen]
    assert probe.count("truncated_packets") == 1
    # PacketLength of a mirror session: the outer packet is whole.
    assert told(vxlan_wrap(whole, 7, packet_length=len(whole) - cut)) == [
        (*seen[:4], "vni-7", 7, *seen[6:]),
    ]


@pytest.mark.parametrize("cut", range(1, 12))
def test_cut_tcp_options(cut: int) -> None:
    whole = frame(options=bytes.fromhex("0101080a0000000100000002"))
    assert told(whole[: len(whole) - len(PAYLOAD) - cut]) == [at(b"", lost=len(PAYLOAD))]


EXTENSIONS = {
    "hop_by_hop": (0, b"\0" + bytes(6)),
    "routing": (43, b"\x02" + bytes(22)),
    "destination": (60, b"\x01" + bytes(14)),
    "authentication": (51, b"\x04" + bytes(22)),
    "atomic_fragment": (44, b"\0\0\0\x12\x34\x56\x78"),
}


@pytest.mark.parametrize("names", [[name] for name in EXTENSIONS] + [list(EXTENSIONS)], ids="+".join)
def test_ipv6_extension_headers(names: list[str]) -> None:
    whole = packet(v6=True, extensions=[EXTENSIONS[name] for name in names])
    assert told(ethernet(whole)) == [SEEN6]


@pytest.mark.parametrize(
    ("extensions", "counter"),
    [
        ([EXTENSIONS["destination"]] * decap.MAX_EXTENSION_HEADERS, None),
        ([EXTENSIONS["destination"]] * (decap.MAX_EXTENSION_HEADERS + 1), "dropped_malformed"),
        ([(0, b"\xff" + bytes(6))], "dropped_malformed"),  # longer than the packet
        ([(51, b"\xff" + bytes(6))], "dropped_malformed"),
        ([(50, bytes(7))], "dropped_not_tcp"),  # encrypted
        ([(59, bytes(7))], "dropped_not_tcp"),  # no next header
    ],
)
def test_ipv6_extension_headers_that_do_not_work(
    extensions: list[tuple[int, bytes]], counter: str | None
) -> None:
    probe = Probe()
    probe.frame(ethernet(packet(v6=True, extensions=extensions)))
    assert probe.told() == ([] if counter else [SEEN6])
    assert probe.drops() == ({counter: 1} if counter else {})


# --- fragments ---


def fragments_v6(payload: bytes, size: int, ident: bytes = b"abcd") -> list[bytes]:
    whole = segment(payload, v6=True)
    out = []
    for offset in range(0, len(whole), size):
        more = offset + size < len(whole)
        header = b"\0" + (offset | more).to_bytes(2, "big") + ident
        part = whole[offset : offset + size]
        out.append(ethernet(ipv6(part, CLIENT6[0], SERVER6[0], extensions=[(44, header)])))
    return out


LONG = bytes(range(256)) * 12


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("size", [8, 576, 1480])
def test_fragments(size: int, order: int) -> None:
    v4 = fragment_ipv4(frame(LONG, ident=77), size)
    assert told(*v4[::order]) == [at(LONG)]
    assert told(*fragments_v6(LONG, size)[::order]) == [at(LONG, client=CLIENT6, server=SERVER6)]
    # The outer packet, the inner packet, both.
    assert told(*fragment_ipv4(vxlan_wrap(frame(LONG), 7), size)[::order]) == [
        at(LONG, network="vni-7", vni=7)
    ]
    inner = [vxlan_wrap(part, 7) for part in v4]
    assert told(*inner[::order]) == [at(LONG, network="vni-7", vni=7)]
    both = []
    for number, one in enumerate(inner):
        both += fragment_ipv4(one[:18] + number.to_bytes(2, "big") + one[20:], 120)
    assert told(*both[::order]) == [at(LONG, network="vni-7", vni=7)]


def test_fragments_are_matched_by_all_that_names_a_datagram() -> None:
    first, second = fragment_ipv4(frame(LONG[:1000], ident=7), 800)
    others = {
        "ident": fragment_ipv4(frame(LONG[:1000], ident=8), 800)[1],
        "source": fragment_ipv4(tcp_frame(LONG[:1000], ("10.9.9.9", 1), SERVER, 1, ident=7), 800)[1],
        "destination": fragment_ipv4(tcp_frame(LONG[:1000], CLIENT, ("10.9.9.9", 5432), 1, ident=7), 800)[1],
        "protocol": second[:23] + b"\x11" + second[24:],
        "network": vxlan_wrap(second, 7),
    }
    probe = Probe()
    probe.frame(first)
    for other in others.values():
        probe.frame(other)
    assert probe.told() == []
    assert probe.count("ip_fragments") == 1 + len(others)
    probe.frame(second)
    assert probe.told() == [at(LONG[:1000])]
    one, two = fragments_v6(LONG[:1000], 800, b"\0\0\0\1")
    assert told(one, fragments_v6(LONG[:1000], 800, b"\0\0\0\2")[1]) == []
    assert told(one, two) == [at(LONG[:1000], client=CLIENT6, server=SERVER6)]


def test_cut_fragments_are_of_no_use() -> None:
    for parts in (fragment_ipv4(frame(LONG, ident=7), 800), fragments_v6(LONG, 800)):
        probe = Probe()
        probe.frame(parts[0][:-1])
        for part in parts[1:]:
            probe.frame(part)
        assert (probe.told(), probe.drops()) == ([], {"dropped_malformed": 1})


def test_fragments_have_their_limits() -> None:
    probe = Probe(max_fragments=2, fragment_timeout_us=1000)
    for ident in range(4):
        probe.frame(fragment_ipv4(frame(LONG, ident=ident), 800)[0], time=ident)
    assert probe.drops() == {"dropped_fragments_limit": 2}
    probe.frame(fragment_ipv4(frame(LONG, ident=9), 800)[0], time=5_000)
    assert probe.drops() == {"dropped_fragments_limit": 2, "dropped_fragments_timeout": 2}


# --- VXLAN and GENEVE ---


@pytest.mark.parametrize(
    ("header", "seen"),
    [
        ({}, True),
        ({"flags": 0xFF}, True),  # reserved bits are ignored, also of the flags
        ({"flags": 0x0C, "reserved": 0xFFFFFF, "reserved_end": 0xFF}, True),
        ({"flags": 0x00}, False),
        ({"flags": 0xF7}, False),
    ],
)
def test_vxlan_header(header: dict[str, int], seen: bool) -> None:
    probe = Probe()
    body = vxlan(frame(), 0xABCDEF, **header)
    probe.frame(udp_frame(body, ("10.0.9.1", 65500), ("10.0.9.9", 4789), with_checksum=False))
    assert probe.told() == ([at(PAYLOAD, network="vni-11259375", vni=0xABCDEF)] if seen else [])
    assert probe.drops() == ({} if seen else {"dropped_vxlan_flag": 1})
    assert probe.count("vxlan_packets") == seen


@pytest.mark.parametrize("port", [4789, 8472, 1, 65535])
def test_vxlan_ports(port: int) -> None:
    assert told(vxlan_wrap(frame(), 7, port=port), vxlan_ports=(port,)) == [
        at(PAYLOAD, network="vni-7", vni=7)
    ]
    probe = Probe(vxlan_ports=(4790,))
    probe.frame(vxlan_wrap(frame(), 7, port=port))
    assert (probe.told(), probe.drops()) == ([], {"dropped_not_tcp": 1})
    # The source port says nothing.
    probe.frame(udp_frame(vxlan(frame(), 7), ("10.0.9.1", 4790), ("10.0.9.9", 5000)))
    assert probe.told() == []


def test_vxlan_over_ipv6_with_vlan_tags_inside() -> None:
    inner = frame(vlans=[100])
    outer = vxlan_wrap(inner, 27, outer_src="fd00::1", outer_dst="fd00::2")
    assert told(outer) == [at(PAYLOAD, network="vni-27", vni=27)]


@pytest.mark.parametrize("vni", [0, 1, 0xFFFFFF])
def test_same_addresses_in_other_networks_are_other_hosts(vni: int) -> None:
    probe = Probe()
    for one in (frame(), vxlan_wrap(frame(), vni), vxlan_wrap(frame(), 5), frame(), vxlan_wrap(frame(), vni)):
        probe.frame(one)
    assert probe.told() == [
        SEEN,
        at(PAYLOAD, network=f"vni-{vni}", vni=vni),
        at(PAYLOAD, network="vni-5", vni=5),
    ]


def test_networks_of_one_name_are_one_network() -> None:
    """Two mirror sessions that copy the same traffic: each packet counts once."""
    probe = Probe(networks={7: "prod", 8: "prod", 9: "test"})
    for vni in (7, 8, 9, 7, 8, 9):
        probe.frame(vxlan_wrap(frame(), vni))
    assert probe.told() == [at(PAYLOAD, network="prod", vni=7), at(PAYLOAD, network="test", vni=9)]
    assert probe.count("retransmitted_segments") == 4


def nested(depth: int) -> bytes:
    one = frame()
    for vni in range(depth, 0, -1):
        one = vxlan_wrap(one, vni)
    return one


def test_nested_vxlan_names_the_whole_way() -> None:
    assert told(nested(3)) == [at(PAYLOAD, network="vni-1/vni-2/vni-3", vni=3)]
    assert told(nested(2), networks={1: "mirror", 2: "prod"}) == [at(PAYLOAD, network="mirror/prod", vni=2)]
    probe = Probe()
    for one in (nested(2), vxlan_wrap(vxlan_wrap(frame(), 2), 3), vxlan_wrap(frame(), 2), nested(2)):
        probe.frame(one)
    assert [seen[4] for seen in probe.told()] == ["vni-1/vni-2", "vni-3/vni-2", "vni-2"]


def test_depth_has_its_limit() -> None:
    assert len(told(nested(decap.MAX_DEPTH))) == 1
    for deep in (nested(decap.MAX_DEPTH + 1), nested(40), geneve_wrap(nested(decap.MAX_DEPTH)[14:])):
        probe = Probe()
        probe.frame(deep)
        assert (probe.told(), probe.drops()) == ([], {"dropped_encapsulation_depth": 1})


def test_number_of_networks_has_its_limit() -> None:
    probe = Probe(max_networks=3)  # one is the default
    for vni in range(5):
        probe.frame(vxlan_wrap(frame(), vni))
        probe.frame(vxlan_wrap(frame(), 0))
    assert [seen[4] for seen in probe.told()] == ["vni-0", "vni-1"]
    assert probe.drops() == {"dropped_networks_limit": 3}
    probe.frame(frame())
    assert probe.told()[-1] == SEEN


@pytest.mark.parametrize("options", [b"", b"\x01\x08\x00\x01" + bytes(4), bytes(252)])
def test_geneve(options: bytes) -> None:
    """As a Gateway Load Balancer sends it: IP inside, or VXLAN inside that. Its VNI names no network."""
    assert told(geneve_wrap(packet(), 99, options=options)) == [SEEN]
    assert told(geneve_wrap(packet(v6=True), 99, options=options, protocol=0x86DD)) == [SEEN6]
    assert told(geneve_wrap(frame(), 99, options=options, protocol=0x6558)) == [SEEN]
    assert told(geneve_wrap(vxlan_wrap(frame(), 7)[14:], 99, options=options)) == [
        at(PAYLOAD, network="vni-7", vni=7)
    ]
    assert told(vxlan_wrap(geneve_wrap(packet(), options=options), 7)) == [
        at(PAYLOAD, network="vni-7", vni=7)
    ]


def test_geneve_of_something_else() -> None:
    for body, counter in (
        (geneve(b"?" * 40, 1, protocol=0x880B), "dropped_not_ip"),
        (geneve(b"", 1, options=bytes(40))[:20], "dropped_malformed"),
        (b"\0" * 7, "dropped_malformed"),
    ):
        probe = Probe()
        probe.frame(udp_frame(body, ("10.0.0.1", 1), ("10.0.0.2", 6081)))
        assert (probe.told(), probe.drops()) == ([], {counter: 1})


def test_ports_that_are_both_are_vxlan_or_geneve_by_settings_only() -> None:
    one = udp_frame(geneve(packet(), 1, protocol=0x0800), ("10.0.0.1", 1), ("10.0.0.2", 7000))
    assert told(one, geneve_ports=(7000,)) == [SEEN]
    assert told(one, geneve_ports=()) == []


# --- what else is counted ---


def test_bytes_and_packets_are_counted() -> None:
    probe = Probe()
    for one in (frame(), vxlan_wrap(frame(), 7), geneve_wrap(vxlan_wrap(frame(), 7)[14:])):
        probe.frame(one)
    expected = {
        "packets": 3,
        "packet_bytes": 3 * len(frame()) + 50 + len(geneve_wrap(vxlan_wrap(b"", 7)[14:])),
        "vxlan_packets": 2,
        "geneve_packets": 1,
        "tcp_segments": 3,
        "payload_bytes": 3 * len(PAYLOAD),
        "flows": 2,
    }
    assert {name: probe.count(name) for name in expected} == expected


def test_bad_checksums_reject_nothing() -> None:
    bad = tcp(PAYLOAD, CLIENT, SERVER, 1000, 2000, ACK, good_checksum=False)
    whole = bytearray(ipv4(bad, CLIENT[0], SERVER[0]))
    whole[10:12] = b"\xde\xad"
    assert told(ethernet(bytes(whole))) == [SEEN]
    datagram = bytearray(udp(vxlan(frame(), 7), ("10.0.0.1", 1), ("10.0.0.2", 4789)))
    datagram[6:8] = b"\xde\xad"
    outer = ethernet(ip(bytes(datagram), "10.0.0.1", "10.0.0.2", 17))
    assert told(outer) == [at(PAYLOAD, network="vni-7", vni=7)]


def test_direction_is_that_of_the_server_port() -> None:
    reply = tcp_frame(b"reply", SERVER, CLIENT, 2000, 1008, ACK)
    assert told(reply) == [at(b"", reply=b"reply")]
    assert told(frame(), reply) == [at(PAYLOAD, reply=b"reply")]
    syn = tcp_frame(b"", CLIENT, SERVER, 999, 0, SYN)
    assert told(syn, frame(), reply) == [at(PAYLOAD, reply=b"reply")]
