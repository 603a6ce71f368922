"""One session: logins, transactions, roles, losses, and the records about them.

`Exchange` says which statements ran; this adds who ran them, in which transaction, and what of it was not
seen. Records go straight to the `RecordWriter`: nothing is kept of a statement that is over.
"""

from typing import Final

from mypy_extensions import i64

from mirror_audit.audit.encode import StatementEncoder, command_rows, write_coverage, write_optional
from mirror_audit.audit.envelope import (
    KIND_CANCEL_REQUEST,
    KIND_ENCRYPTED_SESSION,
    KIND_GAP,
    KIND_LOGIN_FAILED,
    KIND_REPLICATION,
    KIND_SESSION_END,
    KIND_SESSION_START,
    KIND_STATEMENT,
    KIND_STATEMENT_PROGRESS,
    KIND_TRANSACTION_END,
    KIND_UNDECODABLE,
    RecordWriter,
)
from mirror_audit.audit.exchange import Exchange
from mirror_audit.audit.identity import Identity, write_strings
from mirror_audit.audit.registry import SessionRegistry
from mirror_audit.audit.requests import ExchangeLimits
from mirror_audit.audit.settings_state import SettingsState
from mirror_audit.audit.sqlfacts import (
    COMMIT_AND_CHAIN,
    DEALLOCATE,
    DEALLOCATE_ALL,
    DISCARD_ALL,
    EXECUTE,
    PREPARE,
    ROLLBACK_AND_CHAIN,
    ROLLBACK_TO,
)
from mirror_audit.audit.statement import (
    COPY_BOTH,
    OUTCOME_ERROR,
    OUTCOME_OK,
    OUTCOME_SUSPENDED,
    REASON_BYTES_LOST,
    REASON_SESSION_ENDED,
    Prepared,
    Statement,
)
from mirror_audit.counters import Counters
from mirror_audit.jsontext import write_int, write_string
from mirror_audit.packet.flow import Flow
from mirror_audit.packet.streams import CLIENT_TO_SERVER
from mirror_audit.pgwire.tls_hello import cipher_name, version_name

__all__ = ["Session"]

IDLE: Final = 0x49
IN_BLOCK: Final = 0x54
FAILED: Final = 0x45

# Values of ParameterStatus and of the startup packet that one session keeps.
MAX_PARAMETERS: Final = 64
MAX_VALUE_BYTES: Final = 1024
MAX_ERROR_FIELDS: Final = 32
MAX_ERROR_BYTES: Final = 8192

_CLOSE_REASONS: Final = (
    b"client_closed",
    b"server_closed",
    b"reset",
    b"evicted",
    b"idle_timeout",
    b"capture_end",
    b"replaced",
)
_CAUSES: Final = (b"not_captured", b"truncated", b"buffer_limit", b"one_sided")
# Encodings of a client that Python knows under another name; the others are known by their own.
_CODECS: Final = {
    "UTF8": None,
    "UNICODE": None,
    "SQL_ASCII": None,
    "LATIN1": "latin-1",
    "LATIN2": "iso8859-2",
    "LATIN3": "iso8859-3",
    "LATIN4": "iso8859-4",
    "LATIN5": "iso8859-9",
    "LATIN6": "iso8859-10",
    "LATIN7": "iso8859-13",
    "LATIN8": "iso8859-14",
    "LATIN9": "iso8859-15",
    "LATIN10": "iso8859-16",
    "ISO_8859_5": "iso8859-5",
    "ISO_8859_6": "iso8859-6",
    "ISO_8859_7": "iso8859-7",
    "ISO_8859_8": "iso8859-8",
    "WIN866": "cp866",
    "WIN874": "cp874",
    "WIN1250": "cp1250",
    "WIN1251": "cp1251",
    "WIN1252": "cp1252",
    "WIN1253": "cp1253",
    "WIN1254": "cp1254",
    "WIN1255": "cp1255",
    "WIN1256": "cp1256",
    "WIN1257": "cp1257",
    "WIN1258": "cp1258",
    "KOI8R": "koi8-r",
    "KOI8U": "koi8-u",
    "SJIS": "shift_jis",
    "SHIFT_JIS_2004": "shift_jis_2004",
    "EUC_JP": "euc_jp",
    "EUC_JIS_2004": "euc_jis_2004",
    "EUC_CN": "gb2312",
    "EUC_KR": "euc_kr",
    "BIG5": "big5",
    "GBK": "gbk",
    "GB18030": "gb18030",
    "UHC": "cp949",
    "JOHAB": "johab",
}


