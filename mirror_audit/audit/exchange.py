"""What goes wrong in a session: errors, which make the server skip requests, and losses, which make us guess
less.

After an error in the extended protocol everything up to the next Sync is skipped. After a loss, requests and
replies may have no counterpart; what is known of them is told, and said to be incomplete.
"""

from typing import Final

from mypy_extensions import i64

from mirror_audit.audit.replies import Replies
from mirror_audit.audit.requests import NEARBY
from mirror_audit.audit.statement import (
    BIND,
    CLOSE_PORTAL,
    DESCRIBE_PORTAL,
    DESCRIBE_STATEMENT,
    EXECUTE,
    FUNCTION_CALL,
    OUTCOME_ERROR,
    OUTCOME_SKIPPED,
    OUTCOME_UNKNOWN,
    PARSE,
    PROTOCOL_EXTENDED,
    QUERY,
    REASON_BYTES_LOST,
    REASON_NAME_UNPROVEN,
    REASON_PORTAL_NOT_SEEN,
    REASON_REPLY_NOT_SEEN,
    REASON_STATEMENT_NOT_SEEN,
    SYNC,
    UNSEEN_NAME,
    Portal,
    Request,
    Statement,
)

__all__ = ["Exchange"]

CLIENT: Final = 0


class Exchange(Replies):
    """The requests and replies of one session. `Session` adds who, when and the records."""

    # -- errors -----------------------------------------------------------------------------------------

    def session_error(self, buf: bytes, start: i64, end: i64) -> None:
        """An ErrorResponse that answers no statement."""
        raise NotImplementedError

    def error_fields(self, buf: bytes, start: i64, end: i64) -> dict[int, bytes]:
        """The fields of an ErrorResponse by their code."""
        raise NotImplementedError

    def error_response(self, buf: bytes, start: i64, end: i64) -> None:
        request = self.head()
        if request is None or not self.open:
            if self.client_lost and self.open:
                statement = self._running()
                if statement is not None:
                    self._take_error(statement, buf, start, end)
                    self._end(statement, OUTCOME_ERROR)
            else:
                self.session_error(buf, start, end)
            return
        kind: i64 = request.kind
        if kind == QUERY or kind == EXECUTE or kind == FUNCTION_CALL:
            statement = request.statement
            if statement is None:
                self.session_error(buf, start, end)
                return
            self._started(statement)
            if kind == EXECUTE and statement.prepared is None:
                self._resolve(request, statement)
            self._take_error(statement, buf, start, end)
            self._end(statement, OUTCOME_ERROR)
            if kind == EXECUTE:
                self.skip_to_sync()
        elif kind == SYNC:
            # The implicit transaction failed as it was committed.
            if len(self.finished) > 0:
                statement = self.finished[len(self.finished) - 1]
                statement.outcome = OUTCOME_ERROR
                self._take_error(statement, buf, start, end)
                statement.end = self.time
                statement.server_bytes += self.message_end - self.server_mark
                self.server_mark = self.message_end
            else:
                self.session_error(buf, start, end)
        else:
            statement = self._failed(request)
            self._take_error(statement, buf, start, end)
            statement.outcome = OUTCOME_ERROR
            statement.started = True
            statement.first_reply = self.message_time
            statement.end = self.time
            statement.server_bytes = self.message_end - self.server_mark
            self.server_mark = self.message_end
            self._finish(statement)
            # Further Executes of the same batch may be of what failed here.
            self.skipping = True
            self.skipped_prepared = {} if request.prepared is None else {request.name: request.prepared}
            self.skipped_portals = {} if request.portal is None else {request.name: request.portal}
            self.skip_to_sync()

    def _take_error(self, statement: Statement, buf: bytes, start: i64, end: i64) -> None:
        statement.error = self.error_fields(buf, start, end)
        if self.reply_missing > 0:
            statement.reasons |= REASON_BYTES_LOST
            self.reply_missing = 0

    def _failed(self, request: Request) -> Statement:
        """The statement that failed before it was executed; takes its requests out of the queue."""
        prepared = request.prepared
        portal = request.portal
        kind: i64 = request.kind
        portal_name: bytes | None = None
        if portal is not None:
            portal.prepared = self.prepared.get(portal.statement_name)
        elif kind == DESCRIBE_PORTAL or kind == CLOSE_PORTAL:
            portal = self.portals.get(request.name)
        elif prepared is None:
            prepared = self.prepared.get(request.name)
        if kind == BIND or kind == DESCRIBE_PORTAL or kind == CLOSE_PORTAL:
            portal_name = request.name
        if request.kind == PARSE and len(request.name) == 0:
            # A new unnamed statement takes the place of the old one even if it fails.
            self.prepared.pop(b"", None)
        # The Execute that was to run it gives it its place, if there is one.
        statement: Statement | None = None
        at: i64 = self.first + 1
        while at < len(self.queue) and self.queue[at].kind != SYNC:
            item = self.queue[at]
            bound = item.portal
            if bound is not None and portal_name is None and bound.statement_name == request.name:
                portal = bound
                portal_name = item.name
            elif (bound is not None and item.name == portal_name) or (
                item.kind == PARSE and portal_name is None and item.name == request.name
            ):
                break  # the name means something else from here on
            elif (
                item.kind == EXECUTE
                and item.statement is not None
                and (item.name == portal_name or item.name == UNSEEN_NAME)
            ):
                statement = item.statement
                statement.portal_name = item.name
                item.statement = None
                break
            at += 1
        if statement is None:
            statement = Statement(PROTOCOL_EXTENDED, request.offset, request.time)
            while at < len(self.queue) and self.queue[at].kind != SYNC:
                at += 1
            if at < len(self.queue):
                statement.client_bytes = self.queue[at].offset - request.offset
        if portal is not None:
            if portal.prepared is None:
                portal.prepared = prepared
            self._take_portal(statement, portal)
        elif prepared is not None:
            self._take_prepared(statement, prepared)
        else:
            statement.reasons |= REASON_STATEMENT_NOT_SEEN
        self._pop()
        return statement

    def skip_to_sync(self) -> None:
        """The server reads and ignores requests up to the next Sync."""
        if not self.skipping:
            self.skipping = True
            self.skipped_prepared = {}
            self.skipped_portals = {}
        pending_prepared = self.skipped_prepared
        pending_portals = self.skipped_portals
        while self.first < len(self.queue):
            request = self.queue[self.first]
            kind: i64 = request.kind
            if kind == SYNC:
                self.skipping = False
                return
            self._pop()
            if kind == QUERY or kind == FUNCTION_CALL:
                # Ignored like everything else, so no ReadyForQuery comes for it.
                self.outstanding_ready -= 1
                if request.statement is not None:
                    self._unanswered(request.statement, OUTCOME_SKIPPED, 0)
                more = request.more
                while more is not None and len(more) > 0:
                    self._unanswered(more.pop(), OUTCOME_SKIPPED, 0)
            if kind == PARSE and request.prepared is not None:
                pending_prepared[request.name] = request.prepared
            elif kind == BIND and request.portal is not None:
                portal = request.portal
                portal.prepared = pending_prepared.get(portal.statement_name)
                if portal.prepared is None:
                    portal.prepared = self.prepared.get(portal.statement_name)
                pending_portals[request.name] = portal
            elif kind == EXECUTE and request.statement is not None:
                self._skip(request, request.statement, pending_portals.get(request.name), OUTCOME_SKIPPED)

    def _skip(self, request: Request, statement: Statement, portal: Portal | None, outcome: i64) -> None:
        statement.portal_name = request.name
        if portal is None:
            portal = self.portals.get(request.name)
        if statement.portal is None:
            if portal is None:
                statement.reasons |= REASON_PORTAL_NOT_SEEN
            else:
                self._take_portal(statement, portal)
        statement.outcome = outcome
        self._finish(statement)

    # -- losses -----------------------------------------------------------------------------------------

    def abandon(self, reasons: i64) -> None:
        """No reply will be seen for what is in the queue: finish it with what is known."""
        pending_portals: dict[bytes, Portal] = {}
        while self.first < len(self.queue):
            request = self.queue[self.first]
            self._pop()
            prepared = request.prepared
            portal = request.portal
            if prepared is not None:
                prepared.reasons |= REASON_NAME_UNPROVEN
                self.remember(prepared)
            elif portal is not None:
                portal.prepared = self.prepared.get(portal.statement_name)
                pending_portals[request.name] = portal
            elif request.kind == DESCRIBE_STATEMENT:
                prepared = self.prepared.get(request.name)
                if prepared is not None:
                    prepared.reasons |= REASON_REPLY_NOT_SEEN  # it would have told the types
            elif request.kind == EXECUTE:
                statement = request.statement
                if statement is not None:
                    statement.reasons |= reasons
                    self._skip(request, statement, pending_portals.get(request.name), OUTCOME_UNKNOWN)
            elif request.statement is not None:
                self._unanswered(request.statement, OUTCOME_UNKNOWN, reasons)
                more = request.more
                while more is not None and len(more) > 0:
                    self._unanswered(more.pop(), OUTCOME_UNKNOWN, reasons)
        orphan = self.orphan
        if orphan is not None:
            self.orphan = None
            self._unanswered(orphan, OUTCOME_UNKNOWN, reasons)
        self.outstanding_ready = 0
        self.skipping = False
        self.copying_in = False

    def touch_lost(self, direction: i64, length: i64) -> None:
        """`length` bytes were lost: whatever is running is not complete."""
        statement: Statement | None = None
        if direction == CLIENT and self.first < len(self.queue):
            at: i64 = len(self.queue) - 1
            # A request without a statement is near one that has it, or it is the work of somebody hostile.
            last: i64 = at - NEARBY
            while at >= self.first and at > last and statement is None:
                statement = self.queue[at].statement
                at -= 1
        if statement is None:
            statement = self.current()
        if statement is not None:
            self._mark_missing(statement, length)

    def lost(self, direction: i64, reason: bytes) -> None:
        self.open = True
        self.trusting = False
        if direction == CLIENT:
            self.client_lost = True
            self.loss_epoch += 1
            # An unnamed statement is replaced all the time: what it was is not what it is.
            self.prepared.pop(b"", None)
            self.portals = {}
        else:
            self.server_lost = True
            # The end of what was asked is not seen.
            at: i64 = self.first
            while at < len(self.queue):
                statement = self.queue[at].statement
                if statement is not None:
                    statement.reasons |= REASON_REPLY_NOT_SEEN
                at += 1
            for statement in self.finished:
                # The ParameterStatus would have come before ReadyForQuery.
                if statement.analysis is not None:
                    self.doubt_encoding(statement.analysis)
            request = self.head()
            if request is not None and request.statement is None and len(self.finished) > 0:
                kind: i64 = request.kind
                if kind == SYNC or (kind == QUERY and self.walsender):
                    # Its commit could still fail, or its next result come.
                    self.finished[len(self.finished) - 1].reasons |= REASON_REPLY_NOT_SEEN
        self.skipping = False

    def resumed(self, client: bool, server: bool) -> None:
        if self.unconfirmed:
            # The turn before this one was never confirmed.
            self.rejected()
        self.abandon(REASON_REPLY_NOT_SEEN)
        self.finish_early()
        self.client_lost = False
        self.server_lost = False
        self.out_of_step = False
        self.unconfirmed = True
        self.unconfirmed_client = client
        self.sent_ahead = False
        self.client_mark = self.message_offset

    def _doubt_finished(self) -> None:
        """The requests are certain, the replies that were taken for theirs are not."""
        for statement in self.finished:
            statement.outcome = OUTCOME_UNKNOWN
            statement.reasons |= REASON_REPLY_NOT_SEEN
            statement.tag = b""
            statement.error = None
            statement.rows = 0
            statement.started = False
            statement.end = 0
        if self.orphan is not None:
            self.orphan = None  # made of replies alone

    def rejected(self) -> None:
        if self.unconfirmed and not self.unconfirmed_client:
            self.unconfirmed = False
            self.unconfirmed_names = []
            self.finished = [statement for statement in self.finished if not statement.from_server]
            self._doubt_finished()
            self.abandon(REASON_REPLY_NOT_SEEN)
            self.finish_early()
        elif self.unconfirmed:
            self.queue = []
            self.first = 0
            self.finished = []
            self.orphan = None
            self.unconfirmed = False
            for name in self.unconfirmed_names:
                self.prepared.pop(name, None)
            if len(self.unconfirmed_names) > self.exchange_limits.max_prepared:
                self.prepared = {}
            self.unconfirmed_names = []
            self.portals = {}
            self.outstanding_ready = 0
            self.skipping = False
            self.copying_in = False
        else:
            self.abandon(REASON_REPLY_NOT_SEEN)
            self.finish_early()
