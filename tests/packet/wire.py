"""A wire for one observer: segments go in, what a listener is told comes out as short lines.

::

    wire = Wire()
    wire.send(client(0, b"hello"), server(0, b"world", ack=5))
    assert wire.story() == ["C hello", "S world"]

Offsets count a direction's bytes from the first after its SYN; `ack` counts the other direction's.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from mirror_audit.config import Limits
from mirror_audit.counters import Counters
from mirror_audit.packet.flow import Flow, FlowLimits, Network, StreamFactory
from mirror_audit.packet.flows import FlowTable
from mirror_audit.packet.streams import (
    BOUNDARY_NONE,
    BOUNDARY_QUIET,
    BOUNDARY_TURN,
    CAUSE_LIMIT,
    CAUSE_NOT_CAPTURED,
    CAUSE_ONE_SIDED,
    CAUSE_TRUNCATED,
    CLOSED_BY_CLIENT,
    CLOSED_BY_SERVER,
    CLOSED_CAPTURE_END,
    CLOSED_EVICTED,
    CLOSED_IDLE,
    CLOSED_REPLACED,
    CLOSED_RESET,
    StreamListener,
)

__all__ = [
    "ACK",
    "CLIENT_ISN",
    "FIN",
    "GRACE",
    "RST",
    "SERVER_ISN",
    "START",
    "SYN",
    "Event",
    "Factory",
    "Recorder",
    "Seg",
    "Wire",
    "client",
    "conversation",
    "data_of",
    "flow_limits",
    "handshake",
    "merged",
    "server",
    "told",
]

Who = Literal["client", "server"]
# ("data", direction, offset, bytes, boundary, time) | ("gap", direction, offset, length, cause, time)
# | ("closed", reason, time)
Event: TypeAlias = tuple[Any, ...]

START = 1_790_000_000_000_000
GRACE = Limits().reorder_grace_us
CLIENT_ISN = 1_000_000
SERVER_ISN = 2_000_000
FIN, SYN, RST, ACK = 1, 2, 4, 16
CAUSES = {
    CAUSE_NOT_CAPTURED: "not_captured",
    CAUSE_TRUNCATED: "truncated",
    CAUSE_LIMIT: "limit",
    CAUSE_ONE_SIDED: "one_sided",
}
REASONS = {
    CLOSED_BY_CLIENT: "client",
    CLOSED_BY_SERVER: "server",
    CLOSED_RESET: "reset",
    CLOSED_EVICTED: "evicted",
    CLOSED_IDLE: "idle",
    CLOSED_CAPTURE_END: "capture_end",
    CLOSED_REPLACED: "replaced",
}
BOUNDARIES = {BOUNDARY_NONE: "none", BOUNDARY_TURN: "turn", BOUNDARY_QUIET: "quiet"}


class Recorder(StreamListener):
    """Writes down what it is told of one connection, and holds the caller to what it promises."""

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self.events: list[Event] = []
        self.next = [0, 0]
        self.over = False

    def data(
        self, direction: int, buf: bytes, start: int, end: int, offset: int, time: int, boundary: int
    ) -> None:
        assert not self.over
        assert 0 <= start < end <= len(buf)
        assert offset == self.next[direction], "a byte was left out or told twice"
        self.next[direction] += end - start
        self.events.append(("data", direction, offset, buf[start:end], boundary, time))

    def gap(self, direction: int, offset: int, length: int, cause: int, time: int) -> None:
        assert not self.over
        assert length > 0
        assert offset == self.next[direction]
        self.next[direction] += length
        self.events.append(("gap", direction, offset, length, cause, time))

    def closed(self, reason: int, time: int) -> None:
        assert not self.over
        self.over = True
        self.events.append(("closed", reason, time))


class Factory(StreamFactory):
    """Makes recorders and keeps them, in the order of opening."""

    def __init__(self) -> None:
        self.recorders: list[Recorder] = []
        self.ticks: list[int] = []

    def open(self, flow: Flow) -> StreamListener:
        self.recorders.append(Recorder(flow))
        return self.recorders[-1]

    def tick(self, now: int) -> None:
        self.ticks.append(now)


@dataclass(frozen=True, slots=True)
class Seg:
    """One segment. `cut`: so many bytes of the payload were captured. `time`: us after START, None: one after
    the last one's. `isn`: of its sender, `peer_isn`: of the other side."""

    who: Who
    offset: int
    data: bytes = b""
    ack: int | None = 0
    flags: int = 0
    cut: int | None = None
    time: int | None = None
    isn: int | None = None
    peer_isn: int | None = None
    port: int = 40000

    def at(self, time: int) -> "Seg":
        return replace(self, time=time)


def client(offset: int, data: bytes = b"", ack: int | None = 0, **more: Any) -> Seg:
    """A segment of the client; without data a pure ACK. `ack` None: without the ACK flag."""
    return Seg("client", offset, data, ack, **more)


def server(offset: int, data: bytes = b"", ack: int | None = 0, **more: Any) -> Seg:
    """A segment of the server; see `client`."""
    return Seg("server", offset, data, ack, **more)


def handshake(**more: Any) -> list[Seg]:
    """SYN, SYN-ACK, ACK."""
    return [
        client(-1, ack=None, flags=SYN, **more),
        server(-1, flags=SYN, **_swapped(more)),
        client(0, **more),
    ]


