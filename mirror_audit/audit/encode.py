"""Write the body of a statement record. Compiled: this is half of what a statement costs.

The order and the names of the members are those of `audit.bodies.Statement`; tests hold both together.
"""

from base64 import b64encode
from hashlib import sha256
from typing import Final

from librt.strings import BytesWriter
from mypy_extensions import i64

from mirror_audit.audit.analysis import Analyser, Analysis
from mirror_audit.audit.encodings import to_utf8
from mirror_audit.audit.statement import (
    OUTCOME_ERROR,
    PROTOCOL_FUNCTION_CALL,
    REASON_NAMES,
    REASON_PARAMETERS_UNREADABLE,
    UNSEEN_NAME,
    Portal,
    Prepared,
    Statement,
)
from mirror_audit.counters import Counters
from mirror_audit.jsontext import write_int, write_string
from mirror_audit.octets import i32_at, u16_at, u32_at
from mirror_audit.pgwire.types import decode_binary, type_name

__all__ = [
    "EncodeLimits",
    "StatementEncoder",
    "command_rows",
    "cut_utf8",
    "parameter_text",
    "write_optional",
]

_PROTOCOLS: Final = (b'"protocol":"simple"', b'"protocol":"extended"', b'"protocol":"function_call"')
_OUTCOMES: Final = (b'"unknown"', b'"ok"', b'"error"', b'"suspended"', b'"skipped"')
_COPIES: Final = (b"", b"in", b"out", b"both")
_NO_TEXT: Final = (
    b',"text":null,"text_length":null,"text_truncated":false,"text_sha256":null,"text_base64":null'
)
_NO_FACTS: Final = b',"class":null,"fingerprint":null,"normalized":null,"tables":null,"search_path":'
_FUNCTION_FACTS: Final = (
    b',"class":"FUNCTION","fingerprint":null,"normalized":null,"tables":null,"search_path":'
)
_NO_ERROR: Final = b',"sqlstate":null,"severity":null,"message":null,"detail":null,"transaction_before":'
_COMPLETE: Final = b',"coverage":{"complete":true,"bytes_lost":0,"reasons":[]}'
_STATUS_I: Final = b'"I"'
_STATUS_T: Final = b'"T"'
_STATUS_E: Final = b'"E"'
NULL: Final = b"null"
MASK: Final = b"***"
BYTEA: Final = 17
# There are some two hundred built-in types; other OIDs are not worth remembering.
MAX_TYPE_NAMES: Final = 1024


class EncodeLimits:
    """What of a statement goes into a record; see `config.Limits`."""

    def __init__(self, max_text: i64, max_parameter: i64, max_parameters: i64) -> None:
        self.max_text: i64 = max_text
        self.max_parameter: i64 = max_parameter
        self.max_parameters: i64 = max_parameters


def write_optional(w: BytesWriter, value: bytes | None) -> None:
    """A string, or null."""
    if value is None:
        w.write(NULL)
    else:
        write_string(w, value)


def command_rows(tag: bytes) -> i64:
    """The row count at the end of a command tag (INSERT 0 5, SELECT 3), -1 if it has none."""
    at: i64 = len(tag)
    value: i64 = 0
    scale: i64 = 1
    while at > 0:
        c: i64 = tag[at - 1]
        if c < 48 or c > 57 or scale > 1_000_000_000_000_000:
            break
        value += (c - 48) * scale
        scale *= 10
        at -= 1
    if scale == 1 or at == 0 or tag[at - 1] != 0x20:
        return -1
    return value


def _write_status(w: BytesWriter, status: i64) -> None:
    if status == 0x49:
        w.write(_STATUS_I)
    elif status == 0x54:
        w.write(_STATUS_T)
    elif status == 0x45:
        w.write(_STATUS_E)
    else:
        w.write(NULL)


