"""Bring the bytes of a connection into order, and notice what is missing.

The order of delivery respects causality across the two directions: a segment is handed on only after the
bytes that its sender had already acknowledged. So a reordered capture gives the same events as an ordered
one, and a request always comes before its answer.

A gap is declared on evidence only. The peer acknowledged bytes that were not seen: the capture lost them, or
its copy is late; after `reorder_grace_us` of packet time the gap stands. Without such an acknowledgement the
sender may still retransmit, so a hole waits `unacknowledged_hole_us`. What may be held meanwhile is limited
in bytes and segments; a limit that bites declares the gap at once.
"""

from typing import Final

from mypy_extensions import i64

from mirror_audit.counters import Counters
from mirror_audit.packet.flow import Flow, FlowLimits, Way
from mirror_audit.packet.reassembly import HalfStream
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

__all__ = ["SANE_WINDOW", "StreamOrder"]

# An acknowledgement or a segment further than this from what is known is not of this connection.
SANE_WINDOW: Final = 1 << 30


class StreamOrder:
    """Delivers segments in order. `packet.flows.FlowTable` adds the table of connections to it."""

    def __init__(self, limits: FlowLimits, counters: Counters) -> None:
        self.limits = limits
        self.counters = counters
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
        if claimed_end - half.next > SANE_WINDOW:
            counters.dropped_malformed += 1
            return
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
            and (acknowledged <= peer.next or peer.one_sided)
            and claimed_end - offset == end - start
        ):
            # The common case: in order, whole, nothing waits.
            half.advance(end - start)
            listener = flow.listener
            if listener is not None:
                listener.data(direction, buf, start, end, offset, time, boundary)
            if peer.holding() != 0:
                self._drain(flow, time)
            return
        if offset != half.next:
            counters.reordered_segments += 1
        half.hold(buf, start, end, offset, claimed_end, acknowledged, time, boundary, counters)
        self._drain(flow, time)
        if half.holding() != 0:
            if half.holding() > self.limits.max_held_segments or half.held_bytes > self.limits.max_held_bytes:
                counters.held_limit_hits += 1
                self._give_up(flow, direction, half, peer, CAUSE_LIMIT, time)
            else:
                self._arm(way, half, time)

    def _drain(self, flow: Flow, time: i64) -> None:
        """Deliver whatever is in order now, in either direction."""
        moved = True
        while moved and not flow.closed:
            moved = self._drain_half(flow, CLIENT_TO_SERVER, flow.client, flow.server, time)
            if self._drain_half(flow, SERVER_TO_CLIENT, flow.server, flow.client, time):
                moved = True

    def _drain_half(self, flow: Flow, direction: i64, half: HalfStream, peer: HalfStream, time: i64) -> bool:
        moved = False
        while half.holding() != 0:
            item = half.head()
            if item.offset > half.next or (item.acknowledged > peer.next and not peer.one_sided):
                break
            half.pop()
            moved = True
            self._deliver(
                flow, direction, half, item.data, item.offset, item.claimed_end, item.time, item.boundary
            )
        return moved

    def _deliver(
        self,
        flow: Flow,
        direction: i64,
        half: HalfStream,
        data: bytes,
        offset: i64,
        claimed_end: i64,
        time: i64,
        boundary: i64,
    ) -> None:
        """Hand on a held segment that is due; a tail that was cut off is a gap right here."""
        listener = flow.listener
        skip: i64 = half.next - offset
        size: i64 = len(data)
        if skip < size:
            if skip > 0:
                boundary = BOUNDARY_NONE
            at: i64 = half.next
            half.advance(size - skip)
            if listener is not None:
                listener.data(direction, data, skip, size, at, time, boundary)
        if claimed_end > half.next:
            until: i64 = claimed_end
            if half.holding() != 0 and half.head().offset < until:
                until = half.head().offset
            if until > half.next:
                self._gap(flow, direction, half, until, CAUSE_TRUNCATED, time)

    def _notice_hole(self, flow: Flow, direction: i64, half: HalfStream, peer: HalfStream, time: i64) -> None:
        """`half`'s sender acknowledged more of `peer` than was seen."""
        if peer.one_sided:
            # Nothing of that direction is captured: there is nothing to wait for.
            self._gap(flow, 1 - direction, peer, peer.highest, CAUSE_ONE_SIDED, time)
            return
        if peer.hole_since == 0:
            peer.hole_since = time
        if not peer.armed:
            way = flow.network.halves.get(
                flow.server_key if direction == CLIENT_TO_SERVER else flow.client_key
            )
            if way is not None:
                self._arm(way, peer, time)

    def _arm(self, way: Way, half: HalfStream, time: i64) -> None:
        if half.hole_since == 0:
            half.hole_since = time
        if half.armed:
            return
        half.armed = True
        half.deadline = self.now + self.limits.reorder_grace_us
        self.timers.append(way)
        if self.next_timer == 0:
            self.next_timer = half.deadline

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
        if self.timers_first > 1024:
            self.timers = self.timers[self.timers_first :]
            self.timers_first = 0
        way = self.timers[self.timers_first]
        self.next_timer = way.flow.half(way.direction).deadline

    def _hole_is_due(self, flow: Flow, way: Way, half: HalfStream, peer: HalfStream) -> None:
        proven: bool = half.acknowledged > half.next and not (half.fin >= 0 and half.next >= half.fin)
        if half.holding() == 0 and not proven:
            half.hole_since = 0
            return
        if half.holding() != 0 and half.head().offset <= half.next and not proven:
            # Only waiting for the other direction, whose own timer decides. If that one waits for this one,
            # somebody forged acknowledgements: then this one goes first.
            if peer.holding() != 0 and peer.head().offset <= peer.next:
                item = half.pop()
                self._deliver(
                    flow,
                    way.direction,
                    half,
                    item.data,
                    item.offset,
                    item.claimed_end,
                    item.time,
                    item.boundary,
                )
                self._drain(flow, self.now)
            if half.holding() != 0:
                self._arm(way, half, self.now)
            else:
                half.hole_since = 0
            return
        if self._may_be_fin(half, peer):
            half.hole_since = 0
            return
        waited: i64 = self.now - half.hole_since
        if proven or peer.seen is False or waited >= self.limits.unacknowledged_hole_us:
            self._give_up(flow, way.direction, half, peer, CAUSE_NOT_CAPTURED, self.now)
        if not flow.closed and (half.holding() != 0 or half.acknowledged > half.next):
            self._arm(way, half, self.now)

    def _may_be_fin(self, half: HalfStream, peer: HalfStream) -> bool:
        """One byte acknowledged, nothing behind it, nothing waits for it: a FIN that was not captured."""
        return (
            half.acknowledged == half.next + 1
            and half.highest == half.acknowledged
            and half.holding() == 0
            and peer.holding() == 0
        )

    def _give_up(
        self, flow: Flow, direction: i64, half: HalfStream, peer: HalfStream, cause: i64, time: i64
    ) -> None:
        """Declare the hole at `half.next` lost, and go on behind it."""
        if half.holding() != 0 and half.head().offset <= half.next:
            # Not this direction has the hole, but what it answers to.
            if peer.holding() != 0 and peer.head().offset <= peer.next:
                item = half.pop()
                self._deliver(
                    flow, direction, half, item.data, item.offset, item.claimed_end, item.time, item.boundary
                )
            else:
                until: i64 = half.head().acknowledged
                if peer.holding() != 0 and peer.head().offset < until:
                    until = peer.head().offset
                self._gap(flow, 1 - direction, peer, until, cause, time)
            self._drain(flow, time)
            return
        until = half.acknowledged
        if half.fin >= 0 and until > half.fin:
            until = half.fin
        if half.holding() != 0 and (half.head().offset < until or until <= half.next):
            until = half.head().offset
        if half.hole_since != 0 and half.hole_since < time:
            # The record's time, and so its id, must not depend on when other connections let time pass.
            time = half.hole_since
        half.hole_since = 0
        if until > half.next:
            if not half.seen:
                half.one_sided = True
                cause = CAUSE_ONE_SIDED
            self._gap(flow, direction, half, until, cause, time)
        self._drain(flow, time)
        self._check_end(flow, time)

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

    def _flush(self, flow: Flow, time: i64) -> None:
        """No more packets will fill the holes of `flow`: declare them, in causal order."""
        guard: i64 = 4 * (flow.client.holding() + flow.server.holding()) + 8
        while guard > 0 and not flow.closed:
            guard -= 1
            client = flow.client
            server = flow.server
            self._drain(flow, time)
            if client.holding() != 0:
                self._give_up(flow, CLIENT_TO_SERVER, client, server, CAUSE_NOT_CAPTURED, time)
            elif server.holding() != 0:
                self._give_up(flow, SERVER_TO_CLIENT, server, client, CAUSE_NOT_CAPTURED, time)
            else:
                break
        if flow.closed:
            return
        for direction in (CLIENT_TO_SERVER, SERVER_TO_CLIENT):
            half = flow.half(direction)
            until: i64 = half.acknowledged
            if until > half.highest:
                until = half.highest
            if half.fin >= 0 and until > half.fin:
                until = half.fin
            peer = flow.half(1 - direction)
            if until > half.next and not self._may_be_fin(half, peer):
                cause: i64 = CAUSE_NOT_CAPTURED if half.seen else CAUSE_ONE_SIDED
                self._gap(flow, direction, half, until, cause, time)
