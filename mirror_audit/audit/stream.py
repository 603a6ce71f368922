"""Where packets, protocol and audit meet: each TCP connection gets a decoder and a session."""

from mypy_extensions import i64

from mirror_audit.audit.drops import DropLedger
from mirror_audit.audit.encode import StatementEncoder
from mirror_audit.audit.envelope import RecordWriter
from mirror_audit.audit.registry import SessionRegistry
from mirror_audit.audit.session import Session
from mirror_audit.audit.statement import COPY_BOTH, ExchangeLimits, Statement
from mirror_audit.counters import Budget, Counters
from mirror_audit.packet.flow import Flow, StreamFactory
from mirror_audit.packet.streams import StreamListener
from mirror_audit.pgwire.connection import Connection

__all__ = ["SessionFactory", "SessionStream", "SilentStream"]


class SessionStream(StreamListener):
    """Hands the bytes of one connection to its decoder, and the losses to its session, too."""

    def __init__(self, factory: "SessionFactory", session: Session, connection: Connection) -> None:
        self.factory = factory
        self.session = session
        self.connection = connection

    def data(
        self, direction: i64, buf: bytes, start: i64, end: i64, offset: i64, time: i64, boundary: i64
    ) -> None:
        connection = self.connection
        connection.data(direction, buf, start, end, offset, time, boundary)
        session = self.session
        session.losses.client_undecoded = connection.client_undecoded
        session.losses.server_undecoded = connection.server_undecoded
        if session.first < len(session.queue) and not session.watched:
            self.watch()

    def gap(self, direction: i64, offset: i64, length: i64, cause: i64, time: i64) -> None:
        connection = self.connection
        session = self.session
        connection.flush_counts()
        session.gap(direction, offset, length, cause, time)
        connection.gap(direction, offset, length, time)
        self.watch()

    def watch(self) -> None:
        """Have the factory look at this session about once a second."""
        if not self.session.watched:
            self.session.watched = True
            self.factory.watched.append(self)

    def closed(self, reason: i64, time: i64) -> None:
        connection = self.connection
        connection.flush_counts()
        session = self.session
        session.losses.client_undecoded = connection.client_undecoded
        session.losses.server_undecoded = connection.server_undecoded
        session.ended(reason, time)
        counters = self.factory.counters
        counters.unknown_messages += connection.frontend.unknown + connection.backend.unknown
        counters.messages_over_limit += connection.frontend.over_limit + connection.backend.over_limit
        counters.buffer_budget_hits += connection.frontend.over_budget + connection.backend.over_budget
        connection.finish()

    def running(self) -> Statement | None:
        """The statement at work, if any, with its counts up to date; not one of a session that is over."""
        if self.session.over:
            return None
        if self.session.first >= len(self.session.queue):
            return None
        self.connection.flush_counts()
        return self.session.current()


class SilentStream(StreamListener):
    """A connection that has not carried a byte yet: it costs next to nothing until it does."""

    def __init__(self, factory: "SessionFactory", flow: Flow) -> None:
        self.factory = factory
        self.flow = flow

    def data(
        self, direction: i64, buf: bytes, start: i64, end: i64, offset: i64, time: i64, boundary: i64
    ) -> None:
        self.factory.begin(self.flow).data(direction, buf, start, end, offset, time, boundary)

    def gap(self, direction: i64, offset: i64, length: i64, cause: i64, time: i64) -> None:
        self.factory.begin(self.flow).gap(direction, offset, length, cause, time)

    def closed(self, reason: i64, time: i64) -> None:
        self.factory.counters.connections_without_data += 1


class SessionFactory(StreamFactory):
    """Makes the sessions, and looks after the statements that run for long."""

    def __init__(
        self,
        writer: RecordWriter,
        encoder: StatementEncoder,
        limits: ExchangeLimits,
        registry: SessionRegistry,
        counters: Counters,
        budget: Budget,
        max_message_bytes: i64,
        progress_interval_us: i64,
        trust_first_segment: bool,
    ) -> None:
        self.writer = writer
        self.encoder = encoder
        self.limits = limits
        self.registry = registry
        self.counters = counters
        self.budget = budget
        self.max_message_bytes: i64 = max_message_bytes
        self.progress_interval_us: i64 = progress_interval_us
        self.trust_first_segment: bool = trust_first_segment
        self.watched: list[SessionStream] = []
        self.drops = DropLedger(writer, counters)

    def open(self, flow: Flow) -> StreamListener:
        return SilentStream(self, flow)

    def begin(self, flow: Flow) -> SessionStream:
        """`flow` carries its first bytes: give it a session."""
        session = Session(flow, self.writer, self.encoder, self.limits, self.registry, self.counters)
        connection = Connection(session, flow.mid_stream, self.max_message_bytes, self.budget, self.counters)
        if flow.mid_stream and self.trust_first_segment:
            session.join(flow.start_time)
            connection.trust_first_segment()
            session.trusting = True
        stream = SessionStream(self, session, connection)
        flow.listener = stream
        return stream

    def tick(self, now: i64) -> None:
        """Tell of statements that run on and of losses that last; forget sessions at rest."""
        self.drops.tick(now)
        if len(self.watched) == 0:
            return
        kept: list[SessionStream] = []
        for stream in self.watched:
            session = stream.session
            statement = stream.running()
            waiting: bool = session.losses.pending()
            if waiting:
                session.losses.tell_old(now, session.client_lost, session.server_lost)
            if statement is None and session.first >= len(session.queue) and not waiting:
                session.watched = False
                continue
            kept.append(stream)
            if statement is None or self.progress_interval_us <= 0 or statement.copy == COPY_BOTH:
                continue
            due: i64 = statement.time + (statement.progress + 1) * self.progress_interval_us
            if now >= due and not session.unconfirmed:
                # One record tells it all, even if several intervals went by between two packets.
                statement.progress = (now - statement.time) // self.progress_interval_us - 1
                session.tell_progress(statement, now)
        self.watched = kept
