"""Builders of packets in plain bytes, layer by layer, and a reader of what they build.

Ethernet with VLAN tags, IPv4 (options, fragments), IPv6 (extension headers), TCP, UDP, VXLAN (RFC 7348) and
GENEVE (RFC 8926). Every builder takes the payload first and returns new bytes; lengths and checksums are
right unless the caller says otherwise.
"""

import socket
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = [
    "ACK",
    "CWR",
    "ECE",
    "FIN",
    "MAC_CLIENT",
    "MAC_SERVER",
    "PSH",
    "RST",
    "SYN",
    "URG",
    "Segment",
    "checksum",
    "cut_superframe",
    "ethernet",
    "fragment_ipv4",
    "geneve",
    "geneve_wrap",
    "ip",
    "ipv4",
    "ipv6",
    "parse_tcp",
    "tcp",
    "tcp_frame",
    "udp",
    "udp_frame",
    "vxlan",
    "vxlan_source_port",
    "vxlan_wrap",
]

FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = (1 << bit for bit in range(8))
MAC_CLIENT = bytes.fromhex("0a5801000110")
MAC_SERVER = bytes.fromhex("0a5802000220")
IPV4_TYPE, IPV6_TYPE, VLAN_TYPE = 0x0800, 0x86DD, 0x8100
TCP_NUMBER, UDP_NUMBER = 6, 17


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of `data`: 0..65535."""
    if len(data) % 2:
        data += b"\0"
    # One big integer modulo 65535 is the ones' complement sum of its 16-bit words (but for 0 and 65535).
    total = int.from_bytes(data, "big")
    folded = total % 0xFFFF
    if folded == 0 and total:
        folded = 0xFFFF
    return folded ^ 0xFFFF


def _address(text: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


def _pseudo(src: str, dst: str, protocol: int, length: int) -> bytes:
    a, b = _address(src), _address(dst)
    if len(a) == 4:
        return a + b + bytes([0, protocol]) + length.to_bytes(2, "big")
    return a + b + length.to_bytes(4, "big") + bytes([0, 0, 0, protocol])


def ethernet(
    payload: bytes,
    src: bytes = MAC_CLIENT,
    dst: bytes = MAC_SERVER,
    ethertype: int | None = None,
    vlans: Sequence[int] = (),
    pad: bool = False,
) -> bytes:
    """An Ethernet II frame without FCS; the type follows the payload's IP version unless given.

    `vlans` are 802.1Q tag control words, outermost first; `pad` fills up to the 60 bytes a wire would carry.
    """
    if ethertype is None:
        ethertype = IPV6_TYPE if payload[:1] and payload[0] >> 4 == 6 else IPV4_TYPE
    tags = b"".join(VLAN_TYPE.to_bytes(2, "big") + vlan.to_bytes(2, "big") for vlan in vlans)
    frame = dst + src + tags + ethertype.to_bytes(2, "big") + payload
    return frame.ljust(60, b"\0") if pad else frame


def ipv4(
    payload: bytes,
    src: str,
    dst: str,
    protocol: int = TCP_NUMBER,
    *,
    ttl: int = 64,
    ident: int = 0,
    flags: int = 2,
    offset: int = 0,
    options: bytes = b"",
    total_length: int | None = None,
) -> bytes:
    """An IPv4 packet (RFC 791). `flags` 2 is DF, 1 is MF; `offset` is in bytes (a multiple of 8)."""
    options += b"\0" * (-len(options) % 4)
    length = 20 + len(options)
    total = length + len(payload) if total_length is None else total_length
    head = (
        bytes([0x40 | length // 4, 0])
        + total.to_bytes(2, "big")
        + (ident & 0xFFFF).to_bytes(2, "big")
        + (flags << 13 | offset // 8).to_bytes(2, "big")
        + bytes([ttl, protocol])
    )
    tail = _address(src) + _address(dst) + options
    return head + checksum(head + b"\0\0" + tail).to_bytes(2, "big") + tail + payload


def ipv6(
    payload: bytes,
    src: str,
    dst: str,
    protocol: int = TCP_NUMBER,
    *,
    hop_limit: int = 64,
    extensions: Sequence[tuple[int, bytes]] = (),
) -> bytes:
    """An IPv6 packet (RFC 8200). `extensions` are (header number, body after its first byte), in order."""
    number = protocol
    for kind, body in reversed(extensions):
        payload = bytes([number]) + body + payload
        number = kind
    head = b"\x60\0\0\0" + len(payload).to_bytes(2, "big") + bytes([number, hop_limit])
    return head + _address(src) + _address(dst) + payload


def ip(
    payload: bytes, src: str, dst: str, protocol: int = TCP_NUMBER, ident: int = 0, ttl: int = 64
) -> bytes:
    """An IPv4 or IPv6 packet, by the shape of `src`."""
    if ":" in src:
        return ipv6(payload, src, dst, protocol, hop_limit=ttl)
    return ipv4(payload, src, dst, protocol, ident=ident, ttl=ttl)


def tcp(
    payload: bytes,
    src: tuple[str, int],
    dst: tuple[str, int],
    seq: int,
    ack: int = 0,
    flags: int = ACK,
    *,
    window: int = 502,
    options: bytes = b"",
    urgent: int = 0,
    good_checksum: bool = True,
) -> bytes:
    """A TCP segment (RFC 9293); sequence numbers are taken modulo 2^32, options are padded with NOPs."""
    options += b"\x01" * (-len(options) % 4)
    head = (
        src[1].to_bytes(2, "big")
        + dst[1].to_bytes(2, "big")
        + (seq & 0xFFFFFFFF).to_bytes(4, "big")
        + (ack & 0xFFFFFFFF).to_bytes(4, "big")
        + bytes([(20 + len(options)) // 4 << 4, flags])
        + window.to_bytes(2, "big")
    )
    tail = urgent.to_bytes(2, "big") + options + payload
    length = len(head) + 2 + len(tail)
    total = checksum(_pseudo(src[0], dst[0], TCP_NUMBER, length) + head + b"\0\0" + tail)
    if not good_checksum:
        total ^= 0x5555
    return head + total.to_bytes(2, "big") + tail


def udp(payload: bytes, src: tuple[str, int], dst: tuple[str, int], *, with_checksum: bool = True) -> bytes:
    """A UDP datagram (RFC 768); without a checksum the field is 0, as mirrored traffic has it."""
    length = 8 + len(payload)
    head = src[1].to_bytes(2, "big") + dst[1].to_bytes(2, "big") + length.to_bytes(2, "big")
    total = 0
    if with_checksum:
        total = checksum(_pseudo(src[0], dst[0], UDP_NUMBER, length) + head + b"\0\0" + payload) or 0xFFFF
    return head + total.to_bytes(2, "big") + payload


def tcp_frame(
    payload: bytes,
    src: tuple[str, int],
    dst: tuple[str, int],
    seq: int,
    ack: int = 0,
    flags: int = ACK,
    *,
    src_mac: bytes = MAC_CLIENT,
    dst_mac: bytes = MAC_SERVER,
    options: bytes = b"",
    vlans: Sequence[int] = (),
    ident: int = 0,
    window: int = 502,
) -> bytes:
    """Ethernet + IP + TCP around `payload`."""
    segment = tcp(payload, src, dst, seq, ack, flags, options=options, window=window)
    return ethernet(ip(segment, src[0], dst[0], TCP_NUMBER, ident), src_mac, dst_mac, None, vlans)


def udp_frame(
    payload: bytes, src: tuple[str, int], dst: tuple[str, int], *, with_checksum: bool = True
) -> bytes:
    """Ethernet + IP + UDP around `payload`."""
    datagram = udp(payload, src, dst, with_checksum=with_checksum)
    return ethernet(ip(datagram, src[0], dst[0], UDP_NUMBER))


def vxlan(frame: bytes, vni: int, *, flags: int = 0x08, reserved: int = 0, reserved_end: int = 0) -> bytes:
    """A VXLAN header (RFC 7348 section 5) and the frame behind it: a UDP payload."""
    return (
        bytes([flags]) + reserved.to_bytes(3, "big") + vni.to_bytes(3, "big") + bytes([reserved_end]) + frame
    )


def geneve(payload: bytes, vni: int, *, options: bytes = b"", protocol: int = 0x6558) -> bytes:
    """A GENEVE header (RFC 8926 section 3.4), options (whole multiples of 4 bytes) and what follows."""
    if len(options) % 4:
        raise ValueError("GENEVE options are a multiple of 4 bytes")
    return (
        bytes([len(options) // 4, 0])
        + protocol.to_bytes(2, "big")
        + vni.to_bytes(3, "big")
        + b"\0"
        + options
        + payload
    )


def vxlan_source_port(frame: bytes) -> int:
    """The outer source port AWS would give: 0xFF80 and 7 bits of a hash that both directions share."""
    segment = parse_tcp(frame)
    if segment is None:
        return 0xFF80 | zlib.crc32(frame[:14]) & 0x7F
    ends = sorted((segment.src, segment.dst))
    return 0xFF80 | zlib.crc32(repr(ends).encode()) & 0x7F


def vxlan_wrap(
    frame: bytes,
    vni: int,
    *,
    outer_src: str = "10.0.2.20",
    outer_dst: str = "10.0.9.9",
    source_port: int | None = None,
    packet_length: int | None = None,
    port: int = 4789,
    flags: int = 0x08,
) -> bytes:
    """The frame as AWS VPC Traffic Mirroring sends it: outer UDP checksum 0, TTL 255, no DF.

    `packet_length` cuts the mirrored frame as the session's PacketLength does.
    """
    if source_port is None:
        source_port = vxlan_source_port(frame)
    body = vxlan(frame if packet_length is None else frame[:packet_length], vni, flags=flags)
    datagram = udp(body, (outer_src, source_port), (outer_dst, port), with_checksum=":" in outer_src)
    if ":" in outer_src:
        packet = ipv6(datagram, outer_src, outer_dst, UDP_NUMBER, hop_limit=255)
    else:
        packet = ipv4(datagram, outer_src, outer_dst, UDP_NUMBER, ttl=255, flags=0)
    return ethernet(packet, bytes.fromhex("0a5809000001"), bytes.fromhex("0a5809000009"))


def geneve_wrap(packet: bytes, vni: int = 0, *, options: bytes = b"", protocol: int = 0x0800) -> bytes:
    """The packet (IPv4 by default) inside GENEVE on UDP 6081, as a Gateway Load Balancer sends it."""
    body = geneve(packet, vni, options=options, protocol=protocol)
    return udp_frame(body, ("10.0.9.7", 61000), ("10.0.9.9", 6081), with_checksum=False)


@dataclass(frozen=True, slots=True)
class Segment:
    """A TCP segment read back from a frame; `payload` is without Ethernet padding, `options` are TCP's."""

    src: tuple[str, int]
    dst: tuple[str, int]
    seq: int
    ack: int
    flags: int
    window: int
    options: bytes
    payload: bytes


