"""Write records as JSON lines: the envelope that every record has, its id, and where the lines go.

What does not change from record to record (addresses, user, database) is encoded once for a session and
copied from there. Lines are handed on in batches, so that the cost of a record is the cost of its bytes.

The id of a record is the same whenever the same packets are seen: 16 hex digits of a hash of network,
addresses, ports and direction, then the time of the first byte (microseconds), its TCP sequence number, the
kind and an ordinal. It holds nothing that depends on what was lost or on where a capture began.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Final

from librt.strings import BytesWriter
from mypy_extensions import i64, u8

from mirror_audit.counters import Counters
from mirror_audit.jsontext import write_hex

__all__ = ["KIND_NAMES", "RecordWriter", "flow_hash"]

SCHEMA_VERSION: Final = b"1.0"

KIND_STATEMENT: Final = 0
KIND_STATEMENT_PROGRESS: Final = 1
KIND_SESSION_START: Final = 2
KIND_LOGIN_FAILED: Final = 3
KIND_SESSION_END: Final = 4
KIND_TRANSACTION_END: Final = 5
KIND_CANCEL_REQUEST: Final = 6
KIND_ENCRYPTED_SESSION: Final = 7
KIND_REPLICATION: Final = 8
KIND_GAP: Final = 9
KIND_UNDECODABLE: Final = 10

KIND_NAMES: Final = (
    b"statement",
    b"statement_progress",
    b"session_start",
    b"login_failed",
    b"session_end",
    b"transaction_end",
    b"cancel_request",
    b"encrypted_session",
    b"replication",
    b"gap",
    b"undecodable",
)

BATCH_BYTES: Final = 1 << 18
MICROSECONDS: Final = 1_000_000
# 9999-12-31T23:59:59 in seconds: what comes behind cannot be written as a time.
LAST_SECOND: Final = 253_402_300_799
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def flow_hash(network: str, source: bytes, source_port: int, target: bytes, target_port: int) -> bytes:
    """16 hex digits that stand for one direction of one pair of endpoints in one network."""
    ports = source_port.to_bytes(2, "big") + target_port.to_bytes(2, "big")
    # A name has no zero byte, so no two of these strings are the same.
    return blake2b(network.encode() + b"\x00" + source + target + ports, digest_size=8).hexdigest().encode()


class RecordWriter:
    """Writes records one after the other into one buffer."""

    def __init__(self, write: Callable[[bytes], None], counters: Counters) -> None:
        self.write = write
        self.counters = counters
        self.w = BytesWriter()
        self.second: i64 = -(1 << 62)  # none yet
        self.second_text = b""
        starts: list[bytes] = []
        bodies: list[bytes] = []
        for name in KIND_NAMES:
            starts.append(b'{"schema_version":"' + SCHEMA_VERSION + b'","kind":"' + name + b'","id":"')
            bodies.append(b',"' + name + b'":{')
        self.starts = starts
        self.bodies = bodies

    def write_id(self, flow: bytes, time: i64, sequence: i64, kind: i64, ordinal: i64) -> None:
        """The 46 hex digits of an id."""
        w = self.w
        w.write(flow)
        write_hex(w, time, 14)
        write_hex(w, sequence, 8)
        write_hex(w, kind, 2)
        write_hex(w, ordinal, 6)

    def begin(
        self, kind: i64, flow: bytes, time: i64, sequence: i64, ordinal: i64, session: bytes
    ) -> BytesWriter:
        """Write the envelope; `session` is its part from session_id to backend_pid, already JSON.

        Returns the buffer, into which the caller writes the body's members.
        """
        w = self.w
        w.write(self.starts[kind])
        self.write_id(flow, time, sequence, kind, ordinal)
        w.write(b'","collector":null,"stream":null,"sequence":null,"time":"')
        self.write_time(time)
        w.write(b'",')
        w.write(session)
        w.write(self.bodies[kind])
        return w

    def end(self) -> None:
        """The record is complete."""
        w = self.w
        w.write(b"}}\n")
        self.counters.records += 1
        if len(w) >= BATCH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Hand on what was written."""
        w = self.w
        if len(w) > 0:
            batch = w.getvalue()
            self.w = BytesWriter()
            self.write(batch)

    def write_time(self, time: i64) -> None:
        """`time` (us) as RFC 3339 in UTC with six decimals."""
        w = self.w
        second: i64 = time // MICROSECONDS
        if second != self.second:
            self.second = second
            self.second_text = _second_text(second)
        w.write(self.second_text)
        rest: i64 = time - second * MICROSECONDS
        w.append(u8(48 + rest // 100000))
        w.append(u8(48 + rest // 10000 % 10))
        w.append(u8(48 + rest // 1000 % 10))
        w.append(u8(48 + rest // 100 % 10))
        w.append(u8(48 + rest // 10 % 10))
        w.append(u8(48 + rest % 10))
        w.append(0x5A)


def _second_text(second: i64) -> bytes:
    if second < 0:
        second = 0
    if second > LAST_SECOND:
        second = LAST_SECOND
    moment = _EPOCH + timedelta(seconds=int(second))
    return moment.strftime("%Y-%m-%dT%H:%M:%S.").encode().rjust(20, b"0")