def conversation(**isn: Any) -> list[Seg]:
    """From the handshake to the last ACK."""
    other: dict[str, Any] = {"isn": isn.get("peer_isn"), "peer_isn": isn.get("isn")}
    return [
        *handshake(**isn),
        client(0, b"ask", **isn),
        server(0, b"reply", ack=3, **other),
        client(3, ack=5, flags=FIN, **isn),
        server(5, ack=4, flags=FIN, **other),
        client(4, ack=6, **isn),
    ]


def _swapped(more: dict[str, Any]) -> dict[str, Any]:
    names = {"isn": "peer_isn", "peer_isn": "isn"}
    return {names.get(name, name): value for name, value in more.items()}


def flow_limits(**more: int) -> FlowLimits:
    """The defaults of `config.Limits`, with some replaced."""
    limits = Limits(**more)
    return FlowLimits(
        limits.max_flows,
        limits.max_held_bytes,
        limits.max_held_segments,
        limits.reorder_grace_us,
        limits.unacknowledged_hole_us,
        limits.idle_timeout_us,
    )


class Wire:
    """A flow table with a recording listener, in front of it a stack that builds segments."""

    def __init__(
        self, *, opened: bool = True, ports: tuple[int, ...] = (5432,), auto: bool = False, **limits: int
    ) -> None:
        self.counters = Counters()
        self.factory = Factory()
        self.table = FlowTable(self.factory, flow_limits(**limits), ports, auto, self.counters)
        self.network = Network("default")
        self.now = 0
        if opened:
            self.send(*handshake())

    def send(self, *segments: Seg) -> None:
        """Let the observer see the segments, one us apart unless they say when."""
        for seg in segments:
            self.now = self.now + 1 if seg.time is None else seg.time
            if seg.who == "client":
                addresses = bytes([10, 0, 1, 10, 10, 0, 2, 20])
                ports = seg.port.to_bytes(2, "big") + (5432).to_bytes(2, "big")
                isn, peer_isn = CLIENT_ISN, SERVER_ISN
            else:
                addresses = bytes([10, 0, 2, 20, 10, 0, 1, 10])
                ports = (5432).to_bytes(2, "big") + seg.port.to_bytes(2, "big")
                isn, peer_isn = SERVER_ISN, CLIENT_ISN
            isn = isn if seg.isn is None else seg.isn
            peer_isn = peer_isn if seg.peer_isn is None else seg.peer_isn
            sequence = (isn + 1 + seg.offset) & 0xFFFFFFFF
            ack = 0 if seg.ack is None else (peer_isn + 1 + seg.ack) & 0xFFFFFFFF
            flags = seg.flags | (0 if seg.ack is None else ACK)
            header = ports + sequence.to_bytes(4, "big") + ack.to_bytes(4, "big") + bytes([0x50, flags])
            buf = addresses + header + bytes(6) + seg.data
            captured = len(buf) if seg.cut is None else len(buf) - len(seg.data) + seg.cut
            self.table.segment(
                self.network, -1, buf[:captured], 0, False, 8, captured, len(buf), START + self.now
            )

    def close(self) -> None:
        """The capture ends."""
        self.table.close()

    def advance(self, time: int) -> None:
        """It is `time` us after START."""
        self.now = time
        self.table.advance(START + time)

    def events(self, number: int = 0) -> list[Event]:
        """What the listener of the connection `number` was told, in the order of opening."""
        return self.factory.recorders[number].events

    def story(self, number: int = 0) -> list[str]:
        """The same as lines, with neighbouring data of a direction in one."""
        return told(merged(self.events(number)))

    def stories(self) -> list[list[str]]:
        """The stories of all connections, in the order of opening."""
        return [self.story(number) for number in range(len(self.factory.recorders))]

    def count(self, name: str) -> int:
        """A counter's value."""
        return self.counters.as_dict()[name]

    def held(self) -> tuple[int, int]:
        """Segments and bytes held back by all connections that are open."""
        halves = [
            half
            for recorder in self.factory.recorders
            if not recorder.over
            for half in (recorder.flow.client, recorder.flow.server)
        ]
        return sum(half.holding() for half in halves), sum(half.held_bytes for half in halves)


def merged(events: Iterable[Event]) -> list[Event]:
    """With neighbouring data of one direction joined: how it was cut is the sender's affair."""
    out: list[Event] = []
    for event in events:
        last: Event = out[-1] if out else ("",)
        same = event[0] == last[0] != "closed" and event[1] == last[1]
        if same and (event[0] == "data" or event[4] == last[4]):
            out[-1] = (*last[:3], last[3] + event[3], *last[4:])
        else:
            out.append(event)
    return out


def told(events: Iterable[Event]) -> list[str]:
    """Events as lines without times: `C text`, `S -5 truncated`, `closed reset`."""
    lines = []
    for event in events:
        if event[0] == "closed":
            lines.append(f"closed {REASONS[event[1]]}")
        elif event[0] == "gap":
            lines.append(f"{'CS'[event[1]]} -{event[3]} {CAUSES[event[4]]}")
        else:
            lines.append(f"{'CS'[event[1]]} {event[3].decode('latin-1')}")
    return lines


def data_of(events: Iterable[Event], direction: int) -> bytes:
    """The bytes of a direction, gaps as the right number of zeros."""
    mine = [event for event in events if event[0] != "closed" and event[1] == direction]
    return b"".join(event[3] if event[0] == "data" else bytes(event[3]) for event in mine)
