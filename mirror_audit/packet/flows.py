"""The table of TCP connections: find the one a segment belongs to, open, close and forget them.

Every table is bounded: the connection that was idle longest leaves first, and its listener is told. Time is
the packets' own: a live loop calls `advance`, so that a quiet network holds nothing back.
"""

from typing import Final

from mypy_extensions import i64

from mirror_audit.counters import Counters
from mirror_audit.octets import u16_at, u32_at
from mirror_audit.packet.flow import Flow, FlowLimits, Network, StreamFactory, Way
from mirror_audit.packet.ordering import SANE_WINDOW, StreamOrder
from mirror_audit.packet.reassembly import HalfStream
from mirror_audit.packet.sequence import sequence_difference
from mirror_audit.packet.streams import (
    CLIENT_TO_SERVER,
    CLOSED_BY_CLIENT,
    CLOSED_BY_SERVER,
    CLOSED_CAPTURE_END,
    CLOSED_EVICTED,
    CLOSED_IDLE,
    CLOSED_REPLACED,
    CLOSED_RESET,
    SERVER_TO_CLIENT,
)

__all__ = ["FlowTable"]

FIN: Final = 0x01
SYN: Final = 0x02
RST: Final = 0x04
ACK: Final = 0x10

# A reset this far beyond what was seen cannot be in the receiver's window (RFC 9293 section 3.10.7.4); it is
# somebody's attempt to make an observer let go of a connection.
RESET_WINDOW: Final = 1 << 24
# Packet time that goes back by more than this is a clock that was set, not a reordered packet.
CLOCK_STEP_US: Final = 60_000_000
# Closed connections are remembered for this long, so that late copies of their packets start nothing new.
LINGER_US: Final = 60_000_000
# ... but not more of them than this.
MAX_CLOSED: Final = 65536
# How often, in packet time, idle and closed connections are looked at.
TICK_US: Final = 1_000_000


