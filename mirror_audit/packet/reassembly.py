"""One direction of a TCP connection: what was delivered, what is held back behind a hole.

Segments that arrive early wait in a list sorted by offset. Where two segments overlap the first copy wins;
an overlap whose bytes differ is counted, because it is what an attempt to fool an observer looks like.
"""

from typing import Final

from mypy_extensions import i64

from mirror_audit.counters import Counters
from mirror_audit.packet.sequence import STRAY_WINDOW, sequence_difference

__all__ = ["HalfStream", "Held"]

# Delivered entries are removed from the front of the held list in one go, so that draining stays linear.
COMPACT_AT: Final = 64


class Held:
    """A segment that waits: bytes, the offset of the first, the end that its header claims."""

    def __init__(
        self, data: bytes, offset: i64, claimed_end: i64, acknowledged: i64, time: i64, boundary: i64
    ) -> None:
        self.data = data
        self.offset: i64 = offset
        self.claimed_end: i64 = claimed_end
        # What the sender had received from the other side when it sent this: delivered no earlier than that.
        self.acknowledged: i64 = acknowledged
        self.time: i64 = time
        self.boundary: i64 = boundary


class HalfStream:
    """The state of one direction. Offsets are those of `packet.streams`."""

    def __init__(self) -> None:
        self.known: bool = False  # a sequence number to count from is known
        self.seen: bool = False  # at least one packet of this direction was captured
        self.one_sided: bool = False
        self.base: i64 = 0  # the sequence number of offset 0
        self.next: i64 = 0  # the offset of the next byte to deliver
        self.next_sequence: i64 = 0  # its sequence number, 32 bits
        self.highest: i64 = 0  # the end of all bytes known to exist
        self.acknowledged: i64 = 0  # the end of the bytes that the peer says it has
        self.acknowledged_time: i64 = 0  # when it said so
        self.proof_end: i64 = 0  # what it said when a hole was noticed: all before this must have been sent
        self.proof_since: i64 = 0  # and since when that is known
        self.fin: i64 = -1  # the offset of the FIN, -1: none seen
        self.turn_offset: i64 = -1  # a segment of this direction that starts here starts a turn's answer
        self.turn_kind: i64 = 0
        self.armed: bool = False
        self.deadline: i64 = 0
        self.held: list[Held] = []
        self.first: i64 = 0  # entries of `held` before this one are done with
        self.held_bytes: i64 = 0

    def set_base(self, sequence: i64) -> None:
        """Offset 0 is sequence number `sequence`."""
        self.known = True
        self.base = sequence & 0xFFFFFFFF
        self.next_sequence = self.base

    def begin_at(self, sequence: i64, movable: bool) -> None:
        """A SYN says that offset 0 is `sequence`.

        If it comes so late that the offsets were counted from somewhere behind it, they move; unless some of
        them were told already or (not `movable`) are kept with what waits in the other direction.
        """
        if not self.known:
            self.set_base(sequence)
        elif movable and self.next == 0 and self.holding() == 0:
            moved: i64 = sequence_difference(self.base, sequence & 0xFFFFFFFF)
            if moved > 0:
                self.set_base(sequence)
                self.acknowledged += moved
                self.proof_end += moved
                self.highest += moved

    def advance(self, length: i64) -> None:
        """`length` bytes at `next` were delivered or given up."""
        self.next += length
        self.next_sequence = (self.next_sequence + length) & 0xFFFFFFFF
        if self.next > self.highest:
            self.highest = self.next

    def end_at(self, offset: i64) -> bool:
        """The FIN stands at `offset`: its sequence number, acknowledged like a byte's, is none.

        False if it cannot stand there, because bytes lie behind it or an earlier FIN is known.
        """
        if offset == self.next - 1:
            offset = self.next  # its sequence number was taken for a lost byte before it was seen
        if offset < self.next or (self.fin >= 0 and offset >= self.fin):
            return False
        if self.holding() != 0 and offset < self.held[len(self.held) - 1].claimed_end:
            return False
        self.fin = offset
        if self.acknowledged > offset:
            self.acknowledged = offset
        if self.proof_end > offset:
            self.proof_end = offset
        if self.highest > offset:
            self.highest = offset
        return True

    def holding(self) -> i64:
        """How many segments are held."""
        return len(self.held) - self.first

    def head(self) -> Held:
        """The held segment with the lowest offset; only if `holding()`."""
        return self.held[self.first]

    def pop(self) -> Held:
        """Take the head out."""
        item = self.held[self.first]
        self.held_bytes -= len(item.data)
        self.first += 1
        if self.first == len(self.held):
            self.held = []
            self.first = 0
        elif self.first >= COMPACT_AT and self.first * 2 >= len(self.held):
            self.held = self.held[self.first :]
            self.first = 0
        return item

    def discard_far(self) -> i64:
        """Forget what was held or acknowledged further ahead than any window; how many bytes were held."""
        if self.acknowledged > self.next + STRAY_WINDOW:
            self.acknowledged = self.next
        limit: i64 = self.next + 2 * STRAY_WINDOW
        before: i64 = self.held_bytes
        while self.holding() != 0 and self.held[len(self.held) - 1].offset > limit:
            self.held_bytes -= len(self.held.pop().data)
        return before - self.held_bytes

    def hold(
        self,
        buf: bytes,
        start: i64,
        end: i64,
        offset: i64,
        claimed_end: i64,
        acknowledged: i64,
        time: i64,
        boundary: i64,
        counters: Counters,
    ) -> None:
        """Keep buf[start:end], which belongs at `offset`, until what is before it was delivered."""
        low: i64 = self.first
        high: i64 = len(self.held)
        while low < high:
            middle: i64 = (low + high) // 2
            if self.held[middle].offset <= offset:
                low = middle + 1
            else:
                high = middle
        at: i64 = low  # the first held segment that starts behind `offset`
        if at > self.first:
            before = self.held[at - 1]
            covered: i64 = before.offset + len(before.data)
            if covered > offset:
                counters.overlapping_segments += 1
                shared: i64 = covered - offset
                if shared > end - start:
                    shared = end - start
                elif acknowledged < before.acknowledged:
                    before.acknowledged = acknowledged  # this copy was sent earlier, though it was seen later
                inside: i64 = offset - before.offset
                if before.data[inside : inside + shared] != buf[start : start + shared]:
                    counters.differing_overlaps += 1
                start += shared
                offset = covered
                boundary = 0
        while start < end or claimed_end > offset:
            if at < len(self.held):
                after = self.held[at]
                if after.offset < offset + (end - start):
                    counters.overlapping_segments += 1
                    own: i64 = after.offset - offset
                    if own > 0:
                        self._insert(
                            at, buf[start : start + own], offset, offset + own, acknowledged, time, boundary
                        )
                        at += 1
                    boundary = 0
                    shared = len(after.data)
                    if shared > end - start - own:
                        shared = end - start - own
                    if shared == len(after.data) and acknowledged < after.acknowledged:
                        after.acknowledged = acknowledged
                    if after.data[:shared] != buf[start + own : start + own + shared]:
                        counters.differing_overlaps += 1
                    start += own + shared
                    offset = after.offset + len(after.data)
                    at += 1
                    continue
                if claimed_end > after.offset:
                    claimed_end = after.offset
            if start < end or claimed_end > offset:
                self._insert(at, buf[start:end], offset, claimed_end, acknowledged, time, boundary)
            return

    def _insert(
        self, at: i64, data: bytes, offset: i64, claimed_end: i64, acknowledged: i64, time: i64, boundary: i64
    ) -> None:
        self.held.insert(at, Held(data, offset, claimed_end, acknowledged, time, boundary))
        self.held_bytes += len(data)
        if claimed_end > self.highest:
            self.highest = claimed_end
