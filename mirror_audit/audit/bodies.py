"""The bodies of a record, one frozen dataclass a kind: the single definition of what a record holds.

The annotations are the contract. The type is the JSON type, `Annotated` carries the description and, as
`Keywords`, more of JSON Schema; `audit.schema` turns them into docs/record.schema.json and `audit.record`
reads records with them. All fields are always present, in this order. A trailing underscore is not part of
the field's name (`class_` is "class" in JSON). Field names follow the PostgreSQL protocol manual (chapter
"Frontend/Backend Protocol").
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

__all__ = [
    "BODIES",
    "Body",
    "CancelRequest",
    "Copy",
    "Count",
    "Coverage",
    "EncryptedSession",
    "Gap",
    "Keywords",
    "LoginFailed",
    "Parameter",
    "Replication",
    "SessionEnd",
    "SessionStart",
    "Statement",
    "StatementProgress",
    "Table",
    "TransactionEnd",
    "Undecodable",
]


@dataclass(frozen=True, slots=True)
class Keywords:
    """JSON Schema keywords that go with a type."""

    minimum: int | None = None
    maximum: int | None = None
    pattern: str | None = None


Count = Annotated[int, Keywords(minimum=0)]
Sha256 = Annotated[str, Keywords(pattern="^[0-9a-f]{64}$")]
Direction = Literal["client_to_server", "server_to_client"]
Protocol = Literal["simple", "extended", "function_call"]
TransactionStatus = Literal["I", "T", "E"]


@dataclass(frozen=True, slots=True)
class Coverage:
    """Whether everything that belongs to this record was seen."""

    complete: Annotated[bool, "False if anything that belongs to this record was not seen or not kept."]
    bytes_lost: Annotated[Count, "Bytes of the connection that are known to be missing in it."]
    reasons: Annotated[tuple[str, ...], "Why it is not complete; empty if it is."]


@dataclass(frozen=True, slots=True)
class Parameter:
    """One value bound to a statement."""

    oid: Annotated[Count, "OID of the data type; 0 if neither side named it."]
    type: Annotated[str | None, "Name of a built-in type; null for others."]
    format: Annotated[Literal["text", "binary"], "Format in which the client sent the value."]
    value: Annotated[str | None, "The value as PostgreSQL prints it, or as `encoding` says; null for NULL."]
    encoding: Annotated[
        Literal["text", "hex", "hmac"] | None,
        "text, hex of the bytes, or hmac: HMAC-SHA-256 in hex of a redacted value; null: no value.",
    ]
    length: Annotated[Count | None, "Bytes of the value as sent; null for NULL."]
    truncated: Annotated[bool, "True if `value` holds only the beginning."]
    sha256: Annotated[Sha256 | None, "SHA-256 of the whole value as sent; null unless truncated."]
    redacted: Annotated[bool, "True if the value was removed or replaced on purpose."]


@dataclass(frozen=True, slots=True)
class Table:
    """A relation that a statement names."""

    schema: Annotated[str | None, "Schema as written in the statement; null if it was not."]
    name: Annotated[str, "Name of the relation."]


@dataclass(frozen=True, slots=True)
class Copy:
    """What a COPY moved over the connection."""

    direction: Annotated[
        Literal["in", "out", "both"], "in: to the server; out: to the client; both: replication."
    ]
    rows: Annotated[Count, "CopyData messages seen; one a row in COPY's text and CSV formats."]
    bytes: Annotated[Count, "Bytes of data in them."]


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement and what became of it: a simple Query's part, an Execute, or a FunctionCall."""

    protocol: Annotated[Protocol, "How it was sent: simple query, extended query or function call."]
    text: Annotated[str | None, "SQL text, redacted as `redacted` says; null if it was not seen."]
    text_length: Annotated[Count | None, "Bytes of the text as the client sent it."]
    text_truncated: Annotated[bool, "True if `text` holds only the beginning."]
    text_sha256: Annotated[Sha256 | None, "SHA-256 of the whole (redacted) text; null unless truncated."]
    text_base64: Annotated[
        str | None, "The exact bytes in base64, if they are not valid in the client's encoding."
    ]
    prepared_name: Annotated[str | None, "Name of the prepared statement; empty: the unnamed one."]
    portal_name: Annotated[str | None, "Name of the portal; empty: the unnamed one."]
    prepared_text: Annotated[str | None, "Text behind an EXECUTE in SQL, as its PREPARE gave it."]
    parameters: Annotated[
        tuple[Parameter, ...] | None, "Bound values in order; null if there are or were seen none."
    ]
    parameter_count: Annotated[Count | None, "Number of bound values; may be more than `parameters` holds."]
    class_: Annotated[
        Literal["READ", "WRITE", "DDL", "ROLE", "FUNCTION", "MISC"] | None,
        "Class of the statement, as pgaudit names them; null if the text is not known or not parsable.",
    ]
    fingerprint: Annotated[
        str | None, "libpg_query fingerprint in hex: equal for texts that differ in literals only."
    ]
    normalized: Annotated[str | None, "The text with literals replaced by $1, $2, ..."]
    tables: Annotated[
        tuple[Table, ...] | None, "Relations named in the text; null if it could not be parsed."
    ]
    search_path: Annotated[str | None, "search_path in force; null if the connection did not show it."]
    redacted: Annotated[bool, "True if anything was removed from this record on purpose."]
    comment_tags: Annotated[
        Mapping[str, str] | None, "key='value' pairs of a sqlcommenter comment, URL-decoded."
    ]
    command_tag: Annotated[str | None, "CommandComplete's tag, such as INSERT 0 1."]
    rows: Annotated[Count | None, "Rows of the command tag; without one, rows returned so far."]
    outcome: Annotated[
        Literal["ok", "error", "suspended", "skipped", "unknown"],
        "skipped: not run after an error; suspended: the portal has more rows; unknown: no end was seen.",
    ]
    sqlstate: Annotated[str | None, "SQLSTATE of the error (PostgreSQL manual, appendix A)."]
    severity: Annotated[
        str | None, "Severity of the error: ERROR, FATAL or PANIC; localised by servers before 9.6."
    ]
    message: Annotated[str | None, "The error's primary message."]
    detail: Annotated[str | None, "The error's detail."]
    transaction_before: Annotated[
        TransactionStatus | None, "Status before: I idle, T in a transaction, E failed one."
    ]
    transaction_after: Annotated[TransactionStatus | None, "Status after, from ReadyForQuery."]
    transaction: Annotated[
        Count | None,
        "Number of the transaction in the session, from 1, autocommit counted too; null if not run.",
    ]
    effective_role: Annotated[
        str | None, "Whose rights apply after SET ROLE and SET SESSION AUTHORIZATION; null if not known."
    ]
    time_to_first_byte_us: Annotated[
        Count | None, "Microseconds from the request to the answer's first byte."
    ]
    duration_us: Annotated[
        Count | None, "Microseconds from the request to the answer's end, as seen on the wire."
    ]
    bytes_from_client: Annotated[Count, "Bytes of protocol messages from the client for this statement."]
    bytes_from_server: Annotated[Count, "Bytes of protocol messages from the server for this statement."]
    copy: Annotated[Copy | None, "What a COPY moved; null if the statement was none."]
    coverage: Annotated[Coverage, "Whether all of this statement was seen."]


