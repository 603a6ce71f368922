"""Bring the bytes of a connection into order, and notice what is missing.

The order of delivery respects causality across the two directions: a segment is handed on only after the
bytes that its sender had already acknowledged. So a reordered capture gives the same events as an ordered
one, and a request always comes before its answer.

A gap is declared on evidence only. The peer acknowledged bytes that were not seen: the capture lost them, or
its copy is late; after `reorder_grace_us` of packet time the gap stands. Without such an acknowledgement the
sender may still retransmit, so a hole waits `unacknowledged_hole_us`. What may be held meanwhile is limited
in bytes and segments, for each direction and for all together; a limit that bites declares the gap at once.
A gap ends where the other direction had got to before it went on, so that gaps are in causal order, too.
"""

from typing import Final

from mypy_extensions import i64

from mirror_audit.counters import Counters
from mirror_audit.packet.flow import Flow, FlowLimits, Way
from mirror_audit.packet.reassembly import HalfStream, Held
from mirror_audit.packet.streams import (
    BOUNDARY_NONE,
    BOUNDARY_QUIET,
    BOUNDARY_TURN,
    CAUSE_LIMIT,
    CAUSE_NOT_CAPTURED,
    CAUSE_ONE_SIDED,
    CAUSE_TRUNCATED,
    CLIENT_TO_SERVER,
    SERVER_TO_CLIENT,
)

__all__ = ["StreamOrder"]

# What all connections together may hold back; each one's own limit, times many, would be too much.
MAX_HELD_TOTAL: Final = 256 << 20


