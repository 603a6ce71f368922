"""TCP sequence numbers: 32 bits that wrap (RFC 9293, section 3.4)."""

from typing import Final

from mypy_extensions import i64

__all__ = ["SANE_WINDOW", "SEQUENCE_MASK", "STRAY_WINDOW", "sequence_difference"]

SEQUENCE_MASK: Final = 0xFFFFFFFF
# An acknowledgement or a segment further ahead than this of what is known is not of this connection.
SANE_WINDOW: Final = 1 << 30
# Nor is one this far behind: no retransmission is so old.
STRAY_WINDOW: Final = 1 << 24


def sequence_difference(a: i64, b: i64) -> i64:
    """How far sequence number `a` lies after `b`: -2^31 to 2^31 - 1, right across the wrap."""
    return ((a - b + 0x80000000) & 0xFFFFFFFF) - 0x80000000
