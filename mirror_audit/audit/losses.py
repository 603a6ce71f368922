"""Losses of a session whose record waits until it is known what came of them.

A thousand holes in one result make one record, not a thousand: what is lost is added up until decoding goes
on at a certain point, or the session ends.
"""

from typing import Final

from mypy_extensions import i64

from mirror_audit.audit.encode_session import write_gap, write_undecodable
from mirror_audit.audit.envelope import KIND_GAP, KIND_UNDECODABLE, RecordWriter
from mirror_audit.audit.identity import Identity
from mirror_audit.packet.flow import Flow
from mirror_audit.packet.sequence import SEQUENCE_MASK
from mirror_audit.packet.streams import CLIENT_TO_SERVER

__all__ = ["Loss", "Losses"]


# A loss whose end is not in sight is told after this time (us), so that a live reader hears of it.
TELL_AFTER_US: Final = 10_000_000


class Loss:
    """What one direction lost since it was last whole."""

    def __init__(self, offset: i64, time: i64, cause: bytes, undecodable: bool, undecoded: i64) -> None:
        self.offset: i64 = offset
        self.time: i64 = time
        self.cause = cause
        self.undecodable: bool = undecodable
        self.undecoded: i64 = undecoded  # the direction's undecoded bytes when it began
        self.bytes: i64 = 0
        self.gaps: i64 = 0


class Losses:
    """The losses of both directions."""

    def __init__(self, flow: Flow, identity: Identity, writer: RecordWriter) -> None:
        self.flow = flow
        self.identity = identity
        self.writer = writer
        self.client: Loss | None = None
        self.server: Loss | None = None
        # Bytes seen but not decoded so far, kept up to date by the stream.
        self.client_undecoded: i64 = 0
        self.server_undecoded: i64 = 0

    def note(self, direction: i64, offset: i64, time: i64, cause: bytes, undecodable: bool) -> Loss:
        """A loss at `offset`: the pending one of its direction, or a new one."""
        loss: Loss | None
        if direction == CLIENT_TO_SERVER:
            loss = self.client
            if loss is None:
                loss = Loss(offset, time, cause, undecodable, self.client_undecoded)
                self.client = loss
        else:
            loss = self.server
            if loss is None:
                loss = Loss(offset, time, cause, undecodable, self.server_undecoded)
                self.server = loss
        return loss

    def settle(self, client_lost: bool, server_lost: bool) -> None:
        """The session is at a certain point; write what is over."""
        client = self.client
        if client is not None and not client_lost:
            self.client = None
            self._write(client, True, True)
        server = self.server
        if server is not None and not server_lost:
            self.server = None
            self._write(server, False, True)

    def pending(self) -> bool:
        """True if there is a loss that was not told yet."""
        return self.client is not None or self.server is not None

    def tell_old(self, now: i64, client_lost: bool, server_lost: bool) -> None:
        """It is `now` (us): write what has waited for long, even though its end is not known."""
        client = self.client
        if client is not None and now - client.time >= TELL_AFTER_US:
            self.client = None
            self._write(client, True, not client_lost)
        server = self.server
        if server is not None and now - server.time >= TELL_AFTER_US:
            self.server = None
            self._write(server, False, not server_lost)

    def close(self) -> None:
        """The session is over; nothing more will be recovered."""
        client = self.client
        if client is not None:
            self.client = None
            self._write(client, True, False)
        server = self.server
        if server is not None:
            self.server = None
            self._write(server, False, False)

    def _write(self, loss: Loss, client: bool, recovered: bool) -> None:
        identity = self.identity
        half = self.flow.client if client else self.flow.server
        undecoded: i64 = (self.client_undecoded if client else self.server_undecoded) - loss.undecoded
        if loss.cause == b"joined_mid_stream" and undecoded == 0:
            return  # nothing was seen of this direction before its first turn
        sequence: i64 = (half.base + loss.offset) & SEQUENCE_MASK
        flow = identity.client_hash if client else identity.server_hash
        kind: i64 = KIND_UNDECODABLE if loss.undecodable else KIND_GAP
        w = self.writer.begin(kind, flow, loss.time, sequence, 0, identity.json())
        if loss.undecodable:
            write_undecodable(w, client, loss.cause, undecoded, recovered)
        else:
            write_gap(w, client, loss.bytes, loss.gaps, loss.cause, sequence, undecoded, recovered)
        self.writer.end()
