"""Builders of PostgreSQL protocol messages (manual: Frontend/Backend Protocol, "Message Formats").

Each function returns the bytes of one whole message. Text is UTF-8; give bytes for anything else.
"""

from collections.abc import Sequence

__all__ = [
    "auth_cleartext",
    "auth_md5",
    "auth_ok",
    "auth_sasl",
    "auth_sasl_continue",
    "auth_sasl_final",
    "authentication",
    "backend_key_data",
    "bind",
    "bind_complete",
    "cancel_request",
    "close",
    "close_complete",
    "command_complete",
    "copy_both_response",
    "copy_data",
    "copy_done",
    "copy_fail",
    "copy_in_response",
    "copy_out_response",
    "data_row",
    "describe",
    "empty_query_response",
    "error",
    "execute",
    "flush",
    "function_call",
    "function_call_response",
    "gssenc_request",
    "login",
    "message",
    "negotiate_protocol_version",
    "no_data",
    "notice",
    "notification",
    "parameter_description",
    "parameter_status",
    "parse",
    "parse_complete",
    "password",
    "portal_suspended",
    "query",
    "ready",
    "row_description",
    "rows",
    "sasl_initial_response",
    "sasl_response",
    "ssl_request",
    "startup",
    "sync",
    "terminate",
]

Text = str | bytes


def _bytes(text: Text) -> bytes:
    return text.encode() if isinstance(text, str) else text


def _string(text: Text) -> bytes:
    return _bytes(text) + b"\0"


def _i16(value: int) -> bytes:
    return (value & 0xFFFF).to_bytes(2, "big")


def _i32(value: int) -> bytes:
    return (value & 0xFFFFFFFF).to_bytes(4, "big")


def _value(value: Text | None) -> bytes:
    if value is None:
        return _i32(-1)
    data = _bytes(value)
    return _i32(len(data)) + data


def message(kind: Text, body: bytes = b"", length: int | None = None) -> bytes:
    """One message: type byte, length (that of the body plus 4, unless a lie is wanted), body."""
    return _bytes(kind) + _i32(len(body) + 4 if length is None else length) + body


# --- before the session: no type byte ---


def startup(
    user: Text | None = "app",
    database: Text | None = "shop",
    *,
    minor: int = 0,
    major: int = 3,
    **options: str,
) -> bytes:
    """StartupMessage; `options` are further parameters in order (application_name=...)."""
    body = _i16(major) + _i16(minor)
    if user is not None:
        body += b"user\0" + _string(user)
    if database is not None:
        body += b"database\0" + _string(database)
    for name, value in options.items():
        body += _string(name) + _string(value)
    body += b"\0"
    return _i32(len(body) + 4) + body


def ssl_request() -> bytes:
    """SSLRequest."""
    return _i32(8) + _i32(80877103)


def gssenc_request() -> bytes:
    """GSSENCRequest."""
    return _i32(8) + _i32(80877104)


def cancel_request(pid: int, key: int | bytes) -> bytes:
    """CancelRequest; protocol 3.2 allows a key of 4 to 256 bytes."""
    secret = _i32(key) if isinstance(key, int) else key
    return _i32(12 + len(secret)) + _i32(80877102) + _i32(pid) + secret


# --- frontend ---


def query(text: Text) -> bytes:
    """Query: the simple protocol."""
    return message("Q", _string(text))


def parse(text: Text, name: Text = "", oids: Sequence[int] = ()) -> bytes:
    """Parse."""
    return message("P", _string(name) + _string(text) + _i16(len(oids)) + b"".join(map(_i32, oids)))


def bind(
    values: Sequence[Text | None] = (),
    *,
    portal: Text = "",
    name: Text = "",
    formats: Sequence[int] = (),
    results: Sequence[int] = (),
) -> bytes:
    """Bind; `formats` (0 text, 1 binary): none, one for all, or one each; `results` too, of columns."""
    body = _string(portal) + _string(name) + _i16(len(formats)) + b"".join(map(_i16, formats))
    body += (
        _i16(len(values)) + b"".join(map(_value, values)) + _i16(len(results)) + b"".join(map(_i16, results))
    )
    return message("B", body)


def describe(name: Text = "", kind: str = "P") -> bytes:
    """Describe a portal ("P") or a statement ("S")."""
    return message("D", _bytes(kind) + _string(name))


def execute(portal: Text = "", limit: int = 0) -> bytes:
    """Execute; `limit` rows, 0 for all."""
    return message("E", _string(portal) + _i32(limit))


def close(name: Text = "", kind: str = "S") -> bytes:
    """Close a statement ("S") or a portal ("P")."""
    return message("C", _bytes(kind) + _string(name))


def sync() -> bytes:
    """Sync."""
    return message("S")


def flush() -> bytes:
    """Flush."""
    return message("H")


def terminate() -> bytes:
    """Terminate."""
    return message("X")


def function_call(
    oid: int, values: Sequence[Text | None] = (), formats: Sequence[int] = (), result: int = 0
) -> bytes:
    """FunctionCall."""
    body = _i32(oid) + _i16(len(formats)) + b"".join(map(_i16, formats)) + _i16(len(values))
    return message("F", body + b"".join(map(_value, values)) + _i16(result))


def password(text: Text) -> bytes:
    """PasswordMessage."""
    return message("p", _string(text))


def sasl_initial_response(mechanism: Text, data: Text | None) -> bytes:
    """SASLInitialResponse."""
    return message("p", _string(mechanism) + _value(data))


def sasl_response(data: Text) -> bytes:
    """SASLResponse (or GSSResponse: the same message type)."""
    return message("p", _bytes(data))


# --- both ways ---


def copy_data(data: Text) -> bytes:
    """CopyData."""
    return message("d", _bytes(data))


