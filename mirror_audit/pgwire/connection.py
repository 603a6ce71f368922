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

from mypy_extensions import i64

from mirror_audit.counters import Budget, Counters
from mirror_audit.pgwire.backend import BackendReader
from mirror_audit.pgwire.frontend import FrontendReader
from mirror_audit.pgwire.listener import Listener
from mirror_audit.pgwire.opening import AUTHENTICATION, CLIENT, ENCRYPTED, READY, SERVER, STARTUP, Opening

__all__ = ["Connection"]

HEADER: Final = 5  # type byte and length
QUIET: Final = 2  # BOUNDARY_QUIET of packet.streams
READY_FOR_QUERY: Final = b"Z\x00\x00\x00\x05"


class Connection(Opening):
    """Decodes one connection. See the module's docstring."""

    def __init__(
        self, listener: Listener, mid_stream: bool, max_message_bytes: i64, budget: Budget, counters: Counters
    ) -> None:
        super().__init__(listener, mid_stream, max_message_bytes, budget, counters)
        self.requests = FrontendReader(listener)
        self.replies = BackendReader(listener)
        self.client_lost: bool = False
        self.server_lost: bool = False
        self.server_may_resume: bool = False
        # ReadyForQuery messages that must come before the client can be at a boundary again.
        self.ready_wanted: i64 = 0
        self.server_idle: bool = False  # the last thing the server said was ReadyForQuery
        self.tail = b""  # the last bytes of a lost server direction
        self.tail_ends_at: i64 = -1

    # -- bytes in ---------------------------------------------------------------------------------------

    def data(
        self, direction: i64, buf: bytes, start: i64, end: i64, offset: i64, time: i64, boundary: i64
    ) -> None:
        """See `packet.streams.StreamListener.data`."""
        phase: i64 = self.phase
        if phase == READY or phase == AUTHENTICATION:
            if boundary != 0 and (self.client_lost or self.server_lost):
                self._turn(direction, boundary, offset)
            if direction == CLIENT:
                if self.client_lost:
                    self.client_undecoded += end - start
                    if self.ready_wanted < 1:
                        # Whatever this is, the server has not answered it yet.
                        self.ready_wanted = 1
                else:
                    self.frontend.feed(buf, start, end, offset, time)
                    if self.client_lost:
                        # Its framing broke at a header; what is behind that was not read.
                        self.client_undecoded += offset + end - start - self.frontend.message_offset - HEADER
            elif self.server_lost:
                self.server_undecoded += end - start
                self.keep_tail(buf, start, end, offset)
            elif phase == AUTHENTICATION and self.answer_wanted and end > start:
                self._late_answer(buf, start, end, offset, time)
            else:
                self.backend.feed(buf, start, end, offset, time)
                if self.listener.out_of_step:
                    self.server_undecoded += offset + end - start - self.backend.message_end
                    self._out_of_step(offset + end - start)
                elif self.server_lost:
                    read: i64 = self.backend.message_end
                    if read <= self.backend.message_offset:
                        read = self.backend.message_offset + HEADER  # it broke at this header
                    self.server_undecoded += offset + end - start - read
            return
        if phase == STARTUP:
            if direction == CLIENT:
                self.client_opening(buf, start, end, offset, time)
            else:
                self.server_opening(buf, start, end, offset, time)
            return
        if phase == ENCRYPTED:
            self.encrypted_bytes(direction, buf, start, end, time)
            return
        if direction == CLIENT:
            self.client_undecoded += end - start
        else:
            self.server_undecoded += end - start

    def _late_answer(self, buf: bytes, start: i64, end: i64, offset: i64, time: i64) -> None:
        """The server's first bytes, if the client sent its StartupMessage right behind an SSLRequest."""
        if self.server_answer(buf[start], offset, time):
            start += 1
            offset += 1
        self.answer_wanted = False
        if end > start:
            self.data(SERVER, buf, start, end, offset, time, 0)

    def gap(self, direction: i64, offset: i64, length: i64, time: i64) -> None:
        """`length` bytes of a direction, from `offset` on, are lost."""
        self.listener.time = time
        self.listener.message_time = time
        self.listener.message_offset = offset
        self.listener.message_end = offset + length
        phase: i64 = self.phase
        if phase == STARTUP:
            self.gap_in_startup(direction, length)
            return
        if phase == ENCRYPTED:
            self.lose_hello(direction)
            return
        if phase != READY and phase != AUTHENTICATION:
            return
        if direction == SERVER and phase == AUTHENTICATION:
            self.answer_wanted = False
        if direction == CLIENT:
            if not self.client_lost and not self.frontend.gap(length):
                self.lose_client(b"bytes_lost")
            elif self.client_lost and self.ready_wanted < 1:
                # What the hole held wants an answer, too.
                self.ready_wanted = 1
        else:
            self.tail = b""
            self.tail_ends_at = -1
            if self.server_may_resume or (not self.server_lost and not self.backend.gap(length)):
                # If it was about to resume, the answer that would have confirmed it is what was lost.
                self._lose_server(b"bytes_lost")
            self._after_backend()

    def finish(self) -> None:
        """The connection is over: let go of what is buffered."""
        self.frontend.close()
        self.backend.close()
        self.opening = None

    def flush_counts(self) -> None:
        """Tell the listener of rows and COPY data that were counted so far."""
        listener = self.listener
        framer = self.backend
        if framer.rows != 0 or framer.copy_rows != 0:
            self.server_idle = False
        if framer.rows != 0:
            rows: i64 = framer.rows
            framer.rows = 0
            offset: i64 = listener.message_offset
            time: i64 = listener.message_time
            listener.message_offset = framer.first_row_offset
            listener.message_time = framer.first_row_time
            listener.data_rows(rows, framer.first_row_time)
            listener.message_offset = offset
            listener.message_time = time
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

    # -- messages ---------------------------------------------------------------------------------------

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
                if missing > 0:
                    listener.damaged(CLIENT, kind, missing)
                else:
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
            listener.damaged(SERVER, kind, missing)
            if kind == 0x5A:
                self._lose_server(b"bytes_lost")  # the status was all that it said
                return
            self.replies.read_damaged(kind, buf, start, end)
        elif not self.replies.read(kind, buf, start, end):
            self.counters.malformed_messages += 1
            listener.malformed(SERVER, kind)
        if len(self.replies.mechanisms) > 0:
            self.requests.mechanisms = self.replies.mechanisms
            self.replies.mechanisms = b""
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
            self.lose_client(b"impossible_length")
        else:
            self._lose_server(b"impossible_length")

    def _after_backend(self) -> None:
        if self.listener.out_of_step:
            self._out_of_step(self.backend.message_end)

    # -- losing and finding message boundaries ----------------------------------------------------------

    def lose_client(self, reason: bytes) -> None:
        """See `Opening`."""
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
            self.lose_client(b"reply_does_not_fit")
        if not self.server_lost:
            self._lose_server(b"reply_does_not_fit")
        self.ready_wanted = 0

    def keep_tail(self, buf: bytes, start: i64, end: i64, offset: i64) -> None:
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
        self.server_may_resume = False  # the answer to an earlier turn did not come
        if self.listener.pipelined and boundary != QUIET:
            return
        self.flush_counts()
        if self.server_lost:
            # Nothing seen behind a hole will do if the client was never lost; else the order in which the two
            # sides spoke is a guess.
            if (len(self.tail) > 0 or self.client_lost) and not self._tail_is_ready():
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
        self.listener.status_before = self.tail[5] if server and len(self.tail) == 6 else 0
        self.listener.resumed(client, server)

    def _tail_is_ready(self) -> bool:
        if len(self.tail) != 6 or self.tail[:5] != READY_FOR_QUERY:
            return False
        status: i64 = self.tail[5]
        return status == 0x49 or status == 0x54 or status == 0x45

    def join(self) -> None:
        """Go on as a session whose beginning was not seen."""
        opening = self.opening
        if opening is not None:
            self.client_undecoded += self.opening_size
            self.opening = None
        self.phase = READY
        self.answer_wanted = False
        self.lose_client(b"joined_mid_stream")
        self._lose_server(b"joined_mid_stream")
        self.ready_wanted = 0
