"""The beginning of a connection: PROXY header, encryption request, startup packet, and TLS as far as it is in
clear.

`Connection` adds the session behind it. What begins like nothing that PostgreSQL knows is undecodable; what
begins with encryption is counted and not decoded.
"""

from typing import Final

from librt.strings import BytesWriter
from mypy_extensions import i64

from mirror_audit.counters import Budget, Counters
from mirror_audit.octets import i32_at, u32_at
from mirror_audit.pgwire.framing import Framer, MessageSink
from mirror_audit.pgwire.listener import Listener
from mirror_audit.pgwire.messages import (
    BACKEND_RULES,
    CANCEL_REQUEST,
    FRONTEND_RULES,
    GSSENC_REQUEST,
    SSL_REQUEST,
)
from mirror_audit.pgwire.startup import (
    NEED_MORE,
    NOT_STARTUP,
    key_digest,
    looks_like_startup,
    parse_proxy_header,
    split_strings,
    startup_length,
)
from mirror_audit.pgwire.tls_hello import HelloReader

__all__ = [
    "AUTHENTICATION",
    "CLIENT",
    "ENCRYPTED",
    "FINISHED",
    "READY",
    "SERVER",
    "STARTUP",
    "UNDECODABLE",
    "Opening",
]

# The phases of a connection.
STARTUP: Final = 0
AUTHENTICATION: Final = 1
READY: Final = 2
ENCRYPTED: Final = 3
FINISHED: Final = 4
UNDECODABLE: Final = 5

CLIENT: Final = 0
SERVER: Final = 1


class Opening(MessageSink):
    """Everything up to the startup packet."""

    def __init__(
        self, listener: Listener, mid_stream: bool, max_message_bytes: i64, budget: Budget, counters: Counters
    ) -> None:
        self.listener = listener
        self.counters = counters
        self.frontend = Framer(self, CLIENT, FRONTEND_RULES, max_message_bytes, budget)
        self.backend = Framer(self, SERVER, BACKEND_RULES, max_message_bytes, budget)
        self.phase: i64 = STARTUP
        self.mid_stream: bool = mid_stream
        # Bytes that were seen but not decoded, by direction.
        self.client_undecoded: i64 = 0
        self.server_undecoded: i64 = 0
        self.opening: BytesWriter | None = None
        self.opening_size: i64 = 0
        self.answer_wanted: bool = False  # the next server byte answers an SSLRequest or GSSENCRequest
        self.requested: bool = False  # there was an SSLRequest or GSSENCRequest
        self.gssapi: bool = False
        self.proxy_possible: bool = True
        self.assumed_startup: bool = False
        self.client_hello: HelloReader | None = None
        self.server_hello: HelloReader | None = None

    # -- of the session behind it -----------------------------------------------------------------------

    def lose_client(self, reason: bytes) -> None:
        """The client's message boundaries are not known any more."""
        raise NotImplementedError

    def join(self) -> None:
        """Go on as a session whose beginning was not seen."""
        raise NotImplementedError

    def keep_tail(self, buf: bytes, start: i64, end: i64, offset: i64) -> None:
        """The server sent this while its message boundaries were not known."""
        raise NotImplementedError

    # -- bytes ------------------------------------------------------------------------------------------

    def client_opening(self, buf: bytes, start: i64, end: i64, offset: i64, time: i64) -> None:
        """Bytes of the client in the phase STARTUP."""
        listener = self.listener
        opening = self.opening
        if opening is None:
            if self.mid_stream and not self.assumed_startup:
                if not looks_like_startup(buf[start:end]):
                    self.join()
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
                self.gssapi = False
                self._begin_encryption(not self.requested)
                self.encrypted_bytes(CLIENT, data, 0, len(data), time)
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
            elif self.phase == FINISHED or self.phase == UNDECODABLE:
                self.client_undecoded += len(data)
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
            self.requested = True
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
            # A client that does not wait gets the answer to its SSLRequest now.
            self.phase = AUTHENTICATION
            listener.startup_message(3, code & 0xFFFF, parameters)
        elif code >> 16 == 2:
            self._undecodable(CLIENT, b"protocol_2", len(packet))
        else:
            self._undecodable(CLIENT, b"not_postgresql", len(packet))

    def server_opening(self, buf: bytes, start: i64, end: i64, offset: i64, time: i64) -> None:
        """Bytes of the server in the phase STARTUP."""
        listener = self.listener
        if end <= start:
            return
        if self.answer_wanted:
            answer: i64 = buf[start]
            if self.server_answer(answer, offset, time):
                if self.phase == ENCRYPTED:
                    if end - start > 1:
                        self.encrypted_bytes(SERVER, buf, start + 1, end, time)
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
            self.join()
            self.server_undecoded += end - start
            self.keep_tail(buf, start, end, offset)
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

    def server_answer(self, answer: i64, offset: i64, time: i64) -> bool:
        """The server's byte after an SSLRequest or GSSENCRequest. False if it is no answer to that."""
        if answer != 0x53 and answer != 0x47 and answer != 0x4E:
            return False
        listener = self.listener
        listener.message_time = time
        listener.time = time
        listener.message_offset = offset
        self.answer_wanted = False
        accepted: bool = answer != 0x4E
        if accepted and self.gssapi != (answer == 0x47):
            # The request itself was lost.
            self.gssapi = answer == 0x47
            listener.encryption_requested(self.gssapi)
        listener.encryption_answered(accepted)
        if accepted:
            self._begin_encryption(False)
        return True

    def _begin_encryption(self, direct: bool) -> None:
        self.phase = ENCRYPTED
        self.opening = None
        self.listener.encrypted(direct)
        if not self.gssapi:
            self.client_hello = HelloReader()
            self.server_hello = HelloReader()

    def encrypted_bytes(self, direction: i64, buf: bytes, start: i64, end: i64, time: i64) -> None:
        """Bytes of either side in the phase ENCRYPTED."""
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

    def lose_hello(self, direction: i64) -> None:
        """Bytes of an encrypted direction are lost: what is left of its handshake cannot be read."""
        if direction == CLIENT:
            self.client_hello = None
        else:
            self.server_hello = None

    def _undecodable(self, direction: i64, reason: bytes, octets: i64) -> None:
        self.phase = UNDECODABLE
        self.opening = None
        if direction == CLIENT:
            self.client_undecoded += octets
        else:
            self.server_undecoded += octets
        self.listener.undecodable(direction, reason)

    def gap_in_startup(self, direction: i64, length: i64) -> None:
        """Bytes of the opening are lost: what can still be told of the session?"""
        if direction == SERVER and length == 1 and self.answer_wanted:
            self.answer_wanted = False  # what the client sends next shows what the answer was
        elif self.mid_stream or direction == SERVER:
            self.join()
        elif length == 8 and not self.answer_wanted and self.opening is None:
            # Only an SSLRequest or a GSSENCRequest is that short, and a client sends nothing before its
            # answer.
            self.answer_wanted = True
            self.requested = True
        else:
            # The StartupMessage is gone, but the server's side of the session is whole.
            self.phase = AUTHENTICATION
            self.answer_wanted = False
            if self.opening is not None:
                self.client_undecoded += self.opening_size
                self.opening = None
            self.lose_client(b"bytes_lost")