class PendingLoss:
    """A loss of one direction whose record waits for what comes of it."""

    def __init__(
        self, offset: i64, time: i64, cause: bytes, undecodable: bool, undecoded_before: i64
    ) -> None:
        self.offset: i64 = offset
        self.time: i64 = time
        self.cause = cause
        self.undecodable: bool = undecodable
        self.bytes: i64 = 0
        self.gaps: i64 = 0
        self.undecoded_before: i64 = undecoded_before


class Session(Exchange):
    """Follows one connection and writes its records."""

    def __init__(
        self,
        flow: Flow,
        writer: RecordWriter,
        encoder: StatementEncoder,
        limits: ExchangeLimits,
        registry: SessionRegistry,
        counters: Counters,
    ) -> None:
        super().__init__(encoder.analyser, limits, counters)
        self.flow = flow
        self.writer = writer
        self.encoder = encoder
        self.registry = registry
        self.identity = Identity(flow)
        self.settings = SettingsState()
        # the login
        self.startup_seen: bool = False
        self.logged_in: bool = False
        self.started: bool = False  # session_start was written
        self.refused: bool = False
        self.protocol_minor: i64 = -1
        self.method: bytes | None = None
        self.parameters: dict[bytes, bytes] = {}
        self.replication: bytes | None = None
        self.key_digest = b""
        self.start_offset: i64 = 0
        self.start_time: i64 = flow.start_time
        # encryption
        self.encryption: i64 = 0  # 1: TLS, 2: GSSAPI
        self.gssapi: bool = False
        self.direct: bool = False
        self.encryption_told: bool = False
        self.encryption_offset: i64 = 0
        self.encryption_time: i64 = 0
        self.tls_name: bytes | None = None
        self.tls_alpn: bytes | None = None
        self.tls_version: i64 = -1
        self.tls_cipher: i64 = -1
        # transactions
        self.status: i64 = 0
        self.transaction: i64 = 0
        self.in_transaction: bool = False
        self.block: bool = False
        self.block_statements: i64 = 0
        self.block_start: i64 = 0
        # totals
        self.total_statements: i64 = 0
        self.total_errors: i64 = 0
        self.total_rows: i64 = 0
        self.total_lost: i64 = 0
        self.end_error: dict[int, bytes] | None = None
        self.fatal: bool = False
        self.terminated: bool = False
        self.visible: bool = False
        self.is_cancel: bool = False
        self.client_loss: PendingLoss | None = None
        self.server_loss: PendingLoss | None = None
        # set by the stream: bytes seen but not decoded so far
        self.client_undecoded: i64 = 0
        self.server_undecoded: i64 = 0
        self.watched: bool = False

    # -- before the session ---------------------------------------------------------------------------------------

    def proxy_header(self, address: bytes, port: i64) -> None:
        self.identity.proxied(address, port)

    def encryption_requested(self, gssapi: bool) -> None:
        self.gssapi = gssapi
        self.visible = True

    def encrypted(self, direct: bool) -> None:
        self.visible = True
        self.direct = direct
        self.encryption = 2 if self.gssapi and not direct else 1
        self.encryption_offset = self.message_offset
        self.encryption_time = self.message_time
        self.counters.encrypted_sessions += 1

    def tls_client_hello(self, server_name: bytes, alpn: bytes) -> None:
        self.tls_name = server_name if len(server_name) > 0 else None
        self.tls_alpn = alpn if len(alpn) > 0 else None

    def tls_server_hello(self, version: i64, cipher: i64, alpn: bytes) -> None:
        self.tls_version = version
        self.tls_cipher = cipher
        if len(alpn) > 0:
            self.tls_alpn = alpn
        self._write_encrypted()

    def startup_message(self, major: i64, minor: i64, parameters: list[bytes]) -> None:
        self.visible = True
        self.startup_seen = True
        self.protocol_minor = minor
        self.start_offset = self.message_offset
        self.start_time = self.message_time
        identity = self.identity
        at: i64 = 0
        while at + 1 < len(parameters):
            name = parameters[at]
            value = parameters[at + 1]
            at += 2
            if len(self.parameters) < MAX_PARAMETERS:
                self.parameters[name[:MAX_VALUE_BYTES]] = value[:MAX_VALUE_BYTES]
            if name == b"user":
                identity.user = value[:MAX_VALUE_BYTES]
            elif name == b"database":
                identity.database = value[:MAX_VALUE_BYTES]
            elif name == b"application_name":
                identity.application = value[:MAX_VALUE_BYTES]
            elif name == b"client_encoding":
                self._set_encoding(value)
            elif name == b"replication":
                lower = value.lower()
                if lower == b"database":
                    self.replication = b"database"
                elif lower in (b"true", b"on", b"yes", b"1"):
                    self.replication = b"physical"
        if identity.database is None or len(identity.database) == 0:
            identity.database = identity.user
        identity.changed()
        self.settings.logged_in(identity.user, self.parameters.get(b"search_path"))

    def negotiate_protocol_version(self, minor: i64, unsupported: list[bytes]) -> None:
        self.protocol_minor = minor

    def cancel_request(self, process_id: i64, key_digest: bytes) -> None:
        self.is_cancel = True
        self.visible = False
        self.counters.cancel_requests += 1
        target = self.registry.find(self.flow, key_digest)
        w = self.writer.begin(
            KIND_CANCEL_REQUEST,
            self.identity.client_hash,
            self.message_time,
            self._client_sequence(self.message_offset),
            0,
            self.identity.json(),
        )
        w.write(b'"target_session_id":')
        write_optional(w, None if target is None else target.session_id)
        w.write(b',"target_pid":')
        write_int(w, process_id)
        w.write(b',"target_user":')
        write_optional(w, None if target is None else target.user)
        w.write(b',"target_database":')
        write_optional(w, None if target is None else target.database)
        self.writer.end()

    def authentication_request(self, method: bytes) -> None:
        self.method = method
        self.visible = True

    def authentication_mechanism(self, mechanism: bytes) -> None:
        self.method = mechanism.lower()

    def authentication_ok(self) -> None:
        self.logged_in = True
        self.visible = True
        if self.method is None:
            self.method = b"trust"

    def backend_key_data(self, process_id: i64, key_digest: bytes) -> None:
        identity = self.identity
        identity.process_id = process_id & 0xFFFFFFFF
        identity.changed()
        self.key_digest = key_digest
        self.registry.add(self.flow, key_digest, identity)

    def parameter_status(self, name: bytes, value: bytes) -> None:
        value = value[:MAX_VALUE_BYTES]
        if not self.started and (len(self.parameters) < MAX_PARAMETERS or name in self.parameters):
            self.parameters[name[:MAX_VALUE_BYTES]] = value
        identity = self.identity
        if name == b"server_version":
            identity.server_version = value
            identity.changed()
        elif name == b"application_name":
            identity.application = value
            identity.changed()
        elif name == b"standard_conforming_strings":
            self.standard_conforming = value != b"off"
        elif name == b"client_encoding":
            self._set_encoding(value)
        elif name == b"session_authorization" or name == b"search_path":
            self.settings.reported(name, value)
            if identity.user is None and name == b"session_authorization":
                # Joined too late for the startup packet, but the server says it.
                identity.user = value
                identity.changed()

    def _set_encoding(self, value: bytes) -> None:
        name = value.decode("ascii", "replace").upper().replace("-", "")
        self.codec = _CODECS.get(name)

    # -- sequence numbers ------------------------------------------------------------------------------------------------

    def _client_sequence(self, offset: i64) -> i64:
        return (self.flow.client.base + offset) & 0xFFFFFFFF

    def _server_sequence(self, offset: i64) -> i64:
        return (self.flow.server.base + offset) & 0xFFFFFFFF

    # -- the session ------------------------------------------------------------------------------------------------------

    def _write_session_start(self, complete: bool, joined: bytes) -> None:
        if self.started:
            return
        self.started = True
        self.visible = True
        self.counters.sessions += 1
        w = self.writer.begin(
            KIND_SESSION_START,
            self.identity.client_hash,
            self.start_time,
            self._client_sequence(self.start_offset),
            0,
            self.identity.json(),
        )
        w.write(b'"joined":"' + joined + b'","protocol_version":')
        if self.protocol_minor >= 0:
            w.write(b'"3.')
            write_int(w, self.protocol_minor)
            w.write(b'"')
        else:
            w.write(b"null")
        w.write(b',"authentication":')
        write_optional(w, self.method)
        w.write(b',"parameters":')
        if len(self.parameters) > 0:
            write_strings(w, self.parameters)
        else:
            w.write(b"null")
        w.write(b',"tls":false,"replication":')
        write_optional(w, self.replication)
        if complete:
            w.write(b',"coverage":{"complete":true,"bytes_lost":0,"reasons":[]}')
        elif joined == b"mid_stream":
            self.counters.sessions_mid_stream += 1
            w.write(b',"coverage":{"complete":false,"bytes_lost":0,"reasons":["joined_mid_stream"]}')
        else:
            write_coverage(w, REASON_BYTES_LOST, self.total_lost)
        self.writer.end()
        self.parameters = {}

    def join(self, time: i64) -> None:
        """The capture began after this connection did."""
        self.visible = True
        self.open = True
        self.start_time = time
        self.settings.forget()
        self._write_session_start(False, b"mid_stream")

    def transaction_status(self, status: i64) -> None:
        if not self.started:
            self._write_session_start(self.startup_seen and self.total_lost == 0, b"start")
        if len(self.finished) == 1 and self.status == IDLE and status == IDLE and not self.in_transaction:
            # By far the most frequent: one statement, its own transaction, over.
            statement = self.finished[0]
            if statement.outcome == OUTCOME_OK and (
                statement.analysis is None or statement.analysis.effect == 0
            ):
                self.finished = []
                self.transaction += 1
                self.counters.transactions += 1
                statement.transaction = self.transaction
                statement.before = IDLE
                statement.after = IDLE
                self._write_statement(statement)
                self._flush_losses(True)
                return
        self._emit_finished(status)
        self._settle(status)
        self._flush_losses(True)

    def _settle(self, status: i64) -> None:
        """The server's own word on the transaction."""
        if status == IDLE:
            if self.block:
                self._end_block(b"unknown", self.message_offset, self.time)
                self.settings.forget()
            elif self.in_transaction:
                self.settings.transaction_ended(True)
            self.in_transaction = False
        elif not self.block:
            if not self.in_transaction:
                self._next_transaction()
            self.block = True
            self.block_start = self.time
        self.status = status

    def _next_transaction(self) -> None:
        self.in_transaction = True
        self.transaction += 1
        self.counters.transactions += 1
        self.block_statements = 0

    def finish_early(self) -> None:
        self._emit_finished(0)

    def _emit_finished(self, status: i64) -> None:
        """Write the statements that are over; `status` is what the server said behind the last, 0: nothing."""
        finished = self.finished
        if len(finished) == 0:
            return
        self.finished = []
        current: i64 = self.status
        last: i64 = len(finished) - 1
        at: i64 = 0
        while at <= last:
            statement = finished[at]
            statement.before = current
            if (
                statement.outcome == OUTCOME_OK
                or statement.outcome == OUTCOME_ERROR
                or statement.outcome == OUTCOME_SUSPENDED
            ):
                if not self.in_transaction:
                    self._next_transaction()
                statement.transaction = self.transaction
                current = self._after(statement, current)
            if at == last and status != 0:
                statement.after = status
            else:
                statement.after = current
            self._write_statement(statement)
            self._after_statement(statement)
            at += 1
        if status == 0:
            self.status = current

    def _after(self, statement: Statement, current: i64) -> i64:
        """The transaction status that a statement leaves, as far as its outcome and tag tell."""
        self.block_statements += 1
        if statement.outcome == OUTCOME_ERROR:
            return FAILED if current == IN_BLOCK or current == FAILED else current
        tag = statement.tag
        if tag == b"BEGIN" or tag == b"START TRANSACTION":
            if not self.block:
                self.block = True
                self.block_start = statement.time
            return IN_BLOCK
        if tag == b"COMMIT" or tag == b"PREPARE TRANSACTION":
            analysis = statement.analysis
            if analysis is not None and analysis.effect == COMMIT_AND_CHAIN:
                return IN_BLOCK
            return IDLE
        if tag == b"ROLLBACK":
            analysis = statement.analysis
            if analysis is not None:
                if analysis.effect == ROLLBACK_TO or analysis.effect == ROLLBACK_AND_CHAIN:
                    return IN_BLOCK
                return IDLE
        return current

    def _after_statement(self, statement: Statement) -> None:
        """What a statement changes for those that follow."""
        tag = statement.tag
        analysis = statement.analysis
        effect: i64 = 0 if analysis is None else analysis.effect
        if statement.outcome == OUTCOME_OK and len(tag) > 0:
            if tag == b"COMMIT":
                self._end_block(b"committed", statement.offset, statement.end)
                self.settings.transaction_ended(True)
                if effect == COMMIT_AND_CHAIN:
                    self._chain(statement)
            elif tag == b"PREPARE TRANSACTION":
                self._end_block(b"unknown", statement.offset, statement.end)
                self.settings.transaction_ended(True)
            elif tag == b"ROLLBACK":
                if effect == ROLLBACK_TO and analysis is not None:
                    self.settings.apply(effect, analysis.effect_name, None)
                elif analysis is not None:
                    self._end_block(b"rolled_back", statement.offset, statement.end)
                    self.settings.transaction_ended(False)
                    if effect == ROLLBACK_AND_CHAIN:
                        self._chain(statement)
            elif effect != 0 and analysis is not None:
                self._apply(analysis.effect, analysis.effect_name, analysis.effect_argument)
        elif statement.outcome == OUTCOME_ERROR:
            if not self.block:
                self.settings.transaction_ended(False)
        elif statement.reasons != 0 and effect != 0:
            # Whether it took effect was not seen.
            self.settings.forget()

    def _chain(self, statement: Statement) -> None:
        self._next_transaction()
        self.block = True
        self.block_start = statement.end

    def _apply(self, effect: i64, name: bytes | None, argument: bytes | None) -> None:
        if effect == PREPARE:
            if name is not None and argument is not None:
                self._remember(
                    Prepared(
                        name, self.analyser.analyse(argument, self.standard_conforming), len(argument), b""
                    )
                )
        elif effect == DEALLOCATE:
            if name is not None:
                self.prepared.pop(name, None)
        elif effect == DEALLOCATE_ALL:
            self.prepared = {}
        else:
            if effect == DISCARD_ALL:
                self.prepared = {}
                self.portals = {}
            self.settings.apply(effect, name, argument)

    def _end_block(self, outcome: bytes, offset: i64, time: i64) -> None:
        """A transaction block is over."""
        if self.block:
            self.block = False
            duration: i64 = time - self.block_start
            w = self.writer.begin(
                KIND_TRANSACTION_END,
                self.identity.client_hash,
                time,
                self._client_sequence(offset),
                0,
                self.identity.json(),
            )
            w.write(b'"transaction":')
            write_int(w, self.transaction)
            w.write(b',"outcome":"' + outcome + b'","statements":')
            write_int(w, self.block_statements)
            w.write(b',"duration_us":')
            write_int(w, duration if duration > 0 else 0)
            self.writer.end()
        self.in_transaction = False

    # -- statements --------------------------------------------------------------------------------------------------------

    def _write_statement(self, statement: Statement) -> None:
        counters = self.counters
        counters.statements += 1
        self.total_statements += 1
        if statement.outcome == OUTCOME_ERROR:
            counters.errors += 1
            self.total_errors += 1
        if statement.reasons != 0 or statement.lost != 0:
            counters.statements_incomplete += 1
        rows: i64 = command_rows(statement.tag)
        if rows > 0:
            self.total_rows += rows
        analysis = statement.analysis
        if analysis is not None and analysis.effect == EXECUTE:
            name = analysis.effect_name
            prepared = None if name is None else self.prepared.get(name)
            if prepared is not None:
                statement.inner = prepared.analysis
        statement.role = self.settings.role()
        statement.search_path = self.settings.path()
        identity = self.identity
        if statement.from_server:
            w = self.writer.begin(
                KIND_STATEMENT,
                identity.server_hash,
                statement.time,
                self._server_sequence(statement.offset),
                statement.ordinal,
                identity.json(),
            )
        else:
            w = self.writer.begin(
                KIND_STATEMENT,
                identity.client_hash,
                statement.time,
                self._client_sequence(statement.offset),
                statement.ordinal,
                identity.json(),
            )
        self.encoder.write(w, statement)
        self.writer.end()
        if statement.copy == COPY_BOTH:
            self._write_replication(statement)

    def write_progress(self, statement: Statement, now: i64) -> None:
        """A statement that is still running."""
        statement.progress += 1
        identity = self.identity
        writer = self.writer
        flow: i64 = identity.server_hash if statement.from_server else identity.client_hash
        sequence: i64 = self._client_sequence(statement.offset)
        if statement.from_server:
            sequence = self._server_sequence(statement.offset)
        # Progress has an id of its own, so that whoever removes duplicates by id keeps the statement's end.
        ordinal: i64 = (statement.ordinal & 0xFFF) << 12 | (statement.progress & 0xFFF)
        w = writer.begin(KIND_STATEMENT_PROGRESS, flow, statement.time, sequence, ordinal, identity.json())
        w.write(b'"statement_id":"')
        writer.write_id(flow, statement.time, sequence, KIND_STATEMENT, statement.ordinal)
        w.write(b'","protocol":')
        w.write((b'"simple"', b'"extended"', b'"function_call"')[statement.protocol])
        analysis = statement.analysis
        w.write(b',"text":')
        if analysis is None:
            w.write(b"null")
        else:
            write_string(w, analysis.text[: self.encoder.limits.max_text])
        w.write(b',"prepared_name":')
        prepared = statement.prepared
        write_optional(w, None if prepared is None else prepared.name)
        w.write(b',"running_us":')
        running: i64 = now - statement.time
        write_int(w, running if running > 0 else 0)
        w.write(b',"rows":')
        write_int(w, statement.rows)
        w.write(b',"bytes_from_client":')
        write_int(w, statement.client_bytes)
        w.write(b',"bytes_from_server":')
        received: i64 = self.flow.server.next - self.server_mark
        write_int(w, received if statement.started and received > 0 else 0)
        writer.end()

    def _write_replication(self, statement: Statement) -> None:
        w = self.writer.begin(
            KIND_REPLICATION,
            self.identity.client_hash,
            statement.time,
            self._client_sequence(statement.offset),
            statement.ordinal,
            self.identity.json(),
        )
        analysis = statement.analysis
        text = b"" if analysis is None else analysis.text
        words = text.split()
        slot: bytes | None = None
        mode: bytes | None = None
        if len(words) > 0 and words[0].upper() == b"START_REPLICATION":
            mode = b"physical"
            at: i64 = 1
            while at < len(words):
                word = words[at].upper()
                if word == b"SLOT" and at + 1 < len(words):
                    slot = words[at + 1].strip(b'"')
                elif word == b"LOGICAL":
                    mode = b"logical"
                at += 1
        w.write(b'"command":')
        write_optional(w, None if analysis is None else text[: self.encoder.limits.max_text])
        w.write(b',"mode":')
        write_optional(w, mode)
        w.write(b',"slot":')
        write_optional(w, slot)
        w.write(b',"bytes":')
        write_int(w, statement.copy_bytes)
        self.writer.end()

    def error_fields(self, buf: bytes, start: i64, end: i64) -> dict[int, bytes]:
        fields: dict[int, bytes] = {}
        at: i64 = start
        while at < end and buf[at] != 0 and len(fields) < MAX_ERROR_FIELDS:
            stop: i64 = buf.find(b"\x00", at + 1, end)
            if stop < 0:
                stop = end
            last: i64 = stop
            if last - at > MAX_ERROR_BYTES:
                last = at + MAX_ERROR_BYTES
            fields[int(buf[at])] = self._text(buf[at + 1 : last])
            at = stop + 1
        severity = fields.get(0x56)
        if severity is None:
            severity = fields.get(0x53)
        if severity == b"FATAL" or severity == b"PANIC":
            self.fatal = True
            self.end_error = fields
        return fields

    def session_error(self, buf: bytes, start: i64, end: i64) -> None:
        fields = self.error_fields(buf, start, end)
        self.visible = True
        self.end_error = fields
        if self.open:
            return
        self._write_login_failed(fields)

    def _write_login_failed(self, fields: dict[int, bytes] | None) -> None:
        self.refused = True
        self.counters.logins_failed += 1
        w = self.writer.begin(
            KIND_LOGIN_FAILED,
            self.identity.client_hash,
            self.start_time,
            self._client_sequence(self.start_offset),
            0,
            self.identity.json(),
        )
        w.write(b'"authentication":')
        write_optional(w, self.method)
        self._error_members(fields, True)
        self.writer.end()

    def _error_members(self, fields: dict[int, bytes] | None, severity: bool) -> None:
        w = self.writer.w
        w.write(b',"sqlstate":')
        write_optional(w, None if fields is None else fields.get(0x43))
        if severity:
            w.write(b',"severity":')
            write_optional(w, None if fields is None else fields.get(0x56, fields.get(0x53)))
        w.write(b',"message":')
        message = None if fields is None else fields.get(0x4D)
        write_optional(w, None if message is None else self.analyser.redact_message(message, False))

    def terminate(self) -> None:
        self.terminated = True

    # -- losses ------------------------------------------------------------------------------------------------------------

    def gap(self, direction: i64, offset: i64, length: i64, cause: i64, time: i64) -> None:
        """Bytes are missing; called before the connection hears of it."""
        self.visible = True
        self.total_lost += length
        pending = self._loss(direction, offset, time, _CAUSES[cause], False)
        pending.bytes += length
        pending.gaps += 1
        self.touch_lost(direction, length)

    def _loss(self, direction: i64, offset: i64, time: i64, cause: bytes, undecodable: bool) -> PendingLoss:
        pending: PendingLoss | None
        if direction == CLIENT_TO_SERVER:
            pending = self.client_loss
            if pending is None:
                pending = PendingLoss(offset, time, cause, undecodable, self.client_undecoded)
                self.client_loss = pending
        else:
            pending = self.server_loss
            if pending is None:
                pending = PendingLoss(offset, time, cause, undecodable, self.server_undecoded)
                self.server_loss = pending
        return pending

    def lost(self, direction: i64, reason: bytes) -> None:
        super().lost(direction, reason)
        if reason == b"joined_mid_stream":
            if not self.started:
                self.join(self.time)
        elif reason != b"bytes_lost":
            self._loss(direction, self.message_offset, self.time, reason, True)
        if direction == CLIENT_TO_SERVER:
            # Anything may have been set in the bytes that are not read.
            self.settings.forget()

    def _flush_losses(self, recovered: bool) -> None:
        """Write what is known of losses, unless their end is still to come."""
        client = self.client_loss
        if client is not None and (not recovered or not self.client_lost):
            self.client_loss = None
            self._write_loss(client, True, recovered)
        server = self.server_loss
        if server is not None and (not recovered or not self.server_lost):
            self.server_loss = None
            self._write_loss(server, False, recovered)

    def _write_loss(self, loss: PendingLoss, client: bool, recovered: bool) -> None:
        identity = self.identity
        undecoded: i64 = (self.client_undecoded if client else self.server_undecoded) - loss.undecoded_before
        sequence: i64 = self._client_sequence(loss.offset) if client else self._server_sequence(loss.offset)
        w = self.writer.begin(
            KIND_UNDECODABLE if loss.undecodable else KIND_GAP,
            identity.client_hash if client else identity.server_hash,
            loss.time,
            sequence,
            0,
            identity.json(),
        )
        w.write(b'"direction":"client_to_server"' if client else b'"direction":"server_to_client"')
        if loss.undecodable:
            w.write(b',"reason":')
            write_string(w, loss.cause)
            w.write(b',"bytes":')
            write_int(w, undecoded)
        else:
            w.write(b',"bytes":')
            write_int(w, loss.bytes)
            w.write(b',"gaps":')
            write_int(w, loss.gaps)
            w.write(b',"cause":')
            write_string(w, loss.cause)
            w.write(b',"offset_seq":')
            write_int(w, sequence)
            w.write(b',"bytes_undecoded":')
            write_int(w, undecoded)
        w.write(b',"recovered":true' if recovered else b',"recovered":false')
        self.writer.end()

    def malformed(self, direction: i64, kind: i64) -> None:
        statement = self.current()
        if statement is not None:
            statement.reasons |= REASON_BYTES_LOST
        pending = self._loss(direction, self.message_offset, self.time, b"malformed_message", True)
        pending.gaps += 1

    def undecodable(self, direction: i64, reason: bytes) -> None:
        self.visible = True
        self._loss(direction, self.message_offset, self.time, reason, True).undecoded_before = 0

    # -- the end ------------------------------------------------------------------------------------------------------------

    def _write_encrypted(self) -> None:
        if self.encryption_told:
            return
        self.encryption_told = True
        identity = self.identity
        w = self.writer.begin(
            KIND_ENCRYPTED_SESSION,
            identity.client_hash,
            self.encryption_time,
            self._client_sequence(self.encryption_offset),
            0,
            identity.json(),
        )
        w.write(b'"protocol":"tls"' if self.encryption == 1 else b'"protocol":"gssapi"')
        w.write(b',"negotiation":"direct"' if self.direct else b',"negotiation":"requested"')
        w.write(b',"server_name":')
        write_optional(w, self.tls_name)
        w.write(b',"version":')
        write_optional(w, None if self.tls_version < 0 else version_name(int(self.tls_version)).encode())
        w.write(b',"cipher":')
        write_optional(w, None if self.tls_cipher < 0 else cipher_name(int(self.tls_cipher)).encode())
        w.write(b',"alpn":')
        write_optional(w, self.tls_alpn)
        w.write(b',"bytes_from_client":')
        write_int(w, self.flow.client.next)
        w.write(b',"bytes_from_server":')
        write_int(w, self.flow.server.next)
        w.write(b',"decoded":false')
        self.writer.end()

    def ended(self, reason: i64, time: i64) -> None:
        """The connection is over."""
        if len(self.key_digest) > 0:
            self.registry.remove(self.flow, self.key_digest, self.identity)
        if self.is_cancel:
            return
        if self.unconfirmed:
            self.rejected()
        self.time = time
        self.abandon(REASON_SESSION_ENDED)
        self._emit_finished(0)
        if self.block:
            certain: bool = not self.client_lost and not self.server_lost and self.total_lost == 0
            self._end_block(b"rolled_back" if certain and reason != 5 else b"unknown", self.client_mark, time)
        if self.encryption != 0:
            self._write_encrypted()
        elif self.startup_seen and not self.started and not self.refused and reason != 5:
            # The client gave up, or was cut off, before the server had let it in.
            self._write_login_failed(self.end_error)
        self._flush_losses(False)
        if not self.visible:
            self.counters.connections_without_data += 1
            return
        self._write_session_end(reason, time)

    def _write_session_end(self, reason: i64, time: i64) -> None:
        flow = self.flow
        w = self.writer.begin(
            KIND_SESSION_END,
            self.identity.client_hash,
            time,
            self._client_sequence(flow.client.next),
            0,
            self.identity.json(),
        )
        why = _CLOSE_REASONS[reason]
        if self.fatal and reason != 5:
            why = b"fatal"
        elif self.terminated:
            why = b"terminate"
        w.write(b'"reason":"' + why + b'","statements":')
        write_int(w, self.total_statements)
        w.write(b',"errors":')
        write_int(w, self.total_errors)
        w.write(b',"transactions":')
        write_int(w, self.transaction)
        w.write(b',"rows":')
        write_int(w, self.total_rows)
        w.write(b',"duration_us":')
        duration: i64 = time - flow.start_time
        write_int(w, duration if duration > 0 else 0)
        w.write(b',"bytes_from_client":')
        write_int(w, flow.client.next)
        w.write(b',"bytes_from_server":')
        write_int(w, flow.server.next)
        w.write(b',"bytes_lost":')
        write_int(w, self.total_lost)
        self._error_members(self.end_error, False)
        w.write(b',"encrypted":true' if self.encryption != 0 else b',"encrypted":false')
        self.writer.end()
