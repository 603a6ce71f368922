"""Write the bodies of the records about sessions: starts and ends, logins, transactions, losses.

Each function writes the members of one body of `audit.bodies`, in its order; tests hold both together. The
statement's own body, which is most of the output, has `audit.encode`.
"""

from typing import Final

from librt.strings import BytesWriter
from mypy_extensions import i64

from mirror_audit.audit.encode import cut_utf8, write_optional
from mirror_audit.audit.replication import mode_and_slot
from mirror_audit.audit.statement import COPY_NONE, Statement
from mirror_audit.jsontext import write_int, write_string
from mirror_audit.pgwire.tls_hello import cipher_name, version_name

__all__ = [
    "Encryption",
    "write_cancel_request",
    "write_encrypted_session",
    "write_gap",
    "write_login_failed",
    "write_replication",
    "write_session_end",
    "write_session_start",
    "write_statement_progress",
    "write_transaction_end",
    "write_undecodable",
]

_PROTOCOLS: Final = (b'"simple"', b'"extended"', b'"function_call"')
SEVERITY: Final = 0x53
SEVERITY_UNLOCALISED: Final = 0x56
SQLSTATE: Final = 0x43
MESSAGE: Final = 0x4D


class Encryption:
    """What is known of a session's encryption."""

    def __init__(self) -> None:
        self.on: bool = False
        self.gssapi: bool = False
        self.direct: bool = False
        self.told: bool = False
        self.offset: i64 = 0
        self.time: i64 = 0
        self.server_name: bytes | None = None
        self.alpn: bytes | None = None
        self.version: i64 = -1
        self.cipher: i64 = -1


def _strings(w: BytesWriter, values: dict[bytes, bytes]) -> None:
    if len(values) == 0:
        w.write(b"null")
        return
    w.append(0x7B)
    first: bool = True
    for name, value in values.items():
        if not first:
            w.append(0x2C)
        first = False
        write_string(w, name)
        w.append(0x3A)
        write_string(w, value)
    w.append(0x7D)


def severity_of(fields: dict[int, bytes]) -> bytes | None:
    """ERROR, FATAL or PANIC; from servers before 9.6 in their own language."""
    severity = fields.get(SEVERITY_UNLOCALISED)
    return fields.get(SEVERITY) if severity is None else severity


def write_session_start(
    w: BytesWriter,
    joined: bytes,
    minor: i64,
    method: bytes | None,
    parameters: dict[bytes, bytes],
    replication: bytes | None,
    lost: i64,
    reason: bytes | None,
) -> None:
    """`minor` is the protocol's, -1 if it was not seen. `reason` says why not all of the login was seen."""
    w.write(b'"joined":"' + joined + b'","protocol_version":')
    if minor >= 0:
        w.write(b'"3.')
        write_int(w, minor)
        w.write(b'"')
    else:
        w.write(b"null")
    w.write(b',"authentication":')
    write_optional(w, method)
    w.write(b',"parameters":')
    _strings(w, parameters)
    w.write(b',"tls":false,"replication":')
    write_optional(w, replication)
    if reason is None:
        w.write(b',"coverage":{"complete":true,"bytes_lost":0,"reasons":[]}')
    else:
        w.write(b',"coverage":{"complete":false,"bytes_lost":')
        write_int(w, lost)
        w.write(b',"reasons":["' + reason + b'"]}')


def write_login_failed(
    w: BytesWriter, method: bytes | None, fields: dict[int, bytes] | None, message: bytes | None
) -> None:
    """`fields` is what the server said, None if the client gave up; `message` its message, redacted."""
    w.write(b'"authentication":')
    write_optional(w, method)
    w.write(b',"sqlstate":')
    write_optional(w, None if fields is None else fields.get(SQLSTATE))
    w.write(b',"severity":')
    write_optional(w, None if fields is None else severity_of(fields))
    w.write(b',"message":')
    write_optional(w, message)


def write_session_end(
    w: BytesWriter,
    reason: bytes,
    totals: tuple[i64, i64, i64, i64, i64, i64, i64, i64],
    fields: dict[int, bytes] | None,
    message: bytes | None,
    encrypted: bool,
) -> None:
    """`totals`: statements, errors, transactions, rows, duration (us), bytes of client, of server, lost."""
    w.write(b'"reason":"' + reason + b'","statements":')
    write_int(w, totals[0])
    w.write(b',"errors":')
    write_int(w, totals[1])
    w.write(b',"transactions":')
    write_int(w, totals[2])
    w.write(b',"rows":')
    write_int(w, totals[3])
    w.write(b',"duration_us":')
    write_int(w, totals[4])
    w.write(b',"bytes_from_client":')
    write_int(w, totals[5])
    w.write(b',"bytes_from_server":')
    write_int(w, totals[6])
    w.write(b',"bytes_lost":')
    write_int(w, totals[7])
    w.write(b',"sqlstate":')
    write_optional(w, None if fields is None else fields.get(SQLSTATE))
    w.write(b',"message":')
    write_optional(w, message)
    w.write(b',"encrypted":true' if encrypted else b',"encrypted":false')


