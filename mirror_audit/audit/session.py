"""One session: logins, transactions, roles, losses, and the records about them.

`Exchange` says which statements ran; this adds who ran them, in which transaction, and what of it was not
seen. Records go straight to the `RecordWriter`: nothing is kept of a statement that is over.
"""

from typing import Final

from mypy_extensions import i64

from mirror_audit.audit.encode import (
    StatementEncoder,
    command_rows,
    cut_utf8,
)
from mirror_audit.audit.encode_session import (
    write_replication,
    write_session_end,
    write_statement_progress,
    write_transaction_end,
)
from mirror_audit.audit.envelope import (
    KIND_REPLICATION,
    KIND_SESSION_END,
    KIND_STATEMENT,
    KIND_STATEMENT_PROGRESS,
    KIND_TRANSACTION_END,
    RecordWriter,
)
from mirror_audit.audit.login import Login
from mirror_audit.audit.registry import SessionRegistry
from mirror_audit.audit.statement import (
    COPY_BOTH,
    OUTCOME_ERROR,
    OUTCOME_OK,
    OUTCOME_SKIPPED,
    OUTCOME_UNKNOWN,
    REASON_BYTES_LOST,
    REASON_REPLY_NOT_SEEN,
    REASON_SESSION_ENDED,
    ExchangeLimits,
    Statement,
)
from mirror_audit.audit.transactions import (
    COMMITS,
    FAILED,
    IDLE,
    IN_BLOCK,
    PREPARES,
    ROLLS_BACK,
    STAYS,
    Transactions,
)
from mirror_audit.counters import Counters
from mirror_audit.packet.flow import Flow
from mirror_audit.packet.sequence import SEQUENCE_MASK
from mirror_audit.packet.streams import (
    CAUSE_ONE_SIDED,
    CLIENT_TO_SERVER,
    CLOSED_CAPTURE_END,
    CLOSED_EVICTED,
    CLOSED_IDLE,
)

__all__ = ["Session"]

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
_PROTOCOLS: Final = (b'"simple"', b'"extended"', b'"function_call"')


