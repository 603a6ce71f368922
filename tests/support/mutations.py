"""Real captures, damaged at random but reproducibly, and what must hold for whatever is decoded from them.

::

    frames = read_frames(SAMPLES / "demo.pcap")
    damaged, count = mutations(seed=7, frames=frames)
    lines = decode(damaged, SETTINGS[0])
    problem = complaint(lines)          # None, or what is wrong with the records

Damage is what networks and attackers do: bytes and lengths replaced, packets cut, lengthened, lost, doubled,
exchanged, delayed, put into another's place, and clocks that jump.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mirror_audit.audit.record import Record
from mirror_audit.capture.files import open_capture
from mirror_audit.capture.frames import FrameSink
from mirror_audit.config import Limits, Settings
from mirror_audit.errors import CaptureError, RecordError
from mirror_audit.pipeline import Pipeline

__all__ = ["SETTINGS", "RawFrame", "complaint", "decode", "mutations", "read_frames", "rounds"]

WINDOW = 160
# Where TCP's header begins in plain Ethernet and in VXLAN over IPv4: random bytes rarely hit its fields.
TCP_OFFSETS = (34, 84)
FLAGS_OFFSET = 13
EXTREME = (0, 1, 3, 4, 5, 8, 255, 1 << 14, 1 << 20, (1 << 24) + 1, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)
EXTREME_LENGTHS = tuple(value.to_bytes(4, "big") for value in EXTREME)
EXTREME_WORDS = tuple(value.to_bytes(2, "big") for value in (0, 1, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF))
# First bytes of messages, signs that quote, comment or escape, and bytes that are no UTF-8.
TEMPTING = b"QPBEDCSHXFfpdcRKZTtnI123sAGWVv'\"$;-/*\\\x00\x80\xc3\xff"
# The last ones are hostile: they make every limit bite.
SETTINGS = (
    Settings(),
    Settings(auto_ports=True, trust_first_segment=True),
    Settings(redact="values", redact_key=b"0123456789abcdef"),
    Settings(redact="none"),
    Settings(
        auto_ports=True,
        limits=Limits(
            max_flows=4,
            max_held_bytes=4_000,
            max_held_segments=5,
            max_networks=2,
            max_fragments=2,
            max_message_bytes=300,
            max_buffered_bytes=2_000,
            max_pending_requests=3,
            max_prepared_statements=2,
            max_portals=1,
            max_finished_statements=2,
            max_text_bytes=20,
            max_parameter_bytes=5,
            max_parameters=2,
            progress_interval_us=1_000,
        ),
    ),
    Settings(limits=Limits(reorder_grace_us=0, idle_timeout_us=50_000, unacknowledged_hole_us=1)),
)


@dataclass(frozen=True, slots=True)
class RawFrame:
    """What a capture holds of one packet; `time` in µs."""

    time: int
    data: bytes
    wire_length: int
    link_type: int


class _Collector(FrameSink):
    def __init__(self) -> None:
        self.frames: list[RawFrame] = []

    def frame(self, buf: bytes, start: int, end: int, wire_length: int, link_type: int, time: int) -> None:
        self.frames.append(RawFrame(int(time), buf[start:end], int(wire_length), int(link_type)))


def read_frames(path: Path) -> list[RawFrame]:
    """All frames of a capture file of any kind, up to its first damage."""
    collector = _Collector()
    try:
        with open_capture(str(path)) as capture:
            while capture.read_block(collector):
                pass
    except CaptureError:
        pass
    return collector.frames


def mutations(seed: int, frames: Sequence[RawFrame]) -> tuple[list[RawFrame], int]:
    """A damaged copy of a piece of `frames`, and how often it was damaged; the same for the same seed."""
    rng = random.Random(seed)
    begin = rng.randrange(max(1, len(frames) - WINDOW + 1))
    out = list(frames[begin : begin + WINDOW])
    if not out:
        return out, 0
    # Some captures are nearly whole, so that damage meets a decoder that is deep in a session.
    share = rng.choice((0.01, 0.03, 0.1, 0.4))
    count = max(1, round(len(out) * share))
    for _ in range(count):
        if not out:
            break
        if rng.random() < 0.7:
            at = rng.randrange(len(out))
            out[at] = _damaged(rng, out[at], out)
        else:
            rng.choice(_REARRANGE)(rng, out)
    return out, count


def rounds(
    seed: int, count: int, sources: Sequence[Sequence[RawFrame]]
) -> Iterator[tuple[list[RawFrame], int, Settings]]:
    """Damaged captures, their number of mutations and settings to decode them with, until `count` is done.

    All sources come in turn, then all again with the next settings. The same seed gives the same.
    """
    rng = random.Random(seed)
    number = done = 0
    while done < count:
        frames, damage = mutations(rng.randrange(1 << 48), sources[number % len(sources)])
        yield frames, damage, SETTINGS[number // len(sources) % len(SETTINGS)]
        number += 1
        done += damage


def _damaged(rng: random.Random, frame: RawFrame, others: Sequence[RawFrame]) -> RawFrame:
    """One frame after one kind of damage."""
    data = bytearray(frame.data)
    if not data:
        return replace(frame, data=rng.randbytes(rng.randrange(1, 90)))
    # Headers are a fixed part of each frame; half of the damage goes to what follows them.
    at = rng.randrange(len(data)) if rng.random() < 0.5 else rng.randrange(len(data) * 2 // 3, len(data))
    match rng.randrange(10):
        case 0:
            data[at] ^= 1 << rng.randrange(8)
        case 1:
            data[at] = rng.randrange(256)
        case 2:
            data[at] = rng.choice(TEMPTING)
        case 3:
            data[at : at + 4] = rng.choice(EXTREME_LENGTHS)[: len(data) - at]
        case 4:
            data[at : at + 2] = rng.choice(EXTREME_WORDS)[: len(data) - at]
        case 5:
            # Cut by the capture, which knows the length; or without anybody's knowing.
            cut = bytes(data[:at])
            return replace(frame, data=cut, wire_length=rng.choice((frame.wire_length, len(cut))))
        case 6:
            data[at:at] = rng.randbytes(rng.randrange(1, 40))
            return replace(frame, data=bytes(data), wire_length=len(data))
        case 7:
            del data[at : at + rng.randrange(1, 40)]
            return replace(frame, data=bytes(data), wire_length=len(data))
        case 8:
            other = rng.choice(others).data
            start = rng.randrange(len(other) + 1)
            piece = other[start : start + rng.randrange(1, 200)]
            data[at : at + len(piece)] = piece[: len(data) - at]
        case _:
            header = rng.choice(TCP_OFFSETS)
            field = header + rng.choice((4, 5, 7, 8, 11, 12, FLAGS_OFFSET, FLAGS_OFFSET))
            if field < len(data):
                data[field] = rng.choice(
                    (0x01, 0x02, 0x04, 0x11, 0x12, 0x14, 0x18, 0x50, 0x80, 0xFF, data[at])
                )
    return replace(frame, data=bytes(data))


def _lose(rng: random.Random, out: list[RawFrame]) -> None:
    at = rng.randrange(len(out))
    del out[at : at + rng.choice((1, 1, 1, 2, 5, 30))]


def _double(rng: random.Random, out: list[RawFrame]) -> None:
    at = rng.randrange(len(out))
    out.insert(min(len(out), at + rng.choice((1, 1, 2, 10, 60))), out[at])


def _delay(rng: random.Random, out: list[RawFrame]) -> None:
    frame = out.pop(rng.randrange(len(out)))
    out.insert(rng.randrange(len(out) + 1), frame)


def _exchange(rng: random.Random, out: list[RawFrame]) -> None:
    a, b = rng.randrange(len(out)), rng.randrange(len(out))
    out[a], out[b] = out[b], out[a]


def _jump(rng: random.Random, out: list[RawFrame]) -> None:
    by = rng.choice((-(10**9), -(10**5), 10**5, 10**6, 2 * 10**7, 10**11))
    at = rng.randrange(len(out))
    until = len(out) if rng.random() < 0.5 else at + 1
    for number in range(at, until):
        # A capture file's clock is a 32-bit number of seconds (pcap) and never negative.
        time = min(max(0, out[number].time + by), (1 << 32) * 1_000_000 - 1)
        out[number] = replace(out[number], time=time)


_REARRANGE: tuple[Callable[[random.Random, list[RawFrame]], None], ...] = (
    _lose,
    _double,
    _delay,
    _exchange,
    _jump,
)


def decode(frames: Sequence[RawFrame], settings: Settings) -> bytes:
    """The records of `frames`, from a pipeline of their own that was closed."""
    batches: list[bytes] = []
    pipeline = Pipeline(settings, batches.append)
    sink = pipeline.frames
    for frame in frames:
        sink.frame(frame.data, 0, len(frame.data), frame.wire_length, frame.link_type, frame.time)
    if frames:
        pipeline.advance(max(frame.time for frame in frames))
    pipeline.close()
    out = b"".join(batches)
    assert pipeline.counters()["records"] == out.count(b"\n")
    return out


def complaint(lines: bytes) -> str | None:
    """What is wrong with these records: one that is none by its schema, or a session without end."""
    open_sessions: dict[str | None, bytes] = {}
    if lines and not lines.endswith(b"\n"):
        return "the last line has no end"
    for line in lines.split(b"\n")[:-1]:
        try:
            record = Record.from_json(line)
        except RecordError as error:
            return f"{error}: {line[:2000]!r}"
        if record.kind == "session_start":
            open_sessions[record.session_id] = line
        elif record.kind == "session_end":
            open_sessions.pop(record.session_id, None)
    for line in open_sessions.values():
        return f"a session that does not end: {line[:2000]!r}"
    return None
