"""TCP conversations as frames, the hostile variants of them, and pcap files.

::

    trace = TcpTrace(client=("10.0.0.1", 40000), server=("10.0.0.2", 5432), mss=1448)
    trace.open()
    trace.client(b"...")
    trace.server(b"...")
    trace.close()
    write_pcap("x.pcap", swap(drop(trace.frames, 4), 7, 8))

The packet builders of `packets` are offered here too, so that a test imports one module.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Literal

from tests.support.packets import (
    ACK,
    CWR,
    ECE,
    FIN,
    MAC_CLIENT,
    MAC_SERVER,
    PSH,
    RST,
    SYN,
    URG,
    Segment,
    checksum,
    cut_superframe,
    ethernet,
    fragment_ipv4,
    geneve,
    geneve_wrap,
    ip,
    ipv4,
    ipv6,
    parse_tcp,
    tcp,
    tcp_frame,
    udp,
    udp_frame,
    vxlan,
    vxlan_source_port,
    vxlan_wrap,
)

__all__ = [
    "ACK",
    "CWR",
    "ECE",
    "FIN",
    "MAC_CLIENT",
    "MAC_SERVER",
    "PSH",
    "RST",
    "START",
    "SYN",
    "URG",
    "Direction",
    "Frame",
    "Segment",
    "TcpTrace",
    "checksum",
    "cut_superframe",
    "data_indices",
    "drop",
    "duplicate",
    "ethernet",
    "fragment_ipv4",
    "geneve",
    "geneve_wrap",
    "ip",
    "ipv4",
    "ipv6",
    "move",
    "parse_tcp",
    "pcap_bytes",
    "read_pcap",
    "swap",
    "tcp",
    "tcp_frame",
    "truncate",
    "udp",
    "udp_frame",
    "vxlan",
    "vxlan_source_port",
    "vxlan_wrap",
    "wrapped",
    "write_pcap",
]

Direction = Literal["client", "server"]
START = 1_790_000_000_000_000  # 2026-09-21T14:13:20Z


@dataclass(frozen=True, slots=True)
class Frame:
    """One captured frame.

    `time` is µs since 1970, `direction` who sent it, `seq` the TCP sequence number on the wire, `payload_len`
    the bytes of TCP payload it carried on the wire (also when `bytes` was cut).
    """

    time: int
    bytes: bytes
    direction: Direction
    seq: int = 0
    payload_len: int = 0
    flags: int = 0
    wire_length: int = 0

    @property
    def length(self) -> int:
        """Bytes on the wire."""
        return self.wire_length or len(self.bytes)


class _End:
    """One end's TCP state: next sequence number to send, next expected, segments not yet acknowledged."""

    __slots__ = ("address", "due", "expected", "ident", "isn", "mac", "next")

    def __init__(self, address: tuple[str, int], isn: int, mac: bytes) -> None:
        self.address = address
        self.isn = isn
        self.mac = mac
        self.next = isn
        self.expected = 0
        self.due = 0
        self.ident = 1


