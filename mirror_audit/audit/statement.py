"""What a session remembers of requests: statements, prepared statements, portals, and what is missing."""

from typing import Final

from mypy_extensions import i64

from mirror_audit.audit.analysis import Analysis

__all__ = [
    "BIND",
    "CLOSE_PORTAL",
    "CLOSE_STATEMENT",
    "COPY_END",
    "DESCRIBE_PORTAL",
    "DESCRIBE_STATEMENT",
    "EXECUTE",
    "FUNCTION_CALL",
    "OUTCOME_ERROR",
    "OUTCOME_OK",
    "OUTCOME_SKIPPED",
    "OUTCOME_SUSPENDED",
    "OUTCOME_UNKNOWN",
    "PARSE",
    "QUERY",
    "REASON_NAMES",
    "SYNC",
    "UNSEEN_NAME",
    "ExchangeLimits",
    "Portal",
    "Prepared",
    "Request",
    "Statement",
]

# Kinds of requests that wait for a reply.
QUERY: Final = 1
PARSE: Final = 2
BIND: Final = 3
DESCRIBE_STATEMENT: Final = 4
DESCRIBE_PORTAL: Final = 5
EXECUTE: Final = 6
CLOSE_STATEMENT: Final = 7
CLOSE_PORTAL: Final = 8
SYNC: Final = 9
FUNCTION_CALL: Final = 10
COPY_END: Final = 11  # no request: where the client's COPY data ended

PROTOCOL_SIMPLE: Final = 0
PROTOCOL_EXTENDED: Final = 1
PROTOCOL_FUNCTION_CALL: Final = 2

OUTCOME_UNKNOWN: Final = 0
OUTCOME_OK: Final = 1
OUTCOME_ERROR: Final = 2
OUTCOME_SUSPENDED: Final = 3
OUTCOME_SKIPPED: Final = 4

# In the place of a name that was lost. No name can hold a zero byte, so it is never found.
UNSEEN_NAME: Final = b"\x00"

COPY_NONE: Final = 0
COPY_IN: Final = 1
COPY_OUT: Final = 2
COPY_BOTH: Final = 3

# Why a statement is not complete, as bits; the names stand in the record's coverage.
REASON_BYTES_LOST: Final = 1
REASON_REQUEST_NOT_SEEN: Final = 2
REASON_REPLY_NOT_SEEN: Final = 4
REASON_STATEMENT_NOT_SEEN: Final = 8
REASON_PORTAL_NOT_SEEN: Final = 16
REASON_NAME_UNPROVEN: Final = 32
REASON_OVER_LIMIT: Final = 64
REASON_PARAMETERS_UNREADABLE: Final = 128
REASON_SESSION_ENDED: Final = 256
REASON_FIRST_SEGMENT_TRUSTED: Final = 512
REASON_ENCODING_UNPROVEN: Final = 1024
REASON_SURPLUS_RESULT: Final = 2048
REASON_QUOTING_UNPROVEN: Final = 4096

REASON_NAMES: Final = (
    (REASON_BYTES_LOST, b"bytes_lost"),
    (REASON_REQUEST_NOT_SEEN, b"request_not_seen"),
    (REASON_REPLY_NOT_SEEN, b"reply_not_seen"),
    (REASON_STATEMENT_NOT_SEEN, b"prepared_statement_not_seen"),
    (REASON_PORTAL_NOT_SEEN, b"portal_not_seen"),
    (REASON_NAME_UNPROVEN, b"prepared_statement_unproven"),
    (REASON_OVER_LIMIT, b"message_over_limit"),
    (REASON_PARAMETERS_UNREADABLE, b"parameters_unreadable"),
    (REASON_SESSION_ENDED, b"session_ended"),
    (REASON_FIRST_SEGMENT_TRUSTED, b"first_segment_trusted"),
    (REASON_ENCODING_UNPROVEN, b"client_encoding_unproven"),
    (REASON_SURPLUS_RESULT, b"more_results_than_statements"),
    (REASON_QUOTING_UNPROVEN, b"quoting_unproven"),
)


class ExchangeLimits:
    """The bounds of one session; see `config.Limits`."""

    def __init__(
        self,
        max_prepared: i64,
        max_portals: i64,
        max_pending: i64,
        max_finished: i64,
        max_text_bytes: i64,
    ) -> None:
        self.max_prepared: i64 = max_prepared
        self.max_portals: i64 = max_portals
        self.max_pending: i64 = max_pending
        self.max_finished: i64 = max_finished
        self.max_text_bytes: i64 = max_text_bytes


class Prepared:
    """A prepared statement: its text and the types of its parameters."""

    def __init__(self, name: bytes, analysis: Analysis, text_length: i64, oids: bytes) -> None:
        self.name = name
        self.analysis = analysis
        self.text_length: i64 = text_length
        self.oids = oids
        self.reasons: i64 = 0
        self.lost: i64 = 0
        self.cut: bool = False  # the text lost its end
        # Two losses of the client's bytes apart, a name may mean another statement.
        self.loss_epoch: i64 = 0


class Portal:
    """A portal: a prepared statement with the values bound to it."""

    def __init__(self, name: bytes, statement_name: bytes, values: bytes, missing: i64) -> None:
        self.name = name
        self.statement_name = statement_name
        self.values = values
        self.missing: i64 = missing
        self.codec: str | None = None  # of the client encoding when it was bound, if that is not UTF-8
        self.prepared: Prepared | None = None
        self.declared: bool = False  # by DECLARE CURSOR, not by Bind


class Statement:
    """One statement as it runs: what a `statement` record is written from."""

    def __init__(self, protocol: i64, offset: i64, time: i64) -> None:
        self.protocol: i64 = protocol
        self.offset: i64 = offset
        self.time: i64 = time
        self.ordinal: i64 = 0
        self.from_server: bool = False  # `offset` counts the server's bytes: the request was not seen
        self.analysis: Analysis | None = None
        self.text_length: i64 = -1
        self.text_cut: bool = False  # not all of the text was seen: it may do more than it says
        self.inner: Analysis | None = None  # the text behind an SQL-level EXECUTE
        self.prepared: Prepared | None = None
        self.portal: Portal | None = None
        self.portal_name = b""  # UNSEEN_NAME: it was not seen
        self.function: i64 = -1
        self.started: bool = False  # the first byte of its reply was seen
        self.first_reply: i64 = 0
        self.end: i64 = 0
        self.tag = b""
        self.rows: i64 = 0
        self.outcome: i64 = OUTCOME_UNKNOWN
        self.error: dict[int, bytes] | None = None
        self.before: i64 = 0
        self.after: i64 = 0
        self.transaction: i64 = 0
        self.role: bytes | None = None
        self.search_path: bytes | None = None
        self.client_bytes: i64 = 0
        self.server_bytes: i64 = 0
        self.copy: i64 = COPY_NONE
        self.copy_rows: i64 = 0
        self.copy_bytes: i64 = 0
        self.lost: i64 = 0
        self.reasons: i64 = 0
        self.progress: i64 = 0


class Request:
    """A request whose reply is awaited."""

    def __init__(self, kind: i64, name: bytes) -> None:
        self.kind: i64 = kind
        self.name = name
        self.prepared: Prepared | None = None
        self.portal: Portal | None = None
        self.statement: Statement | None = None
        self.more: list[Statement] | None = None  # further statements of the same Query
        self.offset: i64 = 0
        self.time: i64 = 0