@dataclass(frozen=True, slots=True)
class StatementProgress:
    """A statement that is still running; its `statement` record follows when it ends."""

    statement_id: Annotated[str, "The `id` that the statement's final record will have."]
    protocol: Annotated[Protocol, "How it was sent: simple query, extended query or function call."]
    text: Annotated[str | None, "SQL text, redacted and cut as in the final record."]
    prepared_name: Annotated[str | None, "Name of the prepared statement; empty: the unnamed one."]
    running_us: Annotated[Count, "Microseconds since the request."]
    rows: Annotated[Count, "Rows returned so far."]
    bytes_from_client: Annotated[Count, "Bytes from the client so far."]
    bytes_from_server: Annotated[Count, "Bytes from the server so far."]


@dataclass(frozen=True, slots=True)
class SessionStart:
    """A session was logged in, or was found to be running already."""

    joined: Annotated[
        Literal["start", "mid_stream"], "mid_stream: the capture began after the connection did."
    ]
    protocol_version: Annotated[str | None, "Protocol version, such as 3.0 or 3.2."]
    authentication: Annotated[
        str | None, "Method the server asked for, such as scram-sha-256, md5, password, trust."
    ]
    parameters: Annotated[
        Mapping[str, str] | None,
        "Startup parameters and the server's ParameterStatus values; null if none were seen.",
    ]
    tls: Annotated[Literal[False], "Always false: sessions inside TLS give `encrypted_session` instead."]
    replication: Annotated[Literal["physical", "database"] | None, "Kind of a replication connection."]
    coverage: Annotated[Coverage, "Whether all of the login was seen."]


@dataclass(frozen=True, slots=True)
class LoginFailed:
    """The server refused a login."""

    authentication: Annotated[str | None, "Method the server asked for, if it came to that."]
    sqlstate: Annotated[str | None, "SQLSTATE of the refusal, such as 28P01."]
    severity: Annotated[str | None, "Severity; localised by servers before 9.6."]
    message: Annotated[str | None, "The server's message."]


@dataclass(frozen=True, slots=True)
class SessionEnd:
    """A session is over, or can be followed no longer."""

    reason: Annotated[
        Literal[
            "terminate",
            "client_closed",
            "server_closed",
            "reset",
            "evicted",
            "idle_timeout",
            "capture_end",
            "replaced",
            "fatal",
        ],
        "terminate: the client said so; fatal: the server did; evicted, idle_timeout: limits of ours; "
        "replaced: a new connection on the same ports; capture_end: it may go on.",
    ]
    statements: Annotated[Count, "Statement records of the session."]
    errors: Annotated[Count, "Those with outcome error."]
    transactions: Annotated[Count, "Transactions seen."]
    rows: Annotated[Count, "Rows of all statements."]
    duration_us: Annotated[Count, "Microseconds from the first to the last packet."]
    bytes_from_client: Annotated[Count, "Bytes from the client, TCP payload without repeats."]
    bytes_from_server: Annotated[Count, "Bytes from the server, TCP payload without repeats."]
    bytes_lost: Annotated[Count, "Bytes known to be missing, both directions."]
    sqlstate: Annotated[str | None, "SQLSTATE of the error that ended it."]
    message: Annotated[str | None, "Message of the error that ended it."]
    encrypted: Annotated[bool, "True if the session went on inside TLS or GSSAPI encryption."]


