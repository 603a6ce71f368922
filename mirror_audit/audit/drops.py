"""Packets that belong to no connection and could not be used: a counter each, and a record that says so."""

from typing import Final

from mypy_extensions import i64

from mirror_audit.audit.envelope import KIND_GAP, RecordWriter
from mirror_audit.counters import Counters
from mirror_audit.jsontext import write_int

__all__ = ["DropLedger"]

# Counters of packets that may have held PostgreSQL traffic, and the cause that their records name. What is
# left out for being something else (another port, UDP, ARP) is no loss.
_LOSSES: Final = (
    ("dropped_malformed", b"malformed"),
    ("dropped_link_type", b"link_type"),
    ("dropped_encapsulation_depth", b"encapsulation_depth"),
    ("dropped_networks_limit", b"networks_limit"),
    ("dropped_fragments_limit", b"fragments_limit"),
    ("dropped_fragments_timeout", b"fragments_timeout"),
    ("dropped_after_close", b"after_close"),
)
# A record for each cause at most this often (us of packet time), however many packets are dropped.
INTERVAL_US: Final = 60_000_000

_NO_FLOW: Final = b"0" * 16
_NOBODY: Final = (
    b'"session_id":null,"network":null,"vni":null,"client_address":null,"client_port":null,'
    b'"server_address":null,"server_port":null,"proxy_address":null,"proxy_port":null,"user":null,'
    b'"database":null,"application_name":null,"server_version":null,"backend_pid":null'
)


class DropLedger:
    """Tells of dropped packets, added up by cause."""

    def __init__(self, writer: RecordWriter, counters: Counters) -> None:
        self.writer = writer
        self.counters = counters
        self.told: dict[str, int] = {}
        self.next: i64 = 0

    def tick(self, now: i64) -> None:
        """It is `now` (us): tell of what was dropped if it is time to."""
        if now >= self.next:
            self.tell(now)

    def tell(self, now: i64) -> None:
        """A gap record for each cause that has dropped packets since the last one."""
        self.next = now + INTERVAL_US
        ordinal: i64 = 0
        for name, cause in _LOSSES:
            ordinal += 1
            total = int(getattr(self.counters, name))
            count: i64 = total - self.told.get(name, 0)
            if count <= 0:
                continue
            self.told[name] = total
            w = self.writer.begin(KIND_GAP, _NO_FLOW, now, 0, ordinal, _NOBODY)
            w.write(b'"direction":null,"bytes":0,"gaps":')
            write_int(w, count)
            w.write(b',"cause":"' + cause + b'","offset_seq":null,"bytes_undecoded":0,"recovered":true')
            self.writer.end()
