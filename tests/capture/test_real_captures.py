"""Real captures read the same as by dpkt, an independent reader."""

import gzip
import io
from pathlib import Path

import dpkt
import pytest
import zstandard

from tests.capture.build import read_capture
from tests.require import require

FOLDER = Path(__file__).resolve().parents[2].parent / "shared" / "pcaps"
FILES = sorted(path for path in FOLDER.rglob("*.pcap*") if path.is_file())


def test_real_captures_are_there() -> None:
    require(FILES, f"no captures in {FOLDER}")
    assert len(FILES) >= 20


def read_with_dpkt(data: bytes) -> tuple[list[tuple[int, bytes]], int, bool]:
    """Times and packets, the link type, and whether the file ends as it should."""
    reader = dpkt.pcap.UniversalReader(io.BytesIO(data))
    packets: list[tuple[int, bytes]] = []
    try:
        packets.extend((round(float(time) * 1e6), packet) for time, packet in reader)
    except dpkt.UnpackError:
        return packets, reader.datalink(), False
    return packets, reader.datalink(), True


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_same_as_dpkt(path: Path) -> None:
    data = path.read_bytes()
    expected, link_type, whole = read_with_dpkt(data)
    for packed in (data, gzip.compress(data, 1), zstandard.compress(data)):
        for block_size in (1000, 1 << 16):
            frames, error = read_capture(packed, block_size)
            assert (error is None) == whole
            assert [frame[0] for frame in frames] == [packet for _, packet in expected]
            assert all(frame[2] == link_type for frame in frames)
            # dpkt's times are floating point.
            assert all(abs(frame[3] - time) <= 1 for frame, (time, _) in zip(frames, expected, strict=True))
