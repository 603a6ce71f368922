"""Capture files made by hand in every variant of the formats, and a sink that checks and keeps frames."""

import io
import struct
from collections.abc import Iterator, Sequence

from mypy_extensions import i64

from mirror_audit.capture.files import BLOCK_SIZE, CaptureFile
from mirror_audit.capture.frames import FrameSink
from mirror_audit.capture.pcapng import MAX_TIME
from mirror_audit.errors import CaptureError

Seen = tuple[bytes, int, int, int]
"""A frame as the sink gets it: captured bytes, wire length, link type, time in microseconds."""

MICROSECONDS, NANOSECONDS, MODIFIED = 0xA1B2C3D4, 0xA1B23C4D, 0xA1B2CD34


class Collect(FrameSink):
    """Keeps the frames, and checks what FrameSink promises of every one of them."""

    def __init__(self) -> None:
        self.frames: list[Seen] = []

    def frame(self, buf: bytes, start: i64, end: i64, wire_length: i64, link_type: i64, time: i64) -> None:
        assert 0 <= start <= end <= len(buf)
        assert wire_length >= end - start
        assert 0 <= time <= MAX_TIME
        self.frames.append((buf[start:end], wire_length, link_type, time))


def read_capture(data: bytes, block_size: int = BLOCK_SIZE) -> tuple[list[Seen], CaptureError | None]:
    """All frames of the capture in `data`, and the error that it ends in."""
    sink = Collect()
    error: CaptureError | None = None
    try:
        with CaptureFile("test", io.BytesIO(data), block_size) as capture:
            while capture.read_block(sink):
                pass
            assert capture.packets == len(sink.frames)
            assert capture.bytes_read == len(data)
            assert capture.read_block(sink) is False
    except CaptureError as caught:
        error = caught
    assert error is None or error.packet == len(sink.frames)
    return sink.frames, error


def pcap_record(frame: Seen, order: str = "<", magic: int = MICROSECONDS, nanoseconds: int = 0) -> bytes:
    """`nanoseconds` (0..999) go on top of the frame's microseconds."""
    data, wire_length, _, time = frame
    seconds, fraction = divmod(time, 1_000_000)
    if magic == NANOSECONDS:
        fraction = fraction * 1000 + nanoseconds
    record = struct.pack(order + "IIII", seconds, fraction, len(data), wire_length)
    if magic == MODIFIED:
        record += struct.pack(order + "IHBB", 2, 0x0800, 4, 0)
    return record + data


def pcap_header(order: str = "<", magic: int = MICROSECONDS, link_type: int = 1) -> bytes:
    """`link_type` is the whole field, with what is above the link type."""
    return struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 262144, link_type)


def pcap(frames: Sequence[Seen], order: str = "<", magic: int = MICROSECONDS, link_type: int = 1) -> bytes:
    return pcap_header(order, magic, link_type) + b"".join(pcap_record(f, order, magic, 999) for f in frames)


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    """A pcapng block; the body is padded to 32 bits."""
    body += bytes(-len(body) % 4)
    length = struct.pack(order + "I", len(body) + 12)
    return struct.pack(order + "I", kind) + length + body + length


def section(order: str = "<", version: int = 1) -> bytes:
    return block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, version, 0, -1), order)


def option(code: int, value: bytes, order: str = "<") -> bytes:
    return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


def interface(
    link_type: int = 1,
    order: str = "<",
    resolution: int | None = None,
    offset: int | None = None,
    snap_length: int = 0,
) -> bytes:
    """An Interface Description Block with a name, and with a clock if one is given."""
    options = option(2, b"eth0", order)
    if resolution is not None:
        options += option(9, bytes([resolution]), order)
    if offset is not None:
        options += option(14, struct.pack(order + "q", offset), order)
    return block(
        1, struct.pack(order + "HHI", link_type, 0, snap_length) + options + option(0, b"", order), order
    )


def enhanced(
    data: bytes, ticks: int, wire_length: int, number: int = 0, order: str = "<", options: bytes = b""
) -> bytes:
    """An Enhanced Packet Block of interface `number`."""
    head = struct.pack(order + "IIIII", number, ticks >> 32, ticks & 0xFFFFFFFF, len(data), wire_length)
    return block(6, head + data + bytes(-len(data) % 4) + options, order)


def obsolete(data: bytes, ticks: int, wire_length: int, number: int = 0, order: str = "<") -> bytes:
    """A Packet Block."""
    head = struct.pack(order + "HHIIII", number, 7, ticks >> 32, ticks & 0xFFFFFFFF, len(data), wire_length)
    return block(2, head + data, order)


def simple(data: bytes, wire_length: int, order: str = "<") -> bytes:
    """A Simple Packet Block."""
    return block(3, struct.pack(order + "I", wire_length) + data, order)


def secrets(kind: int, data: bytes, order: str = "<") -> bytes:
    """A Decryption Secrets Block with a comment after the secrets."""
    head = struct.pack(order + "II", kind, len(data))
    return block(10, head + data + bytes(-len(data) % 4) + option(1, b"note", order), order)


def pcapng(frames: Sequence[Seen], order: str = "<") -> bytes:
    """One section, one interface of the first frame's link type, Enhanced Packet Blocks."""
    link_type = frames[0][2] if frames else 1
    packets = (enhanced(data, time, wire, order=order) for data, wire, _, time in frames)
    return section(order) + interface(link_type, order) + b"".join(packets)


class Endless:
    """A raw source that makes its bytes when they are asked for: `header`, then `record` `count` times."""

    def __init__(self, header: bytes, record: bytes, count: int) -> None:
        self._chunks = self._make(header, record, count)

    @staticmethod
    def _make(header: bytes, record: bytes, count: int) -> Iterator[bytes]:
        yield header
        at_once = max(1, BLOCK_SIZE // len(record))
        many = record * at_once
        for _ in range(count // at_once):
            yield many
        yield record * (count % at_once)

    def read(self, size: int, /) -> bytes:
        return next(self._chunks, b"")

    def fileno(self) -> int:
        raise OSError

    def close(self) -> None:
        self._chunks = iter(())
