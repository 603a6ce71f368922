"""Match the server's replies with the client's requests, and so find out which statements ran.

The server answers in the order of the requests, so one queue is all it takes. Names are resolved when the
server gets to a request, not when the client sends it: a prepared statement counts from its ParseComplete on,
a portal from its BindComplete on. A reply that cannot belong to the request at the head of the queue means
that our view is wrong; then `out_of_step` is set and the connection looks for solid ground.
"""

from typing import Final

from mypy_extensions import i64

from mirror_audit.audit.analysis import Analysis
from mirror_audit.audit.requests import NEARBY, Requests
from mirror_audit.audit.statement import (
    BIND,
    CLOSE_PORTAL,
    CLOSE_STATEMENT,
    COPY_BOTH,
    COPY_END,
    COPY_IN,
    COPY_OUT,
    DESCRIBE_PORTAL,
    DESCRIBE_STATEMENT,
    EXECUTE,
    FUNCTION_CALL,
    OUTCOME_ERROR,
    OUTCOME_OK,
    OUTCOME_SKIPPED,
    OUTCOME_SUSPENDED,
    OUTCOME_UNKNOWN,
    PARSE,
    PROTOCOL_FUNCTION_CALL,
    PROTOCOL_SIMPLE,
    QUERY,
    REASON_NAME_UNPROVEN,
    REASON_PORTAL_NOT_SEEN,
    REASON_REPLY_NOT_SEEN,
    REASON_REQUEST_NOT_SEEN,
    REASON_STATEMENT_NOT_SEEN,
    REASON_SURPLUS_RESULT,
    SYNC,
    Portal,
    Prepared,
    Request,
    Statement,
)

__all__ = ["Replies"]

# The tags of statements that may change settings or names; a SELECT may call set_config.
_MAY_SET: Final = (b"SET", b"RESET", b"DISCARD", b"PREPARE", b"DEALLOCATE", b"SELECT")

# How far into a text a SET client_encoding or SET NAMES is looked for.
MAX_SET_BYTES: Final = 4096


