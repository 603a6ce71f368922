"""Put IP fragments together (RFC 791, RFC 8200 section 4.5), within bounds.

A datagram is given up when the table is full (the oldest goes first), when its fragments reach beyond
64 KiB, are too many or too large together, or when packet time says that the rest will not come. Overlapping
bytes: the first copy wins.
"""

from typing import Final

from mypy_extensions import i64

from mirror_audit.counters import Counters

__all__ = ["FragmentTable"]

MAX_DATAGRAM: Final = 65535
# A /64-byte-fragment flood of one datagram stays linear: more parts than this and the datagram is given up.
MAX_PARTS: Final = 1024
# Each fragment may come twice (two mirror sessions). More than this is held back for nobody's good.
MAX_RECEIVED: Final = 2 * MAX_DATAGRAM


class _Datagram:
    def __init__(self, time: i64) -> None:
        self.time: i64 = time
        self.starts: list[int] = []
        self.parts: list[bytes] = []
        self.size: i64 = -1  # known once the last fragment was seen
        self.received: i64 = 0


class FragmentTable:
    """Datagrams of which some fragments are missing."""

    def __init__(self, max_datagrams: i64, timeout_us: i64, counters: Counters) -> None:
        self.max_datagrams: i64 = max_datagrams
        self.timeout_us: i64 = timeout_us
        self.counters = counters
        self.table: dict[bytes, _Datagram] = {}

    def add(
        self, key: bytes, buf: bytes, start: i64, end: i64, offset: i64, more: bool, time: i64
    ) -> bytes | None:
        """Add the fragment payload buf[start:end] that belongs at `offset`; the whole payload once complete.

        `key` names the datagram: network, addresses, protocol and identification.
        """
        self.counters.ip_fragments += 1
        self._expire(time)
        datagram = self.table.get(key)
        if datagram is None:
            if len(self.table) >= self.max_datagrams:
                oldest = next(iter(self.table))
                del self.table[oldest]
                self.counters.dropped_fragments_limit += 1
            datagram = _Datagram(time)
            self.table[key] = datagram
        length: i64 = end - start
        if (
            offset + length > MAX_DATAGRAM
            or len(datagram.parts) >= MAX_PARTS
            or datagram.received + length > MAX_RECEIVED
        ):
            del self.table[key]
            self.counters.dropped_fragments_limit += 1
            return None
        if not more:
            datagram.size = offset + length
        datagram.starts.append(offset)
        datagram.parts.append(buf[start:end])
        datagram.received += length
        if datagram.size >= 0 and datagram.received >= datagram.size:
            whole = _join(datagram)
            if whole is not None:
                del self.table[key]
            return whole
        return None

    def _expire(self, time: i64) -> None:
        # Insertion order is age order, so only the head needs a look.
        while self.table:
            key = next(iter(self.table))
            if time - self.table[key].time <= self.timeout_us:
                return
            del self.table[key]
            self.counters.dropped_fragments_timeout += 1


def _join(datagram: _Datagram) -> bytes | None:
    at: i64 = 0
    for index in sorted(range(len(datagram.parts)), key=datagram.starts.__getitem__):
        start: i64 = datagram.starts[index]
        if start > at:
            return None
        end: i64 = start + len(datagram.parts[index])
        if end > at:
            at = end
    if at < datagram.size:
        return None
    whole = bytearray(at)
    for index in range(len(datagram.parts) - 1, -1, -1):
        # Backwards, so that the first copy is written last.
        start = datagram.starts[index]
        part = datagram.parts[index]
        whole[start : start + len(part)] = part
    return bytes(whole[: datagram.size])
