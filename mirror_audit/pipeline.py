"""The straight line: frames -> segments -> streams -> messages -> statements -> records.

Nothing in it opens a file or a socket or looks at a clock, so replaying a capture and following a live
network run the same code. Time is the packets' own, moved on by `advance` where packets are few.
"""

from collections.abc import Callable

from mirror_audit.audit.analysis import Analyser
from mirror_audit.audit.encode import EncodeLimits, StatementEncoder
from mirror_audit.audit.envelope import RecordWriter
from mirror_audit.audit.registry import SessionRegistry
from mirror_audit.audit.statement import ExchangeLimits
from mirror_audit.audit.stream import SessionFactory
from mirror_audit.capture.frames import FrameSink
from mirror_audit.config import Settings
from mirror_audit.counters import Budget, Counters
from mirror_audit.packet.decap import Decapsulator
from mirror_audit.packet.flow import FlowLimits
from mirror_audit.packet.flows import FlowTable

__all__ = ["Pipeline"]


class Pipeline:
    """Takes captured frames, writes audit records.

    `write` is called with whole JSON lines, each ended by a newline, many at a time. Hand `frames` to
    whatever captures; call `flush` when records should be seen, `close` at the end.
    """

    def __init__(self, settings: Settings, write: Callable[[bytes], None]) -> None:
        limits = settings.limits
        self._counters = Counters()
        counters = self._counters
        self._writer = RecordWriter(write, counters)
        analyser = Analyser(settings.redact, settings.redact_key)
        self._analyser = analyser
        budget = Budget(limits.max_buffered_bytes)
        factory = SessionFactory(
            self._writer,
            StatementEncoder(
                analyser,
                EncodeLimits(limits.max_text_bytes, limits.max_parameter_bytes, limits.max_parameters),
                counters,
            ),
            ExchangeLimits(
                limits.max_prepared_statements,
                limits.max_portals,
                limits.max_pending_requests,
                limits.max_finished_statements,
                limits.max_session_text_bytes,
            ),
            SessionRegistry(limits.max_flows, counters),
            counters,
            budget,
            limits.max_message_bytes,
            limits.progress_interval_us,
            settings.trust_first_segment,
        )
        self._drops = factory.drops
        self._flows = FlowTable(
            factory,
            FlowLimits(
                limits.max_flows,
                limits.max_held_bytes,
                limits.max_held_segments,
                limits.reorder_grace_us,
                limits.unacknowledged_hole_us,
                limits.idle_timeout_us,
            ),
            tuple(settings.server_ports),
            settings.auto_ports,
            counters,
        )
        self.frames: FrameSink = Decapsulator(
            self._flows,
            counters,
            tuple(settings.vxlan_ports),
            tuple(settings.geneve_ports),
            dict(settings.networks),
            limits.max_networks,
            limits.max_fragments,
            limits.fragment_timeout_us,
        )

    def advance(self, now: int) -> None:
        """It is `now` (us since the epoch, the packets' clock), though no packet says so."""
        self._flows.advance(now)

    def flush(self) -> None:
        """Hand on every record that is written so far."""
        self._writer.flush()

    def close(self) -> None:
        """The capture is over: end every session and hand on the last records."""
        self._flows.close()
        self._drops.tell(self._flows.now)
        self._writer.flush()

    def counters(self) -> dict[str, int]:
        """What was seen, done, dropped and lost so far, by the names in `counters.COUNTER_NAMES`."""
        return self._counters.as_dict()