class TcpTrace:
    """Script of one TCP connection; `frames` is what an observer beside it captures.

    ACKs follow a real stack: one for every second segment, the rest rides on the next segment of that end.
    Turns after `close` are allowed (hostile ends do that). `time` is in µs; each frame moves it on by `tick`.
    """

    def __init__(
        self,
        client: tuple[str, int] = ("10.0.1.10", 40000),
        server: tuple[str, int] = ("10.0.2.20", 5432),
        *,
        mss: int = 1448,
        client_isn: int = 1_000_000,
        server_isn: int = 2_000_000,
        time: int = START,
        tick: int = 50,
        timestamps: bool = True,
        vlans: Sequence[int] = (),
        acks: bool = True,
    ) -> None:
        self.mss = mss
        self.time = time
        self.tick = tick
        self.timestamps = timestamps
        self.vlans = vlans
        self.acks = acks
        self.frames: list[Frame] = []
        self._ends: dict[Direction, _End] = {
            "client": _End(client, client_isn, MAC_CLIENT),
            "server": _End(server, server_isn, MAC_SERVER),
        }
        # A trace without open() starts in the middle of an established connection.
        self._ends["client"].expected = server_isn
        self._ends["server"].expected = client_isn

    def open(self) -> None:
        """The three-way handshake."""
        client, server = self._ends["client"], self._ends["server"]
        client.expected = server.expected = 0
        self._emit("client", b"", SYN)
        client.next += 1
        server.expected = client.next
        self._emit("server", b"", SYN | ACK)
        server.next += 1
        client.expected = server.next
        self._emit("client", b"", ACK)

    def client(self, data: bytes, *, captured: bool = True) -> None:
        """The client sends `data` (cut at the MSS); not `captured`: sent and received, but never seen."""
        self.send("client", data, captured=captured)

    def server(self, data: bytes, *, captured: bool = True) -> None:
        """The server sends `data`; see `client`."""
        self.send("server", data, captured=captured)

    def send(self, who: Direction, data: bytes, *, captured: bool = True) -> None:
        """`who` sends `data`, cut at the MSS, with PSH on the last segment."""
        me, peer = self._ends[who], self._ends[self._other(who)]
        for at in range(0, len(data), self.mss):
            part = data[at : at + self.mss]
            flags = ACK | PSH if at + self.mss >= len(data) else ACK
            if captured:
                self._emit(who, part, flags)
            me.due = 0
            me.next += len(part)
            peer.expected = me.next
            peer.due += 1
            if peer.due >= 2 and self.acks:
                self.ack(self._other(who))

    def ack(self, who: Direction) -> None:
        """A pure ACK of all that `who` has received."""
        self._ends[who].due = 0
        self._emit(who, b"", ACK)

    def segment(self, who: Direction, data: bytes, *, back: int = 0, flags: int = ACK | PSH) -> None:
        """One segment at `back` bytes before the end of what `who` has sent, without changing any state.

        With old bytes it is a retransmission, with others a conflicting overlap, with `back` negative a
        segment from the future; `data` of one byte and back=1 after an idle time is a keep-alive.
        """
        self._emit(who, data, flags, self._ends[who].next - back)

    def retransmit(self, index: int) -> None:
        """Send the frame `frames[index]` again, now."""
        self.frames.append(replace(self.frames[index], time=self._clock()))

    def fin(self, who: Direction) -> None:
        """`who` closes its direction; the peer acknowledges with its next segment or at `close`."""
        self._emit(who, b"", FIN | ACK)
        self._ends[who].next += 1
        self._ends[self._other(who)].expected = self._ends[who].next

    def close(self, first: Direction = "client") -> None:
        """Both ends close in order, `first` first."""
        self.fin(first)
        self.fin(self._other(first))
        self.ack(first)

    def reset(self, who: Direction) -> None:
        """`who` aborts the connection."""
        self._emit(who, b"", RST | ACK)

    def wait(self, microseconds: int) -> None:
        """Let time pass."""
        self.time += microseconds

    def wrapped(self, vni: int, packet_length: int | None = None) -> list[Frame]:
        """The frames inside VXLAN as AWS sends them; see `wrapped` of this module."""
        return wrapped(self.frames, vni, packet_length)

    @staticmethod
    def _other(who: Direction) -> Direction:
        return "server" if who == "client" else "client"

    def _clock(self) -> int:
        now = self.time
        self.time += self.tick
        return now

    def _emit(self, who: Direction, data: bytes, flags: int, seq: int | None = None) -> None:
        me, peer = self._ends[who], self._ends[self._other(who)]
        if seq is None:
            seq = me.next
        options = b""
        if flags & SYN:
            options = b"\x02\x04" + min(self.mss + 12, 65495).to_bytes(2, "big") + b"\x04\x02"
        now = self._clock()
        if self.timestamps:
            value = (now // 1000) & 0xFFFFFFFF
            echo = 0 if flags == SYN else max(value - 1, 0)
            options += (
                (b"" if flags & SYN else b"\x01\x01")
                + b"\x08\x0a"
                + value.to_bytes(4, "big")
                + echo.to_bytes(4, "big")
            )
        if flags & SYN:
            options += b"\x01\x03\x03\x07"
        frame = tcp_frame(
            data,
            me.address,
            peer.address,
            seq,
            me.expected if flags & ACK else 0,
            flags,
            src_mac=me.mac,
            dst_mac=peer.mac,
            options=options,
            vlans=self.vlans,
            ident=me.ident,
        )
        me.ident += 1
        self.frames.append(Frame(now, frame, who, seq & 0xFFFFFFFF, len(data), flags))


def data_indices(frames: Sequence[Frame], direction: Direction | None = None) -> list[int]:
    """Indices of the frames that carry payload (of one direction)."""
    return [
        index
        for index, frame in enumerate(frames)
        if frame.payload_len and (direction is None or frame.direction == direction)
    ]


def drop(frames: Sequence[Frame], *indices: int) -> list[Frame]:
    """Without these frames: the observer did not get them."""
    return [frame for index, frame in enumerate(frames) if index not in indices]


def duplicate(frames: Sequence[Frame], index: int, later: int = 1) -> list[Frame]:
    """The frame `index` is captured once more, `later` places after itself."""
    out = list(frames)
    at = min(index + later, len(out))
    out.insert(at, replace(out[index], time=out[at - 1].time + 1))
    return out


def swap(frames: Sequence[Frame], first: int, second: int) -> list[Frame]:
    """Two frames change places; the clock of the capture stays in order."""
    out = list(frames)
    a, b = out[first], out[second]
    out[first], out[second] = replace(b, time=a.time), replace(a, time=b.time)
    return out


def move(frames: Sequence[Frame], index: int, later: int) -> list[Frame]:
    """The frame `index` arrives `later` places late; the clock of the capture stays in order."""
    out = list(frames)
    frame = out.pop(index)
    out.insert(index + later, frame)
    return [replace(one, time=old.time) for one, old in zip(out, frames, strict=True)]


def truncate(frames: Sequence[Frame], index: int, captured: int) -> list[Frame]:
    """Only the first `captured` bytes of the frame `index` were captured; its wire length is kept."""
    out = list(frames)
    out[index] = replace(out[index], bytes=out[index].bytes[:captured], wire_length=out[index].length)
    return out


def wrapped(frames: Iterable[Frame], vni: int, packet_length: int | None = None) -> list[Frame]:
    """Each frame inside VXLAN as AWS VPC Traffic Mirroring sends it.

    `packet_length` is the session's PacketLength: a longer frame is cut, and as on AWS only the inner IP
    length tells (the outer packet is whole, so `wire_length` is its own).
    """
    return [
        replace(frame, bytes=vxlan_wrap(frame.bytes, vni, packet_length=packet_length), wire_length=0)
        for frame in frames
    ]


def pcap_bytes(
    frames: Iterable[Frame],
    *,
    link_type: int = 1,
    nanoseconds: bool = False,
    big_endian: bool = False,
    snaplen: int = 262144,
) -> bytes:
    """A whole pcap file (libpcap format 2.4)."""
    order: Literal["big", "little"] = "big" if big_endian else "little"

    def word(value: int, size: int = 4) -> bytes:
        return value.to_bytes(size, order)

    out = [word(0xA1B23C4D if nanoseconds else 0xA1B2C3D4) + word(2, 2) + word(4, 2) + word(0) + word(0)]
    out.append(word(snaplen) + word(link_type))
    for frame in frames:
        seconds, fraction = divmod(frame.time, 1_000_000)
        captured = frame.bytes[:snaplen]
        out.append(
            word(seconds)
            + word(fraction * 1000 if nanoseconds else fraction)
            + word(len(captured))
            + word(frame.length)
        )
        out.append(captured)
    return b"".join(out)


def write_pcap(
    target: str | Path | BinaryIO, frames: Iterable[Frame], *, link_type: int = 1, nanoseconds: bool = False
) -> int:
    """Write a pcap file; returns its size in bytes."""
    data = pcap_bytes(frames, link_type=link_type, nanoseconds=nanoseconds)
    if isinstance(target, (str, Path)):
        Path(target).write_bytes(data)
    else:
        target.write(data)
    return len(data)


def read_pcap(data: bytes, server_port: int = 5432) -> list[Frame]:
    """Read back what `pcap_bytes` wrote (µs, little endian, Ethernet); `server_port` tells the server."""
    frames: list[Frame] = []
    at = 24
    while at + 16 <= len(data):
        seconds, fraction, captured, length = (
            int.from_bytes(data[i : i + 4], "little") for i in range(at, at + 16, 4)
        )
        frame = data[at + 16 : at + 16 + captured]
        at += 16 + captured
        segment = parse_tcp(frame)
        time = seconds * 1_000_000 + fraction
        if segment is None:
            frames.append(Frame(time, frame, "client", wire_length=length))
            continue
        who: Direction = "server" if segment.src[1] == server_port else "client"
        frames.append(Frame(time, frame, who, segment.seq, len(segment.payload), segment.flags, length))
    return frames
