"""The messages of the PostgreSQL frontend/backend protocol 3.0 and 3.2, and how long each may be.

Source: PostgreSQL 18 manual, "Message Formats" (chapter 54.7), and the limits that the real programs enforce:
`SocketBackend` in postgres.c for what a client sends, `VALID_LONG_MESSAGE_TYPE` in libpq's fe-protocol3.c for
what a server sends. A length that the real peer would refuse proves that a stream is not where we think.
"""

from typing import Final

__all__ = ["BACKEND_RULES", "CANCEL_REQUEST", "FRONTEND_RULES", "GSSENC_REQUEST", "SSL_REQUEST"]

CANCEL_REQUEST: Final = 80877102
SSL_REQUEST: Final = 80877103
GSSENC_REQUEST: Final = 80877104

# Rules by message type: how long its length field may be, and whether its body is of interest.
RULE_UNKNOWN: Final = 0
RULE_EXACT_4: Final = 1  # no body
RULE_EXACT_5: Final = 2  # one byte
RULE_SMALL: Final = 3  # 10,000 bytes
RULE_MEDIUM: Final = 4  # 65,535 bytes for passwords, 30,000 for server messages; checked as 65,540
RULE_LARGE: Final = 5  # PQ_LARGE_MESSAGE_LIMIT: 1 GiB
RULE_ROW: Final = 6  # large, counted, never kept
RULE_COPY: Final = 7  # large, counted, never kept
RULE_SKIP: Final = 8  # large, told without its body

SMALL_LIMIT: Final = 10_004
MEDIUM_LIMIT: Final = 65_540
LARGE_LIMIT: Final = 0x3FFFFFFF + 4
# A type that no manual knows is skipped by its length, if that is modest.
UNKNOWN_LIMIT: Final = 1 << 20


def _rules(table: dict[int, tuple[bytes, ...]]) -> bytes:
    rules = bytearray(256)
    for rule, types in table.items():
        for kind in types:
            rules[kind[0]] = rule
    return bytes(rules)


FRONTEND_RULES: Final = _rules(
    {
        # The server reads H, S, X and c with a body, too, and complains afterwards.
        RULE_SMALL: (b"C", b"D", b"E", b"H", b"S", b"X", b"c", b"f"),
        RULE_MEDIUM: (b"p",),
        RULE_LARGE: (b"B", b"F", b"P", b"Q"),
        RULE_COPY: (b"d",),
    }
)

BACKEND_RULES: Final = _rules(
    {
        RULE_EXACT_4: (b"1", b"2", b"3", b"I", b"c", b"n", b"s"),
        RULE_EXACT_5: (b"Z",),
        RULE_MEDIUM: (b"C", b"G", b"H", b"K", b"R", b"S", b"W", b"v"),
        RULE_LARGE: (b"A", b"E", b"N", b"t"),
        RULE_ROW: (b"D",),
        RULE_COPY: (b"d",),
        RULE_SKIP: (b"T", b"V"),
    }
)
