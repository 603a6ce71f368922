"""One PostgreSQL connection, sans-IO: bytes of both directions in, typed calls on a `Listener` out.

It goes through these phases::

    STARTUP ──startup packet──> AUTHENTICATION ──first ReadyForQuery──> READY
       │ ├──SSLRequest, answered "S", or a TLS record──> ENCRYPTED          (bytes are counted, not decoded)
       │ └──CancelRequest──> FINISHED
       └──anything else──> UNDECODABLE

A direction whose message boundaries were lost (a gap, an impossible length, a capture that joined in the
middle) is not searched for byte patterns: an attacker can put any pattern into a value. It resumes only where
a turn begins (see `StreamListener.data`): each side had acknowledged all that the other had sent, the server
spoke last, and what it said last was a whole ReadyForQuery as far as that is visible. What is read from there
on stays unconfirmed until the server's reply fits it; if it does not fit, the listener is told to forget it.
A client that pipelines could be in the middle of a message at such a point, so for it the turn must also come
after a pause.
"""

from typing import Final

from librt.strings import BytesWriter
from mypy_extensions import i64

from mirror_audit.counters import Budget, Counters
from mirror_audit.octets import i32_at, u16_at, u32_at
from mirror_audit.pgwire.framing import Framer, MessageSink
from mirror_audit.pgwire.listener import Listener
from mirror_audit.pgwire.messages import (
    BACKEND_RULES,
    CANCEL_REQUEST,
    FRONTEND_RULES,
    GSSENC_REQUEST,
    SSL_REQUEST,
)
from mirror_audit.pgwire.replies import BackendReader
from mirror_audit.pgwire.requests import FrontendReader
from mirror_audit.pgwire.startup import (
    MAX_STARTUP_BYTES,
    NEED_MORE,
    NOT_STARTUP,
    key_digest,
    looks_like_startup,
    parse_proxy_header,
    split_strings,
    startup_length,
)
from mirror_audit.pgwire.tls_hello import HelloReader

__all__ = ["Connection"]

STARTUP: Final = 0
AUTHENTICATION: Final = 1
READY: Final = 2
ENCRYPTED: Final = 3
FINISHED: Final = 4
UNDECODABLE: Final = 5

CLIENT: Final = 0
SERVER: Final = 1
QUIET: Final = 2

READY_FOR_QUERY: Final = b"Z\x00\x00\x00\x05"