def copy_done() -> bytes:
    """CopyDone."""
    return message("c")


def copy_fail(reason: Text) -> bytes:
    """CopyFail."""
    return message("f", _string(reason))


# --- backend ---


def authentication(code: int, data: bytes = b"") -> bytes:
    """Any Authentication message by its code."""
    return message("R", _i32(code) + data)


def auth_ok() -> bytes:
    """AuthenticationOk."""
    return authentication(0)


def auth_cleartext() -> bytes:
    """AuthenticationCleartextPassword."""
    return authentication(3)


def auth_md5(salt: bytes = b"salt") -> bytes:
    """AuthenticationMD5Password."""
    return authentication(5, salt)


def auth_sasl(*mechanisms: str) -> bytes:
    """AuthenticationSASL; SCRAM-SHA-256 unless mechanisms are named."""
    return authentication(10, b"".join(map(_string, mechanisms or ("SCRAM-SHA-256",))) + b"\0")


def auth_sasl_continue(data: Text = "r=x,s=c2FsdA==,i=4096") -> bytes:
    """AuthenticationSASLContinue."""
    return authentication(11, _bytes(data))


def auth_sasl_final(data: Text = "v=AAAA") -> bytes:
    """AuthenticationSASLFinal."""
    return authentication(12, _bytes(data))


def backend_key_data(pid: int = 4711, key: int | bytes = 12345) -> bytes:
    """BackendKeyData."""
    return message("K", _i32(pid) + (_i32(key) if isinstance(key, int) else key))


def parameter_status(name: Text, value: Text) -> bytes:
    """ParameterStatus."""
    return message("S", _string(name) + _string(value))


def ready(status: str = "I") -> bytes:
    """ReadyForQuery."""
    return message("Z", _bytes(status))


def negotiate_protocol_version(minor: int = 0, unknown: Sequence[str] = ()) -> bytes:
    """NegotiateProtocolVersion; the number is the whole version (3 in the high half), as servers send it."""
    return message("v", _i16(3) + _i16(minor) + _i32(len(unknown)) + b"".join(map(_string, unknown)))


def row_description(columns: Sequence[str | tuple[str, int]] = ("?column?",), fmt: int = 0) -> bytes:
    """RowDescription; a column is a name (type text) or (name, type OID)."""
    body = _i16(len(columns))
    for column in columns:
        name, oid = (column, 25) if isinstance(column, str) else column
        body += _string(name) + _i32(0) + _i16(0) + _i32(oid) + _i16(-1) + _i32(-1) + _i16(fmt)
    return message("T", body)


def data_row(*values: Text | None) -> bytes:
    """DataRow."""
    return message("D", _i16(len(values)) + b"".join(map(_value, values)))


def rows(*data: Sequence[Text | None]) -> bytes:
    """Several DataRow messages."""
    return b"".join(data_row(*row) for row in data)


def command_complete(tag: Text) -> bytes:
    """CommandComplete."""
    return message("C", _string(tag))


def empty_query_response() -> bytes:
    """EmptyQueryResponse."""
    return message("I")


def _fields(severity: str, code: str, text: Text, more: dict[str, str]) -> bytes:
    body = b"S" + _string(severity) + b"V" + _string(severity) + b"C" + _string(code) + b"M" + _string(text)
    return body + b"".join(_bytes(key) + _string(value) for key, value in more.items()) + b"\0"


def error(text: Text = "boom", code: str = "XX000", severity: str = "ERROR", **more: str) -> bytes:
    """ErrorResponse; `more` are further fields by their letter (D="detail", H="hint")."""
    return message("E", _fields(severity, code, text, more))


def notice(text: Text = "note", code: str = "00000", severity: str = "NOTICE", **more: str) -> bytes:
    """NoticeResponse."""
    return message("N", _fields(severity, code, text, more))


def notification(channel: Text, payload: Text = "", pid: int = 4711) -> bytes:
    """NotificationResponse."""
    return message("A", _i32(pid) + _string(channel) + _string(payload))


def parse_complete() -> bytes:
    """ParseComplete."""
    return message("1")


def bind_complete() -> bytes:
    """BindComplete."""
    return message("2")


def close_complete() -> bytes:
    """CloseComplete."""
    return message("3")


def no_data() -> bytes:
    """NoData."""
    return message("n")


def portal_suspended() -> bytes:
    """PortalSuspended."""
    return message("s")


def parameter_description(*oids: int) -> bytes:
    """ParameterDescription."""
    return message("t", _i16(len(oids)) + b"".join(map(_i32, oids)))


def function_call_response(value: Text | None = "") -> bytes:
    """FunctionCallResponse."""
    return message("V", _value(value))


def _copy_response(kind: str, columns: int, fmt: int) -> bytes:
    return message(kind, bytes([fmt]) + _i16(columns) + _i16(fmt) * columns)


def copy_in_response(columns: int = 1, fmt: int = 0) -> bytes:
    """CopyInResponse."""
    return _copy_response("G", columns, fmt)


def copy_out_response(columns: int = 1, fmt: int = 0) -> bytes:
    """CopyOutResponse."""
    return _copy_response("H", columns, fmt)


def copy_both_response(columns: int = 0, fmt: int = 0) -> bytes:
    """CopyBothResponse (replication)."""
    return _copy_response("W", columns, fmt)


def login(version: str = "15.0", pid: int = 4711, key: int | bytes = 12345) -> bytes:
    """What a server sends from AuthenticationOk to the first ReadyForQuery."""
    status = {"server_version": version, "client_encoding": "UTF8", "standard_conforming_strings": "on"}
    parameters = b"".join(parameter_status(name, value) for name, value in status.items())
    return auth_ok() + parameters + backend_key_data(pid, key) + ready()