class Session(Login):
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
        super().__init__(flow, writer, encoder, limits, registry, counters)
        self.transactions = Transactions()
        self.total_statements: i64 = 0
        self.total_errors: i64 = 0
        self.total_rows: i64 = 0
        self.terminated: bool = False
        self.watched: bool = False

    # -- statements and transactions --------------------------------------------------------------------

    def transaction_status(self, status: i64) -> None:
        transactions = self.transactions
        if not self.started:
            whole: bool = self.startup_seen and self.total_lost == 0
            self.tell_start(b"start", None if whole else b"bytes_lost")
            if self.first >= len(self.queue):
                self.client_mark = self.flow.client.next  # the login is no statement's
        elif (
            len(self.finished) == 1
            and len(self.reported) == 0
            and status == IDLE
            and transactions.status == IDLE
            and not transactions.running
        ):
            # By far the most frequent: one statement, its own transaction, over.
            statement = self.finished[0]
            analysis = statement.analysis
            if (
                statement.outcome == OUTCOME_OK
                and analysis is not None
                and analysis.effect == 0
                and not analysis.hides_effect
                and not statement.text_cut
            ):
                self.finished = []
                transactions.number += 1
                self.counters.transactions += 1
                statement.transaction = transactions.number
                statement.before = IDLE
                statement.after = IDLE
                self._tell_statement(statement)
                self.losses.settle(self.client_lost, self.server_lost)
                return
        self._tell_finished(status)
        self._settle(status)
        if len(self.reported) > 0:
            for name in self.reported:
                if name == b"application_name":
                    self.identity.application = self.shown(self.reported[name])
                    self.identity.changed()
                else:
                    self.settings.report(name, self.reported[name], status == IDLE)
            self.reported = {}
        self.losses.settle(self.client_lost, self.server_lost)

    def finish_early(self) -> None:
        self._tell_finished(0)

    def _tell_finished(self, status: i64) -> None:
        """Write the statements that are over; `status` is the server's word behind the last one, 0: none."""
        finished = self.finished
        if len(finished) == 0:
            return
        self.finished = []
        transactions = self.transactions
        current: i64 = transactions.status
        left: i64 = len(finished)
        failed: bool = False
        last = finished[0]
        for statement in finished:
            left -= 1
            if statement.outcome != OUTCOME_SKIPPED:
                failed = statement.outcome == OUTCOME_ERROR
                last = statement
            statement.before = current
            if statement.outcome != OUTCOME_SKIPPED and statement.outcome != OUTCOME_UNKNOWN:
                if not transactions.running:
                    transactions.begin()
                    self.counters.transactions += 1
                statement.transaction = transactions.number
                current = transactions.after(statement, current)
            statement.after = status if left == 0 and status != 0 else current
            self._tell_statement(statement)
            self._take_effect(statement, current)
        transactions.status = current
        if (
            failed
            and status == IDLE
            and not transactions.doubtful
            and (transactions.block or transactions.statements > 1)
        ):
            # A COMMIT or PREPARE TRANSACTION that failed, and its block is gone; or statements that share a
            # transaction without BEGIN: they are undone together, the "ok" ones too.
            transactions.open_block(finished[0].time)
            self._end_block(b"rolled_back", self._place(last), last.end, last.ordinal)
            self.settings.transaction_ended(False)

    def _settle(self, status: i64) -> None:
        """The server's own word on the transaction, which may differ from what the statements told."""
        transactions = self.transactions
        if status == IDLE:
            if transactions.block and transactions.implicit:
                # Its end is the Sync: what did not fail is committed.
                committed: bool = transactions.status != FAILED
                outcome = b"committed" if committed else b"rolled_back"
                self._end_block(outcome, self.client_mark, self.time, 0)
                self.settings.transaction_ended(committed)
            elif transactions.block:
                # It ended by a statement that was not seen or not understood.
                self._end_block(b"unknown", self.client_mark, self.time, 0)
                self.settings.forget()
            elif transactions.running:
                self.settings.transaction_ended(True)
            transactions.end()
        elif not transactions.block:
            transactions.open_block(self.time)
            # From PostgreSQL 17 on, a Query in a pipeline without Sync runs in a block that nobody began.
            transactions.implicit = self.startup_seen and self.total_lost == 0
        transactions.status = status

    def _take_effect(self, statement: Statement, status: i64) -> None:
        """What a statement changes for those that follow; `status` is the transaction's behind it."""
        transactions = self.transactions
        analysis = statement.analysis if statement.inner is None else statement.inner
        effect: i64 = 0 if analysis is None else analysis.effect
        if statement.outcome == OUTCOME_ERROR:
            if not transactions.block:
                self.settings.transaction_ended(False)
            return
        if (analysis is None or statement.text_cut) and self.hides_effect(statement):
            self.settings.forget()
        if analysis is not None and analysis.hides_effect and statement.outcome != OUTCOME_SKIPPED:
            self.settings.forget()
        if statement.outcome != OUTCOME_OK:
            if effect != 0 and statement.outcome == OUTCOME_UNKNOWN:
                self.settings.forget()  # whether it took effect was not seen
            return
        ending: i64 = transactions.ending(statement)
        if ending != STAYS:
            outcome = b"unknown"
            if ending == COMMITS:
                outcome = b"committed"
            elif ending == ROLLS_BACK:
                outcome = b"rolled_back"
            self._end_block(outcome, self._place(statement), statement.end, statement.ordinal)
            self.settings.transaction_ended(ending == COMMITS or ending == PREPARES)
            if transactions.chains(statement):
                self.counters.transactions += 1
                transactions.open_block(statement.end)
            return
        if statement.tag == b"ROLLBACK" and (analysis is None or statement.text_cut):
            # All of it, or to a savepoint?
            transactions.doubtful = True
            self.settings.forget()
        if (status == IN_BLOCK or status == FAILED) and not transactions.block:
            transactions.open_block(statement.time)
        if effect != 0 and analysis is not None and not statement.text_cut:
            self.apply_effect(
                statement, effect, analysis.effect_name, analysis.effect_argument, analysis.effect_parameter
            )
            for other in analysis.other_effects:
                self.apply_effect(statement, other.code, other.name, other.argument, other.parameter)

    def _place(self, statement: Statement) -> i64:
        """The client's offset for what a statement ended."""
        return self.client_mark if statement.from_server else statement.offset

    def _end_block(self, outcome: bytes, offset: i64, time: i64, ordinal: i64) -> None:
        transactions = self.transactions
        if transactions.block:
            sequence: i64 = (self.flow.client.base + offset) & SEQUENCE_MASK
            identity = self.identity
            w = self.writer.begin(
                KIND_TRANSACTION_END, identity.client_hash, time, sequence, ordinal, identity.json()
            )
            write_transaction_end(
                w, transactions.number, outcome, transactions.statements, time - transactions.start
            )
            self.writer.end()
        transactions.end()

    def _tell_statement(self, statement: Statement) -> None:
        if not self.started and not self.refused:
            # The server's side of the login was not seen.
            self.tell_start(b"start", b"bytes_lost")
        counters = self.counters
        counters.statements += 1
        self.total_statements += 1
        if statement.outcome == OUTCOME_ERROR:
            counters.errors += 1
            self.total_errors += 1
        if statement.reasons != 0 or statement.lost != 0:
            counters.statements_incomplete += 1
        rows: i64 = command_rows(statement.tag)
        self.total_rows += statement.rows if rows < 0 else rows
        statement.role = self.settings.role()
        statement.search_path = self.settings.path()
        identity = self.identity
        flow = identity.client_hash
        base: i64 = self.flow.client.base
        if statement.from_server:
            flow = identity.server_hash
            base = self.flow.server.base
        sequence: i64 = (base + statement.offset) & SEQUENCE_MASK
        w = self.writer.begin(
            KIND_STATEMENT, flow, statement.time, sequence, statement.ordinal, identity.json()
        )
        self.encoder.write(w, statement)
        self.writer.end()
        if statement.copy == COPY_BOTH:
            self._tell_replication(statement, True)

    def copy_both_response(self) -> None:
        super().copy_both_response()
        statement = self.current()
        if statement is not None and statement.copy == COPY_BOTH and not self.unconfirmed:
            # It may go on for days: the start is news.
            self._tell_replication(statement, False)

    def _tell_replication(self, statement: Statement, ended: bool) -> None:
        identity = self.identity
        flow = identity.client_hash
        base: i64 = self.flow.client.base
        if statement.from_server:
            flow = identity.server_hash
            base = self.flow.server.base
        sequence: i64 = (base + statement.offset) & SEQUENCE_MASK
        ordinal: i64 = 1 if ended else 0
        w = self.writer.begin(KIND_REPLICATION, flow, statement.time, sequence, ordinal, identity.json())
        analysis = statement.analysis
        text = None if analysis is None else cut_utf8(analysis.text, self.encoder.limits.max_text)
        write_replication(w, text, ended, statement.copy_bytes)
        self.writer.end()

    def tell_progress(self, statement: Statement, now: i64) -> None:
        """A statement that is still running."""
        statement.progress += 1
        identity = self.identity
        writer = self.writer
        flow = identity.client_hash
        base: i64 = self.flow.client.base
        if statement.from_server:
            flow = identity.server_hash
            base = self.flow.server.base
        sequence: i64 = (base + statement.offset) & SEQUENCE_MASK
        # Progress has an id of its own, so that whoever removes duplicates by id keeps the statement's end.
        ordinal: i64 = ((statement.ordinal << 12) + statement.progress) & 0xFFFFFF
        w = writer.begin(KIND_STATEMENT_PROGRESS, flow, statement.time, sequence, ordinal, identity.json())
        w.write(b'"statement_id":"')
        writer.write_id(flow, statement.time, sequence, KIND_STATEMENT, statement.ordinal)
        received: i64 = self.flow.server.next - self.server_mark
        write_statement_progress(
            w, statement, self.encoder.limits.max_text, now, received if statement.started else 0
        )
        writer.end()

    # -- losses -----------------------------------------------------------------------------------------

    def gap(self, direction: i64, offset: i64, length: i64, cause: i64, time: i64) -> None:
        """`length` bytes are missing; to be called before the connection hears of it."""
        self.visible = True
        self.total_lost += length
        loss = self.losses.note(direction, offset, time, _CAUSES[cause], False)
        loss.bytes += length
        loss.gaps += 1
        self.touch_lost(direction, length)
        if cause == CAUSE_ONE_SIDED and direction != CLIENT_TO_SERVER:
            # Whatever was asked was answered out of sight: there is nothing to wait for.
            self.abandon(REASON_REPLY_NOT_SEEN)
            self._tell_finished(0)

    def lost(self, direction: i64, reason: bytes) -> None:
        super().lost(direction, reason)
        if self.on_trial:
            # Nothing has shown that this is PostgreSQL, and nothing will.
            self.flow.ignored = True
            self.counters.dropped_not_postgresql += 1
            return
        if reason == b"joined_mid_stream":
            if not self.started:
                self.join(self.flow.start_time)
            self.losses.note(direction, 0, self.flow.start_time, reason, True)
        elif reason != b"bytes_lost":
            self.losses.note(direction, self.message_offset, self.time, reason, True)
        if direction == CLIENT_TO_SERVER:
            # Anything may have been set in the bytes that are not read.
            self.settings.forget()

    def resumed(self, client: bool, server: bool) -> None:
        super().resumed(client, server)
        self.server_mark = self.flow.server.next
        if server:
            # What became of a transaction meanwhile was not seen.
            transactions = self.transactions
            transactions.status = self.status_before
            if self.status_before == IDLE and transactions.block:
                self._end_block(b"unknown", self.client_mark, self.message_time, 0)
                self.settings.forget()
            elif transactions.block:
                transactions.doubtful = True
            else:
                transactions.end()

    def malformed(self, direction: i64, kind: i64) -> None:
        statement = self.current()
        if statement is not None:
            statement.reasons |= REASON_BYTES_LOST
        self.losses.note(direction, self.message_offset, self.time, b"malformed_message", True)
        if direction == CLIENT_TO_SERVER:
            self.unreadable(kind, 0)

    def damaged(self, direction: i64, kind: i64, missing: i64) -> None:
        if direction == CLIENT_TO_SERVER:
            self.unreadable(kind, missing)
        elif kind == 0x43:
            # A CommandComplete without its tag still ends its statement.
            statement = self._running()
            if statement is not None:
                statement.reasons |= REASON_BYTES_LOST
                self._end(statement, OUTCOME_OK)
        elif kind == 0x45:
            self.reply_missing = missing
        elif kind == 0x41 or kind == 0x4E:
            self.asynchronous()
        elif kind == 0x53:
            # It may have been session_authorization or client_encoding.
            self.settings.forget()
            self.codec_unproven = True
        elif kind == 0x74:
            request = self.head()
            prepared = None if request is None else self.prepared.get(request.name)
            if prepared is not None:
                prepared.reasons |= REASON_BYTES_LOST  # without the types its values cannot be read

    def undecodable(self, direction: i64, reason: bytes) -> None:
        if self.on_trial:
            self.flow.ignored = True
            self.counters.dropped_not_postgresql += 1
            return
        self.counters.undecodable_streams += 1
        self.visible = True
        self.losses.note(direction, self.message_offset, self.time, reason, True)

    # -- the end ----------------------------------------------------------------------------------------

    def terminate(self) -> None:
        self.terminated = True

    def ended(self, reason: i64, time: i64) -> None:
        """The connection is over."""
        self.over = True
        if self.cancels or self.on_trial:
            return
        if len(self.key_digest) > 0:
            self.registry.remove(self.flow, self.key_digest, self.identity)
        if self.unconfirmed:
            self.rejected()
        self.time = time
        self.abandon(REASON_REPLY_NOT_SEEN if self.server_lost else REASON_SESSION_ENDED)
        gone: bool = reason != CLOSED_CAPTURE_END and reason != CLOSED_EVICTED and reason != CLOSED_IDLE
        if self.transactions.block:
            # A server rolls back what its client left open, unless a commit was under way.
            certain: bool = gone and self.total_lost == 0 and not self.client_lost
            for statement in self.finished:
                if statement.outcome == OUTCOME_UNKNOWN:
                    certain = False
            self._tell_finished(0)
            self._end_block(b"rolled_back" if certain else b"unknown", self.client_mark, time, 0)
        self._tell_finished(0)
        if self.encryption.on:
            self.tell_encryption()
        elif self.startup_seen and not self.started and not self.refused and gone and self.total_lost == 0:
            # The client gave up, or was cut off, before the server had let it in.
            self.tell_refusal(self.end_error)
        self.losses.close()
        if not self.visible:
            self.counters.connections_without_data += 1
            return
        why = _CLOSE_REASONS[reason]
        if self.fatal and reason != CLOSED_CAPTURE_END:
            why = b"fatal"
        elif self.terminated:
            why = b"terminate"
        flow = self.flow
        duration: i64 = time - flow.start_time
        if duration < 0:
            duration = 0
        w = self.record(KIND_SESSION_END, time, flow.client.next)
        write_session_end(
            w,
            why,
            (
                self.total_statements,
                self.total_errors,
                self.transactions.number,
                self.total_rows,
                duration,
                flow.client.next,
                flow.server.next,
                self.total_lost,
            ),
            self.end_error,
            self.redacted_message(self.end_error),
            self.encryption.on,
        )
        self.writer.end()