class StatementEncoder:
    """Writes statement bodies."""

    def __init__(self, analyser: Analyser, limits: EncodeLimits, counters: Counters) -> None:
        self.analyser = analyser
        self.limits = limits
        self.counters = counters
        self.type_names: dict[int, bytes] = {}  # as JSON, by OID

    def write(self, w: BytesWriter, s: Statement) -> None:
        """The members of the body, without its braces."""
        redacted: bool = False
        w.write(_PROTOCOLS[s.protocol])
        analysis = s.analysis
        if analysis is None:
            w.write(_NO_TEXT)
        else:
            redacted = analysis.redacted
            self.write_text(w, analysis, s.text_length)
        prepared = s.prepared
        portal = s.portal
        if prepared is None and portal is None:
            w.write(b',"prepared_name":null,"portal_name":')
            if s.protocol == 1 and not s.from_server and s.portal_name != UNSEEN_NAME:
                write_string(w, s.portal_name)
            else:
                w.write(NULL)
        else:
            w.write(b',"prepared_name":')
            if portal is not None:
                write_optional(w, None if portal.declared else portal.statement_name)
                w.write(b',"portal_name":')
                write_string(w, portal.name)
            elif prepared is not None:
                write_string(w, prepared.name)
                w.write(b',"portal_name":null')
        inner = s.inner
        if inner is None:
            w.write(b',"prepared_text":null')
        else:
            w.write(b',"prepared_text":')
            write_string(w, cut_utf8(inner.text, self.limits.max_text))
            if inner.redacted:
                redacted = True
        if portal is None:
            w.write(b',"parameters":null,"parameter_count":null')
        elif self._parameters(w, s, portal, prepared, analysis):
            redacted = True
        if analysis is not None:
            w.append(0x2C)
            # What EXECUTE runs is behind the name that its PREPARE gave it.
            w.write(analysis.facts_json if inner is None else inner.facts_json)
            w.write(b',"search_path":')
        elif s.protocol == PROTOCOL_FUNCTION_CALL:
            w.write(_FUNCTION_FACTS)
        else:
            w.write(_NO_FACTS)
        write_optional(w, s.search_path)
        error = s.error
        message: bytes | None = None
        detail: bytes | None = None
        if error is not None:
            secret: bool = analysis is None or analysis.secret or not analysis.parsed
            raw = error.get(0x4D)
            if raw is not None:
                message = self.analyser.redact_message(raw, secret)
                if message != raw:
                    redacted = True
            raw = error.get(0x44)
            if raw is not None:
                detail = self.analyser.redact_detail(raw, secret)
                if detail != raw:
                    redacted = True
        w.write(b',"redacted":true,"comment_tags":' if redacted else b',"redacted":false,"comment_tags":')
        if analysis is None:
            w.write(NULL)
        else:
            w.write(analysis.comment_tags_json)
        w.write(b',"command_tag":')
        if len(s.tag) > 0:
            write_string(w, s.tag)
        else:
            w.write(NULL)
        w.write(b',"rows":')
        rows: i64 = command_rows(s.tag)
        if rows >= 0:
            write_int(w, rows)
        elif s.rows > 0 or s.outcome == 3:
            write_int(w, s.rows)
        else:
            w.write(NULL)
        w.write(b',"outcome":')
        w.write(_OUTCOMES[s.outcome])
        if error is None:
            w.write(_NO_ERROR)
        else:
            w.write(b',"sqlstate":')
            write_optional(w, error.get(0x43))
            w.write(b',"severity":')
            severity = error.get(0x56)
            write_optional(w, error.get(0x53) if severity is None else severity)
            w.write(b',"message":')
            write_optional(w, message)
            w.write(b',"detail":')
            write_optional(w, detail)
            w.write(b',"transaction_before":')
        _write_status(w, s.before)
        w.write(b',"transaction_after":')
        _write_status(w, s.after)
        w.write(b',"transaction":')
        if s.transaction > 0:
            write_int(w, s.transaction)
        else:
            w.write(NULL)
        w.write(b',"effective_role":')
        write_optional(w, s.role)
        self._timing(w, s)
        if s.reasons == 0 and s.lost == 0:
            w.write(_COMPLETE)
        else:
            write_coverage(w, s.reasons, s.lost)

    def _timing(self, w: BytesWriter, s: Statement) -> None:
        w.write(b',"time_to_first_byte_us":')
        if s.started and not s.from_server:
            first: i64 = s.first_reply - s.time
            write_int(w, first if first > 0 else 0)
        else:
            w.write(NULL)
        w.write(b',"duration_us":')
        if s.end > 0 and not s.from_server:
            duration: i64 = s.end - s.time
            write_int(w, duration if duration > 0 else 0)
        else:
            w.write(NULL)
        w.write(b',"bytes_from_client":')
        write_int(w, s.client_bytes if s.client_bytes > 0 else 0)
        w.write(b',"bytes_from_server":')
        write_int(w, s.server_bytes if s.server_bytes > 0 else 0)
        if s.copy == 0:
            w.write(b',"copy":null')
        else:
            w.write(b',"copy":{"direction":"')
            w.write(_COPIES[s.copy])
            w.write(b'","rows":')
            write_int(w, s.copy_rows)
            w.write(b',"bytes":')
            write_int(w, s.copy_bytes)
            w.append(0x7D)

    def write_text(self, w: BytesWriter, analysis: Analysis, length: i64) -> None:
        """The five members about the text. The same text is written again and again: keep what was made."""
        if analysis.text_json_length != length or length < 0:
            analysis.text_json = self._text_json(analysis.text, length)
            analysis.text_json_length = length
        w.write(analysis.text_json)

    def _text_json(self, text: bytes, length: i64) -> bytes:
        w = BytesWriter()
        shown = text
        digest: bytes | None = None
        if len(text) > self.limits.max_text:
            self.counters.texts_truncated += 1
            digest = sha256(text).hexdigest().encode()
            shown = cut_utf8(text, self.limits.max_text)
        w.write(b',"text":')
        write_string(w, shown)
        w.write(b',"text_length":')
        if length >= 0:
            write_int(w, length)
        else:
            w.write(NULL)
        w.write(
            b',"text_truncated":false,"text_sha256":'
            if digest is None
            else b',"text_truncated":true,"text_sha256":'
        )
        write_optional(w, digest)
        w.write(b',"text_base64":')
        if shown.isascii() or _valid_utf8(shown):
            w.write(NULL)
        else:
            write_string(w, b64encode(shown))
        return w.getvalue()

    # -- parameters -------------------------------------------------------------------------------------

    def _parameters(
        self,
        w: BytesWriter,
        s: Statement,
        portal: Portal,
        prepared: Prepared | None,
        analysis: Analysis | None,
    ) -> bool:
        """`parameters` and `parameter_count`; True if something was redacted."""
        values = portal.values
        size: i64 = len(values)
        if portal.missing > 0 or size < 4:
            s.reasons |= REASON_PARAMETERS_UNREADABLE
            w.write(b',"parameters":null,"parameter_count":null')
            return False
        formats: i64 = u16_at(values, 0)
        at: i64 = 2 + formats * 2
        if at + 2 > size:
            s.reasons |= REASON_PARAMETERS_UNREADABLE
            w.write(b',"parameters":null,"parameter_count":null')
            return False
        count: i64 = u16_at(values, at)
        at += 2
        if count == 0:
            w.write(b',"parameters":null,"parameter_count":0')
            return False
        # A first pass over the lengths: half a list of values would be worse than none.
        end: i64 = at
        i: i64 = 0
        while i < count:
            if end + 4 > size:
                break
            length: i64 = i32_at(values, end)
            end += 4
            if length > 0:
                end += length
            if end > size or length < -1:
                break
            i += 1
        if i < count or (formats > 1 and formats != count):
            s.reasons |= REASON_PARAMETERS_UNREADABLE
            w.write(b',"parameters":null,"parameter_count":')
            write_int(w, count)
            return False
        oids = b"" if prepared is None else prepared.oids
        redacted: bool = False
        w.write(b',"parameters":[')
        i = 0
        while i < count and i < self.limits.max_parameters:
            if i > 0:
                w.append(0x2C)
            oid: i64 = 0
            if i * 4 + 4 <= len(oids):
                oid = u32_at(oids, i * 4)
            binary: bool = False
            if formats == 1:
                binary = u16_at(values, 2) == 1
            elif formats > 1:
                binary = u16_at(values, 2 + i * 2) == 1
            length = i32_at(values, at)
            at += 4
            secret: bool = analysis is not None and (i + 1) in analysis.secret_parameters
            if self._parameter(w, oid, binary, values, at, length, secret, portal.codec):
                redacted = True
            if length > 0:
                at += length
            i += 1
        w.write(b'],"parameter_count":')
        write_int(w, count)
        return redacted

    def _parameter(
        self,
        w: BytesWriter,
        oid: i64,
        binary: bool,
        values: bytes,
        start: i64,
        length: i64,
        secret: bool,
        codec: str | None,
    ) -> bool:
        w.write(b'{"oid":')
        write_int(w, oid)
        w.write(b',"type":')
        name = self.type_names.get(oid)
        if name is None:
            known = type_name(oid)
            name = NULL if known is None else b'"' + known.encode() + b'"'
            if len(self.type_names) < MAX_TYPE_NAMES:
                self.type_names[int(oid)] = name
        w.write(name)
        w.write(b',"format":"binary","value":' if binary else b',"format":"text","value":')
        if length < 0:
            w.write(b'null,"encoding":null,"length":null,"truncated":false,"sha256":null,"redacted":false}')
            return False
        end: i64 = start + length
        decoded: bytes | None
        if binary:
            decoded = decode_binary(oid, values, start, end)
        else:
            decoded = values[start:end]
        hexadecimal: bool = decoded is None
        text = values[start:end].hex().encode() if decoded is None else decoded
        if codec is not None:
            text = to_utf8(text, codec)
        if self.analyser.hides_values or secret or len(text) >= 13:
            hidden = self.analyser.redact_value(text, secret)
            if hidden is None and (hexadecimal or oid == BYTEA) and binary:
                # Hexadecimal hides from the eye what is in it, not from a reader.
                hidden = self.analyser.redact_value(values[start:end], secret)
                if hidden is not None and not self.analyser.keyed:
                    hidden = MASK
            if hidden is not None:
                write_string(w, hidden)
                w.write(
                    b',"encoding":"hmac","length":'
                    if self.analyser.keyed
                    else b',"encoding":"text","length":'
                )
                write_int(w, length)
                w.write(b',"truncated":false,"sha256":null,"redacted":true}')
                return True
        shown = text
        if len(text) > self.limits.max_parameter:
            self.counters.parameters_truncated += 1
            shown = cut_utf8(text, self.limits.max_parameter)
        write_string(w, shown)
        w.write(b',"encoding":"hex","length":' if hexadecimal else b',"encoding":"text","length":')
        write_int(w, length)
        if len(shown) < len(text):
            w.write(b',"truncated":true,"sha256":"')
            w.write(sha256(values[start:end]).hexdigest().encode())
            w.write(b'","redacted":false}')
        else:
            w.write(b',"truncated":false,"sha256":null,"redacted":false}')
        return False


