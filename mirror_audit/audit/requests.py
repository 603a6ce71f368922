"""The requests of a session, in the order in which the server will answer them.

What a client sends is put into one queue. Names are not looked up here: what a name means is known only when
the server gets to the request (see `audit.exchange`).
"""

from typing import Final

from mypy_extensions import i64

from mirror_audit.audit.analysis import Analyser, Analysis
from mirror_audit.audit.encodings import to_utf8
from mirror_audit.audit.replication import is_replication_command
from mirror_audit.audit.scanner import split_statements
from mirror_audit.audit.sqlfacts import (
    BEGIN,
    CLOSE,
    CLOSE_ALL,
    DEALLOCATE,
    DEALLOCATE_ALL,
    DECLARE_CURSOR,
    DISCARD_ALL,
    PREPARE,
    PREPARE_TRANSACTION,
    ROLLBACK_TO,
)
from mirror_audit.audit.sqlfacts import EXECUTE as SQL_EXECUTE
from mirror_audit.audit.statement import (
    BIND,
    CLOSE_PORTAL,
    CLOSE_STATEMENT,
    COPY_END,
    DESCRIBE_PORTAL,
    DESCRIBE_STATEMENT,
    EXECUTE,
    FUNCTION_CALL,
    OUTCOME_OK,
    OUTCOME_UNKNOWN,
    PARSE,
    PROTOCOL_EXTENDED,
    PROTOCOL_FUNCTION_CALL,
    PROTOCOL_SIMPLE,
    QUERY,
    REASON_BYTES_LOST,
    REASON_ENCODING_UNPROVEN,
    REASON_FIRST_SEGMENT_TRUSTED,
    REASON_NAME_UNPROVEN,
    REASON_OVER_LIMIT,
    REASON_QUOTING_UNPROVEN,
    REASON_REPLY_NOT_SEEN,
    REASON_STATEMENT_NOT_SEEN,
    SYNC,
    UNSEEN_NAME,
    ExchangeLimits,
    Portal,
    Prepared,
    Request,
    Statement,
)
from mirror_audit.counters import Counters
from mirror_audit.pgwire.listener import Listener

__all__ = ["NEARBY", "Requests"]

SEMICOLON: Final = b";"
BACKSLASH: Final = b"\\"
# How far back the statement is looked for that COPY data or a loss belongs to.
NEARBY: Final = 64
# Requests up to this size (bytes) are limited by their number alone.
SMALL_REQUEST: Final = 1024
# What a Bind without parameters has behind its names: no formats, no values.
NO_VALUES: Final = b"\x00\x00\x00\x00"
# A Query of more statements than this is told as one.
MAX_SPLIT: Final = 10_000
# The name of a portal or statement is kept in a table; a longer one is kept by its head.
MAX_NAME_BYTES: Final = 1024


