"""The table of TCP connections: find the one a segment belongs to, open, close and forget them.

Every table is bounded: the connection that was idle longest leaves first, and its listener is told. Time is
the packets' own: a live loop calls `advance`, so that a quiet network holds nothing back.
"""

from typing import Final

from mypy_extensions import i64

from mirror_audit.counters import Counters
from mirror_audit.octets import u16_at, u32_at
from mirror_audit.packet.flow import Flow, FlowLimits, Network, StreamFactory, Way
from mirror_audit.packet.ordering import StreamOrder
from mirror_audit.packet.reassembly import HalfStream
from mirror_audit.packet.sequence import SANE_WINDOW, SEQUENCE_MASK, STRAY_WINDOW, sequence_difference
from mirror_audit.packet.streams import (
    CAUSE_ONE_SIDED,
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
# So many of the server's segments in a row that fit nowhere are another connection.
MAX_STRAYS: Final = 4
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
        sequence: i64 = u32_at(buf, start + 4)
        at: i64 = start + header
        width: i64 = 32 if v6 else 8
        if start == addresses + width:
            key = buf[addresses : start + 4]
        else:
            key = buf[addresses : addresses + width] + buf[start : start + 4]
        way = network.halves.get(key)
        if way is None or (
            way.flow.closed and self._reopens(way.flow, way.direction, sequence, claimed > at, flags)
        ):
            way = self._open(network, vni, buf, addresses, v6, start, flags, key, time)
            if way is None:
                return
        elif (flags & SYN != 0 or way.flow.syn_base >= 0) and way.flow.begins_anew(
            way.direction, sequence, u32_at(buf, start + 8), flags & SYN != 0
        ):
            old = way.flow
            if way.direction == CLIENT_TO_SERVER and old.server.seen:
                # Whoever wants to hide what follows could send this. The server's answer to it will tell.
                old.syn_base = (sequence + 1) & SEQUENCE_MASK
                old.syn_time = time
                return
            began: i64 = old.asked_at(u32_at(buf, start + 8))
            if began < 0:
                began = time
            self._close(old, CLOSED_REPLACED, began)
            way = self._open(network, vni, buf, addresses, v6, start, flags, key, began)
            if way is None:
                return
        flow = way.flow
        if flow.closed:
            # It does not count as activity: what is over is forgotten, even if something goes on sending.
            if claimed > at and not flow.ignored:
                counters.dropped_after_close += 1
            return
        flow.last_time = time
        if flow is not self.newest:
            self._touch(flow)
        if flow.ignored:
            if flags & (FIN | RST) != 0:
                self._close(flow, CLOSED_RESET, time)
            return
        if way.direction == CLIENT_TO_SERVER:
            half = flow.client
            peer = flow.server
        else:
            half = flow.server
            peer = flow.client
        acknowledgement: i64 = u32_at(buf, start + 8)
        half.seen = True
        half.one_sided = False
        if flags & (SYN | RST) != 0:
            self._control(way, flags, sequence, acknowledgement, time)
            if flags & RST != 0 or claimed <= at:
                return
            sequence = (sequence + 1) & SEQUENCE_MASK
        if not half.known:
            half.set_base(sequence)

        offset: i64 = half.next + sequence_difference(sequence, half.next_sequence)
        if offset > half.next + SANE_WINDOW or offset < half.next - STRAY_WINDOW:
            self._stray(flow, way.direction, peer, time)
            return
        acknowledged: i64 = 0
        if flags & ACK != 0:
            if not peer.known:
                peer.set_base(acknowledgement)
            acknowledged = peer.next + sequence_difference(acknowledgement, peer.next_sequence)
            if acknowledged > peer.next + SANE_WINDOW or acknowledged < peer.next - STRAY_WINDOW:
                self._stray(flow, way.direction, peer, time)
                return
            if peer.fin >= 0 and acknowledged > peer.fin:
                acknowledged = peer.fin  # a FIN takes a sequence number, but is no byte
            if acknowledged > peer.acknowledged:
                if acknowledged == 1 and peer.highest == 0 and peer.seen and flow.mid_stream:
                    # The first packet seen was a keep-alive, which bears the number before the next one.
                    peer.set_base(acknowledgement)
                    acknowledged = 0
                peer.acknowledged = acknowledged
                peer.acknowledged_time = time
                if acknowledged > peer.highest:
                    peer.highest = acknowledged
                    flow.last_speaker = 1 - way.direction
                if peer.one_sided and half.holding() == 0 and offset <= half.next:
                    # Nothing of that direction is captured: there is nothing to wait for.
                    self._gap(flow, 1 - way.direction, peer, acknowledged, CAUSE_ONE_SIDED, time)
        else:
            acknowledged = peer.next
        if flow.strays != 0 and (way.direction == SERVER_TO_CLIENT or not peer.seen):
            flow.strays = 0

        if claimed > at:
            end: i64 = captured
            if end < at:
                end = at
            self._payload(flow, way, half, peer, buf, at, end, offset, claimed - at, acknowledged, time)
        elif offset == half.next - 1:
            counters.keep_alives += 1
        if flags & FIN != 0 and half.end_at(offset + claimed - at):
            flow.end_seen(way.direction, time)
            if peer.holding() != 0:
                self._drain(flow)
            if not peer.seen:
                self._arm(way, half)
        if acknowledged > peer.next and not flow.closed:
            self._notice_hole(flow, way.direction, peer)
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
        # Where time stands still these grow with each connection, however few there may be at once.
        while len(self.closed_flows) - self.closed_first > MAX_CLOSED:
            self._forget_closed()
        if len(self.timers) - self.timers_first > 4 * self.limits.max_flows + 1024:
            self._forget_timers()
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

    def _stray(self, flow: Flow, direction: i64, peer: HalfStream, time: i64) -> None:
        """A segment that cannot be of this connection, by its sequence number.

        If the server sends nothing else any more, another connection has taken the place of this one unseen.
        What the client sends proves nothing: it may be meant to make an observer let go.
        """
        self.counters.dropped_malformed += 1
        if direction == CLIENT_TO_SERVER and peer.seen:
            return
        flow.strays += 1
        if flow.strays >= MAX_STRAYS:
            self._close(flow, CLOSED_REPLACED, time)
            self._remove(flow)  # the next segment joins the new one in its middle

    def _reopens(self, flow: Flow, direction: i64, sequence: i64, payload: bool, flags: i64) -> bool:
        """Whether a segment on a closed connection begins a new one."""
        half = flow.half(direction)
        if flags & SYN != 0:
            return not half.known or ((sequence + 1) & SEQUENCE_MASK) != half.base
        if not payload or flags & (RST | FIN) != 0 or not half.known or flow.ignored:
            return False
        offset: i64 = half.next + sequence_difference(sequence, half.next_sequence)
        if flow.reset:
            # The reset was not heeded by the endpoints: follow on, from the middle.
            return offset >= half.highest and self.now - flow.last_time > self.limits.reorder_grace_us
        # Nobody sends on behind his own FIN: this is another connection, whose SYN was not captured.
        return offset > half.highest or offset < half.next - STRAY_WINDOW

    def _control(self, way: Way, flags: i64, sequence: i64, acknowledgement: i64, time: i64) -> None:
        """SYN and RST."""
        flow = way.flow
        half = flow.half(way.direction)
        peer = flow.half(1 - way.direction)
        if flags & RST != 0:
            if half.known:
                offset: i64 = half.next + sequence_difference(sequence, half.next_sequence)
                if offset < half.next - 1 or offset > half.highest + RESET_WINDOW:
                    self.counters.dropped_bad_reset += 1
                    return
            # Packets sent before it may come after it, like any others.
            flow.reset = True
            flow.end_seen(way.direction, time)
            self._arm(way, half)
            self._check_end(flow, time)
            return
        half.begin_at(sequence + 1, peer.holding() == 0)
        if flags & ACK != 0 and not peer.known:
            peer.set_base(acknowledgement)

    def _check_end(self, flow: Flow, time: i64) -> None:
        """Close the connection once both FINs were reached in order, or when late packets had their time."""
        waited: i64 = self.now - flow.end_time
        over: bool = waited < 0 or waited >= self.limits.reorder_grace_us
        if flow.finished() or (over and flow.finishing()):
            self._close(flow, CLOSED_RESET, time)

    def _close(self, flow: Flow, reason: i64, time: i64) -> None:
        """Hand on what is held, as far as it goes, and say that the connection is over."""
        if flow.closing:
            return
        flow.closing = True
        self._flush(flow, reason == CLOSED_REPLACED, time)
        flow.closed = True
        if flow.finished() or flow.finishing():
            reason = CLOSED_BY_CLIENT if flow.first_fin == CLIENT_TO_SERVER else CLOSED_BY_SERVER
            if flow.reset and not flow.finished():
                reason = CLOSED_RESET
            time = flow.end_time
        self.held_total -= flow.client.held_bytes + flow.server.held_bytes
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
            if self.now - flow.last_time < LINGER_US and self.now >= flow.last_time:
                break
            self._forget_closed()
        oldest = self.oldest
        while oldest is not None and self.now - oldest.last_time > self.limits.idle_timeout_us:
            if not oldest.closed:
                self.counters.flows_idle_timeout += 1
                self._close(oldest, CLOSED_IDLE, self.now)
            self._remove(oldest)
            oldest = self.oldest

    def _forget_closed(self) -> None:
        """Forget the connection that was closed first."""
        self._remove(self.closed_flows[self.closed_first])
        self.closed_first += 1
        if self.closed_first == len(self.closed_flows):
            self.closed_flows = []
            self.closed_first = 0
        elif self.closed_first > 1024 and self.closed_first * 2 > len(self.closed_flows):
            self.closed_flows = self.closed_flows[self.closed_first :]
            self.closed_first = 0

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
