"""The builders build what a kernel would call correct: checked by reading back and by checksums."""

from tests.support import pgmsg
from tests.support.wrap import (
    ACK,
    FIN,
    SYN,
    TcpTrace,
    checksum,
    cut_superframe,
    data_indices,
    drop,
    fragment_ipv4,
    parse_tcp,
    pcap_bytes,
    read_pcap,
    swap,
    tcp_frame,
    truncate,
)


def _conversation(isn: int = 2**32 - 10) -> TcpTrace:
    trace = TcpTrace(mss=100, client_isn=isn)
    trace.open()
    trace.client(pgmsg.query("select '" + "x" * 300 + "'"))
    trace.server(pgmsg.command_complete("SELECT 1") + pgmsg.ready())
    trace.close()
    return trace


def test_checksums_are_right() -> None:
    for frame in _conversation().frames:
        assert checksum(frame.bytes[14:34]) == 0
        pseudo = frame.bytes[26:34] + b"\0\x06" + (len(frame.bytes) - 34).to_bytes(2, "big")
        assert checksum(pseudo + frame.bytes[34:]) == 0


def test_stream_reads_back_across_the_wrap() -> None:
    trace = _conversation()
    data = b""
    for index in data_indices(trace.frames, "client"):
        segment = parse_tcp(trace.frames[index].bytes)
        assert segment is not None
        assert segment.seq == (2**32 - 9 + len(data)) % 2**32
        data += segment.payload
    assert data == pgmsg.query("select '" + "x" * 300 + "'")
    assert [frame.flags for frame in trace.frames[:3]] == [SYN, SYN | ACK, ACK]
    assert [frame.flags for frame in trace.frames[-3:]] == [FIN | ACK, FIN | ACK, ACK]


def test_pcap_round_trip_and_variants() -> None:
    trace = _conversation()
    assert [(f.time, f.bytes, f.seq) for f in read_pcap(pcap_bytes(trace.frames))] == [
        (f.time, f.bytes, f.seq) for f in trace.frames
    ]
    assert len(drop(trace.frames, 3)) == len(trace.frames) - 1
    assert [f.time for f in swap(trace.frames, 3, 4)] == [f.time for f in trace.frames]
    cut = truncate(trace.frames, 3, 60)[3]
    assert (len(cut.bytes), cut.length) == (60, len(trace.frames[3].bytes))


def test_wrapped_in_vxlan_keeps_the_frame() -> None:
    trace = _conversation()
    for inner, outer in zip(trace.frames, trace.wrapped(7), strict=True):
        assert outer.bytes[42:50] == b"\x08\0\0\0\0\0\x07\0"
        assert outer.bytes[50:] == inner.bytes
        assert outer.bytes[40:42] == b"\0\0"
        assert outer.bytes[34:36] == trace.wrapped(7)[0].bytes[34:36]


def test_superframe_and_fragments() -> None:
    frame = tcp_frame(bytes(range(250)) * 20, ("10.0.0.1", 1), ("10.0.0.2", 2), 2**32 - 5)
    parts = [parse_tcp(part) for part in cut_superframe(frame, 1448)]
    assert b"".join(part.payload for part in parts if part) == bytes(range(250)) * 20
    assert [part.seq for part in parts if part] == [2**32 - 5, 1443, 2891, 4339]
    fragments = fragment_ipv4(frame, 1480)
    assert b"".join(part[34:] for part in fragments) == frame[34:]
    assert [int.from_bytes(part[20:22], "big") >> 13 for part in fragments] == [1, 1, 1, 0]