def parse_tcp(frame: bytes) -> Segment | None:
    """Read an Ethernet (VLAN tags allowed) IPv4/IPv6 TCP frame; None for anything else.

    IPv6 extension headers and fragments are not followed: this reads our own captures, nothing hostile. An
    IPv4 total length of 0 (a superframe of segmentation offload) means the rest of the frame.
    """
    at = 12
    while frame[at : at + 2] == b"\x81\x00":
        at += 4
    ethertype = int.from_bytes(frame[at : at + 2], "big")
    at += 2
    if ethertype == IPV4_TYPE and len(frame) >= at + 40 and frame[at + 9] == TCP_NUMBER:
        total = int.from_bytes(frame[at + 2 : at + 4], "big") or len(frame) - at
        src = socket.inet_ntop(socket.AF_INET, frame[at + 12 : at + 16])
        dst = socket.inet_ntop(socket.AF_INET, frame[at + 16 : at + 20])
        end, at = at + total, at + (frame[at] & 15) * 4
    elif ethertype == IPV6_TYPE and len(frame) >= at + 60 and frame[at + 6] == TCP_NUMBER:
        end = at + 40 + int.from_bytes(frame[at + 4 : at + 6], "big")
        src = socket.inet_ntop(socket.AF_INET6, frame[at + 8 : at + 24])
        dst = socket.inet_ntop(socket.AF_INET6, frame[at + 24 : at + 40])
        at += 40
    else:
        return None
    body = at + (frame[at + 12] >> 4) * 4
    return Segment(
        (src, int.from_bytes(frame[at : at + 2], "big")),
        (dst, int.from_bytes(frame[at + 2 : at + 4], "big")),
        int.from_bytes(frame[at + 4 : at + 8], "big"),
        int.from_bytes(frame[at + 8 : at + 12], "big"),
        frame[at + 13],
        int.from_bytes(frame[at + 14 : at + 16], "big"),
        frame[at + 20 : body],
        frame[body:end],
    )