def write_transaction_end(
    w: BytesWriter, transaction: i64, outcome: bytes, statements: i64, duration: i64
) -> None:
    """A transaction block that is over; `duration` in us."""
    w.write(b'"transaction":')
    write_int(w, transaction)
    w.write(b',"outcome":"' + outcome + b'","statements":')
    write_int(w, statements)
    w.write(b',"duration_us":')
    write_int(w, duration if duration > 0 else 0)


def write_cancel_request(
    w: BytesWriter, process_id: i64, session_id: bytes | None, user: bytes | None, database: bytes | None
) -> None:
    """The session that is meant, as far as it is known."""
    w.write(b'"target_session_id":')
    write_optional(w, session_id)
    w.write(b',"target_pid":')
    write_int(w, process_id)
    w.write(b',"target_user":')
    write_optional(w, user)
    w.write(b',"target_database":')
    write_optional(w, database)


def write_encrypted_session(
    w: BytesWriter, encryption: Encryption, client_bytes: i64, server_bytes: i64
) -> None:
    """What can be told of a session that cannot be read."""
    w.write(b'"protocol":"gssapi"' if encryption.gssapi else b'"protocol":"tls"')
    w.write(b',"negotiation":"direct"' if encryption.direct else b',"negotiation":"requested"')
    w.write(b',"server_name":')
    write_optional(w, encryption.server_name)
    w.write(b',"version":')
    write_optional(w, None if encryption.version < 0 else version_name(int(encryption.version)).encode())
    w.write(b',"cipher":')
    write_optional(w, None if encryption.cipher < 0 else cipher_name(int(encryption.cipher)).encode())
    w.write(b',"alpn":')
    write_optional(w, encryption.alpn)
    w.write(b',"bytes_from_client":')
    write_int(w, client_bytes)
    w.write(b',"bytes_from_server":')
    write_int(w, server_bytes)
    w.write(b',"decoded":false')


def write_replication(w: BytesWriter, text: bytes | None, ended: bool, octets: i64) -> None:
    """A replication stream: its command, and the bytes streamed so far."""
    mode: bytes | None = None
    slot: bytes | None = None
    if text is not None:
        mode, slot = mode_and_slot(text)
    w.write(b'"command":')
    write_optional(w, text)
    w.write(b',"mode":')
    write_optional(w, mode)
    w.write(b',"slot":')
    write_optional(w, slot)
    w.write(b',"ended":true,"bytes":' if ended else b',"ended":false,"bytes":')
    write_int(w, octets)


def write_statement_progress(
    w: BytesWriter, statement: Statement, max_text: i64, now: i64, received: i64
) -> None:
    """What a running statement has come to at `now` (us); its id is written before."""
    w.write(b'","protocol":')
    w.write(_PROTOCOLS[statement.protocol])
    analysis = statement.analysis
    w.write(b',"text":')
    write_optional(w, None if analysis is None else cut_utf8(analysis.text, max_text))
    w.write(b',"prepared_name":')
    prepared = statement.prepared
    write_optional(w, None if prepared is None else prepared.name)
    w.write(b',"running_us":')
    running: i64 = now - statement.time
    write_int(w, running if running > 0 else 0)
    w.write(b',"rows":')
    write_int(w, statement.rows if statement.copy == COPY_NONE else statement.copy_rows)
    w.write(b',"bytes_from_client":')
    write_int(w, statement.client_bytes)
    w.write(b',"bytes_from_server":')
    write_int(w, received if received > 0 else 0)


def _direction(w: BytesWriter, client: bool) -> None:
    w.write(b'"direction":"client_to_server"' if client else b'"direction":"server_to_client"')


def write_gap(
    w: BytesWriter,
    client: bool,
    octets: i64,
    gaps: i64,
    cause: bytes,
    sequence: i64,
    undecoded: i64,
    recovered: bool,
) -> None:
    """Bytes that were not seen, and those behind them that could not be decoded."""
    _direction(w, client)
    w.write(b',"bytes":')
    write_int(w, octets)
    w.write(b',"gaps":')
    write_int(w, gaps)
    w.write(b',"cause":')
    write_string(w, cause)
    w.write(b',"offset_seq":')
    write_int(w, sequence)
    w.write(b',"bytes_undecoded":')
    write_int(w, undecoded)
    w.write(b',"recovered":true' if recovered else b',"recovered":false')


def write_undecodable(w: BytesWriter, client: bool, reason: bytes, octets: i64, recovered: bool) -> None:
    """Bytes that are not the protocol that they should be."""
    _direction(w, client)
    w.write(b',"reason":')
    write_string(w, reason)
    w.write(b',"bytes":')
    write_int(w, octets)
    w.write(b',"recovered":true' if recovered else b',"recovered":false')
