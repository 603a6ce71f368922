"""Who a session is: everything up to the first ReadyForQuery, and what the server reports of it later.

Startup, authentication, encryption and cancel requests become records here; no password, SASL payload or key
ever gets this far (see `pgwire.listener`).
"""

from typing import Final

from librt.strings import BytesWriter
from mypy_extensions import i64

from mirror_audit.audit.encode import StatementEncoder, parameter_text
from mirror_audit.audit.encode_session import (
    MESSAGE,
    Encryption,
    severity_of,
    write_cancel_request,
    write_encrypted_session,
    write_login_failed,
    write_session_start,
)
from mirror_audit.audit.encodings import codec_of
from mirror_audit.audit.envelope import (
    KIND_CANCEL_REQUEST,
    KIND_ENCRYPTED_SESSION,
    KIND_LOGIN_FAILED,
    KIND_SESSION_START,
    RecordWriter,
)
from mirror_audit.audit.exchange import Exchange
from mirror_audit.audit.identity import Identity
from mirror_audit.audit.losses import Losses
from mirror_audit.audit.registry import SessionRegistry
from mirror_audit.audit.settings_state import SettingsState, option_value
from mirror_audit.audit.sqlfacts import SET_UNKNOWN
from mirror_audit.audit.statement import ExchangeLimits, Statement
from mirror_audit.counters import Counters
from mirror_audit.octets import find_zero
from mirror_audit.packet.flow import Flow
from mirror_audit.packet.sequence import SEQUENCE_MASK

__all__ = ["Login"]

# Values of the startup packet and of ParameterStatus that session_start shows.
MAX_PARAMETERS: Final = 64
MAX_VALUE_BYTES: Final = 1024
MAX_ERROR_FIELDS: Final = 32
MAX_ERROR_BYTES: Final = 8192


