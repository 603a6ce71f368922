"""Opening captures, compressed ones, standard input and live pipes, errors for the user, memory."""

import gzip
import io
import os
import random
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from mypy_extensions import i64

from mirror_audit.capture.files import CaptureFile, RawSource, open_capture
from mirror_audit.capture.frames import FrameSink
from mirror_audit.capture.pcapng import MAX_SECRETS, MAX_SECRETS_BYTES
from mirror_audit.errors import CaptureError
from tests.capture import build
from tests.capture.build import Collect, Endless, Seen, interface, read_capture, section

T = 1_764_000_000_123_456
FRAMES: list[Seen] = [(random.Random(i).randbytes(40 * i), 40 * i, 1, T + i) for i in range(9)]
PCAP = build.pcap(FRAMES)
PCAPNG = build.pcapng(FRAMES)


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


def skippable(data: bytes) -> bytes:
    return b"\x5f\x2a\x4d\x18" + len(data).to_bytes(4, "little") + data


PACKED = {
    "gzip": gzip.compress(PCAP),
    "gzip of pcapng": gzip.compress(PCAPNG),
    "gzip members": gzip.compress(PCAP[:7])
    + gzip.compress(b"")
    + gzip.compress(PCAP[7:100], 0)
    + gzip.compress(PCAP[100:]),
    "gzip with name": b"\x1f\x8b\x08\x08\0\0\0\0\0\3name\0" + gzip.compress(PCAP)[10:],
    "gzip, padded": gzip.compress(PCAP) + bytes(1000),
    "zstd": zstd(PCAP),
    "zstd of pcapng": zstd(PCAPNG),
    "zstd frames": zstd(PCAP[:7]) + zstd(b"") + zstd(PCAP[7:100]) + skippable(b"note") + zstd(PCAP[100:]),
    "zstd as pzstd writes it": skippable(b"\0\1\0\0") + zstd(PCAP),
}


@pytest.mark.parametrize("block_size", [1, 2, 7, 100, 1 << 16])
@pytest.mark.parametrize("data", PACKED.values(), ids=PACKED.keys())
def test_compressed(data: bytes, block_size: int) -> None:
    assert read_capture(data, block_size) == (FRAMES, None)


@pytest.mark.parametrize("block_size", [1, 50, 1 << 16])
@pytest.mark.parametrize(("name", "reason"), [("gzip", "gzip data"), ("zstd", "zstd data")])
def test_compressed_and_cut_off(name: str, reason: str, block_size: int) -> None:
    data = PACKED[name]
    for cut in range(4, len(data)):
        seen, error = read_capture(data[:cut], block_size)
        assert seen == FRAMES[: len(seen)]
        assert error is not None
        assert error.reason == f"ends in the middle of its {reason}"
    assert len(seen) == len(FRAMES)


@given(
    data=st.sampled_from(sorted(PACKED.values())),
    position=st.integers(0),
    value=st.binary(min_size=1, max_size=4),
    block_size=st.sampled_from([1, 50, 1 << 16]),
)
@settings(max_examples=200, deadline=None)
def test_compressed_and_damaged(data: bytes, position: int, value: bytes, block_size: int) -> None:
    start = position % len(data)
    read_capture(data[:start] + value + data[start + len(value) :], block_size)


def test_all_before_damaged_gzip_data_is_delivered() -> None:
    frames: list[Seen] = [(bytes([i % 256]) * 90, 90, 1, T + i) for i in range(1000)]
    data = bytearray(gzip.compress(build.pcap(frames), 0))
    # Level 0 stores blocks as they are, each after its length (RFC 1951, 3.2.4): spoil the second one's.
    stored = int.from_bytes(data[11:13], "little")
    data[15 + stored + 1] ^= 0xFF
    for block_size in (100, 1 << 16, 1 << 20):
        seen, error = read_capture(bytes(data), block_size)
        assert seen == frames[: (stored - 24) // 106]
        assert error is not None
        assert "has damaged gzip data" in error.reason
        assert error.offset == 24 + 106 * len(seen)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (gzip.compress(PCAP) + b"garbage", "has damaged gzip data"),
        (gzip.compress(PCAP)[:-8] + bytes(8), "has damaged gzip data"),
        (zstd(PCAP) + b"garbage", "has damaged zstd data"),
    ],
)
def test_damage_after_the_last_frame(data: bytes, reason: str) -> None:
    seen, error = read_capture(data)
    assert seen == FRAMES
    assert error is not None
    assert reason in error.reason


