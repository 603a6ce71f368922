"""Counters of the whole data path: one native object, so that counting costs one addition.

A loss is always a counter here *and* a record in the output. The names are public: they appear in the
closing summary, in `Pipeline.counters()` and later as metrics.
"""

from typing import Final

from mypy_extensions import i64

__all__ = ["COUNTER_NAMES", "Budget", "Counters"]

COUNTER_NAMES: Final = (
    # what came in
    "packets",
    "packet_bytes",
    "vxlan_packets",
    "geneve_packets",
    "ip_fragments",
    "tcp_segments",
    "payload_bytes",
    # what TCP did
    "flows",
    "retransmitted_segments",
    "reordered_segments",
    "keep_alives",
    "overlapping_segments",
    "differing_overlaps",
    "gaps",
    "bytes_lost",
    "truncated_packets",
    "clock_steps",
    # what was not used, and why
    "dropped_link_type",
    "dropped_malformed",
    "dropped_not_ip",
    "dropped_not_tcp",
    "dropped_other_port",
    "dropped_not_postgresql",
    "dropped_vxlan_flag",
    "dropped_encapsulation_depth",
    "dropped_networks_limit",
    "dropped_fragments_limit",
    "dropped_fragments_timeout",
    "dropped_after_close",
    "dropped_bad_reset",
    # limits that bit
    "held_limit_hits",
    "flows_evicted",
    "flows_idle_timeout",
    "prepared_evicted",
    "portals_evicted",
    "outstanding_limit_hits",
    "messages_over_limit",
    "buffer_budget_hits",
    "texts_truncated",
    "parameters_truncated",
    "cancel_keys_evicted",
    "statements_emitted_early",
    # what PostgreSQL did
    "sessions",
    "sessions_mid_stream",
    "connections_without_data",
    "logins_failed",
    "encrypted_sessions",
    "cancel_requests",
    "statements",
    "statements_incomplete",
    "errors",
    "transactions",
    "unknown_messages",
    "malformed_messages",
    "damaged_messages",
    "desynchronised",
    "resynchronised",
    "resync_rejected",
    "undecodable_streams",
    "records",
)


class Budget:
    """Bytes that all sessions together may hold back: each one's own limit, times many, would be too much."""

    def __init__(self, limit: i64) -> None:
        self.limit: i64 = limit
        self.used: i64 = 0

    def take(self, amount: i64) -> bool:
        """Reserve `amount` bytes. False, and nothing reserved, if that is more than there is."""
        if self.used + amount > self.limit:
            return False
        self.used += amount
        return True

    def give(self, amount: i64) -> None:
        """Give back what was reserved."""
        self.used -= amount


class Counters:
    """All counters, each an i64 that only grows."""

    def __init__(self) -> None:
        self.packets: i64 = 0
        self.packet_bytes: i64 = 0
        self.vxlan_packets: i64 = 0
        self.geneve_packets: i64 = 0
        self.ip_fragments: i64 = 0
        self.tcp_segments: i64 = 0
        self.payload_bytes: i64 = 0
        self.flows: i64 = 0
        self.retransmitted_segments: i64 = 0
        self.reordered_segments: i64 = 0
        self.keep_alives: i64 = 0
        self.overlapping_segments: i64 = 0
        self.differing_overlaps: i64 = 0
        self.gaps: i64 = 0
        self.bytes_lost: i64 = 0
        self.truncated_packets: i64 = 0
        self.clock_steps: i64 = 0
        self.dropped_link_type: i64 = 0
        self.dropped_malformed: i64 = 0
        self.dropped_not_ip: i64 = 0
        self.dropped_not_tcp: i64 = 0
        self.dropped_other_port: i64 = 0
        self.dropped_not_postgresql: i64 = 0
        self.dropped_vxlan_flag: i64 = 0
        self.dropped_encapsulation_depth: i64 = 0
        self.dropped_networks_limit: i64 = 0
        self.dropped_fragments_limit: i64 = 0
        self.dropped_fragments_timeout: i64 = 0
        self.dropped_after_close: i64 = 0
        self.dropped_bad_reset: i64 = 0
        self.held_limit_hits: i64 = 0
        self.flows_evicted: i64 = 0
        self.flows_idle_timeout: i64 = 0
        self.prepared_evicted: i64 = 0
        self.portals_evicted: i64 = 0
        self.outstanding_limit_hits: i64 = 0
        self.messages_over_limit: i64 = 0
        self.buffer_budget_hits: i64 = 0
        self.texts_truncated: i64 = 0
        self.parameters_truncated: i64 = 0
        self.cancel_keys_evicted: i64 = 0
        self.statements_emitted_early: i64 = 0
        self.sessions: i64 = 0
        self.sessions_mid_stream: i64 = 0
        self.connections_without_data: i64 = 0
        self.logins_failed: i64 = 0
        self.encrypted_sessions: i64 = 0
        self.cancel_requests: i64 = 0
        self.statements: i64 = 0
        self.statements_incomplete: i64 = 0
        self.errors: i64 = 0
        self.transactions: i64 = 0
        self.unknown_messages: i64 = 0
        self.malformed_messages: i64 = 0
        self.damaged_messages: i64 = 0
        self.desynchronised: i64 = 0
        self.resynchronised: i64 = 0
        self.resync_rejected: i64 = 0
        self.undecodable_streams: i64 = 0
        self.records: i64 = 0

    def as_dict(self) -> dict[str, int]:
        """The counters by name, in the order of `COUNTER_NAMES`."""
        result: dict[str, int] = {}
        for name in COUNTER_NAMES:
            result[name] = int(getattr(self, name))
        return result
