"""What really went over loopback: an AF_PACKET sniffer, and a way to make its frames look like a network's.

The sniffer needs CAP_NET_RAW (`available()` says why it cannot run; `proxy.RecordingProxy` needs no
privilege). Loopback shows every frame twice, outgoing and incoming: only the outgoing one is kept.
"""

import contextlib
import ctypes
import socket
import struct
import threading
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from tests.support.packets import (
    MAC_CLIENT,
    MAC_SERVER,
    SYN,
    cut_superframe,
    parse_tcp,
    tcp_frame,
)
from tests.support.wrap import Direction, Frame

__all__ = ["Sniffer", "as_network", "available"]

ETH_P_ALL = 0x0003
PACKET_OUTGOING = 4
PACKET_STATISTICS = 6
SOL_PACKET = 263
SO_ATTACH_FILTER = 26
SO_RCVBUFFORCE = 33
SO_TIMESTAMPNS = 35
RECEIVE_BUFFER = 64 << 20
FRAME_LIMIT = 1 << 18
DRAIN_LIMIT = 20.0


def available() -> str | None:
    """Why the sniffer cannot run here; None if it can."""
    if not hasattr(socket, "AF_PACKET"):
        return "AF_PACKET sockets exist on Linux only"
    try:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as probe:
            probe.bind(("lo", 0))
    except OSError as error:
        return f"no packet socket (needs CAP_NET_RAW): {error}"
    return None


def _filter(ports: tuple[int, ...]) -> bytes:
    """A classic BPF program: frames from or to one of the ports (TCP or UDP, IPv4 or plain IPv6).

    What is neither IPv4 nor IPv6 is read as IPv6; the ports are checked again by who receives.
    """
    load_half, load_half_indexed, header_length, jump_equal, give = 0x28, 0x48, 0xB1, 0x15, 0x06
    block = 2 * (1 + len(ports))  # twice: load a port field, compare it with each port
    accept = 3 + block + 1 + block + 1
    code = [(load_half, 0, 0, 12), (jump_equal, 0, 1 + block + 1, 0x0800), (header_length, 0, 0, 14)]
    for load, base in ((load_half_indexed, 14), (load_half, 54)):
        for field in (0, 2):
            code.append((load, 0, 0, base + field))
            code += [(jump_equal, accept - len(code) - at - 1, 0, port) for at, port in enumerate(ports)]
        code.append((give, 0, 0, 0))
    code.append((give, 0, 0, FRAME_LIMIT))
    return b"".join(struct.pack("HBBI", *one) for one in code)


class Sniffer:
    """Captures the TCP traffic of a loopback port while the with block runs; then `frames` holds it.

    Leaving the block drains: a datagram sent last marks the end, so every frame sent before is there.
    `dropped` counts what the kernel could not queue (0, or the capture is not whole).
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.frames: list[Frame] = []
        self.dropped = 0
        self._error: BaseException | None = None

    def __enter__(self) -> Self:
        self._mark = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._mark.bind(("127.0.0.1", 0))
        self._mark_port: int = self._mark.getsockname()[1]
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        program = _filter((self.port, self._mark_port))
        held = ctypes.create_string_buffer(program)
        fprog = struct.pack("HL", len(program) // 8, ctypes.addressof(held))
        self._socket.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, fprog)
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self._socket.bind(("lo", ETH_P_ALL))
        self._socket.settimeout(0.5)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sniffer", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._mark.sendto(b"end", ("127.0.0.1", self._mark_port))
        self._thread.join(DRAIN_LIMIT)
        self._stopping.set()
        self._thread.join()
        statistics = self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8)
        self.dropped = struct.unpack("II", statistics)[1]
        self._socket.close()
        self._mark.close()
        if self._error is not None and error is None:
            raise self._error

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                with contextlib.suppress(TimeoutError):
                    if self._receive():
                        return
            self._error = RuntimeError("the sniffer did not see the end mark")
        except OSError as error:
            self._error = error

    def _receive(self) -> bool:
        data, ancillary, _, address = self._socket.recvmsg(FRAME_LIMIT, 64)
        if address[2] != PACKET_OUTGOING:
            return False
        segment = parse_tcp(data)
        if segment is None:
            # UDP on the end mark's port: ours, last of all.
            return data[12:14] == b"\x08\x00" and data[23] == 17 and data.endswith(b"end")
        time = 0
        for level, kind, value in ancillary:
            if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
                seconds, nanoseconds = struct.unpack("ll", value[:16])
                time = seconds * 1_000_000 + nanoseconds // 1000
        if self.port in (segment.src[1], segment.dst[1]):
            who: Direction = "server" if segment.src[1] == self.port else "client"
            self.frames.append(Frame(time, data, who, segment.seq, len(segment.payload), segment.flags))
        return False


def as_network(
    frames: Iterable[Frame],
    *,
    start: int | None,
    server: tuple[str, int] = ("10.0.2.20", 5432),
    clients: tuple[str, ...] = ("10.0.1.10",),
    first_port: int = 52340,
    mss: int = 1448,
) -> list[Frame]:
    """Loopback frames as they would look between two machines.

    Addresses, ports and MACs are replaced (client connections are numbered as they appear, from `first_port`
    in steps of 2, over `clients` in turn), superframes are cut at `mss`, the SYN's MSS option says so,
    checksums are right, and the first frame's time becomes `start` (µs; None keeps the clock).
    """
    ends: dict[tuple[str, int], tuple[str, int]] = {}
    out: list[Frame] = []
    shift: int | None = None
    now = 0
    for frame in frames:
        segment = parse_tcp(frame.bytes)
        if segment is None:
            continue
        if shift is None:
            shift = 0 if start is None else start - frame.time
        now = max(now + 1, frame.time + shift)
        peer = segment.src if frame.direction == "client" else segment.dst
        if peer not in ends:
            ends[peer] = (clients[len(ends) % len(clients)], first_port + 2 * len(ends))
        client = ends[peer]
        src, dst = (client, server) if frame.direction == "client" else (server, client)
        macs = (MAC_CLIENT, MAC_SERVER) if frame.direction == "client" else (MAC_SERVER, MAC_CLIENT)
        options = _with_mss(segment.options, mss + 12) if segment.flags & SYN else segment.options
        whole = tcp_frame(
            segment.payload,
            src,
            dst,
            segment.seq,
            segment.ack,
            segment.flags,
            src_mac=macs[0],
            dst_mac=macs[1],
            options=options,
            window=segment.window,
        )
        for part in cut_superframe(whole, mss):
            read = parse_tcp(part)
            assert read is not None
            out.append(Frame(now, part, frame.direction, read.seq, len(read.payload), read.flags))
            now += 1
    return out


def _with_mss(options: bytes, mss: int) -> bytes:
    at = 0
    while at < len(options) and options[at] != 0:
        if options[at] == 1:
            at += 1
            continue
        if options[at] == 2:
            return options[: at + 2] + mss.to_bytes(2, "big") + options[at + 4 :]
        at += max(options[at + 1], 2)
    return options