class Requests(Listener):
    """The queue of one session, filled by what the client sends."""

    def __init__(self, analyser: Analyser, limits: ExchangeLimits, counters: Counters) -> None:
        super().__init__()
        self.analyser = analyser
        self.exchange_limits = limits
        self.counters = counters
        self.standard_conforming: bool = True
        self.codec: str | None = None  # of a client encoding other than UTF-8
        self.quoting_unproven: bool = False  # a change of it is under way
        self.codec_unproven: bool = False  # it may have changed out of sight
        # Bytes of texts and values that the queue and `finished` hold, and of prepared texts: never too low.
        self.pending_bytes: i64 = 0
        self.prepared_bytes: i64 = 0
        self.walsender: bool = False  # a replication connection
        self.queue: list[Request] = []
        self.first: i64 = 0
        self.prepared: dict[bytes, Prepared] = {}
        self.portals: dict[bytes, Portal] = {}
        self.finished: list[Statement] = []
        self.orphan: Statement | None = None
        self.unconfirmed_names: list[bytes] = []  # prepared while `unconfirmed`
        self.reply_missing: i64 = 0  # bytes that the reply at hand has lost
        self.skipping: bool = False  # after an error, up to the next Sync
        self.skipped_prepared: dict[bytes, Prepared] = {}  # what was skipped since
        self.skipped_portals: dict[bytes, Portal] = {}
        self.copying_in: bool = False
        self.open: bool = False  # replies are expected to match requests
        self.client_lost: bool = False
        self.server_lost: bool = False
        self.unconfirmed: bool = False
        self.unconfirmed_client: bool = False  # ... and the requests are so, too, not only the replies
        self.sent_ahead: bool = False  # it seems to be `pipelined`, but that is as unconfirmed
        self.trusting: bool = False  # the first segment of a capture was taken for a message's start
        self.loss_epoch: i64 = 0
        self.client_mark: i64 = 0  # client bytes before this belong to earlier statements
        self.server_mark: i64 = 0

    def abandon(self, reasons: i64) -> None:
        """Finish what is in the queue with what is known."""
        raise NotImplementedError

    # -- the queue --------------------------------------------------------------------------------------

    def _push(self, request: Request) -> None:
        request.offset = self.message_offset
        request.time = self.message_time
        size: i64 = self.message_end - self.message_offset
        if size > SMALL_REQUEST:
            self.pending_bytes += size
        if (
            len(self.queue) - self.first >= self.exchange_limits.max_pending
            or self.pending_bytes > self.exchange_limits.max_text_bytes + size
        ):
            self.pending_bytes = size
            self.counters.outstanding_limit_hits += 1
            self.abandon(REASON_REPLY_NOT_SEEN | REASON_OVER_LIMIT)
        self.queue.append(request)

    def _pop(self) -> None:
        self.first += 1
        if self.first == len(self.queue):
            self.queue = []
            self.first = 0
        elif self.first >= 256 and self.first * 2 > len(self.queue):
            self.queue = self.queue[self.first :]
            self.first = 0

    def head(self) -> Request | None:
        """The request that the server is working on."""
        while self.first < len(self.queue):
            request = self.queue[self.first]
            if request.kind != COPY_END:
                return request
            self._pop()
        return None

    def pending(self) -> i64:
        """How many requests wait for a reply."""
        return len(self.queue) - self.first

    def current(self) -> Statement | None:
        """The statement that the server is working on, if it is known."""
        request = self.head()
        if request is not None and request.statement is not None:
            return request.statement
        return self.orphan

    # -- requests ---------------------------------------------------------------------------------------

    def _text(self, raw: bytes) -> bytes:
        """SQL text as UTF-8; bytes that its encoding does not have stay as they are."""
        codec = self.codec
        return raw if codec is None else to_utf8(raw, codec)

    def query(self, buf: bytes, start: i64, end: i64, missing: i64) -> None:
        raw = buf[start:end]
        request = Request(QUERY, b"")
        statement = self._new_statement(PROTOCOL_SIMPLE)
        request.statement = statement
        text = self._text(raw)
        length: i64 = end - start
        if missing > 0:
            self._mark_missing(statement, missing)
            statement.text_cut = True
            length += missing - 1  # the text's end is a zero byte, which does not count
        if self.walsender and is_replication_command(text):
            self._describe(statement, self.analyser.replication_command(text), length)
        elif not self._single(text) and not (self.quoting_unproven and BACKSLASH in text):
            self._split(request, statement, text, length)
        else:
            self._describe(statement, self.analyser.analyse(text, self.standard_conforming), length)
        self._push(request)
        self._ready_wanted()

    def _single(self, text: bytes) -> bool:
        """True if the text is certainly one statement: at most one semicolon, at its end."""
        at: i64 = text.find(SEMICOLON)
        if at < 0 or at == len(text) - 1:
            return True
        return len(text[at + 1 :].strip(b" \t\r\n\f\v;")) == 0

    def _split(self, request: Request, statement: Statement, text: bytes, length: i64) -> None:
        bounds: list[int] = []
        if text.count(SEMICOLON) <= MAX_SPLIT:
            bounds = split_statements(text, self.standard_conforming)
        else:
            statement.reasons |= REASON_OVER_LIMIT
        if len(bounds) <= 2:
            self._describe(statement, self.analyser.analyse(text, self.standard_conforming), length)
            return
        more: list[Statement] = []
        at: i64 = 0
        while at < len(bounds):
            part = text[bounds[at] : bounds[at + 1]]
            item = statement
            if at > 0:
                item = Statement(PROTOCOL_SIMPLE, statement.offset, statement.time)
                item.ordinal = at // 2
                item.reasons = statement.reasons
                item.lost = statement.lost
                more.append(item)
            self._describe(
                item, self.analyser.analyse(part, self.standard_conforming), self._length_as_sent(part)
            )
            at += 2
        more.reverse()
        request.more = more

    def _length_as_sent(self, text: bytes) -> i64:
        codec = self.codec
        if codec is not None:
            try:
                return len(text.decode().encode(codec))
            except (UnicodeError, LookupError):
                pass
        return len(text)

    def parse(
        self, name: bytes, buf: bytes, start: i64, end: i64, oids: bytes, missing: i64, cut: bool
    ) -> None:
        name = name[:MAX_NAME_BYTES]
        text = self._text(buf[start:end])
        # If the text lost its end, how much of what is missing was text is not known.
        length: i64 = -1 if cut else end - start
        prepared = Prepared(name, self.analyser.analyse(text, self.standard_conforming), length, oids)
        prepared.loss_epoch = self.loss_epoch
        prepared.reasons = self._doubts(prepared.analysis)
        if self.trusting:
            prepared.reasons |= REASON_FIRST_SEGMENT_TRUSTED
        if missing > 0:
            prepared.lost = missing
            prepared.cut = cut
            prepared.reasons |= REASON_BYTES_LOST
        request = Request(PARSE, name)
        request.prepared = prepared
        self._push(request)

    def bind(self, portal: bytes, statement: bytes, values: bytes, missing: i64) -> None:
        portal = portal[:MAX_NAME_BYTES]
        request = Request(BIND, portal)
        bound = Portal(portal, statement[:MAX_NAME_BYTES], values, missing)
        bound.codec = self.codec
        request.portal = bound
        self._push(request)

    def describe(self, portal: bool, name: bytes) -> None:
        self._push(Request(DESCRIBE_PORTAL if portal else DESCRIBE_STATEMENT, name[:MAX_NAME_BYTES]))

    def execute(self, portal: bytes, max_rows: i64) -> None:
        request = Request(EXECUTE, portal[:MAX_NAME_BYTES])
        statement = self._new_statement(PROTOCOL_EXTENDED)
        request.statement = statement
        self._push(request)

    def close(self, portal: bool, name: bytes) -> None:
        self._push(Request(CLOSE_PORTAL if portal else CLOSE_STATEMENT, name[:MAX_NAME_BYTES]))

    def sync(self) -> None:
        if self.copying_in:
            return  # the server reads COPY data and ignores it
        self._ready_wanted()
        self._push(Request(SYNC, b""))
        self.client_mark = self.message_end

    def flush(self) -> None:
        if self.client_mark == self.message_offset:
            self.client_mark = self.message_end  # it belongs to what was sent before

    def function_call(self, function: i64) -> None:
        request = Request(FUNCTION_CALL, b"")
        statement = self._new_statement(PROTOCOL_FUNCTION_CALL)
        statement.function = function
        request.statement = statement
        self._push(request)
        self._ready_wanted()

    def copy_done(self) -> None:
        statement = self.copying_statement()
        if statement is not None:
            statement.client_bytes += self.message_end - self.client_mark
            self.client_mark = self.message_end
        if self.copying_in:
            self.copying_in = False
        else:
            self._push(Request(COPY_END, b""))

    def copying_statement(self) -> Statement | None:
        """What the client's COPY data belongs to: it may be sent before the server asks for it."""
        statement = self.current()
        if statement is not None and (statement.copy != 0 or self.pending() <= 1):
            return statement
        statement = None
        at: i64 = len(self.queue) - 1
        # A request without a statement is near one that has it, or it is the work of somebody hostile.
        last: i64 = at - NEARBY
        while at >= self.first and at > last and statement is None:
            statement = self.queue[at].statement
            at -= 1
        return statement

    def unreadable(self, kind: i64, missing: i64) -> None:
        """A request of this type whose body cannot be read. The server answers it all the same."""
        if kind == 0x51:
            self._push_statement(QUERY, PROTOCOL_SIMPLE, missing)
        elif kind == 0x46:
            self._push_statement(FUNCTION_CALL, PROTOCOL_FUNCTION_CALL, missing)
        elif kind == 0x45:
            self._push_statement(EXECUTE, PROTOCOL_EXTENDED, missing)
        elif kind == 0x50:
            # Which name it prepared is not known: any may mean something else now.
            self.loss_epoch += 1
            self.prepared.pop(b"", None)
            self._push(Request(PARSE, UNSEEN_NAME))
        elif kind == 0x42:
            self.portals = {}
            self._push(Request(BIND, UNSEEN_NAME))
        elif kind == 0x44:
            self._push(Request(DESCRIBE_STATEMENT, UNSEEN_NAME))
        elif kind == 0x43:
            self._push(Request(CLOSE_STATEMENT, UNSEEN_NAME))

    def _push_statement(self, kind: i64, protocol: i64, missing: i64) -> None:
        request = Request(kind, UNSEEN_NAME)
        statement = self._new_statement(protocol)
        self._mark_missing(statement, missing)
        request.statement = statement
        self._push(request)
        if kind != EXECUTE:
            self._ready_wanted()

    def _ready_wanted(self) -> None:
        """A request was sent that ends in a ReadyForQuery."""
        if self.outstanding_ready > 0:
            if self.unconfirmed:
                self.sent_ahead = True
            elif not self.server_lost:
                self.pipelined = True
        self.outstanding_ready += 1

    def _new_statement(self, protocol: i64) -> Statement:
        statement = Statement(protocol, self.message_offset, self.message_time)
        if self.trusting:
            statement.reasons = REASON_FIRST_SEGMENT_TRUSTED
        if protocol != PROTOCOL_EXTENDED:
            self.client_mark = self.message_offset  # what came before it is none of its parts
        statement.client_bytes = self.message_end - self.client_mark
        self.client_mark = self.message_end
        return statement

    def _describe(self, statement: Statement, analysis: Analysis, length: i64) -> None:
        statement.analysis = analysis
        statement.text_length = length
        statement.reasons |= self._doubts(analysis)

    def _doubts(self, analysis: Analysis) -> i64:
        """Reasons to doubt that a text was read as the server reads it, once it gets there."""
        reasons: i64 = 0
        if (self.codec_unproven or self.quoting_unproven) and not analysis.text.isascii():
            reasons = REASON_ENCODING_UNPROVEN
        if self.quoting_unproven and BACKSLASH in analysis.text:
            reasons |= REASON_QUOTING_UNPROVEN
        if analysis.sets_quoting:
            self.quoting_unproven = True  # until the server has answered
        return reasons

    def _mark_missing(self, statement: Statement, missing: i64) -> None:
        statement.lost += missing
        statement.reasons |= REASON_BYTES_LOST

    # -- names ------------------------------------------------------------------------------------------

    def remember(self, prepared: Prepared) -> None:
        """A prepared statement exists from now on."""
        table = self.prepared
        if self.unconfirmed and len(self.unconfirmed_names) <= self.exchange_limits.max_prepared:
            self.unconfirmed_names.append(prepared.name)
        if prepared.name in table:
            del table[prepared.name]
        elif len(table) >= self.exchange_limits.max_prepared:
            del table[next(iter(table))]
            self.counters.prepared_evicted += 1
        table[prepared.name] = prepared
        self.prepared_bytes += len(prepared.analysis.text)
        if self.prepared_bytes > self.exchange_limits.max_text_bytes:
            self._forget_old_texts()

    def _forget_old_texts(self) -> None:
        """Texts were added up, never taken off: see what is there, and make room if it is too much."""
        table = self.prepared
        total: i64 = 0
        for prepared in table.values():
            total += len(prepared.analysis.text)
        # Room for a quarter, so that this is not done for each Parse.
        target: i64 = self.exchange_limits.max_text_bytes * 3 // 4
        while total > target and len(table) > 1:
            name = next(iter(table))
            total -= len(table[name].analysis.text)
            del table[name]
            self.counters.prepared_evicted += 1
        self.prepared_bytes = total

    def keep_portal(self, portal: Portal) -> None:
        """A portal exists from now on."""
        table = self.portals
        if portal.name not in table and len(table) >= self.exchange_limits.max_portals:
            del table[next(iter(table))]
            self.counters.portals_evicted += 1
        table[portal.name] = portal

    def take_names(self, statement: Statement, analysis: Analysis) -> None:
        """PREPARE, EXECUTE, DEALLOCATE and DISCARD ALL: they share their names with Parse, and at once."""
        effect: i64 = analysis.effect
        name = analysis.effect_name
        if effect == SQL_EXECUTE and name is not None:
            prepared = self.prepared.get(name)
            if prepared is not None:
                statement.inner = prepared.analysis
                statement.reasons |= prepared.reasons
                statement.lost += prepared.lost
                if prepared.loss_epoch != self.loss_epoch:
                    statement.reasons |= REASON_NAME_UNPROVEN
            elif statement.outcome == OUTCOME_OK:
                statement.reasons |= REASON_STATEMENT_NOT_SEEN
        elif BEGIN < effect <= PREPARE_TRANSACTION or effect == ROLLBACK_TO:
            # They close cursors: all, or those made since the savepoint. Of those that stay (WITH HOLD, or
            # older) it is then said that they were not seen, which is the lesser evil.
            if statement.outcome == OUTCOME_OK:
                self.portals = {}
        elif effect == DECLARE_CURSOR or effect == CLOSE or effect == CLOSE_ALL:
            # A cursor is a portal, whoever made it.
            if statement.outcome == OUTCOME_OK and effect == CLOSE_ALL:
                self.portals = {}
            elif statement.outcome == OUTCOME_OK and name is not None:
                self.portals.pop(name, None)
                if effect == DECLARE_CURSOR:
                    prepared = Prepared(b"", analysis, statement.text_length, b"")
                    prepared.loss_epoch = self.loss_epoch
                    portal = Portal(name, b"", NO_VALUES, 0)
                    portal.declared = True
                    portal.prepared = prepared
                    self.keep_portal(portal)
        elif effect == PREPARE or effect == DEALLOCATE or effect == DEALLOCATE_ALL or effect == DISCARD_ALL:
            outcome: i64 = statement.outcome
            if outcome == OUTCOME_UNKNOWN:
                self.loss_epoch += 1  # any name may mean something else now, or not
            elif outcome != OUTCOME_OK:
                return
            inner = analysis.inner
            if effect == PREPARE:
                if name is not None and inner is not None:
                    prepared = Prepared(name, inner, len(inner.text), b"")
                    prepared.loss_epoch = self.loss_epoch
                    prepared.reasons = REASON_NAME_UNPROVEN if outcome == OUTCOME_UNKNOWN else 0
                    if statement.text_cut:
                        prepared.cut = True
                        prepared.lost = statement.lost
                        prepared.reasons |= REASON_BYTES_LOST
                    self.remember(prepared)
            elif outcome == OUTCOME_OK:
                if effect == DISCARD_ALL:
                    self.portals = {}
                if effect != DEALLOCATE:
                    self.prepared = {}
                elif name is not None:
                    self.prepared.pop(name, None)