class StreamOrder:
    """Delivers segments in order. `packet.flows.FlowTable` adds the table of connections to it."""

    def __init__(self, limits: FlowLimits, counters: Counters) -> None:
        self.limits = limits
        self.counters = counters
        self.held_total: i64 = 0
        self.now: i64 = 0
        self.timers: list[Way] = []
        self.timers_first: i64 = 0
        self.next_timer: i64 = 0  # when the first timer is due, 0: none

    def _check_end(self, flow: Flow, time: i64) -> None:
        """`flow` moved on: close it if that was its end."""
        raise NotImplementedError

    def _payload(
        self,
        flow: Flow,
        way: Way,
        half: HalfStream,
        peer: HalfStream,
        buf: bytes,
        start: i64,
        end: i64,
        offset: i64,
        length: i64,
        acknowledged: i64,
        time: i64,
    ) -> None:
        """Payload buf[start:end], of `length` bytes by its header, that begins at stream offset `offset`."""
        counters = self.counters
        counters.payload_bytes += end - start
        direction: i64 = way.direction
        claimed_end: i64 = offset + length
        if claimed_end <= half.next:
            if length == 1 and offset == half.next - 1:
                counters.keep_alives += 1
            else:
                counters.retransmitted_segments += 1
            return
        if half.fin >= 0 and claimed_end > half.fin:
            half.fin = -1  # who goes on did not end: the FIN was not the sender's own
        boundary: i64 = BOUNDARY_NONE
        if offset == half.highest:
            if direction == CLIENT_TO_SERVER:
                if (
                    flow.last_speaker == SERVER_TO_CLIENT
                    and half.acknowledged >= offset
                    and acknowledged == peer.highest
                ):
                    boundary = BOUNDARY_TURN
                    if time - flow.last_data_time >= self.limits.reorder_grace_us:
                        boundary = BOUNDARY_QUIET
                    peer.turn_offset = peer.highest
                    peer.turn_kind = boundary
            elif offset == half.turn_offset:
                boundary = half.turn_kind
        if claimed_end > half.highest:
            half.highest = claimed_end
            flow.last_speaker = direction
            if time > flow.last_data_time:
                flow.last_data_time = time
        if offset < half.next:
            # Partly seen before: only the rest is new.
            counters.overlapping_segments += 1
            start += half.next - offset
            offset = half.next
            if start > end:
                start = end
        if (
            offset == half.next
            and half.holding() == 0
            and acknowledged <= peer.next
            and claimed_end - offset == end - start
        ):
            # The common case: in order, whole, nothing waits.
            half.advance(end - start)
            listener = flow.listener
            if listener is not None:
                listener.data(direction, buf, start, end, offset, time, boundary)
            if peer.holding() != 0:
                self._drain(flow)
            return
        if offset != half.next:
            counters.reordered_segments += 1
        before: i64 = half.held_bytes
        half.hold(buf, start, end, offset, claimed_end, acknowledged, time, boundary, counters)
        self.held_total += half.held_bytes - before
        self._drain(flow)
        if half.holding() == 0:
            return
        if self._over_limit(half):
            counters.held_limit_hits += 1
            guard: i64 = 2 * (half.holding() + peer.holding()) + 2
            while guard > 0 and half.holding() != 0 and self._over_limit(half) and not flow.closed:
                guard -= 1
                self._give_up(flow, direction, half, peer, CAUSE_LIMIT, time)
        if half.holding() != 0:
            self._arm(way, half)

    def _over_limit(self, half: HalfStream) -> bool:
        limits = self.limits
        return (
            half.holding() > limits.max_held_segments
            or half.held_bytes > limits.max_held_bytes
            or self.held_total > MAX_HELD_TOTAL
        )

    def _take(self, half: HalfStream) -> Held:
        """Take out the held segment with the lowest offset."""
        item = half.pop()
        self.held_total -= len(item.data)
        return item

    def _drain(self, flow: Flow) -> None:
        """Deliver whatever is in order now, in either direction."""
        moved = True
        while moved and not flow.closed:
            moved = self._drain_half(flow, CLIENT_TO_SERVER, flow.client, flow.server)
            if self._drain_half(flow, SERVER_TO_CLIENT, flow.server, flow.client):
                moved = True

    def _drain_half(self, flow: Flow, direction: i64, half: HalfStream, peer: HalfStream) -> bool:
        moved = False
        while half.holding() != 0:
            item = half.head()
            if item.offset > half.next:
                break
            needed: i64 = item.acknowledged
            if needed > peer.acknowledged:
                needed = peer.acknowledged  # the peer's FIN is known by now: there is nothing behind it
            if needed > peer.next:
                if not peer.one_sided:
                    break
                self._gap(flow, 1 - direction, peer, needed, CAUSE_ONE_SIDED, item.time)
            moved = True
            self._deliver(flow, direction, half, self._take(half))
        return moved

    def _deliver(self, flow: Flow, direction: i64, half: HalfStream, item: Held) -> None:
        """Hand on a held segment that is due; a tail that was cut off is a gap right here."""
        listener = flow.listener
        boundary: i64 = item.boundary
        skip: i64 = half.next - item.offset
        size: i64 = len(item.data)
        if skip < size:
            if skip > 0:
                boundary = BOUNDARY_NONE
            at: i64 = half.next
            half.advance(size - skip)
            if listener is not None:
                listener.data(direction, item.data, skip, size, at, item.time, boundary)
        if item.claimed_end > half.next:
            until: i64 = item.claimed_end
            if half.holding() != 0 and half.head().offset < until:
                until = half.head().offset
            self._gap(flow, direction, half, until, CAUSE_TRUNCATED, item.time)

    def _notice_hole(self, flow: Flow, direction: i64, peer: HalfStream) -> None:
        """The sender in `direction` acknowledged more of `peer` than was seen."""
        if peer.one_sided:
            return  # nothing to wait for; what is held back ends the gap where it belongs
        self._prove(peer)
        if not peer.armed:
            way = flow.network.halves.get(
                flow.server_key if direction == CLIENT_TO_SERVER else flow.client_key
            )
            if way is not None:
                self._arm(way, peer)

    def _prove(self, half: HalfStream) -> None:
        """The grace of what was acknowledged so far begins, unless an earlier one still runs."""
        if half.proof_end <= half.next or half.proof_since > self.now:
            half.proof_end = half.acknowledged
            half.proof_since = self.now

    def _arm(self, way: Way, half: HalfStream) -> None:
        if half.armed:
            return
        half.armed = True
        half.deadline = self.now + self.limits.reorder_grace_us
        self.timers.append(way)
        if self.next_timer == 0:
            self.next_timer = half.deadline

    def _forget_timers(self) -> None:
        """Drop the timers of closed connections."""
        self.timers = [way for way in self.timers[self.timers_first :] if not way.flow.closed]
        self.timers_first = 0
        self.next_timer = 0
        if len(self.timers) > 0:
            way = self.timers[0]
            self.next_timer = way.flow.half(way.direction).deadline

    def _run_timers(self) -> None:
        """Look at the holes whose grace is over. Deadlines are in order: the grace is the same for all."""
        last: i64 = len(self.timers)
        while self.timers_first < last:
            way = self.timers[self.timers_first]
            flow = way.flow
            half = flow.client
            peer = flow.server
            if way.direction == SERVER_TO_CLIENT:
                half = flow.server
                peer = flow.client
            if half.deadline > self.now:
                break
            self.timers_first += 1
            half.armed = False
            if flow.closed:
                continue
            self._hole_is_due(flow, way, half, peer)
        if self.timers_first == len(self.timers):
            self.timers = []
            self.timers_first = 0
            self.next_timer = 0
            return
        if self.timers_first > 1024 and self.timers_first * 2 > len(self.timers):
            self.timers = self.timers[self.timers_first :]
            self.timers_first = 0
        way = self.timers[self.timers_first]
        self.next_timer = way.flow.half(way.direction).deadline

    def _hole_is_due(self, flow: Flow, way: Way, half: HalfStream, peer: HalfStream) -> None:
        now = self.now
        if half.holding() != 0 and half.head().offset <= half.next:
            # Only waiting for the other direction, whose own timer decides. If that one waits for this one,
            # somebody forged acknowledgements: then this one goes first.
            if peer.holding() != 0 and peer.head().offset <= peer.next:
                self._give_up(flow, way.direction, half, peer, CAUSE_NOT_CAPTURED, now)
        elif half.proof_end > half.next:
            waited: i64 = now - half.proof_since
            while waited >= self.limits.reorder_grace_us and half.next < half.proof_end and not flow.closed:
                if half.holding() != 0 and half.head().offset <= half.next:
                    break
                if self._may_be_fin(half, peer) and peer.fin < 0:
                    break
                self._give_up(flow, way.direction, half, peer, CAUSE_NOT_CAPTURED, now)
        elif half.holding() != 0 and half.acknowledged <= half.next:
            waited = now - half.head().time
            if not peer.seen or waited < 0 or waited >= self.limits.unacknowledged_hole_us:
                self._give_up(flow, way.direction, half, peer, CAUSE_NOT_CAPTURED, now)
        self._check_end(flow, now)
        if flow.closed:
            return
        if half.acknowledged > half.next and not (self._may_be_fin(half, peer) and peer.fin < 0):
            self._prove(half)
            self._arm(way, half)
        elif half.holding() != 0 or flow.finishing():
            self._arm(way, half)

    def _may_be_fin(self, half: HalfStream, peer: HalfStream) -> bool:
        """One byte acknowledged, nothing behind it, nothing waits for it: a FIN that was not captured."""
        return (
            half.acknowledged == half.next + 1
            and half.highest == half.acknowledged
            and half.holding() == 0
            and half.fin < 0
            and (peer.holding() == 0 or peer.fin >= 0)
        )

    def _give_up(
        self, flow: Flow, direction: i64, half: HalfStream, peer: HalfStream, cause: i64, time: i64
    ) -> None:
        """Do away with what keeps `half` from going on: one hole, here or in what it answers to."""
        if half.holding() == 0 or half.head().offset > half.next:
            self._skip(flow, direction, half, peer, cause, time)
        elif peer.holding() != 0 and peer.head().offset <= peer.next:
            self._deliver(flow, direction, half, self._take(half))  # each waits for the other
        else:
            self._skip(flow, 1 - direction, peer, half, cause, time)
        self._drain(flow)
        self._check_end(flow, time)

    def _skip(
        self, flow: Flow, direction: i64, half: HalfStream, peer: HalfStream, cause: i64, time: i64
    ) -> None:
        """Declare the hole at `half.next` lost."""
        until: i64 = half.acknowledged
        since: i64 = half.acknowledged_time
        if half.holding() != 0:
            head = half.head()
            if head.offset < until or until <= half.next:
                until = head.offset
                since = head.time
        elif not peer.seen and half.fin > until:
            until = half.fin
        if peer.holding() != 0:
            head = peer.head()
            if head.offset <= peer.next and half.next < head.acknowledged and head.acknowledged < until:
                until = head.acknowledged
                since = head.time
        if self._may_be_fin(half, peer):
            if peer.fin >= 0:
                half.end_at(half.next)
            return
        if until <= half.next:
            return
        if since > 0 and since < time:
            # The record's time, and so its id, must not depend on when other connections let time pass.
            time = since
        if not half.seen:
            half.one_sided = True
            cause = CAUSE_ONE_SIDED
        self._gap(flow, direction, half, until, cause, time)

    def _gap(self, flow: Flow, direction: i64, half: HalfStream, until: i64, cause: i64, time: i64) -> None:
        length: i64 = until - half.next
        if length <= 0:
            return
        offset: i64 = half.next
        half.advance(length)
        self.counters.gaps += 1
        self.counters.bytes_lost += length
        listener = flow.listener
        if listener is not None:
            listener.gap(direction, offset, length, cause, time)

    def _flush(self, flow: Flow, replaced: bool, time: i64) -> None:
        """No more packets will fill the holes of `flow`: declare them, in causal order."""
        client = flow.client
        server = flow.server
        if replaced:
            # What waits far ahead is its successor's.
            self.held_total -= client.discard_far() + server.discard_far()
        guard: i64 = 4 * (client.holding() + server.holding()) + 8
        self._drain(flow)
        while guard > 0 and not flow.closed:
            guard -= 1
            if client.holding() != 0:
                self._give_up(flow, CLIENT_TO_SERVER, client, server, CAUSE_NOT_CAPTURED, time)
            elif server.holding() != 0:
                self._give_up(flow, SERVER_TO_CLIENT, server, client, CAUSE_NOT_CAPTURED, time)
            else:
                break
        if flow.closed:
            return
        self._skip(flow, CLIENT_TO_SERVER, client, server, CAUSE_NOT_CAPTURED, time)
        self._skip(flow, SERVER_TO_CLIENT, server, client, CAUSE_NOT_CAPTURED, time)