class FlowTable(StreamOrder):
    """All connections that are being followed."""

    def __init__(
        self,
        factory: StreamFactory,
        limits: FlowLimits,
        server_ports: tuple[int, ...],
        auto_ports: bool,
        counters: Counters,
    ) -> None:
        super().__init__(limits, counters)
        self.factory = factory
        self.auto_ports: bool = auto_ports
        ports = bytearray(65536)
        for port in server_ports:
            ports[port] = 1
        self.server_ports = bytes(ports)
        self.count: i64 = 0
        self.oldest: Flow | None = None
        self.newest: Flow | None = None
        self.next_tick: i64 = 0
        self.closed_flows: list[Flow] = []
        self.closed_first: i64 = 0

    # -- the way of a packet ------------------------------------------------------------------------------

    def segment(
        self,
        network: Network,
        vni: i64,
        buf: bytes,
        addresses: i64,
        v6: bool,
        start: i64,
        captured: i64,
        claimed: i64,
        time: i64,
    ) -> None:
        """One TCP segment: source and destination address at `addresses`, its header at `start`.

        It was captured up to `captured`; by its IP header it ends at `claimed`.
        """
        counters = self.counters
        if captured - start < 20:
            counters.dropped_malformed += 1
            return
        header: i64 = (buf[start + 12] >> 4) * 4
        if header < 20 or start + header > claimed:
            counters.dropped_malformed += 1
            return
        counters.tcp_segments += 1
        if time > self.now:
            self.now = time
        elif self.now - time > CLOCK_STEP_US:
            self._step_clock(time)
        if self.next_timer != 0 and self.now >= self.next_timer:
            self._run_timers()
        if self.now >= self.next_tick:
            self._tick()
        flags: i64 = buf[start + 13]
        width: i64 = 32 if v6 else 8
        if start == addresses + width:
            key = buf[addresses : start + 4]
        else:
            key = buf[addresses : addresses + width] + buf[start : start + 4]
        way = network.halves.get(key)
        if way is None or (way.flow.closed and self._reopens(way, buf, start, captured, claimed, flags)):
            way = self._open(network, vni, buf, addresses, v6, start, flags, key, time)
            if way is None:
                return
        elif flags & SYN != 0 and self._is_new_connection(way, buf, start, flags):
            self._close(way.flow, CLOSED_REPLACED, time)
            way = self._open(network, vni, buf, addresses, v6, start, flags, key, time)
            if way is None:
                return
        flow = way.flow
        flow.last_time = time
        if flow is not self.newest:
            self._touch(flow)
        if flow.ignored:
            return
        if flow.closed:
            if claimed > start + header:
                counters.dropped_after_close += 1
            return
        if way.direction == CLIENT_TO_SERVER:
            half = flow.client
            peer = flow.server
        else:
            half = flow.server
            peer = flow.client
        sequence: i64 = u32_at(buf, start + 4)
        acknowledgement: i64 = u32_at(buf, start + 8)
        half.seen = True
        half.one_sided = False
        if flags & (SYN | RST) != 0:
            self._control(flow, half, peer, flags, sequence, acknowledgement, time)
            if flags & RST != 0 or claimed <= start + header:
                return
            sequence = (sequence + 1) & 0xFFFFFFFF
        if not half.known:
            half.set_base(sequence)

        acknowledged: i64 = 0
        if flags & ACK != 0:
            if not peer.known:
                peer.set_base(acknowledgement)
            acknowledged = peer.next + sequence_difference(acknowledgement, peer.next_sequence)
            if peer.fin >= 0 and acknowledged > peer.fin:
                acknowledged = peer.fin  # a FIN takes a sequence number, but is no byte
            if acknowledged > peer.acknowledged:
                if acknowledged - peer.next > SANE_WINDOW:
                    counters.dropped_malformed += 1
                    return
                peer.acknowledged = acknowledged
                if acknowledged > peer.highest:
                    peer.highest = acknowledged
                    flow.last_speaker = 1 - way.direction
        else:
            acknowledged = peer.next

        at: i64 = start + header
        offset: i64 = half.next + sequence_difference(sequence, half.next_sequence)
        if claimed > at:
            end: i64 = captured
            if end < at:
                end = at
            self._payload(flow, way, half, peer, buf, at, end, offset, claimed - at, acknowledged, time)
        elif offset == half.next - 1:
            counters.keep_alives += 1
        if flags & FIN != 0 and half.fin < 0:
            offset += claimed - at
            if offset - half.next <= SANE_WINDOW and offset >= half.next - 1:
                # One less than `next`: its sequence number was taken for a lost byte before it was seen.
                half.fin = offset if offset >= half.next else half.next
                if flow.first_fin < 0:
                    flow.first_fin = way.direction
        if acknowledged > peer.next and not flow.closed:
            self._notice_hole(flow, way.direction, half, peer, time)
        if half.fin >= 0 or peer.fin >= 0:
            self._check_end(flow, time)

    # -- the life of a connection -----------------------------------------------------------------------

    def _open(
        self,
        network: Network,
        vni: i64,
        buf: bytes,
        addresses: i64,
        v6: bool,
        start: i64,
        flags: i64,
        key: bytes,
        time: i64,
    ) -> Way | None:
        source: i64 = u16_at(buf, start)
        destination: i64 = u16_at(buf, start + 2)
        to_server: bool
        on_trial: bool = False
        syn: i64 = flags & (SYN | ACK)
        if self.server_ports[destination] != 0 and not (self.server_ports[source] != 0 and syn == SYN | ACK):
            to_server = True
        elif self.server_ports[source] != 0:
            to_server = False
        elif self.auto_ports and flags & SYN != 0:
            to_server = syn == SYN
            on_trial = True
        else:
            self.counters.dropped_other_port += 1
            return None
        if flags & RST != 0:
            self.counters.dropped_after_close += 1
            return None
        if self.count >= self.limits.max_flows:
            self._evict_oldest(time)
        flow = Flow(network, vni, time, v6)
        width: i64 = 16 if v6 else 4
        source_address = buf[addresses : addresses + width]
        destination_address = buf[addresses + width : addresses + 2 * width]
        reverse = destination_address + source_address + buf[start + 2 : start + 4] + buf[start : start + 2]
        direction: i64
        if to_server:
            direction = CLIENT_TO_SERVER
            flow.client_address = source_address
            flow.server_address = destination_address
            flow.client_port = source
            flow.server_port = destination
            flow.client_key = key
            flow.server_key = reverse
        else:
            direction = SERVER_TO_CLIENT
            flow.client_address = destination_address
            flow.server_address = source_address
            flow.client_port = destination
            flow.server_port = source
            flow.client_key = reverse
            flow.server_key = key
        flow.mid_stream = flags & SYN == 0
        flow.on_trial = on_trial
        old = network.halves.get(key)
        if old is not None:
            self._remove(old.flow)
        network.halves[flow.client_key] = Way(flow, CLIENT_TO_SERVER)
        network.halves[flow.server_key] = Way(flow, SERVER_TO_CLIENT)
        self.count += 1
        self.counters.flows += 1
        flow.older = self.newest
        if self.newest is not None:
            self.newest.newer = flow
        self.newest = flow
        if self.oldest is None:
            self.oldest = flow
        flow.listener = self.factory.open(flow)
        return network.halves[flow.client_key if direction == CLIENT_TO_SERVER else flow.server_key]

    def _is_new_connection(self, way: Way, buf: bytes, start: i64, flags: i64) -> bool:
        """Whether a SYN on a known connection begins another one (the port is used again)."""
        flow = way.flow
        if flow.closed:
            return False  # `_reopens` has looked at it
        half = flow.half(way.direction)
        if not half.known:
            return False
        word: i64 = u32_at(buf, start + 4)
        first: i64 = (word + 1) & 0xFFFFFFFF
        return first != half.base

    def _reopens(self, way: Way, buf: bytes, start: i64, captured: i64, claimed: i64, flags: i64) -> bool:
        """Whether a segment on a closed connection begins a new one."""
        flow = way.flow
        half = flow.half(way.direction)
        word: i64 = u32_at(buf, start + 4)
        if flags & SYN != 0:
            return not half.known or ((word + 1) & 0xFFFFFFFF) != half.base
        header: i64 = (buf[start + 12] >> 4) * 4
        if flow.reset and claimed > start + header and flags & (RST | FIN) == 0:
            # The reset was not heeded by the endpoints: follow on, from the middle.
            offset: i64 = half.next + sequence_difference(word & 0xFFFFFFFF, half.next_sequence)
            return offset >= half.highest and self.now - flow.last_time > self.limits.reorder_grace_us
        return False

    def _control(
        self,
        flow: Flow,
        half: HalfStream,
        peer: HalfStream,
        flags: i64,
        sequence: i64,
        acknowledgement: i64,
        time: i64,
    ) -> None:
        """SYN and RST."""
        if flags & RST != 0:
            if half.known:
                offset: i64 = half.next + sequence_difference(sequence, half.next_sequence)
                if offset < half.next - 1 or offset > half.highest + RESET_WINDOW:
                    self.counters.dropped_bad_reset += 1
                    return
            flow.reset = True
            self._close(flow, CLOSED_RESET, time)
            return
        if not half.known:
            half.set_base(sequence + 1)
        if flags & ACK != 0 and not peer.known:
            peer.set_base(acknowledgement)

    def _check_end(self, flow: Flow, time: i64) -> None:
        """Close the connection once both FINs were reached in order."""
        client = flow.client
        server = flow.server
        if flow.closed or client.fin < 0 or server.fin < 0:
            return
        if client.next >= client.fin and server.next >= server.fin:
            reason: i64 = CLOSED_BY_CLIENT if flow.first_fin == CLIENT_TO_SERVER else CLOSED_BY_SERVER
            self._close(flow, reason, time)

    def _close(self, flow: Flow, reason: i64, time: i64) -> None:
        """Hand on what is held, as far as it goes, and say that the connection is over."""
        if flow.closed:
            return
        self._flush(flow, time)
        if flow.closed:
            return
        flow.closed = True
        listener = flow.listener
        flow.listener = None
        flow.client.held = []
        flow.client.first = 0
        flow.server.held = []
        flow.server.first = 0
        self.closed_flows.append(flow)
        if listener is not None:
            listener.closed(reason, time)

    def _touch(self, flow: Flow) -> None:
        """Move `flow` to the young end of the table."""
        older = flow.older
        newer = flow.newer
        if newer is None:
            return
        newer.older = older
        if older is None:
            self.oldest = newer
        else:
            older.newer = newer
        flow.older = self.newest
        flow.newer = None
        if self.newest is not None:
            self.newest.newer = flow
        self.newest = flow

    def _remove(self, flow: Flow) -> None:
        """Forget `flow`."""
        halves = flow.network.halves
        way = halves.get(flow.client_key)
        if way is None or way.flow is not flow:
            return
        del halves[flow.client_key]
        del halves[flow.server_key]
        older = flow.older
        newer = flow.newer
        if older is None:
            self.oldest = newer
        else:
            older.newer = newer
        if newer is None:
            self.newest = older
        else:
            newer.older = older
        flow.older = None
        flow.newer = None
        self.count -= 1

    def _evict_oldest(self, time: i64) -> None:
        flow = self.oldest
        if flow is None:
            return
        if not flow.closed:
            self.counters.flows_evicted += 1
            self._close(flow, CLOSED_EVICTED, time)
        self._remove(flow)

    # -- time -------------------------------------------------------------------------------------------

    def _step_clock(self, time: i64) -> None:
        """The clock was set back: graces that run end no later than they would have from here."""
        self.counters.clock_steps += 1
        self.now = time
        self.next_tick = time
        deadline: i64 = time + self.limits.reorder_grace_us
        at: i64 = self.timers_first
        while at < len(self.timers):
            way = self.timers[at]
            half = way.flow.half(way.direction)
            half.deadline = deadline
            half.hole_since = time
            at += 1
        if self.next_timer != 0:
            self.next_timer = deadline

    def advance(self, now: i64) -> None:
        """Packet time is `now` (us) even though no packet says so: end graces, forget what is over."""
        if now > self.now:
            self.now = now
        if self.next_timer != 0 and self.now >= self.next_timer:
            self._run_timers()
        if self.now >= self.next_tick:
            self._tick()

    def _tick(self) -> None:
        self.next_tick = self.now + TICK_US
        self._expire()
        self.factory.tick(self.now)

    def _expire(self) -> None:
        """Forget connections that were closed a while ago, close those idle for too long."""
        while self.closed_first < len(self.closed_flows):
            flow = self.closed_flows[self.closed_first]
            if (
                self.now - flow.last_time < LINGER_US
                and self.now >= flow.last_time
                and len(self.closed_flows) - self.closed_first <= MAX_CLOSED
            ):
                break
            self._remove(flow)
            self.closed_first += 1
        if self.closed_first == len(self.closed_flows):
            self.closed_flows = []
            self.closed_first = 0
        elif self.closed_first > 1024:
            self.closed_flows = self.closed_flows[self.closed_first :]
            self.closed_first = 0
        oldest = self.oldest
        while oldest is not None and self.now - oldest.last_time > self.limits.idle_timeout_us:
            if not oldest.closed:
                self.counters.flows_idle_timeout += 1
                self._close(oldest, CLOSED_IDLE, self.now)
            self._remove(oldest)
            oldest = self.oldest

    def close(self) -> None:
        """The capture is over: close every connection, oldest first."""
        flow = self.oldest
        while flow is not None:
            following = flow.newer
            self._close(flow, CLOSED_CAPTURE_END, flow.last_time)
            self._remove(flow)
            flow = following
        self.closed_flows = []
        self.closed_first = 0
        self.timers = []
        self.timers_first = 0
        self.next_timer = 0