class Connection(MessageSink):
    """Decodes one connection. See the module's docstring."""

    def __init__(
        self, listener: Listener, mid_stream: bool, max_message_bytes: i64, budget: Budget, counters: Counters
    ) -> None:
        self.listener = listener
        self.counters = counters
        self.frontend = Framer(self, CLIENT, FRONTEND_RULES, max_message_bytes, budget)
        self.backend = Framer(self, SERVER, BACKEND_RULES, max_message_bytes, budget)
        self.requests = FrontendReader(listener)
        self.replies = BackendReader(listener)
        self.phase: i64 = STARTUP
        self.mid_stream: bool = mid_stream
        # Bytes that were seen but not decoded, by direction.
        self.client_undecoded: i64 = 0
        self.server_undecoded: i64 = 0
        self.client_lost: bool = False
        self.server_lost: bool = False
        self.server_may_resume: bool = False
        # ReadyForQuery messages that must come before the client can be at a boundary again.
        self.ready_wanted: i64 = 0
        self.server_idle: bool = False  # the last thing the server said was ReadyForQuery
        self.tail = b""  # the last bytes of a lost server direction
        self.tail_ends_at: i64 = -1
        self.opening: BytesWriter | None = None
        self.opening_size: i64 = 0
        self.answer_wanted: bool = False  # the next server byte answers an SSLRequest or GSSENCRequest
        self.gssapi: bool = False
        self.proxy_possible: bool = True
        self.assumed_startup: bool = False
        self.client_hello: HelloReader | None = None
        self.server_hello: HelloReader | None = None

    # -- bytes in -------------------------------------------------------------------------------------------------

    def data(
        self, direction: i64, buf: bytes, start: i64, end: i64, offset: i64, time: i64, boundary: i64
    ) -> None:
        """See `packet.streams.StreamListener.data`."""
        phase: i64 = self.phase
        if phase == READY or phase == AUTHENTICATION:
            if self.client_lost or self.server_lost:
                if boundary != 0:
                    self._turn(direction, boundary, offset)
            if direction == CLIENT:
                if self.client_lost:
                    self.client_undecoded += end - start
                    if self.ready_wanted < 1:
                        # Whatever this is, the server has not answered it yet.
                        self.ready_wanted = 1
                else:
                    self.frontend.feed(buf, start, end, offset, time)
            elif self.server_lost:
                self.server_undecoded += end - start
                self._keep_tail(buf, start, end, offset)
            else:
                self.backend.feed(buf, start, end, offset, time)
                if self.listener.out_of_step:
                    self._out_of_step(offset + end - start)
            return
        if phase == STARTUP:
            if direction == CLIENT:
                self._client_opening(buf, start, end, offset, time)
            else:
                self._server_opening(buf, start, end, offset, time)
            return
        if phase == ENCRYPTED:
            self._encrypted_bytes(direction, buf, start, end, time)
            return
        if direction == CLIENT:
            self.client_undecoded += end - start
        else:
            self.server_undecoded += end - start

    def gap(self, direction: i64, offset: i64, length: i64, time: i64) -> None:
        """`length` bytes of a direction, from `offset` on, are lost."""
        self.listener.time = time
        self.listener.message_time = time
        self.listener.message_offset = offset
        self.listener.message_end = offset + length
        phase: i64 = self.phase
        if phase == STARTUP:
            self._gap_in_startup(direction, length)
            return
        if phase != READY and phase != AUTHENTICATION:
            return
        if direction == CLIENT:
            if not self.client_lost and not self.frontend.gap(length):
                self._lose_client(b"bytes_lost")
            elif self.client_lost and self.ready_wanted < 1:
                # What the hole held wants an answer, too.
                self.ready_wanted = 1
        else:
            self.tail = b""
            self.tail_ends_at = -1
            if not self.server_lost and not self.backend.gap(length):
                self._lose_server(b"bytes_lost")
            self._after_backend()

    def finish(self) -> None:
        """The connection is over: let go of what is buffered."""
        self.frontend.reset()
        self.backend.reset()
        self.opening = None

    def flush_counts(self) -> None:
        """Tell the listener of rows and COPY data that were counted so far."""
        listener = self.listener
        framer = self.backend
        if framer.rows != 0:
            rows: i64 = framer.rows
            framer.rows = 0
            listener.data_rows(rows, framer.first_row_time)
        if framer.copy_rows != 0:
            rows = framer.copy_rows
            framer.copy_rows = 0
            octets: i64 = framer.copy_bytes
            framer.copy_bytes = 0
            listener.copy_data(False, rows, octets)
        framer = self.frontend
        if framer.copy_rows != 0:
            rows = framer.copy_rows
            framer.copy_rows = 0
            octets = framer.copy_bytes
            framer.copy_bytes = 0
            listener.copy_data(True, rows, octets)

    def trust_first_segment(self) -> None:
        """Take the first bytes of a capture that joins in the middle for the start of a message."""
        self.phase = READY

    # -- messages ----------------------------------------------------------------------------------------------------

    def message(self, direction: i64, kind: i64, buf: bytes, start: i64, end: i64, missing: i64) -> None:
        """See `MessageSink.message`."""
        listener = self.listener
        if direction == CLIENT:
            framer = self.frontend
            if framer.copy_rows != 0:
                self.flush_counts()
            listener.message_offset = framer.message_offset
            listener.message_end = framer.message_end
            listener.message_time = framer.message_time
            listener.time = framer.time
            if missing > 0:
                self.counters.damaged_messages += 1
            if not self.requests.read(kind, buf, start, end, missing):
                self.counters.malformed_messages += 1
                listener.malformed(CLIENT, kind)
            return
        framer = self.backend
        if framer.rows != 0 or framer.copy_rows != 0:
            self.flush_counts()
        listener.message_offset = framer.message_offset
        listener.message_end = framer.message_end
        listener.message_time = framer.message_time
        listener.time = framer.time
        if missing > 0:
            self.counters.damaged_messages += 1
            if not self.replies.read_damaged(kind, buf, start, end):
                listener.damaged(SERVER, kind, missing)
        elif not self.replies.read(kind, buf, start, end):
            self.counters.malformed_messages += 1
            listener.malformed(SERVER, kind)
        if self.replies.sasl:
            self.replies.sasl = False
            self.requests.sasl = True
        if kind == 0x5A:
            self.server_idle = True
            if self.ready_wanted > 0:
                self.ready_wanted -= 1
            if self.phase == AUTHENTICATION:
                self.phase = READY
        elif kind != 0x4E and kind != 0x41 and kind != 0x53:
            self.server_idle = False
        if listener.out_of_step:
            framer.stopped = True

    def framing_broken(self, direction: i64, kind: i64, length: i64) -> None:
        """See `MessageSink.framing_broken`."""
        framer = self.frontend if direction == CLIENT else self.backend
        listener = self.listener
        listener.message_offset = framer.message_offset
        listener.message_end = framer.message_offset
        listener.message_time = framer.message_time
        listener.time = framer.time
        if direction == CLIENT:
            self._lose_client(b"impossible_length")
        else:
            self._lose_server(b"impossible_length")

    def _after_backend(self) -> None:
        if self.listener.out_of_step:
            self._out_of_step(self.backend.message_end)

    # -- losing and finding message boundaries -------------------------------------------------------------------------

    def _lose_client(self, reason: bytes) -> None:
        self.client_lost = True
        self.frontend.stopped = True
        self.ready_wanted = self.listener.outstanding_ready + 1
        self.counters.desynchronised += 1
        self.flush_counts()
        self.listener.lost(CLIENT, reason)

    def _lose_server(self, reason: bytes) -> None:
        self.server_lost = True
        self.server_may_resume = False
        self.server_idle = False
        self.backend.stopped = True
        self.tail = b""
        self.tail_ends_at = -1
        self.counters.desynchronised += 1
        self.flush_counts()
        self.listener.lost(SERVER, reason)

    def _out_of_step(self, offset: i64) -> None:
        """A reply did not fit: what was read since the last certain point is not what we took it for."""
        self.listener.out_of_step = False
        self.counters.resync_rejected += 1
        self.listener.rejected()
        if not self.client_lost:
            self._lose_client(b"reply_does_not_fit")
        if not self.server_lost:
            self._lose_server(b"reply_does_not_fit")
        self.ready_wanted = 0

    def _keep_tail(self, buf: bytes, start: i64, end: i64, offset: i64) -> None:
        """Remember the last six bytes, so that a turn can ask whether they were a ReadyForQuery."""
        size: i64 = end - start
        if size >= 6:
            self.tail = buf[end - 6 : end]
        else:
            tail = self.tail if self.tail_ends_at == offset else b""
            tail = tail + buf[start:end]
            self.tail = tail[-6:]
        self.tail_ends_at = offset + size

    def _turn(self, direction: i64, boundary: i64, offset: i64) -> None:
        """A segment that begins a turn came while a direction is lost."""
        if direction == SERVER:
            if self.server_lost and self.server_may_resume:
                self.server_may_resume = False
                self.server_lost = False
                self.backend.reset()
            return
        if self.listener.pipelined and boundary != QUIET:
            return
        if self.server_lost:
            if len(self.tail) > 0 and not self._tail_is_ready():
                return
        elif not self.server_idle or not self.backend.at_boundary():
            return
        if self.client_lost:
            if not self.server_lost and self.ready_wanted > 0:
                return
        elif not self.frontend.at_boundary():
            return
        client: bool = self.client_lost
        server: bool = self.server_lost
        if client:
            self.client_lost = False
            self.frontend.reset()
        if server:
            self.server_may_resume = True
        self.listener.message_offset = offset
        self.listener.resumed(client, server)

    def _tail_is_ready(self) -> bool:
        if len(self.tail) != 6 or self.tail[:5] != READY_FOR_QUERY:
            return False
        status: i64 = self.tail[5]
        return status == 0x49 or status == 0x54 or status == 0x45

    def _gap_in_startup(self, direction: i64, length: i64) -> None:
        """Bytes of the opening are lost: what can still be told of the session?"""
        if self.mid_stream or self.opening is not None or direction == SERVER:
            self._join()
        elif length == 8 and not self.answer_wanted:
            # Only an SSLRequest or a GSSENCRequest is that short, and a client sends nothing before its answer.
            self.answer_wanted = True
        else:
            # The StartupMessage is gone, but the server's side of the session is whole.
            self.phase = AUTHENTICATION
            self.answer_wanted = False
            self._lose_client(b"bytes_lost")

    def _join(self) -> None:
        """Go on as a session whose beginning was not seen."""
        opening = self.opening
        if opening is not None:
            self.client_undecoded += self.opening_size
            self.opening = None
        self.phase = READY
        self.answer_wanted = False
        self._lose_client(b"joined_mid_stream")
        self._lose_server(b"joined_mid_stream")
        self.ready_wanted = 0

    # -- before the session ----------------------------------------------------------------------------------------------

    def _client_opening(self, buf: bytes, start: i64, end: i64, offset: i64, time: i64) -> None:
        listener = self.listener
        opening = self.opening
        if opening is None:
            if self.mid_stream and not self.assumed_startup:
                if not looks_like_startup(buf[start:end]):
                    self._join()
                    self.client_undecoded += end - start
                    return
                self.assumed_startup = True
            opening = BytesWriter()
            self.opening = opening
            self.opening_size = 0
            listener.message_offset = offset
            listener.message_time = time
        opening.write(buf[start:end])
        self.opening_size += end - start
        data = opening.getvalue()
        listener.time = time
        while len(data) > 0 and self.phase == STARTUP:
            if self.proxy_possible:
                header = parse_proxy_header(data)
                if header is None:
                    return
                self.proxy_possible = False
                if header.length > 0:
                    if len(header.address) > 0:
                        listener.proxy_header(header.address, header.port)
                    data = data[header.length :]
                    listener.message_offset += header.length
                    self._restart_opening(data)
                    continue
            if data[0] == 0x16:
                self._begin_encryption(not self.answer_wanted)
                self._encrypted_bytes(CLIENT, data, 0, len(data), time)
                return
            length: i64 = startup_length(data)
            if length == NOT_STARTUP:
                self._undecodable(CLIENT, b"not_postgresql", len(data))
                return
            if length == NEED_MORE or length > len(data):
                return
            listener.message_end = listener.message_offset + length
            self._startup_packet(data[:length])
            data = data[length:]
            rest: i64 = listener.message_end
            if self.phase == STARTUP:
                listener.message_offset = rest
                self._restart_opening(data)
            elif self.phase == AUTHENTICATION and len(data) > 0:
                self.opening = None
                self.frontend.feed(data, 0, len(data), rest, time)
                return
        if len(data) == 0 or self.phase != STARTUP:
            self.opening = None

    def _restart_opening(self, data: bytes) -> None:
        opening = BytesWriter()
        opening.write(data)
        self.opening = opening
        self.opening_size = len(data)

    def _startup_packet(self, packet: bytes) -> None:
        """StartupMessage, SSLRequest, GSSENCRequest or CancelRequest."""
        listener = self.listener
        if len(packet) < 8:
            self._undecodable(CLIENT, b"not_postgresql", len(packet))
            return
        code: i64 = u32_at(packet, 4)
        if code == SSL_REQUEST or code == GSSENC_REQUEST:
            self.gssapi = code == GSSENC_REQUEST
            self.answer_wanted = True
            listener.encryption_requested(self.gssapi)
        elif code == CANCEL_REQUEST:
            if len(packet) < 12:
                self._undecodable(CLIENT, b"malformed_cancel_request", len(packet))
                return
            process: i64 = i32_at(packet, 8)
            self.phase = FINISHED
            listener.cancel_request(process, key_digest(process, packet[12:]))
        elif code >> 16 == 3:
            parameters = split_strings(packet[8:])
            if parameters is None:
                self._undecodable(CLIENT, b"malformed_startup", len(packet))
                return
            self.phase = AUTHENTICATION
            self.answer_wanted = False
            listener.startup_message(3, code & 0xFFFF, parameters)
        elif code >> 16 == 2:
            self._undecodable(CLIENT, b"protocol_2", len(packet))
        else:
            self._undecodable(CLIENT, b"not_postgresql", len(packet))

    def _server_opening(self, buf: bytes, start: i64, end: i64, offset: i64, time: i64) -> None:
        listener = self.listener
        if self.answer_wanted and end > start:
            answer: i64 = buf[start]
            listener.message_time = time
            listener.time = time
            listener.message_offset = offset
            accepted: bool = answer == 0x53 or answer == 0x47
            if accepted or answer == 0x4E:
                self.answer_wanted = False
                listener.encryption_answered(accepted)
                if accepted:
                    self._begin_encryption(False)
                    if end - start > 1:
                        self._encrypted_bytes(SERVER, buf, start + 1, end, time)
                elif end - start > 1:
                    self._undecodable(SERVER, b"server_spoke_first", end - start - 1)
                return
            if answer == 0x45:
                # The server refuses with an ErrorResponse, or is too old to know the request.
                self.answer_wanted = False
                self.phase = AUTHENTICATION
                self.backend.feed(buf, start, end, offset, time)
                return
            self._undecodable(SERVER, b"not_postgresql", end - start)
            return
        if self.mid_stream:
            self._join()
            self.server_undecoded += end - start
            self._keep_tail(buf, start, end, offset)
            return
        if buf[start] == 0x45:
            # "sorry, too many clients already" comes before anything was asked.
            self.phase = AUTHENTICATION
            self.backend.feed(buf, start, end, offset, time)
            return
        listener.message_time = time
        listener.time = time
        listener.message_offset = offset
        self._undecodable(SERVER, b"server_spoke_first", end - start)

    def _begin_encryption(self, direct: bool) -> None:
        self.phase = ENCRYPTED
        self.opening = None
        self.listener.encrypted(direct)
        if not self.gssapi:
            self.client_hello = HelloReader()
            self.server_hello = HelloReader()

    def _encrypted_bytes(self, direction: i64, buf: bytes, start: i64, end: i64, time: i64) -> None:
        hello = self.client_hello
        if direction == CLIENT:
            self.client_undecoded += end - start
        else:
            self.server_undecoded += end - start
            hello = self.server_hello
        if hello is None:
            return
        hello.feed(buf[start:end])
        if not hello.done:
            return
        listener = self.listener
        listener.time = time
        listener.message_time = time
        if direction == CLIENT:
            self.client_hello = None
            if hello.found:
                listener.tls_client_hello(hello.server_name, hello.alpn)
        else:
            self.server_hello = None
            if hello.found:
                listener.tls_server_hello(hello.version, hello.cipher, hello.alpn)

    def _undecodable(self, direction: i64, reason: bytes, octets: i64) -> None:
        self.phase = UNDECODABLE
        self.opening = None
        if direction == CLIENT:
            self.client_undecoded += octets
        else:
            self.server_undecoded += octets
        self.counters.undecodable_streams += 1
        self.listener.undecodable(direction, reason)


# The opening is bounded because no startup packet that is longer is accepted.
assert MAX_STARTUP_BYTES < u16_at(b"\xff\xff", 0)
