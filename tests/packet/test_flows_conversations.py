"""Any conversation, whatever the network and the mirror did to it: what is told is what was said.

Two ends take turns and acknowledge what they have seen. Their segments are cut anywhere, captured late,
twice, not at all or not to their end; then the story of the listener is compared with the truth.
"""

from dataclasses import dataclass, replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.packet.wire import (
    ACK,
    FIN,
    GRACE,
    RST,
    SYN,
    Event,
    Seg,
    Wire,
    client,
    data_of,
    handshake,
    merged,
    server,
    told,
)

MAKE = (client, server)


@dataclass
class Talk:
    """Turns as (direction, pieces); `segments` in the order of sending, `told` as an observer should tell."""

    turns: list[tuple[int, list[bytes]]]

    def __post_init__(self) -> None:
        self.sent = [b"", b""]
        self.segments: list[Seg] = []
        for direction, pieces in self.turns:
            for piece in pieces:
                seen = len(self.sent[1 - direction])
                self.segments.append(MAKE[direction](len(self.sent[direction]), piece, ack=seen))
                self.sent[direction] += piece

    def story(self) -> list[str]:
        events: list[Event] = [("data", who, 0, b"".join(pieces), 0, 0) for who, pieces in self.turns]
        return told(merged(events))

    def seen_before(self, direction: int, offset: int) -> int:
        """What the sender of the byte at `offset` had seen of the other direction when it sent it."""
        ends = [0, 0]
        for who, pieces in self.turns:
            ends[who] += sum(len(piece) for piece in pieces)
            if who == direction and ends[who] > offset:
                return ends[1 - who]
        raise AssertionError("nobody sent that byte")


def talks(least: int = 1) -> st.SearchStrategy[Talk]:
    # Distinct bytes would do; readable ones are better to look at.
    piece = st.text("abcdefghijklmnopqrstuvwxyz", min_size=least, max_size=12).map(str.encode)
    turn = st.tuples(st.sampled_from([0, 1]), st.lists(piece, min_size=1, max_size=4))
    return st.lists(turn, min_size=1, max_size=8).map(Talk)


def shuffled(data: st.DataObject, segments: list[Seg], window: int = 8) -> list[Seg]:
    """The segments, each captured up to `window` places late."""
    late = data.draw(st.lists(st.integers(0, window), min_size=len(segments), max_size=len(segments)))
    order = sorted(range(len(segments)), key=lambda index: (index + late[index], index))
    return [segments[index] for index in order]


def with_acks(data: st.DataObject, talk: Talk) -> list[Seg]:
    """The segments with pure ACKs of the receivers here and there."""
    out: list[Seg] = []
    ends = [0, 0]
    for segment in talk.segments:
        who = 0 if segment.who == "client" else 1
        out.append(segment)
        ends[who] = segment.offset + len(segment.data)
        if data.draw(st.booleans()):
            out.append(MAKE[1 - who](ends[1 - who], ack=ends[who]))
    return out


@given(data=st.data(), talk=talks())
def test_reordered_duplicated_and_cut_anew(data: st.DataObject, talk: Talk) -> None:
    segments = with_acks(data, talk)
    extra: list[tuple[int, Seg]] = []
    for index, segment in enumerate(segments):
        kind = data.draw(st.sampled_from(["once", "once", "twice", "again"]))
        if kind == "twice":
            extra.append((index, segment))
        elif kind == "again" and segment.data:
            # A retransmission of a part of it, later, with what its sender has seen by then.
            who = 0 if segment.who == "client" else 1
            later = data.draw(st.sampled_from([s for s in segments[index:] if s.who == segment.who]))
            start = data.draw(st.integers(0, len(segment.data) - 1))
            end = data.draw(st.integers(start + 1, len(segment.data)))
            again = MAKE[who](segment.offset + start, segment.data[start:end], ack=later.ack)
            extra.append((segments.index(later), again))
    for index, segment in sorted(extra, key=lambda one: one[0], reverse=True):
        segments.insert(index + 1, segment)
    wire = Wire()
    wire.send(*shuffled(data, segments))
    assert wire.story() == talk.story()
    assert wire.held() == (0, 0)
    assert (wire.count("gaps"), wire.count("differing_overlaps")) == (0, 0)
    wire.close()
    assert wire.story() == [*talk.story(), "closed capture_end"]


@given(data=st.data(), talk=talks(), window=st.integers(0, 6))
def test_opened_and_closed_in_any_order(data: st.DataObject, talk: Talk, window: int) -> None:
    """From SYN to FIN; SYN and SYN-ACK are seen in time, for they tell where the bytes begin."""
    ends = [len(talk.sent[0]), len(talk.sent[1])]
    closing = [
        client(ends[0], flags=FIN, ack=ends[1]),
        server(ends[1], flags=FIN, ack=ends[0] + 1),
        client(ends[0] + 1, ack=ends[1] + 1),
    ]
    syn, syn_ack, ack = handshake()
    wire = Wire(opened=False)
    wire.send(syn, syn_ack, *shuffled(data, [ack, *talk.segments, *closing], window))
    assert [line for line in wire.story() if line[0] in "CS"] == talk.story()
    assert wire.story()[-1] in ("closed client", "closed server")
    assert len(wire.factory.recorders) == 1
    assert wire.count("gaps") == 0


