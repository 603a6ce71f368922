"""What a TCP connection is to the flow table: its addresses, its two streams, its place among the others."""

from mypy_extensions import i64, mypyc_attr

from mirror_audit.packet.reassembly import HalfStream
from mirror_audit.packet.sequence import SEQUENCE_MASK, STRAY_WINDOW, sequence_difference
from mirror_audit.packet.streams import CLIENT_TO_SERVER, SERVER_TO_CLIENT, StreamListener

__all__ = ["Flow", "FlowLimits", "Network", "StreamFactory", "Way"]


class Network:
    """One address space: the same addresses in two networks are different hosts."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.halves: dict[bytes, Way] = {}
        self.children: dict[int, Network] = {}


class FlowLimits:
    """The bounds of the flow table; see `config.Limits` for their meaning and defaults."""

    def __init__(
        self,
        max_flows: i64,
        max_held_bytes: i64,
        max_held_segments: i64,
        reorder_grace_us: i64,
        unacknowledged_hole_us: i64,
        idle_timeout_us: i64,
    ) -> None:
        self.max_flows: i64 = max_flows
        self.max_held_bytes: i64 = max_held_bytes
        self.max_held_segments: i64 = max_held_segments
        self.reorder_grace_us: i64 = reorder_grace_us
        self.unacknowledged_hole_us: i64 = unacknowledged_hole_us
        self.idle_timeout_us: i64 = idle_timeout_us


class Flow:
    """One TCP connection and its place in the table."""

    def __init__(self, network: Network, vni: i64, time: i64, v6: bool) -> None:
        self.network = network
        self.vni: i64 = vni
        self.v6: bool = v6
        self.client_address = b""  # 4 or 16 bytes
        self.server_address = b""
        self.client_port: i64 = 0
        self.server_port: i64 = 0
        self.mid_stream: bool = False
        self.client = HalfStream()
        self.server = HalfStream()
        self.listener: StreamListener | None = None
        self.client_key = b""
        self.server_key = b""
        self.start_time: i64 = time
        self.last_time: i64 = time
        self.last_data_time: i64 = 0
        self.last_speaker: i64 = -1
        self.first_fin: i64 = -1
        self.syn_base: i64 = -1  # where a connection would begin that the client asked for meanwhile
        self.syn_time: i64 = -1
        self.strays: i64 = 0  # segments in a row that cannot be of this connection
        self.end_time: i64 = 0  # of the last packet that ends it: a FIN or a reset
        self.closing: bool = False
        self.closed: bool = False
        self.reset: bool = False
        self.on_trial: bool = False  # its ports do not say that it is PostgreSQL
        self.ignored: bool = False  # its listener has no use for it
        self.older: Flow | None = None
        self.newer: Flow | None = None

    def begins_anew(self, direction: i64, sequence: i64, acknowledgement: i64, syn: bool) -> bool:
        """Whether a SYN is another than those that opened this one, or an answer shows that there was one."""
        client = self.client
        if self.closed:
            return False
        if syn:
            half = self.half(direction)
            if direction == SERVER_TO_CLIENT and client.known and acknowledgement == client.base:
                return False  # it answers the SYN of this one, however late
            return half.known and ((sequence + 1) & SEQUENCE_MASK) != half.base
        # The server's SYN was lost. What it says next acknowledges what was never sent in this connection.
        if direction != SERVER_TO_CLIENT or self.asked_at(acknowledgement) < 0:
            return False
        known: i64 = client.acknowledged if client.acknowledged > client.next else client.next
        return client.next + sequence_difference(acknowledgement, client.next_sequence) > known + STRAY_WINDOW

    def asked_at(self, acknowledgement: i64) -> i64:
        """When the client asked for the connection in which the server acknowledges this; -1: it did not."""
        ahead: i64 = sequence_difference(acknowledgement, self.syn_base)
        return self.syn_time if self.syn_base >= 0 and 0 <= ahead < STRAY_WINDOW else -1

    def end_seen(self, direction: i64, time: i64) -> None:
        """A FIN or a reset of this direction, sent at `time`."""
        if self.first_fin < 0:
            self.first_fin = direction
        if time > self.end_time:
            self.end_time = time

    def finished(self) -> bool:
        """Whether both directions were read up to their FINs."""
        return 0 <= self.client.fin <= self.client.next and 0 <= self.server.fin <= self.server.next

    def finishing(self) -> bool:
        """Whether it is over unless a late packet says otherwise.

        It was reset, or one direction was read up to its FIN and the other is not captured.
        """
        if self.reset:
            return True
        if self.client.seen and self.server.seen:
            return False
        half = self.client if self.client.seen else self.server
        return 0 <= half.fin <= half.next

    def half(self, direction: i64) -> HalfStream:
        """The stream of a direction."""
        return self.client if direction == CLIENT_TO_SERVER else self.server


class Way:
    """What a pair of addresses and ports, in this order, means: a flow and a direction in it."""

    def __init__(self, flow: Flow, direction: i64) -> None:
        self.flow = flow
        self.direction: i64 = direction


@mypyc_attr(allow_interpreted_subclasses=True)
class StreamFactory:
    """Makes the listener of a new connection."""

    def open(self, flow: Flow) -> StreamListener:
        """A listener for `flow`."""
        raise NotImplementedError

    def tick(self, now: i64) -> None:
        """Called about once a second of packet time."""