FOREIGN = [
    (b"", "is empty"),
    (b"SELECT 1;\nSELECT 2;\nSELECT 3;\n", "is not a capture: starts with text"),
    ("größer als 24 Zeichen ist das".encode(), "is not a capture: starts with text"),
    (("x" * 23 + "ö").encode(), "is not a capture: starts with text"),
    (b"x", "is not a capture: starts with text"),
    (b"\x89PNG\r\n\x1a\n" + bytes(30), "is not a capture: starts with bytes 89 50 4e 47 0d 0a 1a 0a"),
    (b"\xff", "is not a capture: starts with bytes ff"),
    (b"\x0a\x0d\x0d\x0a" + bytes(30), "is not a capture: starts with bytes 0a 0d 0d 0a 00 00 00 00"),
    (b"\xfd7zXZ\x00" + bytes(30), "is compressed with xz: decompress it first"),
    (b"BZh91AY&SY" + bytes(30), "is compressed with bzip2: decompress it first"),
    (b"PK\x03\x04" + bytes(30), "is a zip archive: unpack it first"),
    (gzip.compress(b""), "is empty after gzip decompression"),
    (zstd(b""), "is empty after zstd decompression"),
    (gzip.compress(b"hello, world\n" * 9), "is not a capture: starts with text after gzip decompression"),
    (
        gzip.compress(gzip.compress(PCAP, mtime=0)),
        "is not a capture: starts with bytes 1f 8b 08 00 00 00 00 00 after gzip decompression",
    ),
    (gzip.compress(PCAP)[:12], "ends in the middle of its gzip data"),
    (b"\x1f\x8b", "ends in the middle of its gzip data"),
    (
        b"\x1f\x8b\x07" + bytes(30),
        "has damaged gzip data (Error -3 while decompressing data: unknown compression method)",
    ),
    (PCAP[:23], "ends in the middle of its file header"),
    (PCAP[:4], "ends in the middle of its file header"),
]