@pytest.mark.parametrize("pace", [1, GRACE // 3, 2 * GRACE])
@given(data=st.data(), talk=talks(least=2))
def test_lost_and_truncated(pace: int, data: st.DataObject, talk: Talk) -> None:
    """Every byte that was captured is told at its place; gaps are the rest, as far as it must exist."""
    segments = with_acks(data, talk)
    captured: list[Seg] = []
    for segment in segments:
        fate = data.draw(st.sampled_from(["whole", "whole", "cut", "lost"]))
        if fate == "cut" and segment.data:
            captured.append(replace(segment, cut=data.draw(st.integers(0, len(segment.data) - 1))))
        elif fate != "lost":
            captured.append(segment)
    if pace == 1:
        captured = shuffled(data, captured)
    have: list[set[int]] = [set(), set()]
    ends = [0, 0]
    for segment in captured:
        who = 0 if segment.who == "client" else 1
        size = len(segment.data) if segment.cut is None else segment.cut
        have[who].update(range(segment.offset, segment.offset + size))
        if segment.data:
            ends[who] = max(ends[who], segment.offset + len(segment.data))
        ends[1 - who] = max(ends[1 - who], segment.ack or 0)
    wire = Wire()
    for index, segment in enumerate(captured, 1):
        wire.send(segment.at(10 + index * pace))
    wire.close()
    told_to = [0, 0]
    got: list[set[int]] = [set(), set()]
    lost = 0
    for event in wire.events():
        if event[0] == "closed":
            break
        kind, who, offset, what = event[:4]
        told_to[who] = offset + (len(what) if kind == "data" else what)
        if kind == "data":
            assert what == talk.sent[who][offset : offset + len(what)]
            got[who].update(range(offset, offset + len(what)))
            assert told_to[1 - who] >= talk.seen_before(who, offset), "told before what it answers to"
        else:
            lost += what
    assert told_to == ends
    assert got == have
    assert lost == sum(ends) - len(have[0]) - len(have[1]) == wire.count("bytes_lost")


@given(data=st.data(), talk=talks(least=2))
def test_joined_anywhere(data: st.DataObject, talk: Talk) -> None:
    """What comes after the first packet that was seen is told as it was said, for each direction."""
    start = data.draw(st.integers(0, len(talk.segments) - 1))
    wire = Wire(opened=False)
    wire.send(*talk.segments[start:])
    first = talk.segments[start]
    mine = 0 if first.who == "client" else 1
    assert data_of(wire.events(), mine) == talk.sent[mine][first.offset :]
    assert data_of(wire.events(), 1 - mine) == talk.sent[1 - mine][first.ack or 0 :]
    assert wire.factory.recorders[0].flow.mid_stream
    assert wire.count("gaps") == 0


@given(talk=talks())
def test_captured_by_two_mirror_sessions(talk: Talk) -> None:
    wire = Wire()
    wire.send(*(copy for segment in talk.segments for copy in (segment, segment)))
    assert wire.story() == talk.story()
    # A copy of a single byte looks like a keep-alive.
    again = wire.count("retransmitted_segments") + wire.count("keep_alives")
    assert again == len(talk.segments)


SEGMENTS = st.builds(
    Seg,
    who=st.sampled_from(["client", "server"]),
    offset=st.one_of(st.integers(-3, 60), st.integers(-(2**31), 2**31)),
    data=st.binary(max_size=20),
    ack=st.one_of(st.none(), st.integers(-3, 60), st.integers(-(2**31), 2**31)),
    flags=st.sampled_from([0, 0, 0, 0, 0, FIN, SYN, RST, SYN | FIN, SYN | RST, FIN | RST, ACK | SYN, 0xEF]),
    cut=st.none(),
    time=st.one_of(st.none(), st.integers(0, 10 * GRACE), st.integers(0, 10**12)),
    isn=st.sampled_from([None, None, None, 5_000_000, 0xFFFFFFFF]),
    port=st.sampled_from([40000, 40000, 40001, 5432]),
)


@settings(max_examples=200)
@given(segments=st.lists(SEGMENTS, max_size=60), opened=st.booleans())
@example(segments=[client(0, b"x", port=5432), server(0, b"y", port=5432)], opened=False)
def test_any_segments_at_all(segments: list[Seg], opened: bool) -> None:
    """Nothing raises, the listener's rules hold (see `Recorder`), nothing is left behind."""
    wire = Wire(opened=opened, max_flows=2, max_held_segments=8, max_held_bytes=64)
    for segment in segments:
        wire.send(segment)
        assert wire.table.count <= 2
        assert len(wire.network.halves) <= 2 * wire.table.count
        count, size = wire.held()
        assert count <= 4 * 9
        assert size <= 4 * (64 + 20)
        assert wire.table.held_total == size
    wire.close()
    assert all(recorder.over for recorder in wire.factory.recorders)
    assert (wire.table.count, wire.network.halves, wire.table.held_total) == (0, {}, 0)
    assert (wire.table.oldest, wire.table.newest, wire.table.timers) == (None, None, [])


@settings(max_examples=200)
@given(
    segments=st.lists(
        st.builds(
            Seg,
            who=st.sampled_from(["client", "server"]),
            offset=st.integers(0, 30),
            data=st.binary(max_size=10),
            ack=st.integers(0, 40),
            flags=st.sampled_from([0, 0, 0, 0, FIN]),
            cut=st.just(0) | st.none(),
            time=st.none(),
        ),
        max_size=40,
    ),
    pace=st.sampled_from([1, GRACE // 2]),
)
def test_any_segments_within_the_window(segments: list[Seg], pace: int) -> None:
    """Forged acknowledgements, cycles of them, overlaps and ends: all waiting comes to its end."""
    wire = Wire()
    for number, segment in enumerate(segments):
        wire.send(segment.at(10 + number * pace))
    for _ in range(60):
        wire.advance(wire.now + GRACE)
    assert wire.held() == (0, 0)
    wire.close()
    assert wire.factory.recorders[0].over