@dataclass(frozen=True, slots=True)
class TransactionEnd:
    """A transaction block (BEGIN ... COMMIT) ended, or statements sharing one without BEGIN were undone."""

    transaction: Annotated[Count, "Number of the transaction within the session, from 1."]
    outcome: Annotated[
        Literal["committed", "rolled_back", "unknown"], "How it ended; unknown if that was not seen."
    ]
    statements: Annotated[Count, "Statements in it, with BEGIN and COMMIT."]
    duration_us: Annotated[Count | None, "Microseconds from its first request to the end."]


@dataclass(frozen=True, slots=True)
class CancelRequest:
    """Somebody asked for another session's statement to be cancelled. The secret key is never recorded."""

    target_session_id: Annotated[str | None, "`session_id` of the session meant; null if it is not known."]
    target_pid: Annotated[int, "Process ID in the request."]
    target_user: Annotated[str | None, "User of the session meant."]
    target_database: Annotated[str | None, "Database of the session meant."]


@dataclass(frozen=True, slots=True)
class EncryptedSession:
    """A session that cannot be read because it is encrypted."""

    protocol: Annotated[Literal["tls", "gssapi"], "Kind of encryption."]
    negotiation: Annotated[
        Literal["requested", "direct"], "requested: by SSLRequest or GSSENCRequest; direct: at once."
    ]
    server_name: Annotated[str | None, "TLS: server name the client asked for (SNI)."]
    version: Annotated[str | None, "TLS: version the server chose, such as TLSv1.3."]
    cipher: Annotated[str | None, "TLS: cipher suite the server chose."]
    alpn: Annotated[str | None, "TLS: application protocol that was agreed, else the one offered."]
    bytes_from_client: Annotated[Count, "Bytes from the client so far."]
    bytes_from_server: Annotated[Count, "Bytes from the server so far."]
    decoded: Annotated[bool, "True if the content could be decrypted and was audited."]


@dataclass(frozen=True, slots=True)
class Replication:
    """A replication stream (START_REPLICATION) began, or ended; its content is counted, never kept."""

    command: Annotated[str | None, "The replication command."]
    mode: Annotated[Literal["physical", "logical"] | None, "Kind of replication."]
    slot: Annotated[str | None, "Name of the replication slot."]
    ended: Annotated[bool, "False when it begins, true when it is over or was cut off."]
    bytes: Annotated[Count, "Bytes streamed so far, both ways."]


@dataclass(frozen=True, slots=True)
class Gap:
    """Bytes that were not seen or not used: of one direction, or packets that belong to no connection."""

    direction: Annotated[Direction | None, "Direction in which they are missing; null: of no connection."]
    bytes: Annotated[Count, "How many are missing; 0 if the number is not known."]
    gaps: Annotated[Count, "In how many places or packets, until decoding went on or the session ended."]
    cause: Annotated[
        str,
        "Why the first are missing. Of a connection: not_captured, truncated, buffer_limit, one_sided. "
        "Packets: malformed, fragments_limit, fragments_timeout, networks_limit, encapsulation_depth, "
        "after_close, link_type.",
    ]
    offset_seq: Annotated[Count | None, "TCP sequence number of the first missing byte; null for packets."]
    bytes_undecoded: Annotated[Count, "Bytes after them that were seen but could not be decoded for it."]
    recovered: Annotated[bool, "True if decoding went on after them; false if it had not yet."]


@dataclass(frozen=True, slots=True)
class Undecodable:
    """Bytes that were seen but are not the protocol they should be."""

    direction: Annotated[Direction, "Direction of the bytes."]
    reason: Annotated[str, "What is wrong with them."]
    bytes: Annotated[Count, "How many were passed over."]
    recovered: Annotated[bool, "True if decoding went on after them."]


Body = (
    SessionStart
    | LoginFailed
    | SessionEnd
    | Statement
    | StatementProgress
    | TransactionEnd
    | CancelRequest
    | EncryptedSession
    | Replication
    | Gap
    | Undecodable
)

BODIES: Mapping[str, type[Body]] = {
    "session_start": SessionStart,
    "login_failed": LoginFailed,
    "session_end": SessionEnd,
    "statement": Statement,
    "statement_progress": StatementProgress,
    "transaction_end": TransactionEnd,
    "cancel_request": CancelRequest,
    "encrypted_session": EncryptedSession,
    "replication": Replication,
    "gap": Gap,
    "undecodable": Undecodable,
}
