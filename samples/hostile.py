"""What goes wrong between a mirror and its collector, done to a good capture; and traffic that is no
PostgreSQL.

A variant is a function from the frames of one or several good connections (not yet in VXLAN) to frames.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from tests.support import pgmsg
from tests.support.wrap import (
    FIN,
    SYN,
    Frame,
    TcpTrace,
    data_indices,
    drop,
    ethernet,
    fragment_ipv4,
    geneve_wrap,
    move,
    parse_tcp,
    tcp_frame,
    vxlan_wrap,
    wrapped,
)

__all__ = ["VARIANTS", "VNI", "not_postgres"]

VNI = 5569041
Frames = Sequence[Frame]


def _rebuilt(
    frames: Frames, *, client_shift: int = 0, server_shift: int = 0, vlan: int = 0, options: bool = True
) -> list[Frame]:
    """The same connection with other sequence numbers, a VLAN tag or without TCP options."""
    out = []
    for frame in frames:
        segment = parse_tcp(frame.bytes)
        assert segment is not None
        mine, peers = client_shift, server_shift
        if frame.direction == "server":
            mine, peers = peers, mine
        # The first SYN acknowledges nothing.
        ack = segment.ack if frame.flags == SYN else segment.ack + peers
        whole = tcp_frame(
            segment.payload,
            segment.src,
            segment.dst,
            segment.seq + mine,
            ack,
            segment.flags,
            src_mac=frame.bytes[6:12],
            dst_mac=frame.bytes[0:6],
            options=segment.options if options else b"",
            vlans=(vlan,) if vlan else (),
            window=segment.window,
        )
        out.append(replace(frame, bytes=whole, seq=(segment.seq + mine) & 0xFFFFFFFF))
    return out


def wrapped_sequence(frames: Frames) -> list[Frame]:
    """Sequence numbers of both ends pass 2^32 in the middle of the session."""
    first = {who: next(f for f in frames if f.direction == who) for who in ("client", "server")}
    total = {who: sum(f.payload_len for f in frames if f.direction == who) for who in ("client", "server")}
    shift = {who: -first[who].seq - total[who] // 2 for who in first}
    return wrapped(_rebuilt(frames, client_shift=shift["client"], server_shift=shift["server"]), VNI)


def reordered(frames: Frames) -> list[Frame]:
    """Every fifth data segment arrives three frames late."""
    out = list(frames)
    for index in data_indices(frames)[2::5]:
        if index + 3 < len(out):
            out = move(out, index, 3)
    return wrapped(out, VNI)


def duplicated(frames: Frames) -> list[Frame]:
    """Two network interfaces mirror the connection: every frame comes twice, from two outer addresses."""
    out = []
    for frame in frames:
        for at, outer in enumerate(("10.0.1.10", "10.0.2.20")):
            out.append(
                replace(frame, time=frame.time + at, bytes=vxlan_wrap(frame.bytes, VNI, outer_src=outer))
            )
    return sorted(out, key=lambda frame: frame.time)


def retransmitted(frames: Frames) -> list[Frame]:
    """Segments are sent again, some of them cut differently, before and after new data."""
    out: list[Frame] = []
    for number, frame in enumerate(frames):
        out.append(frame)
        if not frame.payload_len or number % 3:
            continue
        segment = parse_tcp(frame.bytes)
        assert segment is not None
        at = frame.payload_len // 2
        again = tcp_frame(
            segment.payload[at:],
            segment.src,
            segment.dst,
            segment.seq + at,
            segment.ack,
            segment.flags,
            src_mac=frame.bytes[6:12],
            dst_mac=frame.bytes[0:6],
            options=segment.options,
            window=segment.window,
        )
        seq = (segment.seq + at) & 0xFFFFFFFF
        out.append(
            replace(frame, time=frame.time + 1, bytes=again, seq=seq, payload_len=frame.payload_len - at)
        )
    return wrapped(out, VNI)


def lost_request(frames: Frames) -> list[Frame]:
    """One segment of the client, in the middle of the session, was not mirrored."""
    requests = data_indices(frames, "client")
    return wrapped(drop(frames, requests[len(requests) // 2]), VNI)


def lost_response(frames: Frames) -> list[Frame]:
    """One segment of the server, in the middle of the session, was not mirrored."""
    responses = data_indices(frames, "server")
    return wrapped(drop(frames, responses[len(responses) // 2]), VNI)


def lost_many(frames: Frames) -> list[Frame]:
    """Every seventh frame was not mirrored, whatever it was."""
    return wrapped(drop(frames, *range(6, len(frames), 7)), VNI)


def truncated(frames: Frames) -> list[Frame]:
    """The mirror session's PacketLength is 200: the rest of each longer frame was never sent."""
    return wrapped(frames, VNI, packet_length=200)