def cut_superframe(frame: bytes, mss: int) -> list[bytes]:
    """Cut a TCP frame of more than `mss` payload bytes into frames a wire would carry; others stay alone."""
    segment = parse_tcp(frame)
    if segment is None or len(segment.payload) <= mss:
        return [frame]
    cut = []
    total = len(segment.payload)
    for at in range(0, total, mss):
        part = segment.payload[at : at + mss]
        flags = segment.flags if at + mss >= total else segment.flags & ~(FIN | PSH)
        cut.append(
            tcp_frame(
                part,
                segment.src,
                segment.dst,
                segment.seq + at,
                segment.ack,
                flags,
                src_mac=frame[6:12],
                dst_mac=frame[0:6],
                options=segment.options,
                window=segment.window,
            )
        )
    return cut


def fragment_ipv4(frame: bytes, size: int) -> list[bytes]:
    """Cut an untagged Ethernet IPv4 frame into fragments of `size` payload bytes (a multiple of 8)."""
    if size % 8:
        raise ValueError("a fragment's size is a multiple of 8")
    head = 14 + (frame[14] & 15) * 4
    src = socket.inet_ntop(socket.AF_INET, frame[26:30])
    dst = socket.inet_ntop(socket.AF_INET, frame[30:34])
    ident = int.from_bytes(frame[18:20], "big")
    payload = frame[head : 14 + int.from_bytes(frame[16:18], "big")]
    fragments = []
    for at in range(0, len(payload), size):
        more = 1 if at + size < len(payload) else 0
        part = payload[at : at + size]
        packet = ipv4(
            part,
            src,
            dst,
            frame[23],
            ttl=frame[22],
            ident=ident,
            flags=more,
            offset=at,
            options=frame[34:head],
        )
        fragments.append(frame[:14] + packet)
    return fragments
