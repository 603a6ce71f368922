"""What TCP reassembly tells: the one interface between packets and what reads their streams.

Directions are 0 (client to server) and 1 (server to client). Offsets count a direction's bytes from the
first one after its SYN (RFC 9293), or from the first one seen if the capture began in the middle.
"""

from typing import Final

from mypy_extensions import i64, mypyc_attr

__all__ = [
    "BOUNDARY_NONE",
    "BOUNDARY_QUIET",
    "BOUNDARY_TURN",
    "CAUSE_LIMIT",
    "CAUSE_NOT_CAPTURED",
    "CAUSE_ONE_SIDED",
    "CAUSE_TRUNCATED",
    "CLIENT_TO_SERVER",
    "CLOSED_BY_CLIENT",
    "CLOSED_BY_SERVER",
    "CLOSED_CAPTURE_END",
    "CLOSED_EVICTED",
    "CLOSED_IDLE",
    "CLOSED_REPLACED",
    "CLOSED_RESET",
    "SERVER_TO_CLIENT",
    "StreamListener",
]

CLIENT_TO_SERVER: Final = 0
SERVER_TO_CLIENT: Final = 1

# Why bytes are missing.
CAUSE_NOT_CAPTURED: Final = 0  # the peer acknowledged them, the capture never showed them
CAUSE_TRUNCATED: Final = 1  # the packet was seen, its tail was cut off
CAUSE_LIMIT: Final = 2  # too much was held back behind the hole
CAUSE_ONE_SIDED: Final = 3  # this direction is not captured at all

# Whether a segment can be the start of a turn, see `StreamListener.data`.
BOUNDARY_NONE: Final = 0
BOUNDARY_TURN: Final = 1
BOUNDARY_QUIET: Final = 2

CLOSED_BY_CLIENT: Final = 0
CLOSED_BY_SERVER: Final = 1
CLOSED_RESET: Final = 2
CLOSED_EVICTED: Final = 3
CLOSED_IDLE: Final = 4
CLOSED_CAPTURE_END: Final = 5
CLOSED_REPLACED: Final = 6


@mypyc_attr(allow_interpreted_subclasses=True)
class StreamListener:
    """Reads the two byte streams of one connection, in an order that respects what each side had seen."""

    def data(
        self, direction: i64, buf: bytes, start: i64, end: i64, offset: i64, time: i64, boundary: i64
    ) -> None:
        """The next bytes of a direction, buf[start:end], at stream offset `offset`, sent at `time` (us).

        `boundary` is BOUNDARY_TURN if, when this segment was sent, each side had acknowledged all that the
        other had sent, the receiver of this segment spoke last, and this segment is the first of the turn
        (for the server: the first answer to such a segment). BOUNDARY_QUIET is the same after a pause.
        """

    def gap(self, direction: i64, offset: i64, length: i64, cause: i64, time: i64) -> None:
        """`length` bytes from `offset` on will never come."""

    def closed(self, reason: i64, time: i64) -> None:
        """The connection is over; nothing follows."""