class Login(Exchange):
    """A session's identity. `Session` adds its statements."""

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
        self.losses = Losses(flow, self.identity, writer)
        self.encryption = Encryption()
        # the login
        self.startup_seen: bool = False
        self.started: bool = False  # session_start was written
        self.refused: bool = False
        self.minor: i64 = -1
        self.method: bytes | None = None
        self.parameters: dict[bytes, bytes] = {}
        # What the server says of the role and the path; it counts from the next ReadyForQuery on.
        self.reported: dict[bytes, bytes] = {}
        self.replication: bytes | None = None
        self.key_digest = b""
        self.start_offset: i64 = 0
        self.start_time: i64 = flow.start_time
        self.visible: bool = False  # there is something to tell
        self.cancels: bool = False  # this was a CancelRequest
        self.over: bool = False
        # On a port where nobody said that PostgreSQL listens: silent until it shows that it does.
        self.on_trial: bool = flow.on_trial
        self.fatal: bool = False
        self.end_error: dict[int, bytes] | None = None
        self.total_lost: i64 = 0

    def record(self, kind: i64, time: i64, offset: i64) -> BytesWriter:
        """Begin a record about the client's byte at `offset`."""
        sequence: i64 = (self.flow.client.base + offset) & SEQUENCE_MASK
        identity = self.identity
        return self.writer.begin(kind, identity.client_hash, time, sequence, 0, identity.json())

    # -- before the session -------------------------------------------------------------------------------

    def proxy_header(self, address: bytes, port: i64) -> None:
        self.identity.proxied(address, port)

    def encryption_requested(self, gssapi: bool) -> None:
        self.on_trial = False
        self.encryption.gssapi = gssapi
        self.visible = True

    def encrypted(self, direct: bool) -> None:
        self.visible = True
        encryption = self.encryption
        encryption.on = True
        encryption.direct = direct
        if direct:
            encryption.gssapi = False
        encryption.offset = self.message_offset
        encryption.time = self.message_time
        if not self.on_trial:
            self.counters.encrypted_sessions += 1

    def tls_client_hello(self, server_name: bytes, alpn: bytes) -> None:
        if self.on_trial:
            if alpn != b"postgresql":
                # Any TLS there is begins like this; only the protocol's name makes it PostgreSQL.
                self.flow.ignored = True
                self.counters.dropped_not_postgresql += 1
                return
            self.on_trial = False
            self.counters.encrypted_sessions += 1
        self.encryption.server_name = server_name if len(server_name) > 0 else None
        self.encryption.alpn = alpn if len(alpn) > 0 else None

    def tls_server_hello(self, version: i64, cipher: i64, alpn: bytes) -> None:
        self.encryption.version = version
        self.encryption.cipher = cipher
        if len(alpn) > 0:
            self.encryption.alpn = alpn
        if not self.on_trial:
            self.tell_encryption()

    def tell_encryption(self) -> None:
        """Write encrypted_session, once."""
        encryption = self.encryption
        if not encryption.told:
            encryption.told = True
            w = self.record(KIND_ENCRYPTED_SESSION, encryption.time, encryption.offset)
            write_encrypted_session(w, encryption, self.flow.client.next, self.flow.server.next)
            self.writer.end()

    def cancel_request(self, process_id: i64, key_digest: bytes) -> None:
        self.on_trial = False
        self.counters.cancel_requests += 1
        target = self.registry.find(self.flow, key_digest)
        w = self.record(KIND_CANCEL_REQUEST, self.message_time, self.message_offset)
        if target is None:
            write_cancel_request(w, process_id, None, None, None)
        else:
            write_cancel_request(w, process_id, target.session_id, target.user, target.database)
        self.writer.end()
        # The connection has no other purpose: its end is not told.
        self.cancels = True

    def startup_message(self, major: i64, minor: i64, parameters: list[bytes]) -> None:
        self.on_trial = False
        self.visible = True
        self.startup_seen = True
        self.minor = minor
        self.start_offset = self.message_offset
        self.start_time = self.message_time
        identity = self.identity
        at: i64 = 0
        while at + 1 < len(parameters):
            name = parameters[at][:MAX_VALUE_BYTES]
            value = parameters[at + 1][:MAX_VALUE_BYTES]
            at += 2
            if len(self.parameters) < MAX_PARAMETERS:
                self.parameters[name] = self.shown(value)
            if name == b"user":
                identity.user = value
            elif name == b"database":
                identity.database = value
            elif name == b"application_name":
                identity.application = self.shown(value)
            elif name == b"client_encoding":
                self.codec = codec_of(value)
            elif name == b"replication":
                lower = value.lower()
                if lower == b"database":
                    self.replication = b"database"
                elif lower in (b"true", b"on", b"yes", b"1"):
                    self.replication = b"physical"
        if identity.database is None or len(identity.database) == 0:
            identity.database = identity.user
        identity.changed()
        options = self.parameters.get(b"options", b"")
        path = self.parameters.get(b"search_path", option_value(options, b"search_path"))
        role = self.parameters.get(b"role", option_value(options, b"role"))
        self.walsender = self.replication is not None
        self.settings.logged_in(identity.user, path, role)

    def negotiate_protocol_version(self, minor: i64, unsupported: list[bytes]) -> None:
        self.minor = minor

    def authentication_request(self, method: bytes) -> None:
        self.method = method
        self.visible = True

    def authentication_mechanism(self, mechanism: bytes) -> None:
        self.method = mechanism.lower()

    def authentication_ok(self) -> None:
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
        self.asynchronous()
        name = name[:MAX_VALUE_BYTES]
        value = value[:MAX_VALUE_BYTES]
        if not self.started and (len(self.parameters) < MAX_PARAMETERS or name in self.parameters):
            self.parameters[name] = self.shown(value)
        identity = self.identity
        if name == b"server_version":
            identity.server_version = value
            identity.changed()
        elif name == b"application_name":
            if len(self.finished) > 0:
                # It holds from the next statement on; those that are over have yet to be told.
                self.reported[name] = value
            else:
                identity.application = self.shown(value)
                identity.changed()
        elif name == b"standard_conforming_strings":
            self.standard_conforming = value != b"off"
        elif name == b"client_encoding":
            self.codec = codec_of(value)
            self.codec_unproven = False
        elif name == b"session_authorization" or name == b"search_path":
            if identity.user is None and not self.started and name == b"session_authorization":
                # The startup packet was not seen, but the server says who was let in.
                identity.user = value
                identity.changed()
                self.settings.login = value
            self.reported[name] = value

    def shown(self, value: bytes) -> bytes:
        """A setting's value as far as it may be told: an application_name can hold a connection string."""
        return self.analyser.redact_message(value, False)

    def apply_effect(
        self, statement: Statement, effect: i64, name: bytes | None, argument: bytes | None, parameter: i64
    ) -> None:
        """A statement that set something succeeded."""
        if effect == SET_UNKNOWN and parameter > 0:
            # set_config('role', $1, true), as PostgREST does it for each request.
            portal = statement.portal
            prepared = statement.prepared
            value: bytes | None = None
            if portal is not None and prepared is not None:
                value = parameter_text(portal, prepared, parameter)
            self.settings.configured(name, value, argument == b"local")
        else:
            self.settings.apply(effect, name, argument)

    def join(self, time: i64) -> None:
        """The capture began after this connection did."""
        self.open = True
        self.start_time = time
        self.settings.forget()
        self.counters.sessions_mid_stream += 1
        self.tell_start(b"mid_stream", b"joined_mid_stream")

    def tell_start(self, joined: bytes, reason: bytes | None) -> None:
        """Write session_start; `reason` says why not all of the login was seen."""
        self.started = True
        self.visible = True
        self.counters.sessions += 1
        w = self.record(KIND_SESSION_START, self.start_time, self.start_offset)
        write_session_start(
            w, joined, self.minor, self.method, self.parameters, self.replication, self.total_lost, reason
        )
        self.writer.end()
        self.parameters = {}

    # -- errors -----------------------------------------------------------------------------------------

    def error_fields(self, buf: bytes, start: i64, end: i64) -> dict[int, bytes]:
        fields: dict[int, bytes] = {}
        at: i64 = start
        while at < end and buf[at] != 0 and len(fields) < MAX_ERROR_FIELDS:
            stop: i64 = find_zero(buf, at + 1, end)
            if stop < 0:
                stop = end
            last: i64 = stop
            if last - at > MAX_ERROR_BYTES:
                last = at + MAX_ERROR_BYTES
            fields[int(buf[at])] = self._text(buf[at + 1 : last])
            at = stop + 1
        severity = severity_of(fields)
        if severity == b"FATAL" or severity == b"PANIC":
            self.fatal = True
            self.end_error = fields
        return fields

    def session_error(self, buf: bytes, start: i64, end: i64) -> None:
        fields = self.error_fields(buf, start, end)
        self.visible = True
        if not self.open:
            self.end_error = fields
            self.tell_refusal(fields)

    def tell_refusal(self, fields: dict[int, bytes] | None) -> None:
        """Write login_failed; None: the server said nothing."""
        self.refused = True
        self.counters.logins_failed += 1
        w = self.record(KIND_LOGIN_FAILED, self.start_time, self.start_offset)
        write_login_failed(w, self.method, fields, self.redacted_message(fields))
        self.writer.end()

    def redacted_message(self, fields: dict[int, bytes] | None) -> bytes | None:
        """The message of an error, as far as it may be told."""
        message = None if fields is None else fields.get(MESSAGE)
        return None if message is None else self.analyser.redact_message(message, False)