@pytest.mark.parametrize(("data", "reason"), FOREIGN)
def test_foreign(tmp_path: Path, data: bytes, reason: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    for block_size in (1, 1 << 16):
        with pytest.raises(CaptureError) as caught:
            open_capture(str(path), block_size)
        assert (caught.value.source, caught.value.reason) == (str(path), reason)
        assert (caught.value.offset, caught.value.packet) == (0, 0)


def test_cannot_be_opened(tmp_path: Path) -> None:
    for path, reason in [
        (str(tmp_path / "none.pcap"), "does not exist"),
        (str(tmp_path), "is a directory, not a capture file"),
        ("a\0b", "cannot be opened: embedded null byte"),
        ("x" * 5000, "cannot be opened: file name too long"),
    ]:
        with pytest.raises(CaptureError) as caught:
            open_capture(path)
        assert caught.value.reason == reason


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="needs POSIX permissions")
def test_permission_denied(tmp_path: Path) -> None:
    path = tmp_path / "secret.pcap"
    path.write_bytes(PCAP)
    path.chmod(0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        with pytest.raises(CaptureError) as caught:
            open_capture(str(path))
    finally:
        os.seteuid(user)
    assert caught.value.reason == "cannot be opened: permission denied"


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that cannot be read")
def test_input_output_error() -> None:
    with pytest.raises(CaptureError, match="cannot be read: input/output error"):
        open_capture("/proc/self/mem")


def test_without_zstandard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "capture"
    path.write_bytes(PACKED["zstd"])
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(
        CaptureError, match="is compressed with zstd: install the package zstandard, or decomp"
    ):
        open_capture(str(path))


def test_progress_and_close(tmp_path: Path) -> None:
    path = tmp_path / "capture"
    path.write_bytes(PACKED["gzip of pcapng"])
    sink = Collect()
    with open_capture(str(path), 16) as capture:
        assert capture.bytes_total == len(PACKED["gzip of pcapng"])
        positions = [(capture.bytes_read, capture.offset, capture.packets)]
        while capture.read_block(sink):
            positions.append((capture.bytes_read, capture.offset, capture.packets))
    assert positions == sorted(positions)
    assert positions[0][1:] == (0, 0)
    assert positions[-1] == (capture.bytes_total, len(PCAPNG), len(FRAMES))
    assert sink.frames == FRAMES
    with pytest.raises(CaptureError, match="is closed"):
        capture.read_block(sink)
    capture.close()


def test_the_error_stays() -> None:
    sink = Collect()
    capture = CaptureFile("cut", io.BytesIO(PCAP[:-1]))
    assert capture.read_block(sink)
    for _ in range(2):
        with pytest.raises(
            CaptureError, match=r"cut: ends in the middle of packet 9 \(byte 1272, after packet 8\)"
        ):
            capture.read_block(sink)
    assert sink.frames == FRAMES[:-1]


def test_secrets_are_bounded() -> None:
    def secrets_of(*blocks: bytes) -> tuple[list[tuple[int, bytes]], int]:
        capture = CaptureFile("test", io.BytesIO(section() + b"".join(blocks)))
        while capture.read_block(Collect()):
            pass
        return capture.secrets, capture.secrets_dropped

    assert secrets_of(build.secrets(7, b"abcde"), section(">"), build.secrets(8, b"", ">")) == (
        [(7, b"abcde"), (8, b"")],
        0,
    )
    many, dropped = secrets_of(build.secrets(1, b"x") * (MAX_SECRETS + 3))
    assert (len(many), dropped) == (MAX_SECRETS, 3)
    half = bytes(MAX_SECRETS_BYTES // 2)
    kept, dropped = secrets_of(*[build.secrets(1, half)] * 3, build.secrets(2, bytes(MAX_SECRETS_BYTES)))
    assert ([len(data) for _, data in kept], dropped) == ([len(half)] * 2, 2)
    assert CaptureFile("test", io.BytesIO(PCAP)).secrets == []


def test_live_pipe_is_read_without_delay() -> None:
    reading, writing = os.pipe()
    sink = Collect()
    try:
        os.write(writing, PCAP[:-500])
        with CaptureFile("pipe", io.FileIO(reading)) as capture:
            assert capture.read_block(sink)
            assert sink.frames == FRAMES[: len(sink.frames)]
            assert len(sink.frames) == 7
            os.write(writing, PCAP[-500:])
            assert capture.read_block(sink)
            assert sink.frames == FRAMES
            os.close(writing)
            writing = -1
            assert not capture.read_block(sink)
    finally:
        if writing >= 0:
            os.close(writing)


class Hesitant(io.FileIO):
    """A non-blocking file that has nothing to give every other time."""

    ready = False

    def read(self, size: int | None = -1, /) -> bytes | None:  # type: ignore[override]
        self.ready = not self.ready
        return super().read(-1 if size is None else size) if self.ready else None


def test_non_blocking_file(tmp_path: Path) -> None:
    path = tmp_path / "capture"
    path.write_bytes(PCAP)
    sink = Collect()
    with CaptureFile("test", Hesitant(path), 50) as capture:
        while capture.read_block(sink):
            pass
    assert sink.frames == FRAMES


READ_STDIN = """
from mirror_audit.capture.files import open_capture
from mirror_audit.capture.frames import FrameSink
from mirror_audit.errors import CaptureError

class Sink(FrameSink):
    def frame(self, buf, start, end, wire_length, link_type, time):
        pass

try:
    with open_capture("-") as capture:
        while capture.read_block(Sink()):
            pass
        print(capture.packets, capture.bytes_total, capture.source)
except CaptureError as error:
    print(error)
"""


def test_standard_input(tmp_path: Path) -> None:
    def output(**how: object) -> str:
        command = [sys.executable, "-c", READ_STDIN]
        return subprocess.run(command, stdout=subprocess.PIPE, check=True, **how).stdout.decode().strip()  # type: ignore[call-overload]

    assert output(input=PACKED["gzip"]) == "9 None standard input"
    assert output(input=b"").startswith("standard input: is empty")
    path = tmp_path / "capture"
    path.write_bytes(PCAPNG)
    with path.open("rb") as file:
        assert output(stdin=file) == f"9 {len(PCAPNG)} standard input"
    if hasattr(os, "openpty"):
        ours, theirs = os.openpty()
        assert output(stdin=theirs).startswith("standard input: is a terminal: redirect or pipe a capture")
        os.close(ours)
        os.close(theirs)


class Count(FrameSink):
    """Counts frames and their bytes."""

    def __init__(self) -> None:
        self.total = 0

    def frame(self, buf: bytes, start: i64, end: i64, wire_length: i64, link_type: i64, time: i64) -> None:
        self.total += end - start


def peak_memory(raw: RawSource, untraced: int = 0) -> tuple[int, int, CaptureError | None]:
    """Packets, the most memory (bytes) that is taken after `untraced` packets, and how it ends."""
    error = None
    capture = CaptureFile("test", raw)
    sink = Count()
    try:
        while capture.packets < untraced:
            capture.read_block(sink)
        # Tracing makes it several times slower.
        tracemalloc.start()
        while capture.read_block(sink):
            pass
    except CaptureError as caught:
        error = caught
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return capture.packets, peak, error


def test_a_million_packets_in_flat_memory() -> None:
    packet = build.pcap_record((bytes(60), 60, 1, T))
    source = Endless(build.pcap_header(), packet, 1_000_000)
    packets, peak, error = peak_memory(source, untraced=900_000)
    assert (packets, error) == (1_000_000, None)
    assert peak < 1 << 20


def test_long_blocks_are_not_kept() -> None:
    header = section() + interface() + b"\x63\0\0\0\xfc\xff\xff\xff"
    packets, peak, error = peak_memory(Endless(header, bytes(1 << 16), 1000))
    assert packets == 0
    assert error is not None
    assert error.reason == "ends in the middle of a block"
    assert error.offset == len(header) + (1000 << 16)
    assert peak < 1 << 20


@pytest.mark.parametrize(("compress", "limit"), [(gzip.compress, 4 << 20), (zstd, 80 << 20)])
def test_compression_bomb(compress: Callable[[bytes], bytes], limit: int) -> None:
    capture = build.pcap([(bytes(1_000_000), 1_000_000, 1, T)] * 300)
    data = compress(capture)
    assert len(data) < len(capture) // 500
    packets, peak, error = peak_memory(io.BytesIO(data))
    assert (packets, error) == (300, None)
    assert peak < limit