def mid_stream(frames: Frames) -> list[Frame]:
    """The capture begins after the login and ends before the connection does."""
    requests = data_indices(frames, "client")
    begin = requests[min(5, len(requests) // 3)]
    return wrapped([frame for frame in frames[begin:] if not frame.flags & FIN], VNI)


def one_sided(frames: Frames) -> list[Frame]:
    """Only what the client sent was mirrored."""
    return wrapped([frame for frame in frames if frame.direction == "client"], VNI)


def server_only(frames: Frames) -> list[Frame]:
    """Only what the server sent was mirrored."""
    return wrapped([frame for frame in frames if frame.direction == "server"], VNI)


def vlan_tagged(frames: Frames) -> list[Frame]:
    """The mirrored frames carry an 802.1Q tag."""
    return wrapped(_rebuilt(frames, vlan=0x2064), VNI)


def two_networks(frames: Frames) -> list[Frame]:
    """The same addresses and ports in two virtual networks, and once without VXLAN: three sessions."""
    out: list[Frame] = []
    for frame in frames:
        inner = (frame.bytes, vxlan_wrap(frame.bytes, 4242), vxlan_wrap(frame.bytes, 4711))
        out += [replace(frame, bytes=one, time=frame.time + at) for at, one in enumerate(inner)]
    return out


def port_reused(frames: Frames) -> list[Frame]:
    """The client's port is used again a second later, by a connection whose predecessor's end was lost."""
    ended = [frame for frame in frames if not frame.flags & FIN]
    gap = frames[-1].time - frames[0].time + 1_000_000
    again = _rebuilt(frames, client_shift=77_000_000, server_shift=99_000_000)
    return wrapped([*ended, *(replace(frame, time=frame.time + gap) for frame in again)], VNI)


def fragmented(frames: Frames) -> list[Frame]:
    """The mirrored packets of more than 400 bytes are IPv4 fragments."""
    out: list[Frame] = []
    for number, frame in enumerate(frames):
        if len(frame.bytes) <= 400:
            out.append(frame)
            continue
        named = frame.bytes[:18] + (number + 1).to_bytes(2, "big") + frame.bytes[20:]
        out += [replace(frame, bytes=part) for part in fragment_ipv4(named, 360)]
    return wrapped(out, VNI)


def plain(frames: Frames) -> list[Frame]:
    """No VXLAN: captured beside the server."""
    return list(frames)


def geneve_gateway(frames: Frames) -> list[Frame]:
    """By way of a Gateway Load Balancer: the VXLAN packet inside GENEVE."""
    option = bytes.fromhex("0108010200000000deadbeef")
    return [
        replace(frame, bytes=geneve_wrap(vxlan_wrap(frame.bytes, VNI)[14:], 0, options=option))
        for frame in frames
    ]


def padded(frames: Frames) -> list[Frame]:
    """Short frames are padded to 60 bytes, as network cards do; there are no TCP timestamps."""
    bare = _rebuilt(frames, options=False)
    return wrapped([replace(frame, bytes=frame.bytes.ljust(60, b"\0")) for frame in bare], VNI)


VARIANTS: dict[str, Callable[[Frames], list[Frame]]] = {
    one.__name__: one
    for one in (
        wrapped_sequence,
        reordered,
        duplicated,
        retransmitted,
        lost_request,
        lost_response,
        lost_many,
        truncated,
        mid_stream,
        one_sided,
        server_only,
        vlan_tagged,
        two_networks,
        port_reused,
        fragmented,
        plain,
        geneve_gateway,
        padded,
    )
}


def not_postgres(start: int) -> list[Frame]:
    """Port 5432 with HTTP, lying lengths, random bytes, an endless startup; and frames that are no TCP."""
    http = TcpTrace(("10.0.1.10", 41000), time=start)
    http.open()
    http.client(b"GET / HTTP/1.1\r\nHost: db.internal\r\n\r\n")
    http.server(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    http.close()
    lying = TcpTrace(("10.0.1.10", 41002), time=start + 1_000_000)
    lying.open()
    lying.client(pgmsg.startup())
    lying.server(pgmsg.login())
    lying.client(pgmsg.message("Q", b"select 'the length is a lie'\0", length=0x7FFFFFFF))
    lying.server(pgmsg.message("T", b"\xff\xff", length=3))
    lying.reset("server")
    noise = TcpTrace(("10.0.1.10", 41004), time=start + 2_000_000)
    noise.open()
    noise.client(bytes((number * 167 + 13) & 0xFF for number in range(3000)))
    noise.server(bytes((number * 101 + 7) & 0xFF for number in range(3000)))
    noise.close("server")
    endless = TcpTrace(("10.0.1.10", 41006), time=start + 3_000_000)
    endless.open()
    endless.client(b"\x00\x00\x27\x10\x00\x03\x00\x00user\0" + b"a" * 5000)
    endless.close()
    arp = ethernet(bytes.fromhex("0001080006040001") + bytes(20), ethertype=0x0806)
    runt = Frame(start + 4_000_000, b"\x02\x00", "client")
    frames = [*http.frames, *lying.frames, *noise.frames, *endless.frames, runt, replace(runt, bytes=arp)]
    return [*wrapped(frames, VNI), replace(runt, bytes=vxlan_wrap(b"", VNI)), runt]