class Replies(Requests):
    """The replies to the requests of one session, as long as nothing fails."""

    # -- hooks of the session -----------------------------------------------------------------------------

    def transaction_status(self, status: i64) -> None:
        """ReadyForQuery: `finished` holds the statements that ended since the last one."""
        raise NotImplementedError

    def finish_early(self) -> None:
        """`finished` is full: let go of it."""
        raise NotImplementedError

    def skip_to_sync(self) -> None:
        """The server reads and ignores requests up to the next Sync."""
        raise NotImplementedError

    # -- what can come at any time ----------------------------------------------------------------------

    def notice_response(self, buf: bytes, start: i64, end: i64) -> None:
        self.asynchronous()

    def notification_response(self, process_id: i64, channel: bytes) -> None:
        self.asynchronous()

    def asynchronous(self) -> None:
        """After a message that no statement runs in: what comes next is no part of its answer."""
        if self.first >= len(self.queue) and self.orphan is None:
            self.server_mark = self.message_end  # no statement's answer

    # -- replies ----------------------------------------------------------------------------------------

    def _mismatch(self) -> None:
        """A reply does not belong to the head of the queue."""
        if self.client_lost:
            # What it belongs to was among the lost bytes; so were the ends of what is still in the queue.
            self.abandon(REASON_REPLY_NOT_SEEN)
        else:
            self.out_of_step = True

    def parse_complete(self) -> None:
        request = self.head()
        if request is None or request.kind != PARSE:
            if request is not None or (self.open and not self.client_lost):
                self._mismatch()
            return
        self._pop()
        prepared = request.prepared
        if prepared is not None:
            self.remember(prepared)
        self.asynchronous()

    def bind_complete(self) -> None:
        request = self.head()
        if request is None or request.kind != BIND:
            if request is not None or (self.open and not self.client_lost):
                self._mismatch()
            return
        self._pop()
        portal = request.portal
        if portal is None:
            return
        portal.prepared = self.prepared.get(portal.statement_name)
        self.keep_portal(portal)

    def close_complete(self) -> None:
        request = self.head()
        if request is None or (request.kind != CLOSE_STATEMENT and request.kind != CLOSE_PORTAL):
            if request is not None or (self.open and not self.client_lost):
                self._mismatch()
            return
        self._pop()
        if request.kind == CLOSE_STATEMENT:
            self.prepared.pop(request.name, None)
        else:
            self.portals.pop(request.name, None)
        self.asynchronous()

    def parameter_description(self, oids: bytes) -> None:
        request = self.head()
        if request is None or request.kind != DESCRIBE_STATEMENT:
            if request is not None or (self.open and not self.client_lost):
                self._mismatch()
            return
        prepared = self.prepared.get(request.name)
        if prepared is not None:
            prepared.oids = oids

    def row_description(self) -> None:
        request = self.head()
        if request is None:
            if self.open and not self.client_lost:
                self._mismatch()
            return
        kind: i64 = request.kind
        if kind == DESCRIBE_STATEMENT or kind == DESCRIBE_PORTAL:
            self._pop()
            self.asynchronous()
        elif kind == QUERY:
            self._started(request.statement)
        else:
            self._mismatch()

    def no_data(self) -> None:
        request = self.head()
        if request is None:
            if self.open and not self.client_lost:
                self._mismatch()
        elif request.kind == DESCRIBE_STATEMENT or request.kind == DESCRIBE_PORTAL:
            self._pop()
            self.asynchronous()
        else:
            self._mismatch()

    def _running(self) -> Statement | None:
        """The statement that a result belongs to; None if it cannot belong to anything."""
        request = self.head()
        if request is not None:
            kind: i64 = request.kind
            if kind == EXECUTE or kind == QUERY or kind == FUNCTION_CALL:
                statement = request.statement
                if statement is None and kind == QUERY:
                    statement = self._reopened(request)
                if statement is not None:
                    self._started(statement)
                    if kind == EXECUTE and statement.prepared is None:
                        self._resolve(request, statement)
                return statement
            self._mismatch()
            if self.out_of_step:
                return None
        elif self.open and not self.client_lost:
            self._mismatch()
            return None
        if not self.open:
            return None
        orphan = self.orphan
        if orphan is None:
            orphan = Statement(PROTOCOL_SIMPLE, self.message_offset, self.message_time)
            orphan.from_server = True
            orphan.reasons = REASON_REQUEST_NOT_SEEN
            self.orphan = orphan
            self._started(orphan)
        return orphan

    def _reopened(self, request: Request) -> Statement | None:
        """A result behind the last CommandComplete: BASE_BACKUP of a WAL sender has several."""
        finished = self.finished
        if len(finished) == 0 or finished[len(finished) - 1].outcome != OUTCOME_OK:
            return None
        statement = finished.pop()
        if not self.walsender:
            # Then the text was split wrongly, or holds more than was understood.
            statement.reasons |= REASON_SURPLUS_RESULT
        request.statement = statement
        return statement

    def _started(self, statement: Statement | None) -> None:
        if statement is not None and not statement.started:
            statement.started = True
            statement.first_reply = self.message_time

    def _resolve(self, request: Request, statement: Statement) -> None:
        """What an Execute runs, by the names as the server knows them now."""
        portal = self.portals.get(request.name)
        statement.portal_name = request.name
        if portal is None:
            statement.reasons |= REASON_PORTAL_NOT_SEEN
            return
        self._take_portal(statement, portal)

    def _take_portal(self, statement: Statement, portal: Portal) -> None:
        statement.portal = portal
        if portal.missing > 0:
            self._mark_missing(statement, portal.missing)
        prepared = portal.prepared
        if prepared is None:
            statement.reasons |= REASON_STATEMENT_NOT_SEEN
            return
        self._take_prepared(statement, prepared)

    def _take_prepared(self, statement: Statement, prepared: Prepared) -> None:
        statement.prepared = prepared
        statement.analysis = prepared.analysis
        statement.text_length = prepared.text_length
        statement.reasons |= prepared.reasons
        statement.lost += prepared.lost
        statement.text_cut = prepared.cut
        if prepared.loss_epoch != self.loss_epoch:
            statement.reasons |= REASON_NAME_UNPROVEN

    def data_rows(self, rows: i64, first_time: i64) -> None:
        statement = self._running()
        if statement is not None:
            if statement.rows == 0 and statement.first_reply > first_time:
                statement.first_reply = first_time
            statement.rows += rows

    def copy_data(self, from_client: bool, rows: i64, octets: i64) -> None:
        statement = self.copying_statement() if from_client else self._copying_out()
        if statement is not None and (not from_client or statement.copy != COPY_BOTH):
            statement.copy_rows += rows
            statement.copy_bytes += octets
            if not from_client:
                self._started(statement)

    def _copying_out(self) -> Statement | None:
        request = self.head()
        if request is not None and request.kind == QUERY and request.statement is None:
            return self._reopened(request)
        return self.current()

    def copy_in_response(self) -> None:
        statement = self._running()
        if statement is None:
            return
        statement.copy = COPY_IN
        self.copying_in = True
        request = self.head()
        if request is None:
            return
        # Syncs that were sent before the data's end are read as COPY data and ignored. They come right behind
        # the request, for a client that copies has nothing else to send.
        at: i64 = self.first + 1
        last: i64 = at + NEARBY
        while self.copying_in and at < len(self.queue) and at < last:
            kind: i64 = self.queue[at].kind
            if kind == SYNC:
                self.outstanding_ready -= 1
                del self.queue[at]
            elif kind == COPY_END:
                self.copying_in = False
                del self.queue[at]
            else:
                at += 1

    def copy_out_response(self) -> None:
        statement = self._running()
        if statement is not None:
            statement.copy = COPY_OUT

    def copy_both_response(self) -> None:
        statement = self._running()
        if statement is not None:
            statement.copy = COPY_BOTH

    def command_complete(self, buf: bytes, start: i64, end: i64) -> None:
        statement = self._running()
        if statement is not None:
            statement.tag = buf[start:end]
            self._end(statement, OUTCOME_OK)

    def empty_query_response(self) -> None:
        statement = self._running()
        if statement is not None:
            self._end(statement, OUTCOME_OK)

    def portal_suspended(self) -> None:
        statement = self._running()
        if statement is not None:
            self._end(statement, OUTCOME_SUSPENDED)

    def function_call_response(self) -> None:
        statement = self._running()
        if statement is not None:
            self._end(statement, OUTCOME_OK)

    def _end(self, statement: Statement, outcome: i64) -> None:
        """The running statement is over."""
        self.copying_in = False
        statement.outcome = outcome
        statement.end = self.time
        statement.server_bytes += self.message_end - self.server_mark
        self.server_mark = self.message_end
        if statement is self.orphan:
            self.orphan = None
        else:
            request = self.queue[self.first]
            more = request.more
            if request.kind == EXECUTE:
                self._pop()
            elif more is not None and len(more) > 0 and outcome != OUTCOME_ERROR:
                request.statement = more.pop()
            else:
                # ReadyForQuery takes the request itself out.
                request.statement = None
        self._finish(statement)

    def _finish(self, statement: Statement) -> None:
        analysis = statement.analysis
        if (analysis is None or statement.text_cut) and self.hides_effect(statement):
            self.loss_epoch += 1
        if analysis is not None:
            if analysis.effect != 0:
                self.take_names(statement, analysis)
            if statement.outcome == OUTCOME_UNKNOWN:
                self.doubt_encoding(analysis)
        self.finished.append(statement)
        limits = self.exchange_limits
        if len(self.finished) >= limits.max_finished or self.pending_bytes > limits.max_text_bytes:
            if self.unconfirmed:
                self.out_of_step = True
            else:
                self.counters.statements_emitted_early += 1
                self.finish_early()

    def doubt_encoding(self, analysis: Analysis) -> None:
        """What a statement with this text made of client_encoding was not seen."""
        text = analysis.text[:MAX_SET_BYTES].lower()
        if text.find(b"encoding") >= 0 or text.find(b"names") >= 0:
            self.codec_unproven = True  # until a ParameterStatus tells

    def hides_effect(self, statement: Statement) -> bool:
        """Whether a statement whose text was not all seen may have changed names or settings."""
        if statement.outcome == OUTCOME_UNKNOWN:
            return True
        if statement.outcome != OUTCOME_OK or statement.protocol == PROTOCOL_FUNCTION_CALL:
            return False
        tag = statement.tag
        return len(tag) == 0 or tag.startswith(_MAY_SET)

    def ready_for_query(self, status: i64) -> None:
        if not self.open:
            # The end of the login; whatever the client sent ahead is still to be answered.
            self.open = True
            self.server_mark = self.message_end
            self.transaction_status(status)
            return
        if self.skipping:
            self.skip_to_sync()
        request = self.head()
        if request is not None:
            kind: i64 = request.kind
            if kind == QUERY or kind == FUNCTION_CALL:
                self._end_of_query(request)
            elif kind != SYNC:
                self._mismatch()
                if self.out_of_step:
                    return
            if self.first < len(self.queue):
                self._pop()
        elif not self.client_lost:
            self._mismatch()
            return
        if self.outstanding_ready > 0:
            self.outstanding_ready -= 1
        self.skipping = False
        self.orphan = None
        self.copying_in = False
        if self.first >= len(self.queue):
            self.pending_bytes = 0
            self.quoting_unproven = False
        if self.unconfirmed:
            self.unconfirmed = False
            self.unconfirmed_names = []
            if self.sent_ahead:
                self.pipelined = True
            self.counters.resynchronised += 1
        if status == 0x49:
            self.portals = {}
        if request is not None:
            self.trusting = False
        if request is not None and request.kind == QUERY:
            # A simple Query destroys the unnamed statement and portal.
            self.prepared.pop(b"", None)
            self.portals.pop(b"", None)
        self.transaction_status(status)
        self.server_mark = self.message_end

    def _end_of_query(self, request: Request) -> None:
        """Statements of a Query that had no result: not reached after an error, else we split it wrongly."""
        statement = request.statement
        failed: bool = statement is None
        if statement is not None:
            self._unanswered(statement, OUTCOME_UNKNOWN, REASON_REPLY_NOT_SEEN)
        more = request.more
        if more is not None:
            while len(more) > 0:
                item = more.pop()
                if failed:
                    self._unanswered(item, OUTCOME_SKIPPED, 0)
                else:
                    self._unanswered(item, OUTCOME_UNKNOWN, REASON_REPLY_NOT_SEEN)
        request.statement = None

    def _unanswered(self, statement: Statement, outcome: i64, reasons: i64) -> None:
        statement.outcome = outcome
        statement.reasons |= reasons
        self._finish(statement)
