"""What a PostgreSQL connection says: one typed call for each message, no object for any.

The names are those of the manual's chapter "Message Formats". A listener that is interested in a message
overrides its method. Text arguments come as (buf, start, end) and must be copied to be kept; names come as
bytes without their terminating zero. `missing` counts bytes at the end of a body that were lost or not kept.

No secret reaches a listener: passwords, SASL payloads and cancellation keys stop in `pgwire.connection`; a
cancellation key is told apart by a digest.
"""

from mypy_extensions import i64, mypyc_attr

__all__ = ["Listener"]


@mypyc_attr(allow_interpreted_subclasses=True)
class Listener:
    """Takes what a connection says. The fields describe the message that is being told."""

    def __init__(self) -> None:
        self.message_offset: i64 = 0  # stream offset of its first byte, in its direction
        self.message_end: i64 = 0  # ... of the first byte behind it
        self.message_time: i64 = 0  # when its first byte was sent, us
        self.time: i64 = 0  # when its last byte was sent, us
        # A listener sets this when a reply cannot belong to what was asked.
        self.out_of_step: bool = False
        # A listener sets this when a session does not wait for replies before it sends more.
        self.pipelined: bool = False
        # With `resumed`: the transaction status of the ReadyForQuery before it, 0 if that was not seen.
        self.status_before: i64 = 0
        # How many ReadyForQuery the requests told so far still want; kept by the listener.
        self.outstanding_ready: i64 = 0

    # -- before the session -------------------------------------------------------------------------------

    def proxy_header(self, address: bytes, port: i64) -> None:
        """A PROXY protocol header: the true client's address (4 or 16 bytes) and port."""

    def encryption_requested(self, gssapi: bool) -> None:
        """SSLRequest or GSSENCRequest."""

    def encryption_answered(self, accepted: bool) -> None:
        """The server's one-byte answer to it."""

    def encrypted(self, direct: bool) -> None:
        """From here on the streams are encrypted. `direct`: TLS from the first byte."""

    def tls_client_hello(self, server_name: bytes, alpn: bytes) -> None:
        """What the ClientHello says in clear; empty if it does not say it."""

    def tls_server_hello(self, version: i64, cipher: i64, alpn: bytes) -> None:
        """What the ServerHello chose: protocol version (0x0303 is TLS 1.2) and cipher suite number."""

    def startup_message(self, major: i64, minor: i64, parameters: list[bytes]) -> None:
        """StartupMessage: names and values in turn."""

    def cancel_request(self, process_id: i64, key_digest: bytes) -> None:
        """CancelRequest."""

    def authentication_request(self, method: bytes) -> None:
        """AuthenticationXXX: which method the server asks for."""

    def authentication_mechanism(self, mechanism: bytes) -> None:
        """The SASL mechanism that the client chose."""

    def authentication_ok(self) -> None:
        """AuthenticationOk."""

    def negotiate_protocol_version(self, minor: i64, unsupported: list[bytes]) -> None:
        """NegotiateProtocolVersion."""

    def backend_key_data(self, process_id: i64, key_digest: bytes) -> None:
        """BackendKeyData."""

    def parameter_status(self, name: bytes, value: bytes) -> None:
        """ParameterStatus."""

    # -- from the client --------------------------------------------------------------------------------

    def query(self, buf: bytes, start: i64, end: i64, missing: i64) -> None:
        """Query: its text."""

    def parse(
        self, name: bytes, buf: bytes, start: i64, end: i64, oids: bytes, missing: i64, cut: bool
    ) -> None:
        """Parse: its text, and the type OIDs, four bytes each. `cut`: the text lost its end."""

    def bind(self, portal: bytes, statement: bytes, values: bytes, missing: i64) -> None:
        """Bind: `values` is the body from the parameter format codes on."""

    def describe(self, portal: bool, name: bytes) -> None:
        """Describe."""

    def execute(self, portal: bytes, max_rows: i64) -> None:
        """Execute."""

    def close(self, portal: bool, name: bytes) -> None:
        """Close."""

    def flush(self) -> None:
        """Flush."""

    def sync(self) -> None:
        """Sync."""

    def function_call(self, function: i64) -> None:
        """FunctionCall of the function with this OID."""

    def copy_data(self, from_client: bool, rows: i64, octets: i64) -> None:
        """That many CopyData messages with that many bytes since the last call."""

    def copy_done(self) -> None:
        """CopyDone or CopyFail from the client."""

    def terminate(self) -> None:
        """Terminate."""

    # -- from the server --------------------------------------------------------------------------------

    def parse_complete(self) -> None:
        """ParseComplete."""

    def bind_complete(self) -> None:
        """BindComplete."""

    def close_complete(self) -> None:
        """CloseComplete."""

    def parameter_description(self, oids: bytes) -> None:
        """ParameterDescription: type OIDs, four bytes each."""

    def row_description(self) -> None:
        """RowDescription."""

    def no_data(self) -> None:
        """NoData."""

    def data_rows(self, rows: i64, first_time: i64) -> None:
        """That many DataRow messages since the last call, the first one sent at `first_time` (us)."""

    def command_complete(self, buf: bytes, start: i64, end: i64) -> None:
        """CommandComplete: its tag."""

    def empty_query_response(self) -> None:
        """EmptyQueryResponse."""

    def portal_suspended(self) -> None:
        """PortalSuspended."""

    def function_call_response(self) -> None:
        """FunctionCallResponse."""

    def error_response(self, buf: bytes, start: i64, end: i64) -> None:
        """ErrorResponse: its fields, each a code byte and a zero-terminated string."""

    def notice_response(self, buf: bytes, start: i64, end: i64) -> None:
        """NoticeResponse: as ErrorResponse."""

    def notification_response(self, process_id: i64, channel: bytes) -> None:
        """NotificationResponse, without its payload."""

    def ready_for_query(self, status: i64) -> None:
        """ReadyForQuery: `I`, `T` or `E` as a byte value."""

    def copy_in_response(self) -> None:
        """CopyInResponse."""

    def copy_out_response(self) -> None:
        """CopyOutResponse."""

    def copy_both_response(self) -> None:
        """CopyBothResponse."""

    # -- what could not be read ------------------------------------------------------------------------------

    def malformed(self, direction: i64, kind: i64) -> None:
        """One message whose body does not parse; it is skipped."""

    def damaged(self, direction: i64, kind: i64, missing: i64) -> None:
        """One message of known length that lost its last `missing` bytes.

        From the client: it cannot be read without them. From the server: an ErrorResponse, and what can be
        told without its body, follows as if it were whole.
        """

    def lost(self, direction: i64, reason: bytes) -> None:
        """The message boundaries of a direction are not known any more."""

    def resumed(self, client: bool, server: bool) -> None:
        """They seem to be known again from here on; the server's reply will confirm it or not."""

    def rejected(self) -> None:
        """It did not: forget all that was told since `resumed`."""

    def undecodable(self, direction: i64, reason: bytes) -> None:
        """This is no PostgreSQL that can be read; nothing more will be told."""
