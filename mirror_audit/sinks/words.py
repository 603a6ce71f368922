"""What a record says, in a label and one sentence for people. Plain text: whoever shows it makes it safe."""

from dataclasses import dataclass
from typing import Final, Literal

from mirror_audit.audit.bodies import (
    CancelRequest,
    EncryptedSession,
    Gap,
    LoginFailed,
    Parameter,
    Replication,
    SessionEnd,
    SessionStart,
    Statement,
    StatementProgress,
    TransactionEnd,
    Undecodable,
)
from mirror_audit.audit.record import Record

__all__ = ["Words", "describe"]

Tone = Literal["plain", "bad", "warning", "session"]

_FROM: Final = {"client_to_server": "from the client", "server_to_client": "from the server"}
_CAUSES: Final = {
    "not_captured": "were not captured",
    "truncated": "were cut off by the capture",
    "buffer_limit": "were passed over at a buffer's limit",
}
_ENDS: Final = {
    "terminate": "logged out",
    "client_closed": "the client closed the connection",
    "server_closed": "the server closed the connection",
    "reset": "the connection was reset",
    "evicted": "no longer followed: too many connections",
    "idle_timeout": "no longer followed: silent for too long",
    "capture_end": "the capture ends",
    "replaced": "a new connection uses the same ports",
    "fatal": "ended by the server",
}


@dataclass(frozen=True, slots=True)
class Words:
    """A record for people: `label` of one word, `what` happened, and the numbers with their own column."""

    label: str
    what: str
    tone: Tone = "plain"
    rows: int | None = None
    duration_us: int | None = None


def describe(record: Record) -> Words:
    """The words for a record of any kind."""
    match record.body:
        case Statement() as body:
            return _statement(body)
        case StatementProgress() as body:
            text = body.text if body.text is not None else _without_text(body.prepared_name)
            return Words("running", text, rows=body.rows, duration_us=body.running_us)
        case SessionStart() as body:
            return Words("login", _session_start(record, body), "session")
        case LoginFailed() as body:
            why = _joined(" ", body.sqlstate, body.message) or "given up by the client"
            return Words("refused", why, "bad")
        case SessionEnd() as body:
            tone: Tone = "bad" if body.sqlstate is not None else "session"
            why = _joined(": ", _ENDS[body.reason], _joined(" ", body.sqlstate, body.message))
            return Words(
                "logout", f"{why}; {_count(body.statements, 'statement')}", tone, None, body.duration_us
            )
        case TransactionEnd() as body:
            label = {"committed": "commit", "rolled_back": "rollback", "unknown": "unknown"}[body.outcome]
            what = f"transaction {body.transaction}, {_count(body.statements, 'statement')}"
            return Words(label, what, duration_us=body.duration_us)
        case CancelRequest() as body:
            target = f"{body.target_user or '?'}@{body.target_database or '?'}, process {body.target_pid}"
            return Words("cancel", f"asks to cancel the statement of {target}", "warning")
        case EncryptedSession() as body:
            return _encrypted(body)
        case Replication() as body:
            what = _joined(
                ", ",
                body.command or "replication",
                f"ended after {body.bytes:,} bytes" if body.ended else "begins",
            )
            return Words("replicate", what)
        case Gap() as body:
            return Words("gap", _gap(body), "warning")
        case Undecodable() as body:
            what = f"{_count(body.bytes, 'byte')} {_FROM[body.direction]} passed over: {_spaced(body.reason)}"
            return Words("undecoded", what, "warning")


def _statement(body: Statement) -> Words:
    text = body.text if body.text is not None else _without_text(body.prepared_name)
    if body.text_truncated:
        text += "..."
    if body.parameters:
        text += f"  [{', '.join(f'${i}={_value(one)}' for i, one in enumerate(body.parameters, 1))}]"
    if body.copy is not None:
        text += f"  [{_count(body.copy.rows, 'row')}, {body.copy.bytes:,} bytes {body.copy.direction}]"
    if not body.coverage.complete:
        text = f"[incomplete: {', '.join(_spaced(reason) for reason in body.coverage.reasons)}] {text}"
    if body.outcome == "error":
        # The error first: it must survive the cut at the end of a line.
        error = _joined(" ", body.sqlstate, body.message)
        return Words("error", _joined(" | ", error, text), "bad", body.rows, body.duration_us)
    tone: Tone = "warning" if body.outcome in ("unknown", "skipped") else "plain"
    return Words(body.outcome, text, tone, body.rows, body.duration_us)


def _without_text(prepared_name: str | None) -> str:
    if prepared_name:
        return f'(prepared statement "{prepared_name}", its text was not seen)'
    return "(text was not seen)"


def _value(parameter: Parameter) -> str:
    if parameter.value is None:
        return "(redacted)" if parameter.redacted else "NULL"
    tail = "..." if parameter.truncated else ""
    if parameter.encoding == "text":
        return f"'{parameter.value}{tail}'"
    return f"{parameter.encoding}:{parameter.value}{tail}"


def _session_start(record: Record, body: SessionStart) -> str:
    envelope = record.envelope
    parts = [f"from {envelope.client_address}"]
    if body.joined == "mid_stream":
        parts.append("found running")
    if body.authentication:
        parts.append(body.authentication)
    if body.replication:
        parts.append(f"{body.replication} replication")
    if envelope.application_name:
        parts.append(envelope.application_name)
    if envelope.server_version:
        parts.append(f"server {envelope.server_version}")
    return ", ".join(parts)


def _encrypted(body: EncryptedSession) -> Words:
    name = body.version or {"tls": "TLS", "gssapi": "GSSAPI"}[body.protocol]
    read = "decrypted" if body.decoded else "cannot be read"
    target = f", asks for {body.server_name}" if body.server_name else ""
    return Words("encrypted", f"{name} session {read}{target}", "plain" if body.decoded else "warning")


def _gap(body: Gap) -> str:
    if body.direction is None:
        packets = "packet" if body.gaps == 1 else "packets"
        return f"{body.gaps:,} {packets} could not be used: {_spaced(body.cause)}"
    what = f"{body.bytes:,} bytes" if body.bytes else "an unknown number of bytes"
    what += f" {_FROM[body.direction]}"
    if body.gaps > 1:
        what += f" in {body.gaps:,} places"
    what += f" {_CAUSES[body.cause]}" if body.cause in _CAUSES else f" are missing: {_spaced(body.cause)}"
    if body.bytes_undecoded:
        what += f"; {_count(body.bytes_undecoded, 'byte')} after them cannot be read"
    return what + ("; reading goes on" if body.recovered else "")


def _joined(separator: str, *parts: str | None) -> str:
    return separator.join(part for part in parts if part)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _spaced(name: str) -> str:
    return name.replace("_", " ")