def parameter_text(portal: Portal, prepared: Prepared, number: i64) -> bytes | None:
    """The text of parameter `number` (from 1); None for NULL and for what cannot be read."""
    values = portal.values
    size: i64 = len(values)
    if portal.missing > 0 or size < 4:
        return None
    formats: i64 = u16_at(values, 0)
    at: i64 = 2 + formats * 2
    if at + 2 > size or u16_at(values, at) < number:
        return None
    at += 2
    i: i64 = 1
    while at + 4 <= size:
        length: i64 = i32_at(values, at)
        at += 4
        if i == number:
            if length < 0 or at + length > size:
                return None
            format_at: i64 = 2 + (i - 1) * 2 if formats > 1 else 2
            if formats > 0 and format_at + 2 <= size and u16_at(values, format_at) == 1:
                oid: i64 = 0
                if i * 4 <= len(prepared.oids):
                    oid = u32_at(prepared.oids, i * 4 - 4)
                return decode_binary(oid, values, at, at + length)
            text = values[at : at + length]
            return text if portal.codec is None else to_utf8(text, portal.codec)
        if length > 0:
            at += length
        i += 1
    return None


def write_coverage(w: BytesWriter, reasons: i64, lost: i64) -> None:
    """The `coverage` member of something that is not complete."""
    w.write(b',"coverage":{"complete":false,"bytes_lost":')
    write_int(w, lost)
    w.write(b',"reasons":[')
    first: bool = True
    for bit, name in REASON_NAMES:
        if reasons & bit != 0:
            if not first:
                w.append(0x2C)
            first = False
            write_string(w, name)
    w.write(b"]}")


def cut_utf8(text: bytes, limit: i64) -> bytes:
    """The first `limit` bytes of `text`, less a character that would be cut in two."""
    if len(text) <= limit:
        return text
    end: i64 = limit
    back: i64 = 0
    while end > 0 and back < 4 and (text[end] & 0xC0) == 0x80:
        end -= 1
        back += 1
    return text[:end]


def _valid_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


assert OUTCOME_ERROR == 2  # the order of _OUTCOMES
